package account

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// ID says as whom which vendor is called. It is compared and never shown: Login can be derived from a secret.
type ID struct {
	Origin string // scheme, host and port of the vendor's address
	Login  string // the user or the client; a token stands for the user whom it was given to
}

// Limits are what one system's settings ask of its account.
type Limits struct {
	Concurrency int           // calls at a time; 0: not named
	Rate        float64       // calls a second, evenly spaced; 0: not named
	Timeout     time.Duration // of one attempt, from the connection to the answer's last byte; 0: not named
}

// lower returns the lower of each limit that either names.
func (l Limits) lower(m Limits) Limits {
	return Limits{
		Concurrency: lowerNamed(l.Concurrency, m.Concurrency), Rate: lowerNamed(l.Rate, m.Rate), Timeout: lowerNamed(l.Timeout, m.Timeout),
	}
}

func lowerNamed[T int | float64 | time.Duration](a, b T) T {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Patience says when an account leaves its vendor alone.
type Patience struct {
	Failures int           // attempts in a row without a usable answer that open the breaker; 0: never
	Cooldown time.Duration // how long it stays open; then one call tries
}

// Config is what one system brings to its account.
type Config struct {
	System   string // its key in the settings; names the account for people. Empty: the origin does
	Limits   Limits
	Default  Limits           // taken where no system of the account names a limit
	Patience Patience         // the first system's holds
	Now      func() time.Time // the first system's holds; nil: time.Now
}

// Registry hands the systems that call as one account the same Account. The zero value is ready. A nil Registry hands
// everyone an account of its own.
type Registry struct {
	mu       sync.Mutex
	accounts map[ID]*Account
	order    []*Account
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return new(Registry) }

// Join returns the account of id with the system's limits laid over those of the systems that joined before. All
// systems join before the first call, or a limit that is lowered later holds from then on.
func (r *Registry) Join(id ID, c Config) *Account {
	if r == nil {
		a := newAccount(id, c)
		a.join(c)
		return a
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a, known := r.accounts[id]
	if !known {
		if r.accounts == nil {
			r.accounts = map[ID]*Account{}
		}
		a = newAccount(id, c)
		r.accounts[id] = a
		r.order = append(r.order, a)
	}
	a.join(c)
	return a
}

// All returns the accounts in the order in which they were joined first.
func (r *Registry) All() []*Account {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.order)
}

// Describe tells people which limits hold, a line for each account that several systems share.
func (r *Registry) Describe() []string {
	var lines []string
	for _, a := range r.All() {
		a.mu.Lock()
		if len(a.systems) > 1 {
			lines = append(lines, fmt.Sprintf("%s call %s as one account: together at most %s", strings.Join(a.systems, ", "), a.id.Origin, a.effectiveLocked()))
		}
		a.mu.Unlock()
	}
	return lines
}

func (l Limits) String() string {
	text := fmt.Sprintf("%d calls at a time, %s each", l.Concurrency, l.Timeout)
	if l.Rate > 0 {
		text += fmt.Sprintf(", %g a second", l.Rate)
	}
	return text
}

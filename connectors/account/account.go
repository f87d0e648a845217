package account

import (
	"container/list"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// MaxPause bounds what a vendor may ask for: past it the hub asks again by itself.
const MaxPause = 15 * time.Minute

// A vendor that asks for fewer calls without naming a time is given a pause that doubles with every such answer.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// Account is what the calls under one account share.
type Account struct {
	id      ID
	now     func() time.Time
	rate    *rate.Limiter
	breaker *breaker
	large   chan struct{} // holds one: the right to hold a large answer

	mu       sync.Mutex
	systems  []string
	limits   Limits // the lower of each that was named
	defaults Limits
	running  int
	queue    list.List // of chan struct{}: closed when the call's turn has come
	// ramp is how many calls may run at a time after the vendor came back; 0: as many as the limit says.
	ramp int

	holdUntil  time.Time
	holdReason string
	unnamed    int // answers in a row that asked for fewer calls and named no time

	opened time.Time // when the breaker last opened, by time.Now
	words  string    // of the last failure
	signIn bool      // the last failure was a refused sign-in

	counts Counts
}

func newAccount(id ID, c Config) *Account {
	a := &Account{id: id, now: c.Now, rate: rate.NewLimiter(rate.Inf, 1), defaults: c.Default, large: make(chan struct{}, 1)}
	if a.now == nil {
		a.now = time.Now
	}
	a.counts.Calls = map[Outcome]uint64{}
	a.breaker = newBreaker(c.Patience, a.noteState)
	return a
}

func (a *Account) join(c Config) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.System != "" {
		a.systems = append(a.systems, c.System)
	}
	a.limits = a.limits.lower(c.Limits)
	if r := a.effectiveLocked().Rate; r > 0 {
		a.rate.SetLimit(rate.Limit(r)) // a burst of one: never above the rate, not even after an idle hour
	}
}

// effectiveLocked is what holds: the lower of what was named, else the default.
func (a *Account) effectiveLocked() Limits {
	l := a.limits
	if l.Concurrency == 0 {
		l.Concurrency = a.defaults.Concurrency
	}
	if l.Rate == 0 {
		l.Rate = a.defaults.Rate
	}
	if l.Timeout == 0 {
		l.Timeout = a.defaults.Timeout
	}
	return l
}

// Limits returns what holds for all systems of the account together.
func (a *Account) Limits() Limits {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.effectiveLocked()
}

// Name names the account for people and metrics: the keys of its systems, or the vendor's origin. It holds no secret.
func (a *Account) Name() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.systems) == 0 {
		return a.id.Origin
	}
	return strings.Join(a.systems, "+")
}

// Pause is the error of a call that was not begun. Nothing was sent.
type Pause struct {
	Wait   time.Duration // until one may be
	Asked  bool          // the vendor has asked for it; else the breaker keeps the call back
	SignIn bool          // the breaker keeps it back because sign-ins were refused
	Reason string
}

func (p *Pause) Error() string { return p.Reason }

// Large waits until no other answer of the account that is large is in memory. Else a vendor that floods us would do it in
// all calls at a time. release must follow when err is nil.
func (a *Account) Large(ctx context.Context) (release func(), err error) {
	select {
	case a.large <- struct{}{}:
		return func() { <-a.large }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for another large answer to end: %w", ctx.Err())
	}
}

// Outcome is how a call ended, as far as the account is concerned.
type Outcome string

// The outcomes.
const (
	Answered Outcome = "answered"     // a usable answer, also one that refuses the request
	Limited  Outcome = "rate_limited" // the vendor asks for fewer calls
	Sick     Outcome = "sick"         // no usable answer: 5xx, cut, late, no connection
	SignIn   Outcome = "sign_in"      // the sign-in was refused, or the other side is not who it should be
	GaveUp   Outcome = "gave_up"      // the caller left: says nothing about the vendor
	// The outcomes of calls that were not begun.
	heldBack  Outcome = "held_back"  // the vendor's pause
	leftAlone Outcome = "left_alone" // the breaker
)

// Outcomes lists the outcomes.
func Outcomes() []Outcome {
	return []Outcome{Answered, Limited, Sick, SignIn, GaveUp, heldBack, leftAlone}
}

// Ending tells an account how a call ended.
type Ending struct {
	Outcome Outcome
	Named   time.Duration // the pause that the vendor named, 0: none
	Words   string        // of a failure, for people; without secrets
}

// Call is a call that was begun. End must follow.
type Call struct {
	account *Account
	settle  func(failed, verdict bool)
}

// Begin waits until a call may be made. Its error is a *Pause, or ctx's.
func (a *Account) Begin(ctx context.Context) (*Call, error) {
	if err := a.refusal(); err != nil { // before queueing: a sick vendor's callers must not fill the queue
		return nil, err
	}
	if err := a.acquire(ctx); err != nil {
		return nil, fmt.Errorf("waiting for a free call: %w", err)
	}
	call, err := a.admit(ctx)
	if err != nil {
		a.release()
	}
	return call, err
}

// admit takes a call that has its slot past the rate, the pause and the breaker, in this order: the waits may be long.
func (a *Account) admit(ctx context.Context) (*Call, error) {
	if err := a.Again(ctx); err != nil {
		return nil, err
	}
	settle, allowed := a.breaker.allow()
	if !allowed {
		return nil, a.keptBack()
	}
	return &Call{account: a, settle: settle}, nil
}

// Again waits for the rate before a call that is begun already sends a further request, and refuses it during a pause.
func (a *Account) Again(ctx context.Context) error {
	if err := a.rate.Wait(ctx); err != nil {
		return fmt.Errorf("waiting for the rate: %w", err)
	}
	return a.held()
}

// End tells how the call ended. It is called once.
func (c *Call) End(e Ending) {
	a := c.account
	a.note(e)
	c.settle(e.Outcome == Sick || e.Outcome == SignIn, e.Outcome != GaveUp)
	if e.Outcome == Answered {
		a.climb()
	}
	a.release()
}

// note keeps the pause that the vendor asked for, and the words of a failure, before the breaker tells anyone.
func (a *Account) note(e Ending) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts.Calls[e.Outcome]++
	switch e.Outcome {
	case Sick, SignIn:
		a.words, a.signIn = e.Words, e.Outcome == SignIn
		a.ramp = min(a.ramp, 1) // back, but not well yet
	case Answered:
		a.unnamed = 0
	default:
	}
	pause, reason := min(e.Named, MaxPause), "the vendor has asked for a pause"
	switch {
	case pause > 0:
		a.unnamed = 0
	case e.Outcome == Limited:
		pause, reason = min(firstPause<<min(a.unnamed, 16), lastPause), "the vendor has asked for fewer calls"
		a.unnamed++
	default:
		return
	}
	if until := a.now().Add(pause); until.After(a.holdUntil) {
		a.holdUntil, a.holdReason = until, reason
		a.counts.Pauses++
	}
}

// refusal is why no call may be begun now.
func (a *Account) refusal() error {
	if err := a.held(); err != nil {
		return err
	}
	if state, probing := a.breaker.look(); state == Open || probing {
		return a.keptBack()
	}
	return nil
}

// heldLocked is what is left of the pause.
func (a *Account) heldLocked() time.Duration {
	now := a.now()
	if latest := now.Add(MaxPause); a.holdUntil.After(latest) { // the clock was set back
		a.holdUntil = latest
	}
	return max(a.holdUntil.Sub(now), 0)
}

// held refuses a call before the time that the vendor has named.
func (a *Account) held() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	wait := a.heldLocked()
	if wait <= 0 {
		return nil
	}
	a.counts.Calls[heldBack]++
	return &Pause{Wait: wait, Asked: true, Reason: "held back: " + a.holdReason}
}

// keptBack is the error while the breaker is open, or tries.
func (a *Account) keptBack() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts.Calls[leftAlone]++
	return &Pause{Wait: a.cooldownLocked(), SignIn: a.signIn, Reason: a.leftAloneLocked()}
}

func (a *Account) leftAloneLocked() string {
	reason := "left alone: the vendor has given no usable answer for a while"
	if a.signIn {
		reason = "left alone: the vendor has refused the sign-in for a while"
	}
	if a.words != "" {
		reason += "; the last was: " + a.words
	}
	return reason
}

// cooldownLocked is what is left of the breaker's cooldown. The breaker is open up to its end, that instant included.
func (a *Account) cooldownLocked() time.Duration {
	if a.opened.IsZero() {
		return 0
	}
	return max(time.Until(a.opened.Add(a.breaker.cooldown+time.Nanosecond)), 0)
}

// noteState is told by the breaker, under its lock.
func (a *Account) noteState(from, to Breaker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case to == Open:
		a.opened = time.Now()
		a.counts.Opened++
	case to == Closed && from == HalfOpen:
		a.ramp = 1
	}
}

// allowedLocked is how many calls may run at a time.
func (a *Account) allowedLocked() int {
	limit := a.effectiveLocked().Concurrency
	if a.ramp > 0 {
		return min(a.ramp, limit)
	}
	return limit
}

// climb lets one more call run beside the others after the vendor came back.
func (a *Account) climb() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ramp == 0 {
		return
	}
	if a.ramp++; a.ramp > a.effectiveLocked().Concurrency {
		a.ramp = 0
	}
}

// acquire waits for a free call, first come, first served.
func (a *Account) acquire(ctx context.Context) error {
	a.mu.Lock()
	if a.queue.Len() == 0 && a.running < a.allowedLocked() {
		a.running++
		a.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	place := a.queue.PushBack(turn)
	a.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	select {
	case <-turn: // it came in the same moment: it goes to the next
		a.running--
	default:
		a.queue.Remove(place)
	}
	a.serveLocked()
	a.mu.Unlock()
	return ctx.Err()
}

func (a *Account) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running--
	a.serveLocked()
}

func (a *Account) serveLocked() {
	for a.queue.Len() > 0 && a.running < a.allowedLocked() {
		a.running++
		close(a.queue.Remove(a.queue.Front()).(chan struct{}))
	}
}

// Counts are what an account has counted since the start.
type Counts struct {
	Calls  map[Outcome]uint64
	Pauses uint64 // that the vendor asked for, one lying in another counted once
	Opened uint64 // how often the breaker opened
}

// Reading is an account's state for metrics.
type Reading struct {
	Pace    Pace
	Counts  Counts
	Running int // calls at this moment
	Waiting int // calls that wait for others to end
}

// Read returns the account's state.
func (a *Account) Read() Reading {
	r := Reading{Pace: a.Pace(), Counts: Counts{Calls: map[Outcome]uint64{}}}
	a.mu.Lock()
	defer a.mu.Unlock()
	r.Running, r.Waiting = a.running, a.queue.Len()
	r.Counts.Pauses, r.Counts.Opened = a.counts.Pauses, a.counts.Opened
	for o, n := range a.counts.Calls {
		r.Counts.Calls[o] = n
	}
	return r
}

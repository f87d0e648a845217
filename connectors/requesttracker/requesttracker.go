// Package requesttracker is the connector for Request Tracker 5 and its REST 2.0 interface.
//
// RT answers success and failure alike with 200 and sentences in the account's language, cuts and drops values without a
// word, and takes writes to tickets that were deleted or merged away. So every write looks first whether the ticket is
// still itself, and reads back what became of it. The hub's correlation id stands in a custom field of the ticket, a
// message's key in a custom field of its transaction.
//
// Places in RT's history are transaction ids, never dates: RT reads a date in the account's own time zone and matches
// everything when it does not understand one. Ids are given out before commit, so a lower one can appear after a higher
// one was read. Every place therefore reaches back over an overlap (see horizon), and what was seen in it is not given
// out twice.
//
// A Connector is safe for concurrent use. It keeps the account's login name and that the queue has the fields that the
// sync rests on; both are found again after a crash. A create that dies between RT's commit and the reading back leaves
// one ticket, which FindByCorrelation finds, also when it was merged into another meanwhile. One that was deleted
// meanwhile is beyond RT's search: it counts as never opened.
package requesttracker

import (
	"context"
	_ "embed" // the default mapping
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"liaison/connectors"
	"liaison/connectors/client"
)

//go:embed mapping.yaml
var mapping []byte

// Mapping returns the default mapping file between Request Tracker's words and the hub's.
func Mapping() []byte { return mapping }

// settleWindow is how long RT may work on a request whose answer was lost. RT has no limit of its own; the web servers
// before it have, and the longest that Debian ships is Apache's, 300 s. RT's search lags behind no commit.
const settleWindow = 5 * time.Minute

// Connector speaks to one RT as one account.
type Connector struct {
	client  *client.Client
	base    string // RT's address without closing slash
	set     settings
	overlap time.Duration
	now     func() time.Time
	traits  connectors.Traits
	userID  string // the account's id where the token tells it

	mu        sync.Mutex
	login     string // the account's login name, empty until known
	checked   bool   // the queue was seen to have the correlation field
	nextLogin time.Time
}

var (
	_ connectors.Connector       = (*Connector)(nil)
	_ connectors.HookReader      = (*Connector)(nil)
	_ connectors.DuplicateCloser = (*Connector)(nil)
	_ connectors.Paced           = (*Connector)(nil)
)

// New returns a connector. Its error names the settings at fault; nothing is called yet.
func New(cfg connectors.Config) (*Connector, error) {
	set, err := readSettings(cfg.Settings)
	if err != nil {
		return nil, fmt.Errorf("requesttracker %s: %w", cfg.Key, err)
	}
	if cfg.Auth.OAuth2 != nil {
		return nil, fmt.Errorf("requesttracker %s: auth.oauth2: RT has no such sign-in; use auth.token or auth.basic", cfg.Key)
	}
	c := &Connector{
		set: set, overlap: cfg.PollOverlap, now: cfg.Now, userID: tokenUser(cfg.Auth.Token.Reveal()), login: set.user,
		traits: connectors.Traits{SettleWindow: settleWindow, MessageKeys: set.keyField != "", Hooks: true},
	}
	if c.login == "" && cfg.Auth.Basic != nil {
		c.login = cfg.Auth.Basic.User
	}
	if cfg.SettleWindow > 0 {
		c.traits.SettleWindow = cfg.SettleWindow
	}
	if c.overlap <= 0 {
		c.overlap = defaultOverlap
	}
	if c.now == nil {
		c.now = time.Now
	}
	hc := client.From(cfg)
	// People copy either address from RT's pages.
	hc.BaseURL = strings.TrimSuffix(strings.TrimRight(cfg.URL, "/"), "/REST/2.0")
	hc.TokenScheme = "token" // "Bearer" is refused
	hc.Explain = explain
	if c.client, err = client.New(hc); err != nil {
		return nil, fmt.Errorf("requesttracker %s: %w", cfg.Key, err)
	}
	c.base = strings.TrimRight(hc.BaseURL, "/")
	return c, nil
}

// Traits says what Request Tracker can do.
func (c *Connector) Traits() connectors.Traits { return c.traits }

// Pace tells what the account lets happen now.
func (c *Connector) Pace() connectors.Pace { return c.client.Pace() }

// Check reads the queue and looks whether it has the custom fields that the sync rests on.
func (c *Connector) Check(ctx context.Context) error {
	return c.checkQueue(ctx, "requesttracker.Check", c.set.keyField != "")
}

// checkQueue reads the queue with its custom fields. RT drops values for fields that it does not have, or that the
// account may not set, with 201: without this look a ticket would be opened that nobody finds again.
func (c *Connector) checkQueue(ctx context.Context, op string, messages bool) error {
	var q queueRecord
	r := client.Request{Op: op, Path: "/queue/" + url.PathEscape(c.set.queue)}
	a, err := c.call(ctx, r, nil, &q)
	if err != nil {
		return err
	}
	switch {
	case !strings.EqualFold(q.Name, c.set.queue) && string(q.ID) != c.set.queue:
		return c.client.Unreadable(r, a, fmt.Errorf("the answer speaks of queue %q", q.Name))
	case q.Disabled == "1":
		return refuse(op, "the queue %q is disabled; enable it or set settings.queue to another", c.set.queue)
	case !q.TicketFields.has(c.set.correlationField):
		return hidden(op, c.set.correlationField, "tickets", "correlation_field", c.set.queue)
	case messages && !q.TransactionFields.has(c.set.keyField):
		return hidden(op, c.set.keyField, "ticket transactions", "message_key_field", c.set.queue)
	}
	c.mu.Lock()
	c.checked = true
	c.mu.Unlock()
	return nil
}

// checkedQueue is checkQueue unless it has succeeded before.
func (c *Connector) checkedQueue(ctx context.Context, op string) error {
	c.mu.Lock()
	checked := c.checked
	c.mu.Unlock()
	if checked {
		return nil
	}
	return c.checkQueue(ctx, op, false)
}

func hidden(op, field, of, setting, queue string) error {
	return &connectors.Error{
		Op: op, Kind: connectors.Auth, Fields: []string{"CustomFields." + field},
		Err: fmt.Errorf("the account sees no custom field %q for %s in queue %q; apply one and grant SeeCustomField and ModifyCustomField, or set settings.%s", field, of, queue, setting),
	}
}

func refuse(op, format string, args ...any) error {
	return &connectors.Error{Op: op, Kind: connectors.Rejected, Err: fmt.Errorf(format, args...)}
}

// Package servicenow is the connector for ServiceNow's Table API.
//
// Tickets are rows of incident or another table that extends task. Everything that a vendor may ignore without a word is
// looked at again in its answer: filters, columns that the account may not read, values that a rule has overruled. The
// hub's correlation id stands in the column correlation_id; the journals comments and work_notes are the public
// and the internal messages.
//
// A Connector is safe for concurrent use. It keeps the account's login name and that the account sees the column
// correlation_id; both are found again after a crash.
package servicenow

import (
	"context"
	_ "embed" // the default mapping
	"fmt"
	"sync"
	"time"

	"liaison/connectors"
	"liaison/connectors/client"
)

//go:embed mapping.yaml
var mapping []byte

// Mapping returns the default mapping file between ServiceNow's words and the hub's.
func Mapping() []byte { return mapping }

// settleWindow is the vendor's transaction quota for the Table API, 60 s, and the lag of a read replica behind it. A row
// whose transaction was begun is there to be found after that, or never.
const settleWindow = 90 * time.Second

// stampLayout is how the vendor writes a date: UTC, whole seconds, no zone mark.
const stampLayout = time.DateTime

// Connector speaks to one instance as one account.
type Connector struct {
	client  *client.Client
	key     string
	base    string // the instance's address without closing slash
	set     settings
	overlap time.Duration
	now     func() time.Time
	traits  connectors.Traits

	mu       sync.Mutex
	login    string    // the account's user name, empty until known
	askAgain time.Time // when to ask for the login again after the vendor kept it
	sawLink  bool      // correlation_id was read: the account sees that column
}

var (
	_ connectors.Connector        = (*Connector)(nil)
	_ connectors.HookReader       = (*Connector)(nil)
	_ connectors.AttachmentLister = (*Connector)(nil)
	_ connectors.DuplicateCloser  = (*Connector)(nil)
	_ connectors.Paced            = (*Connector)(nil)
)

// New returns a connector. Its error names the settings at fault; nothing is called yet.
func New(cfg connectors.Config) (*Connector, error) {
	set, err := readSettings(cfg.Settings)
	if err != nil {
		return nil, fmt.Errorf("servicenow %s: %w", cfg.Key, err)
	}
	c := &Connector{
		key: cfg.Key, set: set, overlap: cfg.PollOverlap, now: cfg.Now, login: configuredLogin(cfg.Auth, set),
		traits: connectors.Traits{SettleWindow: settleWindow, Hooks: true},
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
	hc.TokenHeader = set.tokenHeader
	hc.Explain = explain
	if c.client, err = client.New(hc); err != nil {
		return nil, fmt.Errorf("servicenow %s: %w", cfg.Key, err)
	}
	c.base = trimSlash(cfg.URL)
	return c, nil
}

func configuredLogin(a connectors.Credentials, s settings) string {
	switch {
	case s.user != "":
		return s.user
	case a.Basic != nil:
		return a.Basic.User
	case a.OAuth2 != nil && a.OAuth2.Grant == connectors.GrantPassword:
		return a.OAuth2.User
	}
	return ""
}

// Traits says what ServiceNow can do.
func (c *Connector) Traits() connectors.Traits { return c.traits }

// Pace tells what the account lets happen now.
func (c *Connector) Pace() connectors.Pace { return c.client.Pace() }

// Check reads one row and looks whether the account sees the columns that the sync rests on.
func (c *Connector) Check(ctx context.Context) error {
	const op = "servicenow.Check"
	rows, err := c.list(ctx, op, listing{table: c.set.table, fields: ticketColumns, limit: 1})
	if err != nil || len(rows.records) == 0 {
		return err
	}
	for _, column := range ticketColumns {
		if _, seen := rows.records[0][column]; !seen {
			return hidden(op, c.set.table, column)
		}
	}
	return nil
}

// hidden is the error for a column that the account does not see. The vendor leaves it out without a word.
func hidden(op, table, column string) error {
	return &connectors.Error{
		Op: op, Kind: connectors.Auth, Fields: []string{column},
		Err: fmt.Errorf("the account may not read %s.%s; grant its role read access to that column", table, column),
	}
}

func refuse(op, format string, args ...any) error {
	return &connectors.Error{Op: op, Kind: connectors.Rejected, Err: fmt.Errorf(format, args...)}
}

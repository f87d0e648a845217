package pull_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/mapping"
	"liaison/sync/pair"
	"liaison/sync/pull"
)

// customs is a vendor whose own rules have a say in what is written and read.
type customs struct {
	connectors.Connector

	mu     sync.Mutex
	before func(connectors.Fields)                        // within the write, as a rule that runs before the row is stored
	after  func(connectors.ExternalID, connectors.Fields) // right after it, as a rule that runs later under the same account
	read   func(*connectors.Ticket, error) error

	journal func() error // fails what asks for the journal's end
	find    func([]connectors.Ticket) []connectors.Ticket
}

func (c *customs) Update(ctx context.Context, id connectors.ExternalID, f connectors.Fields) (connectors.Ticket, error) {
	if c.before != nil {
		c.before(f)
	}
	t, err := c.Connector.Update(ctx, id, f)
	if err == nil && c.after != nil {
		c.after(id, f)
	}
	return t, err
}

func (c *customs) Read(ctx context.Context, id connectors.ExternalID, fields []string) (connectors.Ticket, error) {
	t, err := c.Connector.Read(ctx, id, fields)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read != nil {
		err = c.read(&t, err)
	}
	return t, err
}

// sees has every later read of a ticket pass through read.
func (c *customs) sees(read func(*connectors.Ticket, error) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = read
}

// world is a pair with customs between the two, whose first poll has set its cursor.
func world(t *testing.T, own string) (*pair.Pair, *customs) {
	t.Helper()
	p := pair.New(t, nil)
	c := &customs{Connector: p.System.Connector}
	p.System.Connector = c
	if own != "" {
		relay(t, p, own)
	}
	p.Poll()
	return p, c
}

// relay lays an organisation's own mapping file over the system's.
func relay(t *testing.T, p *pair.Pair, own string) {
	t.Helper()
	m, err := mapping.Overlay(p.System.Mapping, "own.yaml", []byte(own))
	if err != nil {
		t.Fatal(err)
	}
	p.System.Mapping = m
}

// titled is an own file in which the title's conflicts are decided so.
func titled(policy string) string {
	return fmt.Sprintf("fields:\n  title: {vendor: short_description, max: 160, single_line: true, %s}\n", policy)
}

// quiet lets both sides exchange until nothing is left to say.
func quiet(p *pair.Pair) {
	for range 4 {
		p.Deliver()
		p.Poll()
	}
	p.Deliver()
}

func writes(p *pair.Pair) int {
	n := 0
	for _, c := range p.Sim.Calls() {
		if c.Method == http.MethodPatch || c.Method == http.MethodPut {
			n++
		}
	}
	return n
}

// entries lists the kinds of the entries that tell of something out of the ordinary.
func entries(p *pair.Pair) string {
	return pair.Scan[string](p, `SELECT coalesce(string_agg(kind, ' ' ORDER BY version), '') FROM ledger_entry
		WHERE kind IN ('CONFLICT','CONFLICT_RESOLVED','FIELD_PARKED','FIELD_FREED','FIELD_STOPPED','TICKET_GONE','DELIVERY_FAILED')`)
}

func title(p *pair.Pair) string { return pair.Scan[string](p, `SELECT title FROM incident`) }

func parked(p *pair.Pair, f incident.Field) string {
	return pair.Scan[string](p, `SELECT coalesce(parked->>$1, '') FROM external_link`, string(f))
}

func move(t *testing.T, p *pair.Pair, id incident.ID, m incident.Move) {
	t.Helper()
	if _, err := p.Desk.Move(t.Context(), p.Agent, desk.Target{Incident: id}, m); err != nil {
		t.Fatal(err)
	}
}

func reopen(t *testing.T, p *pair.Pair, id incident.ID) {
	t.Helper()
	if _, err := p.Desk.Move(t.Context(), p.Agent, desk.Target{Incident: id}, incident.Move{To: incident.InProgress}); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, p *pair.Pair, sql string, args ...any) {
	t.Helper()
	if _, err := p.DB.System.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

// act is what the vendor's agent does.
type act = servicenowtest.Move

func assess(id incident.ID, priority incident.Priority) desk.AssessInput {
	return desk.AssessInput{Target: desk.Target{Incident: id}, Priority: &priority}
}

// pullOnce reads the only ticket once.
func pullOnce(t *testing.T, p *pair.Pair) ledger.Taken {
	t.Helper()
	lease, err := p.Ledger.Lease(t.Context(), 1, linkOf(t, p), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Ledger.Release(t.Context(), lease); err != nil {
			t.Error(err)
		}
	}()
	links, err := p.Ledger.FindLinks(t.Context(), p.System.ID, connectors.Ref{ID: connectors.ExternalID(p.Sim.Tickets()[0].SysID)})
	if err != nil || len(links) != 1 {
		t.Fatalf("%d links, %v", len(links), err)
	}
	taken, err := pull.Pull(t.Context(), p.Ledger, p.System, lease, links[0])
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

func (c *customs) Mark(ctx context.Context, id connectors.ExternalID) (connectors.Mark, error) {
	if c.journal != nil {
		return "", c.journal()
	}
	return c.Connector.Mark(ctx, id)
}

func (c *customs) FindByCorrelation(ctx context.Context, id string) ([]connectors.Ticket, error) {
	found, err := c.Connector.FindByCorrelation(ctx, id)
	if err == nil && c.find != nil {
		found = c.find(found)
	}
	return found, err
}

func target(id incident.ID) desk.Target { return desk.Target{Incident: id} }

// reweigh reads again what another mapping had parked, as a hub does when it starts.
func reweigh(t *testing.T, p *pair.Pair) (int, error) {
	t.Helper()
	return pull.Reweigh(t.Context(), p.Ledger, p.System)
}

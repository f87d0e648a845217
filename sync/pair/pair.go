// Package pair puts a hub's sync and a vendor's simulator together for tests, without the processes around them:
// a real database, the real connector over real HTTP, and a clock that the test moves.
//
// Nothing runs by itself. Step and Settle make what is due happen, in the test's own goroutine, so that a test
// decides what happens between two steps. A Pair serves one test at a time; nothing is left behind, because the
// database is dropped with the test.
package pair

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/connectors/servicenow"
	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/auth"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/inbound"
	"liaison/sync/ledger"
	"liaison/sync/mapping"
	"liaison/sync/outbound"
	"liaison/sync/system"
)

// SystemKey names the system that a Pair's incidents are escalated into.
const SystemKey = "snow"

// Pair is a hub's sync and a simulated ServiceNow.
type Pair struct {
	DB     *postgres.DB
	Ledger *ledger.Ledger
	Desk   *desk.Desk
	Sim    *servicenowtest.Server
	System *system.System
	Worker *outbound.Worker
	Reader *inbound.Reader
	Poller *inbound.Poller
	Agent  auth.Viewer

	t     testing.TB
	mu    sync.Mutex
	clock time.Time
}

type silent struct{}

func (silent) Ring(string) {}

// New pairs a fresh database with a fresh simulator. change, if not nil, may alter the connector's configuration.
func New(t testing.TB, change func(*connectors.Config)) *Pair {
	t.Helper()
	p := &Pair{t: t, DB: pgtest.New(t), Sim: servicenowtest.Start(t), clock: time.Now().UTC().Truncate(time.Second)}
	p.Ledger = ledger.New(p.DB, silent{}, p.Now)
	p.Desk = desk.New(p.Ledger, desk.DefaultLimits(), p.Now)
	for _, sql := range []string{
		`INSERT INTO desk (key, name) VALUES ('btls', 'BTLS')`,
		`INSERT INTO organisation (key, name, desk_id) VALUES ('barnfield', 'Barnfield', 1)`,
		`INSERT INTO external_system (key, name, connector, desk_id, url) VALUES ('snow', 'ServiceNow', 'servicenow', 1, '')`,
		`INSERT INTO system_organisation (organisation_id, system_id) VALUES (1, 1)`,
	} {
		if _, err := p.DB.System.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	p.Agent = auth.Viewer{Subject: "ada", Name: "Ada Agent", Roles: []auth.Role{auth.Agent, auth.Admin}, Desk: 1, Organisations: []incident.OrganisationID{1}}
	p.System = p.newSystem(change)
	p.restart()
	return p
}

func (p *Pair) newSystem(change func(*connectors.Config)) *system.System {
	p.t.Helper()
	config := connectors.Config{
		Key: SystemKey, URL: p.Sim.URL, Timeout: 2 * time.Second, Now: p.Now,
		Auth: connectors.Credentials{Basic: &connectors.Basic{User: servicenowtest.DefaultUser, Password: connectors.NewSecret(servicenowtest.DefaultPassword)}},
	}
	if change != nil {
		change(&config)
	}
	connector, err := servicenow.New(config)
	if err != nil {
		p.t.Fatal(err)
	}
	words, err := mapping.Load("connectors/servicenow/mapping.yaml", servicenow.Mapping())
	if err != nil {
		p.t.Fatal(err)
	}
	return &system.System{
		ID: 1, Key: SystemKey, Name: "ServiceNow", Connector: connector, Mapping: words, Concurrency: 4,
		CallTimeout: config.Timeout, SettleWindow: connector.Traits().SettleWindow, PollInterval: 5 * time.Second,
	}
}

// restart gives the hub fresh workers, as a new process would have.
func (p *Pair) restart() {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	p.Worker = outbound.NewWorker(p.Ledger, p.System, outbound.Options{Log: quiet, Now: p.Now})
	in := inbound.Options{Log: quiet, Now: p.Now}
	p.Reader = inbound.NewReader(p.DB, p.Ledger, p.System, in)
	p.Poller = inbound.NewPoller(p.DB, p.Ledger, p.System, silent{}, in)
}

// Now is the hub's clock.
func (p *Pair) Now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clock
}

// Advance moves the hub's clock, and for the settle window, which goes by the database's, the times of what was sent.
func (p *Pair) Advance(d time.Duration) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock = p.clock.Add(d)
	if _, err := p.DB.System.Exec(context.Background(), `UPDATE delivery SET sent_at = sent_at - $1::interval WHERE sent_at IS NOT NULL`, d); err != nil {
		p.t.Fatal(err)
	}
}

// Deliver carries what is due until nothing is, and returns how many exchanges that took.
func (p *Pair) Deliver() int {
	p.t.Helper()
	total := 0
	for {
		n, err := p.Worker.Step(context.Background())
		if err != nil {
			p.t.Fatal(err)
		}
		if n == 0 {
			return total
		}
		total += n
	}
}

// Poll makes a poll due and works through what it finds.
func (p *Pair) Poll() {
	p.t.Helper()
	p.Advance(p.System.PollInterval + time.Second)
	if _, err := p.Poller.Step(context.Background()); err != nil {
		p.t.Fatal(err)
	}
	for {
		n, err := p.Reader.Step(context.Background())
		if err != nil {
			p.t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

// Escalated reports an incident and opens its ticket.
func (p *Pair) Escalated(description string) (incident.ID, servicenowtest.Ticket) {
	p.t.Helper()
	id := p.Escalate(description)
	p.Deliver()
	tickets := p.Sim.Tickets()
	if len(tickets) == 0 {
		p.t.Fatal("no ticket was opened")
	}
	return id, tickets[len(tickets)-1]
}

// Escalate reports an incident and asks for a ticket.
func (p *Pair) Escalate(description string) incident.ID {
	p.t.Helper()
	done, err := p.Desk.Report(context.Background(), p.Agent, desk.ReportInput{Organisation: 1, Description: description})
	if err != nil {
		p.t.Fatal(err)
	}
	if _, _, err := p.Desk.Escalate(context.Background(), p.Agent, desk.EscalateInput{Target: desk.Target{Incident: done.Incident.ID}, System: SystemKey}); err != nil {
		p.t.Fatal(err)
	}
	return done.Incident.ID
}

// Say adds a comment.
func (p *Pair) Say(id incident.ID, v incident.Visibility, body string) {
	p.t.Helper()
	if _, _, err := p.Desk.Comment(context.Background(), p.Agent, desk.CommentInput{Target: desk.Target{Incident: id}, Body: body, Visibility: v}); err != nil {
		p.t.Fatal(err)
	}
}

// Retitle changes the incident's title.
func (p *Pair) Retitle(id incident.ID, title string) {
	p.t.Helper()
	if _, err := p.Desk.Update(context.Background(), p.Agent, desk.UpdateInput{Target: desk.Target{Incident: id}, Title: &title}); err != nil {
		p.t.Fatal(err)
	}
}

// Ticket is the vendor's ticket as it stands.
func (p *Pair) Ticket(id string) servicenowtest.Ticket {
	p.t.Helper()
	ticket, err := p.Sim.Ticket(id)
	if err != nil {
		p.t.Fatal(err)
	}
	return ticket
}

// Act is what the vendor's agent does.
func (p *Pair) Act(id string, m servicenowtest.Move) {
	p.t.Helper()
	if _, err := p.Sim.Act(id, m); err != nil {
		p.t.Fatal(err)
	}
}

// Strike makes the next matching call go wrong.
func (p *Pair) Strike(f servicenowtest.Fault) {
	p.t.Helper()
	if f.Next == 0 {
		f.Next = 1
	}
	if err := p.Sim.AddFault(f); err != nil {
		p.t.Fatal(err)
	}
}

// Scan reads one value from the hub's tables.
func Scan[T any](p *Pair, sql string, args ...any) T {
	p.t.Helper()
	var out T
	if err := p.DB.System.QueryRow(context.Background(), sql, args...).Scan(&out); err != nil {
		p.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

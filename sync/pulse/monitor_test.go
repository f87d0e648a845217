package pulse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"liaison/connectors"
	"liaison/connectors/servicenow"
	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/ledger"
	"liaison/sync/pulse"
	"liaison/sync/system"
)

// bench is a database with one system whose vendor is a plain HTTP server.
type bench struct {
	t       *testing.T
	db      *postgres.DB
	system  *system.System
	mu      sync.Mutex
	at      time.Time
	status  int
	checked int
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, db: pgtest.New(t), at: now, status: http.StatusOK}
	for _, sql := range []string{
		`INSERT INTO desk (key, name) VALUES ('btls', 'BTLS')`,
		`INSERT INTO organisation (key, name, desk_id) VALUES ('barnfield', 'Barnfield', 1)`,
		`INSERT INTO external_system (key, name, connector, desk_id, url, silence_after) VALUES ('snow', 'ServiceNow', 'servicenow', 1, '', '24 hours')`,
		`INSERT INTO system_organisation (organisation_id, system_id) VALUES (1, 1)`,
	} {
		b.exec(sql)
	}
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.checked++
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(b.status)
		fmt.Fprint(w, `{"result": []}`)
	}))
	t.Cleanup(vendor.Close)
	connector, err := servicenow.New(connectors.Config{
		Key: "snow", URL: vendor.URL, Timeout: 5 * time.Second, Auth: connectors.Credentials{Basic: &connectors.Basic{User: "u", Password: connectors.NewSecret("a-password")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.system = &system.System{ID: 1, Key: "snow", Name: "ServiceNow", Connector: connector, Concurrency: 1, CallTimeout: 5 * time.Second}
	return b
}

func (b *bench) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.db.System.Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at
}

func (b *bench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = b.at.Add(d)
}

func (b *bench) answers(status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status = status
}

func (b *bench) calls() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.checked
}

func (b *bench) monitor() *pulse.Monitor {
	return pulse.New(b.db, []*system.System{b.system}, pulse.Options{Now: b.now, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

func (b *bench) step(m *pulse.Monitor) {
	b.t.Helper()
	if err := m.Step(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// health reads how the system does as the desk's people see it.
func (b *bench) health() ledger.Health {
	b.t.Helper()
	var found []ledger.Health
	v := auth.Viewer{Subject: "ada", Name: "Ada", Roles: []auth.Role{auth.Agent}, Desk: 1, Organisations: []incident.OrganisationID{1}}
	if err := ledger.NewReader(b.db).Read(b.t.Context(), v, ledger.SystemsHealth(&found)...); err != nil {
		b.t.Fatal(err)
	}
	if len(found) != 1 {
		b.t.Fatalf("%d systems", len(found))
	}
	return found[0]
}

var (
	exchange  = ledger.Exchange{Delivery: ledger.Delivery{Kind: ledger.UpdateTicket}, Link: ledger.Link{Number: "INC1", Organisation: 1}}
	delivered = ledger.Settlement{State: ledger.StateDelivered, Ticket: &connectors.Ticket{}}
	failing   = ledger.Settlement{State: ledger.StatePending, ErrorKind: connectors.Transient.String(), Error: "refused"}
)

func TestNotesReachTheTable(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.monitor()
	p := m.Of("snow")
	p.Exchanged(exchange, delivered)
	p.Polled(2, nil)
	p.Pulled(exchange.Link, ledger.Taken{Entries: 1}, nil)
	p.Pulled(exchange.Link, ledger.Taken{Echoes: 1}, nil)
	p.Hooked(1, "")
	p.Restored(3)
	b.step(m)
	h := b.health()
	if !h.SentAt.Equal(now) || !h.ReadAt.Equal(now) || !h.PolledAt.Equal(now) || !h.NewsAt.Equal(now) || !h.HookAt.Equal(now) || !h.ReportedAt.Equal(now) {
		t.Errorf("times are %+v", h)
	}
	if h.Echoes != 1 || h.Restored != 3 || h.Retries != 0 || h.SilenceAfter != 24*time.Hour {
		t.Errorf("counts are %+v", h)
	}
	if s := pulse.Judge(h, b.now()).Status; s != pulse.InStep {
		t.Errorf("it is %s", s)
	}

	// Another hub's older and newer news: the later time stands, counts are added.
	b.pass(time.Minute)
	second := b.monitor()
	second.Of("snow").Exchanged(exchange, failing)
	second.Of("snow").Restored(1)
	b.step(second)
	h = b.health()
	if !h.SentAt.Equal(now) || !h.SendFailedAt.Equal(b.now()) || h.Restored != 4 || h.Retries != 1 || h.Error != "refused" {
		t.Errorf("after another hub: %+v", h)
	}
	if s := pulse.Judge(h, b.now()).Status; s != pulse.Failing {
		t.Errorf("with a failing write it is %s", s)
	}
	// A write that goes well again ends it; the failure is still told as the last one.
	b.pass(time.Second)
	p.Exchanged(exchange, delivered)
	b.step(m)
	if s := pulse.Judge(b.health(), b.now()).Status; s != pulse.InStep {
		t.Errorf("after a write it is %s", s)
	}
}

// What speaks of one ticket alone, or of our own database, says nothing of the system.
func TestWhatIsNoFailureOfTheSystem(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.monitor()
	p := m.Of("snow")
	p.Exchanged(exchange, ledger.Settlement{State: ledger.StateDead, ErrorKind: connectors.Rejected.String(), Error: "no such priority"})
	p.Exchanged(exchange, ledger.Settlement{State: ledger.StatePending, ErrorKind: connectors.RateLimited.String(), Error: "slower"})
	p.Exchanged(exchange, ledger.Settlement{State: ledger.StateDelivered}) // nothing had to be said
	p.Polled(0, errors.New("the database is away"))
	p.Pulled(exchange.Link, ledger.Taken{}, errors.New("the database is away"))
	p.Pulled(exchange.Link, ledger.Taken{}, &connectors.Error{Op: "servicenow.Read", Kind: connectors.NotFound})
	b.step(m)
	h := b.health()
	if !h.FailedAt.IsZero() || !h.SendFailedAt.IsZero() || !h.PollFailedAt.IsZero() || !h.ReadFailedAt.IsZero() || !h.SentAt.IsZero() || !h.ReadAt.IsZero() {
		t.Errorf("noted %+v", h)
	}
	// A poll that is refused is about nothing but the system.
	p.Polled(0, fmt.Errorf("polling: %w", &connectors.Error{Op: "servicenow.Changes", Kind: connectors.Rejected}))
	b.step(m)
	if h := b.health(); h.PollFailedAt.IsZero() {
		t.Error("a refused poll was not noted")
	}
}

// A system that nobody speaks to is asked whether it is there, at a gentle pace, and not while it is paused.
func TestAQuietSystemIsAsked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.monitor()
	b.step(m)
	if b.calls() != 0 {
		t.Fatal("it was asked at once")
	}
	b.pass(4 * time.Minute)
	b.step(m)
	b.step(m)
	if b.calls() != 1 || !b.health().ReadAt.Equal(b.now()) {
		t.Fatalf("after four quiet minutes it was asked %d times, read at %s", b.calls(), b.health().ReadAt)
	}
	// A hub that has just started learns from the table that another has asked.
	other := b.monitor()
	b.step(other)
	b.pass(2 * time.Minute)
	b.step(other)
	if b.calls() != 1 {
		t.Errorf("a second hub asked as well")
	}
	b.exec(`UPDATE external_system SET paused = true`)
	b.step(m)
	b.pass(time.Hour)
	b.step(m)
	if b.calls() != 1 {
		t.Error("a paused system was asked")
	}
	b.exec(`UPDATE external_system SET paused = false`)
	b.step(m)
	b.answers(http.StatusUnauthorized)
	b.step(m)
	if h := b.health(); h.ReadFailedAt.IsZero() || pulse.Judge(h, b.now()).Status != pulse.Failing {
		t.Errorf("it did not let us in, and that is %+v", h)
	}
}

func TestNotesOutliveTheDatabasesAbsence(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.monitor()
	m.Of("snow").Restored(2)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Step(gone); err == nil {
		t.Fatal("writing succeeded without a database")
	}
	m.Of("snow").Restored(1)
	b.step(m)
	if h := b.health(); h.Restored != 3 {
		t.Errorf("%d restored, want 3", h.Restored)
	}
}

// A hub without a monitor notes nothing and does not fall over.
func TestNilPulse(t *testing.T) {
	t.Parallel()
	var p *pulse.Pulse
	p.Begun(exchange)
	p.Exchanged(exchange, delivered)
	p.Polled(1, nil)
	p.Pulled(exchange.Link, ledger.Taken{Entries: 1}, nil)
	p.Hooked(1, "")
	p.Restored(1)
	var m *pulse.Monitor
	if m.Of("snow") != nil {
		t.Error("a nil monitor has pulses")
	}
}

func TestWatchers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	m := b.monitor()
	p := m.Of("snow")
	p.Begun(exchange) // nobody listens
	w := m.Watch(2)
	defer w.Close()
	p.Begun(exchange)
	p.Exchanged(exchange, failing)
	p.Polled(1, nil)
	p.Polled(1, nil)
	first, second := <-w.Events(), <-w.Events()
	if first.Kind != pulse.ExchangeBegun || first.System != 1 || first.Organisation != 1 || !strings.Contains(first.Text, "INC1") {
		t.Errorf("first %+v", first)
	}
	if second.Kind != pulse.ExchangeFailed || second.Error != "refused" {
		t.Errorf("second %+v", second)
	}
	if n := w.Missed(); n != 2 {
		t.Errorf("missed %d, want 2", n)
	}
	if n := w.Missed(); n != 0 {
		t.Errorf("missed again %d", n)
	}
	w.Close()
	w.Close()
	p.Polled(1, nil)
	select {
	case a := <-w.Events():
		t.Errorf("heard %+v after closing", a)
	default:
	}
}

func TestCollector(t *testing.T) {
	t.Parallel()
	h := well()
	h.Waiting, h.Lanes, h.OldestUnsent, h.Dead, h.Echoes, h.Breaker = 3, 2, ago(90*time.Second), 1, 7, "OPEN"
	asked, fail := 0, false
	at := now
	c := pulse.NewCollector(func(context.Context) ([]ledger.Health, error) {
		asked++
		if fail {
			return nil, errors.New("away")
		}
		return []ledger.Health{h, {Key: "old", Active: false}}, nil
	}, func() time.Time { return at }, slog.New(slog.NewTextHandler(io.Discard, nil)))
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	got := gathered(t, registry)
	for name, want := range map[string]float64{
		"liaison_sync_breaker CLOSED": 0, "liaison_sync_breaker HALF_OPEN": 0, "liaison_sync_breaker OPEN": 1, "liaison_sync_dead": 1, "liaison_sync_echoes_total": 7,
		"liaison_sync_in_step": 0, "liaison_sync_lanes_waiting": 2, "liaison_sync_waiting": 3, "liaison_sync_oldest_unsent_seconds": 90, "liaison_sync_alarms": 2,
	} {
		if value, there := got[name]; !there || value != want {
			t.Errorf("%s is %v (%v), want %v", name, value, there, want)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	at = at.Add(5 * time.Second)
	if gathered(t, registry); asked != 1 {
		t.Errorf("asked again after five seconds")
	}
	at, fail = at.Add(time.Minute), true
	if got := gathered(t, registry); len(got) != 0 || asked != 2 {
		t.Errorf("without a database it tells %v, asked %d times", got, asked)
	}
}

// gathered is what a registry tells, by name and state. What is told of anything but the system snow is an error.
func gathered(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				switch {
				case l.GetName() == "state":
					name += " " + l.GetValue()
				case l.GetValue() != "snow":
					t.Errorf("%s tells of %s", name, l.GetValue())
				}
			}
			out[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

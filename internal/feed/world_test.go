package feed

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/ledger"
)

// patience bounds every wait; only a failing test uses it up.
const patience = 30 * time.Second

// world is a database with two organisations and a way to write their ledger.
type world struct {
	t            testing.TB
	db           *postgres.DB
	north, south incident.OrganisationID
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return worldIn(t, pgtest.NewWith(t, postgres.Options{SystemConns: 20}))
}

func worldIn(t testing.TB, database *postgres.DB) *world {
	t.Helper()
	w := &world{t: t, db: database}
	row := database.System.QueryRow(t.Context(), `
		WITH d AS (INSERT INTO desk (key, name) VALUES ('desk', 'Desk') RETURNING id),
		     n AS (INSERT INTO organisation (key, name, desk_id) SELECT 'north', 'North', id FROM d RETURNING id),
		     s AS (INSERT INTO organisation (key, name, desk_id) SELECT 'south', 'South', id FROM d RETURNING id)
		SELECT n.id, s.id FROM n, s`)
	if err := row.Scan(&w.north, &w.south); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) agent() auth.Viewer {
	return auth.Viewer{Roles: []auth.Role{auth.Agent}, Organisations: []incident.OrganisationID{w.north, w.south}}
}

func (w *world) requester(of incident.OrganisationID) auth.Viewer {
	return auth.Viewer{Roles: []auth.Role{auth.Requester}, Organisation: of, Organisations: []incident.OrganisationID{of}}
}

// querier is a pool or a transaction.
type querier interface {
	Exec(context.Context, string, ...any) (pgconn.CommandTag, error)
	QueryRow(context.Context, string, ...any) pgx.Row
}

// report writes an incident and its first entry.
func (w *world) report(ctx context.Context, on querier, organisation incident.OrganisationID) (ledger.EntryKey, error) {
	key := ledger.EntryKey{Organisation: organisation, Incident: incident.NewID(), Version: 1}
	_, err := on.Exec(ctx, `
		WITH i AS (INSERT INTO incident (organisation_id, id, version, title, description, state, opened_at, updated_at)
		           VALUES ($1, $2, 1, 't', 'd', 'NEW', now(), now()))
		INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, changes, detail, at, trace_id)
		VALUES ($1, $2, 1, 'REPORTED', 'PERSON', 'Ada', '{"title": ["", "t"]}', '{"n": 1}', now(), 'trace')`, organisation, key.Incident.UUID)
	return key, err
}

// change writes an incident's next entry, as the ledger does: under its row's lock.
func (w *world) change(ctx context.Context, on querier, of ledger.EntryKey, visibility incident.Visibility) (ledger.EntryKey, error) {
	key := of
	err := on.QueryRow(ctx, `UPDATE incident SET version = version + 1 WHERE organisation_id = $1 AND id = $2 RETURNING version`,
		of.Organisation, of.Incident.UUID).Scan(&key.Version)
	if err != nil {
		return key, err
	}
	_, err = on.Exec(ctx, `INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, visibility, actor_kind, actor, at)
		VALUES ($1, $2, $3, 'COMMENTED', $4, 'PERSON', 'Ada', now())`, key.Organisation, key.Incident.UUID, key.Version, visibility)
	return key, err
}

func (w *world) begin() pgx.Tx {
	w.t.Helper()
	tx, err := w.db.System.Begin(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(w.t.Context())) })
	return tx
}

func (w *world) mustReport(on querier, organisation incident.OrganisationID) ledger.EntryKey {
	w.t.Helper()
	key, err := w.report(w.t.Context(), on, organisation)
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

func (w *world) mustChange(on querier, of ledger.EntryKey, visibility incident.Visibility) ledger.EntryKey {
	w.t.Helper()
	var key ledger.EntryKey
	err := pgx.BeginFunc(w.t.Context(), on.(interface {
		Begin(context.Context) (pgx.Tx, error)
	}), func(tx pgx.Tx) (err error) {
		key, err = w.change(w.t.Context(), tx, of, visibility)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.db.System.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// committed lists every entry there is.
func (w *world) committed() map[ledger.EntryKey]bool {
	w.t.Helper()
	rows, err := w.db.System.Query(w.t.Context(), "SELECT organisation_id, incident_id, version FROM ledger_entry")
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[ledger.EntryKey]bool{}
	var key ledger.EntryKey
	if _, err := pgx.ForEachRow(rows, []any{&key.Organisation, &key.Incident.UUID, &key.Version}, func() error { all[key] = true; return nil }); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// gaps are the ranges that the watermark remembers.
func (w *world) gaps() []gap {
	w.t.Helper()
	var encoded []byte
	if err := w.db.System.QueryRow(w.t.Context(), "SELECT gaps FROM watermark").Scan(&encoded); err != nil {
		w.t.Fatal(err)
	}
	gaps, err := decodeGaps(encoded)
	if err != nil {
		w.t.Fatal(err)
	}
	return gaps
}

// hub is a running feed with its own bell, as another process has it.
type hub struct {
	*Feed
	t    testing.TB
	bell *postgres.Bell
	stop func()
}

func (w *world) hub(config Config) *hub {
	w.t.Helper()
	h := w.idleHub(config)
	ringing, silence := context.WithCancel(context.WithoutCancel(w.t.Context()))
	running, end := context.WithCancel(ringing)
	var bell, feed sync.WaitGroup
	bell.Go(func() { _ = h.bell.Run(ringing) })
	feed.Go(func() {
		if err := h.Run(running); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	})
	h.stop = sync.OnceFunc(func() { end(); feed.Wait(); silence(); bell.Wait() })
	w.t.Cleanup(h.stop)
	return h
}

// idleHub is a hub whose Run has not been called.
func (w *world) idleHub(config Config) *hub {
	w.t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(strictLog{w.t})
	}
	bell := postgres.NewBell(w.db, config.Logger)
	f, err := New(w.t.Context(), w.db, bell, config)
	if err != nil {
		w.t.Fatal(err)
	}
	return &hub{Feed: f, t: w.t, bell: bell}
}

func (h *hub) ring() { h.bell.Ring(ledger.TopicEntries) }

func (h *hub) subscribe(viewer auth.Viewer, options Options) *reader {
	h.t.Helper()
	s, err := h.Subscribe(context.WithoutCancel(h.t.Context()), viewer, options)
	if err != nil {
		h.t.Fatalf("Subscribe: %v", err)
	}
	h.t.Cleanup(s.Close)
	return &reader{t: h.t, Subscription: s}
}

type reader struct {
	*Subscription
	t testing.TB
}

func (r *reader) next() Event {
	r.t.Helper()
	event, err := r.tryNext()
	if err != nil {
		r.t.Fatalf("Next: %v", err)
	}
	return event
}

func (r *reader) tryNext() (Event, error) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(r.t.Context()), patience, fmt.Errorf("no event within %s", patience))
	defer cancel()
	return r.Next(ctx)
}

func (r *reader) expect(want ...ledger.EntryKey) []Event {
	r.t.Helper()
	events := make([]Event, len(want))
	for n, key := range want {
		events[n] = r.next()
		if events[n].Entry.EntryKey != key {
			r.t.Fatalf("event %d of %d is %v, want %v", n+1, len(want), events[n].Entry.EntryKey, key)
		}
	}
	return events
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not so after %s: %s", patience, what)
		}
	}
}

// strictLog fails the test on an error-level line.
type strictLog struct{ t testing.TB }

func (l strictLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (l strictLog) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	l.t.Errorf("logged as an error: %s", text)
	return nil
}
func (l strictLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l strictLog) WithGroup(string) slog.Handler      { return l }

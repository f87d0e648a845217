package inbound_test

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/inbound"
)

// inboxOf is a database with one system, and a clock.
type inboxOf struct {
	t   *testing.T
	db  *postgres.DB
	now time.Time
}

func newInbox(t *testing.T) *inboxOf {
	t.Helper()
	i := &inboxOf{t: t, db: pgtest.New(t), now: time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)}
	i.exec(`INSERT INTO desk (key, name) VALUES ('btls', 'BTLS')`)
	i.exec(`INSERT INTO external_system (key, name, connector, desk_id, url) VALUES ('snow', 'ServiceNow', 'servicenow', 1, '')`)
	return i
}

func (i *inboxOf) exec(sql string, args ...any) {
	i.t.Helper()
	if _, err := i.db.System.Exec(i.t.Context(), sql, args...); err != nil {
		i.t.Fatalf("%s: %v", sql, err)
	}
}

func (i *inboxOf) row(state string, age time.Duration) uuid.UUID {
	i.t.Helper()
	id := uuid.New()
	i.exec(`INSERT INTO inbox (id, system_id, source, body, state, due_at, received_at) VALUES ($1, 1, 'WEBHOOK', 'body', $2, $3, $3)`, id, state, i.now.Add(-age))
	return id
}

func (i *inboxOf) step() inbound.Kept { i.t.Helper(); return i.keep(inbound.Retention{}) }

func (i *inboxOf) keep(r inbound.Retention) inbound.Kept {
	i.t.Helper()
	kept, err := inbound.NewKeeper(i.db, r, func() time.Time { return i.now }, slog.New(slog.DiscardHandler)).Step(i.t.Context())
	if err != nil {
		i.t.Fatal(err)
	}
	return kept
}

func (i *inboxOf) text(sql string, args ...any) string {
	i.t.Helper()
	var out string
	if err := i.db.System.QueryRow(i.t.Context(), sql, args...).Scan(&out); err != nil {
		i.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

const days = 24 * time.Hour

// The coming months have their partition before their first row comes, with the same rules as the table.
func TestTheComingMonthsAreMadeBeforehand(t *testing.T) {
	t.Parallel()
	i := newInbox(t)
	if kept := i.step(); !kept.Done || !slices.Equal(kept.Made, []string{"inbox_2026_11", "inbox_2026_12", "inbox_2027_01"}) {
		t.Fatalf("%+v", kept)
	}
	i.row("DONE", -20*days)
	if got := i.text(`SELECT tableoid::regclass::text FROM inbox`); got != "inbox_2026_12" {
		t.Errorf("a row of December lies in %s", got)
	}
	if got := i.text(`SELECT coalesce(string_agg(relname, ', '), '') FROM pg_class WHERE relname LIKE 'inbox\_2%' AND relkind = 'r' AND NOT (relrowsecurity AND relforcerowsecurity)`); got != "" {
		t.Errorf("without forced row-level security: %s", got)
	}
	want := i.text(`SELECT count(*)::text FROM pg_index WHERE indrelid = 'inbox'::regclass`)
	if got := i.text(`SELECT string_agg(DISTINCT n::text, ',') FROM (SELECT count(*) AS n FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname LIKE 'inbox\_2%' GROUP BY c.oid) s`); got != want {
		t.Errorf("months have %s indexes, the table %s: they were not taken over", got, want)
	}
	if got := i.text(`SELECT count(*)::text FROM pg_inherits WHERE inhparent IN (SELECT indexrelid FROM pg_index WHERE indrelid = 'inbox'::regclass)`); got != fmt.Sprint(4*atoi(t, want)) {
		t.Errorf("%s attached indexes, want those of three months and the default one", got)
	}
	var n int
	if err := i.db.App.QueryRow(t.Context(), `SELECT count(*) FROM inbox`).Scan(&n); err != nil || n != 0 {
		t.Errorf("nobody sees %d rows (%v)", n, err)
	}
	if err := i.db.App.QueryRow(t.Context(), `SELECT count(*) FROM inbox_2026_12`).Scan(&n); err == nil {
		t.Error("requests may read a month past the table's rules")
	}
}

func atoi(t *testing.T, s string) (n int) {
	t.Helper()
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Rows that came before there was a month for them stay where they are; the month is not made over them.
func TestAMonthThatHasRowsAlreadyIsLeftAlone(t *testing.T) {
	t.Parallel()
	i := newInbox(t)
	i.row("DONE", time.Hour)
	if kept := i.step(); !slices.Equal(kept.Made, []string{"inbox_2026_12", "inbox_2027_01"}) {
		t.Errorf("%+v", kept)
	}
	if got := i.text(`SELECT tableoid::regclass::text FROM inbox`); got != "inbox_rest" {
		t.Errorf("the row lies in %s", got)
	}
}

// Once a day, by one hub.
func TestUpkeepIsDoneOnceADay(t *testing.T) {
	t.Parallel()
	i := newInbox(t)
	if !i.step().Done || i.step().Done {
		t.Error("want it done once and not again")
	}
	i.now = i.now.Add(24 * time.Hour)
	i.exec(`UPDATE upkeep SET lease_until = now() + interval '1 hour'`)
	if i.step().Done {
		t.Error("done beside another hub")
	}
	i.exec(`UPDATE upkeep SET lease_until = now() - interval '1 second'`)
	if !i.step().Done {
		t.Error("not done the next day, after the other hub died")
	}
}

// Bodies go after 30 days, rows after 400 by whole months, and nothing that waits or is parked ever.
func TestRetention(t *testing.T) {
	t.Parallel()
	i := newInbox(t)
	start := i.now
	i.now = start.Add(-500 * days) // a hub that runs for long makes each month in time
	for i.now.Before(start) {
		i.keep(inbound.Retention{Rows: 10_000 * days})
		i.now = i.now.Add(28 * days)
	}
	i.now = start
	i.exec(`UPDATE upkeep SET done_at = '-infinity'`)
	type kept struct{ row, body bool }
	want := map[uuid.UUID]kept{}
	for _, c := range []struct {
		state string
		age   time.Duration
		want  kept
	}{
		{"DONE", 29 * days, kept{true, true}},
		{"DONE", 31 * days, kept{true, false}},
		{"IGNORED", 31 * days, kept{true, false}},
		{"DUPLICATE", 31 * days, kept{true, false}},
		{"WAITING", 31 * days, kept{true, true}},
		{"PARKED", 399 * days, kept{true, true}},
		{"DONE", 399 * days, kept{true, false}},
		{"DONE", 401 * days, kept{false, false}},
		{"PARKED", 470 * days, kept{true, true}},
		{"DONE", 470 * days, kept{false, false}},
		{"DONE", 490 * days, kept{false, false}},
		{"WAITING", 800 * days, kept{true, true}}, // in the default partition
		{"DONE", 800 * days, kept{false, false}},
	} {
		want[i.row(c.state, c.age)] = c.want
	}
	i.exec(`INSERT INTO inbox_seen SELECT 1, n::text, '', gen_random_uuid(), $1::timestamptz - n * interval '1 day' FROM generate_series(1, 30) n`, i.now)
	if got := i.text(`SELECT tableoid::regclass::text FROM inbox WHERE state = 'PARKED' ORDER BY received_at LIMIT 1`); got != "inbox_2025_08" {
		t.Fatalf("the oldest parked row lies in %s, so this test proves nothing about months", got)
	}
	did := i.step()
	for id, w := range want {
		got := i.text(`SELECT coalesce((SELECT CASE WHEN octet_length(body) > 0 THEN 'row and body' ELSE 'row' END FROM inbox WHERE id = $1), 'nothing')`, id)
		if says := map[kept]string{{true, true}: "row and body", {true, false}: "row", {}: "nothing"}[w]; got != says {
			t.Errorf("%s is kept, want %s", got, says)
		}
	}
	if len(did.Dropped) == 0 || slices.Contains(did.Dropped, "inbox_2025_08") {
		t.Errorf("dropped %v; August 2025 holds a parked row", did.Dropped)
	}
	for _, name := range did.Dropped {
		if !strings.HasPrefix(name, "inbox_2025_0") {
			t.Errorf("%s was dropped", name)
		}
	}
	if got := i.text(`SELECT count(*)::text FROM inbox_seen`); got != "14" {
		t.Errorf("%s calls are known still, want those of 14 days", got)
	}
}

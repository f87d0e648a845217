package feed

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/postgres/embedded"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/ledger"
)

// stamped lists the feed and checks what must hold of it at any time: dense positions, no entry twice, each
// incident's versions in order and without a hole.
func (w *world) stamped() []ledger.EntryKey {
	w.t.Helper()
	rows, err := w.db.System.Query(w.t.Context(), "SELECT position, organisation_id, incident_id, version FROM feed ORDER BY position")
	if err != nil {
		w.t.Fatal(err)
	}
	var (
		all      []ledger.EntryKey
		key      ledger.EntryKey
		position int64
		versions = map[incident.ID]int64{}
	)
	if _, err := pgx.ForEachRow(rows, []any{&position, &key.Organisation, &key.Incident.UUID, &key.Version}, func() error {
		all = append(all, key)
		if position != int64(len(all)) {
			w.t.Errorf("position %d at place %d: not dense", position, len(all))
		}
		if key.Version != versions[key.Incident]+1 {
			w.t.Errorf("position %d: version %d of %v after version %d", position, key.Version, key.Incident, versions[key.Incident])
		}
		versions[key.Incident] = key.Version
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// A transaction held open across later commits delays its own entry only, and its entry is not skipped.
func TestLateCommitIsNeitherSkippedNorInTheWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hub(Config{})
	r := h.subscribe(w.agent(), Options{})

	late := w.begin()
	held := w.mustReport(late, w.north)
	first, second := w.mustReport(w.db.System, w.north), w.mustReport(w.db.System, w.south)
	h.ring()
	r.expect(first, second)
	if got := w.gaps(); len(got) != 1 || got[0].From != got[0].To {
		t.Errorf("gaps while one writer is open: %v", got)
	}
	third := w.mustReport(w.db.System, w.north)
	h.ring()
	r.expect(third)

	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.ring()
	r.expect(held)
	last := w.mustChange(w.db.System, held, incident.Public)
	h.ring()
	r.expect(last)
	if got, want := w.stamped(), []ledger.EntryKey{first, second, third, held, last}; !slices.Equal(got, want) {
		t.Errorf("stamped %v, want %v", got, want)
	}
}

// The poll finds what no wake-up tells of.
func TestLostWakeups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.hub(Config{Poll: 20 * time.Millisecond}).subscribe(w.agent(), Options{})
	r.expect(w.mustReport(w.db.System, w.north))
	late := w.begin()
	held := w.mustReport(late, w.north)
	r.expect(w.mustReport(w.db.System, w.north))
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.expect(held)
}

// An id whose transaction was rolled back is given up, even while somebody idles inside a transaction of
// another database: transaction ids are cluster-wide, the ledger's writers are not.
func TestRolledBackIdsAreGivenUp(t *testing.T) {
	t.Parallel()
	w, elsewhere := newWorld(t), newWorld(t)
	idle := elsewhere.begin()
	elsewhere.mustReport(idle, elsewhere.north)

	h := w.hub(Config{Poll: 10 * time.Millisecond})
	r := h.subscribe(w.agent(), Options{})
	undone := w.begin()
	w.mustReport(undone, w.north)
	r.expect(w.mustReport(w.db.System, w.north))
	if len(w.gaps()) != 1 {
		t.Fatalf("gaps: %v", w.gaps())
	}
	if err := undone.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no gap is left", func() bool { return len(w.gaps()) == 0 })
	r.expect(w.mustReport(w.db.System, w.north))
}

// A writer can hold an id without having a transaction id yet. Here it stands still at just that point for as
// long as it takes others to commit; giving gaps up by transaction ids would lose its entry.
func TestWriterWithoutTransactionIDYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.mustReport(w.db.System, w.north)
	w.exec(`CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$`)
	w.exec(`CREATE TRIGGER stand_still BEFORE INSERT ON ledger_entry FOR EACH ROW WHEN (NEW.trace_id = 'stand still') EXECUTE FUNCTION stand_still()`)
	gate := w.begin()
	if _, err := gate.Exec(t.Context(), "SELECT pg_advisory_xact_lock(1)"); err != nil {
		t.Fatal(err)
	}

	h := w.hub(Config{Poll: 5 * time.Millisecond})
	r := h.subscribe(w.agent(), Options{})
	written := make(chan error, 1)
	go func() {
		_, err := w.db.System.Exec(context.WithoutCancel(t.Context()), `INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, at, trace_id)
			VALUES ($1, $2, 2, 'CHANGED', 'HUB', '', now(), 'stand still')`, before.Organisation, before.Incident.UUID)
		written <- err
	}()
	eventually(t, "the writer stands still", func() bool {
		var waiting bool
		if err := w.db.System.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		return waiting
	})
	if e := r.next(); e.Entry.EntryKey != before {
		t.Fatal(e.Entry.EntryKey)
	}
	for range 10 { // each makes at least one pass, with a transaction begun and ended
		r.expect(w.mustReport(w.db.System, w.north))
	}
	if err := gate.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	held := before
	held.Version = 2
	r.expect(held)
	w.stamped()
}

// Ten writers at once over shared incidents, with rollbacks, and two hubs that fight for the sequencer's place
// with a lease so short that only the row's lock is left: every committed entry exactly once, in order.
func TestParallelWritersAndTwoSequencers(t *testing.T) {
	t.Parallel()
	const writers, entries = 10, 200
	w := newWorld(t)
	one := w.hub(Config{Batch: 37, Lease: time.Millisecond, Queue: writers * entries * 2})
	two := w.hub(Config{Batch: 41, Lease: time.Millisecond, Queue: writers * entries * 2})
	readers := []*reader{one.subscribe(w.agent(), Options{}), two.subscribe(w.agent(), Options{})}

	var shared []ledger.EntryKey
	for range 15 {
		shared = append(shared, w.mustReport(w.db.System, w.north))
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var writing sync.WaitGroup
	for n := range writers {
		writing.Go(func() {
			dice := rand.New(rand.NewPCG(seed, uint64(n)))
			for range entries {
				tx, err := w.db.System.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				for range 1 + dice.IntN(2) {
					if dice.IntN(4) == 0 {
						_, err = w.report(t.Context(), tx, w.south)
					} else {
						_, err = w.change(t.Context(), tx, shared[dice.IntN(len(shared))], incident.Public)
					}
					if err != nil {
						break
					}
				}
				if err != nil || dice.IntN(5) == 0 { // two incidents in one transaction may deadlock, which is a rollback too
					err = tx.Rollback(t.Context())
				} else {
					err = tx.Commit(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
				[]*hub{one, two}[dice.IntN(2)].ring()
			}
		})
	}
	writing.Wait()
	committed := w.committed()
	for n, r := range readers {
		var last int64
		got := map[ledger.EntryKey]bool{}
		for len(got) < len(committed) {
			e := r.next()
			if e.Position != last+1 || got[e.Entry.EntryKey] || !committed[e.Entry.EntryKey] {
				t.Fatalf("hub %d: position %d after %d: %v, seen before: %v", n+1, e.Position, last, e.Entry.EntryKey, got[e.Entry.EntryKey])
			}
			last, got[e.Entry.EntryKey] = e.Position, true
		}
	}
	if got := len(w.stamped()); got != len(committed) {
		t.Errorf("%d stamped, %d committed", got, len(committed))
	}
	var inverted int // ids drawn under the incident's lock rise with its version
	if err := w.db.System.QueryRow(t.Context(), `SELECT count(*) FROM (
		SELECT id < lag(id) OVER (PARTITION BY incident_id ORDER BY version) AS inverted FROM ledger_entry) e WHERE inverted`).Scan(&inverted); err != nil || inverted > 0 {
		t.Errorf("%d versions have a lower id than the one before, %v", inverted, err)
	}
	eventually(t, "no gap is left", func() bool { return len(w.gaps()) == 0 })
}

// Versions stay in order even if one statement inserts them with falling ids, over many batches.
func TestVersionsInOrderWithinAStatement(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.mustReport(w.db.System, w.north)
	w.exec(`INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, at)
		SELECT $1, $2, v, 'CHANGED', 'HUB', '', now() FROM generate_series(11, 2, -1) v`, key.Organisation, key.Incident.UUID)
	r := w.hub(Config{}).subscribe(w.agent(), Options{})
	for range 11 {
		r.next()
	}
	if got := len(w.stamped()); got != 11 {
		t.Errorf("%d stamped", got)
	}
}

// A hub that stops gives its lease back; one that dies is waited for.
func TestSequencerTakeover(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	leader := w.hub(Config{Lease: time.Hour})
	r := leader.subscribe(w.agent(), Options{})
	r.expect(w.mustReport(w.db.System, w.north))
	other := w.hub(Config{Lease: time.Second})
	r = other.subscribe(w.agent(), Options{})
	leader.stop()
	other.ring()
	r.expect(w.mustReport(w.db.System, w.north))
	other.stop()

	dead := w.idleHub(Config{Lease: 500 * time.Millisecond})
	if done, err := dead.sequencer.pass(t.Context()); err != nil || done.standby > 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	heir := w.hub(Config{})
	r = heir.subscribe(w.agent(), Options{})
	key := w.mustReport(w.db.System, w.north)
	heir.ring()
	r.expect(key)
	if done, err := dead.sequencer.pass(t.Context()); err != nil || done.standby <= 0 {
		t.Errorf("the dead came back and took part: %+v, %v", done, err)
	}
}

// A crash of the server takes ids with it; nothing that was committed is lost, hub and subscriber stay up.
func TestServerCrash(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	w := worldIn(t, pgtest.Open(t, server.URL(), postgres.Options{SystemConns: 20}))
	h := w.hub(Config{})
	r := h.subscribe(w.agent(), Options{})
	var before []ledger.EntryKey
	for range 3 {
		before = append(before, w.mustReport(w.db.System, w.north))
		h.ring()
	}
	events := r.expect(before...)

	for range 2 {
		// In the middle of writing: what was acknowledged must come, what was not may.
		stop, wrote := make(chan struct{}), make(chan map[ledger.EntryKey]bool)
		halfway := make(chan struct{})
		go func() {
			acknowledged := map[ledger.EntryKey]bool{}
			defer func() { wrote <- acknowledged }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if key, err := w.report(context.WithoutCancel(t.Context()), w.db.System, w.north); err == nil {
					acknowledged[key] = true
					h.ring()
					if len(acknowledged) == 20 {
						close(halfway)
					}
				}
			}
		}()
		<-halfway
		server.Restart(embedded.Immediate)
		eventually(t, "writing goes on", func() bool {
			key, err := w.report(t.Context(), w.db.System, w.south)
			return err == nil && key.Version == 1
		})
		close(stop)
		acknowledged := <-wrote
		committed := w.committed()
		for key := range acknowledged {
			if !committed[key] {
				t.Fatalf("%v was acknowledged and is gone", key)
			}
		}
		h.ring()
		last := events[len(events)-1].Position
		for int(last) < len(committed) {
			e := r.next()
			if e.Position != last+1 {
				t.Fatalf("position %d after %d", e.Position, last)
			}
			last = e.Position
			events = append(events, e)
		}
	}
	committed := w.committed()
	for _, e := range events {
		if !committed[e.Entry.EntryKey] {
			t.Errorf("%v was delivered twice, or never committed", e.Entry.EntryKey)
		}
		delete(committed, e.Entry.EntryKey)
	}
	if len(committed) > 0 {
		t.Errorf("%d entries were not delivered", len(committed))
	}
	if got, want := len(w.stamped()), len(events); got != want {
		t.Errorf("%d stamped, %d delivered", got, want)
	}
	var jumped bool
	if err := w.db.System.QueryRow(t.Context(), "SELECT max(id) > count(*) FROM ledger_entry").Scan(&jumped); err != nil || !jumped {
		t.Errorf("the crash took no ids with it, so this test shows nothing: %v", err)
	}
	eventually(t, "no gap is left", func() bool { return len(w.gaps()) == 0 })
}

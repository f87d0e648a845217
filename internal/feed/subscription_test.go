package feed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/ledger"
)

func TestEventTellsTheEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hub(Config{})
	from := h.Now()
	live := h.subscribe(w.agent(), Options{})
	key := w.mustReport(w.db.System, w.north)
	h.ring()
	got := live.next()
	want := ledger.Entry{
		EntryKey: key, Kind: ledger.Reported, Visibility: incident.Public, Actor: ledger.Actor{Kind: ledger.Person, Name: "Ada"},
		Changes: ledger.Changes{incident.Field("title"): {"", "t"}}, Detail: []byte(`{"n": 1}`), At: got.Entry.At, TraceID: "trace",
	}
	if diff := cmp.Diff(want, got.Entry); diff != "" {
		t.Errorf("live (-want +got):\n%s", diff)
	}
	if got.Entry.At.Location() != time.UTC || got.Entry.At.IsZero() {
		t.Errorf("time %v", got.Entry.At)
	}
	if diff := cmp.Diff(want, h.subscribe(w.agent(), Options{After: from}).next().Entry); diff != "" {
		t.Errorf("backlog (-want +got):\n%s", diff)
	}
}

// Whoever resumes at any cursor gets exactly the rest of what that viewer may see, then what comes live.
func TestResumeAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hub(Config{Queue: 16}) // so that most of the backlog is read before going live
	start := h.Now()
	all := h.subscribe(w.agent(), Options{After: start})
	var events []Event
	keys := []ledger.EntryKey{w.mustReport(w.db.System, w.north), w.mustReport(w.db.System, w.south)}
	for n := range 60 {
		visibility := incident.Public
		if n%3 == 0 {
			visibility = incident.Internal
		}
		w.mustChange(w.db.System, keys[rand.IntN(2)], visibility)
		h.ring()
		events = append(events, all.next())
	}
	events = append(events, all.next(), all.next())
	viewers := map[string]auth.Viewer{"agent": w.agent(), "north": w.requester(w.north), "south": w.requester(w.south), "nobody": {}}
	visible := func(v auth.Viewer, e Event) bool {
		return v.Sees(e.Entry.Organisation) && (e.Entry.Visibility == incident.Public || v.Staff())
	}
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom([]string{"agent", "north", "south", "nobody"}).Draw(rt, "viewer")
		viewer := viewers[name]
		cut := rapid.IntRange(0, len(events)).Draw(rt, "cut")
		after := start
		if cut > 0 {
			after = events[cut-1].Cursor
			if rapid.Bool().Draw(rt, "sealed anew") {
				after = h.CursorAt(events[cut-1].Position)
			}
		}
		evenOnly := rapid.Bool().Draw(rt, "match")
		match := func(e ledger.Entry) bool { return !evenOnly || e.Version%2 == 0 }
		s, err := h.Subscribe(t.Context(), viewer, Options{After: after, Match: match})
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close()
		r := &reader{t: t, Subscription: s}
		for _, want := range events[cut:] {
			if !visible(viewer, want) || !match(want.Entry) {
				continue
			}
			got := r.next()
			if got.Position != want.Position || !cmp.Equal(got.Entry, want.Entry) {
				rt.Fatalf("%s after %d: got position %d, want %d", name, cut, got.Position, want.Position)
			}
		}
		// Nothing is left over: the next thing to come is what is written now.
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if e, err := s.Next(ended); !errors.Is(err, context.Canceled) {
			rt.Fatalf("%s after %d: one too many: %v, %v", name, cut, e.Entry.EntryKey, err)
		}
	})
}

func TestVisibility(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hub(Config{})
	start := h.Now()
	viewers := []auth.Viewer{w.agent(), w.requester(w.north), w.requester(w.south), {Roles: []auth.Role{auth.Admin}}}
	var live []*reader
	for _, v := range viewers {
		live = append(live, h.subscribe(v, Options{}))
	}
	north := w.mustReport(w.db.System, w.north)
	note := w.mustChange(w.db.System, north, incident.Internal)
	comment := w.mustChange(w.db.System, north, incident.Public)
	south := w.mustReport(w.db.System, w.south)
	last := []ledger.EntryKey{w.mustReport(w.db.System, w.north), w.mustReport(w.db.System, w.south)}
	h.ring()
	wants := [][]ledger.EntryKey{
		{north, note, comment, south, last[0], last[1]},
		{north, comment, last[0]},
		{south, last[1]},
		{},
	}
	for n, want := range wants {
		live[n].expect(want...)
		h.subscribe(viewers[n], Options{After: start}).expect(want...)
	}
	// Staff without organisations sees nothing, also when everybody else has seen all.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, after := range []string{"", start} {
		if e, err := h.subscribe(viewers[3], Options{After: after}).Next(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("somebody without organisations got %v, %v", e, err)
		}
	}
}

// A subscriber who does not read is cut off and can resume; its neighbour does not notice.
func TestSlowSubscriberIsCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hub(Config{Queue: 8})
	slow, quick := h.subscribe(w.agent(), Options{}), h.subscribe(w.agent(), Options{})
	key := w.mustReport(w.db.System, w.north)
	h.ring()
	first := slow.next()
	quick.next()
	var want []ledger.EntryKey
	for range 20 {
		key = w.mustChange(w.db.System, key, incident.Public)
		want = append(want, key)
		h.ring()
		quick.expect(key)
	}
	if _, err := slow.tryNext(); !errors.Is(err, ErrSlow) {
		t.Fatalf("the slow one got %v, want ErrSlow", err)
	}
	if _, err := slow.tryNext(); !errors.Is(err, ErrSlow) {
		t.Errorf("asked again: %v, want ErrSlow", err)
	}
	if got := h.metric("liaison_feed_subscribers_cut_total"); got != 1 {
		t.Errorf("%v cut, want 1", got)
	}
	h.subscribe(w.agent(), Options{After: first.Cursor}).expect(want...)
}

// A long backlog is longer than any queue, page and look-through window; its reader is not slow, it is behind.
func TestLongBacklog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const window = 2 * backlogRows
	h := w.hub(Config{Queue: 8, window: window})
	start := h.Now()
	north, south := w.mustReport(w.db.System, w.north), w.mustReport(w.db.System, w.south)
	const many = 3*window + 1
	w.exec(`INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, at)
		SELECT $1, $2, v, 'CHANGED', 'HUB', '', now() FROM generate_series(2, $3::int) v`, north.Organisation, north.Incident.UUID, many)
	w.exec(`UPDATE incident SET version = $2 WHERE id = $1`, north.Incident.UUID, many)
	end := w.mustChange(w.db.System, south, incident.Public)
	h.ring()
	h.subscribe(w.requester(w.south), Options{After: start}).expect(south, end)

	r := h.subscribe(w.requester(w.north), Options{After: start})
	for n := range many {
		if e := r.next(); e.Entry.Version != int64(n+1) {
			t.Fatalf("version %d at place %d", e.Entry.Version, n+1)
		}
	}
	next := north
	next.Version = many
	next = w.mustChange(w.db.System, next, incident.Public)
	h.ring()
	r.expect(next)
}

// While entries are written all the time: subscribing at any moment loses and repeats nothing across the change
// from backlog to live.
func TestHandoverUnderConstantWriting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hub(Config{Queue: 4096, Batch: 50})
	stop := w.keepWriting(h)
	start := h.Now()
	var reading sync.WaitGroup
	for n := range 6 {
		reading.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(n), 1))
			after, last := start, int64(0)
			for range 15 {
				r := h.subscribe(w.agent(), Options{After: after})
				for rest := -1; rest != 0; {
					e, err := r.tryNext()
					if err != nil || last > 0 && e.Position != last+1 {
						t.Errorf("position %d after %d, %v", e.Position, last, err)
						return
					}
					last, after = e.Position, e.Cursor
					if rest > 0 {
						rest--
					} else if r.live { // the backlog is read: now some live ones
						rest = dice.IntN(20)
					}
				}
				r.Close()
			}
		})
	}
	reading.Wait()
	stop()
	if got, want := len(w.stamped()), len(w.committed()); got > want {
		t.Errorf("%d stamped, %d committed", got, want)
	}
}

// While entries are written all the time: what is on no page comes after the cursor that was taken before it.
func TestQueryThenSubscribe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hub(Config{Queue: 4096})
	stop := w.keepWriting(h)
	type visit struct {
		page map[ledger.EntryKey]bool
		*reader
	}
	var visits []visit
	for range 15 {
		cursor := h.Now()
		page := w.committed()
		visits = append(visits, visit{page, h.subscribe(w.agent(), Options{After: cursor})})
	}
	stop()
	all := w.committed()
	h.ring()
	for n, v := range visits {
		came := map[ledger.EntryKey]bool{}
		for last := int64(0); last < int64(len(all)); {
			e := v.next()
			if came[e.Entry.EntryKey] {
				t.Fatalf("visit %d: %v came twice", n, e.Entry.EntryKey)
			}
			last, came[e.Entry.EntryKey] = e.Position, true
		}
		for key := range all {
			if !v.page[key] && !came[key] {
				t.Fatalf("visit %d: %v is not on the page and did not come after it", n, key)
			}
		}
	}
}

// keepWriting has three writers append until it is told to stop; then it appends once more.
func (w *world) keepWriting(h *hub) (stop func()) {
	stopped := make(chan struct{})
	var writing sync.WaitGroup
	for range 3 {
		writing.Go(func() {
			for {
				select {
				case <-stopped:
					return
				default:
				}
				if _, err := w.report(w.t.Context(), w.db.System, w.north); err != nil {
					w.t.Error(err)
					return
				}
				h.ring()
			}
		})
	}
	return func() {
		close(stopped)
		writing.Wait()
		w.mustReport(w.db.System, w.north)
		h.ring()
	}
}

func TestCursors(t *testing.T) {
	t.Parallel()
	w, other := newWorld(t), newWorld(t)
	h := w.hub(Config{})
	r := h.subscribe(w.agent(), Options{})
	key := w.mustReport(w.db.System, w.north)
	h.ring()
	event := r.expect(key)[0]
	head, err := h.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		after string
		want  error
	}{
		"of an event":               {event.Cursor, nil},
		"now":                       {h.Now(), nil},
		"head":                      {head, nil},
		"by position":               {h.CursorAt(1), nil},
		"garbled":                   {"rubbish", ErrBadCursor},
		"of another database":       {other.idleHub(Config{}).Now(), ErrExpired},
		"of another kind":           {h.Sealer().Seal("incidents", []byte("x")), ErrBadCursor},
		"of another epoch":          {h.Sealer().sealPlace(place{uuid.New(), 1}), ErrExpired},
		"of the future":             {h.CursorAt(2), ErrExpired},
		"of the end of all numbers": {h.CursorAt(1<<63 - 1), ErrExpired},
	} {
		s, err := h.Subscribe(t.Context(), w.agent(), Options{After: c.after})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err == nil {
			s.Close()
		}
	}
}

// A cursor may come from a hub whose tail is ahead of this one's.
func TestCursorFromAHubThatIsAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ahead := w.hub(Config{})
	behind := w.idleHub(Config{}) // its tail stands still at the beginning
	r := ahead.subscribe(w.agent(), Options{})
	first := w.mustReport(w.db.System, w.north)
	second := w.mustReport(w.db.System, w.north)
	ahead.ring()
	cursor := r.expect(first, second)[0].Cursor
	resumed := behind.subscribe(w.agent(), Options{After: cursor})
	done := make(chan struct{})
	go func() {
		defer close(done)
		resumed.expect(second)
	}()
	for {
		if err := behind.tail.catchUp(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// Hubs that live through a restore cut their subscribers off rather than go on with positions of another past.
func TestRestoredDatabase(t *testing.T) {
	t.Parallel()
	restore := map[string]func(w *world){
		"a copy": func(w *world) {
			w.exec("UPDATE watermark SET fingerprint = 'database=1 feed=2 system=3 timeline=00000001'")
			w.idleHub(Config{}) // the hub that notices
		},
		"an older state of the same disk": func(w *world) {
			// In one transaction: the sequencer must not see a half of it.
			w.exec(`UPDATE watermark SET position = 1, scanned = (SELECT min(id) FROM ledger_entry), gaps = '[]';
				DELETE FROM feed WHERE position > 1;
				ALTER TABLE ledger_entry DISABLE TRIGGER USER;
				DELETE FROM ledger_entry WHERE id > (SELECT min(id) FROM ledger_entry);
				ALTER TABLE ledger_entry ENABLE TRIGGER USER`)
		},
	}
	for name, happen := range restore {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			h := w.hub(Config{Poll: 10 * time.Millisecond})
			r := h.subscribe(w.agent(), Options{})
			events := r.expect(w.mustReport(w.db.System, w.north), w.mustReport(w.db.System, w.north), w.mustReport(w.db.System, w.north))
			happen(w)
			if e, err := r.tryNext(); !errors.Is(err, ErrExpired) {
				t.Fatalf("the live subscriber got %v, %v; want ErrExpired", e, err)
			}
			for _, e := range events {
				if _, err := h.Subscribe(t.Context(), w.agent(), Options{After: e.Cursor}); !errors.Is(err, ErrExpired) {
					t.Errorf("resuming at position %d: %v, want ErrExpired", e.Position, err)
				}
			}
			again := h.subscribe(w.agent(), Options{After: h.Now()})
			again.expect(w.mustReport(w.db.System, w.north))
		})
	}
}

// A second start, and a second hub, on the same database keep the epoch and the key.
func TestRestartKeepsCursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.hub(Config{Poll: 10 * time.Millisecond})
	r := first.subscribe(w.agent(), Options{})
	cursor := r.expect(w.mustReport(w.db.System, w.north))[0].Cursor
	first.stop()
	missed := w.mustReport(w.db.System, w.north)
	second, third := w.hub(Config{Poll: 10 * time.Millisecond}), w.hub(Config{Poll: 10 * time.Millisecond})
	second.subscribe(w.agent(), Options{After: cursor}).expect(missed)
	third.subscribe(w.agent(), Options{After: cursor}).expect(missed)
}

// Hubs that start together on a new database agree on one key.
func TestOneKeyForAllHubs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hubs := make([]*hub, 6)
	var starting sync.WaitGroup
	for n := range hubs {
		starting.Go(func() { hubs[n] = w.idleHub(Config{}) })
	}
	starting.Wait()
	sealed := hubs[0].Sealer().Seal("k", []byte("v"))
	epoch := hubs[0].tail.place().epoch
	for n, h := range hubs {
		if got, err := h.Sealer().Open("k", sealed); err != nil || string(got) != "v" || h.tail.place().epoch != epoch {
			t.Errorf("hub %d has a key or an epoch of its own: %v", n, err)
		}
	}
}

func TestEndOfSubscription(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hub(Config{})
	before := runtime.NumGoroutine()
	start := h.Now()
	cause := errors.New("the socket is gone")
	ended := map[string]func(*Subscription, context.CancelCauseFunc){
		"closed":           func(s *Subscription, _ context.CancelCauseFunc) { s.Close(); s.Close() },
		"context":          func(_ *Subscription, cancel context.CancelCauseFunc) { cancel(cause) },
		"context, in Next": nil,
	}
	wants := map[string]error{"closed": ErrClosed, "context": cause, "context, in Next": cause}
	for name, end := range ended {
		for n := range 50 {
			ctx, cancel := context.WithCancelCause(t.Context())
			after := ""
			if n%2 == 0 {
				after = start
			}
			s, err := h.Subscribe(ctx, w.agent(), Options{After: after})
			if err != nil {
				t.Fatal(err)
			}
			if end != nil {
				end(s, cancel)
			} else {
				go cancel(cause)
			}
			if _, err := s.Next(context.WithoutCancel(t.Context())); !errors.Is(err, wants[name]) {
				t.Fatalf("%s: Next says %v", name, err)
			}
			cancel(nil)
		}
	}
	eventually(t, "nobody is registered", func() bool {
		h.tail.mu.Lock()
		defer h.tail.mu.Unlock()
		return len(h.tail.open) == 0 && len(h.tail.members) == 0
	})
	eventually(t, fmt.Sprintf("no goroutine is left over the %d of before", before), func() bool { return runtime.NumGoroutine() <= before+5 })

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := h.Subscribe(ctx, w.agent(), Options{}); err == nil {
		if _, err := s.Next(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("subscribed with a dead context: Next says %v", err)
		}
	}

	live, behind := h.subscribe(w.agent(), Options{}), h.subscribe(w.agent(), Options{After: start})
	h.stop()
	for _, r := range []*reader{live, behind} {
		if _, err := r.tryNext(); !errors.Is(err, ErrStopped) {
			t.Errorf("after the hub has stopped: %v", err)
		}
	}
	if _, err := h.Subscribe(t.Context(), w.agent(), Options{}); !errors.Is(err, ErrStopped) {
		t.Errorf("subscribing at a stopped hub: %v", err)
	}
}

// While the database is away, readers of backlog wait as well.
func TestBacklogOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	w := worldIn(t, pgtest.Open(t, server.URL(), postgres.Options{SystemConns: 20}))
	h := w.hub(Config{Poll: 20 * time.Millisecond})
	start := h.Now()
	keys := []ledger.EntryKey{w.mustReport(w.db.System, w.north), w.mustReport(w.db.System, w.north)}
	h.subscribe(w.agent(), Options{After: start}).expect(keys...)
	server.Stop()
	r := h.subscribe(w.agent(), Options{After: start})
	got := make(chan []Event)
	go func() { got <- r.expect(keys...) }()
	closed := h.subscribe(w.agent(), Options{After: start})
	gone := make(chan error)
	go func() { _, err := closed.tryNext(); gone <- err }()
	closed.Close()
	if err := <-gone; !errors.Is(err, ErrClosed) {
		t.Errorf("closed during the outage: %v", err)
	}
	server.Start()
	if events := <-got; len(events) != 2 {
		t.Errorf("%d events", len(events))
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hub(Config{})
	if err := prometheus.NewPedanticRegistry().Register(h.Feed); err != nil {
		t.Fatal(err)
	}
	r := h.subscribe(w.agent(), Options{})
	keys := []ledger.EntryKey{w.mustReport(w.db.System, w.north), w.mustReport(w.db.System, w.north)}
	h.ring()
	r.expect(keys...)
	for name, want := range map[string]float64{
		"liaison_feed_position": 2, "liaison_feed_subscribers": 1, "liaison_feed_sequencer_leading": 1, "liaison_feed_gaps": 0,
		"liaison_feed_entries_stamped_total": 2, "liaison_feed_lag_seconds": 2,
	} {
		eventually(t, fmt.Sprintf("%s is %v", name, want), func() bool { return h.metric(name) == want })
	}
}

// metric sums a metric's series; of a histogram it is the count.
func (h *hub) metric(name string) (sum float64) {
	h.t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(h.Feed)
	families, err := registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// The pages' cursor must not wait for the fan-out.
func TestNowIsInStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hub(Config{})
	r := h.subscribe(w.agent(), Options{})
	for range 5 {
		key := w.mustReport(w.db.System, w.north)
		h.ring()
		e := r.expect(key)[0]
		eventually(t, "Now has moved on", func() bool {
			p, err := h.sealer.openPlace(h.Now())
			return err == nil && p.position == e.Position
		})
	}
	var head int64
	if err := pgx.BeginFunc(t.Context(), w.db.System, func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), "SELECT max(position) FROM feed").Scan(&head)
	}); err != nil || head != 5 {
		t.Errorf("%d, %v", head, err)
	}
}

// A login role that may not read the cluster's control data still has a feed, and the epoch stays.
func TestLoginRoleThatMaySeeLess(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	w := worldIn(t, pgtest.Open(t, server.URL(), postgres.Options{}))
	before := w.idleHub(Config{}).tail.place().epoch
	admin, err := pgx.Connect(t.Context(), server.SuperuserURL(w.db.System.Config().ConnConfig.Database))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(t.Context())
	for _, function := range []string{"pg_control_system()", "pg_walfile_name(pg_lsn)", "pg_current_wal_lsn()"} {
		if _, err := admin.Exec(t.Context(), "REVOKE EXECUTE ON FUNCTION "+function+" FROM public"); err != nil {
			t.Fatal(err)
		}
	}
	marks, err := identify(t.Context(), queries(w.db.System))
	if err != nil || len(marks) != 2 {
		t.Fatalf("marks %v, %v: the role was to see less", marks, err)
	}
	h := w.hub(Config{Poll: 20 * time.Millisecond})
	if after := h.tail.place().epoch; after != before {
		t.Errorf("the epoch changed from %s to %s", before, after)
	}
	r := h.subscribe(w.agent(), Options{})
	r.expect(w.mustReport(w.db.System, w.north))
	if after := h.tail.place().epoch; after != before {
		t.Errorf("the epoch changed from %s to %s", before, after)
	}
}

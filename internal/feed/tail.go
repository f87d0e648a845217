package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"liaison/internal/feed/internal/db"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

var (
	// ErrSlow ends a subscription whose queue is full: its reader has fallen behind by Config.Queue events. It
	// can resume after the last event that it got.
	ErrSlow = errors.New("the subscriber is too slow and was cut off: resume after the last cursor received")
	// ErrStopped ends subscriptions when the hub stops. They can resume at another hub, or here when it is back.
	ErrStopped = errors.New("the hub is stopping: resume after the last cursor received")
)

// tail reads each stamped entry once for this process and hands it to everybody who may see it.
type tail struct {
	pool    *db.Queries
	bell    Bell
	sealer  *Sealer
	metrics *metrics
	config  Config

	// last is the last event fanned out. It is written under mu, and read without it by every query page.
	last atomic.Pointer[mark]

	mu      sync.Mutex
	stopped bool
	// members are the registered subscriptions, by each organisation that they may see.
	members map[incident.OrganisationID]map[*Subscription]struct{}
	// open are all subscriptions, those that still read their backlog included.
	open map[*Subscription]struct{}
}

// mark is a place with its cursor.
type mark struct {
	place
	cursor string
}

func newTail(ctx context.Context, pool *db.Queries, bell Bell, sealer *Sealer, measured *metrics, config Config) (*tail, error) {
	t := &tail{
		pool: pool, bell: bell, sealer: sealer, metrics: measured, config: config,
		members: map[incident.OrganisationID]map[*Subscription]struct{}{},
		open:    map[*Subscription]struct{}{},
	}
	at, err := t.head(ctx)
	if err != nil {
		return nil, err
	}
	t.moveTo(mark{at, sealer.sealPlace(at)})
	return t, nil
}

func (t *tail) run(ctx context.Context) {
	stamped := t.bell.Subscribe(TopicFeed)
	defer t.bell.Unsubscribe(TopicFeed, stamped)
	defer t.stop()

	trouble := newTrouble("feed tail", t.config.Logger, t.metrics.failures.WithLabelValues("tail"))
	woken := false
	for {
		wait := t.config.Poll
		if err := t.catchUp(ctx, woken); ctx.Err() != nil {
			return
		} else if err != nil {
			wait = trouble.pause(err)
		} else {
			trouble.over()
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-stamped:
			woken = true
		case <-timer.C:
			woken = false
		}
		timer.Stop()
	}
}

// catchUp fans out all that is stamped. When nobody has woken it, it also looks whether the feed is still the
// one it knows.
func (t *tail) catchUp(ctx context.Context, woken bool) error {
	for {
		from := t.place()
		rows, err := t.pool.ListEvents(ctx, db.ListEventsParams{AfterPosition: from.position, MaxRows: int64(t.config.Batch)})
		if err != nil {
			return fmt.Errorf("reading the feed: %w", err)
		}
		if len(rows) == 0 && woken {
			return nil
		}
		if len(rows) == 0 || rows[0].Epoch != from.epoch {
			return t.look(ctx)
		}
		t.publish(from, t.events(rows))
		if len(rows) < t.config.Batch && t.place().epoch == from.epoch {
			return nil
		}
	}
}

func (t *tail) events(rows []db.ListEventsRow) []*Event {
	now := t.config.Now()
	events := make([]*Event, len(rows))
	for n, row := range rows {
		events[n] = &Event{
			Position: row.Position,
			Cursor:   t.sealer.sealPlace(place{row.Epoch, row.Position}),
			Entry:    t.entry(row),
		}
		t.metrics.lag.Observe(now.Sub(row.At).Seconds())
	}
	return events
}

func (t *tail) entry(row db.ListEventsRow) ledger.Entry {
	entry := ledger.Entry{
		EntryKey: ledger.EntryKey{
			Organisation: incident.OrganisationID(row.OrganisationID),
			Incident:     incident.ID{UUID: row.IncidentID},
			Version:      row.Version,
		},
		Kind:       ledger.Kind(row.Kind),
		Visibility: incident.Visibility(row.Visibility),
		Actor:      ledger.Actor{Kind: ledger.ActorKind(row.ActorKind), Name: row.Actor},
		Link:       incident.LinkID{UUID: row.LinkID.UUID},
		Comment:    incident.CommentID{UUID: row.CommentID.UUID},
		Detail:     row.Detail,
		At:         row.At.UTC(),
		TraceID:    row.TraceID,
	}
	if err := json.Unmarshal(row.Changes, &entry.Changes); err != nil {
		// One entry that only a newer hub understands must not end the feed for everybody.
		entry.Changes = nil
		t.config.Logger.Error("a ledger entry's changes cannot be read; it is delivered without them",
			"incident", entry.Incident, "version", entry.Version, "position", row.Position, "error", err)
	}
	return entry
}

// publish hands events, which follow from, to the members. It stops when the tail has been moved meanwhile: what
// comes next is read again, from the new place.
func (t *tail) publish(from place, events []*Event) {
	for _, event := range events {
		if !t.publishOne(from, event) {
			return
		}
		from.position = event.Position
	}
}

func (t *tail) publishOne(from place, event *Event) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.place() != from {
		return false
	}
	for member := range t.members[event.Entry.Organisation] {
		if member.wants(event.Entry) && !member.offer(event, t.config.Queue) {
			t.cut(member, ErrSlow)
		}
	}
	t.moveTo(mark{place{from.epoch, event.Position}, event.Cursor})
	return true
}

// look compares the tail's place with the database. When the epoch is another one, or the feed ends before what
// was read already, all that subscribers know is void: they are cut off and the tail goes on from the feed's end.
func (t *tail) look(ctx context.Context) error {
	from := t.place()
	end, err := t.head(ctx)
	if err != nil {
		return err
	}
	if end.epoch == from.epoch && end.position < from.position {
		t.config.Logger.Warn("the database has lost positions that were given out: feed cursors expire", "read", from.position, "found", end.position)
		if err := t.pool.RenewEpoch(ctx, db.RenewEpochParams{SeenEpoch: from.epoch, SeenPosition: from.position}); err != nil {
			return fmt.Errorf("renewing the feed's epoch: %w", err)
		}
		if end, err = t.head(ctx); err != nil {
			return err
		}
	}
	if end.epoch == from.epoch {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.place().epoch != from.epoch {
		return nil // somebody else has looked
	}
	t.moveTo(mark{end, t.sealer.sealPlace(end)}) // first, so that nobody who is cut off resumes before it
	for s := range t.open {
		t.cut(s, ErrExpired)
	}
	return nil
}

// head reads where the feed ends.
func (t *tail) head(ctx context.Context) (place, error) {
	w, err := t.pool.ReadWatermark(ctx)
	if err != nil {
		return place{}, fmt.Errorf("reading the feed's watermark: %w", err)
	}
	return place{w.Epoch, w.Position}, nil
}

func (t *tail) place() place { return t.last.Load().place }

func (t *tail) now() string { return t.last.Load().cursor }

// moveTo needs mu, except in newTail.
func (t *tail) moveTo(m mark) {
	t.last.Store(&m)
	t.metrics.position.Set(float64(m.position))
}

// stop ends all subscriptions and refuses new ones.
func (t *tail) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	for s := range t.open {
		t.cut(s, ErrStopped)
	}
}

var cutReasons = map[error]string{ErrSlow: "slow", ErrExpired: "expired", ErrStopped: "stopped"}

// cut ends a subscription from the hub's side; it needs mu.
func (t *tail) cut(s *Subscription, reason error) {
	if t.forget(s) {
		t.metrics.cut.WithLabelValues(cutReasons[reason]).Inc()
	}
	s.end(reason)
}

// enter counts a new subscription; it needs mu.
func (t *tail) enter(s *Subscription) {
	t.open[s] = struct{}{}
	t.metrics.subscribers.Set(float64(len(t.open)))
}

// register lets a subscription hear of events from here on; it needs mu.
func (t *tail) register(s *Subscription) {
	for _, organisation := range s.viewer.Organisations {
		if t.members[organisation] == nil {
			t.members[organisation] = map[*Subscription]struct{}{}
		}
		t.members[organisation][s] = struct{}{}
	}
}

// forget drops a subscription and reports whether it was there; it needs mu.
func (t *tail) forget(s *Subscription) bool {
	if _, ok := t.open[s]; !ok {
		return false
	}
	delete(t.open, s)
	t.metrics.subscribers.Set(float64(len(t.open)))
	for _, organisation := range s.viewer.Organisations {
		delete(t.members[organisation], s)
		if len(t.members[organisation]) == 0 {
			delete(t.members, organisation)
		}
	}
	return true
}

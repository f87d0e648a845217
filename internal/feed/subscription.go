package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"liaison/internal/auth"
	"liaison/internal/feed/internal/db"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger"
)

// ErrClosed is what Next returns after Close.
var ErrClosed = errors.New("the subscription is closed")

// backlogRows is the most events that one statement reads for one subscription.
const backlogRows = 256

// Options say what a subscription is about.
type Options struct {
	// After is the cursor to resume after: that of an event, of [Feed.Now] or of [Feed.Head]. Empty means from
	// now on.
	After string
	// Match chooses among the entries that the viewer may see: default all. It is called for every one of them
	// in the goroutine that serves all subscribers, so it must only look at the entry, and quickly.
	Match func(ledger.Entry) bool
}

// Subscription is one reader of the feed. It needs no goroutine of its own.
type Subscription struct {
	tail   *tail
	viewer auth.Viewer
	staff  bool
	match  func(ledger.Entry) bool
	unbind func() bool // from the context that Subscribe got

	// Used by Next alone.
	read    place    // all up to here is delivered, waits in page, or is not for this viewer
	page    []*Event // backlog that waits to be delivered
	live    bool     // the backlog is read
	horizon int64    // once registered: where the backlog ends
	joined  bool     // registered with the tail

	mu    sync.Mutex
	queue []*Event // live events that wait to be delivered
	err   error    // why it has ended
	wake  chan struct{}
}

// Subscribe returns the viewer's events after a cursor: first what was stamped meanwhile, then live, without
// gap or repeat. An event goes to those only who may see the entry's organisation and, for internal entries, are
// staff; rights are those of the viewer as given, so end the subscription when they change.
//
// A subscriber that reads slower than entries arrive is cut off with [ErrSlow] when its queue is full; nobody
// else notices. While it still reads backlog it sets its own pace. The subscription ends when ctx does, or by
// Close. Errors: [ErrBadCursor], [ErrExpired], [ErrStopped], and the database's when a cursor is from a place
// that only the database can tell about.
func (f *Feed) Subscribe(ctx context.Context, viewer auth.Viewer, options Options) (*Subscription, error) {
	s := &Subscription{tail: f.tail, viewer: viewer, staff: viewer.Staff(), match: options.Match, wake: make(chan struct{}, 1)}
	s.viewer.Organisations = slices.Clone(viewer.Organisations)
	if options.After != "" {
		var err error
		if s.read, err = f.sealer.openPlace(options.After); err != nil {
			if sealedElsewhere(options.After) {
				return nil, ErrExpired
			}
			return nil, err
		}
		if err := f.tail.resumable(ctx, s.read); err != nil {
			return nil, err
		}
	}

	if err := f.tail.admit(s, options.After == ""); err != nil {
		return nil, err
	}
	s.unbind = context.AfterFunc(ctx, func() { s.leave(context.Cause(ctx)) })
	return s, nil
}

// Next waits for the next event and returns it. Its errors, apart from ctx's own, are final: [ErrSlow],
// [ErrExpired], [ErrStopped], [ErrClosed], or the cause of Subscribe's context. While the database is away it
// waits.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		event, err := s.take()
		if err != nil {
			return Event{}, err
		}
		if event != nil {
			return *event, nil
		}
		if !s.live {
			if err := s.readBacklog(ctx); err != nil {
				return Event{}, err
			}
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// Close ends the subscription; a waiting Next returns [ErrClosed]. It may be called at any time and again.
func (s *Subscription) Close() {
	s.unbind()
	s.leave(ErrClosed)
}

func (s *Subscription) leave(reason error) {
	s.tail.mu.Lock()
	s.tail.forget(s)
	s.tail.mu.Unlock()
	s.end(reason)
}

// end makes Next return reason. What still waited is dropped: whoever resumes reads it again.
func (s *Subscription) end(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err, s.queue = reason, nil
	}
	s.nudge()
}

// offer queues a live event; false when the queue is full.
func (s *Subscription) offer(event *Event, limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= limit {
		return false
	}
	s.queue = append(s.queue, event)
	s.nudge()
	return true
}

func (s *Subscription) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns the next event in hand, nil when there is none.
func (s *Subscription) take() (*Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if len(s.page) > 0 {
		event := s.page[0]
		s.page = s.page[1:]
		return event, nil
	}
	for s.live && len(s.queue) > 0 {
		event := s.queue[0]
		s.queue[0] = nil
		if s.queue = s.queue[1:]; len(s.queue) == 0 {
			s.queue = nil // an idle subscriber holds no memory
		}
		if event.Position > s.read.position {
			s.read.position = event.Position
			return event, nil
		}
	}
	return nil, nil
}

// wants tells whether an entry of one of the viewer's organisations is for this subscription.
func (s *Subscription) wants(entry ledger.Entry) bool {
	return s.sees(entry) && (s.match == nil || s.match(entry))
}

func (s *Subscription) sees(entry ledger.Entry) bool {
	return s.viewer.Sees(entry.Organisation) && (entry.Visibility == incident.Public || s.staff)
}

// readBacklog reads one page of what was stamped before the subscription went live. Far from the end it only
// reads, so that nothing piles up meanwhile. Within a page's distance it registers with the tail first: what is
// fanned out from then on waits in the queue while the last stretch is read.
func (s *Subscription) readBacklog(ctx context.Context) error {
	upTo, err := s.approach()
	if err != nil {
		return err
	}
	if s.read.position >= upTo {
		// Level with the tail, or beyond it: another hub's tail was ahead of ours when it sealed the cursor.
		s.live = s.joined
		return nil
	}
	upTo = min(upTo, s.read.position+s.tail.config.window)
	rows, trimmed, err := s.queryBacklog(ctx, upTo)
	if err != nil {
		return err
	}
	if trimmed > s.read.position || len(rows) > 0 && rows[0].Epoch != s.read.epoch {
		s.tail.mu.Lock()
		defer s.tail.mu.Unlock()
		s.tail.cut(s, ErrExpired)
		return ErrExpired
	}
	if len(rows) == backlogRows {
		upTo = rows[len(rows)-1].Position
	}
	s.page = s.page[:0:0]
	for _, row := range rows {
		entry := s.tail.entry(db.ListEventsRow(row))
		if s.wants(entry) {
			s.page = append(s.page, &Event{Position: row.Position, Cursor: s.tail.sealer.sealPlace(place{row.Epoch, row.Position}), Entry: entry})
		}
	}
	s.read.position = upTo
	return nil
}

// approach returns the position up to which the backlog is to be read, and registers with the tail when that is
// near.
func (s *Subscription) approach() (int64, error) {
	s.tail.mu.Lock()
	defer s.tail.mu.Unlock()
	if s.joined {
		return s.horizon, nil
	}
	at := s.tail.place()
	if at.epoch != s.read.epoch {
		s.tail.cut(s, ErrExpired)
		return 0, ErrExpired
	}
	near := int64(min(backlogRows, s.tail.config.Queue/2))
	if _, open := s.tail.open[s]; open && at.position-s.read.position <= near {
		s.joined, s.horizon = true, at.position
		s.tail.register(s)
	}
	return at.position, nil
}

// queryBacklog waits out a database that is away, unless the subscription ends. It also returns up to where the feed is
// trimmed, asked after the rows were read: what is not trimmed then was there to be read.
func (s *Subscription) queryBacklog(ctx context.Context, upTo int64) (rows []db.ListBacklogRow, trimmed int64, err error) {
	organisations := make([]int64, len(s.viewer.Organisations))
	for n, o := range s.viewer.Organisations {
		organisations[n] = int64(o)
	}
	pause := shortestPause
	for {
		rows, err = s.tail.pool.ListBacklog(ctx, db.ListBacklogParams{
			AfterPosition: s.read.position, LastPosition: upTo, Organisations: organisations, Staff: s.staff, MaxRows: backlogRows,
		})
		if err == nil {
			trimmed, err = s.tail.pool.ReadTrimmed(ctx)
		}
		switch {
		case err == nil:
			return rows, trimmed, nil
		case ctx.Err() != nil:
			return nil, 0, context.Cause(ctx)
		case !postgres.IsUnavailable(err) && !postgres.IsTimeout(err):
			return nil, 0, fmt.Errorf("reading the feed's backlog: %w", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.wake: // perhaps it has ended
		case <-ctx.Done():
		}
		timer.Stop()
		s.mu.Lock()
		ended := s.err
		s.mu.Unlock()
		if ended != nil {
			return nil, 0, ended
		}
		pause = min(2*pause, longestPause)
	}
}

// admit lets a subscription in; one from now on goes live at once.
func (t *tail) admit(s *Subscription, fromNow bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch at := t.place(); {
	case t.stopped:
		return ErrStopped
	case fromNow:
		s.read, s.joined, s.live = at, true, true
		t.register(s)
	case s.read.epoch != at.epoch:
		return ErrExpired
	}
	t.enter(s)
	return nil
}

// resumable tells whether one can resume at a place. The tail's own knowledge mostly suffices; another hub's tail
// may be ahead of it, though, or know of a newer epoch.
func (t *tail) resumable(ctx context.Context, p place) error {
	if at := t.place(); p.epoch == at.epoch && p.position <= at.position {
		return nil
	}
	if err := t.look(ctx); err != nil {
		return err
	}
	end, err := t.head(ctx)
	if err != nil {
		return err
	}
	if p.epoch != end.epoch || p.position > end.position {
		return ErrExpired
	}
	return nil
}

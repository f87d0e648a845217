package feed

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/internal/feed/internal/db"
	"liaison/internal/postgres"
	"liaison/sync/ledger"
)

// manyGaps is when the number of gaps deserves a warning: some transaction that writes entries has been open
// while this many appends were rolled back.
const manyGaps = 10_000

// sequencer gives committed entries their positions. All it knows lives in the watermark's row; its fields are
// settings and hints, used by run's goroutine alone.
type sequencer struct {
	database *postgres.DB
	bell     Bell
	holder   string // names this sequencer in the lease
	metrics  *metrics
	config   Config

	leading  bool   // the lease was ours when last seen
	warned   bool   // of many gaps
	verified string // the incarnation of the database whose epoch was settled last
}

// pass is what one transaction of the sequencer did.
type pass struct {
	stamped int
	full    bool          // there may be more: go on at once
	standby time.Duration // the lease is another's for this long
	gaps    int
}

// errNothing rolls a pass back that has nothing to write.
var errNothing = errors.New("nothing to stamp")

func (s *sequencer) run(ctx context.Context) {
	entries, released := s.bell.Subscribe(ledger.TopicEntries), s.bell.Subscribe(topicLease)
	defer s.bell.Unsubscribe(ledger.TopicEntries, entries)
	defer s.bell.Unsubscribe(topicLease, released)
	defer s.release(ctx)

	trouble := newTrouble("feed sequencer", s.config.Logger, s.metrics.failures.WithLabelValues("sequencer"))
	woken := true
	for {
		wait, err := s.step(ctx, woken)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.lead(false)
			wait = trouble.pause(err)
		} else {
			trouble.over()
		}

		wakeups := entries
		if !s.leading {
			wakeups = nil // another's to stamp, or nobody can just now
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-wakeups:
			woken = true
		case <-released:
			woken = true
		case <-timer.C:
			woken = false
		}
		timer.Stop()
	}
}

// step stamps all there is, when it is this sequencer's turn, and returns how long to wait unless woken. Not
// woken, it looks before it locks.
func (s *sequencer) step(ctx context.Context, woken bool) (time.Duration, error) {
	if !woken || !s.leading {
		now, err := queries(s.database.System).PeekWatermark(ctx)
		if err != nil {
			return 0, fmt.Errorf("looking at the feed's watermark: %w", err)
		}
		lease := time.Duration(now.LeaseMs) * time.Millisecond
		switch {
		case now.Holder != s.holder && lease > 0:
			s.lead(false)
			return s.standby(lease), nil
		case s.leading && now.Holder == s.holder && lease > s.config.Lease/2 && !now.Work:
			return s.config.Poll, nil
		}
	}
	for {
		done, err := s.pass(ctx)
		if done.stamped > 0 || errors.Is(err, postgres.ErrCommitUnknown) {
			s.bell.Ring(TopicFeed)
		}
		switch {
		case err != nil:
			return 0, err
		case done.standby > 0:
			s.lead(false)
			return s.standby(done.standby), nil
		case !done.full:
			return min(s.config.Poll, s.config.Lease/2), nil
		}
	}
}

// pass stamps one batch. After an error it may have happened or not; the next pass reads what is true.
func (s *sequencer) pass(ctx context.Context) (pass, error) {
	var done pass
	verified := s.verified
	// Read committed is what the order of the statements below rests on: each must see what was committed
	// before it began, not before the transaction did.
	err := s.database.SystemTx(ctx, func(tx pgx.Tx) error {
		var err error
		done, err = s.stamp(ctx, db.New(tx))
		return err
	}, postgres.Isolation(pgx.ReadCommitted))
	if err != nil && !errors.Is(err, errNothing) {
		s.verified = verified // what was settled may have been rolled back
		return pass{}, fmt.Errorf("stamping ledger entries: %w", err)
	}
	if done.standby == 0 {
		s.lead(true)
		s.metrics.stamped.Add(float64(done.stamped))
		s.metrics.gaps.Set(float64(done.gaps))
		s.warn(done.gaps)
	}
	return done, nil
}

func (s *sequencer) stamp(ctx context.Context, q *db.Queries) (pass, error) {
	w, err := q.LockWatermark(ctx)
	if err != nil {
		return pass{}, fmt.Errorf("locking the feed's watermark: %w", err)
	}
	lease := time.Duration(w.LeaseMs) * time.Millisecond
	if w.Holder != s.holder && lease > 0 {
		return pass{standby: lease}, errNothing
	}
	changed := w.Holder != s.holder || lease < s.config.Lease/2
	if w.Holder != s.holder || w.Incarnation != s.verified {
		if w, err = settleEpoch(ctx, q, w, s.config.Logger); err != nil {
			return pass{}, err
		}
		s.verified, changed = w.Incarnation, true
	}

	gaps, err := decodeGaps(w.Gaps)
	if err != nil {
		return pass{}, err
	}
	if len(gaps) > 0 {
		writers, err := q.ListWriters(ctx)
		if err != nil {
			return pass{}, fmt.Errorf("listing the ledger's writers: %w", err)
		}
		gaps = examine(gaps, writers)
	}
	found, err := q.ListUnstamped(ctx, unstamped(gaps, w.Scanned, s.config.Batch))
	if err != nil {
		return pass{}, fmt.Errorf("reading unstamped entries: %w", err)
	}
	ids := make([]int64, len(found))
	for n, e := range found {
		ids[n] = e.ID
	}
	full := len(found) == s.config.Batch
	gaps, scanned := advance(gaps, w.Scanned, ids, full)
	encoded, err := json.Marshal(gaps)
	if err != nil {
		return pass{}, fmt.Errorf("encoding the gaps: %w", err)
	}
	done := pass{stamped: len(found), full: full, gaps: len(gaps)}
	if !changed && len(found) == 0 && sameJSON(encoded, w.Gaps) {
		return done, errNothing
	}

	stamps := db.StampParams{
		Position: w.Position + int64(len(found)), Scanned: scanned, Gaps: encoded,
		Holder: s.holder, LeaseMs: s.config.Lease.Milliseconds(),
	}
	for n, e := range inVersionOrder(found) {
		stamps.Positions = append(stamps.Positions, w.Position+1+int64(n))
		stamps.Organisations = append(stamps.Organisations, e.OrganisationID)
		stamps.Incidents = append(stamps.Incidents, e.IncidentID)
		stamps.Versions = append(stamps.Versions, e.Version)
	}
	if err := q.Stamp(ctx, stamps); err != nil {
		return pass{}, fmt.Errorf("inserting positions: %w", err)
	}
	return done, nil
}

// release gives the lease back, so that a hub that stops for a new version makes nobody wait.
func (s *sequencer) release(ctx context.Context) {
	if !s.leading {
		return
	}
	s.lead(false)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := queries(s.database.System).ReleaseLease(ctx, s.holder); err != nil {
		s.config.Logger.Info("the feed's lease could not be given back: others take over when it has run out", "error", err)
		return
	}
	s.bell.Ring(topicLease)
}

func (s *sequencer) lead(leading bool) {
	s.leading = leading
	if leading {
		s.metrics.leading.Set(1)
	} else {
		s.metrics.leading.Set(0)
		s.metrics.gaps.Set(0)
	}
}

func (s *sequencer) warn(gaps int) {
	if many := gaps >= manyGaps; many != s.warned {
		s.warned = many
		if many {
			s.config.Logger.Warn("a transaction that writes ledger entries has been open for long, and every append rolled back meanwhile is remembered: "+
				"look for state 'idle in transaction' in pg_stat_activity", "gaps", gaps)
		}
	}
}

// standby is how long a sequencer waits while the lease is another's: until it has run out, or until the next poll
// in case it was given back and nobody heard, and a little by chance, so that not all hubs ask at once.
func (s *sequencer) standby(lease time.Duration) time.Duration {
	return min(lease, s.config.Poll) + time.Millisecond + rand.N(20*time.Millisecond)
}

func unstamped(gaps []gap, scanned int64, rows int) db.ListUnstampedParams {
	params := db.ListUnstampedParams{Scanned: scanned, MaxRows: int64(rows), GapFrom: make([]int64, len(gaps)), GapTo: make([]int64, len(gaps))}
	for n, g := range gaps {
		params.GapFrom[n], params.GapTo[n] = g.From, g.To
	}
	return params
}

// inVersionOrder sorts each incident's entries by version over the places that they hold in the batch; all
// else stays where it is. Ids drawn under the incident's lock rise with the version, so it has nothing to do,
// unless a writer drew several in one statement.
func inVersionOrder(entries []db.ListUnstampedRow) []db.ListUnstampedRow {
	type key struct {
		organisation int64
		incident     uuid.UUID
	}
	places := map[key][]int{}
	for n, e := range entries {
		k := key{e.OrganisationID, e.IncidentID}
		places[k] = append(places[k], n)
	}
	ordered := slices.Clone(entries)
	for _, held := range places {
		if len(held) == 1 {
			continue
		}
		own := make([]db.ListUnstampedRow, len(held))
		for n, place := range held {
			own[n] = entries[place]
		}
		slices.SortFunc(own, func(a, b db.ListUnstampedRow) int { return cmp.Compare(a.Version, b.Version) })
		for n, place := range held {
			ordered[place] = own[n]
		}
	}
	return ordered
}

// sameJSON compares gaps as encoded here with gaps as the database spells them.
func sameJSON(encoded, stored []byte) bool {
	was, err := decodeGaps(stored)
	if err != nil {
		return false
	}
	again, err := json.Marshal(was)
	return err == nil && bytes.Equal(again, encoded)
}

// trouble paces the attempts of a loop while the database is away, and tells of it twice: when it begins and
// when it is over.
type trouble struct {
	what    string
	logger  *slog.Logger
	counter interface{ Inc() }
	since   time.Time // zero while all is well
	next    time.Duration
}

const (
	shortestPause = 50 * time.Millisecond
	longestPause  = time.Second
)

func newTrouble(what string, logger *slog.Logger, counter interface{ Inc() }) *trouble {
	return &trouble{what: what, logger: logger, counter: counter, next: shortestPause}
}

// pause returns how long to wait after a failure: from 50 ms, doubling to 1 s, up to a half of it by chance.
func (t *trouble) pause(err error) time.Duration {
	t.counter.Inc()
	if t.since.IsZero() {
		t.since = time.Now()
		level := slog.LevelError
		if postgres.IsUnavailable(err) || postgres.IsTimeout(err) || postgres.IsRetryable(err) {
			level = slog.LevelWarn
		}
		t.logger.Log(context.Background(), level, t.what+" failed, trying again until it works", "error", err)
	}
	pause := t.next/2 + rand.N(t.next/2)
	t.next = min(2*t.next, longestPause)
	return pause
}

// over tells that the loop works again.
func (t *trouble) over() {
	if t.since.IsZero() {
		return
	}
	t.logger.Info(t.what+" works again", "after", time.Since(t.since).Round(time.Millisecond))
	t.since, t.next = time.Time{}, shortestPause
}

package inboundtest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/sync/inbound"
	"liaison/sync/inbound/internal/db"
)

// Bench is an empty inbox with the systems 1 and 2, and what the suite needs to move it.
type Bench struct {
	Store  inbound.Store
	Expire func()            // ends every lease
	Pause  func(paused bool) // stops system 1, or lets it go on
}

// Suite checks that a store keeps what hooks, reader and poller rely on.
func Suite(t *testing.T, open func(t *testing.T) Bench) {
	t.Helper()
	for name, check := range map[string]func(*box){
		"a hint is leased once, then fenced":               hintLeases,
		"hints about one ticket come together":             together,
		"a ticket that waits is not written again":         notAgain,
		"what a call repeats is found":                     repeats,
		"a poll is leased once and its cursor fenced":      pollLeases,
		"a cursor moves only with what was found up to it": cursorWhole,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(&box{T: t, Bench: open(t), now: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)})
		})
	}
}

// box is one check's bench.
type box struct {
	*testing.T
	Bench

	now time.Time
}

func (b *box) do(fn func(db.Querier) error) {
	b.Helper()
	if err := b.Store.System(b.Context(), fn); err != nil {
		b.Fatal(err)
	}
}

func (b *box) insert(ticket string, digest byte) uuid.UUID {
	b.Helper()
	id := uuid.Must(uuid.NewV7())
	b.do(func(q db.Querier) error {
		return q.InsertInbox(b.Context(), db.InsertInboxParams{ID: id, SystemID: 1, Source: "WEBHOOK", Digest: []byte{digest}, ExternalID: ticket, Body: []byte("{}"), State: "WAITING", At: b.now})
	})
	b.now = b.now.Add(time.Second)
	return id
}

func (b *box) lease(want int) []db.LeaseInboxRow {
	b.Helper()
	var rows []db.LeaseInboxRow
	b.do(func(q db.Querier) (err error) {
		rows, err = q.LeaseInbox(b.Context(), db.LeaseInboxParams{SystemID: 1, At: b.now, Most: 2, LeaseSeconds: 60})
		return err
	})
	if len(rows) != want {
		b.Fatalf("%d hints are due, want %d", len(rows), want)
	}
	return rows
}

func (b *box) settle(r db.LeaseInboxRow, state string) int64 {
	b.Helper()
	var n int64
	b.do(func(q db.Querier) (err error) {
		n, err = q.SettleInbox(b.Context(), db.SettleInboxParams{State: state, SettledAt: &b.now, Ids: []uuid.UUID{r.ID}, Received: []time.Time{r.ReceivedAt}, Tokens: []int64{r.LeaseToken}})
		return err
	})
	return n
}

func (b *box) postpone(r db.LeaseInboxRow, due time.Time, attempts int32) int64 {
	b.Helper()
	var n int64
	b.do(func(q db.Querier) (err error) {
		n, err = q.PostponeInbox(b.Context(), db.PostponeInboxParams{DueAt: due, Attempts: attempts, Ids: []uuid.UUID{r.ID}, Received: []time.Time{r.ReceivedAt}, Tokens: []int64{r.LeaseToken}})
		return err
	})
	return n
}

func hintLeases(b *box) {
	b.insert("T1", 1)
	b.Pause(true)
	b.lease(0)
	b.Pause(false)
	lost := b.lease(1)[0]
	b.lease(0)
	b.Expire()
	held := b.lease(1)[0]
	if held.ID != lost.ID || held.LeaseToken <= lost.LeaseToken {
		b.Errorf("taken over: %+v after %+v", held, lost)
	}
	if n := b.settle(lost, "DONE") + b.postpone(lost, b.now, 9); n != 0 {
		b.Errorf("somebody past the fence wrote %d rows", n)
	}
	b.do(func(q db.Querier) error {
		return q.RenewInbox(b.Context(), db.RenewInboxParams{LeaseSeconds: 60, Ids: []uuid.UUID{lost.ID}, Received: []time.Time{lost.ReceivedAt}, Tokens: []int64{lost.LeaseToken}})
	})
	if n := b.postpone(held, b.now.Add(time.Hour), 3); n != 1 {
		b.Errorf("the holder put off %d rows", n)
	}
	b.lease(0) // not due
	b.now = b.now.Add(2 * time.Hour)
	held = b.lease(1)[0]
	if held.Attempts != 3 {
		b.Errorf("after three tries there are %d", held.Attempts)
	}
	if n := b.settle(held, "DONE"); n != 1 {
		b.Errorf("the holder settled %d rows", n)
	}
	b.Expire()
	b.lease(0)
}

func together(b *box) {
	for _, ticket := range []string{"T1", "T2", "T3", "T1", "T2"} {
		b.insert(ticket, 1)
	}
	seen := map[string]int{}
	for _, r := range b.lease(4) { // two at most, and what else waits about the same tickets
		seen[r.ExternalID]++
	}
	if seen["T1"] != 2 || seen["T2"] != 2 {
		b.Errorf("leased %v, want the longest due tickets with all that waits about them", seen)
	}
	b.lease(1)
}

func notAgain(b *box) {
	hints := func(want int) {
		b.Helper()
		b.do(func(q db.Querier) error {
			return q.InsertHints(b.Context(), db.InsertHintsParams{SystemID: 1, Source: "POLL", ExternalIds: []string{"T1"}, At: b.now})
		})
		b.Expire()
		b.now = b.now.Add(time.Second)
		b.lease(want)
	}
	b.insert("T1", 1)
	hints(1)
	// It is leased now: its read may have been made before the change that the next hint speaks of.
	b.do(func(q db.Querier) error {
		return q.InsertHints(b.Context(), db.InsertHintsParams{SystemID: 1, Source: "POLL", ExternalIds: []string{"T1"}, At: b.now})
	})
	if r := b.lease(1)[0]; r.Source != "POLL" {
		b.Errorf("the second hint is %+v", r)
	}
}

func repeats(b *box) {
	id := b.insert("T1", 7)
	find := func(call string, digest byte) db.FindRepeatsRow {
		b.Helper()
		var row db.FindRepeatsRow
		b.do(func(q db.Querier) (err error) {
			row, err = q.FindRepeats(b.Context(), db.FindRepeatsParams{SystemID: 1, CallID: call, Digest: []byte{digest}})
			return err
		})
		return row
	}
	for range 2 {
		b.do(func(q db.Querier) error {
			return q.RememberCall(b.Context(), db.RememberCallParams{SystemID: 1, CallID: "c1", Digest: []byte{7}, InboxID: id, At: b.now})
		})
	}
	for what, c := range map[string]struct {
		got, want db.FindRepeatsRow
	}{
		"the same call":             {find("c1", 7), db.FindRepeatsRow{SameCall: id, SameContent: id, Tickets: 1}},
		"another content":           {find("c1", 8), db.FindRepeatsRow{SameID: true}},
		"the same content":          {find("c2", 7), db.FindRepeatsRow{SameContent: id, Tickets: 1}},
		"neither":                   {find("c2", 8), db.FindRepeatsRow{}},
		"no id, the same content":   {find("", 7), db.FindRepeatsRow{SameContent: id, Tickets: 1}},
		"no id and another content": {find("", 8), db.FindRepeatsRow{}},
	} {
		if c.got != c.want {
			b.Errorf("%s: %+v, want %+v", what, c.got, c.want)
		}
	}
	b.lease(1)
	if r := find("c2", 7); r.SameContent != uuid.Nil {
		b.Errorf("a row that is being acted upon answers a later call: %+v", r)
	}
}

func (b *box) poll() (db.LeasePollRow, error) {
	var row db.LeasePollRow
	err := b.Store.System(b.Context(), func(q db.Querier) (err error) {
		if err := q.EnsurePoll(b.Context(), 1); err != nil {
			return err
		}
		row, err = q.LeasePoll(b.Context(), db.LeasePollParams{SystemID: 1, At: b.now, LeaseSeconds: 60})
		return err
	})
	return row, err
}

func (b *box) place(r db.LeasePollRow, cursor string) int64 {
	b.Helper()
	var n int64
	b.do(func(q db.Querier) (err error) {
		n, err = q.SettlePoll(b.Context(), db.SettlePollParams{SystemID: 1, LeaseToken: r.LeaseToken, Cursor: cursor, DueAt: b.now.Add(time.Minute), Failures: 2})
		return err
	})
	return n
}

func pollLeases(b *box) {
	lost, err := b.poll()
	if err != nil || lost.Cursor != "" || lost.Failures != 0 {
		b.Fatalf("the first poll: %+v %v", lost, err)
	}
	if _, err := b.poll(); !errors.Is(err, pgx.ErrNoRows) {
		b.Errorf("a leased poll was leased again: %v", err)
	}
	b.Expire()
	held, err := b.poll()
	if err != nil {
		b.Fatal(err)
	}
	if n := b.place(lost, "stale"); n != 0 {
		b.Error("a cursor was moved under a lost lease")
	}
	var renewed int64
	b.do(func(q db.Querier) (err error) {
		renewed, err = q.RenewPoll(b.Context(), db.RenewPollParams{SystemID: 1, LeaseToken: lost.LeaseToken, LeaseSeconds: 60})
		return err
	})
	b.do(func(q db.Querier) error { // a page of several
		n, err := q.SettlePoll(b.Context(), db.SettlePollParams{SystemID: 1, LeaseToken: held.LeaseToken, Cursor: "c0", DueAt: b.now, More: true})
		if err == nil && n != 1 {
			b.Errorf("the holder moved %d cursors between two pages", n)
		}
		return err
	})
	if _, err := b.poll(); !errors.Is(err, pgx.ErrNoRows) {
		b.Errorf("a poll was leased again between two of its pages: %v", err)
	}
	if n := b.place(held, "c1"); n != 1 || renewed != 0 {
		b.Errorf("the holder moved %d cursors, the other renewed %d leases", n, renewed)
	}
	if _, err := b.poll(); !errors.Is(err, pgx.ErrNoRows) {
		b.Errorf("a poll that is not due was leased: %v", err)
	}
	b.now = b.now.Add(time.Hour)
	next, err := b.poll()
	if err != nil || next.Cursor != "c1" || next.Failures != 2 {
		b.Errorf("the next poll: %+v %v", next, err)
	}
	leave := func(r db.LeasePollRow, cursor string) {
		b.do(func(q db.Querier) error {
			return q.LeavePoll(b.Context(), db.LeavePollParams{SystemID: 1, LeaseToken: r.LeaseToken, Cursor: cursor})
		})
	}
	leave(held, "stale") // its lease is over
	if _, err := b.poll(); !errors.Is(err, pgx.ErrNoRows) {
		b.Errorf("a poll was given back by one who had lost it: %v", err)
	}
	leave(next, "c2")
	if next, err = b.poll(); err != nil || next.Cursor != "c2" || next.Failures != 2 {
		b.Errorf("a poll that was given back: %+v %v", next, err)
	}
}

func cursorWhole(b *box) {
	held, err := b.poll()
	if err != nil {
		b.Fatal(err)
	}
	cut := errors.New("cut off")
	err = b.Store.System(b.Context(), func(q db.Querier) error {
		if err := q.InsertHints(b.Context(), db.InsertHintsParams{SystemID: 1, Source: "POLL", ExternalIds: []string{"T1"}, At: b.now}); err != nil {
			return err
		}
		if _, err := q.SettlePoll(b.Context(), db.SettlePollParams{SystemID: 1, LeaseToken: held.LeaseToken, Cursor: "c9", DueAt: b.now}); err != nil {
			return err
		}
		return fmt.Errorf("before the commit: %w", cut)
	})
	if !errors.Is(err, cut) {
		b.Errorf("a transaction that fails: %v", err)
	}
	b.lease(0)
	b.Expire()
	if next, err := b.poll(); err != nil || next.Cursor != "" {
		b.Errorf("after it the cursor is %q: %v", next.Cursor, err)
	}
}

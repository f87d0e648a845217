package inboundtest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/internal/incident"
	"liaison/sync/inbound"
	"liaison/sync/inbound/internal/db"
	"liaison/sync/ledger/ledgertest/memstore"
)

// Memory is an inbox in memory.
type Memory struct {
	clock  func() time.Time
	paused func(incident.SystemID) bool

	store  memstore.Store
	tokens int64
	made   uint64
	inbox  memstore.Table[uuid.UUID, row]
	seen   memstore.Table[seenKey, call]
	polls  memstore.Table[int64, poll]
}

// row is a row of the table inbox.
type row struct {
	ID             uuid.UUID
	SystemID       int64
	Source         string
	CallID         string
	Digest         []byte
	OrganisationID *int64
	LinkID         uuid.NullUUID
	ExternalID     string
	Number         string
	Version        string
	Body           []byte
	ContentType    string
	State          string
	DuplicateOf    uuid.NullUUID
	Reason         string
	Entries        int32
	Attempts       int32
	DueAt          time.Time
	LeaseUntil     time.Time // zero: -infinity
	LeaseToken     int64
	ReceivedAt     time.Time
	SettledAt      *time.Time
	Trace          string
}

// call is a row of the table inbox_seen.
type call struct {
	SystemID   int64
	CallID     string
	Digest     []byte
	InboxID    uuid.UUID
	ReceivedAt time.Time
}

// poll is a row of the table poll.
type poll struct {
	SystemID   int64
	Cursor     string
	DueAt      time.Time
	LeaseUntil time.Time
	LeaseToken int64
	LastOkAt   *time.Time
	Failures   int32
	LastError  string
}

type seenKey struct {
	system int64
	call   string
}

// NewMemory returns an empty inbox. clock is the database's clock, by which leases end; paused says which systems are
// left alone, nil: none.
func NewMemory(clock func() time.Time, paused func(incident.SystemID) bool) *Memory {
	if paused == nil {
		paused = func(incident.SystemID) bool { return false }
	}
	return &Memory{clock: clock, paused: paused}
}

// Through returns the store as a client behind a gate reaches it.
func (m *Memory) Through(g memstore.Gate) inbound.Store { return client{m, g} }

type client struct {
	memory *Memory
	gate   memstore.Gate
}

func (c client) System(ctx context.Context, fn func(db.Querier) error) error {
	return c.memory.store.Run(ctx, c.gate, func(t *memstore.Tx) error { return fn(&tx{Tx: t, memory: c.memory}) })
}

// tx is a transaction with its statements.
type tx struct {
	*memstore.Tx
	db.Querier // nil: replays and upkeep are asked of Postgres

	memory *Memory
}

func (t *tx) begin(ctx context.Context, statement, on string) error {
	return t.Begin(ctx, statement, func() string { return on })
}

func systemName(id int64) string { return "system " + strconv.FormatInt(id, 10) }

func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func stampPtr(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	out := stamp(*t)
	return &out
}

// until is the end of a lease that begins now.
func (t *tx) until(seconds float64) time.Time {
	return t.memory.clock().Add(time.Duration(seconds * float64(time.Second)))
}

// ended reports whether a lease is over; the zero time is -infinity.
func (t *tx) ended(until time.Time) bool { return until.Before(t.memory.clock()) }

func (t *tx) fresh() uuid.UUID {
	t.memory.made++
	var id uuid.UUID
	id[0], id[6], id[8] = 0x1b, 0x40, 0x80
	for n := range 6 {
		id[15-n] = byte(t.memory.made >> (8 * n))
	}
	return id
}

// LockContent has nothing to do: transactions happen one after the other.
func (t *tx) LockContent(ctx context.Context, p db.LockContentParams) error {
	return t.begin(ctx, "LockContent", systemName(int64(p.Class)))
}

func (t *tx) FindRepeats(ctx context.Context, p db.FindRepeatsParams) (db.FindRepeatsRow, error) {
	var out db.FindRepeatsRow
	if err := t.begin(ctx, "FindRepeats", systemName(p.SystemID)); err != nil {
		return out, err
	}
	if seen, ok := t.memory.seen.Get(seenKey{p.SystemID, p.CallID}); ok && p.CallID != "" {
		if bytes.Equal(seen.Digest, p.Digest) {
			out.SameCall = seen.InboxID
		} else {
			out.SameID = true
		}
	}
	var first time.Time
	tickets := map[[2]string]bool{}
	for id, r := range t.memory.inbox.All {
		if r.SystemID != p.SystemID || !bytes.Equal(r.Digest, p.Digest) || r.State != "WAITING" || !t.ended(r.LeaseUntil) {
			continue
		}
		tickets[[2]string{r.ExternalID, r.Number}] = true
		if out.SameContent == uuid.Nil || r.ReceivedAt.Before(first) {
			out.SameContent, first = id, r.ReceivedAt
		}
	}
	out.Tickets = int64(len(tickets))
	return out, nil
}

func (t *tx) InsertInbox(ctx context.Context, p db.InsertInboxParams) error {
	if err := t.begin(ctx, "InsertInbox", p.ExternalID+p.Number); err != nil {
		return err
	}
	t.memory.inbox.Put(t.Tx, p.ID, row{
		ID: p.ID, SystemID: p.SystemID, Source: p.Source, CallID: p.CallID, Digest: bytes.Clone(p.Digest), ExternalID: p.ExternalID, Number: p.Number,
		Version: p.Version, Body: bytes.Clone(p.Body), ContentType: p.ContentType, State: p.State, DuplicateOf: p.DuplicateOf, Reason: p.Reason,
		DueAt: stamp(p.At), ReceivedAt: stamp(p.At), SettledAt: stampPtr(p.SettledAt), Trace: p.Trace,
	})
	return nil
}

func (t *tx) RememberCall(ctx context.Context, p db.RememberCallParams) error {
	if err := t.begin(ctx, "RememberCall", p.CallID); err != nil {
		return err
	}
	k := seenKey{p.SystemID, p.CallID}
	if _, there := t.memory.seen.Get(k); !there {
		t.memory.seen.Put(t.Tx, k, call{SystemID: p.SystemID, CallID: p.CallID, Digest: bytes.Clone(p.Digest), InboxID: p.InboxID, ReceivedAt: stamp(p.At)})
	}
	return nil
}

func (t *tx) InsertHints(ctx context.Context, p db.InsertHintsParams) error {
	if err := t.begin(ctx, "InsertHints", systemName(p.SystemID)); err != nil {
		return err
	}
	waits := map[string]bool{}
	for _, r := range t.memory.inbox.All {
		if r.SystemID == p.SystemID && r.State == "WAITING" && t.ended(r.LeaseUntil) {
			waits[r.ExternalID] = true
		}
	}
	for _, external := range p.ExternalIds {
		if waits[external] {
			continue
		}
		id := t.fresh()
		t.memory.inbox.Put(t.Tx, id, row{
			ID: id, SystemID: p.SystemID, Source: p.Source, ExternalID: external, State: "WAITING", DueAt: stamp(p.At), ReceivedAt: stamp(p.At),
		})
	}
	return nil
}

func (t *tx) LeaseInbox(ctx context.Context, p db.LeaseInboxParams) ([]db.LeaseInboxRow, error) {
	if err := t.begin(ctx, "LeaseInbox", systemName(p.SystemID)); err != nil {
		return nil, err
	}
	if t.memory.paused(incident.SystemID(p.SystemID)) {
		return nil, nil
	}
	var waiting, due []row
	for _, r := range t.memory.inbox.All {
		if r.SystemID == p.SystemID && r.State == "WAITING" && t.ended(r.LeaseUntil) {
			waiting = append(waiting, r)
			if !r.DueAt.After(p.At) {
				due = append(due, r)
			}
		}
	}
	slices.SortStableFunc(due, func(a, b row) int { return a.DueAt.Compare(b.DueAt) })
	due = due[:min(len(due), int(p.Most))]
	taken, tickets := map[uuid.UUID]bool{}, map[string]bool{}
	for _, r := range due {
		taken[r.ID] = true
		if r.ExternalID != "" {
			tickets[r.ExternalID] = true
		}
	}
	beside := 0
	for _, r := range waiting {
		if tickets[r.ExternalID] && !taken[r.ID] && beside < 1000 {
			due, beside = append(due, r), beside+1
		}
	}
	out := make([]db.LeaseInboxRow, len(due))
	for n, r := range due {
		t.memory.tokens++ // a sequence is not rolled back
		r.LeaseUntil, r.LeaseToken = t.until(p.LeaseSeconds), t.memory.tokens
		t.memory.inbox.Put(t.Tx, r.ID, r)
		out[n] = db.LeaseInboxRow{
			ID: r.ID, Source: r.Source, ExternalID: r.ExternalID, Number: r.Number, Version: r.Version, Attempts: r.Attempts,
			LeaseToken: r.LeaseToken, ReceivedAt: r.ReceivedAt, Trace: r.Trace,
		}
	}
	return out, nil
}

// held changes the rows that bear the given tokens and returns how many they were.
func (t *tx) held(ids []uuid.UUID, tokens []int64, change func(*row)) int64 {
	var n int64
	for at, id := range ids {
		if r, ok := t.memory.inbox.Get(id); ok && r.LeaseToken == tokens[at] {
			change(&r)
			t.memory.inbox.Put(t.Tx, id, r)
			n++
		}
	}
	return n
}

func (t *tx) RenewInbox(ctx context.Context, p db.RenewInboxParams) error {
	if err := t.begin(ctx, "RenewInbox", ""); err != nil {
		return err
	}
	t.held(p.Ids, p.Tokens, func(r *row) {
		if !r.LeaseUntil.IsZero() {
			r.LeaseUntil = t.until(p.LeaseSeconds)
		}
	})
	return nil
}

// about names what rows speak of: their ticket.
func (t *tx) about(ids []uuid.UUID) string {
	name := ""
	t.memory.peek(func() {
		if len(ids) > 0 {
			r, _ := t.memory.inbox.Get(ids[0])
			name = r.ExternalID + r.Number
		}
	})
	return name
}

// peek looks at rows before a transaction begins.
func (m *Memory) peek(fn func()) { m.store.Look(fn) }

func (t *tx) SettleInbox(ctx context.Context, p db.SettleInboxParams) (int64, error) {
	if err := t.Begin(ctx, "SettleInbox", func() string { return t.about(p.Ids) }); err != nil {
		return 0, err
	}
	return t.held(p.Ids, p.Tokens, func(r *row) {
		r.State, r.Reason, r.OrganisationID, r.LinkID, r.Entries = p.State, p.Reason, p.OrganisationID, p.LinkID, p.Entries
		r.Attempts++
		r.SettledAt, r.LeaseUntil = stampPtr(p.SettledAt), time.Time{}
	}), nil
}

func (t *tx) PostponeInbox(ctx context.Context, p db.PostponeInboxParams) (int64, error) {
	if err := t.Begin(ctx, "PostponeInbox", func() string { return t.about(p.Ids) }); err != nil {
		return 0, err
	}
	return t.held(p.Ids, p.Tokens, func(r *row) {
		r.DueAt, r.Attempts, r.Reason, r.LeaseUntil = stamp(p.DueAt), p.Attempts, p.Reason, time.Time{}
	}), nil
}

func (t *tx) EnsurePoll(ctx context.Context, system int64) error {
	if err := t.begin(ctx, "EnsurePoll", systemName(system)); err != nil {
		return err
	}
	if _, there := t.memory.polls.Get(system); !there {
		t.memory.polls.Put(t.Tx, system, poll{SystemID: system})
	}
	return nil
}

func (t *tx) LeasePoll(ctx context.Context, p db.LeasePollParams) (db.LeasePollRow, error) {
	if err := t.begin(ctx, "LeasePoll", systemName(p.SystemID)); err != nil {
		return db.LeasePollRow{}, err
	}
	r, ok := t.memory.polls.Get(p.SystemID)
	if !ok || r.DueAt.After(p.At) || !t.ended(r.LeaseUntil) || t.memory.paused(incident.SystemID(p.SystemID)) {
		return db.LeasePollRow{}, pgx.ErrNoRows
	}
	t.memory.tokens++
	r.LeaseUntil, r.LeaseToken = t.until(p.LeaseSeconds), t.memory.tokens
	t.memory.polls.Put(t.Tx, p.SystemID, r)
	return db.LeasePollRow{Cursor: r.Cursor, LeaseToken: r.LeaseToken, Failures: r.Failures}, nil
}

func (t *tx) RenewPoll(ctx context.Context, p db.RenewPollParams) (int64, error) {
	if err := t.begin(ctx, "RenewPoll", systemName(p.SystemID)); err != nil {
		return 0, err
	}
	r, ok := t.memory.polls.Get(p.SystemID)
	if !ok || r.LeaseToken != p.LeaseToken || r.LeaseUntil.IsZero() {
		return 0, nil
	}
	r.LeaseUntil = t.until(p.LeaseSeconds)
	t.memory.polls.Put(t.Tx, p.SystemID, r)
	return 1, nil
}

func (t *tx) SettlePoll(ctx context.Context, p db.SettlePollParams) (int64, error) {
	if err := t.begin(ctx, "SettlePoll", systemName(p.SystemID)); err != nil {
		return 0, err
	}
	r, ok := t.memory.polls.Get(p.SystemID)
	if !ok || r.LeaseToken != p.LeaseToken {
		return 0, nil
	}
	r.Cursor, r.DueAt, r.Failures, r.LastError = p.Cursor, stamp(p.DueAt), p.Failures, p.LastError
	if !p.More {
		r.LeaseUntil = time.Time{}
	}
	if p.LastOkAt != nil {
		r.LastOkAt = stampPtr(p.LastOkAt)
	}
	t.memory.polls.Put(t.Tx, p.SystemID, r)
	return 1, nil
}

func (t *tx) LeavePoll(ctx context.Context, p db.LeavePollParams) error {
	if err := t.begin(ctx, "LeavePoll", systemName(p.SystemID)); err != nil {
		return err
	}
	if r, ok := t.memory.polls.Get(p.SystemID); ok && r.LeaseToken == p.LeaseToken {
		r.Cursor, r.LeaseUntil = p.Cursor, time.Time{}
		t.memory.polls.Put(t.Tx, p.SystemID, r)
	}
	return nil
}

// Row is a row of the inbox, for those who check what became of it.
type Row struct {
	System     incident.SystemID
	Source     string
	ExternalID string
	Number     string
	State      string
	Reason     string
	Attempts   int
	Due        time.Time
	Taken      bool // a lease was taken and not given back, whether or not it has ended
}

func (r Row) String() string {
	return fmt.Sprintf("%s %s%s %s (%s), %d tries", r.Source, r.ExternalID, r.Number, r.State, r.Reason, r.Attempts)
}

// Rows returns the inbox in the order of arrival.
func (m *Memory) Rows() []Row {
	var out []Row
	m.store.Look(func() {
		for _, r := range m.inbox.All {
			out = append(out, Row{
				System: incident.SystemID(r.SystemID), Source: r.Source, ExternalID: r.ExternalID, Number: r.Number, State: r.State, Reason: r.Reason,
				Attempts: int(r.Attempts), Due: r.DueAt, Taken: !r.LeaseUntil.IsZero(),
			})
		}
	})
	return out
}

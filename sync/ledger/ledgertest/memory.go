package ledgertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/ledger/internal/db"
	"liaison/sync/ledger/ledgertest/memstore"
)

// System is an external system and the organisations that may use it.
type System struct {
	ID            incident.SystemID
	Key           string
	Organisations []incident.OrganisationID
}

// Memory is a ledger's store in memory.
type Memory struct {
	clock func() time.Time

	store    memstore.Store
	systems  []System
	paused   map[int64]bool
	numbers  int64
	tokens   int64
	entryIDs int64
	made     uint64
	names    sync.Map // of uuid.UUID to string
	unfenced []string

	incidents  memstore.Table[uuid.UUID, db.Incident]
	entries    memstore.Table[entryKey, db.LedgerEntry]
	comments   memstore.Table[uuid.UUID, db.Comment]
	links      memstore.Table[uuid.UUID, db.ExternalLink]
	lanes      memstore.Table[uuid.UUID, db.Lane]
	deliveries memstore.Table[uuid.UUID, db.Delivery]
	copies     memstore.Table[copyKey, db.CommentCopy]
	keys       memstore.Table[keyKey, db.Idempotency]
	conflicts  memstore.Table[uuid.UUID, db.Conflict]
}

type entryKey struct {
	incident uuid.UUID
	version  int64
}

type copyKey struct {
	link     uuid.UUID
	external string
}

type keyKey struct {
	organisation int64
	subject, key string
}

// NewMemory returns an empty store with the given systems. clock is the database's clock, by which leases end.
func NewMemory(clock func() time.Time, systems ...System) *Memory {
	return &Memory{clock: clock, systems: systems, paused: map[int64]bool{}}
}

// Through returns the store as a client behind a gate reaches it.
func (m *Memory) Through(g memstore.Gate) ledger.Store { return client{m, g} }

// Pause stops a system's lanes, or lets them go on.
func (m *Memory) Pause(system incident.SystemID, paused bool) {
	m.store.Look(func() { m.paused[int64(system)] = paused })
}

// Name returns what a gate is told of a row: "incident 2", "link 3"; a correlation id has its link's name. What the
// store has never seen is "".
func (m *Memory) Name(id uuid.UUID) string {
	name, _ := m.names.Load(id)
	s, _ := name.(string)
	return s
}

// client is one client's way to the store.
type client struct {
	memory *Memory
	gate   memstore.Gate
}

func (c client) System(ctx context.Context, fn func(db.Querier) error) error {
	return c.run(ctx, nil, fn)
}

func (c client) Viewer(ctx context.Context, v auth.Viewer, fn func(db.Querier) error) error {
	return c.run(ctx, &v, fn)
}

func (c client) run(ctx context.Context, v *auth.Viewer, fn func(db.Querier) error) error {
	return c.memory.store.Run(ctx, c.gate, func(t *memstore.Tx) error { return fn(&tx{Tx: t, memory: c.memory, viewer: v}) })
}

// tx is a transaction with its statements.
type tx struct {
	*memstore.Tx
	db.Querier // nil: pages of what people read are asked of Postgres

	memory *Memory
	viewer *auth.Viewer // nil: every right
	fenced map[uuid.UUID]bool
}

// begin comes before every statement. on is the id of the row that it is about, or anything that names it.
func (t *tx) begin(ctx context.Context, statement string, on any) error {
	return t.Begin(ctx, statement, func() string {
		if id, ok := on.(uuid.UUID); ok {
			return t.memory.Name(id)
		}
		return fmt.Sprint(on)
	})
}

func (t *tx) sees(organisation int64) bool {
	return t.viewer == nil || t.viewer.Sees(incident.OrganisationID(organisation))
}

func (t *tx) reads(organisation int64, visibility string) bool {
	return t.sees(organisation) && (t.viewer == nil || visibility == string(incident.Public) || t.viewer.Staff())
}

// Unfenced lists the writes to links and lanes in transactions of no person that had not proven their lease: there must
// be none.
func (m *Memory) Unfenced() []string {
	var out []string
	m.store.Look(func() { out = slices.Clone(m.unfenced) })
	return out
}

// proven notes that a transaction has shown a lane's token, which nobody can take from it before it ends.
func (t *tx) proven(link uuid.UUID) {
	if t.fenced == nil {
		t.fenced = map[uuid.UUID]bool{}
	}
	t.fenced[link] = true
}

func (t *tx) needsFence(statement string, link uuid.UUID) {
	if t.viewer == nil && !t.fenced[link] {
		t.memory.unfenced = append(t.memory.unfenced, statement+" "+t.memory.Name(link))
	}
}

func (m *Memory) name(id uuid.UUID, name string) { m.names.Store(id, name) }

// fresh is gen_random_uuid, in an order of its own.
func (m *Memory) fresh() uuid.UUID {
	m.made++
	var id uuid.UUID
	id[6], id[8] = 0x40, 0x80
	for n := range 6 {
		id[15-n] = byte(m.made >> (8 * n))
	}
	return id
}

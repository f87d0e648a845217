package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/auth"
	"liaison/internal/postgres"
	"liaison/sync/ledger/internal/db"
)

// Topics that the ledger rings after a commit, never inside a transaction.
const (
	TopicEntries = "entries" // an entry was committed: the sequencer has work
	TopicLanes   = "lanes"   // a delivery waits
)

// Bell wakes those who wait for work. A ring is a hint and never data.
type Bell interface{ Ring(topic string) }

// Store is where the ledger's rows lie: each call is one transaction, which happens whole or not at all, and which may
// be run again. Postgres is the only store of record; ledgertest has one in memory, for tests of the sync's
// decisions by the ten thousand, that passes the same suite.
type Store interface {
	// System runs fn with every right.
	System(ctx context.Context, fn func(db.Querier) error) error
	// Viewer runs fn with what a signed-in person may see and do.
	Viewer(ctx context.Context, v auth.Viewer, fn func(db.Querier) error) error
}

// Ledger is the one door.
type Ledger struct {
	store   Store
	bell    Bell
	now     func() time.Time
	settles group[settling]
	marks   group[marking]
}

// New returns the ledger in a database. now gives the time of everything but leases.
func New(d *postgres.DB, bell Bell, now func() time.Time) *Ledger {
	return Over(Rows(d), bell, now)
}

// Rows returns the store of record.
func Rows(d *postgres.DB) Store { return rows{d} }

// Over returns the ledger in a store.
func Over(s Store, bell Bell, now func() time.Time) *Ledger {
	l := &Ledger{store: s, bell: bell, now: func() time.Time { return now().UTC().Truncate(time.Microsecond) }}
	l.settles.carry, l.marks.carry = l.settleMany, l.noteMany
	return l
}

// retries is how often a transaction is repeated when Postgres asks for it.
const retries = 5

// rows is the store of record.
type rows struct{ db *postgres.DB }

func (r rows) System(ctx context.Context, fn func(db.Querier) error) error {
	return r.db.SystemTx(ctx, func(tx pgx.Tx) error { return fn(db.New(tx)) }, postgres.Retry(retries))
}

func (r rows) Viewer(ctx context.Context, v auth.Viewer, fn func(db.Querier) error) error {
	return r.db.AppTx(ctx, v.Settings(), func(tx pgx.Tx) error { return fn(db.New(tx)) }, postgres.Retry(retries))
}

func (l *Ledger) system(ctx context.Context, fn func(db.Querier) error) error {
	return l.store.System(ctx, fn)
}

func (e *VersionConflict) Error() string {
	return fmt.Sprintf("the incident is at version %d, not %d: it has changed meanwhile", e.Actual, e.Expected)
}

func (e *KeyReused) Error() string {
	return fmt.Sprintf("idempotency key %q was used before with a different input", e.Key)
}

func (e *SystemUnknown) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("system %q may not be used for this incident, and no other may", e.System)
	}
	return fmt.Sprintf("system %q may not be used for this incident; use one of %s", e.System, strings.Join(e.Known, ", "))
}

func notFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

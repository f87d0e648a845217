package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

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

// Ledger is the one door.
type Ledger struct {
	db   *postgres.DB
	bell Bell
	now  func() time.Time
}

// New returns the ledger in a database. now gives the time of everything but leases.
func New(d *postgres.DB, bell Bell, now func() time.Time) *Ledger {
	return &Ledger{db: d, bell: bell, now: func() time.Time { return now().UTC().Truncate(time.Microsecond) }}
}

// retries is how often a transaction is repeated when Postgres asks for it.
const retries = 5

func (l *Ledger) system(ctx context.Context, fn func(*db.Queries) error) error {
	return l.db.SystemTx(ctx, func(tx pgx.Tx) error { return fn(db.New(tx)) }, postgres.Retry(retries))
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

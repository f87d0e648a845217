package inbound

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres"
	"liaison/sync/inbound/internal/db"
	"liaison/sync/ledger"
	"liaison/sync/system"
)

const (
	upkeepName = "inbox"
	day        = 24 * time.Hour
	// callsKept is for how long calls are known by their senders' ids: longer than vendors repeat them, and twice the seven
	// days that are promised.
	callsKept = 14 * day
	// ahead is how many months after the present one have their partition beforehand.
	ahead = 2
	// batch bounds the rows of one transaction of the upkeep.
	batch = 5000
)

// Retention is for how long what vendors sent is kept. Rows that wait or are parked are kept whatever their age.
type Retention struct {
	Bodies time.Duration // default 30 days
	Rows   time.Duration // default 400 days; whole months go at once, as soon as their last row is older
}

// Keeper looks after the inbox once a day: it makes the coming months' partitions, puts bodies and rows away by age, and
// forgets calls' ids. Of several hubs one does it, under a lease; what a crash leaves undone is done by the next.
type Keeper struct {
	db   *postgres.DB
	keep Retention
	now  func() time.Time
	log  *slog.Logger
}

// NewKeeper returns a keeper. log may be nil.
func NewKeeper(d *postgres.DB, keep Retention, now func() time.Time, log *slog.Logger) *Keeper {
	if keep.Bodies <= 0 {
		keep.Bodies = 30 * day
	}
	if keep.Rows <= 0 {
		keep.Rows = 400 * day
	}
	if log == nil {
		log = slog.Default()
	}
	return &Keeper{db: d, keep: keep, now: now, log: log}
}

// Run keeps the inbox until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Minute)
	defer tick.Stop()
	for {
		if _, err := k.Step(ctx); err != nil && ctx.Err() == nil {
			k.log.WarnContext(ctx, "the inbox's upkeep failed; it is tried again in 10 minutes", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Kept is what the upkeep did.
type Kept struct {
	Done    bool     // false: it was not due, or another hub is at it
	Made    []string // partitions
	Dropped []string // partitions
	Cleared int64    // bodies
	Deleted int64    // rows that no dropped partition held
	Forgot  int64    // calls' ids
}

// Step does the upkeep if it is due.
func (k *Keeper) Step(ctx context.Context) (Kept, error) {
	var out Kept
	token, err := k.take(ctx)
	if err != nil || token == 0 {
		return out, err
	}
	held, release := system.Hold(ctx, func(ctx context.Context, lasts time.Duration) error { return k.renew(ctx, token, lasts) })
	err = k.all(held, &out)
	release()
	if err != nil {
		return out, err
	}
	out.Done = true
	return out, k.db.SystemTx(ctx, func(tx pgx.Tx) error {
		_, err := db.New(tx).DoneUpkeep(ctx, db.DoneUpkeepParams{Name: upkeepName, LeaseToken: token, At: k.now()})
		return err
	}, postgres.Retry(retries))
}

func (k *Keeper) take(ctx context.Context) (token int64, err error) {
	err = k.db.SystemTx(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		if err := q.PlaceUpkeep(ctx, upkeepName); err != nil {
			return err
		}
		tokens, err := q.TakeUpkeep(ctx, db.TakeUpkeepParams{Name: upkeepName, Before: k.now().Add(-23 * time.Hour), LeaseSeconds: system.Lease.Seconds()})
		if token = 0; len(tokens) > 0 {
			token = tokens[0]
		}
		return err
	}, postgres.Retry(retries))
	if err != nil {
		return 0, fmt.Errorf("leasing the inbox's upkeep: %w", err)
	}
	return token, nil
}

func (k *Keeper) renew(ctx context.Context, token int64, lasts time.Duration) error {
	return k.db.SystemTx(ctx, func(tx pgx.Tx) error {
		n, err := db.New(tx).RenewUpkeep(ctx, db.RenewUpkeepParams{Name: upkeepName, LeaseToken: token, LeaseSeconds: lasts.Seconds()})
		if err == nil && n == 0 {
			err = ledger.ErrFenced
		}
		return err
	}, postgres.Retry(retries))
}

func (k *Keeper) all(ctx context.Context, out *Kept) error {
	now := k.now().UTC()
	for n := range ahead + 1 {
		made, err := k.makeMonth(ctx, monthOf(now, n))
		if err != nil {
			return fmt.Errorf("making a month's partition: %w", err)
		}
		if made != "" {
			out.Made = append(out.Made, made)
		}
	}
	var err error
	if out.Cleared, err = k.inBatches(ctx, func(q *db.Queries) (int64, error) {
		return q.ClearBodies(ctx, db.ClearBodiesParams{Before: now.Add(-k.keep.Bodies), Most: batch})
	}); err != nil {
		return fmt.Errorf("putting bodies away: %w", err)
	}
	if out.Dropped, err = k.dropMonths(ctx, now.Add(-k.keep.Rows)); err != nil {
		return fmt.Errorf("dropping old months: %w", err)
	}
	if out.Deleted, err = k.inBatches(ctx, func(q *db.Queries) (int64, error) {
		return q.DeleteRows(ctx, db.DeleteRowsParams{Before: now.Add(-k.keep.Rows), Most: batch})
	}); err != nil {
		return fmt.Errorf("deleting old rows: %w", err)
	}
	if out.Forgot, err = k.inBatches(ctx, func(q *db.Queries) (int64, error) {
		return q.ForgetCalls(ctx, db.ForgetCallsParams{Before: now.Add(-callsKept), Most: batch})
	}); err != nil {
		return fmt.Errorf("forgetting calls: %w", err)
	}
	return nil
}

// inBatches repeats a statement, each time in a short transaction of its own, until it finds nothing more.
func (k *Keeper) inBatches(ctx context.Context, do func(*db.Queries) (int64, error)) (total int64, err error) {
	for {
		var n int64
		err := k.db.SystemTx(ctx, func(tx pgx.Tx) error {
			var err error
			n, err = do(db.New(tx))
			return err
		}, postgres.Retry(retries))
		total += n
		if err != nil || n < batch {
			return total, err
		}
	}
}

// month is a partition of the inbox.
type month struct {
	name     string
	from, to time.Time
}

func monthOf(t time.Time, later int) month {
	from := time.Date(t.Year(), t.Month()+time.Month(later), 1, 0, 0, 0, 0, time.UTC)
	return month{name: from.Format("inbox_2006_01"), from: from, to: from.AddDate(0, 1, 0)}
}

// patience bounds how long the upkeep's locks are waited for: webhooks would queue behind it.
const patience = `SET LOCAL lock_timeout = '1s'`

// makeMonth makes the partition of a month, unless there is one or rows of that month have come into the default one, where
// they stay. It returns its name if it was made.
func (k *Keeper) makeMonth(ctx context.Context, m month) (string, error) {
	made := ""
	err := k.db.SystemTx(ctx, func(tx pgx.Tx) error {
		made = ""
		var needed bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NULL AND NOT EXISTS (SELECT FROM inbox_rest WHERE received_at >= $2 AND received_at < $3)`, m.name, m.from, m.to).Scan(&needed); err != nil {
			return fmt.Errorf("looking for %s: %w", m.name, err)
		}
		if !needed {
			return nil
		}
		table := pgx.Identifier{m.name}.Sanitize()
		for _, sql := range []string{
			patience,
			`CREATE TABLE ` + table + ` (LIKE inbox INCLUDING ALL)`,
			`ALTER TABLE ` + table + ` ENABLE ROW LEVEL SECURITY`,
			`ALTER TABLE ` + table + ` FORCE ROW LEVEL SECURITY`,
			`CREATE POLICY background ON ` + table + ` TO liaison_system USING (true) WITH CHECK (true)`,
			`GRANT ALL ON ` + table + ` TO liaison_system`,
			// Attached, and not created in place: that locks the parent for a moment only, against nobody who reads or writes.
			fmt.Sprintf(`ALTER TABLE inbox ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')`, table, m.from.Format(time.RFC3339), m.to.Format(time.RFC3339)),
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("making %s: %w", m.name, err)
			}
		}
		made = m.name
		return nil
	})
	return made, err
}

// dropMonths drops the partitions that lie before cutoff whole and hold no row that waits or is parked.
func (k *Keeper) dropMonths(ctx context.Context, cutoff time.Time) ([]string, error) {
	rows, err := k.db.System.Query(ctx, `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'inbox'::regclass AND c.relname ~ '^inbox_[0-9]{4}_[0-9]{2}$' ORDER BY c.relname`)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	var dropped []string
	for _, name := range names {
		from, err := time.Parse("inbox_2006_01", name)
		if err != nil || monthOf(from, 0).to.After(cutoff) {
			continue
		}
		gone, err := k.dropMonth(ctx, name)
		if err != nil {
			return dropped, fmt.Errorf("dropping %s: %w", name, err)
		}
		if gone {
			dropped = append(dropped, name)
		}
	}
	return dropped, nil
}

func (k *Keeper) dropMonth(ctx context.Context, name string) (bool, error) {
	gone := false
	table := pgx.Identifier{name}.Sanitize()
	err := k.db.SystemTx(ctx, func(tx pgx.Tx) error {
		gone = false
		for _, sql := range []string{patience, `LOCK TABLE ONLY inbox, ` + table + ` IN ACCESS EXCLUSIVE MODE`} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		var needed bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM `+table+` WHERE state IN ('WAITING', 'PARKED'))`).Scan(&needed); err != nil || needed {
			return err
		}
		if _, err := tx.Exec(ctx, `DROP TABLE `+table); err != nil {
			return err
		}
		gone = true
		return nil
	})
	return gone, err
}

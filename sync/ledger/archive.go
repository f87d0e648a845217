package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres"
	"liaison/sync/ledger/internal/db"
)

// Archived is what one round of putting away did.
type Archived struct {
	Incidents int
	Entries   int64
	Months    int // of the archive that were dropped
}

// Archive puts away the entries of incidents that have been closed and untouched since before: a checkpoint takes their
// place, the archive keeps them, and an incident that is reopened later goes on from the checkpoint. It leaves alone what a
// subscriber may still come back for (the feed is trimmed first, see feed.Trim) and what a vendor has yet to hear.
//
// At most rounds incidents are put away, each in a transaction of its own; a crash leaves each of them whole on one side
// or the other. Any number of hubs may do it at once.
func (l *Ledger) Archive(ctx context.Context, d *postgres.DB, before time.Time, rounds int) (Archived, error) {
	var done Archived
	var due []db.IncidentsToArchiveRow
	err := d.SystemTx(ctx, func(tx pgx.Tx) (err error) {
		due, err = db.New(tx).IncidentsToArchive(ctx, db.IncidentsToArchiveParams{Before: before, MaxRows: int32(rounds)})
		return err
	}, postgres.ReadOnly())
	if err != nil {
		return done, fmt.Errorf("looking for incidents to put away: %w", err)
	}
	for _, row := range due {
		n, err := l.archive(ctx, d, keyOf(row.OrganisationID, row.ID))
		if err != nil {
			return done, fmt.Errorf("putting away incident %s: %w", row.ID, err)
		}
		if n > 0 {
			done.Incidents, done.Entries = done.Incidents+1, done.Entries+n
		}
	}
	if done.Incidents > 0 {
		l.bell.Ring(TopicEntries)
	}
	return done, nil
}

// errMoved ends the transaction of an incident that has changed since it was chosen.
var errMoved = errors.New("the incident has changed meanwhile")

func (l *Ledger) archive(ctx context.Context, d *postgres.DB, k IncidentKey) (int64, error) {
	var entries int64
	err := d.SystemTx(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		row, err := q.LockIncident(ctx, k.Incident.UUID)
		if err != nil {
			return fmt.Errorf("locking the incident: %w", notFound(err))
		}
		i := incidentOf(row)
		if !i.State.Final() || row.ArchivedVersion > 0 {
			return errMoved
		}
		o, id := int64(k.Organisation), k.Incident.UUID
		if err := monthsOf(ctx, tx, k); err != nil {
			return err
		}
		if entries, err = q.CopyToArchive(ctx, db.CopyToArchiveParams{OrganisationID: o, IncidentID: id, Version: i.Version}); err != nil {
			return fmt.Errorf("copying entries: %w", err)
		}
		if entries != i.Version {
			return fmt.Errorf("%d entries where the incident is at version %d; see liaison ledger verify", entries, i.Version)
		}
		n, err := q.Checkpoint(ctx, db.CheckpointParams{
			OrganisationID: o, IncidentID: id, Version: i.Version, At: l.now(), Detail: object(checkpoint{Values: i.Values(), Entries: entries}),
		})
		if err != nil {
			return fmt.Errorf("writing the checkpoint: %w", err)
		}
		if n != 1 {
			return errMoved
		}
		if _, err := q.DropDeliveries(ctx, db.DropDeliveriesParams{OrganisationID: o, IncidentID: id, Version: i.Version}); err != nil {
			return fmt.Errorf("dropping deliveries: %w", err)
		}
		if _, err := q.DropArchived(ctx, db.DropArchivedParams{OrganisationID: o, IncidentID: id, Version: i.Version}); err != nil {
			return fmt.Errorf("dropping entries: %w", err)
		}
		return nil
	}, postgres.Retry(retries))
	if errors.Is(err, errMoved) {
		return 0, nil
	}
	return entries, err
}

// monthsOf makes sure that the archive has a partition for each month in which the incident has entries, so that old
// months can be dropped whole.
func monthsOf(ctx context.Context, tx pgx.Tx, k IncidentKey) error {
	rows, err := tx.Query(ctx, `SELECT DISTINCT date_trunc('month', at AT TIME ZONE 'UTC') FROM ledger_entry
		WHERE organisation_id = $1 AND incident_id = $2`, int64(k.Organisation), k.Incident.UUID)
	if err != nil {
		return fmt.Errorf("reading the entries' months: %w", err)
	}
	months, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return fmt.Errorf("reading the entries' months: %w", err)
	}
	for _, month := range months {
		name := "ledger_archive_" + month.Format("2006_01")
		var there bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, name).Scan(&there); err != nil {
			return fmt.Errorf("looking for a month of the archive: %w", err)
		}
		if there {
			continue
		}
		from, to := month.Format("2006-01-02"), month.AddDate(0, 1, 0).Format("2006-01-02")
		for _, sql := range []string{
			`CREATE TABLE IF NOT EXISTS ` + name + ` PARTITION OF ledger_archive FOR VALUES FROM ('` + from + ` 00:00:00+00') TO ('` + to + ` 00:00:00+00')`,
			`ALTER TABLE ` + name + ` ENABLE ROW LEVEL SECURITY`,
			`ALTER TABLE ` + name + ` FORCE ROW LEVEL SECURITY`,
			// A partition that is named by itself shows nothing to anybody but background work.
			`DROP POLICY IF EXISTS background ON ` + name,
			`CREATE POLICY background ON ` + name + ` TO liaison_system USING (true) WITH CHECK (true)`,
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("adding a month to the archive: %w", err)
			}
		}
	}
	return nil
}

// DropArchive drops whole months of the archive that ended before a time. What the incidents came to stays, in their
// checkpoints.
func (l *Ledger) DropArchive(ctx context.Context, d *postgres.DB, before time.Time) (int, error) {
	dropped := 0
	err := d.SystemTx(ctx, func(tx pgx.Tx) error {
		dropped = 0
		names, err := db.New(tx).ArchiveMonths(ctx)
		if err != nil {
			return fmt.Errorf("listing the archive's months: %w", err)
		}
		for _, name := range names {
			month, err := time.Parse("ledger_archive_2006_01", name)
			if err != nil || month.AddDate(0, 1, 0).After(before) {
				continue
			}
			if _, err := tx.Exec(ctx, `DROP TABLE `+pgx.Identifier{name}.Sanitize()); err != nil {
				return fmt.Errorf("dropping %s: %w", name, err)
			}
			dropped++
		}
		return nil
	}, postgres.Retry(retries))
	return dropped, err
}

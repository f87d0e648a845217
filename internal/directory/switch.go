package directory

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/auth"
	"liaison/internal/directory/internal/db"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger"
)

// Switch pauses and resumes systems. What it writes is what lanes, readers and pollers look at before each turn, so it
// holds for all hubs from the next one on; calls under way end as they would.
type Switch struct {
	db   *postgres.DB
	bell ledger.Bell
	now  func() time.Time
	log  *slog.Logger
}

// NewSwitch returns a switch. The bell is rung for those who may go on.
func NewSwitch(d *postgres.DB, bell ledger.Bell, now func() time.Time, log *slog.Logger) *Switch {
	return &Switch{db: d, bell: bell, now: now, log: log}
}

// Pause stops all exchange with a system, or gives a paused one another reason. Row-level security lets staff pause what
// their desk owns; everything else is ledger.ErrNotFound. Whether a role may at all is the caller's to decide.
func (s *Switch) Pause(ctx context.Context, v auth.Viewer, key, by, reason string) error {
	err := s.turn(ctx, v, func(q *db.Queries) (int64, error) {
		return q.PauseSystem(ctx, db.PauseSystemParams{Key: key, ByWhom: by, Reason: reason, At: s.now().UTC()})
	})
	if err != nil {
		return fmt.Errorf("pausing system %s: %w", key, err)
	}
	s.log.InfoContext(ctx, "a system was paused", "system", key, "by", by, "reason", reason)
	return nil
}

// Resume lets the exchange with a system go on. Resuming one that is not paused changes nothing.
func (s *Switch) Resume(ctx context.Context, v auth.Viewer, key string) error {
	if err := s.turn(ctx, v, func(q *db.Queries) (int64, error) { return q.ResumeSystem(ctx, key) }); err != nil {
		return fmt.Errorf("resuming system %s: %w", key, err)
	}
	s.bell.Ring(ledger.TopicLanes)
	s.bell.Ring("inbox")
	s.log.InfoContext(ctx, "a system was resumed", "system", key, "by", v.Name)
	return nil
}

func (s *Switch) turn(ctx context.Context, v auth.Viewer, do func(*db.Queries) (int64, error)) error {
	return s.db.AppTx(ctx, v.Settings(), func(tx pgx.Tx) error {
		n, err := do(db.New(tx))
		if err == nil && n == 0 {
			err = ledger.ErrNotFound
		}
		return err
	}, postgres.Retry(5))
}

// Operator is who works at the command line: an administrator of every desk, named in the ledger as what he is.
func Operator(ctx context.Context, d *postgres.DB) (auth.Viewer, error) {
	v := auth.Viewer{Subject: "operator (command line)", Name: "operator (command line)", Roles: []auth.Role{auth.Agent, auth.Admin}}
	err := d.SystemTx(ctx, func(tx pgx.Tx) error {
		v.Organisations = nil
		rows, err := db.New(tx).OrganisationsOfDesks(ctx)
		for _, r := range rows {
			v.Organisations = append(v.Organisations, incident.OrganisationID(r.ID))
		}
		return err
	}, postgres.Retry(5))
	if err != nil {
		return v, fmt.Errorf("reading the directory: %w", err)
	}
	return v, nil
}

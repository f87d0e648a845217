package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres"
	"liaison/sync/reconcile/internal/db"
	"liaison/sync/system"
)

const (
	// lateness is for how long after its hour a night's comparison is still begun, by a hub that was down then.
	lateness = 4 * time.Hour
	// look is how often a reconciler looks whether a comparison is due, and again how long it leaves one alone that failed.
	look  = time.Minute
	again = 10 * time.Minute
)

// Run compares every system each night until ctx ends. Systems are compared one after the other; of several hubs one does it.
func (r *Reconciler) Run(ctx context.Context) error {
	if r.opts.At == "" {
		return nil
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		r.Step(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Step compares the systems whose comparison is due, and returns their reports. What goes wrong is logged.
func (r *Reconciler) Step(ctx context.Context) []Report {
	var out []Report
	for _, s := range r.systems {
		due, err := r.due(ctx, s)
		if err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "cannot tell whether a comparison is due", "system", s.Key, "error", err)
		}
		if !due || ctx.Err() != nil {
			continue
		}
		report, err := r.System(ctx, s, Request{Cause: Nightly, By: "the nightly comparison", Mend: r.opts.Mend, Requests: r.opts.Requests, PerMinute: r.opts.PerMinute})
		if errors.Is(err, ErrRunning) {
			continue // another hub, or a person, is at it
		}
		if paused, ok := errors.AsType[*Paused](err); ok {
			r.passOver(ctx, s, paused)
			continue
		}
		out = append(out, report)
		log := r.log.With("system", s.Key, "links", report.Links, "requests", report.Requests, "drift", report.Drifted, "mended", report.Mended, "failed", report.Failed)
		switch {
		case err == nil:
			log.InfoContext(ctx, "compared every link with its vendor's ticket")
		case errors.Is(err, errSpent):
			log.InfoContext(ctx, "compared links with their vendor's tickets until the budget was used up; the next night goes on from there")
		case ctx.Err() == nil:
			log.WarnContext(ctx, "comparing links with their vendor's tickets failed; it goes on from there later", "error", err)
		}
	}
	return out
}

// passOver tells once a night that a system is not compared because it is paused. It is compared still when it is resumed in
// time, and from the place where it was paused.
func (r *Reconciler) passOver(ctx context.Context, s *system.System, paused *Paused) {
	if hour, err := lastTime(r.opts.At, r.opts.Now()); err == nil && !r.toldTonight(s, hour) {
		r.log.InfoContext(ctx, "a paused system is not compared with its vendor tonight, unless it is resumed", "system", s.Key, "by", paused.By, "reason", paused.Reason)
	}
}

// due tells whether tonight's comparison is yet to be made, or one that failed is to go on.
func (r *Reconciler) due(ctx context.Context, s *system.System) (bool, error) {
	now := r.opts.Now()
	hour, err := lastTime(r.opts.At, now)
	if err != nil || now.Sub(hour) > lateness {
		return false, err
	}
	var last []db.LastNightlyRow
	err = r.db.SystemTx(ctx, func(tx pgx.Tx) error {
		last, err = db.New(tx).LastNightly(ctx, int64(s.ID))
		return err
	}, postgres.Retry(retries))
	switch {
	case err != nil:
		return false, fmt.Errorf("looking for the last comparison: %w", err)
	case len(last) == 0 || last[0].StartedAt.Before(hour):
		return true, nil
	case State(last[0].State) == Failed:
		return last[0].EndedAt != nil && now.Sub(*last[0].EndedAt) >= again, nil
	}
	return State(last[0].State) == Running, nil // its hub may have died: beginning anew tells
}

// lastTime is when a time of day was last reached, in now's zone.
func lastTime(clock string, now time.Time) (time.Time, error) {
	at, err := time.Parse("15:04", clock)
	if err != nil {
		return time.Time{}, fmt.Errorf("the time of day %q: %w", clock, err)
	}
	today := time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), 0, 0, now.Location())
	if today.After(now) {
		return time.Date(now.Year(), now.Month(), now.Day()-1, at.Hour(), at.Minute(), 0, 0, now.Location()), nil
	}
	return today, nil
}

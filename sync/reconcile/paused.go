package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres"
	"liaison/sync/reconcile/internal/db"
	"liaison/sync/system"
)

// Paused says that a system is paused: nothing is exchanged with it, comparisons included.
type Paused struct {
	Key    string // the system's
	Name   string
	By     string // who paused it; empty when nobody noted it
	Reason string // why; empty when nobody said
}

func (e *Paused) Error() string {
	text := e.Name + " is paused"
	if e.By != "" {
		text += " by " + e.By
	}
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	return text + ", so it is not compared; resume it first (liaison sync resume " + e.Key + ", or resumeSystem)"
}

// unpaused returns a [*Paused] while the system is paused.
func (r *Reconciler) unpaused(ctx context.Context, s *system.System) error {
	var found []db.PauseOfRow
	err := r.db.SystemTx(ctx, func(tx pgx.Tx) (err error) {
		found, err = db.New(tx).PauseOf(ctx, int64(s.ID))
		return err
	}, postgres.Retry(retries), postgres.ReadOnly())
	switch {
	case err != nil:
		return fmt.Errorf("looking whether %s is paused: %w", s.Key, err)
	case len(found) > 0:
		return &Paused{Key: s.Key, Name: s.Name, By: found[0].PausedBy, Reason: found[0].PauseReason}
	}
	return nil
}

// pauseLook is how often a comparison looks whether its system was paused meanwhile.
const pauseLook = 5 * time.Second

// goOn returns a [*Paused] when the system was paused since the comparison began.
func (n *run) goOn(ctx context.Context) error {
	now := n.opts.Now()
	if now.Sub(n.looked) < pauseLook {
		return nil
	}
	n.looked = now
	return n.unpaused(ctx, n.system)
}

// toldTonight notes that a system is passed over in the night that began at hour, and reports whether that is known already.
func (r *Reconciler) toldTonight(s *system.System, hour time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.passedOver == nil {
		r.passedOver = map[string]time.Time{}
	}
	known := r.passedOver[s.Key].Equal(hour)
	r.passedOver[s.Key] = hour
	return known
}

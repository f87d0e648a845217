package hub

import (
	"context"
	"net/http"
	"time"

	"liaison/internal/postgres"
)

const (
	// readyTime bounds the look at the database behind /readyz.
	readyTime = 2 * time.Second
	// retryAfter is the number of seconds after which those who were refused may come again.
	retryAfter = "5"
)

// phase is what a hub is doing that keeps it from being ready.
type phase struct {
	state string // for programs
	words string // for people
}

var (
	starting  = &phase{"STARTING", "the hub is starting"}
	migrating = &phase{"MIGRATING", "the database's tables are being brought up to date"}
	draining  = &phase{"DRAINING", "the hub is stopping"}
)

// readiness is the body of /readyz.
type readiness struct {
	Ready  bool   `json:"ready"`
	State  string `json:"state"`  // READY, STARTING, MIGRATING, DRAINING or a condition of the database
	Reason string `json:"reason"` // the same for people
}

// ready says whether the hub can do its work, and if not, why. Whoever balances load between hubs asks it every few
// seconds; however many ask at once, the database is looked at once.
func (h *Hub) ready(w http.ResponseWriter, r *http.Request) {
	status, now := http.StatusOK, readiness{Ready: true, State: string(postgres.Healthy), Reason: postgres.Healthy.String()}
	if p := h.phase.Load(); p != nil {
		now = readiness{State: p.state, Reason: p.words}
	} else if condition := h.check(r.Context()); condition != postgres.Healthy {
		now = readiness{State: string(condition), Reason: condition.String()}
	}
	if !now.Ready {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", retryAfter)
	}
	answer(w, status, now)
}

// check looks at the database, and tells the log when things turn.
func (h *Hub) check(ctx context.Context) postgres.Condition {
	found, _, _ := h.health.Do("", func() (any, error) {
		// The first who asks looks for all, so its own leaving must not matter.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTime)
		defer cancel()
		condition, err := h.db.Check(ctx)
		switch {
		case condition != postgres.Healthy && !h.unready.Swap(true):
			h.log.WarnContext(ctx, "not ready: "+condition.String(), "state", string(condition), "error", err)
		case condition == postgres.Healthy && h.unready.Swap(false):
			h.log.InfoContext(ctx, "ready again")
		}
		return condition, nil
	})
	condition, _ := found.(postgres.Condition)
	return condition
}

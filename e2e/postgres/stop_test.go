//go:build e2e

package postgres_test

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/postgres/pgtest"
)

// slow has the vendor begin to open a ticket that takes so long, and returns when the call is under way.
func (h *hub) slow(lasts time.Duration) {
	h.Helper()
	if err := h.sim.AddFault(servicenowtest.Fault{Kind: servicenowtest.FaultLatency, Method: http.MethodPost, Next: 1, Delay: lasts}); err != nil {
		h.Fatal(err)
	}
	h.escalate(h.report("Slow"))
	eventually(h.T, 20*time.Second, "the call is under way", func() error {
		for _, f := range h.sim.Faults().Rules {
			if f.Kind == servicenowtest.FaultLatency && f.Next > 0 {
				return fmt.Errorf("%d faults are left", f.Next)
			}
		}
		return nil
	})
}

// Issue 3, point 8: SIGTERM drains, with exit code 0, and whoever comes next finds everything settled.
func TestSIGTERMDrains(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	h := run(t, server.URL())
	live := h.follow()
	h.slow(4 * time.Second)
	began := time.Now()
	h.signal(syscall.SIGTERM)
	h.says("DRAINING", 3*time.Second)
	if code := h.wait(22 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	t.Logf("drained in %s", time.Since(began).Round(time.Millisecond))
	live.cancel()
	conn := connect(t, server.SuperuserURL("liaison"))
	if state := scan[string](t, conn, `SELECT state FROM delivery`); state != "DELIVERED" {
		t.Errorf("the call that was under way is %s", state)
	}
	if n := len(h.sim.Tickets()); n != 1 {
		t.Errorf("the vendor has %d tickets", n)
	}
}

// A vendor that never answers is not waited for beyond the deadline, and the exit code is 0 all the same.
func TestSIGTERMEndsAtTheDeadline(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	h := run(t, server.URL(), "LIAISON_DRAIN_TIMEOUT=4s")
	h.slow(time.Minute)
	began := time.Now()
	if code := h.stop(15 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("it took %s, and had 4 s", took)
	}
}

// A second signal ends the hub at once.
func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	h := run(t, server.URL())
	h.slow(time.Minute)
	h.signal(syscall.SIGTERM)
	h.says("DRAINING", 3*time.Second)
	began := time.Now()
	h.signal(syscall.SIGTERM)
	if code := h.wait(10 * time.Second); code == 0 {
		t.Error("cut off in the middle, and exit code 0")
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Two hubs that start at once on an empty database share the work of migrating it and then serve side by side.
func TestTwoHubsStartAtOnce(t *testing.T) {
	t.Parallel()
	database := pgtest.Empty(t)
	hubs := []*hub{launch(t, database), launch(t, database)}
	for _, h := range hubs {
		h.says("READY", time.Minute)
	}
	conn := connect(t, database)
	if twice := scan[int](t, conn, `SELECT count(*) - count(DISTINCT version_id) FROM goose_db_version`); twice != 0 {
		t.Errorf("%d migrations were made twice", twice)
	}
	for _, h := range hubs {
		h.report("Both serve")
	}
	// A third program, from before the newest migration, is told to stay away, and those that run notice as well.
	if _, err := conn.Exec(t.Context(), `UPDATE hub_schema SET oldest = 9999`); err != nil {
		t.Fatal(err)
	}
	for _, h := range hubs {
		if code := h.wait(30 * time.Second); code != 1 {
			t.Errorf("a hub that is too old ended with exit code %d, want 1", code)
		}
	}
}

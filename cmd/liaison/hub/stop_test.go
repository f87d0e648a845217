package hub_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"

	"liaison/cmd/liaison/hub"
	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/postgres/pgtest"
)

// slowCall has a vendor begin to open a ticket that takes so long, and returns when the call is under way.
func slowCall(t *testing.T, sim *servicenowtest.Server, h *hub.Hub, conn *pgx.Conn, lasts time.Duration) {
	t.Helper()
	if err := sim.AddFault(servicenowtest.Fault{Kind: servicenowtest.FaultLatency, Method: http.MethodPost, Next: 1, Delay: lasts}); err != nil {
		t.Fatal(err)
	}
	id := ask(t, h, "sam", "", `mutation { reportIncident(input: {description: "Slow"}) { incident { id } } }`, "reportIncident", "incident", "id")
	ask(t, h, "ada", "", fmt.Sprintf(`mutation { escalateIncident(input: {incidentId: %q, system: "snow"}) { link { id } } }`, id))
	until(t, "the call is under way", func() bool {
		left := 0
		for _, f := range sim.Faults().Rules {
			left += f.Next
		}
		return left == 0 && scan[bool](t, conn, `SELECT EXISTS (SELECT FROM lane WHERE sending_version IS NOT NULL)`)
	})
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		<-time.After(20 * time.Millisecond) // what is awaited rings no bell
	}
}

func scan[T any](t *testing.T, conn *pgx.Conn, sql string) (value T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func connect(t *testing.T, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// Issue 3, point 8: a hub that is told to stop takes up no new lanes, lets calls under way settle, closes its sockets, and
// says on /readyz what it is doing until then.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	sim, database := servicenowtest.Start(t), pgtest.URL(t)
	h, conn := up(t, begin(t, settle(t, fmt.Sprintf(settings, sim.URL), database))), connect(t, database)
	_, ended := follow(t, h.Addr())
	slowCall(t, sim, h, conn, 3*time.Second)
	done := make(chan error, 1)
	began := time.Now()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		done <- h.Stop(ctx)
	}()
	select {
	case err := <-ended:
		if closed := (*websocket.CloseError)(nil); !errors.As(err, &closed) || closed.Code != websocket.CloseServiceRestart {
			t.Errorf("the socket ended with %v, want close code 1012", err)
		}
	case <-time.After(2 * time.Second):
		t.Error("the socket waits for the slow vendor")
	}
	says(t, h.Addr(), "DRAINING")
	// The door is still open: what people do now is not lost, and whose turn it is not any more has to wait.
	id := ask(t, h, "sam", "", `mutation { reportIncident(input: {description: "Late"}) { incident { id } } }`, "reportIncident", "incident", "id")
	ask(t, h, "ada", "", fmt.Sprintf(`mutation { escalateIncident(input: {incidentId: %q, system: "snow"}) { link { id } } }`, id))
	if err := <-done; err != nil {
		t.Errorf("stopping: %v", err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("stopping took %s for a call of 3 s", took)
	}
	if got := scan[string](t, conn, `SELECT string_agg(state, ' ' ORDER BY created_at) FROM delivery`); got != "DELIVERED PENDING" {
		t.Errorf("the deliveries are %s: the one under way had to be settled, the late one had to wait", got)
	}
	if n := scan[int](t, conn, `SELECT count(*)::int FROM lane WHERE lease_until > clock_timestamp() OR sending_version IS NOT NULL`); n != 0 {
		t.Errorf("%d lanes are still taken", n)
	}
	if n := len(sim.Tickets()); n != 1 {
		t.Errorf("the vendor has %d tickets", n)
	}
}

// A vendor that does not come to an end holds nobody up: what was under way is cut off, and found out about later.
func TestStopEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	sim, database := servicenowtest.Start(t), pgtest.URL(t)
	c := settle(t, fmt.Sprintf(settings, sim.URL), database, "LIAISON_DRAIN_TIMEOUT=4s")
	h, conn := up(t, begin(t, c)), connect(t, database)
	slowCall(t, sim, h, conn, time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), c.DrainTimeout)
	defer cancel()
	began := time.Now()
	if err := h.Stop(ctx); err != nil && !errors.Is(err, hub.ErrCut) {
		t.Errorf("stopping: %v", err)
	}
	if took := time.Since(began); took > c.DrainTimeout+2*time.Second {
		t.Errorf("stopping took %s, and was given %s", took, c.DrainTimeout)
	}
	// Whoever comes next knows that it may have been sent.
	if state := scan[string](t, conn, `SELECT state || ' ' || (SELECT sending_version IS NOT NULL OR trouble = 'UNKNOWN' FROM lane) FROM delivery`); state == "DELIVERED true" || state == "PENDING false" {
		t.Errorf("the call that was cut off left its delivery %s", state)
	}
}

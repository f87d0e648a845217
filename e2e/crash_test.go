//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"liaison/internal/postgres/pgtest"
)

// A hub that is killed while the vendor's answer is on its way cannot know what became of its write. The next one asks
// before it sends: DESIGN.md section 4, RELIABILITY.md R2 and R6.
func TestKilledWithACallUnderWay(t *testing.T) {
	t.Parallel()
	// The system's other settings are the defaults: how long a lane stays taken after a kill must not hang on them.
	const quickPoll = "    poll: {interval: 2s}\n"
	steps := []struct {
		name   string
		method string
		do     func(t *testing.T, h *hub, id string)
		there  func(got ticket) bool // what the vendor holds when it has committed
	}{
		{
			"opening the ticket", "POST", func(t *testing.T, h *hub, id string) { h.escalate(t, id, "btls-servicenow") },
			func(got ticket) bool { return got.SysID != "" },
		},
		{
			"a comment", "PATCH", func(t *testing.T, h *hub, id string) { h.comment(t, id, "PUBLIC", "Any news?") },
			func(got ticket) bool { return said(got.Comments, "Any news?") > 0 },
		},
		{
			"a work note", "PATCH", func(t *testing.T, h *hub, id string) { h.comment(t, id, "INTERNAL", "Any news?") },
			func(got ticket) bool { return said(got.WorkNotes, "Any news?") > 0 },
		},
		{
			"a state", "PATCH", func(t *testing.T, h *hub, id string) { h.mutate(t, "beginWork", id, "") },
			func(got ticket) bool { return got.State == "2" },
		},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			sim, database := simulate(t), pgtest.NewServer(t)
			h := served(t, sim, database.URL(), quickPoll)
			id, _ := h.report(t, "The library is offline")
			if step.method != "POST" {
				h.escalate(t, id, "btls-servicenow")
				h.opened(t, id, 10*time.Second)
			}
			// The vendor commits, and its answer is held back until long after the kill.
			sim.fault(t, map[string]any{"kind": "lost_answer", "next": 1, "method": step.method, "delay": "60s"})
			step.do(t, h, id)
			eventually(t, 10*time.Second, "the vendor has committed", func() error {
				if all := sim.tickets(t); len(all) != 1 || !step.there(all[0]) {
					return fmt.Errorf("tickets: %+v", all)
				}
				return nil
			})
			h.kill()
			if got := query[int](t, database.SuperuserURL("liaison"), `SELECT count(*) FROM delivery_now WHERE state = 'SENDING'`); got != 1 {
				t.Errorf("the kill left %d deliveries that may have been sent, want 1", got)
			}
			h.again()
			consistent(t, database.SuperuserURL("liaison"), converge)
			all := sim.tickets(t)
			if len(all) != 1 || !step.there(all[0]) || said(all[0].Comments, "Any news?") > 1 || said(all[0].WorkNotes, "Any news?") > 1 {
				t.Errorf("in the end the vendor holds %+v", all)
			}
			if got := h.look(t, agent, id).Links[0]; got.ExternalID != all[0].SysID || got.SyncStatus != "IN_STEP" {
				t.Errorf("the link says %+v, the ticket is %s", got, all[0].SysID)
			}
			if got := h.look(t, agent, id).Comments.Nodes; len(got) > 1 {
				t.Errorf("the hub's own comment came back: %+v", got)
			}
		})
	}
}

// Killed again and again at random while both sides change tickets, with answers lost on the way: nothing that was
// acknowledged is lost and nothing is there twice (a small R1 and R2; the big one is the soak test's).
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	const incidents, rounds, kills = 6, 8, 3
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	sim, database := simulate(t), pgtest.NewServer(t)
	h := served(t, sim, database.URL(), "    poll: {interval: 2s}\n    settle_window: 5s\n    timeout: 5s\n")
	tables := database.SuperuserURL("liaison")
	ids, tickets := make([]string, incidents), make([]string, incidents)
	for n := range ids {
		ids[n], _ = h.report(t, fmt.Sprintf("Trouble %d", n))
		h.escalate(t, ids[n], "btls-servicenow")
	}
	for n, id := range ids {
		_, l := h.opened(t, id, 20*time.Second)
		tickets[n] = l.ExternalID
	}
	sim.fault(t, map[string]any{"kind": "lost_answer", "rate": 0.1, "method": "PATCH"})
	sim.fault(t, map[string]any{"kind": "server_error", "rate": 0.1})
	sim.fault(t, map[string]any{"kind": "webhook_drop", "rate": 0.3})

	var writers sync.WaitGroup
	for n := range ids {
		writers.Go(func() { // the hub's people
			for round := range rounds {
				text := fmt.Sprintf("hub says %d-%d.", n, round)
				insist(t, h, fmt.Sprintf("key-%d-%d", n, round), ids[n], text)
			}
		})
		writers.Go(func() { // the vendor's people
			for round := range rounds {
				sim.act(t, tickets[n], map[string]string{"comment": fmt.Sprintf("vendor says %d-%d.", n, round), "state": []string{"2", "3"}[round%2]})
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	delivered := func(enough int, within time.Duration) {
		t.Helper()
		eventually(t, within, fmt.Sprintf("%d comments are delivered, whatever goes wrong", enough), func() error {
			if n := query[int](t, tables, `SELECT count(*) FROM delivery WHERE kind = 'COMMENT' AND state = 'DELIVERED'`); n < enough {
				return fmt.Errorf("%d so far", n)
			}
			return nil
		})
	}
	for killed := range kills {
		delivered((killed+1)*incidents*rounds/(kills+1)-random.IntN(8), converge)
		h.kill()
		h.again()
	}
	<-done
	delivered(incidents*rounds, 2*converge)
	t.Logf("faults: %d answers lost, %d errors, %d webhooks dropped", sim.struck(t, "lost_answer"), sim.struck(t, "server_error"), sim.struck(t, "webhook_drop"))
	sim.forgive(t)
	consistent(t, tables, converge)
	for n, id := range ids {
		r, theirs := h.settled(t, id, "On Hold: Awaiting Caller", converge), sim.ticket(t, tickets[n])
		for round := range rounds {
			ours, vendors := fmt.Sprintf("hub says %d-%d.", n, round), fmt.Sprintf("vendor says %d-%d.", n, round)
			if got := said(theirs.Comments, ours); got != 1 {
				t.Errorf("%q stands %d times at the vendor", ours, got)
			}
			if got := commented(r.Comments.Nodes, "PUBLIC", ours); got != 1 {
				t.Errorf("%q stands %d times in the hub", ours, got)
			}
			if got := commented(r.Comments.Nodes, "PUBLIC", vendors); got != 1 {
				t.Errorf("%q stands %d times in the hub", vendors, got)
			}
		}
		if r.State != "ON_HOLD" || theirs.State != "3" {
			t.Errorf("incident %d is %s, its ticket %s", n, r.State, theirs.State)
		}
		inOrder(t, theirs.Comments, fmt.Sprintf("hub says %d-", n))
	}
	if n := len(sim.tickets(t)); n != incidents {
		t.Errorf("%d tickets at the vendor, want %d", n, incidents)
	}
}

// insist adds a comment and, while there is no answer, repeats the call with the same key.
func insist(t *testing.T, h *hub, key, id, body string) {
	err := await(t.Context(), 30*time.Second, func() error {
		err := h.try(t, requester, `mutation($id: ID!, $body: String!, $key: String!) {
			addComment(input: {incidentId: $id, body: $body, idempotencyKey: $key}) { comment { id } } }`, vars{"id": id, "body": body, "key": key}, nil)
		if refused := (*gqlError)(nil); errors.As(err, &refused) && refused.Extensions.Code != "UNAVAILABLE" {
			t.Errorf("%q was refused: %v", body, err)
			return nil
		}
		return err
	})
	if err != nil {
		t.Errorf("%q was never acknowledged: %v", body, err)
	}
}

// inOrder proves that the messages with the prefix stand in the order of their numbers.
func inOrder(t *testing.T, in []message, prefix string) {
	t.Helper()
	last := -1
	for _, m := range in {
		_, rest, found := strings.Cut(m.Value, prefix)
		var n int
		if !found {
			continue
		}
		if _, err := fmt.Sscanf(rest, "%d.", &n); err != nil || n <= last {
			t.Errorf("%q stands after number %d (%v)", m.Value, last, err)
		}
		last = n
	}
}

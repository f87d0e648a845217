//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres/embedded"
	"liaison/internal/postgres/pgtest"
)

// page reads the newest incidents and the cursor of the page's place in the feed.
func (h *hub) page(t *testing.T, token string) (numbers []string, cursor string) {
	t.Helper()
	var data struct {
		Incidents struct {
			FeedCursor string
			Nodes      []struct{ Number string }
		}
	}
	h.ask(t, token, `{ incidents(first: 100) { feedCursor nodes { number } } }`, nil, &data)
	for _, n := range data.Incidents.Nodes {
		numbers = append(numbers, n.Number)
	}
	return numbers, data.Incidents.FeedCursor
}

// mark adds a comment and returns its place in the feed: what comes after it has not happened yet.
func (h *hub) mark(t *testing.T, incident string) string {
	t.Helper()
	_, cursor := h.page(t, agent)
	s := h.subscribe(t, agent, cursor)
	defer s.drop()
	h.comment(t, incident, "PUBLIC", "mark")
	before := s.until(10*time.Second, func(c change) bool { return c.Entry.Comment != nil && c.Entry.Comment.Body == "mark" })
	return before[len(before)-1].Cursor
}

func kinds(changes []change) (out []string) {
	for _, c := range changes {
		out = append(out, c.Entry.Kind)
	}
	return out
}

// Issue 2, point 4: each step of an incident's way, in order, live; after a break exactly what was missed.
func TestSubscriptionFollowsTheWholeWay(t *testing.T) {
	t.Parallel()
	sim := simulate(t)
	h := served(t, sim, "", "    poll: {interval: 2s}\n")
	_, old := h.report(t, "Already there")
	numbers, cursor := h.page(t, agent)
	if !slices.Equal(numbers, []string{old}) {
		t.Fatalf("the page shows %v, want %s", numbers, old)
	}
	// What happens between the query and the subscription is not missed.
	id, _ := h.report(t, "The library is offline")
	live, theirs := h.subscribe(t, agent, cursor), h.subscribe(t, requester, cursor)
	h.escalate(t, id, "btls-servicenow")
	_, l := h.opened(t, id, 10*time.Second)
	h.comment(t, id, "INTERNAL", "Called them")
	h.mutate(t, "beginWork", id, "")
	h.settled(t, id, "In Progress", 10*time.Second)
	sim.act(t, l.ExternalID, map[string]string{"comment": "An engineer is on the way", "state": "On Hold"})
	h.settled(t, id, "On Hold: Awaiting Caller", 10*time.Second)
	h.mutate(t, "resolveIncident", id, `, resolution: "New cable"`)
	h.mutate(t, "closeIncident", id, "")
	h.settled(t, id, "Closed", 10*time.Second)
	another, _ := h.report(t, "Another")
	last := func(c change) bool { return c.IncidentID == another }

	// A change that the page shows already may come once more, right after the cursor.
	fresh := func(all []change) []change {
		return slices.DeleteFunc(all, func(c change) bool { return c.Incident.Number == old })
	}
	got := fresh(live.until(10*time.Second, last))
	for n, c := range got[:len(got)-1] {
		if c.IncidentID != id || c.Entry.Version != n+1 || c.Kind != "CHANGED" || c.Cursor == "" || c.Incident.Version < c.Entry.Version {
			t.Errorf("change %d is %+v", n, c)
		}
	}
	way := []string{"REPORTED", "ESCALATED", "TICKET_OPENED", "COMMENTED", "CHANGED", "CHANGED", "COMMENTED", "CHANGED", "CHANGED", "REPORTED"}
	// The vendor's comment and its new state may be read together or one after the other.
	other := slices.Clone(way)
	other[5], other[6] = other[6], other[5]
	if steps := slices.DeleteFunc(kinds(got), func(k string) bool { return k == "TICKET_CHANGED" }); !slices.Equal(steps, way) && !slices.Equal(steps, other) {
		t.Errorf("the steps were %v, want %v", steps, way)
	}
	states := []string{"→NEW", "NEW→IN_PROGRESS", "IN_PROGRESS→ON_HOLD/AWAITING_CUSTOMER", "ON_HOLD/AWAITING_CUSTOMER→RESOLVED", "RESOLVED→CLOSED", "→NEW"}
	if moved := transitions(got); !slices.Equal(moved, states) {
		t.Errorf("the states were %v, want %v", moved, states)
	}
	// The requester's stream is the same without what is the desk's own.
	want := slices.DeleteFunc(slices.Clone(got), func(c change) bool { return c.Entry.Visibility == "INTERNAL" })
	if heard := fresh(theirs.until(10*time.Second, last)); !slices.EqualFunc(heard, want, func(a, b change) bool { return a.name() == b.name() }) {
		t.Errorf("the requester heard of %v, want %v", kinds(heard), kinds(want))
	}

	// From every cursor on, a new connection gets exactly the rest, and then what happens next.
	for n, c := range got {
		again := h.subscribe(t, agent, c.Cursor)
		for _, w := range got[n+1:] {
			if r := again.next(10 * time.Second); r.name() != w.name() {
				t.Fatalf("after cursor %d came %s, want %s", n, r.name(), w.name())
			}
		}
		if n == len(got)-1 {
			next, _ := h.report(t, "One more")
			if r := again.next(5 * time.Second); r.IncidentID != next {
				t.Errorf("after the last cursor came %+v, want the report of %s", r, next)
			}
		}
		again.drop()
	}
	// What is sealed, but not by this database, is told apart from what is no cursor at all.
	for bad, code := range map[string]string{"nonsense": "BAD_USER_INPUT", got[0].Cursor[:len(got[0].Cursor)-2] + "AA": "CURSOR_EXPIRED"} {
		s := h.subscribe(t, agent, bad)
		if _, more := <-s.changes; more {
			t.Errorf("the forged cursor %q was taken", bad)
		} else if refused := (*gqlError)(nil); !errors.As(s.err, &refused) || refused.Extensions.Code != code || code == "BAD_USER_INPUT" && refused.Extensions.Field != "after" {
			t.Errorf("the forged cursor %q is answered with %v", bad, s.err)
		}
	}
}

func changed(c change, field string) string {
	for _, f := range c.Entry.Changes {
		if f.Field == field {
			return f.Before + "→" + f.After
		}
	}
	return ""
}

func transitions(changes []change) (out []string) {
	for _, c := range changes {
		if moved := changed(c, "state"); moved != "" {
			out = append(out, moved)
		}
	}
	return out
}

// Issue 2, point 4: a writer whose transaction stays open has taken its place in the ledger's sequence, and others
// commit past it. Its entry comes late, but it comes, and nothing else waits for it.
func TestSubscriptionMissesNoLateCommit(t *testing.T) {
	t.Parallel()
	database := pgtest.NewServer(t)
	h := served(t, simulate(t), database.URL(), "")
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, database.SuperuserURL("liaison"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// A writer that sets the service "held" stops after its entry was written, for as long as the test keeps the lock.
	for _, sql := range []string{
		`CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		   IF NEW.changes->'service'->>1 = 'held' THEN PERFORM pg_advisory_xact_lock(4711); END IF; RETURN NULL; END $$`,
		`CREATE TRIGGER hold AFTER INSERT ON ledger_entry FOR EACH ROW EXECUTE FUNCTION hold()`,
		`SELECT pg_advisory_lock(4711)`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	slow, _ := h.report(t, "Slow")
	other, _ := h.report(t, "Quick")
	cursor := h.mark(t, other)
	live := h.subscribe(t, agent, cursor)
	held := make(chan error, 1)
	go func() {
		held <- h.try(t, agent, `mutation($id: ID!) { updateIncident(input: {incidentId: $id, service: "held"}) { incident { version } } }`, vars{"id": slow}, nil)
	}()
	tables := database.SuperuserURL("liaison")
	eventually(t, 10*time.Second, "the writer stands with its entry written and not committed", func() error {
		if n := query[int](t, tables, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted`); n != 1 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	// Others go past it, and are heard of at once.
	for n := range 5 {
		h.comment(t, other, "PUBLIC", fmt.Sprintf("past it %d", n))
		if c := live.next(5 * time.Second); c.IncidentID != other || c.Entry.Comment == nil || c.Entry.Comment.Body != fmt.Sprintf("past it %d", n) {
			t.Fatalf("while a writer is held came %+v", c)
		}
	}
	_, between := h.page(t, agent) // a client that looks in just now must hear of the late one as well
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock(4711)`); err != nil {
		t.Fatal(err)
	}
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	late := live.next(5 * time.Second)
	if late.IncidentID != slow || changed(late, "service") != "→held" {
		t.Errorf("after the release came %+v, want the late commit", late)
	}
	h.subscribe(t, agent, between).until(5*time.Second, func(c change) bool { return c.name() == late.name() })
	// Read again from the beginning, everything is there once and in the same order.
	again := h.subscribe(t, agent, cursor)
	for n := range 6 {
		c := again.next(5 * time.Second)
		if (n < 5) != (c.IncidentID == other) {
			t.Errorf("read again, change %d is %+v", n, c)
		}
	}
	consistent(t, tables, 10*time.Second)
}

// RELIABILITY.md L1, in small: ten writers side by side, drops with resume, the hub killed, Postgres killed; nothing
// is lost, nothing comes twice, each writer's order is kept.
func TestSubscriptionSurvivesEverything(t *testing.T) {
	t.Parallel()
	const writers, each, drops = 10, 25, 12
	database := pgtest.NewServer(t)
	h := served(t, simulate(t), database.URL(), "")
	h.provoked = []string{"answering a request", "msg=\"", "connect"} // with its database gone, a hub says so
	ids := make([]string, writers)
	for n := range ids {
		ids[n], _ = h.report(t, fmt.Sprintf("Writer %d", n))
	}
	_, cursor := h.page(t, agent)

	var work sync.WaitGroup
	for n, id := range ids {
		work.Go(func() {
			for k := range each {
				insist(t, h, fmt.Sprintf("w%d-%d", n, k), id, fmt.Sprintf("%d.", k))
			}
		})
	}
	heard := map[string][]string{} // by incident, in order of arrival
	total := 0
	listen := func(enough int) {
		t.Helper()
		var s *subscriber
		eventually(t, 30*time.Second, "the subscriber connects", func() (err error) {
			s, err = h.trySubscribe(t, agent, cursor)
			return err
		})
		defer s.drop()
		for total < enough {
			select {
			case c, more := <-s.changes:
				if !more {
					return // cut off: connect again and resume
				}
				cursor = c.Cursor
				if c.Entry.Comment == nil {
					continue // a report that the page shows already
				}
				heard[c.IncidentID] = append(heard[c.IncidentID], c.Entry.Comment.Body)
				total++
			case <-time.After(30 * time.Second):
				t.Fatalf("heard of %d changes, then of none for 30 s", total)
			}
		}
	}
	for n := range drops {
		listen((n + 1) * writers * each / (drops + 1))
		switch n {
		case drops / 3:
			h.process.kill()
			h.again()
		case 2 * drops / 3:
			database.Restart(embedded.Immediate)
		}
	}
	for total < writers*each {
		listen(writers * each)
	}
	work.Wait()
	for n, id := range ids {
		for k := range each {
			if want := fmt.Sprintf("%d.", k); k >= len(heard[id]) || heard[id][k] != want {
				t.Errorf("of writer %d was heard %v", n, heard[id])
				break
			}
		}
	}
	consistent(t, database.SuperuserURL("liaison"), 10*time.Second)
}

// RELIABILITY.md L5: whoever listens is told that the hub stops, so that clients connect again.
func TestSubscribersAreToldOfTheEnd(t *testing.T) {
	t.Parallel()
	h := served(t, simulate(t), "", "")
	var all []*subscriber
	for range 20 {
		all = append(all, h.subscribe(t, agent, ""))
	}
	h.stop()
	for _, s := range all {
		for range s.changes { // up to its end
			t.Error("a change came that nobody made")
		}
		if !websocket.IsCloseError(s.err, websocket.CloseServiceRestart) {
			t.Errorf("the subscription ended with %v, want close code 1012", s.err)
		}
	}
}

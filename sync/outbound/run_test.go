package outbound_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/pair"
)

// begin takes the one lane that is due, as a worker does that will die.
func begin(t *testing.T, p *pair.Pair) ledger.Exchange {
	t.Helper()
	xs, err := p.Ledger.NextExchanges(t.Context(), p.System.ID, 1, time.Minute)
	if err != nil || len(xs) != 1 {
		t.Fatalf("%d exchanges, %v", len(xs), err)
	}
	return xs[0]
}

// die has a worker send so many of the deliveries that it began together, and end before it settles any.
func die(t *testing.T, p *pair.Pair, calls int) {
	t.Helper()
	x, more := begin(t, p), true
	for n := range calls {
		if !more {
			t.Fatalf("only %d deliveries were begun together", n)
		}
		x, more = x.Then(p.Worker.Call(t.Context(), x))
	}
	if _, err := p.DB.System.Exec(t.Context(), `UPDATE lane SET lease_until = '-infinity'`); err != nil {
		t.Fatal(err)
	}
}

// written lists the titles that were written to the vendor, in order.
func written(t *testing.T, p *pair.Pair) []string {
	t.Helper()
	var out []string
	for _, c := range p.Sim.Calls() {
		var body map[string]string
		if c.Method != http.MethodPatch || json.Unmarshal([]byte(c.Body), &body) != nil || body["short_description"] == "" {
			continue
		}
		out = append(out, body["short_description"])
	}
	return out
}

// A worker dies among updates of one field that it had begun together. However many of them had arrived, no older value is
// written over a newer one, and the hub does not take its own words for the vendor's.
func TestR6ADeadWorkersRunLeavesTheLastValue(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(*pair.Pair){"the lane looks first": func(p *pair.Pair) { p.Deliver() }, "a reader looks first": (*pair.Pair).Poll} {
		for calls := range 4 {
			t.Run(name+", after "+string(rune('0'+calls))+" calls", func(t *testing.T) {
				t.Parallel()
				p := pair.New(t, nil)
				p.Poll()
				id, ticket := p.Escalated("Died")
				p.Poll()
				titles := []string{"one", "two", "three"}
				for _, title := range titles {
					p.Retitle(id, title)
				}
				die(t, p, calls)
				first(p)
				p.Deliver()
				p.Poll()
				p.Deliver()
				got := written(t, p)
				if !slices.IsSortedFunc(got, func(a, b string) int { return slices.Index(titles, a) - slices.Index(titles, b) }) || len(got) == 0 || got[len(got)-1] != "three" ||
					len(slices.Compact(slices.Clone(got))) != len(got) {
					t.Errorf("the vendor was told %q", got)
				}
				hub, vendor := pair.Scan[string](p, `SELECT title FROM incident`), p.Ticket(ticket.SysID).ShortDescription
				if hub != "three" || vendor != "three" {
					t.Errorf("the title is %q in the hub and %q at the vendor", hub, vendor)
				}
				if got := pair.Scan[string](p, `SELECT coalesce(string_agg(kind, ' '), '') FROM ledger_entry WHERE kind IN ('CONFLICT', 'FIELD_PARKED', 'DELIVERY_FAILED')`); got != "" {
					t.Errorf("the ledger tells of %s, although nobody but the hub changed anything", got)
				}
				if n := pair.Scan[int](p, `SELECT count(*)::int FROM delivery WHERE state <> 'DELIVERED'`); n != 0 {
					t.Errorf("%d deliveries are not over", n)
				}
			})
		}
	}
}

// The same with comments: each stands once, equal ones too, and in order.
func TestR6ADeadWorkersCommentsStandOnce(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(*pair.Pair){"the lane looks first": func(p *pair.Pair) { p.Deliver() }, "a reader looks first": (*pair.Pair).Poll} {
		for calls := range 5 {
			t.Run(name+", after "+string(rune('0'+calls))+" calls", func(t *testing.T) {
				t.Parallel()
				p := pair.New(t, nil)
				p.Poll()
				id, ticket := p.Escalated("Died")
				p.Poll()
				bodies := []string{"Hello?", "Hello?", "Is anybody there?", "Hello?"}
				for _, body := range bodies {
					p.Say(id, incident.Public, body)
				}
				die(t, p, calls)
				first(p)
				for range 30 {
					p.Advance(20 * time.Second)
					p.Deliver()
					p.Poll()
				}
				var got []string
				for _, c := range p.Ticket(ticket.SysID).Comments {
					for _, body := range bodies {
						if len(c.Value) >= len(body) && c.Value[len(c.Value)-len(body):] == body {
							got = append(got, body)
							break
						}
					}
				}
				if !slices.Equal(got, bodies) {
					t.Errorf("the vendor has %q, want %q", got, bodies)
				}
				if n := pair.Scan[int](p, `SELECT count(*)::int FROM comment`); n != len(bodies) {
					t.Errorf("the hub has %d comments, want %d", n, len(bodies))
				}
				if n := pair.Scan[int](p, `SELECT count(*)::int FROM comment_copy`); n != len(bodies) {
					t.Errorf("%d copies are known, want %d", n, len(bodies))
				}
			})
		}
	}
}

// The vendor's agent changes a field while deliveries that were begun together are on their way: what came before it is settled,
// and nothing is overwritten in silence.
func TestAConflictInTheMiddleOfARun(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	id, ticket := p.Escalated("Conflict")
	p.Say(id, incident.Public, "We begin.")
	p.Act(ticket.SysID, servicenowtest.Move{Title: "theirs"}) // and no poll has seen it yet
	p.Retitle(id, "ours")
	p.Say(id, incident.Public, "We are done.")
	x := begin(t, p)
	s := p.Worker.Call(t.Context(), x)
	x, more := x.Then(s)
	if !more {
		t.Fatal("the update was not begun along with the comment")
	}
	if s := p.Worker.Call(t.Context(), x); s.State != "" {
		t.Fatalf("the update was decided upon what is not in the ledger: %+v", s)
	}
	if _, err := p.DB.System.Exec(t.Context(), `UPDATE lane SET lease_until = '-infinity'`); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		p.Advance(20 * time.Second)
		p.Deliver()
	}
	if n := pair.Scan[int](p, `SELECT count(*)::int FROM ledger_entry WHERE kind = 'CONFLICT' AND detail->>'hub' = 'ours' AND detail->>'vendor' = 'theirs'`); n != 1 {
		t.Errorf("%d conflict entries keep both values, want 1", n)
	}
	if got := p.Ticket(ticket.SysID); got.ShortDescription != "ours" || len(got.Comments) != 2 {
		t.Errorf("the ticket is %q with %d comments", got.ShortDescription, len(got.Comments))
	}
}

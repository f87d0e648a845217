package outbound_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/sync/pair"
)

func status(p *pair.Pair) string {
	return pair.Scan[string](p, `SELECT string_agg(kind || ' ' || state, ', ' ORDER BY version, id) FROM delivery`)
}

func TestATicketIsOpenedOnceWithItsCorrelationID(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	_, ticket := p.Escalated("The printer in room 4 prints nothing")
	if ticket.CorrelationID != pair.Scan[string](p, `SELECT correlation_id::text FROM external_link`) {
		t.Errorf("the ticket's correlation id is %q", ticket.CorrelationID)
	}
	if ticket.ShortDescription != "The printer in room 4 prints nothing" || ticket.State != "1" {
		t.Errorf("the ticket says %q in state %s", ticket.ShortDescription, ticket.State)
	}
	if got := pair.Scan[string](p, `SELECT external_id || ' ' || number || ' ' || remote_state FROM external_link`); got != ticket.SysID+" "+ticket.Number+" New" {
		t.Errorf("the link says %q", got)
	}
}

// Section 4 of the design: a create whose answer was lost is never repeated blindly.
func TestACreateWhoseAnswerWasLostIsFoundAndNotRepeated(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Strike(servicenowtest.Fault{Kind: servicenowtest.FaultLostAnswer, Method: "POST"})
	p.Escalate("Lost")
	p.Deliver()
	if got := status(p); got != "CREATE UNKNOWN" {
		t.Fatalf("after the lost answer the delivery is %q", got)
	}
	p.Advance(5 * time.Second)
	p.Deliver()
	if got := status(p); got != "CREATE DELIVERED" {
		t.Errorf("after asking the vendor the delivery is %q", got)
	}
	if n := len(p.Sim.Tickets()); n != 1 {
		t.Errorf("%d tickets at the vendor, want exactly 1", n)
	}
}

func TestACreateThatNeverArrivedIsSentAgainOnlyAfterTheSettleWindow(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Strike(servicenowtest.Fault{Kind: servicenowtest.FaultReset, Method: "POST"})
	p.Escalate("Never arrived")
	p.Deliver()
	if got := status(p); got != "CREATE UNKNOWN" {
		t.Fatalf("after the cut connection the delivery is %q: the hub cannot know what became of it", got)
	}
	for waited := time.Duration(0); waited < p.System.SettleWindow; waited += 10 * time.Second {
		if n := len(p.Sim.Tickets()); n != 0 {
			t.Fatalf("sent again %s after the cut, inside the settle window of %s", waited, p.System.SettleWindow)
		}
		p.Advance(10 * time.Second)
		p.Deliver()
	}
	p.Advance(6 * time.Minute)
	p.Deliver()
	if got, n := status(p), len(p.Sim.Tickets()); got != "CREATE DELIVERED" || n != 1 {
		t.Errorf("after the window: %s, %d tickets", got, n)
	}
}

// A worker that died between its record and the call, or between the call and the settlement, looks the same to
// its successor.
func TestADeadWorkersCreateIsAskedAfter(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]bool{"before the call": false, "after the call": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pair.New(t, nil)
			p.Escalate("Died")
			xs, err := p.Ledger.NextExchanges(t.Context(), p.System.ID, 1, time.Minute)
			if err != nil || len(xs) != 1 {
				t.Fatalf("%d exchanges, %v", len(xs), err)
			}
			if sent {
				p.Worker.Call(t.Context(), xs[0])
			}
			if _, err := p.DB.System.Exec(t.Context(), `UPDATE lane SET lease_until = '-infinity'`); err != nil {
				t.Fatal(err)
			}
			for range 30 {
				p.Advance(20 * time.Second)
				p.Deliver()
			}
			if got, n := status(p), len(p.Sim.Tickets()); got != "CREATE DELIVERED" || n != 1 {
				t.Errorf("%s with %d tickets, want one", got, n)
			}
		})
	}
}

// A worker that died after its call has left the vendor with our own words, of which the link's base knows nothing. Whoever
// looks there next, the lane or a reader, must take them for an echo and not write them again.
func TestR6ADeadWorkersUpdateIsAnEcho(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(*pair.Pair){"the lane looks first": func(p *pair.Pair) { p.Deliver() }, "a reader looks first": (*pair.Pair).Poll} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pair.New(t, nil)
			p.Poll()
			id, ticket := p.Escalated("Died")
			p.Poll()
			if _, err := p.Desk.Move(t.Context(), p.Agent, desk.Target{Incident: id}, incident.Move{To: incident.Resolved, Resolution: "The fuser was replaced."}); err != nil {
				t.Fatal(err)
			}
			xs, err := p.Ledger.NextExchanges(t.Context(), p.System.ID, 1, time.Minute)
			if err != nil || len(xs) != 1 {
				t.Fatalf("%d exchanges, %v", len(xs), err)
			}
			p.Worker.Call(t.Context(), xs[0])
			if _, err := p.Desk.Move(t.Context(), p.Agent, desk.Target{Incident: id}, incident.Move{To: incident.Closed}); err != nil {
				t.Fatal(err)
			}
			if _, err := p.DB.System.Exec(t.Context(), `UPDATE lane SET lease_until = '-infinity'`); err != nil {
				t.Fatal(err)
			}
			first(p)
			p.Deliver()
			p.Poll()
			p.Deliver()
			if got := pair.Scan[string](p, `SELECT coalesce(string_agg(kind, ' '), '') FROM ledger_entry WHERE kind IN ('CONFLICT', 'FIELD_PARKED', 'DELIVERY_FAILED')`); got != "" {
				t.Errorf("the ledger tells of %s, although nobody but the hub changed anything", got)
			}
			if got := p.Ticket(ticket.SysID); got.State != "7" || got.Fields["close_notes"] != "The fuser was replaced." {
				t.Errorf("the ticket is in state %s with the notes %q", got.State, got.Fields["close_notes"])
			}
			writes := 0
			for _, c := range p.Sim.Calls() {
				if c.Method == http.MethodPatch {
					writes++
				}
			}
			if writes != 2 {
				t.Errorf("%d writes, want one to resolve and one to close", writes)
			}
		})
	}
}

func TestACommentWhoseAnswerWasLostStandsOnce(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	id, ticket := p.Escalated("Comments")
	p.Say(id, incident.Public, "Any news?")
	p.Deliver()
	p.Strike(servicenowtest.Fault{Kind: servicenowtest.FaultLostAnswer, Method: "PATCH"})
	p.Say(id, incident.Public, "Any news?") // the same words again are another comment
	p.Deliver()
	p.Advance(5 * time.Second)
	p.Deliver()
	if got := status(p); got != "CREATE DELIVERED, COMMENT DELIVERED, COMMENT DELIVERED" {
		t.Fatalf("deliveries: %s", got)
	}
	if n := len(p.Ticket(ticket.SysID).Comments); n != 2 {
		t.Errorf("%d comments at the vendor, want 2", n)
	}
	p.Poll()
	if n := pair.Scan[int](p, `SELECT count(*) FROM comment`); n != 2 {
		t.Errorf("%d comments in the hub: its own came back as an echo", n)
	}
}

// A poll between the lost answer and its settlement sees our own comment and must not take it for a new one.
func TestAPollBeforeTheSettlementBringsNoEcho(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	id, ticket := p.Escalated("Echo")
	p.Poll()
	p.Strike(servicenowtest.Fault{Kind: servicenowtest.FaultLostAnswer, Method: "PATCH"})
	p.Say(id, incident.Internal, "work note")
	if _, err := p.Worker.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Act(ticket.SysID, servicenowtest.Move{Comment: "We are on it"})
	p.Poll()
	p.Deliver()
	p.Poll()
	if got := pair.Scan[string](p, `SELECT string_agg(author || ': ' || visibility, ', ' ORDER BY author) FROM comment`); strings.Count(got, ":") != 2 {
		t.Errorf("comments in the hub: %s, want ours once and the vendor's once", got)
	}
	if n := len(p.Ticket(ticket.SysID).WorkNotes); n != 1 {
		t.Errorf("%d work notes at the vendor, want 1", n)
	}
}

func TestCommentsKeepTheirVisibility(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	id, ticket := p.Escalated("Visibility")
	p.Say(id, incident.Public, "for all")
	p.Say(id, incident.Internal, "for us")
	p.Deliver()
	got := p.Ticket(ticket.SysID)
	if len(got.Comments) != 1 || len(got.WorkNotes) != 1 || !strings.Contains(got.Comments[0].Value, "for all") || !strings.Contains(got.WorkNotes[0].Value, "for us") {
		t.Errorf("comments %v, work notes %v", got.Comments, got.WorkNotes)
	}
	if !strings.Contains(got.Comments[0].Value, "Ada Agent") {
		t.Errorf("the comment %q does not name its author", got.Comments[0].Value)
	}
}

func TestAValueThatStandsThereAlreadyIsNotWritten(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	id, ticket := p.Escalated("No-op")
	p.Act(ticket.SysID, servicenowtest.Move{Title: "Better title"})
	before := len(p.Sim.Calls())
	p.Retitle(id, "Better title")
	p.Deliver()
	if slices.ContainsFunc(p.Sim.Calls()[before:], func(c servicenowtest.Call) bool { return c.Method == http.MethodPatch }) {
		t.Error("the ticket was written although it said so already")
	}
	if got := status(p); got != "CREATE DELIVERED, UPDATE DELIVERED" {
		t.Errorf("deliveries: %s", got)
	}
}

func TestAVendorsChangeIsNotOverwrittenInSilence(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	id, ticket := p.Escalated("Conflict")
	p.Act(ticket.SysID, servicenowtest.Move{Title: "theirs"}) // and no poll has seen it yet
	p.Retitle(id, "ours")
	p.Deliver()
	if n := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry WHERE kind = 'CONFLICT' AND detail->>'hub' = 'ours' AND detail->>'vendor' = 'theirs'`); n != 1 {
		t.Errorf("%d conflict entries keep both values, want 1", n)
	}
	p.Poll()
	p.Deliver()
	hub, vendor := pair.Scan[string](p, `SELECT title FROM incident`), p.Ticket(ticket.SysID).ShortDescription
	if hub != vendor {
		t.Errorf("the sides differ in the end: %q in the hub, %q at the vendor", hub, vendor)
	}
	if hub != "ours" {
		t.Errorf("the title is %q; the mapping says that the hub owns it", hub)
	}
}

func TestARefusedFieldParksItselfAndTheRestFlows(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	id, ticket := p.Escalated("Refusal")
	if err := p.Sim.Reconfigure(func(s *servicenowtest.Switches) {
		s.AbortRules = []servicenowtest.Rule{{Name: "No resolving by partners", When: "state=6"}}
	}); err != nil {
		t.Fatal(err)
	}
	target := desk.Target{Incident: id}
	if _, err := p.Desk.Move(t.Context(), p.Agent, target, incident.Move{To: incident.Resolved, Resolution: "Fixed"}); err != nil {
		t.Fatal(err)
	}
	p.Say(id, incident.Public, "after the refusal")
	p.Deliver()
	if got := pair.Scan[string](p, `SELECT parked->>'state' FROM external_link`); !strings.Contains(got, "No resolving by partners") {
		t.Errorf("the parked state's reason is %q, want the vendor's words", got)
	}
	if n := len(p.Ticket(ticket.SysID).Comments); n != 1 {
		t.Errorf("%d comments arrived after the refusal, want 1", n)
	}
	if got := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry WHERE kind = 'FIELD_PARKED'`); got != 1 {
		t.Errorf("%d entries tell of the parked field, want 1", got)
	}
}

// What the vendor's people did between the hub's last look and its own write shows in the write's answer. That must
// not pass for read: the next poll has to bring it.
func TestAWriteDoesNotHideWhatHappenedBeforeIt(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	id, ticket := p.Escalated("Hidden")
	p.Poll()
	p.Act(ticket.SysID, servicenowtest.Move{State: "2", Comment: "just before"})
	p.Retitle(id, "just after")
	p.Deliver()
	p.Poll()
	if got := pair.Scan[string](p, `SELECT state || ' ' || (SELECT count(*) FROM comment) FROM incident`); got != "IN_PROGRESS 1" {
		t.Errorf("the hub has %s, want the vendor's state and comment", got)
	}
}

// A state that cannot be written waits for a person, also when the ticket is opened in it.
func TestAStateThatCannotBeWrittenIsParked(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	id, _ := p.Escalated("Deferral")
	if _, err := p.Desk.Hold(t.Context(), p.Agent, desk.Target{Incident: id}, incident.CustomerDeferral, p.Now().Add(48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	p.Deliver()
	p.Poll()
	if got := pair.Scan[string](p, `SELECT coalesce(parked->>'state', '') FROM external_link`); !strings.Contains(got, "deferral") {
		t.Errorf("the parked state's reason is %q", got)
	}
	if got := pair.Scan[string](p, `SELECT hold_reason FROM incident`); got != "CUSTOMER_DEFERRAL" {
		t.Errorf("the hub's own hold became %q", got)
	}
}

func TestARefusedTicketIsADeadLetter(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	if err := p.Sim.Reconfigure(func(s *servicenowtest.Switches) { s.AbortRules = []servicenowtest.Rule{{Name: "Contract ended"}} }); err != nil {
		t.Fatal(err)
	}
	p.Escalate("Refused")
	p.Deliver()
	if got := status(p); got != "CREATE DEAD" {
		t.Fatalf("the delivery is %s", got)
	}
	if got := pair.Scan[string](p, `SELECT error FROM delivery`); !strings.Contains(got, "Contract ended") {
		t.Errorf("its error %q lacks the vendor's words", got)
	}
}

// Retry-After is the earliest time, in both forms.
func TestTheVendorsRetryAfterIsKept(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"7", "date:7s"} {
		t.Run(after, func(t *testing.T) {
			t.Parallel()
			p := pair.New(t, nil)
			p.Strike(servicenowtest.Fault{Kind: servicenowtest.FaultRateLimited, Method: "POST", RetryAfter: after})
			p.Escalate("Busy")
			p.Deliver()
			if due := pair.Scan[time.Time](p, `SELECT due_at FROM lane`); due.Sub(p.Now()) < 6*time.Second {
				t.Errorf("the lane goes on after %s", due.Sub(p.Now()))
			}
			p.Advance(5 * time.Second)
			p.Deliver()
			if n := len(p.Sim.Tickets()); n != 0 {
				t.Fatal("the vendor was called before the time it had named")
			}
			p.Advance(10 * time.Second)
			p.Deliver()
			if n := len(p.Sim.Tickets()); n != 1 {
				t.Errorf("%d tickets after the time had passed", n)
			}
		})
	}
}

func TestStatesPrioritiesAndTitlesGoOut(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	id, ticket := p.Escalated("Values")
	target, p1 := desk.Target{Incident: id}, incident.P1
	if _, err := p.Desk.Assess(t.Context(), p.Agent, desk.AssessInput{Target: target, Priority: &p1}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Desk.Hold(t.Context(), p.Agent, target, incident.AwaitingVendor, time.Time{}); err != nil {
		t.Fatal(err)
	}
	p.Retitle(id, "New title")
	p.Deliver()
	got := p.Ticket(ticket.SysID)
	if got.Priority != "1" || got.State != "3" || got.HoldReason != "4" || got.ShortDescription != "New title" {
		t.Errorf("the ticket has priority %s, state %s/%s, title %q", got.Priority, got.State, got.HoldReason, got.ShortDescription)
	}
	// The vendor computes the priority from what was written: that its answer does not show it yet is no refusal.
	if n := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry WHERE kind = 'FIELD_PARKED'`); n != 0 {
		t.Errorf("%d fields were parked, although the vendor took everything", n)
	}
	before := len(p.Sim.Calls())
	p.Poll()
	p.Deliver()
	writes := slices.ContainsFunc(p.Sim.Calls()[before:], func(c servicenowtest.Call) bool { return c.Method == http.MethodPatch || c.Method == http.MethodPost })
	if writes {
		t.Error("reading our own writes back led to another write: an echo")
	}
	if n := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry WHERE actor_kind = 'SYSTEM' AND kind = 'CHANGED'`); n != 0 {
		t.Errorf("%d changes came back as the vendor's", n)
	}
}

func TestOneLaneInTroubleDelaysNoOther(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Strike(servicenowtest.Fault{Kind: servicenowtest.FaultServerError, Method: "POST"})
	p.Escalate("first")
	p.Deliver()
	p.Escalate("second")
	p.Deliver()
	if got := pair.Scan[string](p, `SELECT string_agg(state, ', ' ORDER BY state) FROM delivery`); got != "DELIVERED, UNKNOWN" {
		t.Errorf("deliveries: %s", got)
	}
}

package pull_test

import (
	"errors"
	"strings"
	"testing"

	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/merge"
	"liaison/sync/pair"
)

// A write to a resolved ticket would start the vendor's auto-close clock anew: plain updates wait until it is reopened, and
// none of them is lost. People's comments go.
func TestPlainUpdatesAreWithheldFromAResolvedTicket(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		reopen func(t *testing.T, p *pair.Pair, id incident.ID, ticket string)
	}{
		"the vendor reopens it": {func(_ *testing.T, p *pair.Pair, _ incident.ID, ticket string) { p.Act(ticket, act{State: "2"}) }},
		"the hub reopens it": {func(t *testing.T, p *pair.Pair, id incident.ID, _ string) {
			t.Helper()
			reopen(t, p, id)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := world(t, "")
			id, ticket := p.Escalated("before")
			p.Act(ticket.SysID, act{State: "6", Fields: map[string]string{"close_code": "Solution provided", "close_notes": "done"}})
			quiet(p)
			stamp, before := p.Ticket(ticket.SysID).SysUpdatedOn, writes(p)
			count := p.Ticket(ticket.SysID).SysModCount

			p.Retitle(id, "first")
			p.Retitle(id, "second")
			if _, err := p.Desk.Assess(t.Context(), p.Agent, assess(id, incident.P2)); err != nil {
				t.Fatal(err)
			}
			quiet(p)
			if n := writes(p) - before; n != 0 {
				t.Fatalf("%d writes to a resolved ticket", n)
			}
			if got := p.Ticket(ticket.SysID); got.SysUpdatedOn != stamp || got.SysModCount != count {
				t.Error("the ticket's clock was started anew")
			}
			if got := parked(p, incident.FieldTitle); !strings.Contains(got, `withheld: the ticket is "Resolved"`) {
				t.Errorf("the title is parked because of %q", got)
			}
			if got := entries(p); got != "FIELD_PARKED FIELD_PARKED" {
				t.Errorf("the ledger tells of %s, want one entry for each field", got)
			}
			var held *ledger.FieldHeld
			if _, err := p.Ledger.FreeField(t.Context(), p.Agent, ledger.Actor{Kind: ledger.Person, Name: "Ada"}, ledger.Key{}, linkOf(t, p), incident.FieldTitle); !errors.As(err, &held) || held.Held != merge.Withheld {
				t.Errorf("freeing it by hand: %v", err)
			}
			p.Say(id, incident.Public, "is it really fixed?")
			quiet(p)
			if n := len(p.Ticket(ticket.SysID).Comments); n != 1 {
				t.Errorf("%d comments at the vendor, want the person's", n)
			}

			before = writes(p)
			tt.reopen(t, p, id, ticket.SysID)
			quiet(p)
			got := p.Ticket(ticket.SysID)
			if got.ShortDescription != "second" || got.Priority != "2" || got.State != "2" {
				t.Errorf("after reopening the ticket has title %q, priority %s, state %s", got.ShortDescription, got.Priority, got.State)
			}
			if n := writes(p) - before; n != 1 {
				t.Errorf("%d writes after reopening, want one with everything", n)
			}
			if got := entries(p); got != "FIELD_PARKED FIELD_PARKED FIELD_FREED FIELD_FREED" {
				t.Errorf("the ledger tells of %s", got)
			}
			if got := parked(p, incident.FieldTitle) + parked(p, incident.FieldPriority); got != "" {
				t.Errorf("still parked: %s", got)
			}
		})
	}
}

// What the vendor changes on its resolved ticket is taken as ever, and the withheld value loses or wins by the field's policy.
func TestAWithheldFieldStillTakesTheVendorsValue(t *testing.T) {
	t.Parallel()
	for policy, want := range map[string]string{"owner: vendor": "theirs theirs", "owner: hub": "ours theirs"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			p, _ := world(t, titled(policy))
			id, ticket := p.Escalated("before")
			p.Act(ticket.SysID, act{State: "6"})
			quiet(p)
			p.Retitle(id, "ours")
			quiet(p)
			p.Act(ticket.SysID, act{Title: "theirs"})
			quiet(p)
			if got := title(p) + " " + p.Ticket(ticket.SysID).ShortDescription; got != want {
				t.Errorf("while it is resolved: %s, want %s", got, want)
			}
			p.Act(ticket.SysID, act{State: "2"})
			quiet(p)
			if hub, vendor := title(p), p.Ticket(ticket.SysID).ShortDescription; hub != vendor || hub != strings.Fields(want)[0] {
				t.Errorf("after reopening: %q and %q", hub, vendor)
			}
		})
	}
}

// A value that the vendor has already is no write, on a ticket at work or not.
func TestNoNoOpWrites(t *testing.T) {
	t.Parallel()
	p, _ := world(t, "")
	id, ticket := p.Escalated("before")
	quiet(p)
	before := writes(p)
	for _, text := range []string{"one", "two", "three"} {
		p.Act(ticket.SysID, act{Title: text})
		p.Retitle(id, text)
		quiet(p)
	}
	move(t, p, id, incident.Move{To: incident.Resolved, Resolution: "fixed"})
	p.Act(ticket.SysID, act{State: "6", Fields: map[string]string{"close_code": "Solution provided", "close_notes": "fixed"}})
	quiet(p)
	if n := writes(p) - before; n != 0 {
		t.Errorf("%d writes of what stood there already", n)
	}
	if got := pair.Scan[string](p, `SELECT title || ' ' || state FROM incident`); got != "three RESOLVED" {
		t.Errorf("the hub has %s", got)
	}
	if got := entries(p); got != "" {
		t.Errorf("the ledger tells of %s", got)
	}
}

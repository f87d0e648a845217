package pull_test

import (
	"strings"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/incident"
	"liaison/sync/pair"
)

// R11: whatever a vendor does to a ticket, the link ends in a defined state with an entry that says so, and no ticket is ever
// opened anew for it.
func TestR11TicketsThatGoMergeReopenAndMove(t *testing.T) {
	t.Parallel()
	gone := func(how connectors.Gone) func(*connectors.Ticket, error) error {
		return func(t *connectors.Ticket, _ error) error {
			*t = connectors.Ticket{ID: t.ID, Gone: how, Fields: connectors.Fields{}}
			if how == connectors.Merged {
				t.SuccessorID = "successor"
			}
			return nil
		}
	}
	hidden := func(*connectors.Ticket, error) error {
		return &connectors.Error{Op: "servicenow.Read", Kind: connectors.NotFound}
	}
	const (
		links = `SELECT gone || '|' || remote_state || '|' || coalesce(parked->>'state', '') FROM external_link`
		lane  = `SELECT coalesce((SELECT string_agg(kind || ' ' || state, ', ' ORDER BY version) FROM delivery WHERE kind <> 'CREATE'), '')`
	)
	retitle := func(p *pair.Pair, id incident.ID) { p.Retitle(id, "an update that waits") }
	say := func(p *pair.Pair, id incident.ID) { p.Say(id, incident.Public, "a comment that waits") }
	nothing := func(*pair.Pair, incident.ID) {}
	for name, tt := range map[string]struct {
		waiting func(*pair.Pair, incident.ID)
		vendor  func(t *testing.T, p *pair.Pair, c *customs, id incident.ID, ticket string)
		link    string // gone|state words|why the state is parked, or its beginning
		lane    string
		entries string
		detail  string // of an entry
	}{
		"deleted while idle": {nothing, reads(gone(connectors.Deleted)), "DELETED|New|", "", "TICKET_GONE", `"how": "DELETED"`},
		"deleted with an update waiting": {
			retitle, reads(gone(connectors.Deleted)), "DELETED|New|", "UPDATE DEAD", "TICKET_GONE DELIVERY_FAILED", `no longer exists`,
		},
		"deleted with a comment waiting": {
			say, func(_ *testing.T, _ *pair.Pair, c *customs, _ incident.ID, _ string) {
				c.sees(gone(connectors.Deleted))
				c.journal = func() error { return &connectors.Error{Op: "servicenow.Mark", Kind: connectors.NotFound} }
			}, "DELETED|New|", "COMMENT DEAD", "TICKET_GONE DELIVERY_FAILED", `no longer exists`,
		},
		"merged while idle": {nothing, reads(gone(connectors.Merged)), "MERGED|New|", "", "TICKET_GONE", `"successor": "successor"`},
		"merged with an update waiting": {
			retitle, reads(gone(connectors.Merged)), "MERGED|New|", "UPDATE DEAD", "TICKET_GONE DELIVERY_FAILED", `was merged there`,
		},
		"merged with a comment waiting": {
			say, func(_ *testing.T, _ *pair.Pair, c *customs, _ incident.ID, _ string) {
				c.sees(gone(connectors.Merged))
				c.journal = func() error { return &connectors.Error{Op: "servicenow.Mark", Kind: connectors.NotFound} }
			}, "MERGED|New|", "COMMENT DEAD", "TICKET_GONE DELIVERY_FAILED", `was merged there`,
		},
		"reopened after it was resolved": {
			nothing, func(_ *testing.T, p *pair.Pair, _ *customs, _ incident.ID, ticket string) {
				p.Act(ticket, act{State: "6"})
				quiet(p)
				p.Act(ticket, act{State: "2"})
			}, "|In Progress|", "", "", `IN_PROGRESS`,
		},
		"reopened after it was closed": {
			nothing, func(t *testing.T, p *pair.Pair, c *customs, _ incident.ID, ticket string) {
				t.Helper()
				p.Act(ticket, act{State: "6"})
				p.Act(ticket, act{State: "7"})
				quiet(p)
				c.sees(func(t *connectors.Ticket, err error) error {
					t.Fields["state"], t.Version = "2", "reopened"
					return err
				})
			}, `|In Progress|the vendor's value "IN_PROGRESS" cannot be taken: state: an incident that is CLOSED cannot become IN_PROGRESS; report a new incident and give this number as its reference`, "", "FIELD_PARKED", "cannot be taken",
		},
		"given another number": {
			nothing, reads(func(t *connectors.Ticket, err error) error { t.Number = "CS0000042"; return err }), "|New|", "", "", `"number": ["INC0010001", "CS0000042"]`,
		},
		"moved to a queue with states of its own": {
			retitle, reads(func(t *connectors.Ticket, err error) error { t.Fields["state"] = "-5"; return err }),
			`|-5|state "-5" with hold_reason "" is in no row of`, "UPDATE DELIVERED", "FIELD_PARKED", "add a row under states:",
		},
		"hidden by rights": {
			retitle, reads(hidden), "|not visible|", "UPDATE DEAD", "DELIVERY_FAILED", `["New", "not visible"]`,
		},
		"hidden and shown again": {
			nothing, func(_ *testing.T, p *pair.Pair, c *customs, _ incident.ID, ticket string) {
				c.sees(hidden)
				p.Act(ticket, act{Title: "while it was hidden"})
				p.Poll()
				c.sees(nil)
				p.Advance(time.Hour)
			}, "|New|", "", "", `["not visible", "New"]`,
		},
		"deleted and restored, with an update waiting": {
			retitle, func(t *testing.T, p *pair.Pair, c *customs, id incident.ID, ticket string) {
				t.Helper()
				c.sees(gone(connectors.Deleted))
				p.Deliver()
				p.Poll()
				if _, err := p.Desk.Assess(t.Context(), p.Agent, assess(id, incident.P1)); err != nil { // nothing is queued for what is gone
					t.Fatal(err)
				}
				c.sees(nil)
				p.Act(ticket, act{Note: "restored"})
			}, "|New|", "UPDATE DELIVERED, UPDATE DELIVERED", "TICKET_GONE DELIVERY_FAILED", `"restored": "DELETED"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, c := world(t, "")
			id, ticket := p.Escalated("before")
			quiet(p)
			tt.waiting(p, id)
			tt.vendor(t, p, c, id, ticket.SysID)
			p.Act(ticket.SysID, act{Note: "something that a poll finds", User: "admin"})
			quiet(p)
			if got := pair.Scan[string](p, links); got != tt.link && (!strings.HasSuffix(tt.link, " of") || !strings.HasPrefix(got, tt.link)) {
				t.Errorf("the link is %q, want %q", got, tt.link)
			}
			if got := pair.Scan[string](p, lane); got != tt.lane {
				t.Errorf("the lane has %q, want %q", got, tt.lane)
			}
			if got := entries(p); got != tt.entries {
				t.Errorf("the ledger tells of %q, want %q", got, tt.entries)
			}
			if n := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry WHERE strpos(detail::text, $1) > 0 OR strpos(changes::text, $1) > 0`, tt.detail); n == 0 {
				t.Errorf("no entry says %s: %s", tt.detail, pair.Scan[string](p, `SELECT string_agg(kind || detail::text, ' ') FROM ledger_entry`))
			}
			if n := len(p.Sim.Tickets()); n != 1 {
				t.Errorf("%d tickets at the vendor: one was opened anew", n)
			}
			if name == "deleted and restored, with an update waiting" {
				if got := p.Ticket(ticket.SysID); got.ShortDescription != "an update that waits" || got.Priority != "1" {
					t.Errorf("after it was restored the ticket has %q and priority %s", got.ShortDescription, got.Priority)
				}
			}
		})
	}
}

func reads(read func(*connectors.Ticket, error) error) func(*testing.T, *pair.Pair, *customs, incident.ID, string) {
	return func(_ *testing.T, _ *pair.Pair, c *customs, _ incident.ID, _ string) { c.sees(read) }
}

// A ticket whose creation was never answered and that was deleted before anybody asked is not opened anew: where the vendor tells
// that it was there, the link is gone.
func TestR11DeletedWhileItsCreationWasUnknown(t *testing.T) {
	t.Parallel()
	p, c := world(t, "")
	p.Strike(servicenowtest.Fault{Kind: servicenowtest.FaultLostAnswer, Method: "POST"})
	p.Escalate("lost, then deleted")
	p.Deliver()
	c.find = func(found []connectors.Ticket) []connectors.Ticket {
		for n := range found {
			found[n].Gone = connectors.Deleted
		}
		return found
	}
	c.sees(func(t *connectors.Ticket, _ error) error {
		*t = connectors.Ticket{ID: t.ID, Gone: connectors.Deleted, Fields: connectors.Fields{}}
		return nil
	})
	for range 20 {
		p.Advance(time.Minute)
		p.Deliver()
	}
	if n := len(p.Sim.Tickets()); n != 1 {
		t.Errorf("%d tickets at the vendor", n)
	}
	if got := pair.Scan[string](p, `SELECT gone || ' ' || (external_id IS NOT NULL) FROM external_link`); got != "DELETED true" {
		t.Errorf("the link is %s", got)
	}
	if got := entries(p); got != "TICKET_GONE" {
		t.Errorf("the ledger tells of %s", got)
	}
}

// R12: what the mapping does not know is kept as it came and shown, everything else flows, and once a row is added it is known
// again although the ticket has not changed since.
func TestR12UnknownWordsAreKnownAgainOnceTheMappingIsEdited(t *testing.T) {
	t.Parallel()
	p, c := world(t, "vendor_values: {state: [\"1\", \"2\", \"3\", \"6\", \"7\", \"8\", \"*\"], hold_reason: [\"\", \"1\", \"3\", \"4\", \"5\"]}\nfields:\n  assignee: {vendor: u_owner}\n")
	id, ticket := p.Escalated("before")
	quiet(p)
	c.sees(func(t *connectors.Ticket, err error) error {
		t.Fields["state"], t.Fields["priority"], t.Fields["category"], t.Fields["u_owner"] = "17", "9", "phones", "nobody.known"
		return err
	})
	p.Act(ticket.SysID, act{Title: "theirs", Comment: "and a comment"})
	quiet(p)
	if got := pair.Scan[string](p, `SELECT string_agg(key, ' ' ORDER BY key) FROM external_link, jsonb_each_text(parked)`); got != "category priority state" {
		t.Fatalf("parked: %s", got)
	}
	for f, raw := range map[incident.Field]string{incident.FieldState: `state "17"`, incident.FieldPriority: `priority "9"`, incident.FieldCategory: `category "phones"`} {
		if got := parked(p, f); !strings.Contains(got, raw) || !strings.Contains(got, "add a row under") {
			t.Errorf("%s is parked because of %q", f, got)
		}
	}
	if got := pair.Scan[string](p, `SELECT title || '|' || assignee || '|' || state || '|' || (SELECT count(*) FROM comment) FROM incident`); got != "theirs|nobody.known|NEW|1" {
		t.Errorf("the hub has %s: the rest did not flow", got)
	}
	if got := entries(p); got != "FIELD_PARKED FIELD_PARKED FIELD_PARKED" {
		t.Errorf("the ledger tells of %s", got)
	}
	// The hub's own change of such a field overwrites nothing, and does not run hot.
	if _, err := p.Desk.Assess(t.Context(), p.Agent, assess(id, incident.P1)); err != nil {
		t.Fatal(err)
	}
	before := len(p.Sim.Calls())
	quiet(p)
	if n := len(p.Sim.Calls()) - before; n > 60 {
		t.Errorf("%d calls for a field that waits", n)
	}

	relay(t, p, `
vendor_values: {state: ["1", "2", "3", "6", "7", "8", "17"], category: ["", inquiry, software, hardware, network, database, phones]}
states:
  owner: vendor
  rows:
    - {hub: NEW, vendor: {state: "1"}}
    - {hub: IN_PROGRESS, vendor: {state: ["2", "17"]}}
    - {hub: ON_HOLD, vendor: {state: "3"}}
    - {hub: RESOLVED, vendor: {state: "6"}}
    - {hub: CLOSED, vendor: {state: "7"}}
    - {hub: CANCELLED, vendor: {state: "8"}}
  not_writable: [{hub: "*", reason: none of the others}]
categories:
  owner: hub
  rows:
    - {hub: Telephones, vendor: {category: phones}}
    - {hub: "", vendor: {category: "*"}, write: {category: ""}}
`)
	for range 2 {
		if _, err := reweigh(t, p); err != nil {
			t.Fatal(err)
		}
	}
	if got := pair.Scan[string](p, `SELECT state || '|' || category FROM incident`); got != "IN_PROGRESS|Telephones" {
		t.Errorf("with the new rows the hub has %s", got)
	}
	if got := pair.Scan[string](p, `SELECT coalesce(string_agg(key, ' ' ORDER BY key), '') FROM external_link, jsonb_each_text(parked)`); got != "priority" {
		t.Errorf("still parked: %s", got)
	}
}

// A value of the hub's that the mapping could not write goes out by itself once a row can.
func TestR12ValuesOfTheHubGoOutOnceTheMappingIsEdited(t *testing.T) {
	t.Parallel()
	p, _ := world(t, "")
	id, ticket := p.Escalated("before")
	quiet(p)
	if _, err := p.Desk.Hold(t.Context(), p.Agent, target(id), incident.CustomerDeferral, p.Now().Add(48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	quiet(p)
	if got := parked(p, incident.FieldState); !strings.Contains(got, "no hold reason for a deferral") {
		t.Fatalf("the state is parked because of %q", got)
	}
	if n, err := reweigh(t, p); n != 0 || err != nil {
		t.Errorf("with the same mapping %d links are read again, %v", n, err)
	}
	relay(t, p, `
states:
  owner: vendor
  rows:
    - {hub: NEW, vendor: {state: "1"}}
    - {hub: IN_PROGRESS, vendor: {state: "2"}}
    - {hub: ON_HOLD/CUSTOMER_DEFERRAL, vendor: {state: "3"}}
    - {hub: RESOLVED, vendor: {state: "6"}}
    - {hub: CLOSED, vendor: {state: "7"}}
    - {hub: CANCELLED, vendor: {state: "8"}}
  not_writable: [{hub: "*", reason: none of the others}]
`)
	if n, err := reweigh(t, p); n != 1 || err != nil {
		t.Errorf("%d links are read again, %v", n, err)
	}
	quiet(p)
	if got := p.Ticket(ticket.SysID).State; got != "3" || parked(p, incident.FieldState) != "" {
		t.Errorf("the ticket is in state %s, still parked: %q", got, parked(p, incident.FieldState))
	}
	if n, err := reweigh(t, p); n != 0 || err != nil {
		t.Errorf("afterwards %d links are read again, %v", n, err)
	}
}

package explain_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/explain"
	"liaison/sync/ledger"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

var snow = explain.Where{System: "ServiceNow", Ticket: "INC0010001"}

// kinds lists every kind of failure that a settlement can have.
func kinds() []string {
	out := []string{"gone", "internal"}
	for k := connectors.Transient; k <= connectors.NotFound; k++ {
		out = append(out, k.String())
	}
	return out
}

// plain reports what is wrong with a text that people are told.
func plain(t *testing.T, text string) {
	t.Helper()
	switch {
	case text == "":
		t.Error("nothing is said")
	case strings.ToUpper(text[:1]) != text[:1]:
		t.Errorf("it does not begin like a sentence: %s", text)
	case !strings.HasSuffix(text, ".") && !strings.HasSuffix(text, ".”"):
		t.Errorf("it does not end like a sentence: %s", text)
	}
	for _, bad := range []string{"  ", "..", "servicenow.Update", "(HTTP", "<nil>", "%!", "error_kind", "!"} {
		if strings.Contains(text, bad) {
			t.Errorf("it holds %q: %s", bad, text)
		}
	}
}

// failed is a failure's text as a settlement keeps it.
func failed(kind string) string {
	switch kind {
	case "gone", "internal", "something new":
		return "these words"
	}
	return "servicenow.Update: " + kind + " (HTTP 400): these words"
}

// Every kind of failure has words of its own, for what has happened and for what to do, in each state it can be in.
func TestEveryKindOfFailureHasWords(t *testing.T) {
	t.Parallel()
	said := map[string]string{}
	for _, kind := range append(kinds(), "something new") {
		for _, state := range []ledger.State{ledger.StateDead, ledger.StatePending, ledger.StateUnknown} {
			d := ledger.Delivery{
				Kind: ledger.UpdateTicket, State: state, ErrorKind: kind, Error: failed(kind),
				Values: incident.Values{incident.FieldPriority: "P1", incident.FieldTitle: "x"},
			}
			w := explain.Delivery(d, snow)
			plain(t, w.What)
			if !strings.Contains(w.What, "INC0010001") && !strings.Contains(w.What, "ServiceNow") {
				t.Errorf("%s: it names neither ticket nor system: %s", kind, w.What)
			}
			if state != ledger.StateDead {
				continue
			}
			plain(t, w.Do)
			if !strings.Contains(w.Do, "wait behind it") {
				t.Errorf("%s: it does not say who waits: %s", kind, w.Do)
			}
			if other, twice := said[w.What]; twice {
				t.Errorf("%s and %s are told alike", kind, other)
			}
			said[w.What] = kind
			if kind != "gone" && !strings.HasSuffix(w.What, ": “these words”.") {
				t.Errorf("%s: the vendor's words should stand alone at the end: %s", kind, w.What)
			}
		}
	}
}

func TestDeliveries(t *testing.T) {
	t.Parallel()
	update := incident.Values{incident.FieldPriority: "P1", incident.FieldTitle: "x"}
	for _, c := range []struct {
		d    ledger.Delivery
		at   explain.Where
		want string
	}{
		{ledger.Delivery{Kind: ledger.UpdateTicket, State: ledger.StatePending, Values: update}, snow, "Liaison has yet to write the title and the priority to ticket INC0010001 of ServiceNow."},
		{ledger.Delivery{Kind: ledger.CreateTicket, State: ledger.StatePending}, explain.Where{System: "ServiceNow", Paused: true}, "Liaison has yet to open a ticket in ServiceNow. ServiceNow is paused, so this waits. What you can do: Ask an administrator to resume the system."},
		{ledger.Delivery{Kind: ledger.CreateTicket, State: ledger.StateDelivered, Attempts: 3}, snow, "ServiceNow has it: Liaison opened ticket INC0010001, at the 3rd try."},
		{ledger.Delivery{Kind: ledger.SayComment, State: ledger.StateDelivered, Attempts: 1}, snow, "ServiceNow has it: Liaison wrote a comment to ticket INC0010001."},
		{ledger.Delivery{Kind: ledger.SayComment, State: ledger.StateSkipped}, snow, "A person decided that ServiceNow need not have this: Liaison did not write a comment to ticket INC0010001."},
		{
			ledger.Delivery{Kind: ledger.CloseDuplicate, State: ledger.StateSkipped, ErrorKind: "not ours", Error: "ticket T2 is left as it is: INC2 was opened by \"jane\""},
			snow,
			"A second ticket stands beside ticket INC0010001 of ServiceNow, and it is not certain that Liaison opened it, so Liaison leaves it as it is: “ticket T2 is left as it is: INC2 was opened by \"jane\"”. " +
				"What you can do: Look at both tickets there, and have the second one closed if it is there by mistake. Nothing waits for that here.",
		},
		{
			ledger.Delivery{Kind: ledger.CloseDuplicate, State: ledger.StateSkipped, ErrorKind: "unsupported", Error: "no way to close it"},
			snow,
			"Liaison could not close a duplicate of ticket INC0010001 of ServiceNow: “no way to close it”. What you can do: Have it done there by hand. Nothing waits for that here.",
		},
		{ledger.Delivery{Kind: ledger.SayComment, State: ledger.StateSending}, snow, "Liaison is about to write a comment to ticket INC0010001 of ServiceNow."},
		{
			ledger.Delivery{Kind: ledger.UpdateTicket, State: ledger.StateDead, ErrorKind: "rejected", Error: "servicenow.Update: rejected (HTTP 403): Priority is computed.", Values: incident.Values{incident.FieldPriority: "P1"}},
			snow, "ServiceNow refused the priority of ticket INC0010001: “Priority is computed.” What you can do: Correct what it says and send it again, send it again unchanged once ServiceNow would take it, or skip it: then ServiceNow never hears of this change. Until then, later changes to this ticket wait behind it.",
		},
		{
			ledger.Delivery{Kind: ledger.CreateTicket, State: ledger.StateUnknown, ErrorKind: "unknown outcome", Error: "connection reset"},
			explain.Where{System: "ServiceNow"},
			"Liaison tried to open a ticket in ServiceNow, and the answer was lost: nobody knows yet whether it is there: “connection reset”. Liaison asks ServiceNow what became of it, and sends it again only when it is sure that it is not there.",
		},
	} {
		if got := explain.Delivery(c.d, c.at).String(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// Each kind of entry has a sentence of its own.
func TestEveryKindOfEntryHasWords(t *testing.T) {
	t.Parallel()
	details := map[ledger.Kind]string{
		ledger.TicketOpened: `{"number": "INC0010001"}`, ledger.TicketChanged: `{"state": ["New", "In Progress"]}`, ledger.TicketGone: `{"how": "DELETED"}`,
		ledger.Conflicted: `{"field": "priority", "hub": "P1", "vendor": "P2", "winner": "HUB", "rule": "owner"}`, ledger.ConflictResolved: `{"field": "priority", "winner": "VENDOR"}`,
		ledger.FieldParked: `{"field": "category", "reason": "no word for “Toner”"}`, ledger.FieldFreed: `{"field": "category"}`, ledger.FieldStopped: `{"field": "assignee"}`,
		ledger.DeliveryFailed: `{"kind": "UPDATE", "errorKind": "rejected", "error": "servicenow.Update: rejected (HTTP 400): no"}`,
	}
	said := map[string]ledger.Kind{}
	for _, k := range ledger.Kinds() {
		e := ledger.Entry{Kind: k, Actor: ledger.Actor{Kind: ledger.Person, Name: "Ada Agent"}, Changes: ledger.Changes{incident.FieldPriority: {"P3", "P1"}}, Detail: json.RawMessage(details[k])}
		text := explain.Entry(e, snow)
		plain(t, text)
		if other, twice := said[text]; twice {
			t.Errorf("%s and %s are told alike: %s", k, other, text)
		}
		said[text] = k
		if strings.Contains(text, strings.ToLower(strings.ReplaceAll(string(k), "_", " "))+".") && strings.Contains(text, ": ") && details[k] == "" {
			t.Errorf("%s has no words of its own: %s", k, text)
		}
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	ada, system := ledger.Actor{Kind: ledger.Person, Name: "Ada Agent"}, ledger.Actor{Kind: ledger.System, Name: "ServiceNow"}
	for _, c := range []struct {
		e    ledger.Entry
		want string
	}{
		{
			ledger.Entry{Kind: ledger.Changed, Actor: ada, Changes: ledger.Changes{incident.FieldTitle: {"", "Printer on fire"}, incident.FieldAssignee: {"Bob", ""}, incident.FieldState: {"NEW", "ON_HOLD/AWAITING_VENDOR"}}},
			"Ada Agent changed the title to “Printer on fire”, the state from NEW to ON_HOLD/AWAITING_VENDOR and the agent from “Bob” to nothing.",
		},
		{ledger.Entry{Kind: ledger.Commented, Actor: system, Visibility: incident.Internal}, "ServiceNow wrote a work note."},
		{ledger.Entry{Kind: ledger.TicketChanged, Actor: system, Detail: json.RawMessage(`{"state": ["New", "In Progress"]}`)}, "Ticket INC0010001 of ServiceNow went from “New” to “In Progress” there, which changes nothing here."},
		{ledger.Entry{Kind: ledger.TicketChanged, Actor: system, Detail: json.RawMessage(`{"pushed": ["priority", "title"]}`)}, "Liaison sends the priority and the title to ticket INC0010001 of ServiceNow again, because the hub's value stands."},
		{ledger.Entry{Kind: ledger.Conflicted, Actor: system, Detail: json.RawMessage(`{"field": "priority", "hub": "", "vendor": "P2"}`)}, "Both sides changed the priority: here it was empty, in ServiceNow P2. A person has to decide."},
		{ledger.Entry{Kind: "SOMETHING_NEW", Actor: ada, Detail: json.RawMessage(`no json`)}, "Ada Agent: something new."},
	} {
		if got := explain.Entry(c.e, snow); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestVendorWords(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"servicenow.Update: rejected (HTTP 400): Invalid value":                                                          "Invalid value",
		"requesttracker.Say: transient: dial tcp: refused":                                                               "dial tcp: refused",
		"reading before writing: transient: servicenow.Read: unknown outcome: EOF":                                       "EOF",
		(&connectors.Error{Op: "servicenow.Read", Kind: connectors.Auth, Status: 401, Vendor: "User Not Found"}).Error(): "User Not Found",
		"the ticket has no id at the vendor":                                                                             "the ticket has no id at the vendor",
		"servicenow.Read: auth (HTTP 401)":                                                                               "",
	} {
		if got := explain.VendorWords(text); got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	head := ledger.Delivery{Kind: ledger.UpdateTicket, State: ledger.StatePending, ErrorKind: "transient", Error: "refused", Values: incident.Values{incident.FieldTitle: "x"}}
	link := ledger.Link{ExternalID: "abc", Number: "INC0010001", LastSyncedAt: now.Add(-90 * time.Second), Waiting: 3, Parked: map[incident.Field]string{incident.FieldCategory: "no word for Toner"}}
	got := strings.Join(explain.Link(explain.Standing{Link: link, Head: &head, Lane: ledger.LaneState{DueAt: now.Add(20 * time.Second)}}, snow, now), "\n")
	want := `The last exchange about it was 1 minute and 30 seconds ago.
ServiceNow could not be reached or could not answer, so Liaison could not write the title to ticket INC0010001: “refused”.
2 more deliveries wait behind it.
The next try is in 20 seconds.
The category waits for a person: no word for Toner.`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for name, c := range map[string]struct {
		s    explain.Standing
		want string
	}{
		"idle":    {explain.Standing{Link: ledger.Link{ExternalID: "abc"}}, "Nothing waits to be sent to ticket INC0010001 of ServiceNow."},
		"deleted": {explain.Standing{Link: ledger.Link{ExternalID: "abc", Gone: connectors.Deleted}}, "Ticket INC0010001 of ServiceNow was deleted there, so it is no longer followed."},
		"paused":  {explain.Standing{Link: ledger.Link{ExternalID: "abc"}, System: ledger.Health{Paused: true, PausedBy: "Ruth", PauseReason: "maintenance"}}, "ServiceNow is paused by Ruth: maintenance."},
	} {
		all := explain.Link(c.s, snow, now)
		if !strings.Contains(strings.Join(all, "\n"), c.want) {
			t.Errorf("%s: %v, want %s", name, all, c.want)
		}
	}
}

func TestRedacted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"user": "ada", "password": "hunter2", "n": 1}`:    `{"user": "ada", "password": "[redacted]", "n": 1}`,
		`{"api_key":"a\"b","x":"y"}`:                        `{"api_key":"[redacted]","x":"y"}`,
		`Authorization: Bearer abcdef0123456789`:            `Authorization: Bearer [redacted]`,
		`see https://ada:hunter2@example.org/x`:             `see https://[redacted]@example.org/x`,
		`my password: hunter2, thanks`:                      `my password: [redacted], thanks`,
		`token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_1`: `token [redacted]`,
		`The password does not work`:                        `The password does not work`,
		`{"short_description":"Password reset"}`:            `{"short_description":"Password reset"}`,
	} {
		if got := explain.Redacted(text); got != want {
			t.Errorf("%s\ngives %s\nwant  %s", text, got, want)
		}
	}
}

package graph_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// step runs a mutation on an incident and returns its state afterwards.
func (w *world) step(token, name, id, more string) string {
	w.t.Helper()
	data := w.must(token, fmt.Sprintf(`mutation($id: ID!) { %s(input: {incidentId: $id%s}) { incident { state } } }`, name, more), map[string]any{"id": id})
	return text(w.t, data, name, "incident", "state")
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.report(sam, "Printer")
	for _, s := range []struct{ name, more, want string }{
		{"updateIncident", `, title: "Printer on fire", service: "Printing", contact: {name: "Eve", email: "eve@example.org"}`, "NEW"},
		{"assignIncident", `, team: "Hardware", assignee: "Bob"`, "ASSIGNED"},
		{"beginWork", ``, "IN_PROGRESS"},
		{"assessIncident", `, priority: P2, impact: SITE, urgency: LOW, category: "Hardware"`, "IN_PROGRESS"},
		{"holdIncident", `, reason: CUSTOMER_DEFERRAL, until: "2030-01-31T10:00:00+01:00"`, "ON_HOLD"},
		{"resumeIncident", ``, "IN_PROGRESS"},
		{"resolveIncident", `, resolution: "Put out"`, "RESOLVED"},
		{"reopenIncident", ``, "IN_PROGRESS"},
		{"resolveIncident", `, resolution: "Replaced"`, "RESOLVED"},
		{"closeIncident", ``, "CLOSED"},
	} {
		if got := w.step(ada, s.name, id, s.more); got != s.want {
			t.Fatalf("%s leads to %s, want %s", s.name, got, s.want)
		}
	}
	i := at(t, w.must(sam, `query($id: ID!) { incident(id: $id) { version title team assignee priority resolution contact { name phone } resolvedAt closedAt nextStates
		history(first: 100) { nodes { kind changes { field before after } } } } }`, map[string]any{"id": id}), "incident")
	if fmt.Sprintln(at(t, i, "version"), at(t, i, "title"), at(t, i, "team"), at(t, i, "resolution"), at(t, i, "contact", "name"), at(t, i, "contact", "phone"), at(t, i, "nextStates")) !=
		"11 Printer on fire Hardware Replaced Eve <nil> []\n" {
		t.Errorf("incident %v", i)
	}
	var steps []string
	for _, e := range at(t, i, "history", "nodes").([]any) {
		for _, c := range at(t, e, "changes").([]any) {
			if at(t, c, "field") == "state" {
				steps = append(steps, fmt.Sprint(at(t, c, "after")))
			}
		}
	}
	if got := strings.Join(steps, " "); got != "NEW ASSIGNED IN_PROGRESS ON_HOLD/CUSTOMER_DEFERRAL IN_PROGRESS RESOLVED IN_PROGRESS RESOLVED CLOSED" {
		t.Errorf("the history tells %s", got)
	}
	cancelled := w.report(sam, "Mistake")
	if got := w.step(sam, "cancelIncident", cancelled, ""); got != "CANCELLED" {
		t.Errorf("cancelled leads to %s", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.report(sam, "Printer")
	before := w.must(ada, `{ incidents { totalCount } ledger { nodes { id } } deliveries { nodes { id } } }`, nil)
	long := strings.Repeat("x", 32001)
	for _, c := range []struct {
		name, token, document string
		code, field, says     string
	}{
		{"requester begins work", sam, `beginWork(input: {incidentId: $id}) { incident { id } }`, "FORBIDDEN", "", "only the desk"},
		{"requester assesses", sam, `assessIncident(input: {incidentId: $id, priority: P1}) { incident { id } }`, "FORBIDDEN", "", "only the desk"},
		{"requester escalates", sam, `escalateIncident(input: {incidentId: $id, system: "snow"}) { link { id } }`, "FORBIDDEN", "", "only the desk"},
		{"requester writes a note", sam, `addComment(input: {incidentId: $id, body: "x", visibility: INTERNAL}) { comment { id } }`, "FORBIDDEN", "", "PUBLIC"},
		{"agent skips", ada, `skipDelivery(input: {deliveryId: "RGVsaXZlcnk6MDE5MDAwMDAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDAwMDAw"}) { delivery { id } }`, "FORBIDDEN", "", "administrator"},
		{"unknown delivery", root, `skipDelivery(input: {deliveryId: "RGVsaXZlcnk6MDE5MDAwMDAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDAwMDAw"}) { delivery { id } }`, "NOT_FOUND", "", ""},
		{"close what is new", ada, `closeIncident(input: {incidentId: $id}) { incident { id } }`, "INVALID_TRANSITION", "state", "from here"},
		{"resume what is not held", ada, `resumeIncident(input: {incidentId: $id}) { incident { id } }`, "INVALID_TRANSITION", "state", "ON_HOLD"},
		{"resolve without a word", ada, `resolveIncident(input: {incidentId: $id, resolution: " "}) { incident { id } }`, "BAD_USER_INPUT", "resolution", "say what was done"},
		{"defer without a date", ada, `holdIncident(input: {incidentId: $id, reason: CUSTOMER_DEFERRAL}) { incident { id } }`, "BAD_USER_INPUT", "until", "future"},
		{"a time without an offset", ada, `holdIncident(input: {incidentId: $id, reason: CUSTOMER_DEFERRAL, until: "2030-01-31 10:00"}) { incident { id } }`, "BAD_USER_INPUT", "until", "RFC 3339"},
		{"a wrong state", ada, `holdIncident(input: {incidentId: $id, reason: BORED}) { incident { id } }`, "GRAPHQL_VALIDATION_FAILED", "", "BORED"},
		{"another version", ada, `beginWork(input: {incidentId: $id, expectedVersion: 7}) { incident { id } }`, "CONFLICT", "expectedVersion", "version 1"},
		{"no version", ada, `beginWork(input: {incidentId: $id, expectedVersion: 0}) { incident { id } }`, "BAD_USER_INPUT", "expectedVersion", "version"},
		{"unknown system", ada, `escalateIncident(input: {incidentId: $id, system: "sonw"}) { link { id } }`, "BAD_USER_INPUT", "system", "rt, snow"},
		{"another desk's system", ada, `escalateIncident(input: {incidentId: $id, system: "hidden"}) { link { id } }`, "BAD_USER_INPUT", "system", "rt, snow"},
		{"oversize comment", sam, `addComment(input: {incidentId: $id, body: "` + long + `"}) { comment { id } }`, "BAD_USER_INPUT", "body", "limit is 32000"},
		{"empty comment", sam, `addComment(input: {incidentId: $id, body: ""}) { comment { id } }`, "BAD_USER_INPUT", "body", "empty"},
		{"garbled id", sam, `addComment(input: {incidentId: "x", body: "x"}) { comment { id } }`, "BAD_USER_INPUT", "incidentId", "no id"},
		{"id of another kind", sam, `addComment(input: {incidentId: "T3JnYW5pc2F0aW9uOjE", body: "x"}) { comment { id } }`, "BAD_USER_INPUT", "incidentId", "Organisation"},
		{"unknown organisation", ada, `reportIncident(input: {description: "x", organisation: "nowhere"}) { incident { id } }`, "BAD_USER_INPUT", "organisation", "organisations query"},
		{"another desk's organisation", ada, `reportIncident(input: {description: "x", organisation: "elsewhere"}) { incident { id } }`, "BAD_USER_INPUT", "organisation", "organisations query"},
		{"agent names none", ada, `reportIncident(input: {description: "x"}) { incident { id } }`, "BAD_USER_INPUT", "organisation", "missing"},
		{"requester names another", sam, `reportIncident(input: {description: "x", organisation: "oakwood"}) { incident { id } }`, "FORBIDDEN", "", "your own"},
		{"requester names an unknown one", sam, `reportIncident(input: {description: "x", organisation: "nowhere"}) { incident { id } }`, "FORBIDDEN", "", "your own"},
		{"confidential", sam, `reportIncident(input: {description: "x", confidential: true}) { incident { id } }`, "BAD_USER_INPUT", "confidential", "not stored"},
		{"unknown category", sam, `reportIncident(input: {description: "x", category: "Cats"}) { incident { id } }`, "BAD_USER_INPUT", "category", "Hardware"},
		{"no mail address", sam, `reportIncident(input: {description: "x", contact: {email: "nobody"}}) { incident { id } }`, "BAD_USER_INPUT", "contact.email", "name@example.org"},
		{"NUL", sam, `reportIncident(input: {description: "x\u0000"}) { incident { id } }`, "BAD_USER_INPUT", "description", "NUL"},
		{"endless key", sam, `reportIncident(input: {description: "x", idempotencyKey: "` + strings.Repeat("k", 201) + `"}) { incident { id } }`, "BAD_USER_INPUT", "idempotencyKey", "200"},
		{"a number too large", sam, `addComment(input: {incidentId: $id, body: "x", expectedVersion: 4294967296}) { comment { id } }`, "BAD_USER_INPUT", "expectedVersion", "32 bits"},
	} {
		document := "mutation($id: ID!) { " + c.document + " }"
		variables := map[string]any{"id": id}
		if !strings.Contains(c.document, "$id") {
			document, variables = "mutation { "+c.document+" }", nil
		}
		r := w.ask(c.token, document, variables)
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			refused(t, r, c.code, c.field, c.says)
		})
	}
	after := w.must(ada, `{ incidents { totalCount } ledger { nodes { id } } deliveries { nodes { id } } }`, nil)
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("something was stored: %v, before %v", after, before)
	}
	if s := w.logs.String(); strings.Contains(s, "level=ERROR") {
		t.Errorf("a refusal was logged as an error: %s", s)
	}
}

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const report = `mutation($i: ReportIncidentInput!) { reportIncident(input: $i) { incident { id number } } }`
	input := map[string]any{"description": "x", "idempotencyKey": "k-1"}
	first := text(t, w.must(sam, report, map[string]any{"i": input}), "reportIncident", "incident", "number")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if again := w.ask(sam, report, map[string]any{"i": input}); len(again.Errors) > 0 || !strings.Contains(again.Body, first) {
				t.Errorf("the same call again answers %s", again.Body)
			}
		})
	}
	all.Wait()
	// A key belongs to its subject, and to one input.
	if number := text(t, w.must(oli, report, map[string]any{"i": input}), "reportIncident", "incident", "number"); number == first {
		t.Error("another subject's key was taken for this one's")
	}
	refused(t, w.ask(sam, report, map[string]any{"i": map[string]any{"description": "y", "idempotencyKey": "k-1"}}), "CONFLICT", "idempotencyKey", "different input")

	id := w.report(sam, "Printer")
	const say = `mutation($i: AddCommentInput!) { addComment(input: $i) { comment { id } } }`
	comment := map[string]any{"incidentId": id, "body": "x", "idempotencyKey": "k-2"}
	one := text(t, w.must(sam, say, map[string]any{"i": comment}), "addComment", "comment", "id")
	if two := text(t, w.must(sam, say, map[string]any{"i": comment}), "addComment", "comment", "id"); two != one {
		t.Errorf("a repeated comment got the id %s, not %s", two, one)
	}
	refused(t, w.ask(sam, `mutation($id: ID!) { cancelIncident(input: {incidentId: $id, idempotencyKey: "k-2"}) { incident { id } } }`, map[string]any{"id": id}), "CONFLICT", "idempotencyKey")
	// A key belongs to its operation, too, however alike the inputs are.
	other := w.report(sam, "Scanner")
	w.must(ada, `mutation($id: ID!) { beginWork(input: {incidentId: $id, idempotencyKey: "k-3"}) { incident { state } } }`, map[string]any{"id": other})
	refused(t, w.ask(ada, `mutation($id: ID!) { cancelIncident(input: {incidentId: $id, idempotencyKey: "k-3"}) { incident { id } } }`, map[string]any{"id": other}), "CONFLICT", "idempotencyKey")
	data := w.must(sam, `query($id: ID!) { incidents { totalCount } incident(id: $id) { state comments { totalCount } } }`, map[string]any{"id": id})
	if at(t, data, "incidents", "totalCount") != 3.0 || at(t, data, "incident", "comments", "totalCount") != 1.0 || at(t, data, "incident", "state") != "NEW" {
		t.Errorf("after the repeats: %v", data)
	}
}

func TestEscalateAndMend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.report(sam, "Printer")
	data := w.must(ada, `mutation($id: ID!) { escalateIncident(input: {incidentId: $id, system: "snow", summary: "Please look.",
		answers: [{question: "Since when?", answer: "Nine."}, {question: "Where?", answer: "Room 4."}]}) {
		incident { id version } link { id externalId externalNumber url remoteState syncStatus correlationId parked { field } system { key name } } } }`, map[string]any{"id": id})
	link := at(t, data, "escalateIncident", "link")
	if text(t, link, "syncStatus") != "OPENING" || text(t, link, "system", "key") != "snow" || at(t, link, "externalId") != nil || at(t, link, "correlationId") == nil {
		t.Errorf("fresh link %v", link)
	}
	const read = `query($id: ID!) { incident(id: $id) { comments { nodes { body visibility } } links { id syncStatus correlationId parked { field }
		deliveries { nodes { id kind state attempts error comment { body } values { field value } } } } } }`
	desk := at(t, w.must(ada, read, map[string]any{"id": id}), "incident")
	if got := text(t, desk, "comments", "nodes", 0, "body"); got != "Please look.\n\nSince when?\nNine.\n\nWhere?\nRoom 4." {
		t.Errorf("the vendor is told %q", got)
	}
	if text(t, desk, "links", 0, "deliveries", "nodes", 0, "kind") != "COMMENT" || text(t, desk, "links", 0, "deliveries", "nodes", 1, "kind") != "CREATE" {
		t.Errorf("deliveries newest first: %v", desk)
	}
	school := at(t, w.must(sam, read, map[string]any{"id": id}), "incident")
	if got := fmt.Sprintln(at(t, school, "comments", "nodes"), at(t, school, "links", 0, "deliveries"), at(t, school, "links", 0, "correlationId"), at(t, school, "links", 0, "parked")); got != "[] <nil> <nil> <nil>\n" {
		t.Errorf("the requester sees %s", got)
	}
	again := w.must(ada, `mutation($id: ID!) { escalateIncident(input: {incidentId: $id, system: "snow"}) { link { id } } }`, map[string]any{"id": id})
	if text(t, again, "escalateIncident", "link", "id") != text(t, link, "id") {
		t.Error("escalating again made another link")
	}

	refused(t, w.ask(sam, `{ deliveries { nodes { id } } }`, nil), "FORBIDDEN", "", "only the desk")
	create := text(t, desk, "links", 0, "deliveries", "nodes", 1, "id")
	refused(t, w.ask(ada, `mutation($d: ID!) { retryDelivery(input: {deliveryId: $d}) { delivery { id } } }`, map[string]any{"d": create}), "INVALID_TRANSITION", "deliveryId", "PENDING")
	w.exec(`UPDATE delivery SET state = 'DEAD', error_kind = 'REJECTED', error = 'no such group', attempts = 3 WHERE kind = 'CREATE'`)
	w.exec(`UPDATE lane SET held = true, trouble = 'DEAD'`)
	dead := w.must(root, `{ deliveries(filter: {states: [DEAD], system: "snow"}) { nodes { error errorKind attempts link { syncStatus } incident { number } values { field value } } } }`, nil)
	if text(t, dead, "deliveries", "nodes", 0, "error") != "no such group" || text(t, dead, "deliveries", "nodes", 0, "link", "syncStatus") != "STOPPED" {
		t.Errorf("dead letters %v", dead)
	}
	if none := w.must(root, `{ deliveries(filter: {states: [DEAD], system: "rt"}) { nodes { id } } }`, nil); len(at(t, none, "deliveries", "nodes").([]any)) != 0 {
		t.Errorf("another system's dead letters: %v", none)
	}
	retried := w.must(ada, `mutation($d: ID!) { retryDelivery(input: {deliveryId: $d}) { delivery { state error link { syncStatus } } } }`, map[string]any{"d": create})
	if text(t, retried, "retryDelivery", "delivery", "state") != "PENDING" || text(t, retried, "retryDelivery", "delivery", "link", "syncStatus") != "OPENING" {
		t.Errorf("retried %v", retried)
	}
	w.exec(`UPDATE delivery SET state = 'DEAD' WHERE kind = 'CREATE'`)
	w.exec(`UPDATE lane SET held = true, trouble = 'DEAD'`)
	skipped := w.must(root, `mutation($d: ID!) { skipDelivery(input: {deliveryId: $d}) { delivery { state settledAt } } }`, map[string]any{"d": create})
	if text(t, skipped, "skipDelivery", "delivery", "state") != "SKIPPED" || at(t, skipped, "skipDelivery", "delivery", "settledAt") == nil {
		t.Errorf("skipped %v", skipped)
	}
	entries := w.must(ada, `query($id: ID!) { ledger(filter: {incident: $id}, first: 2) { nodes { kind traceId link { system { key } } detail { name value } } } }`, map[string]any{"id": id})
	if text(t, entries, "ledger", "nodes", 0, "kind") != "DELIVERY_SKIPPED" || text(t, entries, "ledger", "nodes", 1, "kind") != "DELIVERY_RETRIED" ||
		text(t, entries, "ledger", "nodes", 0, "link", "system", "key") != "snow" {
		t.Errorf("the ledger tells %v", entries)
	}
}

// Mutations of one document run one after the other, and each answer shows what its own change left.
func TestMutationsInARow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.report(sam, "Printer")
	data := w.must(ada, `mutation($id: ID!) {
		a: addComment(input: {incidentId: $id, body: "one"}) { incident { comments { totalCount } } }
		b: addComment(input: {incidentId: $id, body: "two"}) { incident { comments { totalCount } } }
		c: beginWork(input: {incidentId: $id}) { incident { state version } } }`, map[string]any{"id": id})
	if got := fmt.Sprint(at(t, data, "a", "incident", "comments", "totalCount"), at(t, data, "b", "incident", "comments", "totalCount"), at(t, data, "c", "incident", "version")); got != "1 2 4" {
		t.Errorf("the answers show %s", got)
	}
}

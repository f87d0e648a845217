package graph_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// opaque is an id as a client has it.
func opaque(kind, key string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(kind + ":" + key))
}

// bare is the key in a client's id.
func bare(t *testing.T, id string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(b), ":")
	return key
}

// escalated opens an incident with a link to ServiceNow and returns the incident's and the link's ids.
func (w *world) escalated(token, title string, more ...string) (incidentID, linkID string) {
	w.t.Helper()
	incidentID = w.report(token, title, more...)
	data := w.must(ada, `mutation($id: ID!) { escalateIncident(input: {incidentId: $id, system: "snow"}) { link { id } } }`, map[string]any{"id": incidentID})
	return incidentID, text(w.t, data, "escalateIncident", "link", "id")
}

// kill makes every open delivery a dead letter.
func (w *world) kill(kind, words string) {
	w.t.Helper()
	w.exec(`UPDATE delivery SET state = 'DEAD', error_kind = $1, error = $2, attempts = 3 WHERE state = 'PENDING'
		AND version = (SELECT min(d.version) FROM delivery d JOIN lane l ON l.link_id = d.link_id WHERE d.link_id = delivery.link_id AND d.version > l.done_version)`, kind, words)
	w.exec(`UPDATE lane SET held = true, trouble = 'DEAD', due_at = NULL`)
}

func (w *world) dead(token string) []any {
	w.t.Helper()
	data := w.must(token, `{ deliveries(filter: {states: [DEAD]}) { nodes { id kind values { field value } editedComment comment { body } } } }`, nil)
	return at(w.t, data, "deliveries", "nodes").([]any)
}

func TestDeadLettersSpeakPlainly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.escalated(sam, "Printer")
	w.kill("rejected", "servicenow.Create: rejected (HTTP 400): Invalid assignment group")
	ask := `{ deliveries(filter: {errorKinds: ["rejected"]}) { nodes { payload explanation { what whatToDo } } } }`
	agent := at(t, w.must(ada, ask, nil), "deliveries", "nodes", 0)
	if got := text(t, agent, "explanation", "what"); got != "ServiceNow refused to open a ticket: “Invalid assignment group”." {
		t.Errorf("what: %s", got)
	}
	if got := text(t, agent, "explanation", "whatToDo"); !strings.Contains(got, "Correct what it says and send it again") || !strings.Contains(got, "wait behind it") {
		t.Errorf("what to do: %s", got)
	}
	if at(t, agent, "payload") != nil {
		t.Error("an agent sees the payload")
	}
	var sent struct {
		CorrelationID string
		Fields        map[string]string
	}
	payload := text(t, at(t, w.must(root, ask, nil), "deliveries", "nodes", 0), "payload")
	if err := json.Unmarshal([]byte(payload), &sent); err != nil {
		t.Fatal(err)
	}
	if sent.CorrelationID == "" || sent.Fields["short_description"] != "Printer" {
		t.Errorf("the payload is %s", payload)
	}
	if strings.Contains(payload, "token-sam@example.org") || strings.Contains(payload, "01582 1") {
		t.Errorf("the payload names a person: %s", payload)
	}
	if none := w.must(ada, `{ deliveries(filter: {errorKinds: ["transient"]}) { nodes { id } } }`, nil); len(at(t, none, "deliveries", "nodes").([]any)) != 0 {
		t.Errorf("of another kind: %v", none)
	}
}

func TestEditDelivery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, link := w.escalated(sam, "Printer")
	w.step(ada, "updateIncident", id, `, title: "Printer on fire"`)
	w.kill("rejected", "no")
	d := text(t, w.dead(ada)[0], "id")
	edit := func(token, more string) result {
		return w.ask(token, fmt.Sprintf(`mutation($d: ID!) { editDelivery(input: {deliveryId: $d, %s}) { delivery { state values { field value } link { syncStatus } } } }`, more), map[string]any{"d": d})
	}
	refused(t, edit(ada, `values: [{field: "title", value: "x"}]`), "FORBIDDEN", "", "administrator")
	refused(t, edit(root, `values: []`), "BAD_USER_INPUT", "values", "nothing")
	refused(t, edit(root, `values: [{field: "colour", value: "x"}]`), "BAD_USER_INPUT", "values.colour", "no such field")
	refused(t, edit(root, `values: [{field: "priority", value: "URGENT"}]`), "BAD_USER_INPUT", "values.priority", "P1")
	refused(t, edit(root, `values: [{field: "title", value: "a"}, {field: "title", value: "b"}]`), "BAD_USER_INPUT", "values.title", "twice")

	done := edit(root, `values: [{field: "title", value: "Printer, small"}, {field: "category", leaveOut: true}], retry: false, idempotencyKey: "e1"`)
	if len(done.Errors) > 0 || text(t, done.Data, "editDelivery", "delivery", "state") != "DEAD" {
		t.Fatalf("edited: %s", done.Body)
	}
	again := edit(root, `values: [{field: "title", value: "Printer, small"}, {field: "category", leaveOut: true}], retry: false, idempotencyKey: "e1"`)
	if again.Body != done.Body {
		t.Errorf("the same call again: %s", again.Body)
	}
	refused(t, edit(root, `values: [{field: "title", value: "other"}], idempotencyKey: "e1"`), "CONFLICT", "idempotencyKey")
	values := fmt.Sprint(at(t, done.Data, "editDelivery", "delivery", "values"))
	if !strings.Contains(values, "Printer, small") || strings.Contains(values, "category") {
		t.Errorf("values are %s", values)
	}
	entries := w.must(root, `query($i: ID!) { ledger(filter: {incident: $i, kinds: [DELIVERY_EDITED]}) { nodes { text actor { name } visibility detail { name value } } } }`, map[string]any{"i": id})
	if n := len(at(t, entries, "ledger", "nodes").([]any)); n != 1 {
		t.Fatalf("%d entries", n)
	}
	told := fmt.Sprint(at(t, entries, "ledger", "nodes", 0))
	for _, part := range []string{"Ruth Root edited a delivery to ServiceNow", `"title": "Printer"`, `"title": "Printer, small"`, "INTERNAL"} {
		if !strings.Contains(told, part) {
			t.Errorf("the entry should hold %s: %s", part, told)
		}
	}
	// The incident is as it was, and the one behind is still behind.
	if got := text(t, w.must(ada, `query($i: ID!) { incident(id: $i) { title } }`, map[string]any{"i": id}), "incident", "title"); got != "Printer on fire" {
		t.Errorf("the title is %s", got)
	}
	retried := edit(root, `values: [{field: "title", value: "Printer!"}]`)
	if len(retried.Errors) > 0 || text(t, retried.Data, "editDelivery", "delivery", "state") != "PENDING" || text(t, retried.Data, "editDelivery", "delivery", "link", "syncStatus") != "OPENING" {
		t.Fatalf("edited and retried: %s", retried.Body)
	}
	x, err := w.ledger.NextExchanges(t.Context(), 1, 10, patience)
	if err != nil || len(x) != 1 || x[0].Delivery.Kind != ledger.CreateTicket || x[0].Delivery.Values[incident.FieldTitle] != "Printer!" {
		t.Fatalf("the next exchange is %+v, %v", x, err)
	}
	refused(t, edit(root, `values: [{field: "title", value: "late"}]`), "INVALID_TRANSITION", "deliveryId", "DEAD")
	why := w.must(ada, `query($l: ID!) { node(id: $l) { ... on ExternalLink { explanation } } }`, map[string]any{"l": link})
	if got := fmt.Sprint(at(t, why, "node", "explanation")); !strings.Contains(got, "One more delivery waits behind it") || !strings.Contains(got, "under way right now") {
		t.Errorf("the link explains itself as %s", got)
	}
}

func TestEditComment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, _ := w.escalated(sam, "Printer")
	w.exec(`UPDATE delivery SET state = 'DELIVERED'`)
	w.exec(`UPDATE lane SET done_version = (SELECT max(version) FROM delivery)`)
	w.comment(ada, id, "My card number is 1234")
	w.kill("rejected", "not allowed")
	d := text(t, w.dead(ada)[0], "id")
	refused(t, w.ask(root, `mutation($d: ID!) { editDelivery(input: {deliveryId: $d, comment: "  "}) { delivery { id } } }`, map[string]any{"d": d}), "BAD_USER_INPUT", "comment", "empty")
	data := w.must(root, `mutation($d: ID!) { editDelivery(input: {deliveryId: $d, comment: "My number is withheld"}) { delivery { editedComment comment { body } } } }`, map[string]any{"d": d})
	if text(t, data, "editDelivery", "delivery", "editedComment") != "My number is withheld" || text(t, data, "editDelivery", "delivery", "comment", "body") != "My card number is 1234" {
		t.Errorf("edited %v", data)
	}
	x, err := w.ledger.NextExchanges(t.Context(), 1, 10, patience)
	if err != nil || len(x) != 1 || x[0].Comment.Body != "My number is withheld" {
		t.Errorf("the vendor would get %+v, %v", x, err)
	}
}

func TestMendingInBulk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, title := range []string{"a", "b", "c"} {
		w.escalated(sam, title)
	}
	w.kill("rejected", "no")
	retry := `mutation($f: DeadLetterFilter) { retryDeliveries(input: {filter: $f}) { deliveries { state incident { title } } passedOver more } }`
	refused(t, w.ask(sam, retry, nil), "FORBIDDEN", "")
	refused(t, w.ask(ada, retry, map[string]any{"f": map[string]any{"system": "hidden"}}), "BAD_USER_INPUT", "filter.system", "no system")
	refused(t, w.ask(root, `mutation { skipDeliveries(input: {filter: {}}) { more } }`, nil), "BAD_USER_INPUT", "filter", "empty")
	refused(t, w.ask(ada, `mutation { skipDeliveries(input: {filter: {system: "snow"}}) { more } }`, nil), "FORBIDDEN", "")
	if none := w.must(other, retry, nil); len(at(t, none, "retryDeliveries", "deliveries").([]any)) != 0 {
		t.Errorf("another desk mends %v", none)
	}
	if none := w.must(ada, retry, map[string]any{"f": map[string]any{"errorKinds": []string{"auth"}}}); len(at(t, none, "retryDeliveries", "deliveries").([]any)) != 0 {
		t.Errorf("of another kind %v", none)
	}
	done := at(t, w.must(ada, retry, map[string]any{"f": map[string]any{"system": "snow"}}), "retryDeliveries")
	if got := fmt.Sprint(at(t, done, "deliveries")); got != "[map[incident:map[title:a] state:PENDING] map[incident:map[title:b] state:PENDING] map[incident:map[title:c] state:PENDING]]" || at(t, done, "more") != false {
		t.Errorf("mended %v", done)
	}
	w.kill("rejected", "no")
	skipped := w.must(root, `mutation { skipDeliveries(input: {filter: {errorKinds: ["rejected"]}}) { deliveries { state } } }`, nil)
	if got := len(at(t, skipped, "skipDeliveries", "deliveries").([]any)); got != 3 || len(w.dead(ada)) != 0 {
		t.Errorf("skipped %v", skipped)
	}
}

func TestMendingOnceWithAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.escalated(sam, "Printer")
	w.kill("rejected", "no")
	d := text(t, w.dead(ada)[0], "id")
	retry := `mutation($d: ID!) { retryDelivery(input: {deliveryId: $d, idempotencyKey: "k"}) { delivery { id state } } }`
	first, second := w.ask(ada, retry, map[string]any{"d": d}), w.ask(ada, retry, map[string]any{"d": d})
	if first.Body != second.Body || len(first.Errors) > 0 {
		t.Errorf("first %s, then %s", first.Body, second.Body)
	}
	refused(t, w.ask(root, `mutation($d: ID!) { skipDelivery(input: {deliveryId: $d}) { delivery { id } } }`, map[string]any{"d": d}), "INVALID_TRANSITION", "deliveryId")
}

// A call about many dead letters that is made again with its key is about the same ones: what has died since, even one of
// them, is left to a person who knows of it.
func TestMendingInBulkOnceWithAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, title := range []string{"a", "b", "c"} {
		w.escalated(sam, title)
	}
	w.kill("rejected", "no")
	retry := func(token, key string, filter map[string]any) result {
		return w.ask(token, `mutation($f: DeadLetterFilter, $k: String) { retryDeliveries(input: {filter: $f, idempotencyKey: $k}) { deliveries { state incident { title } } passedOver more } }`,
			map[string]any{"f": filter, "k": key})
	}
	states := func(r result) (out string) {
		t.Helper()
		if len(r.Errors) > 0 {
			t.Fatal(r.Body)
		}
		for _, d := range at(t, r.Data, "retryDeliveries", "deliveries").([]any) {
			out += text(t, d, "incident", "title") + " " + text(t, d, "state") + ", "
		}
		return out
	}
	snow := map[string]any{"system": "snow"}
	// Cut off in the middle: the database takes no more after the first.
	second := bare(t, text(t, w.dead(ada)[1], "id"))
	w.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$`)
	w.exec(`CREATE TRIGGER refuse BEFORE UPDATE ON delivery FOR EACH ROW WHEN (NEW.id = '` + second + `') EXECUTE FUNCTION refuse()`)
	refused(t, retry(ada, "k", snow), "UNAVAILABLE", "")
	w.exec(`DROP TRIGGER refuse ON delivery`)
	w.kill("rejected", "no") // what was sent again has died again
	if n := len(w.dead(ada)); n != 3 {
		t.Fatalf("%d dead letters", n)
	}
	w.escalated(sam, "d")
	w.kill("rejected", "no")
	if got := states(retry(ada, "k", snow)); got != "a DEAD, b PENDING, c PENDING, " {
		t.Errorf("going on: %s", got)
	}
	w.kill("rejected", "no")
	if got := states(retry(ada, "k", snow)); got != "a DEAD, b DEAD, c DEAD, " {
		t.Errorf("the same again: %s", got)
	}
	refused(t, retry(ada, "k", nil), "CONFLICT", "idempotencyKey")
	refused(t, w.ask(ada, `mutation { retryDeliveries(input: {filter: {system: "snow", errorKinds: ["rejected"]}, idempotencyKey: "k"}) { more } }`, nil), "CONFLICT", "idempotencyKey")
	w.must(root, `mutation { skipDeliveries(input: {filter: {system: "snow"}, idempotencyKey: "k"}) { more } }`, nil) // another person's key is another key
	if n := len(w.dead(ada)); n != 0 {
		t.Errorf("%d dead letters after all were given up", n)
	}
	// A first call that found nothing answers nothing again.
	w.escalated(sam, "e")
	if got := states(retry(ada, "none", snow)); got != "" {
		t.Errorf("nothing is dead: %s", got)
	}
	w.kill("rejected", "no")
	if got := states(retry(ada, "none", snow)); got != "" {
		t.Errorf("with the key of a call that found nothing: %s", got)
	}
	refused(t, retry(ada, strings.Repeat("k", 201), snow), "BAD_USER_INPUT", "idempotencyKey")
	if got := states(retry(ada, "new", snow)); got != "e PENDING, " {
		t.Errorf("with a new key: %s", got)
	}
	if got := states(retry(other, "new", nil)); got != "" {
		t.Errorf("another desk's person finds %s", got)
	}
}

// A person who skips the opening of a ticket is not told that it is being opened.
func TestASkippedOpening(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, link := w.escalated(sam, "Printer")
	ask := `query($l: ID!) { node(id: $l) { ... on ExternalLink { syncStatus externalId explanation } } }`
	status := func() string { return text(t, w.must(ada, ask, map[string]any{"l": link}), "node", "syncStatus") }
	if got := status(); got != "OPENING" {
		t.Errorf("before: %s", got)
	}
	w.kill("rejected", "no")
	if got := status(); got != "STOPPED" {
		t.Errorf("given up: %s", got)
	}
	skipped := w.must(root, `mutation($d: ID!) { skipDelivery(input: {deliveryId: $d}) { delivery { link { syncStatus } } } }`, map[string]any{"d": text(t, w.dead(ada)[0], "id")})
	if got := text(t, skipped, "skipDelivery", "delivery", "link", "syncStatus"); got != "NOT_OPENED" {
		t.Errorf("the answer: %s", got)
	}
	if got := status(); got != "NOT_OPENED" {
		t.Errorf("skipped: %s", got)
	}
	if got := fmt.Sprint(at(t, w.must(ada, ask, map[string]any{"l": link}), "node", "explanation")); !strings.Contains(got, "No ticket was opened in ServiceNow") {
		t.Errorf("it explains itself as %s", got)
	}
}

func TestPausing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.escalated(sam, "Printer")
	pause := `mutation($s: String!) { pauseSystem(input: {system: $s, reason: "their maintenance"}) { system { key paused pausedBy pauseReason pausedAt health { status } } } }`
	refused(t, w.ask(ada, pause, map[string]any{"s": "snow"}), "FORBIDDEN", "", "administrator")
	foreign, missing := w.ask(boss, pause, map[string]any{"s": "snow"}), w.ask(boss, pause, map[string]any{"s": "nothing"})
	if foreign.Body != missing.Body {
		t.Errorf("foreign %s\nmissing %s", foreign.Body, missing.Body)
	}
	refused(t, foreign, "BAD_USER_INPUT", "system")
	refused(t, w.ask(root, `mutation { pauseSystem(input: {system: "snow", reason: "a\nb"}) { system { key } } }`, nil), "BAD_USER_INPUT", "reason")
	s := at(t, w.must(root, pause, map[string]any{"s": "snow"}), "pauseSystem", "system")
	if got := fmt.Sprintln(at(t, s, "paused"), at(t, s, "pausedBy"), at(t, s, "pauseReason"), at(t, s, "health", "status")); got != "true Ruth Root their maintenance PAUSED\n" {
		t.Errorf("paused: %v", s)
	}
	if x, err := w.ledger.NextExchanges(t.Context(), 1, 10, patience); err != nil || len(x) != 0 {
		t.Errorf("a paused system's lanes give %v, %v", x, err)
	}
	why := w.must(ada, `{ deliveries { nodes { explanation { what whatToDo } } } }`, nil)
	if got := fmt.Sprint(at(t, why, "deliveries", "nodes", 0, "explanation")); !strings.Contains(got, "is paused") {
		t.Errorf("the delivery says %s", got)
	}
	school := at(t, w.must(sam, `{ systems { key paused pausedBy pauseReason health { status } } }`, nil), "systems", 1)
	if got := fmt.Sprint(school); got != "map[health:<nil> key:snow pauseReason:<nil> paused:true pausedBy:<nil>]" {
		t.Errorf("a requester sees %s", got)
	}
	resumed := w.must(root, `mutation { resumeSystem(input: {system: "snow"}) { system { paused pausedAt pausedBy } } }`, nil)
	if got := fmt.Sprint(at(t, resumed, "resumeSystem", "system")); got != "map[paused:false pausedAt:<nil> pausedBy:<nil>]" {
		t.Errorf("resumed: %s", got)
	}
	if x, err := w.ledger.NextExchanges(t.Context(), 1, 10, patience); err != nil || len(x) != 1 {
		t.Errorf("the resumed system's lanes give %v, %v", x, err)
	}
}

func TestInbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, link := w.escalated(sam, "Printer")
	add := func(id, system, state, body, reason string, more ...any) {
		w.exec(`INSERT INTO inbox (id, system_id, source, body, content_type, state, reason, due_at, received_at, digest)
			SELECT $1, s.id, 'WEBHOOK', $3, 'application/json', $4, $5, now(), '2026-11-21T08:00:00Z'::timestamptz, sha256($3) FROM external_system s WHERE s.key = $2`,
			id, system, []byte(body), state, reason)
		if len(more) > 0 {
			w.exec(`UPDATE inbox SET organisation_id = 1, link_id = $2, external_id = 'abc', number = 'INC0010001' WHERE id = $1`, id, more[0])
		}
	}
	const parked, done, foreign = "01900000-0000-7000-8000-00000000000a", "01900000-0000-7000-8000-00000000000b", "01900000-0000-7000-8000-00000000000c"
	add(parked, "snow", "PARKED", `{"hello": 7, "password": "hunter2"}`, "the body names no ticket")
	add(done, "snow", "DONE", `{}`, "", bare(t, link))
	add(foreign, "hidden", "PARKED", `{}`, "x")

	ask := `query($f: InboxFilter) { inbox(filter: $f) { nodes { id system { key } state reason body receivedAt externalNumber link { id } } pageInfo { hasNextPage } } }`
	refused(t, w.ask(sam, ask, nil), "FORBIDDEN", "", "only the desk")
	rows := func(token string, filter map[string]any) []any {
		return at(t, w.must(token, ask, map[string]any{"f": filter}), "inbox", "nodes").([]any)
	}
	if got := rows(ada, nil); len(got) != 2 || at(t, got[0], "body") != nil {
		t.Errorf("an agent sees %v", got)
	}
	if got := rows(other, nil); len(got) != 1 || text(t, got[0], "system", "key") != "hidden" {
		t.Errorf("another desk sees %v", got)
	}
	mine := rows(root, map[string]any{"states": []string{"PARKED"}, "systems": []string{"snow"}})
	if len(mine) != 1 || text(t, mine[0], "body") != `{"hello": 7, "password": "[redacted]"}` {
		t.Errorf("an administrator sees %v", mine)
	}
	for name, filter := range map[string]map[string]any{"ticket": {"ticket": "INC0010001"}, "link": {"link": link}} {
		if got := rows(ada, filter); len(got) != 1 || text(t, got[0], "link", "id") != link {
			t.Errorf("by %s: %v", name, got)
		}
	}
	node := `query($id: ID!) { node(id: $id) { id } }`
	a, b := w.ask(ada, node, map[string]any{"id": opaque("InboxItem", foreign)}), w.ask(ada, node, map[string]any{"id": opaque("InboxItem", uuid.NewString())})
	if a.Body != b.Body {
		t.Errorf("foreign %s\nmissing %s", a.Body, b.Body)
	}
	w.must(ada, node, map[string]any{"id": opaque("InboxItem", done)})

	replay := `mutation($i: ReplayInboxInput!) { replayInbox(input: $i) { replayed { item { id state reason } as reason } } }`
	refused(t, w.ask(sam, replay, map[string]any{"i": map[string]any{}}), "FORBIDDEN", "")
	refused(t, w.ask(ada, replay, map[string]any{"i": map[string]any{"ids": []string{}}}), "BAD_USER_INPUT", "ids")
	refused(t, w.ask(ada, replay, map[string]any{"i": map[string]any{"system": "hidden"}}), "BAD_USER_INPUT", "system")
	for _, id := range []string{foreign, uuid.NewString()} {
		if got := at(t, w.must(ada, replay, map[string]any{"i": map[string]any{"ids": []string{opaque("InboxItem", id)}}}), "replayInbox", "replayed").([]any); len(got) != 0 {
			t.Errorf("replayed %v", got)
		}
	}
	still := at(t, w.must(ada, replay, map[string]any{"i": map[string]any{"system": "snow"}}), "replayInbox", "replayed").([]any)
	if len(still) != 1 || text(t, still[0], "item", "state") != "PARKED" || at(t, still[0], "reason") == nil {
		t.Errorf("what cannot be understood still: %v", still)
	}
	w.exec(`UPDATE inbox SET body = '{"sys_id": "0123456789abcdef0123456789abcdef"}' WHERE id = $1`, parked)
	again := at(t, w.must(ada, replay, map[string]any{"i": map[string]any{"ids": []string{opaque("InboxItem", parked)}}}), "replayInbox", "replayed").([]any)
	if len(again) != 1 || len(at(t, again[0], "as").([]any)) != 1 || text(t, again[0], "item", "state") != "DONE" || !strings.Contains(text(t, again[0], "item", "reason"), "Ada Agent") {
		t.Errorf("replayed after mending: %v", again)
	}
	if got := rows(ada, map[string]any{"sources": []string{"REPLAY"}}); len(got) != 1 || text(t, got[0], "state") != "WAITING" {
		t.Errorf("the replay is %v", got)
	}
}

func TestSystemHealth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.escalated(sam, "a")
	w.escalated(oli, "b")
	w.kill("rejected", "no")
	w.exec(`INSERT INTO pulse (system_id, sent_at, read_at, news_at, failed_at, error_kind, error, breaker, updated_at, since)
		VALUES (1, $1, $1, $1, $1, 'transient', 'refused', 'CLOSED', $1, $1)`, w.clock.now())
	ask := `{ systems { key health { status inStep dead waiting retrying unknown parked conflicts drift lastSentAt oldestUnsent breaker lastFailure { kind text } alarms { kind text } } } }`
	data := w.must(ada, ask, nil)
	snow := at(t, data, "systems", 1, "health")
	if text(t, snow, "status") != "NEEDS_YOU" || at(t, snow, "inStep") != false || at(t, snow, "dead") != 2.0 || at(t, snow, "waiting") != 2.0 || at(t, snow, "lastSentAt") == nil ||
		at(t, snow, "oldestUnsent") == nil || text(t, snow, "lastFailure", "text") != "refused" || text(t, snow, "alarms", 0, "kind") != "DEAD_LETTERS" {
		t.Errorf("health is %v", snow)
	}
	if rt := at(t, data, "systems", 0, "health"); text(t, rt, "status") != "UNPROVEN" || text(t, rt, "alarms", 0, "kind") != "NO_HUB" {
		t.Errorf("a system that nobody looked at is %v", rt)
	}
	if got := at(t, w.must(sam, ask, nil), "systems", 1, "health"); got != nil {
		t.Errorf("a requester sees %v", got)
	}
	if got := at(t, w.must(other, ask, nil), "systems").([]any); len(got) != 1 {
		t.Errorf("another desk sees %v", got)
	}
}

func TestCauses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, link := w.escalated(sam, "Printer")
	w.exec(`UPDATE external_link SET external_id = 'abc', number = 'INC0010001'`)
	const trace = "0af7651916cd43dd8448eb211c80319c"
	key := bare(t, id)
	w.exec(`INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, link_id, changes, detail, at, trace_id, mapping) VALUES
		(1, $1, 3, 'CHANGED', 'SYSTEM', 'ServiceNow', $2, '{"priority": ["NONE", "P2"]}', '{}', '2026-11-21T10:00:00Z', $3, 'm1'),
		(1, $1, 4, 'CONFLICT', 'SYSTEM', 'ServiceNow', $2, '{}', '{"field": "title", "hub": "a", "vendor": "b", "winner": "HUB", "rule": "the hub owns it"}', '2026-11-21T10:00:00Z', $3, 'm1'),
		(1, $1, 5, 'TICKET_OPENED', 'SYSTEM', 'ServiceNow', $2, '{}', '{"number": "INC0010001"}', '2026-11-21T10:01:00Z', (SELECT trace_id FROM ledger_entry WHERE version = 2), 'm1')`,
		key, bare(t, link), trace)
	w.exec(`INSERT INTO inbox (id, system_id, source, organisation_id, link_id, number, state, due_at, received_at, trace)
		VALUES ('01900000-0000-7000-8000-00000000000a', 1, 'WEBHOOK', 1, $1, 'INC0010001', 'DONE', '2026-11-21T09:59:59Z', '2026-11-21T09:59:59Z', $2)`,
		bare(t, link), "00-"+trace+"-b7ad6b7169203331-01")
	ask := `query($i: ID!) { ledger(filter: {incident: $i, systems: ["snow"], actors: [SYSTEM]}) { nodes { kind text
		cause { chain rule mapping traceId system { key } entry { version } call { id source } delivery { id } } } } }`
	nodes := at(t, w.must(ada, ask, map[string]any{"i": id}), "ledger", "nodes")
	opened, conflict, changed := at(t, nodes, 0), at(t, nodes, 1), at(t, nodes, 2)
	if got := text(t, changed, "text"); got != "ServiceNow changed the priority from NONE to P2." {
		t.Errorf("text: %s", got)
	}
	if got := fmt.Sprintln(at(t, changed, "cause", "mapping"), at(t, changed, "cause", "traceId"), at(t, changed, "cause", "system", "key"), at(t, changed, "cause", "entry"), at(t, changed, "cause", "call", "source")); got != "m1 "+trace+" snow <nil> WEBHOOK\n" {
		t.Errorf("cause: %v", changed)
	}
	if got := fmt.Sprint(at(t, conflict, "cause", "chain")); got != "[ServiceNow called about ticket INC0010001. Both sides changed the title: here it was “a”, in ServiceNow “b”. The value here stands (rule: the hub owns it).]" {
		t.Errorf("chain: %s", got)
	}
	if got := fmt.Sprintln(at(t, conflict, "cause", "rule"), at(t, conflict, "cause", "entry")); got != "the hub owns it <nil>\n" {
		t.Errorf("rule and entry: %s", got)
	}
	if got := fmt.Sprintln(at(t, opened, "cause", "entry", "version"), at(t, opened, "cause", "chain")); got != "2 [Ada Agent asked for a ticket in ServiceNow. ServiceNow opened ticket INC0010001.]\n" {
		t.Errorf("the ticket's opening: %s", got)
	}
	school := w.must(sam, `query($i: ID!) { ledger(filter: {incident: $i}) { nodes { text cause { chain } } } }`, map[string]any{"i": id})
	if at(t, school, "ledger", "nodes", 0, "cause") != nil {
		t.Errorf("a requester sees causes: %v", school)
	}
	for name, filter := range map[string]string{
		"another system": `systems: ["rt"]`, "another author": `actors: [HUB]`, "later": `since: "2030-01-01T00:00:00Z"`, "earlier": `until: "2020-01-01T00:00:00Z"`,
	} {
		if got := at(t, w.must(ada, `{ ledger(filter: {`+filter+`}) { nodes { kind } } }`, nil), "ledger", "nodes").([]any); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
	refused(t, w.ask(ada, `{ ledger(filter: {systems: ["hidden"]}) { nodes { kind } } }`, nil), "BAD_USER_INPUT", "systems")
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, link := w.escalated(sam, "Printer")
	w.exec(`UPDATE external_link SET external_id = 'abc', number = 'INC0010001', parked = '{"title": "waits"}'`)
	const open = "01900000-0000-7000-8000-00000000000a"
	w.exec(`INSERT INTO conflict (organisation_id, id, incident_id, link_id, version, field, base, hub, vendor, policy, winner, rule, at)
		VALUES (1, $1, $2, $3, 2, 'title', '', 'Printer', 'Drucker', 'REVIEW', '', 'a person decides', '2026-11-21T08:00:00Z')`, open, bare(t, id), bare(t, link))
	ask := `query($l: ID!) { node(id: $l) { ... on ExternalLink { conflicts(onlyOpen: true) { nodes { id field base hub vendor winner open policy link { id } incident { title } } } } } }`
	c := at(t, w.must(ada, ask, map[string]any{"l": link}), "node", "conflicts", "nodes", 0)
	if got := fmt.Sprintln(at(t, c, "field"), at(t, c, "base"), at(t, c, "hub"), at(t, c, "vendor"), at(t, c, "winner"), at(t, c, "open")); got != "title <nil> Printer Drucker <nil> true\n" {
		t.Errorf("the conflict is %v", c)
	}
	if got := at(t, w.must(sam, ask, map[string]any{"l": link}), "node", "conflicts"); got != nil {
		t.Errorf("a requester sees %v", got)
	}
	if got := text(t, at(t, w.must(ada, `query($c: ID!) { node(id: $c) { ... on Conflict { field } } }`, map[string]any{"c": text(t, c, "id")}), "node"), "field"); got != "title" {
		t.Errorf("as a node it is %s", got)
	}
	decide := `mutation($c: ID!) { resolveConflict(input: {conflictId: $c, winner: VENDOR}) { conflict { winner resolvedBy open } incident { title } } }`
	refused(t, w.ask(sam, decide, map[string]any{"c": opaque("Conflict", open)}), "FORBIDDEN", "")
	foreign, missing := w.ask(other, decide, map[string]any{"c": opaque("Conflict", open)}), w.ask(other, decide, map[string]any{"c": opaque("Conflict", uuid.NewString())})
	if foreign.Body != missing.Body {
		t.Errorf("foreign %s\nmissing %s", foreign.Body, missing.Body)
	}
	done := at(t, w.must(ada, decide, map[string]any{"c": opaque("Conflict", open)}), "resolveConflict")
	if got := fmt.Sprintln(at(t, done, "conflict", "winner"), at(t, done, "conflict", "resolvedBy"), at(t, done, "incident", "title")); got != "VENDOR Ada Agent Drucker\n" {
		t.Errorf("decided: %v", done)
	}
	refused(t, w.ask(ada, decide, map[string]any{"c": opaque("Conflict", open)}), "CONFLICT", "conflictId", "Ada Agent")
}

func TestFieldsAndComparisonsOfForeignLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, link := w.escalated(sam, "Printer")
	w.exec(`UPDATE external_link SET parked = '{"category": "no word for Toner"}'`)
	for _, document := range []string{
		`mutation($l: ID!) { freeField(input: {linkId: $l, field: "category"}) { link { id } } }`,
		`mutation($l: ID!) { reconcileLink(input: {linkId: $l}) { drift { what } } }`,
	} {
		refused(t, w.ask(sam, document, map[string]any{"l": link}), "FORBIDDEN", "")
		foreign, missing := w.ask(other, document, map[string]any{"l": link}), w.ask(other, document, map[string]any{"l": opaque("ExternalLink", uuid.NewString())})
		if foreign.Body != missing.Body {
			t.Errorf("foreign %s\nmissing %s", foreign.Body, missing.Body)
		}
	}
	refused(t, w.ask(ada, `mutation($l: ID!) { freeField(input: {linkId: $l, field: "colour"}) { link { id } } }`, map[string]any{"l": link}), "BAD_USER_INPUT", "field")
	refused(t, w.ask(ada, `mutation($l: ID!) { freeField(input: {linkId: $l, field: "title"}) { link { id } } }`, map[string]any{"l": link}), "INVALID_TRANSITION", "field", "not parked")
	freed := w.must(ada, `mutation($l: ID!) { freeField(input: {linkId: $l, field: "category"}) { link { parked { field } } } }`, map[string]any{"l": link})
	if got := at(t, freed, "freeField", "link", "parked").([]any); len(got) != 0 {
		t.Errorf("still parked: %v", got)
	}
	// A link without a ticket yet has nothing to be compared with.
	refused(t, w.ask(ada, `mutation($l: ID!) { reconcileLink(input: {linkId: $l}) { drift { what } } }`, map[string]any{"l": link}), "NOT_FOUND", "")
	w.exec(`UPDATE external_link SET external_id = 'abc', number = 'INC0010001'`)
	refused(t, w.ask(ada, `mutation($l: ID!) { reconcileLink(input: {linkId: $l}) { drift { what } } }`, map[string]any{"l": link}), "UNAVAILABLE", "", "vendor")
	w.exec(`UPDATE external_system SET paused = true, paused_by = 'Ruth Root', pause_reason = 'maintenance' WHERE key = 'snow'`)
	refused(t, w.ask(ada, `mutation($l: ID!) { reconcileLink(input: {linkId: $l}) { drift { what } } }`, map[string]any{"l": link}), "INVALID_TRANSITION", "linkId", "paused by Ruth Root (maintenance)", "resume")
}

func TestSyncActivity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const document = `subscription($f: SyncActivityFilter) { syncActivity(filter: $f) { kind text error incidentNumber incidentId system { key } entry { kind } missed } }`
	school := w.connect(sam)
	school.subscribe("1", document, nil)
	if f := school.read(); !strings.Contains(string(f.Payload), "FORBIDDEN") {
		t.Errorf("a requester hears %s", f.Payload)
	}
	// Another desk may know the system, for an organisation that it took over, and yet not what is exchanged about others'.
	w.exec(`INSERT INTO system_organisation (organisation_id, system_id) VALUES (3, 1)`)
	agent, foreign, failures := w.connect(ada), w.connect(other), w.connect(ada)
	agent.subscribe("1", document, nil)
	foreign.subscribe("1", document, nil)
	failures.subscribe("1", document, map[string]any{"f": map[string]any{"failures": true, "systems": []string{"snow"}}})
	x := ledger.Exchange{Link: ledger.Link{Organisation: 1, Number: "INC0010001"}, Delivery: ledger.Delivery{Kind: ledger.UpdateTicket}, Incident: incident.Incident{Number: "INC0000001"}}
	failed := ledger.Settlement{State: ledger.StatePending, ErrorKind: "transient", Error: "refused"}
	// Whether a subscription has begun shows only in what it hears: tell until all who should have heard.
	heard := make(chan map[string]any)
	go func() { heard <- at(t, agent.next("1"), "syncActivity").(map[string]any) }()
	go func() { heard <- at(t, failures.next("1"), "syncActivity").(map[string]any) }()
	var got []map[string]any
	waitFor(t, func() bool {
		w.monitor.Of("snow").Exchanged(x, failed)
		select {
		case e := <-heard:
			got = append(got, e)
		default:
		}
		return len(got) == 2
	})
	for _, e := range got {
		if text(t, e, "kind") != "EXCHANGE_FAILED" || text(t, e, "error") != "refused" || text(t, e, "incidentNumber") != "INC0000001" || text(t, e, "system", "key") != "snow" {
			t.Errorf("heard %v", e)
		}
	}
	id, _ := w.escalated(sam, "Printer")
	waitFor(t, func() bool {
		e := at(t, agent.next("1"), "syncActivity")
		if at(t, e, "kind") != "ENTRY" {
			return false
		}
		if text(t, e, "entry", "kind") != "ESCALATED" || text(t, e, "incidentId") != id || text(t, e, "text") != "Ada Agent asked for a ticket in ServiceNow." {
			t.Errorf("the entry is %v", e)
		}
		return true
	})
	// Another desk has heard nothing of all this: its first word is of its own system.
	w.must(other, `mutation { reportIncident(input: {description: "x", organisation: "elsewhere"}) { incident { id } } }`, nil)
	mine := text(t, w.must(other, `{ incidents { nodes { id } } }`, nil), "incidents", "nodes", 0, "id")
	w.must(other, `mutation($i: ID!) { escalateIncident(input: {incidentId: $i, system: "hidden"}) { link { id } } }`, map[string]any{"i": mine})
	if e := at(t, foreign.next("1"), "syncActivity"); text(t, e, "incidentId") != mine || text(t, e, "system", "key") != "hidden" {
		t.Errorf("another desk hears %v", e)
	}
}

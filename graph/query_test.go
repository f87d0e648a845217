package graph_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestReportAndRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	data := w.must(sam, `mutation {
		reportIncident(input: {description: "The printer in room 4 is on fire.\nSince nine.", impact: SITE, urgency: HIGH, category: "Hardware", reference: "R-1"}) {
			notifiedAddress
			incident { id number version title state priority impact urgency category service reference source reportedBy openedAt updatedAt closedAt
				contact { name phone email } organisation { key name desk { key } categories } nextStates
				comments { nodes { id } totalCount pageInfo { hasNextPage startCursor } } links { id }
				history { nodes { kind version visibility actor { kind name } changes { field before after } traceId detail { name } } } }
		}
	}`, nil)
	i := at(t, data, "reportIncident", "incident")
	for want, path := range map[string][]any{
		"INC0000001": {"number"}, "The printer in room 4 is on fire.": {"title"}, "NEW": {"state"}, "NONE": {"priority"}, "SITE": {"impact"},
		"Hardware": {"category"}, "USER": {"source"}, "Sam Smith": {"reportedBy"}, "barnfield": {"organisation", "key"}, "btls": {"organisation", "desk", "key"},
		"token-sam@example.org": {"contact", "email"}, "REPORTED": {"history", "nodes", 0, "kind"}, "PERSON": {"history", "nodes", 0, "actor", "kind"},
	} {
		if got := at(t, i, path...); got != want {
			t.Errorf("%v is %v, want %s", path, got, want)
		}
	}
	for _, null := range []string{"service", "closedAt"} {
		if got := at(t, i, null); got != nil {
			t.Errorf("%s is %v, want null", null, got)
		}
	}
	if at(t, i, "history", "nodes", 0, "traceId") != nil || at(t, i, "history", "nodes", 0, "detail") != nil {
		t.Error("a requester sees what is the desk's alone")
	}
	if got := text(t, data, "reportIncident", "notifiedAddress"); got != "token-sam@example.org" {
		t.Errorf("notified %s", got)
	}
	if got := text(t, i, "openedAt"); !strings.HasSuffix(got, "Z") {
		t.Errorf("openedAt %s is not UTC", got)
	}

	id := text(t, i, "id")
	found := w.must(ada, `query($id: ID!) { a: incident(id: $id) { number } b: incident(number: "INC0000001") { id } n: node(id: $id) { id ... on Incident { number } } }`, map[string]any{"id": id})
	if text(t, found, "a", "number") != "INC0000001" || text(t, found, "b", "id") != id || text(t, found, "n", "number") != "INC0000001" {
		t.Errorf("found %v", found)
	}
}

func TestEveryKindOfNodeIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.report(sam, "Printer")
	w.comment(sam, id, "Hello?")
	w.must(ada, `mutation($id: ID!) { escalateIncident(input: {incidentId: $id, system: "snow"}) { link { id } } }`, map[string]any{"id": id})
	data := w.must(ada, `query($id: ID!) {
		incident(id: $id) { id organisation { id desk { id } } comments { nodes { id } } history { nodes { id } } links { id system { id } deliveries { nodes { id } } } } }`,
		map[string]any{"id": id})
	i := at(t, data, "incident")
	for kind, path := range map[string][]any{
		"Incident": {"id"}, "Organisation": {"organisation", "id"}, "Desk": {"organisation", "desk", "id"}, "Comment": {"comments", "nodes", 0, "id"},
		"LedgerEntry": {"history", "nodes", 1, "id"}, "ExternalLink": {"links", 0, "id"}, "System": {"links", 0, "system", "id"}, "Delivery": {"links", 0, "deliveries", "nodes", 0, "id"},
	} {
		node := text(t, i, path...)
		mine := w.must(ada, `query($id: ID!) { node(id: $id) { __typename id } }`, map[string]any{"id": node})
		if text(t, mine, "node", "__typename") != kind || text(t, mine, "node", "id") != node {
			t.Errorf("%s: %v", kind, mine)
		}
		// What another desk has is as good as nothing.
		foreign := w.ask(other, `query($id: ID!) { node(id: $id) { __typename id } }`, map[string]any{"id": node})
		refused(t, foreign, "NOT_FOUND", "")
	}
}

// A foreign id and one that never was answer byte for byte the same.
func TestForeignIsLikeMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.report(sam, "Printer")
	never := base64.RawURLEncoding.EncodeToString([]byte("Incident:" + uuid.NewString()))
	for _, document := range []string{
		`query($id: ID!) { node(id: $id) { id } }`,
		`query($id: ID!) { incident(id: $id) { number } }`,
		`query($id: ID!) { ledger(filter: {incident: $id}) { nodes { kind } } }`,
		`query($id: ID!) { deliveries(filter: {incident: $id}) { nodes { id } } }`,
		`mutation($id: ID!) { addComment(input: {incidentId: $id, body: "x"}) { comment { id } } }`,
		`mutation($id: ID!) { beginWork(input: {incidentId: $id}) { incident { id } } }`,
		`mutation($id: ID!) { escalateIncident(input: {incidentId: $id, system: "hidden"}) { link { id } } }`,
	} {
		foreign, missing := w.ask(other, document, map[string]any{"id": id}), w.ask(other, document, map[string]any{"id": never})
		if foreign.Body != missing.Body || foreign.Status != missing.Status {
			t.Errorf("%s\nforeign %s\nmissing %s", document, foreign.Body, missing.Body)
		}
		if !strings.Contains(document, "deliveries(") && foreign.Errors[0].Extensions["code"] != "NOT_FOUND" {
			t.Errorf("%s: %s", document, foreign.Body)
		}
	}
	number := w.ask(other, `{ incident(number: "INC0000001") { id } }`, nil)
	refused(t, number, "NOT_FOUND", "")
}

func TestListsBelongToTheViewer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report(sam, "Barnfield's")
	w.report(oli, "Oakwood's")
	w.report(other, "Elsewhere's", "elsewhere")
	for token, want := range map[string]string{sam: "Barnfield's", oli: "Oakwood's", ada: "Oakwood's Barnfield's", root: "Oakwood's Barnfield's", other: "Elsewhere's"} {
		data := w.must(token, `{ incidents { edges { node { title } } totalCount } ledger { nodes { incident { title } } } organisations { key } systems { key url desk { key } } viewer { name roles organisation { key } desk { key } organisations { key } } }`, nil)
		if got := ids(t, at(t, data, "incidents"), "title"); got != want {
			t.Errorf("%s sees %q, want %q", token, got, want)
		}
		n := float64(len(strings.Fields(want)))
		if at(t, data, "incidents", "totalCount") != n || float64(len(at(t, data, "ledger", "nodes").([]any))) != n {
			t.Errorf("%s: %v", token, data)
		}
	}
	data := w.must(sam, `{ organisations { key } systems { key url } viewer { roles organisation { key } desk { key } } }`, nil)
	if got := fmt.Sprint(data); got != "map[organisations:[map[key:barnfield]] systems:[map[key:rt url:<nil>] map[key:snow url:<nil>]] viewer:map[desk:map[key:btls] organisation:map[key:barnfield] roles:[REQUESTER]]]" {
		t.Errorf("the requester sees %s", got)
	}
}

func TestPaging(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 7
	for k := range n {
		w.report([]string{sam, oli}[k%2], fmt.Sprintf("t%d", k))
	}
	list := func(args string) map[string]any {
		t.Helper()
		return at(t, w.must(ada, `{ incidents(`+args+`) { edges { cursor node { title } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }`, nil), "incidents").(map[string]any)
	}
	for _, order := range []struct{ by, want string }{
		{"OPENED_AT, direction: DESC", "t6 t5 t4 t3 t2 t1 t0"},
		{"OPENED_AT, direction: ASC", "t0 t1 t2 t3 t4 t5 t6"},
		{"UPDATED_AT, direction: DESC", "t6 t5 t4 t3 t2 t1 t0"},
		{"UPDATED_AT, direction: ASC", "t0 t1 t2 t3 t4 t5 t6"},
		{"OPENED_AT", "t6 t5 t4 t3 t2 t1 t0"},
	} {
		for _, open := range []string{"", ", filter: {open: true}"} {
			arguments := "orderBy: {field: " + order.by + "}" + open
			// Forwards in threes, and backwards in threes: each row once, in the one order.
			var forwards []string
			page := list(arguments + ", first: 3")
			for {
				forwards = append(forwards, strings.Fields(ids(t, page, "title"))...)
				if at(t, page, "pageInfo", "hasNextPage") != true {
					break
				}
				page = list(fmt.Sprintf("%s, first: 3, after: %q", arguments, text(t, page, "pageInfo", "endCursor")))
				if at(t, page, "pageInfo", "hasPreviousPage") != true {
					t.Error("a page after a cursor has a previous one")
				}
			}
			var backwards []string
			page = list(arguments + ", last: 3")
			for {
				backwards = append(strings.Fields(ids(t, page, "title")), backwards...)
				if at(t, page, "pageInfo", "hasPreviousPage") != true {
					break
				}
				page = list(fmt.Sprintf("%s, last: 3, before: %q", arguments, text(t, page, "pageInfo", "startCursor")))
			}
			if got := strings.Join(forwards, " "); got != order.want {
				t.Errorf("%s forwards: %s", arguments, got)
			}
			if got := strings.Join(backwards, " "); got != order.want {
				t.Errorf("%s backwards: %s", arguments, got)
			}
		}
	}
	between := list("first: 100")
	first, last := text(t, between, "edges", 0, "cursor"), text(t, between, "edges", n-1, "cursor")
	if got := ids(t, list(fmt.Sprintf("first: 100, after: %q, before: %q", first, last)), "title"); got != "t5 t4 t3 t2 t1" {
		t.Errorf("between two cursors: %s", got)
	}
	opened := text(t, list("first: 1"), "edges", 0, "cursor")
	for _, bad := range []struct{ arguments, field, says string }{
		{"first: 0", "first", "1 to 100"},
		{"first: 101", "first", "1 to 100"},
		{"last: -1", "last", "1 to 100"},
		{"first: 1, last: 1", "last", "either"},
		{`after: "garbage"`, "after", "cursor"},
		{`before: ""`, "before", "cursor"},
		{fmt.Sprintf("orderBy: {field: UPDATED_AT}, after: %q", opened), "after", "same order"},
	} {
		refused(t, w.ask(ada, `{ incidents(`+bad.arguments+`) { nodes { id } } }`, nil), "BAD_USER_INPUT", bad.field, bad.says)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.report(sam, "a"), w.report(oli, "b")
	c := w.report(sam, "c")
	w.must(ada, `mutation($a: ID!, $b: ID!, $c: ID!) {
		x: assessIncident(input: {incidentId: $a, priority: P1, category: "Network"}) { incident { id } }
		y: assignIncident(input: {incidentId: $b, team: "Servers", assignee: "Eve"}) { incident { id } }
		z: cancelIncident(input: {incidentId: $c}) { incident { id } } }`, map[string]any{"a": a, "b": b, "c": c})
	south := text(t, w.must(oli, `{ viewer { organisation { id } } }`, nil), "viewer", "organisation", "id")
	for filter, want := range map[string]string{
		``: "c b a", `open: true`: "b a", `open: false`: "c", `states: [NEW]`: "a", `states: [NEW, ASSIGNED]`: "b a", `states: []`: "c b a",
		`states: [CANCELLED]`: "c", `states: [CANCELLED], open: true`: "", `states: [NEW], open: false`: "", `states: [NEW, CANCELLED], open: true`: "a",
		`organisation: "barnfield"`: "c a", `organisation: "` + south + `"`: "b", `priorities: [P1, P2]`: "a", `category: "Network"`: "a",
		`team: "Servers"`: "b", `assignee: "Eve"`: "b", `team: "servers"`: "", `organisation: "oakwood", priorities: [P1]`: "",
	} {
		for _, by := range []string{"OPENED_AT", "UPDATED_AT"} {
			data := w.must(ada, `{ incidents(filter: {`+filter+`}, orderBy: {field: `+by+`}) { edges { node { title } } totalCount } }`, nil)
			got := strings.Fields(ids(t, at(t, data, "incidents"), "title"))
			if by == "OPENED_AT" && strings.Join(got, " ") != want || len(got) != len(strings.Fields(want)) {
				t.Errorf("%s by %s: %v, want %s", filter, by, got, want)
			}
			if at(t, data, "incidents", "totalCount") != float64(len(strings.Fields(want))) {
				t.Errorf("%s by %s: totalCount %v", filter, by, at(t, data, "incidents", "totalCount"))
			}
		}
	}
	for _, unknown := range []string{"elsewhere", "never-was", "T3JnYW5pc2F0aW9uOjM"} {
		refused(t, w.ask(ada, `query($o: ID!) { incidents(filter: {organisation: $o}) { nodes { id } } }`, map[string]any{"o": unknown}), "BAD_USER_INPUT", "organisation", "organisations query")
	}
	refused(t, w.ask(ada, `{ incidents(filter: {states: [BROKEN]}) { nodes { id } } }`, nil), "GRAPHQL_VALIDATION_FAILED", "", "BROKEN")
}

func TestComments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.report(sam, "Printer")
	for k := range 5 {
		w.comment(sam, id, fmt.Sprintf("c%d", k))
	}
	w.must(ada, `mutation($id: ID!) { addComment(input: {incidentId: $id, body: "note", visibility: INTERNAL}) { comment { id } } }`, map[string]any{"id": id})
	read := func(token, args string) (string, map[string]any) {
		t.Helper()
		data := w.must(token, `query($id: ID!) { incident(id: $id) { comments`+args+` { edges { cursor node { body author visibility link { id } at } } totalCount pageInfo { hasNextPage hasPreviousPage endCursor startCursor } } } }`, map[string]any{"id": id})
		c := at(t, data, "incident", "comments").(map[string]any)
		return ids(t, c, "body"), c
	}
	for _, c := range []struct{ token, args, want string }{
		{sam, "", "c0 c1 c2 c3 c4"}, {ada, "", "c0 c1 c2 c3 c4 note"}, {sam, "(last: 2)", "c3 c4"}, {ada, "(last: 2)", "c4 note"}, {sam, "(first: 2)", "c0 c1"},
	} {
		if got, _ := read(c.token, c.args); got != c.want {
			t.Errorf("%s reads %q by %s, want %q", c.token, got, c.args, c.want)
		}
	}
	_, page := read(sam, "(first: 2)")
	if got, _ := read(sam, fmt.Sprintf("(after: %q)", text(t, page, "pageInfo", "endCursor"))); got != "c2 c3 c4" {
		t.Errorf("after the second: %s", got)
	}
	if page["totalCount"] != 5.0 || at(t, page, "pageInfo", "hasNextPage") != true {
		t.Errorf("page %v", page)
	}
	_, page = read(sam, "(last: 2)")
	if got, _ := read(sam, fmt.Sprintf("(last: 2, before: %q)", text(t, page, "pageInfo", "startCursor"))); got != "c1 c2" {
		t.Errorf("before the last two: %s", got)
	}
	history := w.must(sam, `query($id: ID!) { incident(id: $id) { history(last: 2) { edges { node { version } } } } ledger(filter: {incident: $id, kinds: [COMMENTED]}, first: 2) { edges { node { version } } } }`, map[string]any{"id": id})
	if got := ids(t, at(t, history, "incident", "history"), "version"); got != "5 6" {
		t.Errorf("the requester's last entries: %s", got)
	}
	if got := ids(t, at(t, history, "ledger"), "version"); got != "6 5" {
		t.Errorf("the ledger's newest comments: %s", got)
	}
}

// The number of statements and of round trips does not depend on the page's size.
func TestStatementsAreConstant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for k := range 50 {
		id := w.report(sam, fmt.Sprintf("t%d", k))
		w.comment(sam, id, "x")
		w.must(ada, `mutation($id: ID!) { escalateIncident(input: {incidentId: $id, system: "snow", summary: "please"}) { link { id } } }`, map[string]any{"id": id})
	}
	const document = `query($n: Int!) { incidents(first: $n, filter: {open: true, organisation: "barnfield"}) {
		edges { cursor node { id number title organisation { name desk { name } } comments(last: 3) { nodes { body author link { id } } totalCount }
			history(last: 5) { nodes { kind comment { body } link { id system { key } } incident { number } } }
			links { externalId syncStatus system { key desk { key } } parked { field } deliveries(first: 3) { nodes { state comment { body } link { id } } } incident { number } } } }
		pageInfo { endCursor } totalCount feedCursor } }`
	var want []string
	for _, n := range []int{50, 1, 5} {
		w.must(ada, document, map[string]any{"n": n}) // prepares the statements
		statements, batches := w.count.during(func() { w.must(ada, document, map[string]any{"n": n}) })
		statements = questions(statements)
		if want == nil {
			want = statements
		}
		if len(statements) != len(want) {
			t.Errorf("a page of %d takes %d statements, one of 50 takes %d\n%s\n%s", n, len(statements), len(want), strings.Join(statements, "\n"), strings.Join(want, "\n"))
		}
		t.Logf("page of %d: %d statements, %d round trips", n, len(statements), batches)
	}

	const portal = `query($n: Int!) { incidents(first: $n, filter: {open: true}) { edges { node { id number title state openedAt
		comments(last: 3) { nodes { body author at } } links { externalNumber url remoteState syncStatus } } } } }`
	for _, n := range []int{1, 20, 50} {
		w.must(sam, portal, map[string]any{"n": n})
		statements, batches := w.count.during(func() { w.must(sam, portal, map[string]any{"n": n}) })
		if len(questions(statements)) != 3 || batches > 3 { // the page, its comments, its links
			t.Errorf("the portal's page of %d takes %d statements in %d round trips: %s", n, len(statements), batches, strings.Join(statements, "\n"))
		}
	}
}

// questions leaves out what begins each round trip, the settings that say who asks: how many questions share one
// is up to chance.
func questions(statements []string) []string {
	return slices.DeleteFunc(statements, func(s string) bool { return !strings.HasPrefix(s, "-- name:") })
}

func TestGet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	get := func(query string) result {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"?query="+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.do(sam, r)
	}
	if r := get("{viewer{name}}"); r.Status != http.StatusOK || text(t, r.Data, "viewer", "name") != "Sam Smith" {
		t.Errorf("a query by GET: %d %s", r.Status, r.Body)
	}
	if r := get(`mutation{reportIncident(input:{description:"x"}){incident{id}}}`); r.Status < 400 || len(r.Errors) != 1 {
		t.Errorf("a mutation by GET: %d %s", r.Status, r.Body)
	}
	if n := w.must(sam, `{ incidents { totalCount } }`, nil); at(t, n, "incidents", "totalCount") != 0.0 {
		t.Error("a mutation by GET was carried out")
	}
}

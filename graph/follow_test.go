package graph_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"liaison/graph/socket"
)

// peer is a client of graphql-transport-ws that knows nothing of the server's code.
type peer struct {
	t  *testing.T
	ws *websocket.Conn
}

type frame struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

func (w *world) dial(header http.Header, protocols ...string) (*peer, *http.Response, error) {
	d := websocket.Dialer{Subprotocols: protocols, HandshakeTimeout: patience}
	ws, answer, err := d.DialContext(w.t.Context(), "ws"+strings.TrimPrefix(w.url, "http"), header)
	if err != nil {
		return nil, answer, err
	}
	w.t.Cleanup(func() { _ = ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(patience))
	return &peer{t: w.t, ws: ws}, answer, nil
}

// connect opens a socket and signs it in by its first message.
func (w *world) connect(token string) *peer {
	w.t.Helper()
	p, _, err := w.dial(nil, socket.TransportWS)
	if err != nil {
		w.t.Fatal(err)
	}
	p.send(`{"type":"connection_init","payload":{"Authorization":"Bearer ` + token + `"}}`)
	if f := p.read(); f.Type != "connection_ack" {
		w.t.Fatalf("instead of an ack: %v", f)
	}
	return p
}

func (p *peer) send(text string) {
	p.t.Helper()
	if err := p.ws.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) subscribe(id, query string, variables map[string]any) {
	p.t.Helper()
	b, err := json.Marshal(map[string]any{"id": id, "type": "subscribe", "payload": map[string]any{"query": query, "variables": variables}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.send(string(b))
}

func (p *peer) read() frame {
	p.t.Helper()
	var f frame
	if err := p.ws.ReadJSON(&f); err != nil {
		p.t.Fatalf("reading a message: %v", err)
	}
	return f
}

// next reads one event of a subscription.
func (p *peer) next(id string) map[string]any {
	p.t.Helper()
	f := p.read()
	var payload struct {
		Data   map[string]any
		Errors []any
	}
	if f.Type != "next" || f.ID != id || json.Unmarshal(f.Payload, &payload) != nil || len(payload.Errors) > 0 {
		p.t.Fatalf("want an event of %s, got %s %s %s", id, f.Type, f.ID, f.Payload)
	}
	return payload.Data
}

// closes reads until the socket closes and checks the code.
func (p *peer) closes(code int) {
	p.t.Helper()
	for {
		_, b, err := p.ws.ReadMessage()
		if err == nil {
			continue
		}
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != code {
			p.t.Errorf("want close code %d, got %v (last message %s)", code, err, b)
		}
		return
	}
}

const changes = `subscription($f: IncidentChangedFilter, $a: String) { incidentChanged(filter: $f, after: $a) {
	cursor kind incidentId entry { kind version visibility changes { field before after } comment { body } link { system { key } } actor { name } traceId }
	incident { number version title state } } }`

// begin subscribes to what follows everything that has been committed so far.
func (w *world) begin(p *peer, id string, filter map[string]any) {
	w.t.Helper()
	waitFor(w.t, func() bool {
		var stamped bool
		err := w.db.System.QueryRow(w.t.Context(), `SELECT (SELECT count(*) FROM feed) = (SELECT count(*) FROM ledger_entry)`).Scan(&stamped)
		return err != nil || stamped
	})
	cursor, err := w.feed.Head(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	p.subscribe(id, changes, map[string]any{"f": filter, "a": cursor})
}

func TestFollowing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.connect(ada)
	w.begin(p, "1", nil)
	id := w.report(sam, "Printer")
	w.comment(sam, id, "Hello?")
	w.step(ada, "beginWork", id, "")
	w.must(ada, `mutation($id: ID!) { escalateIncident(input: {incidentId: $id, system: "snow"}) { link { id } } }`, map[string]any{"id": id})

	var told []string
	var cursors []string
	for range 4 {
		e := at(t, p.next("1"), "incidentChanged")
		if text(t, e, "incidentId") != id || text(t, e, "kind") != "CHANGED" || at(t, e, "incident", "version").(float64) < at(t, e, "entry", "version").(float64) {
			t.Errorf("event %v", e)
		}
		line := fmt.Sprint(at(t, e, "entry", "version")) + " " + text(t, e, "entry", "kind")
		for _, c := range at(t, e, "entry", "changes").([]any) {
			if at(t, c, "field") == "state" {
				line += fmt.Sprintf(" %v>%v", at(t, c, "before"), at(t, c, "after"))
			}
		}
		if at(t, e, "entry", "comment") != nil {
			line += " " + text(t, e, "entry", "comment", "body")
		}
		if at(t, e, "entry", "link") != nil {
			line += " " + text(t, e, "entry", "link", "system", "key")
		}
		told = append(told, line)
		cursors = append(cursors, text(t, e, "cursor"))
	}
	if got, want := strings.Join(told, "; "), "1 REPORTED <nil>>NEW; 2 COMMENTED Hello?; 3 CHANGED NEW>IN_PROGRESS; 4 ESCALATED snow"; got != want {
		t.Errorf("told %s\nwant %s", got, want)
	}

	// Who comes back with a cursor gets exactly what followed it, then what happens.
	w.comment(sam, id, "Anybody?")
	for n, cursor := range cursors {
		again := w.connect(ada)
		again.subscribe("x", changes, map[string]any{"a": cursor})
		for version := n + 2; version <= 5; version++ {
			if e := at(t, again.next("x"), "incidentChanged"); at(t, e, "entry", "version") != float64(version) {
				t.Errorf("after event %d: version %v, want %d", n+1, at(t, e, "entry", "version"), version)
			}
		}
	}
}

func TestFollowersHearOnlyWhatTheyMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	school, neighbour, desk, stranger := w.connect(sam), w.connect(oli), w.connect(ada), w.connect(other)
	for _, p := range []*peer{school, neighbour, desk, stranger} {
		w.begin(p, "1", nil)
	}
	id := w.report(sam, "Barnfield's")
	w.must(ada, `mutation($id: ID!) { addComment(input: {incidentId: $id, body: "note", visibility: INTERNAL}) { comment { id } } }`, map[string]any{"id": id})
	w.comment(ada, id, "public")
	w.report(oli, "Oakwood's")
	w.report(other, "Elsewhere's", "elsewhere")
	hear := func(p *peer, n int) string {
		var out []string
		for range n {
			e := at(t, p.next("1"), "incidentChanged")
			out = append(out, fmt.Sprintf("%v/%v", at(t, e, "incident", "title"), at(t, e, "entry", "version")))
			if traced := at(t, e, "entry", "traceId") != nil; traced != (p == desk || p == stranger) {
				t.Errorf("traceId shown: %v", traced)
			}
		}
		return strings.Join(out, " ")
	}
	// The last event proves that nothing came in between.
	for _, c := range []struct {
		p    *peer
		n    int
		want string
	}{
		{school, 2, "Barnfield's/1 Barnfield's/3"},
		{neighbour, 1, "Oakwood's/1"},
		{stranger, 1, "Elsewhere's/1"},
		{desk, 4, "Barnfield's/1 Barnfield's/2 Barnfield's/3 Oakwood's/1"},
	} {
		if got := hear(c.p, c.n); got != c.want {
			t.Errorf("heard %q, want %q", got, c.want)
		}
	}
}

func TestFollowingByFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.report(sam, "a")
	p := w.connect(ada)
	for id, filter := range map[string]map[string]any{
		"org": {"organisation": "oakwood"}, "one": {"incident": a}, "kinds": {"kinds": []string{"COMMENTED"}}, "states": {"states": []string{"IN_PROGRESS"}},
		"priorities": {"priorities": []string{"P1"}}, "all": nil,
	} {
		w.begin(p, id, filter)
	}
	b := w.report(oli, "b")                                       // b1
	w.step(ada, "beginWork", b, "")                               // b2: comes into the state
	w.step(ada, "assessIncident", b, ", priority: P1")            // b3: is in it; comes into the priority
	w.step(ada, "holdIncident", b, ", reason: AWAITING_CUSTOMER") // b4: leaves the state
	w.comment(sam, a, "x")                                        // a2
	w.step(ada, "assessIncident", b, ", priority: P2")            // b5: leaves the priority
	w.report(sam, "end")                                          // end1: to everybody without a filter

	// A state is looked at as it is now, so only what the entry itself tells is certain to be the same in every run.
	heard := map[string][]string{}
	for len(heard["all"]) < 7 || len(heard["priorities"]) < 1 || len(heard["kinds"]) < 1 || len(heard["one"]) < 1 || len(heard["org"]) < 5 {
		f := p.read()
		var payload struct{ Data map[string]any }
		if f.Type != "next" || json.Unmarshal(f.Payload, &payload) != nil {
			t.Fatalf("message %v", f)
		}
		e := at(t, payload.Data, "incidentChanged")
		heard[f.ID] = append(heard[f.ID], fmt.Sprintf("%v%v", at(t, e, "incident", "title"), at(t, e, "entry", "version")))
	}
	for id, want := range map[string]string{"org": "b1 b2 b3 b4 b5", "one": "a2", "kinds": "a2", "all": "b1 b2 b3 b4 a2 b5 end1"} {
		if got := strings.Join(heard[id], " "); got != want {
			t.Errorf("%s heard %q, want %q", id, got, want)
		}
	}

	refusals := map[string]map[string]any{"NOT_FOUND": {"incident": "SW5jaWRlbnQ6MDE5MDAwMDAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDAwMDAw"}, "BAD_USER_INPUT": {"organisation": "elsewhere"}}
	for code, filter := range refusals {
		q := w.connect(ada)
		q.subscribe("r", changes, map[string]any{"f": filter})
		if f := q.read(); !strings.Contains(string(f.Payload), code) {
			t.Errorf("%v: %v %s", filter, f.Type, f.Payload)
		}
	}
}

// Leaving a state is heard even though the incident is not in it any more.
func TestLeavingAState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.report(sam, "a")
	w.step(ada, "beginWork", id, "")
	p := w.connect(ada)
	w.begin(p, "1", map[string]any{"states": []string{"IN_PROGRESS"}})
	w.step(ada, "holdIncident", id, ", reason: AWAITING_CUSTOMER")
	e := at(t, p.next("1"), "incidentChanged")
	if text(t, e, "incident", "state") != "ON_HOLD" {
		t.Errorf("event %v", e)
	}
	w.comment(ada, id, "still on hold")
	w.step(ada, "resumeIncident", id, "")
	if e := at(t, p.next("1"), "incidentChanged"); text(t, e, "incident", "state") != "IN_PROGRESS" {
		t.Errorf("event %v", e)
	}
}

func TestCursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.report(sam, "a")
	for name, c := range map[string]struct{ cursor, code string }{
		"garbage":      {"garbage", "BAD_USER_INPUT"},
		"of a list":    {text(t, w.must(ada, `{ incidents { edges { cursor } } }`, nil), "incidents", "edges", 0, "cursor"), "BAD_USER_INPUT"},
		"of tomorrow":  {w.feed.CursorAt(1 << 40), "CURSOR_EXPIRED"},
		"beyond by 10": {w.feed.CursorAt(11), "CURSOR_EXPIRED"},
	} {
		p := w.connect(ada)
		p.subscribe("1", changes, map[string]any{"a": c.cursor})
		f := p.read()
		if f.Type == "error" || !strings.Contains(string(f.Payload), c.code) || !strings.Contains(string(f.Payload), `"field":"after"`) {
			t.Errorf("%s: %s %s, want %s", name, f.Type, f.Payload, c.code)
		}
		if f := p.read(); f.Type != "complete" {
			t.Errorf("%s: then %v", name, f)
		}
	}
}

// A page and a subscription from its feedCursor leave nothing out, although a writer's transaction is open while
// the page is read and commits after later ones.
func TestQueryThenSubscribe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.report(sam, "first")
	slow, err := w.db.System.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := slow.Exec(t.Context(), `WITH i AS (INSERT INTO incident (organisation_id, id, version, title, description, state, opened_at, updated_at)
			VALUES (1, '01900000-0000-7000-8000-000000000001', 1, 'slow', 'd', 'NEW', now(), now()))
		INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, at)
		VALUES (1, '01900000-0000-7000-8000-000000000001', 1, 'REPORTED', 'PERSON', 'Ada', now())`); err != nil {
		t.Fatal(err)
	}
	w.report(sam, "second")
	page := at(t, w.must(ada, `{ incidents { edges { node { title } } feedCursor } }`, nil), "incidents")
	seen := map[string]bool{}
	for _, title := range strings.Fields(ids(t, page, "title")) {
		seen[title] = true
	}
	if seen["slow"] || !seen["second"] {
		t.Fatalf("the page shows %v", seen)
	}
	p := w.connect(ada)
	p.subscribe("1", changes, map[string]any{"a": text(t, page, "feedCursor")})
	w.comment(sam, first, "live")
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.report(sam, "third")
	times := map[string]int{}
	for times["third1"] == 0 || times["slow1"] == 0 || times["first2"] == 0 {
		e := at(t, p.next("1"), "incidentChanged")
		key := fmt.Sprintf("%v%v", at(t, e, "incident", "title"), at(t, e, "entry", "version"))
		if times[key]++; times[key] > 1 {
			t.Errorf("%s came twice", key)
		}
	}
}

// One change costs one statement, however many subscribers with the same rights hear of it.
func TestFanOutReadsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.report(sam, "Printer")
	const many = 20
	var peers []*peer
	for range many {
		p := w.connect(ada)
		w.begin(p, "1", nil)
		w.comment(sam, id, "ready") // heard by all so far, so that each stands before the count
		peers = append(peers, p)
		for _, q := range peers {
			q.next("1")
		}
	}
	before, err := w.feed.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	statements, _ := w.count.during(func() {
		if err := w.open(t.Context(), "new"); err != nil {
			t.Fatal(err)
		}
		for _, p := range peers {
			// The comment of an entry without one costs nothing.
			if e := at(t, p.next("1"), "incidentChanged"); text(t, e, "incident", "title") != "new" {
				t.Errorf("event %v", e)
			}
		}
		late := w.connect(ada)
		late.subscribe("1", changes, map[string]any{"a": before})
		if e := at(t, late.next("1"), "incidentChanged"); text(t, e, "incident", "title") != "new" {
			t.Errorf("event %v", e)
		}
	})
	read := 0
	for _, s := range statements {
		if strings.HasPrefix(s, "-- name: IncidentsByID") {
			read++
		}
	}
	if read != 1 {
		t.Errorf("%d subscribers read the incident %d times: %s", many, read, strings.Join(statements, "\n"))
	}
}

package servicenowtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
)

// hookTarget gathers the outgoing calls.
type hookTarget struct {
	mu    sync.Mutex
	heads []http.Header
	calls []map[string]string
	url   string
}

func newHookTarget(t *testing.T) *hookTarget {
	t.Helper()
	h := &hookTarget{}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		var body map[string]string
		if err := json.Unmarshal(data, &body); err != nil {
			t.Errorf("webhook body %q: %v", data, err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.heads, h.calls = append(h.heads, r.Header), append(h.calls, body)
	}))
	t.Cleanup(srv.Close)
	h.url = srv.URL
	return h
}

func (h *hookTarget) all() []map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

func (h *hookTarget) wait(t *testing.T, n int) []map[string]string {
	t.Helper()
	eventually(t, fmt.Sprintf("%d outgoing calls", n), func() bool { return len(h.all()) >= n })
	return h.all()
}

// Section 14: each change is told, the API user's own too, with a secret header.
func TestSection14Webhook(t *testing.T) {
	t.Parallel()
	target := newHookTarget(t)
	s := servicenowtest.Start(t, servicenowtest.WithWebhook(servicenowtest.Webhook{URL: target.url, Header: "X-Key", Secret: "s3"}))
	c := newClient(t, s)
	id := c.create(`{"correlation_id":"c-1"}`)
	got := target.wait(t, 1)[0]
	for key, want := range map[string]string{"sys_id": id, "number": "INC0010001", "state": "1", "sys_mod_count": "0", "sys_updated_by": "sim", "correlation_id": "c-1", "operation": "insert", "table": "incident"} {
		if got[key] != want {
			t.Errorf("%s = %q, want %q", key, got[key], want)
		}
	}
	if target.heads[0].Get("X-Key") != "s3" || target.heads[0].Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", target.heads[0])
	}
	c.patch(id, `{"short_description":""}`).want(200) // changes nothing, tells nothing
	c.patch(id, `{"state":"2"}`).want(200)
	if got := target.wait(t, 2)[1]; got["state"] != "2" || got["operation"] != "update" || got["sys_mod_count"] != "1" {
		t.Errorf("second call %v", got)
	}
	c.do("DELETE", incidents+"/"+id, "").want(204)
	if got := target.wait(t, 3)[2]; got["operation"] != "delete" {
		t.Errorf("third call %v", got)
	}
}

func TestSection14WebhookFieldsAndSplit(t *testing.T) {
	t.Parallel()
	target := newHookTarget(t)
	s := servicenowtest.Start(t, servicenowtest.WithSwitches(servicenowtest.Switches{SplitWebhooks: true}), servicenowtest.WithWebhook(servicenowtest.Webhook{
		URL: target.url, Fields: map[string]string{"id": "sys_id", "text": "comments"},
	}))
	c := newClient(t, s)
	id := c.create(`{}`)
	target.wait(t, 1)
	c.patch(id, `{"state":"2","comments":"both"}`).want(200)
	var texts []string
	for _, call := range target.wait(t, 3)[1:] {
		texts = append(texts, call["text"])
		if call["id"] != id {
			t.Errorf("call %v", call)
		}
	}
	if slices.Sort(texts); !slices.Equal(texts, []string{"", "both"}) {
		t.Errorf("texts %q", texts)
	}
}

// Section 14: calls go twice, never, late or in another order.
func TestSection14WebhookFaults(t *testing.T) {
	t.Parallel()
	target := newHookTarget(t)
	s := servicenowtest.Start(t, servicenowtest.WithWebhook(servicenowtest.Webhook{URL: target.url}))
	titles := func(n int) []string {
		var out []string
		for _, call := range target.wait(t, n) {
			out = append(out, call["short_description"])
		}
		return out
	}
	open := func(title string) {
		_, err := s.Open(servicenowtest.Move{Title: title})
		mustDo(t, err)
	}
	fault := func(kind servicenowtest.FaultKind, d time.Duration) {
		mustDo(t, s.SetFaults(servicenowtest.Faults{Rules: []servicenowtest.Fault{{Kind: kind, Next: 1, Delay: d}}}))
	}
	fault(servicenowtest.FaultWebhookDuplicate, 0)
	open("twice")
	titles(2)
	fault(servicenowtest.FaultWebhookDrop, 0)
	open("dropped")
	fault(servicenowtest.FaultWebhookReorder, time.Hour)
	open("earlier")
	open("later")
	fault(servicenowtest.FaultWebhookDelay, 10*time.Millisecond)
	titles(4)
	open("delayed")
	if got, want := titles(5), []string{"twice", "twice", "later", "earlier", "delayed"}; !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
}

// A dead target costs nothing but its own calls, and Close does not wait for it.
func TestSection14WebhookTargetDown(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t, servicenowtest.WithWebhook(servicenowtest.Webhook{URL: "http://127.0.0.1:1/"}))
	newClient(t, s).create(`{}`)
}

// DESIGN.md section 6: play the vendor's agent.
func TestControlDoorMovesTickets(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t)
	c := newClient(t, s).as("")
	id := newClient(t, s).create(`{"short_description":"a","correlation_id":"c-1"}`)
	door := "/_sim/tickets/"
	var got servicenowtest.Ticket
	move := func(which, body string) {
		t.Helper()
		got = servicenowtest.Ticket{}
		c.do("POST", door+which, body, "Content-Type", "").want(200).decode(&got)
	}
	move(id, `{"state":"In Progress","comment":"on it","note":"inside","priority":"High","title":"b"}`)
	if got.State != "2" || got.Priority != "2" || got.ShortDescription != "b" || got.SysUpdatedBy != "abel.tuter" || got.StateLabel != "In Progress" {
		t.Errorf("ticket %+v", got)
	}
	if len(got.Comments) != 1 || got.Comments[0].Value != "on it" || got.Comments[0].CreatedBy != "abel.tuter" || len(got.WorkNotes) != 1 || got.WorkNotes[0].Value != "inside" {
		t.Errorf("journal %+v %+v", got.Comments, got.WorkNotes)
	}
	move("INC0010001", `{"state":"3","hold_reason":"Awaiting Vendor","fields":{"category":"Network"}}`)
	if got.State != "3" || got.HoldReason != "4" || got.Fields["category"] != "network" {
		t.Errorf("ticket %+v", got)
	}
	move(id, `{"state":"on hold"}`)
	move(id, `{"state":"Resolved"}`)
	if got.State != "6" || got.Fields["close_code"] != "Solution provided" || got.Fields["close_notes"] == "" || got.HoldReason != "" {
		t.Errorf("ticket %+v", got)
	}
	var list []servicenowtest.Ticket
	c.get("/_sim/tickets").want(200).decode(&list)
	if len(list) != 1 || list[0].SysID != id || list[0].CorrelationID != "c-1" || list[0].URL != s.URL+"/nav_to.do?uri=incident.do%3Fsys_id%3D"+id {
		t.Errorf("list %+v", list)
	}
	var opened servicenowtest.Ticket
	c.do("POST", "/_sim/tickets", `{"title":"born here"}`).want(200).decode(&opened)
	if opened.Number != "INC0010002" || opened.Fields["sys_created_by"] != "abel.tuter" {
		t.Errorf("opened %+v", opened)
	}
	move(id, `{"state":"7"}`)
	c.do("POST", door+id, `{"state":"2"}`).want(409)
}

func TestControlDoorRefusesBadInput(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t)
	id := newClient(t, s).create(`{}`)
	c := newClient(t, s).as("")
	for _, tc := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "/_sim/tickets/" + id, `{"state":"Nonsense"}`, 400, `state \"Nonsense\" is unknown: use one of 1 New, 2 In Progress`},
		{"POST", "/_sim/tickets/" + id, `{"status":"2"}`, 400, `unknown field \"status\"`},
		{"POST", "/_sim/tickets/" + id, `{"priority":"9"}`, 400, "priority"},
		{"POST", "/_sim/tickets/" + id, `{"fields":{"nonsense":"1"}}`, 400, `\"nonsense\" is no column`},
		{"POST", "/_sim/tickets/" + id, `{"user":"ghost","comment":"x"}`, 400, `user \"ghost\" is unknown`},
		{"POST", "/_sim/tickets/" + id, ``, 400, "body is empty"},
		{"POST", "/_sim/tickets/" + id, `{"state":"2"} x`, 400, "text after"},
		{"POST", "/_sim/tickets/INC9999999", `{"state":"2"}`, 404, "no such ticket"},
		{"GET", "/_sim/tickets/absent", ``, 404, "no such ticket"},
		{"POST", "/_sim/tickets", `{"comment":"x"}`, 400, "title is missing"},
		{"POST", "/_sim/faults", `{"rules":[{"kind":"nonsense","next":1}]}`, 400, `rules[0]: kind \"nonsense\" is unknown`},
		{"POST", "/_sim/faults", `{"kind":"reset"}`, 400, "give either next"},
		{"POST", "/_sim/faults", `{"kind":"latency","next":1,"delay":"soon"}`, 400, `duration \"soon\"`},
		{"POST", "/_sim/faults", `{"rules":[{"kind":"reset","next":1,"often":2}]}`, 400, `unknown field \"often\"`},
		{"POST", "/_sim/webhook", `{"url":"nowhere"}`, 400, "webhook url"},
		{"POST", "/_sim/switches", `{"bad_query":"x"}`, 400, "bad_query"},
		{"PUT", "/_sim/faults", `{}`, 405, "method"},
		{"GET", "/_sim/nonsense", ``, 404, "/_sim/tickets"},
	} {
		a := c.do(tc.method, tc.path, tc.body)
		if a.status != tc.status || !strings.Contains(a.text, tc.says) {
			t.Errorf("%s %s %s: %d %s, want %d and %q", tc.method, tc.path, tc.body, a.status, a.text, tc.status, tc.says)
		}
	}
	if got := s.Tickets()[0]; got.SysModCount != "0" || len(got.Comments) != 0 {
		t.Errorf("something was stored: %+v", got)
	}
	if a := c.do("POST", "/_sim/tickets/"+id, `{"state":"2"}`, "Origin", "http://elsewhere.example"); a.status != 403 {
		t.Errorf("foreign origin: %d", a.status)
	}
}

func TestControlDoorFaultsAndSwitches(t *testing.T) {
	t.Parallel()
	target := newHookTarget(t)
	s := servicenowtest.Start(t)
	c, door := newClient(t, s), newClient(t, s).as("")
	door.do("POST", "/_sim/faults", `{"rules":[{"kind":"server_error","next":2,"path":"/table/","status":502}]}`).want(200)
	door.do("POST", "/_sim/faults", `{"kind":"unauthenticated","next":1,"path":"/table/"}`).want(200)
	for _, status := range []int{502, 502, 401, 200} {
		c.get(incidents).want(status)
	}
	var f servicenowtest.Faults
	door.get("/_sim/faults").want(200).decode(&f)
	if len(f.Rules) != 2 || f.Rules[0].Struck != 2 || f.Rules[1].Struck != 1 {
		t.Errorf("faults %+v", f)
	}
	door.do("POST", "/_sim/faults", `[{"kind":"html","next":9}]`).want(200)
	door.do("DELETE", "/_sim/faults", "").want(200)
	c.get(incidents).want(200)
	door.do("POST", "/_sim/switches", `{"bad_query":"refuse","search_lag":"1h"}`).want(200)
	c.create(`{}`)
	c.get(incidents, "sysparm_query", "nonsense=1").want(403)
	if n := len(c.get(incidents).want(200).list()); n != 0 {
		t.Errorf("search lag shows %d rows", n)
	}
	door.do("POST", "/_sim/webhook", `{"url":"`+target.url+`","header":"X-Key","secret":"k"}`).want(200)
	c.create(`{}`)
	target.wait(t, 1)
	var calls []servicenowtest.Call
	door.get("/_sim/calls").want(200).decode(&calls)
	if last := calls[len(calls)-1]; last.Method != http.MethodPost || last.Path != incidents || last.Body != `{}` || last.Status != 201 || last.Header.Get("Authorization") != "" {
		t.Errorf("last call %+v", last)
	}
}

// The page shows texts as texts.
func TestPageEscapes(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t)
	c := newClient(t, s)
	id := c.create(`{"short_description":"<script>alert(1)</script>","comments":"<b>x</b>"}`)
	ticket, err := s.Ticket(id)
	mustDo(t, err)
	for _, path := range []string{"/", strings.TrimPrefix(ticket.URL, s.URL), "/nav_to.do?uri=incident.do?sys_id=" + id, "/incident.do?sys_id=" + id} {
		a := c.as("").do("GET", path, "").want(200)
		if strings.Contains(a.text, "<script>") || strings.Contains(a.text, "<b>x") || !strings.Contains(a.text, ticket.Number) {
			t.Errorf("%s: %s", path, a.text)
		}
	}
	c.get("/nav_to.do?uri=incident.do?sys_id=absent").want(404)
}

// Writers and readers at once: every comment is there once, and every save is counted.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	target := newHookTarget(t)
	s := servicenowtest.Start(t, servicenowtest.WithDir(t.TempDir()), servicenowtest.WithWebhook(servicenowtest.Webhook{URL: target.url}))
	c := newClient(t, s)
	id := c.create(`{}`)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			c := newClient(t, s)
			for i := range 10 {
				if a := c.patch(id, fmt.Sprintf(`{"comments":"w%d n%d"}`, w, i)); a.status != 200 {
					t.Errorf("status %d", a.status)
				}
				c.get(incidents, "sysparm_display_value", "all")
				_ = s.Tickets()
				_ = s.Calls()
			}
		})
	}
	wg.Wait()
	got := s.Tickets()[0]
	texts := map[string]bool{}
	for _, e := range got.Comments {
		texts[e.Value] = true
	}
	if got.SysModCount != "80" || len(got.Comments) != 80 || len(texts) != 80 {
		t.Errorf("mod count %s, %d comments, %d different", got.SysModCount, len(got.Comments), len(texts))
	}
	target.wait(t, 81)
}

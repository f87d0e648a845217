package requesttracker_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"liaison/connectors"
	"liaison/connectors/requesttracker"
)

// These tests are about what the real server does seldom or not on demand. Everything else is tested against the real
// one (build tag e2e).

func newConnector(t testing.TB, url string, change func(*connectors.Config)) *requesttracker.Connector {
	t.Helper()
	cfg := connectors.Config{
		Key: "rt", URL: url, Auth: connectors.Credentials{Basic: &connectors.Basic{User: "hub", Password: connectors.NewSecret("Pl4nted-Secret")}},
		Settings: map[string]string{}, Timeout: 10 * time.Second,
	}
	if change != nil {
		change(&cfg)
	}
	c, err := requesttracker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewNamesTheSetting(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*connectors.Config)
		want   string
	}{
		"misspelt setting":   {func(c *connectors.Config) { c.Settings["que"] = "x" }, `settings.que: unknown setting; did you mean "queue"?`},
		"quoted queue":       {func(c *connectors.Config) { c.Settings["queue"] = "x' OR id > 0" }, "settings.queue"},
		"no queue":           {func(c *connectors.Config) { c.Settings["queue"] = "" }, "settings.queue"},
		"braced field":       {func(c *connectors.Config) { c.Settings["correlation_field"] = "a} = 'b" }, "settings.correlation_field"},
		"no field":           {func(c *connectors.Config) { c.Settings["correlation_field"] = "" }, "settings.correlation_field"},
		"key field":          {func(c *connectors.Config) { c.Settings["message_key_field"] = "a\nb" }, "settings.message_key_field"},
		"watched queue":      {func(c *connectors.Config) { c.Settings["watch_queues"] = "a, b'" }, "settings.watch_queues"},
		"page size":          {func(c *connectors.Config) { c.Settings["page_size"] = "101" }, "settings.page_size"},
		"unwritable field":   {func(c *connectors.Config) { c.Settings["create.Created"] = "x" }, "settings.create.Created"},
		"correlation by set": {func(c *connectors.Config) { c.Settings["create.CustomFields.external id"] = "x" }, "settings.create.CustomFields.external id"},
		"OAuth":              {func(c *connectors.Config) { c.Auth = connectors.Credentials{OAuth2: &connectors.OAuth2{}} }, "auth.oauth2"},
		"address":            {func(c *connectors.Config) { c.URL = "ftp://rt" }, "url"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := connectors.Config{Key: "au-rt", URL: "https://rt.example.test", Settings: map[string]string{}}
			tt.change(&cfg)
			_, err := requesttracker.New(cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "au-rt") {
				t.Errorf("error %v, want one about %q", err, tt.want)
			}
		})
	}
}

func TestTraits(t *testing.T) {
	t.Parallel()
	c := newConnector(t, "https://rt.example.test", nil)
	if got, want := c.Traits(), (connectors.Traits{SettleWindow: 5 * time.Minute, MessageKeys: true, Hooks: true}); got != want {
		t.Errorf("traits %+v, want %+v", got, want)
	}
	c = newConnector(t, "https://rt.example.test", func(cfg *connectors.Config) {
		cfg.Settings["message_key_field"], cfg.SettleWindow = "", time.Minute
	})
	if got, want := c.Traits(), (connectors.Traits{SettleWindow: time.Minute, Hooks: true}); got != want {
		t.Errorf("traits %+v, want %+v", got, want)
	}
}

func TestReadHook(t *testing.T) {
	t.Parallel()
	c := newConnector(t, "https://rt.example.test", nil)
	renamed := newConnector(t, "https://rt.example.test", func(cfg *connectors.Config) {
		cfg.Settings["hook_ticket"], cfg.Settings["hook_transaction"] = "id", "txn"
	})
	for _, tt := range []struct {
		c    *requesttracker.Connector
		body string
		want *connectors.Ref
	}{
		{c, `{"ticket":12,"queue":"Incidents","status":"new","transaction":99,"type":"Create","field":null,"created":"2026-11-21T19:05:13Z"}`, &connectors.Ref{ID: "12", Number: "12", Version: "99"}},
		{c, ` {"ticket":"12","transaction":"99"} `, &connectors.Ref{ID: "12", Number: "12", Version: "99"}},
		{c, `{"ticket":12}`, &connectors.Ref{ID: "12", Number: "12"}},
		{renamed, `{"id":7,"txn":8,"ticket":12}`, &connectors.Ref{ID: "7", Number: "7", Version: "8"}},
		{renamed, `{"ticket":12,"transaction":99}`, nil},
		{c, `{"ticket":0}`, nil},
		{c, `{"ticket":-3}`, nil},
		{c, `{"ticket":1.5}`, nil},
		{c, `{"ticket":1e3}`, nil},
		{c, `{"ticket":"../1"}`, nil},
		{c, `{"ticket":{"id":1}}`, nil},
		{c, `{"ticket":null}`, nil},
		{c, `{"ticket":1,"transaction":"x"}`, nil},
		{c, `{"ticket":1,"ticket":2}`, nil},
		{c, `[{"ticket":1}]`, nil},
		{c, `ticket=1`, nil},
		{c, ``, nil},
	} {
		got, err := tt.c.ReadHook(connectors.Hook{Body: []byte(tt.body)})
		if tt.want == nil {
			if err == nil || connectors.KindOf(err) != connectors.Rejected {
				t.Errorf("%s: %v %v, want kind rejected", tt.body, got, err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, []connectors.Ref{*tt.want}) {
			t.Errorf("%s: %v %v, want %v", tt.body, got, err, *tt.want)
		}
	}
}

// FuzzReadHook: whatever is posted, it is refused or names one ticket.
func FuzzReadHook(f *testing.F) {
	f.Add([]byte(`{"ticket":12,"transaction":99}`))
	f.Add([]byte(`{"ticket":"12"}`))
	f.Add([]byte(`[]`))
	f.Add([]byte("\xef\xbb\xbf{}"))
	c := newConnector(f, "https://rt.example.test", nil)
	id := regexp.MustCompile(`^[1-9][0-9]{0,9}$`)
	f.Fuzz(func(t *testing.T, body []byte) {
		refs, err := c.ReadHook(connectors.Hook{Body: body})
		if err != nil {
			if connectors.KindOf(err) != connectors.Rejected {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		if len(refs) != 1 || !id.MatchString(string(refs[0].ID)) {
			t.Errorf("%q: %+v", body, refs)
		}
	})
}

// script answers requests with what a test says, by method and path.
type script struct {
	mu      sync.Mutex
	answers map[string][]answer // what is not told again stays the last
	calls   []string
}

type answer struct {
	status int
	header map[string]string
	body   string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/REST/2.0")
	s.calls = append(s.calls, key)
	queue := s.answers[key]
	if len(queue) == 0 {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"Not Found"}`)
		return
	}
	a := queue[0]
	if len(queue) > 1 {
		s.answers[key] = queue[1:]
	}
	w.Header().Set("Content-Type", `application/json; charset="utf-8"`)
	w.Header().Set("Connection", "close")
	for name, v := range a.header {
		w.Header().Set(name, v)
	}
	w.WriteHeader(max(a.status, http.StatusOK))
	fmt.Fprint(w, a.body)
}

func serve(t testing.TB, answers map[string][]answer) (*script, string) {
	t.Helper()
	s := &script{answers: answers}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return s, srv.URL
}

// ticketJSON has RT's shapes: an id that is a number, values that are strings, references, a list of custom fields in no
// order with a null where "" was written once.
const ticketJSON = `{"id":7,"EffectiveId":{"type":"ticket","id":"7","_url":"x"},"Type":"ticket","Status":"in progress","Subject":"Beamer","Priority":"40",
	"Queue":{"id":"3","type":"queue","Name":"Incidents"},"Owner":{"type":"user","id":"Nobody"},"Requestor":[{"id":"carol@customer.example.test"},{"id":"dave"}],
	"Due":"1970-01-01T00:00:00Z","Starts":"2026-12-02T10:00:00Z","LastUpdated":"2026-11-21T19:05:13Z","Creator":{"id":"hub"},"RT::CustomRole-1":{"id":"alice"},
	"CustomFields":[{"id":"9","name":"Affected Services","values":["mail","print"]},{"id":"2","name":"External ID","values":["11111111-1111-4111-8111-111111111111"]},
		{"id":"6","name":"Workaround","values":[null]},{"id":"7","name":"Evidence","values":[{"filename":"a.png","content_type":"image/png"}]},{"id":"3","name":"Severity","values":[]}]}`

func TestReadShapes(t *testing.T) {
	t.Parallel()
	_, url := serve(t, map[string][]answer{"GET /ticket/7": {{header: map[string]string{"ETag": `"93"`}, body: ticketJSON}}})
	c := newConnector(t, url+"/", nil)
	names := []string{
		"Subject", "Priority", "Queue", "Owner", "Requestor", "Due", "Starts", "RT::CustomRole-1", "CustomFields.affected services", "CustomFields.Workaround",
		"CustomFields.Evidence", "CustomFields.Severity", "CustomFields.No Such", "Content", "CustomFields", "_hyperlinks",
	}
	got, err := c.Read(t.Context(), "7", names)
	if err != nil {
		t.Fatal(err)
	}
	want := connectors.Ticket{
		ID: "7", Number: "7", URL: url + "/Ticket/Display.html?id=7", Version: "93", CorrelationID: "11111111-1111-4111-8111-111111111111",
		UpdatedAt: time.Date(2026, 11, 21, 19, 5, 13, 0, time.UTC),
		Fields: connectors.Fields{
			"Subject": "Beamer", "Priority": "40", "Queue": "Incidents", "Owner": "", "Requestor": "carol@customer.example.test, dave", "Due": "", "Starts": "2026-12-02T10:00:00Z",
			"RT::CustomRole-1": "alice", "CustomFields.affected services": "mail\nprint", "CustomFields.Workaround": "", "CustomFields.Evidence": "a.png", "CustomFields.Severity": "",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the ticket (-want +got):\n%s", diff)
	}
}

func TestReadUnbelievable(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]answer{
		"another shape":  {body: `["Ticket 7"]`},
		"no ticket":      {body: `{"message":"hello"}`},
		"a login page":   {header: map[string]string{"Content-Type": "text/html"}, body: "<title>Login</title>"},
		"cut":            {body: ticketJSON[:300]},
		"a server error": {status: 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := serve(t, map[string][]answer{"GET /ticket/7": {a}})
			_, err := newConnector(t, url, nil).Read(t.Context(), "7", nil)
			if err == nil || connectors.KindOf(err) != connectors.Transient {
				t.Errorf("error %v, want kind transient", err)
			}
		})
	}
}

// TestWritesAnswered: what a write's answer means for its outcome, once the look before it went well.
func TestWritesAnswered(t *testing.T) {
	t.Parallel()
	page := answer{header: map[string]string{"Content-Type": "text/html"}, body: "<title>Back soon</title>"}
	for name, tt := range map[string]struct {
		answer answer
		want   connectors.Kind
	}{
		"a page of a gateway":     {page, connectors.Unknown},
		"half an answer":          {answer{status: 201, body: `["Corresp`}, connectors.Unknown},
		"an answer with no id":    {answer{status: 201, body: `["Correspondence added"]`}, connectors.Unknown},
		"a server error":          {answer{status: 500}, connectors.Unknown},
		"a redirect to a sign-in": {answer{status: 302, header: map[string]string{"Location": "/"}}, connectors.Auth},
		"a right is missing":      {answer{status: 400, body: `{"message":"Permission Denied"}`}, connectors.Auth},
		"a refusal":               {answer{status: 400, body: `{"message":"ContentType is a required field"}`}, connectors.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := serve(t, map[string][]answer{"GET /ticket/7": {{body: ticketJSON}}, "POST /ticket/7/comment": {tt.answer}})
			_, err := newConnector(t, url, nil).Say(t.Context(), "7", connectors.Message{Key: "k", Visibility: connectors.Internal, Body: "hello"}, "")
			if err == nil || connectors.KindOf(err) != tt.want {
				t.Errorf("error %v, want kind %s", err, tt.want)
			}
		})
	}
}

// TestReadingBackFails: the write went through; whatever happens to the look behind it, its outcome is not known.
func TestReadingBackFails(t *testing.T) {
	t.Parallel()
	queue := answer{body: `{"id":3,"Name":"Incidents","Disabled":"0","TicketCustomFields":[{"name":"External ID"}],"TicketTransactionCustomFields":[{"name":"Message Key"}]}`}
	s, url := serve(t, map[string][]answer{
		"GET /queue/Incidents": {queue},
		"POST /ticket":         {{status: 201, body: `{"type":"ticket","id":"7"}`}},
		"PUT /ticket/8":        {{body: `["Ticket 8: Subject changed"]`}},
		"GET /ticket/8":        {{body: strings.ReplaceAll(ticketJSON, `"id":7`, `"id":8`)}, {status: 403, body: `{"message":"Forbidden"}`}},
	})
	c := newConnector(t, url, nil)
	_, err := c.Create(t.Context(), connectors.Draft{CorrelationID: "11111111-1111-4111-8111-111111111111", Fields: connectors.Fields{"Subject": "x"}})
	if connectors.KindOf(err) != connectors.Unknown || err == nil {
		t.Errorf("Create: %v, want kind unknown", err)
	}
	_, err = c.Update(t.Context(), "8", connectors.Fields{"Subject": "x"})
	if connectors.KindOf(err) != connectors.Unknown || err == nil {
		t.Errorf("Update: %v, want kind unknown", err)
	}
	writes := slices.DeleteFunc(s.calls, func(c string) bool { return strings.HasPrefix(c, "GET") })
	if want := []string{"POST /ticket", "PUT /ticket/8"}; !slices.Equal(writes, want) {
		t.Errorf("writes %v, want %v", writes, want)
	}
}

// TestTypeSurvivesKeyOrder: a transaction has "Type" and "type", and RT's key order changes from answer to answer. Read
// carelessly, the second overwrites the first, and messages are lost at random.
func TestTypeSurvivesKeyOrder(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]string{
		"Type last":  `{"type":"transaction","id":"94","Type":"Correspond","Creator":{"id":"alice"},"Created":"2026-11-21T19:05:13Z"}`,
		"Type first": `{"Type":"Correspond","id":"94","Creator":{"id":"alice"},"Created":"2026-11-21T19:05:13Z","type":"transaction"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url := serve(t, map[string][]answer{
				"GET /transactions":               {{body: `{"items":[` + row + `],"pages":null,"total":null}`}, {body: `{"items":[],"pages":0.0,"total":0}`}},
				"GET /transaction/94/attachments": {{body: `{"items":[{"id":"5","ContentType":"text/plain","Filename":"","ContentLength":"5"}]}`}},
				"GET /attachment/5":               {{body: `{"id":5,"Content":"aGVs\nbG8=\n"}`}},
			})
			got, _, err := newConnector(t, url, nil).Journal(t.Context(), "7", "")
			if err != nil || len(got) != 1 || got[0].Visibility != connectors.Public || got[0].Body != "hello" {
				t.Errorf("Journal: %+v (%v), want one public entry", got, err)
			}
		})
	}
}

// history plays RT's way of paging: it cuts a page first and takes out the rows that the account may not see then.
type history struct {
	mu      sync.Mutex
	visible map[int64]bool
	newest  int64
	calls   int
}

var idBeyond = regexp.MustCompile(`id > ([0-9]+)`)

func (h *history) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls++
	q := r.URL.Query()
	after := int64(0)
	if m := idBeyond.FindStringSubmatch(q.Get("query")); m != nil {
		after, _ = strconv.ParseInt(m[1], 10, 64)
	}
	per, _ := strconv.ParseInt(q.Get("per_page"), 10, 64)
	page, _ := strconv.ParseInt(q.Get("page"), 10, 64)
	var items []map[string]any
	for n := range per {
		n += (max(page, 1) - 1) * per
		id := after + 1 + n
		if q.Get("order") == "DESC" {
			id = h.newest - n
		}
		if id > after && id <= h.newest && h.visible[id] {
			items = append(items, map[string]any{"id": strconv.FormatInt(id, 10), "type": "transaction", "ObjectId": "7", "Created": "2026-11-21T19:05:13Z"})
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"items": append([]map[string]any{}, items...), "total": nil, "pages": nil})
}

// TestChangesBehindHiddenRows: runs of rows that the account may not see, longer than a page, hide nothing behind them.
func TestChangesBehindHiddenRows(t *testing.T) {
	t.Parallel()
	h := &history{visible: map[int64]bool{1000: true}, newest: 1000}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	now := time.Now()
	c := newConnector(t, srv.URL, func(cfg *connectors.Config) { cfg.Now = func() time.Time { return now } })
	p, err := c.Changes(t.Context(), "")
	if err != nil || len(p.Refs) != 0 {
		t.Fatalf("from now on: %+v %v", p, err)
	}
	for _, id := range []int64{1003, 1350, 1351, 1702} {
		h.mu.Lock()
		h.visible[id], h.newest = true, id
		h.mu.Unlock()
	}
	var versions []string
	for range 40 {
		if p, err = c.Changes(t.Context(), p.Next); err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Refs {
			versions = append(versions, r.Version)
		}
		if !p.More {
			break
		}
	}
	if want := []string{"1003", "1351", "1702"}; !slices.Equal(versions, want) {
		t.Errorf("shown: %v, want %v", versions, want)
	}
	idle := func(most int) {
		t.Helper()
		h.mu.Lock()
		h.calls = 0
		h.mu.Unlock()
		for p.More = true; p.More; {
			if p, err = c.Changes(t.Context(), p.Next); err != nil || len(p.Refs) != 0 || h.calls > most {
				t.Fatalf("nothing has happened since: %+v after %d calls (%v), want nothing after at most %d", p, h.calls, err, most)
			}
		}
	}
	idle(20) // what was seen within the overlap is passed over once more, the hidden rows between included
	for range 2 {
		now = now.Add(10 * time.Minute)
		idle(20)
	}
	idle(1)
}

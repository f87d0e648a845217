package servicenowtest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
)

// client is a plain HTTP client of a played instance.
type client struct {
	t    *testing.T
	base string
	user string
	http *http.Client
}

func newClient(t *testing.T, s *servicenowtest.Server) *client {
	t.Helper()
	return &client{t: t, base: s.URL, user: "sim", http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}}
}

// as is the same client signed in as another user whose password is its name.
func (c *client) as(user string) *client {
	d := *c
	d.user = user
	return &d
}

type answer struct {
	t      *testing.T
	status int
	header http.Header
	text   string
}

func (c *client) request(method, path, body string, header ...string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if c.user != "" {
		r.SetBasicAuth(c.user, c.user)
	}
	r.Header.Set("Accept", "application/json")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i+1] == "" {
			r.Header.Del(header[i])
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
	return r
}

func (c *client) do(method, path, body string, header ...string) answer {
	c.t.Helper()
	res, err := c.http.Do(c.request(method, path, body, header...))
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("%s %s: reading: %v", method, path, err)
	}
	return answer{c.t, res.StatusCode, res.Header, string(text)}
}

func (c *client) get(path string, params ...string) answer {
	c.t.Helper()
	q := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		q.Set(params[i], params[i+1])
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return c.do("GET", path, "")
}

// create opens an incident and gives its sys_id.
func (c *client) create(body string) string {
	c.t.Helper()
	return c.do("POST", "/api/now/table/incident", body).want(201).record()["sys_id"].(string)
}

func (c *client) patch(id, body string) answer {
	c.t.Helper()
	return c.do("PATCH", "/api/now/table/incident/"+id, body)
}

func (c *client) read(id string) map[string]any {
	c.t.Helper()
	return c.get("/api/now/table/incident/" + id).want(200).record()
}

func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.text)
	}
	return a
}

func (a answer) decode(v any) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.text), v); err != nil {
		a.t.Fatalf("decoding %q: %v", a.text, err)
	}
}

func (a answer) record() map[string]any {
	a.t.Helper()
	var v struct{ Result map[string]any }
	a.decode(&v)
	return v.Result
}

func (a answer) list() []map[string]any {
	a.t.Helper()
	var v struct{ Result []map[string]any }
	a.decode(&v)
	if v.Result == nil {
		a.t.Fatalf("no list in %s", a.text)
	}
	return v.Result
}

// column gathers one column of a list.
func (a answer) column(name string) []string {
	a.t.Helper()
	out := []string{}
	for _, r := range a.list() {
		text, ok := r[name].(string)
		if !ok {
			a.t.Fatalf("column %s is %v, want a string", name, r[name])
		}
		out = append(out, text)
	}
	return out
}

func (a answer) wantError(status int, message, detail string) {
	a.t.Helper()
	a.want(status)
	var v struct {
		Error  struct{ Message, Detail string }
		Status string
	}
	a.decode(&v)
	if v.Status != "failure" || v.Error.Message != message || !strings.Contains(v.Error.Detail, detail) {
		a.t.Fatalf("error %+v, want message %q and detail %q", v, message, detail)
	}
}

func wantField(t *testing.T, r map[string]any, name string, want any) {
	t.Helper()
	got, _ := json.Marshal(r[name])
	expected, _ := json.Marshal(want)
	if !bytes.Equal(got, expected) {
		t.Errorf("%s = %s, want %s", name, got, expected)
	}
}

// clock is a clock that a test turns by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 4, 10, 20, 30, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		<-tick.C
	}
}

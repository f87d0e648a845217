package graph_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	"liaison/graph"
	"liaison/sync/ledger"
)

func TestSigningIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic dG9rZW46", "bearer " + sam + " x", sam} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url, strings.NewReader(`{"query": "{ viewer { name } }"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		answer := w.do("", r)
		if answer.Status != http.StatusUnauthorized || !strings.HasPrefix(answer.Header.Get("WWW-Authenticate"), "Bearer") || answer.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%q: %d %v %s", header, answer.Status, answer.Header, answer.Body)
		}
		refused(t, answer, "UNAUTHENTICATED", "", "Authorization: Bearer")
	}
	if got := w.must(sam, `{ viewer { name email phone roles } }`, nil); text(t, got, "viewer", "name") != "Sam Smith" {
		t.Errorf("viewer %v", got)
	}
}

func TestRequestsThatAreNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const secret = "correct-horse-battery"
	for _, c := range []struct {
		name, method, media, body string
		status                    int
		code                      string
	}{
		{"no JSON", "POST", "application/json", `{"query": "` + secret, 400, "BAD_USER_INPUT"},
		{"JSON of another shape", "POST", "application/json", `["` + secret + `"]`, 400, "BAD_USER_INPUT"},
		{"query is a number", "POST", "application/json", `{"query": 5, "x": "` + secret + `"}`, 400, "BAD_USER_INPUT"},
		{"variables are text", "POST", "application/json", `{"query": "{viewer{name}}", "variables": "` + secret + `"}`, 400, "BAD_USER_INPUT"},
		{"more behind", "POST", "application/json", `{"query": "{viewer{name}}"} "` + secret + `"`, 400, "BAD_USER_INPUT"},
		{"no query", "POST", "application/json", `{"x": "` + secret + `"}`, 400, "BAD_USER_INPUT"},
		{"empty", "POST", "application/json", ``, 400, "BAD_USER_INPUT"},
		{"blank", "POST", "application/json", ` `, 400, "BAD_USER_INPUT"},
		{"null", "POST", "application/json", `null`, 400, "BAD_USER_INPUT"},
		{"not UTF-8", "POST", "application/json", "{\"query\": \"{viewer{name}}\", \"operationName\": \"\xff\"}", 400, "BAD_USER_INPUT"},
		{"form", "POST", "application/x-www-form-urlencoded", `query={viewer{name}}`, 415, "BAD_USER_INPUT"},
		{"text", "POST", "text/plain", `{"query": "{viewer{name}}"}`, 415, "BAD_USER_INPUT"},
		{"latin 1", "POST", "application/json; charset=iso-8859-1", `{"query": "{viewer{name}}"}`, 415, "BAD_USER_INPUT"},
		{"PUT", "PUT", "application/json", `{"query": "{viewer{name}}"}`, 405, "BAD_USER_INPUT"},
		{"larger than 1 MiB", "POST", "application/json", `{"query": "{viewer{name}}", "x": "` + strings.Repeat("x", 1<<20) + `"}`, 413, "BAD_USER_INPUT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, err := http.NewRequestWithContext(t.Context(), c.method, w.url, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", c.media)
			answer := w.do(sam, r)
			if answer.Status != c.status || len(answer.Errors) != 1 || answer.Errors[0].Extensions["code"] != c.code {
				t.Errorf("%d %s", answer.Status, answer.Body)
			}
			if strings.Contains(answer.Body, secret) || strings.Contains(w.logs.String(), secret) {
				t.Errorf("the body was repeated: %s", answer.Body)
			}
			if answer.Header.Get("X-Content-Type-Options") != "nosniff" || answer.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("headers %v", answer.Header)
			}
		})
	}
}

func TestDocumentsThatAreTooMuch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	refused(t, w.ask(sam, "{ viewer { name ", nil), "GRAPHQL_PARSE_FAILED", "")
	refused(t, w.ask(sam, "{ viewer { nam } }", nil), "GRAPHQL_VALIDATION_FAILED", "", "name")
	refused(t, w.ask(sam, "{"+strings.Repeat(" a: viewer { name }", 1000)+"}", nil), "GRAPHQL_PARSE_FAILED", "")
	refused(t, w.ask(sam, `{ incidents(first: 100) { nodes { history(first: 100) { nodes { incident { history(first: 100) { nodes { id } } } } } } } }`, nil), "COMPLEXITY_LIMIT_EXCEEDED", "")
	many := w.ask(sam, "{"+strings.Repeat(" nothing", 1500)+"}", nil)
	if len(many.Errors) > 30 || len(many.Body) > 20_000 {
		t.Errorf("%d errors in %d bytes", len(many.Errors), len(many.Body))
	}
	// What a portal and a wall board ask for stays well below.
	w.must(ada, `{ incidents(first: 100) { nodes { id number title state priority organisation { name } comments(last: 3) { nodes { body author at } } links { externalNumber url system { key } syncStatus } } } }`, nil)
}

func TestInternalCausesStayInside(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.report(sam, "Printer")
	w.exec(`ALTER TABLE comment RENAME TO gone`)
	r := w.ask(sam, `query($id: ID!) { incident(id: $id) { number comments { nodes { body } } } }`, map[string]any{"id": id})
	refused(t, r, "INTERNAL", "")
	trace, _ := r.Errors[0].Extensions["traceId"].(string)
	if len(trace) != 32 || !strings.Contains(w.logs.String(), trace) {
		t.Errorf("the trace id %q is not in the log: %s", trace, w.logs.String())
	}
	if strings.Contains(r.Body, "relation") || strings.Contains(r.Body, "SQLSTATE") {
		t.Errorf("the cause leaked: %s", r.Body)
	}
	if !strings.Contains(w.logs.String(), "SQLSTATE 42P01") {
		t.Error("the cause is not in the log")
	}
}

func TestPanicsStayInside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(d *graph.Deps) { d.Reader = (*ledger.Reader)(nil) })
	r := w.ask(sam, `{ organisations { key } }`, nil)
	refused(t, r, "INTERNAL", "")
	if strings.Contains(r.Body, "nil pointer") {
		t.Errorf("the cause leaked: %s", r.Body)
	}
	w = newWorld(t, func(d *graph.Deps) { d.Feed = nil })
	r = w.ask(sam, `{ incidents { nodes { id } } }`, nil)
	refused(t, r, "INTERNAL", "")
	if strings.Contains(r.Body, "nil pointer") || !strings.Contains(w.logs.String(), "panic in a resolver") {
		t.Errorf("the cause leaked, or was not logged: %s\n%s", r.Body, w.logs.String())
	}
}

func TestWithoutADatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.db.App.Close()
	r := w.ask(sam, `{ organisations { key } }`, nil)
	refused(t, r, "INTERNAL", "")
}

func TestServerSentEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body, err := json.Marshal(map[string]any{"query": `subscription { incidentChanged { kind incident { title } entry { kind } } }`})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer "+sam)
	answer, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("%d %v", answer.StatusCode, answer.Header)
	}
	read := func() string {
		t.Helper()
		var event strings.Builder
		b := make([]byte, 1)
		for !strings.HasSuffix(event.String(), "\n\n") {
			if _, err := answer.Body.Read(b); err != nil {
				t.Fatalf("after %q: %v", event.String(), err)
			}
			event.Write(b)
		}
		return event.String()
	}
	read() // the opening comment
	var reporting sync.WaitGroup
	reporting.Go(func() { w.reportUntil(ctx) })
	defer reporting.Wait()
	defer cancel()
	if event := read(); !strings.Contains(event, "event: next\n") || !strings.Contains(event, `"kind":"CHANGED"`) || !strings.Contains(event, `"title":"t`) {
		t.Errorf("event %q", event)
	}
}

package graph_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/connectors"
	"liaison/connectors/servicenow"
	"liaison/graph"
	"liaison/internal/auth"
	"liaison/internal/desk"
	"liaison/internal/directory"
	"liaison/internal/feed"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/inbound"
	"liaison/sync/ledger"
	"liaison/sync/mapping"
	"liaison/sync/pulse"
	"liaison/sync/reconcile"
	"liaison/sync/system"
)

// patience bounds every wait; only a failing test uses it up.
const patience = time.Minute

// The tokens: requesters of two organisations of one desk, its agent and admin, and the agent of another desk.
const (
	sam   = "token-sam"   // requester at Barnfield
	oli   = "token-oli"   // requester at Oakwood
	ada   = "token-ada"   // agent of the desk that serves both
	root  = "token-root"  // admin of the same desk
	other = "token-other" // agent of a desk that serves only Elsewhere
	boss  = "token-boss"  // admin of that desk
)

// world is a whole hub over a real database, behind a real HTTP server.
type world struct {
	t       *testing.T
	db      *postgres.DB
	bell    *postgres.Bell
	ledger  *ledger.Ledger
	feed    *feed.Feed
	handler *graph.Handler
	url     string
	client  *http.Client
	count   *counter
	logs    *logs
	clock   *clock
	monitor *pulse.Monitor
	stop    context.CancelFunc // ends the feed
	stopped chan struct{}
}

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Second)
	return c.at
}

// counter counts statements and round trips of requests.
type counter struct {
	mu         sync.Mutex
	statements []string
	batches    int
}

func (c *counter) TraceQueryStart(ctx context.Context, conn *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	c.add(conn, d.SQL)
	return ctx
}
func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *counter) TraceBatchStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn.Config().RuntimeParams["statement_timeout"] == appTimeout {
		c.batches++
	}
	return ctx
}

func (c *counter) TraceBatchQuery(_ context.Context, conn *pgx.Conn, d pgx.TraceBatchQueryData) {
	c.add(conn, d.SQL)
}
func (c *counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// appTimeout marks the connections of requests, so that the feed's own statements are not counted.
const appTimeout = "9999"

func (c *counter) add(conn *pgx.Conn, sql string) {
	if conn.Config().RuntimeParams["statement_timeout"] != appTimeout {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.statements = append(c.statements, strings.SplitN(sql, "\n", 2)[0])
}

// during returns the statements and round trips that fn causes.
func (c *counter) during(fn func()) (statements []string, batches int) {
	c.mu.Lock()
	c.statements, c.batches = nil, 0
	c.mu.Unlock()
	fn()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.statements, c.batches
}

// logs keeps what was logged, for tests that expect or forbid it.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newWorld(t *testing.T, change ...func(*graph.Deps)) *world {
	t.Helper()
	return newWorldAt(t, pgtest.URL(t), change...)
}

func newWorldAt(t *testing.T, database string, change ...func(*graph.Deps)) *world {
	t.Helper()
	w := &world{t: t, count: &counter{}, logs: &logs{}, clock: &clock{at: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)}}
	w.db = pgtest.Open(t, database, postgres.Options{AppConns: 8, SystemConns: 8, Tracer: w.count, AppTimeouts: postgres.Timeouts{Statement: 9999 * time.Millisecond}})
	w.exec(`INSERT INTO desk (key, name) VALUES ('btls', 'BTLS'), ('csc', 'CSC')`)
	w.exec(`INSERT INTO organisation (key, name, desk_id) VALUES ('barnfield', 'Barnfield', 1), ('oakwood', 'Oakwood', 1), ('elsewhere', 'Elsewhere', 2)`)
	w.exec(`INSERT INTO external_system (key, name, connector, desk_id, url) VALUES ('snow', 'ServiceNow', 'servicenow', 1, 'https://snow.example.org'),
		('rt', 'RT', 'requesttracker', 1, 'https://rt.example.org'), ('hidden', 'Hidden', 'servicenow', 2, 'https://hidden.example.org')`)
	w.exec(`INSERT INTO system_organisation (organisation_id, system_id) VALUES (1, 1), (1, 2), (2, 1), (3, 3)`)

	logger := slog.New(slog.NewTextHandler(w.logs, nil))
	w.bell = postgres.NewBell(w.db, logger)
	w.ledger = ledger.New(w.db, w.bell, w.clock.now)
	f, err := feed.New(t.Context(), w.db, w.bell, feed.Config{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	w.feed = f
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = w.bell.Run(ctx) })
	running.Go(func() { _ = f.Run(ctx) })
	w.stop, w.stopped = cancel, make(chan struct{})
	go func() { running.Wait(); close(w.stopped) }()

	grant := func(token, name string, org incident.OrganisationID, d incident.DeskID, roles ...auth.Role) auth.Grant {
		return auth.Grant{Digest: auth.DigestOf(token), Subject: token + "@example.org", Name: name, Email: token + "@example.org", Phone: "01582 1", Organisation: org, Desk: d, Roles: roles}
	}
	people, err := auth.NewDirectory([]auth.Grant{
		grant(sam, "Sam Smith", 1, 1, auth.Requester), grant(oli, "Oli Oak", 2, 1, auth.Requester),
		grant(ada, "Ada Agent", 0, 1, auth.Agent), grant(root, "Ruth Root", 0, 1, auth.Agent, auth.Admin), grant(other, "Otto Other", 0, 2, auth.Agent),
		grant(boss, "Bea Boss", 0, 2, auth.Agent, auth.Admin),
	}, map[incident.DeskID][]incident.OrganisationID{1: {1, 2}, 2: {3}})
	if err != nil {
		t.Fatal(err)
	}
	systems := []*system.System{servicenowSystem(t)}
	w.monitor = pulse.New(w.db, systems, pulse.Options{Log: logger, Now: w.clock.now})
	deps := graph.Deps{
		Desk: desk.New(w.ledger, desk.DefaultLimits(), w.clock.now), Reader: ledger.NewReader(w.db), Feed: f, Auth: people, Logger: logger, Now: w.clock.now,
		Inbox: inbound.NewMender(w.db, systems, w.bell, w.clock.now), Switch: directory.NewSwitch(w.db, w.bell, w.clock.now, logger),
		Reconciler: reconcile.New(w.db, w.ledger, systems, reconcile.Options{Log: logger, Now: w.clock.now}), Monitor: w.monitor, Systems: systems,
	}
	for _, c := range change {
		c(&deps)
	}
	w.handler = graph.NewHandler(deps)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("the hub logged:\n" + w.logs.String())
		}
	})
	server := httptest.NewServer(w.handler)
	w.url, w.client = server.URL, server.Client()
	t.Cleanup(func() {
		w.handler.Shutdown()
		cancel()
		<-w.stopped
		server.Close()
	})
	return w
}

// servicenowSystem is the system snow with its real connector and mapping; nobody answers at its address.
func servicenowSystem(t *testing.T) *system.System {
	t.Helper()
	connector, err := servicenow.New(connectors.Config{
		Key: "snow", URL: "http://127.0.0.1:1", Timeout: time.Second,
		Auth: connectors.Credentials{Basic: &connectors.Basic{User: "u", Password: connectors.NewSecret("a-password")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	words, err := mapping.Load("connectors/servicenow/mapping.yaml", servicenow.Mapping())
	if err != nil {
		t.Fatal(err)
	}
	return &system.System{ID: 1, Key: "snow", Name: "ServiceNow", Connector: connector, Mapping: words, Concurrency: 1, CallTimeout: time.Second}
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.db.System.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// result is an answer of GraphQL.
type result struct {
	Status int
	Header http.Header
	Body   string
	Data   map[string]any
	Errors []struct {
		Message    string
		Path       []any
		Extensions map[string]any
	}
}

// ask posts a document.
func (w *world) ask(token, query string, variables map[string]any) result {
	w.t.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.post(token, "application/json", body)
}

func (w *world) post(token, contentType string, body []byte) result {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	return w.do(token, r)
}

func (w *world) do(token string, r *http.Request) result {
	w.t.Helper()
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := w.client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	out := result{Status: answer.StatusCode, Header: answer.Header, Body: string(b)}
	if err := json.Unmarshal(b, &out); err != nil {
		w.t.Fatalf("%d %s: %v", out.Status, b, err)
	}
	return out
}

// must posts a document that has to succeed, and returns its data.
func (w *world) must(token, query string, variables map[string]any) map[string]any {
	w.t.Helper()
	r := w.ask(token, query, variables)
	if len(r.Errors) > 0 || r.Status != http.StatusOK {
		w.t.Fatalf("%s\n%v\n%d %s", query, variables, r.Status, r.Body)
	}
	return r.Data
}

// at walks down an answer: names, and numbers for list items.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				t.Fatalf("no %v in %v", p, v)
			}
			v = m[p]
		case int:
			l, ok := v.([]any)
			if !ok || p >= len(l) {
				t.Fatalf("no item %d in %v", p, v)
			}
			v = l[p]
		}
	}
	return v
}

func text(t *testing.T, v any, path ...any) string {
	t.Helper()
	s, ok := at(t, v, path...).(string)
	if !ok {
		t.Fatalf("%v is no text in %v", path, v)
	}
	return s
}

// report opens an incident and returns its id.
func (w *world) report(token, title string, more ...string) string {
	w.t.Helper()
	input := map[string]any{"title": title, "description": "It does not work."}
	for _, organisation := range more {
		input["organisation"] = organisation
	}
	data := w.must(token, `mutation($i: ReportIncidentInput!) { reportIncident(input: $i) { incident { id } } }`, map[string]any{"i": input})
	return text(w.t, data, "reportIncident", "incident", "id")
}

func (w *world) comment(token, id, body string) {
	w.t.Helper()
	w.must(token, `mutation($i: AddCommentInput!) { addComment(input: $i) { comment { id } } }`,
		map[string]any{"i": map[string]any{"incidentId": id, "body": body}})
}

// refused checks that an answer has exactly one error of a code, and says what is needed.
func refused(t *testing.T, r result, code, field string, says ...string) {
	t.Helper()
	if len(r.Errors) != 1 {
		t.Fatalf("want one error %s, got %s", code, r.Body)
	}
	e := r.Errors[0]
	got, _ := e.Extensions["field"].(string)
	if e.Extensions["code"] != code || got != field {
		t.Errorf("want code %s, field %q; got %s", code, field, r.Body)
	}
	for _, s := range says {
		if !strings.Contains(e.Message, s) {
			t.Errorf("the message should say %q: %s", s, e.Message)
		}
	}
}

func ids(t *testing.T, connection any, field string) string {
	t.Helper()
	var out []string
	for _, e := range at(t, connection, "edges").([]any) {
		out = append(out, fmt.Sprint(at(t, e, "node", field)))
	}
	return strings.Join(out, " ")
}

// open opens an incident at Barnfield without asking GraphQL.
func (w *world) open(ctx context.Context, title string) error {
	v := auth.Viewer{Subject: "v", Name: "V", Roles: []auth.Role{auth.Requester}, Organisation: 1, Organisations: []incident.OrganisationID{1}}
	_, err := w.ledger.Open(ctx, v, ledger.Actor{Kind: ledger.Person, Name: "V"}, incident.Incident{
		ID: incident.NewID(), Organisation: 1, Title: title,
		Description: "x", State: incident.New, Priority: incident.PriorityNone, Source: incident.SourceUser, OpenedAt: w.clock.now(),
	}, ledger.Key{})
	return err
}

// reportUntil opens incidents until ctx ends, for tests that cannot know when a subscription has begun.
func (w *world) reportUntil(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		if err := w.open(ctx, fmt.Sprintf("t%d", n)); err != nil && ctx.Err() == nil {
			w.t.Errorf("reporting: %v", err)
			return
		}
	}
}

// waitFor waits until a condition holds that nothing signals.
func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-end:
			t.Error("the condition never held")
			return
		}
	}
}

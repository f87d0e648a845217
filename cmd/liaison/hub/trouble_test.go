package hub_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"

	"liaison/cmd/liaison/hub"
	"liaison/connectors/registry"
	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/config"
	"liaison/internal/postgres/pgtest"
	"liaison/internal/telemetry"
)

// patient is a client that waits longer than the hub may.
var patient = &http.Client{Timeout: 30 * time.Second}

// hooked adds a webhook's secret to the settings.
func hooked(text string) string {
	return strings.Replace(text, "poll: {interval: 1s}}", "poll: {interval: 1s}, webhook: {secret: hush}}", 1)
}

// settle parses settings for a hub of a test.
func settle(t *testing.T, text, database string, environ ...string) *config.Config {
	t.Helper()
	c, err := config.Parse("hub_test.yaml", []byte(text), config.Options{
		Environ: append(environ, "LIAISON_DATABASE_URL="+database), Connectors: registry.Names(), AllowLiteralSecrets: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// begin starts a hub in the background and yields it, or why it did not start.
func begin(t *testing.T, c *config.Config) <-chan started {
	t.Helper()
	watch, err := telemetry.Start(t.Context(), telemetry.Config{LogOutput: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	yield := make(chan started, 1)
	go func() {
		h, err := hub.Start(context.WithoutCancel(t.Context()), c, watch, hub.Watch{})
		yield <- started{h, err}
	}()
	return yield
}

type started struct {
	hub *hub.Hub
	err error
}

// up waits for the hub and stops it with the test, unless the test has.
func up(t *testing.T, yield <-chan started) *hub.Hub {
	t.Helper()
	select {
	case s := <-yield:
		if s.err != nil {
			t.Fatal(s.err)
		}
		return s.hub
	case <-time.After(time.Minute):
		t.Fatal("the hub does not start")
		return nil
	}
}

func stopped(t *testing.T, h *hub.Hub) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := h.Stop(ctx); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
}

// state is what /readyz says.
type state struct {
	Status int    `json:"-"`
	Ready  bool   `json:"ready"`
	State  string `json:"state"`
	Reason string `json:"reason"`
}

func readyz(t *testing.T, addr string) (now state) {
	t.Helper()
	answer, err := patient.Get("http://" + addr + "/readyz")
	if err != nil {
		return state{Reason: err.Error()}
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&now); err != nil {
		t.Errorf("/readyz is no JSON: %v", err)
	}
	now.Status = answer.StatusCode
	if (answer.StatusCode == http.StatusServiceUnavailable) != (answer.Header.Get("Retry-After") != "") {
		t.Errorf("/readyz answers %d with Retry-After %q", answer.StatusCode, answer.Header.Get("Retry-After"))
	}
	return now
}

// says waits until /readyz says so, while /healthz must stay up.
func says(t *testing.T, addr, want string) {
	t.Helper()
	var now state
	up := false
	deadline := time.Now().Add(40 * time.Second)
	for time.Now().Before(deadline) {
		alive, err := patient.Get("http://" + addr + "/healthz")
		switch {
		case err != nil && !up: // it does not listen yet
			<-time.After(20 * time.Millisecond) // nothing tells when it does
			continue
		case err != nil || alive.StatusCode != http.StatusOK:
			t.Fatalf("/healthz: %v", err)
		}
		up = true
		alive.Body.Close()
		if now = readyz(t, addr); now.State == want {
			wants := http.StatusServiceUnavailable
			if want == "READY" {
				wants = http.StatusOK
			}
			if now.Status != wants || now.Ready != (want == "READY") || now.Reason == "" || strings.Contains(now.Reason, "SQLSTATE") {
				t.Errorf("/readyz answers %+v", now)
			}
			return
		}
		<-time.After(50 * time.Millisecond) // nothing tells when a database has come or gone
	}
	t.Fatalf("/readyz says %+v, want %s", now, want)
}

type answered struct {
	status int
	body   string
	retry  string
	code   string
	took   time.Duration
}

// post sends a body, and reads the code of a GraphQL error out of the answer.
func post(ctx context.Context, url, body string, header map[string]string) (out answered, err error) {
	began := time.Now()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return out, err
	}
	r.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		r.Header.Set(name, value)
	}
	answer, err := patient.Do(r)
	if err != nil {
		return out, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	out = answered{status: answer.StatusCode, body: string(text), retry: answer.Header.Get("Retry-After"), took: time.Since(began)}
	var in struct {
		Errors []struct {
			Extensions struct{ Code string } `json:"extensions"`
		} `json:"errors"`
	}
	if json.Unmarshal(text, &in) == nil && len(in.Errors) > 0 {
		out.code = in.Errors[0].Extensions.Code
	}
	return out, err
}

func graphql(ctx context.Context, addr, token, document string) (answered, error) {
	body, _ := json.Marshal(map[string]string{"query": document})
	return post(ctx, "http://"+addr+"/graphql", string(body), map[string]string{"Authorization": "Bearer " + token})
}

func webhook(ctx context.Context, addr string) (answered, error) {
	return post(ctx, "http://"+addr+"/hooks/snow", `{"sys_id": "0123456789abcdef0123456789abcdef"}`, map[string]string{"X-Liaison-Webhook": "hush"})
}

const reportOne = `mutation { reportIncident(input: {description: "The printer is on fire"}) { incident { id number } } }`

// refuses has a mutation and a webhook refused in the way that callers can work with.
func refuses(t *testing.T, addr string) {
	t.Helper()
	for _, token := range []string{"sam", "ada"} {
		document := reportOne
		if token == "ada" {
			document = `{ incidents { nodes { number } } }`
		}
		got, err := graphql(t.Context(), addr, token, document)
		if err != nil || got.code != "UNAVAILABLE" || strings.Contains(got.body, "SQLSTATE") {
			t.Errorf("%s is answered with %+v %v, want UNAVAILABLE", document, got, err)
		}
	}
	if got, err := webhook(t.Context(), addr); err != nil || got.status != http.StatusServiceUnavailable || got.retry == "" {
		t.Errorf("a webhook is answered with %+v %v, want 503 with Retry-After", got, err)
	}
}

// serves has the same accepted.
func serves(t *testing.T, addr string) {
	t.Helper()
	if got, err := graphql(t.Context(), addr, "sam", reportOne); err != nil || got.code != "" || got.status != http.StatusOK {
		t.Errorf("a report is answered with %+v %v", got, err)
	}
	if got, err := webhook(t.Context(), addr); err != nil || got.status != http.StatusAccepted {
		t.Errorf("a webhook is answered with %+v %v", got, err)
	}
}

// follow subscribes to everything and hands on the numbers of the incidents that were reported, until the socket ends.
func follow(t *testing.T, addr string) (numbers <-chan string, ended <-chan error) {
	t.Helper()
	dialer := websocket.Dialer{HandshakeTimeout: 10 * time.Second, Subprotocols: []string{"graphql-transport-ws"}}
	ws, answer, err := dialer.DialContext(t.Context(), "ws://"+addr+"/graphql", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	t.Cleanup(func() { ws.Close() })
	say := func(v any) {
		if err := ws.WriteJSON(v); err != nil {
			t.Fatal(err)
		}
	}
	say(map[string]any{"type": "connection_init", "payload": map[string]string{"Authorization": "Bearer ada"}})
	say(map[string]any{"type": "pong"})
	var ack struct{ Type string }
	if err := ws.ReadJSON(&ack); err != nil || ack.Type != "connection_ack" {
		t.Fatalf("%+v %v", ack, err)
	}
	say(map[string]any{"type": "subscribe", "id": "1", "payload": map[string]string{
		"query": `subscription { incidentChanged { kind entry { kind } incident { number } } }`,
	}})
	seen, over := make(chan string, 1000), make(chan error, 1)
	go func() {
		defer close(seen)
		for {
			var m struct {
				Type    string
				Payload struct {
					Data struct {
						IncidentChanged struct{ Incident struct{ Number string } }
					}
				}
			}
			if err := ws.ReadJSON(&m); err != nil {
				over <- err
				return
			}
			if m.Type == "next" {
				seen <- m.Payload.Data.IncidentChanged.Incident.Number
			}
		}
	}()
	return seen, over
}

// Issue 3, point 8: /readyz tells the truth and why, /healthz stays up, callers get a code, and everything goes on by
// itself afterwards, a subscription on the same socket included.
func TestReadyzTellsWhy(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	h := up(t, begin(t, settle(t, hooked(fmt.Sprintf(settings, servicenowtest.Start(t).URL)), server.URL())))
	stopped(t, h)
	addr := h.Addr()
	admin := func(sql ...string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), server.SuperuserURL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		for _, sql := range append(sql, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'liaison'") {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	says(t, addr, "READY")
	numbers, _ := follow(t, addr)
	for _, trouble := range []struct {
		state      string
		begin, end func()
	}{
		{state: "DATABASE_UNREACHABLE", begin: server.Stop, end: server.Start},
		{
			state: "TOO_MANY_CONNECTIONS",
			begin: func() { admin("ALTER ROLE liaison CONNECTION LIMIT 0") },
			end:   func() { admin("ALTER ROLE liaison CONNECTION LIMIT -1") },
		},
		{
			state: "READ_ONLY",
			begin: func() { admin("ALTER DATABASE liaison SET default_transaction_read_only = on") },
			end:   func() { admin("ALTER DATABASE liaison RESET default_transaction_read_only") },
		},
	} {
		trouble.begin()
		says(t, addr, trouble.state)
		if trouble.state == "READ_ONLY" { // what only reads still works
			until(t, "a report is refused because the database takes no writes", func() bool { // until all old connections are gone
				got, err := graphql(t.Context(), addr, "sam", reportOne)
				if err != nil || got.code != "UNAVAILABLE" {
					t.Errorf("read-only: %+v %v", got, err)
				}
				return strings.Contains(got.body, "takes no writes")
			})
			if got, err := webhook(t.Context(), addr); err != nil || got.status != http.StatusServiceUnavailable || got.retry == "" {
				t.Errorf("read-only: %+v %v", got, err)
			}
		} else {
			refuses(t, addr)
		}
		trouble.end()
		says(t, addr, "READY")
		serves(t, addr)
		select {
		case number := <-numbers:
			if number == "" {
				t.Errorf("after %s the subscription tells of nothing", trouble.state)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("after %s the subscription is dead", trouble.state)
		}
	}
	select {
	case err := <-h.Failed():
		t.Errorf("the hub ended: %v", err)
	default:
	}
}

// RELIABILITY.md P3 without a disk: the server answers writes as it does when there is no room (the e2e test has a disk
// that is full).
func TestP3WritesRefused(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	h := up(t, begin(t, settle(t, hooked(fmt.Sprintf(settings, servicenowtest.Start(t).URL)), database)))
	stopped(t, h)
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	serves(t, h.Addr())
	exec(`CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$`)
	exec(`CREATE TRIGGER full_disk BEFORE INSERT ON incident FOR EACH ROW EXECUTE FUNCTION full_disk()`)
	exec(`CREATE TRIGGER full_disk BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION full_disk()`)
	got, err := graphql(t.Context(), h.Addr(), "sam", reportOne)
	if err != nil || got.code != "UNAVAILABLE" || !strings.Contains(got.body, "disk is full") {
		t.Errorf("a report without room is answered with %+v %v", got, err)
	}
	if got, err := webhook(t.Context(), h.Addr()); err != nil || got.status != http.StatusServiceUnavailable || got.retry == "" {
		t.Errorf("a webhook without room is answered with %+v %v", got, err)
	}
	says(t, h.Addr(), "DISK_FULL")
	exec(`DROP TRIGGER full_disk ON incident`)
	exec(`DROP TRIGGER full_disk ON inbox`)
	says(t, h.Addr(), "READY")
	serves(t, h.Addr())
}

// RELIABILITY.md P4: a pool of few connections, and somebody who holds every table locked, idle in a transaction. Every
// request ends within 10 s with a code, /healthz is up, and nothing stays behind. It counts goroutines, so it runs alone.
func TestP4PoolStarved(t *testing.T) {
	held := time.Duration(number(t, "LIAISON_P4_SECONDS", 12)) * time.Second
	database := pgtest.URL(t)
	c := settle(t, hooked(fmt.Sprintf(settings, servicenowtest.Start(t).URL)), database, "LIAISON_DATABASE_APP_CONNECTIONS=3", "LIAISON_DATABASE_SYSTEM_CONNECTIONS=4")
	h := up(t, begin(t, c))
	stopped(t, h)
	addr := h.Addr()
	serves(t, addr)
	numbers, _ := follow(t, addr)
	holder, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.WithoutCancel(t.Context()))
	calm := func() int {
		patient.CloseIdleConnections()
		return runtime.NumGoroutine()
	}
	before := calm()
	var lock pgx.Tx
	for attempt := 0; ; attempt++ {
		if lock, err = holder.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err = lock.Exec(t.Context(), "LOCK TABLE incident, inbox, ledger_entry, lane IN ACCESS EXCLUSIVE MODE")
		if err == nil {
			break
		}
		_ = lock.Rollback(t.Context()) // the hub takes its tables in another order and may win: a deadlock is the test's own
		if attempt == 20 {
			t.Fatal(err)
		}
	}
	ends := time.Now().Add(held)
	var callers sync.WaitGroup
	var mu sync.Mutex
	asked, slowest := 0, time.Duration(0)
	call := func(what string, do func() (answered, error), fine func(answered) bool) {
		callers.Go(func() {
			for time.Now().Before(ends.Add(-10*time.Second)) || func() bool { mu.Lock(); defer mu.Unlock(); return asked < 40 }() {
				mu.Lock()
				asked++
				mu.Unlock()
				got, err := do()
				mu.Lock()
				slowest = max(slowest, got.took)
				mu.Unlock()
				if err != nil || got.took > 10*time.Second || !fine(got) {
					t.Errorf("%s: answered after %s with %+v %v", what, got.took.Round(time.Millisecond), got, err)
					return
				}
			}
		})
	}
	for n := range 24 {
		document := []string{reportOne, `{ incidents { nodes { number history(last: 3) { nodes { kind } } } } }`, `{ incidents(first: 3) { totalCount } }`}[n%3]
		call(document, func() (answered, error) { return graphql(t.Context(), addr, "sam", document) }, func(got answered) bool { return got.code == "UNAVAILABLE" })
	}
	for range 8 {
		call("webhook", func() (answered, error) { return webhook(t.Context(), addr) }, func(got answered) bool {
			return got.status == http.StatusServiceUnavailable && got.retry != ""
		})
	}
	for range 10 {
		began := time.Now()
		alive, err := patient.Get("http://" + addr + "/healthz")
		if err != nil || alive.StatusCode != http.StatusOK || time.Since(began) > 2*time.Second {
			t.Errorf("/healthz after %s: %v", time.Since(began), err)
		} else {
			alive.Body.Close()
		}
		if now := readyz(t, addr); now.Status == http.StatusServiceUnavailable && now.State != "POOL_EXHAUSTED" && now.State != "DATABASE_UNREACHABLE" {
			t.Errorf("/readyz says %+v", now)
		}
	}
	callers.Wait()
	if left := time.Until(ends); left > 0 {
		<-time.After(left)
	}
	t.Logf("%d requests while locked, the slowest took %s", asked, slowest.Round(time.Millisecond))
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	says(t, addr, "READY")
	serves(t, addr)
	select {
	case <-numbers:
	case <-time.After(20 * time.Second):
		t.Error("afterwards the subscription is dead")
	}
	deadline := time.Now().Add(20 * time.Second)
	for calm() > before+8 { // connections of the pools come and go
		if time.Now().After(deadline) {
			buffer := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buffer[:runtime.Stack(buffer, true)])
		}
		<-time.After(50 * time.Millisecond) // nothing tells when the last one has ended
	}
}

// free is an address that nobody listens at.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A hub that starts before its database does, or while another one migrates it, says so and waits.
func TestStartWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	server.Stop()
	addr := free(t)
	yield := begin(t, settle(t, strings.Replace(fmt.Sprintf(settings, servicenowtest.Start(t).URL), "127.0.0.1:0", addr, 1), server.URL()))
	says(t, addr, "DATABASE_UNREACHABLE")
	if got, err := graphql(t.Context(), addr, "sam", reportOne); err != nil || got.status != http.StatusServiceUnavailable || got.code != "UNAVAILABLE" || got.retry == "" {
		t.Errorf("before it is whole the hub answers %+v %v", got, err)
	}
	if got, err := webhook(t.Context(), addr); err != nil || got.status != http.StatusServiceUnavailable || got.retry == "" {
		t.Errorf("before it is whole the hub answers a webhook with %+v %v", got, err)
	}
	server.Start()
	h := up(t, yield)
	stopped(t, h)
	says(t, addr, "READY")
}

func TestStartWaitsForAnothersMigration(t *testing.T) {
	t.Parallel()
	database, addr := pgtest.Empty(t), free(t)
	other, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.WithoutCancel(t.Context()))
	const lock = "0x6c696169736f6e" // "liaison" in ASCII, as every Liaison's migrations have it
	var key int64
	if _, err := fmt.Sscanf(lock, "0x%x", &key); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), "SELECT pg_advisory_lock($1)", key); err != nil {
		t.Fatal(err)
	}
	yield := begin(t, settle(t, strings.Replace(fmt.Sprintf(settings, servicenowtest.Start(t).URL), "127.0.0.1:0", addr, 1), database))
	says(t, addr, "MIGRATING")
	if _, err := other.Exec(t.Context(), "SELECT pg_advisory_unlock($1)", key); err != nil {
		t.Fatal(err)
	}
	h := up(t, yield)
	stopped(t, h)
	says(t, addr, "READY")
}

// A newer hub has migrated the database in a way that this one must not work beside.
func TestAnOlderHubStops(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	h := up(t, begin(t, settle(t, fmt.Sprintf(settings, servicenowtest.Start(t).URL), database)))
	stopped(t, h)
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), "UPDATE hub_schema SET oldest = 9999"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-h.Failed():
		for _, part := range []string{"version 9999", "knows only", "run the newer Liaison"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", err, part)
			}
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it works on")
	}
}

// RELIABILITY.md P7: sequences that have almost come to their end, and a cursor of another database.
func TestP7LargeNumbersAndForeignCursors(t *testing.T) {
	t.Parallel()
	database := pgtest.URL(t)
	h := up(t, begin(t, settle(t, hooked(fmt.Sprintf(settings, servicenowtest.Start(t).URL)), database)))
	stopped(t, h)
	cursor := ask(t, h, "ada", "", `{ incidents { feedCursor } }`, "incidents", "feedCursor")
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	numbers, _ := follow(t, h.Addr())
	if _, err := conn.Exec(t.Context(), `SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, (1::bigint << 62) + 12345) FROM pg_sequences
		WHERE schemaname = 'public' AND sequencename NOT LIKE 'goose%'`); err != nil {
		t.Fatal(err)
	}
	id := ask(t, h, "sam", "", `mutation { reportIncident(input: {description: "The last of its kind"}) { incident { id } } }`, "reportIncident", "incident", "id")
	number := ask(t, h, "sam", "", fmt.Sprintf(`{ incident(id: %q) { number } }`, id), "incident", "number")
	if !strings.HasSuffix(number, "4611686018427400250") {
		t.Errorf("the incident's number is %s", number)
	}
	if got := ask(t, h, "sam", "", fmt.Sprintf(`{ incident(number: %q) { id } }`, number), "incident", "id"); got != id {
		t.Errorf("by its number the incident is %s, want %s", got, id)
	}
	ask(t, h, "ada", "", fmt.Sprintf(`mutation { escalateIncident(input: {incidentId: %q, system: "snow"}) { link { id } } }`, id))
	if got := <-numbers; got != number {
		t.Errorf("the subscription tells of %s, want %s", got, number)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		var delivered bool
		if err := conn.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM delivery WHERE state = 'DELIVERED')`).Scan(&delivered); err != nil {
			t.Fatal(err)
		}
		if delivered {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("with lease tokens beyond 2^62 nothing is delivered")
		}
		<-time.After(20 * time.Millisecond) // the delivery has no bell of its own
	}

	other := up(t, begin(t, settle(t, fmt.Sprintf(settings, servicenowtest.Start(t).URL), pgtest.URL(t))))
	stopped(t, other)
	body, _ := json.Marshal(map[string]any{"query": `subscription($after: String) { incidentChanged(after: $after) { cursor } }`, "variables": map[string]string{"after": cursor}})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+other.Addr()+"/graphql", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer ada")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	answer, err := patient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || !bytes.Contains(text, []byte(`"CURSOR_EXPIRED"`)) {
		t.Errorf("another database's cursor is answered with %s %v", text, err)
	}
}

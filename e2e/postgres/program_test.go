//go:build e2e

package postgres_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"

	"liaison/connectors/servicenow/servicenowtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if program.dir != "" {
		_ = os.RemoveAll(program.dir) // the system clears its temporary folder at the latest
	}
	os.Exit(code)
}

var program struct {
	once      sync.Once
	dir, path string
	err       error
}

// binary builds the program once, unless LIAISON_E2E_BINARY names one.
func binary(t *testing.T) string {
	t.Helper()
	program.once.Do(func() {
		if program.path = os.Getenv("LIAISON_E2E_BINARY"); program.path != "" {
			return
		}
		if program.dir, program.err = os.MkdirTemp("", "liaison-pg-bin-"); program.err != nil {
			return
		}
		program.path = filepath.Join(program.dir, "liaison")
		if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program.path, "liaison/cmd/liaison").CombinedOutput(); err != nil {
			program.err = fmt.Errorf("building the program: %w\n%s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return program.path
}

// number reads a whole number from the environment.
func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%q: want a whole number, for example %d", variable, text, otherwise)
	}
	return n
}

// seeded is a test's chance.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(number(t, "LIAISON_SEED", int(time.Now().UnixNano()&0xffff_ffff)))
	t.Logf("seed %d (LIAISON_SEED=%d decides the same again)", seed, seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// launcher starts programs from one thread that never ends: the kernel kills them when it is gone, which is when the
// test binary has ended in whatever way.
var launcher = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// output keeps what a program writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// hub is a hub in a process of its own.
type hub struct {
	*testing.T
	addr  string
	sim   *servicenowtest.Server
	cmd   *exec.Cmd
	log   *output
	ended chan struct{}
}

const settings = `
addr: %s
desks: [{key: btls, name: BTLS}]
organisations: [{key: barnfield, name: Barnfield, desk: btls}]
systems:
  - {key: snow, name: ServiceNow, connector: servicenow, desk: btls, url: %q, auth: {basic: {user: sim, password: {env: SNOW_PASSWORD}}}, poll: {interval: 2s}, settle_window: 3s, webhook: {secret: {env: SNOW_HOOK}}}
tokens:
  - {token: {env: SAM}, name: Sam, email: sam@barnfield.example, organisation: barnfield, roles: [requester]}
  - {token: {env: ADA}, name: Ada, email: ada@btls.example, desk: btls, roles: [agent]}
`

// launch starts a hub on a database, with a vendor of its own, and does not wait for it.
func launch(t *testing.T, database string, environ ...string) *hub {
	t.Helper()
	dir, err := os.MkdirTemp("", "liaison-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &hub{T: t, addr: free(t), log: &output{}, ended: make(chan struct{}), sim: servicenowtest.Start(t)}
	file := filepath.Join(dir, "liaison.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, settings, h.addr, h.sim.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	h.cmd = exec.Command(binary(t), "serve", "--config", file)
	h.cmd.Stdout, h.cmd.Stderr = h.log, h.log
	h.cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LIAISON_DATABASE_URL=" + database,
		"SNOW_PASSWORD=" + servicenowtest.DefaultPassword, "SNOW_HOOK=hush", "SAM=sam", "ADA=ada",
	}, environ...)
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	launched := make(chan error)
	launcher() <- func() { launched <- h.cmd.Start() }
	if err := <-launched; err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = h.cmd.Wait() // its state tells
		close(h.ended)
	}()
	t.Cleanup(func() {
		if !h.over() {
			_ = h.cmd.Process.Kill()
			<-h.ended
		}
		if t.Failed() {
			lines := strings.SplitAfter(h.log.String(), "\n")
			t.Logf("the hub logged at the end:\n%s", strings.Join(lines[max(0, len(lines)-40):], ""))
		}
	})
	return h
}

// run starts a hub and waits until it is ready.
func run(t *testing.T, database string, environ ...string) *hub {
	t.Helper()
	h := launch(t, database, environ...)
	h.says("READY", time.Minute)
	return h
}

func (h *hub) over() bool {
	select {
	case <-h.ended:
		return true
	default:
		return false
	}
}

// stop tells the hub to end and returns its exit code.
func (h *hub) stop(within time.Duration) int {
	h.Helper()
	h.signal(syscall.SIGTERM)
	return h.wait(within)
}

func (h *hub) signal(s syscall.Signal) {
	h.Helper()
	if err := h.cmd.Process.Signal(s); err != nil {
		h.Errorf("sending %s: %v", s, err)
	}
}

func (h *hub) wait(within time.Duration) int {
	h.Helper()
	select {
	case <-h.ended:
	case <-time.After(within):
		h.Fatalf("the hub does not end within %s", within)
	}
	return h.cmd.ProcessState.ExitCode()
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

// client waits longer for an answer than a hub may take.
var client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// eventually looks until check returns no error.
func eventually(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", within, what, err)
		}
		<-time.After(20 * time.Millisecond) // what is awaited happens in another process
	}
}

// state asks /readyz.
func (h *hub) state() (state string, err error) {
	answer, err := client.Get("http://" + h.addr + "/readyz")
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var now struct{ State string }
	if err := json.NewDecoder(answer.Body).Decode(&now); err != nil {
		return "", err
	}
	return now.State, nil
}

// says waits until /readyz names a state.
func (h *hub) says(want string, within time.Duration) {
	h.Helper()
	eventually(h.T, within, "/readyz says "+want, func() error {
		if h.over() {
			h.Fatalf("the hub has ended, exit code %d", h.cmd.ProcessState.ExitCode())
		}
		state, err := h.state()
		if err == nil && state != want {
			err = errors.New(state)
		}
		return err
	})
}

// refusal is an error of a GraphQL answer.
type refusal struct {
	Message    string `json:"message"`
	Extensions struct {
		Code, Cursor string
	} `json:"extensions"`
}

func (r *refusal) Error() string { return r.Extensions.Code + ": " + r.Message }

type vars map[string]any

// ask sends a document; its error is a *refusal, or says why there was no answer.
func (h *hub) ask(token, document string, v vars, into any) error {
	body, err := json.Marshal(map[string]any{"query": document, "variables": v})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+h.addr+"/graphql", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	var out struct {
		Data   json.RawMessage
		Errors []*refusal
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return fmt.Errorf("the answer is no JSON: %w: %s", err, text)
	}
	if len(out.Errors) > 0 {
		return out.Errors[0]
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(out.Data, into)
}

// report reports an incident and returns its id.
func (h *hub) report(title string) string {
	h.Helper()
	var out struct {
		ReportIncident struct{ Incident struct{ ID string } }
	}
	err := h.ask("sam", `mutation($t: String!) { reportIncident(input: {title: $t, description: "It is broken"}) { incident { id } } }`, vars{"t": title}, &out)
	if err != nil {
		h.Fatal(err)
	}
	return out.ReportIncident.Incident.ID
}

func (h *hub) escalate(id string) {
	h.Helper()
	if err := h.ask("ada", `mutation($id: ID!) { escalateIncident(input: {incidentId: $id, system: "snow"}) { link { id } } }`, vars{"id": id}, nil); err != nil {
		h.Fatal(err)
	}
}

// comment says something once, and again with the same key until it is acknowledged or stop is closed. Every refusal on
// the way must be one that callers can work with.
func (h *hub) comment(id, key, body string, stop <-chan struct{}) (acknowledged bool, tries int) {
	for {
		tries++
		err := h.ask("sam", `mutation($id: ID!, $body: String!, $key: String!) { addComment(input: {incidentId: $id, body: $body, idempotencyKey: $key}) { comment { id } } }`,
			vars{"id": id, "body": body, "key": key}, nil)
		if err == nil {
			return true, tries
		}
		if refused := (*refusal)(nil); errors.As(err, &refused) && refused.Extensions.Code != "UNAVAILABLE" {
			h.Errorf("%q was refused: %v", body, err)
			return false, tries
		}
		select {
		case <-stop:
			return false, tries
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// hook calls the webhook as the vendor does.
func (h *hub) hook(ticket string) (status int, retryAfter string, err error) {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+h.addr+"/hooks/snow", strings.NewReader(fmt.Sprintf(`{"sys_id": %q}`, ticket)))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Liaison-Webhook", "hush")
	answer, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	answer.Body.Close()
	return answer.StatusCode, answer.Header.Get("Retry-After"), nil
}

// heard is a change as a subscriber got it.
type heard struct {
	Cursor     string
	IncidentID string
	Entry      struct {
		Version int64
		Comment *struct{ Body string }
	}
}

// subscriber follows all incidents and comes back with its last cursor whenever its socket ends.
type subscriber struct {
	hub    *hub
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	all     []heard
	cursor  string
	sockets int
	err     error
}

func (h *hub) follow() *subscriber {
	h.Helper()
	var out struct {
		Incidents struct{ FeedCursor string }
	}
	if err := h.ask("ada", `{ incidents { feedCursor } }`, nil, &out); err != nil {
		h.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &subscriber{hub: h, cancel: cancel, ended: make(chan struct{}), cursor: out.Incidents.FeedCursor}
	go func() {
		defer close(s.ended)
		for ctx.Err() == nil && s.fatal() == nil {
			s.once(ctx)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	h.Cleanup(func() { cancel(); <-s.ended })
	return s
}

// fatal is what the hub said that no subscriber should ever hear.
func (s *subscriber) fatal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// once follows over one socket until it ends.
func (s *subscriber) once(ctx context.Context) {
	dialer := websocket.Dialer{HandshakeTimeout: 10 * time.Second, Subprotocols: []string{"graphql-transport-ws"}}
	ws, answer, err := dialer.DialContext(ctx, "ws://"+s.hub.addr+"/graphql", nil)
	if err != nil {
		return
	}
	answer.Body.Close()
	defer ws.Close()
	defer context.AfterFunc(ctx, func() { ws.Close() })()
	s.mu.Lock()
	s.sockets++
	after := s.cursor
	s.mu.Unlock()
	_ = ws.WriteJSON(map[string]any{"type": "connection_init", "payload": map[string]string{"Authorization": "Bearer ada"}})
	for {
		var m struct {
			Type    string
			Payload json.RawMessage
		}
		if err := ws.ReadJSON(&m); err != nil {
			return
		}
		switch m.Type {
		case "connection_ack":
			_ = ws.WriteJSON(map[string]any{"type": "subscribe", "id": "1", "payload": map[string]any{
				"query":     `subscription($a: String) { incidentChanged(after: $a) { cursor incidentId entry { version comment { body } } } }`,
				"variables": map[string]string{"a": after},
			}})
		case "next":
			var p struct {
				Data   struct{ IncidentChanged *heard }
				Errors []*refusal
			}
			if err := json.Unmarshal(m.Payload, &p); err != nil {
				return
			}
			s.mu.Lock()
			switch {
			case len(p.Errors) > 0 && p.Errors[0].Extensions.Code != "UNAVAILABLE":
				s.err = p.Errors[0]
			case len(p.Errors) == 0:
				s.all, s.cursor = append(s.all, *p.Data.IncidentChanged), p.Data.IncidentChanged.Cursor
			}
			s.mu.Unlock()
			if len(p.Errors) > 0 {
				return // a change came without its comment: come back for it
			}
		case "error", "complete":
			return
		}
	}
}

// heardAll waits until everything that the ledger holds was heard, and checks that nothing was heard twice and each
// incident's entries in order.
func (s *subscriber) heardAll(conn *pgx.Conn, within time.Duration) {
	t := s.hub.T
	t.Helper()
	var want int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM ledger_entry`).Scan(&want); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "the subscriber has heard everything", func() error {
		if err := s.fatal(); err != nil {
			t.Fatalf("the subscriber was told %v", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.all) < want {
			return fmt.Errorf("%d of %d entries over %d sockets", len(s.all), want, s.sockets)
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	last := map[string]int64{}
	for _, e := range s.all {
		if before := last[e.IncidentID]; e.Entry.Version != before+1 {
			t.Errorf("after version %d of %s came version %d", before, e.IncidentID, e.Entry.Version)
		}
		last[e.IncidentID] = e.Entry.Version
	}
	if len(s.all) != want {
		t.Errorf("%d entries were heard, the ledger has %d", len(s.all), want)
	}
	t.Logf("a subscriber heard %d entries over %d sockets", len(s.all), s.sockets)
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func scan[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) (value T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

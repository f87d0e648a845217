//go:build e2e

package failpoints_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/failpoint"
	"liaison/internal/postgres/pgtest"
)

const (
	hookSecret = "a-webhook-secret-of-thirty-two-b"
	requester  = "requester-token"
	agent      = "agent-token"
)

// world is a hub between a database, a vendor and people of its own.
type world struct {
	t      *testing.T
	home   string
	url    string // the database's
	db     *pgxpool.Pool
	vendor *servicenowtest.Server
	relay  *relay
	points string       // the folder of the orders
	ahead  atomic.Int64 // how far the vendor's clock is ahead

	mu  sync.Mutex
	hub *hub

	incident string // its id in GraphQL
	ticket   string // the vendor's id of its ticket
}

// newWorld starts a hub. A deaf world's vendor calls nobody: the hub has to ask.
func newWorld(t *testing.T, deaf bool) *world {
	t.Helper()
	w := &world{t: t, home: t.TempDir(), url: pgtest.URL(t)}
	w.vendor = servicenowtest.Start(t, servicenowtest.WithNow(func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }))
	w.points = filepath.Join(w.home, "points")
	if err := os.Mkdir(w.points, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.db, err = pgxpool.New(t.Context(), w.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.db.Close)
	interval := "1h"
	if deaf {
		interval = "1s"
	} else {
		w.relay = newRelay(t, w)
		if err := w.vendor.SetWebhook(servicenowtest.Webhook{URL: w.relay.url, Header: "X-Liaison-Webhook", Secret: hookSecret}); err != nil {
			t.Fatal(err)
		}
	}
	settings := fmt.Sprintf(`
addr: 127.0.0.1:0
data_dir: %s
desks: [{key: btls, name: BTLS Service Centre}]
organisations: [{key: barnfield, name: Barnfield Primary School, desk: btls}]
tokens:
  - {token: {env: REQUESTER}, name: Sam Smith, email: office@barnfield.example, organisation: barnfield, roles: [requester]}
  - {token: {env: AGENT}, name: Ada Agent, email: ada@btls.example, desk: btls, roles: [agent]}
systems:
  - key: snow
    name: ServiceNow
    connector: servicenow
    desk: btls
    url: %s
    auth: {basic: {user: sim, password: {env: SIM_PASSWORD}}}
    webhook: {secret: {env: HOOK_SECRET}}
    poll: {interval: %s}
    timeout: 5s
    settle_window: 1s
`, filepath.Join(w.home, "data"), w.vendor.URL, interval)
	if err := os.WriteFile(filepath.Join(w.home, "liaison.yaml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	t.Cleanup(func() {
		w.running().kill()
		if t.Failed() {
			t.Logf("the last hub logged:\n%s", w.running().stderr)
		}
	})
	return w
}

func (w *world) running() *hub {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hub
}

func (w *world) start() {
	w.t.Helper()
	h, err := startHub(w.home, program(w.t), []string{
		"LIAISON_DATABASE_URL=" + w.url, "REQUESTER=" + requester, "AGENT=" + agent, "SIM_PASSWORD=sim", "HOOK_SECRET=" + hookSecret, "FAILPOINTS=" + w.points,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hub = h
}

// order tells the hub what to do at its points; "" is nothing.
func (w *world) order(text string) {
	w.t.Helper()
	name := filepath.Join(w.points, failpoint.OrderFile)
	err := os.WriteFile(name+".new", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// listed are the points passed under the order "list name".
func (w *world) listed(name string) []string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.points, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// say makes a call that changes something, and repeats it under the same key until it is answered.
func (w *world) say(token, mutation, fields, key string, input map[string]any, into any) error {
	input["idempotencyKey"] = key
	name := strings.ToUpper(mutation[:1]) + mutation[1:] + "Input!"
	body, err := json.Marshal(map[string]any{
		"query":     fmt.Sprintf("mutation($input: %s) { %s(input: $input) { %s } }", name, mutation, fields),
		"variables": map[string]any{"input": input},
	})
	if err != nil {
		return err
	}
	return await(w.t.Context(), 30*time.Second, func() error {
		text, err := w.post("/graphql", body, http.Header{"Authorization": {"Bearer " + token}})
		if err != nil {
			return err
		}
		var answer struct {
			Data   map[string]json.RawMessage
			Errors []struct {
				Message    string
				Extensions struct{ Code string }
			}
		}
		switch err := json.Unmarshal(text, &answer); {
		case err != nil:
			return fmt.Errorf("%s answered %s: %w", mutation, text, err)
		case len(answer.Errors) > 0 && answer.Errors[0].Extensions.Code == "INTERNAL":
			return fmt.Errorf("%s: %s", mutation, answer.Errors[0].Message)
		case len(answer.Errors) > 0:
			return final{fmt.Errorf("%s was refused: %s", mutation, text)}
		case into != nil:
			return json.Unmarshal(answer.Data[mutation], into)
		}
		return nil
	})
}

// caller is used by everybody outside the hub. It keeps no connections: those of a hub that ended are of no use, and
// a request that is repeated by the library would blur who repeats what.
var caller = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// post sends a body to the hub that runs just now and returns the answer with a status of 2xx.
func (w *world) post(path string, body []byte, header http.Header) ([]byte, error) {
	r, err := http.NewRequestWithContext(context.WithoutCancel(w.t.Context()), http.MethodPost, w.running().url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header = header.Clone()
	r.Header.Set("Content-Type", "application/json")
	answer, err := caller.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("%s answered %d %s", path, answer.StatusCode, text)
	}
	return text, err
}

// relay stands between the vendor and the hub and sends each webhook again until it is accepted, as senders do that mean it.
type relay struct {
	url  string
	life context.Context

	mu      sync.Mutex
	waiting int
}

func newRelay(t *testing.T, w *world) *relay {
	life, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &relay{life: life}
	type call struct {
		header http.Header
		body   []byte
	}
	calls := make(chan call, 1000)
	door := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			return
		}
		r.count(1)
		calls <- call{in.Header.Clone(), body}
	}))
	r.url = door.URL
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-life.Done():
				return
			case c := <-calls:
				if await(life, time.Minute, func() error { _, err := w.post("/hooks/snow", c.body, c.header); return err }) == nil {
					r.count(-1)
				}
			}
		}
	}()
	t.Cleanup(func() {
		door.Close()
		stop()
		<-done
	})
	return r
}

func (r *relay) count(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting += n
}

// quiet reports whether every webhook was accepted.
func (r *relay) quiet() bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting == 0
}

// hint tells the hub that the ticket has changed, which is not so.
func (w *world) hint() error {
	body := fmt.Appendf(nil, `{"sys_id": %q, "nonce": "%d"}`, w.ticket, time.Now().UnixNano())
	_, err := w.post("/hooks/snow", body, http.Header{"X-Liaison-Webhook": {hookSecret}})
	return err
}

// expire moves the dead hub's leases into the past, once the server has noticed that it is gone. Those are the leases that
// end at the time given or before it.
func (w *world) expire(until time.Time) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	rows, err := w.db.Query(ctx, `SELECT c.table_name::text FROM information_schema.columns c JOIN pg_class ON relname = c.table_name AND relkind IN ('r', 'p') AND NOT relispartition
		WHERE c.table_schema = 'public' AND c.column_name = 'lease_until'`)
	if err != nil {
		w.t.Fatal(err)
	}
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			w.t.Fatal(err)
		}
		tables = append(tables, name)
	}
	for _, name := range tables {
		if _, err := w.db.Exec(ctx, `UPDATE `+name+` SET lease_until = clock_timestamp() - interval '1 second' WHERE lease_until > clock_timestamp() AND lease_until <= $1`, until); err != nil {
			w.t.Fatalf("ending the leases of %s: %v", name, err)
		}
	}
}

// gone waits until the server has ended all sessions of a hub and returns its clock: nothing that the hub has sent can
// happen after that.
func (w *world) gone() time.Time {
	w.t.Helper()
	var now time.Time
	err := await(w.t.Context(), 30*time.Second, func() error {
		var sessions int
		err := w.db.QueryRow(w.t.Context(), `SELECT clock_timestamp(), (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'liaison%')`).Scan(&now, &sessions)
		if err == nil && sessions > 0 {
			err = fmt.Errorf("%d sessions", sessions)
		}
		return err
	})
	if err != nil {
		w.t.Fatalf("the server still serves the hub that ended: %v", err)
	}
	return now
}

// final is an error that waiting does not mend.
type final struct{ error }

// pause is how often a condition is looked at.
const pause = 15 * time.Millisecond

// await looks again and again until check returns no error, or a final one, or the time is over; then it returns the
// last one.
func await(ctx context.Context, within time.Duration, check func() error) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	deadline := time.After(within)
	for {
		err := check()
		if _, over := errors.AsType[final](err); err == nil || over {
			return err
		}
		select {
		case <-tick.C:
		case <-deadline:
			return err
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

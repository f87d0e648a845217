package hub_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/cmd/liaison/hub"
	"liaison/connectors/registry"
	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/config"
	"liaison/internal/postgres/pgtest"
	"liaison/internal/telemetry"
)

const settings = `
addr: 127.0.0.1:0
desks: [{key: btls, name: BTLS}]
organisations: [{key: barnfield, name: Barnfield, desk: btls}]
systems:
  - {key: snow, name: ServiceNow, connector: servicenow, desk: btls, url: %q, auth: {basic: {user: sim, password: sim}}, poll: {interval: 1s}}
tokens:
  - {token: sam, name: Sam, email: sam@barnfield.example, organisation: barnfield, roles: [requester]}
  - {token: ada, name: Ada, email: ada@btls.example, desk: btls, roles: [agent]}
`

// start runs a hub on a database of its own against the vendor at the given address.
func start(t *testing.T, vendor, database, collector string) *hub.Hub {
	t.Helper()
	c, err := config.Parse("hub_test.yaml", fmt.Appendf(nil, settings, vendor), config.Options{
		Environ:    []string{"LIAISON_DATABASE_URL=" + database},
		Connectors: registry.Names(), AllowLiteralSecrets: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := telemetry.Start(t.Context(), telemetry.Config{LogOutput: t.Output(), OTLPEndpoint: collector})
	if err != nil {
		t.Fatal(err)
	}
	watch.SetGlobal()
	h, err := hub.Start(t.Context(), c, watch, hub.Watch{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := h.Stop(ctx); err != nil {
			t.Errorf("stopping: %v", err)
		}
		_ = watch.Shutdown(ctx) // the collector may have gone first
	})
	return h
}

// ask posts a GraphQL request and returns what stands at the path in its data.
func ask(t *testing.T, h *hub.Hub, token, traceparent, query string, path ...string) string {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"query": query})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+h.Addr()+"/graphql", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	if traceparent != "" {
		r.Header.Set("Traceparent", traceparent)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out struct{ Data any }
	if err := json.Unmarshal(text, &out); err != nil || bytes.Contains(text, []byte(`"errors"`)) {
		t.Fatalf("%s\nanswered %s", query, text)
	}
	at := out.Data
	for _, key := range path {
		at = at.(map[string]any)[key]
	}
	return fmt.Sprint(at)
}

// One trace follows a change from the mutation to the vendor's call, across the database.
func TestOneTraceReachesTheVendor(t *testing.T) {
	sim := servicenowtest.Start(t)
	target, err := url.Parse(sim.URL)
	if err != nil {
		t.Fatal(err)
	}
	created := make(chan string, 1)
	proxy := httputil.NewSingleHostReverseProxy(target)
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/table/incident") {
			select {
			case created <- r.Header.Get("Traceparent"):
			default:
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(vendor.Close)
	var spans sync.Map
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		spans.Store(time.Now(), string(body))
	}))
	t.Cleanup(collector.Close)

	database := pgtest.URL(t)
	h := start(t, vendor.URL, database, collector.URL)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	id := ask(t, h, "sam", "", `mutation { reportIncident(input: {description: "Traced"}) { incident { id } } }`, "reportIncident", "incident", "id")
	ask(t, h, "ada", "00-"+trace+"-00f067aa0ba902b7-01", fmt.Sprintf(`mutation { escalateIncident(input: {incidentId: %q, system: "snow"}) { link { id } } }`, id))
	select {
	case got := <-created:
		if !strings.Contains(got, trace) {
			t.Errorf("the vendor's call carries %q, want the mutation's trace %s", got, trace)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no ticket was created")
	}
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var kept string
	if err := conn.QueryRow(t.Context(), `SELECT trace_id FROM ledger_entry WHERE kind = 'ESCALATED'`).Scan(&kept); err != nil || kept != trace {
		t.Errorf("the ledger keeps trace %q (%v), want %s", kept, err, trace)
	}
}

func TestReadinessFollowsTheDatabase(t *testing.T) {
	sim := servicenowtest.Start(t)
	server := pgtest.NewServer(t)
	h := start(t, sim.URL, server.URL(), "")
	status := func(path string) int {
		answer, err := http.Get("http://" + h.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	if got := status("/readyz"); got != 200 {
		t.Fatalf("/readyz answers %d on a good day", got)
	}
	server.Stop()
	if got := status("/readyz"); got != 503 {
		t.Errorf("/readyz answers %d without a database", got)
	}
	if got := status("/healthz"); got != 200 {
		t.Errorf("/healthz answers %d without a database: a restart would not help", got)
	}
	server.Start()
	deadline := time.Now().Add(20 * time.Second)
	for status("/readyz") != 200 {
		if time.Now().After(deadline) {
			t.Fatal("the hub did not recover by itself")
		}
		<-time.After(50 * time.Millisecond) // nothing tells when a pool has healed
	}
	ask(t, h, "sam", "", `mutation { reportIncident(input: {description: "after the restart"}) { incident { number } } }`)
}

func TestTheFrontPageShowsTheWaysIn(t *testing.T) {
	h := start(t, servicenowtest.Start(t).URL, pgtest.URL(t), "")
	answer, err := http.Get("http://" + h.Addr() + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	page, _ := io.ReadAll(answer.Body)
	for _, want := range []string{"/graphql", "/hooks/{system}", "/readyz", "/metrics", "curl -s http://" + h.Addr() + "/graphql"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if answer.Header.Get("Content-Security-Policy") == "" || answer.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Error("the page lacks its safe headers")
	}
	missing, err := http.Get("http://" + h.Addr() + "/nothing")
	if err != nil {
		t.Fatal(err)
	}
	missing.Body.Close()
	if missing.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown page answers %d", missing.StatusCode)
	}
}

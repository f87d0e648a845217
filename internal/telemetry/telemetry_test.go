package telemetry

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

var traceIDPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

func start(t *testing.T, cfg Config) *Telemetry {
	t.Helper()
	if cfg.LogOutput == nil {
		cfg.LogOutput = io.Discard
	}
	tel, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return tel
}

func TestTraceIDWithoutTracing(t *testing.T) {
	t.Parallel()
	ctx := Ensure(context.Background())
	id := TraceID(ctx)
	if !traceIDPattern.MatchString(id) || id == strings.Repeat("0", 32) {
		t.Errorf("%q is no trace id", id)
	}
	if TraceID(ctx) != id || TraceID(Ensure(ctx)) != id {
		t.Error("the trace id did not last")
	}
	spanCtx, span := start(t, Config{}).Traces.Tracer("test").Start(ctx, "work")
	defer span.End()
	if TraceID(spanCtx) != id {
		t.Error("a span left the trace while tracing is off")
	}
	if span.IsRecording() || span.SpanContext().IsSampled() {
		t.Error("a span is recorded while tracing is off")
	}
	if other := TraceID(Ensure(context.Background())); other == id {
		t.Error("two traces have one id")
	}
	if bare := TraceID(context.Background()); !traceIDPattern.MatchString(bare) {
		t.Errorf("without a trace: %q", bare)
	}
}

func TestTraceAcrossTheDatabase(t *testing.T) {
	t.Parallel()
	ctx := Ensure(context.Background())
	stored := Inject(ctx)
	// W3C Trace Context, section 3.2: version, trace id, parent id, flags.
	if !regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]$`).MatchString(stored) {
		t.Fatalf("%q is no traceparent", stored)
	}
	if later := Extract(context.Background(), stored); TraceID(later) != TraceID(ctx) {
		t.Error("the trace was lost between Inject and Extract")
	}
	if later := Extract(Ensure(context.Background()), stored); TraceID(later) != TraceID(ctx) {
		t.Error("a stored trace must win over that of the worker")
	}
	if got := Inject(context.Background()); got != "" {
		t.Errorf("without a trace: %q", got)
	}
	worker := Ensure(context.Background())
	for _, bad := range []string{"", "rubbish", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", stored[:54], stored + "\n", "ff" + stored[2:]} {
		got := Extract(worker, bad)
		if !trace.SpanContextFromContext(got).IsValid() || TraceID(got) == TraceID(worker) || TraceID(got) == TraceID(ctx) {
			t.Errorf("%q did not start a trace of its own", bad)
		}
	}
}

func TestSampledFlagIsCarried(t *testing.T) {
	t.Parallel()
	for _, flags := range []string{"00", "01"} {
		traceparent := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-" + flags
		if got := Inject(Extract(context.Background(), traceparent)); got != traceparent {
			t.Errorf("got %s, want %s", got, traceparent)
		}
	}
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	tel := start(t, Config{})
	srv := httptest.NewServer(tel.Middleware("test", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !trace.SpanContextFromContext(r.Context()).IsValid() {
			_, _ = io.WriteString(w, "none")
			return
		}
		_, _ = io.WriteString(w, TraceID(r.Context()))
	})))
	defer srv.Close()
	get := func(header, value string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set(header, value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	const caller = "4bf92f3577b34da6a3ce929d0e0e4736"
	if got := get("traceparent", "00-"+caller+"-00f067aa0ba902b7-01"); got != caller {
		t.Errorf("the caller's trace became %s", got)
	}
	first, second := get("", ""), get("", "")
	if !traceIDPattern.MatchString(first) || first == second {
		t.Errorf("requests without a trace got %s and %s", first, second)
	}
	if got := get("Upgrade", "WebSocket"); got != "none" {
		t.Errorf("a WebSocket handshake was put into trace %s", got)
	}
}

// The collector is a real HTTP server; that a span reached it is seen by its raw trace id in the OTLP message.
func TestSpansAreExported(t *testing.T) {
	t.Parallel()
	type post struct {
		path string
		body []byte
	}
	posts := make(chan post, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		posts <- post{r.URL.Path, body}
	}))
	defer collector.Close()
	for _, endpoint := range []string{collector.URL, collector.URL + "/", collector.URL + "/v1/traces"} {
		tel := start(t, Config{OTLPEndpoint: endpoint, Version: "v1.2.3-test"})
		// One change: the mutation's span, then the vendor call's after a stay in the database.
		ctx, mutation := tel.Traces.Tracer("test").Start(t.Context(), "mutation")
		stored := Inject(ctx)
		mutation.End()
		later, call := tel.Traces.Tracer("test").Start(Extract(context.Background(), stored), "vendor call")
		call.End()
		if TraceID(later) != TraceID(ctx) {
			t.Error("the vendor call is not in the mutation's trace")
		}
		for range 2 { // safe to call twice
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		got := <-posts
		if got.path != "/v1/traces" {
			t.Errorf("%s: posted to %s", endpoint, got.path)
		}
		id, err := hex.DecodeString(TraceID(ctx))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(got.body, id); n != 2 {
			t.Errorf("%s: the trace id stands in the message %d times, want 2 spans", endpoint, n)
		}
		for _, want := range []string{"mutation", "vendor call", "service.name", "liaison", "v1.2.3-test"} {
			if !bytes.Contains(got.body, []byte(want)) {
				t.Errorf("%s: the message lacks %q", endpoint, want)
			}
		}
	}
}

func TestStartDoesNotNeedTheCollector(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(nil)
	closed.Close()
	start(t, Config{OTLPEndpoint: closed.URL}) // no spans, so that shutdown has nothing to lose
}

func TestStartRefusesABadEndpoint(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{"localhost:4318", "http://", "ftp://h", "http://ada:s3cret@h:4318", "http://ada:s3cret%zz@h"} {
		_, err := Start(t.Context(), Config{OTLPEndpoint: endpoint, LogOutput: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "telemetry.otlp_endpoint") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	tel := start(t, Config{LogOutput: &log})
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "liaison_test_total", Help: "Test."})
	tel.Registry.MustRegister(counter)
	counter.Add(3)
	srv := httptest.NewServer(tel.Handler())
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nliaison_test_total 3\n", "\ngo_goroutines ", "\nprocess_open_fds "} {
		if !strings.Contains("\n"+string(body), want) {
			t.Errorf("metrics lack %q", want)
		}
	}
	tel.Registry.MustRegister(failing{})
	resp, err = http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), "liaison_test_total 3") {
		t.Errorf("one failing collector took the others along: %v\n%s", err, body)
	}
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the failure was not logged: %s", log.String())
	}
}

// failing is a collector that cannot collect.
type failing struct{}

var failingDesc = prometheus.NewDesc("liaison_failing", "Fails.", nil, nil)

func (failing) Describe(ch chan<- *prometheus.Desc) { ch <- failingDesc }
func (failing) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(failingDesc, io.ErrUnexpectedEOF)
}

func TestSetGlobal(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	tel := start(t, Config{LogOutput: &log, LogJSON: true}) // not parallel: the defaults are the process's
	tel.SetGlobal()
	slog.Info("heard")
	if !strings.Contains(log.String(), `"msg":"heard"`) {
		t.Errorf("slog's default is not the hub's: %s", log.String())
	}
}

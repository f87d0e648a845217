package client

import (
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// Not parallel: the tracer provider is the process's.
func TestTrace(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	t.Cleanup(func() { otel.SetTracerProvider(provider); otel.SetTextMapPropagator(propagator) })

	var parent string
	v := serve(t, func(w http.ResponseWriter, r *http.Request) {
		parent = r.Header.Get("traceparent")
		w.WriteHeader(http.StatusTeapot)
	})
	r := read
	r.Query = map[string][]string{"token": {"s3cret-in-query"}}
	_, _ = dial(t, v.URL).Do(t.Context(), r)
	ended := spans.Ended()
	if len(ended) != 1 || ended[0].Name() != "test.Read" || ended[0].Status().Code != codes.Error {
		t.Fatalf("spans: %v", ended)
	}
	if want := ended[0].SpanContext().TraceID().String(); !strings.Contains(parent, want) {
		t.Errorf("traceparent %q does not carry %s", parent, want)
	}
	for _, a := range ended[0].Attributes() {
		if strings.Contains(a.Value.Emit(), "s3cret") {
			t.Errorf("%s shows the query", a.Key)
		}
	}
}

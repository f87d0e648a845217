package telemetry

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// propagator is W3C Trace Context. Baggage is left out: it is free text from anyone, and would go on to vendors.
var propagator = propagation.TraceContext{}

// Ensure returns ctx if it is part of a trace, else ctx as the root of a new one that is not recorded. Each way in calls it
// (requests, webhooks, polls, timers), after any span has begun.
func Ensure(ctx context.Context) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	// A remote span context is what a caller with tracing would have sent: every library continues it, recording or not.
	return trace.ContextWithRemoteSpanContext(ctx, newSpanContext())
}

// TraceID returns the id of ctx's trace, 32 hex digits. Without a trace it is a new id, another at each call, so that what
// must carry one always can; Ensure makes it lasting.
func TraceID(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.HasTraceID() {
		sc = newSpanContext()
	}
	return sc.TraceID().String()
}

func newSpanContext() trace.SpanContext {
	var cfg trace.SpanContextConfig
	_, _ = rand.Read(cfg.TraceID[:]) // never fails; all zeros, which would be invalid, has a chance of 2^-128
	_, _ = rand.Read(cfg.SpanID[:])
	return trace.NewSpanContext(cfg)
}

// Inject returns ctx's place in its trace as a W3C traceparent (55 characters), to be stored with what is to be done later.
// It is empty without a trace.
func Inject(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagator.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// Extract returns ctx continued from a traceparent that Inject made. From an empty or malformed one it starts a new trace:
// a row without a trace is no reason not to do its work.
func Extract(ctx context.Context, traceparent string) context.Context {
	carrier := propagation.MapCarrier{"traceparent": traceparent}
	if sc := trace.SpanContextFromContext(propagator.Extract(context.Background(), carrier)); sc.IsValid() {
		return trace.ContextWithRemoteSpanContext(ctx, sc)
	}
	return trace.ContextWithRemoteSpanContext(ctx, newSpanContext())
}

// Middleware puts each request into a trace, the caller's if it sent a traceparent, as a span named operation while tracing
// is on. WebSocket handshakes pass untouched: a socket lives for hours, and each operation on it is a trace of its own, for
// which what reads the socket calls Ensure.
func (t *Telemetry) Middleware(operation string, next http.Handler) http.Handler {
	ensured := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(Ensure(r.Context())))
	})
	traced := otelhttp.NewHandler(ensured, operation, otelhttp.WithTracerProvider(t.Traces), otelhttp.WithPropagators(propagator))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			next.ServeHTTP(w, r)
			return
		}
		traced.ServeHTTP(w, r)
	})
}

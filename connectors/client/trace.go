package client

import (
	"context"
	"net/http"
	"net/url"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"liaison/connectors"
)

// The span is made here and not by otelhttp, because that records the whole address, query included, for each attempt;
// one span for each exchange, named for the operation and without the query, is what an operator looks for.

// callSpan is the trace of one exchange. Without a tracer provider it costs nothing.
type callSpan struct{ span trace.Span }

func startSpan(ctx context.Context, r Request, base *url.URL) (context.Context, callSpan) {
	ctx, span := otel.Tracer("liaison/connectors/client").Start(ctx, r.Op, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", r.Method),
		attribute.String("server.address", base.Hostname()),
		attribute.String("url.path", base.Path+r.Path),
	))
	return ctx, callSpan{span}
}

func (s callSpan) end(a Answer, err error) {
	if a.Status != 0 {
		s.span.SetAttributes(attribute.Int("http.response.status_code", a.Status))
	}
	if err != nil {
		s.span.SetAttributes(attribute.String("error.type", connectors.KindOf(err).String()))
		s.span.SetStatus(codes.Error, err.Error())
	}
	s.span.End()
}

func injectTrace(ctx context.Context, h http.Header) {
	otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(h))
}

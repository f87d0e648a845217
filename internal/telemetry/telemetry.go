package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Config says what is watched and where it goes. The zero value logs text at info to standard error and exports nothing.
type Config struct {
	LogLevel     slog.Level // least severe level that is logged
	LogJSON      bool       // one JSON object a line; otherwise key=value
	LogOutput    io.Writer  // default standard error
	OTLPEndpoint string     // base URL of an OTLP/HTTP collector, such as http://127.0.0.1:4318; empty: tracing is off
	Version      string     // the program's, told to the collector
}

// ParseLevel returns the level for the word debug, info, warn or error.
func ParseLevel(word string) (slog.Level, error) {
	switch word {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	default:
		return 0, fmt.Errorf("log level %q is none of debug, info, warn, error", word)
	}
}

// Telemetry is the running instruments.
type Telemetry struct {
	Logger   *slog.Logger
	Registry *prometheus.Registry // where packages register their metrics
	Traces   trace.TracerProvider // does nothing while tracing is off

	shutdown func(context.Context) error
}

// Start builds the instruments. It connects to nothing: a collector that is down costs spans, never the start. The error
// names a setting that cannot be used.
func Start(ctx context.Context, cfg Config) (*Telemetry, error) {
	if cfg.LogOutput == nil {
		cfg.LogOutput = os.Stderr
	}
	t := &Telemetry{
		Logger:   slog.New(newHandler(cfg.LogOutput, cfg.LogLevel, cfg.LogJSON)),
		Registry: prometheus.NewRegistry(),
		Traces:   noop.NewTracerProvider(),
		shutdown: func(context.Context) error { return nil },
	}
	t.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if cfg.OTLPEndpoint == "" {
		return t, nil
	}
	provider, err := newProvider(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("starting traces: %w", err)
	}
	t.Traces = provider
	t.shutdown = provider.Shutdown
	return t, nil
}

func newProvider(ctx context.Context, cfg Config) (*sdktrace.TracerProvider, error) {
	endpoint, err := tracesURL(cfg.OTLPEndpoint)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("making exporter: %w", err)
	}
	// The standard's variables (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER) come last and win.
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "liaison"), attribute.String("service.version", cfg.Version)),
		resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("describing the process: %w", err)
	}
	return sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res)), nil
}

// tracesURL gives the address spans are posted to: the standard has /v1/traces follow a base endpoint.
func tracesURL(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		// The address is not repeated: what is wrong with it may be a password in it.
		return "", errors.New("telemetry.otlp_endpoint is not an http or https URL without user, for example http://127.0.0.1:4318")
	}
	if !strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/v1/traces") {
		u = u.JoinPath("v1", "traces")
	}
	return u.String(), nil
}

// SetGlobal makes the instruments those that libraries find by themselves: slog's default logger, OpenTelemetry's provider,
// propagator and error handler. The program calls it once; tests do without.
func (t *Telemetry) SetGlobal() {
	slog.SetDefault(t.Logger)
	otel.SetTracerProvider(t.Traces)
	otel.SetTextMapPropagator(propagator)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		t.Logger.Warn("traces not exported", "error", err)
	}))
}

// Handler serves the registry in Prometheus's text formats. A collector that fails is logged; the others are served.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.Registry, promhttp.HandlerOpts{
		Registry:      t.Registry,
		ErrorLog:      slog.NewLogLogger(t.Logger.Handler(), slog.LevelError),
		ErrorHandling: promhttp.ContinueOnError,
		Timeout:       10 * time.Second,
	})
}

// Shutdown exports the spans still held, for as long as ctx allows. Logs and metrics go on. It may be called twice.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if err := t.shutdown(ctx); err != nil {
		return fmt.Errorf("exporting last traces: %w", err)
	}
	return nil
}

// Package telemetry is how the hub is watched: structured logs, Prometheus metrics and OpenTelemetry traces.
//
// Start builds all three; nothing global changes until SetGlobal. A log line is one line whatever the values hold:
// characters that could break it or drive a terminal are escaped, and each record made with a context carries that
// context's trace and span id. Traces are exported only when an endpoint is set; trace ids exist in any case, so that the
// ledger can always say which request made a change: Ensure gives one at each way in, Inject and Extract carry it
// through a database row to the vendor call that it causes.
//
// Everything here is safe for concurrent use. Spans are exported in batches in the background: a crash loses those of the
// last seconds and nothing else. Log lines are written at once, unbuffered.
package telemetry

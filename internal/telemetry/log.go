package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"unicode"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"
)

// The keys that the trace of a record's context is logged under.
const (
	traceIDKey = "trace_id"
	spanIDKey  = "span_id"
)

func newHandler(w io.Writer, level slog.Level, json bool) slog.Handler {
	w = lineWriter{w}
	options := &slog.HandlerOptions{Level: level}
	if json {
		h := slog.NewJSONHandler(w, options)
		return traceHandler{base: h, with: h}
	}
	h := slog.NewTextHandler(w, options)
	return traceHandler{base: h, with: h}
}

// traceHandler adds the ids of a record's trace. They stay outside of the logger's groups, so that a search for a trace
// finds every line of it under one name.
type traceHandler struct {
	base slog.Handler // without the groups and what was added within them
	with slog.Handler // base with all of it
	ops  []func(slog.Handler) slog.Handler
}

func (h traceHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.base.Enabled(ctx, level)
}

func (h traceHandler) Handle(ctx context.Context, record slog.Record) error {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return h.with.Handle(ctx, record)
	}
	attrs := []slog.Attr{slog.String(traceIDKey, sc.TraceID().String()), slog.String(spanIDKey, sc.SpanID().String())}
	if len(h.ops) == 0 {
		record = record.Clone() // the caller may use its record again
		record.AddAttrs(attrs...)
		return h.base.Handle(ctx, record)
	}
	handler := h.base.WithAttrs(attrs)
	for _, op := range h.ops {
		handler = op(handler)
	}
	return handler.Handle(ctx, record)
}

func (h traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(h.ops) == 0 { // not in a group yet: base can hold them
		base := h.base.WithAttrs(attrs)
		return traceHandler{base: base, with: base}
	}
	return h.add(func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) })
}

func (h traceHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return h.add(func(to slog.Handler) slog.Handler { return to.WithGroup(name) })
}

func (h traceHandler) add(op func(slog.Handler) slog.Handler) slog.Handler {
	return traceHandler{base: h.base, with: op(h.with), ops: append(slices.Clip(h.ops), op)}
}

// lineWriter keeps each record on one line and away from the terminal's controls, last of all, so that no handler and no
// type's own way of writing itself gets round it. Handlers write a record with one call and end it with a line feed; in
// front of that, a control character can only stand inside a quoted value, where \uXXXX is right in both formats.
type lineWriter struct{ w io.Writer }

func (l lineWriter) Write(record []byte) (int, error) {
	body, end := record, []byte(nil)
	if n := len(record); n > 0 && record[n-1] == '\n' {
		body, end = record[:n-1], record[n-1:]
	}
	out := record
	if i := firstUnsafe(body); i >= 0 {
		out = append(escape(slices.Clone(body[:i]), body[i:]), end...)
	}
	if _, err := l.w.Write(out); err != nil {
		return 0, err
	}
	return len(record), nil
}

func firstUnsafe(line []byte) int {
	for i := 0; i < len(line); {
		c, size := rune(line[i]), 1
		if c >= utf8.RuneSelf {
			c, size = utf8.DecodeRune(line[i:])
		}
		if unsafe(c, size) {
			return i
		}
		i += size
	}
	return -1
}

func escape(to, line []byte) []byte {
	for len(line) > 0 {
		c, size := utf8.DecodeRune(line)
		if unsafe(c, size) {
			to = fmt.Appendf(to, `\u%04x`, c)
		} else {
			to = append(to, line[:size]...)
		}
		line = line[size:]
	}
	return to
}

// unsafe reports characters that break lines (CR, LF, NEL, U+2028, U+2029), drive terminals (C0, DEL, C1), reorder what is
// shown (the bidirectional controls) or are no UTF-8, which some terminals read as C1.
func unsafe(c rune, size int) bool {
	return c < ' ' || c == utf8.RuneError && size == 1 ||
		c >= 0x7f && (unicode.IsControl(c) || c == '\u2028' || c == '\u2029' || unicode.Is(unicode.Bidi_Control, c))
}

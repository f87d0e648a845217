package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

type shouter struct{ text string }

func (s shouter) MarshalJSON() ([]byte, error) { return json.Marshal(s.text) }
func (s shouter) String() string               { return s.text }

// hostile holds what I8 of the reliability measures names, and what else drives terminals.
var hostile = []string{
	"a\nlevel=ERROR msg=forged", "a\r\nb", "a\x00b", "a\x1b[31mred\x1b]0;title\x07", "a\u2028b\u2029c", "a\u0085b", "a\u009b31m", "a\x7fb", "a\u202eb\u2066c\u200f",
	"a\x9b31m", "\xff\xfe", "tab\tb", "a\v\fb", "\ufeff", `quote " backslash \ end`, "plain", "Ærø £ 漢字 😀",
}

func logged(json bool, log func(*slog.Logger)) []byte {
	var buf bytes.Buffer
	log(slog.New(newHandler(&buf, slog.LevelDebug, json)))
	return buf.Bytes()
}

func TestValuesCannotBreakALineOrATerminal(t *testing.T) {
	t.Parallel()
	for _, value := range hostile {
		for _, format := range []struct {
			name string
			json bool
		}{{"text", false}, {"json", true}} {
			for place, log := range map[string]func(*slog.Logger){
				"message":   func(l *slog.Logger) { l.Info(value) },
				"value":     func(l *slog.Logger) { l.Info("m", "k", value) },
				"key":       func(l *slog.Logger) { l.Info("m", value, "v") },
				"group":     func(l *slog.Logger) { l.WithGroup(value).Info("m", "k", "v") },
				"with":      func(l *slog.Logger) { l.With("k", value).Info("m") },
				"error":     func(l *slog.Logger) { l.Info("m", "k", errors.New(value)) },
				"bytes":     func(l *slog.Logger) { l.Info("m", "k", []byte(value)) },
				"marshaler": func(l *slog.Logger) { l.Info("m", "k", shouter{value}) },
				"struct":    func(l *slog.Logger) { l.Info("m", "k", struct{ Text string }{value}) },
				"list":      func(l *slog.Logger) { l.Info("m", "k", []string{value}) },
			} {
				line := logged(format.json, log)
				name := format.name + " " + place
				body, ok := bytes.CutSuffix(line, []byte("\n"))
				if !ok {
					t.Errorf("%s: %q does not end its line", name, line)
				}
				if !utf8.Valid(body) {
					t.Errorf("%s: %q is not UTF-8", name, line)
				}
				for _, c := range string(body) {
					if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' || unicode.Is(unicode.Bidi_Control, c) {
						t.Errorf("%s: %U reached the log: %q", name, c, line)
					}
				}
				if format.json && !json.Valid(body) {
					t.Errorf("%s: not JSON: %s", name, body)
				}
			}
		}
	}
}

func TestJSONKeepsTheValue(t *testing.T) {
	t.Parallel()
	for _, value := range hostile {
		if !utf8.ValidString(value) {
			continue
		}
		var record struct{ K string }
		if err := json.Unmarshal(logged(true, func(l *slog.Logger) { l.Info("m", "k", value) }), &record); err != nil || record.K != value {
			t.Errorf("logged %q, read %q, %v", value, record.K, err)
		}
	}
}

func TestOrdinaryTextIsReadable(t *testing.T) {
	t.Parallel()
	if line := string(logged(false, func(l *slog.Logger) { l.Info("delivered", "name", "Ærø 漢字") })); !strings.HasSuffix(line, "level=INFO msg=delivered name=\"Ærø 漢字\"\n") {
		t.Errorf("got %q", line)
	}
}

func TestLevel(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	logger := slog.New(newHandler(&buf, slog.LevelWarn, false))
	logger.Info("quiet")
	logger.With("a", 1).WithGroup("g").Info("quiet")
	if buf.Len() != 0 {
		t.Errorf("info was logged at level warn: %s", &buf)
	}
	logger.Warn("loud")
	if buf.Len() == 0 {
		t.Error("warn was not logged at level warn")
	}
}

func TestParseLevel(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		if got, err := ParseLevel(word); got != want || err != nil {
			t.Errorf("%s: %v, %v", word, got, err)
		}
	}
	if _, err := ParseLevel("loud"); err == nil || !strings.Contains(err.Error(), `"loud"`) || !strings.Contains(err.Error(), "debug") {
		t.Errorf("loud: %v", err)
	}
}

func TestRecordsCarryTheirTrace(t *testing.T) {
	t.Parallel()
	const traceID, spanID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	ctx := Extract(context.Background(), "00-"+traceID+"-"+spanID+"-01")
	for name, tt := range map[string]struct {
		log  func(*slog.Logger)
		want string // without time, level and message
	}{
		"plain":       {func(l *slog.Logger) { l.InfoContext(ctx, "m", "k", 1) }, `{"k":1,"trace_id":"` + traceID + `","span_id":"` + spanID + `"}`},
		"with":        {func(l *slog.Logger) { l.With("a", 1).InfoContext(ctx, "m") }, `{"a":1,"trace_id":"` + traceID + `","span_id":"` + spanID + `"}`},
		"in a group":  {func(l *slog.Logger) { l.With("a", 1).WithGroup("g").With("b", 2).InfoContext(ctx, "m", "k", 3) }, `{"a":1,"trace_id":"` + traceID + `","span_id":"` + spanID + `","g":{"b":2,"k":3}}`},
		"no trace":    {func(l *slog.Logger) { l.WithGroup("g").InfoContext(context.Background(), "m", "k", 1) }, `{"g":{"k":1}}`},
		"no context":  {func(l *slog.Logger) { l.Info("m", "k", 1) }, `{"k":1}`},
		"empty group": {func(l *slog.Logger) { l.WithGroup("").InfoContext(ctx, "m") }, `{"trace_id":"` + traceID + `","span_id":"` + spanID + `"}`},
	} {
		line := logged(true, tt.log)
		_, rest, ok := strings.Cut(string(line), `"msg":"m",`)
		if got := "{" + strings.TrimSuffix(rest, "\n"); !ok || got != tt.want {
			t.Errorf("%s: got %s, want %s", name, line, tt.want)
		}
	}
}

// A logger shared by many derives from the same slice of operations; one must not write into another's.
func TestDerivedLoggersDoNotShare(t *testing.T) {
	t.Parallel()
	ctx := Ensure(context.Background())
	line := logged(true, func(l *slog.Logger) {
		parent := l.WithGroup("g").With("a", 1).With("b", 2) // the third makes append leave room
		one, two := parent.With("who", "one"), parent.With("who", "two")
		_ = two
		one.InfoContext(ctx, "m")
	})
	if !strings.Contains(string(line), `"who":"one"`) {
		t.Errorf("got %s", line)
	}
}

func FuzzLineWriter(f *testing.F) {
	for _, value := range hostile {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		line := logged(true, func(l *slog.Logger) { l.Info(value, value, value) })
		body := bytes.TrimSuffix(line, []byte("\n"))
		if firstUnsafe(body) >= 0 || !json.Valid(body) {
			t.Errorf("%q became %q", value, line)
		}
	})
}

package connectors

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
)

func TestReadSettings(t *testing.T) {
	t.Parallel()
	known := []Setting{{Name: "table", Default: "incident"}, {Name: "caller"}, {Name: "create.*"}}
	for name, c := range map[string]struct {
		given map[string]string
		want  map[string]string
		fault string
	}{
		"none":           {nil, map[string]string{"table": "incident", "caller": ""}, ""},
		"given":          {map[string]string{"table": "task", "create.u_site": "x"}, map[string]string{"table": "task", "caller": "", "create.u_site": "x"}, ""},
		"misspelt":       {map[string]string{"calller": "x"}, nil, `settings.calller: unknown setting; did you mean "caller"?`},
		"far from any":   {map[string]string{"zzzzzz": "x"}, nil, "known are table, caller, create.*"},
		"the star alone": {map[string]string{"create.": "x"}, nil, "settings.create.: unknown setting"},
	} {
		got, err := ReadSettings(c.given, known)
		if c.fault == "" && (err != nil || !maps.Equal(got, c.want)) || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
			t.Errorf("%s: %v %v, want %v %q", name, got, err, c.want, c.fault)
		}
	}
	if _, err := ReadSettings(map[string]string{"a": "b"}, nil); err == nil || !strings.Contains(err.Error(), "has none") {
		t.Errorf("a connector without settings: %v", err)
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	s := NewSecret("hunter2")
	if s.Reveal() != "hunter2" || s.IsZero() || !NewSecret("").IsZero() || NewSecret("").Reveal() != "" {
		t.Error("a secret does not hold its value")
	}
	asJSON, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "config", Config{Auth: Credentials{Token: s}})
	hidden := struct{ s Secret }{s}
	for _, shown := range []string{string(asJSON), log.String(), s.String(), fmt.Sprintf("%v %+v %#v %s %q", s, hidden, hidden, s, s)} {
		if strings.Contains(shown, "hunter2") {
			t.Errorf("shown in %s", shown)
		}
	}
}

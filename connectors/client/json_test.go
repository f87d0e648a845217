package client

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"liaison/connectors"
)

// RELIABILITY R13: none of these is a success, and a write answered so is of unknown outcome.
func TestRubbishAnswers(t *testing.T) {
	t.Parallel()
	const asJSON = "application/json;charset=UTF-8"
	u16 := new(bytes.Buffer)
	for _, u := range utf16.Encode([]rune(`{"result":{}}`)) {
		u16.Write([]byte{byte(u), byte(u >> 8)})
	}
	for name, c := range map[string]struct{ contentType, body string }{
		"HTML":                   {"text/html;charset=UTF-8", `<html><title>Log in</title></html>`},
		"HTML called JSON":       {asJSON, `<html></html>`},
		"JSON called HTML":       {"text/html", `{"result":{"a":"1"}}`},
		"no content type":        {"", `{"result":{"a":"1"}}`},
		"broken content type":    {"application/json; charset", `{"result":{"a":"1"}}`},
		"other charset":          {"application/json; charset=iso-8859-1", `{"result":{"a":"1"}}`},
		"nothing":                {asJSON, ``},
		"blanks":                 {asJSON, "  \n"},
		"trailing garbage":       {asJSON, `{"result":{"a":"1"}} x`},
		"two values":             {asJSON, `{"result":{"a":"1"}}{"result":{"a":"1"}}`},
		"byte order mark":        {asJSON, "\ufeff" + `{"result":{"a":"1"}}`},
		"UTF-16":                 {asJSON, u16.String()},
		"broken UTF-8":           {asJSON, "{\"result\":{\"a\":\"\xff\"}}"},
		"key twice":              {asJSON, `{"result":{"a":"1","a":"2"}}`},
		"key twice, escaped":     {asJSON, `{"result":{"a":"1","\u0061":"2"}}`},
		"number out of range":    {asJSON, `{"result":{"a":"1"},"n":1e400}`},
		"deep nesting":           {asJSON, strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000)},
		"deep nesting, not done": {asJSON, `{"result":` + strings.Repeat(`{"a":`, 1_000_000)},
		"wrong shape":            {asJSON, `{"result":{"a":["1"]}}`},
		"list for an object":     {asJSON, `[]`},
		"text":                   {asJSON, `"ok"`},
		"single quotes":          {asJSON, `{'result':{}}`},
		"trailing comma":         {asJSON, `{"result":{"a":"1",}}`},
		"control character":      {asJSON, "{\"result\":{\"a\":\"\x01\"}}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Content-Type"] = []string{c.contentType}
				_, _ = w.Write([]byte(c.body))
			})
			for r, want := range map[*Request]connectors.Kind{&read: connectors.Transient, &write: connectors.Unknown} {
				var out struct{ Result struct{ A string } }
				_, err := dial(t, v.URL).JSON(t.Context(), *r, nil, &out)
				if err == nil {
					t.Fatalf("%s: a success: %+v", r.Op, out)
				}
				if e := asError(t, err); e.Kind != want {
					t.Errorf("%s: %v, want kind %s", r.Op, e, want)
				}
			}
		})
	}
}

// Truncated at every byte of a body of 4 KB.
func TestTruncatedAtEveryByte(t *testing.T) {
	t.Parallel()
	rows := []map[string]any{}
	for i := range 45 {
		rows = append(rows, map[string]any{"sys_id": fmt.Sprintf("%032d", i), "title": "naïve \"quoted\" \\ text", "n": -12.5e3, "ok": true, "none": nil})
	}
	body, err := json.Marshal(map[string]any{"result": rows})
	if err != nil || len(body) < 4096 {
		t.Fatalf("the body has %d bytes: %v", len(body), err)
	}
	h := http.Header{"Content-Type": {"application/json"}}
	for n := range body {
		var out any
		if err := DecodeJSON(Answer{Status: 200, Header: h, Body: body[:n]}, &out); err == nil {
			t.Fatalf("cut after %d of %d bytes, yet a success", n, len(body))
		}
	}
	var out any
	if err := DecodeJSON(Answer{Status: 200, Header: h, Body: body}, &out); err != nil {
		t.Errorf("the whole body: %v", err)
	}
}

// Bodies that would fill the memory: the limit is on what comes out of decompression.
func TestBodyLimit(t *testing.T) {
	bomb := new(bytes.Buffer)
	z := gzip.NewWriter(bomb)
	zeros := make([]byte, 1<<20)
	for range 200 {
		_, _ = z.Write(zeros)
	}
	_ = z.Close()
	for name, handler := range map[string]http.HandlerFunc{
		"gzip bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		},
		"endless chunks": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := w.Write(zeros); err != nil {
					return
				}
			}
		},
		"a gigabyte announced": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1073741824")
			for r.Context().Err() == nil {
				if _, err := w.Write(zeros); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := serve(t, handler)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := dial(t, v.URL, func(c *Config) { c.Timeout = 30 * time.Second }).Do(t.Context(), read)
			runtime.ReadMemStats(&after)
			if e := asError(t, err); e.Kind != connectors.Transient || !strings.Contains(e.Error(), "too long") {
				t.Errorf("%v, want the limit", e)
			}
			if v.calls.Load() != 1 {
				t.Errorf("asked %d times", v.calls.Load())
			}
			if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 64<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
		})
	}
}

// A value nested as deep as may be passes, one level more does not; neither do too many keys or values.
func TestJSONBounds(t *testing.T) {
	t.Parallel()
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	object := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"%d":0`, i)
		}
		return "{" + strings.TrimPrefix(b.String(), ",") + "}"
	}
	list := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("0,", n), ",") + "]" }
	for name, c := range map[string]struct {
		body string
		want string // empty: it passes
	}{
		"as deep as may be":    {nested(maxDepth), ""},
		"too deep":             {nested(maxDepth + 1), "nested more than"},
		"brackets in a text":   {`"` + strings.Repeat("[", 1000) + `"`, ""},
		"quotes in a text":     {`{"a\\":"\"[","b":"\\"}`, ""},
		"as many keys":         {object(maxKeys), ""},
		"too many keys":        {object(maxKeys + 1), "keys"},
		"as many values":       {list(maxValues - 1), ""},
		"too many values":      {list(maxValues), "values"},
		"same key at any rate": {`{"a":{"a":1},"b":{"a":1}}`, ""},
		"same key, escaped":    {`{"a":1,"\u0061":1}`, "twice"},
		"same key, a pair":     {`{"\ud83d\ude42":1,"🙂":1}`, "twice"},
		"empty keys":           {`{"":1,"":2}`, "twice"},
		"small and large":      {`[1e308,-1e308,1e-400,0.1,-0,1E+2]`, ""},
		"out of range":         {`[1e309]`, "range"},
	} {
		err := CheckJSON([]byte(c.body))
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{}`, `[1,2,{"a":"b"}]`, `{"a":1,"a":2}`, `"x"`, `1e400`, "\ufeff{}", `[[[[`, `{"a":`, `nul`, `{} {}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		// What passes is JSON for the standard library too.
		if CheckJSON(body) == nil && !json.Valid(body) {
			t.Errorf("%q passed", body)
		}
	})
}

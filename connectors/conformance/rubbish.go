package conformance

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"liaison/connectors"
)

func rubbishCases() []Case {
	return []Case{
		{"RubbishReplies", rubbishReplies},
		{"TruncatedAtEveryByte", truncatedAtEveryByte},
	}
}

const asJSON = "application/json;charset=UTF-8"

// rubbish makes an answer that nobody should believe of one that is right.
type rubbish struct {
	contentType string // empty: the right one's
	spoil       func(right []byte) []byte
}

func instead(text string) func([]byte) []byte { return func([]byte) []byte { return []byte(text) } }

// inject puts members into an object, or a first element into a list.
func inject(members string) func([]byte) []byte {
	return func(right []byte) []byte {
		right = bytes.TrimSpace(right)
		if len(right) < 2 {
			return []byte("{" + members + "}")
		}
		inner := strings.TrimSpace(string(right[1:]))
		comma := ","
		if inner[0] == '}' || inner[0] == ']' {
			comma = ""
		}
		if right[0] == '[' {
			members = "{" + members + "}"
		}
		return []byte(string(right[0]) + members + comma + inner)
	}
}

func asUTF16(right []byte) []byte {
	out := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(string(right))) {
		out = append(out, byte(u), byte(u>>8))
	}
	return out
}

// rubbishKinds are the sorts of RELIABILITY R13, all with status 200 or 201.
var rubbishKinds = map[string]rubbish{
	"an HTML page":                {"text/html; charset=utf-8", instead("<html><title>Log in</title></html>")},
	"an HTML page called JSON":    {asJSON, instead("<!doctype html><html><body>Instance Hibernating</body></html>")},
	"JSON called HTML":            {"text/html", slices.Clone[[]byte]},
	"JSON called text":            {"text/plain", slices.Clone[[]byte]},
	"JSON of no type":             {"none", slices.Clone[[]byte]},
	"another charset":             {"application/json; charset=iso-8859-1", slices.Clone[[]byte]},
	"an error in its place":       {asJSON, instead(`{"error":{"message":"Transaction cancelled","detail":"maximum execution time exceeded"},"status":"failure"}`)},
	"an error that is a word":     {asJSON, instead(`{"error":"server_error"}`)},
	"nothing":                     {asJSON, instead("")},
	"blanks":                      {asJSON, instead(" \r\n")},
	"null":                        {asJSON, instead("null")},
	"a number":                    {asJSON, instead("7")},
	"a text":                      {asJSON, instead(`"ok"`)},
	"an empty object":             {asJSON, instead("{}")},
	"a byte order mark":           {asJSON, func(right []byte) []byte { return append([]byte("\xef\xbb\xbf"), right...) }},
	"UTF-16":                      {"application/json", asUTF16},
	"broken UTF-8":                {asJSON, inject(`"_": "` + "\xff\xfe" + `"`)},
	"a key twice":                 {asJSON, inject(`"_": 1, "_": 2`)},
	"a key twice, once escaped":   {asJSON, inject(`"a": 1, "\u0061": 2`)},
	"a number out of range":       {asJSON, inject(`"_": 1e400`)},
	"deep nesting":                {asJSON, inject(`"_": ` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000))},
	"deep nesting without an end": {asJSON, inject(`"_": ` + strings.Repeat(`{"a":`, 500_000))},
	"a million keys":              {asJSON, inject(manyKeys(1_000_000))},
	"millions of values":          {asJSON, inject(`"_": [` + strings.Repeat("{},", 2_000_000) + "{}]")},
	"something behind it":         {asJSON, func(right []byte) []byte { return append(slices.Clone(right), " trailing"...) }},
	"two answers":                 {asJSON, func(right []byte) []byte { return slices.Concat(right, right) }},
	"cut in the middle":           {asJSON, func(right []byte) []byte { return right[:len(right)/2] }},
	"single quotes":               {asJSON, func(right []byte) []byte { return bytes.ReplaceAll(right, []byte(`"`), []byte("'")) }},
	"a control character":         {asJSON, inject(`"_": "` + "\x01" + `"`)},
	"a comma too many":            {asJSON, inject(`"_": [1,]`)},
	"a megabyte of brackets":      {asJSON, instead(strings.Repeat("]", 1<<20))},
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%d":0,`, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}

// tape keeps the vendor's first answer to each request and plays it from then on, so that a slow vendor is not asked
// thousands of times for what the suite spoils anyway.
type tape struct {
	mu      sync.Mutex
	answers map[string]*httptest.ResponseRecorder
}

func newTape() *tape { return &tape{answers: map[string]*httptest.ResponseRecorder{}} }

// right returns the vendor's answer.
func (t *tape) right(p *proxy, r *http.Request) *httptest.ResponseRecorder {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := r.Method + " " + r.URL.Path // a query can hold a new id each time
	if t.answers[key] == nil {
		t.answers[key] = p.whole(r)
	} else {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	return t.answers[key]
}

// play answers with a body of its own in place of the right one's. "none" leaves the content type out, nothing keeps it.
func play(w http.ResponseWriter, right *httptest.ResponseRecorder, contentType string, body []byte) {
	for name, values := range right.Header() {
		if name != "Content-Length" {
			w.Header()[name] = values
		}
	}
	switch contentType {
	case "":
	case "none":
		w.Header()["Content-Type"] = nil
	default:
		w.Header().Set("Content-Type", contentType)
	}
	w.WriteHeader(right.Code)
	_, _ = w.Write(body)
}

// unspoilt answers as the vendor did before.
func (t *tape) unspoilt(p *proxy, w http.ResponseWriter, r *http.Request) {
	right := t.right(p, r)
	play(w, right, "", right.Body.Bytes())
}

func (t *tape) spoilt(kind rubbish) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		right := t.right(p, r)
		play(w, right, kind.contentType, kind.spoil(right.Body.Bytes()))
	}
}

// rubbishReplies: R13. Of no call is such an answer a success. A read is told from a write by its kind: the write was done.
func rubbishReplies(b *bench) {
	id := b.open().ID
	read, write := b.calls(id)
	tapes := map[string]*tape{}
	for _, name := range slices.Sorted(maps.Keys(rubbishKinds)) {
		for _, set := range []map[string]func(context.Context, connectors.Connector) error{read, write} {
			for call, try := range set {
				fits, want := anything, connectors.Transient
				if _, isWrite := write[call]; isWrite {
					fits, want = writes, connectors.Unknown
				}
				if tapes[call] == nil {
					tapes[call] = newTape()
				}
				hits := b.proxy.inject(fits, always, tapes[call].spoilt(rubbishKinds[name]))
				b.proxy.inject(anything, always, tapes[call].unspoilt)
				err := try(b.ctx, b.connect(0))
				b.proxy.clear()
				b.kind(fmt.Sprintf("%s answered by %s", call, name), err, want)
				if hits() == 0 {
					b.Errorf("%s: the fault struck nobody", call)
				}
			}
		}
	}
}

// wholeBody is how long an answer that is cut at every byte is at least.
const wholeBody = 4096

// sampled is the step between the cuts of a run that is not exhaustive.
const sampled = 97

// truncatedAtEveryByte: R13. However much of an answer arrives, with a length that fits what arrives, less than all of it
// is no answer.
func truncatedAtEveryByte(b *bench) {
	id := b.open().ID
	step, calls := sampled, []string{"Read", "Create"}
	if b.exhaustive {
		step, calls = 1, append(calls, "Changes", "Update", "Say")
	}
	read, write := b.calls(id)
	for _, name := range calls {
		call, fits, want := read[name], reads, connectors.Transient
		if call == nil {
			call, fits, want = write[name], writes, connectors.Unknown
		}
		k, conn := &cutter{tape: newTape()}, b.connect(0)
		b.proxy.inject(fits, always, k.serve)
		b.proxy.inject(anything, always, k.tape.unspoilt)
		cuts := 0
		for n := 0; ; n += step {
			k.set(n)
			err := call(b.ctx, conn)
			if n >= k.longest() {
				break
			}
			cuts++
			b.kind(fmt.Sprintf("%s of which %d bytes arrive", name, n), err, want)
		}
		b.proxy.clear()
		if b.exhaustive && cuts < wholeBody {
			b.Errorf("%s: cut at %d bytes only", name, cuts)
		}
	}
}

// cutter passes on the beginning of answers, all of them made as long as wholeBody.
type cutter struct {
	tape *tape
	mu   sync.Mutex
	cut  int
	size int
}

func (k *cutter) set(n int)    { k.mu.Lock(); defer k.mu.Unlock(); k.cut = n }
func (k *cutter) longest() int { k.mu.Lock(); defer k.mu.Unlock(); return k.size }

func (k *cutter) serve(p *proxy, w http.ResponseWriter, r *http.Request) {
	right := k.tape.right(p, r)
	missing := max(wholeBody-right.Body.Len(), 1)
	body := inject(`"_": "` + strings.Repeat("x", missing) + `"`)(right.Body.Bytes())
	k.mu.Lock()
	k.size = max(k.size, len(body))
	cut := min(k.cut, len(body))
	k.mu.Unlock()
	play(w, right, "", body[:cut])
}

// floods are answers that would fill the memory of whoever takes them as they come.
var floods = map[string]func(http.ResponseWriter, *http.Request){
	"a gigabyte": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(1<<30))
		pour(w, r, bytes.Repeat([]byte(" "), 64<<10))
	},
	"chunks without an end": func(w http.ResponseWriter, r *http.Request) {
		pour(w, r, bytes.Repeat([]byte(" "), 64<<10))
	},
	"a list without an end": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "[0")
		pour(w, r, bytes.Repeat([]byte(",{}"), 20<<10))
	},
	"a gzip bomb": func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		pour(w, r, bomb())
	},
	"a million keys": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "{")
		_, _ = io.WriteString(w, millionKeys())
		_, _ = io.WriteString(w, "}")
	},
	"a million rows": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"result":[`)
		repeat(w, "{},", 3_000_000)
		_, _ = io.WriteString(w, `{}]}`)
	},
	"one text of nine megabytes": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"result":{"x":"`)
		repeat(w, "x", 9<<20)
		_, _ = io.WriteString(w, `"}}`)
	},
	"a million deep": func(w http.ResponseWriter, _ *http.Request) {
		repeat(w, "[", 1_000_000)
		repeat(w, "]", 1_000_000)
	},
}

// repeat writes text n times without having it all in memory, which is measured.
func repeat(w io.Writer, text string, n int) {
	const together = 1000
	piece := strings.Repeat(text, together)
	for ; n >= together; n -= together {
		if _, err := io.WriteString(w, piece); err != nil {
			return
		}
	}
	_, _ = io.WriteString(w, strings.Repeat(text, n))
}

var (
	bomb = sync.OnceValue(func() []byte { // 1:1000, 200 MiB when it has gone off
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		blanks := bytes.Repeat([]byte(" "), 1<<20)
		for range 200 {
			_, _ = z.Write(blanks)
		}
		_ = z.Close()
		return packed.Bytes()
	})
	millionKeys = sync.OnceValue(func() string { return manyKeys(1_000_000) })
)

func pour(w http.ResponseWriter, r *http.Request, piece []byte) {
	for r.Context().Err() == nil {
		if _, err := w.Write(piece); err != nil {
			return
		}
	}
}

func newFlood(t testing.TB, flood http.HandlerFunc) (url string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", asJSON)
		flood(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// maxGrowth is what a flood may add to the process, RELIABILITY R13.
const maxGrowth = 64 << 20

// Flood calls a vendor that floods its callers, with all calls at a time that the connector allows, and fails when one
// is a success or the process grows by more than 64 MiB. connect makes a connector for the address. It measures the
// process, so nothing else may run beside it: not in a parallel test.
func Flood(t *testing.T, connect func(t testing.TB, url string) connectors.Connector, fields func(title string) connectors.Fields, id connectors.ExternalID) {
	t.Helper()
	if raceDetector {
		t.Skip("the race detector's own memory hides ours; the run without it measures")
	}
	_, _ = bomb(), millionKeys() // the vendor's memory is not measured
	for _, name := range slices.Sorted(maps.Keys(floods)) {
		vendor := newFlood(t, floods[name])
		c := connect(t, vendor)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		debug.FreeOSMemory()
		before := resident(t, "VmRSS")
		resetPeak(t)
		var calls sync.WaitGroup
		for range 4 {
			calls.Go(func() {
				if _, err := c.Read(ctx, id, nil); err == nil {
					t.Errorf("%s: a read is a success", name)
				}
				_, err := c.Create(ctx, connectors.Draft{CorrelationID: "11111111-1111-4111-8111-111111111111", Fields: fields("flood")})
				if err == nil {
					t.Errorf("%s: a create is a success", name)
				}
				if _, err := c.Changes(ctx, ""); err == nil {
					t.Errorf("%s: a poll is a success", name)
				}
			})
		}
		calls.Wait()
		cancel()
		if grown := resident(t, "VmHWM") - before; grown > maxGrowth {
			t.Errorf("%s: the process grew by %d MiB, want at most %d", name, grown>>20, maxGrowth>>20)
		} else {
			t.Logf("%s: the process grew by %d MiB", name, grown>>20)
		}
	}
}

// resident reads a size of the process in bytes: VmRSS is now, VmHWM the highest since resetPeak.
func resident(t testing.TB, what string) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skipf("the process's size is not told here: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, what+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("/proc/self/status has no %s", what)
	return 0
}

func resetPeak(t testing.TB) {
	t.Helper()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skipf("the process's highest size cannot be measured here: %v", err)
	}
}

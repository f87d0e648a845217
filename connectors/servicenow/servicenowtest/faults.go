package servicenowtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FaultKind names what goes wrong.
type FaultKind string

// The faults of calls, and of outgoing calls.
const (
	FaultLatency         FaultKind = "latency"          // the call is served after Delay
	FaultReset           FaultKind = "reset"            // the connection is cut, nothing is served
	FaultLostAnswer      FaultKind = "lost_answer"      // served and stored, then the connection is cut (after Delay)
	FaultUnauthenticated FaultKind = "unauthenticated"  // 401, as for an expired token
	FaultRateLimited     FaultKind = "rate_limited"     // 429 with RetryAfter
	FaultServerError     FaultKind = "server_error"     // Status (default 503) with an HTML page; with Stored, after serving
	FaultHTML            FaultKind = "html"             // 200 text/html, as a hibernating instance or a login page
	FaultTruncated       FaultKind = "truncated"        // served, the body ends after Bytes (default half) with the usual status
	FaultSlowBody        FaultKind = "slow_body"        // served, one byte per Delay (default 1s)
	FaultResultAndError  FaultKind = "result_and_error" // 200 with half of the rows and an error beside them
	FaultLateRule        FaultKind = "late_rule"        // a rule sets Fields on the written incident Delay (default 1s) later
	FaultLateStamp       FaultKind = "late_stamp"       // the write appears with stamps that are Delay (default 30s) old

	FaultWebhookDuplicate FaultKind = "webhook_duplicate" // the outgoing call is made twice
	FaultWebhookDrop      FaultKind = "webhook_drop"      // it is never made
	FaultWebhookDelay     FaultKind = "webhook_delay"     // it is made up to Delay (default 30s) later
	FaultWebhookReorder   FaultKind = "webhook_reorder"   // it is made after the next one, at the latest after Delay (default 1s)
)

var callFaults = []FaultKind{
	FaultLatency, FaultReset, FaultLostAnswer, FaultUnauthenticated, FaultRateLimited, FaultServerError,
	FaultHTML, FaultTruncated, FaultSlowBody, FaultResultAndError, FaultLateRule, FaultLateStamp,
}

var webhookFaults = []FaultKind{FaultWebhookDuplicate, FaultWebhookDrop, FaultWebhookDelay, FaultWebhookReorder}

// Fault is one rule: what goes wrong, for which calls, and how often. Exactly one of Next and Rate is set. Of several
// rules that fit a call the first with Next strikes; if none has, one draw decides among the rates.
type Fault struct {
	Kind   FaultKind `json:"kind"`
	Next   int       `json:"next,omitempty"`   // strikes the next N calls that fit
	Rate   float64   `json:"rate,omitempty"`   // strikes this share of the calls that fit, above 0 up to 1
	Method string    `json:"method,omitempty"` // only this method; not for webhooks
	Path   string    `json:"path,omitempty"`   // only paths that contain this; not for webhooks

	Delay  time.Duration `json:"-"`                // "delay" in JSON, e.g. "1.5s"
	Status int           `json:"status,omitempty"` // of server_error
	Stored bool          `json:"stored,omitempty"` // of server_error: the write was stored all the same
	Bytes  int           `json:"bytes,omitempty"`  // of truncated
	// RetryAfter is the header's text: "" means "1", "none" leaves the header out, "date:7s" is the HTTP-date seven
	// seconds from now (it may be negative), anything else is sent as it is.
	RetryAfter string            `json:"retry_after,omitempty"`
	Fields     map[string]string `json:"fields,omitempty"` // of late_rule: column to value
	Struck     int               `json:"struck,omitempty"` // how often it struck so far; set by the server
}

// Faults are the fault switches.
type Faults struct {
	Seed  uint64  `json:"seed,omitempty"` // of the draws for rates; 0 keeps the server's
	Rules []Fault `json:"rules"`
}

// FaultMix is the mix of RELIABILITY.md: 20 % of the calls and 20 % of the outgoing calls go wrong. lost is how long a
// lost answer keeps its caller waiting.
func FaultMix(seed uint64, lost time.Duration) Faults {
	return Faults{Seed: seed, Rules: []Fault{
		{Kind: FaultReset, Rate: 0.05},
		{Kind: FaultLostAnswer, Rate: 0.05, Delay: lost},
		{Kind: FaultServerError, Rate: 0.04},
		{Kind: FaultRateLimited, Rate: 0.01},
		{Kind: FaultRateLimited, Rate: 0.01, RetryAfter: "date:1s"},
		{Kind: FaultTruncated, Rate: 0.02},
		{Kind: FaultHTML, Rate: 0.01},
		{Kind: FaultSlowBody, Rate: 0.01},
		{Kind: FaultWebhookDuplicate, Rate: 0.10},
		{Kind: FaultWebhookDelay, Rate: 0.10, Delay: 30 * time.Second},
		{Kind: FaultWebhookDrop, Rate: 0.05},
	}}
}

type plainFault Fault

type jsonFault struct {
	*plainFault
	Delay jsonDuration `json:"delay,omitempty"`
}

// MarshalJSON writes Delay as text.
func (f Fault) MarshalJSON() ([]byte, error) {
	plain := plainFault(f)
	return json.Marshal(jsonFault{&plain, jsonDuration(f.Delay)})
}

// UnmarshalJSON reads what MarshalJSON writes and refuses unknown names.
func (f *Fault) UnmarshalJSON(data []byte) error {
	in := jsonFault{plainFault: new(plainFault)}
	if err := strictDecode(data, &in); err != nil {
		return err
	}
	*f = Fault(*in.plainFault)
	f.Delay = time.Duration(in.Delay)
	return nil
}

func (f Fault) check(def *tableDef) error {
	switch {
	case !slices.Contains(callFaults, f.Kind) && !slices.Contains(webhookFaults, f.Kind):
		return fmt.Errorf("kind %q is unknown: use one of %v", f.Kind, slices.Concat(callFaults, webhookFaults))
	case f.Next < 0 || f.Rate < 0 || f.Rate > 1:
		return errors.New("next must not be negative and rate lies between 0 and 1")
	case (f.Next == 0) == (f.Rate == 0):
		return errors.New(`give either next (the next N calls) or rate (a share of them), e.g. "next": 1`)
	case f.Delay < 0 || f.Bytes < 0:
		return errors.New("delay and bytes must not be negative")
	case f.Status != 0 && (f.Status < 400 || f.Status > 599):
		return fmt.Errorf("status %d: use a number from 400 to 599, e.g. 503", f.Status)
	case strings.ContainsAny(f.RetryAfter, "\r\n\x00"):
		return errors.New("retry_after must fit on one header line")
	case f.Kind == FaultLateRule && len(f.Fields) == 0:
		return errors.New(`late_rule needs fields, e.g. "fields": {"urgency": "1"}`)
	}
	if text, ok := strings.CutPrefix(f.RetryAfter, "date:"); ok {
		if _, err := time.ParseDuration(text); err != nil {
			return fmt.Errorf("retry_after %q: write e.g. date:7s", f.RetryAfter)
		}
	}
	for name := range f.Fields {
		if def.column(name) == nil {
			return fmt.Errorf("fields: %q is no column of incident", name)
		}
	}
	return nil
}

// SetFaults replaces the fault switches. On error nothing changes.
func (s *Server) SetFaults(f Faults) error {
	for i, rule := range f.Rules {
		if err := rule.check(s.db.defs["incident"]); err != nil {
			return fmt.Errorf("rules[%d]: %w", i, err)
		}
	}
	s.faults.set(f)
	return nil
}

// AddFault adds one rule to the fault switches.
func (s *Server) AddFault(f Fault) error {
	now := s.Faults()
	now.Seed = 0
	now.Rules = append(now.Rules, f)
	return s.SetFaults(now)
}

// Faults are the fault switches in force, with what is left of each Next and how often each struck.
func (s *Server) Faults() Faults {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return Faults{Seed: s.faults.seed, Rules: slices.Clone(s.faults.rules)}
}

// faults decides on calls.
type faults struct {
	life  context.Context
	mu    sync.Mutex
	seed  uint64
	rng   *rand.Rand
	rules []Fault
	spent []bool // rules whose Next is used up
}

func (f *faults) init(life context.Context, seed uint64) {
	f.life, f.seed, f.rng = life, seed, rand.New(rand.NewPCG(seed, 0))
}

func (f *faults) set(next Faults) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if next.Seed != 0 {
		f.seed, f.rng = next.Seed, rand.New(rand.NewPCG(next.Seed, 0))
	}
	f.rules = slices.Clone(next.Rules)
	f.spent = make([]bool, len(f.rules))
	for i, r := range f.rules {
		f.spent[i] = r.Next == 0 && r.Rate == 0
	}
}

// pick decides which rule strikes; false when none does.
func (f *faults) pick(kinds []FaultKind, method, path string) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fits := func(i int) bool {
		r := f.rules[i]
		return !f.spent[i] && slices.Contains(kinds, r.Kind) && (r.Method == "" || strings.EqualFold(r.Method, method)) && strings.Contains(path, r.Path)
	}
	for i := range f.rules {
		if f.rules[i].Next > 0 && fits(i) {
			f.rules[i].Next--
			f.spent[i] = f.rules[i].Next == 0
			return f.strike(i), true
		}
	}
	draw, drawn := 0.0, false
	for i := range f.rules {
		if f.rules[i].Rate == 0 || !fits(i) {
			continue
		}
		if !drawn {
			draw, drawn = f.rng.Float64(), true
		}
		if draw -= f.rules[i].Rate; draw < 0 {
			return f.strike(i), true
		}
	}
	return Fault{}, false
}

func (f *faults) strike(i int) Fault {
	f.rules[i].Struck++
	return f.rules[i]
}

// jitter is a random part of a duration.
func (f *faults) jitter(d time.Duration) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Duration(f.rng.Float64() * float64(d))
}

// commitFault is what a fault does to a write when it is stored.
type commitFault struct {
	stampBack time.Duration
	delay     time.Duration
	fields    map[string]string
}

// around serves one call under the fault that strikes it, if any.
func (f *faults) around(now func() time.Time, w http.ResponseWriter, r *http.Request, note *Call, serve func(http.ResponseWriter, commitFault)) {
	fault, ok := f.pick(callFaults, r.Method, r.URL.Path)
	if !ok {
		serve(w, commitFault{})
		return
	}
	note.Fault = fault.Kind
	switch fault.Kind {
	case FaultLatency:
		f.pause(fault.Delay)
		serve(w, commitFault{})
	case FaultLateRule:
		setDefault(&fault.Delay, time.Second)
		serve(w, commitFault{delay: fault.Delay, fields: maps.Clone(fault.Fields)})
	case FaultLateStamp:
		setDefault(&fault.Delay, 30*time.Second)
		serve(w, commitFault{stampBack: fault.Delay})
	case FaultReset:
		cutConnection(w)
	case FaultUnauthenticated, FaultRateLimited, FaultHTML:
		refuse(now, w, r, fault)
	default:
		f.spoil(w, r, fault, serve)
	}
}

func (f *faults) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-f.life.Done():
	}
}

// refuse answers in place of the instance; nothing is stored.
func refuse(now func() time.Time, w http.ResponseWriter, r *http.Request, fault Fault) {
	body := func(message string, detail any) map[string]any {
		return map[string]any{"error": map[string]any{"message": message, "detail": detail}, "status": "failure"}
	}
	switch fault.Kind {
	case FaultUnauthenticated:
		w.Header().Set("WWW-Authenticate", `Basic realm="Service-now"`)
		writeBody(w, r, http.StatusUnauthorized, body("User is not authenticated", "Required to provide Auth information"))
	case FaultRateLimited:
		if v, ok := fault.retryAfter(now()); ok {
			w.Header().Set("Retry-After", v)
		}
		writeBody(w, r, http.StatusTooManyRequests, body("Rate limit exceeded", "Rate limit of 100 requests per hour for Table API exceeded"))
	default:
		writeHTML(w, http.StatusOK, "Your instance is hibernating")
	}
}

func (f Fault) retryAfter(now time.Time) (string, bool) {
	if f.RetryAfter == "" {
		return "1", true
	}
	if text, ok := strings.CutPrefix(f.RetryAfter, "date:"); ok {
		d, _ := time.ParseDuration(text) // checked by SetFaults
		return now.Add(d).UTC().Format(http.TimeFormat), true
	}
	return f.RetryAfter, f.RetryAfter != "none"
}

// spoil serves the call and harms its answer.
func (f *faults) spoil(w http.ResponseWriter, r *http.Request, fault Fault, serve func(http.ResponseWriter, commitFault)) {
	rec := newRecorder()
	if fault.Kind != FaultServerError || fault.Stored {
		serve(rec, commitFault{})
	}
	switch fault.Kind {
	case FaultLostAnswer:
		f.pause(fault.Delay)
		cutConnection(w)
	case FaultServerError:
		setDefault(&fault.Status, http.StatusServiceUnavailable)
		writeHTML(w, fault.Status, http.StatusText(fault.Status))
	case FaultTruncated:
		full := rec.body.Len()
		setDefault(&fault.Bytes, full/2)
		rec.header.Del("Content-Length")
		rec.body.Truncate(min(fault.Bytes, full))
		rec.copyTo(w)
	case FaultSlowBody:
		setDefault(&fault.Delay, time.Second)
		f.drip(w, r, rec, fault.Delay)
	case FaultResultAndError:
		addError(rec)
		rec.copyTo(w)
	default: // around keeps the other kinds
		rec.copyTo(w)
	}
}

// drip sends an answer byte by byte until it ends or the client leaves.
func (f *faults) drip(w http.ResponseWriter, r *http.Request, rec *recorder, pause time.Duration) {
	maps.Copy(w.Header(), rec.header)
	w.Header().Set("Content-Length", strconv.Itoa(rec.body.Len()))
	w.WriteHeader(rec.code)
	flush := http.NewResponseController(w)
	for _, b := range rec.body.Bytes() {
		if _, err := w.Write([]byte{b}); err != nil {
			return
		}
		_ = flush.Flush() // an answer inside a batch has no connection to flush
		select {
		case <-r.Context().Done():
			return
		case <-f.life.Done():
			return
		case <-time.After(pause):
		}
	}
}

// addError is the answer of a cancelled transaction: 200, a part of the rows, and an error.
func addError(rec *recorder) {
	var body map[string]any
	if json.Unmarshal(rec.body.Bytes(), &body) != nil || body == nil {
		body = map[string]any{}
	}
	if list, ok := body["result"].([]any); ok {
		body["result"] = list[:len(list)/2]
	}
	message := "Transaction cancelled: maximum execution time exceeded"
	body["error"] = map[string]any{"message": message, "detail": message + ". Check the logs or switch on glide.rest.debug"}
	body["status"] = "failure"
	text, _ := json.Marshal(body) // it was JSON a moment ago
	rec.body.Reset()
	rec.body.Write(text)
	rec.code = http.StatusOK
	rec.header.Del("Content-Length")
}

// cutConnection ends the connection with a reset, without an answer.
func cutConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 or a batch item: the server cuts the stream
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // best effort: without it the client sees an end in place of a reset
	}
	_ = conn.Close()
}

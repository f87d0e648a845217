package servicenowtest

import (
	"bytes"
	"cmp"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	keptCalls    = 10000
	keptCallBody = 64 << 10
)

// Call is one request that a client made, as recorded. Credentials are not kept.
type Call struct {
	Time   time.Time   `json:"time"` // by the instance's clock, when the request came
	Method string      `json:"method"`
	Path   string      `json:"path"`
	Query  string      `json:"query"`           // as sent
	Header http.Header `json:"header"`          // without Authorization, API key and cookies
	Body   string      `json:"body"`            // up to 64 KiB; empty for /oauth_token.do
	Status int         `json:"status"`          // 0 when the connection was cut instead
	Fault  FaultKind   `json:"fault,omitempty"` // the fault that struck, if any

	turn int64 // order of arrival
}

// callLog keeps the last 10,000 calls.
type callLog struct {
	mu    sync.Mutex
	calls []Call
	turn  int64
}

// Calls are the last requests of clients in the order of their arrival, at most 10,000; those still being answered are
// not among them. A client that was cut off may come to know of it a moment before its call is here.
func (s *Server) Calls() []Call {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	out := slices.Clone(s.calls.calls)
	slices.SortFunc(out, func(a, b Call) int { return cmp.Compare(a.turn, b.turn) })
	return out
}

// ForgetCalls empties the record of calls.
func (s *Server) ForgetCalls() {
	s.calls.mu.Lock()
	defer s.calls.mu.Unlock()
	s.calls.calls = nil
}

// around records one call while it is served.
func (l *callLog) around(now func() time.Time, w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *Call)) {
	l.mu.Lock()
	l.turn++
	turn := l.turn
	l.mu.Unlock()
	c := &Call{turn: turn, Time: now(), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone()}
	for _, name := range []string{"Authorization", "X-Sn-Apikey", "Cookie"} {
		c.Header.Del(name)
	}
	sw := &statusWriter{ResponseWriter: w}
	body := &cappedBuffer{}
	if c.Path != "/oauth_token.do" && r.Body != nil {
		r.Body = teeBody{io.TeeReader(r.Body, body), r.Body}
	}
	defer func() {
		c.Status, c.Body = sw.status, body.String()
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.calls) >= keptCalls {
			l.calls = slices.Delete(l.calls, 0, keptCalls/10)
		}
		l.calls = append(l.calls, *c)
	}()
	serve(sw, c)
}

type teeBody struct {
	io.Reader
	io.Closer
}

// cappedBuffer keeps the first bytes and swallows the rest.
type cappedBuffer struct{ bytes.Buffer }

func (b *cappedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), max(0, keptCallBody-b.Len()))])
	return len(p), nil
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(code int) {
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

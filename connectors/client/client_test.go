package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"liaison/connectors"
)

// vendor is a server whose handler a test gives, and a count of what reached it.
type vendor struct {
	*httptest.Server
	calls atomic.Int32
}

func serve(t *testing.T, h http.HandlerFunc) *vendor {
	t.Helper()
	v := new(vendor)
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.calls.Add(1)
		// A server notices a caller who leaves only once the request's body was read.
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		h(w, r)
	}))
	t.Cleanup(v.Close)
	return v
}

func dial(t *testing.T, url string, options ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{BaseURL: url, RetryWait: time.Millisecond, Timeout: 10 * time.Second}
	for _, o := range options {
		o(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func asError(t *testing.T, err error) *connectors.Error {
	t.Helper()
	e := &connectors.Error{}
	ok := errors.As(err, &e)
	if !ok {
		t.Fatalf("got %T (%v), want *connectors.Error", err, err)
	}
	return e
}

var (
	read  = Request{Op: "test.Read", Path: "/thing"}
	write = Request{Op: "test.Write", Method: http.MethodPost, Path: "/thing", Body: []byte(`{"a":1}`)}
)

// The kinds that DESIGN and the contract give to each answer; a write's 5xx may stand for something done.
func TestKindOfStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status      int
		header      string // Retry-After
		read, write connectors.Kind
	}{
		{400, "", connectors.Rejected, connectors.Rejected},
		{401, "", connectors.Auth, connectors.Auth},
		{403, "", connectors.Auth, connectors.Auth},
		{404, "", connectors.NotFound, connectors.NotFound},
		{405, "", connectors.Rejected, connectors.Rejected},
		{408, "", connectors.Transient, connectors.Unknown},
		{409, "", connectors.Conflict, connectors.Conflict},
		{410, "", connectors.NotFound, connectors.NotFound},
		{412, "", connectors.Conflict, connectors.Conflict},
		{413, "", connectors.Rejected, connectors.Rejected},
		{422, "", connectors.Rejected, connectors.Rejected},
		{429, "", connectors.RateLimited, connectors.RateLimited},
		{429, "30", connectors.RateLimited, connectors.RateLimited},
		{500, "", connectors.Transient, connectors.Unknown},
		{501, "", connectors.Transient, connectors.Unknown},
		{502, "", connectors.Transient, connectors.Unknown},
		{503, "", connectors.Transient, connectors.Unknown},
		{503, "30", connectors.RateLimited, connectors.RateLimited},
		{504, "", connectors.Transient, connectors.Unknown},
		{302, "", connectors.Auth, connectors.Unknown},
		{307, "", connectors.Auth, connectors.Auth},
	} {
		t.Run(fmt.Sprintf("%d %s", c.status, c.header), func(t *testing.T) {
			t.Parallel()
			v := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.header != "" {
					w.Header().Set("Retry-After", c.header)
				}
				w.WriteHeader(c.status)
			})
			for r, want := range map[*Request]connectors.Kind{&read: c.read, &write: c.write} {
				_, err := dial(t, v.URL).Do(t.Context(), *r)
				if e := asError(t, err); e.Kind != want || e.Status != c.status || e.Op != r.Op {
					t.Errorf("%s: kind %s status %d op %s, want %s %d", r.Op, e.Kind, e.Status, e.Op, want, c.status)
				}
			}
		})
	}
}

// cut answers with an abrupt end of the connection.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestLostAnswers(t *testing.T) {
	t.Parallel()
	slow := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, c := range map[string]struct {
		handler     http.HandlerFunc
		timeout     time.Duration
		read, write connectors.Kind
		reads       int32 // how often a read is tried
	}{
		"connection cut before the answer": {cut, 10 * time.Second, connectors.Transient, connectors.Unknown, 3},
		"connection cut in the headers' wake": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"half":`)
			panic(http.ErrAbortHandler)
		}, 10 * time.Second, connectors.Transient, connectors.Unknown, 3},
		"no answer in time": {slow, 700 * time.Millisecond, connectors.Transient, connectors.Unknown, 3},
		"one byte at a time": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				<-time.After(5 * time.Millisecond) // the fault itself: a slow body
			}
		}, 700 * time.Millisecond, connectors.Transient, connectors.Unknown, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := serve(t, c.handler)
			patient := func(cfg *Config) { cfg.Timeout = c.timeout }
			_, err := dial(t, v.URL, patient).Do(t.Context(), write)
			if e := asError(t, err); e.Kind != c.write {
				t.Errorf("write: %v, want kind %s", e, c.write)
			}
			if n := v.calls.Swap(0); n != 1 {
				t.Errorf("the write was sent %d times", n)
			}
			_, err = dial(t, v.URL, patient).Do(t.Context(), read)
			if e := asError(t, err); e.Kind != c.read {
				t.Errorf("read: %v, want kind %s", e, c.read)
			}
			if n := v.calls.Load(); n != c.reads {
				t.Errorf("the read was sent %d times, want %d", n, c.reads)
			}
		})
	}
}

// A write that never got a connection is as good as never made: it is tried again, and its kind is Transient.
func TestNeverLeft(t *testing.T) {
	t.Parallel()
	v := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) })
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	var dials atomic.Int32
	flaky := func(fail int32) http.RoundTripper {
		tr := http.DefaultTransport.(*http.Transport).Clone()
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials.Add(1) <= fail {
				return nil, refused
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		return tr
	}
	if _, err := dial(t, v.URL, func(c *Config) { c.Transport = flaky(2) }).Do(t.Context(), write); err != nil {
		t.Errorf("third dial worked, yet: %v", err)
	}
	if dials.Load() != 3 || v.calls.Load() != 1 {
		t.Errorf("%d dials and %d calls, want 3 and 1", dials.Load(), v.calls.Load())
	}
	dials.Store(0)
	_, err := dial(t, v.URL, func(c *Config) { c.Transport = flaky(1000) }).Do(t.Context(), write)
	if e := asError(t, err); e.Kind != connectors.Transient {
		t.Errorf("never dialled: %v, want transient", e)
	}
}

// A kept connection that the vendor closes under a write must not be mistaken for one that was never used.
func TestStaleConnection(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	v := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if n.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
	})
	c := dial(t, v.URL)
	if _, err := c.Do(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	_, err := c.Do(t.Context(), write)
	if e := asError(t, err); e.Kind != connectors.Unknown {
		t.Errorf("%v, want unknown", e)
	}
	if v.calls.Load() != 2 {
		t.Errorf("%d calls, want the read and one write", v.calls.Load())
	}
}

func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 2)
	v := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	for r, want := range map[*Request]connectors.Kind{&read: connectors.Transient, &write: connectors.Unknown} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-arrived; cancel() }()
		_, err := dial(t, v.URL).Do(ctx, *r)
		if e := asError(t, err); e.Kind != want || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want %s and context.Canceled", r.Op, e, want)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	v.calls.Store(0)
	_, err := dial(t, v.URL).Do(gone, write)
	if e := asError(t, err); e.Kind != connectors.Transient || v.calls.Load() != 0 {
		t.Errorf("left before the call: %v after %d calls, want transient after none", e, v.calls.Load())
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first func(http.ResponseWriter) // the first answer; the second is 200
		r     Request
		calls int32
		fails bool
	}{
		"read after 503":                {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, read, 2, false},
		"read after 500":                {func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }, read, 2, false},
		"read after 429 without a time": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) }, read, 1, true},
		"read after 404":                {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, read, 1, true},
		"write after 503":               {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, write, 1, true},
		"write after 429":               {func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) }, write, 1, true},
		"search by POST after 503":      {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, Request{Op: "s", Method: "POST", Safe: true, Body: []byte("{}")}, 2, false},
		"read after 429 with a long wait": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusTooManyRequests)
		}, read, 1, true},
		"read after 503 with a short wait": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, read, 2, false},
		"DELETE after a cut":                {cutNow, Request{Op: "d", Method: "DELETE"}, 1, true},
		"PATCH after a cut":                 {cutNow, Request{Op: "p", Method: "PATCH", Body: []byte("{}")}, 1, true},
		"PUT after a cut":                   {cutNow, Request{Op: "p", Method: "PUT", Body: []byte("{}")}, 1, true},
		"HEAD after a cut":                  {cutNow, Request{Op: "h", Method: "HEAD"}, 2, false},
		"read after a cut":                  {cutNow, read, 2, false},
		"read after a body that is too big": {func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, 2000)) }, read, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			v := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if n.Add(1) == 1 {
					c.first(w)
				}
			})
			_, err := dial(t, v.URL, func(cfg *Config) { cfg.MaxBody = 1000 }).Do(t.Context(), c.r)
			if v.calls.Load() != c.calls || (err != nil) != c.fails {
				t.Errorf("%d calls, error %v; want %d calls, an error: %t", v.calls.Load(), err, c.calls, c.fails)
			}
		})
	}
}

func cutNow(http.ResponseWriter) { panic(http.ErrAbortHandler) }

// After a vendor has named a time, no call goes out before it, whoever makes it.
func TestHeldBackUntilNamedTime(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	advance := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	v := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	c := dial(t, v.URL, func(cfg *Config) { cfg.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now } })
	for i, step := range []struct {
		pass  time.Duration
		calls int32
		left  time.Duration
	}{
		{0, 1, 7 * time.Second},
		{0, 1, 7 * time.Second},
		{6*time.Second + 999*time.Millisecond, 1, time.Millisecond},
		{time.Millisecond, 2, 7 * time.Second},
	} {
		advance(step.pass)
		_, err := c.Do(t.Context(), write)
		e := asError(t, err)
		if e.Kind != connectors.RateLimited || e.RetryAfter != step.left || v.calls.Load() != step.calls {
			t.Errorf("step %d: %v with %s left after %d calls, want %s after %d", i, e, e.RetryAfter, v.calls.Load(), step.left, step.calls)
		}
	}
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	sick.Store(true)
	v := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	c := dial(t, v.URL, func(cfg *Config) {
		cfg.Breaker, cfg.Retries = Breaker{Failures: 3, Cooldown: 100 * time.Millisecond}, -1
	})
	for range 10 {
		_, _ = c.Do(t.Context(), read)
	}
	if n := v.calls.Load(); n != 3 {
		t.Errorf("%d calls reached a sick vendor, want 3", n)
	}
	_, err := c.Do(t.Context(), write)
	if e := asError(t, err); e.Kind != connectors.Transient || e.RetryAfter <= 0 || e.RetryAfter > 100*time.Millisecond {
		t.Errorf("while it is open: %v with RetryAfter %s, want transient and the rest of the cool-down", e, e.RetryAfter)
	}
	sick.Store(false)
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, err = c.Do(t.Context(), read); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the breaker never closed: %v", err)
		}
	}
}

// Refusals and callers who leave say nothing about the vendor's health.
func TestBreakerCountsOnlySickness(t *testing.T) {
	t.Parallel()
	v := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
			return
		}
		w.WriteHeader(http.StatusNotFound)
	})
	c := dial(t, v.URL, func(cfg *Config) { cfg.Breaker = Breaker{Failures: 2, Cooldown: time.Hour} })
	for range 5 {
		_, _ = c.Do(t.Context(), read)
	}
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		_, _ = c.Do(ctx, Request{Op: "hang", Path: "/hang"})
		cancel()
	}
	_, err := c.Do(t.Context(), read)
	if e := asError(t, err); e.Kind != connectors.NotFound {
		t.Errorf("%v, want the vendor's own 404", e)
	}
}

func TestConcurrency(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}, 12), make(chan struct{})
	v := serve(t, func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	c := dial(t, v.URL, func(cfg *Config) { cfg.Concurrency = 2 })
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if _, err := c.Do(t.Context(), read); err != nil {
				t.Error(err)
			}
		})
	}
	<-arrived
	<-arrived
	select {
	case <-arrived:
		t.Error("a third call runs beside two")
	case <-time.After(200 * time.Millisecond): // that nobody comes can only be waited for
	}
	close(release)
	wg.Wait()
	if v.calls.Load() != 12 {
		t.Errorf("%d calls, want 12", v.calls.Load())
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	v := serve(t, func(http.ResponseWriter, *http.Request) {})
	c := dial(t, v.URL, func(cfg *Config) { cfg.Rate = 50 })
	start := time.Now()
	for range 6 {
		if _, err := c.Do(t.Context(), read); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took < 95*time.Millisecond {
		t.Errorf("6 calls at 50 a second took %s, want at least 100 ms", took)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := serve(t, func(http.ResponseWriter, *http.Request) {})
	v := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/login?token=s3cret-in-query", http.StatusFound)
	})
	_, err := dial(t, v.URL).Do(t.Context(), read)
	if err == nil || !strings.Contains(err.Error(), elsewhere.URL+"/login") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("%v, want an error that names %s without its query", err, elsewhere.URL)
	}
	if elsewhere.calls.Load() != 0 {
		t.Error("the redirect was followed")
	}
}

func TestRequestIsWhatWasAsked(t *testing.T) {
	t.Parallel()
	var got http.Request
	var sent []byte
	v := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		sent, _ = io.ReadAll(r.Body)
		got = *r
	})
	c := dial(t, v.URL+"/base/", func(cfg *Config) {
		cfg.Auth.Basic = &connectors.Basic{User: "u", Password: connectors.NewSecret("p")}
	})
	r := write
	r.Path, r.Query = "/a%2Fb/c", map[string][]string{"q": {"x=1^y=2 &"}}
	if _, err := c.Do(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got.URL.EscapedPath() != "/base/a%2Fb/c" || got.URL.Query().Get("q") != "x=1^y=2 &" {
		t.Errorf("path %s query %q", got.URL.EscapedPath(), got.URL.RawQuery)
	}
	user, pass, _ := got.BasicAuth()
	if user != "u" || pass != "p" || string(sent) != `{"a":1}` || !strings.HasPrefix(got.UserAgent(), "Liaison/") ||
		got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Accept") != "application/json" {
		t.Errorf("user %q body %s headers %v", user, sent, got.Header)
	}
}

// I8: what steers a header or a path is refused before anything is sent.
func TestInjectionIsRefused(t *testing.T) {
	t.Parallel()
	v := serve(t, func(http.ResponseWriter, *http.Request) {})
	for name, r := range map[string]Request{
		"line break in a header": {Op: "x", Header: http.Header{"X-Key": {"a\r\nX-Evil: 1"}}},
		"NUL in a header":        {Op: "x", Header: http.Header{"X-Key": {"a\x00"}}},
		"header name":            {Op: "x", Header: http.Header{"X Key:": {"a"}}},
		"path upwards":           {Op: "x", Path: "/a/../../admin"},
		"escaped path upwards":   {Op: "x", Path: "/a/%2e%2e/admin"},
		"broken escape":          {Op: "x", Path: "/%zz"},
		"method":                 {Op: "x", Method: "GET / HTTP/1.1\r\nX: y"},
	} {
		_, err := dial(t, v.URL).Do(t.Context(), r)
		if e := asError(t, err); e.Kind != connectors.Rejected {
			t.Errorf("%s: %v, want rejected", name, e)
		}
	}
	if v.calls.Load() != 0 {
		t.Errorf("%d calls reached the vendor", v.calls.Load())
	}
}

//go:build chaos

package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"
)

// fault is what goes wrong with one call.
type fault string

// The fault mix M of RELIABILITY.md, in its order.
const (
	reset     fault = "reset"          // the connection ends before the vendor hears of it
	lost      fault = "answer lost"    // the vendor has committed, and the caller waits in vain
	sick      fault = "5xx"            // and one in four of them after the vendor has committed
	limited   fault = "429 seconds"    // Retry-After in seconds
	dated     fault = "429 date"       // Retry-After as a date, by the vendor's clock
	truncated fault = "truncated JSON" // 200 with half a body
	page      fault = "200 text/html"
	slow      fault = "1 byte/s"
)

var mix = []struct {
	fault fault
	share float64
}{
	{reset, 0.05}, {lost, 0.05}, {sick, 0.04}, {limited, 0.01}, {dated, 0.01}, {truncated, 0.02}, {page, 0.01}, {slow, 0.01},
}

// call is a write of the hub's, as it passed.
type call struct {
	at        time.Time
	method    string
	path      string
	body      string
	fault     fault
	committed bool // the vendor has answered it with success
}

func (c call) String() string {
	return fmt.Sprintf("%s %s %s %.160s fault=%q committed=%v", c.at.Format("15:04:05.000"), c.method, c.path, c.body, c.fault, c.committed)
}

// relay stands in front of a vendor and plays the fault mix.
type relay struct {
	clock   func() time.Time // the vendor's
	timeout time.Duration    // the hubs', for a call to it
	forward http.Handler
	server  *httptest.Server

	mu     sync.Mutex
	random *rand.Rand
	on     bool
	calls  int // while it was on
	struck map[fault]int
	lost   int // writes that the vendor has committed and whose answer never arrived
	writes []call
}

func newRelay(t *testing.T, to string, clock func() time.Time, timeout time.Duration, random *rand.Rand) *relay {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{clock: clock, timeout: timeout, random: random, struck: map[fault]int{}}
	r.forward = &httputil.ReverseProxy{
		Rewrite:      func(p *httputil.ProxyRequest) { p.SetURL(target) },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

func (r *relay) address() string { return r.server.Listener.Addr().String() }

func (r *relay) turn(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = on
}

// draw decides about one call, and how much of a fault it gets.
func (r *relay) draw() (fault, float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.on {
		return "", 0
	}
	r.calls++
	at := r.random.Float64()
	for _, m := range mix {
		if at -= m.share; at < 0 {
			r.struck[m.fault]++
			return m.fault, r.random.Float64()
		}
	}
	return "", 0
}

func (r *relay) note(c call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes = append(r.writes, c)
	if c.committed && (c.fault == lost || c.fault == sick) {
		r.lost++
	}
}

func (r *relay) ServeHTTP(out http.ResponseWriter, req *http.Request) {
	f, much := r.draw()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the hub has gone in the middle of its request
	}
	c := call{at: time.Now(), method: req.Method, path: req.URL.Path, body: string(body), fault: f}
	if req.Method != http.MethodGet {
		defer func() { r.note(c) }()
	}
	switch f {
	case reset:
		end(out)
		return
	case limited, dated:
		r.limit(out, f)
		return
	case page:
		html(out, http.StatusOK, "Your instance is hibernating")
		return
	case sick:
		if much >= 0.25 {
			html(out, []int{500, 502, 503, 504}[int(much*1000)%4], "The service is not available")
			return
		}
	case lost, truncated, slow, "":
	}
	// What has arrived is carried out, also when the caller has left by now.
	req = req.WithContext(context.WithoutCancel(req.Context()))
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	answer, err := r.serve(req)
	if err != nil {
		end(out)
		return
	}
	c.committed = answer.Code < 300
	answer.Header().Set("Date", r.clock().UTC().Format(http.TimeFormat))
	r.answer(out, answer, f, much)
}

func (r *relay) answer(out http.ResponseWriter, answer *httptest.ResponseRecorder, f fault, much float64) {
	switch f {
	case lost:
		if much < 0.5 {
			<-time.After(r.timeout + time.Second)
		}
		end(out)
	case sick:
		html(out, http.StatusGatewayTimeout, "The service did not answer in time")
	case truncated:
		answer.Header().Del("Content-Length")
		answer.Body.Truncate(answer.Body.Len() / 2)
		copyTo(out, answer)
	case slow:
		drip(out, answer, r.timeout+5*time.Second)
	default:
		copyTo(out, answer)
	}
}

// serve has the vendor answer. A vendor that is away is an error.
func (r *relay) serve(req *http.Request) (answer *httptest.ResponseRecorder, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("the vendor is away")
		}
	}()
	answer = httptest.NewRecorder()
	r.forward.ServeHTTP(answer, req)
	return answer, nil
}

func (r *relay) limit(out http.ResponseWriter, f fault) {
	after := "1"
	if f == dated {
		after = r.clock().Add(2 * time.Second).UTC().Format(http.TimeFormat)
	}
	out.Header().Set("Retry-After", after)
	out.Header().Set("Date", r.clock().UTC().Format(http.TimeFormat))
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(http.StatusTooManyRequests)
	_, _ = io.WriteString(out, `{"error":{"message":"Rate limit exceeded"}}`)
}

func html(out http.ResponseWriter, status int, text string) {
	out.Header().Set("Content-Type", "text/html;charset=UTF-8")
	out.WriteHeader(status)
	fmt.Fprintf(out, "<html><head><title>%s</title></head><body>%[1]s</body></html>", text)
}

func copyTo(out http.ResponseWriter, answer *httptest.ResponseRecorder) {
	maps.Copy(out.Header(), answer.Header())
	out.WriteHeader(answer.Code)
	_, _ = out.Write(answer.Body.Bytes()) // who is gone hears nothing
}

// drip sends a byte a second, until the caller has had enough.
func drip(out http.ResponseWriter, answer *httptest.ResponseRecorder, most time.Duration) {
	maps.Copy(out.Header(), answer.Header())
	out.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
	out.WriteHeader(answer.Code)
	flush := http.NewResponseController(out)
	until := time.Now().Add(most)
	for _, b := range answer.Body.Bytes() {
		if _, err := out.Write([]byte{b}); err != nil || flush.Flush() != nil || time.Now().After(until) {
			panic(http.ErrAbortHandler)
		}
		<-time.After(time.Second)
	}
}

// end cuts the connection.
func end(out http.ResponseWriter) {
	conn, _, err := http.NewResponseController(out).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // else the caller sees an end in place of a reset
	}
	conn.Close()
}

// hooks takes a vendor's webhooks and carries them to the hubs: some twice, some late and out of order, some never.
type hooks struct {
	server *httptest.Server
	to     func() string // the address of a hub's door for this vendor
	client *http.Client

	mu                           sync.Mutex
	random                       *rand.Rand
	on, deaf                     bool
	hurry                        chan struct{} // closed when what is held back has to go
	came, twice, late, never, ok int
	wait                         sync.WaitGroup
}

func newHooks(t *testing.T, random *rand.Rand, to func() string) *hooks {
	t.Helper()
	h := &hooks{random: random, to: to, hurry: make(chan struct{}), client: &http.Client{Timeout: 5 * time.Second}}
	h.server = httptest.NewServer(h)
	t.Cleanup(func() {
		h.server.Close()
		h.calm()
		h.wait.Wait()
	})
	return h
}

func (h *hooks) turn(on, deaf bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.on, h.deaf = on, deaf
}

// calm lets everything go that is held back, and holds nothing back any more.
func (h *hooks) calm() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.on = false; h.hurry != nil {
		close(h.hurry)
		h.hurry = nil
	}
}

func (h *hooks) ServeHTTP(out http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	header := req.Header.Clone()
	out.WriteHeader(http.StatusOK) // a vendor does not wait for what its customers do with it
	h.mu.Lock()
	defer h.mu.Unlock()
	h.came++
	if h.deaf {
		h.never++
		return
	}
	times, pause := 1, time.Duration(0)
	if h.on {
		switch at := h.random.Float64(); {
		case at < 0.10:
			times = 2
			h.twice++
		case at < 0.20:
			pause = time.Duration(h.random.Float64() * float64(30*time.Second))
			h.late++
		case at < 0.25:
			h.never++
			return
		}
	}
	hurry := h.hurry
	for range times {
		h.wait.Go(func() {
			if pause > 0 && hurry != nil {
				select {
				case <-time.After(pause):
				case <-hurry:
				}
			}
			h.carry(header, body)
		})
	}
}

// carry makes one call, as vendors do: once.
func (h *hooks) carry(header http.Header, body []byte) {
	req, err := http.NewRequest(http.MethodPost, h.to(), bytes.NewReader(body))
	if err != nil {
		return
	}
	req.Header = header
	res, err := h.client.Do(req)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if res.StatusCode < 300 {
		h.mu.Lock()
		h.ok++
		h.mu.Unlock()
	}
}

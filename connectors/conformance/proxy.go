package conformance

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// proxy stands between the connector and its vendor.
type proxy struct {
	server  *httptest.Server
	forward *httputil.ReverseProxy
	ended   chan struct{} // closed at the test's end: nobody is held longer

	mu     sync.Mutex
	faults []*fault
	echoed []string // the credentials that were repeated since the last inject
}

// fault is what the proxy does instead of passing an exchange on.
type fault struct {
	fits  func(*http.Request) bool
	times int // how many exchanges it strikes; negative: all
	do    func(p *proxy, w http.ResponseWriter, r *http.Request)
	hit   int
}

func newProxy(t testing.TB, vendor string) *proxy {
	target, err := url.Parse(vendor)
	if err != nil || target.Host == "" {
		t.Fatalf("harness: the vendor's address %q is none", vendor)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy, transport.DisableCompression = nil, true // bytes pass as they are
	p := &proxy{ended: make(chan struct{})}
	p.forward = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, target.Host
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p.server = httptest.NewServer(p)
	t.Cleanup(func() {
		close(p.ended)
		p.server.Close()
		transport.CloseIdleConnections()
	})
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f := p.pick(r); f != nil {
		f.do(p, w, r)
		return
	}
	p.forward.ServeHTTP(w, r)
}

func (p *proxy) pick(r *http.Request) *fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.faults {
		if f.times != 0 && f.fits(r) {
			f.times--
			f.hit++
			return f
		}
	}
	return nil
}

// inject makes the next so many fitting exchanges fail; the returned function tells how many did.
func (p *proxy) inject(fits func(*http.Request) bool, times int, do func(*proxy, http.ResponseWriter, *http.Request)) (hits func() int) {
	f := &fault{fits: fits, times: times, do: do}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.echoed = append(p.faults, f), nil
	return func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return f.hit
	}
}

// clear ends all faults.
func (p *proxy) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = nil
}

const always = -1

func anything(*http.Request) bool { return true }
func writes(r *http.Request) bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }
func reads(r *http.Request) bool  { return !writes(r) }

// whole lets the vendor answer and returns its answer.
func (p *proxy) whole(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	p.forward.ServeHTTP(rec, r)
	return rec
}

// loseAnswer cuts the connection after the vendor has answered: it has done what was asked, and nobody hears of it.
func loseAnswer(p *proxy, _ http.ResponseWriter, r *http.Request) {
	p.whole(r)
	panic(http.ErrAbortHandler)
}

// hold lets the vendor answer, tells so, and keeps the answer until the caller gives up.
func hold(answered chan<- struct{}) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(p *proxy, _ http.ResponseWriter, r *http.Request) {
		// The vendor must not be cut off by a caller who leaves: its answer is what is held.
		body, _ := io.ReadAll(r.Body)
		whole := r.Clone(r.Context())
		whole.Body = io.NopCloser(bytes.NewReader(body))
		p.whole(whole)
		select {
		case answered <- struct{}{}:
		default:
		}
		select {
		case <-r.Context().Done():
		case <-p.ended:
		}
		panic(http.ErrAbortHandler)
	}
}

// answer answers in the vendor's place; the vendor hears nothing.
func answer(status int, header map[string]string, body string) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(_ *proxy, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// echo answers with the request's own credentials in the body, as careless debug pages do.
func echo(status int, b *bench) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		if _, credential, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
			p.echoed = append(p.echoed, credential)
		}
		said := r.Header.Get("Authorization") + " " + strings.Join(b.Secrets, " ")
		p.mu.Unlock()
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(said)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"error":{"message":"refused `+quoted+`","detail":"`+quoted+`"},"message":"`+quoted+`","status":"failure"}`)
	}
}

// truncate passes the vendor's answer on up to a share of its body, with a length that fits what is left: nothing but
// the body itself tells that it was cut.
func truncate(share float64) func(*proxy, http.ResponseWriter, *http.Request) {
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		rec := p.whole(r)
		body := rec.Body.Bytes()
		for name, values := range rec.Header() {
			if name != "Content-Length" {
				w.Header()[name] = values
			}
		}
		w.WriteHeader(rec.Code)
		_, _ = w.Write(body[:int(share*float64(len(body)))])
	}
}

package client

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/net/http/httpguts"

	"liaison/connectors"
	"liaison/connectors/account"
)

// Client calls one vendor as one account.
type Client struct {
	cfg     Config
	base    *url.URL
	http    *retryablehttp.Client
	account *account.Account
	redact  *redactor
}

var _ connectors.Paced = (*Client)(nil)

// Request is one exchange with the vendor.
type Request struct {
	Op     string // the connector's operation for errors and spans, such as "servicenow.Create"
	Method string // default GET
	// Path is appended to the base address; its segments are already escaped (url.PathEscape).
	Path   string
	Query  url.Values
	Header http.Header // Accept and Content-Type default to JSON
	Body   []byte
	// Safe tells that a method other than GET and HEAD changes nothing at the vendor, such as a search by POST.
	Safe bool
}

// Write reports whether the request may change something at the vendor.
func (r Request) Write() bool {
	return !r.Safe && r.Method != "" && r.Method != http.MethodGet && r.Method != http.MethodHead
}

// Answer is the vendor's whole answer.
type Answer struct {
	Status int
	Header http.Header
	// Body is all of it from Do; from JSON, which has read it, the first 64 KiB at least.
	Body []byte
	// RetryAfter is what the vendor asked to wait, bounded by MaxRetryAfter; 0 when it named nothing.
	RetryAfter time.Duration
}

// New returns a client. An error names the settings at fault.
func New(cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	base, err := parseURL("url", cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, base: base, redact: newRedactor(cfg.Auth)}
	auth, err := newAuthLayer(cfg, c, transportTo(cfg, base))
	if err != nil {
		return nil, err
	}
	c.account = cfg.join(base) // last: a system that is refused lowers nobody's limits
	attempts := &attemptLayer{next: auth, timeout: c.timeout, maxBody: cfg.MaxBody, large: c.account.Large}
	c.http = &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport: &gate{next: attempts, account: c.account, now: cfg.Now, redact: c.redact},
			// A redirect would take the credentials somewhere that nobody has configured.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax:     cfg.Retries,
		RetryWaitMin: cfg.RetryWait,
		RetryWaitMax: 10 * cfg.RetryWait,
		CheckRetry:   c.checkRetry,
		Backoff:      c.backoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	return c, nil
}

// Pace tells what the client's account lets happen now.
func (c *Client) Pace() connectors.Pace {
	p := c.account.Pace()
	p.Reason = shorten(c.redact.text(p.Reason)) // another system of the account may have met our secret
	return p
}

// timeout is the account's, for one attempt.
func (c *Client) timeout() time.Duration { return c.account.Limits().Timeout }

// again lets a further request go out within a call that is begun already.
func (c *Client) again(ctx context.Context) error {
	if err := c.account.Again(ctx); err != nil {
		return notBegun(err)
	}
	return nil
}

// exchange is what the layers of one call know of it. It travels in the call's context, because the layers between
// are others'.
type exchange struct {
	write bool
	// left is set once the running attempt was given a connection: from then on a byte may have been sent.
	left atomic.Bool
	// room is where a large answer stands until the exchange has ended, and release gives back the right to hold one. Both
	// are nil while there is none.
	room    *[]byte
	release func()
}

// holdLarge takes the right to hold a large answer, and room for that many bytes, until the exchange has ended.
func (x *exchange) holdLarge(ctx context.Context, large func(context.Context) (func(), error), size int64) ([]byte, error) {
	if x.release == nil { // else it is held since an attempt before this one
		release := func() {}
		if large != nil {
			var err error
			if release, err = large(ctx); err != nil {
				return nil, err
			}
		}
		x.release = release
		if x.room, _ = scratch.Get().(*[]byte); x.room == nil || int64(len(*x.room)) < size {
			fresh := make([]byte, size)
			x.room = &fresh
		}
	}
	return (*x.room)[:size], nil
}

// maxKept is how much is kept of the body of a large answer that was read already.
const maxKept = 64 << 10

// end gives back what the exchange holds, and keeps of a large body what a reader of errors may want to see.
func (x *exchange) end(a *Answer) {
	if x.release == nil {
		return
	}
	a.Body = bytes.Clone(a.Body[:min(len(a.Body), maxKept)])
	scratch.Put(x.room)
	x.release()
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x
	}
	return new(exchange)
}

// Do makes the exchange and returns the vendor's answer when its status is 2xx. Every error is a *connectors.Error.
func (c *Client) Do(ctx context.Context, r Request) (Answer, error) {
	x := &exchange{write: r.Write()}
	a, err := c.do(ctx, x, r)
	whole := a.Body
	if x.release != nil {
		whole = bytes.Clone(whole)
	}
	x.end(&a)
	a.Body = whole
	return a, err
}

func (c *Client) do(ctx context.Context, x *exchange, r Request) (Answer, error) {
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	ctx, span := startSpan(ctx, r, c.base)
	a, err := c.exchange(context.WithValue(ctx, exchangeKey{}, x), x, r)
	span.end(a, err)
	return a, err
}

func (c *Client) exchange(ctx context.Context, x *exchange, r Request) (Answer, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return Answer{}, c.redact.clean(&connectors.Error{Op: r.Op, Kind: connectors.Rejected, Err: err})
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Answer{}, c.redact.clean(transportError(ctx, x, r.Op, err))
	}
	defer resp.Body.Close()
	body, err := bodyOf(resp)
	if err != nil {
		return Answer{}, c.redact.clean(transportError(ctx, x, r.Op, err))
	}
	a := Answer{Status: resp.StatusCode, Header: resp.Header, Body: body, RetryAfter: RetryAfter(resp.Header, c.cfg.Now())}
	if a.Status >= 200 && a.Status < 300 {
		return a, nil
	}
	return a, c.redact.clean(c.statusError(r, a))
}

func (c *Client) request(ctx context.Context, r Request) (*retryablehttp.Request, error) {
	target := *c.base
	path := target.EscapedPath() + r.Path
	unescaped, err := url.PathUnescape(path)
	if err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	for _, segment := range strings.Split(unescaped, "/") {
		if segment == ".." || segment == "." { // an id that walks the tree would reach another resource
			return nil, fmt.Errorf("path: the segment %q leads elsewhere", segment)
		}
	}
	target.Path, target.RawPath = unescaped, path
	target.RawQuery = r.Query.Encode()
	var body any
	if r.Body != nil {
		body = r.Body
	}
	req, err := retryablehttp.NewRequestWithContext(ctx, r.Method, target.String(), body)
	if err != nil {
		return nil, fmt.Errorf("building the request: %w", withoutURL(err))
	}
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			return nil, fmt.Errorf("header %q: holds a line break or control character", name)
		}
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	setHeader(req.Header, "Accept", "application/json")
	setHeader(req.Header, "User-Agent", c.cfg.UserAgent)
	if r.Body != nil {
		setHeader(req.Header, "Content-Type", "application/json")
	}
	injectTrace(ctx, req.Header)
	return req, nil
}

func setHeader(h http.Header, name, value string) {
	if h.Get(name) == "" {
		h.Set(name, value)
	}
}

// Unreadable returns the error for an answer of r that came whole and with 2xx but cannot be believed. A write may
// have happened, so its kind is Unknown; a read may be tried again.
func (c *Client) Unreadable(r Request, a Answer, err error) error {
	kind := connectors.Transient
	if r.Write() {
		kind = connectors.Unknown
	}
	e := &connectors.Error{Op: r.Op, Kind: kind, Status: a.Status, Err: err}
	if strings.Contains(a.Header.Get("Content-Type"), "html") {
		e.Vendor = htmlTitle(a.Body)
	}
	return c.redact.clean(e)
}

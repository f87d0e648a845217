package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/net/http/httpguts"

	"liaison/connectors"
)

// Client calls one vendor as one account.
type Client struct {
	cfg    Config
	base   *url.URL
	http   *retryablehttp.Client
	redact *redactor
}

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
	Body   []byte
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
	redact := newRedactor(cfg.Auth)
	auth, err := newAuthLayer(cfg, transportTo(cfg, base), redact)
	if err != nil {
		return nil, err
	}
	attempts := &attemptLayer{next: auth, timeout: cfg.Timeout, maxBody: cfg.MaxBody}
	c := &Client{cfg: cfg, base: base, redact: redact}
	c.http = &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport: newGate(cfg, attempts),
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

// exchange is what the layers of one call know of it. It travels in the call's context, because the layers between
// are others'.
type exchange struct {
	write bool
	// left is set once the running attempt was given a connection: from then on a byte may have been sent.
	left atomic.Bool
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
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	ctx, span := startSpan(ctx, r, c.base)
	x := &exchange{write: r.Write()}
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
	body, err := io.ReadAll(resp.Body) // from memory: the attempt has read it
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

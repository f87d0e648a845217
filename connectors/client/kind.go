package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"liaison/connectors"
)

// statusError sorts a whole answer outside 2xx.
func (c *Client) statusError(r Request, a Answer) *connectors.Error {
	e := &connectors.Error{Op: r.Op, Status: a.Status, Kind: kindOf(a, r.Write())}
	if a.Status >= 300 && a.Status < 400 {
		e.Err = fmt.Errorf("redirect to %s is not followed; correct the system's url or sign-in", redirectTarget(a.Header.Get("Location")))
		return e
	}
	if strings.Contains(a.Header.Get("Content-Type"), "html") {
		e.Vendor = htmlTitle(a.Body)
	}
	if c.cfg.Explain != nil {
		c.cfg.Explain(a, e)
	}
	if e.Kind == connectors.RateLimited {
		e.RetryAfter = a.RetryAfter
	}
	return e
}

// kindOf sorts a status. A write answered with 5xx, 408 or a redirect that may mean "done, look there" is Unknown:
// nothing in the status says that the vendor did not commit it.
func kindOf(a Answer, write bool) connectors.Kind {
	unsettled := connectors.Transient
	if write {
		unsettled = connectors.Unknown
	}
	switch s := a.Status; {
	case s == http.StatusTooManyRequests, s == http.StatusServiceUnavailable && a.RetryAfter > 0:
		return connectors.RateLimited
	case s == http.StatusUnauthorized, s == http.StatusForbidden, s == http.StatusProxyAuthRequired:
		return connectors.Auth
	case s == http.StatusNotFound, s == http.StatusGone:
		return connectors.NotFound
	case s == http.StatusConflict, s == http.StatusPreconditionFailed:
		return connectors.Conflict
	case s == http.StatusRequestTimeout, s >= 500:
		return unsettled
	case s == http.StatusTooEarly:
		return connectors.Transient
	case s == http.StatusTemporaryRedirect, s == http.StatusPermanentRedirect:
		return connectors.Auth
	case s >= 300 && s < 400:
		if write {
			return connectors.Unknown
		}
		return connectors.Auth
	case s >= 400:
		return connectors.Rejected
	}
	return unsettled
}

// transportError sorts an exchange that brought no whole answer.
func transportError(ctx context.Context, x *exchange, op string, err error) *connectors.Error {
	if known, ok := errors.AsType[*connectors.Error](err); ok { // a layer knew more than the transport does
		e := *known
		e.Op = op
		return &e
	}
	e := &connectors.Error{Op: op, Kind: connectors.Transient, Err: withoutURL(err)}
	if ctx.Err() != nil {
		e.Err = ctx.Err()
	}
	switch {
	case x.left.Load() && x.write:
		e.Kind = connectors.Unknown
	case x.left.Load():
	case isUntrusted(err):
		e.Kind = connectors.Auth
		e.Err = fmt.Errorf("the server's certificate or TLS version is refused; mend it there, or correct the system's url: %w", e.Err)
	case errors.Is(err, errEgress):
		e.Kind = connectors.Auth
	}
	return e
}

// isUntrusted reports whether the other side is not who it should be: trying again changes nothing until a person acts.
func isUntrusted(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	// crypto/tls has no type for these two: the other side's alert, and our own refusal of its choice.
	text := err.Error()
	return strings.Contains(text, "tls: protocol version not supported") || strings.Contains(text, "tls: server selected unsupported protocol version")
}

// withoutURL takes the address, whose query may hold what nobody should read, out of net/http's errors.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// redirectTarget names where a redirect leads without what may be secret in it.
func redirectTarget(location string) string {
	u, err := url.Parse(location)
	if err != nil || location == "" {
		return "an unreadable address"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return fmt.Sprintf("%q", u.String())
}

var titleElement = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

// htmlTitle is what an error page calls itself: "Instance Hibernating page".
func htmlTitle(body []byte) string {
	if m := titleElement.FindSubmatch(body[:min(len(body), 64<<10)]); m != nil {
		return html.UnescapeString(string(m[1]))
	}
	return ""
}

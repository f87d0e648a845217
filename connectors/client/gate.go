package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"liaison/connectors"
	"liaison/connectors/account"
)

// gate lets attempts through as the account allows, and tells it how they ended.
type gate struct {
	next    http.RoundTripper
	account *account.Account
	now     func() time.Time
	redact  *redactor
}

func (g *gate) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	// A new attempt: whatever the one before it did was found safe to repeat.
	exchangeOf(ctx).left.Store(false)
	call, err := g.account.Begin(ctx)
	if err != nil {
		return nil, notBegun(err)
	}
	began := time.Now()
	resp, err := g.next.RoundTrip(req)
	call.End(g.ending(ctx, resp, err, time.Since(began)))
	return resp, err
}

// notBegun sorts why a call was not begun. Nothing was sent.
func notBegun(err error) error {
	pause, ok := errors.AsType[*account.Pause](err)
	if !ok {
		return err
	}
	kind := connectors.Transient
	switch {
	case pause.Asked:
		kind = connectors.RateLimited
	case pause.SignIn:
		kind = connectors.Auth
	}
	return &connectors.Error{Kind: kind, RetryAfter: pause.Wait, Err: errors.New(pause.Reason)}
}

// ending tells the account how an attempt ended that took that long.
func (g *gate) ending(ctx context.Context, resp *http.Response, err error, took time.Duration) account.Ending {
	if err != nil {
		return g.failure(ctx, err, took)
	}
	now := g.now()
	switch s := resp.StatusCode; {
	case s == http.StatusTooManyRequests:
		return account.Ending{Outcome: account.Limited, Named: RetryAfter(resp.Header, now)}
	case s == http.StatusServiceUnavailable:
		return account.Ending{Outcome: account.Sick, Named: RetryAfter(resp.Header, now), Words: "HTTP 503"}
	case s >= http.StatusInternalServerError:
		return account.Ending{Outcome: account.Sick, Words: fmt.Sprintf("HTTP %d", s)}
	case s == http.StatusUnauthorized, s == http.StatusProxyAuthRequired:
		return account.Ending{Outcome: account.SignIn, Words: fmt.Sprintf("HTTP %d", s)}
	}
	return account.Ending{Outcome: account.Answered}
}

// failure sorts an attempt that brought no answer. A caller who leaves says nothing about the vendor, unless half of what
// an answer may take had passed by then: else a vendor that answers nobody would look well as long as callers are
// less patient than the account.
func (g *gate) failure(ctx context.Context, err error, took time.Duration) account.Ending {
	e := account.Ending{Outcome: account.Sick, Words: oneLine(g.redact.text(withoutURL(err).Error()))}
	known, sorted := errors.AsType[*connectors.Error](err)
	switch {
	case ctx.Err() != nil && took < g.account.Limits().Timeout/2:
		e.Outcome = account.GaveUp
	case ctx.Err() != nil:
	case sorted && known.Kind == connectors.RateLimited:
		e.Outcome, e.Named = account.Limited, known.RetryAfter
	case sorted && known.Kind == connectors.Auth, isUntrusted(err), errors.Is(err, errEgress):
		e.Outcome = account.SignIn
	}
	return e
}

// accountOf says as whom cfg calls whom. Logins are compared without case: two users whom only the case tells apart
// share their limits, which is slower and does no harm.
func accountOf(cfg Config, base *url.URL) account.ID {
	id := account.ID{Origin: origin(base), Login: "nobody"}
	switch a := cfg.Auth; {
	case a.Basic != nil:
		id.Login = "user " + strings.ToLower(a.Basic.User)
	case a.OAuth2 != nil && a.OAuth2.Grant == connectors.GrantPassword:
		id.Login = "user " + strings.ToLower(a.OAuth2.User)
	case a.OAuth2 != nil:
		id.Login = "client " + a.OAuth2.ClientID
	case !a.Token.IsZero():
		sum := sha256.Sum256([]byte(a.Token.Reveal()))
		id.Login = "token " + hex.EncodeToString(sum[:])
	}
	return id
}

// origin is an address's scheme, host and port in one spelling.
func origin(u *url.URL) string {
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

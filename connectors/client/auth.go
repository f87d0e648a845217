package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/sync/singleflight"

	"liaison/connectors"
)

// authLayer signs requests in. After a 401 it asks once for new credentials and repeats the request, which the
// vendor has thereby said it did not carry out.
type authLayer struct {
	next http.RoundTripper
	// sign sets the credentials and tells whether they had to be fetched first.
	sign func(*http.Request) (fetched bool, err error)
	// renew forgets the credentials that req was refused with; nil where they never change.
	renew func(req *http.Request)
	// again asks the account for a further request within the call: what went before has used up its turn.
	again func(context.Context) error
}

func newAuthLayer(cfg Config, c *Client, next http.RoundTripper) (*authLayer, error) {
	l := &authLayer{next: next, again: c.again, sign: func(*http.Request) (bool, error) { return false, nil }}
	switch a := cfg.Auth; {
	case a.Basic != nil:
		l.sign = func(req *http.Request) (bool, error) {
			req.SetBasicAuth(a.Basic.User, a.Basic.Password.Reveal())
			return false, nil
		}
	case !a.Token.IsZero():
		value := strings.TrimSpace(cfg.TokenScheme + " " + a.Token.Reveal())
		l.sign = func(req *http.Request) (bool, error) {
			req.Header.Set(cfg.TokenHeader, value)
			return false, nil
		}
	case a.OAuth2 != nil:
		src, err := newTokenSource(cfg, c)
		if err != nil {
			return nil, err
		}
		l.sign, l.renew = src.sign, src.forget
	}
	return l, nil
}

func (l *authLayer) RoundTrip(req *http.Request) (*http.Response, error) {
	first := req.Clone(req.Context())
	if err := l.ready(first, false); err != nil {
		closeBody(req)
		return nil, err
	}
	resp, err := l.next.RoundTrip(first)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || l.renew == nil {
		return resp, err
	}
	second := req.Clone(req.Context())
	if req.GetBody != nil {
		if second.Body, err = req.GetBody(); err != nil {
			return resp, nil //nolint:nilerr // the body cannot be sent twice, so the 401 is the answer
		}
	}
	l.renew(first)
	exchangeOf(req.Context()).left.Store(false)    // the 401 says that nothing was done
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // keeps the connection when the rest is short
	resp.Body.Close()
	if err := l.ready(second, true); err != nil {
		closeBody(second)
		return nil, err
	}
	return l.next.RoundTrip(second)
}

// ready signs a request. A further one, and one that waited for a token together with others, asks the account once
// more: else they would all leave at once, or in a pause that was asked for meanwhile.
func (l *authLayer) ready(req *http.Request, further bool) error {
	fetched, err := l.sign(req)
	if err == nil && (fetched || further) {
		err = l.again(req.Context())
	}
	return err
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// tokenSource holds the account's access token. However many calls need a new one, one request fetches it.
type tokenSource struct {
	cfg    *connectors.OAuth2
	fetch  func(ctx context.Context, refresh string) (*oauth2.Token, error)
	redact *redactor
	now    func() time.Time
	client *http.Client
	flight singleflight.Group

	mu      sync.Mutex
	current *oauth2.Token
	refresh string
}

func newTokenSource(cfg Config, c *Client) (*tokenSource, error) {
	at, err := parseURL("auth.oauth2.token_url", cfg.Auth.OAuth2.TokenURL)
	if err != nil {
		return nil, err
	}
	s := &tokenSource{cfg: cfg.Auth.OAuth2, redact: c.redact, now: cfg.Now}
	s.client = &http.Client{
		Transport:     &attemptLayer{next: transportTo(cfg, at), timeout: c.timeout, maxBody: 1 << 20},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.fetch = s.fetchClientCredentials
	if s.cfg.Grant == connectors.GrantPassword {
		s.fetch = s.fetchPassword
	}
	return s, nil
}

func (s *tokenSource) sign(req *http.Request) (fetched bool, err error) {
	token, _ := s.held()
	if !token.Valid() {
		if token, err = s.token(req.Context()); err != nil {
			return false, err
		}
		fetched = true
	}
	token.SetAuthHeader(req)
	return fetched, nil
}

// forget drops the token that req carried, unless another call has replaced it already.
func (s *tokenSource) forget(req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && strings.HasSuffix(req.Header.Get("Authorization"), " "+s.current.AccessToken) {
		s.current = nil
	}
}

func (s *tokenSource) token(ctx context.Context) (*oauth2.Token, error) {
	// The fetch serves every waiting call, so it outlives the one that began it; its client bounds its time.
	fetched := s.flight.DoChan("", func() (any, error) { return s.replace(context.Background()) })
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for an access token: %w", ctx.Err())
	case r := <-fetched:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*oauth2.Token), nil
	}
}

func (s *tokenSource) held() (*oauth2.Token, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, s.refresh
}

func (s *tokenSource) replace(ctx context.Context) (*oauth2.Token, error) {
	t, refresh := s.held()
	if t.Valid() { // fetched by the flight before this one
		return t, nil
	}
	t, err := s.fetch(context.WithValue(ctx, oauth2.HTTPClient, s.client), refresh)
	if err != nil {
		return nil, tokenError(err, s.now())
	}
	s.redact.add(t.AccessToken)
	s.redact.add(t.RefreshToken)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.refresh = t, t.RefreshToken
	return t, nil
}

func (s *tokenSource) fetchClientCredentials(ctx context.Context, _ string) (*oauth2.Token, error) {
	cc := clientcredentials.Config{
		ClientID: s.cfg.ClientID, ClientSecret: s.cfg.ClientSecret.Reveal(), TokenURL: s.cfg.TokenURL, Scopes: s.cfg.Scopes,
		AuthStyle: oauth2.AuthStyleInParams,
	}
	return cc.Token(ctx)
}

// fetchPassword spends the refresh token where there is one, so that the password travels as seldom as can be, and
// falls back on the password when the vendor has dropped it.
func (s *tokenSource) fetchPassword(ctx context.Context, refresh string) (*oauth2.Token, error) {
	oc := oauth2.Config{
		ClientID: s.cfg.ClientID, ClientSecret: s.cfg.ClientSecret.Reveal(), Scopes: s.cfg.Scopes,
		Endpoint: oauth2.Endpoint{TokenURL: s.cfg.TokenURL, AuthStyle: oauth2.AuthStyleInParams},
	}
	if refresh != "" {
		t, err := oc.TokenSource(ctx, &oauth2.Token{RefreshToken: refresh}).Token()
		if err == nil {
			return t, nil
		}
		if _, refused := errors.AsType[*oauth2.RetrieveError](err); !refused {
			return nil, err
		}
	}
	return oc.PasswordCredentialsToken(ctx, s.cfg.User, s.cfg.Password.Reveal())
}

// tokenError sorts a failed sign-in. The request itself never left, so no kind of it is Unknown. The answer's body is
// left out: it can repeat what was sent.
func tokenError(err error, now time.Time) error {
	e := &connectors.Error{Kind: connectors.Transient, Err: errors.New("fetching an access token")}
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		e.Err = fmt.Errorf("fetching an access token: %w", withoutURL(err))
		if isUntrusted(err) || errors.Is(err, errEgress) {
			e.Kind = connectors.Auth
		}
		return e
	}
	e.Status = refused.Response.StatusCode
	e.Vendor = strings.TrimSpace(refused.ErrorCode + " " + refused.ErrorDescription)
	wait := RetryAfter(refused.Response.Header, now)
	switch {
	case e.Status == http.StatusTooManyRequests, e.Status == http.StatusServiceUnavailable && wait > 0:
		e.Kind, e.RetryAfter = connectors.RateLimited, wait
	case e.Status >= 300 && e.Status < 500:
		e.Kind = connectors.Auth
	}
	return e
}

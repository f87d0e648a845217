package client

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"liaison/connectors"
)

// signIn plays an OAuth endpoint and an API that honours the newest token only.
type signIn struct {
	*vendor
	tokens  atomic.Int32 // token requests
	answer  func(w http.ResponseWriter, n int32)
	mu      sync.Mutex
	forms   []string
	bodies  []string
	expired atomic.Int32 // tokens up to this number are refused
}

func newSignIn(t *testing.T) *signIn {
	t.Helper()
	s := new(signIn)
	s.answer = func(w http.ResponseWriter, n int32) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"access_token": fmt.Sprintf("access-token-%d", n), "refresh_token": fmt.Sprintf("refresh-token-%d", n), "token_type": "Bearer", "expires_in": 1799,
		})
	}
	s.vendor = serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.URL.Path == "/oauth_token.do" {
			s.forms = append(s.forms, string(body))
			s.answer(w, s.tokens.Add(1))
			return
		}
		var n int32
		_, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer access-token-%d", &n)
		if err != nil || n <= s.expired.Load() {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.bodies = append(s.bodies, string(body))
	})
	return s
}

func (s *signIn) as(grant connectors.Grant) func(*Config) {
	return func(c *Config) {
		c.Auth.OAuth2 = &connectors.OAuth2{
			TokenURL: s.URL + "/oauth_token.do", Grant: grant, ClientID: "the-client", ClientSecret: connectors.NewSecret("client-secret-1"), Scopes: []string{"useraccount"},
		}
		if grant == connectors.GrantPassword {
			c.Auth.OAuth2.User, c.Auth.OAuth2.Password = "the-user", connectors.NewSecret("pass-word-1")
		}
	}
}

// However many calls wait for a token, one request fetches it.
func TestOneTokenForAll(t *testing.T) {
	t.Parallel()
	for _, grant := range []connectors.Grant{connectors.GrantClientCredentials, connectors.GrantPassword} {
		s := newSignIn(t)
		c := dial(t, s.URL, s.as(grant), func(c *Config) { c.Concurrency = 20 })
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := c.Do(t.Context(), write); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := s.tokens.Load(); n != 1 {
			t.Errorf("%s: %d token requests for 20 calls, want 1", grant, n)
		}
		// The parameters stand in the body: in a header or the address vendors refuse them.
		if form := s.forms[0]; !strings.Contains(form, "client_secret=client-secret-1") || !strings.Contains(form, "grant_type="+string(grant)) {
			t.Errorf("the form is %s", form)
		}
	}
}

// A 401 says that nothing was done: with a new token the same body is sent once more, and not a third time.
func TestRenewAfter401(t *testing.T) {
	t.Parallel()
	s := newSignIn(t)
	c := dial(t, s.URL, s.as(connectors.GrantPassword))
	if _, err := c.Do(t.Context(), write); err != nil {
		t.Fatal(err)
	}
	s.expired.Store(1)
	if _, err := c.Do(t.Context(), write); err != nil {
		t.Fatalf("after the token was dropped: %v", err)
	}
	if s.tokens.Load() != 2 || len(s.bodies) != 2 || s.bodies[1] != string(write.Body) {
		t.Errorf("%d tokens, bodies %q", s.tokens.Load(), s.bodies)
	}
	if !strings.Contains(s.forms[1], "grant_type=refresh_token") || strings.Contains(s.forms[1], "pass-word-1") {
		t.Errorf("the second token was asked for with %s, want the refresh token", s.forms[1])
	}
	s.expired.Store(1000)
	s.calls.Store(0)
	_, err := c.Do(t.Context(), write)
	if e := asError(t, err); e.Kind != connectors.Auth || e.Status != 401 {
		t.Errorf("%v, want auth with 401", e)
	}
	if n := s.calls.Load(); n != 3 { // the call, a token, the call
		t.Errorf("%d requests, want 3", n)
	}
}

// A dropped refresh token is replaced by way of the password.
func TestRefreshTokenRefused(t *testing.T) {
	t.Parallel()
	s := newSignIn(t)
	good := s.answer
	s.answer = func(w http.ResponseWriter, n int32) {
		if n == 2 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"error":"access_denied","error_description":"access_denied"}`)
			return
		}
		good(w, n)
	}
	c := dial(t, s.URL, s.as(connectors.GrantPassword))
	if _, err := c.Do(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	s.expired.Store(1)
	if _, err := c.Do(t.Context(), read); err != nil {
		t.Fatal(err)
	}
	if s.tokens.Load() != 3 || !strings.Contains(s.forms[2], "grant_type=password") {
		t.Errorf("forms %q, want password, refresh_token, password", s.forms)
	}
}

// A failed sign-in is never Unknown: the write itself has not left. And it shows no secret, whatever comes back.
func TestSignInFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		header [2]string
		body   string
		want   connectors.Kind
	}{
		"refused":        {401, [2]string{"Content-Type", "application/json"}, `{"error":"access_denied","error_description":"client-secret-1 is wrong"}`, connectors.Auth},
		"bad request":    {400, [2]string{"Content-Type", "application/json"}, `{"error":"invalid_client"}`, connectors.Auth},
		"redirect":       {302, [2]string{"Location", "/login"}, ``, connectors.Auth},
		"server error":   {500, [2]string{"Content-Type", "text/plain"}, `trace: client_secret=client-secret-1&password=pass-word-1`, connectors.Transient},
		"rate limited":   {429, [2]string{"Retry-After", "7"}, ``, connectors.RateLimited},
		"HTML with 200":  {200, [2]string{"Content-Type", "text/html"}, `<html>client-secret-1`, connectors.Transient},
		"no token in it": {200, [2]string{"Content-Type", "application/json"}, `{"scope":"pass-word-1"}`, connectors.Transient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSignIn(t)
			s.answer = func(w http.ResponseWriter, _ int32) {
				w.Header().Set(c.header[0], c.header[1])
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}
			_, err := dial(t, s.URL, s.as(connectors.GrantPassword)).Do(t.Context(), write)
			e := asError(t, err)
			if e.Kind != c.want || strings.Contains(err.Error(), "client-secret-1") || strings.Contains(err.Error(), "pass-word-1") {
				t.Errorf("%v, want kind %s and no secret", err, c.want)
			}
			if len(s.bodies) != 0 {
				t.Error("the call went out without a token")
			}
		})
	}
}

func TestTokenHeader(t *testing.T) {
	t.Parallel()
	var got http.Header
	v := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
	token := func(header, scheme string) func(*Config) {
		return func(c *Config) {
			c.Auth.Token, c.TokenHeader, c.TokenScheme = connectors.NewSecret("1-27-abc"), header, scheme
		}
	}
	for _, c := range []struct{ header, scheme, name, want string }{
		{"", "", "Authorization", "Bearer 1-27-abc"},
		{"", "token", "Authorization", "token 1-27-abc"},
		{"x-sn-apikey", "", "X-Sn-Apikey", "1-27-abc"},
	} {
		if _, err := dial(t, v.URL, token(c.header, c.scheme)).Do(t.Context(), read); err != nil {
			t.Fatal(err)
		}
		if got.Get(c.name) != c.want {
			t.Errorf("%s is %q, want %q", c.name, got.Get(c.name), c.want)
		}
	}
}

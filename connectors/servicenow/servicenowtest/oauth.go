package servicenowtest

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// tokens are the OAuth tokens given out. They live in memory: a restart ends every session.
type tokens struct {
	mu      sync.Mutex
	access  map[string]grant
	refresh map[string]grant
}

type grant struct {
	user    string
	kind    string // grant type that made it
	refresh string // refresh token given with an access token
	expires time.Time
}

func (t *tokens) user(token string, now time.Time) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, ok := t.access[token]
	return g.user, ok && now.Before(g.expires)
}

// issue gives the living token of a user and grant again, or a new one.
func (t *tokens) issue(kind, user, refresh string, now time.Time, accessTTL, refreshTTL time.Duration) (string, grant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.access == nil {
		t.access, t.refresh = map[string]grant{}, map[string]grant{}
	}
	for token, g := range t.access {
		if !now.Before(g.expires) {
			delete(t.access, token)
		} else if g.user == user && g.kind == kind && refresh == "" {
			return token, g
		}
	}
	g := grant{user: user, kind: kind, refresh: refresh, expires: now.Add(accessTTL)}
	if refresh == "" && kind == "password" {
		g.refresh = newSysID() + newSysID()
		t.refresh[g.refresh] = grant{user: user, expires: now.Add(refreshTTL)}
	}
	token := newSysID() + newSysID()
	t.access[token] = g
	return token, g
}

func (t *tokens) refreshed(token string, now time.Time) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, ok := t.refresh[token]
	return g.user, ok && now.Before(g.expires)
}

// ExpireTokens ends every access token, as their life time would; refresh tokens stay.
func (s *Server) ExpireTokens() {
	s.tokens.mu.Lock()
	defer s.tokens.mu.Unlock()
	clear(s.tokens.access)
}

// serveToken answers POST /oauth_token.do. Parameters count only in the body.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		oauthError(w, r, http.StatusMethodNotAllowed, "invalid_request", "Only POST is supported")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		oauthError(w, r, http.StatusBadRequest, "invalid_request", "The body is not application/x-www-form-urlencoded")
		return
	}
	form := r.PostForm
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if header, password, ok := r.BasicAuth(); ok && secret == "" {
		id, secret = header, password // common OAuth libraries send them so
	}
	if !same(id, s.cfg.ClientID) || !same(secret, s.cfg.ClientSecret) {
		oauthError(w, r, http.StatusUnauthorized, "invalid_client", "client authentication failed")
		return
	}
	user, kind, code := s.grantUser(form)
	if code != "" {
		status := http.StatusUnauthorized
		if code == "unsupported_grant_type" {
			status = http.StatusBadRequest
		}
		oauthError(w, r, status, code, code)
		return
	}
	now := s.cfg.Now()
	token, g := s.tokens.issue(kind, user, form.Get("refresh_token"), now, s.cfg.AccessTTL, s.cfg.RefreshTTL)
	out := map[string]any{
		"access_token": token, "scope": "useraccount", "token_type": "Bearer",
		"expires_in": int64(g.expires.Sub(now).Seconds()),
	}
	if g.refresh != "" {
		out["refresh_token"] = g.refresh
	}
	w.Header().Set("Cache-Control", "no-store")
	writeBody(w, r, http.StatusOK, out)
}

// grantUser checks a grant and tells whose token it makes, or the error code.
func (s *Server) grantUser(form url.Values) (user, kind, code string) {
	kind = form.Get("grant_type")
	switch kind {
	case "password":
		if s.cfg.PasswordGrantOff || !s.checkPassword(form.Get("username"), form.Get("password")) {
			return "", kind, "access_denied"
		}
		return strings.ToLower(form.Get("username")), kind, ""
	case "client_credentials":
		return s.cfg.OAuthUser, kind, ""
	case "refresh_token":
		user, ok := s.tokens.refreshed(form.Get("refresh_token"), s.cfg.Now())
		if !ok {
			return "", kind, "invalid_grant"
		}
		return user, kind, ""
	}
	return "", kind, "unsupported_grant_type"
}

// oauthError writes the OAuth error form, which is not the Table API's.
func oauthError(w http.ResponseWriter, r *http.Request, status int, code, description string) {
	writeBody(w, r, status, map[string]any{"error": code, "error_description": description})
}

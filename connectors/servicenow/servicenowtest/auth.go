package servicenowtest

import (
	"cmp"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"
)

// actor is who makes a call: it decides what is seen, how dates look and whose name a change bears.
type actor struct {
	id, login, name string
	admin           bool
	roles           []string
	zone            *time.Location
	layout          string
}

// person is the actor of a login; an unknown login acts with empty id.
func (s *Server) person(login string) actor {
	a := actor{login: login, name: login, zone: s.cfg.Zone}
	format := s.cfg.DateFormat
	if r := s.db.find("sys_user", "user_name", login); r != nil {
		a.id, a.login, a.name = r.id(), r.vals["user_name"], r.vals["name"]
	}
	for _, u := range s.cfg.Users {
		if strings.EqualFold(u.Name, login) {
			a.admin, a.roles = u.Admin, u.Roles
			a.zone, format = cmp.Or(u.Zone, a.zone), cmp.Or(u.DateFormat, format)
		}
	}
	if a.admin {
		a.roles = append([]string{"admin"}, a.roles...)
	}
	a.layout, _ = dateLayout(format) // checked by New
	return a
}

// authenticate finds the caller by bearer token, API key or Basic.
func (s *Server) authenticate(r *http.Request) (actor, error) {
	login, ok := s.login(r)
	if !ok {
		return actor{}, &apiError{
			status: http.StatusUnauthorized, message: "User is not authenticated",
			detail: "Required to provide Auth information", header: http.Header{"Www-Authenticate": {`Basic realm="Service-now"`}},
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.person(login), nil
}

func (s *Server) login(r *http.Request) (string, bool) {
	if token, ok := cutPrefixFold(r.Header.Get("Authorization"), "Bearer "); ok {
		return s.tokens.user(token, s.cfg.Now())
	}
	if key := r.Header.Get("x-sn-apikey"); key != "" {
		for _, u := range s.cfg.Users {
			if u.APIKey != "" && same(u.APIKey, key) {
				return u.Name, true
			}
		}
		return "", false
	}
	name, password, ok := r.BasicAuth()
	return name, ok && s.checkPassword(name, password)
}

func (s *Server) checkPassword(name, password string) bool {
	for _, u := range s.cfg.Users {
		if strings.EqualFold(u.Name, name) {
			return u.Password != "" && same(u.Password, password)
		}
	}
	return false
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return strings.TrimSpace(s[len(prefix):]), true
}

// checkHeaders answers for media types: 406 and 415 for what cannot be served, 400 for missing ones in strict mode.
func (s *Server) checkHeaders(r *http.Request) error {
	if strings.Contains(r.URL.Path, "/attachment/") {
		return nil
	}
	accept, content := r.Header.Get("Accept"), r.Header.Get("Content-Type")
	s.mu.RLock()
	strict := s.cfg.StrictHeaders
	s.mu.RUnlock()
	writes := r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch
	if strict && (accept == "" || writes && content == "") {
		return &apiError{status: http.StatusBadRequest, message: "Missing Accept or Content-Type header", detail: "Send application/json or application/xml"}
	}
	if accept != "" && !acceptable(accept) {
		return &apiError{status: http.StatusNotAcceptable, message: "Invalid Accept header", detail: "Supported types: application/json, application/xml"}
	}
	if writes && content != "" && !strings.Contains(content, "json") && !strings.Contains(content, "xml") {
		return &apiError{status: http.StatusUnsupportedMediaType, message: "Unsupported Media Type", detail: "Supported types: application/json, application/xml"}
	}
	return nil
}

func acceptable(accept string) bool {
	for _, t := range []string{"*/*", "application/*", "json", "xml"} {
		if strings.Contains(accept, t) {
			return true
		}
	}
	return false
}

package auth_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"liaison/internal/auth"
	"liaison/internal/incident"
)

func grant(change func(*auth.Grant)) auth.Grant {
	g := auth.Grant{Digest: auth.DigestOf("secret"), Subject: "sam", Name: "Sam", Roles: []auth.Role{auth.Requester}, Organisation: 1, Desk: 1}
	if change != nil {
		change(&g)
	}
	return g
}

var served = map[incident.DeskID][]incident.OrganisationID{1: {2, 1}, 2: {3}}

func TestDirectory(t *testing.T) {
	t.Parallel()
	d, err := auth.NewDirectory([]auth.Grant{
		grant(nil),
		grant(func(g *auth.Grant) {
			g.Digest, g.Subject, g.Name, g.Roles, g.Organisation = auth.DigestOf("agent"), "ada", "", []auth.Role{auth.Agent}, 0
		}),
		grant(func(g *auth.Grant) { // a requester of an organisation that nobody serves any more still sees the own one
			g.Digest, g.Subject, g.Organisation, g.Desk = auth.DigestOf("lone"), "lone", 9, 0
		}),
	}, served)
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string][]incident.OrganisationID{"secret": {1}, "agent": {1, 2}, "lone": {9}} {
		v, ok := d.Lookup(t.Context(), token)
		if !ok || !cmp.Equal(v.Organisations, want) {
			t.Errorf("%s sees %v (%v), want %v", token, v.Organisations, ok, want)
		}
	}
	if v, _ := d.Lookup(t.Context(), "agent"); v.Name != "ada" || !v.Staff() || v.Has(auth.Admin) {
		t.Errorf("agent is %+v", v)
	}
	digest := auth.DigestOf("secret")
	for _, token := range []string{"", "Secret", "secret ", "secre", string(digest[:])} {
		if v, ok := d.Lookup(t.Context(), token); ok {
			t.Errorf("%q is taken for %s's", token, v.Subject)
		}
	}
}

func TestGrantsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*auth.Grant)
		says   string
	}{
		"no subject":                     {func(g *auth.Grant) { g.Subject = "" }, "subject is empty"},
		"no token":                       {func(g *auth.Grant) { g.Digest = auth.Digest{} }, "token is empty"},
		"an empty token":                 {func(g *auth.Grant) { g.Digest = auth.DigestOf("") }, "token is empty"},
		"no role":                        {func(g *auth.Grant) { g.Roles = nil }, "requester agent admin"},
		"unknown role":                   {func(g *auth.Grant) { g.Roles = []auth.Role{"boss"} }, `"boss"`},
		"requester without organisation": {func(g *auth.Grant) { g.Organisation = 0 }, "needs an organisation"},
		"agent without desk":             {func(g *auth.Grant) { g.Roles, g.Desk = []auth.Role{auth.Agent}, 0 }, "needs a desk"},
		"agent of another desk's":        {func(g *auth.Grant) { g.Roles, g.Organisation = []auth.Role{auth.Admin}, 3 }, "not served"},
	} {
		_, err := auth.NewDirectory([]auth.Grant{grant(c.change)}, served)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want a word about %q", name, err, c.says)
		}
	}
	for name, second := range map[string]func(*auth.Grant){
		"the same token":   func(g *auth.Grant) { g.Subject = "eve" },
		"the same subject": func(g *auth.Grant) { g.Digest = auth.DigestOf("other") },
	} {
		if _, err := auth.NewDirectory([]auth.Grant{grant(nil), grant(second)}, served); err == nil {
			t.Errorf("%s twice is accepted", name)
		}
	}
}

func TestParseDigest(t *testing.T) {
	t.Parallel()
	// printf %s abc | sha256sum; FIPS 180-2, appendix B.1
	d, err := auth.ParseDigest("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
	if err != nil || d != auth.DigestOf("abc") {
		t.Errorf("%x %v", d, err)
	}
	for _, bad := range []string{"", "abc", strings.Repeat("g", 64), strings.Repeat("a", 63), strings.Repeat("a", 66)} {
		if _, err := auth.ParseDigest(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		} else if len(bad) > 10 && strings.Contains(err.Error(), bad) {
			t.Errorf("the error repeats what may be a token: %v", err)
		}
	}
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	d, err := auth.NewDirectory([]auth.Grant{grant(nil)}, served)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, header, upgrade string
		want                  error
		viewer                bool
	}{
		{"valid", "Bearer secret", "", nil, true},
		{"scheme in small letters", "bearer secret", "", nil, true},
		{"blanks", "  Bearer   secret  ", "", nil, true},
		{"none", "", "", auth.ErrNoToken, false},
		{"another scheme", "Basic c2VjcmV0", "", auth.ErrNoToken, false},
		{"wrong", "Bearer wrong", "", auth.ErrBadToken, false},
		{"socket without", "", "websocket", nil, false},
		{"socket with", "Bearer secret", "WebSocket", nil, true},
		{"socket with a wrong one", "Bearer wrong", "websocket", auth.ErrBadToken, false},
		{"socket with another scheme", "Basic c2VjcmV0", "websocket", auth.ErrNoToken, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			passed, signedIn := false, false
			var refused error
			h := auth.Middleware(d, func(_ http.ResponseWriter, _ *http.Request, err error) { refused = err },
				http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					passed = true
					_, signedIn = auth.ViewerFrom(r.Context())
				}))
			r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/graphql", nil)
			r.Header.Set("Authorization", c.header)
			if c.header == "" {
				r.Header.Del("Authorization")
			}
			r.Header.Set("Upgrade", c.upgrade)
			h.ServeHTTP(httptest.NewRecorder(), r)
			if !errors.Is(refused, c.want) || passed != (c.want == nil) || signedIn != c.viewer {
				t.Errorf("refused %v, passed %v, signed in %v", refused, passed, signedIn)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	v := auth.Viewer{Roles: []auth.Role{auth.Agent}, Organisations: []incident.OrganisationID{3, 5}}
	if diff := cmp.Diff(map[string]string{"liaison.organisations": "{3,5}", "liaison.staff": "true"}, v.Settings()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"liaison.organisations": "{}", "liaison.staff": "false"}, auth.Viewer{}.Settings()); diff != "" {
		t.Error(diff)
	}
}

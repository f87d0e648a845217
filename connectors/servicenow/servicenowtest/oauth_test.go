package servicenowtest_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"liaison/connectors/servicenow/servicenowtest"
)

func (c *client) token(form ...string) answer {
	c.t.Helper()
	q := url.Values{"client_id": {"sim"}, "client_secret": {"sim"}}
	for i := 0; i+1 < len(form); i += 2 {
		q.Set(form[i], form[i+1])
	}
	return c.as("").do("POST", "/oauth_token.do", q.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

type tokenAnswer struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	Scope        string `json:"scope"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	Error        string `json:"error"`
}

func (a answer) token() tokenAnswer {
	a.t.Helper()
	var v tokenAnswer
	a.decode(&v)
	return v
}

// Section 2: OAuth grants, life times and the same token with a smaller expires_in.
func TestSection2OAuth(t *testing.T) {
	t.Parallel()
	now := newClock()
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithNow(now.Now)))
	use := func(token string, status int) {
		t.Helper()
		c.as("").do("GET", incidents, "", "Authorization", "Bearer "+token).want(status)
	}
	first := c.token("grant_type", "password", "username", "sim", "password", "sim").want(200).token()
	if first.ExpiresIn != 1800 || first.TokenType != "Bearer" || first.Scope != "useraccount" || first.RefreshToken == "" {
		t.Errorf("token %+v", first)
	}
	use(first.AccessToken, 200)
	now.add(10 * time.Minute)
	again := c.token("grant_type", "password", "username", "sim", "password", "sim").want(200).token()
	if again.AccessToken != first.AccessToken || again.ExpiresIn != 1200 {
		t.Errorf("second token %+v", again)
	}
	now.add(20 * time.Minute)
	use(first.AccessToken, 401)
	renewed := c.token("grant_type", "refresh_token", "refresh_token", first.RefreshToken).want(200).token()
	use(renewed.AccessToken, 200)
	service := c.token("grant_type", "client_credentials").want(200).token()
	if service.RefreshToken != "" {
		t.Error("client_credentials gave a refresh token")
	}
	use(service.AccessToken, 200)
	now.add(101 * 24 * time.Hour)
	c.token("grant_type", "refresh_token", "refresh_token", first.RefreshToken).want(401)
	use("nonsense", 401)
}

// Section 2: failures have the OAuth form, and parameters in the query string do not count.
func TestSection2OAuthRefusals(t *testing.T) {
	t.Parallel()
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithConfig(servicenowtest.Config{PasswordGrantOff: true})))
	for i, tc := range []struct {
		form   []string
		status int
		code   string
	}{
		{[]string{"grant_type", "password", "username", "sim", "password", "sim"}, 401, "access_denied"},
		{[]string{"grant_type", "client_credentials", "client_secret", "wrong"}, 401, "invalid_client"},
		{[]string{"grant_type", "refresh_token", "refresh_token", "x"}, 401, "invalid_grant"},
		{[]string{"grant_type", "urn:other"}, 400, "unsupported_grant_type"},
	} {
		if got := c.token(tc.form...).want(tc.status).token(); got.Error != tc.code {
			t.Errorf("case %d: error %q, want %q", i, got.Error, tc.code)
		}
	}
	c.do("POST", "/oauth_token.do", "grant_type=client_credentials", "Content-Type", "application/x-www-form-urlencoded").want(200) // client sim in the header
	c.as("").do("POST", "/oauth_token.do?grant_type=client_credentials&client_id=sim&client_secret=sim", "").want(401)
}

// Go's own OAuth client signs in and renews.
func TestSection2OAuthWithGoClient(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t)
	cfg := oauth2.Config{ClientID: "sim", ClientSecret: "sim", Endpoint: oauth2.Endpoint{TokenURL: s.URL + "/oauth_token.do"}}
	token, err := cfg.PasswordCredentialsToken(t.Context(), "sim", "sim")
	mustDo(t, err)
	res, err := cfg.Client(t.Context(), token).Get(s.URL + incidents)
	mustDo(t, err)
	if res.StatusCode != http.StatusOK {
		t.Errorf("status %d", res.StatusCode)
	}
	mustDo(t, res.Body.Close())
}

// Section 2: API keys.
func TestSection2APIKey(t *testing.T) {
	t.Parallel()
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithConfig(servicenowtest.Config{Users: []servicenowtest.User{{Name: "key.user", APIKey: "k-1"}}}))).as("")
	r := c.do("POST", incidents, `{}`, "x-sn-apikey", "k-1").want(201).record()
	wantField(t, r, "sys_created_by", "key.user")
	c.do("GET", incidents, "", "x-sn-apikey", "k-2").want(401)
	c.as("key.user").get(incidents).want(401) // no password, no Basic
}

func TestConfigErrorsNameTheSetting(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]servicenowtest.Config{
		"Users[0].Name":    {Users: []servicenowtest.User{{}}, OAuthUser: ""},
		"Columns[0]":       {Columns: []string{"site"}},
		"DateFormat":       {DateFormat: "yy/M/d"},
		"webhook url":      {Webhook: servicenowtest.Webhook{URL: "hooks"}},
		"bad_query":        {Switches: servicenowtest.Switches{BadQuery: "maybe"}},
		"hidden_rows":      {Switches: servicenowtest.Switches{HiddenRows: "nonsense=1"}},
		"reset_rules[0]":   {Switches: servicenowtest.Switches{ResetRules: []servicenowtest.Rule{{Name: "r"}}}},
		"rate_limits[0]":   {Switches: servicenowtest.Switches{RateLimits: []servicenowtest.RateLimit{{}}}},
		`OAuthUser "ghost`: {OAuthUser: "ghost"},
	} {
		if _, err := servicenowtest.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

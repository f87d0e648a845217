package client

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"liaison/connectors"
	"liaison/connectors/account"
)

// Defaults of a Config whose fields are left at their zero value.
const (
	DefaultTimeout     = 30 * time.Second
	DefaultConcurrency = 4
	DefaultMaxBody     = 10 << 20
	DefaultRetries     = 2
	DefaultRetryWait   = 200 * time.Millisecond
	DefaultFailures    = 10
	DefaultCooldown    = 30 * time.Second

	// MaxRetryAfter bounds what a vendor may ask for: past it the hub asks again by itself.
	MaxRetryAfter = account.MaxPause
)

// Config says whom to call, as whom, and how gently. Only BaseURL is needed.
type Config struct {
	// BaseURL is the vendor's address; request paths are appended to its path. It is https, or http on loopback.
	BaseURL string
	Auth    connectors.Credentials
	// TokenHeader carries Auth.Token. Default: Authorization.
	TokenHeader string
	// TokenScheme stands before the token in the header, such as "token". Default: Bearer in Authorization, nothing in
	// another header.
	TokenScheme string

	// System is the system's key in the settings: it names the account in metrics.
	System string
	// Accounts is where systems that call as one account meet. They share the four settings below: of Timeout,
	// Concurrency and Rate the lowest that one of them names holds, of Breaker the first one's. nil: shared with nobody.
	Accounts    *account.Registry
	Timeout     time.Duration // of one attempt, from the connection to the answer's last byte
	Concurrency int           // calls at a time; the others wait
	Rate        float64       // calls a second, evenly spaced; 0: no limit
	Breaker     Breaker

	Retries   int           // further attempts within one call, of what is safe to repeat; negative: none
	RetryWait time.Duration // before the first of them; it doubles, up to ten times
	MaxBody   int64         // bytes of an answer after decompression
	UserAgent string        // default: Liaison/<version>

	// Explain may sort an answer outside 2xx better than its status does: it sets Kind, Vendor and Fields of e from the
	// vendor's body. It is called before secrets are taken out of e. Default: the status alone.
	Explain func(a Answer, e *connectors.Error)

	// Egress refuses an address about to be dialled, after those that are always refused. Default: none.
	Egress func(netip.AddrPort) error
	// RootCAs are the authorities trusted for the vendor's certificate. Default: the system's.
	RootCAs *x509.CertPool

	Transport http.RoundTripper // for tests, in place of the guarded transport
	Now       func() time.Time  // default: time.Now
}

// Breaker says when to leave a sick vendor alone.
type Breaker struct {
	Failures int           // attempts in a row without a usable answer that open it; negative: never
	Cooldown time.Duration // how long it stays open; then one call probes
}

// From returns the part of a connector's configuration that every vendor has in common.
func From(c connectors.Config) Config {
	return Config{
		BaseURL: c.URL, Auth: c.Auth, System: c.Key, Accounts: c.Accounts, Timeout: c.Timeout, Concurrency: c.Concurrency, Rate: c.Rate,
		Transport: c.Transport, Now: c.Now,
	}
}

// withDefaults fills in all but the account's limits: a system that names none does not lower another's.
func (c Config) withDefaults() Config {
	setDefault(&c.MaxBody, DefaultMaxBody)
	setDefault(&c.Retries, DefaultRetries)
	setDefault(&c.RetryWait, DefaultRetryWait)
	setDefault(&c.Breaker.Failures, DefaultFailures)
	setDefault(&c.Breaker.Cooldown, DefaultCooldown)
	setDefault(&c.UserAgent, userAgent())
	setDefault(&c.TokenHeader, "Authorization")
	if c.TokenScheme == "" && http.CanonicalHeaderKey(c.TokenHeader) == "Authorization" {
		c.TokenScheme = "Bearer"
	}
	c.Retries = max(c.Retries, 0)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	if zero := *new(T); *field == zero {
		*field = value
	}
}

// join returns the account that the client calls under.
func (c Config) join(base *url.URL) *account.Account {
	return c.Accounts.Join(accountOf(c, base), account.Config{
		System: c.System, Now: c.Now,
		Limits:   account.Limits{Concurrency: c.Concurrency, Rate: c.Rate, Timeout: c.Timeout},
		Default:  account.Limits{Concurrency: DefaultConcurrency, Timeout: DefaultTimeout},
		Patience: account.Patience{Failures: c.Breaker.Failures, Cooldown: c.Breaker.Cooldown},
	})
}

func userAgent() string {
	version := "dev"
	if info, ok := debug.ReadBuildInfo(); ok && strings.HasPrefix(info.Main.Version, "v") {
		version = info.Main.Version
	}
	return "Liaison/" + version
}

// check returns every fault of the configuration together.
func (c Config) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if _, err := parseURL("url", c.BaseURL); err != nil {
		faults = append(faults, err)
	}
	if c.Timeout < 0 {
		fault("timeout: %s is negative; write a duration such as 30s", c.Timeout)
	}
	if c.Concurrency < 0 {
		fault("concurrency: %d is negative; write how many calls may run at a time, such as 4", c.Concurrency)
	}
	if !(c.Rate >= 0) || math.IsInf(c.Rate, 0) { // also no number at all
		fault("rate: %g is no number of calls; write calls a second, such as 10, or 0 for no limit", c.Rate)
	}
	faults = append(faults, checkAuth(c.Auth))
	return errors.Join(faults...)
}

func checkAuth(a connectors.Credentials) error {
	var faults []error
	ways := 0
	if b := a.Basic; b != nil {
		ways++
		if strings.ContainsAny(b.User, ":\r\n") || b.User == "" {
			faults = append(faults, errors.New("auth.basic.user: must be a name without colon or line break"))
		}
	}
	if o := a.OAuth2; o != nil {
		ways++
		_, err := parseURL("auth.oauth2.token_url", o.TokenURL)
		faults = append(faults, err)
		if o.Grant != connectors.GrantPassword && o.Grant != connectors.GrantClientCredentials {
			faults = append(faults, fmt.Errorf("auth.oauth2.grant: %q is unknown; write %s or %s", o.Grant, connectors.GrantPassword, connectors.GrantClientCredentials))
		}
		if o.Grant == connectors.GrantPassword && o.User == "" {
			faults = append(faults, errors.New("auth.oauth2.user: the password grant needs a user and a password"))
		}
	}
	if !a.Token.IsZero() {
		ways++
		if strings.ContainsFunc(a.Token.Reveal(), isControl) {
			faults = append(faults, errors.New("auth.token: holds a line break or control character; write the token alone"))
		}
	}
	if ways > 1 {
		faults = append(faults, errors.New("auth: more than one way is given; keep one of basic, oauth2, token"))
	}
	return errors.Join(faults...)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// parseURL returns a vendor's address without a closing slash.
func parseURL(setting, raw string) (*url.URL, error) {
	const example = `; write an address such as "https://example.service-now.com"`
	u, err := url.Parse(raw)
	switch {
	case err != nil: // the cause repeats the address, which may hold a password
		return nil, fmt.Errorf("%s: is no address%s", setting, example)
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return nil, fmt.Errorf("%s: has no http scheme or no host%s", setting, example)
	case u.User != nil:
		return nil, fmt.Errorf("%s: holds a user or password; put them under auth%s", setting, example)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("%s: has a query or fragment%s", setting, example)
	case u.Scheme == "http" && !isLoopbackHost(u.Hostname()):
		return nil, fmt.Errorf("%s: plain http would send the credentials readable over the network%s", setting, example)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = strings.TrimRight(u.RawPath, "/")
	return u, nil
}

func isLoopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

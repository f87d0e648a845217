package connectors

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/agnivade/levenshtein"

	"liaison/connectors/account"
)

// Config is what every connector is made from. It says nothing about one vendor: what only one vendor knows stands in
// Settings, under names that the vendor's connector lists.
type Config struct {
	Key  string // the system's name in the settings file, such as "btls-servicenow"; names it in errors
	URL  string // the vendor's address: https, or http on loopback; no user, no query
	Auth Credentials

	// Settings are the connector's own. An unknown name is an error of the connector's New.
	Settings map[string]string

	// PollOverlap is how far each pull of changes reaches back before the newest change known, because a vendor's
	// row can become visible after rows with later stamps. 0: the connector's default.
	PollOverlap time.Duration
	// SettleWindow replaces Traits.SettleWindow. 0: the connector's own.
	SettleWindow time.Duration

	// Accounts is where systems that call the same vendor as the same user or client meet. Together they keep to the lowest
	// Timeout, Concurrency and Rate that one of them names, to one pause that the vendor asked for, and to one circuit
	// breaker. nil: the system shares nothing.
	Accounts    *account.Registry
	Timeout     time.Duration // of one attempt at one call; 0: 30 s
	Concurrency int           // calls at a time; 0: 4
	Rate        float64       // calls a second; 0: no limit

	Transport http.RoundTripper // for tests; nil: a guarded transport of the client's own
	Now       func() time.Time  // nil: time.Now
}

// Credentials are how the hub signs in at a vendor: exactly one field is set.
type Credentials struct {
	Basic  *Basic
	OAuth2 *OAuth2
	Token  Secret // a lasting token or API key; the connector knows the header that carries it
}

// Basic is a user and a password sent with every call (RFC 7617).
type Basic struct {
	User     string
	Password Secret
}

// Grant is the way in which an OAuth 2 access token is obtained.
type Grant string

// The grants (RFC 6749, sections 4.3 and 4.4).
const (
	GrantPassword          Grant = "password"           // needs User and Password
	GrantClientCredentials Grant = "client_credentials" // takes neither
)

// OAuth2 obtains access tokens from TokenURL.
type OAuth2 struct {
	TokenURL     string // https, or http on loopback
	Grant        Grant
	ClientID     string
	ClientSecret Secret
	User         string
	Password     Secret
	Scopes       []string
}

// Secret is a password, token or key. Only Reveal gives it; however it is printed, logged or marshalled, it is
// "[redacted]". The zero Secret is unset.
type Secret struct {
	// A pointer, because fmt prints unexported fields without asking their methods, but not what they point at.
	value *string
}

const redacted = "[redacted]"

// NewSecret returns a secret of that value. An empty value gives the zero Secret.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{&value}
}

// IsZero reports whether the secret is unset.
func (s Secret) IsZero() bool { return s.value == nil }

// Reveal returns the secret itself, empty when it is unset.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return redacted
}

// GoString keeps the secret out of %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalText keeps the secret out of JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue keeps the secret out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Setting describes one name in Config.Settings. A name that ends in ".*" stands for every name that begins so.
type Setting struct {
	Name    string
	Default string
	Doc     string
}

// ReadSettings returns the settings with the defaults of those that were not given. An unknown name is an error that
// names the nearest known one.
func ReadSettings(given map[string]string, known []Setting) (map[string]string, error) {
	all := make(map[string]string, len(known)+len(given))
	names := make([]string, 0, len(known))
	for _, s := range known {
		names = append(names, s.Name)
		if !strings.HasSuffix(s.Name, ".*") {
			all[s.Name] = s.Default
		}
	}
	for name, value := range given {
		if !slices.ContainsFunc(names, func(k string) bool { return settingMatches(k, name) }) {
			return nil, fmt.Errorf("settings.%s: unknown setting%s", name, nearest(name, names))
		}
		all[name] = value
	}
	return all, nil
}

func settingMatches(known, name string) bool {
	prefix, family := strings.CutSuffix(known, "*")
	if family {
		return len(name) > len(prefix) && strings.HasPrefix(name, prefix)
	}
	return known == name
}

// nearest is the remedy for a misspelt name: the one that was probably meant, or all there are.
func nearest(name string, names []string) string {
	if len(names) == 0 {
		return "; this connector has none"
	}
	best := slices.MinFunc(names, func(a, b string) int {
		return levenshtein.ComputeDistance(a, name) - levenshtein.ComputeDistance(b, name)
	})
	if levenshtein.ComputeDistance(best, name) <= max(2, len(name)/3) {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return "; known are " + strings.Join(names, ", ")
}

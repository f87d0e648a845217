package config

import "time"

// Config is every setting of a hub. Its shape is that of the settings file; Describe tells what each field means.
type Config struct {
	Addr          string         `yaml:"addr"`
	AllowRemote   bool           `yaml:"allow_remote"`
	PublicURL     string         `yaml:"public_url"`
	DataDir       string         `yaml:"data_dir"`
	DrainTimeout  time.Duration  `yaml:"drain_timeout"`
	Database      Database       `yaml:"database"`
	Log           Log            `yaml:"log"`
	Telemetry     Telemetry      `yaml:"telemetry"`
	Limits        Limits         `yaml:"limits"`
	Inbox         Inbox          `yaml:"inbox"`
	Ledger        Ledger         `yaml:"ledger"`
	Reconcile     Reconcile      `yaml:"reconcile"`
	Desks         []Desk         `yaml:"desks"`
	Organisations []Organisation `yaml:"organisations"`
	Systems       []System       `yaml:"systems"`
	Tokens        []Token        `yaml:"tokens"`
}

// Database says which Postgres to use and how many connections each role may hold.
type Database struct {
	URL               Secret `yaml:"url"` // unset: an embedded server in DataDir
	AppConnections    int    `yaml:"app_connections"`
	SystemConnections int    `yaml:"system_connections"`
}

// LogFormat is the shape of a log line.
type LogFormat string

// The log formats.
const (
	LogText LogFormat = "text" // key=value, for people
	LogJSON LogFormat = "json" // one object a line, for collectors
)

// Log says what is logged and how.
type Log struct {
	Level  string    `yaml:"level"` // debug, info, warn or error
	Format LogFormat `yaml:"format"`
}

// Telemetry says where traces go.
type Telemetry struct {
	OTLPEndpoint string `yaml:"otlp_endpoint"` // empty: tracing is off
}

// Limits bounds what one request or one value may bring. Bytes are those of the UTF-8 form, chars are code points.
type Limits struct {
	TitleChars       int `yaml:"title_chars"`
	DescriptionBytes int `yaml:"description_bytes"`
	CommentBytes     int `yaml:"comment_bytes"`
	BodyBytes        int `yaml:"body_bytes"`
	WebhookBytes     int `yaml:"webhook_bytes"`
	QueryTokens      int `yaml:"query_tokens"`
}

// Inbox says how long what vendors sent is kept. Rows that wait or are parked are kept whatever their age.
type Inbox struct {
	BodyDays int `yaml:"body_days"`
	RowDays  int `yaml:"row_days"`
}

// Ledger says how long entries are kept where they are. 0 days: for good.
type Ledger struct {
	FeedDays    int `yaml:"feed_days"`
	EntryDays   int `yaml:"entry_days"`
	ArchiveDays int `yaml:"archive_days"`
}

// Reconcile is the nightly comparison of every link with its vendor's ticket.
type Reconcile struct {
	At                string `yaml:"at"` // HH:MM by the machine's clock and zone; empty: never
	Requests          int    `yaml:"requests"`
	RequestsPerMinute int    `yaml:"requests_per_minute"`
	Mend              bool   `yaml:"mend"`
}

// Desk is a support provider that serves organisations.
type Desk struct {
	Key  string `yaml:"key"`
	Name string `yaml:"name"`
}

// Organisation is a tenant: a school, a faculty, a customer.
type Organisation struct {
	Key  string `yaml:"key"`
	Name string `yaml:"name"`
	Desk string `yaml:"desk"` // key of the desk that serves it
}

// System is a configured external ticket system.
type System struct {
	Key           string            `yaml:"key"`
	Name          string            `yaml:"name"`
	Connector     string            `yaml:"connector"`     // the code that speaks to it, such as servicenow
	Desk          string            `yaml:"desk"`          // key of the desk that owns it
	Organisations []string          `yaml:"organisations"` // keys; empty: all of the desk. See Config.OrganisationsOf
	URL           string            `yaml:"url"`
	Auth          Auth              `yaml:"auth"`
	Webhook       Webhook           `yaml:"webhook"`
	Poll          Poll              `yaml:"poll"`
	SettleWindow  time.Duration     `yaml:"settle_window"` // 0: the connector's own
	Timeout       time.Duration     `yaml:"timeout"`
	Concurrency   int               `yaml:"concurrency"`
	Rate          float64           `yaml:"rate"`          // requests a second; 0: no limit
	SilenceAfter  time.Duration     `yaml:"silence_after"` // no news for this long is an alarm; 0: never
	Mapping       string            `yaml:"mapping"`       // absolute after Load; empty: the connector's default only
	Settings      map[string]string `yaml:"settings"`      // the connector's own
}

// Auth is how the hub signs in at a system: exactly one of its fields is set.
type Auth struct {
	Basic  *Basic  `yaml:"basic"`
	OAuth2 *OAuth2 `yaml:"oauth2"`
	Token  Secret  `yaml:"token"`
}

// Basic is a user and password sent with every request (RFC 7617).
type Basic struct {
	User     string `yaml:"user"`
	Password Secret `yaml:"password"`
}

// Grant is the way an OAuth 2 access token is obtained.
type Grant string

// The grants (RFC 6749, sections 4.3 and 4.4).
const (
	GrantPassword          Grant = "password"           // needs User and Password
	GrantClientCredentials Grant = "client_credentials" // takes neither
)

// OAuth2 obtains access tokens from TokenURL.
type OAuth2 struct {
	TokenURL     string   `yaml:"token_url"`
	Grant        Grant    `yaml:"grant"`
	ClientID     string   `yaml:"client_id"`
	ClientSecret Secret   `yaml:"client_secret"`
	User         string   `yaml:"user"`
	Password     Secret   `yaml:"password"`
	Scopes       []string `yaml:"scopes"`
}

// Signature is how a webhook proves where it comes from.
type Signature string

// The signatures.
const (
	SignatureNone       Signature = "none"        // the header carries the secret itself
	SignatureHMACSHA256 Signature = "hmac-sha256" // the header carries the HMAC-SHA256 of the body in hex, with or without "sha256=" before it
)

// Webhook is how a system calls the hub. It is off while Secret is unset.
type Webhook struct {
	Secret          Secret    `yaml:"secret"`
	PreviousSecret  Secret    `yaml:"previous_secret"` // accepted as well while the vendor changes to a new one
	Header          string    `yaml:"header"`
	Signature       Signature `yaml:"signature"`
	TimestampHeader string    `yaml:"timestamp_header"` // empty: calls carry no signed time
	IDHeader        string    `yaml:"id_header"`        // the vendor's own id of a call, by which repeats are known
}

// Poll is how the hub asks a system for what changed.
type Poll struct {
	Interval time.Duration `yaml:"interval"` // 0: never
	Overlap  time.Duration `yaml:"overlap"`  // how far each pull reaches back before the last one's newest change
}

// Role is what a signed-in person may do.
type Role string

// The roles.
const (
	RoleRequester Role = "requester" // reports and follows incidents of an organisation
	RoleAgent     Role = "agent"     // works on incidents of a desk's organisations
	RoleAdmin     Role = "admin"     // sees and mends the sync
)

// Token is a static sign-in: whoever presents the bearer token is this person.
type Token struct {
	Token        Secret `yaml:"token"`
	Name         string `yaml:"name"`
	Email        string `yaml:"email"`
	Phone        string `yaml:"phone"`
	Organisation string `yaml:"organisation"` // key, for requesters
	Desk         string `yaml:"desk"`         // key, for agents
	Roles        []Role `yaml:"roles"`
}

// Default returns the settings of an empty file, except DataDir, which Load fills from the user's folders. The elements
// of lists start empty, those of systems from DefaultSystem.
func Default() *Config {
	return &Config{
		Addr:         "127.0.0.1:8080",
		DrainTimeout: 20 * time.Second,
		Database:     Database{AppConnections: 20, SystemConnections: 20},
		Log:          Log{Level: "info", Format: LogText},
		Limits: Limits{
			// ServiceNow cuts short_description at 160 characters in silence, so a longer title could not be kept equal.
			TitleChars:       160,
			DescriptionBytes: 32_000,
			CommentBytes:     32_000,
			BodyBytes:        1 << 20,
			WebhookBytes:     1 << 20,
			// Validation is quadratic in the document's size; 2,000 tokens stayed below 0.4 s.
			QueryTokens: 2_000,
		},
		Inbox:     Inbox{BodyDays: 30, RowDays: 400},
		Ledger:    Ledger{FeedDays: 30},
		Reconcile: Reconcile{At: "02:30", Requests: 20_000, RequestsPerMinute: 120},
	}
}

// DefaultSystem returns what a system has unless its settings say otherwise.
func DefaultSystem() System {
	return System{
		Webhook:     Webhook{Header: "X-Liaison-Webhook", Signature: SignatureNone, IDHeader: "webhook-id"},
		Poll:        Poll{Interval: 30 * time.Second, Overlap: 2 * time.Minute},
		Timeout:     30 * time.Second,
		Concurrency: 4,
		// A weekend and a bank holiday are no reason to wake anybody.
		SilenceAfter: 96 * time.Hour,
	}
}

// OrganisationsOf returns the keys of the organisations that may use s, in the order of the settings: those it names, or
// all of its desk when it names none.
func (c *Config) OrganisationsOf(s System) []string {
	if len(s.Organisations) > 0 {
		return s.Organisations
	}
	var keys []string
	for _, o := range c.Organisations {
		if o.Desk == s.Desk {
			keys = append(keys, o.Key)
		}
	}
	return keys
}

package servicenowtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Defaults of a Config whose fields are left at their zero value.
const (
	DefaultUser          = "sim"
	DefaultPassword      = "sim"
	DefaultClientID      = "sim"
	DefaultClientSecret  = "sim"
	DefaultAgent         = "abel.tuter"
	DefaultAccessTTL     = 30 * time.Minute     // 1,800 s, the vendor's default
	DefaultRefreshTTL    = 100 * 24 * time.Hour // 8,640,000 s, the vendor's default
	DefaultDateFormat    = "yyyy-MM-dd HH:mm:ss"
	DefaultMaxURL        = 8192
	DefaultMaxAttachment = 1 << 30 // 1024 MB, com.glide.attachment.max_size
	DefaultImportSet     = "u_incident_import"
)

// Config says what instance to play. The zero value is a usable one: user sim with password sim, OAuth client sim with
// secret sim, everything in memory, no incidents.
type Config struct {
	// Users may sign in. Default: sim/sim (an agent) and admin/admin (an administrator).
	Users []User
	// ClientID and ClientSecret are the OAuth application registered. Default: sim and sim.
	ClientID, ClientSecret string
	// OAuthUser is the login that client_credentials tokens act as. Default: the first of Users.
	OAuthUser string
	// AccessTTL and RefreshTTL are the lifetimes of OAuth tokens. Default: 30 minutes and 100 days.
	AccessTTL, RefreshTTL time.Duration
	// PasswordGrantOff refuses the password grant, as glide.oauth.inbound.ropc.grant_type.disabled does.
	PasswordGrantOff bool

	// Now is the instance's clock. Default: time.Now. Delays of faults use real time.
	Now func() time.Time
	// Dir keeps the tables and attachments. Empty: in memory. Only one Server at a time may use a directory.
	Dir string
	// BaseURL is the address written into links, e.g. "https://example.service-now.com". Default: the request's host.
	BaseURL string
	// Zone and DateFormat are the system's display zone and format (the letters y M d H h m s a). They rule display
	// values of users without their own. Default: UTC and yyyy-MM-dd HH:mm:ss.
	Zone       *time.Location
	DateFormat string
	// Agent is the login of the human who acts through the control door. Default: abel.tuter.
	Agent string
	// Webhook is called on each change of an incident. Default: none.
	Webhook Webhook
	// Seed drives the rates of faults. 0 draws one; see Server.Seed.
	Seed uint64
	// SeedIncidents is the number of incidents that a new instance starts with; they share one sys_updated_on.
	SeedIncidents int
	// Columns are customer columns of the incident table, such as u_site. Unknown columns are ignored in writes.
	Columns []string
	// ImportSets are the staging tables of the Import Set API. Default: u_incident_import, coalescing on
	// correlation_id.
	ImportSets []ImportSet
	// MaxURL is the longest request URI in bytes; longer ones get an HTML page with 414. Default: 8192.
	MaxURL int
	// MaxAttachment is the largest attachment in bytes. Default: 1 GiB.
	MaxAttachment int64
	// AttachmentExtensions, if any, are the file extensions accepted, without the dot.
	AttachmentExtensions []string

	Switches
}

// User is an account that may sign in. A row of sys_user is made for it when there is none.
type User struct {
	Name       string // login, the value of sys_updated_by
	Password   string
	APIKey     string         // for the x-sn-apikey header; empty: none
	FullName   string         // display name; default: made from Name
	Admin      bool           // may change closed records and see hidden rows, columns and journals
	Roles      []string       // for rate limit rules; admin is added for Admin
	Zone       *time.Location // default: Config.Zone
	DateFormat string         // default: Config.DateFormat
}

// Webhook is the outgoing call that a customer's business rule makes on a change of an incident: a POST of a flat JSON
// object, at most once, in no guaranteed order.
type Webhook struct {
	URL    string `json:"url"`    // empty: no calls
	Header string `json:"header"` // name of the header that carries Secret; default X-Webhook-Secret
	Secret string `json:"secret"` // empty: no header
	// Fields maps a key of the body to an incident column. Default: the columns that a receiver needs to read the
	// record back (sys_id, number, state, ...). "comments" and "work_notes" give the text written in this change.
	// The keys table and operation (insert, update, delete) are always there.
	Fields map[string]string `json:"fields,omitempty"`
	// Timeout bounds one call. Default: 5 s.
	Timeout time.Duration `json:"-"`
}

// ImportSet is a staging table and its transform into incident.
type ImportSet struct {
	Name     string // e.g. u_incident_import
	Coalesce string // the incident column that decides update or insert; empty: always insert
}

// BadQuery says what a condition on an unknown or unreadable column does.
type BadQuery string

// The ways of an instance with an invalid condition (section 6, trap 1).
const (
	BadQueryIgnore BadQuery = "ignore" // the condition is dropped, the rest runs; the default
	BadQueryNone   BadQuery = "none"   // no rows, as with glide.invalid_query.returns_no_rows=true
	BadQueryRefuse BadQuery = "refuse" // 403 Insufficient rights to query records
)

// Closed says what a write to a closed or cancelled incident does for a user who is not an administrator.
type Closed string

// The ways of an instance with writes to closed records.
const (
	ClosedRefuse Closed = "refuse" // 403 by a business rule; the default
	ClosedDrop   Closed = "drop"   // 200 with the stored values
	ClosedAllow  Closed = "allow"  // fields and journals may change, the state may not
)

// Rule is a customer's business rule on incident.
type Rule struct {
	Name  string `json:"name"`
	When  string `json:"when"`            // encoded query that the new record must match; empty: always
	Field string `json:"field,omitempty"` // of a reset rule: the column put back
}

// RateLimit is a row of sys_rate_limit_rules: requests per hour and user.
type RateLimit struct {
	Name     string `json:"name"`
	PerHour  int    `json:"per_hour"`
	Resource string `json:"resource,omitempty"` // "Table API", "Attachment API", ...; empty: every one
	User     string `json:"user,omitempty"`     // a login; beats rules by role
	Role     string `json:"role,omitempty"`     // beats rules for everyone; of several the lowest wins
}

// Switches are the settings in which instances differ. The zero value is the safe base system. They can be changed
// while the server runs.
type Switches struct {
	BadQuery BadQuery `json:"bad_query,omitempty"`
	Closed   Closed   `json:"closed,omitempty"`
	// Language of labels, "en" (default) or "de"; sys_choice holds both.
	Language string `json:"language,omitempty"`
	// LegacyStates plays an upgraded instance: 2 Active, 3 Awaiting Problem, 4 Awaiting User Info, 5 Awaiting Evidence.
	LegacyStates bool `json:"legacy_states,omitempty"`
	// NoDataPolicy lets an incident be resolved without close_code and close_notes.
	NoDataPolicy bool `json:"no_data_policy,omitempty"`
	// RequireCaller, RequireHoldReason and RequireHoldComment add data policies: caller_id always, hold_reason when on
	// hold, comments when going on hold awaiting the caller.
	RequireCaller      bool `json:"require_caller,omitempty"`
	RequireHoldReason  bool `json:"require_hold_reason,omitempty"`
	RequireHoldComment bool `json:"require_hold_comment,omitempty"`
	// AbortRules refuse a write with 403; ResetRules put a field's old value back and answer 200.
	AbortRules []Rule `json:"abort_rules,omitempty"`
	ResetRules []Rule `json:"reset_rules,omitempty"`
	// ClearNonMembers empties assigned_to when the user is not in the assignment group.
	ClearNonMembers bool `json:"clear_non_members,omitempty"`
	// HiddenColumns ("table.column") are left out of answers and cannot be queried; ReadOnlyColumns are dropped from
	// writes with 200; HiddenRows (an encoded query on incident) are taken out after the limit, so pages come short.
	// None of them binds administrators.
	HiddenColumns   []string `json:"hidden_columns,omitempty"`
	ReadOnlyColumns []string `json:"read_only_columns,omitempty"`
	HiddenRows      string   `json:"hidden_rows,omitempty"`
	// JournalDenied gives users other than administrators zero rows of sys_journal_field, with 200.
	JournalDenied bool `json:"journal_denied,omitempty"`
	// JournalName is the name column of journal entries. Default: incident; seen as task on some instances.
	JournalName string `json:"journal_name,omitempty"`
	// NoTotalCount leaves X-Total-Count out. UnstableOrder shuffles rows that ORDERBY does not order.
	NoTotalCount  bool `json:"no_total_count,omitempty"`
	UnstableOrder bool `json:"unstable_order,omitempty"`
	// StrictHeaders answers 400 when Accept or Content-Type is missing, as the documents say.
	StrictHeaders bool `json:"strict_headers,omitempty"`
	// RateLimits are the instance's rate limit rules. Default: none, and no rate headers.
	RateLimits []RateLimit `json:"rate_limits,omitempty"`
	// Slots is the number of requests served at once; more get 429. 0: no bound.
	Slots int `json:"slots,omitempty"`
	// AutoClose moves incidents from resolved to closed this long after resolved_at. 0: never.
	AutoClose time.Duration `json:"-"`
	// SearchLag hides rows from list queries for this long after their insert, as a read replica does.
	SearchLag time.Duration `json:"-"`
	// ScanDelay keeps an attachment's state at pending, and its bytes refused, for this long.
	ScanDelay time.Duration `json:"-"`
	// SplitWebhooks sends the journal and the fields of one save as two calls.
	SplitWebhooks bool `json:"split_webhooks,omitempty"`
}

type plainSwitches Switches

type jsonSwitches struct {
	*plainSwitches
	AutoClose jsonDuration `json:"auto_close,omitempty"`
	SearchLag jsonDuration `json:"search_lag,omitempty"`
	ScanDelay jsonDuration `json:"scan_delay,omitempty"`
}

// MarshalJSON writes durations as text, e.g. "10s".
func (s Switches) MarshalJSON() ([]byte, error) {
	plain := plainSwitches(s)
	return json.Marshal(jsonSwitches{&plain, jsonDuration(s.AutoClose), jsonDuration(s.SearchLag), jsonDuration(s.ScanDelay)})
}

// UnmarshalJSON reads what MarshalJSON writes and refuses unknown names.
func (s *Switches) UnmarshalJSON(data []byte) error {
	var in jsonSwitches
	in.plainSwitches = new(plainSwitches)
	if err := strictDecode(data, &in); err != nil {
		return err
	}
	*s = Switches(*in.plainSwitches)
	s.AutoClose, s.SearchLag, s.ScanDelay = time.Duration(in.AutoClose), time.Duration(in.SearchLag), time.Duration(in.ScanDelay)
	return nil
}

// jsonDuration is a duration written as Go writes it ("1.5s").
type jsonDuration time.Duration

func (d jsonDuration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *jsonDuration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: write a number and a unit, e.g. \"1.5s\"", text)
	}
	*d = jsonDuration(v)
	return nil
}

var customColumn = regexp.MustCompile(`^[ux]_[a-z0-9_]+$`)

// withDefaults fills in the defaults and checks the whole configuration, naming every fault found.
func (c Config) withDefaults() (Config, error) {
	setDefault(&c.ClientID, DefaultClientID)
	setDefault(&c.ClientSecret, DefaultClientSecret)
	setDefault(&c.AccessTTL, DefaultAccessTTL)
	setDefault(&c.RefreshTTL, DefaultRefreshTTL)
	setDefault(&c.DateFormat, DefaultDateFormat)
	setDefault(&c.Agent, DefaultAgent)
	setDefault(&c.MaxURL, DefaultMaxURL)
	setDefault(&c.MaxAttachment, DefaultMaxAttachment)
	setDefault(&c.Zone, time.UTC)
	if c.Now == nil {
		c.Now = time.Now
	}
	if len(c.Users) == 0 {
		c.Users = []User{
			{Name: DefaultUser, Password: DefaultPassword, FullName: "Web Service", Roles: []string{"itil"}},
			{Name: "admin", Password: "admin", FullName: "System Administrator", Admin: true},
		}
	}
	setDefault(&c.OAuthUser, c.Users[0].Name)
	if len(c.ImportSets) == 0 {
		c.ImportSets = []ImportSet{{Name: DefaultImportSet, Coalesce: "correlation_id"}}
	}
	return c, c.check()
}

func (c Config) check() error {
	var errs []error
	for i, u := range c.Users {
		if u.Name == "" {
			errs = append(errs, fmt.Errorf("Users[%d].Name is empty: give the login", i))
		}
		if slices.ContainsFunc(c.Users[:i], func(o User) bool { return o.Name == u.Name }) {
			errs = append(errs, fmt.Errorf("Users[%d].Name %q is given twice", i, u.Name))
		}
	}
	if !slices.ContainsFunc(c.Users, func(u User) bool { return u.Name == c.OAuthUser }) {
		errs = append(errs, fmt.Errorf("OAuthUser %q is not among Users", c.OAuthUser))
	}
	for i, name := range c.Columns {
		if !customColumn.MatchString(name) {
			errs = append(errs, fmt.Errorf("Columns[%d] %q: a customer column starts with u_ or x_, e.g. u_site", i, name))
		}
	}
	if _, err := dateLayout(c.DateFormat); err != nil {
		errs = append(errs, fmt.Errorf("DateFormat: %w", err))
	}
	for i, u := range c.Users {
		if _, err := dateLayout(u.DateFormat); err != nil {
			errs = append(errs, fmt.Errorf("Users[%d].DateFormat: %w", i, err))
		}
	}
	return errors.Join(append(errs, c.Webhook.check(), c.Switches.check())...)
}

func (w Webhook) check() error {
	if w.URL == "" {
		return nil
	}
	u, err := url.Parse(w.URL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("webhook url %q: give an absolute address, e.g. http://127.0.0.1:8080/hooks/servicenow", w.URL)
	}
	if strings.ContainsAny(w.Header+w.Secret, "\r\n\x00") || strings.ContainsAny(w.Header, " :") {
		return errors.New("webhook header and secret: must fit on one header line, e.g. X-Webhook-Secret and letters")
	}
	return nil
}

func (s Switches) check() error {
	var errs []error
	if !slices.Contains([]BadQuery{"", BadQueryIgnore, BadQueryNone, BadQueryRefuse}, s.BadQuery) {
		errs = append(errs, fmt.Errorf("bad_query %q: use ignore, none or refuse", s.BadQuery))
	}
	if !slices.Contains([]Closed{"", ClosedRefuse, ClosedDrop, ClosedAllow}, s.Closed) {
		errs = append(errs, fmt.Errorf("closed %q: use refuse, drop or allow", s.Closed))
	}
	if !slices.Contains([]string{"", "en", "de"}, s.Language) {
		errs = append(errs, fmt.Errorf("language %q: use en or de", s.Language))
	}
	for i, l := range s.RateLimits {
		if l.PerHour < 1 {
			errs = append(errs, fmt.Errorf("rate_limits[%d].per_hour %d: at least 1", i, l.PerHour))
		}
	}
	return errors.Join(errs...)
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// dateLayout turns the platform's date pattern into Go's.
func dateLayout(pattern string) (string, error) {
	layout := strings.NewReplacer("yyyy", "2006", "MM", "01", "dd", "02", "HH", "15", "hh", "03", "mm", "04", "ss", "05",
		"a", "PM").Replace(pattern)
	if strings.ContainsAny(layout, "yMdHhms") {
		return "", fmt.Errorf("%q: use yyyy MM dd HH hh mm ss a, e.g. dd/MM/yyyy HH:mm:ss", pattern)
	}
	return layout, nil
}

package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Setting describes one setting for people: the README's table and the command line's schema are made of it.
type Setting struct {
	Path    string   // such as systems[].poll.interval; [] stands for each item of a list
	Type    string   // text, a whole number, a number, true or false, a duration, a secret, a list of text, names with text
	Default string   // as written in the file; empty: none
	Env     string   // variable that overrides it; empty: the file only
	Allowed []string // the words it may hold; empty: any
	Example string   // as written in the file
	Doc     string   // one or two sentences

	// Numbers and durations (in nanoseconds) lie from min to max; zero, if set, says what 0 means beside that.
	min, max float64
	zero     string
}

const (
	second = float64(time.Second)
	hour   = float64(time.Hour)
)

// manual is the part of each Setting that cannot be read off the types and defaults.
var manual = map[string]Setting{
	"addr":         {Example: "127.0.0.1:8080", Doc: "Address and port to listen on. It must be a loopback address unless allow_remote is true; port 0 takes any free one."},
	"allow_remote": {Example: "true", Doc: "Allows addr to be reachable from other machines. Put a TLS proxy in front: the hub itself speaks plain HTTP."},
	"public_url":   {Example: "https://liaison.example.org", Doc: "Where people reach the hub, for the examples on its front page. Empty: the address that the request named."},
	"data_dir":     {Default: "/var/lib/liaison as root, else $XDG_DATA_HOME/liaison or ~/.local/share/liaison", Example: "/var/lib/liaison", Doc: "Folder of the embedded Postgres. Postgres's own user must be able to enter it."},

	"drain_timeout": {Example: "20s", min: second, max: 600 * second, Doc: "How long a hub that is told to stop lets calls to systems that are under way come to their end. A second signal ends it at once."},

	"database.url":                {Example: "{env: DATABASE_URL}", Doc: "The Postgres (14 or newer) to use. Unset: an embedded one in data_dir. The variable holds the address itself, not a reference."},
	"database.app_connections":    {Example: "20", min: 1, max: 1000, Doc: "Most connections for requests, which see only what their viewer may."},
	"database.system_connections": {Example: "20", min: 2, max: 1000, Doc: "Most connections for the sync and other work of the hub's own."},

	"log.level":  {Example: "debug", Allowed: []string{"debug", "info", "warn", "error"}, Doc: "The least severe level that is logged."},
	"log.format": {Example: "json", Allowed: []string{string(LogText), string(LogJSON)}, Doc: "text is for people, json for log collectors."},

	"telemetry.otlp_endpoint": {Example: "http://127.0.0.1:4318", Doc: "OpenTelemetry collector (OTLP over HTTP) that traces are sent to. Empty: tracing is off. OTEL_EXPORTER_OTLP_ENDPOINT is honoured too."},

	"limits.title_chars":       {Example: "160", min: 10, max: 1000, Doc: "Longest title of an incident, in characters. ServiceNow cuts at 160."},
	"limits.description_bytes": {Example: "32000", min: 100, max: 1 << 20, Doc: "Longest description of an incident, in bytes."},
	"limits.comment_bytes":     {Example: "32000", min: 100, max: 1 << 20, Doc: "Longest comment, in bytes."},
	"limits.body_bytes":        {Example: "1048576", min: 4096, max: 64 << 20, Doc: "Largest body of a GraphQL request, in bytes."},
	"limits.webhook_bytes":     {Example: "1048576", min: 1024, max: 64 << 20, Doc: "Largest body of a webhook call, in bytes."},
	"limits.query_tokens":      {Example: "2000", min: 100, max: 20_000, Doc: "Most lexical tokens of a GraphQL document. The time to validate one grows with the square of it."},

	"inbox.body_days":     {Example: "30", min: 7, max: 3650, Doc: "Days for which bodies of webhooks are kept. Those of rows that wait or are parked stay until they are settled."},
	"ledger.feed_days":    {Example: "30", max: 36500, Doc: "Days for which a subscriber may come back with a cursor. Older ones are answered CURSOR_EXPIRED. 0: any time."},
	"ledger.entry_days":   {Example: "730", max: 36500, Doc: "Days after which the entries of a closed incident that nobody has touched are put away into the archive, behind a checkpoint. Its history still shows them, the ledger across incidents does not. 0: never. Needs ledger.feed_days, which must not be larger."},
	"ledger.archive_days": {Example: "3650", max: 36500, Doc: "Days after which whole months of the archive are dropped. What incidents came to stays in their checkpoints. 0: never."},
	"inbox.row_days":      {Example: "400", min: 30, max: 36500, Doc: "Days for which the inbox's rows are kept. They go by whole months; rows that wait or are parked stay."},

	"reconcile.at":                  {Example: "02:30", Doc: "When, by the machine's clock and zone, every link is compared with its vendor's ticket each night. Empty: never; liaison sync reconcile does it by hand."},
	"reconcile.requests":            {Example: "20000", min: 1, max: 10_000_000, Doc: "Most requests to one system in one night. What is left is compared in the next."},
	"reconcile.requests_per_minute": {Example: "120", min: 1, max: 60_000, Doc: "Most requests of the comparison to one system a minute, within the account's own limits."},
	"reconcile.mend":                {Example: "true", Doc: "Whether the nightly comparison mends what it finds by the mapping's policies. Otherwise it only tells."},

	"desks[].key":  {Example: "btls", Doc: "The desk's name in settings and in the API; never changes. Keys have small letters, digits and dashes, and begin with a letter."},
	"desks[].name": {Example: "BTLS service desk", Doc: "The desk's name for people."},

	"organisations[].key":  {Example: "north-school", Doc: "The organisation's name in settings and in the API; never changes."},
	"organisations[].name": {Example: "North School", Doc: "The organisation's name for people."},
	"organisations[].desk": {Example: "btls", Doc: "Key of the desk that serves it."},

	"systems[].key":           {Example: "btls-servicenow", Doc: "The system's name in settings, in escalateIncident and in /hooks/{key}; never changes."},
	"systems[].name":          {Example: "BTLS ServiceNow", Doc: "The system's name for people."},
	"systems[].connector":     {Example: "servicenow", Doc: "The connector that speaks to it."},
	"systems[].desk":          {Example: "btls", Doc: "Key of the desk that owns it."},
	"systems[].organisations": {Example: "[north-school]", Doc: "Keys of the organisations that may use it, all of the same desk. Empty: all of the desk."},
	"systems[].url":           {Example: "https://example.service-now.com", Doc: "Its address, without user, password or query."},

	"systems[].auth.basic.user":           {Example: "liaison", Doc: "User of HTTP Basic sign-in. A system has exactly one of auth.basic, auth.oauth2 and auth.token."},
	"systems[].auth.basic.password":       {Example: "{env: SERVICENOW_PASSWORD}", Doc: "Password of HTTP Basic sign-in."},
	"systems[].auth.oauth2.token_url":     {Example: "https://example.service-now.com/oauth_token.do", Doc: "Where access tokens are obtained."},
	"systems[].auth.oauth2.grant":         {Example: "client_credentials", Allowed: []string{string(GrantPassword), string(GrantClientCredentials)}, Doc: "How access tokens are obtained."},
	"systems[].auth.oauth2.client_id":     {Example: "0123456789abcdef", Doc: "The client's id."},
	"systems[].auth.oauth2.client_secret": {Example: "{file: /run/secrets/servicenow-client}", Doc: "The client's secret."},
	"systems[].auth.oauth2.user":          {Example: "liaison", Doc: "User, with the password grant only."},
	"systems[].auth.oauth2.password":      {Example: "{env: SERVICENOW_PASSWORD}", Doc: "Password, with the password grant only."},
	"systems[].auth.oauth2.scopes":        {Example: "[useraccount]", Doc: "Scopes to ask for. Empty: the server's choice."},
	"systems[].auth.token":                {Example: "{file: /run/secrets/rt-token}", Doc: "A static token; the connector knows which header it goes in."},

	"systems[].webhook.secret":           {Example: "{env: SERVICENOW_WEBHOOK_SECRET}", Doc: "Secret that the system's calls to /hooks/{key} prove. Unset: its calls are refused."},
	"systems[].webhook.previous_secret":  {Example: "{env: SERVICENOW_WEBHOOK_SECRET_OLD}", Doc: "Accepted beside webhook.secret while the system is being changed from this one to that."},
	"systems[].webhook.timestamp_header": {Example: "webhook-timestamp", Doc: "Request header that carries when the call was made, in Unix seconds. The signature is then that of this value, a full stop and the body, and calls more than 5m from the hub's clock are refused. Empty: none. It needs signature: hmac-sha256."},
	"systems[].webhook.id_header":        {Example: "webhook-id", Doc: "Request header that carries the system's own id of the call, by which repeats are known for 14 days. Calls without it are compared by their content."},
	"systems[].webhook.header":           {Example: "X-Liaison-Webhook", Doc: "Request header that carries the secret or the signature."},
	"systems[].webhook.signature":        {Example: "hmac-sha256", Allowed: []string{string(SignatureNone), string(SignatureHMACSHA256)}, Doc: "none: the header carries the secret itself. hmac-sha256: it carries the HMAC-SHA256 of the body in hex."},
	"systems[].poll.interval":            {Example: "30s", min: second, max: 24 * hour, zero: "never", Doc: "Pause between asking the system for changes. At least 1s; 0: never."},
	"systems[].poll.overlap":             {Example: "2m", min: 0, max: 24 * hour, Doc: "How far each pull reaches back before the newest change of the last, for changes that became visible late."},
	"systems[].settle_window":            {Example: "5m", min: second, max: 7 * 24 * hour, zero: "the connector's default", Doc: "How long a create whose answer was lost may still appear at the vendor before it is sent again. 0: the connector's default."},
	"systems[].timeout":                  {Example: "30s", min: second / 10, max: 600 * second, Doc: "Longest time of one call to the system."},
	"systems[].concurrency":              {Example: "4", min: 1, max: 256, Doc: "Most calls to the system at once."},
	"systems[].rate":                     {Example: "2.5", min: 0.001, max: 10_000, zero: "no limit", Doc: "Most calls to the system a second. 0: no limit."},
	"systems[].silence_after":            {Example: "24h", min: second, max: 365 * 24 * hour, zero: "never", Doc: "No news from the system for this long is an alarm, while tickets are followed there. 0: never."},
	"systems[].mapping":                  {Example: "mappings/btls.yaml", Doc: "Mapping file laid over the connector's default. A relative path is relative to the settings file."},
	"systems[].settings":                 {Example: "{assignment_group: Service Desk}", Doc: "The connector's own settings; see its documentation."},

	"tokens[].token":        {Example: "{env: PORTAL_TOKEN}", Doc: "The bearer token that signs this person in."},
	"tokens[].name":         {Example: "Ada Agent", Doc: "The person's name."},
	"tokens[].email":        {Example: "ada@example.org", Doc: "The person's e-mail address."},
	"tokens[].phone":        {Example: "+44 1632 960001", Doc: "The person's telephone number."},
	"tokens[].organisation": {Example: "north-school", Doc: "Key of the organisation a requester belongs to. A token names an organisation or a desk; an administrator's may name neither."},
	"tokens[].desk":         {Example: "btls", Doc: "Key of the desk an agent works at."},
	"tokens[].roles":        {Example: "[agent]", Allowed: []string{string(RoleRequester), string(RoleAgent), string(RoleAdmin)}, Doc: "What the person may do. A requester needs an organisation, an agent a desk."},
}

// Describe returns every setting in the order of the file.
func Describe() []Setting {
	def := Default()
	def.Organisations = []Organisation{{}}
	def.Systems = []System{DefaultSystem()}
	var settings []Setting
	describe(reflect.ValueOf(def).Elem(), "", &settings)
	return settings
}

func describe(v reflect.Value, path string, settings *[]Setting) {
	t := v.Type()
	switch {
	case t.Kind() == reflect.Pointer:
		describe(reflect.Zero(t.Elem()), path, settings)
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		element := reflect.Zero(t.Elem())
		if v.Len() > 0 {
			element = v.Index(0)
		}
		describe(element, path+"[]", settings)
	case t.Kind() == reflect.Struct && t != secretType:
		for i := range t.NumField() {
			describe(v.Field(i), join(path, t.Field(i).Tag.Get("yaml")), settings)
		}
	default:
		s := manual[path]
		s.Path, s.Type = path, typeName(t)
		if s.Default == "" {
			s.Default = defaultText(v)
		}
		if !strings.Contains(path, "[]") {
			s.Env = envPrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
		}
		*settings = append(*settings, s)
	}
}

func defaultText(v reflect.Value) string {
	if v.Type() == secretType || v.IsZero() && v.Kind() != reflect.Bool && v.Type() != durationType && v.Kind() != reflect.Float64 {
		return ""
	}
	if v.Type() == durationType {
		return shortDuration(time.Duration(v.Int()))
	}
	return fmt.Sprint(v.Interface())
}

// shortDuration writes 2m0s as 2m.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Markdown returns Describe as a Markdown table.
func Markdown() string {
	cell := strings.NewReplacer("|", `\|`, "\n", " ")
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + cell.Replace(s) + "`"
	}
	var b strings.Builder
	b.WriteString("| setting | variable | type | default | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range Describe() {
		def := code(s.Default)
		if strings.Contains(s.Default, " ") {
			def = cell.Replace(s.Default) // a sentence, not a value
		}
		kind := s.Type
		if len(s.Allowed) > 0 {
			kind = strings.Join(s.Allowed, ", ")
			if s.Type == typeName(reflect.TypeFor[[]string]()) {
				kind = "a list of " + kind
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", code(s.Path), code(s.Env), cell.Replace(kind), def, cell.Replace(s.Doc))
	}
	return b.String()
}

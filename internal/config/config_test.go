package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// environ is a small complete environment, so that no test depends on the machine's.
var environ = []string{"HOME=/home/ada", "PASSWORD=pw-1", "TOKEN=tok-1", "OTHER_TOKEN=tok-2", "HOOK=hook-1"}

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got), rewrite with -update if meant:\n%s", path, diff)
	}
}

func TestDefaultsAreGolden(t *testing.T) {
	t.Parallel()
	defaults := Default()
	defaults.Organisations = []Organisation{{}}
	defaults.Systems = []System{DefaultSystem()}
	text, err := yaml.Marshal(defaults)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "defaults.yaml", string(text))
	golden(t, "settings.md", Markdown())
}

func TestEmptyFileIsTheDefaults(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n", "# only a comment\n", "---\n", "\ufeff", "log:\ndesks:\n"} {
		cfg, err := Parse("liaison.yaml", []byte(text), Options{Environ: environ})
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		want := Default()
		want.DataDir = cfg.DataDir
		if diff := cmp.Diff(want, cfg); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func TestDescribeCoversEveryField(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range Describe() {
		seen[s.Path] = true
		if s.Doc == "" || !strings.HasSuffix(s.Doc, ".") {
			t.Errorf("%s lacks a documenting sentence", s.Path)
		}
		if s.Type == "" {
			t.Errorf("%s lacks a type", s.Path)
		}
		if s.Example == "" {
			t.Errorf("%s lacks an example", s.Path)
		}
		if numeric := s.Type == "a duration" || strings.HasSuffix(s.Type, "number"); numeric && s.max <= s.min {
			t.Errorf("%s lacks a range", s.Path)
		}
	}
	for path := range manual {
		if !seen[path] {
			t.Errorf("%s is described and is no setting", path)
		}
	}
	// Counted on the types themselves, so that a field that Describe overlooks is noticed.
	if want := leaves(reflect.TypeFor[Config]()); len(seen) != want {
		t.Errorf("Describe has %d settings, Config has %d fields", len(seen), want)
	}
}

func leaves(typ reflect.Type) int {
	switch {
	case typ.Kind() == reflect.Pointer, typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct:
		return leaves(typ.Elem())
	case typ.Kind() == reflect.Struct && typ != reflect.TypeFor[Secret]():
		n := 0
		for i := range typ.NumField() {
			n += leaves(typ.Field(i).Type)
		}
		return n
	default:
		return 1
	}
}

// full sets every setting to something other than its default; the test below proves that it does.
const full = `
addr: 0.0.0.0:9090
allow_remote: true
public_url: https://liaison.example.org/hub
data_dir: data
database: {url: {env: DSN}, app_connections: 7, system_connections: 8}
log: {level: debug, format: json}
telemetry: {otlp_endpoint: "http://127.0.0.1:4318"}
limits:
  title_chars: 100
  description_bytes: 1000
  comment_bytes: 2000
  body_bytes: 65536
  webhook_bytes: 65537
  query_tokens: 900
inbox: {body_days: 10, row_days: 100}
ledger: {feed_days: 20, entry_days: 200, archive_days: 2000}
reconcile: {at: "03:15", requests: 500, requests_per_minute: 30, mend: true}
desks:
  - {key: btls, name: BTLS}
organisations:
  - {key: north, name: North School, desk: btls}
  - {key: south, name: South School, desk: btls}
systems:
  - key: snow
    name: ServiceNow
    connector: servicenow
    desk: btls
    organisations: [north]
    url: https://example.service-now.com
    auth: {basic: {user: liaison, password: {env: PASSWORD}}}
    webhook: {secret: {env: HOOK}, previous_secret: {env: PASSWORD}, header: X-Signature, signature: hmac-sha256, timestamp_header: X-Time, id_header: X-Call}
    poll: {interval: 45s, overlap: 3m}
    settle_window: 10m
    timeout: 12s
    concurrency: 2
    rate: 2.5
    silence_after: 8h
    mapping: own.yaml
    settings: {assignment_group: Service Desk, page_size: 100, active: true}
  - key: snow2
    name: Second
    connector: servicenow
    desk: btls
    organisations: [north]
    url: https://example.service-now.com
    auth:
      oauth2:
        token_url: https://example.service-now.com/oauth_token.do?v=1
        grant: password
        client_id: id
        client_secret: {file: client}
        user: u
        password: {env: PASSWORD}
        scopes: [one, two]
  - key: rt
    name: Request Tracker
    connector: requesttracker
    desk: btls
    organisations: [north]
    url: http://127.0.0.1:8080/
    auth: {token: {env: TOKEN}}
tokens:
  - {token: {env: TOKEN}, name: Rita, email: rita@example.org, phone: "+44 1632 960001", organisation: north, roles: [requester]}
  - {token: {env: OTHER_TOKEN}, name: Ada, desk: btls, roles: [agent, admin]}
`

func fullDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"liaison.yaml": full, "own.yaml": "", "client": "client-secret\r\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func fullOptions(path string) Options {
	return Options{
		Path: path, Explicit: true, Environ: append([]string{"DSN=postgres://db.example.org/liaison"}, environ...),
		Connectors: []string{"servicenow", "requesttracker"},
	}
}

func TestEverySettingIsReadAndRoundTrips(t *testing.T) {
	t.Parallel()
	dir := fullDir(t)
	cfg, err := Load(fullOptions(filepath.Join(dir, "liaison.yaml")))
	if err != nil {
		t.Fatal(err)
	}

	found := map[string]bool{}
	differing(reflect.ValueOf(*cfg), "", found)
	for _, s := range Describe() {
		if !found[s.Path] {
			t.Errorf("%s was not read: it is still at its zero value", s.Path)
		}
	}
	want := System{
		Key: "snow", Name: "ServiceNow", Connector: "servicenow", Desk: "btls", Organisations: []string{"north"},
		URL:  "https://example.service-now.com",
		Auth: Auth{Basic: &Basic{User: "liaison", Password: FromEnv("PASSWORD")}},
		Webhook: Webhook{
			Secret: FromEnv("HOOK"), PreviousSecret: FromEnv("PASSWORD"), Header: "X-Signature", Signature: SignatureHMACSHA256, TimestampHeader: "X-Time", IDHeader: "X-Call",
		},
		Poll: Poll{Interval: 45 * time.Second, Overlap: 3 * time.Minute}, SettleWindow: 10 * time.Minute, Timeout: 12 * time.Second,
		Concurrency: 2, Rate: 2.5, SilenceAfter: 8 * time.Hour, Mapping: filepath.Join(dir, "own.yaml"),
		Settings: map[string]string{"assignment_group": "Service Desk", "page_size": "100", "active": "true"},
	}
	if diff := cmp.Diff(want, cfg.Systems[0]); diff != "" {
		t.Errorf("first system (-want +got):\n%s", diff)
	}
	if got := cfg.Systems[2].Poll; got != DefaultSystem().Poll {
		t.Errorf("a system that says nothing of polling got %+v", got)
	}
	if got, want := cfg.DataDir, filepath.Join(dir, "data"); got != want {
		t.Errorf("data_dir is %s, want %s", got, want)
	}
	secret := cfg.Systems[1].Auth.OAuth2.ClientSecret
	if value, err := secret.Value(); err != nil || value != "client-secret" {
		t.Errorf("client secret: %q, %v", value, err)
	}

	text, err := yaml.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("liaison.yaml", text, fullOptions(""))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(cfg, again); diff != "" {
		t.Errorf("after marshalling and parsing (-before +after):\n%s", diff)
	}
}

// differing notes the settings that are not zero, in any element of a list.
func differing(v reflect.Value, path string, found map[string]bool) {
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		differing(v.Elem(), path, found)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		for i := range v.Len() {
			differing(v.Index(i), path+"[]", found)
		}
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[Secret]():
		for i := range v.NumField() {
			differing(v.Field(i), strings.TrimPrefix(path+"."+v.Type().Field(i).Tag.Get("yaml"), "."), found)
		}
	default:
		if !v.IsZero() {
			found[path] = true
		}
	}
}

func TestVariablesOverTheFile(t *testing.T) {
	t.Parallel()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	file := "addr: 127.0.0.1:1\nlog: {format: json}\ndatabase: {url: {env: DSN}, app_connections: 3}\ntelemetry: {otlp_endpoint: 'http://file:4318'}\n"
	cfg, err := Parse("liaison.yaml", []byte(file), Options{Environ: []string{
		"HOME=/home/ada", "LIAISON_ADDR=127.0.0.1:2", "LIAISON_LOG_LEVEL=warn", "LIAISON_DATABASE_URL=postgres://u:pw@h/db",
		"LIAISON_DATABASE_APP_CONNECTIONS=5", "LIAISON_DATA_DIR=rel/ative", "LIAISON_PUBLIC_URL=", "LIAISON_ALLOW_REMOTE=true",
		"LIAISON_LIMITS_COMMENT_BYTES=4000", "LIAISON_SNOW_PASSWORD=kept", "OTEL_EXPORTER_OTLP_ENDPOINT=http://otel:4318",
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Addr, want.AllowRemote = "127.0.0.1:2", true
	want.Log = Log{Level: "warn", Format: LogJSON}
	want.Database.URL, want.Database.AppConnections = Literal("postgres://u:pw@h/db"), 5
	want.DataDir = filepath.Join(wd, "rel/ative")
	want.Limits.CommentBytes = 4000
	want.Telemetry.OTLPEndpoint = "http://otel:4318"
	if diff := cmp.Diff(want, cfg); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	cfg, err = Parse("", nil, Options{Environ: []string{
		"HOME=/home/ada", "LIAISON_TELEMETRY_OTLP_ENDPOINT=http://own:4318", "OTEL_EXPORTER_OTLP_ENDPOINT=http://otel:4318",
	}})
	if err != nil || cfg.Telemetry.OTLPEndpoint != "http://own:4318" {
		t.Errorf("Liaison's own variable must win over OpenTelemetry's: %v, %v", cfg, err)
	}
}

func TestLoadFindsTheFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir) // not parallel: DefaultPath is in the working directory
	cfg, err := Load(Options{Environ: environ})
	if err != nil || cfg.Addr != Default().Addr {
		t.Fatalf("without a file: %v, %v", cfg, err)
	}
	if err := os.WriteFile(DefaultPath, []byte("addr: 127.0.0.1:7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if cfg, err = Load(Options{Environ: environ}); err != nil || cfg.Addr != "127.0.0.1:7" {
		t.Errorf("with the file: %v, %v", cfg, err)
	}
	_, err = Load(Options{Path: "other.yaml", Explicit: true, Environ: environ})
	var all *Error
	if !errors.As(err, &all) || err.Error() != "other.yaml: there is no such settings file; check the path given with --config" {
		t.Errorf("a named file that is not there: %v", err)
	}
	if _, err = Load(Options{Path: dir, Explicit: true, Environ: environ}); err == nil || errors.As(err, &all) {
		t.Errorf("a folder in place of the file: %v", err)
	}
}

func TestDefaultDataDir(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		euid int
		vars variables
		want string
	}{
		{"root", 0, variables{"XDG_DATA_HOME": "/x", "HOME": "/home/ada"}, "/var/lib/liaison"},
		{"xdg", 1000, variables{"XDG_DATA_HOME": "/x", "HOME": "/home/ada"}, "/x/liaison"},
		{"relative xdg is ignored", 1000, variables{"XDG_DATA_HOME": "x", "HOME": "/home/ada"}, "/home/ada/.local/share/liaison"},
		{"home", 1000, variables{"HOME": "/home/ada"}, "/home/ada/.local/share/liaison"},
		{"neither", 1000, variables{}, ""},
	} {
		if got := defaultDataDir(tt.euid, tt.vars); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestOrganisationsOf(t *testing.T) {
	t.Parallel()
	cfg := &Config{Organisations: []Organisation{{Key: "a", Desk: "x"}, {Key: "b", Desk: "y"}, {Key: "c", Desk: "x"}}}
	if got := cfg.OrganisationsOf(System{Desk: "x"}); !cmp.Equal(got, []string{"a", "c"}) {
		t.Errorf("all of the desk: %v", got)
	}
	if got := cfg.OrganisationsOf(System{Desk: "x", Organisations: []string{"c"}}); !cmp.Equal(got, []string{"c"}) {
		t.Errorf("named: %v", got)
	}
}

// The README's table of settings is this package's own word for it.
func TestReadmeTellsEverySetting(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), Markdown()) {
		t.Error("README.md does not hold the table of settings as it is: replace it by internal/config/testdata/settings.md")
	}
}

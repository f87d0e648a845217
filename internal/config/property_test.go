package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// Any valid Config, written as YAML and read again, is the same Config: whatever text its names hold.
func TestAnyConfigRoundTrips(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cfg := anyConfig(t)
		text, err := yaml.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse("liaison.yaml", text, Options{Environ: []string{}, DeferSecrets: true})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(cfg, got); diff != "" {
			t.Fatalf("(-want +got):\n%s\n%s", diff, text)
		}
	})
}

func anyConfig(t *rapid.T) *Config {
	name := rapid.StringOfN(rapid.Rune().Filter(func(c rune) bool { _, bad := firstControl(string(c)); return !bad }), 1, 30, -1)
	free := rapid.String().Filter(func(s string) bool { return !strings.ContainsRune(s, 0) }) // connectors' own values may hold line breaks
	flag := rapid.Bool()
	secret := rapid.Custom(func(t *rapid.T) Secret {
		if flag.Draw(t, "env") {
			return FromEnv(rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_]{0,20}`).Draw(t, "variable"))
		}
		return FromFile("/" + rapid.StringMatching(`[ -~]{1,20}`).Draw(t, "file"))
	})
	seconds := func(low, high int, label string) time.Duration {
		return time.Duration(rapid.IntRange(low*1000, high*1000).Draw(t, label)) * time.Millisecond
	}
	keys := func(label string, n int) []string {
		return rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9-]{0,10}`), n, n, rapid.ID).Draw(t, label)
	}

	cfg := Default()
	cfg.Addr = fmt.Sprintf("127.0.0.%d:%d", rapid.IntRange(1, 255).Draw(t, "host"), rapid.IntRange(0, 65535).Draw(t, "port"))
	cfg.AllowRemote = flag.Draw(t, "allow_remote")
	cfg.DataDir = "/" + rapid.StringMatching(`[ -~]{0,20}`).Draw(t, "data_dir")
	cfg.Log = Log{Level: rapid.SampledFrom(manual["log.level"].Allowed).Draw(t, "level"), Format: rapid.SampledFrom([]LogFormat{LogText, LogJSON}).Draw(t, "format")}
	if flag.Draw(t, "database") {
		cfg.Database.URL = secret.Draw(t, "url")
	}
	for _, key := range keys("desks", rapid.IntRange(1, 3).Draw(t, "number of desks")) {
		cfg.Desks = append(cfg.Desks, Desk{Key: key, Name: name.Draw(t, "name")})
	}
	for i, key := range keys("organisations", rapid.IntRange(1, 4).Draw(t, "number of organisations")) {
		cfg.Organisations = append(cfg.Organisations, Organisation{
			Key: key, Name: name.Draw(t, "name"), Desk: cfg.Desks[i%len(cfg.Desks)].Key,
		})
	}
	for _, key := range keys("systems", rapid.IntRange(0, 3).Draw(t, "number of systems")) {
		s := DefaultSystem()
		s.Key, s.Name, s.Connector, s.Desk = key, name.Draw(t, "name"), name.Draw(t, "connector"), cfg.Desks[0].Key
		s.URL = "https://example.org/" + rapid.StringMatching(`[a-z/]{0,10}`).Draw(t, "path")
		if flag.Draw(t, "some") {
			s.Organisations = []string{cfg.Organisations[0].Key}
		}
		switch rapid.IntRange(0, 2).Draw(t, "auth") {
		case 0:
			s.Auth.Basic = &Basic{User: name.Draw(t, "user"), Password: secret.Draw(t, "password")}
		case 1:
			s.Auth.OAuth2 = &OAuth2{
				TokenURL: "http://h/t?x=y", Grant: GrantClientCredentials, ClientID: name.Draw(t, "client"), ClientSecret: secret.Draw(t, "secret"),
				Scopes: []string{name.Draw(t, "scope")},
			}
		default:
			s.Auth.Token = secret.Draw(t, "token")
		}
		s.Poll = Poll{Interval: seconds(1, 86400, "interval"), Overlap: seconds(0, 86400, "overlap")}
		s.SettleWindow, s.Timeout = seconds(1, 600_000, "settle"), seconds(1, 600, "timeout")
		s.Rate = rapid.Float64Range(0.001, 10_000).Draw(t, "rate")
		if settings := rapid.MapOfN(rapid.StringMatching(`[a-z.\[\]" ]{1,10}`), free, 0, 3).Draw(t, "settings"); len(settings) > 0 {
			s.Settings = settings
		}
		cfg.Systems = append(cfg.Systems, s)
	}
	for range rapid.IntRange(0, 2).Draw(t, "number of tokens") {
		token := Token{Token: secret.Draw(t, "token"), Name: name.Draw(t, "name")}
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			token.Organisation, token.Roles = cfg.Organisations[0].Key, []Role{RoleRequester}
		case 1:
			token.Desk, token.Roles = cfg.Desks[0].Key, []Role{RoleAgent, RoleAdmin}
		default:
			token.Roles = []Role{RoleAdmin}
		}
		cfg.Tokens = append(cfg.Tokens, token)
	}
	return cfg
}

// FuzzParse holds that no file crashes the reader, that every refusal is an *Error of one-line issues that show no
// planted secret, and that what is accepted can be written and read again unchanged.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		full, "", "addr: 1\naddr: 2", "log: &a [*a]", "a: *b", "\"\\x00\": {}", "? [a]\n: b", "systems: [{auth: {basic: }}]", "x: !!binary YQ==", "{{{{", "- - - -",
		"addr: !!int x", "tokens: [{token: !<x> y}]", "database: {url: planted-secret}", "database: {url: {planted-secret: x}}", "--- a\n--- b\n...", "<<: {a: b}", "settings: |\n  a\n",
	} {
		f.Add([]byte(seed))
	}
	options := Options{Environ: []string{"HOME=/home/ada", "TOKEN=planted-secret", "PASSWORD=planted-secret"}, DeferSecrets: true}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse("liaison.yaml", data, options)
		if err != nil {
			var all *Error
			if !errors.As(err, &all) {
				t.Fatalf("not an *Error: %v", err)
			}
			for _, issue := range all.Issues {
				if c, bad := firstControl(issue.String()); bad && c != '\uFFFD' {
					t.Errorf("issue with %U: %q", c, issue)
				}
				if issue.Problem == "" || issue.Source == "" {
					t.Errorf("issue without problem or source: %+v", issue)
				}
			}
			return
		}
		text, err := yaml.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("liaison.yaml", text, options)
		if err != nil {
			t.Fatalf("accepted, but not when written again: %v\n%s", err, text)
		}
		if diff := cmp.Diff(cfg, again); diff != "" {
			t.Fatalf("not the same when written again (-before +after):\n%s", diff)
		}
	})
}

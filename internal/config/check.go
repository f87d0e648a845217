package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	keyPattern    = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	headerPattern = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // token, RFC 9110 section 5.6.2
)

// checker finds what no single value shows: what is missing, what refers to nothing, what contradicts.
type checker struct {
	*decoder
	cfg     *Config
	options Options
	vars    variables
	secrets map[string]bool // variables that secrets refer to
}

func (c *checker) check() {
	c.secrets = map[string]bool{}
	c.address()
	c.url("public_url", c.cfg.PublicURL, false)
	c.url("telemetry.otlp_endpoint", c.cfg.Telemetry.OTLPEndpoint, false)
	c.dataDir()
	c.databaseURL()
	c.nightly()
	c.kept()

	desks := c.keys("desks", len(c.cfg.Desks), func(i int) (string, string) { return c.cfg.Desks[i].Key, c.cfg.Desks[i].Name })
	organisations := c.keys("organisations", len(c.cfg.Organisations), func(i int) (string, string) {
		return c.cfg.Organisations[i].Key, c.cfg.Organisations[i].Name
	})
	c.keys("systems", len(c.cfg.Systems), func(i int) (string, string) { return c.cfg.Systems[i].Key, c.cfg.Systems[i].Name })
	c.organisations(desks)
	for i := range c.cfg.Systems {
		c.system(index("systems", i), &c.cfg.Systems[i], desks, organisations)
	}
	c.tokens(desks, organisations)
	c.variables()
}

// required reports a setting that is not there.
func (c *checker) required(path string, missing bool) bool {
	if missing && !c.failedUnder(path) && !c.failedAbove(path) {
		c.at(path, "is missing", example(path))
	}
	return missing
}

func (c *checker) address() {
	host, port, err := net.SplitHostPort(c.cfg.Addr)
	if err != nil {
		c.at("addr", "wants an address and a port, not "+quote(c.cfg.Addr), example("addr"))
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		c.at("addr", "wants a port from 0 to 65535, not "+quote(port), example("addr"))
	}
	ip, err := netip.ParseAddr(host)
	if host == "localhost" || err == nil && ip.Unmap().IsLoopback() || c.cfg.AllowRemote {
		return
	}
	c.at("addr", quote(host)+" can be reached from other machines, and the hub speaks plain HTTP, tokens and all",
		"use 127.0.0.1 behind a TLS proxy, or set allow_remote: true where the network is trusted")
}

// url checks an address that may be empty. Messages never show it: what is wrong with it is often a password in it.
func (c *checker) url(path, raw string, query bool) {
	if raw == "" || c.failed[path] {
		return
	}
	u, err := url.Parse(raw)
	var parse *url.Error
	switch {
	case errors.As(err, &parse) && strings.Contains(raw, "@"):
		c.at(path, "is not a URL", example(path))
	case errors.As(err, &parse):
		c.at(path, "is not a URL ("+parse.Err.Error()+")", example(path))
	case err != nil:
		c.at(path, "is not a URL", example(path))
	case u.User != nil:
		c.at(path, "carries a user or password", "remove what stands before the @; sign-in belongs in settings of its own, by reference")
	case u.Scheme != "http" && u.Scheme != "https":
		c.at(path, "is not an http or https URL", example(path))
	case u.Hostname() == "":
		c.at(path, "names no host", example(path))
	case u.Fragment != "" || strings.HasSuffix(raw, "#"):
		c.at(path, "ends in a #fragment", "remove it")
	case (u.RawQuery != "" || u.ForceQuery) && !query:
		c.at(path, "ends in a ?query", "remove it")
	case !validPort(u.Port()):
		c.at(path, "has a port that is not from 1 to 65535", example(path))
	}
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0
}

func (c *checker) dataDir() {
	if c.cfg.DataDir != "" {
		c.cfg.DataDir = c.path(c.cfg.DataDir, "data_dir")
		return
	}
	c.cfg.DataDir = defaultDataDir(os.Geteuid(), c.vars)
	if c.cfg.DataDir == "" && !c.failed["data_dir"] {
		c.at("data_dir", "is missing, and there is no home folder to put it in", "set LIAISON_DATA_DIR to a folder")
	}
}

// defaultDataDir follows the XDG base directory specification, which has relative paths ignored.
func defaultDataDir(euid int, vars variables) string {
	xdg, home := vars["XDG_DATA_HOME"], vars["HOME"]
	switch {
	case euid == 0:
		return "/var/lib/liaison"
	case filepath.IsAbs(xdg):
		return filepath.Join(xdg, "liaison")
	case filepath.IsAbs(home):
		return filepath.Join(home, ".local", "share", "liaison")
	default:
		return ""
	}
}

func (c *checker) databaseURL() {
	const path = "database.url"
	value, ok := c.secret(path, c.cfg.Database.URL)
	if !ok || value == "" {
		return
	}
	// Both forms that Postgres's own programs take; what is in them is pgx's to check.
	isURL := strings.HasPrefix(value, "postgres://") || strings.HasPrefix(value, "postgresql://")
	if !isURL && !strings.Contains(value, "=") {
		c.at(path, "is not the address of a Postgres database", "for example postgres://liaison@127.0.0.1:5432/liaison")
	}
}

// secret resolves a secret, reports why it cannot be, and notes the variable it uses.
func (c *checker) secret(path string, s Secret) (value string, ok bool) {
	if s.IsZero() || c.failedUnder(path) {
		return "", false
	}
	if s.ref.env != "" {
		c.secrets[s.ref.env] = true
	}
	if c.options.DeferSecrets {
		return "", false
	}
	value, err := s.Value()
	if err != nil {
		c.at(path, "cannot be had: "+err.Error(), "set it, or refer to where the secret is with {env: NAME} or {file: PATH}")
		return "", false
	}
	return value, true
}

func (c *checker) requiredSecret(path string, s Secret) {
	if !c.required(path, s.IsZero()) {
		c.secret(path, s)
	}
}

// keys checks the keys and names of a list, and returns the keys in order; nil when the list cannot be relied on to say
// what exists.
func (c *checker) keys(list string, n int, get func(int) (key, name string)) []string {
	keys := make([]string, 0, n)
	first := map[string]string{}
	reliable := !c.failed[list]
	for i := range n {
		item := index(list, i)
		path := item + ".key"
		key, name := get(i)
		if c.failed[item] || c.failed[path] {
			reliable = false
			continue
		}
		c.required(item+".name", name == "")
		if c.required(path, key == "") {
			reliable = false
			continue
		}
		if !keyPattern.MatchString(key) {
			c.at(path, "wants a key, not "+quote(key),
				"keys have small letters, digits and dashes, begin with a letter and have at most 63 characters, "+example(path))
		} else if other, twice := first[key]; twice {
			c.at(path, fmt.Sprintf("%q is already the key of %s", key, other), "give each its own key")
		}
		first[key] = item
		keys = append(keys, key)
	}
	if !reliable {
		return nil
	}
	return keys
}

// refers checks that the key at path is one of keys, which are those of list.
func (c *checker) refers(path, key, list string, keys []string) {
	if keys == nil || slices.Contains(keys, key) || c.failed[path] {
		return
	}
	remedy := "declare it under " + list
	if len(keys) > 0 {
		remedy = suggest(key, keys)
	}
	c.at(path, fmt.Sprintf("there is no %s with the key %s", strings.TrimSuffix(list, "s"), quote(key)), remedy)
}

func (c *checker) organisations(desks []string) {
	for i, o := range c.cfg.Organisations {
		path := index("organisations", i)
		if c.failed[path] {
			continue
		}
		if !c.required(path+".desk", o.Desk == "") {
			c.refers(path+".desk", o.Desk, "desks", desks)
		}
	}
}

func (c *checker) system(path string, s *System, desks, organisations []string) {
	if c.failed[path] {
		return
	}
	if !c.required(path+".connector", s.Connector == "") && c.options.Connectors != nil && !slices.Contains(c.options.Connectors, s.Connector) {
		c.at(path+".connector", "unknown connector "+quote(s.Connector), suggest(s.Connector, c.options.Connectors))
	}
	if !c.required(path+".desk", s.Desk == "") {
		c.refers(path+".desk", s.Desk, "desks", desks)
	}
	c.systemOrganisations(path+".organisations", s, organisations)
	if !c.required(path+".url", s.URL == "") {
		c.url(path+".url", s.URL, false)
	}
	c.auth(path+".auth", &s.Auth)
	c.webhook(path+".webhook", s.Webhook)
	if s.Mapping != "" {
		s.Mapping = c.path(s.Mapping, path+".mapping")
		if info, err := os.Stat(s.Mapping); err != nil || !info.Mode().IsRegular() {
			c.at(path+".mapping", "there is no file "+quote(s.Mapping), "a relative path is relative to the settings file")
		}
	}
}

func (c *checker) systemOrganisations(path string, s *System, organisations []string) {
	seen := map[string]bool{}
	for i, key := range s.Organisations {
		at := index(path, i)
		if seen[key] {
			c.at(at, quote(key)+" is named twice", "keep one of them")
		}
		seen[key] = true
		c.refers(at, key, "organisations", organisations)
		for _, o := range c.cfg.Organisations {
			if o.Key == key && o.Desk != "" && s.Desk != "" && o.Desk != s.Desk {
				c.at(at, fmt.Sprintf("organisation %s is served by desk %s, but the system is of desk %s", quote(key), quote(o.Desk), quote(s.Desk)),
					"name organisations of the system's desk")
			}
		}
	}
}

func (c *checker) auth(path string, a *Auth) {
	if c.failed[path] {
		return
	}
	var ways []string
	if a.Basic != nil {
		ways = append(ways, "basic")
		c.required(path+".basic.user", a.Basic.User == "")
		c.requiredSecret(path+".basic.password", a.Basic.Password)
	}
	if a.OAuth2 != nil {
		ways = append(ways, "oauth2")
		c.oauth2(path+".oauth2", a.OAuth2)
	}
	if !a.Token.IsZero() {
		ways = append(ways, "token")
		c.secret(path+".token", a.Token)
	}
	switch {
	case c.failedUnder(path) && len(ways) < 2: // already told
	case len(ways) == 0:
		c.at(path, "is missing", "for example auth: {basic: {user: liaison, password: {env: SERVICENOW_PASSWORD}}}, or oauth2, or token")
	case len(ways) > 1:
		c.at(path, "has several ways to sign in: "+strings.Join(ways, " and "), "keep exactly one")
	}
}

func (c *checker) oauth2(path string, o *OAuth2) {
	if c.failed[path] {
		return
	}
	if !c.required(path+".token_url", o.TokenURL == "") {
		c.url(path+".token_url", o.TokenURL, true)
	}
	c.required(path+".client_id", o.ClientID == "")
	c.requiredSecret(path+".client_secret", o.ClientSecret)
	switch o.Grant {
	case GrantPassword:
		c.required(path+".user", o.User == "")
		c.requiredSecret(path+".password", o.Password)
	case GrantClientCredentials:
		if o.User != "" {
			c.at(path+".user", "has no meaning with the grant client_credentials", "remove it, or set grant: password")
		}
		if !o.Password.IsZero() {
			c.at(path+".password", "has no meaning with the grant client_credentials", "remove it, or set grant: password")
		}
	default:
		c.required(path+".grant", true)
	}
}

func (c *checker) webhook(path string, w Webhook) {
	if !headerPattern.MatchString(w.Header) && !c.failed[path+".header"] {
		c.at(path+".header", "wants the name of a request header, not "+quote(w.Header), example(path+".header"))
	}
	if w.Secret.IsZero() && w.Signature == SignatureHMACSHA256 {
		c.required(path+".secret", true)
	}
	c.secret(path+".secret", w.Secret)
	c.secret(path+".previous_secret", w.PreviousSecret)
	if w.Secret.IsZero() && !w.PreviousSecret.IsZero() && !c.failedUnder(path+".secret") {
		c.at(path+".previous_secret", "stands without a secret that follows it", "set webhook.secret, and remove this one when the system uses it")
	}
	if !headerPattern.MatchString(w.IDHeader) && !c.failed[path+".id_header"] {
		c.at(path+".id_header", "wants the name of a request header, not "+quote(w.IDHeader), example(path+".id_header"))
	}
	switch {
	case w.TimestampHeader == "" || c.failed[path+".timestamp_header"]:
	case !headerPattern.MatchString(w.TimestampHeader):
		c.at(path+".timestamp_header", "wants the name of a request header, not "+quote(w.TimestampHeader), example(path+".timestamp_header"))
	case w.Signature != SignatureHMACSHA256 && !c.failed[path+".signature"]:
		c.at(path+".timestamp_header", "means nothing without a signature that covers it", "set signature: hmac-sha256, or remove it")
	}
}

// nightly checks the time of day.
func (c *checker) nightly() {
	const path = "reconcile.at"
	if c.cfg.Reconcile.At == "" || c.failed[path] {
		return
	}
	if _, err := time.Parse("15:04", c.cfg.Reconcile.At); err != nil {
		c.at(path, "wants a time of day such as 02:30, not "+quote(c.cfg.Reconcile.At), "leave it empty for never")
	}
}

// kept compares for how long entries stay: what a cursor may come back to cannot be put away.
func (c *checker) kept() {
	const path = "ledger.entry_days"
	l := c.cfg.Ledger
	if l.EntryDays > 0 && !c.failed[path] && (l.FeedDays == 0 || l.FeedDays > l.EntryDays) {
		c.at(path, fmt.Sprintf("is %d, and subscribers may come back for longer than that (ledger.feed_days is %d)", l.EntryDays, l.FeedDays), "set ledger.feed_days to at most as many days, or entry_days to 0")
	}
}

func (c *checker) tokens(desks, organisations []string) {
	first := map[string]string{} // by value
	for i, t := range c.cfg.Tokens {
		path := index("tokens", i)
		if c.failed[path] {
			continue
		}
		if !c.required(path+".token", t.Token.IsZero()) {
			if value, ok := c.secret(path+".token", t.Token); ok {
				if other, twice := first[value]; twice {
					c.at(path+".token", "is the same token as that of "+other, "give each person a token of their own")
				}
				first[value] = path
			}
		}
		c.required(path+".name", t.Name == "")
		if a, err := mail.ParseAddress(t.Email); t.Email != "" && (err != nil || a.Address != t.Email) {
			c.at(path+".email", "wants an e-mail address, not "+quote(t.Email), example(path+".email"))
		}
		if t.Organisation != "" {
			c.refers(path+".organisation", t.Organisation, "organisations", organisations)
		}
		if t.Desk != "" {
			c.refers(path+".desk", t.Desk, "desks", desks)
		}
		c.roles(path, t)
	}
}

func (c *checker) roles(path string, t Token) {
	c.required(path+".roles", len(t.Roles) == 0)
	if c.failedUnder(path+".roles") || c.failed[path+".organisation"] || c.failed[path+".desk"] {
		return
	}
	admin := slices.Contains(t.Roles, RoleAdmin)
	switch {
	case t.Organisation != "" && t.Desk != "":
		c.at(path, "names both an organisation and a desk", "keep organisation for a requester, desk for an agent")
	case slices.Contains(t.Roles, RoleRequester) && slices.Contains(t.Roles, RoleAgent):
		c.at(path+".roles", "has both requester and agent", "one belongs to an organisation, the other to a desk: give the person two tokens")
	case slices.Contains(t.Roles, RoleRequester) && t.Organisation == "":
		c.at(path+".organisation", "is missing, and a requester belongs to one", example(path+".organisation"))
	case slices.Contains(t.Roles, RoleAgent) && t.Desk == "":
		c.at(path+".desk", "is missing, and an agent works at one", example(path+".desk"))
	case !admin && t.Organisation == "" && t.Desk == "":
		c.at(path, "names neither an organisation nor a desk", "only an administrator's token may leave out both")
	}
}

// variables reports LIAISON_* variables that are nearly a setting's: unlike a file's keys, unknown ones may be anyone's.
func (c *checker) variables() {
	misspelt := c.vars.misspelt(c.secrets)
	for _, name := range slices.Sorted(maps.Keys(misspelt)) {
		c.issues = append(c.issues, Issue{
			Source: name, Problem: "unknown variable", Remedy: fmt.Sprintf("did you mean %s?", misspelt[name]),
		})
	}
}

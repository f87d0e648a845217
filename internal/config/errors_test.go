package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sections that a system or token needs around it, each on one line so that the one at fault has a known place.
const (
	desks         = "desks: [{key: btls, name: BTLS}, {key: csc, name: CSC}]\n"
	organisations = "organisations: [{key: north, name: North, desk: btls}, {key: south, name: South, desk: csc}]\n"
	context       = desks + organisations
	goodAuth      = "auth: {token: {env: TOKEN}}"
)

func system(fields string) string {
	return context + "systems:\n- {key: rt, name: RT, connector: requesttracker, desk: btls, url: 'http://127.0.0.1', " + fields + "}\n"
}

func token(fields string) string {
	return context + "tokens:\n- {token: {env: TOKEN}, " + fields + "}\n"
}

// badToken is token where the item as a whole is at fault.
func badToken(fields string) string {
	return strings.Replace(token(fields), "- {token", "- §{token", 1)
}

func TestEachErrorNamesPlaceProblemAndRemedy(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		yaml string
		want string // every line of the error
	}{
		// Shape of the file.
		{"syntax", "log:\n  level: info\n bad", `liaison.yaml:2: not valid YAML: did not find expected key; check the indentation, colons and quotes there and below`},
		{"tab", "log:\n\tlevel: info\n", `liaison.yaml:2: not valid YAML: found character that cannot start any token; check the indentation, colons and quotes there and below`},
		{"not settings", "§- a\n", `liaison.yaml:@: the file is not a list of settings; write one setting a line, such as "addr: 127.0.0.1:8080"`},
		{"two documents", "addr: 127.0.0.1:1\n§---\naddr: 127.0.0.1:2\n", `liaison.yaml:@: a second YAML document begins here; keep one document and remove the "---" before the others`},
		{"alias", "log: &l {level: info}\ntelemetry: §*l\n", `liaison.yaml:@: telemetry: is a YAML alias (*name), which settings do not take; write the value out`},
		{"merge", "§x: &l {level: info}\nlog: {§<<: *l}\n", "liaison.yaml:@: x: unknown setting; known are addr, allow_remote, public_url, data_dir, drain_timeout, database, log, telemetry, limits, inbox, ledger, reconcile, desks, organisations, systems, tokens\n" +
			`liaison.yaml:@: log: has a key that is not a plain word; write name: value`},
		{"unknown anchor is not shown", "log: {}\naddr: §*hunter2\n", `liaison.yaml:@: not valid YAML: a value begins with an asterisk, which YAML reads as an alias; put the value in quotes`},
		{"tag", "addr: §!env X\n", `liaison.yaml:@: addr: has a YAML tag ("!env"); write the value without it`},

		{"too deep", "addr: §" + strings.Repeat("[", 16) + "§[" + strings.Repeat("]", 17) + "\n", "liaison.yaml:@: addr: wants text, not a list; for example 127.0.0.1:8080\n" +
			"liaison.yaml:@: addr" + strings.Repeat("[0]", 16) + ": is nested too deeply; check the brackets and the indentation there"},

		{"merge sign as a value is text", "log: {level: §<<}\n", `liaison.yaml:@: log.level: unknown word "<<"; known are debug, info, warn, error`},

		// Keys.
		{"unknown key, near", "log: {§lvel: info}\n", `liaison.yaml:@: log.lvel: unknown setting; did you mean "level"?`},
		{"unknown key in a list", system(goodAuth + ", §pol: {interval: 30s}"), `liaison.yaml:@: systems[0].pol: unknown setting; did you mean "poll"?`},
		{"unknown key, far", "log: {§zzzzzzzz: 1}\n", `liaison.yaml:@: log.zzzzzzzz: unknown setting; known are level, format`},
		{"dotted key", "§log.level: info\n", `liaison.yaml:@: ["log.level"]: unknown setting; write "level:" below "log:", indented`},
		{"control character in key", "§\"a\\e[31m\\n\": 1\n", `liaison.yaml:@: ["a\x1b[31m\n"]: unknown setting; known are addr, allow_remote, public_url, data_dir, drain_timeout, database, log, telemetry, limits, inbox, ledger, reconcile, desks, organisations, systems, tokens`},
		{"unknown key without value", "§adr:\n", `liaison.yaml:@: adr: unknown setting; did you mean "addr"?`},
		{"duplicate key", "addr: 127.0.0.1:1\nlog: {}\n§addr: 127.0.0.1:2\n", `liaison.yaml:@: addr: is set twice, first in line 1; keep one of them`},

		// Types.
		{"number for text", "desks: [{key: btls, name: §007}]\n", `liaison.yaml:@: desks[0].name: wants text, not a number ("007"); put it in quotes`},
		{"bool for text", "desks: [{key: btls, name: §true}]\n", `liaison.yaml:@: desks[0].name: wants text, not true or false ("true"); put it in quotes`},
		{"text for bool", "allow_remote: §'yes'\n", `liaison.yaml:@: allow_remote: wants true or false, not "yes"; for example true`},
		{"text for number", "limits: {query_tokens: §many}\n", `liaison.yaml:@: limits.query_tokens: wants a whole number, not "many"; for example 2000`},
		{"quoted number", "limits: {query_tokens: §'50'}\n", `liaison.yaml:@: limits.query_tokens: wants a whole number, not "50"; for example 2000`},
		{"fraction for number", "limits: {query_tokens: §1.5}\n", `liaison.yaml:@: limits.query_tokens: wants a whole number, not "1.5"; for example 2000`},
		{"huge number", "limits: {query_tokens: §99999999999999999999}\n", `liaison.yaml:@: limits.query_tokens: wants a whole number, not "99999999999999999999"; for example 2000`},
		{"list for text", "addr: §[a]\n", `liaison.yaml:@: addr: wants text, not a list; for example 127.0.0.1:8080`},
		{"text for section", "log: §info\n", `liaison.yaml:@: log: wants settings of its own, not a single value; write one a line below it: level, format`},
		{"section for list", "desks: §{key: btls}\n", `liaison.yaml:@: desks: wants a list, not named values; begin each of its items with a dash`},
		{"word for list", token("name: A, roles: §admin"), `liaison.yaml:@: tokens[0].roles: wants a list, not a single value; write [admin]`},
		{"empty item", "desks:\n-§\n", `liaison.yaml:@: desks[0]: is empty; remove the dash or write the item`},
		{"control character", "desks: [{key: btls, name: §\"a\\e[31m\"}]\n", `liaison.yaml:@: desks[0].name: contains the control character U+001B; for example BTLS service desk`},
		{"list in settings", system(goodAuth + ", settings: {queue: §[a]}"), `liaison.yaml:@: systems[0].settings.queue: wants text, not a list; write one value`},

		// Ranges, words, durations.
		{"out of range", "limits: {query_tokens: §0}\n", `liaison.yaml:@: limits.query_tokens: 0 is out of range; it may be from 100 to 20000`},
		{"unknown word, near", "log: {level: §warning}\n", `liaison.yaml:@: log.level: unknown word "warning"; did you mean "warn"?`},
		{"unknown word, far", "log: {format: §xml}\n", `liaison.yaml:@: log.format: unknown word "xml"; known are text, json`},
		{"no unit", system(goodAuth + ", poll: {interval: §30}"), `liaison.yaml:@: systems[0].poll.interval: has no unit: "30"; for example 30s`},
		{"no duration", system(goodAuth + ", timeout: §soon"), `liaison.yaml:@: systems[0].timeout: wants a duration, not "soon"; for example 30s`},
		{"poll too often", system(goodAuth + ", poll: {interval: §10ms}"), `liaison.yaml:@: systems[0].poll.interval: 10ms is out of range; it may be from 1s to 24h0m0s, or 0 for never`},
		{"negative", system(goodAuth + ", settle_window: §-1s"), `liaison.yaml:@: systems[0].settle_window: -1s is out of range; it may be from 1s to 168h0m0s, or 0 for the connector's default`},
		{"not a number", system(goodAuth + ", rate: §.nan"), `liaison.yaml:@: systems[0].rate: wants a number, not ".nan"; for example 2.5`},

		// Addresses.
		{"not loopback", "addr: §0.0.0.0:8080\n", `liaison.yaml:@: addr: "0.0.0.0" can be reached from other machines, and the hub speaks plain HTTP, tokens and all; use 127.0.0.1 behind a TLS proxy, or set allow_remote: true where the network is trusted`},
		{"all interfaces", "addr: §:8080\n", `liaison.yaml:@: addr: "" can be reached from other machines, and the hub speaks plain HTTP, tokens and all; use 127.0.0.1 behind a TLS proxy, or set allow_remote: true where the network is trusted`},
		{"no port", "addr: §127.0.0.1\n", `liaison.yaml:@: addr: wants an address and a port, not "127.0.0.1"; for example 127.0.0.1:8080`},
		{"port too high", "addr: §127.0.0.1:70000\n", `liaison.yaml:@: addr: wants a port from 0 to 65535, not "70000"; for example 127.0.0.1:8080`},
		{"user in URL", "public_url: §https://ada:s3cret@example.org\n", `liaison.yaml:@: public_url: carries a user or password; remove what stands before the @; sign-in belongs in settings of its own, by reference`},
		{"broken URL with password", "public_url: §'https://ada:s3cret%zz@example.org'\n", `liaison.yaml:@: public_url: is not a URL; for example https://liaison.example.org`},
		{"scheme", "telemetry: {otlp_endpoint: §'localhost:4318'}\n", `liaison.yaml:@: telemetry.otlp_endpoint: is not an http or https URL; for example http://127.0.0.1:4318`},
		{"no host", "public_url: §https:///x\n", `liaison.yaml:@: public_url: names no host; for example https://liaison.example.org`},
		{"query", "public_url: §https://x/?a=b\n", `liaison.yaml:@: public_url: ends in a ?query; remove it`},

		// Secrets.
		{"literal secret", "database: {url: §'postgres://u:s3cret@h/db'}\n", `liaison.yaml:@: database.url: holds a secret itself; settings only refer to secrets; write {env: NAME} for an environment variable or {file: PATH} for a file`},
		{"number as secret", system("auth: {token: §1234}"), `liaison.yaml:@: systems[0].auth.token: holds a secret itself; settings only refer to secrets; write {env: NAME} for an environment variable or {file: PATH} for a file`},
		{"unknown form", system("auth: {token: {§value: s3cret}}"), `liaison.yaml:@: systems[0].auth.token.value: unknown form of secret; write {env: NAME} for an environment variable or {file: PATH} for a file`},
		{"secret in place of a name", system("auth: {token: {env: §'s3cret-!'}}"), `liaison.yaml:@: systems[0].auth.token.env: is not the name of an environment variable; a name has letters, digits and underscores, such as {env: SERVICENOW_PASSWORD}`},
		{"both forms", system("auth: {token: §{env: TOKEN, file: /x}}"), `liaison.yaml:@: systems[0].auth.token: refers to a variable and a file; keep one of them`},
		{"no form", system("auth: {token: §{}}"), `liaison.yaml:@: systems[0].auth.token: refers to nothing; write {env: NAME} for an environment variable or {file: PATH} for a file`},
		{"variable not set", system("auth: {token: §{env: NOWHERE}}"), `liaison.yaml:@: systems[0].auth.token: cannot be had: environment variable NOWHERE is not set; set it, or refer to where the secret is with {env: NAME} or {file: PATH}`},
		{"no database address", "database: {url: §{env: TOKEN}}\n", `liaison.yaml:@: database.url: is not the address of a Postgres database; for example postgres://liaison@127.0.0.1:5432/liaison`},

		// Keys and references between the lists.
		{"bad key", "desks: [{key: §Btls, name: B}]\n", `liaison.yaml:@: desks[0].key: wants a key, not "Btls"; keys have small letters, digits and dashes, begin with a letter and have at most 63 characters, for example btls`},
		{"missing key", "desks:\n- §name: B\n", `liaison.yaml:@: desks[0].key: is missing; for example btls`},
		{"same key", "desks: [{key: a, name: A}, {key: §a, name: B}]\n", `liaison.yaml:@: desks[1].key: "a" is already the key of desks[0]; give each its own key`},
		{"unknown desk, near", desks + "organisations: [{key: n, name: N, desk: §btsl}]\n", `liaison.yaml:@: organisations[0].desk: there is no desk with the key "btsl"; did you mean "btls"?`},
		{"no desks", "organisations: [{key: n, name: N, desk: §btls}]\n", `liaison.yaml:@: organisations[0].desk: there is no desk with the key "btls"; declare it under desks`},
		{"broken desks are told once", "desks: §x\norganisations: [{key: n, name: N, desk: btls}]\n", `liaison.yaml:@: desks: wants a list, not a single value; begin each of its items with a dash`},
		{"organisation of another desk", system(goodAuth + ", organisations: [§south]"), `liaison.yaml:@: systems[0].organisations[0]: organisation "south" is served by desk "csc", but the system is of desk "btls"; name organisations of the system's desk`},
		{"unknown organisation", system(goodAuth + ", organisations: [§nroth]"), `liaison.yaml:@: systems[0].organisations[0]: there is no organisation with the key "nroth"; did you mean "north"?`},

		// Systems.
		{"missing below an odd key", system(goodAuth + ", settings: {'a.b[': §[x]}"), `liaison.yaml:@: systems[0].settings["a.b["]: wants text, not a list; write one value`},
		{"unknown connector", context + "systems: [{key: s, name: S, connector: §servicnow, desk: btls, url: 'http://h', " + goodAuth + "}]\n", `liaison.yaml:@: systems[0].connector: unknown connector "servicnow"; did you mean "servicenow"?`},
		{"what a system needs", context + "systems:\n- §key: s\n", strings.Join([]string{
			`liaison.yaml:@: systems[0].name: is missing; for example BTLS ServiceNow`,
			`liaison.yaml:@: systems[0].connector: is missing; for example servicenow`,
			`liaison.yaml:@: systems[0].desk: is missing; for example btls`,
			`liaison.yaml:@: systems[0].url: is missing; for example https://example.service-now.com`,
			`liaison.yaml:@: systems[0].auth: is missing; for example auth: {basic: {user: liaison, password: {env: SERVICENOW_PASSWORD}}}, or oauth2, or token`,
		}, "\n")},
		{"two sign-ins", system("auth: §{token: {env: TOKEN}, basic: {user: u, password: {env: PASSWORD}}}"), `liaison.yaml:@: systems[0].auth: has several ways to sign in: basic and token; keep exactly one`},
		{"basic without password", system("auth: {basic: §{user: u}}"), `liaison.yaml:@: systems[0].auth.basic.password: is missing; for example {env: SERVICENOW_PASSWORD}`},
		{"basic is no section", system("auth: {basic: §ada}"), `liaison.yaml:@: systems[0].auth.basic: wants settings of its own, not a single value; write one a line below it: user, password`},
		{"oauth2 without grant", system("auth: {oauth2: §{token_url: 'http://h/t', client_id: i, client_secret: {env: TOKEN}}}"), `liaison.yaml:@: systems[0].auth.oauth2.grant: is missing; for example client_credentials`},
		{"user with client credentials", system("auth: {oauth2: {token_url: 'http://h/t', grant: client_credentials, client_id: i, client_secret: {env: TOKEN}, user: §u}}"), `liaison.yaml:@: systems[0].auth.oauth2.user: has no meaning with the grant client_credentials; remove it, or set grant: password`},
		{"password grant without user", system("auth: {oauth2: §{token_url: 'http://h/t', grant: password, client_id: i, client_secret: {env: TOKEN}, password: {env: TOKEN}}}"), `liaison.yaml:@: systems[0].auth.oauth2.user: is missing; for example liaison`},
		{"signature without secret", system(goodAuth + ", webhook: §{signature: hmac-sha256}"), `liaison.yaml:@: systems[0].webhook.secret: is missing; for example {env: SERVICENOW_WEBHOOK_SECRET}`},
		{"header", system(goodAuth + ", webhook: {secret: {env: HOOK}, header: §'X Y'}"), `liaison.yaml:@: systems[0].webhook.header: wants the name of a request header, not "X Y"; for example X-Liaison-Webhook`},
		{"former secret alone", system(goodAuth + ", webhook: {previous_secret: §{env: HOOK}}"), `liaison.yaml:@: systems[0].webhook.previous_secret: stands without a secret that follows it; set webhook.secret, and remove this one when the system uses it`},
		{"id header", system(goodAuth + ", webhook: {secret: {env: HOOK}, id_header: §'X Y'}"), `liaison.yaml:@: systems[0].webhook.id_header: wants the name of a request header, not "X Y"; for example webhook-id`},
		{"time without signature", system(goodAuth + ", webhook: {secret: {env: HOOK}, timestamp_header: §X-Time}"), `liaison.yaml:@: systems[0].webhook.timestamp_header: means nothing without a signature that covers it; set signature: hmac-sha256, or remove it`},
		{"time of day", "reconcile: {at: §half past two}\n", `liaison.yaml:@: reconcile.at: wants a time of day such as 02:30, not "half past two"; leave it empty for never`},

		// Sign-ins.
		{"both places", badToken("name: A, organisation: north, desk: btls, roles: [requester]"), `liaison.yaml:@: tokens[0]: names both an organisation and a desk; keep organisation for a requester, desk for an agent`},
		{"requester of nowhere", badToken("name: A, roles: [requester]"), `liaison.yaml:@: tokens[0].organisation: is missing, and a requester belongs to one; for example north-school`},
		{"agent of nowhere", badToken("name: A, roles: [agent, admin]"), `liaison.yaml:@: tokens[0].desk: is missing, and an agent works at one; for example btls`},
		{"two roles that exclude each other", token("name: A, desk: btls, roles: §[agent, requester]"), `liaison.yaml:@: tokens[0].roles: has both requester and agent; one belongs to an organisation, the other to a desk: give the person two tokens`},
		{"no role", badToken("name: A, desk: btls"), `liaison.yaml:@: tokens[0].roles: is missing; for example [agent]`},
		{"unknown role", token("name: A, desk: btls, roles: [§agnet]"), `liaison.yaml:@: tokens[0].roles[0]: unknown word "agnet"; did you mean "agent"?`},
		{"e-mail", token("name: A, email: §'Ada <a@b.c>', desk: btls, roles: [agent]"), `liaison.yaml:@: tokens[0].email: wants an e-mail address, not "Ada <a@b.c>"; for example ada@example.org`},
		{"same token", token("name: A, roles: [admin]") + "- {token: §{env: TOKEN}, name: B, roles: [admin]}\n", `liaison.yaml:@: tokens[1].token: is the same token as that of tokens[0]; give each person a token of their own`},

		{"all at once", "§adr: x\nlog: {level: §loud}\ndesks: [§{name: A}]\nlimits: {query_tokens: §-1}\n", strings.Join([]string{
			`liaison.yaml:@: adr: unknown setting; did you mean "addr"?`,
			`liaison.yaml:@: log.level: unknown word "loud"; known are debug, info, warn, error`,
			`liaison.yaml:@: desks[0].key: is missing; for example btls`,
			`liaison.yaml:@: limits.query_tokens: -1 is out of range; it may be from 100 to 20000`,
		}, "\n")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text, want := places(tt.yaml, tt.want)
			_, err := Parse("liaison.yaml", []byte(text), Options{Environ: environ, Connectors: []string{"servicenow", "requesttracker"}})
			var all *Error
			if !errors.As(err, &all) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if got := err.Error(); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("shows a secret: %v", err)
			}
		})
	}
}

// places removes the marks § from the file and puts the line and column of each in place of the next @ that stands for
// one in want; when they run out, the last is meant.
func places(file, want string) (string, string) {
	var at []string
	line, column := 1, 1
	var text strings.Builder
	for _, c := range file {
		switch c {
		case '§':
			at = append(at, fmt.Sprintf("%d:%d", line, column))
			continue
		case '\n':
			line, column = line+1, 1
		default:
			column++
		}
		text.WriteRune(c)
	}
	for strings.Contains(want, "liaison.yaml:@:") && len(at) > 0 {
		want = strings.Replace(want, "liaison.yaml:@:", "liaison.yaml:"+at[0]+":", 1)
		if len(at) > 1 {
			at = at[1:]
		}
	}
	return text.String(), want
}

func TestErrorsOfVariables(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, yaml, env, want string
	}{
		{"not loopback", "addr: 127.0.0.1:1\n", "LIAISON_ADDR=0.0.0.0:1", `LIAISON_ADDR: addr: "0.0.0.0" can be reached from other machines, and the hub speaks plain HTTP, tokens and all; use 127.0.0.1 behind a TLS proxy, or set allow_remote: true where the network is trusted`},
		{"not a number", "", "LIAISON_LIMITS_QUERY_TOKENS=x", `LIAISON_LIMITS_QUERY_TOKENS: limits.query_tokens: wants a whole number, not "x"; for example 2000`},
		{"word", "", "LIAISON_LOG_LEVEL=loud", `LIAISON_LOG_LEVEL: log.level: unknown word "loud"; known are debug, info, warn, error`},
		{"database address is not shown", "", "LIAISON_DATABASE_URL=s3cret", `LIAISON_DATABASE_URL: database.url: is not the address of a Postgres database; for example postgres://liaison@127.0.0.1:5432/liaison`},
		{"misspelt", "", "LIAISON_ADR=127.0.0.1:1", `LIAISON_ADR: unknown variable; did you mean LIAISON_ADDR?`},
		{"list", "", "LIAISON_DESKS=x", ""},
		{"hides no mistake of the file", "addr: 5\n", "LIAISON_ADDR=127.0.0.1:1", `liaison.yaml:1:7: addr: wants text, not a number ("5"); put it in quotes`},
		{"hides no broken section", "log: x\n", "LIAISON_LOG_LEVEL=info", `liaison.yaml:1:6: log: wants settings of its own, not a single value; write one a line below it: level, format`},
		{"empty is unset", "", "LIAISON_ADDR=", ""},
		{"referred to as a secret", system("auth: {token: {env: LIAISON_ADR}}"), "LIAISON_ADR=t", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("liaison.yaml", []byte(tt.yaml), Options{Environ: append([]string{tt.env}, environ...)})
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestNoHomeFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root's data folder needs no home; TestDefaultDataDir covers the choice itself")
	}
	_, err := Parse("", nil, Options{Environ: []string{"X=y"}})
	if want := "data_dir: is missing, and there is no home folder to put it in; set LIAISON_DATA_DIR to a folder"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestMissingFilesAreNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := system(goodAuth+", mapping: own.yaml") + "tokens: [{token: {file: token}, name: A, roles: [admin]}]\n"
	_, err := Parse(filepath.Join(dir, "liaison.yaml"), []byte(file), Options{Environ: environ})
	var all *Error
	if !errors.As(err, &all) || len(all.Issues) != 2 {
		t.Fatalf("got %v, want two issues", err)
	}
	if got := all.Issues[0]; got.Path != "systems[0].mapping" || !strings.Contains(got.Problem, filepath.Join(dir, "own.yaml")) {
		t.Errorf("mapping: %+v", got)
	}
	if got := all.Issues[1]; got.Path != "tokens[0].token" || !strings.Contains(got.Problem, filepath.Join(dir, "token")) {
		t.Errorf("token: %+v", got)
	}
}

//go:build e2e

package e2e_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"liaison/internal/postgres/pgtest"
)

// everything counts all rows that anybody could have stored.
const everything = `SELECT (SELECT count(*) FROM incident) + (SELECT count(*) FROM ledger_entry) + (SELECT count(*) FROM comment) + (SELECT count(*) FROM external_link)
	+ (SELECT count(*) FROM delivery) + (SELECT count(*) FROM inbox) + (SELECT count(*) FROM idempotency) + (SELECT count(*) FROM feed)`

// Issue 2, points 5 and 9: bad input gets a clear error, nothing is stored, and the hub lives on.
func TestRefusals(t *testing.T) {
	t.Parallel()
	database := pgtest.NewServer(t)
	h := served(t, simulate(t), database.URL(), "")
	tables := database.SuperuserURL("liaison")
	id, _ := h.report(t, "Here already")
	closed, _ := h.report(t, "Over already")
	h.mutate(t, "resolveIncident", closed, `, resolution: "done"`)
	h.mutate(t, "closeIncident", closed, "")
	eventually(t, 10*time.Second, "the feed holds everything", func() error {
		if n := query[int](t, tables, `SELECT (SELECT count(*) FROM ledger_entry) - (SELECT count(*) FROM feed)`); n != 0 {
			return fmt.Errorf("%d entries are not in it", n)
		}
		return nil
	})
	before := query[int](t, tables, everything)

	for _, c := range []struct {
		name, token, document string
		v                     vars
		code, field, says     string
	}{
		{
			"an oversize comment", requester, `mutation($id: ID!, $body: String!) { addComment(input: {incidentId: $id, body: $body}) { comment { id } } }`,
			vars{"id": id, "body": strings.Repeat("ü", 16001)},
			"BAD_USER_INPUT", "body", "32002 bytes.*32000",
		},
		{"an empty comment", requester, `mutation($id: ID!) { addComment(input: {incidentId: $id, body: " \n"}) { comment { id } } }`, vars{"id": id}, "BAD_USER_INPUT", "body", "empty"},
		{"a work note by a requester", requester, `mutation($id: ID!) { addComment(input: {incidentId: $id, body: "x", visibility: INTERNAL}) { comment { id } } }`, vars{"id": id}, "FORBIDDEN", "", "only the desk"},
		{"a comment on what is closed", requester, `mutation($id: ID!) { addComment(input: {incidentId: $id, body: "x"}) { comment { id } } }`, vars{"id": closed}, "INVALID_TRANSITION", "", "CLOSED is read only"},
		{"a confidential incident", requester, `mutation { reportIncident(input: {description: "secret", confidential: true}) { incident { id } } }`, nil, "BAD_USER_INPUT", "confidential", "cannot be kept yet.*not stored"},
		{"no description", requester, `mutation { reportIncident(input: {description: "  "}) { incident { id } } }`, nil, "BAD_USER_INPUT", "description", "empty"},
		{"an unknown category", requester, `mutation { reportIncident(input: {description: "x", category: "Hardwear"}) { incident { id } } }`, nil, "BAD_USER_INPUT", "category", "Hardwear.*Hardware"},
		{"an unknown organisation", agent, `mutation { reportIncident(input: {description: "x", organisation: "barnfeld"}) { incident { id } } }`, nil, "BAD_USER_INPUT", "organisation", "not known"},
		{"another desk's organisation", agent, `mutation { reportIncident(input: {description: "x", organisation: "lindenschule"}) { incident { id } } }`, nil, "BAD_USER_INPUT", "organisation", "not known"},
		{"another organisation by a requester", requester, `mutation { reportIncident(input: {description: "x", organisation: "oakwood"}) { incident { id } } }`, nil, "FORBIDDEN", "", "only for your own organisation"},
		{"a list of an unknown organisation", agent, `{ incidents(filter: {organisation: "barnfeld"}) { totalCount } }`, nil, "BAD_USER_INPUT", "organisation", "not known"},
		{"a state that does not exist", agent, `{ incidents(filter: {states: [OPENED]}) { totalCount } }`, nil, "GRAPHQL_VALIDATION_FAILED", "", "OPENED"},
		{"a state that does not exist, as a variable", agent, `query($s: [IncidentState!]) { incidents(filter: {states: $s}) { totalCount } }`, vars{"s": []string{"OPENED"}}, "BAD_USER_INPUT|GRAPHQL_VALIDATION_FAILED", "", "OPENED"},
		{"a step that the lifecycle lacks", agent, `mutation($id: ID!) { closeIncident(input: {incidentId: $id}) { incident { id } } }`, vars{"id": id}, "INVALID_TRANSITION", "state", "NEW cannot become CLOSED.*it can become"},
		{"reopening what is closed", agent, `mutation($id: ID!) { reopenIncident(input: {incidentId: $id}) { incident { id } } }`, vars{"id": closed}, "INVALID_TRANSITION", "state", "CLOSED"},
		{"a deferral without its end", agent, `mutation($id: ID!) { holdIncident(input: {incidentId: $id, reason: CUSTOMER_DEFERRAL}) { incident { id } } }`, vars{"id": id}, "BAD_USER_INPUT", "until", "in the future"},
		{"a state by a requester", requester, `mutation($id: ID!) { beginWork(input: {incidentId: $id}) { incident { id } } }`, vars{"id": id}, "FORBIDDEN", "", "only the desk"},
		{"an old version", agent, `mutation($id: ID!) { beginWork(input: {incidentId: $id, expectedVersion: 7}) { incident { id } } }`, vars{"id": id}, "CONFLICT", "expectedVersion", "version 1, not 7"},
		{"an unknown system", agent, `mutation($id: ID!) { escalateIncident(input: {incidentId: $id, system: "btls-servicnow"}) { link { id } } }`, vars{"id": id}, "BAD_USER_INPUT", "system", "btls-servicnow.*use one of btls-servicenow"},
		{"an escalation by a requester", requester, `mutation($id: ID!) { escalateIncident(input: {incidentId: $id, system: "btls-servicenow"}) { link { id } } }`, vars{"id": id}, "FORBIDDEN", "", "only the desk"},
		{"an id that is none", agent, `{ incident(id: "nonsense") { id } }`, nil, "BAD_USER_INPUT", "id", ""},
		{"an incident that there is not", agent, `{ incident(number: "INC9999999") { id } }`, nil, "NOT_FOUND", "", ""},
		{"no token", "", `{ viewer { name } }`, nil, "UNAUTHENTICATED", "", "Bearer"},
		{"a wrong token", "demo-agent2", `{ viewer { name } }`, nil, "UNAUTHENTICATED", "", "not valid"},
		{"a page too large", agent, `{ incidents(first: 101) { totalCount } }`, nil, "BAD_USER_INPUT", "first", "100"},
		{"a field that there is not", agent, `{ incidents { nodes { nmber } } }`, nil, "GRAPHQL_VALIDATION_FAILED", "", `nmber.*number`},
	} {
		err := h.try(t, c.token, c.document, c.v, nil)
		refused := (*gqlError)(nil)
		if !errors.As(err, &refused) {
			t.Errorf("%s: it was answered with %v, want an error", c.name, err)
			continue
		}
		matches := func(pattern, text string) bool { return regexp.MustCompile("(?s)" + pattern).MatchString(text) }
		if !matches("^("+c.code+")$", refused.Extensions.Code) || !matches("^("+c.field+")$", refused.Extensions.Field) || !matches(c.says, refused.Message) {
			t.Errorf("%s: refused with code %q, field %q: %q; want %q, %q, %q", c.name, refused.Extensions.Code, refused.Extensions.Field, refused.Message, c.code, c.field, c.says)
		}
	}
	for _, c := range []struct {
		name, path, body string
		header           map[string]string
		status           int
		says             string
	}{
		{"no secret", "/hooks/btls-servicenow", `{"sys_id": "x"}`, nil, http.StatusUnauthorized, "secret is missing or wrong"},
		{"a wrong secret", "/hooks/btls-servicenow", `{"sys_id": "x"}`, map[string]string{hookHeader: hookSecret + "x"}, http.StatusUnauthorized, "secret is missing or wrong"},
		{"a signature in place of the secret", "/hooks/btls-servicenow", `{}`, map[string]string{hookHeader: sign(`{}`)}, http.StatusUnauthorized, "secret is missing or wrong"},
		{"an unknown system", "/hooks/nowhere", `{"sys_id": "x"}`, map[string]string{hookHeader: hookSecret}, http.StatusUnauthorized, "secret is missing or wrong"},
		{"a body too large", "/hooks/btls-servicenow", `"` + strings.Repeat("x", 1<<20) + `"`, map[string]string{hookHeader: hookSecret}, http.StatusRequestEntityTooLarge, "the body is larger than"},
		{"GraphQL that is no JSON", "/graphql", `{ viewer }`, map[string]string{"Authorization": "Bearer " + agent, "Content-Type": "application/json"}, http.StatusBadRequest, "no JSON"},
		{"GraphQL as a form", "/graphql", `query=mutation`, map[string]string{"Authorization": "Bearer " + agent, "Content-Type": "application/x-www-form-urlencoded"}, http.StatusUnsupportedMediaType, "application/json"},
	} {
		status, answer, err := request(t, http.MethodPost, h.url+c.path, c.body, c.header)
		if err != nil || status != c.status || !strings.Contains(answer, c.says) {
			t.Errorf("%s over HTTP is answered with %d %s %v, want %d and %q", c.name, status, answer, err, c.status, c.says)
		}
	}
	// What exists and may not be known answers like what does not exist (RELIABILITY.md I1).
	for _, c := range []struct{ token, foreign, none string }{
		{requester, "oakwood", "nowhere"}, {agent, "lindenschule", "nowhere"},
	} {
		for _, document := range []string{
			`mutation($o: ID!) { reportIncident(input: {description: "x", organisation: $o}) { incident { id } } }`,
			`query($o: ID!) { incidents(filter: {organisation: $o}) { totalCount } }`, `query($o: ID!) { organisation(id: $o) { name } }`,
		} {
			foreign, none := h.try(t, c.token, document, vars{"o": c.foreign}, nil), h.try(t, c.token, document, vars{"o": c.none}, nil)
			if foreign == nil || none == nil || foreign.Error() != none.Error() {
				t.Errorf("%s: a foreign organisation is answered with %v, one that there is not with %v", document, foreign, none)
			}
		}
	}
	if after := query[int](t, tables, everything); after != before {
		t.Errorf("%d rows were stored by what was refused", after-before)
	}
	// What a vendor sends and nobody understands is kept for whoever mends it.
	for name, c := range map[string]struct{ body, kind string }{
		"cut JSON": {`{"sys_id": `, "application/json"}, "no body": {``, "application/json"}, "another type": {`<ticket/>`, "text/html"},
	} {
		status, answer, err := request(t, http.MethodPost, h.url+"/hooks/btls-servicenow", c.body, map[string]string{hookHeader: hookSecret, "Content-Type": c.kind})
		if err != nil || status != http.StatusAccepted || !strings.Contains(answer, "stored, but not understood") {
			t.Errorf("%s: answered with %d %s %v, want 202 and that it was not understood", name, status, answer, err)
		}
	}
	if status, _, err := get(t, h.url+"/readyz"); err != nil || status != http.StatusOK {
		t.Errorf("after all that the hub answers %d, %v", status, err)
	}
	if theirs := h.look(t, agent, id); theirs.Version != 1 || theirs.State != "NEW" {
		t.Errorf("the incident became %+v", theirs)
	}
}

func sign(body string) string {
	mac := hmac.New(sha256.New, []byte(hookSecret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// A webhook body that is JSON and not understood is kept for a person, not lost, and harms nobody.
func TestAWebhookThatIsNotUnderstoodIsParked(t *testing.T) {
	t.Parallel()
	database := pgtest.NewServer(t)
	h := served(t, simulate(t), database.URL(), "")
	status, answer, err := request(t, http.MethodPost, h.url+"/hooks/btls-servicenow", `{"hello": "world"}`, map[string]string{hookHeader: hookSecret, "Content-Type": "application/json"})
	if err != nil || status != http.StatusAccepted || !strings.Contains(answer, "not understood") {
		t.Errorf("it is answered with %d %s %v", status, answer, err)
	}
	if got := query[string](t, database.SuperuserURL("liaison"), `SELECT state || ': ' || convert_from(body, 'UTF8') FROM inbox`); got != `PARKED: {"hello": "world"}` {
		t.Errorf("the inbox holds %q", got)
	}
}

// Issue 2, point 9: a settings file with a mistake names the key, the line and what was probably meant; exit code 2.
func TestSettingsThatAreWrong(t *testing.T) {
	t.Parallel()
	home := folder(t)
	good := "addr: 127.0.0.1:8080\ndesks:\n  - {key: btls, name: BTLS}\norganisations:\n  - {key: barnfield, name: Barnfield, desk: btls}\n"
	for n, c := range []struct{ name, text, says string }{
		{"an unknown key", good + "systms: []\n", `:6:1: systms: .*did you mean "systems"`},
		{"an unknown key further in", strings.Replace(good, "name: BTLS", "nam: BTLS", 1), `:3:\d+: desks\[0\]\.nam: .*did you mean "name"`},
		{"an unknown desk", strings.Replace(good, "desk: btls", "desk: btl", 1), `:5:\d+: organisations\[0\]\.desk: .*"btls"`},
		{"an unknown connector", good + "systems:\n  - {key: x, name: X, connector: servicnow, desk: btls, url: 'http://127.0.0.1:1', auth: {token: {env: X}}}\n", `:7:\d+: systems\[0\]\.connector: .*did you mean "servicenow"`},
		{"a secret in the file", good + "tokens:\n  - {token: s3cret, name: A, desk: btls, roles: [agent]}\n", `:7:\d+: tokens\[0\]\.token: `},
		{"a secret that is not set", good + "tokens:\n  - {token: {env: NOT_THERE}, name: A, desk: btls, roles: [agent]}\n", `:7:\d+: tokens\[0\]\.token: .*NOT_THERE`},
		{"an address for others", strings.Replace(good, "127.0.0.1:8080", "0.0.0.0:8080", 1), `:1:\d+: addr: .*allow_remote`},
		{"no YAML", "addr: [\n", `:\d+`},
	} {
		path := write(t, filepath.Join(home, fmt.Sprintf("%d.yaml", n)), c.text)
		stdout, stderr, code := run(t, command{args: []string{"serve", "--config", path}})
		if code != 2 || stdout != "" || !regexp.MustCompile(regexp.QuoteMeta(filepath.Base(path))+c.says).MatchString(stderr) || strings.Contains(stderr, "s3cret") {
			t.Errorf("%s: exit code %d, printed %q and %q; want 2 and %s", c.name, code, stdout, stderr, c.says)
		}
	}
	if _, stderr, code := run(t, command{args: []string{"serve", "--config", filepath.Join(home, "none.yaml")}}); code != 2 || !strings.Contains(stderr, "none.yaml") {
		t.Errorf("a settings file that is not there: exit code %d, %q", code, stderr)
	}
	if _, stderr, code := run(t, command{args: []string{"sevre"}}); code != 2 || !strings.Contains(stderr, "serve") {
		t.Errorf("an unknown command: exit code %d, %q", code, stderr)
	}
	for _, args := range [][]string{{"demo", "--addr", "0.0.0.0:8080"}, {"simulate", "servicenow", "--addr", "10.1.2.3:80"}} {
		if _, stderr, code := run(t, command{args: args}); code == 0 || !strings.Contains(stderr, "loopback") {
			t.Errorf("liaison %v: exit code %d, %q; want a refusal", args, code, stderr)
		}
	}
	if entries, err := os.ReadDir(home); err != nil || len(entries) != 8 {
		t.Errorf("the refused hubs left %v (%v)", entries, err)
	}
}

// Issue 2, point 8: the mapping can be checked and asked without a hub.
func TestMappingCommands(t *testing.T) {
	t.Parallel()
	if stdout, stderr, code := run(t, command{args: []string{"mapping", "check"}}); code != 0 || !strings.Contains(stdout, "connectors/servicenow/mapping.yaml") && !strings.Contains(stdout, "servicenow: good") {
		t.Errorf("mapping check: exit code %d, %q, %q", code, stdout, stderr)
	}
	stdout, stderr, code := run(t, command{args: []string{"mapping", "explain", "--system", "btls-servicenow", "--vendor", `{"state":"3","hold_reason":"4"}`}})
	if code != 0 || !strings.Contains(stdout, "ON_HOLD/AWAITING_VENDOR") {
		t.Errorf("mapping explain: exit code %d, %q, %q", code, stdout, stderr)
	}
	stdout, stderr, code = run(t, command{args: []string{"mapping", "explain", "--system", "btls-servicenow", "--vendor", `{"state":"9","hold_reason":""}`}})
	if code != 0 || !strings.Contains(stdout, `"9"`) {
		t.Errorf("mapping explain of an unknown state: exit code %d, %q, %q", code, stdout, stderr)
	}
	bad := write(t, filepath.Join(folder(t), "own.yaml"), "vendor: ServiceNow\nstates:\n  rows:\n    - {hub: DONE, vendor: {state: \"6\"}}\n")
	if _, stderr, code := run(t, command{args: []string{"mapping", "check", "--connector", "servicenow", bad}}); code != 1 || !strings.Contains(stderr, "own.yaml:4") || !strings.Contains(stderr, `"DONE"`) {
		t.Errorf("mapping check of a wrong file: exit code %d, %q", code, stderr)
	}
}

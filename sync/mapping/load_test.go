package mapping

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"liaison/connectors"
	"liaison/internal/incident"
)

// vendorFile reads a connector's own mapping, the one that it carries.
func vendorFile(t testing.TB, connector string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "connectors", connector, "mapping.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func vendorMapping(t testing.TB, connector string) *Mapping {
	t.Helper()
	m, err := Load(connector+"/mapping.yaml", vendorFile(t, connector))
	if err != nil {
		t.Fatalf("the mapping that the connector carries is refused:\n%v", err)
	}
	return m
}

// small is a complete mapping that the cases of TestProblems break in one place each.
const small = `vendor: Desk
vendor_values:
  status: [open, held, done]
  why: ["", customer]
  level: "0..9"
fields:
  title: {vendor: subject, max: 20}
states:
  owner: vendor
  rows:
    - {hub: IN_PROGRESS, vendor: {status: open}}
    - {hub: [NEW, AWAITING_TRIAGE, ASSIGNED], vendor: {status: open}, use: write}
    - {hub: ON_HOLD/AWAITING_CUSTOMER, vendor: {status: held, why: customer}}
    - {hub: ON_HOLD, vendor: {status: held, why: ""}}
    - hub: RESOLVED
      vendor: {status: done}
      with: {notes: "{resolution|Done.}"}
  not_writable:
    - {hub: [CLOSED, CANCELLED], reason: the desk closes by itself}
    - {hub: "*", reason: the desk knows no such reason}
priorities:
  rows:
    - {hub: P1, vendor: {level: "8.."}, write: {level: "9"}}
    - {hub: P5, vendor: {level: "0..7"}, write: {level: "3"}}
  not_writable:
    - {hub: [NONE, P2, P3, P4], then: skip, reason: the desk has two levels}
not_mapped:
  description: no
  deferredTo: no
  resolution: no
  impact: no
  urgency: no
  category: no
  service: no
  team: no
  assignee: no
  contact: no
`

func TestSmallIsSound(t *testing.T) {
	t.Parallel()
	m, err := Load("small.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	if problems := m.Check(); len(problems) != 0 {
		t.Errorf("Check finds what Load did not: %v", problems)
	}
}

// Every case breaks one thing. The error must name the file and the line, the problem and the remedy.
func TestProblems(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		old, new string
		want     []string // parts of one line of the error
	}{
		"unknown key, nearest named":      {"not_mapped:\n", "not_maped:\n", []string{"x.yaml:27: ", `no key "not_maped"`, `did you mean "not_mapped"?`}},
		"unknown key of a row":            {"use: write}", "uses: write}", []string{"x.yaml:12: ", `"uses"`, `did you mean "use"?`}},
		"key twice":                       {"  contact: no\n", "  contact: no\n  team: yes\n", []string{"x.yaml:38: ", `"team" twice`, "line 35", "remove one"}},
		"table twice":                     {"not_mapped:\n", "priorities:\n  rows: []\nnot_mapped:\n", []string{"x.yaml:27: ", `"priorities" twice`}},
		"vendor missing":                  {"vendor: Desk\n", "", []string{"x.yaml: ", "vendor: is missing"}},
		"hub field forgotten":             {"  contact: no\n", "", []string{"x.yaml: ", "hub fields contact", "not_mapped:"}},
		"hub field twice":                 {"  contact: no\n", "  contact: no\n  title: no\n", []string{"x.yaml:38: ", "title is mapped twice", "x.yaml:7"}},
		"unknown hub field":               {"  contact: no", "  contakt: no", []string{"x.yaml:37: ", `"contakt" is no hub field`, `did you mean "contact"?`}},
		"unknown hub word":                {"hub: IN_PROGRESS", "hub: IN_PROGRES", []string{"x.yaml:11: ", `"IN_PROGRES" is no state of the hub`, `did you mean "IN_PROGRESS"?`}},
		"hold reason of another state":    {"hub: ON_HOLD/AWAITING_CUSTOMER", "hub: NEW/AWAITING_CUSTOMER", []string{"x.yaml:13: ", `"NEW/AWAITING_CUSTOMER" is no state`}},
		"unknown hub word not writable":   {"hub: [CLOSED, CANCELLED]", "hub: [CLOSED, CANCELED]", []string{"x.yaml:19: ", `did you mean "CANCELLED"?`}},
		"hub value nobody writes":         {"NONE, P2, P3, P4", "NONE, P2, P3", []string{"x.yaml:21: ", "P4 is written by no row of priorities", "not_writable"}},
		"hub value written twice":         {"hub: [NEW, AWAITING_TRIAGE", "hub: [NEW, IN_PROGRESS, AWAITING_TRIAGE", []string{"x.yaml:12: ", "IN_PROGRESS is written by two rows", "x.yaml:11"}},
		"written and not writable":        {"hub: [CLOSED, CANCELLED]", "hub: [CLOSED, CANCELLED, NEW]", []string{"x.yaml:19: ", "NEW is declared not writable but written", "x.yaml:12"}},
		"not writable twice":              {"hub: [CLOSED, CANCELLED]", "hub: [CLOSED, CANCELLED, \"*\"]", []string{"x.yaml:20: ", "twice", "x.yaml:19"}},
		"empty value of a state":          {"hub: IN_PROGRESS", `hub: ""`, []string{"x.yaml:11: ", `"" is no state`}},
		"several values in a reading row": {"ASSIGNED], vendor: {status: open}, use: write", "ASSIGNED], vendor: {status: open}", []string{"x.yaml:12: ", "several hub values", "use: write"}},
		"vendor value nobody reads":       {"status: [open, held, done]", "status: [open, held, done, lost]", []string{"x.yaml:8: ", `status "lost" with why ""`, "read by no row of states", "add a row"}},
		"combination nobody reads":        {`why: ["", customer]`, `why: ["", customer, "5"]`, []string{"x.yaml:8: ", `status "held" with why "5"`}},
		"range with a hole":               {`"0..7"`, `"0..5"`, []string{"x.yaml:21: ", `level "6"; level "7"`}},
		"row that can never match":        {"    - {hub: ON_HOLD, vendor: {status: held, why: \"\"}}\n", "    - {hub: ON_HOLD, vendor: {status: held, why: \"\"}}\n    - {hub: CLOSED, vendor: {status: held}, use: read}\n", []string{"x.yaml:15: ", "never read", "x.yaml:13, x.yaml:14", "move it before"}},
		"undocumented vendor word":        {"vendor: {status: done}", "vendor: {status: dome}", []string{"x.yaml:15: ", `status "dome"`, `did you mean "done"?`}},
		"undocumented written word":       {`write: {level: "9"}`, `write: {level: "10"}`, []string{"x.yaml:23: ", `level "10"`, "vendor_values.level (x.yaml:5)"}},
		"vendor field without values":     {`  level: "0..9"` + "\n", "", []string{"x.yaml:22: ", "vendor_values has no level", `level: ["1", "2"]`}},
		"read back as another value":      {`write: {level: "3"}`, `write: {level: "8"}`, []string{"x.yaml:24: ", `P5 is written as level "8", which is read back as P1 (x.yaml:23)`}},
		"left open what decides":          {"vendor: {status: held, why: customer}", "vendor: {status: held, why: customer}, write: {status: held}", []string{"x.yaml:13: ", "ON_HOLD/AWAITING_CUSTOMER is written as", "read back as ON_HOLD (x.yaml:14)"}},
		"writes nothing that is read":     {`write: {level: "9"}`, `write: {other: "9"}`, []string{"x.yaml:23: ", "priority is read from level", "writes none of them", "computed:"}},
		"range without a written word":    {`, write: {level: "9"}`, "", []string{"x.yaml:23: ", `"8.."`, "add write: {level: ...}"}},
		"anything without a written word": {"vendor: {status: done}", `vendor: {status: "*"}`, []string{"x.yaml:15: ", "does not tell what to write", "use: read"}},
		"one vendor field for two":        {"with: {notes: ", "with: {subject: ", []string{"x.yaml:15: ", "subject is written for state and for title (x.yaml:7)"}},
		"one vendor field twice in a row": {"with: {notes: ", "with: {status: ", []string{"x.yaml:15: ", "status is written by both"}},
		"computed field written":          {"fields:\n", "computed:\n  level:\n    - {when: {notes: x}, gives: \"1\"}\nfields:\n", []string{"x.yaml:26: ", "the vendor computes level itself (x.yaml:7)"}},
		"computed rule incomplete":        {"fields:\n", "computed:\n  level:\n    - {gives: \"1\"}\nfields:\n", []string{"x.yaml:8: ", "lacks when: or gives:"}},
		"computed word undocumented":      {"fields:\n", "computed:\n  level:\n    - {when: {status: opne}, gives: \"1\"}\nfields:\n", []string{"x.yaml:8: ", `did you mean "open"?`}},
		"reference to no hub field":       {"{resolution|Done.}", "{resolutoin|Done.}", []string{"x.yaml:17: ", `"resolutoin"`, `did you mean "resolution"?`}},
		"reference not closed":            {"{resolution|Done.}", "{resolution|Done.", []string{"x.yaml:17: ", "not closed"}},
		"time layout for a text":          {"{resolution|Done.}", "{resolution as 2006|Done.}", []string{"x.yaml:17: ", "resolution is no time"}},
		"text too long for the field":     {"title: {vendor: subject, max: 20}", "title: {vendor: subject, max: 20}\n  resolution: {vendor: notes, direction: in, max: 4}", []string{"x.yaml:16: ", "5 runes", "takes 4"}},
		"table field as a text":           {"title: {vendor", "priority: {vendor", []string{"x.yaml:7: ", "priority", "under priorities:"}},
		"text without a vendor field":     {"title: {vendor: subject, max: 20}", "title: {max: 20}", []string{"x.yaml:7: ", "lacks vendor:"}},
		"wrong direction":                 {"max: 20", "direction: ouit", []string{"x.yaml:7: ", `"ouit"`, `did you mean "out"?`}},
		"wrong maximum":                   {"max: 20", "max: -1", []string{"x.yaml:7: ", `"-1"`, "above 0"}},
		"unit without a maximum":          {"max: 20", "unit: bytes", []string{"x.yaml:7: ", "add max:"}},
		"wrong owner":                     {"owner: vendor", "owner: vender", []string{"x.yaml:9: ", `did you mean "vendor"?`}},
		"wrong use":                       {"use: write}", "use: wrote}", []string{"x.yaml:12: ", `did you mean "write"?`}},
		"range the wrong way round":       {`"0..9"`, `"9..0"`, []string{"x.yaml:5: ", "ends before it begins"}},
		"range too long":                  {`"0..9"`, `"-9223372036854775808..9223372036854775807"`, []string{"x.yaml:5: ", "more than 1000 values"}},
		"range with one end as values":    {`"0..9"`, `"0.."`, []string{"x.yaml:5: ", "only one end"}},
		"value listed twice":              {"[open, held, done]", "[open, held, open]", []string{"x.yaml:3: ", `"open" twice`}},
		"no value at all":                 {"hub: IN_PROGRESS", "hub: ", []string{"x.yaml:11: ", "has no value", `""`}},
		"a list where a word belongs":     {"vendor: Desk", "vendor: [Desk]", []string{"x.yaml:1: ", "vendor is a list", "a single word"}},
		"a word where a list belongs":     {"hub: P1, vendor: {level: \"8..\"}", "hub: P1, vendor: level", []string{"x.yaml:23: ", "keys with values"}},
		"rows missing":                    {"priorities:\n  rows:\n", "priorities:\n  rowz:\n", []string{"x.yaml:21: ", "no rows"}},
		"alias":                           {"vendor: {status: open}}", "vendor: &a {status: open}}", []string{"x.yaml:11: ", "anchor or alias"}},
		"tag":                             {"vendor: Desk", "vendor: !!str Desk", []string{"x.yaml:1: ", "tag"}},
		"second document":                 {"not_mapped:\n", "---\nnot_mapped:\n", []string{"x.yaml:27: ", "second YAML document"}},
		"no YAML":                         {"vendor: Desk", "vendor: [Desk", []string{"x.yaml", "no YAML"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(small, tt.old) {
				t.Fatalf("the mapping of the test has no %q", tt.old)
			}
			m, err := Load("x.yaml", []byte(strings.Replace(small, tt.old, tt.new, 1)))
			if err == nil {
				t.Fatal("it is accepted")
			}
			if m != nil {
				t.Error("a mapping with faults is returned")
			}
			if one := (Problem{}); !errors.As(err, &one) || one.File != "x.yaml" || one.Remedy == "" {
				t.Errorf("the error holds no Problem with file and remedy: %#v", one)
			}
			for line := range strings.Lines(err.Error()) {
				if !slices.ContainsFunc(tt.want, func(part string) bool { return !strings.Contains(line, part) }) {
					return
				}
			}
			t.Errorf("no line has %q:\n%v", tt.want, err)
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	broken := strings.NewReplacer("owner: vendor", "owner: me", "hub: P5", "hub: P6", "max: 20", "max: x").Replace(small)
	_, err := Load("x.yaml", []byte(broken))
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 2 { // P6 is a matter of meaning and waits until the form is right
		t.Fatalf("want the faults of form together, got\n%v", err)
	}
	if problems[0].Line != 7 || problems[1].Line != 9 {
		t.Errorf("the faults are not in the order of their lines: %v", problems)
	}
}

func TestEmptyAndHugeFiles(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"empty": "", "comment": "# nothing\n", "null": "~\n", "list": "[a]\n", "huge": strings.Repeat("#", largestFile+1),
	} {
		if _, err := Load("x.yaml", []byte(data)); err == nil || !strings.Contains(err.Error(), "x.yaml") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	base := vendorMapping(t, "servicenow")
	before := base.Read(connectors.Fields{"state": "3", "hold_reason": "6"}).Parked[incident.FieldState]

	// The instance has a hold reason of its own for deferrals: the default refuses to write one.
	own := `
vendor: ServiceNow
vendor_values:
  hold_reason: ["", "1", "3", "4", "5", "6"]
states:
  owner: hub
  rows:
    - {hub: NEW, vendor: {state: "1"}}
    - {hub: [AWAITING_TRIAGE, ASSIGNED], vendor: {state: "1"}, use: write}
    - {hub: IN_PROGRESS, vendor: {state: "2"}}
    - {hub: ON_HOLD/AWAITING_CUSTOMER, vendor: {state: "3", hold_reason: "1"}}
    - {hub: ON_HOLD/AWAITING_PROBLEM, vendor: {state: "3", hold_reason: "3"}}
    - {hub: ON_HOLD/AWAITING_VENDOR, vendor: {state: "3", hold_reason: "4"}}
    - {hub: ON_HOLD/AWAITING_CHANGE, vendor: {state: "3", hold_reason: "5"}}
    - hub: ON_HOLD/CUSTOMER_DEFERRAL
      vendor: {state: "3", hold_reason: "6"}
      with: {follow_up: "{deferredTo as 2006-01-02 15:04:05|}"}
    - {hub: ON_HOLD, vendor: {state: "3"}}
    - {hub: RESOLVED, vendor: {state: "6"}, with: {close_code: Solution provided, close_notes: "{resolution|Resolved.}"}}
    - {hub: CLOSED, vendor: {state: "7"}}
    - {hub: CANCELLED, vendor: {state: "8"}}
`
	// A last row that writes state alone would leave the reason as it was: ON_HOLD must write it.
	_, err := Overlay(base, "own.yaml", []byte(own))
	if err == nil || !strings.Contains(err.Error(), "own.yaml:18: ON_HOLD is written as state \"3\"") {
		t.Fatalf("a row that is not read back is accepted: %v", err)
	}
	own = strings.Replace(own, `vendor: {state: "3"}}`, `vendor: {state: "3", hold_reason: ""}}`, 1)
	m, err := Overlay(base, "own.yaml", []byte(own))
	if err != nil {
		t.Fatal(err)
	}

	deferred := incident.Values{incident.FieldState: "ON_HOLD/CUSTOMER_DEFERRAL", incident.FieldDeferredTo: "2030-01-31T09:00:00Z"}
	if got := m.Write(deferred, deferred).Fields(); got["hold_reason"] != "6" || got["follow_up"] != "2030-01-31 09:00:00" {
		t.Errorf("a deferral is written as %v", got)
	}
	if got := m.Read(connectors.Fields{"state": "3", "hold_reason": "6"}).Values[incident.FieldState]; got.Value != "ON_HOLD/CUSTOMER_DEFERRAL" || got.File != "own.yaml" || got.Line != 15 {
		t.Errorf("a deferral is read as %+v", got)
	}
	if m.Owner(incident.FieldState) != OwnerHub || base.Owner(incident.FieldState) != OwnerVendor {
		t.Error("the owner is not the own file's, or the default was changed")
	}
	// What the own file is silent about stays the default's.
	if got := m.Read(connectors.Fields{"category": "database"}).Values[incident.FieldCategory]; got.Value != "Data" || got.File != "servicenow/mapping.yaml" {
		t.Errorf("the category is read as %+v", got)
	}
	if m.Version() == base.Version() || len(m.Version()) != 12 {
		t.Errorf("versions %q and %q", m.Version(), base.Version())
	}
	if after := base.Read(connectors.Fields{"state": "3", "hold_reason": "6"}).Parked[incident.FieldState]; after == "" || after != before {
		t.Errorf("the default was changed: it parks %q, before %q", after, before)
	}
}

// The example in Request Tracker's file, with the custom field that a server may have.
func TestOverlayMapsWhatTheDefaultDoesNot(t *testing.T) {
	t.Parallel()
	m, err := Overlay(vendorMapping(t, "requesttracker"), "own.yaml", []byte(`
vendor_values:
  CustomFields.Severity: ["", S1, S2, S3, S4]
impacts:
  rows:
    - {hub: ENTERPRISE, vendor: {CustomFields.Severity: S1}}
    - {hub: SITE, vendor: {CustomFields.Severity: S2}}
    - {hub: MULTIPLE_USERS, vendor: {CustomFields.Severity: S3}}
    - {hub: SINGLE_USER, vendor: {CustomFields.Severity: S4}}
    - {hub: "", vendor: {CustomFields.Severity: ""}}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m.VendorFields(), []string{"CustomFields.Severity", "Priority", "Status", "Subject"}; !slices.Equal(got, want) {
		t.Errorf("a reading needs %q, want %q", got, want)
	}
	if got := m.Write(incident.Values{incident.FieldImpact: "SITE"}, nil).Fields(); got["CustomFields.Severity"] != "S2" {
		t.Errorf("SITE is written as %v", got)
	}
}

func TestOverlayProblems(t *testing.T) {
	t.Parallel()
	base := vendorMapping(t, "servicenow")
	for name, tt := range map[string]struct{ own, want string }{
		"another vendor":   {"vendor: Request Tracker\n", `own.yaml: the file is for "Request Tracker" but lies over a mapping for "ServiceNow"`},
		"a typo":           {"priorites: {rows: []}\n", `did you mean "priorities"?`},
		"an empty table":   {"priorities: {rows: []}\n", "own.yaml:1: P1 is written by no row of priorities"},
		"a default's word": {"vendor_values: {category: [\"\", inquiry, software, hardware, network]}\n", at(t, "hub: Data") + `: category "database" is none of`},
		"a field of two":   {"not_mapped: {priority: x}\nimpacts:\n  rows: [{hub: SITE, vendor: {impact: \"*\"}, write: {short_description: x}}]\n  not_writable: [{hub: \"*\", reason: x}]\n", "short_description is written for impact and for title"},
	} {
		if _, err := Overlay(base, "own.yaml", []byte(tt.own)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// A vendor field of which nobody can list the words, such as references by id, is declared open.
func TestOpenDomain(t *testing.T) {
	t.Parallel()
	own := `
vendor_values:
  assignment_group: ["", "*"]
teams:
  rows:
    - {hub: Network, vendor: {assignment_group: 287ebd7da9fe198100f92cc8d1d2154e}}
    - {hub: "", vendor: {assignment_group: ""}}
`
	m, err := Overlay(vendorMapping(t, "servicenow"), "own.yaml", []byte(own))
	if err != nil {
		t.Fatal(err)
	}
	read := func(group string) Reading { return m.Read(connectors.Fields{"assignment_group": group}) }
	if got := read("287ebd7da9fe198100f92cc8d1d2154e").Values[incident.FieldTeam].Value; got != "Network" {
		t.Errorf("the group is read as %q", got)
	}
	if got := read("elsewhere").Parked[incident.FieldTeam]; !strings.Contains(got, `assignment_group "elsewhere" is in no row of own.yaml; add a row under teams:`) {
		t.Errorf("an unknown group: %q", got)
	}
	if got := m.Write(incident.Values{incident.FieldTeam: "Phones"}, nil).Parked[incident.FieldTeam]; !strings.Contains(got, `"Phones" is written by no row of own.yaml`) {
		t.Errorf("an unknown team: %q", got)
	}
	if _, err := Overlay(vendorMapping(t, "servicenow"), "own.yaml", []byte(own+"    - {hub: Rest, vendor: {assignment_group: \"*\"}, use: read}\n")); err != nil {
		t.Errorf("a row for all others: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(small))
	f.Add(vendorFile(f, "servicenow"))
	f.Add(vendorFile(f, "requesttracker"))
	for _, s := range []string{"", "a: &a [*a]", "<<: {a: b}", "vendor: !!binary x", "states: {rows: [{hub: NEW, vendor: {s: \"..\"}}]}", "vendor_values: {a: \"-9223372036854775808..-9223372036854775807\"}", "\xff", "? [a]\n: b"} {
		f.Add([]byte(s))
	}
	base := vendorMapping(f, "servicenow")
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, load := range []func() (*Mapping, error){
			func() (*Mapping, error) { return Load("x.yaml", data) },
			func() (*Mapping, error) { return Overlay(base, "x.yaml", data) },
		} {
			m, err := load()
			var problems Problems
			switch {
			case err != nil && !errors.As(err, &problems):
				t.Fatalf("an error without problems: %v", err)
			case err != nil && m != nil, err == nil && m == nil:
				t.Fatal("neither a mapping nor an error, or both")
			case err == nil:
				for _, f := range incident.Fields() {
					w := m.Write(incident.Values{f: "x"}, nil)
					if len(w.Words)+len(w.Parked)+len(w.Skipped) != 1 {
						t.Fatalf("writing %s: %+v", f, w)
					}
				}
				m.Read(connectors.Fields{"state": "1", "hold_reason": ""})
			}
		}
	})
}

package mapping

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"liaison/connectors"
	"liaison/internal/incident"
)

// The codes of the vendor's document, section 8 ("Codes") and section 16 (the school helpdesk's portal).
func TestServiceNowReads(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	for _, tt := range []struct{ state, hold, want, says string }{
		{"1", "", "NEW", "New"},
		{"2", "", "IN_PROGRESS", "In Progress"},
		{"2", "1", "IN_PROGRESS", "In Progress"}, // a reason that was left behind
		{"3", "1", "ON_HOLD/AWAITING_CUSTOMER", "On Hold: Awaiting Caller"},
		{"3", "3", "ON_HOLD/AWAITING_PROBLEM", "On Hold: Awaiting Problem"},
		{"3", "4", "ON_HOLD/AWAITING_VENDOR", "On Hold: Awaiting Vendor"},
		{"3", "5", "ON_HOLD/AWAITING_CHANGE", "On Hold: Awaiting Change"},
		{"3", "", "ON_HOLD", "On Hold"},
		{"6", "", "RESOLVED", "Resolved"},
		{"7", "", "CLOSED", "Closed"},
		{"8", "", "CANCELLED", "Canceled"},
	} {
		got := m.Read(connectors.Fields{"state": tt.state, "hold_reason": tt.hold})
		if got.Values[incident.FieldState].Value != tt.want || got.State != tt.says {
			t.Errorf("state %q with hold_reason %q is read as %q (%q), want %q (%q)", tt.state, tt.hold,
				got.Values[incident.FieldState].Value, got.State, tt.want, tt.says)
		}
	}
	for number, want := range map[string]string{"1": "P1", "2": "P2", "3": "P3", "4": "P4", "5": "P5"} {
		if got := m.Read(connectors.Fields{"priority": number}).Values[incident.FieldPriority].Value; got != want {
			t.Errorf("priority %s is read as %q", number, got)
		}
	}
}

func TestServiceNowWrites(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	for name, tt := range map[string]struct {
		values incident.Values
		want   connectors.Fields
	}{
		"new":             {incident.Values{incident.FieldState: "NEW"}, connectors.Fields{"state": "1"}},
		"awaiting triage": {incident.Values{incident.FieldState: "AWAITING_TRIAGE"}, connectors.Fields{"state": "1"}},
		"assigned":        {incident.Values{incident.FieldState: "ASSIGNED"}, connectors.Fields{"state": "1"}},
		"on hold":         {incident.Values{incident.FieldState: "ON_HOLD/AWAITING_VENDOR"}, connectors.Fields{"state": "3", "hold_reason": "4"}},
		"no reason":       {incident.Values{incident.FieldState: "ON_HOLD"}, connectors.Fields{"state": "3", "hold_reason": ""}},
		// The data policy wants state, code and notes in one write (section 8).
		"resolved": {
			incident.Values{incident.FieldState: "RESOLVED", incident.FieldResolution: "Replaced the switch."},
			connectors.Fields{"state": "6", "close_code": "Solution provided", "close_notes": "Replaced the switch."},
		},
		"resolved without a text": {
			incident.Values{incident.FieldState: "RESOLVED", incident.FieldResolution: ""},
			connectors.Fields{"state": "6", "close_code": "Solution provided", "close_notes": "Resolved."},
		},
		"cancelled": {incident.Values{incident.FieldState: "CANCELLED"}, connectors.Fields{"state": "8"}},
		// A priority alone has no lasting effect: impact and urgency are written.
		"critical": {incident.Values{incident.FieldPriority: "P1"}, connectors.Fields{"impact": "1", "urgency": "1"}},
		"planning": {incident.Values{incident.FieldPriority: "P5"}, connectors.Fields{"impact": "3", "urgency": "3"}},
		"none":     {incident.Values{incident.FieldPriority: "NONE"}, connectors.Fields{}},
		"texts": {
			incident.Values{incident.FieldTitle: "No\nnetwork", incident.FieldDescription: "a\nb"},
			connectors.Fields{"short_description": "No network", "description": "a\nb"},
		},
	} {
		if diff := cmp.Diff(tt.want, m.Write(tt.values, tt.values).Fields()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestServiceNowDeferralFailsLoudly(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	w := m.Write(incident.Values{incident.FieldState: "ON_HOLD/CUSTOMER_DEFERRAL", incident.FieldTitle: "x"}, nil)
	if got := w.Parked[incident.FieldState]; !strings.Contains(got, "ON_HOLD/CUSTOMER_DEFERRAL is not written to ServiceNow") || !strings.Contains(got, "vendor_values.hold_reason") {
		t.Errorf("the reason to park: %q", got)
	}
	if w.Words[incident.FieldTitle]["short_description"] != "x" {
		t.Error("the title does not travel beside the parked state")
	}
	if got := m.Write(incident.Values{incident.FieldPriority: "NONE"}, nil); len(got.Parked) != 0 || got.Skipped[incident.FieldPriority] == "" {
		t.Errorf("a priority that nobody has set alarms people: %+v", got)
	}
}

// A corrected resolution of a resolved incident goes out though the state does not change.
func TestResolutionGoesAlong(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	change := incident.Values{incident.FieldResolution: "Replaced the cable."}
	for state, want := range map[string]connectors.Fields{"RESOLVED": {"close_notes": "Replaced the cable."}, "IN_PROGRESS": {}, "CLOSED": {}} {
		w := m.Write(change, incident.Values{incident.FieldState: state, incident.FieldResolution: "old"})
		if diff := cmp.Diff(want, w.Fields()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", state, diff)
		}
		if len(w.Words)+len(w.Skipped) != 1 {
			t.Errorf("%s: the change is not accounted for: %+v", state, w)
		}
	}
}

// The lifecycle of the test server and RT's stock one, and the priorities by number.
func TestRequestTracker(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "requesttracker")
	for status, want := range map[string]string{
		"new": "NEW", "acknowledged": "ASSIGNED", "in progress": "IN_PROGRESS", "on hold": "ON_HOLD", "resolved": "RESOLVED", "closed": "CLOSED",
		"cancelled": "CANCELLED", "deleted": "CANCELLED", "open": "IN_PROGRESS", "stalled": "ON_HOLD", "rejected": "CANCELLED",
	} {
		got := m.Read(connectors.Fields{"Status": status})
		if got.Values[incident.FieldState].Value != want || got.State != status {
			t.Errorf("%s is read as %+v", status, got)
		}
	}
	for number, want := range map[string]string{"0": "NONE", "1": "P5", "19": "P5", "20": "P4", "50": "P3", "79": "P2", "80": "P1", "100": "P1", "250": "P1"} {
		if got := m.Read(connectors.Fields{"Priority": number}).Values[incident.FieldPriority].Value; got != want {
			t.Errorf("priority %s is read as %q, want %q", number, got, want)
		}
	}
	for _, odd := range []string{"", "-1", "High", "5.0", " 5"} {
		if got := m.Read(connectors.Fields{"Priority": odd}); got.Parked[incident.FieldPriority] == "" {
			t.Errorf("priority %q is read as %+v", odd, got.Values)
		}
	}
	for _, reason := range incident.HoldReasons() {
		value := incident.StateValue(incident.OnHold, reason)
		if got := m.Write(incident.Values{incident.FieldState: value}, nil).Fields()["Status"]; got != "on hold" {
			t.Errorf("%s is written as %q", value, got)
		}
	}
	// The subject is cut to 200 bytes there (section Writing); a character is never cut in two here.
	title := "x" + strings.Repeat("ä", 100)
	if got := m.Write(incident.Values{incident.FieldTitle: title}, nil).Fields()["Subject"]; len(got) != 199 || !utf8.ValidString(got) {
		t.Errorf("a title of 201 bytes is written with %d", len(got))
	}
}

// An unknown word parks its own field with a reason that names the remedy, and no other field.
func TestUnknownWordsParkTheirField(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	got := m.Read(connectors.Fields{"state": "9", "hold_reason": "", "priority": "2", "short_description": "x"})
	want := `state "9" with hold_reason "" is in no row of servicenow/mapping.yaml; add a row under states:`
	if got.Parked[incident.FieldState] != want {
		t.Errorf("the reason is %q, want %q", got.Parked[incident.FieldState], want)
	}
	if got.State != "9" || len(got.Parked) != 1 || got.Values[incident.FieldPriority].Value != "P2" || got.Values[incident.FieldTitle].Value != "x" {
		t.Errorf("the rest of the update does not flow: %+v", got)
	}
	if diff := cmp.Diff(connectors.Fields{"state": "9", "hold_reason": ""}, got.Words[incident.FieldState]); diff != "" {
		t.Errorf("the raw words are not kept (-want +got):\n%s", diff)
	}
	if got := m.Read(connectors.Fields{"state": "3", "hold_reason": "2"}); got.State != "3 / 2" || got.Parked[incident.FieldState] == "" {
		t.Errorf("an unused hold reason: %+v", got)
	}
}

// What was not read is not spoken of: it is neither empty nor parked.
func TestPartialReadings(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	got := m.Read(connectors.Fields{"state": "3", "priority": "1"})
	if _, spoken := got.Words[incident.FieldState]; spoken || got.Parked[incident.FieldState] != "" || got.State != "" {
		t.Errorf("state without hold_reason: %+v", got)
	}
	if _, ok := m.WordsOf(incident.FieldState, connectors.Fields{"state": "3"}); ok {
		t.Error("half of the words count as all")
	}
	if _, ok := m.WordsOf(incident.FieldDescription, connectors.Fields{"description": "x"}); ok {
		t.Error("a field that only goes out is read")
	}
	if words, ok := m.WordsOf(incident.FieldState, connectors.Fields{"state": "3", "hold_reason": "", "other": "x"}); !ok || len(words) != 2 {
		t.Errorf("words of the state: %v %v", words, ok)
	}
	want := []string{"category", "close_notes", "hold_reason", "priority", "short_description", "state"}
	if diff := cmp.Diff(want, m.VendorFields()); diff != "" {
		t.Errorf("a reading needs (-want +got):\n%s", diff)
	}
}

func TestMeans(t *testing.T) {
	t.Parallel()
	sn, rt := vendorMapping(t, "servicenow"), vendorMapping(t, "requesttracker")
	long := strings.Repeat("x", 200)
	for name, tt := range map[string]struct {
		m      *Mapping
		remote connectors.Fields
		field  incident.Field
		yes    []string
		no     []string
	}{
		"shared words":   {sn, connectors.Fields{"state": "1", "hold_reason": ""}, incident.FieldState, []string{"NEW", "ASSIGNED", "AWAITING_TRIAGE"}, []string{"IN_PROGRESS", "ON_HOLD"}},
		"hold reasons":   {rt, connectors.Fields{"Status": "on hold"}, incident.FieldState, []string{"ON_HOLD", "ON_HOLD/CUSTOMER_DEFERRAL"}, []string{"NEW"}},
		"stock status":   {rt, connectors.Fields{"Status": "open"}, incident.FieldState, []string{"IN_PROGRESS"}, []string{"ASSIGNED"}},
		"cut":            {sn, connectors.Fields{"short_description": long[:160]}, incident.FieldTitle, []string{long, long[:160]}, []string{long[:159]}},
		"trailing blank": {sn, connectors.Fields{"short_description": "a"}, incident.FieldTitle, []string{"a", "a ", "a\n"}, []string{" a", "A"}},
		"line ends":      {sn, connectors.Fields{"close_notes": "a\r\nb \r\n"}, incident.FieldResolution, []string{"a\nb", "a\nb\n"}, []string{"a b"}},
	} {
		r := tt.m.Read(tt.remote).Values[tt.field]
		for _, v := range tt.yes {
			if !r.Means(v) {
				t.Errorf("%s: %v does not mean %q", name, tt.remote, v)
			}
		}
		for _, v := range tt.no {
			if r.Means(v) {
				t.Errorf("%s: %v means %q", name, tt.remote, v)
			}
		}
	}
}

// For every writable hub value: what was written is read back as it, or as a value that shares its words.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, connector := range []string{"servicenow", "requesttracker"} {
		m := vendorMapping(t, connector)
		t.Run(connector, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				values := anyValues(t)
				w := m.Write(values, values)
				for f := range values {
					if n := in(w.Words, f) + in(w.Parked, f) + in(w.Skipped, f); n != 1 {
						t.Fatalf("%s is in %d of words, parked and skipped: %+v", f, n, w)
					}
				}
				remote := anyTicket(t, m)
				for field, word := range w.Fields() {
					remote[field] = word
				}
				for field, c := range m.computed {
					if word, ok := c.gives(remote); ok {
						remote[field] = word
					}
				}
				got := m.Read(remote)
				for f, words := range w.Words {
					if len(m.readFields(f)) == 0 {
						continue
					}
					if r, understood := got.Values[f]; !understood || !r.Means(values[f]) {
						t.Fatalf("%s %q is written as %v and read back as %q (parked: %q)", f, values[f], words, r.Value, got.Parked[f])
					}
					for field, word := range w.Expect[f] {
						if remote[field] != word {
							t.Fatalf("%s: %s %q is expected, there is %q", f, field, word, remote[field])
						}
					}
				}
			})
		})
	}
}

func in[V any](m map[incident.Field]V, f incident.Field) int {
	if _, there := m[f]; there {
		return 1
	}
	return 0
}

func anyValues(t *rapid.T) incident.Values {
	text := rapid.StringOf(rapid.SampledFrom([]rune("aé日 \n\r\t{}")))
	return incident.Values{
		incident.FieldTitle:       text.Draw(t, "title"),
		incident.FieldDescription: text.Draw(t, "description"),
		incident.FieldResolution:  text.Draw(t, "resolution"),
		incident.FieldState:       rapid.SampledFrom(incident.StateValues()).Draw(t, "state"),
		incident.FieldPriority:    string(rapid.SampledFrom(incident.Priorities()).Draw(t, "priority")),
		incident.FieldImpact:      string(rapid.SampledFrom(append(incident.Impacts(), "")).Draw(t, "impact")),
		incident.FieldUrgency:     string(rapid.SampledFrom(append(incident.Urgencies(), "")).Draw(t, "urgency")),
		incident.FieldCategory:    rapid.SampledFrom(append(incident.DefaultCategories(), "", "Phones")).Draw(t, "category"),
		incident.FieldContact:     "Kim\n\nkim@example.test",
	}
}

// anyTicket draws a ticket out of the documented values.
func anyTicket(t *rapid.T, m *Mapping) connectors.Fields {
	out := connectors.Fields{}
	for _, field := range m.VendorFields() {
		if d := m.values[field]; d != nil {
			out[field] = rapid.SampledFrom(d.words).Draw(t, field)
		} else {
			out[field] = rapid.String().Draw(t, field)
		}
	}
	return out
}

// Every documented ticket is read whole: nothing of it parks.
func TestEveryDocumentedTicketIsRead(t *testing.T) {
	t.Parallel()
	for _, connector := range []string{"servicenow", "requesttracker"} {
		m := vendorMapping(t, connector)
		rapid.Check(t, func(t *rapid.T) {
			if got := m.Read(anyTicket(t, m)); len(got.Parked) != 0 || len(got.Values) != len(got.Words) || got.State == "" {
				t.Fatalf("%s: %+v", connector, got)
			}
		})
	}
}

// Every default category is written by every connector that maps categories.
func TestDefaultCategoriesTravel(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	for _, c := range append(incident.DefaultCategories(), "") {
		if w := m.Write(incident.Values{incident.FieldCategory: c}, nil); len(w.Words) != 1 {
			t.Errorf("category %q: %+v", c, w)
		}
	}
	if w := m.Write(incident.Values{incident.FieldCategory: "Phones"}, nil); !strings.Contains(w.Parked[incident.FieldCategory], "add a row under categories:") {
		t.Errorf("an organisation's own category: %+v", w)
	}
}

// The vendor cuts silently: what goes out fits, also where it goes along with another field.
func TestTextsFit(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	long := strings.Repeat("é", 5000)
	values := incident.Values{incident.FieldTitle: long, incident.FieldDescription: long, incident.FieldState: "RESOLVED", incident.FieldResolution: long}
	got := m.Write(values, values).Fields()
	for field, want := range map[string]int{"short_description": 160, "description": 4000, "close_notes": 4000} {
		if n := utf8.RuneCountInString(got[field]); n != want {
			t.Errorf("%s is written with %d characters, want %d", field, n, want)
		}
	}
}

// at returns file:line of the only line of ServiceNow's mapping that holds text.
func at(t *testing.T, text string) string {
	t.Helper()
	before, after, found := strings.Cut(string(vendorFile(t, "servicenow")), text)
	if !found || strings.Contains(after, text) {
		t.Fatalf("the mapping has %q not once", text)
	}
	return fmt.Sprintf("servicenow/mapping.yaml:%d", strings.Count(before, "\n")+1)
}

func TestExplain(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	got := m.Explain(connectors.Fields{"state": "3", "hold_reason": "4", "priority": "9", "short_descripton": "x", "category": "inquiry"})
	lines := strings.Split(strings.TrimSpace(got.String()), "\n")
	want := []string{
		`state       "ON_HOLD/AWAITING_VENDOR" = state "3" with hold_reason "4" (` + at(t, "hub: ON_HOLD/AWAITING_VENDOR") + `), there "On Hold: Awaiting Vendor"`,
		`priority    parked (` + at(t, "priorities:") + `): priority "9" is in no row of servicenow/mapping.yaml; add a row under priorities:`,
		`category    "" = category "inquiry" (` + at(t, "category: [inquiry, \"\"]") + `), there "Inquiry / Help"; the same words stand for Passwords/Logins`,
		`unused      short_descripton is read for no hub field; did you mean "short_description"?`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := m.Explain(connectors.Fields{"state": "3"}); len(got.Fields) != 1 || got.Fields[0].Verdict != Incomplete || !strings.Contains(got.String(), "read together with hold_reason") {
		t.Errorf("half a state: %s", got)
	}
}

func TestExplainHub(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	got := m.ExplainHub(incident.Values{incident.FieldState: "ON_HOLD/CUSTOMER_DEFERRAL", incident.FieldPriority: "P2", incident.FieldImpact: "SITE", "tittle": "x"})
	var verdicts []Verdict
	for _, f := range got.Fields {
		verdicts = append(verdicts, f.Verdict)
	}
	if !slices.Equal(verdicts, []Verdict{Parked, Translated, Skipped}) {
		t.Errorf("verdicts %q:\n%s", verdicts, got)
	}
	for _, want := range []string{`"P2" = impact "1" with urgency "2" (` + at(t, "hub: P2") + `)`, "cannot carry two hub fields", `did you mean "title"?`, at(t, "- hub: ON_HOLD/CUSTOMER_DEFERRAL")} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	values := incident.Values{incident.FieldResolution: "done", incident.FieldDeferredTo: "2030-01-31T10:00:00+01:00", incident.FieldTitle: ""}
	for source, want := range map[string]string{
		"plain": "plain", "": "", "{resolution}": "done", "Fixed: {resolution|?}.": "Fixed: done.", "{title|none}": "none", "{title|}": "",
		"{{x} {{{resolution}}": "{x} {done}", "{deferredTo as 2006-01-02 15:04:05}": "2030-01-31 09:00:00",
	} {
		tmpl, err := parseTemplate(source)
		if err != nil {
			t.Errorf("%q: %v", source, err)
			continue
		}
		if got, err := tmpl.render(func(f incident.Field) string { return values[f] }); err != nil || got != want {
			t.Errorf("%q becomes %q, %v; want %q", source, got, err, want)
		}
	}
	tmpl, _ := parseTemplate("{title}")
	if _, err := tmpl.render(func(incident.Field) string { return "" }); err == nil || !strings.Contains(err.Error(), "{title|...}") {
		t.Errorf("an empty value without a default: %v", err)
	}
}

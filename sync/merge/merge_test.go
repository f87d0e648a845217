package merge_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/mapping"
	"liaison/sync/merge"
)

func vendorMapping(t testing.TB, connector string) *mapping.Mapping {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "connectors", connector, "mapping.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := mapping.Load(connector+"/mapping.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// state is one ServiceNow state with its hold reason, as vendor words.
func state(s, hold string) connectors.Fields {
	return connectors.Fields{"state": s, "hold_reason": hold}
}

const field = incident.FieldState

// The rules, on the one field that has them all: ServiceNow's state, which three hub values share.
func TestRules(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	type bases = map[incident.Field]merge.Base
	base := func(hub string, vendor connectors.Fields) bases { return bases{field: {Hub: hub, Vendor: vendor}} }
	closed := func(_ incident.Field, v string) error {
		if v == "IN_PROGRESS" {
			return errors.New("an incident that is CLOSED cannot become IN_PROGRESS")
		}
		return nil
	}
	for name, tt := range map[string]struct {
		base    bases
		hub     string
		remote  connectors.Fields
		owner   merge.Owner // merge.Vendor, as the file has it, when left out
		pending bool
		parked  string
		accepts func(incident.Field, string) error
		want    merge.Outcome
	}{
		"nothing changed": {
			base: base("NEW", state("1", "")), hub: "NEW", remote: state("1", ""),
		},
		"only the hub changed": {
			base: base("NEW", state("1", "")), hub: "IN_PROGRESS", remote: state("1", ""),
		},
		"only the vendor changed": {
			base: base("NEW", state("1", "")), hub: "NEW", remote: state("2", ""),
			want: merge.Outcome{Take: incident.Values{field: "IN_PROGRESS"}, Agreed: base("IN_PROGRESS", state("2", ""))},
		},
		"the vendor's reason alone changed": {
			base: base("ON_HOLD/AWAITING_VENDOR", state("3", "4")), hub: "ON_HOLD/AWAITING_VENDOR", remote: state("3", "5"),
			want: merge.Outcome{Take: incident.Values{field: "ON_HOLD/AWAITING_CHANGE"}, Agreed: base("ON_HOLD/AWAITING_CHANGE", state("3", "5"))},
		},
		"a shared word that did not change leaves ours alone": {
			base: base("ASSIGNED", state("1", "")), hub: "ASSIGNED", remote: state("1", ""),
		},
		"a shared word that changed beside the point leaves ours alone": {
			base: base("ASSIGNED", state("1", "")), hub: "ASSIGNED", remote: state("1", "4"),
			want: merge.Outcome{Agreed: base("ASSIGNED", state("1", "4"))},
		},
		"the vendor went back to the shared word": {
			base: base("IN_PROGRESS", state("2", "")), hub: "ASSIGNED", remote: state("1", ""), pending: true,
			want: merge.Outcome{Agreed: base("ASSIGNED", state("1", ""))},
		},
		"both changed to the same": {
			base: base("NEW", state("1", "")), hub: "RESOLVED", remote: state("6", ""), pending: true,
			want: merge.Outcome{Agreed: base("RESOLVED", state("6", ""))},
		},
		"other words for the base, our change still waits": {
			base: base("IN_PROGRESS", state("2", "")), hub: "RESOLVED", remote: state("2", "1"), pending: true,
			want: merge.Outcome{Agreed: base("IN_PROGRESS", state("2", "1"))},
		},
		"conflict, the vendor owns": {
			base: base("NEW", state("1", "")), hub: "RESOLVED", remote: state("2", ""), owner: merge.Vendor, pending: true,
			want: merge.Outcome{
				Take: incident.Values{field: "IN_PROGRESS"}, Agreed: base("IN_PROGRESS", state("2", "")),
				Conflicts: []merge.Conflict{{Field: field, Base: "NEW", Hub: "RESOLVED", Remote: "IN_PROGRESS", Policy: mapping.PolicyVendor, Winner: merge.Vendor, Rule: "both sides changed state; the vendor owns it"}},
			},
		},
		"conflict, a rule of the lifecycle decides against the owner": {
			base: base("NEW", state("1", "")), hub: "RESOLVED", remote: state("2", ""), pending: true,
			want: merge.Outcome{
				Agreed: base("NEW", state("2", "")),
				Conflicts: []merge.Conflict{{
					Field: field, Base: "NEW", Hub: "RESOLVED", Remote: "IN_PROGRESS", Policy: mapping.PolicyLifecycle, Winner: merge.Hub,
					Rule: "both sides changed state; the hub says that it is resolved; whoever disagrees with that reopens it",
				}},
			},
		},
		"conflict, the lifecycle has no rule": {
			base: base("NEW", state("1", "")), hub: "IN_PROGRESS", remote: state("3", "4"), pending: true,
			want: merge.Outcome{
				Take: incident.Values{field: "ON_HOLD/AWAITING_VENDOR"}, Agreed: base("ON_HOLD/AWAITING_VENDOR", state("3", "4")),
				Conflicts: []merge.Conflict{{
					Field: field, Base: "NEW", Hub: "IN_PROGRESS", Remote: "ON_HOLD/AWAITING_VENDOR", Policy: mapping.PolicyLifecycle, Winner: merge.Vendor,
					Rule: "both sides changed state; no rule of the lifecycle prefers IN_PROGRESS or ON_HOLD/AWAITING_VENDOR; the vendor owns the state",
				}},
			},
		},
		"conflict, the hub owns and its delivery waits": {
			base: base("NEW", state("1", "")), hub: "RESOLVED", remote: state("2", ""), owner: merge.Hub, pending: true,
			want: merge.Outcome{
				Agreed:    base("NEW", state("2", "")),
				Conflicts: []merge.Conflict{{Field: field, Base: "NEW", Hub: "RESOLVED", Remote: "IN_PROGRESS", Policy: mapping.PolicyHub, Winner: merge.Hub, Rule: "both sides changed state; the hub owns it"}},
			},
		},
		"conflict, the hub owns and nothing waits": {
			base: base("NEW", state("1", "")), hub: "RESOLVED", remote: state("2", ""), owner: merge.Hub,
			want: merge.Outcome{
				Agreed: base("NEW", state("2", "")), Push: []incident.Field{field},
				Conflicts: []merge.Conflict{{Field: field, Base: "NEW", Hub: "RESOLVED", Remote: "IN_PROGRESS", Policy: mapping.PolicyHub, Winner: merge.Hub, Rule: "both sides changed state; the hub owns it"}},
			},
		},
		"a won conflict is not brought up again": {
			base: base("NEW", state("2", "")), hub: "RESOLVED", remote: state("2", ""), owner: merge.Hub,
		},
		"conflict with a value that the hub may not take": {
			base: base("NEW", state("1", "")), hub: "CLOSED", remote: state("2", ""), owner: merge.Vendor, accepts: closed,
			want: merge.Outcome{
				Agreed: base("NEW", state("2", "")), Push: []incident.Field{field},
				Conflicts: []merge.Conflict{{
					Field: field, Base: "NEW", Hub: "CLOSED", Remote: "IN_PROGRESS", Policy: mapping.PolicyVendor, Winner: merge.Hub,
					Rule: "both sides changed state; the vendor owns it, but the vendor's value cannot be taken: an incident that is CLOSED cannot become IN_PROGRESS",
				}},
			},
		},
		"a value that the hub may not take": {
			base: base("CLOSED", state("7", "")), hub: "CLOSED", remote: state("2", ""), accepts: closed,
			want: merge.Outcome{Parked: map[incident.Field]string{field: `the vendor's value "IN_PROGRESS" cannot be taken: an incident that is CLOSED cannot become IN_PROGRESS`}},
		},
		"the vendor took it back": {
			base: base("CLOSED", state("7", "")), hub: "CLOSED", remote: state("7", ""), parked: "cannot be taken",
			want: merge.Outcome{Freed: []incident.Field{field}},
		},
		"an unknown word": {
			base: base("NEW", state("1", "")), hub: "NEW", remote: state("9", ""),
			want: merge.Outcome{Parked: map[incident.Field]string{field: `state "9" with hold_reason "" is in no row of servicenow/mapping.yaml; add a row under states:`}},
		},
		"a known word after an unknown one": {
			base: base("NEW", state("1", "")), hub: "NEW", remote: state("2", ""), parked: "unknown",
			want: merge.Outcome{Take: incident.Values{field: "IN_PROGRESS"}, Agreed: base("IN_PROGRESS", state("2", "")), Freed: []incident.Field{field}},
		},
		"the old word after an unknown one": {
			base: base("NEW", state("1", "")), hub: "NEW", remote: state("1", ""), parked: "unknown",
			want: merge.Outcome{Freed: []incident.Field{field}},
		},
		"ours could not be written, theirs is as it was": {
			base: base("NEW", state("1", "")), hub: "ON_HOLD/CUSTOMER_DEFERRAL", remote: state("1", ""), parked: "not written",
			want: merge.Outcome{Parked: map[incident.Field]string{field: "not written"}},
		},
		"no base: a fresh ticket's own value is nobody's change": {
			hub: "IN_PROGRESS", remote: state("1", ""),
			want: merge.Outcome{Agreed: base("IN_PROGRESS", state("1", ""))},
		},
		"no base, ours could not be written": {
			hub: "ON_HOLD/CUSTOMER_DEFERRAL", remote: state("1", ""), parked: "not written",
			want: merge.Outcome{Agreed: base("NEW", state("1", "")), Parked: map[incident.Field]string{field: "not written"}},
		},
		"no base, an unknown word": {
			hub: "NEW", remote: state("9", ""),
			want: merge.Outcome{Agreed: base("NEW", state("9", "")), Parked: map[incident.Field]string{field: `state "9" with hold_reason "" is in no row of servicenow/mapping.yaml; add a row under states:`}},
		},
		"a base of what was written is completed": {
			base: base("IN_PROGRESS", connectors.Fields{"state": "2"}), hub: "IN_PROGRESS", remote: state("2", ""),
			want: merge.Outcome{Agreed: base("IN_PROGRESS", state("2", ""))},
		},
		"a base of what was written is compared on it": {
			base: base("IN_PROGRESS", connectors.Fields{"state": "2"}), hub: "IN_PROGRESS", remote: state("6", ""),
			want: merge.Outcome{Take: incident.Values{field: "RESOLVED"}, Agreed: base("RESOLVED", state("6", ""))},
		},
		"a base of other vendor fields tells nothing": {
			base: base("NEW", connectors.Fields{"u_state": "a"}), hub: "NEW", remote: state("2", ""),
			want: merge.Outcome{Take: incident.Values{field: "IN_PROGRESS"}, Agreed: base("IN_PROGRESS", state("2", ""))},
		},
		"a base that names more than is read now is compared on the rest": {
			base: base("NEW", connectors.Fields{"state": "1", "hold_reason": "", "u_stage": "a"}), hub: "NEW", remote: state("1", ""),
		},
		"not read": {
			base: base("NEW", state("1", "")), hub: "NEW", remote: connectors.Fields{"state": "2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := merge.Input{
				Base: tt.base, Hub: incident.Values{field: tt.hub}, Remote: m.Read(tt.remote), Ruling: m.Ruling,
				Pending: func(incident.Field) bool { return tt.pending }, Accepts: tt.accepts,
			}
			if tt.owner != "" {
				in.Ruling = func(incident.Field) mapping.Ruling {
					return mapping.Ruling{Policy: mapping.Policy(tt.owner), Owner: tt.owner}
				}
			}
			if tt.parked != "" {
				in.ParkedNow = map[incident.Field]string{field: tt.parked}
			}
			if diff := cmp.Diff(tt.want, merge.Merge(in), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// One unknown word holds up its own field and no other.
func TestTheRestFlows(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	out := merge.Merge(merge.Input{
		Base: map[incident.Field]merge.Base{
			incident.FieldState:    {Hub: "NEW", Vendor: state("1", "")},
			incident.FieldPriority: {Hub: "P3", Vendor: connectors.Fields{"priority": "3"}},
			incident.FieldTitle:    {Hub: "a", Vendor: connectors.Fields{"short_description": "a"}},
		},
		Hub:    incident.Values{incident.FieldState: "NEW", incident.FieldPriority: "P3", incident.FieldTitle: "a"},
		Remote: m.Read(connectors.Fields{"state": "9", "hold_reason": "", "priority": "1", "short_description": "b"}),
		Ruling: m.Ruling,
	})
	if diff := cmp.Diff(incident.Values{incident.FieldPriority: "P1", incident.FieldTitle: "b"}, out.Take); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	if len(out.Parked) != 1 || out.Parked[incident.FieldState] == "" {
		t.Errorf("parked: %v", out.Parked)
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	html := "<b>The printer on the second floor</b> jams"
	long := strings.Repeat("long ", 30)
	for name, tt := range map[string]struct {
		before   map[incident.Field]merge.Base
		sent     incident.Values
		answer   connectors.Fields
		agreed   map[incident.Field]merge.Base
		overrule incident.Field
		open     []incident.Field
	}{
		"as written": {
			sent: incident.Values{field: "ASSIGNED"}, answer: state("1", ""),
			agreed: map[incident.Field]merge.Base{field: {Hub: "ASSIGNED", Vendor: state("1", "")}},
		},
		"the answer shows only what was written": {
			sent: incident.Values{field: "IN_PROGRESS"}, answer: connectors.Fields{"state": "2"},
			agreed: map[incident.Field]merge.Base{field: {Hub: "IN_PROGRESS", Vendor: connectors.Fields{"state": "2"}}},
		},
		"a priority is known by what it is computed from": {
			sent: incident.Values{incident.FieldPriority: "P2"}, answer: connectors.Fields{"impact": "1", "urgency": "2"},
			agreed: map[incident.Field]merge.Base{incident.FieldPriority: {Hub: "P2", Vendor: connectors.Fields{"priority": "2"}}},
		},
		"the resolution goes along with the state": {
			sent:   incident.Values{field: "RESOLVED", incident.FieldResolution: ""},
			answer: connectors.Fields{"state": "6", "hold_reason": "", "close_code": "Solution provided", "close_notes": "Resolved."},
			agreed: map[incident.Field]merge.Base{
				field:                    {Hub: "RESOLVED", Vendor: state("6", "")},
				incident.FieldResolution: {Hub: "", Vendor: connectors.Fields{"close_notes": "Resolved."}},
			},
		},
		"a rule put the old value back": {
			before: map[incident.Field]merge.Base{field: {Hub: "NEW", Vendor: state("1", "")}},
			sent:   incident.Values{field: "IN_PROGRESS"}, answer: state("1", ""), overrule: field,
		},
		"the same, seen in part": {
			before: map[incident.Field]merge.Base{field: {Hub: "NEW", Vendor: state("1", "")}},
			sent:   incident.Values{field: "IN_PROGRESS"}, answer: connectors.Fields{"state": "1"}, overrule: field,
		},
		"somebody else was there": {
			before: map[incident.Field]merge.Base{field: {Hub: "NEW", Vendor: state("1", "")}},
			sent:   incident.Values{field: "IN_PROGRESS"}, answer: state("6", ""), open: []incident.Field{field},
			agreed: map[incident.Field]merge.Base{field: {Hub: "IN_PROGRESS", Vendor: connectors.Fields{"state": "2"}}},
		},
		"trimmed": {
			sent: incident.Values{incident.FieldTitle: "Printer "}, answer: connectors.Fields{"short_description": "Printer"},
			agreed: map[incident.Field]merge.Base{incident.FieldTitle: {Hub: "Printer ", Vendor: connectors.Fields{"short_description": "Printer"}}},
		},
		"cut shorter than documented": {
			sent: incident.Values{incident.FieldTitle: long}, answer: connectors.Fields{"short_description": long[:80]},
			agreed: map[incident.Field]merge.Base{incident.FieldTitle: {Hub: long, Vendor: connectors.Fields{"short_description": long[:80]}}},
		},
		"rewritten": {
			before: map[incident.Field]merge.Base{incident.FieldTitle: {Hub: "Printer", Vendor: connectors.Fields{"short_description": "Printer"}}},
			sent:   incident.Values{incident.FieldTitle: html}, answer: connectors.Fields{"short_description": "The printer on the second floor jams"},
			open:   []incident.Field{incident.FieldTitle},
			agreed: map[incident.Field]merge.Base{incident.FieldTitle: {Hub: html, Vendor: connectors.Fields{"short_description": html}}},
		},
		"not written: the vendor's start value is nobody's change": {
			sent: incident.Values{incident.FieldPriority: "NONE"}, answer: connectors.Fields{"priority": "5"},
			agreed: map[incident.Field]merge.Base{incident.FieldPriority: {Hub: "NONE", Vendor: connectors.Fields{"priority": "5"}}},
		},
		"could not be written: still to be told": {
			sent: incident.Values{field: "ON_HOLD/CUSTOMER_DEFERRAL"}, answer: state("1", ""),
			agreed: map[incident.Field]merge.Base{field: {Hub: "NEW", Vendor: state("1", "")}},
		},
		"written and never read": {
			sent: incident.Values{incident.FieldDescription: "a"}, answer: connectors.Fields{},
			agreed: map[incident.Field]merge.Base{incident.FieldDescription: {Hub: "a", Vendor: connectors.Fields{"description": "a"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := merge.Settle(m, tt.before, m.Write(tt.sent, tt.sent), tt.answer)
			if diff := cmp.Diff(tt.agreed, got.Agreed, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(merge.Base{}, "Ours")); diff != "" {
				t.Errorf("agreed (-want +got):\n%s", diff)
			}
			for f, b := range got.Agreed {
				w := m.Write(tt.sent, tt.sent)
				if _, wrote := w.Words[f]; b.Ours != (wrote || len(w.Expect[f]) > 0) {
					t.Errorf("%s: ours %v", f, b.Ours)
				}
			}
			if tt.overrule != "" && !strings.Contains(got.Overruled[tt.overrule], `state "1"`) || tt.overrule == "" && len(got.Overruled) > 0 {
				t.Errorf("overruled: %v", got.Overruled)
			}
			if diff := cmp.Diff(tt.open, got.Open, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("open (-want +got):\n%s", diff)
			}
		})
	}
}

// A create whose answer was lost: what differs from what was written is the vendor's change, and is taken.
func TestSent(t *testing.T) {
	t.Parallel()
	m := vendorMapping(t, "servicenow")
	hub := incident.Values{field: "ASSIGNED", incident.FieldTitle: "a", incident.FieldPriority: "NONE"}
	base := merge.Sent(m.Write(hub, hub))
	out := merge.Merge(merge.Input{
		Base: base, Hub: hub, Ruling: m.Ruling,
		Remote: m.Read(connectors.Fields{"state": "2", "hold_reason": "", "short_description": "a", "priority": "5"}),
	})
	if diff := cmp.Diff(incident.Values{field: "IN_PROGRESS"}, out.Take); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
}

// The base is stored in the ledger as JSON: the names stay.
func TestBaseJSON(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(merge.Base{Hub: "NEW", Vendor: connectors.Fields{"state": "1"}})
	if err != nil || string(got) != `{"hub":"NEW","vendor":{"state":"1"}}` {
		t.Errorf("got %s, %v", got, err)
	}
}

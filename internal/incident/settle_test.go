package incident

import (
	"strings"
	"testing"
)

// The table of SettleStates, row by row, and the cases that people ask about.
func TestSettleStates(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		base, hub, vendor string
		owner             Side
		stands            Side
		why               string
	}{
		"closed by the hub's people":              {"IN_PROGRESS", "CLOSED", "IN_PROGRESS", VendorSide, HubSide, "for good"},
		"cancelled by the hub's people":           {"NEW", "CANCELLED", "RESOLVED", VendorSide, HubSide, "for good"},
		"ended on both sides, differently":        {"IN_PROGRESS", "CANCELLED", "CLOSED", VendorSide, HubSide, "for good"},
		"reopened here, closed there":             {"RESOLVED", "IN_PROGRESS", "CLOSED", VendorSide, HubSide, "reopened"},
		"reopened here, still resolved there":     {"RESOLVED", "IN_PROGRESS", "RESOLVED", VendorSide, HubSide, "reopened"},
		"reopened on both sides":                  {"RESOLVED", "ASSIGNED", "IN_PROGRESS", VendorSide, VendorSide, "the vendor owns the state"},
		"cancelled there, at work here":           {"NEW", "IN_PROGRESS", "CANCELLED", VendorSide, HubSide, "does not end"},
		"cancelled there, resolved here":          {"IN_PROGRESS", "RESOLVED", "CANCELLED", VendorSide, HubSide, "does not end"},
		"resolved here, closed there":             {"IN_PROGRESS", "RESOLVED", "CLOSED", HubSide, VendorSide, "further than RESOLVED"},
		"closed there, at work here: hub owns":    {"NEW", "IN_PROGRESS", "CLOSED", HubSide, HubSide, "the hub owns"},
		"closed there, at work here: vendor owns": {"NEW", "IN_PROGRESS", "CLOSED", VendorSide, VendorSide, "the vendor owns"},
		"resolved there, at work here":            {"NEW", "IN_PROGRESS", "RESOLVED", HubSide, VendorSide, "whoever disagrees"},
		"resolved there, on hold here":            {"NEW", "ON_HOLD/AWAITING_CUSTOMER", "RESOLVED", HubSide, VendorSide, "whoever disagrees"},
		"resolved here, at work there":            {"NEW", "RESOLVED", "IN_PROGRESS", VendorSide, HubSide, "whoever disagrees"},
		"a hold with a reason there":              {"NEW", "ON_HOLD", "ON_HOLD/AWAITING_CHANGE", HubSide, VendorSide, "for whom it waits"},
		"a hold with a reason here":               {"NEW", "ON_HOLD/AWAITING_CHANGE", "ON_HOLD", VendorSide, HubSide, "for whom it waits"},
		"two holds with reasons":                  {"NEW", "ON_HOLD/AWAITING_CHANGE", "ON_HOLD/AWAITING_VENDOR", HubSide, HubSide, "the hub owns"},
		"further along there":                     {"NEW", "ASSIGNED", "IN_PROGRESS", HubSide, VendorSide, "further along"},
		"further along here":                      {"NEW", "ON_HOLD/AWAITING_VENDOR", "ASSIGNED", VendorSide, HubSide, "further along"},
		"work and a hold":                         {"NEW", "IN_PROGRESS", "ON_HOLD/AWAITING_CUSTOMER", VendorSide, VendorSide, "the vendor owns"},
		"back here, on there":                     {"IN_PROGRESS", "ASSIGNED", "ON_HOLD", HubSide, HubSide, "the hub owns"},
		"rubbish there":                           {"NEW", "ASSIGNED", "DONE", VendorSide, HubSide, "no state"},
		"rubbish here":                            {"NEW", "DONE", "ASSIGNED", HubSide, VendorSide, "no state"},
		"rubbish everywhere":                      {"", "", "", VendorSide, HubSide, "no state"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := SettleStates(tt.base, tt.hub, tt.vendor, tt.owner); got.Stands != tt.stands || !strings.Contains(got.Why, tt.why) {
				t.Errorf("stands %s because %q, want %s because of %q", got.Stands, got.Why, tt.stands, tt.why)
			}
		})
	}
}

// The function is total: every triple of values gets a verdict with a reason, the owner counts only where no rule does, and
// what stands may be taken: the hub never has to follow a vendor out of a final state.
func TestSettleStatesIsTotal(t *testing.T) {
	t.Parallel()
	values := append(StateValues(), "", "DONE")
	for _, base := range values {
		for _, hub := range values {
			for _, vendor := range values {
				a, b := SettleStates(base, hub, vendor, HubSide), SettleStates(base, hub, vendor, VendorSide)
				if a.Why == "" || b.Why == "" {
					t.Fatalf("%s %s %s: no reason", base, hub, vendor)
				}
				if a.Stands != b.Stands && (a.Stands != HubSide || !strings.Contains(a.Why, "owns")) {
					t.Fatalf("%s %s %s: the owner sways a rule: %+v %+v", base, hub, vendor, a, b)
				}
				if ours, _, err := ParseStateValue(hub); err == nil && ours.Final() && b.Stands != HubSide {
					t.Fatalf("%s %s %s: what ended for good is opened by the vendor", base, hub, vendor)
				}
			}
		}
	}
}

func TestEnded(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		"NEW": false, "ASSIGNED": false, "IN_PROGRESS": false, "ON_HOLD/AWAITING_VENDOR": false, "RESOLVED": true, "CLOSED": true, "CANCELLED": true, "DONE": false, "": false,
	} {
		if Ended(value) != want {
			t.Errorf("Ended(%q) is %v", value, !want)
		}
	}
}

package mapping

import (
	"strings"
	"testing"
	"time"

	"liaison/internal/incident"
)

func TestPolicies(t *testing.T) {
	t.Parallel()
	base := vendorMapping(t, "servicenow")
	title := func(keys string) string {
		return "fields:\n  title: {vendor: short_description" + keys + "}\n"
	}
	for name, tt := range map[string]struct {
		own  string
		want Ruling
	}{
		"nothing":                {title(""), Ruling{Policy: PolicyHub, Owner: OwnerHub}},
		"owner alone":            {title(", owner: vendor"), Ruling{Policy: PolicyVendor, Owner: OwnerVendor}},
		"hub":                    {title(", policy: hub"), Ruling{Policy: PolicyHub, Owner: OwnerHub}},
		"vendor":                 {title(", policy: vendor"), Ruling{Policy: PolicyVendor, Owner: OwnerVendor}},
		"said twice":             {title(", policy: vendor, owner: vendor"), Ruling{Policy: PolicyVendor, Owner: OwnerVendor}},
		"latest":                 {title(", policy: latest"), Ruling{Policy: PolicyLatest, Owner: OwnerHub, Skew: 2 * time.Minute}},
		"latest with everything": {title(", policy: latest, skew: 45s, owner: vendor"), Ruling{Policy: PolicyLatest, Owner: OwnerVendor, Skew: 45 * time.Second}},
		"latest without a skew":  {title(", policy: latest, skew: 0s"), Ruling{Policy: PolicyLatest, Owner: OwnerHub}},
		"review":                 {title(", policy: review"), Ruling{Policy: PolicyReview, Owner: OwnerHub}},
	} {
		m, err := Overlay(base, "own.yaml", []byte(tt.own))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := m.Ruling(incident.FieldTitle); got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
	if got := base.Ruling(incident.FieldState); got != (Ruling{Policy: PolicyLifecycle, Owner: OwnerVendor}) {
		t.Errorf("states: %+v", got)
	}
	if got := base.Ruling(incident.FieldCategory); got != (Ruling{Policy: PolicyHub, Owner: OwnerHub}) {
		t.Errorf("categories: %+v", got)
	}
}

func TestPolicyProblems(t *testing.T) {
	t.Parallel()
	base := vendorMapping(t, "servicenow")
	rows := "\n  rows: [{hub: NEW, vendor: {state: [\"1\", \"2\", \"3\", \"6\", \"7\", \"8\"]}}]\n  not_writable: [{hub: \"*\", reason: x}]\n"
	for name, tt := range map[string]struct{ own, want string }{
		"a state by the clock":      {"states:\n  policy: latest" + rows, "own.yaml:2: policy: of states is latest, but a state and its hold are settled by the rules of the lifecycle and never by a clock; leave policy: out and say with owner:"},
		"a deferral by the clock":   {"fields:\n  deferredTo: {vendor: follow_up, policy: latest}\n", "own.yaml:2: policy: of fields.deferredTo is latest, but a state"},
		"a misspelt policy":         {"fields:\n  title: {vendor: short_description, policy: lastest}\n", `did you mean "latest"?`},
		"a contradiction":           {"fields:\n  title: {vendor: short_description, policy: vendor, owner: hub}\n", "owner: and policy: of fields.title contradict each other; keep one of them"},
		"an owner under review":     {"fields:\n  title: {vendor: short_description, policy: review, owner: hub}\n", "has an owner:, but with policy: review a person decides"},
		"a skew without a clock":    {"fields:\n  title: {vendor: short_description, policy: hub, skew: 1m}\n", "has a skew:, which only policy: latest uses"},
		"a skew alone":              {"fields:\n  title: {vendor: short_description, skew: 1m}\n", "has a skew: but no policy: latest"},
		"a skew that is no time":    {"fields:\n  title: {vendor: short_description, policy: latest, skew: soon}\n", `skew: of fields.title is "soon"; give a time between 0s and 24h0m0s`},
		"a skew below nothing":      {"fields:\n  title: {vendor: short_description, policy: latest, skew: -1s}\n", `skew: of fields.title is "-1s"`},
		"no number of flips":        {"bounce: {flips: often}\n", `flips: of bounce is "often"; give a whole number from 1 to 1000`},
		"flips within no time":      {"bounce: {within: 0s}\n", `within: of bounce is "0s"; give a time between 1s and 24h0m0s`},
		"an unknown key of bounce":  {"bounce: {flip: 3}\n", `did you mean "flips"?`},
		"a policy for what is read": {"states:\n  policy: lifecycle" + rows, `policy: of states is "lifecycle"; use one of hub, vendor, latest, review`},
	} {
		if _, err := Overlay(base, "own.yaml", []byte(tt.own)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func TestBounce(t *testing.T) {
	t.Parallel()
	base := vendorMapping(t, "servicenow")
	if got := base.Bounce(); got != (Bounce{Flips: 6, Within: 10 * time.Minute}) {
		t.Errorf("by default: %+v", got)
	}
	m, err := Overlay(base, "own.yaml", []byte("bounce: {flips: 20, within: 1h}\n"))
	if err != nil || m.Bounce() != (Bounce{Flips: 20, Within: time.Hour}) {
		t.Errorf("as declared: %+v, %v", m.Bounce(), err)
	}
	laid, err := Overlay(m, "third.yaml", []byte("bounce: {flips: 3}\n"))
	if err != nil || laid.Bounce() != (Bounce{Flips: 3, Within: 10 * time.Minute}) || m.Bounce().Flips != 20 {
		t.Errorf("laid over: %+v, %v", laid.Bounce(), err)
	}
}

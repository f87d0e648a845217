package mapping

import (
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"liaison/internal/incident"
)

// Owner says whose value stands when both sides changed a field.
type Owner = incident.Side

// The owners.
const (
	OwnerHub    = incident.HubSide // the default
	OwnerVendor = incident.VendorSide
)

// Policy is how a conflict over a field is decided: a field that both sides changed since they last agreed, differently.
type Policy string

// The policies.
const (
	PolicyHub       Policy = "HUB"       // the hub's value stands; the default
	PolicyVendor    Policy = "VENDOR"    // the vendor's value stands
	PolicyLatest    Policy = "LATEST"    // the later writer's value stands; within the skew the owner's
	PolicyReview    Policy = "REVIEW"    // both keep their own until a person decides
	PolicyLifecycle Policy = "LIFECYCLE" // of the state alone: incident.SettleStates, and the owner where that has no rule
)

// DefaultSkew is how far two clocks are taken to differ when a file with policy: latest does not say.
const DefaultSkew = 2 * time.Minute

// mostSkew bounds skew: a longer one would leave nothing to the clock.
const mostSkew = 24 * time.Hour

// Ruling is how conflicts over one field are decided.
type Ruling struct {
	Policy Policy
	// Owner decides HUB and VENDOR, and is what LATEST and LIFECYCLE fall back on.
	Owner Owner
	// Skew is for LATEST: two times that lie no further apart tell nothing about who was later.
	Skew time.Duration
}

// byOwner is the ruling of a field of which the file says nothing more than the owner.
func byOwner(o Owner) Ruling { return Ruling{Policy: Policy(o), Owner: o} }

// Ruling returns how conflicts over f are decided.
//
// The times that LATEST compares are the best there are, and no better. The hub's is that of the ledger entry that last set the
// field; the vendor's is the one at which the ticket as a whole last changed, because vendors do not tell it of a field: a comment
// that somebody wrote there afterwards makes the vendor the later one. Where that matters, review or an owner is the better
// policy.
func (m *Mapping) Ruling(f incident.Field) Ruling {
	r := byOwner(OwnerHub)
	switch {
	case m.tables[f] != nil:
		r = m.tables[f].ruling
	case m.texts[f] != nil:
		r = m.texts[f].ruling
	}
	if f == incident.FieldState && r.Policy != PolicyReview {
		r.Policy = PolicyLifecycle
	}
	return r
}

// Owner returns whose value of f stands when both sides changed it and nothing else decides.
func (m *Mapping) Owner(f incident.Field) Owner { return m.Ruling(f).Owner }

// Bounce is how often a field may go to and fro between two systems before it is left alone.
type Bounce struct {
	Flips  int           // more than so many that bring back an earlier value stop the field; of any value, five times more
	Within time.Duration // of each other
}

// DefaultBounce is what holds when a file does not say: more than 6 flips within 10 minutes. People do not put their own value
// back that often; two rules do.
var DefaultBounce = Bounce{Flips: 6, Within: 10 * time.Minute}

// Bounce returns how often a field may go to and fro.
func (m *Mapping) Bounce() Bounce {
	if m.bounce == nil {
		return DefaultBounce
	}
	return *m.bounce
}

// rulingKeys are the keys by which a table or a text says how its conflicts are decided.
var rulingKeys = []string{"owner", "policy", "skew"}

// ruling reads owner:, policy: and skew:. owner: alone is the short form of the policy that has its name.
func (p *parser) ruling(f incident.Field, keys map[string]*yaml.Node, what string) Ruling {
	owner := Owner(strings.ToUpper(choice(p, keys["owner"], "owner: of "+what, "hub", "vendor")))
	if keys["policy"] == nil {
		if keys["skew"] != nil {
			p.fail(keys["skew"], "add policy: latest, or remove skew:", "%s has a skew: but no policy: latest", what)
		}
		return byOwner(owner)
	}
	r := Ruling{Policy: Policy(strings.ToUpper(choice(p, keys["policy"], "policy: of "+what, "hub", "vendor", "latest", "review"))), Owner: owner}
	switch r.Policy {
	case PolicyHub, PolicyVendor:
		r.Owner = Owner(r.Policy)
		if keys["owner"] != nil && owner != r.Owner {
			p.fail(keys["owner"], "keep one of them: owner: "+strings.ToLower(string(r.Policy))+" says the same as this policy", "owner: and policy: of %s contradict each other", what)
		}
	case PolicyLatest:
		if f == incident.FieldState || f == incident.FieldDeferredTo {
			p.fail(keys["policy"], "leave policy: out and say with owner: whose state stands where the lifecycle has no rule, or use review",
				"policy: of %s is latest, but a state and its hold are settled by the rules of the lifecycle and never by a clock", what)
		}
		r.Skew = p.duration(keys["skew"], "skew: of "+what, DefaultSkew, 0, mostSkew)
	case PolicyReview, PolicyLifecycle:
		if keys["owner"] != nil {
			p.fail(keys["owner"], "remove owner:, or choose another policy", "%s has an owner:, but with policy: review a person decides", what)
		}
	}
	if keys["skew"] != nil && r.Policy != PolicyLatest {
		p.fail(keys["skew"], "remove skew:, or say policy: latest", "%s has a skew:, which only policy: latest uses", what)
	}
	return r
}

// duration reads a time such as 2m or 90s, between least and most.
func (p *parser) duration(n *yaml.Node, what string, or, least, most time.Duration) time.Duration {
	if n == nil {
		return or
	}
	w, ok := p.word(n, what)
	if !ok {
		return or
	}
	d, err := time.ParseDuration(w)
	if err != nil || d < least || d > most {
		p.fail(n, "give a time between "+least.String()+" and "+most.String()+", such as 2m", "%s is %q", what, w)
		return or
	}
	return d
}

// bounces reads how often a field may go to and fro.
func (p *parser) bounces(m *Mapping, n *yaml.Node) {
	keys := p.keys(n, "bounce", []string{"flips", "within"})
	b := DefaultBounce
	if keys["flips"] != nil {
		b.Flips = p.number(keys["flips"], "flips: of bounce", 1000, "give a whole number from 1 to 1000, or leave it out")
	}
	b.Within = p.duration(keys["within"], "within: of bounce", DefaultBounce.Within, time.Second, 24*time.Hour)
	m.bounce = &b
}

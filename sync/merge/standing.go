package merge

import (
	"slices"
	"time"

	"liaison/internal/incident"
	"liaison/sync/mapping"
)

// Hold says why a field of a link is left alone although both sides' values are understood. A held field is parked as well,
// with the reason in words.
type Hold string

// The holds.
const (
	Unheld Hold = ""
	// Stopped fields went to and fro too often: nothing is taken and nothing sent until a person frees them.
	Stopped Hold = "STOPPED"
	// Review fields are in a conflict that a person decides: both sides keep their own until then.
	Review Hold = "REVIEW"
	// Withheld fields were not sent because the vendor's ticket is resolved or closed, and a write would start its clock
	// anew. What the vendor changes is taken as ever; the hub's value goes out when the ticket is reopened.
	Withheld Hold = "WITHHELD"
)

// Standing is how a field of a link has fared: what the bounce breaker counts, whether the field is held, and which mapping
// parked it. The zero Standing is that of a field with which all is well.
type Standing struct {
	Last    incident.Side `json:"last,omitempty"`    // who moved the value last: the hub sent it, or the vendor's was taken
	Flips   []time.Time   `json:"at,omitempty"`      // when that side changed, by the hub's clock, oldest first
	Held    Hold          `json:"held,omitempty"`    // why the field is left alone
	Since   time.Time     `json:"since,omitzero"`    // since when it is held
	Value   string        `json:"value,omitempty"`   // what is withheld, in the hub's words
	Mapping string        `json:"mapping,omitempty"` // the version of the mapping under which it was parked
}

// zero reports whether there is nothing to keep.
func (s Standing) zero() bool {
	return s.Last == "" && len(s.Flips) == 0 && s.Held == Unheld && s.Mapping == ""
}

// Move counts a value that one side gives to the other, and reports whether it may pass. One that would make the field flip
// more often than the bounds allow does not: the field is stopped instead. The zero Bounce lets everything pass.
func (s Standing) Move(by incident.Side, now time.Time, bounds mapping.Bounce) (Standing, bool) {
	if bounds.Flips == 0 {
		return s, true
	}
	s.Flips = slices.DeleteFunc(slices.Clone(s.Flips), func(at time.Time) bool { return now.Sub(at) > bounds.Within })
	if s.Last != "" && s.Last != by {
		s.Flips = append(s.Flips, now)
	}
	s.Last = by
	if len(s.Flips) > bounds.Flips {
		return s.hold(Stopped, now), false
	}
	return s, true
}

func (s Standing) hold(h Hold, now time.Time) Standing {
	if s.Held != h {
		s.Held, s.Since = h, now
	}
	return s
}

// Hold returns the standing of a field that is left alone from now on.
func (s Standing) Hold(h Hold, now time.Time) Standing { return s.hold(h, now) }

// Free returns the standing of a field that travels again. What the breaker counted is forgotten, so that a person who frees a
// field gives it a fresh start.
func (s Standing) Free() Standing {
	s.Since, s.Value, s.Mapping = time.Time{}, "", ""
	if s.Held == Stopped {
		s.Flips, s.Last = nil, ""
	}
	s.Held = Unheld
	return s
}

// Keep stores a field's standing among others, or forgets it when there is nothing to keep.
func Keep(all map[incident.Field]Standing, f incident.Field, s Standing) {
	if s.zero() {
		delete(all, f)
		return
	}
	all[f] = s
}

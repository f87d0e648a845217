package merge

import (
	"hash/fnv"
	"slices"
	"strconv"
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
	Moves   []Moved   `json:"moves,omitempty"`   // how the value has moved of late, oldest first
	Held    Hold      `json:"held,omitempty"`    // why the field is left alone
	Since   time.Time `json:"since,omitzero"`    // since when it is held
	Value   string    `json:"value,omitempty"`   // what is withheld, in the hub's words
	Mapping string    `json:"mapping,omitempty"` // the version of the mapping under which it was parked
}

// Moved is one value that one side gave to the other.
type Moved struct {
	By incident.Side `json:"by"` // HUB: it was sent; VENDOR: it was taken
	At time.Time     `json:"at"` // by the hub's clock
	Is string        `json:"is"` // a digest of the value
}

// zero reports whether there is nothing to keep.
func (s Standing) zero() bool { return len(s.Moves) == 0 && s.Held == Unheld && s.Mapping == "" }

// freshFlips is how many times more often than the bounds say a field may flip with values that it has not had before. People
// who edit the same field on both sides do that; but so does a rule that adds something to whatever it finds.
const freshFlips = 5

// Move counts a value that one side gives to the other, and reports whether it may pass. A flip is a move by the other side
// than the last. When more flips than the bounds allow brought back what the field had a moment ago, or many times more brought
// anything, the field is stopped instead. The zero Bounce lets everything pass.
func (s Standing) Move(by incident.Side, value string, now time.Time, bounds mapping.Bounce) (Standing, bool) {
	if bounds.Flips == 0 {
		return s, true
	}
	s.Moves = slices.DeleteFunc(slices.Clone(s.Moves), func(m Moved) bool { return now.Sub(m.At) > bounds.Within })
	if n := len(s.Moves); n > 1 && s.Moves[n-1].By == by && s.Moves[n-2].By == by {
		s.Moves = s.Moves[:n-1] // one side edits on and on: of its turn, what it began with and what it has come to tell enough
	}
	s.Moves = append(s.Moves, Moved{By: by, At: now, Is: digest(value)})
	if most := freshFlips*bounds.Flips + 2; len(s.Moves) > most {
		s.Moves = s.Moves[len(s.Moves)-most:]
	}
	flips, back := 0, 0
	for n, m := range s.Moves {
		if n == 0 || m.By == s.Moves[n-1].By {
			continue
		}
		flips++
		if slices.ContainsFunc(s.Moves[:n], func(before Moved) bool { return before.Is == m.Is }) {
			back++
		}
	}
	if back > bounds.Flips || flips > freshFlips*bounds.Flips {
		return s.hold(Stopped, now), false
	}
	return s, true
}

func digest(value string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(value)) // a hash takes everything
	return strconv.FormatUint(h.Sum64(), 36)
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
		s.Moves = nil
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

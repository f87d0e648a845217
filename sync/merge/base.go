package merge

import (
	"fmt"
	"maps"
	"strings"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/mapping"
)

// Base is one field's value as both sides last agreed on it, in the hub's word and in the vendor's.
//
// The vendor's words may be fewer than a reading has: after a write the hub knows what it wrote, not yet what the vendor set
// beside it. A base is compared on the words that it names, and completed by the next reading.
//
// After a conflict that the hub won the two halves do not mean the same: Vendor is what the vendor holds, so that the next poll
// does not bring it up again, and Hub is the older value that was agreed before, so that the hub's own value still differs from
// it and counts as a change that the vendor has yet to hear.
type Base struct {
	Hub    string            `json:"hub"`
	Vendor connectors.Fields `json:"vendor"`
	// Ours tells that the hub wrote it and has not seen it at the vendor since: the reading that shows it is our own echo. It is
	// for counting alone. What decides is the content, which is spent once the base has moved on.
	Ours bool `json:"ours,omitempty"`
}

// Holds reports whether the vendor still has the base's words. A base without words holds nothing.
func (b Base) Holds(words connectors.Fields) bool {
	compared := false
	for field, word := range b.Vendor {
		now, there := words[field]
		if there && now != word {
			return false
		}
		compared = compared || there
	}
	return compared // a base of other vendor fields, from before the mapping was changed, tells nothing
}

// names reports whether the base names every one of the words.
func (b Base) names(words connectors.Fields) bool {
	for field := range words {
		if _, named := b.Vendor[field]; !named {
			return false
		}
	}
	return true
}

// Sent returns the bases for a write whose answer was lost but which is known to have been made: what the vendor held right
// after it, as far as the mapping tells. Whatever differs from that by now is the vendor's change.
func Sent(w mapping.Written) map[incident.Field]Base {
	out := map[incident.Field]Base{}
	for f, words := range w.Expect {
		if len(words) > 0 {
			out[f] = Base{Hub: w.Values[f], Vendor: maps.Clone(words), Ours: true}
		}
	}
	return out
}

// Settlement is what a write came to.
type Settlement struct {
	// Agreed holds the new bases: what the vendor has of what was written.
	Agreed map[incident.Field]Base
	// Overruled names fields that the vendor left as they were although it accepted the write, with the reason to park them.
	Overruled map[incident.Field]string
	// Open lists fields that hold neither what was written nor what stood there before: somebody else was at the ticket, or a
	// rule of the vendor's rewrote it. Agreed has what was written as their base, since for an instant both sides had it, so that
	// the next merge sees what came after it as the vendor's change and takes it. Writing ours again instead would have the two
	// rewrite each other for ever.
	Open []incident.Field
}

// Settle compares a write with the vendor's answer to it, the ticket as it stood afterwards, of which the answer may show only
// the words that were written. before is the link's base.
//
// A field that could not be written or need not be, and that has no base yet, gets the vendor's own start value as its base:
// nobody changed it there, so that the first change somebody makes is seen as one.
func Settle(m *mapping.Mapping, before map[incident.Field]Base, w mapping.Written, answer connectors.Fields) Settlement {
	s := Settlement{Agreed: map[incident.Field]Base{}, Overruled: map[incident.Field]string{}}
	after := m.Read(answer)
	for _, f := range incident.Fields() {
		_, wrote := w.Words[f]
		_, echoes := w.Expect[f]
		switch {
		case echoes:
			s.compare(f, before, w, after, answer)
		case wrote: // written and never read: nothing to compare
			s.Agreed[f] = Base{Hub: w.Values[f], Vendor: maps.Clone(w.Words[f]), Ours: true}
		default:
			s.start(f, before, w, after)
		}
	}
	return s
}

func (s *Settlement) compare(f incident.Field, before map[incident.Field]Base, w mapping.Written, after mapping.Reading, answer connectors.Fields) {
	v, expect := w.Values[f], Base{Vendor: w.Expect[f]}
	r, understood := after.Values[f]
	words, whole := after.Words[f]
	if !whole {
		words = shownOf(expect.Vendor, answer)
	}
	old, hadBase := before[f]
	switch {
	case !whole && len(words) == 0 && len(expect.Vendor) > 0: // the answer shows nothing of it
		s.Agreed[f] = Base{Hub: v, Vendor: maps.Clone(expect.Vendor), Ours: true}
	case expect.Holds(words), understood && (r.Means(v) || cut(v, r)):
		s.Agreed[f] = Base{Hub: v, Vendor: maps.Clone(words), Ours: true}
	case hadBase && old.Holds(words):
		s.Overruled[f] = fmt.Sprintf("the vendor accepted the write of %s but kept %s", f, told(words))
	case len(expect.Vendor) > 0:
		s.Agreed[f] = Base{Hub: v, Vendor: maps.Clone(expect.Vendor), Ours: true}
		s.Open = append(s.Open, f)
	}
}

// shownOf returns what the answer shows of the expected words.
func shownOf(expect, answer connectors.Fields) connectors.Fields {
	shown := connectors.Fields{}
	for field := range expect {
		if word, there := answer[field]; there {
			shown[field] = word
		}
	}
	return shown
}

// cut reports whether the vendor kept the beginning of a text that it found too long.
func cut(v string, r mapping.Read) bool {
	const least = 20 // below that a common beginning says nothing
	kept := strings.TrimSpace(r.Value)
	return len(kept) >= least && len(r.Words) == 1 && strings.HasPrefix(v, kept)
}

// start gives a field that the write left out its first base.
func (s *Settlement) start(f incident.Field, before map[incident.Field]Base, w mapping.Written, after mapping.Reading) {
	words, read := after.Words[f]
	if _, hadBase := before[f]; hadBase || !read {
		return
	}
	_, parked := w.Parked[f]
	_, skipped := w.Skipped[f]
	switch {
	case parked:
		if r, understood := after.Values[f]; understood {
			s.Agreed[f] = unheard(r)
		}
	case skipped:
		s.Agreed[f] = Base{Hub: w.Values[f], Vendor: maps.Clone(words)}
	}
}

// unheard is the base of a field that the vendor has not been told: it holds the vendor's value on both halves, so that the
// hub's differing one counts as a change.
func unheard(r mapping.Read) Base { return Base{Hub: r.Value, Vendor: maps.Clone(r.Words)} }

func told(words connectors.Fields) string {
	var out []string
	for _, field := range sorted(words) {
		out = append(out, fmt.Sprintf("%s %q", field, words[field]))
	}
	return strings.Join(out, " with ")
}

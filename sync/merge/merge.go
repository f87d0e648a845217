package merge

import (
	"fmt"
	"maps"
	"slices"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/mapping"
)

// Owner says whose value stands when both sides changed a field.
type Owner = mapping.Owner

// The owners.
const (
	Hub    = mapping.OwnerHub
	Vendor = mapping.OwnerVendor
)

// Input is how things stand on both sides of one link.
type Input struct {
	Base   map[incident.Field]Base
	Hub    incident.Values // the incident now; a field that is absent is left alone
	Remote mapping.Reading // the ticket now; a field that was not read is left alone

	// Owner decides conflicts. Nil means that the hub owns everything.
	Owner func(incident.Field) Owner
	// Pending reports whether a delivery of the field to this link waits or is under way. Nil means that none is.
	Pending func(incident.Field) bool
	// ParkedNow holds the link's parked fields with their reasons.
	ParkedNow map[incident.Field]string
	// Accepts asks the domain whether the hub may take a value, without taking it; the error says why not. Nil means that it
	// may take every value. Without it a refusal shows only after the merge has decided.
	Accepts func(f incident.Field, value string) error
}

// Outcome is what the merge decided. A field in none of its members has no news.
type Outcome struct {
	// Take holds the vendor's values that the hub takes. A delivery of the hub's own value of such a field that still waits has
	// lost and must not be sent.
	Take incident.Values
	// Agreed holds the bases to store.
	Agreed map[incident.Field]Base
	// Conflicts lists the fields that both sides changed, differently, in the order of incident.Fields.
	Conflicts []Conflict
	// Parked holds every field that is parked when the merge is done, with its reason: those of ParkedNow that are not freed,
	// and new ones. What is new is what differs from ParkedNow.
	Parked map[incident.Field]string
	// Freed lists the fields of ParkedNow that are in step again.
	Freed []incident.Field
	// Push lists the fields that the vendor must hear again: the hub's value won and no delivery of it is pending.
	Push []incident.Field
}

// Conflict is one field that both sides changed, differently.
type Conflict struct {
	Field  incident.Field
	Base   string // the hub's word that was agreed before
	Hub    string // the hub's value
	Remote string // the vendor's value in the hub's words
	Winner Owner
	Rule   string // why, for people
}

// Loser returns the value that did not stand.
func (c Conflict) Loser() string {
	if c.Winner == Hub {
		return c.Remote
	}
	return c.Hub
}

// Merge weighs a vendor's news. Field by field:
//
//   - The vendor's words equal the base's: no change, an echo of our own write or old news.
//   - The words changed but mean what the base means, or what the hub holds by now: no change of value, only the base follows.
//   - The words changed and the hub did not: the hub takes the value.
//   - Both changed, differently: the owner's value stands and the other is kept in a Conflict. If the hub wins, the vendor hears
//     its value, by the delivery that waits anyway or by Push; see Base for what is stored meanwhile.
//   - There is no base yet: the present values become the base and nothing is taken. What a vendor gives a fresh ticket is
//     nobody's change.
//   - The words are in no row of the mapping: the field is parked and its base stays, so that the value is taken once a row
//     knows it.
//   - The hub may not take the value (Accepts): a conflict is won by the hub; otherwise the field is parked and its base stays.
func Merge(in Input) Outcome {
	out := Outcome{Take: incident.Values{}, Agreed: map[incident.Field]Base{}, Parked: map[incident.Field]string{}}
	maps.Copy(out.Parked, in.ParkedNow)
	for _, f := range incident.Fields() {
		hub, here := in.Hub[f]
		words, read := in.Remote.Words[f]
		if !here || !read {
			continue
		}
		w := weighing{in: in, out: &out, field: f, hub: hub, words: words}
		w.base, w.hasBase = in.Base[f]
		w.remote, w.understood = in.Remote.Values[f]
		w.weigh()
	}
	return out
}

// weighing is the merge of one field.
type weighing struct {
	in         Input
	out        *Outcome
	field      incident.Field
	hub        string
	words      connectors.Fields
	remote     mapping.Read
	understood bool
	base       Base
	hasBase    bool
}

func (w *weighing) weigh() {
	switch {
	case !w.hasBase:
		w.first()
	case !w.understood:
		w.park(w.in.Remote.Parked[w.field])
	case w.base.holds(w.words):
		if !w.base.names(w.words) {
			w.agree(w.base.Hub)
		}
		w.free(w.base.Hub == w.hub)
	case w.remote.Means(w.hub):
		w.agree(w.hub)
		w.free(true)
	case w.remote.Means(w.base.Hub): // other words for the same; the hub's own change, if any, is on its way
		w.agree(w.base.Hub)
		w.free(w.base.Hub == w.hub)
	case w.hub == w.base.Hub:
		w.take()
	default:
		w.conflict()
	}
}

// first makes the first base of a field.
func (w *weighing) first() {
	_, parked := w.in.ParkedNow[w.field]
	switch {
	case !w.understood:
		w.agree(w.hub)
		w.park(w.in.Remote.Parked[w.field])
	case parked && !w.remote.Means(w.hub): // ours could not be written: it is still to be told
		w.out.Agreed[w.field] = unheard(w.remote)
	default:
		w.agree(w.hub)
		w.free(true)
	}
}

// agree stores the vendor's present words beside the hub's word.
func (w *weighing) agree(hub string) {
	w.out.Agreed[w.field] = Base{Hub: hub, Vendor: maps.Clone(w.words)}
}

func (w *weighing) take() {
	if err := w.refused(); err != nil {
		w.park(fmt.Sprintf("the vendor's value %q cannot be taken: %v", w.remote.Value, err))
		return
	}
	w.out.Take[w.field] = w.remote.Value
	w.agree(w.remote.Value)
	w.free(true)
}

func (w *weighing) refused() error {
	if w.in.Accepts == nil {
		return nil
	}
	return w.in.Accepts(w.field, w.remote.Value)
}

func (w *weighing) conflict() {
	c := Conflict{Field: w.field, Base: w.base.Hub, Hub: w.hub, Remote: w.remote.Value, Winner: Hub}
	if w.in.Owner != nil && w.in.Owner(w.field) == Vendor {
		c.Winner = Vendor
	}
	c.Rule = fmt.Sprintf("both sides changed %s; the %s owns it", w.field, map[Owner]string{Hub: "hub", Vendor: "vendor"}[c.Winner])
	if err := w.refused(); err != nil && c.Winner == Vendor {
		c.Winner = Hub
		c.Rule = fmt.Sprintf("both sides changed %s; the vendor owns it, but its value cannot be taken: %v", w.field, err)
	}
	w.out.Conflicts = append(w.out.Conflicts, c)
	if c.Winner == Vendor {
		w.out.Take[w.field] = w.remote.Value
		w.agree(w.remote.Value)
		w.free(true)
		return
	}
	w.agree(w.base.Hub)
	if w.in.Pending == nil || !w.in.Pending(w.field) {
		w.out.Push = append(w.out.Push, w.field)
	}
}

func (w *weighing) park(reason string) { w.out.Parked[w.field] = reason }

// free ends the parking of a field that is in step.
func (w *weighing) free(inStep bool) {
	if _, parked := w.in.ParkedNow[w.field]; parked && inStep {
		delete(w.out.Parked, w.field)
		w.out.Freed = append(w.out.Freed, w.field)
	}
}

func sorted[M ~map[string]V, V any](m M) []string { return slices.Sorted(maps.Keys(m)) }

package merge

import (
	"fmt"
	"maps"
	"slices"
	"time"

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
	Sent   []map[incident.Field]Base // what each write whose answer was lost will have left at the vendor, if it arrived
	Hub    incident.Values           // the incident now; a field that is absent is left alone
	Remote mapping.Reading           // the ticket now; a field that was not read is left alone

	// Ruling says how conflicts are decided. Nil means that the hub owns everything.
	Ruling func(incident.Field) mapping.Ruling
	// SetAt tells when the hub last set a field, and RemoteAt when the ticket last changed by the vendor's clock. They count for
	// fields whose later writer wins; the zero time is one that nobody knows, and nil knows none.
	SetAt    func(incident.Field) time.Time
	RemoteAt time.Time
	// Pending reports whether a delivery of the field to this link waits or is under way. Nil means that none is.
	Pending func(incident.Field) bool
	// ParkedNow holds the link's parked fields with their reasons.
	ParkedNow map[incident.Field]string
	// Standing holds how the link's fields have fared.
	Standing map[incident.Field]Standing
	// Undecided holds the conflicts that wait for a person, as they were last told.
	Undecided map[incident.Field]Conflict
	// Accepts asks the domain whether the hub may take a value, without taking it; the error says why not. Nil means that it
	// may take every value. Without it a refusal shows only after the merge has decided.
	Accepts func(f incident.Field, value string) error
	// Mapping is the version of the mapping that read the ticket. What another one parked is weighed anew.
	Mapping string
	// Writable reports whether the mapping has words for the hub's value of a field. Nil means that it has none.
	Writable func(incident.Field) bool
	// Back says that the ticket was gone and is back: nothing that the hub changed meanwhile was sent, and all of it is now.
	Back bool
	// Bounce bounds how often a field may go to and fro. The zero Bounce is no bound.
	Bounce mapping.Bounce
	// Now is the hub's time, for what is counted and held.
	Now time.Time
}

// Outcome is what the merge decided. A field in none of its members has no news.
type Outcome struct {
	// Take holds the vendor's values that the hub takes. A delivery of the hub's own value of such a field that still waits has
	// lost and must not be sent.
	Take incident.Values
	// Agreed holds the bases to store.
	Agreed map[incident.Field]Base
	// Conflicts lists the fields that both sides changed, differently, in the order of incident.Fields. One without a winner waits
	// for a person; it comes again, to replace what was told before, when either side has moved on meanwhile.
	Conflicts []Conflict
	// Settled lists the fields of Undecided about which there is nothing to decide any more, because a side has come round.
	Settled []incident.Field
	// Parked holds every field that is parked when the merge is done, with its reason: those of ParkedNow that are not freed,
	// and new ones. What is new is what differs from ParkedNow.
	Parked map[incident.Field]string
	// Freed lists the fields of ParkedNow that are in step again, or on their way to be.
	Freed []incident.Field
	// Stopped lists the fields that have gone to and fro too often with this news, and are left alone from now on.
	Stopped []incident.Field
	// Push lists the fields that the vendor must hear again: the hub's value stands and no delivery of it is pending.
	Push []incident.Field
	// Standing holds how every field stands when the merge is done.
	Standing map[incident.Field]Standing
	// Echoes is how many fields were seen for the first time as the hub wrote them. Each write is counted once.
	Echoes int
}

// Conflict is one field that both sides changed, differently.
type Conflict struct {
	Field  incident.Field
	Base   string // the hub's word that was agreed before
	Hub    string // the hub's value
	Remote string // the vendor's value in the hub's words
	Policy mapping.Policy
	Winner Owner  // empty while a person has yet to decide
	Rule   string // why, for people
}

// Loser returns the value that did not stand, none while a person has yet to decide.
func (c Conflict) Loser() string {
	switch c.Winner {
	case Hub:
		return c.Remote
	case Vendor:
		return c.Hub
	}
	return ""
}

// Merge weighs a vendor's news. Field by field:
//
//   - The vendor's words equal the base's: no change, an echo of our own write or old news.
//   - The words changed but mean what the base means, or what the hub holds by now: no change of value, only the base follows.
//   - The words changed and the hub did not: the hub takes the value.
//   - Both changed, differently: the ruling decides, and the other value is kept in a Conflict. If the hub wins, the vendor hears
//     its value, by the delivery that waits anyway or by Push; see Base for what is stored meanwhile. Under review both sides keep
//     their own.
//   - There is no base yet: the present values become the base and nothing is taken. What a vendor gives a fresh ticket is
//     nobody's change.
//   - The words are in no row of the mapping: the field is parked and its base stays, so that the value is taken once a row
//     knows it.
//   - The hub may not take the value (Accepts): a conflict is won by the hub; otherwise the field is parked and its base stays.
//   - The field is held: see Hold. A withheld field goes out once the ticket is at work again.
//   - It was parked by another version of the mapping, and this one has words for the hub's value: the vendor hears it.
func Merge(in Input) Outcome {
	out := Outcome{Take: incident.Values{}, Agreed: map[incident.Field]Base{}, Parked: map[incident.Field]string{}, Standing: map[incident.Field]Standing{}}
	maps.Copy(out.Parked, in.ParkedNow)
	maps.Copy(out.Standing, in.Standing)
	for _, f := range incident.Fields() {
		hub, here := in.Hub[f]
		words, read := in.Remote.Words[f]
		_, parked := in.ParkedNow[f]
		if !here || !read && !parked {
			continue
		}
		w := weighing{in: in, out: &out, field: f, hub: hub, words: words, read: read, standing: in.Standing[f]}
		w.base, w.hasBase = in.Base[f]
		for _, writes := range in.Sent {
			if sent, begun := writes[f]; begun && sent.Holds(words) && !w.base.Holds(words) {
				w.base, w.hasBase = sent, true // it did arrive
			}
		}
		w.remote, w.understood = in.Remote.Values[f]
		switch {
		case w.standing.Held == Stopped:
		case w.standing.Held == Review:
			w.review()
		case read:
			w.weigh()
			w.again()
		default: // written and never read
			w.again()
		}
		if _, parked := out.Parked[f]; parked {
			w.standing.Mapping = in.Mapping // weighed under this one
		}
		Keep(out.Standing, f, w.standing)
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
	read       bool // whether the mapping reads the field and the ticket showed all of it
	remote     mapping.Read
	understood bool
	base       Base
	hasBase    bool
	standing   Standing
	parked     bool // by this merge
}

func (w *weighing) weigh() {
	switch {
	case !w.hasBase:
		w.first()
	case !w.understood:
		w.park(w.in.Remote.Parked[w.field])
	case w.base.Holds(w.words):
		if w.base.Ours {
			w.out.Echoes++
		}
		if w.base.Ours || !w.base.names(w.words) {
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

// again lets a field travel whose obstacle is gone: the ticket that it was withheld from is at work again, or a mapping that had
// no words for it was edited.
func (w *weighing) again() {
	_, parked := w.out.Parked[w.field]
	if !parked && w.in.Back && w.unsent() {
		w.push()
	}
	if !parked || w.parked {
		return // in step, or parked for a reason of now
	}
	free := false
	switch w.standing.Held {
	case Withheld:
		free = w.reopened()
	case Unheld:
		edited := w.standing.Mapping != w.in.Mapping
		free = edited && (w.understood || !w.read) && w.in.Writable != nil && w.in.Writable(w.field)
	case Stopped, Review:
	}
	if free {
		w.release()
		w.push()
	}
}

// unsent reports whether the hub holds something else than was agreed on, and could say so.
func (w *weighing) unsent() bool {
	base, agreed := w.out.Agreed[w.field]
	if !agreed {
		base, agreed = w.base, w.hasBase
	}
	_, takes := w.out.Take[w.field]
	return agreed && !takes && base.Hub != w.hub && w.in.Writable != nil && w.in.Writable(w.field)
}

// reopened reports whether the ticket is known to be at work.
func (w *weighing) reopened() bool {
	state, understood := w.in.Remote.Values[incident.FieldState]
	return understood && !incident.Ended(state.Value)
}

// agree stores the vendor's present words beside the hub's word.
func (w *weighing) agree(hub string) {
	w.out.Agreed[w.field] = Base{Hub: hub, Vendor: maps.Clone(w.words)}
}

// take takes the vendor's value, unless the hub may not or the field has gone to and fro too often.
func (w *weighing) take() bool {
	if err := w.refused(); err != nil {
		w.park(fmt.Sprintf("the vendor's value %q cannot be taken: %v", w.remote.Value, err))
		return false
	}
	moved, passes := w.standing.Move(Vendor, w.remote.Value, w.in.Now, w.in.Bounce)
	w.standing = moved
	if !passes {
		w.park(Bounced(w.in.Bounce))
		w.out.Stopped = append(w.out.Stopped, w.field)
		return false
	}
	w.out.Take[w.field] = w.remote.Value
	w.agree(w.remote.Value)
	w.free(true)
	return true
}

// Bounced is the reason of a field that was stopped.
func Bounced(b mapping.Bounce) string {
	return fmt.Sprintf("the value went to and fro more than %d times within %s: something on either side rewrites what the other writes; free the field once that has ended", b.Flips, b.Within)
}

func (w *weighing) refused() error {
	if w.in.Accepts == nil {
		return nil
	}
	return w.in.Accepts(w.field, w.remote.Value)
}

func (w *weighing) conflict() {
	c := w.decide()
	if c.Winner == Vendor && !w.take() {
		return // stopped: both values stay where they are
	}
	w.out.Conflicts = append(w.out.Conflicts, c)
	switch c.Winner {
	case Hub:
		w.agree(w.base.Hub)
		w.push()
	case Vendor: // taken
	default:
		w.agree(w.base.Hub)
		w.park(c.Rule)
		w.standing = w.standing.Hold(Review, w.in.Now)
	}
}

// decide applies the field's ruling.
func (w *weighing) decide() Conflict {
	r := mapping.Ruling{Policy: mapping.PolicyHub, Owner: Hub}
	if w.in.Ruling != nil {
		r = w.in.Ruling(w.field)
	}
	c := Conflict{Field: w.field, Base: w.base.Hub, Hub: w.hub, Remote: w.remote.Value, Policy: r.Policy}
	why := ""
	switch r.Policy {
	case mapping.PolicyReview:
		c.Rule = byPerson(w.field)
		return c
	case mapping.PolicyLatest:
		c.Winner, why = w.later(r)
	case mapping.PolicyLifecycle:
		v := incident.SettleStates(c.Base, c.Hub, c.Remote, r.Owner)
		c.Winner, why = v.Stands, v.Why
	case mapping.PolicyHub, mapping.PolicyVendor:
		c.Winner, why = r.Owner, fmt.Sprintf("the %s owns it", r.Owner)
	}
	c.Rule = fmt.Sprintf("both sides changed %s; %s", w.field, why)
	if err := w.refused(); err != nil && c.Winner == Vendor {
		c.Winner = Hub
		c.Rule += fmt.Sprintf(", but the vendor's value cannot be taken: %v", err)
	}
	return c
}

func byPerson(f incident.Field) string {
	return fmt.Sprintf("both sides changed %s; a person decides", f)
}

// later finds the later writer.
func (w *weighing) later(r mapping.Ruling) (Owner, string) {
	var ours time.Time
	if w.in.SetAt != nil {
		ours = w.in.SetAt(w.field)
	}
	theirs := w.in.RemoteAt
	if ours.IsZero() || theirs.IsZero() {
		return r.Owner, fmt.Sprintf("the later writer wins, but it is not known when each wrote: the %s owns it", r.Owner)
	}
	told := fmt.Sprintf("the hub at %s, the vendor's ticket at %s", ours.UTC().Format(time.RFC3339), theirs.UTC().Format(time.RFC3339))
	switch apart := theirs.Sub(ours); {
	case apart.Abs() <= r.Skew:
		return r.Owner, fmt.Sprintf("the later writer wins, but the two are less than %s apart (%s): the %s owns it", r.Skew, told, r.Owner)
	case apart > 0:
		return Vendor, "the later writer wins: " + told
	}
	return Hub, "the later writer wins: " + told
}

// review looks again at a conflict that waits for a person. It ends by itself only when there is nothing left to decide.
func (w *weighing) review() {
	switch {
	case !w.understood || !w.hasBase:
	case w.remote.Means(w.hub):
		w.agree(w.hub)
		w.settled()
	case w.remote.Means(w.base.Hub): // the vendor took its change back
		w.agree(w.base.Hub)
		w.settled()
		w.push()
	case w.hub == w.base.Hub && w.refused() == nil: // the hub took its change back
		w.settled()
		w.in.Bounce = mapping.Bounce{}
		w.take()
	default:
		c := w.decide()
		c.Policy, c.Winner, c.Rule = mapping.PolicyReview, "", byPerson(w.field)
		if told := w.in.Undecided[w.field]; told.Hub != c.Hub || told.Remote != c.Remote {
			w.out.Conflicts = append(w.out.Conflicts, c)
		}
		if !w.base.Holds(w.words) || !w.base.names(w.words) {
			w.agree(w.base.Hub)
		}
	}
}

// settled ends a conflict that waited for a person.
func (w *weighing) settled() {
	w.out.Settled = append(w.out.Settled, w.field)
	w.release()
}

// push has the vendor hear the hub's value, unless a delivery of it waits anyway or the field is withheld.
func (w *weighing) push() {
	if w.standing.Held == Withheld || slices.Contains(w.out.Push, w.field) || w.in.Pending != nil && w.in.Pending(w.field) {
		return
	}
	w.out.Push = append(w.out.Push, w.field)
}

func (w *weighing) park(reason string) {
	w.out.Parked[w.field], w.parked = reason, true
	w.out.Freed = slices.DeleteFunc(w.out.Freed, func(f incident.Field) bool { return f == w.field })
}

// free ends the parking of a field that is in step.
func (w *weighing) free(inStep bool) {
	if _, parked := w.in.ParkedNow[w.field]; parked && inStep {
		w.release()
	}
}

// release ends the parking and the hold of a field.
func (w *weighing) release() {
	if _, parked := w.out.Parked[w.field]; parked && !slices.Contains(w.out.Freed, w.field) {
		delete(w.out.Parked, w.field)
		w.out.Freed = append(w.out.Freed, w.field)
	}
	w.standing = w.standing.Free()
}

func sorted[M ~map[string]V, V any](m M) []string { return slices.Sorted(maps.Keys(m)) }

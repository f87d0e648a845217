package incident

import "fmt"

// Side is one of the two sides of a link.
type Side string

// The sides.
const (
	HubSide    Side = "HUB"    // the hub's people, and what other systems told the hub
	VendorSide Side = "VENDOR" // the ticket's people and automation
)

// Other returns the opposite side.
func (s Side) Other() Side {
	if s == HubSide {
		return VendorSide
	}
	return HubSide
}

func (s Side) String() string {
	if s == VendorSide {
		return "vendor"
	}
	return "hub"
}

// Verdict says whose state stands, and why, for people.
type Verdict struct {
	Stands Side
	Why    string
}

// SettleStates decides which state stands when both sides of a link moved an incident away from the same state, to
// different ones. It looks at the lifecycle and never at a clock: who was later tells nothing about which step is the
// truer one, and two machines' clocks do not agree. Values are those of FieldState. The first rule that applies decides:
//
//	hub                  vendor               stands
//	CLOSED, CANCELLED    anything             the hub's: what its people ended stays ended
//	reopened             any end              the hub's: the vendor speaks of the work before
//	anything             CANCELLED            the hub's: an end for good is not taken against people who go on
//	RESOLVED             CLOSED               the vendor's: both say it is done, and closed is further
//	at work              CLOSED               the owner's
//	at work              RESOLVED             the vendor's: whoever disagrees reopens
//	RESOLVED             at work              the hub's, by the same right
//	a hold               the same, more told  the side that names the hold's reason
//	forward              further forward      the one that is further along
//	anything else        anything else        the owner's
//
// "At work" is every state that is neither RESOLVED, CLOSED nor CANCELLED; reopened means that base was RESOLVED and the
// hub is at work. "Forward" is the order NEW, AWAITING_TRIAGE, ASSIGNED and then IN_PROGRESS and ON_HOLD alike. A value
// that is no state never stands against one that is; of two, the hub's does.
func SettleStates(base, hub, vendor string, owner Side) Verdict {
	was, _, _ := ParseStateValue(base)
	ours, ourReason, err := ParseStateValue(hub)
	theirs, theirReason, otherErr := ParseStateValue(vendor)
	verdict := func(s Side, format string, args ...any) Verdict { return Verdict{s, fmt.Sprintf(format, args...)} }
	switch {
	case otherErr != nil:
		return verdict(HubSide, "the vendor's %q is no state", vendor)
	case err != nil:
		return verdict(VendorSide, "the hub's %q is no state", hub)
	case ours.Final():
		return verdict(HubSide, "the incident is %s in the hub, which is for good", ours)
	case was == Resolved && atWork(ours) && !atWork(theirs):
		return verdict(HubSide, "it was reopened in the hub; the vendor's %s speaks of the work before", theirs)
	case theirs == Cancelled:
		return verdict(HubSide, "the vendor's CANCELLED does not end what goes on as %s in the hub", ours)
	case theirs == Closed && ours == Resolved:
		return verdict(VendorSide, "both sides say that it is done, and CLOSED is further than RESOLVED")
	case theirs == Resolved && atWork(ours):
		return verdict(VendorSide, "the vendor says that it is resolved; whoever disagrees with that reopens it")
	case ours == Resolved && atWork(theirs):
		return verdict(HubSide, "the hub says that it is resolved; whoever disagrees with that reopens it")
	case ours == OnHold && theirs == OnHold && (ourReason == "") != (theirReason == ""):
		if ourReason == "" {
			return verdict(VendorSide, "the vendor says for whom it waits, the hub does not")
		}
		return verdict(HubSide, "the hub says for whom it waits, the vendor does not")
	case further(was, ours, theirs):
		return verdict(VendorSide, "both sides moved it on, and %s is further along than %s", theirs, ours)
	case further(was, theirs, ours):
		return verdict(HubSide, "both sides moved it on, and %s is further along than %s", ours, theirs)
	}
	return verdict(owner, "no rule of the lifecycle prefers %s or %s; the %s owns the state", hub, vendor, owner)
}

// Ended reports whether the work is over as far as a state value says: nothing but a move out of it is expected any more.
func Ended(value string) bool {
	s, _, err := ParseStateValue(value)
	return err == nil && !atWork(s)
}

func atWork(s State) bool { return s != Resolved && !s.Final() }

// along is how far an incident at work has come. Work that waits is as far along as work that goes on.
var along = map[State]int{New: 1, AwaitingTriage: 2, Assigned: 3, InProgress: 4, OnHold: 4}

// further reports whether both moved forward from was and b is further along than a.
func further(was, a, b State) bool {
	return along[was] > 0 && along[a] > along[was] && along[b] > along[a]
}

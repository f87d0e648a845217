package incident

import "slices"

// State is the incident's place in its life.
type State string

// The canonical states.
const (
	New            State = "NEW"             // reported, nobody has looked yet; leaves by triage, work or cancel
	AwaitingTriage State = "AWAITING_TRIAGE" // looked at, being checked for sufficient information
	Assigned       State = "ASSIGNED"        // a team owns it, nobody works on it yet
	InProgress     State = "IN_PROGRESS"     // somebody works on it
	OnHold         State = "ON_HOLD"         // waits for someone: HoldReason says for whom, and until when
	Resolved       State = "RESOLVED"        // the provider says it works again; may be reopened
	Closed         State = "CLOSED"          // finished for good
	Cancelled      State = "CANCELLED"       // withdrawn or raised by mistake, for good
)

// States lists every state in the order of life.
func States() []State {
	return []State{New, AwaitingTriage, Assigned, InProgress, OnHold, Resolved, Closed, Cancelled}
}

// Valid reports whether s is one of the canonical states.
func (s State) Valid() bool { return slices.Contains(States(), s) }

// Final reports whether no way leads out of s.
func (s State) Final() bool { return s == Closed || s == Cancelled }

// HoldReason says for whom an incident on hold waits; empty in every other state.
type HoldReason string

// The hold reasons.
const (
	AwaitingCustomer HoldReason = "AWAITING_CUSTOMER" // a question to the customer is open
	AwaitingChange   HoldReason = "AWAITING_CHANGE"   // a change has to be carried out first
	AwaitingVendor   HoldReason = "AWAITING_VENDOR"   // a vendor has to act
	CustomerDeferral HoldReason = "CUSTOMER_DEFERRAL" // the customer asked to wait until a date and time
	AwaitingProblem  HoldReason = "AWAITING_PROBLEM"  // a problem record has to be solved first
)

// HoldReasons lists every hold reason.
func HoldReasons() []HoldReason {
	return []HoldReason{AwaitingCustomer, AwaitingChange, AwaitingVendor, CustomerDeferral, AwaitingProblem}
}

// Valid reports whether r is one of the hold reasons. The empty reason is not.
func (r HoldReason) Valid() bool { return slices.Contains(HoldReasons(), r) }

// Priority is the order in which incidents are worked on, set by the provider.
type Priority string

// The priorities.
const (
	PriorityNone Priority = "NONE" // not assessed yet, shown as "0 - None"
	P1           Priority = "P1"   // critical
	P2           Priority = "P2"   // high
	P3           Priority = "P3"   // moderate
	P4           Priority = "P4"   // low
	P5           Priority = "P5"   // planning
)

// Priorities lists every priority, PriorityNone first.
func Priorities() []Priority { return []Priority{PriorityNone, P1, P2, P3, P4, P5} }

// Valid reports whether p is one of the priorities.
func (p Priority) Valid() bool { return slices.Contains(Priorities(), p) }

// Impact is how far the trouble reaches. The empty impact means that nobody has said.
type Impact string

// The impacts, widest first.
const (
	Enterprise    Impact = "ENTERPRISE"     // own and other sites
	Site          Impact = "SITE"           // one site or department
	MultipleUsers Impact = "MULTIPLE_USERS" // several people
	SingleUser    Impact = "SINGLE_USER"    // one person
)

// Impacts lists every impact, widest first.
func Impacts() []Impact { return []Impact{Enterprise, Site, MultipleUsers, SingleUser} }

// Valid reports whether i is one of the impacts. The empty impact is not.
func (i Impact) Valid() bool { return slices.Contains(Impacts(), i) }

// Urgency is how long the trouble can wait. The empty urgency means that nobody has said.
type Urgency string

// The urgencies, most pressing first.
const (
	UrgencyHigh   Urgency = "HIGH"
	UrgencyMedium Urgency = "MEDIUM"
	UrgencyLow    Urgency = "LOW"
)

// Urgencies lists every urgency, most pressing first.
func Urgencies() []Urgency { return []Urgency{UrgencyHigh, UrgencyMedium, UrgencyLow} }

// Valid reports whether u is one of the urgencies. The empty urgency is not.
func (u Urgency) Valid() bool { return slices.Contains(Urgencies(), u) }

// Source is who noticed the trouble.
type Source string

// The sources.
const (
	SourceUser            Source = "USER"
	SourceTechnicalStaff  Source = "TECHNICAL_STAFF"
	SourceEventManagement Source = "EVENT_MANAGEMENT"
	SourceVendor          Source = "VENDOR"
	SourceServiceProvider Source = "SERVICE_PROVIDER"
)

// Sources lists every source.
func Sources() []Source {
	return []Source{SourceUser, SourceTechnicalStaff, SourceEventManagement, SourceVendor, SourceServiceProvider}
}

// Valid reports whether s is one of the sources.
func (s Source) Valid() bool { return slices.Contains(Sources(), s) }

// Visibility says who may read a comment or an entry.
type Visibility string

// The visibilities.
const (
	Public   Visibility = "PUBLIC"   // the organisation's people and the desk
	Internal Visibility = "INTERNAL" // the desk and its vendors only: a work note
)

// Visibilities lists every visibility.
func Visibilities() []Visibility { return []Visibility{Public, Internal} }

// Valid reports whether v is one of the visibilities.
func (v Visibility) Valid() bool { return slices.Contains(Visibilities(), v) }

// DefaultCategories are an organisation's categories until it names its own.
func DefaultCategories() []string {
	return []string{"Data", "Hardware", "Network", "Passwords/Logins", "Software"}
}

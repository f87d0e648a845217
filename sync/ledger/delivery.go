package ledger

import (
	"time"

	"liaison/connectors"
	"liaison/internal/incident"
)

// DeliveryKind says what a delivery does at the vendor.
type DeliveryKind string

// The kinds of delivery.
const (
	CreateTicket DeliveryKind = "CREATE"
	UpdateTicket DeliveryKind = "UPDATE"
	SayComment   DeliveryKind = "COMMENT"
	// CloseDuplicate closes a ticket that was opened beside the one that is followed.
	CloseDuplicate DeliveryKind = "CLOSE_DUPLICATE"
)

// DeliveryKinds lists every kind of delivery.
func DeliveryKinds() []DeliveryKind {
	return []DeliveryKind{CreateTicket, UpdateTicket, SayComment, CloseDuplicate}
}

// State is a delivery's place in its life.
type State string

// The states of a delivery.
const (
	StatePending   State = "PENDING"   // waits for its turn
	StateSending   State = "SENDING"   // the call is about to be made or under way: written before the call, in the lane's row
	StateUnknown   State = "UNKNOWN"   // the answer was lost: the vendor is asked before anything is sent again
	StateDelivered State = "DELIVERED" // the vendor has it
	StateDead      State = "DEAD"      // given up: a person retries or skips it, its lane waits
	StateSkipped   State = "SKIPPED"   // a person decided that the vendor need not have it
)

// States lists every state of a delivery.
func States() []State {
	return []State{StatePending, StateSending, StateUnknown, StateDelivered, StateDead, StateSkipped}
}

// Delivery is an entry's way to one link.
type Delivery struct {
	Organisation incident.OrganisationID
	ID           incident.DeliveryID
	Link         incident.LinkID
	Incident     incident.ID
	Version      int64 // of the entry that it carries
	Kind         DeliveryKind
	Values       incident.Values // CREATE and UPDATE: what to write, in the hub's words
	Comment      incident.CommentID
	State        State
	Attempts     int
	Mark         connectors.Mark // the journal's end before a comment was sent, with Marked
	Marked       bool            // false: no comment was ever sent for this delivery
	SentAt       time.Time       // when the call was begun that is under way or whose answer was lost, otherwise zero
	ErrorKind    string
	Error        string
	Trace        string // traceparent of the change
	Mapping      string // the version of the mapping that translated it last, empty before
	CreatedAt    time.Time
	SettledAt    time.Time // zero until DELIVERED or SKIPPED
}

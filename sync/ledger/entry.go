package ledger

import (
	"encoding/json"
	"slices"
	"time"

	"liaison/internal/incident"
)

// Kind says what an entry tells.
type Kind string

// The kinds of entry.
const (
	Reported         Kind = "REPORTED"          // the incident was opened
	Changed          Kind = "CHANGED"           // fields changed: Changes names them
	Commented        Kind = "COMMENTED"         // a comment was added
	Escalated        Kind = "ESCALATED"         // a link was made: a ticket will be opened in its system
	TicketOpened     Kind = "TICKET_OPENED"     // the vendor's ticket exists and its ids are known
	TicketChanged    Kind = "TICKET_CHANGED"    // the vendor's own view of the ticket changed without changing the incident
	TicketGone       Kind = "TICKET_GONE"       // the vendor's ticket was deleted or merged away
	Conflicted       Kind = "CONFLICT"          // both sides changed a field: the loser's value is in Detail
	ConflictResolved Kind = "CONFLICT_RESOLVED" // a person decided a conflict, or both sides came to the same by themselves
	FieldParked      Kind = "FIELD_PARKED"      // a field waits for a person: the reason is in Detail
	FieldFreed       Kind = "FIELD_FREED"       // a parked field travels again
	FieldStopped     Kind = "FIELD_STOPPED"     // a field went to and fro too often and is left alone until a person frees it
	DeliveryFailed   Kind = "DELIVERY_FAILED"   // a delivery became a dead letter and holds its lane
	DeliveryRetried  Kind = "DELIVERY_RETRIED"  // a person sent a dead letter again
	DeliverySkipped  Kind = "DELIVERY_SKIPPED"  // a person gave a dead letter up
	DeliveryEdited   Kind = "DELIVERY_EDITED"   // a person changed what a dead letter says: before and after are in Detail
	DuplicateFound   Kind = "DUPLICATE_FOUND"   // a further ticket stands under the link's correlation id: Detail names it
	DuplicateClosed  Kind = "DUPLICATE_CLOSED"  // the further ticket was closed at the vendor
	Reconciled       Kind = "RECONCILED"        // a comparison with the vendor found drift and mended it: Detail lists it
	Checkpointed     Kind = "CHECKPOINT"        // older entries were put away: what they came to is in Detail
)

// Kinds lists every kind of entry.
func Kinds() []Kind {
	return []Kind{
		Reported, Changed, Commented, Escalated, TicketOpened, TicketChanged, TicketGone, Conflicted, ConflictResolved, FieldParked, FieldFreed, FieldStopped,
		DeliveryFailed, DeliveryRetried, DeliverySkipped, DeliveryEdited, DuplicateFound, DuplicateClosed, Reconciled, Checkpointed,
	}
}

// Valid reports whether k is one of the kinds.
func (k Kind) Valid() bool { return slices.Contains(Kinds(), k) }

// ActorKind says what sort of author an entry has.
type ActorKind string

// The kinds of actor.
const (
	Person ActorKind = "PERSON" // somebody signed in, or somebody whom a vendor names
	System ActorKind = "SYSTEM" // an external system on its own account
	Hub    ActorKind = "HUB"    // Liaison itself: a timer, a lane
)

// Actor is who made a change.
type Actor struct {
	Kind ActorKind
	Name string // display name
}

// liaison is the author of what nobody outside the hub did.
var liaison = Actor{Kind: Hub, Name: "Liaison"}

// EntryKey names an entry: the incident's version that it made.
type EntryKey struct {
	Organisation incident.OrganisationID
	Incident     incident.ID
	Version      int64
}

// Entry is one immutable line of the ledger.
type Entry struct {
	EntryKey
	Kind       Kind
	Visibility incident.Visibility
	Actor      Actor
	Link       incident.LinkID    // where the change came from; zero for changes made in the hub
	Comment    incident.CommentID // zero unless the entry is about a comment
	Changes    Changes
	Detail     json.RawMessage // an object; its keys depend on Kind
	At         time.Time
	TraceID    string
	Mapping    string // the version of the mapping that its values were translated by, empty when none was
}

// Changes holds what changed, before and after, in the hub's words.
type Changes map[incident.Field][2]string

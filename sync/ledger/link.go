package ledger

import (
	"time"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/merge"
)

// Link ties an incident to one external ticket.
type Link struct {
	Organisation  incident.OrganisationID
	ID            incident.LinkID
	Incident      incident.ID
	System        incident.SystemID
	CorrelationID string
	ExternalID    connectors.ExternalID // empty until the vendor has told it
	Number        string
	URL           string
	RemoteVersion string
	RemoteState   string // the vendor's words for people, such as "In Progress"
	Base          Base
	Parked        map[incident.Field]string         // fields that do not travel, with the reason
	Standing      map[incident.Field]merge.Standing // how fields have fared: what the bounce breaker counts, and what is held
	JournalMark   connectors.Mark
	Gone          connectors.Gone
	LastSyncedAt  time.Time // zero before the first successful exchange
	CreatedAt     time.Time

	Waiting  int   // deliveries not yet settled
	Trouble  State // of the lane's head: StateDead or StateUnknown, empty when all is well
	Unopened bool  // there is no ticket, and none is on its way: a person skipped its opening
}

// Base is what both sides of a link last agreed on, field by field.
type Base map[incident.Field]merge.Base

// SyncStatus sums a link up for people.
type SyncStatus string

// The statuses.
const (
	Opening    SyncStatus = "OPENING"     // the vendor's ticket is not known to exist yet
	NotOpened  SyncStatus = "NOT_OPENED"  // a person skipped the ticket's opening: there is none, and none is on its way
	InStep     SyncStatus = "IN_STEP"     // nothing waits
	Sending    SyncStatus = "SENDING"     // deliveries wait or are on their way
	Unsettled  SyncStatus = "UNSETTLED"   // an answer was lost: the vendor is being asked what became of it
	Stopped    SyncStatus = "STOPPED"     // a dead letter holds the lane until a person decides
	TicketLost SyncStatus = "TICKET_GONE" // the vendor's ticket was deleted or merged away
)

// SyncStatuses lists every status.
func SyncStatuses() []SyncStatus {
	return []SyncStatus{Opening, NotOpened, InStep, Sending, Unsettled, Stopped, TicketLost}
}

// SyncStatus sums the link up.
func (l Link) SyncStatus() SyncStatus {
	switch {
	case l.Gone != connectors.Present:
		return TicketLost
	case l.Trouble == StateDead:
		return Stopped
	case l.Trouble == StateUnknown:
		return Unsettled
	case l.Unopened:
		return NotOpened
	case l.ExternalID == "":
		return Opening
	case l.Waiting > 0:
		return Sending
	}
	return InStep
}

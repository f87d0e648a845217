package model

import (
	"time"

	"liaison/graph/nodeid"
	"liaison/internal/incident"
	"liaison/sync/pulse"
)

// EntryWritten is the kind of activity that stands for an entry of the ledger.
const EntryWritten pulse.Kind = "ENTRY"

// SyncActivityKinds lists every kind of activity that the schema knows.
func SyncActivityKinds() []pulse.Kind { return append(pulse.Kinds(), EntryWritten) }

// SyncActivity is a moment of the sync as the schema shows it.
type SyncActivity struct {
	pulse.Activity
	System *System      // nil when the viewer may not know it
	Entry  *LedgerEntry // for EntryWritten
	Missed int
}

// At is when it was.
func (a *SyncActivity) At() time.Time { return a.Activity.At }

// Error is nil when nothing failed.
func (a *SyncActivity) Error() *string { return optional(a.Activity.Error) }

// IncidentID is nil for what concerns the system as a whole, as are the others.
func (a *SyncActivity) IncidentID() *string {
	if a.Incident == (incident.ID{}) {
		return nil
	}
	id := nodeid.Of(nodeid.Incident, a.Incident.UUID)
	return &id
}

// IncidentNumber is the number that people say.
func (a *SyncActivity) IncidentNumber() *string { return optional(a.Number) }

// LinkID is the opaque id of the link.
func (a *SyncActivity) LinkID() *string {
	if a.Link == (incident.LinkID{}) {
		return nil
	}
	id := nodeid.Of(nodeid.ExternalLink, a.Link.UUID)
	return &id
}

// DeliveryID is the opaque id of the delivery.
func (a *SyncActivity) DeliveryID() *string {
	if a.Delivery == (incident.DeliveryID{}) {
		return nil
	}
	id := nodeid.Of(nodeid.Delivery, a.Delivery.UUID)
	return &id
}

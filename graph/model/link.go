package model

import (
	"slices"
	"strings"
	"time"

	"liaison/graph/load"
	"liaison/graph/nodeid"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// System is an external system as the schema shows it.
type System struct {
	ledger.ExternalSystem
	set *load.Set
}

// Set returns the set of reads that the system belongs to.
func (s *System) Set() *load.Set { return s.set }

// NewSystem shows a system to a viewer.
func NewSystem(s *load.Set, x ledger.ExternalSystem) *System {
	return &System{ExternalSystem: x, set: s}
}

// IsNode marks what has an id.
func (*System) IsNode() {}

// ID is the opaque id.
func (s *System) ID() string { return nodeid.OfNumber(nodeid.System, s.ExternalSystem.ID) }

// Desk is who serves, or owns, it.
func (s *System) Desk() *Desk {
	if s.ExternalSystem.Desk.ID == 0 {
		return nil
	}
	return &Desk{s.ExternalSystem.Desk}
}

// URL is nil while unknown, and where the viewer may not know it.
func (s *System) URL() *string {
	if !s.set.Viewer().Staff() {
		return nil
	}
	return optional(s.ExternalSystem.URL)
}

// PausedAt is nil while it is not paused.
func (s *System) PausedAt() *time.Time { return moment(s.ExternalSystem.PausedAt) }

// PausedBy is nil for all but staff.
func (s *System) PausedBy() *string {
	if !s.set.Viewer().Staff() {
		return nil
	}
	return optional(s.ExternalSystem.PausedBy)
}

// PauseReason is nil for all but staff.
func (s *System) PauseReason() *string {
	if !s.set.Viewer().Staff() {
		return nil
	}
	return optional(s.ExternalSystem.PauseReason)
}

// ExternalLink is a link as the schema shows it.
type ExternalLink struct {
	ledger.Link
	Peers *load.Peers
}

// IsNode marks what has an id.
func (*ExternalLink) IsNode() {}

// Staff reports whether the viewer may see what only the desk sees.
func (l *ExternalLink) Staff() bool { return l.Peers.Set().Viewer().Staff() }

// ID is the opaque id.
func (l *ExternalLink) ID() string { return nodeid.Of(nodeid.ExternalLink, l.Link.ID.UUID) }

// ExternalID is nil until the vendor has told it.
func (l *ExternalLink) ExternalID() *string { return optional(string(l.Link.ExternalID)) }

// ExternalNumber is nil until the vendor has told it.
func (l *ExternalLink) ExternalNumber() *string { return optional(l.Number) }

// URL is nil while unknown, and where the viewer may not know it.
func (l *ExternalLink) URL() *string { return optional(l.Link.URL) }

// RemoteState is nil until it was read.
func (l *ExternalLink) RemoteState() *string { return optional(l.Link.RemoteState) }

// CorrelationID is nil for all but staff.
func (l *ExternalLink) CorrelationID() *string {
	if !l.Staff() {
		return nil
	}
	return optional(l.Link.CorrelationID)
}

// Parked lists the fields that wait, by name; nil for all but staff.
func (l *ExternalLink) Parked() []*ParkedField {
	if !l.Staff() {
		return nil
	}
	out := make([]*ParkedField, 0, len(l.Link.Parked))
	for f, reason := range l.Link.Parked {
		out = append(out, &ParkedField{Field: string(f), Reason: reason})
	}
	slices.SortFunc(out, func(a, b *ParkedField) int { return strings.Compare(a.Field, b.Field) })
	return out
}

// Delivery is a delivery as the schema shows it.
type Delivery struct {
	ledger.Delivery
	Peers *load.Peers
}

// IsNode marks what has an id.
func (*Delivery) IsNode() {}

// ID is the opaque id.
func (d *Delivery) ID() string { return nodeid.Of(nodeid.Delivery, d.Delivery.ID.UUID) }

// ErrorKind is nil when nothing failed.
func (d *Delivery) ErrorKind() *string { return optional(d.Delivery.ErrorKind) }

// Error is nil when nothing failed.
func (d *Delivery) Error() *string { return optional(d.Delivery.Error) }

// EditedComment is nil unless a person gave this vendor another text.
func (d *Delivery) EditedComment() *string {
	if text, edited := d.OtherText(); edited {
		return &text
	}
	return nil
}

// Mapping is nil before it was translated.
func (d *Delivery) Mapping() *string { return optional(d.Delivery.Mapping) }

// TraceID is nil when none was kept.
func (d *Delivery) TraceID() *string { return optional(traceID(d.Trace)) }

// Values lists the fields in the order in which changes are told.
func (d *Delivery) Values() []*FieldValue {
	out := make([]*FieldValue, 0, len(d.Delivery.Values))
	for _, f := range incident.Fields() {
		if value, ok := d.Delivery.Values[f]; ok {
			out = append(out, &FieldValue{Field: string(f), Value: optional(value)})
		}
	}
	return out
}

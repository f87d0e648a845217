package ledger

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

func incidentOf(r db.Incident) incident.Incident {
	return incident.Incident{
		ID: incident.ID{UUID: r.ID}, Organisation: incident.OrganisationID(r.OrganisationID), Number: r.Number, Version: r.Version,
		Title: r.Title, Description: r.Description, State: incident.State(r.State), HoldReason: incident.HoldReason(r.HoldReason),
		DeferredTo: timeOf(r.DeferredTo), Priority: incident.Priority(r.Priority), Impact: incident.Impact(r.Impact),
		Urgency: incident.Urgency(r.Urgency), Category: r.Category, Service: r.Service, Team: r.Team, Assignee: r.Assignee,
		Resolution: r.Resolution, Reference: r.Reference, Source: incident.Source(r.Source),
		Contact:    incident.Contact{Name: r.ContactName, Phone: r.ContactPhone, Email: r.ContactEmail},
		ReportedBy: r.ReportedBy, OpenedAt: r.OpenedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(), ResolvedAt: timeOf(r.ResolvedAt), ClosedAt: timeOf(r.ClosedAt),
	}
}

func linkOf(r db.ExternalLink) (Link, error) {
	l := Link{
		Organisation: incident.OrganisationID(r.OrganisationID), ID: incident.LinkID{UUID: r.ID}, Incident: incident.ID{UUID: r.IncidentID},
		System: incident.SystemID(r.SystemID), CorrelationID: r.CorrelationID.String(), Number: r.Number, URL: r.Url,
		RemoteVersion: r.RemoteVersion, RemoteState: r.RemoteState, JournalMark: connectors.Mark(r.JournalMark), Gone: connectors.Gone(r.Gone),
		LastSyncedAt: timeOf(r.LastSyncedAt), CreatedAt: r.CreatedAt.UTC(),
	}
	if r.ExternalID != nil {
		l.ExternalID = connectors.ExternalID(*r.ExternalID)
	}
	if err := json.Unmarshal(r.Base, &l.Base); err != nil {
		return l, fmt.Errorf("reading the base of link %s: %w", r.ID, err)
	}
	if err := json.Unmarshal(r.Parked, &l.Parked); err != nil {
		return l, fmt.Errorf("reading the parked fields of link %s: %w", r.ID, err)
	}
	if err := json.Unmarshal(r.Flips, &l.Standing); err != nil {
		return l, fmt.Errorf("reading how the fields of link %s stand: %w", r.ID, err)
	}
	return l, nil
}

func deliveryOf(r db.DeliveryNow) (Delivery, error) {
	d := Delivery{
		Organisation: incident.OrganisationID(r.OrganisationID), ID: incident.DeliveryID{UUID: r.ID}, Link: incident.LinkID{UUID: r.LinkID},
		Incident: incident.ID{UUID: r.IncidentID}, Version: r.Version, Kind: DeliveryKind(r.Kind), Comment: incident.CommentID{UUID: r.CommentID.UUID},
		State: State(r.State), Attempts: int(r.Attempts), SentAt: sentAt(r.SentAt), Mapping: r.Mapping,
		ErrorKind: r.ErrorKind, Error: r.Error, Trace: r.Trace, CreatedAt: r.CreatedAt.UTC(), SettledAt: timeOf(r.SettledAt),
	}
	if mark, marked := strings.CutPrefix(r.JournalMark, "="); marked {
		d.Mark, d.Marked = connectors.Mark(mark), true
	}
	if err := json.Unmarshal(r.Payload, &d.Values); err != nil {
		return d, fmt.Errorf("reading the payload of delivery %s: %w", r.ID, err)
	}
	return d, nil
}

// sentAt reads delivery_now's sent_at, which is the epoch when nothing is being sent.
func sentAt(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t.UTC()
}

// now is an open delivery's row as delivery_now shows it; sending and mark are its lane's.
func now(r db.Delivery, sending *int64, mark *string) db.DeliveryNow {
	out := db.DeliveryNow{
		OrganisationID: r.OrganisationID, ID: r.ID, LinkID: r.LinkID, IncidentID: r.IncidentID, Version: r.Version, Kind: r.Kind, Payload: r.Payload,
		CommentID: r.CommentID, State: r.State, Attempts: r.Attempts, JournalMark: r.JournalMark, ErrorKind: r.ErrorKind, Error: r.Error, Trace: r.Trace,
		Mapping: r.Mapping, CreatedAt: r.CreatedAt, SettledAt: r.SettledAt,
	}
	if r.SentAt != nil {
		out.SentAt = *r.SentAt
	}
	if sending == nil || r.Version > *sending {
		return out
	}
	if mark != nil && (State(r.State) == StatePending || r.JournalMark == "") {
		out.JournalMark = *mark
	}
	if State(r.State) == StatePending {
		out.State = string(StateSending)
	}
	return out
}

func commentOf(r db.Comment) incident.Comment {
	return incident.Comment{
		ID: incident.CommentID{UUID: r.ID}, Visibility: incident.Visibility(r.Visibility), Body: r.Body, Author: r.Author, At: r.At.UTC(),
	}
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func timePtr(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func nullUUID(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: id != uuid.Nil} }

// object writes v as a JSON object, never as null.
func object(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return []byte("{}")
	}
	return b
}

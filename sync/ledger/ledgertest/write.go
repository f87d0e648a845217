package ledgertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/ledger/internal/db"
)

func unique(constraint string) error {
	return &pgconn.PgError{Severity: "ERROR", Code: "23505", ConstraintName: constraint, Message: "duplicate key value violates unique constraint " + constraint}
}

func check(constraint string) error {
	return &pgconn.PgError{Severity: "ERROR", Code: "23514", ConstraintName: constraint, Message: "new row violates check constraint " + constraint}
}

func policy(table string) error {
	return &pgconn.PgError{Severity: "ERROR", Code: "42501", Message: "new row violates row-level security policy for table " + table}
}

// stamp is a time as timestamptz keeps it.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func stampPtr(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	out := stamp(*t)
	return &out
}

func (t *tx) LockIncident(ctx context.Context, id uuid.UUID) (db.Incident, error) {
	return t.incident(ctx, "LockIncident", id)
}

func (t *tx) FindIncident(ctx context.Context, id uuid.UUID) (db.Incident, error) {
	return t.incident(ctx, "FindIncident", id)
}

func (t *tx) incident(ctx context.Context, statement string, id uuid.UUID) (db.Incident, error) {
	if err := t.begin(ctx, statement, id); err != nil {
		return db.Incident{}, err
	}
	row, ok := t.memory.incidents.Get(id)
	if !ok || !t.sees(row.OrganisationID) {
		return db.Incident{}, pgx.ErrNoRows
	}
	return row, nil
}

func (t *tx) FindComment(ctx context.Context, p db.FindCommentParams) (db.Comment, error) {
	if err := t.begin(ctx, "FindComment", p.ID); err != nil {
		return db.Comment{}, err
	}
	row, ok := t.memory.comments.Get(p.ID)
	if !ok || row.OrganisationID != p.OrganisationID || !t.reads(row.OrganisationID, row.Visibility) {
		return db.Comment{}, pgx.ErrNoRows
	}
	return row, nil
}

func (t *tx) FindKey(ctx context.Context, p db.FindKeyParams) (db.Idempotency, error) {
	if err := t.begin(ctx, "FindKey", p.Key); err != nil {
		return db.Idempotency{}, err
	}
	row, ok := t.memory.keys.Get(keyKey{p.OrganisationID, p.Subject, p.Key})
	if !ok || !t.sees(row.OrganisationID) {
		return db.Idempotency{}, pgx.ErrNoRows
	}
	return row, nil
}

func (t *tx) InsertKey(ctx context.Context, p db.InsertKeyParams) error {
	if err := t.begin(ctx, "InsertKey", p.Key); err != nil {
		return err
	}
	k := keyKey{p.OrganisationID, p.Subject, p.Key}
	if !t.sees(p.OrganisationID) {
		return t.Abort(policy("idempotency"))
	}
	if _, there := t.memory.keys.Get(k); there {
		return t.Abort(unique("idempotency_pkey"))
	}
	t.memory.keys.Put(t.Tx, k, db.Idempotency{
		OrganisationID: p.OrganisationID, Subject: p.Subject, Key: p.Key, InputDigest: bytes.Clone(p.InputDigest),
		IncidentID: p.IncidentID, LinkID: p.LinkID, CommentID: p.CommentID, At: stamp(p.At),
	})
	return nil
}

func (t *tx) OpenIncident(ctx context.Context, p db.OpenIncidentParams) (string, error) {
	if err := t.begin(ctx, "OpenIncident", p.Title); err != nil {
		return "", err
	}
	m := t.memory
	m.numbers++ // a sequence is not rolled back
	row := db.Incident{
		OrganisationID: p.OrganisationID, ID: p.ID, Number: fmt.Sprintf("INC%07d", m.numbers), Version: 1, Title: p.Title, Description: p.Description,
		State: p.State, Priority: p.Priority, Impact: p.Impact, Urgency: p.Urgency, Category: p.Category, Service: p.Service, Reference: p.Reference,
		Source: p.Source, ContactName: p.ContactName, ContactPhone: p.ContactPhone, ContactEmail: p.ContactEmail, ReportedBy: p.ReportedBy,
		OpenedAt: stamp(p.At), UpdatedAt: stamp(p.At),
	}
	if !t.sees(p.OrganisationID) {
		return "", t.Abort(policy("incident"))
	}
	if err := checkIncident(row); err != nil {
		return "", t.Abort(err)
	}
	if _, there := m.incidents.Get(p.ID); there {
		return "", t.Abort(unique("incident_pkey"))
	}
	m.name(p.ID, fmt.Sprintf("incident %d", m.numbers))
	m.incidents.Put(t.Tx, p.ID, row)
	m.entryIDs++
	m.entries.Put(t.Tx, entryKey{p.ID, 1}, db.LedgerEntry{
		OrganisationID: p.OrganisationID, IncidentID: p.ID, Version: 1, ID: m.entryIDs, Kind: string(ledger.Reported), Visibility: string(incident.Public),
		ActorKind: p.ActorKind, Actor: p.Actor, Changes: bytes.Clone(p.Changes), Detail: []byte("{}"), At: stamp(p.At), TraceID: p.TraceID,
	})
	return row.Number, nil
}

// checkIncident holds the table's CHECKs.
func checkIncident(r db.Incident) error {
	switch {
	case r.Title == "":
		return check("incident_title_check")
	case r.Description == "":
		return check("incident_description_check")
	case !incident.State(r.State).Valid():
		return check("incident_state_check")
	case !incident.Priority(r.Priority).Valid():
		return check("incident_priority_check")
	case r.HoldReason != "" && r.State != string(incident.OnHold):
		return check("incident_hold_reason_only_on_hold")
	case r.DeferredTo != nil && r.HoldReason != string(incident.CustomerDeferral):
		return check("incident_deferral_has_its_reason")
	}
	return nil
}

func (t *tx) WriteChange(ctx context.Context, p db.WriteChangeParams) (db.WriteChangeRow, error) {
	var none db.WriteChangeRow
	if err := t.begin(ctx, "WriteChange", p.IncidentID); err != nil {
		return none, err
	}
	m, at := t.memory, stamp(p.At)
	row, ok := m.incidents.Get(p.IncidentID)
	if !ok || !t.sees(row.OrganisationID) || row.OrganisationID != p.OrganisationID || row.Version+1 != p.Version {
		return none, pgx.ErrNoRows
	}
	row.Version, row.Title, row.Description, row.State, row.HoldReason = p.Version, p.Title, p.Description, p.State, p.HoldReason
	row.DeferredTo, row.Priority, row.Impact, row.Urgency, row.Category = stampPtr(p.DeferredTo), p.Priority, p.Impact, p.Urgency, p.Category
	row.Service, row.Team, row.Assignee, row.Resolution, row.ContactName = p.Service, p.Team, p.Assignee, p.Resolution, p.ContactName
	row.ContactPhone, row.ContactEmail, row.UpdatedAt = p.ContactPhone, p.ContactEmail, at
	row.ResolvedAt, row.ClosedAt = stampPtr(p.ResolvedAt), stampPtr(p.ClosedAt)
	if err := checkIncident(row); err != nil {
		return none, t.Abort(err)
	}
	if !t.reads(p.OrganisationID, p.Visibility) {
		return none, t.Abort(policy("ledger_entry"))
	}
	m.incidents.Put(t.Tx, p.IncidentID, row)
	m.entryIDs++
	m.entries.Put(t.Tx, entryKey{p.IncidentID, p.Version}, entryOf(p, m.entryIDs, at))
	if p.CommentID.Valid {
		if p.CommentBody == "" {
			return none, t.Abort(check("comment_body_check"))
		}
		if _, there := m.comments.Get(p.CommentID.UUID); there {
			return none, t.Abort(unique("comment_pkey"))
		}
		m.name(p.CommentID.UUID, fmt.Sprintf("comment %d", m.comments.Len()+1))
		m.comments.Put(t.Tx, p.CommentID.UUID, db.Comment{
			OrganisationID: p.OrganisationID, ID: p.CommentID.UUID, IncidentID: p.IncidentID, Visibility: p.Visibility, Body: p.CommentBody,
			Author: p.CommentAuthor, LinkID: p.LinkID, At: stamp(p.CommentAt),
		})
	}
	return t.send(p, at)
}

// send writes a delivery to every link that must hear of a change and wakes its lane.
func (t *tx) send(p db.WriteChangeParams, at time.Time) (db.WriteChangeRow, error) {
	m, out := t.memory, db.WriteChangeRow{Version: p.Version}
	if p.DeliveryKind == "" {
		return out, nil
	}
	for id, link := range m.links.All {
		if link.IncidentID != p.IncidentID || link.Gone != "" || p.LinkID.Valid && p.LinkID.UUID == id || p.OnlySome && !slices.Contains(p.OnlyLinks, id) {
			continue
		}
		for _, d := range m.deliveries.All {
			if d.LinkID == id && d.Version == p.Version {
				return out, t.Abort(unique("delivery_lane"))
			}
		}
		d := db.Delivery{
			OrganisationID: p.OrganisationID, ID: m.fresh(), LinkID: id, IncidentID: p.IncidentID, Version: p.Version, Kind: p.DeliveryKind,
			Payload: bytes.Clone(p.Payload), CommentID: p.CommentID, State: string(ledger.StatePending), Trace: p.Trace, CreatedAt: at,
		}
		m.name(d.ID, fmt.Sprintf("delivery %d", m.made))
		m.deliveries.Put(t.Tx, d.ID, d)
		if lane, ok := m.lanes.Get(id); ok {
			switch {
			case lane.Held:
				lane.DueAt = nil
			case lane.DueAt == nil:
				lane.DueAt = &at
			}
			m.lanes.Put(t.Tx, id, lane)
		}
		out.Deliveries++
	}
	return out, nil
}

func (t *tx) InsertLink(ctx context.Context, p db.InsertLinkParams) error {
	if err := t.begin(ctx, "InsertLink", p.IncidentID); err != nil {
		return err
	}
	m := t.memory
	if !t.sees(p.OrganisationID) {
		return t.Abort(policy("external_link"))
	}
	for id, l := range m.links.All {
		switch {
		case id == p.ID:
			return t.Abort(unique("external_link_pkey"))
		case l.IncidentID == p.IncidentID && l.SystemID == p.SystemID:
			return t.Abort(unique("external_link_one_per_system"))
		}
	}
	name := fmt.Sprintf("link %d", m.links.Len()+1)
	m.name(p.ID, name)
	m.name(p.CorrelationID, name)
	m.links.Put(t.Tx, p.ID, db.ExternalLink{
		OrganisationID: p.OrganisationID, ID: p.ID, IncidentID: p.IncidentID, SystemID: p.SystemID, CorrelationID: p.CorrelationID,
		Base: []byte("{}"), Parked: []byte("{}"), Flips: []byte("{}"), CreatedAt: stamp(p.CreatedAt),
	})
	m.lanes.Put(t.Tx, p.ID, db.Lane{OrganisationID: p.OrganisationID, LinkID: p.ID, SystemID: p.SystemID})
	return nil
}

func (t *tx) FindLinkToSystem(ctx context.Context, p db.FindLinkToSystemParams) (db.ExternalLink, error) {
	if err := t.begin(ctx, "FindLinkToSystem", p.IncidentID); err != nil {
		return db.ExternalLink{}, err
	}
	for _, l := range t.memory.links.All {
		if l.OrganisationID == p.OrganisationID && l.IncidentID == p.IncidentID && l.SystemID == p.SystemID && t.sees(l.OrganisationID) {
			return l, nil
		}
	}
	return db.ExternalLink{}, pgx.ErrNoRows
}

func (t *tx) UsableSystems(ctx context.Context, organisation int64) ([]db.ExternalSystem, error) {
	if err := t.begin(ctx, "UsableSystems", organisation); err != nil {
		return nil, err
	}
	var out []db.ExternalSystem
	for _, s := range t.memory.systems {
		if slices.Contains(s.Organisations, incident.OrganisationID(organisation)) && t.sees(organisation) {
			out = append(out, db.ExternalSystem{ID: int64(s.ID), Key: s.Key, Name: s.Key, Active: true, Paused: t.memory.paused[int64(s.ID)]})
		}
	}
	slices.SortFunc(out, func(a, b db.ExternalSystem) int { return compare(a.Key, b.Key) })
	return out, nil
}

func (t *tx) LockDelivery(ctx context.Context, p db.LockDeliveryParams) (db.Delivery, error) {
	if err := t.begin(ctx, "LockDelivery", p.ID); err != nil {
		return db.Delivery{}, err
	}
	d, ok := t.memory.deliveries.Get(p.ID)
	if !ok || d.OrganisationID != p.OrganisationID || !t.sees(d.OrganisationID) {
		return db.Delivery{}, pgx.ErrNoRows
	}
	return d, nil
}

func (t *tx) FindDeliveryIncident(ctx context.Context, id uuid.UUID) (db.FindDeliveryIncidentRow, error) {
	if err := t.begin(ctx, "FindDeliveryIncident", id); err != nil {
		return db.FindDeliveryIncidentRow{}, err
	}
	d, ok := t.memory.deliveries.Get(id)
	if !ok || !t.sees(d.OrganisationID) {
		return db.FindDeliveryIncidentRow{}, pgx.ErrNoRows
	}
	return db.FindDeliveryIncidentRow{OrganisationID: d.OrganisationID, IncidentID: d.IncidentID}, nil
}

func (t *tx) ReviveDelivery(ctx context.Context, p db.ReviveDeliveryParams) error {
	if err := t.begin(ctx, "ReviveDelivery", p.ID); err != nil {
		return err
	}
	m := t.memory
	d, ok := m.deliveries.Get(p.ID)
	if !ok || d.OrganisationID != p.OrganisationID || !t.sees(d.OrganisationID) {
		return nil
	}
	d.State, d.ErrorKind, d.Error, d.Attempts, d.SettledAt = p.State, "", "", 0, stampPtr(p.SettledAt)
	m.deliveries.Put(t.Tx, d.ID, d)
	if lane, ok := m.lanes.Get(d.LinkID); ok {
		at := stamp(p.At)
		lane.Held, lane.Trouble, lane.DueAt = false, "", &at
		if p.State == string(ledger.StateSkipped) {
			lane.DoneVersion = d.Version
		}
		m.lanes.Put(t.Tx, d.LinkID, lane)
	}
	return nil
}

func (t *tx) WithdrawFields(ctx context.Context, p db.WithdrawFieldsParams) error {
	if err := t.begin(ctx, "WithdrawFields", p.LinkID); err != nil {
		return err
	}
	m := t.memory
	lane, ok := m.lanes.Get(p.LinkID)
	if !ok || lane.OrganisationID != p.OrganisationID {
		return nil
	}
	for id, d := range m.deliveries.All {
		if d.LinkID != p.LinkID || d.Version <= lane.DoneVersion || d.Kind != string(ledger.UpdateTicket) {
			continue
		}
		payload := map[string]json.RawMessage{}
		if err := json.Unmarshal(d.Payload, &payload); err != nil {
			return t.Abort(fmt.Errorf("payload of delivery %s: %w", id, err))
		}
		for _, f := range p.Fields {
			delete(payload, f)
		}
		var err error
		if d.Payload, err = json.Marshal(payload); err != nil {
			return t.Abort(err)
		}
		m.deliveries.Put(t.Tx, id, d)
	}
	return nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func entryOf(p db.WriteChangeParams, id int64, at time.Time) db.LedgerEntry {
	return db.LedgerEntry{
		OrganisationID: p.OrganisationID, IncidentID: p.IncidentID, Version: p.Version, ID: id, Kind: p.Kind, Visibility: p.Visibility,
		ActorKind: p.ActorKind, Actor: p.Actor, LinkID: p.EntryLinkID, CommentID: p.CommentID, Changes: bytes.Clone(p.Changes),
		Detail: bytes.Clone(p.Detail), At: at, TraceID: p.TraceID,
	}
}

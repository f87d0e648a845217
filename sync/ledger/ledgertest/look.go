package ledgertest

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/ledger/internal/db"
)

func (t *tx) PresentIncident(ctx context.Context, p db.PresentIncidentParams) (db.Incident, error) {
	row, err := t.incident(ctx, "PresentIncident", p.ID)
	if err == nil && row.OrganisationID != p.OrganisationID {
		return db.Incident{}, pgx.ErrNoRows
	}
	return row, err
}

func (t *tx) LinkByID(ctx context.Context, id uuid.UUID) (db.ExternalLink, error) {
	if err := t.begin(ctx, "LinkByID", id); err != nil {
		return db.ExternalLink{}, err
	}
	l, ok := t.memory.links.Get(id)
	if !ok || !t.sees(l.OrganisationID) {
		return db.ExternalLink{}, pgx.ErrNoRows
	}
	return l, nil
}

// told reports whether a duplicate was told of already.
func (t *tx) told(incidentID, link uuid.UUID, ticket string) bool {
	for _, e := range t.memory.entries.All {
		if e.IncidentID != incidentID || e.Kind != string(ledger.DuplicateFound) || e.LinkID.UUID != link || !t.reads(e.OrganisationID, e.Visibility) {
			continue
		}
		var detail struct{ ExternalID string }
		parse(e.Detail, &detail)
		if detail.ExternalID == ticket {
			return true
		}
	}
	return false
}

func (t *tx) DuplicateTold(ctx context.Context, p db.DuplicateToldParams) (bool, error) {
	if err := t.begin(ctx, "DuplicateTold", p.LinkID.UUID); err != nil {
		return false, err
	}
	return t.told(p.IncidentID, p.LinkID.UUID, p.ExternalID), nil
}

func (t *tx) StrayTickets(ctx context.Context, p db.StrayTicketsParams) ([]string, error) {
	if err := t.begin(ctx, "StrayTickets", p.SystemID); err != nil {
		return nil, err
	}
	var out []string
	for n, external := range p.ExternalIds {
		for _, l := range t.memory.links.All {
			if l.SystemID == p.SystemID && l.CorrelationID == p.Correlations[n] && l.Gone == "" && (l.ExternalID == nil || *l.ExternalID != external) &&
				!t.told(l.IncidentID, l.ID, external) {
				out = append(out, external)
			}
		}
	}
	return out, nil
}

// after lists a system's followed links beyond one, in the order of their keys.
func (t *tx) after(system, organisation int64, link uuid.UUID) []db.ExternalLink {
	var out []db.ExternalLink
	for _, l := range t.memory.links.All {
		beyond := l.OrganisationID > organisation || l.OrganisationID == organisation && bytes.Compare(l.ID[:], link[:]) > 0
		if l.SystemID == system && beyond && l.ExternalID != nil && l.Gone == "" {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b db.ExternalLink) int {
		if a.OrganisationID != b.OrganisationID {
			return int(a.OrganisationID - b.OrganisationID)
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	})
	return out
}

func (t *tx) FollowedLinks(ctx context.Context, p db.FollowedLinksParams) ([]db.ExternalLink, error) {
	if err := t.begin(ctx, "FollowedLinks", p.SystemID); err != nil {
		return nil, err
	}
	out := t.after(p.SystemID, p.AfterOrganisation, p.AfterLink)
	return out[:min(len(out), int(p.Most))], nil
}

func (t *tx) LinksToReweigh(ctx context.Context, p db.LinksToReweighParams) ([]db.ExternalLink, error) {
	if err := t.begin(ctx, "LinksToReweigh", p.SystemID); err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(t.after(p.SystemID, p.AfterOrganisation, p.AfterLink), func(l db.ExternalLink) bool {
		var parked map[incident.Field]json.RawMessage
		var flips map[incident.Field]struct{ Mapping string }
		parse(l.Parked, &parked)
		parse(l.Flips, &flips)
		for f := range parked {
			if flips[f].Mapping != p.Mapping {
				return false
			}
		}
		return true
	})
	return out[:min(len(out), int(p.MaxRows))], nil
}

func (t *tx) CopiesOf(ctx context.Context, p db.CopiesOfParams) ([]db.CopiesOfRow, error) {
	if err := t.begin(ctx, "CopiesOf", p.LinkID); err != nil {
		return nil, err
	}
	var copies []db.CommentCopy
	for k, c := range t.memory.copies.All {
		if k.link == p.LinkID && c.OrganisationID == p.OrganisationID {
			copies = append(copies, c)
		}
	}
	slices.SortFunc(copies, func(a, b db.CommentCopy) int {
		x, _ := t.memory.comments.Get(a.CommentID)
		y, _ := t.memory.comments.Get(b.CommentID)
		if n := x.At.Compare(y.At); n != 0 {
			return n
		}
		return compare(a.ExternalID, b.ExternalID)
	})
	var out []db.CopiesOfRow
	for _, c := range copies {
		m, _ := t.memory.comments.Get(c.CommentID)
		out = append(out, db.CopiesOfRow{ExternalID: c.ExternalID, Body: m.Body, Visibility: m.Visibility, Author: m.Author})
	}
	return out, nil
}

func (t *tx) RestoreLane(ctx context.Context, p db.RestoreLaneParams) (int64, error) {
	if err := t.begin(ctx, "RestoreLane", p.LinkID); err != nil {
		return 0, err
	}
	m := t.memory
	lane, ok := m.lanes.Get(p.LinkID)
	if !ok || lane.OrganisationID != p.OrganisationID || !lane.Held {
		return 0, nil
	}
	revived := false
	for _, d := range t.ahead(p.LinkID, lane.DoneVersion) {
		if d.State != string(ledger.StateDead) || d.ErrorKind != "gone" {
			continue
		}
		d.State, d.ErrorKind, d.Error, d.Attempts = string(ledger.StatePending), "", "", 0
		m.deliveries.Put(t.Tx, d.ID, d)
		revived = true
	}
	if !revived {
		return 0, nil
	}
	at := stamp(p.At)
	lane.Held, lane.Trouble, lane.DueAt = false, "", &at
	m.lanes.Put(t.Tx, p.LinkID, lane)
	return 1, nil
}

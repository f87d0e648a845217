package ledger

import (
	"context"
	"fmt"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

// LinkPlace is a place in the order in which comparisons go through a system's links. The zero place lies before the first.
type LinkPlace struct {
	Organisation incident.OrganisationID
	Link         incident.LinkID
}

// Place is where the link stands in that order.
func (l Link) Place() LinkPlace { return LinkPlace{l.Organisation, l.ID} }

// Followed returns the links of a system beyond a place whose tickets exist and are followed.
func (l *Ledger) Followed(ctx context.Context, system incident.SystemID, after LinkPlace, most int) ([]Link, error) {
	var out []Link
	err := l.system(ctx, func(q db.Querier) error {
		rows, err := q.FollowedLinks(ctx, db.FollowedLinksParams{
			SystemID: int64(system), AfterOrganisation: int64(after.Organisation), AfterLink: after.Link.UUID, Most: int32(most),
		})
		if err != nil {
			return err
		}
		out, err = linksOf(rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing followed links: %w", err)
	}
	return out, nil
}

// LinkByID returns a link, or ErrNotFound for one that is not there and one that the viewer may not see, alike. A nil viewer
// is the operator, who sees all.
func (l *Ledger) LinkByID(ctx context.Context, v *auth.Viewer, id incident.LinkID) (Link, error) {
	var out Link
	read := func(q db.Querier) error {
		row, err := q.LinkByID(ctx, id.UUID)
		if err != nil {
			return notFound(err)
		}
		out, err = linkOf(row)
		return err
	}
	var err error
	if v == nil {
		err = l.system(ctx, read)
	} else {
		err = l.store.Viewer(ctx, *v, read)
	}
	return out, err
}

// Copy is a comment that a link's vendor has.
type Copy struct {
	Entry      string // the vendor's id of its journal entry
	Body       string
	Author     string
	Visibility incident.Visibility
}

// Inspect shows how a link stands without locking or writing anything: look is given the situation as Take would give it,
// and the comments that the vendor has as far as the hub knows. People may change the incident meanwhile, and unless the
// caller holds the lane's lease its exchanges go on too, so what differs is to be looked at again under the lease.
func (l *Ledger) Inspect(ctx context.Context, o incident.OrganisationID, link incident.LinkID, journal []string, look func(Situation, []Copy) error) error {
	err := l.system(ctx, func(q db.Querier) error {
		s, err := l.inspected(ctx, q, Lease{Organisation: o, Link: link}, journal)
		if err != nil {
			return err
		}
		rows, err := q.CopiesOf(ctx, db.CopiesOfParams{OrganisationID: int64(o), LinkID: link.UUID})
		if err != nil {
			return fmt.Errorf("reading the comments' copies: %w", err)
		}
		copies := make([]Copy, len(rows))
		for n, r := range rows {
			copies[n] = Copy{Entry: r.ExternalID, Body: r.Body, Author: r.Author, Visibility: incident.Visibility(r.Visibility)}
		}
		return look(s, copies)
	})
	if err != nil {
		return fmt.Errorf("inspecting a link: %w", err)
	}
	return nil
}

func (l *Ledger) inspected(ctx context.Context, q db.Querier, lease Lease, journal []string) (Situation, error) {
	s := Situation{Now: l.now(), Known: map[string]bool{}}
	row, err := q.FindLink(ctx, db.FindLinkParams{OrganisationID: int64(lease.Organisation), ID: lease.Link.UUID})
	if err != nil {
		return s, fmt.Errorf("reading the link: %w", notFound(err))
	}
	if s.Link, err = linkOf(row); err != nil {
		return s, err
	}
	// The incident before its deliveries: a change that is made between the two shows among the latter.
	i, err := q.PresentIncident(ctx, db.PresentIncidentParams{OrganisationID: int64(lease.Organisation), ID: row.IncidentID})
	if err != nil {
		return s, fmt.Errorf("reading the incident: %w", notFound(err))
	}
	s.Incident = incidentOf(i)
	err = l.surroundings(ctx, q, lease, journal, &s)
	return s, err
}

// Repair is what a comparison does about drift of its own, beside taking the vendor's news in.
type Repair struct {
	Actor  Actor
	Push   []incident.Field // the vendor hears the hub's values of these again
	Detail any              // for the entry: what was found and what became of it
}

// Repaired writes that a comparison has mended a link and has the vendor hear what it lacks. Under a lease that was lost
// nothing is written and ErrFenced returned.
func (l *Ledger) Repaired(ctx context.Context, lease Lease, r Repair) error {
	var deliveries int64
	err := l.system(ctx, func(q db.Querier) error {
		s, err := l.situation(ctx, q, lease, nil)
		if err != nil {
			return err
		}
		c := change{
			kind: Reconciled, visibility: incident.Internal, actor: r.Actor, before: s.Incident, after: s.Incident, about: lease.Link,
			only: []incident.LinkID{lease.Link}, payload: incident.Values{}, detail: r.Detail,
		}
		for _, f := range r.Push {
			c.payload[f], c.deliver = s.Incident.Values()[f], UpdateTicket
		}
		_, deliveries, err = l.write(ctx, q, c, l.now())
		return err
	})
	if err != nil {
		return fmt.Errorf("writing down what was mended: %w", err)
	}
	l.bell.Ring(TopicEntries)
	if deliveries > 0 {
		l.bell.Ring(TopicLanes)
	}
	return nil
}

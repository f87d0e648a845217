package ledger

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

// duplicateKey is where a CloseDuplicate's payload names the ticket to close.
const duplicateKey incident.Field = "duplicate"

// Duplicate returns the ticket that a CloseDuplicate closes.
func (d Delivery) Duplicate() connectors.ExternalID {
	return connectors.ExternalID(d.Values[duplicateKey])
}

// duplicateFound tells of a further ticket under a link's correlation id and has the link's lane close it.
func duplicateFound(link incident.LinkID, id connectors.ExternalID, number, url string, followed connectors.ExternalID) change {
	return change{
		kind: DuplicateFound, visibility: incident.Internal, about: link, only: []incident.LinkID{link},
		deliver: CloseDuplicate, payload: incident.Values{duplicateKey: string(id)},
		detail: map[string]any{"externalId": id, "number": number, "url": url, "follows": followed},
	}
}

// TellDuplicate tells of a ticket that stands beside the one that a link follows, and has the link's lane close it. It
// reports whether that was news: a ticket is told once, and never the followed one.
func (l *Ledger) TellDuplicate(ctx context.Context, actor Actor, link Link, further connectors.Ticket) (bool, error) {
	told := false
	err := l.system(ctx, func(q db.Querier) error {
		told = false
		row, err := q.LockIncident(ctx, link.Incident.UUID)
		if err != nil {
			return fmt.Errorf("locking the incident: %w", notFound(err))
		}
		found, err := q.FindLink(ctx, db.FindLinkParams{OrganisationID: int64(link.Organisation), ID: link.ID.UUID})
		if err != nil {
			return fmt.Errorf("reading the link: %w", notFound(err))
		}
		now, err := linkOf(found)
		if err != nil {
			return err
		}
		if now.ExternalID == "" || now.ExternalID == further.ID || now.Gone != connectors.Present {
			return nil
		}
		known, err := q.DuplicateTold(ctx, db.DuplicateToldParams{
			OrganisationID: int64(link.Organisation), IncidentID: link.Incident.UUID, LinkID: nullUUID(link.ID.UUID), ExternalID: string(further.ID),
		})
		if err != nil || known {
			return err
		}
		c := duplicateFound(link.ID, further.ID, further.Number, further.URL, now.ExternalID)
		c.actor, c.before = actor, incidentOf(row)
		c.after = c.before
		if _, _, err := l.write(ctx, q, c, l.now()); err != nil {
			return err
		}
		told = true
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("telling of a duplicate: %w", err)
	}
	if told {
		l.bell.Ring(TopicEntries)
		l.bell.Ring(TopicLanes)
	}
	return told, nil
}

// Stray is a ticket that a poll saw under a correlation id.
type Stray struct {
	Ticket        connectors.ExternalID
	CorrelationID string
}

// Strays returns those of the tickets that carry a link's correlation id, are not the one that the link follows, and have
// not been told of.
func (l *Ledger) Strays(ctx context.Context, system incident.SystemID, seen []Stray) ([]connectors.ExternalID, error) {
	p := db.StrayTicketsParams{SystemID: int64(system)}
	for _, s := range seen {
		if id, err := uuid.Parse(s.CorrelationID); err == nil { // other systems use the field as well, with words of their own
			p.ExternalIds, p.Correlations = append(p.ExternalIds, string(s.Ticket)), append(p.Correlations, id)
		}
	}
	if len(p.ExternalIds) == 0 {
		return nil, nil
	}
	var out []connectors.ExternalID
	err := l.system(ctx, func(q db.Querier) error {
		out = nil
		ids, err := q.StrayTickets(ctx, p)
		for _, id := range ids {
			out = append(out, connectors.ExternalID(id))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for further tickets: %w", err)
	}
	return out, nil
}

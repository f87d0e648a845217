package ledger

import (
	"context"

	"github.com/google/uuid"

	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

// LinksOf asks for the links of many incidents, oldest first, with the summary of their lanes.
func LinksOf(keys []IncidentKey, answer *map[incident.ID][]Link) Question {
	var p db.LinksOfIncidentsParams
	p.Organisations, p.Incidents = columns(keys)
	each := func(r db.LinksOfIncidentsRow) (Link, error) {
		return summarised(r.ExternalLink, r.Waiting, r.Head, r.Unopened)
	}
	return many((*db.Queries).LinksOfIncidents, p, each, func(links []Link) {
		found := make(map[incident.ID][]Link, len(keys))
		for _, l := range links {
			found[l.Incident] = append(found[l.Incident], l)
		}
		*answer = found
	})
}

// LinksByID asks for links by id among the organisations, in no particular order, with the summary of their lanes.
func LinksByID(organisations []incident.OrganisationID, ids []incident.LinkID, answer *[]Link) Question {
	p := db.LinksByIDParams{Organisations: numbers(organisations), Ids: make([]uuid.UUID, len(ids))}
	for n, id := range ids {
		p.Ids[n] = id.UUID
	}
	each := func(r db.LinksByIDRow) (Link, error) {
		return summarised(r.ExternalLink, r.Waiting, r.Head, r.Unopened)
	}
	return many((*db.Queries).LinksByID, p, each, func(links []Link) { *answer = links })
}

// summarised leaves Base out: nobody who reads links shows it, and taking it apart costs more than all the rest.
func summarised(r db.ExternalLink, waiting int64, head string, unopened bool) (Link, error) {
	r.Base = []byte("{}")
	l, err := linkOf(r)
	l.Waiting, l.Unopened = int(waiting), unopened
	if s := State(head); s == StateDead || s == StateUnknown {
		l.Trouble = s
	}
	return l, err
}

// Place is where the delivery stands in lists.
func (d Delivery) Place() Place { return Place{At: d.CreatedAt, Version: d.Version, ID: d.ID.UUID} }

// LinkKey names a link together with where its deliveries are found.
type LinkKey struct {
	IncidentKey
	Link incident.LinkID
}

// DeliveriesOf asks for the same page of deliveries of each of many links, in the page's order.
func DeliveriesOf(links []LinkKey, page Page[Place], answer *map[incident.LinkID][]Delivery) Question {
	above, below := bounds(page)
	p := db.LinkDeliveriesNewestParams{BelowAt: below.At, BelowVersion: below.Version, BelowID: below.ID, AboveAt: above.At, AboveVersion: above.Version, AboveID: above.ID, MaxRows: int32(page.Rows)}
	for _, k := range links {
		p.Organisations, p.Links = append(p.Organisations, int64(k.Organisation)), append(p.Links, k.Link.UUID)
	}
	ask := (*db.Queries).LinkDeliveriesNewest
	if page.Oldest {
		ask = func(q *db.Queries, ctx context.Context, p db.LinkDeliveriesNewestParams) ([]db.DeliveryNow, error) {
			return q.LinkDeliveriesOldest(ctx, db.LinkDeliveriesOldestParams(p))
		}
	}
	return many(ask, p, deliveryOf, func(deliveries []Delivery) {
		found := make(map[incident.LinkID][]Delivery, len(links))
		for _, d := range deliveries {
			found[d.Link] = append(found[d.Link], d)
		}
		*answer = found
	})
}

// DeliveryFilter says which deliveries. The zero value of each part asks nothing, except that Organisations
// names where to look: none finds none.
type DeliveryFilter struct {
	Organisations []incident.OrganisationID
	States        []State
	System        *string // the system's key
	Incident      incident.ID
	ErrorKinds    []string
}

// Deliveries asks for a page of deliveries.
func Deliveries(f DeliveryFilter, page Page[Place], answer *[]Delivery) Question {
	above, below := bounds(page)
	p := db.DeliveriesNewestParams{
		Organisations: numbers(f.Organisations), BelowAt: below.At, BelowVersion: below.Version, BelowID: below.ID, AboveAt: above.At, AboveVersion: above.Version, AboveID: above.ID,
		States: texts(f.States), ErrorKinds: texts(f.ErrorKinds), System: f.System, Incident: nullUUID(f.Incident.UUID), MaxRows: int32(page.Rows),
	}
	ask := (*db.Queries).DeliveriesNewest
	if page.Oldest {
		ask = func(q *db.Queries, ctx context.Context, p db.DeliveriesNewestParams) ([]db.DeliveryNow, error) {
			return q.DeliveriesOldest(ctx, db.DeliveriesOldestParams(p))
		}
	}
	return many(ask, p, deliveryOf, func(found []Delivery) { *answer = found })
}

// DeliveriesByID asks for deliveries by id among the organisations, in no particular order.
func DeliveriesByID(organisations []incident.OrganisationID, ids []incident.DeliveryID, answer *[]Delivery) Question {
	p := db.DeliveriesByIDParams{Organisations: numbers(organisations), Ids: make([]uuid.UUID, len(ids))}
	for n, id := range ids {
		p.Ids[n] = id.UUID
	}
	return many((*db.Queries).DeliveriesByID, p, deliveryOf, func(found []Delivery) { *answer = found })
}

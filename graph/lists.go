package graph

import (
	"context"
	"slices"

	"liaison/graph/load"
	"liaison/graph/model"
	"liaison/graph/nodeid"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

func incidentBy(ctx context.Context, s *load.Set, id, number *string) (*model.Incident, error) {
	var found []incident.Incident
	switch {
	case (id == nil) == (number == nil):
		return nil, refuse("id", "either id or number is needed", "give exactly one of them")
	case id != nil:
		wanted, err := incidentID("id", *id)
		if err != nil {
			return nil, err
		}
		i, err := s.Incident(ctx, wanted)
		return &model.Incident{Incident: i, Peers: s.Incidents(i)}, err
	}
	if err := s.Ask(ctx, ledger.IncidentsByNumber(s.Viewer().Organisations, *number, &found)); err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ledger.ErrNotFound
	}
	return model.Incidents(s, found[:1])[0], nil
}

func node(ctx context.Context, s *load.Set, id string) (model.Node, error) {
	kind, err := nodeid.KindOf(id)
	if err != nil {
		return nil, idError("id", err)
	}
	n, err := nodeOf(ctx, s, kind, id)
	if err != nil {
		return nil, err // without the half-made value
	}
	return n, nil
}

func nodeOf(ctx context.Context, s *load.Set, kind nodeid.Kind, id string) (model.Node, error) {
	switch kind {
	case nodeid.Organisation, nodeid.Desk, nodeid.System:
		return numberedNode(ctx, s, kind, id)
	case nodeid.LedgerEntry:
		key, err := nodeid.Entry(id)
		if err != nil {
			return nil, idError("id", err)
		}
		var found []ledger.Entry
		if err := s.Ask(ctx, ledger.EntriesByKey([]ledger.VersionKey{key}, &found)); err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, ledger.ErrNotFound
		}
		return &model.LedgerEntry{Entry: found[0], Peers: s.Entries(found...)}, nil
	default: // the others have a UUID
	}
	key, err := nodeid.UUID(kind, id)
	if err != nil {
		return nil, idError("id", err)
	}
	switch kind {
	case nodeid.Incident:
		i, err := s.Incident(ctx, incident.ID{UUID: key})
		return &model.Incident{Incident: i, Peers: s.Incidents(i)}, err
	case nodeid.Comment:
		c, err := s.Comment(ctx, incident.CommentID{UUID: key})
		return &model.Comment{Comment: c, Peers: s.Comments(c)}, err
	case nodeid.ExternalLink:
		l, err := s.Link(ctx, incident.LinkID{UUID: key})
		return &model.ExternalLink{Link: l, Peers: s.Links(l)}, err
	case nodeid.Delivery:
		return deliveryNode(ctx, s, incident.DeliveryID{UUID: key})
	case nodeid.Conflict:
		return conflictNode(ctx, s, incident.ConflictID{UUID: key})
	case nodeid.InboxItem:
		row, err := s.InboxRow(ctx, key) // row-level security shows them to staff alone
		if err != nil {
			return nil, err
		}
		return model.InboxItems(s, []ledger.InboxRow{row})[0], nil
	default:
		return nil, ledger.ErrNotFound
	}
}

func deliveryNode(ctx context.Context, s *load.Set, id incident.DeliveryID) (model.Node, error) {
	var found []ledger.Delivery
	if s.Viewer().Staff() { // to all others a delivery is something that they may not know of
		if err := s.Ask(ctx, ledger.DeliveriesByID(s.Viewer().Organisations, []incident.DeliveryID{id}, &found)); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, ledger.ErrNotFound
	}
	return &model.Delivery{Delivery: found[0], Peers: s.Deliveries(found...)}, nil
}

func numberedNode(ctx context.Context, s *load.Set, kind nodeid.Kind, id string) (model.Node, error) {
	key, err := nodeid.Number[int64](kind, id)
	if err != nil {
		return nil, idError("id", err)
	}
	switch kind {
	case nodeid.Organisation:
		o, err := s.Organisation(ctx, incident.OrganisationID(key))
		return &model.Organisation{Organisation: o}, err
	case nodeid.System:
		x, err := s.System(ctx, incident.SystemID(key))
		return model.NewSystem(s, x), err
	default: // a desk: known through the organisations that it serves
	}
	all, err := s.Organisations(ctx)
	if err != nil {
		return nil, err
	}
	n := slices.IndexFunc(all, func(o ledger.Organisation) bool { return o.Desk.ID == incident.DeskID(key) })
	if n < 0 {
		return nil, ledger.ErrNotFound
	}
	return &model.Desk{Desk: all[n].Desk}, nil
}

func organisations(ctx context.Context, s *load.Set) ([]*model.Organisation, error) {
	all, err := s.Organisations(ctx)
	out := make([]*model.Organisation, len(all))
	for n, o := range all {
		out[n] = &model.Organisation{Organisation: o}
	}
	return out, err
}

func (r *Resolver) incidents(ctx context.Context, s *load.Set, filter *model.IncidentFilter, order *model.IncidentOrder, in span) (*model.IncidentConnection, error) {
	by, kind, ascending := ledger.ByOpened, cursorOpened, false
	if order != nil {
		ascending = order.Direction == model.OrderDirectionAsc
		if order.Field == model.IncidentOrderFieldUpdatedAt {
			by, kind = ledger.ByUpdated, cursorUpdated
		}
	}
	cursors, sealer := places(kind), r.feed.Sealer()
	w, err := cursors.window(sealer, in, false)
	if err != nil {
		return nil, err
	}
	f, err := incidentFilter(ctx, s, filter)
	if err != nil {
		return nil, err
	}
	// Taken before the page is read: the feed may tell again what the page shows, but it never leaves anything out.
	feedCursor := r.feed.Now()
	var found []incident.Incident
	if err := s.Ask(ctx, ledger.Incidents(f, by, w.page(ascending), &found)); err != nil {
		return nil, err
	}
	cursor := func(i incident.Incident) func() string { return cursors.seal(sealer, by.Place(i)) }
	found, info := cut(w, found, cursor)
	c := &model.IncidentConnection{PageInfo: info, FeedCursor: feedCursor, Filter: f, Edges: make([]*model.IncidentEdge, len(found))}
	for n, i := range model.Incidents(s, found) {
		c.Edges[n] = &model.IncidentEdge{Node: i, Seal: cursor(i.Incident)}
	}
	return c, nil
}

func incidentFilter(ctx context.Context, s *load.Set, in *model.IncidentFilter) (ledger.IncidentFilter, error) {
	if in == nil {
		return ledger.IncidentFilter{Organisations: s.Viewer().Organisations}, nil
	}
	f := ledger.IncidentFilter{States: in.States, Priorities: in.Priorities, Category: in.Category, Team: in.Team, Assignee: in.Assignee}
	if in.Open != nil && *in.Open {
		f.Open = true
	} else if in.Open != nil {
		f.States = closedOnly(in.States)
	}
	var err error
	f.Organisations, err = within(ctx, s, in.Organisation)
	return f, err
}

// closedOnly keeps the final ones of the states asked for. When none is left nothing can match, which an empty
// list would not say.
func closedOnly(states []incident.State) []incident.State {
	if len(states) == 0 {
		states = incident.States()
	}
	final := slices.DeleteFunc(slices.Clone(states), func(s incident.State) bool { return !s.Final() })
	if len(final) == 0 {
		return []incident.State{""}
	}
	return final
}

func (r *Resolver) comments(ctx context.Context, of *model.Incident, in span) (*model.CommentConnection, error) {
	cursors, sealer := places(cursorComments), r.feed.Sealer()
	w, err := cursors.window(sealer, in, true)
	if err != nil {
		return nil, err
	}
	found, err := of.Peers.Comments(ctx, w.page(true))
	if err != nil {
		return nil, err
	}
	cursor := func(c ledger.Comment) func() string { return cursors.seal(sealer, c.Place()) }
	own, info := cut(w, found.By[of.Incident.ID], cursor)
	c := &model.CommentConnection{PageInfo: info, Of: of, Edges: make([]*model.CommentEdge, len(own))}
	for n, x := range own {
		c.Edges[n] = &model.CommentEdge{Node: &model.Comment{Comment: x, Peers: found.Peers}, Seal: cursor(x)}
	}
	return c, nil
}

func (r *Resolver) history(ctx context.Context, of *model.Incident, in span) (*model.LedgerEntryConnection, error) {
	cursors, sealer := numbers(cursorHistory), r.feed.Sealer()
	w, err := cursors.window(sealer, in, true)
	if err != nil {
		return nil, err
	}
	found, err := of.Peers.History(ctx, w.page(true))
	if err != nil {
		return nil, err
	}
	cursor := func(e ledger.Entry) func() string { return cursors.seal(sealer, e.Version) }
	own, info := cut(w, found.By[of.Incident.ID], cursor)
	return entryPage(own, info, found.Peers, cursor), nil
}

func entryPage(entries []ledger.Entry, info *model.PageInfo, peers *load.Peers, cursor func(ledger.Entry) func() string) *model.LedgerEntryConnection {
	c := &model.LedgerEntryConnection{PageInfo: info, Edges: make([]*model.LedgerEntryEdge, len(entries))}
	for n, e := range entries {
		c.Edges[n] = &model.LedgerEntryEdge{Node: &model.LedgerEntry{Entry: e, Peers: peers}, Seal: cursor(e)}
	}
	return c
}

func (r *Resolver) ledgerPage(ctx context.Context, s *load.Set, filter *model.LedgerFilter, in span) (*model.LedgerEntryConnection, error) {
	if filter == nil {
		filter = &model.LedgerFilter{}
	}
	if filter.Incident != nil {
		return r.ledgerOfIncident(ctx, s, filter, in)
	}
	cursors, sealer := numbers(cursorLedger), r.feed.Sealer()
	w, err := cursors.window(sealer, in, false)
	if err != nil {
		return nil, err
	}
	organisations, err := within(ctx, s, filter.Organisation)
	if err != nil {
		return nil, err
	}
	f, err := lineFilter(ctx, s, filter)
	if err != nil {
		return nil, err
	}
	var found []ledger.Line
	if err := s.Ask(ctx, ledger.Lines(organisations, f, w.page(false), &found)); err != nil {
		return nil, err
	}
	found, info := cut(w, found, func(l ledger.Line) func() string { return cursors.seal(sealer, l.Place) })
	entries, at := make([]ledger.Entry, len(found)), make(map[ledger.EntryKey]int64, len(found))
	for n, l := range found {
		entries[n], at[l.EntryKey] = l.Entry, l.Place
	}
	return entryPage(entries, info, s.Entries(entries...), func(e ledger.Entry) func() string { return cursors.seal(sealer, at[e.EntryKey]) }), nil
}

func lineFilter(ctx context.Context, s *load.Set, in *model.LedgerFilter) (ledger.LineFilter, error) {
	f := ledger.LineFilter{Kinds: in.Kinds, Actors: in.Actors, Since: value(in.Since), Until: value(in.Until)}
	if len(in.Systems) == 0 {
		return f, nil
	}
	var err error
	f.Systems, err = systemIDs(ctx, s, "systems", in.Systems)
	return f, err
}

func (r *Resolver) ledgerOfIncident(ctx context.Context, s *load.Set, filter *model.LedgerFilter, in span) (*model.LedgerEntryConnection, error) {
	cursors, sealer := numbers(cursorHistory), r.feed.Sealer()
	w, err := cursors.window(sealer, in, false)
	if err != nil {
		return nil, err
	}
	id, err := incidentID("incident", *filter.Incident)
	if err != nil {
		return nil, err
	}
	allowed, err := within(ctx, s, filter.Organisation)
	if err != nil {
		return nil, err
	}
	i, err := s.Incident(ctx, id)
	if err != nil {
		return nil, err
	}
	found := map[incident.ID][]ledger.Entry{}
	if slices.Contains(allowed, i.Organisation) {
		key := []ledger.IncidentKey{{Organisation: i.Organisation, Incident: id}}
		f, err := lineFilter(ctx, s, filter)
		if err != nil {
			return nil, err
		}
		if err := s.Ask(ctx, ledger.HistoryOf(key, f, w.page(false), &found)); err != nil {
			return nil, err
		}
	}
	cursor := func(e ledger.Entry) func() string { return cursors.seal(sealer, e.Version) }
	entries, info := cut(w, found[id], cursor)
	return entryPage(entries, info, s.Entries(entries...), cursor), nil
}

func (r *Resolver) deliveries(ctx context.Context, s *load.Set, filter *model.DeliveryFilter, in span) (*model.DeliveryConnection, error) {
	if !s.Viewer().Staff() {
		return nil, &desk.Denied{Problem: "only the desk may see deliveries", Remedy: "look at the incident's links and their syncStatus"}
	}
	cursors, sealer := places(cursorDeliveries), r.feed.Sealer()
	w, err := cursors.window(sealer, in, false)
	if err != nil {
		return nil, err
	}
	f := ledger.DeliveryFilter{Organisations: s.Viewer().Organisations}
	if filter != nil {
		f.States, f.System, f.ErrorKinds = filter.States, filter.System, filter.ErrorKinds
		if filter.Incident != nil {
			if f.Incident, err = incidentID("incident", *filter.Incident); err != nil {
				return nil, err
			}
		}
	}
	var found []ledger.Delivery
	if err := s.Ask(ctx, ledger.Deliveries(f, w.page(false), &found)); err != nil {
		return nil, err
	}
	cursor := func(d ledger.Delivery) func() string { return cursors.seal(sealer, d.Place()) }
	found, info := cut(w, found, cursor)
	return deliveryPage(found, info, s.Deliveries(found...), cursor), nil
}

func (r *Resolver) linkDeliveries(ctx context.Context, of *model.ExternalLink, in span) (*model.DeliveryConnection, error) {
	if !of.Staff() {
		return nil, nil
	}
	cursors, sealer := places(cursorDeliveries), r.feed.Sealer()
	w, err := cursors.window(sealer, in, false)
	if err != nil {
		return nil, err
	}
	found, err := of.Peers.Deliveries(ctx, w.page(false))
	if err != nil {
		return nil, err
	}
	cursor := func(d ledger.Delivery) func() string { return cursors.seal(sealer, d.Place()) }
	own, info := cut(w, found.By[of.Link.ID], cursor)
	return deliveryPage(own, info, found.Peers, cursor), nil
}

func deliveryPage(deliveries []ledger.Delivery, info *model.PageInfo, peers *load.Peers, cursor func(ledger.Delivery) func() string) *model.DeliveryConnection {
	c := &model.DeliveryConnection{PageInfo: info, Edges: make([]*model.DeliveryEdge, len(deliveries))}
	for n, d := range deliveries {
		c.Edges[n] = &model.DeliveryEdge{Node: &model.Delivery{Delivery: d, Peers: peers}, Seal: cursor(d)}
	}
	return c
}

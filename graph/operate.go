package graph

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"

	"liaison/graph/load"
	"liaison/graph/model"
	"liaison/graph/nodeid"
	"liaison/internal/auth"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/sync/explain"
	"liaison/sync/inbound"
	"liaison/sync/ledger"
	"liaison/sync/system"
)

// Inbox has rows of the inbox acted upon again.
type Inbox interface {
	Replay(ctx context.Context, viewer *auth.Viewer, by string, s inbound.Selection) ([]inbound.Replayed, error)
}

// Switch stops and starts the exchange with a system, as far as the viewer may.
type Switch interface {
	// Pause answers ledger.ErrNotFound for a system that is not there or not of the viewer's desk.
	Pause(ctx context.Context, v auth.Viewer, key, by, reason string) error
	Resume(ctx context.Context, v auth.Viewer, key string) error
}

// where names what a link is about, for people.
func where(ctx context.Context, s *load.Set, l ledger.Link) (explain.Where, error) {
	x, err := s.System(ctx, l.System)
	if errors.Is(err, ledger.ErrNotFound) {
		return explain.Where{Ticket: l.Number}, nil
	}
	return explain.Where{System: x.Name, Ticket: l.Number, Paused: x.Paused}, err
}

func (r *Resolver) explanation(ctx context.Context, d *model.Delivery) (*model.Explanation, error) {
	found, err := d.Peers.LinksNamed(ctx)
	if err != nil {
		return nil, err
	}
	at, err := where(ctx, d.Peers.Set(), found.By[d.Link])
	if err != nil {
		return nil, err
	}
	w := explain.Delivery(d.Delivery, at)
	out := &model.Explanation{What: w.What}
	if w.Do != "" {
		out.WhatToDo = &w.Do
	}
	return out, nil
}

// payload shows administrators what is sent.
func (r *Resolver) payload(ctx context.Context, d *model.Delivery) (*string, error) {
	if !d.Peers.Set().Viewer().Has(auth.Admin) {
		return nil, nil
	}
	links, err := d.Peers.LinksNamed(ctx)
	if err != nil {
		return nil, err
	}
	link, err := links.One(d.Link)
	if err != nil {
		return nil, err
	}
	n := slices.IndexFunc(r.systems, func(s *system.System) bool { return s.ID == link.System })
	if n < 0 {
		return nil, nil
	}
	incidents, err := d.Peers.IncidentsNamed(ctx)
	if err != nil {
		return nil, err
	}
	i, err := incidents.One(d.Incident)
	if err != nil {
		return nil, err
	}
	var comment incident.Comment
	if d.Comment != (incident.CommentID{}) {
		comments, err := d.Peers.CommentsNamed(ctx)
		if err != nil {
			return nil, err
		}
		if c, err := comments.One(d.Comment); err == nil {
			comment = c.Comment
		}
	}
	text := explain.Payload(r.systems[n], d.Delivery, link, i, comment)
	return &text, nil
}

// entryText says in a sentence what an entry tells.
func entryText(ctx context.Context, e *model.LedgerEntry) (string, error) {
	at, err := entryWhere(ctx, e.Peers, e.Entry)
	return explain.Entry(e.Entry, at), err
}

func entryWhere(ctx context.Context, p *load.Peers, e ledger.Entry) (explain.Where, error) {
	if e.Link == (incident.LinkID{}) {
		return explain.Where{}, nil
	}
	found, err := p.LinksNamed(ctx)
	if err != nil {
		return explain.Where{}, err
	}
	return where(ctx, p.Set(), found.By[e.Link])
}

// cause says how an entry came to be; nil for all but staff.
func (r *Resolver) cause(ctx context.Context, e *model.LedgerEntry) (*model.EntryCause, error) {
	s := e.Peers.Set()
	if !s.Viewer().Staff() {
		return nil, nil
	}
	text, err := entryText(ctx, e)
	if err != nil {
		return nil, err
	}
	out := &model.EntryCause{Rule: optional(explain.Rule(e.Entry)), Mapping: optional(e.Mapping), TraceID: e.TraceID()}
	causes, err := e.Peers.Causes(ctx)
	if err != nil {
		return nil, err
	}
	if first, ok := causes.By[e.EntryKey]; ok && !explain.Together(first, e.Entry) {
		out.Entry = &model.LedgerEntry{Entry: first, Peers: causes.Peers}
		said, err := entryText(ctx, out.Entry)
		if err != nil {
			return nil, err
		}
		out.Chain = append(out.Chain, said)
	}
	if err := r.causeAtVendor(ctx, e, out); err != nil {
		return nil, err
	}
	out.Chain = append(out.Chain, text)
	return out, nil
}

// causeAtVendor adds the system, the call that came in and the delivery that went out.
func (r *Resolver) causeAtVendor(ctx context.Context, e *model.LedgerEntry, out *model.EntryCause) error {
	s := e.Peers.Set()
	if e.Link == (incident.LinkID{}) {
		return nil
	}
	links, err := e.Peers.LinksNamed(ctx)
	if err != nil {
		return err
	}
	link, known := links.By[e.Link]
	if !known {
		return nil
	}
	x, err := s.System(ctx, link.System)
	if err != nil && !errors.Is(err, ledger.ErrNotFound) {
		return err
	} else if err == nil {
		out.System = model.NewSystem(s, x)
	}
	calls, err := e.Peers.Calls(ctx)
	if err != nil {
		return err
	}
	if id, ok := calls[ledger.VersionKey{Incident: e.Incident, Version: e.Version}]; ok {
		row, err := s.InboxRow(ctx, id)
		if err != nil && !errors.Is(err, ledger.ErrNotFound) {
			return err
		} else if err == nil {
			out.Call = model.InboxItems(s, []ledger.InboxRow{row})[0]
			out.Chain = append(out.Chain, explain.Call(row, explain.Where{System: x.Name, Ticket: link.Number}))
		}
	}
	id, err := uuid.Parse(explain.DeliveryOf(e.Entry))
	if err != nil {
		return nil //nolint:nilerr // the entry speaks of no delivery
	}
	d, err := s.Delivery(ctx, incident.DeliveryID{UUID: id})
	if err == nil {
		out.Delivery = &model.Delivery{Delivery: d, Peers: s.Deliveries(d)}
	} else if !errors.Is(err, ledger.ErrNotFound) {
		return err
	}
	return nil
}

// health is nil for all but staff.
func (r *Resolver) health(ctx context.Context, s *load.Set, id incident.SystemID) (*model.SystemHealth, error) {
	if !s.Viewer().Staff() {
		return nil, nil
	}
	all, err := s.Health(ctx)
	if err != nil {
		return nil, err
	}
	n := slices.IndexFunc(all, func(h ledger.Health) bool { return h.System == id })
	if n < 0 {
		return nil, nil
	}
	return model.NewSystemHealth(all[n], r.now()), nil
}

// systemIDs finds systems by their keys, or lists all when none are named.
func systemIDs(ctx context.Context, s *load.Set, field string, keys []string) ([]incident.SystemID, error) {
	all, err := s.Systems(ctx)
	if err != nil {
		return nil, err
	}
	var known []string
	var out []incident.SystemID
	for _, x := range all {
		known = append(known, x.Key)
		if len(keys) == 0 || slices.Contains(keys, x.Key) {
			out = append(out, x.ID)
		}
	}
	for _, k := range keys {
		if !slices.Contains(known, k) {
			return nil, refuse(field, "there is no system with this key", "use one that the systems query lists: "+strings.Join(known, ", "))
		}
	}
	return out, nil
}

func (r *Resolver) inboxPage(ctx context.Context, s *load.Set, filter *model.InboxFilter, in span) (*model.InboxConnection, error) {
	if err := desk.Staff(s.Viewer(), "see what vendors sent"); err != nil {
		return nil, err
	}
	if filter == nil {
		filter = &model.InboxFilter{}
	}
	cursors, sealer := places(cursorInbox), r.feed.Sealer()
	w, err := cursors.window(sealer, in, false)
	if err != nil {
		return nil, err
	}
	f := ledger.InboxFilter{States: filter.States, Sources: filter.Sources, Ticket: value(filter.Ticket)}
	if f.Systems, err = systemIDs(ctx, s, "systems", filter.Systems); err != nil {
		return nil, err
	}
	if filter.Link != nil {
		id, err := nodeid.UUID(nodeid.ExternalLink, *filter.Link)
		if err != nil {
			return nil, idError("link", err)
		}
		f.Link = incident.LinkID{UUID: id}
	}
	var found []ledger.InboxRow
	if err := s.Ask(ctx, ledger.Inbox(f, w.page(false), &found)); err != nil {
		return nil, err
	}
	cursor := func(i ledger.InboxRow) func() string { return cursors.seal(sealer, i.Place()) }
	found, info := cut(w, found, cursor)
	c := &model.InboxConnection{PageInfo: info, Edges: make([]*model.InboxEdge, len(found))}
	for n, i := range model.InboxItems(s, found) {
		c.Edges[n] = &model.InboxEdge{Node: i, Seal: cursor(i.InboxRow)}
	}
	return c, nil
}

// decide carries a decision about one dead letter out.
func (r *Resolver) decide(ctx context.Context, operation, id string, key *string, input any, do func(auth.Viewer, incident.DeliveryID, desk.Key) (ledger.Delivery, error)) (*model.DeliveryPayload, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	wanted, err := deliveryID("deliveryId", id)
	if err != nil {
		return nil, err
	}
	k, err := idempotencyKey(operation, key, input)
	if err != nil {
		return nil, err
	}
	d, err := do(s.Viewer(), wanted, k)
	if err != nil {
		return nil, err
	}
	return &model.DeliveryPayload{Delivery: &model.Delivery{Delivery: d, Peers: s.Deliveries(d)}}, nil
}

func (r *Resolver) edit(ctx context.Context, in model.EditDeliveryInput) (*model.DeliveryPayload, error) {
	return r.decide(ctx, "editDelivery", in.DeliveryID, in.IdempotencyKey, in, func(v auth.Viewer, id incident.DeliveryID, key desk.Key) (ledger.Delivery, error) {
		edit := desk.EditInput{Delivery: id, Key: key, Comment: in.Comment, Again: in.Retry, Values: map[incident.Field]*string{}}
		for _, v := range in.Values {
			f := incident.Field(v.Field)
			if _, twice := edit.Values[f]; twice {
				return ledger.Delivery{}, refuse("values."+v.Field, "is named twice", "name each field once")
			}
			text := value(v.Value)
			edit.Values[f] = &text
			if v.LeaveOut {
				edit.Values[f] = nil
			}
		}
		return r.desk.EditDelivery(ctx, v, edit)
	})
}

// decideAll carries a decision about many dead letters out.
func (r *Resolver) decideAll(ctx context.Context, operation string, in *model.DeadLetterFilter, key *string, input any,
	do func(context.Context, auth.Viewer, ledger.DeadFilter, desk.Key) (desk.Mended, error),
) (*model.DeliveriesPayload, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	var f ledger.DeadFilter
	if in != nil {
		f.System, f.ErrorKinds = in.System, in.ErrorKinds
		if in.System != nil {
			if _, err := systemIDs(ctx, s, "filter.system", []string{*in.System}); err != nil {
				return nil, err
			}
		}
		if in.Incident != nil {
			if f.Incident, err = incidentID("filter.incident", *in.Incident); err != nil {
				return nil, err
			}
		}
	}
	k, err := idempotencyKey(operation, key, input)
	if err != nil {
		return nil, err
	}
	done, err := do(ctx, s.Viewer(), f, k)
	if err != nil {
		return nil, err
	}
	out := &model.DeliveriesPayload{Deliveries: make([]*model.Delivery, len(done.Deliveries)), PassedOver: int32(done.Left), More: done.More}
	peers := s.Deliveries(done.Deliveries...)
	for n, d := range done.Deliveries {
		out.Deliveries[n] = &model.Delivery{Delivery: d, Peers: peers}
	}
	return out, nil
}

// turn pauses or resumes a system.
func (r *Resolver) turn(ctx context.Context, key, action string, do func(auth.Viewer) error) (*model.SystemPayload, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	if err := desk.Administrator(s.Viewer(), action); err != nil {
		return nil, err
	}
	if err := do(s.Viewer()); errors.Is(err, ledger.ErrNotFound) {
		return nil, refuse("system", "there is no such system of your desk", "use a key that the systems query lists")
	} else if err != nil {
		return nil, err
	}
	all, err := s.Systems(ctx)
	if err != nil {
		return nil, err
	}
	n := slices.IndexFunc(all, func(x ledger.ExternalSystem) bool { return x.Key == key })
	if n < 0 {
		return nil, ledger.ErrNotFound
	}
	return &model.SystemPayload{System: model.NewSystem(s, all[n])}, nil
}

func (r *Resolver) pause(ctx context.Context, in model.PauseSystemInput) (*model.SystemPayload, error) {
	reason := strings.TrimSpace(value(in.Reason))
	if len(reason) > 400 || strings.ContainsAny(reason, "\r\n\x00") {
		return nil, refuse("reason", "is no short line", "say it on one line of at most 400 bytes")
	}
	return r.turn(ctx, in.System, "pause systems", func(v auth.Viewer) error { return r.systemSwitch.Pause(ctx, v, in.System, v.Name, reason) })
}

func (r *Resolver) unpause(ctx context.Context, in model.ResumeSystemInput) (*model.SystemPayload, error) {
	return r.turn(ctx, in.System, "resume systems", func(v auth.Viewer) error { return r.systemSwitch.Resume(ctx, v, in.System) })
}

func (r *Resolver) replay(ctx context.Context, in model.ReplayInboxInput) (*model.ReplayInboxPayload, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	v := s.Viewer()
	if err := desk.Staff(v, "replay what vendors sent"); err != nil {
		return nil, err
	}
	selection, err := selection(ctx, s, in)
	if err != nil {
		return nil, err
	}
	done, err := r.inbox.Replay(ctx, &v, v.Name, selection)
	if err != nil {
		return nil, err
	}
	ids := make([]uuid.UUID, len(done))
	for n, d := range done {
		ids[n] = d.Row
	}
	var rows []ledger.InboxRow
	if err := s.Ask(ctx, ledger.InboxByID(ids, &rows)); err != nil {
		return nil, err
	}
	items := model.InboxItems(s, rows)
	out := &model.ReplayInboxPayload{Replayed: []*model.ReplayedItem{}}
	for _, d := range done {
		n := slices.IndexFunc(items, func(i *model.InboxItem) bool { return i.InboxRow.ID == d.Row })
		if n < 0 {
			continue // put away between the two looks
		}
		one := &model.ReplayedItem{Item: items[n], As: []string{}, Reason: optional(d.Reason)}
		for _, id := range d.As {
			one.As = append(one.As, nodeid.Of(nodeid.InboxItem, id))
		}
		out.Replayed = append(out.Replayed, one)
	}
	return out, nil
}

func selection(ctx context.Context, s *load.Set, in model.ReplayInboxInput) (inbound.Selection, error) {
	out := inbound.Selection{System: value(in.System), From: value(in.Since), To: value(in.Until), Most: int(in.Most)}
	if in.Most < 1 || in.Most > inbound.MaxReplays {
		return out, refuse("most", "is out of range", "ask for 1 to 1000")
	}
	if in.System != nil {
		if _, err := systemIDs(ctx, s, "system", []string{*in.System}); err != nil {
			return out, err
		}
	}
	if in.Ids == nil {
		return out, nil
	}
	if len(in.Ids) == 0 || len(in.Ids) > inbound.MaxReplays {
		return out, refuse("ids", "none or too many are named", "name 1 to 1000, or leave ids out to replay parked ones")
	}
	for _, id := range in.Ids {
		u, err := nodeid.UUID(nodeid.InboxItem, id)
		if err != nil {
			return out, idError("ids", err)
		}
		out.IDs = append(out.IDs, u)
	}
	return out, nil
}

// optional is nil for the empty text.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

package graph

import (
	"context"
	"errors"
	"slices"
	"time"

	"liaison/connectors"
	"liaison/graph/load"
	"liaison/graph/model"
	"liaison/graph/nodeid"
	"liaison/internal/auth"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/sync/explain"
	"liaison/sync/ledger"
	"liaison/sync/reconcile"
)

// Reconciler compares links with their vendors' tickets.
type Reconciler interface {
	// Link compares one link right now, and mends what differs if asked to. Row-level security says which links the viewer has;
	// everything else is ledger.ErrNotFound.
	Link(ctx context.Context, v *auth.Viewer, id incident.LinkID, q reconcile.Request) (reconcile.Report, []reconcile.Drift, error)
}

// comparing is how long a comparison may take, so that a request ends with an answer.
const comparing = 8 * time.Second

// errSlowVendor ends a comparison for which a vendor takes too long.
var errSlowVendor = &connectors.Error{Op: "comparing a link", Kind: connectors.Transient, Vendor: "no answer within " + comparing.String()}

func linkID(field, id string) (incident.LinkID, error) {
	u, err := nodeid.UUID(nodeid.ExternalLink, id)
	if err != nil {
		return incident.LinkID{}, idError(field, err)
	}
	return incident.LinkID{UUID: u}, nil
}

func conflictNode(ctx context.Context, s *load.Set, id incident.ConflictID) (model.Node, error) {
	var found []ledger.Conflict
	if err := s.Ask(ctx, ledger.ConflictsByID(s.Viewer().Organisations, []incident.ConflictID{id}, &found)); err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ledger.ErrNotFound
	}
	return &model.Conflict{Conflict: found[0], Peers: s.Conflicts(found...)}, nil
}

func (r *Resolver) linkConflicts(ctx context.Context, of *model.ExternalLink, onlyOpen bool, in span) (*model.ConflictConnection, error) {
	if !of.Staff() {
		return nil, nil
	}
	cursors, sealer := places(cursorConflicts), r.feed.Sealer()
	w, err := cursors.window(sealer, in, false)
	if err != nil {
		return nil, err
	}
	found, err := of.Peers.Conflicts(ctx, onlyOpen, w.page(false))
	if err != nil {
		return nil, err
	}
	cursor := func(c ledger.Conflict) func() string { return cursors.seal(sealer, c.Place()) }
	own, info := cut(w, found.By[of.Link.ID], cursor)
	out := &model.ConflictConnection{PageInfo: info, Edges: make([]*model.ConflictEdge, len(own))}
	for n, c := range own {
		out.Edges[n] = &model.ConflictEdge{Node: &model.Conflict{Conflict: c, Peers: found.Peers}, Seal: cursor(c)}
	}
	return out, nil
}

// standing says why a link stands where it stands; nil for all but staff.
func (r *Resolver) standing(ctx context.Context, of *model.ExternalLink) ([]string, error) {
	if !of.Staff() {
		return nil, nil
	}
	s := of.Peers.Set()
	lanes, err := of.Peers.Lanes(ctx)
	if err != nil {
		return nil, err
	}
	heads, err := of.Peers.Heads(ctx)
	if err != nil {
		return nil, err
	}
	health, err := s.Health(ctx)
	if err != nil {
		return nil, err
	}
	at, err := where(ctx, s, of.Link)
	if err != nil {
		return nil, err
	}
	st := explain.Standing{Link: of.Link, Lane: lanes[of.Link.ID]}
	if head, waits := heads[of.Link.ID]; waits {
		st.Head = &head
	}
	if n := slices.IndexFunc(health, func(h ledger.Health) bool { return h.System == of.System }); n >= 0 {
		st.System = health[n]
	}
	return explain.Link(st, at, r.now()), nil
}

func (r *Resolver) resolveConflict(ctx context.Context, in model.ResolveConflictInput) (*model.ResolveConflictPayload, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	u, err := nodeid.UUID(nodeid.Conflict, in.ConflictID)
	if err != nil {
		return nil, idError("conflictId", err)
	}
	key, err := idempotencyKey("resolveConflict", in.IdempotencyKey, in)
	if err != nil {
		return nil, err
	}
	i, c, err := r.desk.ResolveConflict(ctx, s.Viewer(), incident.ConflictID{UUID: u}, in.Winner, key)
	if err != nil {
		return nil, err
	}
	return &model.ResolveConflictPayload{Conflict: &model.Conflict{Conflict: c, Peers: s.Conflicts(c)}, Incident: shown(s, i)}, nil
}

func (r *Resolver) freeField(ctx context.Context, in model.FreeFieldInput) (*model.FreeFieldPayload, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	id, err := linkID("linkId", in.LinkID)
	if err != nil {
		return nil, err
	}
	key, err := idempotencyKey("freeField", in.IdempotencyKey, in)
	if err != nil {
		return nil, err
	}
	i, err := r.desk.FreeField(ctx, s.Viewer(), id, incident.Field(in.Field), key)
	if err != nil {
		return nil, err
	}
	link, err := s.Link(ctx, id)
	if err != nil {
		return nil, err
	}
	return &model.FreeFieldPayload{Link: &model.ExternalLink{Link: link, Peers: s.Links(link)}, Incident: shown(s, i)}, nil
}

func (r *Resolver) reconcile(ctx context.Context, in model.ReconcileLinkInput) (*model.ReconcileLinkPayload, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	if err := desk.Staff(s.Viewer(), "compare links with vendors"); err != nil {
		return nil, err
	}
	id, err := linkID("linkId", in.LinkID)
	if err != nil {
		return nil, err
	}
	if _, err := s.Link(ctx, id); err != nil {
		return nil, err
	}
	if r.reconciler == nil {
		return nil, errors.New("this hub compares nothing")
	}
	v := s.Viewer()
	limited, cancel := context.WithTimeoutCause(ctx, comparing, errSlowVendor)
	defer cancel()
	_, found, err := r.reconciler.Link(limited, &v, id, reconcile.Request{Cause: reconcile.Person, By: v.Name, Mend: in.Mend})
	if err != nil && ctx.Err() == nil && errors.Is(context.Cause(limited), errSlowVendor) {
		err = errSlowVendor
	}
	if err != nil {
		return nil, err
	}
	after, err := load.New(r.reader, s.Viewer()).Link(ctx, id)
	if err != nil {
		return nil, err
	}
	out := &model.ReconcileLinkPayload{Link: &model.ExternalLink{Link: after, Peers: s.Links(after)}, Drift: []*model.Drift{}}
	for _, d := range found {
		out.Drift = append(out.Drift, &model.Drift{What: d.What, Hub: optional(d.Hub), Vendor: optional(d.Vendor), Outcome: d.Outcome})
	}
	return out, nil
}

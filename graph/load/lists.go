package load

import (
	"context"

	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// Ask reads the answer to a question that nobody else shares, without waiting for company.
func (s *Set) Ask(ctx context.Context, q ledger.Question) error {
	return s.read(ctx, s.viewer, q)
}

// Incident reads one incident; ErrNotFound when the viewer may not know of it or there is none.
func (s *Set) Incident(ctx context.Context, id incident.ID) (incident.Incident, error) {
	p := &Peers{set: s, incidents: []ledger.IncidentKey{{Incident: id}}}
	return one(p.IncidentsNamed(ctx))(id)
}

// Link reads one link; ErrNotFound when the viewer may not know of it or there is none.
func (s *Set) Link(ctx context.Context, id incident.LinkID) (ledger.Link, error) {
	p := &Peers{set: s, organisations: s.viewer.Organisations, links: []ledger.LinkKey{{Link: id}}}
	return one(p.LinksNamed(ctx))(id)
}

// Comment reads one comment; ErrNotFound when the viewer may not know of it or there is none.
func (s *Set) Comment(ctx context.Context, id incident.CommentID) (ledger.Comment, error) {
	p := &Peers{set: s, organisations: s.viewer.Organisations, comments: []incident.CommentID{id}}
	return one(p.CommentsNamed(ctx))(id)
}

// Organisation reads one organisation; ErrNotFound when the viewer may not know of it or there is none.
func (s *Set) Organisation(ctx context.Context, id incident.OrganisationID) (ledger.Organisation, error) {
	all, err := s.Organisations(ctx)
	return first(all, err, func(o ledger.Organisation) bool { return o.ID == id })
}

// System reads one system; ErrNotFound when the viewer may not know of it or there is none.
func (s *Set) System(ctx context.Context, id incident.SystemID) (ledger.ExternalSystem, error) {
	all, err := s.Systems(ctx)
	return first(all, err, func(x ledger.ExternalSystem) bool { return x.ID == id })
}

func one[K comparable, V any](found Found[K, V], err error) func(K) (V, error) {
	return func(key K) (V, error) {
		if err != nil {
			var none V
			return none, err
		}
		return found.One(key)
	}
}

func first[V any](all []V, err error, is func(V) bool) (V, error) {
	var none V
	if err != nil {
		return none, err
	}
	for _, v := range all {
		if is(v) {
			return v, nil
		}
	}
	return none, ledger.ErrNotFound
}

package load

import (
	"context"

	"github.com/google/uuid"

	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// Found is what a statement answered with, by key, and the peers that the answers are of one another.
type Found[K comparable, V any] struct {
	By    map[K]V
	Peers *Peers
}

// One returns the value of a key; ErrNotFound when the viewer may not know of it or there is none.
func (f Found[K, V]) One(key K) (V, error) {
	v, ok := f.By[key]
	if !ok {
		return v, ledger.ErrNotFound
	}
	return v, nil
}

type commentsOf struct {
	peers *Peers
	page  ledger.Page[ledger.Place]
}

func (q commentsOf) ask() (ledger.Question, func() any) {
	var found map[incident.ID][]ledger.Comment
	return ledger.CommentsOf(q.peers.incidents, q.page, &found), func() any {
		return Found[incident.ID, []ledger.Comment]{found, q.peers.set.Comments(flat(q.peers.incidents, found)...)}
	}
}

// Comments reads the same page of comments for each of the peers' incidents.
func (p *Peers) Comments(ctx context.Context, page ledger.Page[ledger.Place]) (Found[incident.ID, []ledger.Comment], error) {
	return get[Found[incident.ID, []ledger.Comment]](ctx, p.set, commentsOf{p, page})
}

type commentCounts struct{ peers *Peers }

func (q commentCounts) ask() (ledger.Question, func() any) {
	var found map[incident.ID]int64
	return ledger.CountComments(q.peers.incidents, &found), func() any { return found }
}

// CommentCounts reads how many comments each of the peers' incidents has; those without any are left out.
func (p *Peers) CommentCounts(ctx context.Context) (map[incident.ID]int64, error) {
	return get[map[incident.ID]int64](ctx, p.set, commentCounts{p})
}

type historyOf struct {
	peers *Peers
	page  ledger.Page[int64]
}

func (q historyOf) ask() (ledger.Question, func() any) {
	var found map[incident.ID][]ledger.Entry
	return ledger.HistoryOf(q.peers.incidents, ledger.LineFilter{}, q.page, &found), func() any {
		return Found[incident.ID, []ledger.Entry]{found, q.peers.set.Entries(flat(q.peers.incidents, found)...)}
	}
}

// History reads the same page of entries for each of the peers' incidents.
func (p *Peers) History(ctx context.Context, page ledger.Page[int64]) (Found[incident.ID, []ledger.Entry], error) {
	return get[Found[incident.ID, []ledger.Entry]](ctx, p.set, historyOf{p, page})
}

type linksOf struct{ peers *Peers }

func (q linksOf) ask() (ledger.Question, func() any) {
	var found map[incident.ID][]ledger.Link
	return ledger.LinksOf(q.peers.incidents, &found), func() any {
		return Found[incident.ID, []ledger.Link]{found, q.peers.set.Links(flat(q.peers.incidents, found)...)}
	}
}

// Links reads the links of the peers' incidents.
func (p *Peers) Links(ctx context.Context) (Found[incident.ID, []ledger.Link], error) {
	return get[Found[incident.ID, []ledger.Link]](ctx, p.set, linksOf{p})
}

type deliveriesOf struct {
	peers *Peers
	page  ledger.Page[ledger.Place]
}

func (q deliveriesOf) ask() (ledger.Question, func() any) {
	var found map[incident.LinkID][]ledger.Delivery
	return ledger.DeliveriesOf(q.peers.links, q.page, &found), func() any {
		var all []ledger.Delivery
		for _, k := range q.peers.links {
			all = append(all, found[k.Link]...)
		}
		return Found[incident.LinkID, []ledger.Delivery]{found, q.peers.set.Deliveries(all...)}
	}
}

// Deliveries reads the same page of deliveries for each of the peers' links.
func (p *Peers) Deliveries(ctx context.Context, page ledger.Page[ledger.Place]) (Found[incident.LinkID, []ledger.Delivery], error) {
	return get[Found[incident.LinkID, []ledger.Delivery]](ctx, p.set, deliveriesOf{p, page})
}

type conflictsOf struct {
	peers    *Peers
	onlyOpen bool
	page     ledger.Page[ledger.Place]
}

func (q conflictsOf) ask() (ledger.Question, func() any) {
	var found map[incident.LinkID][]ledger.Conflict
	return ledger.ConflictsOf(q.peers.links, q.onlyOpen, q.page, &found), func() any {
		var all []ledger.Conflict
		for _, k := range q.peers.links {
			all = append(all, found[k.Link]...)
		}
		return Found[incident.LinkID, []ledger.Conflict]{found, q.peers.set.Conflicts(all...)}
	}
}

// Conflicts reads the same page of conflicts for each of the peers' links.
func (p *Peers) Conflicts(ctx context.Context, onlyOpen bool, page ledger.Page[ledger.Place]) (Found[incident.LinkID, []ledger.Conflict], error) {
	return get[Found[incident.LinkID, []ledger.Conflict]](ctx, p.set, conflictsOf{p, onlyOpen, page})
}

type lanesOf struct{ peers *Peers }

func (q lanesOf) ask() (ledger.Question, func() any) {
	ids := make([]incident.LinkID, len(q.peers.links))
	for n, k := range q.peers.links {
		ids[n] = k.Link
	}
	var found []ledger.LaneState
	return ledger.LanesOf(q.peers.organisations, ids, &found), func() any {
		return by(found, func(l ledger.LaneState) incident.LinkID { return l.Link })
	}
}

// Lanes reads how the lanes of the peers' links stand.
func (p *Peers) Lanes(ctx context.Context) (map[incident.LinkID]ledger.LaneState, error) {
	return get[map[incident.LinkID]ledger.LaneState](ctx, p.set, lanesOf{p})
}

type headsOf struct{ peers *Peers }

func (q headsOf) ask() (ledger.Question, func() any) {
	var found map[incident.LinkID]ledger.Delivery
	return ledger.HeadsOf(q.peers.links, &found), func() any { return found }
}

// Heads reads the next delivery of each of the peers' links; those with nothing to send are left out.
func (p *Peers) Heads(ctx context.Context) (map[incident.LinkID]ledger.Delivery, error) {
	return get[map[incident.LinkID]ledger.Delivery](ctx, p.set, headsOf{p})
}

type incidentsNamed struct{ peers *Peers }

func (q incidentsNamed) ask() (ledger.Question, func() any) {
	ids := make([]incident.ID, len(q.peers.incidents))
	for n, k := range q.peers.incidents {
		ids[n] = k.Incident
	}
	var found []incident.Incident
	return ledger.IncidentsByID(ids, &found), func() any {
		return Found[incident.ID, incident.Incident]{by(found, func(i incident.Incident) incident.ID { return i.ID }), q.peers.set.Incidents(found...)}
	}
}

// IncidentsNamed reads the incidents that the peers belong to.
func (p *Peers) IncidentsNamed(ctx context.Context) (Found[incident.ID, incident.Incident], error) {
	return get[Found[incident.ID, incident.Incident]](ctx, p.set, incidentsNamed{p})
}

type linksNamed struct{ peers *Peers }

func (q linksNamed) ask() (ledger.Question, func() any) {
	ids := make([]incident.LinkID, len(q.peers.links))
	for n, k := range q.peers.links {
		ids[n] = k.Link
	}
	var found []ledger.Link
	return ledger.LinksByID(q.peers.organisations, ids, &found), func() any {
		return Found[incident.LinkID, ledger.Link]{by(found, func(l ledger.Link) incident.LinkID { return l.ID }), q.peers.set.Links(found...)}
	}
}

// LinksNamed reads the links that the peers refer to.
func (p *Peers) LinksNamed(ctx context.Context) (Found[incident.LinkID, ledger.Link], error) {
	return get[Found[incident.LinkID, ledger.Link]](ctx, p.set, linksNamed{p})
}

type commentsNamed struct{ peers *Peers }

func (q commentsNamed) ask() (ledger.Question, func() any) {
	var found []ledger.Comment
	return ledger.CommentsByID(q.peers.organisations, q.peers.comments, &found), func() any {
		return Found[incident.CommentID, ledger.Comment]{by(found, func(c ledger.Comment) incident.CommentID { return c.ID }), q.peers.set.Comments(found...)}
	}
}

// CommentsNamed reads the comments that the peers refer to.
func (p *Peers) CommentsNamed(ctx context.Context) (Found[incident.CommentID, ledger.Comment], error) {
	return get[Found[incident.CommentID, ledger.Comment]](ctx, p.set, commentsNamed{p})
}

type organisations struct{}

func (organisations) ask() (ledger.Question, func() any) {
	var found []ledger.Organisation
	return ledger.Organisations(&found), func() any { return found }
}

// Organisations reads every organisation that the viewer may see, by name. The answer is shared: do not change it.
func (s *Set) Organisations(ctx context.Context) ([]ledger.Organisation, error) {
	return get[[]ledger.Organisation](ctx, s, organisations{})
}

type systems struct{}

func (systems) ask() (ledger.Question, func() any) {
	var found []ledger.ExternalSystem
	return ledger.Systems(&found), func() any { return found }
}

// Systems reads every system that the viewer may see, by key. The answer is shared: do not change it.
func (s *Set) Systems(ctx context.Context) ([]ledger.ExternalSystem, error) {
	return get[[]ledger.ExternalSystem](ctx, s, systems{})
}

// Health reads how every system does that the viewer may see. It is read once, however many ask.
func (s *Set) Health(ctx context.Context) ([]ledger.Health, error) {
	s.healthOnce.Do(func() { s.healthErr = s.read(ctx, s.viewer, ledger.SystemsHealth(&s.health)...) })
	return s.health, s.healthErr
}

type causesOf struct{ peers *Peers }

func (q causesOf) ask() (ledger.Question, func() any) {
	var found map[ledger.EntryKey]ledger.Entry
	return ledger.CausesOf(q.peers.entries, &found), func() any {
		all := make([]ledger.Entry, 0, len(found))
		for _, e := range found {
			all = append(all, e)
		}
		return Found[ledger.EntryKey, ledger.Entry]{found, q.peers.set.Entries(all...)}
	}
}

// Causes reads, for each of the peers that are entries, the first entry in the same trace.
func (p *Peers) Causes(ctx context.Context) (Found[ledger.EntryKey, ledger.Entry], error) {
	return get[Found[ledger.EntryKey, ledger.Entry]](ctx, p.set, causesOf{p})
}

type callsOf struct{ peers *Peers }

func (q callsOf) ask() (ledger.Question, func() any) {
	var found map[ledger.VersionKey]uuid.UUID
	return ledger.CallsOf(q.peers.entries, &found), func() any { return found }
}

// Calls reads, for each of the peers that are entries, the id of the row of the inbox that set it off.
func (p *Peers) Calls(ctx context.Context) (map[ledger.VersionKey]uuid.UUID, error) {
	return get[map[ledger.VersionKey]uuid.UUID](ctx, p.set, callsOf{p})
}

type inboxNamed struct{ id uuid.UUID }

func (q inboxNamed) ask() (ledger.Question, func() any) {
	var found []ledger.InboxRow
	return ledger.InboxByID([]uuid.UUID{q.id}, &found), func() any { return found }
}

// InboxRow reads one row of the inbox; ErrNotFound when the viewer may not know of it or there is none.
func (s *Set) InboxRow(ctx context.Context, id uuid.UUID) (ledger.InboxRow, error) {
	all, err := get[[]ledger.InboxRow](ctx, s, inboxNamed{id})
	return first(all, err, func(r ledger.InboxRow) bool { return r.ID == id })
}

type deliveryNamed struct {
	set *Set
	id  incident.DeliveryID
}

func (q deliveryNamed) ask() (ledger.Question, func() any) {
	var found []ledger.Delivery
	return ledger.DeliveriesByID(q.set.viewer.Organisations, []incident.DeliveryID{q.id}, &found), func() any { return found }
}

// Delivery reads one delivery; ErrNotFound when the viewer may not know of it or there is none.
func (s *Set) Delivery(ctx context.Context, id incident.DeliveryID) (ledger.Delivery, error) {
	all, err := get[[]ledger.Delivery](ctx, s, deliveryNamed{s, id})
	return first(all, err, func(d ledger.Delivery) bool { return d.ID == id })
}

func flat[V any](keys []ledger.IncidentKey, found map[incident.ID][]V) []V {
	var all []V
	for _, k := range keys {
		all = append(all, found[k.Incident]...)
	}
	return all
}

func by[K comparable, V any](values []V, key func(V) K) map[K]V {
	out := make(map[K]V, len(values))
	for _, v := range values {
		out[key(v)] = v
	}
	return out
}

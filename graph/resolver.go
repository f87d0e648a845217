package graph

import (
	"context"
	"errors"
	"time"

	"liaison/graph/load"
	"liaison/graph/model"
	"liaison/graph/nodeid"
	"liaison/internal/auth"
	"liaison/internal/desk"
	"liaison/internal/feed"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/pulse"
	"liaison/sync/system"
)

// Resolver is the root of the resolvers.
type Resolver struct {
	desk   *desk.Desk
	reader *ledger.Reader
	feed   *feed.Feed
	fanout *fanout

	// What operators need.
	inbox        Inbox
	systemSwitch Switch
	reconciler   Reconciler
	monitor      *pulse.Monitor
	systems      []*system.System
	now          func() time.Time
}

// errSignedOut is what a resolver answers when nobody has signed in. The handler refuses such requests before.
var errSignedOut = errors.New("nobody has signed in")

type setKey struct{}

// withSet gives an operation one set of reads, so that its root fields share round trips.
func (r *Resolver) withSet(ctx context.Context) context.Context {
	v, ok := auth.ViewerFrom(ctx)
	if !ok {
		return ctx
	}
	return context.WithValue(ctx, setKey{}, load.New(r.reader, v))
}

// set returns the operation's set of reads, or a fresh one after a change and for each event.
func (r *Resolver) set(ctx context.Context) (*load.Set, error) {
	if s, ok := ctx.Value(setKey{}).(*load.Set); ok {
		return s, nil
	}
	v, ok := auth.ViewerFrom(ctx)
	if !ok {
		return nil, errSignedOut
	}
	return load.New(r.reader, v), nil
}

func refuse(field, problem, remedy string) error {
	return &incident.Refusal{Kind: incident.BadInput, Field: field, Problem: problem, Remedy: remedy}
}

// idError says which input holds no usable id.
func idError(field string, err error) error { return refuse(field, "is not usable", err.Error()) }

func incidentID(field, id string) (incident.ID, error) {
	u, err := nodeid.UUID(nodeid.Incident, id)
	if err != nil {
		return incident.ID{}, idError(field, err)
	}
	return incident.ID{UUID: u}, nil
}

func deliveryID(field, id string) (incident.DeliveryID, error) {
	u, err := nodeid.UUID(nodeid.Delivery, id)
	if err != nil {
		return incident.DeliveryID{}, idError(field, err)
	}
	return incident.DeliveryID{UUID: u}, nil
}

// organisation finds an organisation by its id or its key. Keys begin with a small letter, ids never do.
func organisation(ctx context.Context, s *load.Set, named string) (ledger.Organisation, error) {
	all, err := s.Organisations(ctx)
	if err != nil {
		return ledger.Organisation{}, err
	}
	id, _ := nodeid.Number[incident.OrganisationID](nodeid.Organisation, named)
	for _, o := range all {
		if o.Key == named || o.ID == id {
			return o, nil
		}
	}
	return ledger.Organisation{}, ledger.ErrNotFound
}

// organisationInput finds the organisation that an input names, and refuses the input when there is none.
func organisationInput(ctx context.Context, s *load.Set, named string) (incident.OrganisationID, error) {
	o, err := organisation(ctx, s, named)
	if errors.Is(err, ledger.ErrNotFound) {
		return 0, refuse("organisation", "is not known", "use the id or the key of one that the organisations query lists")
	}
	return o.ID, err
}

// within narrows where to look to the named organisation, or leaves it at all that the viewer may see.
func within(ctx context.Context, s *load.Set, named *string) ([]incident.OrganisationID, error) {
	if named == nil {
		return s.Viewer().Organisations, nil
	}
	id, err := organisationInput(ctx, s, *named)
	return []incident.OrganisationID{id}, err
}

// hidden turns "not found" into null, for references to what the viewer may not read.
func hidden[T any](v *T, err error) (*T, error) {
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, nil
	}
	return v, err
}

func incidentNamed(ctx context.Context, p *load.Peers, id incident.ID) (*model.Incident, error) {
	found, err := p.IncidentsNamed(ctx)
	if err != nil {
		return nil, err
	}
	i, err := found.One(id)
	return &model.Incident{Incident: i, Peers: found.Peers}, err
}

func linkNamed(ctx context.Context, p *load.Peers, id incident.LinkID) (*model.ExternalLink, error) {
	if id == (incident.LinkID{}) {
		return nil, nil
	}
	found, err := p.LinksNamed(ctx)
	if err != nil {
		return nil, err
	}
	l, err := found.One(id)
	return &model.ExternalLink{Link: l, Peers: found.Peers}, err
}

func commentNamed(ctx context.Context, p *load.Peers, id incident.CommentID) (*model.Comment, error) {
	if id == (incident.CommentID{}) {
		return nil, nil
	}
	found, err := p.CommentsNamed(ctx)
	if err != nil {
		return nil, err
	}
	c, err := found.One(id)
	return hidden(&model.Comment{Comment: c, Peers: found.Peers}, err)
}

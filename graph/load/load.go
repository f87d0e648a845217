// Package load reads what the fields of one GraphQL operation ask for, together: what is asked within a moment
// travels to Postgres in one round trip, and what a page's items ask alike is one statement for the whole page.
//
// A Set belongs to one operation of one viewer, or to one event of a subscription, and answers every question
// from one reading: it is thrown away with the operation, so nothing is ever stale and a crash leaves nothing
// behind. All methods are safe for concurrent use.
package load

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/vikstrous/dataloadgen"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger"
)

// wait is how long the first question waits for others to travel with. A page's questions are complete without
// it, so it only has to outlast the executor's start of sibling fields.
const wait = 250 * time.Microsecond

// Set holds what one operation has read.
type Set struct {
	read   func(context.Context, auth.Viewer, ...ledger.Question) error
	viewer auth.Viewer
	loader *dataloadgen.Loader[question, any]

	healthOnce sync.Once
	health     []ledger.Health
	healthErr  error
}

// New returns an empty set for a viewer.
func New(reader *ledger.Reader, v auth.Viewer) *Set { return with(reader.Read, v) }

// Patient returns an empty set whose reads wait while the database is away, until their context ends. It is for an event of a
// subscription, which outlives a restart of the database: what the event could not say now, it would never say.
func Patient(reader *ledger.Reader, v auth.Viewer) *Set {
	return with(func(ctx context.Context, v auth.Viewer, questions ...ledger.Question) error {
		return Patiently(ctx, func() error { return reader.Read(ctx, v, questions...) })
	}, v)
}

// Patiently tries a read again while the database is away, until ctx ends.
func Patiently(ctx context.Context, read func() error) error {
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		err := read()
		if err == nil || (!postgres.IsUnavailable(err) && !postgres.IsTimeout(err)) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// The pauses between two tries while the database is away.
const (
	shortestPause = 50 * time.Millisecond
	longestPause  = 2 * time.Second
)

func with(read func(context.Context, auth.Viewer, ...ledger.Question) error, v auth.Viewer) *Set {
	fetch := func(ctx context.Context, asked []question) ([]any, []error) {
		questions, answers := make([]ledger.Question, len(asked)), make([]func() any, len(asked))
		for n, q := range asked {
			questions[n], answers[n] = q.ask()
		}
		if err := read(ctx, v, questions...); err != nil {
			return nil, []error{err} // one error stands for all
		}
		out := make([]any, len(asked))
		for n, answer := range answers {
			out[n] = answer()
		}
		return out, nil
	}
	return &Set{read: read, viewer: v, loader: dataloadgen.NewLoader(fetch, dataloadgen.WithWait(wait))}
}

// Viewer returns who asks.
func (s *Set) Viewer() auth.Viewer { return s.viewer }

// question is one statement to be asked. Equal questions are asked once, so its dynamic types are comparable.
type question interface {
	ask() (ledger.Question, func() any)
}

func get[T any](ctx context.Context, s *Set, q question) (T, error) {
	v, err := s.loader.Load(ctx, q)
	if err != nil {
		var none T
		return none, err
	}
	return v.(T), nil
}

// Peers are the things that one statement answered with, and what they refer to. A field of one of them is read
// for all of them at once, because the executor is about to ask the others for it.
type Peers struct {
	set           *Set
	organisations []incident.OrganisationID
	incidents     []ledger.IncidentKey
	links         []ledger.LinkKey
	comments      []incident.CommentID
	entries       []ledger.Entry
}

// Set returns the set that the peers belong to.
func (p *Peers) Set() *Set { return p.set }

// Incidents makes peers of incidents.
func (s *Set) Incidents(in ...incident.Incident) *Peers {
	p := &Peers{set: s}
	for _, i := range in {
		p.add(ledger.IncidentKey{Organisation: i.Organisation, Incident: i.ID})
	}
	return p
}

// Comments makes peers of comments.
func (s *Set) Comments(in ...ledger.Comment) *Peers {
	p := &Peers{set: s}
	for _, c := range in {
		p.add(c.Of)
		p.addLink(c.Of, c.Link)
	}
	return p
}

// Links makes peers of links.
func (s *Set) Links(in ...ledger.Link) *Peers {
	p := &Peers{set: s}
	for _, l := range in {
		k := ledger.IncidentKey{Organisation: l.Organisation, Incident: l.Incident}
		p.add(k)
		p.addLink(k, l.ID)
	}
	return p
}

// Entries makes peers of lines of the ledger.
func (s *Set) Entries(in ...ledger.Entry) *Peers {
	p := &Peers{set: s}
	for _, e := range in {
		k := ledger.IncidentKey{Organisation: e.Organisation, Incident: e.Incident}
		p.add(k)
		p.addLink(k, e.Link)
		p.addComment(e.Comment)
	}
	p.entries = in
	return p
}

// Inbox makes peers of rows of the inbox.
func (s *Set) Inbox(in ...ledger.InboxRow) *Peers {
	p := &Peers{set: s}
	for _, r := range in {
		if r.Organisation != 0 && !slices.Contains(p.organisations, r.Organisation) {
			p.organisations = append(p.organisations, r.Organisation)
		}
		p.addLink(ledger.IncidentKey{Organisation: r.Organisation}, r.Link)
	}
	return p
}

// Conflicts makes peers of conflicts.
func (s *Set) Conflicts(in ...ledger.Conflict) *Peers {
	p := &Peers{set: s}
	for _, c := range in {
		k := ledger.IncidentKey{Organisation: c.Organisation, Incident: c.Incident}
		p.add(k)
		p.addLink(k, c.Link)
	}
	return p
}

// Deliveries makes peers of deliveries.
func (s *Set) Deliveries(in ...ledger.Delivery) *Peers {
	p := &Peers{set: s}
	for _, d := range in {
		k := ledger.IncidentKey{Organisation: d.Organisation, Incident: d.Incident}
		p.add(k)
		p.addLink(k, d.Link)
		p.addComment(d.Comment)
	}
	return p
}

func (p *Peers) add(k ledger.IncidentKey) {
	if !slices.Contains(p.incidents, k) {
		p.incidents = append(p.incidents, k)
	}
	if !slices.Contains(p.organisations, k.Organisation) {
		p.organisations = append(p.organisations, k.Organisation)
	}
}

func (p *Peers) addLink(k ledger.IncidentKey, id incident.LinkID) {
	if link := (ledger.LinkKey{IncidentKey: k, Link: id}); id != (incident.LinkID{}) && !slices.Contains(p.links, link) {
		p.links = append(p.links, link)
	}
}

func (p *Peers) addComment(id incident.CommentID) {
	if id != (incident.CommentID{}) { // entries hardly ever share a comment, and asking for one twice does no harm
		p.comments = append(p.comments, id)
	}
}

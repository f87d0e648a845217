package graph

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/99designs/gqlgen/graphql"

	"liaison/graph/load"
	"liaison/graph/model"
	"liaison/internal/auth"
	"liaison/internal/feed"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// cutOff is how a subscription ended that its client did not end.
type cutOff struct {
	cause  error
	cursor string // of the last change that was handed out
}

func (c *cutOff) Error() string { return "the subscription was cut off: " + c.cause.Error() }
func (c *cutOff) Unwrap() error { return c.cause }

// ending carries why a subscription's channel was closed to whoever writes the last message.
type ending struct {
	mu  sync.Mutex
	err error
}

type endingKey struct{}

func (e *ending) set(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

func (e *ending) take() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := e.err
	e.err = nil
	return err
}

// changeFilter is a subscription's filter, its names resolved.
type changeFilter struct {
	organisations []incident.OrganisationID // empty: all that the viewer may see
	incident      *incident.ID
	kinds         []ledger.Kind
	states        []incident.State
	priorities    []incident.Priority
}

// entry reports whether an entry can be for the subscriber as far as the entry itself tells. The feed asks it for
// every entry, so it only compares.
func (f changeFilter) entry(e ledger.Entry) bool {
	return (len(f.organisations) == 0 || slices.Contains(f.organisations, e.Organisation)) &&
		(f.incident == nil || *f.incident == e.Incident) && (len(f.kinds) == 0 || slices.Contains(f.kinds, e.Kind))
}

// needsIncident reports whether the incident itself has to be looked at.
func (f changeFilter) needsIncident() bool { return len(f.states)+len(f.priorities) > 0 }

// now reports whether the change is for the subscriber, given the incident as it is now (nil when it is hidden).
func (f changeFilter) now(e ledger.Entry, i *incident.Incident) bool {
	left := func(field incident.Field) string { return e.Changes[field][0] }
	was, _, _ := incident.ParseStateValue(left(incident.FieldState))
	if len(f.states) > 0 && !slices.Contains(f.states, was) && (i == nil || !slices.Contains(f.states, i.State)) {
		return false
	}
	return len(f.priorities) == 0 || slices.Contains(f.priorities, incident.Priority(left(incident.FieldPriority))) ||
		(i != nil && slices.Contains(f.priorities, i.Priority))
}

func (r *Resolver) changeFilter(ctx context.Context, s *load.Set, in *model.IncidentChangedFilter) (changeFilter, error) {
	if in == nil {
		return changeFilter{}, nil
	}
	f := changeFilter{kinds: in.Kinds, states: in.States, priorities: in.Priorities}
	if in.Organisation != nil {
		id, err := organisationInput(ctx, s, *in.Organisation)
		if err != nil {
			return f, err
		}
		f.organisations = []incident.OrganisationID{id}
	}
	if in.Incident != nil {
		id, err := incidentID("incident", *in.Incident)
		if err != nil {
			return f, err
		}
		if _, err := s.Incident(ctx, id); err != nil {
			return f, err
		}
		f.incident = &id
	}
	return f, nil
}

// follow hands the viewer's changes to the executor until the client leaves or the feed cuts it off.
func (r *Resolver) follow(ctx context.Context, filter *model.IncidentChangedFilter, after *string) (<-chan *model.IncidentChange, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	f, err := r.changeFilter(ctx, s, filter)
	if err != nil {
		return nil, err
	}
	v := s.Viewer()
	sub, err := r.feed.Subscribe(ctx, v, feed.Options{After: value(after), Match: f.entry})
	if err != nil {
		return nil, err
	}
	reading := f.needsIncident() || slices.Contains(graphql.CollectAllFields(ctx), "incident")
	changes := make(chan *model.IncidentChange)
	go func() {
		defer close(changes)
		defer sub.Close()
		last := value(after)
		for {
			event, err := sub.Next(ctx)
			var change *model.IncidentChange
			if err == nil {
				change, err = r.tell(ctx, v, f, reading, event)
			}
			if err != nil {
				if e, ok := ctx.Value(endingKey{}).(*ending); ok && ctx.Err() == nil {
					e.set(&cutOff{cause: err, cursor: last})
				}
				return
			}
			last = event.Cursor
			if change == nil {
				continue
			}
			select {
			case changes <- change:
			case <-ctx.Done():
				return
			}
		}
	}()
	return changes, nil
}

// tell makes what a subscriber hears of an event; nil when the filter leaves it out.
func (r *Resolver) tell(ctx context.Context, v auth.Viewer, f changeFilter, reading bool, event feed.Event) (*model.IncidentChange, error) {
	s := load.Patient(r.reader, v)
	change := &model.IncidentChange{
		Cursor: event.Cursor, Kind: model.IncidentChangeKindChanged, Of: event.Entry.Incident,
		Entry: &model.LedgerEntry{Entry: event.Entry, Peers: s.Entries(event.Entry)},
	}
	if !reading {
		return change, nil
	}
	i, err := r.patiently(ctx, v, event.Entry.EntryKey)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
	case err != nil:
		return nil, err
	default:
		change.Incident = shown(s, i)
	}
	if f.needsIncident() {
		var now *incident.Incident
		if change.Incident != nil {
			now = &i
		}
		if !f.now(event.Entry, now) {
			return nil, nil
		}
	}
	return change, nil
}

// patiently reads the incident, and waits while the database is away: a subscription outlives its restart.
func (r *Resolver) patiently(ctx context.Context, v auth.Viewer, change ledger.EntryKey) (i incident.Incident, err error) {
	err = load.Patiently(ctx, func() error {
		i, err = r.fanout.incident(ctx, v, change)
		return err
	})
	return i, err
}

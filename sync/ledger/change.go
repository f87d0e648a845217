package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/telemetry"
	"liaison/sync/ledger/internal/db"
)

// change is one line of the ledger with everything that is written beside it.
type change struct {
	kind       Kind
	visibility incident.Visibility
	actor      Actor
	before     incident.Incident
	after      incident.Incident
	comment    *incident.Comment
	from       incident.LinkID   // the link it came from: that one does not hear of it
	about      incident.LinkID   // the link that the entry speaks of, when it came from none
	only       []incident.LinkID // when not nil, only these links hear of it
	deliver    DeliveryKind      // empty: nobody has to hear of it
	payload    incident.Values
	detail     any
	mapping    string // the version of the mapping that translated it, empty for what no vendor had a part in
}

// write makes the change durable within the transaction and returns the incident as it stands then.
func (l *Ledger) write(ctx context.Context, q db.Querier, c change, at time.Time) (incident.Incident, int64, error) {
	after := c.after
	after.Version, after.UpdatedAt = c.before.Version+1, at
	changes := Changes{}
	was, is := c.before.Values(), after.Values()
	for _, f := range incident.Changed(was, is) {
		changes[f] = [2]string{was[f], is[f]}
	}
	p := db.WriteChangeParams{
		OrganisationID: int64(after.Organisation), IncidentID: after.ID.UUID, Version: after.Version, Title: after.Title,
		Description: after.Description, State: string(after.State), HoldReason: string(after.HoldReason), DeferredTo: timePtr(after.DeferredTo),
		Priority: string(after.Priority), Impact: string(after.Impact), Urgency: string(after.Urgency), Category: after.Category,
		Service: after.Service, Team: after.Team, Assignee: after.Assignee, Resolution: after.Resolution, ContactName: after.Contact.Name,
		ContactPhone: after.Contact.Phone, ContactEmail: after.Contact.Email, At: at, ResolvedAt: timePtr(after.ResolvedAt), ClosedAt: timePtr(after.ClosedAt),
		Kind: string(c.kind), Visibility: string(c.visibility), ActorKind: string(c.actor.Kind), Actor: c.actor.Name,
		LinkID: nullUUID(c.from.UUID), EntryLinkID: nullUUID(c.from.UUID), Changes: object(changes), Detail: object(c.detail), Mapping: c.mapping, TraceID: telemetry.TraceID(ctx),
		Trace: telemetry.Inject(ctx), DeliveryKind: string(c.deliver), Payload: object(c.payload), OnlySome: c.only != nil, CommentAt: at,
	}
	if c.about != (incident.LinkID{}) {
		p.EntryLinkID = nullUUID(c.about.UUID)
	}
	if c.visibility == "" {
		p.Visibility = string(incident.Public)
	}
	for _, link := range c.only {
		p.OnlyLinks = append(p.OnlyLinks, link.UUID)
	}
	if c.comment != nil {
		p.CommentID, p.CommentBody, p.CommentAuthor, p.CommentAt = nullUUID(c.comment.ID.UUID), c.comment.Body, c.comment.Author, c.comment.At
		p.Visibility = string(c.comment.Visibility)
	}
	row, err := q.WriteChange(ctx, p)
	if err != nil {
		return after, 0, fmt.Errorf("writing a %s entry: %w", c.kind, err)
	}
	return after, row.Deliveries, nil
}

// Open reports a new incident: its row and its first entry.
func (l *Ledger) Open(ctx context.Context, v auth.Viewer, actor Actor, i incident.Incident, key Key) (Done, error) {
	var done Done
	err := l.asViewer(ctx, v, key, func(q db.Querier) error {
		first, err := l.firstResult(ctx, q, v, i.Organisation, key)
		if err != nil || first != nil {
			done = deref(first)
			return err
		}
		changes := Changes{}
		for f, value := range i.Values() {
			if value != "" {
				changes[f] = [2]string{"", value}
			}
		}
		i.Version = 1
		i.OpenedAt = i.OpenedAt.UTC().Truncate(time.Microsecond)
		i.UpdatedAt = i.OpenedAt
		i.Number, err = q.OpenIncident(ctx, db.OpenIncidentParams{
			OrganisationID: int64(i.Organisation), ID: i.ID.UUID, Title: i.Title, Description: i.Description, State: string(i.State),
			Priority: string(i.Priority), Impact: string(i.Impact), Urgency: string(i.Urgency), Category: i.Category, Service: i.Service,
			Reference: i.Reference, Source: string(i.Source), ContactName: i.Contact.Name, ContactPhone: i.Contact.Phone,
			ContactEmail: i.Contact.Email, ReportedBy: i.ReportedBy, At: i.OpenedAt, ActorKind: string(actor.Kind), Actor: actor.Name,
			Changes: object(changes), TraceID: telemetry.TraceID(ctx),
		})
		if err != nil {
			return fmt.Errorf("writing the incident: %w", err)
		}
		done = Done{Incident: i, Changed: true}
		return keep(ctx, q, v, i, key, done, i.OpenedAt)
	})
	return l.rung(done, err, 0)
}

// Append makes one change to an incident. The incident is locked while Decide runs, so changes to one incident
// happen one after the other, each upon the state that the one before it left.
func (l *Ledger) Append(ctx context.Context, a Append) (Done, error) {
	var done Done
	var deliveries int64
	err := l.asViewer(ctx, a.Viewer, a.Key, func(q db.Querier) error {
		before, first, err := l.lock(ctx, q, a.Viewer, a.Incident, a.ExpectedVersion, a.Key)
		if err != nil || first != nil {
			done = deref(first)
			return err
		}
		draft := Draft{Before: before, After: before}
		if err := a.Decide(&draft); err != nil {
			return err
		}
		c := change{kind: Changed, actor: a.Actor, before: before, after: draft.After, comment: draft.Comment, payload: incident.Values{}}
		is := draft.After.Values()
		for _, f := range incident.Changed(before.Values(), is) {
			c.payload[f], c.deliver = is[f], UpdateTicket
		}
		if draft.Comment != nil {
			if c.deliver != "" {
				return errors.New("a change is either a comment or new values, not both")
			}
			c.kind, c.deliver = Commented, SayComment
		}
		at := l.now()
		done = Done{Incident: before}
		if c.deliver != "" {
			writing := ctx
			if a.Key.Value == "" { // nothing comes behind it
				writing = postgres.Last(ctx)
			}
			if done.Incident, deliveries, err = l.write(writing, q, c, at); err != nil {
				return err
			}
			done.Changed = true
		}
		if draft.Comment != nil {
			done.Comment = *draft.Comment
		}
		return keep(ctx, q, a.Viewer, before, a.Key, done, at)
	})
	return l.rung(done, err, deliveries)
}

// Escalate links an incident to a system and queues the ticket's creation. An incident has at most one link to
// a system: escalating again answers the one that is there.
func (l *Ledger) Escalate(ctx context.Context, e Escalate) (Done, error) {
	var done Done
	var deliveries int64
	err := l.asViewer(ctx, e.Viewer, e.Key, func(q db.Querier) error {
		before, first, err := l.lock(ctx, q, e.Viewer, e.Incident, e.ExpectedVersion, e.Key)
		if err != nil || first != nil {
			done = deref(first)
			return err
		}
		if before.State.Final() {
			return &incident.Refusal{
				Kind: incident.InvalidTransition, Problem: fmt.Sprintf("an incident that is %s is not escalated", before.State),
				Remedy: "report a new incident and give this number as its reference",
			}
		}
		system, err := usable(ctx, q, before.Organisation, e.System)
		if err != nil {
			return err
		}
		at := l.now()
		row, err := q.FindLinkToSystem(ctx, db.FindLinkToSystemParams{OrganisationID: int64(before.Organisation), IncidentID: before.ID.UUID, SystemID: system})
		if err == nil {
			done = Done{Incident: before}
			if done.Link, err = linkOf(row); err != nil {
				return err
			}
			return keep(ctx, q, e.Viewer, before, e.Key, done, at)
		} else if !errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("looking for a link: %w", err)
		}
		link := Link{
			Organisation: before.Organisation, ID: incident.NewLinkID(), Incident: before.ID, System: incident.SystemID(system),
			CorrelationID: uuid.NewString(), CreatedAt: at, Waiting: 1,
		}
		done = Done{Link: link, Changed: true}
		if done.Incident, deliveries, err = l.link(ctx, q, e, before, link, at); err != nil {
			return err
		}
		return keep(ctx, q, e.Viewer, before, e.Key, done, at)
	})
	return l.rung(done, err, deliveries)
}

func (l *Ledger) link(ctx context.Context, q db.Querier, e Escalate, before incident.Incident, link Link, at time.Time) (incident.Incident, int64, error) {
	err := q.InsertLink(ctx, db.InsertLinkParams{
		OrganisationID: int64(link.Organisation), ID: link.ID.UUID, IncidentID: link.Incident.UUID, SystemID: int64(link.System),
		CorrelationID: uuid.MustParse(link.CorrelationID), CreatedAt: at,
	})
	if err != nil {
		return before, 0, fmt.Errorf("writing the link: %w", err)
	}
	only := []incident.LinkID{link.ID}
	after, n, err := l.write(ctx, q, change{
		kind: Escalated, actor: e.Actor, before: before, after: before, about: link.ID, only: only,
		deliver: CreateTicket, payload: before.Values(), detail: map[string]string{"system": e.System},
	}, at)
	if err != nil || e.Note == "" {
		return after, n, err
	}
	note := incident.Comment{ID: incident.NewCommentID(), Visibility: incident.Internal, Body: e.Note, Author: e.Actor.Name, At: at}
	after, more, err := l.write(ctx, q, change{kind: Commented, actor: e.Actor, before: after, after: after, comment: &note, only: only, deliver: SayComment}, at)
	return after, n + more, err
}

func usable(ctx context.Context, q db.Querier, o incident.OrganisationID, key string) (int64, error) {
	systems, err := q.UsableSystems(ctx, int64(o))
	if err != nil {
		return 0, fmt.Errorf("listing systems: %w", err)
	}
	unknown := &SystemUnknown{System: key}
	for _, s := range systems {
		if s.Key == key {
			return s.ID, nil
		}
		unknown.Known = append(unknown.Known, s.Key)
	}
	return 0, unknown
}

// asViewer runs fn in a transaction under the viewer's row-level security. Two first calls with one
// idempotency key at once end in a unique violation for the second, which then finds the first one's result.
func (l *Ledger) asViewer(ctx context.Context, v auth.Viewer, key Key, fn func(db.Querier) error) error {
	run := func() error { return l.store.Viewer(ctx, v, fn) }
	err := run()
	if key.Value != "" && postgres.IsUniqueViolation(err, "idempotency_pkey") {
		err = run()
	}
	return err
}

// lock takes the incident's lock and checks what the caller expects of it. A repeated idempotency key yields
// the first result.
func (l *Ledger) lock(ctx context.Context, q db.Querier, v auth.Viewer, id incident.ID, expected int64, key Key) (incident.Incident, *Done, error) {
	row, err := q.LockIncident(ctx, id.UUID)
	if err != nil {
		return incident.Incident{}, nil, notFound(err)
	}
	before := incidentOf(row)
	first, err := l.firstResult(ctx, q, v, before.Organisation, key)
	if err != nil || first != nil {
		return before, first, err
	}
	if expected != 0 && expected != before.Version {
		return before, nil, &VersionConflict{Expected: expected, Actual: before.Version}
	}
	return before, nil, nil
}

func (l *Ledger) firstResult(ctx context.Context, q db.Querier, v auth.Viewer, o incident.OrganisationID, key Key) (*Done, error) {
	if key.Value == "" {
		return nil, nil
	}
	row, err := q.FindKey(ctx, db.FindKeyParams{OrganisationID: int64(o), Subject: v.Subject, Key: key.Value})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("looking up an idempotency key: %w", err)
	}
	if !bytes.Equal(row.InputDigest, key.Digest[:]) {
		return nil, &KeyReused{Key: key.Value}
	}
	found, err := q.FindIncident(ctx, row.IncidentID)
	if err != nil {
		return nil, notFound(err)
	}
	done := &Done{Incident: incidentOf(found)}
	if row.CommentID.Valid {
		c, err := q.FindComment(ctx, db.FindCommentParams{OrganisationID: int64(o), ID: row.CommentID.UUID})
		if err != nil {
			return nil, notFound(err)
		}
		done.Comment = commentOf(c)
	}
	if row.LinkID.Valid {
		link, err := q.FindLink(ctx, db.FindLinkParams{OrganisationID: int64(o), ID: row.LinkID.UUID})
		if err != nil {
			return nil, notFound(err)
		}
		if done.Link, err = linkOf(link); err != nil {
			return nil, err
		}
	}
	return done, nil
}

func keep(ctx context.Context, q db.Querier, v auth.Viewer, i incident.Incident, key Key, done Done, at time.Time) error {
	if key.Value == "" {
		return nil
	}
	return q.InsertKey(postgres.Last(ctx), db.InsertKeyParams{
		OrganisationID: int64(i.Organisation), Subject: v.Subject, Key: key.Value, InputDigest: key.Digest[:],
		IncidentID: i.ID.UUID, LinkID: nullUUID(done.Link.ID.UUID), CommentID: nullUUID(done.Comment.ID.UUID), At: at,
	})
}

// rung rings for those who wait, once the change is durable.
func (l *Ledger) rung(done Done, err error, deliveries int64) (Done, error) {
	if err != nil {
		return Done{}, err
	}
	if done.Changed {
		l.bell.Ring(TopicEntries)
	}
	if deliveries > 0 {
		l.bell.Ring(TopicLanes)
	}
	return done, nil
}

func deref(d *Done) Done {
	if d == nil {
		return Done{}
	}
	return *d
}

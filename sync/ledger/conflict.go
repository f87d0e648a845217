package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/connectors"
	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
	"liaison/sync/mapping"
	"liaison/sync/merge"
)

// Conflict is a field of a link that both sides changed since they last agreed, differently. Both values stay, whoever won.
type Conflict struct {
	Organisation incident.OrganisationID
	ID           incident.ConflictID
	Incident     incident.ID
	Link         incident.LinkID
	Version      int64 // of the entry that told of it
	Field        incident.Field
	Base         string // what both sides had agreed on before, in the hub's words, as are the next two
	Hub          string // the hub's value; of an open conflict, as the hub knew it when it last looked at the ticket
	Vendor       string // the vendor's value
	Policy       mapping.Policy
	Winner       merge.Owner // whose value stands; empty while a person has yet to decide
	Rule         string      // why, for people
	At           time.Time
	ResolvedAt   time.Time // when a person decided, or both sides came to the same; zero when neither happened
	ResolvedBy   string    // who decided, by display name
}

// Open reports whether the conflict waits for a person: both sides keep their own until then.
func (c Conflict) Open() bool { return c.Winner == "" && c.ResolvedAt.IsZero() }

// Value returns one side's value.
func (c Conflict) Value(of merge.Owner) string {
	if of == merge.Vendor {
		return c.Vendor
	}
	return c.Hub
}

// Place is where the conflict stands in lists.
func (c Conflict) Place() Place { return Place{At: c.At, ID: c.ID.UUID} }

// ConflictDecided says that a person has decided the conflict already, or that it ended by itself.
type ConflictDecided struct {
	By     string
	At     time.Time
	Winner merge.Owner
}

func (e *ConflictDecided) Error() string {
	return fmt.Sprintf("the conflict is over since %s: %s decided for the %s's value", e.At.UTC().Format(time.RFC3339), e.By, e.Winner)
}

// ConflictMoved says that the field has moved on since the conflict, so that neither of its values is the one to choose.
type ConflictMoved struct {
	Field incident.Field
	Now   string // the hub's value now
}

func (e *ConflictMoved) Error() string {
	return fmt.Sprintf("%s has changed since this conflict and is %q in the hub now: look at it again and decide anew", e.Field, e.Now)
}

// FieldHeld says that a field cannot be freed, because something else has to happen first.
type FieldHeld struct {
	Field incident.Field
	Held  merge.Hold // merge.Unheld: nothing holds it
}

func (e *FieldHeld) Error() string {
	switch e.Held {
	case merge.Review:
		return fmt.Sprintf("%s is in a conflict that waits for a person: decide the conflict", e.Field)
	case merge.Withheld:
		return fmt.Sprintf("%s is withheld while the vendor's ticket is resolved, and goes out when the ticket is reopened", e.Field)
	case merge.Stopped, merge.Unheld:
	}
	return fmt.Sprintf("%s is not parked: there is nothing to free", e.Field)
}

// ConflictsOf asks for the same page of conflicts of each of many links, in the page's order. Only staff see any.
func ConflictsOf(links []LinkKey, onlyOpen bool, page Page[Place], answer *map[incident.LinkID][]Conflict) Question {
	above, below := bounds(page)
	p := db.LinkConflictsNewestParams{BelowAt: below.At, BelowID: below.ID, AboveAt: above.At, AboveID: above.ID, OnlyOpen: onlyOpen, MaxRows: int32(page.Rows)}
	for _, k := range links {
		p.Organisations, p.Links = append(p.Organisations, int64(k.Organisation)), append(p.Links, k.Link.UUID)
	}
	ask := (*db.Queries).LinkConflictsNewest
	if page.Oldest {
		ask = func(q *db.Queries, ctx context.Context, p db.LinkConflictsNewestParams) ([]db.Conflict, error) {
			return q.LinkConflictsOldest(ctx, db.LinkConflictsOldestParams(p))
		}
	}
	return many(ask, p, conflictOf, func(conflicts []Conflict) {
		found := make(map[incident.LinkID][]Conflict, len(links))
		for _, c := range conflicts {
			found[c.Link] = append(found[c.Link], c)
		}
		*answer = found
	})
}

// ConflictsByID asks for conflicts by id among the organisations, in no particular order. Only staff see any.
func ConflictsByID(organisations []incident.OrganisationID, ids []incident.ConflictID, answer *[]Conflict) Question {
	p := db.ConflictsByIDParams{Organisations: numbers(organisations), Ids: make([]uuid.UUID, len(ids))}
	for n, id := range ids {
		p.Ids[n] = id.UUID
	}
	return many((*db.Queries).ConflictsByID, p, conflictOf, func(found []Conflict) { *answer = found })
}

func conflictOf(r db.Conflict) (Conflict, error) {
	return Conflict{
		Organisation: incident.OrganisationID(r.OrganisationID), ID: incident.ConflictID{UUID: r.ID}, Incident: incident.ID{UUID: r.IncidentID},
		Link: incident.LinkID{UUID: r.LinkID}, Version: r.Version, Field: incident.Field(r.Field), Base: r.Base, Hub: r.Hub, Vendor: r.Vendor,
		Policy: mapping.Policy(r.Policy), Winner: merge.Owner(r.Winner), Rule: r.Rule, At: r.At.UTC(), ResolvedAt: timeOf(r.ResolvedAt), ResolvedBy: r.ResolvedBy,
	}, nil
}

// patience is how long somebody who edits a link waits for an exchange that is under way on it.
const patience = 15 * time.Second

// ResolveConflict lets the picked side's value stand. The vendor's value is taken into the hub, and every other system hears
// of it; the hub's is sent to the vendor. A conflict that a policy has decided can be decided the other way for as long as the
// field has not moved on. It answers *ConflictDecided when somebody was first, *ConflictMoved when the field has changed since,
// an *incident.Refusal when the lifecycle does not allow the vendor's value, ErrBusy when an exchange on the link does not
// end, and ErrNotFound to everybody who is not staff.
func (l *Ledger) ResolveConflict(ctx context.Context, v auth.Viewer, actor Actor, key Key, id incident.ConflictID, pick merge.Owner) (Done, Conflict, error) {
	var done Done
	var c Conflict
	var deliveries int64
	if pick != merge.Hub && pick != merge.Vendor {
		return done, c, fmt.Errorf("resolving a conflict: %q is no side; use HUB or VENDOR", string(pick))
	}
	err := l.editLink(ctx, v, key, func(q db.Querier) error {
		var err error
		deliveries = 0
		if c, err = findConflict(ctx, q, v, id); err != nil {
			return err
		}
		before, first, err := l.lock(ctx, q, v, c.Incident, 0, key)
		if err != nil {
			return err
		}
		if c, err = findConflict(ctx, q, v, id); err != nil || first != nil {
			done = deref(first)
			return err
		}
		if err := resolvable(ctx, q, c, before); err != nil {
			return err
		}
		e, err := l.editing(ctx, q, actor, before, c.Organisation, c.Link)
		if err != nil {
			return err
		}
		done = Done{Changed: true}
		if done.Incident, err = e.resolve(ctx, &c, pick); err != nil {
			return err
		}
		deliveries, done.Link = e.deliveries, e.link
		if err := e.end(ctx); err != nil {
			return err
		}
		return keep(ctx, q, v, before, key, done, e.at)
	})
	if moved, ok := errors.AsType[*ConflictMoved](err); ok && c.Open() { // the next look shows it as it is
		_ = l.system(ctx, func(q db.Querier) error {
			return q.UpdateConflict(ctx, db.UpdateConflictParams{OrganisationID: int64(c.Organisation), ID: c.ID.UUID, Hub: moved.Now, Vendor: c.Vendor})
		})
	}
	if done, err = l.rung(done, err, deliveries); err != nil {
		return done, Conflict{}, fmt.Errorf("resolving a conflict: %w", err)
	}
	return done, c, nil
}

func findConflict(ctx context.Context, q db.Querier, v auth.Viewer, id incident.ConflictID) (Conflict, error) {
	row, err := q.FindConflict(ctx, db.FindConflictParams{Organisations: numbers(v.Organisations), ID: id.UUID})
	if err != nil {
		return Conflict{}, notFound(err)
	}
	return conflictOf(row)
}

// resolvable reports why the conflict is not one to decide now.
func resolvable(ctx context.Context, q db.Querier, c Conflict, now incident.Incident) error {
	if !c.ResolvedAt.IsZero() {
		return &ConflictDecided{By: c.ResolvedBy, At: c.ResolvedAt, Winner: c.Winner}
	}
	newer, err := q.NewerConflicts(ctx, db.NewerConflictsParams{OrganisationID: int64(c.Organisation), LinkID: c.Link.UUID, Field: string(c.Field), Version: c.Version})
	if err != nil {
		return fmt.Errorf("looking for newer conflicts: %w", err)
	}
	stands := c.Hub
	if c.Winner == merge.Vendor {
		stands = c.Vendor
	}
	if is := now.Values()[c.Field]; newer > 0 || is != stands {
		return &ConflictMoved{Field: c.Field, Now: is}
	}
	return nil
}

// FreeField lets a parked field of a link travel again: the ticket is read, and what either side has is weighed anew or sent.
// It answers *FieldHeld when nothing is parked or something else has to happen first, ErrBusy when an exchange on the link does
// not end, and ErrNotFound to everybody who is not staff.
func (l *Ledger) FreeField(ctx context.Context, v auth.Viewer, actor Actor, key Key, link incident.LinkID, f incident.Field) (Done, error) {
	var done Done
	var deliveries int64
	err := l.editLink(ctx, v, key, func(q db.Querier) error {
		deliveries = 0
		if !v.Staff() {
			return ErrNotFound
		}
		rows, err := q.LinksByID(ctx, db.LinksByIDParams{Organisations: numbers(v.Organisations), Ids: []uuid.UUID{link.UUID}})
		if err != nil {
			return fmt.Errorf("reading the link: %w", err)
		}
		if len(rows) == 0 {
			return ErrNotFound
		}
		before, first, err := l.lock(ctx, q, v, incident.ID{UUID: rows[0].ExternalLink.IncidentID}, 0, key)
		if err != nil || first != nil {
			done = deref(first)
			return err
		}
		e, err := l.editing(ctx, q, actor, before, incident.OrganisationID(rows[0].ExternalLink.OrganisationID), link)
		if err != nil {
			return err
		}
		_, parked := e.link.Parked[f]
		if held := e.link.Standing[f].Held; !parked || held == merge.Review || held == merge.Withheld {
			return &FieldHeld{Field: f, Held: held}
		}
		e.free(f)
		c := change{kind: FieldFreed, visibility: incident.Internal, actor: actor, after: before, detail: map[string]any{"field": f}}
		if err := e.tell(ctx, c, f); err != nil {
			return err
		}
		deliveries, done = e.deliveries, Done{Incident: e.now, Link: e.link, Changed: true}
		if err := e.end(ctx); err != nil {
			return err
		}
		return keep(ctx, q, v, before, key, done, e.at)
	})
	if done, err = l.rung(done, err, deliveries); err != nil {
		return done, fmt.Errorf("freeing a field: %w", err)
	}
	return done, nil
}

// editLink runs fn as asViewer does, again and again while an exchange on the link is under way.
func (l *Ledger) editLink(ctx context.Context, v auth.Viewer, key Key, fn func(db.Querier) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		err := l.asViewer(ctx, v, key, fn)
		if !errors.Is(err, ErrBusy) {
			return err
		}
		select {
		case <-ctx.Done():
			return ErrBusy
		case <-time.After(wait):
		}
	}
}

// linkEdit is a person's change of a link, within one transaction. It holds the lane, so that no exchange with the vendor is
// under way whose settlement would write the link as it was before.
type linkEdit struct {
	ledger     *Ledger
	q          db.Querier
	actor      Actor
	now        incident.Incident
	link       Link
	token      int64
	at         time.Time
	deliveries int64
}

// editing takes the lane. The incident is locked already.
func (l *Ledger) editing(ctx context.Context, q db.Querier, actor Actor, before incident.Incident, o incident.OrganisationID, link incident.LinkID) (*linkEdit, error) {
	e := &linkEdit{ledger: l, q: q, actor: actor, now: before, at: l.now()}
	var err error
	e.token, err = q.LeaseLink(ctx, db.LeaseLinkParams{OrganisationID: int64(o), LinkID: link.UUID, LeaseSeconds: patience.Seconds()})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrBusy
	} else if err != nil {
		return nil, fmt.Errorf("taking the lane: %w", err)
	}
	row, err := q.FindLink(ctx, db.FindLinkParams{OrganisationID: int64(o), ID: link.UUID})
	if err != nil {
		return nil, fmt.Errorf("reading the link: %w", notFound(err))
	}
	e.link, err = linkOf(row)
	return e, err
}

// end writes the link and gives the lane back.
func (e *linkEdit) end(ctx context.Context) error {
	if err := e.ledger.put(ctx, e.q, e.link); err != nil {
		return err
	}
	p := db.ReleaseLaneParams{OrganisationID: int64(e.link.Organisation), LinkID: e.link.ID.UUID, LeaseToken: e.token, DueAt: e.at}
	if err := e.q.ReleaseLane(ctx, p); err != nil {
		return fmt.Errorf("giving the lane back: %w", err)
	}
	return nil
}

func (e *linkEdit) free(f incident.Field) {
	delete(e.link.Parked, f)
	merge.Keep(e.link.Standing, f, e.link.Standing[f].Free())
}

func (e *linkEdit) write(ctx context.Context, c change) error {
	c.actor, c.before = e.actor, e.now
	c.after.Version = e.now.Version
	after, n, err := e.ledger.write(ctx, e.q, c, e.at)
	if err != nil {
		return err
	}
	e.now, e.deliveries = after, e.deliveries+n
	return nil
}

// tell writes an entry about the link, with a delivery of the hub's values of the named fields to it alone.
func (e *linkEdit) tell(ctx context.Context, c change, fields ...incident.Field) error {
	c.about, c.after = e.link.ID, e.now
	if len(fields) > 0 && e.link.Gone == connectors.Present {
		is := e.now.Values()
		c.deliver, c.only, c.payload = UpdateTicket, []incident.LinkID{e.link.ID}, incident.Values{}
		for _, f := range fields {
			c.payload[f] = is[f]
		}
	}
	return e.write(ctx, c)
}

// resolve lets the picked value stand and tells of it.
func (e *linkEdit) resolve(ctx context.Context, c *Conflict, pick merge.Owner) (incident.Incident, error) {
	open, value := c.Open(), c.Value(pick)
	if c.Open() {
		e.free(c.Field)
	}
	push := []incident.Field{}
	switch {
	case e.now.Values()[c.Field] != value:
		if err := e.set(ctx, c.Field, value, open); err != nil {
			return e.now, err
		}
	case open: // the hub's, which the vendor has yet to hear
		push = append(push, c.Field)
	}
	c.Winner, c.ResolvedAt, c.ResolvedBy = pick, e.at, e.actor.Name
	c.Rule += fmt.Sprintf("; %s decided for the %s's value", e.actor.Name, pick)
	err := e.tell(ctx, change{kind: ConflictResolved, visibility: incident.Internal, detail: map[string]any{
		"conflict": c.ID, "field": c.Field, "hub": c.Hub, "vendor": c.Vendor, "winner": pick, "loser": pick.Other(), "rule": c.Rule,
	}}, push...)
	if err != nil {
		return e.now, err
	}
	err = e.q.CloseConflict(ctx, db.CloseConflictParams{
		OrganisationID: int64(c.Organisation), ID: c.ID.UUID, Winner: string(c.Winner), Rule: c.Rule, At: e.at, ByWhom: c.ResolvedBy,
	})
	if err != nil {
		return e.now, fmt.Errorf("closing the conflict: %w", err)
	}
	return e.now, nil
}

// set gives a field of the incident another value, as a vendor's fact is taken. Every link hears of it; not so this one when
// its ticket has that value, as under review it has.
func (e *linkEdit) set(ctx context.Context, f incident.Field, value string, hasIt bool) error {
	after, refused := e.now.Take(incident.Values{f: value}, e.at)
	if err := refused[f]; err != nil {
		return err
	}
	c := change{kind: Changed, after: after, about: e.link.ID, deliver: UpdateTicket, payload: incident.Values{}}
	is := after.Values()
	for _, changed := range incident.Changed(e.now.Values(), is) {
		c.payload[changed] = is[changed]
	}
	// What waits for this link says something else of the field by now.
	err := e.q.WithdrawFields(ctx, db.WithdrawFieldsParams{OrganisationID: int64(e.link.Organisation), LinkID: e.link.ID.UUID, Fields: []string{string(f)}})
	if err != nil {
		return fmt.Errorf("withdrawing overruled values: %w", err)
	}
	if hasIt {
		c.from = e.link.ID
		e.link.Base = maps.Clone(e.link.Base)
		e.link.agree(map[incident.Field]merge.Base{f: {Hub: value, Vendor: e.link.Base[f].Vendor}})
	}
	return e.write(ctx, c)
}

package ledger

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
	"liaison/sync/mapping"
	"liaison/sync/merge"
)

// Situation is how things stand in the hub while a vendor's news is weighed.
type Situation struct {
	Now      time.Time
	Incident incident.Incident
	Link     Link
	Open     []OpenDelivery  // what the vendor has yet to hear, in order
	Known    map[string]bool // which of the vendor's journal entries the hub has

	// Undecided holds the link's conflicts that wait for a person.
	Undecided map[incident.Field]merge.Conflict
	// SetAt looks up when a field was last set in the hub; zero when that was put away long ago.
	SetAt func(incident.Field) (time.Time, error)

	undecided map[incident.Field]Conflict
}

// OpenDelivery is a delivery that is not settled, with its comment.
type OpenDelivery struct {
	Delivery
	Message incident.Comment // set for SayComment
}

// Pending reports whether the vendor has yet to hear of the hub's value of a field.
func (s Situation) Pending(f incident.Field) bool {
	return slices.ContainsFunc(s.Open, func(d OpenDelivery) bool { _, waits := d.Values[f]; return waits })
}

// Arrival is what a vendor's news comes to.
type Arrival struct {
	Actor       Actor // the system
	Ticket      connectors.Ticket
	RemoteState string // the ticket's state in the vendor's words for people
	Outcome     merge.Outcome
	Messages    []connectors.JournalEntry // new ones, oldest first
	Mark        connectors.Mark           // the journal up to here is in the hub; empty leaves the mark as it is
	Mapping     string                    // the version of the mapping that translated it
	Unseen      bool                      // the ticket could not be read: nothing but RemoteState is known
}

// Taken is what Take made.
type Taken struct {
	Entries   int // how many entries were written
	Echoes    int // how many fields were seen for the first time as the hub wrote them
	Conflicts int // how many fields both sides had changed
	Stopped   int // how many fields went to and fro once too often
}

// Take lays a vendor's news into the ledger: weigh looks at the incident and the link while they are locked, and
// what it returns is written in the same transaction. Other links hear of what changed, this one does not. The
// lane stays leased. Under a lease that was lost nothing is written and ErrFenced returned.
func (l *Ledger) Take(ctx context.Context, lease Lease, journal []string, weigh func(Situation) (Arrival, error)) (Taken, error) {
	var taken Taken
	var deliveries int64
	err := l.system(ctx, func(q db.Querier) error {
		taken, deliveries = Taken{}, 0
		s, err := l.situation(ctx, q, lease, journal)
		if err != nil {
			return err
		}
		a, err := weigh(s)
		if err != nil {
			return err
		}
		w := arrivalWriter{ledger: l, q: q, lease: lease, now: s.Incident, actor: a.Actor, mapping: a.Mapping, at: s.Now}
		link := s.Link
		link.Base, link.Parked = maps.Clone(s.Link.Base), maps.Clone(s.Link.Parked)
		if !a.Unseen {
			link.LastSyncedAt = w.at
		}
		if s.Link.Gone != connectors.Present && a.Ticket.Gone == connectors.Present { // it hears of things again from here on
			link.Gone = connectors.Present
			if err := l.put(ctx, q, link); err != nil {
				return err
			}
		}
		if err := w.values(ctx, s, a, &link); err != nil {
			return err
		}
		if err := w.messages(ctx, a.Messages); err != nil {
			return err
		}
		link.note(&a.Ticket, a.RemoteState)
		if link.RemoteVersion = a.Ticket.Version; a.Unseen {
			link.RemoteVersion = "" // once it is seen again, whatever its version, it is news
		}
		if a.Mark != "" {
			link.JournalMark = a.Mark
		}
		if err := l.put(ctx, q, link); err != nil {
			return err
		}
		taken, deliveries = Taken{Entries: w.entries, Echoes: a.Outcome.Echoes, Conflicts: w.conflicts, Stopped: len(a.Outcome.Stopped)}, w.deliveries
		return nil
	})
	if err != nil {
		return Taken{}, fmt.Errorf("taking in a vendor's news: %w", err)
	}
	if taken.Entries > 0 {
		l.bell.Ring(TopicEntries)
	}
	if deliveries > 0 {
		l.bell.Ring(TopicLanes)
	}
	return taken, nil
}

// put writes one link.
func (l *Ledger) put(ctx context.Context, q db.Querier, link Link) error {
	var row db.UpdateLinksParams
	link.appendTo(&row)
	if err := q.UpdateLinks(ctx, row); err != nil {
		return fmt.Errorf("writing the link: %w", err)
	}
	return nil
}

// LinksToReweigh returns the next followed links of a system, in the order of their keys, of which fields were parked by another
// version of its mapping. The zero Link begins at the first.
func (l *Ledger) LinksToReweigh(ctx context.Context, system incident.SystemID, mapping string, after Link) ([]Link, error) {
	var out []Link
	err := l.system(ctx, func(q db.Querier) error {
		rows, err := q.LinksToReweigh(ctx, db.LinksToReweighParams{
			SystemID: int64(system), AfterOrganisation: int64(after.Organisation), AfterLink: after.ID.UUID, Mapping: mapping, MaxRows: 100,
		})
		if err != nil {
			return fmt.Errorf("finding links with parked fields: %w", err)
		}
		out, err = linksOf(rows)
		return err
	})
	return out, err
}

func (l *Ledger) situation(ctx context.Context, q db.Querier, lease Lease, journal []string) (Situation, error) {
	var s Situation
	row, err := q.FindLink(ctx, db.FindLinkParams{OrganisationID: int64(lease.Organisation), ID: lease.Link.UUID})
	if err != nil {
		return s, fmt.Errorf("reading the link: %w", notFound(err))
	}
	locked, err := q.LockIncident(ctx, row.IncidentID)
	if err != nil {
		return s, fmt.Errorf("locking the incident: %w", err)
	}
	s.Now, s.Incident = l.now(), incidentOf(locked)
	if err := fence(ctx, q, lease); err != nil {
		return s, err
	}
	// Read again now that nobody else can write it.
	if row, err = q.FindLink(ctx, db.FindLinkParams{OrganisationID: int64(lease.Organisation), ID: lease.Link.UUID}); err != nil {
		return s, fmt.Errorf("reading the link: %w", err)
	}
	if s.Link, err = linkOf(row); err != nil {
		return s, err
	}
	err = l.surroundings(ctx, q, lease, journal, &s) // before s is read for the return: the order of the two is not defined
	return s, err
}

// surroundings reads what else stands around a link and its incident.
func (l *Ledger) surroundings(ctx context.Context, q db.Querier, lease Lease, journal []string, s *Situation) error {
	open, err := q.OpenDeliveries(ctx, db.OpenDeliveriesParams{OrganisationID: int64(lease.Organisation), LinkID: lease.Link.UUID})
	if err != nil {
		return fmt.Errorf("reading open deliveries: %w", err)
	}
	for _, r := range open {
		d, err := deliveryOf(now(r.Delivery, r.SendingVersion, r.SendingMark))
		if err != nil {
			return err
		}
		s.Open = append(s.Open, OpenDelivery{Delivery: d, Message: d.saying(incident.Comment{ID: d.Comment, Body: r.CommentBody, Author: r.CommentAuthor, Visibility: incident.Visibility(r.CommentVisibility)})})
	}
	known, err := q.KnownCopies(ctx, db.KnownCopiesParams{OrganisationID: int64(lease.Organisation), LinkID: lease.Link.UUID, ExternalIds: journal})
	if err != nil {
		return fmt.Errorf("reading known comments: %w", err)
	}
	s.Known = map[string]bool{}
	for _, id := range known {
		s.Known[id] = true
	}
	s.SetAt = func(f incident.Field) (time.Time, error) {
		at, err := q.FieldSetAt(ctx, db.FieldSetAtParams{OrganisationID: int64(lease.Organisation), IncidentID: s.Incident.ID.UUID, Field: string(f)})
		if err != nil || len(at) == 0 {
			return time.Time{}, err
		}
		return at[0].UTC(), nil
	}
	return l.conflicts(ctx, q, lease, s)
}

// conflicts reads what waits for a person, if anything does.
func (l *Ledger) conflicts(ctx context.Context, q db.Querier, lease Lease, s *Situation) error {
	reviewed := slices.ContainsFunc(slices.Collect(maps.Values(s.Link.Standing)), func(st merge.Standing) bool { return st.Held == merge.Review })
	if !reviewed {
		return nil
	}
	rows, err := q.OpenConflicts(ctx, db.OpenConflictsParams{OrganisationID: int64(lease.Organisation), LinkID: lease.Link.UUID})
	if err != nil {
		return fmt.Errorf("reading open conflicts: %w", err)
	}
	s.Undecided, s.undecided = map[incident.Field]merge.Conflict{}, map[incident.Field]Conflict{}
	for _, r := range rows {
		c, err := conflictOf(r)
		if err != nil {
			return err
		}
		s.undecided[c.Field] = c
		s.Undecided[c.Field] = merge.Conflict{Field: c.Field, Base: c.Base, Hub: c.Hub, Remote: c.Vendor, Policy: c.Policy, Rule: c.Rule}
	}
	return nil
}

// arrivalWriter writes the entries of one arrival, each upon the one before it.
type arrivalWriter struct {
	ledger     *Ledger
	q          db.Querier
	lease      Lease
	now        incident.Incident
	actor      Actor
	mapping    string
	at         time.Time
	entries    int
	conflicts  int
	deliveries int64
}

func (w *arrivalWriter) write(ctx context.Context, c change) error {
	c.actor, c.from, c.before, c.mapping = w.actor, w.lease.Link, w.now, w.mapping
	if c.after.ID == (incident.ID{}) {
		c.after = w.now
	}
	after, n, err := w.ledger.write(ctx, w.q, c, w.at)
	if err != nil {
		return err
	}
	w.now, w.entries, w.deliveries = after, w.entries+1, w.deliveries+n
	return nil
}

// values writes what the merge decided about the fields.
func (w *arrivalWriter) values(ctx context.Context, s Situation, a Arrival, link *Link) error {
	o := a.Outcome
	after, refused := w.now.Take(o.Take, w.at)
	is := after.Values()
	payload := incident.Values{}
	for _, f := range incident.Changed(w.now.Values(), is) {
		payload[f] = is[f]
	}
	if len(payload) > 0 {
		if err := w.write(ctx, change{kind: Changed, after: after, deliver: UpdateTicket, payload: payload}); err != nil {
			return err
		}
	}
	link.agree(o.Agreed)
	var overruled []incident.Field
	for _, f := range slices.Sorted(maps.Keys(o.Take)) {
		if refused[f] == nil {
			overruled = append(overruled, f)
		}
	}
	for _, c := range o.Conflicts {
		if err := w.conflict(ctx, s, c); err != nil {
			return err
		}
	}
	if err := w.withdraw(ctx, overruled); err != nil {
		return err
	}
	for _, f := range slices.Sorted(maps.Keys(refused)) {
		c := merge.Conflict{
			Field: f, Base: s.Link.Base[f].Hub, Hub: w.now.Values()[f], Remote: o.Take[f], Policy: mapping.PolicyLifecycle, Winner: merge.Hub,
			Rule: "the lifecycle refuses it: " + refused[f].Error(),
		}
		if err := w.conflict(ctx, s, c); err != nil {
			return err
		}
	}
	if err := w.fields(ctx, s, o, link); err != nil {
		return err
	}
	if len(o.Push) > 0 {
		if err := w.push(ctx, o.Push); err != nil {
			return err
		}
	}
	_, moved := payload[incident.FieldState]
	return w.ticket(ctx, s, a, moved)
}

// fields tells of fields that no longer travel, and of those that travel again.
func (w *arrivalWriter) fields(ctx context.Context, s Situation, o merge.Outcome, link *Link) error {
	if o.Standing != nil {
		link.Standing = o.Standing
	}
	for _, f := range slices.Sorted(maps.Keys(o.Parked)) {
		if s.Link.Parked[f] != o.Parked[f] && o.Standing[f].Held != merge.Review { // a conflict is told as such
			if err := w.write(ctx, parked(f, o.Parked[f], slices.Contains(o.Stopped, f))); err != nil {
				return err
			}
		}
		link.park(f, o.Parked[f])
	}
	for _, f := range o.Settled {
		if err := w.settled(ctx, s, f); err != nil {
			return err
		}
	}
	for _, f := range o.Freed {
		if _, waited := s.Link.Parked[f]; waited && !slices.Contains(o.Settled, f) {
			if err := w.write(ctx, freed(f)); err != nil {
				return err
			}
		}
		delete(link.Parked, f)
	}
	return nil
}

// conflict keeps both values of a field. One that waits for a person already is brought up to date instead.
func (w *arrivalWriter) conflict(ctx context.Context, s Situation, c merge.Conflict) error {
	if told, waits := s.undecided[c.Field]; waits && c.Winner == "" {
		err := w.q.UpdateConflict(ctx, db.UpdateConflictParams{OrganisationID: int64(told.Organisation), ID: told.ID.UUID, Hub: c.Hub, Vendor: c.Remote})
		if err != nil {
			return fmt.Errorf("bringing a conflict up to date: %w", err)
		}
		return nil
	}
	id := incident.NewConflictID()
	detail := map[string]any{"conflict": id, "field": c.Field, "base": c.Base, "hub": c.Hub, "vendor": c.Remote, "policy": c.Policy, "winner": c.Winner, "rule": c.Rule}
	if c.Winner != "" {
		detail["loser"] = c.Winner.Other()
	}
	if err := w.write(ctx, change{kind: Conflicted, visibility: incident.Internal, detail: detail}); err != nil {
		return err
	}
	w.conflicts++
	err := w.q.InsertConflict(ctx, db.InsertConflictParams{
		OrganisationID: int64(w.lease.Organisation), ID: id.UUID, IncidentID: w.now.ID.UUID, LinkID: w.lease.Link.UUID, Version: w.now.Version,
		Field: string(c.Field), Base: storable(c.Base), Hub: storable(c.Hub), Vendor: storable(c.Remote), Policy: string(cmp.Or(c.Policy, mapping.Policy(c.Winner))), Winner: string(c.Winner),
		Rule: storable(c.Rule), At: w.at,
	})
	if err != nil {
		return fmt.Errorf("writing a conflict: %w", err)
	}
	return nil
}

// settled ends a conflict about which there is nothing to decide any more: a side took its change back, or came to the
// other's value.
func (w *arrivalWriter) settled(ctx context.Context, s Situation, f incident.Field) error {
	c, waits := s.undecided[f]
	if !waits {
		return nil
	}
	winner, is := merge.Hub, w.now.Values()[f]
	if is != c.Hub {
		winner = merge.Vendor
	}
	rule := fmt.Sprintf("nobody had to decide: both sides have come to %q", is)
	err := w.q.CloseConflict(ctx, db.CloseConflictParams{OrganisationID: int64(c.Organisation), ID: c.ID.UUID, Winner: string(winner), Rule: c.Rule + "; " + rule, At: w.at, ByWhom: liaison.Name})
	if err != nil {
		return fmt.Errorf("closing a conflict: %w", err)
	}
	return w.write(ctx, change{kind: ConflictResolved, visibility: incident.Internal, detail: map[string]any{
		"conflict": c.ID, "field": f, "hub": c.Hub, "vendor": c.Vendor, "winner": winner, "loser": winner.Other(), "rule": rule,
	}})
}

// withdraw takes fields whose value the vendor has just given out of deliveries to it that wait: sending the
// older value of the hub now would silently undo the vendor's.
func (w *arrivalWriter) withdraw(ctx context.Context, fields []incident.Field) error {
	if len(fields) == 0 {
		return nil
	}
	names := make([]string, len(fields))
	for n, f := range fields {
		names[n] = string(f)
	}
	err := w.q.WithdrawFields(ctx, db.WithdrawFieldsParams{OrganisationID: int64(w.lease.Organisation), LinkID: w.lease.Link.UUID, Fields: names})
	if err != nil {
		return fmt.Errorf("withdrawing overruled values: %w", err)
	}
	return nil
}

// push has this link hear the hub's values again, because they won over the vendor's.
func (w *arrivalWriter) push(ctx context.Context, fields []incident.Field) error {
	values, is := incident.Values{}, w.now.Values()
	for _, f := range fields {
		values[f] = is[f]
	}
	after, n, err := w.ledger.write(ctx, w.q, change{
		kind: TicketChanged, visibility: incident.Internal, actor: liaison, before: w.now, after: w.now, mapping: w.mapping,
		about: w.lease.Link, only: []incident.LinkID{w.lease.Link}, deliver: UpdateTicket, payload: values, detail: map[string]any{"pushed": fields},
	}, w.at)
	if err != nil {
		return err
	}
	w.now, w.entries, w.deliveries = after, w.entries+1, w.deliveries+n
	return nil
}

// ticket tells of what changed at the vendor without changing the incident.
func (w *arrivalWriter) ticket(ctx context.Context, s Situation, a Arrival, moved bool) error {
	if a.Ticket.Gone != connectors.Present {
		if s.Link.Gone == a.Ticket.Gone {
			return nil
		}
		return w.write(ctx, change{kind: TicketGone, detail: map[string]any{"how": a.Ticket.Gone, "successor": a.Ticket.SuccessorID}})
	}
	detail := map[string]any{}
	if a.RemoteState != s.Link.RemoteState && !moved {
		detail["state"] = [2]string{s.Link.RemoteState, a.RemoteState}
	}
	if was, is := s.Link.Number, a.Ticket.Number; was != "" && is != "" && was != is {
		detail["number"] = [2]string{was, is}
	}
	if s.Link.Gone != connectors.Present {
		detail["restored"] = s.Link.Gone
		n, err := w.q.RestoreLane(ctx, db.RestoreLaneParams{OrganisationID: int64(w.lease.Organisation), LinkID: w.lease.Link.UUID, At: w.at})
		if err != nil {
			return fmt.Errorf("letting a lane go on: %w", err)
		}
		w.deliveries += n
	}
	if len(detail) == 0 {
		return nil
	}
	return w.write(ctx, change{kind: TicketChanged, detail: detail})
}

func (w *arrivalWriter) messages(ctx context.Context, messages []connectors.JournalEntry) error {
	for _, m := range messages {
		body := strings.ReplaceAll(strings.ToValidUTF8(m.Body, "\uFFFD"), "\x00", "\uFFFD")
		if strings.TrimSpace(body) == "" {
			continue // an empty entry says nothing, and the hub keeps no empty comments
		}
		c := incident.Comment{ID: incident.NewCommentID(), Visibility: incident.Visibility(m.Visibility), Body: body, Author: m.Author, At: m.At.UTC()}
		if c.At.IsZero() {
			c.At = w.at
		}
		if err := w.write(ctx, change{kind: Commented, comment: &c, deliver: SayComment}); err != nil {
			return err
		}
		err := w.q.CopyComments(ctx, db.CopyCommentsParams{
			Organisations: []int64{int64(w.lease.Organisation)}, Links: []uuid.UUID{w.lease.Link.UUID}, ExternalIds: []string{m.ID}, Comments: []uuid.UUID{c.ID.UUID},
		})
		if err != nil {
			return fmt.Errorf("writing the comment's copy: %w", err)
		}
	}
	return nil
}

package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger/internal/db"
	"liaison/sync/merge"
)

// Settlement is how an exchange ended.
type Settlement struct {
	State     State     // StateDelivered, StatePending (again at RetryAt), StateUnknown (look again at RetryAt) or StateDead
	RetryAt   time.Time // when the lane's next turn is; zero means at once
	Lost      bool      // with StateUnknown: the answer to a call of this exchange was lost, not only to an earlier one's
	ErrorKind string    // of a failure, in a word
	Error     string    // for people, without secrets

	Actor       Actor              // the system, author of the entries that this makes
	Ticket      *connectors.Ticket // the ticket as it stands now, nil when it was not read
	RemoteState string             // its state in the vendor's words for people, with Ticket
	Agreed      map[incident.Field]merge.Base
	Parked      map[incident.Field]string         // fields that now wait for a person
	Freed       []incident.Field                  // parked fields that travel again; what was agreed on does so anyway
	Standing    map[incident.Field]merge.Standing // how the fields that it was about fare now
	Mapping     string                            // the version of the mapping that translated it
	Copy        string                            // the vendor's id of the comment that was delivered
	Duplicates  []connectors.ExternalID           // further tickets found under the same correlation id: told, and closed by the same lane
	Closed      connectors.ExternalID             // the further ticket that this delivery closed
}

// settling is a settlement on its way into the store.
type settling struct {
	exchange   Exchange
	settlement Settlement
	keep       time.Duration // for how long the lane is wanted on
	next       *Exchange     // filled in when it goes on
}

// Settle writes how an exchange ended and gives the lane back. Under a lease that was lost nothing is written
// and ErrFenced returned. Settlements that tell people nothing share transactions.
func (l *Ledger) Settle(ctx context.Context, x Exchange, s Settlement) error {
	_, _, err := l.SettleAndGoOn(ctx, x, s, 0)
	return err
}

// SettleAndGoOn does what Settle does. When the delivery is over and a further one waits on a lane that is not paused,
// it keeps the lane for the given time from now and begins that one, as NextExchanges would, in the same transaction.
func (l *Ledger) SettleAndGoOn(ctx context.Context, x Exchange, s Settlement, keep time.Duration) (next Exchange, more bool, err error) {
	w := settling{exchange: x, settlement: s, keep: keep, next: new(Exchange)}
	if len(tells(x, s)) > 0 {
		err = l.settleOne(ctx, w)
	} else {
		err = l.settles.do(ctx, w)
	}
	if err != nil { // a lane that goes on all the same is found by its lease's end
		return Exchange{}, false, err
	}
	return *w.next, w.next.Token != 0, nil
}

// settleMany settles together what no incident has to be locked for. Those whose lanes somebody is writing to, and all
// of them when the shared transaction fails, are settled one by one.
func (l *Ledger) settleMany(ctx context.Context, all []settling) []error {
	var open map[uuid.UUID]bool
	err := l.system(ctx, func(q db.Querier) error {
		var p db.LockLanesParams
		for _, s := range all {
			p.Organisations, p.Links = append(p.Organisations, int64(s.exchange.Organisation)), append(p.Links, s.exchange.Lease.Link.UUID)
			p.Tokens = append(p.Tokens, s.exchange.Token)
		}
		links, err := q.LockLanes(ctx, p)
		if err != nil {
			return fmt.Errorf("locking lanes: %w", err)
		}
		open = map[uuid.UUID]bool{}
		for _, id := range links {
			open[id] = true
		}
		var w settlements
		for _, s := range all {
			if open[s.exchange.Lease.Link.UUID] {
				w.add(s, l.now())
			}
		}
		return w.write(ctx, q, l.now())
	})
	errs := make([]error, len(all))
	for n, s := range all {
		if err != nil || !open[s.exchange.Lease.Link.UUID] {
			errs[n] = l.settleOne(ctx, s)
		}
	}
	return errs
}

// settleOne settles one exchange in a transaction of its own.
func (l *Ledger) settleOne(ctx context.Context, one settling) error {
	x, s := one.exchange, one.settlement
	var entries int
	err := l.system(ctx, func(q db.Querier) error {
		entries = 0
		news := tells(x, s)
		var now incident.Incident
		if len(news) > 0 { // the incident's lock comes before the lane's, everywhere
			row, err := q.LockIncident(ctx, x.Incident.ID.UUID)
			if err != nil {
				return fmt.Errorf("locking the incident: %w", err)
			}
			now = incidentOf(row)
		}
		if err := fence(ctx, q, x.Lease); err != nil {
			return err
		}
		at := l.now()
		for _, c := range news {
			c.actor, c.about, c.before, c.after, c.mapping = s.Actor, x.Lease.Link, now, now, s.Mapping
			var err error
			if now, _, err = l.write(ctx, q, c, at); err != nil {
				return err
			}
			entries++
		}
		var w settlements
		w.add(one, at)
		return w.write(ctx, q, at)
	})
	if err != nil {
		return fmt.Errorf("settling delivery %s: %w", x.Delivery.ID, err)
	}
	if entries > 0 {
		l.bell.Ring(TopicEntries)
		l.bell.Ring(TopicLanes) // the entries may be deliveries to others
	}
	return nil
}

func fence(ctx context.Context, q db.Querier, lease Lease) error {
	_, err := q.LockLane(ctx, db.LockLaneParams{OrganisationID: int64(lease.Organisation), LinkID: lease.Link.UUID, LeaseToken: lease.Token})
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrFenced
	}
	return err
}

// tells lists what people should hear of the settlement. A plain delivery is no news.
func tells(x Exchange, s Settlement) []change {
	var out []change
	if s.Ticket != nil {
		switch {
		case x.Link.ExternalID == "":
			out = append(out, change{kind: TicketOpened, detail: map[string]any{
				"externalId": s.Ticket.ID, "number": s.Ticket.Number, "url": s.Ticket.URL, "duplicates": s.Duplicates,
			}})
		case s.RemoteState != x.Link.RemoteState:
			out = append(out, change{kind: TicketChanged, detail: map[string]any{"state": [2]string{x.Link.RemoteState, s.RemoteState}}})
		}
	}
	if s.Ticket != nil && s.Ticket.Gone != connectors.Present && x.Link.Gone == connectors.Present {
		out = append(out, change{kind: TicketGone, detail: map[string]any{"how": s.Ticket.Gone, "successor": s.Ticket.SuccessorID}})
	}
	for _, id := range s.Duplicates {
		out = append(out, duplicateFound(x.Lease.Link, id, "", "", s.Ticket.ID))
	}
	if s.Closed != "" {
		out = append(out, change{kind: DuplicateClosed, visibility: incident.Internal, detail: map[string]any{"externalId": s.Closed, "follows": x.Link.ExternalID}})
	}
	for _, f := range slices.Sorted(maps.Keys(s.Parked)) {
		if x.Link.Parked[f] != s.Parked[f] {
			out = append(out, parked(f, s.Parked[f], s.Standing[f].Held == merge.Stopped))
		}
	}
	for _, f := range slices.Sorted(maps.Keys(x.Link.Parked)) {
		if s.frees(f) {
			out = append(out, freed(f))
		}
	}
	if s.State == StateDead || s.State == StateSkipped && s.Error != "" {
		out = append(out, change{
			kind: DeliveryFailed, visibility: incident.Internal,
			detail: map[string]any{"delivery": x.Delivery.ID, "kind": x.Delivery.Kind, "errorKind": s.ErrorKind, "error": s.Error},
		})
	}
	return out
}

// frees reports whether a field that was parked travels again.
func (s Settlement) frees(f incident.Field) bool {
	_, parked := s.Parked[f]
	_, agreed := s.Agreed[f]
	return !parked && (agreed || slices.Contains(s.Freed, f))
}

func parked(f incident.Field, reason string, stopped bool) change {
	kind := FieldParked
	if stopped {
		kind = FieldStopped
	}
	return change{kind: kind, visibility: incident.Internal, detail: map[string]any{"field": f, "reason": reason}}
}

func freed(f incident.Field) change {
	return change{kind: FieldFreed, visibility: incident.Internal, detail: map[string]any{"field": f}}
}

// settlements gathers the rows of many settlements, so that each table is written once.
type settlements struct {
	deliveries db.SettleDeliveriesParams
	lanes      db.SettleLanesParams
	links      db.UpdateLinksParams
	copies     db.CopyCommentsParams
	nexts      map[uuid.UUID]*Exchange // by lane
}

// add takes one lane's settlement, and those of the deliveries that were sent before it and are settled with it.
func (w *settlements) add(one settling, at time.Time) {
	x, s := one.exchange, one.settlement
	var done int64
	for _, before := range x.sent() {
		w.deliver(x, before.delivery, before.settlement)
		done = before.delivery.Version
	}
	w.deliver(x, x.Delivery, s)
	due := s.RetryAt
	if due.IsZero() {
		due = at
	}
	l := &w.lanes
	l.Organisations, l.Links, l.States = append(l.Organisations, int64(x.Organisation)), append(l.Links, x.Lease.Link.UUID), append(l.States, string(s.State))
	l.Dones, l.Versions, l.DueAts = append(l.Dones, done), append(l.Versions, x.Delivery.Version), append(l.DueAts, due)
	l.Systems, l.Keeps, l.LeaseSeconds = append(l.Systems, int64(x.Link.System)), append(l.Keeps, one.keep > 0), max(l.LeaseSeconds, one.keep.Seconds())
	l.Most = together
	if *one.next = (Exchange{}); one.keep > 0 { // a transaction may be run again
		if w.nexts == nil {
			w.nexts = map[uuid.UUID]*Exchange{}
		}
		w.nexts[x.Lease.Link.UUID] = one.next
	}
	if s.State == StateDelivered || s.Ticket != nil || x.Follows() {
		link := x.Link.settled(s)
		link.LastSyncedAt = at
		link.appendTo(&w.links)
	}
}

// deliver takes one delivery's settlement.
func (w *settlements) deliver(x Exchange, which Delivery, s Settlement) {
	o := int64(x.Organisation)
	d := &w.deliveries
	d.Organisations, d.Ids, d.States = append(d.Organisations, o), append(d.Ids, which.ID.UUID), append(d.States, string(s.State))
	d.ErrorKinds, d.Errors, d.Mappings = append(d.ErrorKinds, s.ErrorKind), append(d.Errors, storable(s.Error)), append(d.Mappings, s.Mapping)
	d.Losts = append(d.Losts, s.Lost)
	if s.Copy != "" {
		c := &w.copies
		c.Organisations, c.Links = append(c.Organisations, o), append(c.Links, x.Lease.Link.UUID)
		c.ExternalIds, c.Comments = append(c.ExternalIds, s.Copy), append(c.Comments, which.Comment.UUID)
	}
}

// settled is the link after an exchange.
func (l Link) settled(s Settlement) Link {
	if s.State != StateDelivered && s.Ticket == nil {
		return l
	}
	l.Base, l.Parked, l.Standing = maps.Clone(l.Base), maps.Clone(l.Parked), maps.Clone(l.Standing) // a transaction may be run again
	l.note(s.Ticket, s.RemoteState)
	l.agree(s.Agreed)
	for _, f := range s.Freed {
		delete(l.Parked, f)
	}
	for f, reason := range s.Parked {
		l.park(f, reason)
	}
	l.stand(s)
	return l
}

func (w *settlements) write(ctx context.Context, q db.Querier, at time.Time) error {
	if len(w.deliveries.Ids) == 0 {
		return nil
	}
	w.deliveries.At = at
	if err := q.SettleDeliveries(ctx, w.deliveries); err != nil {
		return fmt.Errorf("writing deliveries: %w", err)
	}
	if len(w.copies.Comments) > 0 {
		if err := q.CopyComments(ctx, w.copies); err != nil {
			return fmt.Errorf("writing the comments' copies: %w", err)
		}
	}
	if len(w.links.Ids) > 0 {
		if err := q.UpdateLinks(ctx, w.links); err != nil {
			return fmt.Errorf("writing links: %w", err)
		}
	}
	asked := time.Now()
	if len(w.nexts) == 0 {
		ctx = postgres.Last(ctx)
	}
	runs, err := q.SettleLanes(ctx, w.lanes)
	if err != nil {
		return fmt.Errorf("giving lanes back: %w", err)
	}
	rows := make([]db.BeginRunsRow, len(runs))
	for n, r := range runs {
		rows[n] = db.BeginRunsRow(r)
	}
	nexts, err := begun(ctx, q, rows, asked)
	for _, x := range nexts {
		*w.nexts[x.Lease.Link.UUID] = x
	}
	return err
}

// storable is text that Postgres takes: a vendor's words may hold what it does not.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// note takes over what a ticket says of itself. The version is not among it: only a reader who has looked at
// everything, the journal included, may say that a version is known.
func (l *Link) note(t *connectors.Ticket, remoteState string) {
	if t == nil {
		return
	}
	l.ExternalID, l.RemoteState, l.Gone = t.ID, remoteState, t.Gone
	if t.Number != "" {
		l.Number = t.Number
	}
	if t.URL != "" {
		l.URL = t.URL
	}
}

// agree lays new agreements over the base; an agreed field no longer waits for anybody.
func (l *Link) agree(agreed map[incident.Field]merge.Base) {
	if l.Base == nil {
		l.Base = Base{}
	}
	for f, b := range agreed {
		l.Base[f] = b
		delete(l.Parked, f)
	}
}

// stand notes how the settlement's fields fare, and which mapping parked them.
func (l *Link) stand(s Settlement) {
	if l.Standing == nil {
		l.Standing = map[incident.Field]merge.Standing{}
	}
	for f, st := range s.Standing {
		merge.Keep(l.Standing, f, st)
	}
	for f := range s.Parked {
		st := l.Standing[f]
		st.Mapping = s.Mapping
		merge.Keep(l.Standing, f, st)
	}
}

func (l *Link) park(f incident.Field, reason string) {
	if l.Parked == nil {
		l.Parked = map[incident.Field]string{}
	}
	l.Parked[f] = reason
}

// appendTo adds the link's row to those that are written together.
func (l Link) appendTo(p *db.UpdateLinksParams) {
	p.Organisations, p.Ids, p.ExternalIds = append(p.Organisations, int64(l.Organisation)), append(p.Ids, l.ID.UUID), append(p.ExternalIds, string(l.ExternalID))
	p.Numbers, p.Urls = append(p.Numbers, storable(l.Number)), append(p.Urls, storable(l.URL))
	p.RemoteVersions, p.RemoteStates = append(p.RemoteVersions, l.RemoteVersion), append(p.RemoteStates, storable(l.RemoteState))
	p.Bases, p.Parkeds, p.Flipses = append(p.Bases, object(l.Base)), append(p.Parkeds, object(l.Parked)), append(p.Flipses, object(l.Standing))
	p.JournalMarks, p.Gones, p.LastSyncedAts = append(p.JournalMarks, string(l.JournalMark)), append(p.Gones, string(l.Gone)), append(p.LastSyncedAts, l.LastSyncedAt)
}

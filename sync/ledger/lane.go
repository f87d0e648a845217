package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger/internal/db"
)

// ErrFenced is returned to a worker whose lease ended before it wrote: somebody else may have taken the lane
// over, so nothing was written.
var ErrFenced = errors.New("the lane's lease has ended")

// ErrBusy says that somebody else is exchanging on the lane.
var ErrBusy = errors.New("the lane is taken")

// Lease is the right to exchange with one link's vendor. Its token fences every write made under it.
type Lease struct {
	Organisation incident.OrganisationID
	Link         incident.LinkID
	Token        int64
}

// Exchange is a delivery whose turn has come, under a lease, with what it speaks of.
type Exchange struct {
	Lease
	Delivery  Delivery
	Asked     time.Time        // when this process asked for the lane: its lease cannot have begun before
	Found     State            // StatePending for a first try; StateUnknown when it may have been sent before
	SentAgo   time.Duration    // when the outcome is unknown: how long ago it was sent at the latest, by the database's clock
	Overtaken []incident.Field // what later updates have as well that may have been sent: this one's value must not be sent any more
	Link      Link
	Incident  incident.Incident
	Comment   incident.Comment // set for SayComment

	run *run
	at  int // its place in the run
}

// run is what was begun together on a lane: deliveries in order, written down as being sent before the first call.
type run struct {
	deliveries []Delivery
	comments   []incident.Comment
	sent       []sent // those before the exchange under way
	marked     bool   // the journal's mark is recorded
	ends       bool   // nothing more goes along
}

// sent is a delivery that was sent and is settled along with a later one of its run.
type sent struct {
	delivery   Delivery
	settlement Settlement
}

// Follows reports whether deliveries before it were sent and are not settled yet. What they came to is not in the ledger: nothing
// that reads the link there may go on from it.
func (x Exchange) Follows() bool { return x.at > 0 }

// sent lists what was sent before it and is not settled yet.
func (x Exchange) sent() []sent {
	if x.at == 0 {
		return nil
	}
	return x.run.sent[:x.at]
}

// Then returns the next exchange of those that were begun together, when this one has gone well and told nobody anything. This
// one's settlement is then written with that of the next; until it is, both may have been sent.
func (x Exchange) Then(s Settlement) (next Exchange, more bool) {
	if s.State != StateDelivered || x.run == nil || x.at+1 >= len(x.run.deliveries) || len(tells(x, s)) > 0 {
		return Exchange{}, false
	}
	next = x
	next.at++
	next.run.sent = slices.Concat(x.sent(), []sent{{x.Delivery, s}})
	next.Delivery, next.Comment = x.run.deliveries[next.at], x.run.comments[next.at]
	next.Delivery.SentAt, next.Link = x.Delivery.SentAt, x.Link.settled(s)
	return next, true
}

// together is how many deliveries of a lane are begun at once at most. All of them are unknown when their worker dies.
const together = 8

// NextExchanges leases the longest due free lanes of a system and marks their next deliveries as being sent, before anybody
// sends them: a worker that dies from here on leaves the truth behind, "may have been sent". It returns the first of each lane;
// see Exchange.Then for the others. Work that lasts longer than the lease renews it.
func (l *Ledger) NextExchanges(ctx context.Context, system incident.SystemID, most int, lease time.Duration) ([]Exchange, error) {
	var out []Exchange
	var asked time.Time // by the process's own clock, which no injected one and no setting of the clock moves
	err := l.system(ctx, func(q db.Querier) error {
		out, asked = nil, time.Now()
		lanes, err := q.LeaseLanes(ctx, db.LeaseLanesParams{SystemID: int64(system), At: l.now(), MaxLanes: int32(most), LeaseSeconds: lease.Seconds()})
		if err != nil {
			return fmt.Errorf("leasing lanes: %w", err)
		}
		if len(lanes) == 0 {
			return nil
		}
		// Statements of their own, because they need a snapshot taken after the lanes' locks were granted: what the
		// last holder settled must be seen.
		p, broken := db.BeginRunsParams{Most: together}, db.WriteOffParams{}
		for _, lane := range lanes {
			p.Organisations, p.Links = append(p.Organisations, lane.OrganisationID), append(p.Links, lane.LinkID)
			if lane.Broken {
				broken.Organisations, broken.Links = append(broken.Organisations, lane.OrganisationID), append(broken.Links, lane.LinkID)
			}
		}
		if len(broken.Links) > 0 {
			if err := q.WriteOff(ctx, broken); err != nil {
				return fmt.Errorf("writing off what a dead worker may have sent: %w", err)
			}
		}
		runs, err := q.BeginRuns(ctx, p)
		if err != nil {
			return fmt.Errorf("reading the lanes' heads: %w", err)
		}
		if err := l.releaseEmpty(ctx, q, lanes, runs); err != nil {
			return err
		}
		out, err = begun(ctx, q, runs, asked)
		return err
	})
	if err != nil {
		return nil, err // without the commit nobody holds the lanes, and a call made for one would leave no trace
	}
	return out, nil
}

// releaseEmpty gives back lanes that were due without a delivery to send.
func (l *Ledger) releaseEmpty(ctx context.Context, q db.Querier, lanes []db.LeaseLanesRow, runs []db.BeginRunsRow) error {
	if len(lanes) == len(runs) {
		return nil
	}
	full := map[uuid.UUID]bool{}
	for _, r := range runs {
		full[r.LinkID] = true
	}
	for _, lane := range lanes {
		if full[lane.LinkID] {
			continue
		}
		if err := q.ReleaseLane(ctx, db.ReleaseLaneParams{OrganisationID: lane.OrganisationID, LinkID: lane.LinkID, LeaseToken: lane.LeaseToken, DueAt: l.now()}); err != nil {
			return fmt.Errorf("releasing a lane: %w", err)
		}
	}
	return nil
}

// begun reads what was begun on lanes and ends the transaction. It returns the first exchange of each.
func begun(ctx context.Context, q db.Querier, runs []db.BeginRunsRow, asked time.Time) ([]Exchange, error) {
	if len(runs) == 0 {
		return nil, nil
	}
	p, of := db.RunDeliveriesParams{Most: together}, map[uuid.UUID]db.BeginRunsRow{}
	for _, r := range runs {
		of[r.LinkID] = r
		p.Organisations, p.Links = append(p.Organisations, r.OrganisationID), append(p.Links, r.LinkID)
		p.Versions, p.Uptos = append(p.Versions, r.Version), append(p.Uptos, r.Upto)
	}
	rows, err := q.RunDeliveries(postgres.Last(ctx), p)
	if err != nil {
		return nil, fmt.Errorf("reading deliveries: %w", err)
	}
	var out []Exchange
	for _, row := range rows {
		if n := len(out); n > 0 && out[n-1].Lease.Link.UUID == row.LinkID {
			err = out[n-1].run.add(row)
		} else {
			var x Exchange
			x, err = exchangeOf(of[row.LinkID], row)
			x.Asked = asked
			out = append(out, x)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// add takes a further delivery along, unless its own outcome or that of one before it is unknown: that one is asked after first.
func (r *run) add(row db.RunDeliveriesRow) error {
	r.ends = r.ends || State(row.State) != StatePending || r.deliveries[0].State != StatePending
	if r.ends {
		return nil
	}
	d, c, err := waiting(row)
	r.deliveries, r.comments = append(r.deliveries, d), append(r.comments, c)
	return err
}

// waiting reads a delivery that was begun, and its comment.
func waiting(r db.RunDeliveriesRow) (Delivery, incident.Comment, error) {
	d, err := deliveryOf(db.DeliveryNow{
		OrganisationID: r.OrganisationID, ID: r.ID, LinkID: r.LinkID, IncidentID: r.IncidentID, Version: r.Version, Kind: r.Kind, Payload: r.Payload,
		CommentID: r.CommentID, State: r.State, Attempts: r.Attempts + 1, JournalMark: r.JournalMark, SentAt: timeOf(r.SentAt), Trace: r.Trace, CreatedAt: r.CreatedAt,
	})
	return d, d.saying(incident.Comment{ID: d.Comment, Visibility: incident.Visibility(r.CommentVisibility), Body: r.CommentBody, Author: r.CommentAuthor}), err
}

func exchangeOf(r db.BeginRunsRow, head db.RunDeliveriesRow) (Exchange, error) {
	d, c, err := waiting(head)
	if err != nil {
		return Exchange{}, err
	}
	link, err := linkOf(r.ExternalLink)
	if err != nil {
		return Exchange{}, err
	}
	x := Exchange{
		Lease:    Lease{Organisation: d.Organisation, Link: d.Link, Token: r.LeaseToken},
		Delivery: d, Found: d.State, SentAgo: time.Duration(head.SentAgo * float64(time.Second)), Link: link, Incident: incidentOf(r.Incident), Comment: c,
		run: &run{deliveries: []Delivery{d}, comments: []incident.Comment{c}},
	}
	if x.Found == StatePending {
		x.Delivery.SentAt = timeOf(r.SendingSince)
	}
	for _, f := range head.Overtaken {
		x.Overtaken = append(x.Overtaken, incident.Field(f))
	}
	return x, nil
}

// Lease takes one link's lane for a reader, or returns ErrBusy.
func (l *Ledger) Lease(ctx context.Context, o incident.OrganisationID, link incident.LinkID, lease time.Duration) (Lease, error) {
	out := Lease{Organisation: o, Link: link}
	err := l.system(ctx, func(q db.Querier) error {
		var err error
		out.Token, err = q.LeaseLink(ctx, db.LeaseLinkParams{OrganisationID: int64(o), LinkID: link.UUID, LeaseSeconds: lease.Seconds()})
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrBusy
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrBusy) {
		return out, fmt.Errorf("leasing a lane: %w", err)
	}
	return out, err
}

// Renew makes a lease last for the given time from now. Under a lease that was lost or given back it returns ErrFenced.
func (l *Ledger) Renew(ctx context.Context, lease Lease, lasts time.Duration) error {
	return l.system(ctx, func(q db.Querier) error {
		n, err := q.RenewLane(ctx, db.RenewLaneParams{OrganisationID: int64(lease.Organisation), LinkID: lease.Link.UUID, LeaseToken: lease.Token, LeaseSeconds: lasts.Seconds()})
		if err != nil {
			return fmt.Errorf("renewing a lease: %w", err)
		}
		if n == 0 {
			return ErrFenced
		}
		return nil
	})
}

// RenewAll makes many leases last for the given time from now, and returns those that were lost or given back.
func (l *Ledger) RenewAll(ctx context.Context, leases []Lease, lasts time.Duration) ([]Lease, error) {
	p := db.RenewLanesParams{LeaseSeconds: lasts.Seconds()}
	for _, lease := range leases {
		p.Organisations, p.Links, p.Tokens = append(p.Organisations, int64(lease.Organisation)), append(p.Links, lease.Link.UUID), append(p.Tokens, lease.Token)
	}
	var tokens []int64
	err := l.system(ctx, func(q db.Querier) (err error) {
		tokens, err = q.RenewLanes(ctx, p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("renewing leases: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(leases), func(lease Lease) bool { return slices.Contains(tokens, lease.Token) }), nil
}

// Release gives a lane back without having settled anything. Releasing twice, or after the lease has ended, does
// nothing.
func (l *Ledger) Release(ctx context.Context, lease Lease) error {
	return l.system(ctx, func(q db.Querier) error {
		_, err := q.LockLane(ctx, db.LockLaneParams{OrganisationID: int64(lease.Organisation), LinkID: lease.Link.UUID, LeaseToken: lease.Token})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		} else if err != nil {
			return fmt.Errorf("locking a lane: %w", err)
		}
		return q.ReleaseLane(ctx, db.ReleaseLaneParams{OrganisationID: int64(lease.Organisation), LinkID: lease.Link.UUID, LeaseToken: lease.Token, DueAt: l.now()})
	})
}

// marking is a journal's mark on its way into the store.
type marking struct {
	lease Lease
	mark  connectors.Mark
}

// NoteMark records the journal's end before a comment is sent, for that one and for those that were begun along with it: what lies
// before the first of them lies before them all.
func (l *Ledger) NoteMark(ctx context.Context, x Exchange, mark connectors.Mark) error {
	if x.run.marked {
		return nil
	}
	err := l.marks.do(ctx, marking{x.Lease, mark})
	x.run.marked = err == nil
	return err
}

func (l *Ledger) noteMany(ctx context.Context, marks []marking) []error {
	var p db.NoteMarksParams
	for _, m := range marks {
		p.Organisations, p.Links = append(p.Organisations, int64(m.lease.Organisation)), append(p.Links, m.lease.Link.UUID)
		p.Marks, p.Tokens = append(p.Marks, string(m.mark)), append(p.Tokens, m.lease.Token)
	}
	noted := map[int64]bool{}
	err := l.system(ctx, func(q db.Querier) error {
		clear(noted)
		tokens, err := q.NoteMarks(postgres.Last(ctx), p)
		for _, token := range tokens {
			noted[token] = true
		}
		return err
	})
	errs := make([]error, len(marks))
	for n, m := range marks {
		switch {
		case err != nil:
			errs[n] = fmt.Errorf("noting the journal's mark: %w", err)
		case !noted[m.lease.Token]:
			errs[n] = ErrFenced
		}
	}
	return errs
}

// FindLinks returns the links that a vendor's hint may mean: by its id of the ticket or, where only that is
// known, by its number.
func (l *Ledger) FindLinks(ctx context.Context, system incident.SystemID, ref connectors.Ref) ([]Link, error) {
	var out []Link
	err := l.system(ctx, func(q db.Querier) error {
		rows, err := q.FindLinksByTicket(ctx, db.FindLinksByTicketParams{SystemID: int64(system), ExternalID: string(ref.ID), Number: ref.Number})
		if err != nil {
			return fmt.Errorf("finding links: %w", err)
		}
		out, err = linksOf(rows)
		return err
	})
	return out, err
}

// FindLinkByCorrelation returns the link that a ticket's correlation id names, or ErrNotFound.
func (l *Ledger) FindLinkByCorrelation(ctx context.Context, system incident.SystemID, correlationID string) (Link, error) {
	id, err := uuid.Parse(correlationID)
	if err != nil {
		return Link{}, ErrNotFound // other systems use the field as well, with words of their own
	}
	var out Link
	err = l.system(ctx, func(q db.Querier) error {
		row, err := q.FindLinkByCorrelation(ctx, db.FindLinkByCorrelationParams{SystemID: int64(system), CorrelationID: id})
		if err != nil {
			return notFound(err)
		}
		out, err = linkOf(row)
		return err
	})
	return out, err
}

// LinksOf returns the followed links of the named tickets.
func (l *Ledger) LinksOf(ctx context.Context, system incident.SystemID, tickets []connectors.ExternalID) ([]Link, error) {
	ids := make([]string, len(tickets))
	for n, t := range tickets {
		ids[n] = string(t)
	}
	var out []Link
	err := l.system(ctx, func(q db.Querier) error {
		rows, err := q.LinksByTickets(ctx, db.LinksByTicketsParams{SystemID: int64(system), ExternalIds: ids})
		if err != nil {
			return fmt.Errorf("finding links: %w", err)
		}
		out, err = linksOf(rows)
		return err
	})
	return out, err
}

func linksOf(rows []db.ExternalLink) ([]Link, error) {
	out := make([]Link, len(rows))
	for n, r := range rows {
		var err error
		if out[n], err = linkOf(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Known returns which of a vendor's journal entries the hub has.
func (l *Ledger) Known(ctx context.Context, lease Lease, entries []string) (map[string]bool, error) {
	known := map[string]bool{}
	err := l.system(ctx, func(q db.Querier) error {
		ids, err := q.KnownCopies(ctx, db.KnownCopiesParams{OrganisationID: int64(lease.Organisation), LinkID: lease.Link.UUID, ExternalIds: entries})
		for _, id := range ids {
			known[id] = true
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading known comments: %w", err)
	}
	return known, nil
}

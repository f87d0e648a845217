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
	Delivery Delivery
	Asked    time.Time     // when this process asked for the lane: its lease cannot have begun before
	Found    State         // StatePending for a first try; otherwise the outcome of an earlier one is unknown
	SentAgo  time.Duration // when the outcome is unknown: how long ago it was sent at the latest, by the database's clock
	Link     Link
	Incident incident.Incident
	Comment  incident.Comment // set for SayComment
}

// NextExchanges leases the longest due free lanes of a system and marks their heads as being sent, before
// anybody sends them: a worker that dies from here on leaves the truth behind, "may have been sent". Work that lasts
// longer than the lease renews it.
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
		// A statement of its own, because it needs a snapshot taken after the lanes' locks were granted: what the
		// last holder settled must be seen.
		p := db.BeginHeadsParams{}
		for _, lane := range lanes {
			p.Organisations, p.Links = append(p.Organisations, lane.OrganisationID), append(p.Links, lane.LinkID)
		}
		heads, err := q.BeginHeads(ctx, p)
		if err != nil {
			return fmt.Errorf("reading the lanes' heads: %w", err)
		}
		if out, err = exchangesOf(heads, asked); err != nil {
			return err
		}
		return l.releaseEmpty(ctx, q, lanes, heads)
	})
	if err != nil {
		return nil, err // without the commit nobody holds the lanes, and a call made for one would leave no trace
	}
	return out, nil
}

// releaseEmpty gives back lanes that were due without a delivery to send.
func (l *Ledger) releaseEmpty(ctx context.Context, q db.Querier, lanes []db.LeaseLanesRow, heads []db.BeginHeadsRow) error {
	if len(lanes) == len(heads) {
		return nil
	}
	full := map[uuid.UUID]bool{}
	for _, h := range heads {
		full[h.LinkID] = true
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

func exchangesOf(heads []db.BeginHeadsRow, asked time.Time) ([]Exchange, error) {
	out := make([]Exchange, len(heads))
	for n, h := range heads {
		var err error
		if out[n], err = exchangeOf(h); err != nil {
			return nil, err
		}
		out[n].Asked = asked
	}
	return out, nil
}

func exchangeOf(h db.BeginHeadsRow) (Exchange, error) {
	d, err := deliveryOf(db.DeliveryNow{
		OrganisationID: h.OrganisationID, ID: h.ID, LinkID: h.LinkID, IncidentID: h.IncidentID, Version: h.Version, Kind: h.Kind, Payload: h.Payload,
		CommentID: h.CommentID, State: h.Found, Attempts: h.Attempts + 1, JournalMark: h.JournalMark, SentAt: timeOf(h.SendingSince), Trace: h.Trace, CreatedAt: h.CreatedAt,
	})
	if err != nil {
		return Exchange{}, err
	}
	link, err := linkOf(h.ExternalLink)
	if err != nil {
		return Exchange{}, err
	}
	return Exchange{
		Lease:    Lease{Organisation: d.Organisation, Link: d.Link, Token: h.LeaseToken},
		Delivery: d, Found: State(h.Found), SentAgo: time.Duration(h.SentAgo * float64(time.Second)), Link: link, Incident: incidentOf(h.Incident),
		Comment: d.saying(incident.Comment{ID: d.Comment, Visibility: incident.Visibility(h.CommentVisibility), Body: h.CommentBody, Author: h.CommentAuthor}),
	}, nil
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
	exchange Exchange
	mark     connectors.Mark
}

// NoteMark records the journal's end before a comment is sent.
func (l *Ledger) NoteMark(ctx context.Context, x Exchange, mark connectors.Mark) error {
	return l.marks.do(ctx, marking{x, mark})
}

func (l *Ledger) noteMany(ctx context.Context, marks []marking) []error {
	var p db.NoteMarksParams
	for _, m := range marks {
		p.Organisations, p.Ids = append(p.Organisations, int64(m.exchange.Organisation)), append(p.Ids, m.exchange.Delivery.ID.UUID)
		p.Marks, p.Tokens = append(p.Marks, string(m.mark)), append(p.Tokens, m.exchange.Token)
	}
	noted := map[uuid.UUID]bool{}
	err := l.system(ctx, func(q db.Querier) error {
		clear(noted)
		ids, err := q.NoteMarks(postgres.Last(ctx), p)
		for _, id := range ids {
			noted[id] = true
		}
		return err
	})
	errs := make([]error, len(marks))
	for n, m := range marks {
		switch {
		case err != nil:
			errs[n] = fmt.Errorf("noting the journal's mark: %w", err)
		case !noted[m.exchange.Delivery.ID.UUID]:
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

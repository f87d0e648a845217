// Package pull reads a vendor's ticket, weighs what it says against what the hub holds, and lays the outcome
// into the ledger.
//
// It works under a lane's lease, so that no write of ours is under way while it reads: what it sees is never
// older than what the hub has sent. Pulling twice in a row changes nothing the second time. It keeps no state; a
// crash between the read and the ledger's transaction only means that the ticket is read again.
package pull

import (
	"context"
	"errors"
	"fmt"
	"time"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/merge"
	"liaison/sync/system"
)

// Pull brings the hub up to date with one link's ticket.
func Pull(ctx context.Context, l *ledger.Ledger, s *system.System, lease ledger.Lease, link ledger.Link) (ledger.Taken, error) {
	ticket, err := s.Connector.Read(ctx, link.ExternalID, s.Mapping.VendorFields())
	if connectors.KindOf(err) == connectors.NotFound {
		return ledger.Taken{}, errors.Join(err, unseen(ctx, l, s, lease))
	} else if err != nil {
		return ledger.Taken{}, err
	}
	var journal []connectors.JournalEntry
	var mark connectors.Mark
	if ticket.Gone == connectors.Present {
		if journal, mark, err = s.Connector.Journal(ctx, link.ExternalID, link.JournalMark); err != nil {
			return ledger.Taken{}, err
		}
	}
	ids := make([]string, len(journal))
	for n, e := range journal {
		ids[n] = e.ID
	}
	taken, err := l.Take(ctx, lease, ids, func(now ledger.Situation) (ledger.Arrival, error) {
		return weigh(s, now, ticket, journal, mark)
	})
	if err != nil {
		return taken, fmt.Errorf("pulling ticket %s of %s: %w", link.ExternalID, s.Key, err)
	}
	return taken, nil
}

// Reweigh reads again every followed ticket of which fields were parked by another version of the mapping, so that what an
// edited mapping knows flows although the ticket has not changed since. It returns how many it read. A ticket that cannot be
// read now is left to its next change, and so is one with which somebody else is exchanging.
func Reweigh(ctx context.Context, l *ledger.Ledger, s *system.System) (int, error) {
	read := 0
	var last ledger.Link
	for {
		links, err := l.LinksToReweigh(ctx, s.ID, s.Mapping.Version(), last)
		if err != nil || len(links) == 0 {
			return read, err
		}
		for _, link := range links {
			if err := reread(ctx, l, s, link); err == nil {
				read++
			} else if ctx.Err() != nil {
				return read, ctx.Err()
			}
		}
		last = links[len(links)-1]
	}
}

func reread(ctx context.Context, l *ledger.Ledger, s *system.System, link ledger.Link) error {
	lease, err := l.Lease(ctx, link.Organisation, link.ID, system.Lease)
	if err != nil {
		return err
	}
	held, let := system.Hold(ctx, func(ctx context.Context, lasts time.Duration) error { return l.Renew(ctx, lease, lasts) })
	defer let()
	_, err = Pull(held, l, s, lease, link)
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, l.Release(release, lease))
}

// Hidden is what people read as the state of a ticket that the vendor does not show, be it deleted without a trace or hidden
// from the account that reads it.
const Hidden = "not visible"

// unseen notes that the vendor does not show the ticket. Nothing else is known of it: it stays linked, and is never opened anew.
func unseen(ctx context.Context, l *ledger.Ledger, s *system.System, lease ledger.Lease) error {
	_, err := l.Take(ctx, lease, nil, func(now ledger.Situation) (ledger.Arrival, error) {
		return ledger.Arrival{
			Actor: s.Actor(), Ticket: connectors.Ticket{ID: now.Link.ExternalID, Gone: now.Link.Gone}, RemoteState: Hidden,
			Mapping: s.Mapping.Version(), Unseen: true,
		}, nil
	})
	return err
}

// weigh decides what a ticket as it was read means for the hub as it stands now.
func weigh(s *system.System, now ledger.Situation, ticket connectors.Ticket, journal []connectors.JournalEntry, mark connectors.Mark) (ledger.Arrival, error) {
	a := ledger.Arrival{Actor: s.Actor(), Ticket: ticket, RemoteState: now.Link.RemoteState, Mapping: s.Mapping.Version()}
	if ticket.Gone != connectors.Present {
		return a, nil
	}
	var failed error
	reading := s.Mapping.Read(ticket.Fields)
	a.RemoteState = reading.State
	a.Outcome = merge.Merge(merge.Input{
		Base: now.Link.Base, Sent: sent(s, now), Hub: now.Incident.Values(), Remote: reading, ParkedNow: now.Link.Parked,
		Pending: now.Pending, Ruling: s.Mapping.Ruling, Standing: now.Link.Standing, Undecided: now.Undecided,
		Back: now.Link.Gone != connectors.Present, RemoteAt: ticket.UpdatedAt, Now: now.Now, Bounce: s.Mapping.Bounce(), Mapping: s.Mapping.Version(),
		SetAt: func(f incident.Field) time.Time {
			when, err := now.SetAt(f)
			failed = errors.Join(failed, err)
			return when
		},
		Writable: func(f incident.Field) bool {
			all := now.Incident.Values()
			_, words := s.Mapping.Write(incident.Values{f: all[f]}, all).Words[f]
			return words
		},
		Accepts: func(f incident.Field, value string) error {
			_, refused := now.Incident.Take(incident.Values{f: value}, ticket.UpdatedAt)
			return refused[f]
		},
	})
	if failed != nil {
		return a, fmt.Errorf("looking up when a field was set: %w", failed)
	}
	a.Messages, a.Mark = fresh(now, journal, mark)
	return a, nil
}

// sent is what each update that was begun and never settled will have left at the vendor, if it arrived.
func sent(s *system.System, now ledger.Situation) []map[incident.Field]merge.Base {
	var out []map[incident.Field]merge.Base
	for _, d := range now.Open {
		if d.Kind != ledger.UpdateTicket || d.State != ledger.StateSending && d.State != ledger.StateUnknown {
			continue
		}
		out = append(out, s.Sent(now.Incident, d.Values))
	}
	return out
}

// fresh picks the messages that the hub does not have. One that may be a comment of ours whose answer was lost is
// left alone until the lane has settled that, and the mark stays before it so that it is seen again.
func fresh(now ledger.Situation, journal []connectors.JournalEntry, mark connectors.Mark) ([]connectors.JournalEntry, connectors.Mark) {
	var out []connectors.JournalEntry
	for _, e := range journal {
		switch {
		case now.Known[e.ID]:
		case ours(now, e):
			mark = ""
		default:
			out = append(out, e)
		}
	}
	return out, mark
}

func ours(now ledger.Situation, e connectors.JournalEntry) bool {
	for _, d := range now.Open {
		if d.Kind == ledger.SayComment && d.Marked && system.Wrote(e, d.Message) {
			return true
		}
	}
	return false
}

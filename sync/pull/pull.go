// Package pull reads a vendor's ticket, weighs what it says against what the hub holds, and lays the outcome
// into the ledger.
//
// It works under a lane's lease, so that no write of ours is under way while it reads: what it sees is never
// older than what the hub has sent. Pulling twice in a row changes nothing the second time. It keeps no state; a
// crash between the read and the ledger's transaction only means that the ticket is read again.
package pull

import (
	"context"
	"fmt"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/merge"
	"liaison/sync/system"
)

// Pull brings the hub up to date with one link's ticket.
func Pull(ctx context.Context, l *ledger.Ledger, s *system.System, lease ledger.Lease, link ledger.Link) (ledger.Taken, error) {
	ticket, err := s.Connector.Read(ctx, link.ExternalID, s.Mapping.VendorFields())
	if err != nil {
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
		return weigh(s, now, ticket, journal, mark), nil
	})
	if err != nil {
		return taken, fmt.Errorf("pulling ticket %s of %s: %w", link.ExternalID, s.Key, err)
	}
	return taken, nil
}

// weigh decides what a ticket as it was read means for the hub as it stands now.
func weigh(s *system.System, now ledger.Situation, ticket connectors.Ticket, journal []connectors.JournalEntry, mark connectors.Mark) ledger.Arrival {
	a := ledger.Arrival{Actor: s.Actor(), Ticket: ticket, RemoteState: now.Link.RemoteState}
	if ticket.Gone != connectors.Present {
		return a
	}
	reading := s.Mapping.Read(ticket.Fields)
	a.RemoteState = reading.State
	a.Outcome = merge.Merge(merge.Input{
		Base: now.Link.Base, Hub: now.Incident.Values(), Remote: reading, ParkedNow: now.Link.Parked,
		Pending: now.Pending, Owner: s.Mapping.Owner,
		Accepts: func(f incident.Field, value string) error {
			_, refused := now.Incident.Take(incident.Values{f: value}, ticket.UpdatedAt)
			return refused[f]
		},
	})
	a.Messages, a.Mark = fresh(now, journal, mark)
	return a
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

package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
	"liaison/sync/merge"
)

// Settlement is how an exchange ended.
type Settlement struct {
	State     State     // StateDelivered, StatePending (again at RetryAt), StateUnknown (look again at RetryAt) or StateDead
	RetryAt   time.Time // when the lane's next turn is; zero means at once
	ErrorKind string    // of a failure, in a word
	Error     string    // for people, without secrets

	Actor       Actor              // the system, author of the entries that this makes
	Ticket      *connectors.Ticket // the ticket as it stands now, nil when it was not read
	RemoteState string             // its state in the vendor's words for people, with Ticket
	Agreed      map[incident.Field]merge.Base
	Parked      map[incident.Field]string // fields that now wait for a person
	Copy        string                    // the vendor's id of the comment that was delivered
	Duplicates  []connectors.ExternalID   // further tickets found under the same correlation id
}

// Settle writes how an exchange ended and gives the lane back. Under a lease that was lost nothing is written
// and ErrFenced returned.
func (l *Ledger) Settle(ctx context.Context, x Exchange, s Settlement) error {
	var entries int
	err := l.system(ctx, func(q *db.Queries) error {
		entries = 0
		tells := l.tells(x, s)
		var now incident.Incident
		if len(tells) > 0 { // the incident's lock comes before the lane's, everywhere
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
		for _, c := range tells {
			c.actor, c.about, c.before, c.after = s.Actor, x.Lease.Link, now, now
			var err error
			if now, _, err = l.write(ctx, q, c, at); err != nil {
				return err
			}
			entries++
		}
		return l.settle(ctx, q, x, s, at)
	})
	if err != nil {
		return fmt.Errorf("settling delivery %s: %w", x.Delivery.ID, err)
	}
	if entries > 0 {
		l.bell.Ring(TopicEntries)
	}
	l.bell.Ring(TopicLanes)
	return nil
}

func fence(ctx context.Context, q *db.Queries, lease Lease) error {
	_, err := q.LockLane(ctx, db.LockLaneParams{OrganisationID: int64(lease.Organisation), LinkID: lease.Link.UUID, LeaseToken: lease.Token})
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrFenced
	}
	return err
}

// tells lists what people should hear of the settlement. A plain delivery is no news.
func (l *Ledger) tells(x Exchange, s Settlement) []change {
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
	for _, f := range slices.Sorted(maps.Keys(s.Parked)) {
		if x.Link.Parked[f] != s.Parked[f] {
			out = append(out, parked(f, s.Parked[f]))
		}
	}
	if s.State == StateDead {
		out = append(out, change{
			kind: DeliveryFailed, visibility: incident.Internal,
			detail: map[string]any{"delivery": x.Delivery.ID, "kind": x.Delivery.Kind, "errorKind": s.ErrorKind, "error": s.Error},
		})
	}
	return out
}

func parked(f incident.Field, reason string) change {
	return change{kind: FieldParked, visibility: incident.Internal, detail: map[string]any{"field": f, "reason": reason}}
}

func (l *Ledger) settle(ctx context.Context, q *db.Queries, x Exchange, s Settlement, at time.Time) error {
	p := db.SettleDeliveryParams{OrganisationID: int64(x.Organisation), ID: x.Delivery.ID.UUID, State: string(s.State), ErrorKind: s.ErrorKind, Error: s.Error}
	if s.State == StateDelivered {
		p.SettledAt = &at
	}
	if err := q.SettleDelivery(ctx, p); err != nil {
		return fmt.Errorf("writing the delivery: %w", err)
	}
	if s.Copy != "" {
		err := q.CopyComment(ctx, db.CopyCommentParams{OrganisationID: int64(x.Organisation), LinkID: x.Lease.Link.UUID, ExternalID: s.Copy, CommentID: x.Delivery.Comment.UUID})
		if err != nil {
			return fmt.Errorf("writing the comment's copy: %w", err)
		}
	}
	if s.State == StateDelivered || s.Ticket != nil {
		link := x.Link
		link.LastSyncedAt = at
		link.note(s.Ticket, s.RemoteState)
		link.agree(s.Agreed)
		for f, reason := range s.Parked {
			link.park(f, reason)
		}
		if err := q.UpdateLink(ctx, link.params()); err != nil {
			return fmt.Errorf("writing the link: %w", err)
		}
	}
	due := s.RetryAt
	if due.IsZero() {
		due = at
	}
	return q.ReleaseLane(ctx, db.ReleaseLaneParams{
		OrganisationID: int64(x.Organisation), LinkID: x.Lease.Link.UUID, LeaseToken: x.Token,
		Held: s.State == StateDead, DueAt: due,
	})
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

func (l *Link) park(f incident.Field, reason string) {
	if l.Parked == nil {
		l.Parked = map[incident.Field]string{}
	}
	l.Parked[f] = reason
}

func (l Link) params() db.UpdateLinkParams {
	p := db.UpdateLinkParams{
		OrganisationID: int64(l.Organisation), ID: l.ID.UUID, Number: l.Number, Url: l.URL, RemoteVersion: l.RemoteVersion,
		RemoteState: l.RemoteState, Base: object(l.Base), Parked: object(l.Parked), JournalMark: string(l.JournalMark), Gone: string(l.Gone), LastSyncedAt: timePtr(l.LastSyncedAt),
	}
	if l.ExternalID != "" {
		id := string(l.ExternalID)
		p.ExternalID = &id
	}
	return p
}

package ledger

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

// InboxState is what became of something that came in.
type InboxState string

// The states of a row of the inbox.
const (
	InboxWaiting   InboxState = "WAITING"   // waits to be acted upon
	InboxDone      InboxState = "DONE"      // the ticket was read
	InboxIgnored   InboxState = "IGNORED"   // about nothing that concerns the hub
	InboxParked    InboxState = "PARKED"    // not understood, or failed too often: a person replays it
	InboxDuplicate InboxState = "DUPLICATE" // the same came before
)

// InboxStates lists every state of a row of the inbox.
func InboxStates() []InboxState {
	return []InboxState{InboxWaiting, InboxDone, InboxIgnored, InboxParked, InboxDuplicate}
}

// InboxSource is in which way something came in.
type InboxSource string

// The sources.
const (
	FromHook      InboxSource = "WEBHOOK"   // the vendor called
	FromPoll      InboxSource = "POLL"      // a poll found that the ticket had changed
	FromReplay    InboxSource = "REPLAY"    // a person had it acted upon again
	FromReconcile InboxSource = "RECONCILE" // a comparison found a difference
)

// InboxSources lists every source.
func InboxSources() []InboxSource {
	return []InboxSource{FromHook, FromPoll, FromReplay, FromReconcile}
}

// InboxRow is a vendor's call, or a poll's finding, about one ticket.
type InboxRow struct {
	ID           uuid.UUID
	System       incident.SystemID
	Source       InboxSource
	State        InboxState
	Reason       string
	CallID       string    // the vendor's own id of the call
	DuplicateOf  uuid.UUID // zero when it repeats none
	Organisation incident.OrganisationID
	Link         incident.LinkID // zero while unknown
	ExternalID   string
	Number       string
	Body         []byte
	ContentType  string
	Entries      int
	Attempts     int
	ReceivedAt   time.Time
	DueAt        time.Time
	SettledAt    time.Time // zero until it is done with
	Trace        string    // traceparent
}

// Place is where the row stands in lists.
func (r InboxRow) Place() Place { return Place{At: r.ReceivedAt, ID: r.ID} }

// InboxFilter says which rows of the inbox. The zero value of each part asks nothing, except that Systems names where to look:
// none finds none.
type InboxFilter struct {
	Systems []incident.SystemID
	States  []InboxState
	Sources []InboxSource
	Link    incident.LinkID
	Ticket  string // its number, or its id at the vendor
}

// Inbox asks for a page of the inbox. Row-level security shows it to staff alone: what is about their organisations, and
// what no link explains from their desk's systems.
func Inbox(f InboxFilter, page Page[Place], answer *[]InboxRow) Question {
	above, below := bounds(page)
	p := db.InboxNewestParams{
		BelowAt: below.At, BelowID: below.ID, AboveAt: above.At, AboveID: above.ID, Systems: numbers(f.Systems), States: texts(f.States), Sources: texts(f.Sources),
		Link: nullUUID(f.Link.UUID), Ticket: f.Ticket, MaxRows: int32(page.Rows),
	}
	ask := (*db.Queries).InboxNewest
	if page.Oldest {
		ask = func(q *db.Queries, ctx context.Context, p db.InboxNewestParams) ([]db.InboxNewestRow, error) {
			rows, err := q.InboxOldest(ctx, db.InboxOldestParams(p))
			out := make([]db.InboxNewestRow, len(rows))
			for n, r := range rows {
				out[n] = db.InboxNewestRow(r)
			}
			return out, err
		}
	}
	return many(ask, p, inboxOf, func(found []InboxRow) { *answer = found })
}

// InboxByID asks for rows of the inbox by id, in no particular order.
func InboxByID(ids []uuid.UUID, answer *[]InboxRow) Question {
	each := func(r db.InboxByIDRow) (InboxRow, error) { return inboxOf(db.InboxNewestRow(r)) }
	return many((*db.Queries).InboxByID, slices.Clone(ids), each, func(found []InboxRow) { *answer = found })
}

func inboxOf(r db.InboxNewestRow) (InboxRow, error) {
	out := InboxRow{
		ID: r.ID, System: incident.SystemID(r.SystemID), Source: InboxSource(r.Source), State: InboxState(r.State), Reason: r.Reason, CallID: r.CallID,
		DuplicateOf: r.DuplicateOf.UUID, Link: incident.LinkID{UUID: r.LinkID.UUID}, ExternalID: r.ExternalID, Number: r.Number, Body: r.Body,
		ContentType: r.ContentType, Entries: int(r.Entries), Attempts: int(r.Attempts), ReceivedAt: r.ReceivedAt.UTC(), DueAt: r.DueAt.UTC(),
		SettledAt: timeOf(r.SettledAt), Trace: r.Trace,
	}
	if r.OrganisationID != nil {
		out.Organisation = incident.OrganisationID(*r.OrganisationID)
	}
	return out, nil
}

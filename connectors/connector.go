package connectors

import (
	"context"
	"net/http"
	"time"
)

// ExternalID is the vendor's own stable id of a ticket, such as a ServiceNow sys_id. It is not the number
// that people read out over the telephone.
type ExternalID string

// Fields holds a ticket's values in the vendor's words, by the vendor's field names. Nested names are dotted,
// such as "CustomFields.Severity". Everything is text, because that is what vendors' words are. An absent key
// means "not read" (or "leave alone" when writing); an empty value means that the field is empty.
type Fields map[string]string

// Ticket is a vendor's ticket as it was read.
type Ticket struct {
	ID            ExternalID
	Number        string    // as people say it: INC0010023, or the id again where the vendor has no other
	URL           string    // where a person opens it; empty when there is no such page
	Version       string    // changes whenever the ticket changes; opaque. Empty when the vendor has nothing of the kind
	CorrelationID string    // what Create was given, empty for tickets that others opened
	UpdatedAt     time.Time // by the vendor's clock
	Fields        Fields
	Gone          Gone       // set when the ticket can no longer be followed under this id
	SuccessorID   ExternalID // the ticket to follow instead, set when Gone is Merged
}

// Gone says why a ticket can no longer be followed under its id.
type Gone string

// The ways in which a ticket goes.
const (
	Present Gone = ""
	Deleted Gone = "DELETED"
	Merged  Gone = "MERGED"
)

// Draft is a ticket to be opened.
type Draft struct {
	// CorrelationID is stored in the vendor's own field for it, so that the ticket can be found by
	// FindByCorrelation after an answer was lost. It is a UUID: no vendor's query language needs it escaped.
	CorrelationID string
	Fields        Fields
}

// Visibility says who may read a message in the vendor's system.
type Visibility string

// The visibilities, as in the hub.
const (
	Public   Visibility = "PUBLIC"   // the customer sees it
	Internal Visibility = "INTERNAL" // the vendor's staff only: a work note
)

// Message is a comment or a work note to be written to a ticket.
type Message struct {
	// Key names the message for vendors that can store a sender's id with it; others ignore it.
	Key        string
	Visibility Visibility
	Body       string
}

// JournalEntry is one message of a ticket as the vendor holds it.
type JournalEntry struct {
	ID         string // the vendor's stable id of the entry
	Key        string // the sender's id, where the vendor stores one
	Visibility Visibility
	Body       string // plain text
	Author     string // as the vendor shows the author
	Own        bool   // written under the connector's own account: by us, or by automation that uses it
	At         time.Time
}

// Mark is a place in a ticket's journal: everything that stood there when the mark was taken is at or before
// it. It is opaque outside the connector. The empty mark lies before the first entry.
type Mark string

// Cursor is a place in a vendor's stream of changes. It is opaque outside the connector. The empty cursor
// means "from now on".
type Cursor string

// Ref names a ticket that may have changed. It is a hint: the ticket is always read before anything is believed.
type Ref struct {
	ID      ExternalID // may be empty when only Number is known
	Number  string
	Version string // the version that the hint speaks of, where known; lets a poll skip what is known already

	// CorrelationID is what the ticket carries, where the vendor's list shows it. With it a poll notices a ticket of ours that
	// nobody follows: one that was opened twice, or whose creation is just being settled.
	CorrelationID string
	// Opened tells, where the list does not show that id, that the ticket was opened under the connector's own account
	// within what the reference speaks of.
	Opened bool
}

// Page is a part of the stream of changes.
type Page struct {
	Refs []Ref
	Next Cursor // give it to the next call, also when Refs is empty
	More bool   // more is waiting right now
}

// Hook is a webhook call as it arrived. The hub has checked its secret already.
type Hook struct {
	Header http.Header
	Body   []byte
}

// Connector is what every vendor's connector does. All errors are *Error.
//
// Writes must tell the truth about their outcome: an error of kind Unknown says that the vendor may have
// done it, every other kind says that it has not.
type Connector interface {
	// Traits says what this vendor can do. The value is fixed for the connector's life.
	Traits() Traits

	// Check makes the cheapest authenticated call there is.
	Check(ctx context.Context) error

	// Create opens a ticket. It does not look for an earlier one with the same correlation id: the lane does.
	Create(ctx context.Context, d Draft) (Ticket, error)

	// FindByCorrelation returns every ticket that carries the correlation id, oldest first, and none that does not:
	// the value is compared again in the answer. Nothing found is no error.
	FindByCorrelation(ctx context.Context, correlationID string) ([]Ticket, error)

	// Read returns the ticket with the named fields and everything else that Ticket holds. A deleted ticket is no
	// error when the vendor lets it be told apart from one that is hidden; otherwise the kind is NotFound.
	Read(ctx context.Context, id ExternalID, fields []string) (Ticket, error)

	// Update writes the fields and returns the ticket as it stands afterwards with at least the fields that were
	// written. What the vendor ignored, cut or overruled shows in the answer, not in the error.
	Update(ctx context.Context, id ExternalID, f Fields) (Ticket, error)

	// Mark returns the journal's present end.
	Mark(ctx context.Context, id ExternalID) (Mark, error)

	// Say writes one message and returns its entry with at least the vendor's id of it. mark is a mark taken before
	// this call, for vendors whose answer does not name the entry, so that they can look for it beyond the mark.
	Say(ctx context.Context, id ExternalID, m Message, mark Mark) (JournalEntry, error)

	// Journal returns the messages beyond the mark, oldest first, and the mark that lies behind them. Entries at
	// the mark itself may come again where the vendor's stamps are coarse; the caller knows them by id.
	Journal(ctx context.Context, id ExternalID, after Mark) ([]JournalEntry, Mark, error)

	// Changes returns tickets that changed beyond the cursor, oldest change first. A ticket may come again; none
	// is ever skipped, whatever the vendor's stamps, paging and late commits do.
	Changes(ctx context.Context, after Cursor) (Page, error)
}

// HookReader is fulfilled by connectors whose vendor calls out.
type HookReader interface {
	// ReadHook understands a webhook's body. A body that makes no sense is an error of kind Rejected.
	ReadHook(h Hook) ([]Ref, error)
}

// Traits says what a vendor can do and how long it may take over it.
type Traits struct {
	// SettleWindow is how long after a lost answer a write can still turn up: the vendor's longest transaction
	// plus the lag of its search. A create is never sent again before it has passed.
	SettleWindow time.Duration
	// MessageKeys tells that Message.Key is stored and comes back in JournalEntry.Key.
	MessageKeys bool
	// Hooks tells that the vendor can call out; polling then only catches what the calls missed.
	Hooks bool
}

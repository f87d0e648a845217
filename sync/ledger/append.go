package ledger

import (
	"errors"

	"liaison/internal/auth"
	"liaison/internal/incident"
)

// ErrNotFound is returned for what does not exist and for what the viewer may not know of, alike.
var ErrNotFound = errors.New("not found")

// VersionConflict says that the incident has moved on since the caller read it.
type VersionConflict struct{ Expected, Actual int64 }

// KeyReused says that an idempotency key was used before with a different input.
type KeyReused struct{ Key string }

// SystemUnknown says that no such system may be used for the incident.
type SystemUnknown struct {
	System string
	Known  []string // the systems that may be
}

// Key makes a repeated call answer the first result. The zero Key means that the client gave none.
type Key struct {
	Value  string
	Digest [32]byte // of the operation and everything else in its input
}

// Append is one change to one incident, made by a signed-in person.
type Append struct {
	Viewer          auth.Viewer
	Actor           Actor
	Incident        incident.ID
	ExpectedVersion int64 // 0: whatever the version is
	Key             Key
	// Decide looks at the locked incident and says what becomes of it. It may be called again when Postgres asks
	// for the transaction to be repeated, so it must have no other effect. Its error refuses the change.
	Decide func(*Draft) error
}

// Draft is a change while it is decided.
type Draft struct {
	Before  incident.Incident
	After   incident.Incident // starts as Before
	Comment *incident.Comment // set it to add a comment
}

// Escalate asks for a link and a ticket in a vendor's system.
type Escalate struct {
	Viewer          auth.Viewer
	Actor           Actor
	Incident        incident.ID
	ExpectedVersion int64
	Key             Key
	System          string // the system's key
	Note            string // an internal note for the vendor, sent after the ticket is open
}

// Done is what a change made.
type Done struct {
	Incident incident.Incident
	Comment  incident.Comment // set when the change added one
	Link     Link             // set when the change made or found one
	Changed  bool             // false when nothing differed, or when an idempotency key was repeated
}

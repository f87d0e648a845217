package connectors

import (
	"context"
	"errors"
)

// ErrNotOurs is what a connector wraps in a Rejected when it cannot be certain that the hub's own account opened a ticket:
// another login did, or one side does not tell its login.
var ErrNotOurs = errors.New("the ticket is not known to have been opened by Liaison's account")

// DuplicateCloser is fulfilled by connectors that can close a ticket which stands beside another for the same trouble.
// It is for tickets of our own that a lost race or an expired lease has opened twice.
type DuplicateCloser interface {
	// CloseDuplicate closes ticket id as a duplicate of ticket of, with an internal message that names of, and says so
	// to the vendor's people in the way that the vendor has for it. Closing a ticket that is closed, deleted or merged
	// already is no error and writes nothing. The ticket that stays is not touched.
	//
	// A ticket that somebody else opened is never closed, whatever it carries: a person's copy has its correlation id too.
	// Whoever cannot be certain refuses with ErrNotOurs and the reason.
	CloseDuplicate(ctx context.Context, id, of ExternalID) error
}

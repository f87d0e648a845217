package connectors

import "context"

// DuplicateCloser is fulfilled by connectors that can close a ticket which stands beside another for the same trouble.
// It is for tickets of our own that a lost race or an expired lease has opened twice.
type DuplicateCloser interface {
	// CloseDuplicate closes ticket id as a duplicate of ticket of, with an internal message that names of, and says so
	// to the vendor's people in the way that the vendor has for it. Closing a ticket that is closed, deleted or merged
	// already is no error and writes nothing. The ticket that stays is not touched.
	CloseDuplicate(ctx context.Context, id, of ExternalID) error
}

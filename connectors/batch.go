package connectors

import "context"

// BatchReader is fulfilled by connectors that can read many tickets with one call.
type BatchReader interface {
	// ReadMany returns those of the tickets that the vendor shows, as Read would, in any order, and none that was not asked
	// for. One that is missing from the answer is deleted, merged or hidden: Read tells.
	ReadMany(ctx context.Context, ids []ExternalID, fields []string) ([]Ticket, error)

	// MostAtOnce is how many tickets one ReadMany may name.
	MostAtOnce() int
}

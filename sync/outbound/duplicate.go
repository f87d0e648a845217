package outbound

import (
	"context"
	"errors"

	"liaison/connectors"
	"liaison/sync/explain"
	"liaison/sync/ledger"
)

// closeDuplicate closes a ticket that stands beside the one that is followed. Closing it again does no harm, so an unknown
// outcome needs no search. What cannot be closed, or was not certainly opened by Liaison itself, is told and left to a
// person: the lane of the followed ticket does not wait for it.
func (w *Worker) closeDuplicate(ctx context.Context, x ledger.Exchange) ledger.Settlement {
	further := x.Delivery.Duplicate()
	closer, can := w.system.Connector.(connectors.DuplicateCloser)
	switch {
	case further == "" || further == x.Link.ExternalID:
		return left("internal", "the delivery names no ticket beside the one that is followed")
	case !can:
		return left("unsupported", w.system.Name+" has no way to close a duplicate from here; a person closes ticket "+string(further)+" there")
	}
	err := closer.CloseDuplicate(ctx, further, x.Link.ExternalID)
	if err == nil {
		return ledger.Settlement{State: ledger.StateDelivered, Closed: further}
	}
	if errors.Is(err, connectors.ErrNotOurs) {
		return left(explain.NotOurs, "ticket "+string(further)+" is left as it is: "+connectors.WordsOf(err))
	}
	if kind := connectors.KindOf(err); kind == connectors.Rejected || kind == connectors.NotFound {
		return left(kind.String(), "the duplicate "+string(further)+" could not be closed; a person closes it there: "+connectors.WordsOf(err))
	}
	return w.failed(ctx, x, err)
}

// left is the end of a delivery that the vendor need not have.
func left(kind, text string) ledger.Settlement {
	return ledger.Settlement{State: ledger.StateSkipped, ErrorKind: kind, Error: text}
}

package outbound

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/mapping"
	"liaison/sync/merge"
	"liaison/sync/pull"
	"liaison/sync/system"
)

// exchange says to the vendor what the delivery has to say, or finds out what became of an earlier try.
func (w *Worker) exchange(ctx context.Context, x ledger.Exchange) ledger.Settlement {
	s := w.attempt(ctx, x)
	s.Mapping = w.system.Mapping.Version()
	return s
}

func (w *Worker) attempt(ctx context.Context, x ledger.Exchange) ledger.Settlement {
	if x.Link.Gone != connectors.Present {
		return dead("gone", "the vendor's ticket no longer exists: it was "+strings.ToLower(string(x.Link.Gone))+" there")
	}
	fresh := x.Found == ledger.StatePending
	switch x.Delivery.Kind {
	case ledger.CreateTicket:
		if fresh {
			return w.create(ctx, x)
		}
		return w.findCreated(ctx, x)
	case ledger.SayComment:
		if fresh || !x.Delivery.Marked {
			return w.say(ctx, x)
		}
		return w.findSaid(ctx, x)
	case ledger.UpdateTicket:
		// Writing the same values again does no harm, so an unknown outcome needs no search: reading first shows
		// what is left to write.
		return w.update(ctx, x)
	case ledger.CloseDuplicate:
		return w.closeDuplicate(ctx, x)
	}
	return dead("internal", fmt.Sprintf("delivery kind %q is not known", x.Delivery.Kind))
}

func (w *Worker) create(ctx context.Context, x ledger.Exchange) ledger.Settlement {
	values := x.Delivery.Values
	written := w.system.Mapping.Write(values, values)
	if w.leases.Over(x.Lease) {
		return unsent(x)
	}
	ticket, err := w.system.Connector.Create(ctx, connectors.Draft{CorrelationID: x.Link.CorrelationID, Fields: written.Fields()})
	if err != nil {
		return w.failed(ctx, x, err)
	}
	return w.opened(ctx, x, ticket, written, nil)
}

// findCreated looks for the ticket of a create whose answer was lost. Nothing found before the settle window has
// passed proves nothing.
func (w *Worker) findCreated(ctx context.Context, x ledger.Exchange) ledger.Settlement {
	tickets, err := w.system.Connector.FindByCorrelation(ctx, x.Link.CorrelationID)
	switch {
	case err != nil:
		return w.stillUnknown(x, err)
	case len(tickets) == 0:
		return w.notThere(x)
	}
	var more []connectors.ExternalID
	for _, t := range tickets[1:] {
		more = append(more, t.ID)
	}
	written := w.system.Mapping.Write(x.Delivery.Values, x.Delivery.Values)
	return w.opened(ctx, x, tickets[0], written, more)
}

func (w *Worker) opened(ctx context.Context, x ledger.Exchange, ticket connectors.Ticket, written mapping.Written, duplicates []connectors.ExternalID) ledger.Settlement {
	if full, err := w.system.Connector.Read(ctx, ticket.ID, w.system.Mapping.VendorFields()); err == nil && full.Gone == connectors.Present {
		ticket = full
	} else if err == nil { // opened, and gone already
		ticket.Gone, ticket.SuccessorID = full.Gone, full.SuccessorID
	}
	return w.settled(x, written, ticket, duplicates)
}

// settled is the end of a write: what the ticket holds now, compared with what it was told.
func (w *Worker) settled(x ledger.Exchange, written mapping.Written, ticket connectors.Ticket, duplicates []connectors.ExternalID) ledger.Settlement {
	came := merge.Settle(w.system.Mapping, x.Link.Base, written, ticket.Fields)
	s := ledger.Settlement{
		State: ledger.StateDelivered, Ticket: &ticket, RemoteState: w.system.Mapping.Read(ticket.Fields).State,
		Agreed: came.Agreed, Parked: written.Parked, Duplicates: duplicates,
	}
	maps.Copy(s.Parked, came.Overruled)
	return s
}

func (w *Worker) say(ctx context.Context, x ledger.Exchange) ledger.Settlement {
	if x.Link.ExternalID == "" {
		return unopened
	}
	mark, err := w.system.Connector.Mark(ctx, x.Link.ExternalID)
	if err != nil {
		return w.failed(ctx, x, readOnly(err))
	}
	if err := w.ledger.NoteMark(ctx, x, mark); err != nil {
		return ledger.Settlement{State: ledger.StatePending, ErrorKind: "internal", Error: "the journal's mark could not be recorded: " + err.Error(), RetryAt: w.in(w.opts.Backoff.after(x.Delivery.Attempts))}
	}
	if w.leases.Over(x.Lease) { // the mark took its time
		return unsent(x)
	}
	entry, err := w.system.Connector.Say(ctx, x.Link.ExternalID, system.Message(x.Comment), mark)
	if err != nil {
		return w.failed(ctx, x, err)
	}
	return ledger.Settlement{State: ledger.StateDelivered, Copy: entry.ID}
}

// findSaid looks beyond the mark for a comment whose answer was lost. Entries that the hub knows are other
// comments, even with the same text.
func (w *Worker) findSaid(ctx context.Context, x ledger.Exchange) ledger.Settlement {
	journal, _, err := w.system.Connector.Journal(ctx, x.Link.ExternalID, x.Delivery.Mark)
	if err != nil {
		return w.stillUnknown(x, err)
	}
	ids := make([]string, len(journal))
	for n, e := range journal {
		ids[n] = e.ID
	}
	known, err := w.ledger.Known(ctx, x.Lease, ids)
	if err != nil {
		return w.stillUnknown(x, err)
	}
	for _, e := range journal {
		if !known[e.ID] && system.Wrote(e, x.Comment) {
			return ledger.Settlement{State: ledger.StateDelivered, Copy: e.ID}
		}
	}
	return w.notThere(x)
}

// failed decides what becomes of a delivery from the kind of failure: the one place that does.
func (w *Worker) failed(ctx context.Context, x ledger.Exchange, err error) ledger.Settlement {
	kind := connectors.KindOf(err)
	s := ledger.Settlement{State: ledger.StatePending, ErrorKind: kind.String(), Error: err.Error(), RetryAt: w.in(w.opts.Backoff.after(x.Delivery.Attempts))}
	switch kind {
	case connectors.Transient:
	case connectors.RateLimited:
		s.RetryAt = w.in(max(connectors.RetryAfterOf(err), w.opts.Backoff.Base))
	case connectors.Auth:
		s.RetryAt = w.in(max(w.opts.Backoff.after(x.Delivery.Attempts), 30*time.Second))
	case connectors.Unknown:
		s.State, s.Lost, s.RetryAt = ledger.StateUnknown, true, w.in(w.opts.Backoff.Base)
	case connectors.Conflict:
		if x.Link.ExternalID != "" && x.Delivery.Attempts < 5 {
			return w.pullFirst(ctx, x)
		}
	case connectors.NotFound:
		if x.Follows() {
			return again
		}
		s.State = ledger.StateDead
		if x.Link.ExternalID != "" { // what has become of the ticket is found out, and told, first
			if _, err := pull.Pull(ctx, w.ledger, w.system, x.Lease, x.Link); err == nil && x.Delivery.Attempts < 5 {
				return ledger.Settlement{State: ledger.StatePending}
			}
		}
	case connectors.Rejected:
		s.State = ledger.StateDead
	}
	if x.Found != ledger.StatePending && s.State == ledger.StatePending && x.Delivery.Kind != ledger.UpdateTicket && kind != connectors.Rejected {
		// The earlier try's outcome is as unknown as before.
		s.State = ledger.StateUnknown
	}
	return s
}

// stillUnknown keeps asking: a search that failed says nothing about the write.
func (w *Worker) stillUnknown(x ledger.Exchange, err error) ledger.Settlement {
	wait := w.opts.Backoff.after(x.Delivery.Attempts)
	return ledger.Settlement{
		State: ledger.StateUnknown, ErrorKind: connectors.Unknown.String(),
		Error: "the answer was lost, and asking the vendor failed: " + err.Error(), RetryAt: w.in(max(wait, connectors.RetryAfterOf(err))),
	}
}

// notThere is the verdict when the search found nothing: too early to tell, or time to send it again.
func (w *Worker) notThere(x ledger.Exchange) ledger.Settlement {
	if left := w.system.CallTimeout + w.system.SettleWindow - x.SentAgo; left > 0 {
		safe := w.in(left)
		next := w.in(w.opts.Backoff.after(x.Delivery.Attempts))
		if next.After(safe) {
			next = safe
		}
		return ledger.Settlement{
			State: ledger.StateUnknown, ErrorKind: connectors.Unknown.String(), RetryAt: next,
			Error: "the answer was lost and the vendor does not show it yet; it is sent again only after " + safe.UTC().Format(time.RFC3339),
		}
	}
	return ledger.Settlement{State: ledger.StatePending}
}

func (w *Worker) in(d time.Duration) time.Time { return w.opts.Now().Add(d) }

func dead(kind, text string) ledger.Settlement {
	return ledger.Settlement{State: ledger.StateDead, ErrorKind: kind, Error: text}
}

// unopened is the end of what has no ticket to be told to.
var unopened = dead("unopened", "there is no ticket to tell it to: a person skipped its opening")

// readOnly says of a failure before any write that nothing was written.
func readOnly(err error) error {
	if e, ok := errors.AsType[*connectors.Error](err); ok && e.Kind != connectors.Unknown {
		return err
	}
	return &connectors.Error{Op: "reading before writing", Kind: connectors.Transient, Err: err}
}

// has reports whether the ticket holds the words already.
func has(ticket, words connectors.Fields) bool {
	for name, word := range words {
		if now, read := ticket[name]; !read || now != word {
			return false
		}
	}
	return true
}

func join(words map[incident.Field]connectors.Fields) connectors.Fields {
	out := connectors.Fields{}
	for _, f := range words {
		maps.Copy(out, f)
	}
	return out
}

// overlay lays what an update answered over what was read before it. Where the answer is silent about what the update was
// expected to change, such as a priority that the vendor computes, what was read before is no longer so.
func overlay(before, after connectors.Ticket, wrote map[incident.Field]connectors.Fields, written mapping.Written) connectors.Ticket {
	fields := maps.Clone(before.Fields)
	for f := range wrote {
		for name := range written.Expect[f] {
			delete(fields, name)
		}
	}
	maps.Copy(fields, after.Fields)
	after.Fields = fields
	if after.Number == "" {
		after.Number, after.URL = before.Number, before.URL
	}
	return after
}

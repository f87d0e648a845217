package outbound

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/mapping"
	"liaison/sync/merge"
	"liaison/sync/pull"
)

// update writes what a delivery says of the ticket's fields, as far as it is not held, said already or better left unsaid.
func (w *Worker) update(ctx context.Context, x ledger.Exchange) ledger.Settlement {
	if x.Link.ExternalID == "" {
		return unopened
	}
	values, reviewed := sendable(x)
	if reviewed && x.Delivery.Attempts <= 1 {
		return w.pullFirst(ctx, x) // what waits for a person is brought up to date with what the hub says by now
	}
	all := x.Incident.Values()
	maps.Copy(all, values)
	u := updating{worker: w, exchange: x, written: w.system.Mapping.Write(values, all), standing: map[incident.Field]merge.Standing{}}
	if len(u.written.Words) == 0 && len(x.Overtaken) == 0 {
		return ledger.Settlement{State: ledger.StateDelivered, Parked: u.written.Parked}
	}
	// What is only ever written is read here too: otherwise a write whose answer was lost would be made again.
	ticket, err := w.system.Connector.Read(ctx, x.Link.ExternalID, slices.AppendSeq(w.system.Mapping.VendorFields(), maps.Keys(u.written.Fields())))
	if err != nil {
		return w.failed(ctx, x, readOnly(err))
	}
	reading := w.system.Mapping.Read(ticket.Fields)
	u.leaveUnknown(reading)
	if x.Delivery.Attempts > 1 {
		u.leaveParked(ticket)
	}
	if ticket.Gone != connectors.Present || w.moved(x.Link, ticket, u.written) {
		return w.pullFirst(ctx, x)
	}
	// No no-op writes: some vendors would stamp the ticket and start their clocks anew.
	missing := map[incident.Field]connectors.Fields{}
	for f, words := range u.written.Words {
		if !has(ticket.Fields, words) {
			missing[f] = words
		}
	}
	if _, moves := missing[incident.FieldState]; !moves && incident.Ended(reading.Values[incident.FieldState].Value) {
		u.withhold(missing, reading.State)
	}
	u.brake(missing)
	wrote := maps.Clone(missing)
	if len(missing) > 0 {
		var failure *ledger.Settlement
		if ticket, failure = w.write(ctx, x, ticket, missing, u.written); failure != nil {
			return *failure
		}
	}
	s := w.settled(x, u.written, ticket, nil)
	u.note(&s, wrote)
	u.noteOvertaken(&s, ticket)
	return s
}

// noteOvertaken takes down what arrived of values that are not sent any more, because later ones may have arrived since: where the
// vendor holds them they are our own words and nobody's change.
func (u *updating) noteOvertaken(s *ledger.Settlement, ticket connectors.Ticket) {
	x := u.exchange
	if len(x.Overtaken) == 0 {
		return
	}
	for f, base := range u.worker.system.Sent(x.Incident, x.Delivery.Values) {
		if _, agreed := s.Agreed[f]; !agreed && slices.Contains(x.Overtaken, f) && base.Holds(ticket.Fields) {
			s.Agreed[f] = base
		}
	}
}

// sendable returns what of a delivery may be sent: nothing of a field that is held or was overtaken, and beside it what was
// withheld before and may go along now. It reports whether a person has yet to decide about one of the delivery's fields.
func sendable(x ledger.Exchange) (values incident.Values, reviewed bool) {
	values = incident.Values{}
	for f, st := range x.Link.Standing {
		if st.Held == merge.Withheld {
			values[f] = st.Value
		}
	}
	for f, v := range x.Delivery.Values {
		if slices.Contains(x.Overtaken, f) {
			continue
		}
		switch x.Link.Standing[f].Held {
		case merge.Stopped:
		case merge.Review:
			reviewed = true
		case merge.Unheld, merge.Withheld:
			values[f] = v
		}
	}
	return values, reviewed
}

// updating is one update on its way.
type updating struct {
	worker   *Worker
	exchange ledger.Exchange
	written  mapping.Written
	standing map[incident.Field]merge.Standing
}

// leave takes a field out of what is written, with the reason for people.
func (u *updating) leave(f incident.Field, reason string) {
	forget(u.written, f)
	u.written.Parked[f] = reason
}

// leaveUnknown leaves alone what holds a word that the mapping does not know: nobody could say what would be overwritten.
func (u *updating) leaveUnknown(now mapping.Reading) {
	for f, reason := range now.Parked {
		if _, writes := u.written.Words[f]; writes {
			u.leave(f, reason)
		}
	}
}

// leaveParked leaves alone what moved at the vendor to a value that waits for a person, such as one that the lifecycle
// refuses. It was pulled at the first try; pulling it again would change nothing, and all else on the lane would wait behind it.
func (u *updating) leaveParked(ticket connectors.Ticket) {
	for f := range u.written.Words {
		reason, parked := u.exchange.Link.Parked[f]
		if parked && u.worker.movedField(u.exchange.Link, ticket, u.written, f) {
			u.leave(f, reason)
		}
	}
}

// withhold keeps plain updates back from a ticket on which the work is over: the vendor would start its clock anew, or reopen
// it. They go out with the next write once it is reopened.
func (u *updating) withhold(missing map[incident.Field]connectors.Fields, state string) {
	for f := range missing {
		u.leave(f, fmt.Sprintf("withheld: the ticket is %q at the vendor, where a write would start its clock anew; it is sent when the ticket is reopened", state))
		st := u.exchange.Link.Standing[f].Hold(merge.Withheld, u.worker.opts.Now())
		st.Value = u.written.Values[f]
		u.standing[f] = st
	}
	clear(missing)
}

// brake stops fields that have gone to and fro too often.
func (u *updating) brake(missing map[incident.Field]connectors.Fields) {
	bounds := u.worker.system.Mapping.Bounce()
	for f := range missing {
		st, passes := u.exchange.Link.Standing[f].Move(merge.Hub, u.written.Values[f], u.worker.opts.Now(), bounds)
		if u.standing[f] = st; !passes {
			u.leave(f, merge.Bounced(bounds))
			delete(missing, f)
		}
	}
}

// note completes the settlement with how the fields stand now.
func (u *updating) note(s *ledger.Settlement, wrote map[incident.Field]connectors.Fields) {
	for f, b := range s.Agreed {
		_, sent := wrote[f]
		if b.Ours && !sent && u.exchange.Found == ledger.StatePending {
			b.Ours = false // it stood there already, by whomever
			s.Agreed[f] = b
		}
		st, moved := u.standing[f]
		if !moved {
			st = u.exchange.Link.Standing[f]
		}
		if st.Held == merge.Withheld {
			u.standing[f] = st.Free()
		}
	}
	for f := range wrote {
		if _, written := u.written.Words[f]; !written {
			delete(u.standing, f) // refused: the value has not moved
		}
	}
	s.Standing = u.standing
}

// moved reports whether the vendor has changed a field that is about to be written since both sides last agreed
// on it, to something other than what is about to be written: that is a conflict, and overwriting it would be
// a silent one.
func (w *Worker) moved(link ledger.Link, ticket connectors.Ticket, written mapping.Written) bool {
	for f := range written.Words {
		if w.movedField(link, ticket, written, f) {
			return true
		}
	}
	return false
}

func (w *Worker) movedField(link ledger.Link, ticket connectors.Ticket, written mapping.Written, f incident.Field) bool {
	base, known := link.Base[f]
	now, read := w.system.Mapping.WordsOf(f, ticket.Fields)
	return known && read && !base.Holds(now) && !has(ticket.Fields, written.Words[f])
}

// patientTries is how often a delivery goes again at once upon news of the vendor's.
const patientTries = 3

// again is the end of an exchange that cannot be decided before what was sent ahead of it is settled. Nothing was sent for it.
var again = ledger.Settlement{}

// pullFirst takes the vendor's news in and lets the delivery go again at once, upon the new base.
func (w *Worker) pullFirst(ctx context.Context, x ledger.Exchange) ledger.Settlement {
	if x.Follows() {
		return again
	}
	if _, err := pull.Pull(ctx, w.ledger, w.system, x.Lease, x.Link); err != nil {
		return w.failed(ctx, x, readOnly(err))
	}
	s := ledger.Settlement{State: ledger.StatePending}
	if x.Delivery.Attempts > patientTries { // whatever it is that keeps moving, it is given some time
		s.RetryAt = w.in(w.opts.Backoff.after(x.Delivery.Attempts - patientTries))
	}
	return s
}

// write sends the words. When the vendor refuses several fields at once, each is tried alone, so that only the one
// at fault is parked and the others arrive.
func (w *Worker) write(ctx context.Context, x ledger.Exchange, ticket connectors.Ticket, missing map[incident.Field]connectors.Fields, written mapping.Written) (connectors.Ticket, *ledger.Settlement) {
	if w.leases.Over(x.Lease) {
		s := unsent(x)
		return ticket, &s
	}
	after, err := w.system.Connector.Update(ctx, x.Link.ExternalID, join(missing))
	if err == nil {
		return overlay(ticket, after, missing, written), nil
	}
	if connectors.KindOf(err) != connectors.Rejected {
		s := w.failed(ctx, x, err)
		return ticket, &s
	}
	if len(missing) == 1 {
		for f := range missing {
			written.Parked[f] = "the vendor refused it: " + connectors.WordsOf(err)
			forget(written, f)
		}
		return ticket, nil
	}
	for _, f := range slices.Sorted(maps.Keys(missing)) {
		one, failure := w.write(ctx, x, ticket, map[incident.Field]connectors.Fields{f: missing[f]}, written)
		if failure != nil {
			return ticket, failure
		}
		ticket = one
	}
	return ticket, nil
}

// forget takes a refused field out of what was written, and with it every field that was to be sent along.
func forget(written mapping.Written, f incident.Field) {
	refused := written.Words[f]
	delete(written.Words, f)
	delete(written.Expect, f) // by name: what the vendor computes is in no word that was written
	maps.DeleteFunc(written.Expect, func(_ incident.Field, words connectors.Fields) bool {
		for name := range words {
			if _, same := refused[name]; same {
				return true
			}
		}
		return false
	})
}

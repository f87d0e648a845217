package conformance

import (
	"errors"
	"net/http"
	"strings"

	"liaison/connectors"
)

func duplicateCases() []Case {
	return []Case{
		{"DuplicateClosed", duplicateClosed},
		{"DuplicateLostAnswer", duplicateLostAnswer},
		{"DuplicateClosedAlready", duplicateClosedAlready},
		{"DuplicateOfNothing", duplicateOfNothing},
		{"DuplicateOfAPerson", duplicateOfAPerson},
	}
}

// duplicateCloser returns the connector's own, nil when it cannot close duplicates.
func (b *bench) duplicateCloser() connectors.DuplicateCloser {
	b.Helper()
	closer, ok := b.conn.(connectors.DuplicateCloser)
	if ok && (b.Vendor.Closed == nil || b.Vendor.Close == nil || b.Vendor.Copy == nil) {
		b.Fatalf("harness: Vendor.Closed, Vendor.Close and Vendor.Copy are needed, because the connector closes duplicates")
	}
	return closer
}

// twins are two tickets that a lost race has opened with one correlation id.
func (b *bench) twins() (stays, goes connectors.Ticket) {
	b.Helper()
	d := b.draft()
	stays, err := b.conn.Create(b.ctx, d)
	b.noError("Create", err)
	goes, err = b.conn.Create(b.ctx, d)
	b.noError("Create once more", err)
	return stays, goes
}

// notes counts the ticket's internal messages that name the other, and fails when there are others.
func (b *bench) notes(of connectors.Ticket, at connectors.ExternalID) int {
	b.Helper()
	n := 0
	for _, m := range b.Vendor.Messages(b.TB, at) {
		if m.Visibility == connectors.Internal && strings.Contains(m.Body, of.Number) {
			n++
		} else {
			b.Errorf("the duplicate was given another message: %+v", m)
		}
	}
	return n
}

// duplicateClosed: the duplicate is closed with one internal message that names the other, which nobody touches, and
// closing it again changes nothing.
func duplicateClosed(b *bench) {
	closer := b.duplicateCloser()
	if closer == nil {
		return
	}
	stays, goes := b.twins()
	b.noError("CloseDuplicate", closer.CloseDuplicate(b.ctx, goes.ID, stays.ID))
	if !b.Vendor.Closed(b.TB, goes.ID) || b.Vendor.Closed(b.TB, stays.ID) {
		b.Errorf("closed: the duplicate %t, the other %t", b.Vendor.Closed(b.TB, goes.ID), b.Vendor.Closed(b.TB, stays.ID))
	}
	before, err := b.conn.Read(b.ctx, goes.ID, nil)
	b.noError("Read", err)
	b.noError("CloseDuplicate again", closer.CloseDuplicate(b.ctx, goes.ID, stays.ID))
	after, err := b.conn.Read(b.ctx, goes.ID, nil)
	b.noError("Read", err)
	if n := b.notes(stays, goes.ID); n != 1 || before.Version != after.Version {
		b.Errorf("the duplicate has %d notes at version %q, then %q; want one, and nothing written the second time", n, before.Version, after.Version)
	}
	other, err := b.conn.Read(b.ctx, stays.ID, nil)
	b.noError("Read", err)
	if other.Version != stays.Version || len(b.Vendor.Messages(b.TB, stays.ID)) != 0 {
		b.Errorf("the ticket that stays was touched: version %q, then %q", stays.Version, other.Version)
	}
}

// duplicateLostAnswer: it may be closed, so it is tried again, and closed once.
func duplicateLostAnswer(b *bench) {
	closer := b.duplicateCloser()
	if closer == nil {
		return
	}
	stays, goes := b.twins()
	b.proxy.inject(writes, 1, loseAnswer)
	b.kind("CloseDuplicate with lost answer", closer.CloseDuplicate(b.ctx, goes.ID, stays.ID), connectors.Unknown)
	b.noError("CloseDuplicate again", closer.CloseDuplicate(b.ctx, goes.ID, stays.ID))
	if n := b.notes(stays, goes.ID); n != 1 || !b.Vendor.Closed(b.TB, goes.ID) {
		b.Errorf("closed: %t, with %d notes, want one", b.Vendor.Closed(b.TB, goes.ID), n)
	}
}

// duplicateClosedAlready: what somebody closed is left as it is.
func duplicateClosedAlready(b *bench) {
	closer := b.duplicateCloser()
	if closer == nil {
		return
	}
	stays, goes := b.twins()
	b.Vendor.Close(b.TB, goes.ID)
	said := len(b.Vendor.Messages(b.TB, goes.ID))
	hits := b.proxy.inject(writes, always, func(p *proxy, w http.ResponseWriter, r *http.Request) { p.forward.ServeHTTP(w, r) })
	b.noError("CloseDuplicate of a closed ticket", closer.CloseDuplicate(b.ctx, goes.ID, stays.ID))
	if n := len(b.Vendor.Messages(b.TB, goes.ID)); n != said || hits() != 0 {
		b.Errorf("a closed ticket was written to %d times and has %d messages, before %d", hits(), n, said)
	}
}

// duplicateOfNothing: nothing is closed in favour of a ticket that is not there, or of itself.
func duplicateOfNothing(b *bench) {
	closer := b.duplicateCloser()
	if closer == nil {
		return
	}
	ticket := b.open()
	for name, c := range map[string]struct {
		id, of connectors.ExternalID
		want   connectors.Kind
	}{
		"of a ticket that is not there": {ticket.ID, b.UnknownID, connectors.Rejected},
		"of itself":                     {ticket.ID, ticket.ID, connectors.Rejected},
		"that is not there":             {b.UnknownID, ticket.ID, connectors.NotFound},
		"with an id of another form":    {ticket.ID, "../../elsewhere", connectors.Rejected},
		"of another form":               {"../../elsewhere", ticket.ID, connectors.Rejected},
	} {
		b.kind("CloseDuplicate "+name, closer.CloseDuplicate(b.ctx, c.id, c.of), c.want)
	}
	if b.Vendor.Closed(b.TB, ticket.ID) || len(b.Vendor.Messages(b.TB, ticket.ID)) != 0 {
		b.Errorf("the ticket was closed or written to all the same")
	}
}

// duplicateOfAPerson: a ticket that a person opened is left as it is, correlation id or not, with the reason; when the
// person has closed it there is nothing to refuse.
func duplicateOfAPerson(b *bench) {
	closer := b.duplicateCloser()
	if closer == nil {
		return
	}
	d := b.draft()
	stays, err := b.conn.Create(b.ctx, d)
	b.noError("Create", err)
	copied := b.Vendor.Copy(b.TB, d.CorrelationID)
	before, err := b.conn.Read(b.ctx, copied, nil)
	b.noError("Read", err)
	if before.CorrelationID != d.CorrelationID {
		b.Fatalf("harness: Vendor.Copy made a ticket with the correlation id %q, want %q", before.CorrelationID, d.CorrelationID)
	}
	said := len(b.Vendor.Messages(b.TB, copied))
	// A connector that has opened nothing yet has learned no login by the way.
	for name, closer := range map[string]connectors.DuplicateCloser{"CloseDuplicate": closer, "CloseDuplicate after a restart": b.connect(0).(connectors.DuplicateCloser)} {
		err := closer.CloseDuplicate(b.ctx, copied, stays.ID)
		b.kind(name+" of a person's ticket", err, connectors.Rejected)
		if !errors.Is(err, connectors.ErrNotOurs) {
			b.Errorf("%s of a person's ticket: %v, want ErrNotOurs", name, err)
		}
	}
	after, err := b.conn.Read(b.ctx, copied, nil)
	b.noError("Read", err)
	if n := len(b.Vendor.Messages(b.TB, copied)); n != said || after.Version != before.Version || b.Vendor.Closed(b.TB, copied) {
		b.Errorf("a person's ticket was written to: %d messages and version %q, before %d and %q", n, after.Version, said, before.Version)
	}
	b.Vendor.Close(b.TB, copied)
	b.noError("CloseDuplicate of a person's closed ticket", closer.CloseDuplicate(b.ctx, copied, stays.ID))
}

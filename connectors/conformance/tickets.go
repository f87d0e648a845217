package conformance

import (
	"time"

	"github.com/google/uuid"

	"liaison/connectors"
)

func ticketCases() []Case {
	return []Case{
		{"Check", check},
		{"CreateReadFind", createReadFind},
		{"CreateLostAnswer", createLostAnswer},
		{"FindNothing", findNothing},
		{"UpdateReturnsWhatIsStored", updateStored},
		{"UpdateNoOp", updateNoOp},
		{"UpdateLostAnswer", updateLostAnswer},
		{"UnknownTicket", unknownTicket},
		{"HookRubbish", hookRubbish},
	}
}

func check(b *bench) {
	b.noError("Check", b.conn.Check(b.ctx))
	if w := b.conn.Traits().SettleWindow; w <= 0 || w > time.Hour {
		b.Errorf("Traits.SettleWindow is %s: no vendor settles at once, or needs an hour", w)
	}
}

// createReadFind: a ticket that was opened is read back, and found by its correlation id.
func createReadFind(b *bench) {
	d := b.draft()
	made, err := b.conn.Create(b.ctx, d)
	b.noError("Create", err)
	if made.ID == "" || made.Number == "" {
		b.Fatalf("Create: ticket without id or number: %+v", made)
	}
	var names []string
	for name := range d.Fields {
		names = append(names, name)
	}
	got, err := b.conn.Read(b.ctx, made.ID, names)
	b.noError("Read", err)
	if got.ID != made.ID || got.CorrelationID != d.CorrelationID || got.Gone != connectors.Present {
		b.Errorf("Read: id %q correlation %q gone %q, want %q %q and present", got.ID, got.CorrelationID, got.Gone, made.ID, d.CorrelationID)
	}
	found := b.find(d.CorrelationID)
	if len(found) != 1 || found[0].ID != made.ID || found[0].CorrelationID != d.CorrelationID {
		b.Errorf("FindByCorrelation: %+v, want the one ticket %s", found, made.ID)
	}
	if n := b.Vendor.Count(b.TB, d.CorrelationID); n != 1 {
		b.Errorf("the vendor holds %d tickets, want 1", n)
	}
}

// createLostAnswer: the vendor has opened the ticket, its answer was cut. The error must say that it may have happened,
// the connector must not have tried again, and the search must find the one ticket.
func createLostAnswer(b *bench) {
	d := b.draft()
	hits := b.proxy.inject(writes, 1, loseAnswer)
	_, err := b.conn.Create(b.ctx, d)
	b.kind("Create with lost answer", err, connectors.Unknown)
	if hits() != 1 {
		b.Fatalf("the fault struck %d times, want once", hits())
	}
	if found := b.find(d.CorrelationID); len(found) != 1 {
		b.Errorf("FindByCorrelation: %d tickets, want 1", len(found))
	}
	if n := b.Vendor.Count(b.TB, d.CorrelationID); n != 1 {
		b.Errorf("the vendor holds %d tickets, want 1", n)
	}
}

func findNothing(b *bench) {
	b.open() // so that the vendor holds tickets that a dropped filter would return
	found, err := b.conn.FindByCorrelation(b.ctx, uuid.NewString())
	b.noError("FindByCorrelation", err)
	if len(found) != 0 {
		b.Errorf("FindByCorrelation of an id that nobody has: %d tickets", len(found))
	}
}

func updateStored(b *bench) {
	t := b.open()
	for i, want := range b.Updates {
		got, err := b.conn.Update(b.ctx, t.ID, want)
		b.noError("Update", err)
		b.holds("Update's answer", got.Fields, want)
		var names []string
		for name := range want {
			names = append(names, name)
		}
		read, err := b.conn.Read(b.ctx, t.ID, names)
		b.noError("Read", err)
		b.holds("Read", read.Fields, want)
		if i > 0 && read.Version != "" && read.Version == t.Version {
			b.Errorf("the version is still %q after a change", read.Version)
		}
	}
}

func (b *bench) holds(where string, got, want connectors.Fields) {
	b.Helper()
	for name, value := range want {
		if got[name] != value {
			b.Errorf("%s: %s is %q, want %q", where, name, got[name], value)
		}
	}
}

// updateNoOp: writing what is there already is no error and no change.
func updateNoOp(b *bench) {
	t := b.open()
	first, err := b.conn.Update(b.ctx, t.ID, b.Updates[0])
	b.noError("Update", err)
	again, err := b.conn.Update(b.ctx, t.ID, b.Updates[0])
	b.noError("Update with the same values", err)
	b.holds("Update with the same values", again.Fields, b.Updates[0])
	if first.Version != again.Version {
		b.Errorf("the version went from %q to %q without a change", first.Version, again.Version)
	}
}

func updateLostAnswer(b *bench) {
	t := b.open()
	b.proxy.inject(writes, 1, loseAnswer)
	_, err := b.conn.Update(b.ctx, t.ID, b.Updates[0])
	b.kind("Update with lost answer", err, connectors.Unknown)
}

func unknownTicket(b *bench) {
	_, err := b.conn.Read(b.ctx, b.UnknownID, nil)
	b.kind("Read", err, connectors.NotFound)
	_, err = b.conn.Update(b.ctx, b.UnknownID, b.Updates[0])
	b.kind("Update", err, connectors.NotFound)
	_, err = b.conn.Say(b.ctx, b.UnknownID, connectors.Message{Key: uuid.NewString(), Visibility: connectors.Public, Body: "nobody hears this"}, "")
	b.kind("Say", err, connectors.NotFound)
	_, _, err = b.conn.Journal(b.ctx, b.UnknownID, "")
	b.kind("Journal", err, connectors.NotFound)
}

// hookRubbish: whatever a webhook's body is, it is understood or refused.
func hookRubbish(b *bench) {
	reader, ok := b.conn.(connectors.HookReader)
	if ok != b.conn.Traits().Hooks {
		b.Fatalf("Traits.Hooks is %t, but HookReader is fulfilled: %t", b.conn.Traits().Hooks, ok)
	}
	if !ok {
		return
	}
	for _, rubbish := range []string{"", "{", "null", "[]", "{}", `"text"`, "42", "<html></html>", "\x00", `{"a":`, "\xef\xbb\xbf{}", `[[[[]]]]`} {
		_, err := reader.ReadHook(connectors.Hook{Body: []byte(rubbish)})
		b.kind("ReadHook of "+rubbish, err, connectors.Rejected)
	}
}

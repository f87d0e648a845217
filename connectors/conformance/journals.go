package conformance

import (
	"fmt"

	"github.com/google/uuid"

	"liaison/connectors"
)

func journalCases() []Case {
	return []Case{
		{"SayVisibility", sayVisibility},
		{"SayEqualComments", sayEqual},
		{"SayLostAnswer", sayLostAnswer},
		{"SayKeepsText", sayText},
		{"JournalBeyondMark", journalBeyondMark},
		{"JournalOwn", journalOwn},
	}
}

// sayVisibility: what is internal stays so, both in the vendor's hands and in what is read back.
func sayVisibility(b *bench) {
	t := b.open()
	for _, v := range []connectors.Visibility{connectors.Public, connectors.Internal} {
		text := fmt.Sprintf("a %s message %s", v, uuid.NewString())
		m := b.mark(t.ID)
		e := b.say(t.ID, v, text, m)
		if e.ID == "" || e.Visibility != v {
			b.Errorf("Say: entry %q is %s, want an id and %s", e.ID, e.Visibility, v)
		}
		got := b.journal(t.ID, m, 1, body(text))
		if got[0].ID != e.ID || got[0].Visibility != v {
			b.Errorf("Journal: entry %q is %s, want %q and %s", got[0].ID, got[0].Visibility, e.ID, v)
		}
		if n := b.count(t.ID, v, text); n != 1 {
			b.Errorf("the vendor holds %d %s messages of that text, want 1", n, v)
		}
	}
}

func (b *bench) count(id connectors.ExternalID, v connectors.Visibility, text string) int {
	b.Helper()
	n := 0
	for _, m := range b.Vendor.Messages(b.TB, id) {
		if m.Visibility == v && m.Body == text {
			n++
		}
	}
	return n
}

// sayEqual: the same words said twice are two messages with two ids.
func sayEqual(b *bench) {
	t := b.open()
	text := "is it working now? " + uuid.NewString()
	start := b.mark(t.ID)
	first := b.say(t.ID, connectors.Public, text, start)
	second := b.say(t.ID, connectors.Public, text, b.mark(t.ID))
	if first.ID == second.ID {
		b.Errorf("both messages have the id %q", first.ID)
	}
	if got := b.journal(t.ID, start, 2, body(text)); len(got) != 2 {
		b.Errorf("Journal shows %d of them, want 2", len(got))
	}
	if n := b.count(t.ID, connectors.Public, text); n != 2 {
		b.Errorf("the vendor holds %d, want 2", n)
	}
}

// sayLostAnswer: said once, said the same again, and the second answer was cut. Beyond the second mark stands exactly
// one own entry: that is how the lane tells that it happened.
func sayLostAnswer(b *bench) {
	t := b.open()
	text := "the line is down again " + uuid.NewString()
	first := b.say(t.ID, connectors.Public, text, b.mark(t.ID))
	m := b.mark(t.ID)
	b.proxy.inject(writes, 1, loseAnswer)
	_, err := b.conn.Say(b.ctx, t.ID, connectors.Message{Key: uuid.NewString(), Visibility: connectors.Public, Body: text}, m)
	b.kind("Say with lost answer", err, connectors.Unknown)
	own := func(e connectors.JournalEntry) bool { return e.Own && e.Body == text && e.ID != first.ID }
	if got := b.journal(t.ID, m, 1, own); len(got) != 1 {
		b.Errorf("beyond the mark stand %d own entries of that text, want 1", len(got))
	}
	if n := b.count(t.ID, connectors.Public, text); n != 2 {
		b.Errorf("the vendor holds %d, want the first and the second", n)
	}
}

// sayText: text survives the way there and back, with what vendors' formats treat as their own.
func sayText(b *bench) {
	t := b.open()
	for _, text := range []string{
		"two lines\nof text\n\nand a third",
		`quotes " and ' and \ and <b>no tags</b> & ampersands`,
		"naïve Zürich 日本 € 🙂",
		"caret ^NQ and javascript:gs.getUser() and ${injection} and %s",
	} {
		m := b.mark(t.ID)
		text = uuid.NewString() + " " + text
		e := b.say(t.ID, connectors.Public, text, m)
		got := b.journal(t.ID, m, 1, func(j connectors.JournalEntry) bool { return j.ID == e.ID })
		if got[0].Body != text {
			b.Errorf("said %q, read back %q", text, got[0].Body)
		}
	}
}

// journalBeyondMark: a mark hides what stood there and nothing that came after it, even within the same second.
func journalBeyondMark(b *bench) {
	t := b.open()
	old := "old news " + uuid.NewString()
	b.Vendor.Say(b.TB, t.ID, connectors.Public, old)
	b.journal(t.ID, "", 1, body(old))
	m := b.mark(t.ID)
	fresh := "fresh news " + uuid.NewString()
	b.Vendor.Say(b.TB, t.ID, connectors.Public, fresh)
	b.Vendor.Say(b.TB, t.ID, connectors.Internal, fresh+" for staff")
	got := b.journal(t.ID, m, 2, body(fresh))
	// Within one second of the vendor's clock nobody knows the order.
	if len(got) != 2 || got[0].Visibility == got[1].Visibility || got[1].At.Before(got[0].At) {
		b.Errorf("beyond the mark: %+v, want the public and the internal entry, oldest first", got)
	}
	_, behind, err := b.conn.Journal(b.ctx, t.ID, m)
	b.noError("Journal", err)
	again, _, err := b.conn.Journal(b.ctx, t.ID, behind)
	b.noError("Journal beyond the end", err)
	for _, e := range again {
		if e.Body == old {
			b.Errorf("an entry before the mark came again: %+v", e)
		}
	}
}

// journalOwn: own messages are told from the vendor's, or every message would be carried back and forth.
func journalOwn(b *bench) {
	t := b.open()
	start := b.mark(t.ID)
	ours, theirs := "ours "+uuid.NewString(), "theirs "+uuid.NewString()
	b.say(t.ID, connectors.Public, ours, start)
	b.Vendor.Say(b.TB, t.ID, connectors.Public, theirs)
	if got := b.journal(t.ID, start, 1, body(ours)); !got[0].Own {
		b.Errorf("our own message is not flagged: %+v", got[0])
	}
	if got := b.journal(t.ID, start, 1, body(theirs)); got[0].Own || got[0].Author == "" {
		b.Errorf("the agent's message is flagged as own or has no author: %+v", got[0])
	}
}

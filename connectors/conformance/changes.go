package conformance

import (
	"liaison/connectors"
)

func changeCases() []Case {
	return []Case{
		{"ChangesFromNowOn", changesFromNowOn},
		{"ChangesPageBoundary", changesPages},
		{"ChangesSameTicketTwice", changesTwice},
		{"ChangesWhilePaging", changesWhilePaging},
		{"ChangesBadCursor", changesBadCursor},
	}
}

// pageSize is small enough for a handful of tickets to fill several pages.
const pageSize = 2

// changesFromNowOn: the empty cursor shows nothing old and misses nothing new.
func changesFromNowOn(b *bench) {
	old, other := b.open(), b.open()
	p, err := b.conn.Changes(b.ctx, "")
	b.noError("Changes from now on", err)
	for _, r := range p.Refs {
		if r.ID == old.ID || r.ID == other.ID {
			b.Errorf("from now on, yet the ticket %s of before was shown", r.ID)
		}
	}
	b.Vendor.Touch(b.TB, other.ID)
	b.awaitChange(b.conn, p.Next, other.ID)
}

// awaitChange drains until all tickets were shown, and returns the cursor behind.
func (b *bench) awaitChange(c connectors.Connector, at connectors.Cursor, ids ...connectors.ExternalID) connectors.Cursor {
	b.Helper()
	missing := map[connectors.ExternalID]bool{}
	for _, id := range ids {
		missing[id] = true
	}
	b.eventually("the changes", func() bool {
		var seen map[connectors.ExternalID]int
		seen, at = b.drain(c, at)
		for id := range seen {
			delete(missing, id)
		}
		return len(missing) == 0
	})
	return at
}

// changesPages: more changes than fit a page, all stamped alike where the vendor's side can do that. None is skipped,
// and the stream ends.
func changesPages(b *bench) {
	c := b.connect(pageSize)
	var ids []connectors.ExternalID
	for range 2*pageSize + 1 {
		ids = append(ids, b.open().ID)
	}
	_, at := b.drain(c, "")
	b.Vendor.TouchAll(b.TB, ids)
	at = b.awaitChange(c, at, ids...)
	// And once more from there: the places of equal stamps must not hide the next change.
	b.Vendor.TouchAll(b.TB, ids)
	b.awaitChange(c, at, ids...)
}

// changesTwice: a ticket that was shown is shown again when it changes again, however soon.
func changesTwice(b *bench) {
	t := b.open()
	_, at := b.drain(b.conn, "")
	for range 3 {
		b.Vendor.Touch(b.TB, t.ID)
		at = b.awaitChange(b.conn, at, t.ID)
	}
}

// changesWhilePaging: a change behind the reader's back, between two pages, is shown by this drain or the next.
func changesWhilePaging(b *bench) {
	c := b.connect(pageSize)
	var ids []connectors.ExternalID
	for range 2 * pageSize {
		ids = append(ids, b.open().ID)
	}
	_, at := b.drain(c, "")
	b.Vendor.TouchAll(b.TB, ids)
	var page connectors.Page
	b.eventually("a first page", func() bool {
		var err error
		page, err = c.Changes(b.ctx, at)
		b.noError("Changes", err)
		if len(page.Refs) == 0 {
			at = page.Next
		}
		return len(page.Refs) > 0
	})
	shown := b.refID(page.Refs[0])
	b.Vendor.Touch(b.TB, shown)
	b.awaitChange(c, page.Next, shown)
}

func changesBadCursor(b *bench) {
	for _, rubbish := range []connectors.Cursor{"rubbish", "{}", `{"since":"yesterday"}`, "[]"} {
		_, err := b.conn.Changes(b.ctx, rubbish)
		b.kind("Changes after "+string(rubbish), err, connectors.Rejected)
	}
}

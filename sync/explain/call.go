package explain

import (
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// Together reports whether two entries are parts of one thing that came from a vendor: then none caused the other.
func Together(a, b ledger.Entry) bool {
	return a.Link == b.Link && a.Link != (incident.LinkID{}) && a.At.Equal(b.At)
}

// Call says in a sentence how something came in and what became of it.
func Call(r ledger.InboxRow, at Where) string {
	text := at.system() + " called"
	switch r.Source {
	case ledger.FromPoll:
		text = "A poll found that " + at.ticket() + " had changed"
	case ledger.FromReplay:
		text = "A person had a call of " + at.system() + " acted upon again"
	case ledger.FromReconcile:
		text = "A comparison found that " + at.ticket() + " differs"
	case ledger.FromHook:
		if r.Number != "" || r.ExternalID != "" {
			text += " about " + at.bare()
		}
	}
	switch r.State {
	case ledger.InboxWaiting:
		text += "; that waits to be acted upon"
	case ledger.InboxParked:
		text += "; that is parked"
	case ledger.InboxIgnored:
		text += "; that concerned nothing here"
	case ledger.InboxDuplicate:
		text += "; the same had come before"
	case ledger.InboxDone:
		return sentence(text)
	}
	if r.Reason != "" {
		text += ": " + clip(r.Reason, 300)
	}
	return sentence(text)
}

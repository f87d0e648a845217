// Package system describes a configured external system as lanes and readers see it: its connector, its
// mapping and its pace.
//
// Values are made once at start and never changed, so they are safe for concurrent use; a crash leaves nothing
// behind.
package system

import (
	"maps"
	"slices"
	"strings"
	"time"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/mapping"
	"liaison/sync/merge"
)

// System is a configured external system.
type System struct {
	ID        incident.SystemID
	Key       string // its name in the settings
	Name      string // for people
	Connector connectors.Connector
	Mapping   *mapping.Mapping

	Concurrency  int           // exchanges at a time, at least 1
	CallTimeout  time.Duration // the longest that one call may take
	SettleWindow time.Duration // how long after a lost answer a write can still turn up
	PollInterval time.Duration // 0: never polled
}

// Actor is the system as the author of entries.
func (s *System) Actor() ledger.Actor { return ledger.Actor{Kind: ledger.System, Name: s.Name} }

// Sent is what an update of an incident to values leaves at the vendor, if it arrives.
func (s *System) Sent(i incident.Incident, values incident.Values) map[incident.Field]merge.Base {
	all := i.Values()
	maps.Copy(all, values)
	return merge.Sent(s.Mapping.Write(values, all))
}

// Message is a comment as it is written to the vendor. The author is named in the text, because everything the
// connector writes stands under the integration's own account.
func Message(c incident.Comment) connectors.Message {
	return connectors.Message{
		Key: c.ID.String(), Visibility: connectors.Visibility(c.Visibility), Body: c.Author + " wrote:\n\n" + c.Body,
	}
}

// Wrote reports whether a journal entry is the given comment as Message wrote it: under our own account, with
// the same key where the vendor keeps one, otherwise with the same text.
func Wrote(e connectors.JournalEntry, c incident.Comment) bool {
	m := Message(c)
	if e.Key != "" {
		return e.Key == m.Key
	}
	return e.Own && e.Visibility == m.Visibility && sameText(e.Body, m.Body)
}

// sameText compares what was sent with what a vendor kept: line ends and blank space at the ends of lines are
// changed on the way by many.
func sameText(a, b string) bool { return slices.Equal(lines(a), lines(b)) }

func lines(s string) []string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	var out []string
	for l := range strings.SplitSeq(strings.TrimSpace(s), "\n") {
		out = append(out, strings.TrimRight(l, " \t\u00a0"))
	}
	return out
}

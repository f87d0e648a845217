package explain

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"liaison/connectors"
	"liaison/sync/ledger"
	"liaison/sync/pulse"
)

// Standing is what explains where a link stands.
type Standing struct {
	Link   ledger.Link
	Lane   ledger.LaneState
	Head   *ledger.Delivery // the next delivery, nil when nothing is to be sent
	System ledger.Health    // of its system; zero where that is not the viewer's to know
}

// Link says why a link stands where it stands and what a person can do, a sentence or two each.
func Link(s Standing, at Where, now time.Time) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, sentence(fmt.Sprintf(format, args...))) }
	switch {
	case s.Link.Gone == connectors.Deleted:
		say("%s was deleted there, so it is no longer followed", at.ticket())
	case s.Link.Gone == connectors.Merged:
		say("%s was merged into another one there, so it is no longer followed", at.ticket())
	case s.Link.Unopened, s.Link.ExternalID == "" && s.Head == nil:
		say("No ticket was opened in %s, and none is on its way", at.system())
	case s.Link.ExternalID == "":
		say("%s has not told its ticket yet: it is still to be opened", at.system())
	case s.Head == nil:
		say("Nothing waits to be sent to %s", at.ticket())
	}
	if s.Link.ExternalID != "" && !s.Link.LastSyncedAt.IsZero() {
		say("The last exchange about it was %s ago", pulse.Span(now.Sub(s.Link.LastSyncedAt)))
	}
	if s.Head != nil {
		out = append(out, Delivery(*s.Head, at).String())
		if more := s.Link.Waiting - 1; more == 1 {
			say("One more delivery waits behind it")
		} else if more > 1 {
			say("%d more deliveries wait behind it", more)
		}
		switch {
		case s.Lane.Taken:
			say("An exchange is under way right now")
		case s.Head.State != ledger.StateDead && s.Lane.DueAt.After(now):
			say("The next try is in %s", pulse.Span(s.Lane.DueAt.Sub(now)))
		}
	}
	for _, f := range slices.Sorted(maps.Keys(s.Link.Parked)) {
		say("The %s waits for a person: %s", Field(f), clip(s.Link.Parked[f], 400))
	}
	if s.System.Paused {
		text := at.system() + " is paused"
		if s.System.PausedBy != "" {
			text += " by " + s.System.PausedBy
		}
		if s.System.PauseReason != "" {
			text += ": " + s.System.PauseReason
		}
		say("%s", text)
	}
	if s.System.Key != "" && s.Head != nil {
		for _, a := range pulse.Judge(s.System, now).Alarms {
			if a.Kind == pulse.SendFails || a.Kind == pulse.BreakerIsOpen || a.Kind == pulse.NoHub || a.Kind == pulse.NotReached {
				out = append(out, a.Text)
			}
		}
	}
	return out
}

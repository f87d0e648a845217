package explain

import (
	"fmt"
	"time"

	"liaison/sync/ledger"
	"liaison/sync/pulse"
)

// Health says how a system does: first the sum, then what it rests on, then each alarm.
func Health(h ledger.Health, now time.Time) (sum string, grounds, alarms []string) {
	j := pulse.Judge(h, now)
	for _, a := range j.Alarms {
		alarms = append(alarms, a.Text)
	}
	return sentence(h.Name + " (" + h.Key + ") " + statusWords(h, j.Status, now)), grounded(h, now), alarms
}

func statusWords(h ledger.Health, s pulse.Status, now time.Time) string {
	switch s {
	case pulse.InStep:
		return "is in step"
	case pulse.Catching:
		return "works and is catching up"
	case pulse.NeedsYou:
		return "works, and something waits for a person"
	case pulse.Unproven:
		return "may or may not work: nobody knows"
	case pulse.Failing:
		return "does not work as it should"
	case pulse.Retired:
		return "has left the settings: its tickets stay, and nothing is exchanged"
	case pulse.Paused:
	}
	text := "is paused"
	if !h.PausedAt.IsZero() {
		text += " for " + pulse.Span(now.Sub(h.PausedAt))
	}
	if h.PausedBy != "" {
		text += " by " + h.PausedBy
	}
	if h.PauseReason != "" {
		text += " (" + h.PauseReason + ")"
	}
	return text
}

// grounded says what a judgement rests on.
func grounded(h ledger.Health, now time.Time) []string {
	ago := func(what string, t time.Time, never string) string {
		if t.IsZero() {
			return never
		}
		return what + " " + pulse.Span(now.Sub(t)) + " ago"
	}
	out := []string{sentence(list([]string{
		ago("last sent to", h.SentAt, "never sent to with success"), ago("last answered", h.ReadAt, "never answered so far"), ago("last told news", h.NewsAt, "no news so far"),
	}))}
	switch {
	case h.Waiting == 0 && h.InboxNow == 0:
		out = append(out, "Nothing waits.")
	case h.Waiting > 0:
		text := fmt.Sprintf("%s for it, the oldest for %s", counted(h.Waiting, "delivery waits", "deliveries wait"), pulse.Span(now.Sub(h.OldestUnsent)))
		if h.Retrying > 0 {
			text += fmt.Sprintf("; %s tried again", counted(h.Retrying, "is", "are"))
		}
		out = append(out, sentence(text))
	}
	if h.InboxNow > 0 {
		out = append(out, sentence(fmt.Sprintf("%s to be acted upon, the oldest for %s", counted(h.InboxNow, "call or finding waits", "calls and findings wait"), pulse.Span(now.Sub(h.OldestUnread)))))
	}
	if h.Echoes+h.Restored+h.Retries > 0 {
		out = append(out, sentence(fmt.Sprintf("So far %s recognised as the hub's own, %s by a poll alone, and %s again", counted(h.Echoes, "value that came back was", "values that came back were"),
			counted(h.Restored, "change was noticed", "changes were noticed"), counted(h.Retries, "exchange was made", "exchanges were made"))))
	}
	return out
}

func counted(n int64, one, many string) string {
	most := ""
	if n >= ledger.MostCounted {
		most = "at least "
	}
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%s%d %s", most, n, many)
}

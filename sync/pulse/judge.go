package pulse

import (
	"fmt"
	"strings"
	"time"

	"liaison/connectors"
	"liaison/sync/ledger"
)

// The measures of Judge.
const (
	// Recent is how old an exchange may be to show that a system is there. A quiet system is asked more often than that.
	Recent = 10 * time.Minute
	// Behind is how long a change may wait for its vendor, or a vendor's news for the hub, and still count as in step.
	Behind = time.Minute
	// Stuck is how long something may wait before it is an alarm.
	Stuck = 10 * time.Minute
	// Unwatched is how long the hubs may be silent about a system before nothing that they said counts any more.
	Unwatched = 2 * time.Minute
)

// Status sums a system up in a word.
type Status string

// The statuses, the most pressing first.
const (
	Retired  Status = "RETIRED"     // it left the settings: nothing is sent or read any more
	Paused   Status = "PAUSED"      // a person has paused it
	Failing  Status = "FAILING"     // a way to it does not work: the last write, poll or read failed, or calls are suspended
	Unproven Status = "UNPROVEN"    // nothing went both ways yet, or nobody has heard from it lately: it may be well, but nobody knows
	NeedsYou Status = "NEEDS_YOU"   // both ways work, and something waits for a person
	Catching Status = "CATCHING_UP" // both ways work, and something has waited for longer than Behind
	InStep   Status = "IN_STEP"     // both ways worked when they were last used, the vendor answered lately, and nothing waits
)

// Statuses lists every status.
func Statuses() []Status {
	return []Status{Retired, Paused, Failing, Unproven, NeedsYou, Catching, InStep}
}

// AlarmKind says what an alarm is about.
type AlarmKind string

// The kinds of alarm.
const (
	SendFails      AlarmKind = "SEND_FAILS"       // the last change did not get through
	ReadFails      AlarmKind = "READ_FAILS"       // the last read or check was not answered
	PollFails      AlarmKind = "POLL_FAILS"       // the last poll was not answered
	BreakerIsOpen  AlarmKind = "BREAKER_OPEN"     // calls are suspended but for single tries
	NoHub          AlarmKind = "NO_HUB"           // no hub has spoken of the system lately
	NotReached     AlarmKind = "NOT_REACHED"      // the vendor has not answered anything lately
	NeverUsed      AlarmKind = "NEVER_USED"       // nothing was ever sent with success
	Backlog        AlarmKind = "BACKLOG"          // the oldest change waits for longer than Stuck
	NoNews         AlarmKind = "NO_NEWS"          // the vendor has told nothing new for longer than the settings allow
	DeadLetters    AlarmKind = "DEAD_LETTERS"     // deliveries were given up
	UnknownOutcome AlarmKind = "UNKNOWN_OUTCOMES" // lost answers have not been cleared up for longer than Stuck
	FieldsParked   AlarmKind = "PARKED_FIELDS"    // fields of tickets wait for a person
	CallsParked    AlarmKind = "PARKED_CALLS"     // calls that came in were not understood
	ConflictsWait  AlarmKind = "CONFLICTS"        // conflicts wait for a decision
	Drifted        AlarmKind = "DRIFT"            // a comparison found differences that are not mended
)

// AlarmKinds lists every kind of alarm.
func AlarmKinds() []AlarmKind {
	return []AlarmKind{
		SendFails, ReadFails, PollFails, BreakerIsOpen, NoHub, NotReached, NeverUsed, Backlog, NoNews, DeadLetters, UnknownOutcome, FieldsParked, CallsParked,
		ConflictsWait, Drifted,
	}
}

// Alarm is something about a system that is not as it should be.
type Alarm struct {
	Kind  AlarmKind
	Text  string    // what is wrong and what can be done, for people
	Since time.Time // zero while unknown
}

// Judgement is what Judge makes of what is known.
type Judgement struct {
	Status Status
	Alarms []Alarm
}

// Judge sums up how a system does at a moment. It is in step only when the vendor has answered lately, took the last
// thing that it was sent, and nothing waits: for the vendor longer than Behind, or for a person. A system that was never both
// read and written to is not in step, however well it answers; nor is one of which no hub has spoken lately.
func Judge(h ledger.Health, now time.Time) Judgement {
	if !h.Active {
		return Judgement{Status: Retired}
	}
	j := judge{h: h, now: now}
	if h.Paused {
		j.work()
		return Judgement{Status: Paused, Alarms: j.alarms}
	}
	status := InStep
	worse := func(s Status, found bool) {
		if found && status == InStep {
			status = s
		}
	}
	worse(Failing, j.ways())
	worse(Unproven, j.proof())
	worse(NeedsYou, j.work())
	worse(Catching, h.Waiting > 0 && now.Sub(h.OldestUnsent) > Behind || h.InboxNow > 0 && now.Sub(h.OldestUnread) > Behind)
	return Judgement{Status: status, Alarms: j.alarms}
}

type judge struct {
	h      ledger.Health
	now    time.Time
	alarms []Alarm
}

// raise adds an alarm and reports true.
func (j *judge) raise(k AlarmKind, since time.Time, format string, args ...any) bool {
	j.alarms = append(j.alarms, Alarm{Kind: k, Since: since, Text: fmt.Sprintf(format, args...)})
	return true
}

// ways looks at each way to the vendor by itself.
func (j *judge) ways() bool {
	h, bad := j.h, false
	says := func(at time.Time) string {
		if h.FailedAt.Equal(at) && h.Error != "" {
			return ": " + strings.TrimSuffix(h.Error, ".")
		}
		return ""
	}
	if h.SendFailedAt.After(h.SentAt) {
		bad = j.raise(SendFails, h.SendFailedAt, "The last change sent to %s did not get through%s. %s", h.Name, says(h.SendFailedAt), j.remedy(h.SendFailedAt, "It is sent again by itself."))
	}
	if h.PollFailedAt.After(h.PolledAt) {
		bad = j.raise(PollFails, h.PollFailedAt, "%s could not be asked for news%s. %s", h.Name, says(h.PollFailedAt), j.remedy(h.PollFailedAt, "It is asked again by itself; what changed there meanwhile comes then."))
	}
	if h.ReadFailedAt.After(h.ReadAt) {
		bad = j.raise(ReadFails, h.ReadFailedAt, "%s did not answer when it was last read%s. %s", h.Name, says(h.ReadFailedAt), j.remedy(h.ReadFailedAt, "It is asked again by itself."))
	}
	if h.Breaker == string(connectors.BreakerOpen) || h.Breaker == string(connectors.BreakerHalfOpen) {
		bad = j.raise(BreakerIsOpen, h.FailedAt, "%s failed so often in a row that only a call now and then tries whether it is back. Nothing is lost meanwhile.", h.Name)
	}
	return bad
}

// remedy says what a person can do about a way that fails, by the kind of failure where it is known.
func (j *judge) remedy(at time.Time, otherwise string) string {
	if j.h.FailedAt.Equal(at) && j.h.ErrorKind == connectors.Auth.String() {
		return "Check the system's user, password and rights there, and the settings here."
	}
	return otherwise
}

// proof asks whether what is known suffices to call the system well.
func (j *judge) proof() bool {
	h, missing := j.h, false
	if heard := h.ReportedAt; j.now.Sub(heard) > Unwatched {
		if heard.IsZero() {
			return j.raise(NoHub, time.Time{}, "No hub has looked after %s yet. Start one with it in the settings.", h.Name)
		}
		return j.raise(NoHub, heard, "No hub has said anything about %s for %s. Look whether the hubs run.", h.Name, Span(j.now.Sub(heard)))
	}
	switch {
	case h.ReadAt.IsZero():
		missing = j.raise(NotReached, time.Time{}, "%s has never answered so far.", h.Name)
	case j.now.Sub(h.ReadAt) > Recent:
		missing = j.raise(NotReached, h.ReadAt, "%s has not answered anything for %s.", h.Name, Span(j.now.Sub(h.ReadAt)))
	}
	if h.SentAt.IsZero() {
		missing = j.raise(NeverUsed, time.Time{}, "Nothing was ever sent to %s with success, so nobody knows whether that works.", h.Name)
	}
	return missing
}

// work is what waits for a person, or for too long.
func (j *judge) work() bool {
	h, found := j.h, false
	count := func(k AlarmKind, n int64, one, many string) {
		switch {
		case n == 1:
			found = j.raise(k, time.Time{}, "%s", one)
		case n > 1:
			found = j.raise(k, time.Time{}, many, n)
		}
	}
	count(DeadLetters, h.Dead, "One delivery was given up and holds those behind it. Retry, edit or skip it.",
		"%d deliveries were given up, and each holds those behind it. Retry, edit or skip them.")
	count(FieldsParked, h.ParkedFields, "One field of a ticket waits because its value is not understood or was refused. Mend the mapping or the value.",
		"%d fields of tickets wait because their values are not understood or were refused. Mend the mapping or the values.")
	count(CallsParked, h.ParkedCalls, "One call that came in was not understood and is kept. Replay it after mending.", "%d calls that came in were not understood and are kept. Replay them after mending.")
	count(ConflictsWait, h.Conflicts, "One conflict waits for a decision.", "%d conflicts wait for a decision.")
	count(Drifted, h.Drift, "The last comparison found one difference that is not mended.", "The last comparison found %d differences that are not mended.")
	if h.Unknown > 0 && !h.Paused && !h.OldestUnsent.IsZero() && j.now.Sub(h.OldestUnsent) > Stuck {
		count(UnknownOutcome, h.Unknown, "The answer to one delivery was lost, and the vendor is being asked what became of it.", "The answers to %d deliveries were lost, and the vendor is being asked what became of them.")
	}
	if wait := j.now.Sub(h.OldestUnsent); h.Waiting > 0 && wait > Stuck && h.Dead == 0 {
		found = j.raise(Backlog, h.OldestUnsent, "The oldest change that %s has yet to hear of was made %s ago.", h.Name, Span(wait))
	}
	if heard := later(h.NewsAt, h.Since); h.SilenceAfter > 0 && h.Followed && !heard.IsZero() && j.now.Sub(heard) > h.SilenceAfter {
		found = j.raise(NoNews, heard, "No news from %s for %s; the alarm is set at %s. Look whether it still calls, and whether anybody works there.",
			h.Name, Span(j.now.Sub(heard)), Span(h.SilenceAfter))
	}
	return found
}

// Span writes a length of time as people say it, in its two largest units.
func Span(d time.Duration) string {
	units := []struct {
		name string
		of   time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}}
	d = max(d, 0).Round(time.Second) // clocks differ
	for n, u := range units {
		count := d / u.of
		if count == 0 {
			continue
		}
		text := plural(int(count), u.name)
		if n+1 < len(units) {
			if rest := d % u.of / units[n+1].of; rest > 0 && count < 10 {
				text += " and " + plural(int(rest), units[n+1].name)
			}
		}
		return text
	}
	return "less than a second"
}

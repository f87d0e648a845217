package pulse_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"liaison/sync/ledger"
	"liaison/sync/pulse"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// well is a system that works both ways and has nothing to do.
func well() ledger.Health {
	return ledger.Health{
		Key: "snow", Name: "ServiceNow", Active: true, Followed: true, SilenceAfter: 24 * time.Hour, Since: ago(72 * time.Hour),
		SentAt: ago(5 * time.Minute), ReadAt: ago(20 * time.Second), PolledAt: ago(20 * time.Second), NewsAt: ago(time.Hour), ReportedAt: ago(2 * time.Second), Breaker: "CLOSED",
	}
}

func kinds(j pulse.Judgement) []pulse.AlarmKind {
	var out []pulse.AlarmKind
	for _, a := range j.Alarms {
		out = append(out, a.Kind)
	}
	return out
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*ledger.Health)
		want   pulse.Status
		alarms []pulse.AlarmKind
		says   string
	}{
		"both ways worked lately and nothing waits": {func(*ledger.Health) {}, pulse.InStep, nil, ""},
		"something was sent a moment ago and waits": {func(h *ledger.Health) { h.Waiting, h.OldestUnsent = 1, ago(5*time.Second) }, pulse.InStep, nil, ""},
		"something waits for longer than a minute":  {func(h *ledger.Health) { h.Waiting, h.OldestUnsent = 3, ago(2*time.Minute) }, pulse.Catching, nil, ""},
		"a call waits for longer than a minute":     {func(h *ledger.Health) { h.InboxNow, h.OldestUnread = 3, ago(2*time.Minute) }, pulse.Catching, nil, ""},
		"something waits for a quarter of an hour": {
			func(h *ledger.Health) { h.Waiting, h.OldestUnsent = 3, ago(15*time.Minute) }, pulse.NeedsYou, []pulse.AlarmKind{pulse.Backlog}, "15 minutes",
		},
		"it was never read": {
			func(h *ledger.Health) { h.ReadAt, h.PolledAt = time.Time{}, time.Time{} }, pulse.Unproven, []pulse.AlarmKind{pulse.NotReached}, "never answered",
		},
		"nothing was ever sent to it": {
			func(h *ledger.Health) { h.SentAt = time.Time{} }, pulse.Unproven, []pulse.AlarmKind{pulse.NeverUsed}, "nobody knows",
		},
		"it never exchanged anything": {
			func(h *ledger.Health) { h.SentAt, h.ReadAt, h.PolledAt = time.Time{}, time.Time{}, time.Time{} }, pulse.Unproven,
			[]pulse.AlarmKind{pulse.NotReached, pulse.NeverUsed},
			"",
		},
		"it has not answered for a quarter of an hour": {
			func(h *ledger.Health) { h.ReadAt = ago(15 * time.Minute) }, pulse.Unproven, []pulse.AlarmKind{pulse.NotReached}, "15 minutes",
		},
		"the last poll failed although reads and writes work": {
			func(h *ledger.Health) {
				h.PollFailedAt, h.FailedAt, h.ErrorKind, h.Error = ago(5*time.Second), ago(5*time.Second), "rejected", "no right to list"
			},
			pulse.Failing,
			[]pulse.AlarmKind{pulse.PollFails},
			"no right to list",
		},
		"the last write failed although reads work": {
			func(h *ledger.Health) {
				h.SendFailedAt, h.FailedAt, h.ErrorKind, h.Error = ago(time.Minute), ago(time.Minute), "auth", "may not write"
			},
			pulse.Failing,
			[]pulse.AlarmKind{pulse.SendFails},
			"rights there",
		},
		"a write failed before the last one that went well": {
			func(h *ledger.Health) {
				h.SendFailedAt, h.FailedAt, h.ErrorKind = ago(time.Hour), ago(time.Hour), "transient"
			}, pulse.InStep, nil, "",
		},
		"the last read failed": {func(h *ledger.Health) { h.ReadFailedAt = ago(time.Second) }, pulse.Failing, []pulse.AlarmKind{pulse.ReadFails}, ""},
		"the breaker is open":  {func(h *ledger.Health) { h.Breaker = "OPEN" }, pulse.Failing, []pulse.AlarmKind{pulse.BreakerIsOpen}, "Nothing is lost"},
		"no hub has spoken of it for five minutes": {
			func(h *ledger.Health) { h.ReportedAt = ago(5 * time.Minute) }, pulse.Unproven, []pulse.AlarmKind{pulse.NoHub}, "5 minutes",
		},
		"no hub has ever spoken of it": {
			func(h *ledger.Health) { *h = ledger.Health{Key: "snow", Name: "ServiceNow", Active: true} }, pulse.Unproven, []pulse.AlarmKind{pulse.NoHub}, "yet",
		},
		"a dead letter": {func(h *ledger.Health) { h.Dead = 1 }, pulse.NeedsYou, []pulse.AlarmKind{pulse.DeadLetters}, "One delivery"},
		"a parked field, a parked call, conflicts and drift": {
			func(h *ledger.Health) { h.ParkedFields, h.ParkedCalls, h.Conflicts, h.Drift = 1, 2, 3, 4 }, pulse.NeedsYou,
			[]pulse.AlarmKind{pulse.FieldsParked, pulse.CallsParked, pulse.ConflictsWait, pulse.Drifted},
			"3 conflicts",
		},
		"no news for two days": {func(h *ledger.Health) { h.NewsAt = ago(48 * time.Hour) }, pulse.NeedsYou, []pulse.AlarmKind{pulse.NoNews}, "for 2 days; the alarm is set at 1 day"},
		"no news since it was first looked after": {
			func(h *ledger.Health) { h.NewsAt, h.Since = time.Time{}, ago(25*time.Hour) }, pulse.NeedsYou, []pulse.AlarmKind{pulse.NoNews}, "",
		},
		"no news, and it was first looked after an hour ago": {func(h *ledger.Health) { h.NewsAt, h.Since = time.Time{}, ago(time.Hour) }, pulse.InStep, nil, ""},
		"no news, and nothing is followed there":             {func(h *ledger.Health) { h.NewsAt, h.Followed = ago(48*time.Hour), false }, pulse.InStep, nil, ""},
		"no news, and silence is never an alarm":             {func(h *ledger.Health) { h.NewsAt, h.SilenceAfter = ago(480*time.Hour), 0 }, pulse.InStep, nil, ""},
		"paused with a dead letter":                          {func(h *ledger.Health) { h.Paused, h.Dead = true, 1 }, pulse.Paused, []pulse.AlarmKind{pulse.DeadLetters}, ""},
		"left the settings":                                  {func(h *ledger.Health) { h.Active, h.Dead = false, 1 }, pulse.Retired, nil, ""},
		"a failing way and a dead letter": {
			func(h *ledger.Health) { h.Dead, h.SendFailedAt = 1, ago(time.Second) }, pulse.Failing, []pulse.AlarmKind{pulse.SendFails, pulse.DeadLetters}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := well()
			c.change(&h)
			j := pulse.Judge(h, now)
			if j.Status != c.want || !slices.Equal(kinds(j), c.alarms) {
				t.Errorf("%s with %v, want %s with %v", j.Status, kinds(j), c.want, c.alarms)
			}
			var all string
			for _, a := range j.Alarms {
				all += a.Text + "\n"
			}
			if !strings.Contains(all, c.says) {
				t.Errorf("the alarms should say %q:\n%s", c.says, all)
			}
		})
	}
}

// The silence alarm goes off at its time and not before, by the clock that is given.
func TestSilenceAlarmByTheClock(t *testing.T) {
	t.Parallel()
	h := well()
	alarmed := func(at time.Time) bool {
		h.ReportedAt, h.ReadAt = at, at
		return slices.Contains(kinds(pulse.Judge(h, at)), pulse.NoNews)
	}
	if alarmed(h.NewsAt.Add(24 * time.Hour)) {
		t.Error("the alarm goes off early")
	}
	if !alarmed(h.NewsAt.Add(24*time.Hour + time.Second)) {
		t.Error("the alarm does not go off")
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "less than a second", 400 * time.Millisecond: "less than a second", time.Second: "1 second", 90 * time.Second: "1 minute and 30 seconds", 12 * time.Minute: "12 minutes",
		2*time.Hour + 5*time.Minute: "2 hours and 5 minutes", 26 * time.Hour: "1 day and 2 hours", 40 * 24 * time.Hour: "40 days", -time.Second: "less than a second",
	} {
		if got := pulse.Span(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}

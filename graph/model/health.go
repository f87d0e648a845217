package model

import (
	"time"

	"liaison/sync/ledger"
	"liaison/sync/pulse"
)

// SystemHealth is how a system does, as the schema shows it.
type SystemHealth struct {
	ledger.Health
	pulse.Judgement
}

// NewSystemHealth judges what is known of a system.
func NewSystemHealth(h ledger.Health, now time.Time) *SystemHealth {
	return &SystemHealth{Health: h, Judgement: pulse.Judge(h, now)}
}

// InStep reports whether all is well.
func (h *SystemHealth) InStep() bool { return h.Status == pulse.InStep }

// Alarms lists what is not as it should be.
func (h *SystemHealth) Alarms() []*SystemAlarm {
	out := make([]*SystemAlarm, len(h.Judgement.Alarms))
	for n, a := range h.Judgement.Alarms {
		out[n] = &SystemAlarm{Kind: a.Kind, Text: a.Text, Since: moment(a.Since)}
	}
	return out
}

// LastSentAt is nil before the first time, as are the others.
func (h *SystemHealth) LastSentAt() *time.Time { return moment(h.SentAt) }

// LastReadAt is when the vendor last answered.
func (h *SystemHealth) LastReadAt() *time.Time { return moment(h.ReadAt) }

// LastPolledAt is when it last answered a poll.
func (h *SystemHealth) LastPolledAt() *time.Time { return moment(h.PolledAt) }

// LastNewsAt is when it last told something new.
func (h *SystemHealth) LastNewsAt() *time.Time { return moment(h.NewsAt) }

// LastCallAt is when it last called.
func (h *SystemHealth) LastCallAt() *time.Time { return moment(h.HookAt) }

// LastFailure is nil when there was none.
func (h *SystemHealth) LastFailure() *SystemFailure {
	if h.FailedAt.IsZero() {
		return nil
	}
	return &SystemFailure{At: h.FailedAt, Kind: h.ErrorKind, Text: h.Error}
}

// OldestUnsent is nil when nothing waits.
func (h *SystemHealth) OldestUnsent() *time.Time { return moment(h.Health.OldestUnsent) }

// OldestUnread is nil when nothing waits.
func (h *SystemHealth) OldestUnread() *time.Time { return moment(h.Health.OldestUnread) }

// LanesWaiting counts tickets with something to be sent.
func (h *SystemHealth) LanesWaiting() int64 { return h.Lanes }

// Parked counts fields that wait for a person.
func (h *SystemHealth) Parked() int64 { return h.ParkedFields }

// InboxWaiting counts what waits to be acted upon.
func (h *SystemHealth) InboxWaiting() int64 { return h.InboxNow }

// ComparedAt is nil before the first comparison.
func (h *SystemHealth) ComparedAt() *time.Time { return moment(h.Health.ComparedAt) }

// Breaker is nil while no hub has told.
func (h *SystemHealth) Breaker() *BreakerState {
	if h.Health.Breaker == "" {
		return nil
	}
	state := BreakerState(h.Health.Breaker)
	return &state
}

// BreakerUntil is nil unless the breaker waits.
func (h *SystemHealth) BreakerUntil() *time.Time { return moment(h.Health.BreakerUntil) }

// SilenceAfterSeconds is nil when silence is never an alarm.
func (h *SystemHealth) SilenceAfterSeconds() *int64 {
	if h.SilenceAfter == 0 {
		return nil
	}
	seconds := int64(h.SilenceAfter.Seconds())
	return &seconds
}

// ReportedAt is nil before the first report.
func (h *SystemHealth) ReportedAt() *time.Time { return moment(h.Health.ReportedAt) }

// moment is nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

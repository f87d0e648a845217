package ledger

import (
	"context"
	"time"

	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

// MostCounted bounds how many lanes, and how many rows of the inbox, of one system are looked at to count what waits. A
// count that reaches it means "at least so many".
const MostCounted = 20_000

// Health is what is known of how a system does, without judgement. Times are zero while nothing of the kind was seen. Counts
// are of the organisations that the viewer may see.
type Health struct {
	System       incident.SystemID
	Key, Name    string
	Active       bool
	Paused       bool
	PausedAt     time.Time
	PausedBy     string
	PauseReason  string
	SilenceAfter time.Duration // no news for this long is an alarm; 0: never
	Followed     bool          // there are tickets to hear of

	SentAt, ReadAt, PolledAt, NewsAt, HookAt       time.Time // what went well, last
	FailedAt                                       time.Time // the last failure of any kind, with ErrorKind and Error
	SendFailedAt, ReadFailedAt, PollFailedAt       time.Time
	ErrorKind, Error                               string
	Breaker                                        string // CLOSED, OPEN or HALF_OPEN; empty while unknown
	BreakerUntil                                   time.Time
	Echoes, Restored, Retries                      int64
	Since                                          time.Time // when a hub first looked after the system
	ReportedAt                                     time.Time // when a hub last said anything about it
	Lanes, Waiting, Retrying, Dead, Unknown        int64
	OldestUnsent                                   time.Time // when the oldest change was made that the vendor has yet to hear of
	ParkedFields, ParkedCalls, Conflicts, InboxNow int64
	OldestUnread                                   time.Time // when the oldest call or hint came that waits to be acted upon
	Drift                                          int64     // what the last comparison found and did not mend
	ComparedAt                                     time.Time // when that began
}

// SystemsHealth asks how every system does that the viewer may see, by key.
func SystemsHealth(answer *[]Health) []Question {
	var all []Health
	by := map[int64]*Health{}
	found := func(id int64, set func(*Health)) {
		if h, ok := by[id]; ok {
			set(h)
		}
	}
	return []Question{
		{func(ctx context.Context, q *db.Queries) error {
			rows, err := q.SystemPulses(ctx)
			all = make([]Health, len(rows))
			for n, r := range rows {
				all[n] = healthOf(r)
				by[r.ID] = &all[n]
			}
			*answer = all
			return err
		}},
		{func(ctx context.Context, q *db.Queries) error {
			rows, err := q.OpenLanes(ctx, MostCounted)
			for _, r := range rows {
				found(r.SystemID, func(h *Health) {
					h.Lanes, h.Waiting, h.Retrying, h.OldestUnsent = r.Lanes, r.Waiting, r.Retrying, r.Oldest.UTC()
				})
			}
			return err
		}},
		{func(ctx context.Context, q *db.Queries) error {
			rows, err := q.TroubledLanes(ctx)
			for _, r := range rows {
				found(r.SystemID, func(h *Health) { h.Dead, h.Unknown = r.Dead, r.Unknown })
			}
			return err
		}},
		{func(ctx context.Context, q *db.Queries) error {
			rows, err := q.ParkedFields(ctx)
			for _, r := range rows {
				found(r.SystemID, func(h *Health) { h.ParkedFields = r.Parked })
			}
			return err
		}},
		{func(ctx context.Context, q *db.Queries) error {
			rows, err := q.InboxWaiting(ctx, MostCounted)
			for _, r := range rows {
				found(r.SystemID, func(h *Health) { h.InboxNow, h.OldestUnread, h.ParkedCalls = r.Waiting, sentAt(r.Oldest), r.Parked })
			}
			return err
		}},
		{func(ctx context.Context, q *db.Queries) error {
			rows, err := q.ConflictsWaiting(ctx)
			for _, r := range rows {
				found(r.SystemID, func(h *Health) { h.Conflicts = r.Conflicts })
			}
			return err
		}},
		{func(ctx context.Context, q *db.Queries) error {
			rows, err := q.LastReconciliations(ctx)
			for _, r := range rows {
				found(r.SystemID, func(h *Health) { h.Drift, h.ComparedAt = max(r.Drifted-r.Mended, 0), r.StartedAt.UTC() })
			}
			return err
		}},
	}
}

func healthOf(r db.SystemPulsesRow) Health {
	return Health{
		System: incident.SystemID(r.ID), Key: r.Key, Name: r.Name, Active: r.Active, Paused: r.Paused, PausedAt: timeOf(r.PausedAt), PausedBy: r.PausedBy,
		PauseReason: r.PauseReason, SilenceAfter: time.Duration(r.SilenceSeconds * float64(time.Second)), Followed: r.Followed,
		SentAt: timeOf(r.SentAt), ReadAt: timeOf(r.ReadAt), PolledAt: timeOf(r.PollAt), NewsAt: timeOf(r.NewsAt), HookAt: timeOf(r.HookAt), FailedAt: timeOf(r.FailedAt),
		SendFailedAt: timeOf(r.SendFailedAt), ReadFailedAt: timeOf(r.ReadFailedAt), PollFailedAt: timeOf(r.PollFailedAt), ErrorKind: r.ErrorKind, Error: r.Error,
		Breaker: r.Breaker, BreakerUntil: timeOf(r.BreakerUntil), Echoes: r.Echoes, Restored: r.Restored, Retries: r.Retries,
		Since: timeOf(r.Since), ReportedAt: timeOf(r.UpdatedAt),
	}
}

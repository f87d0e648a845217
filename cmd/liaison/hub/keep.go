package hub

import (
	"context"
	"time"

	"liaison/internal/config"
	"liaison/internal/feed"
	"liaison/sync/ledger"
)

// keepLedger puts old positions and entries away, a little every hour, until ctx ends. Any number of hubs may do it.
func (h *Hub) keepLedger(ctx context.Context, l *ledger.Ledger, keep config.Ledger) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := h.putAway(ctx, l, keep, time.Now()); err != nil && ctx.Err() == nil {
			h.log.WarnContext(ctx, "putting old entries away failed; it is tried again in an hour", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// perHour bounds how many incidents are put away at a time, so that nobody notices.
const perHour = 2000

func (h *Hub) putAway(ctx context.Context, l *ledger.Ledger, keep config.Ledger, now time.Time) error {
	if keep.FeedDays > 0 {
		if _, err := feed.Trim(ctx, h.db, now.AddDate(0, 0, -keep.FeedDays)); err != nil {
			return err
		}
	}
	if keep.EntryDays > 0 {
		done, err := l.Archive(ctx, h.db, now.AddDate(0, 0, -keep.EntryDays), perHour)
		if done.Incidents > 0 {
			h.log.InfoContext(ctx, "entries were put away", "incidents", done.Incidents, "entries", done.Entries)
		}
		if err != nil {
			return err
		}
	}
	if keep.ArchiveDays > 0 {
		if n, err := l.DropArchive(ctx, h.db, now.AddDate(0, 0, -keep.ArchiveDays)); err != nil {
			return err
		} else if n > 0 {
			h.log.InfoContext(ctx, "months of the archive were dropped", "months", n)
		}
	}
	return nil
}

package simulation

import (
	"context"
	"time"
)

// clock is the world's time. At scale 1 it is the time package's, which a bubble moves; over a real Postgres it runs
// scale times as fast as the real one.
type clock struct {
	began time.Time
	start time.Time
	scale time.Duration
}

// epoch is when every world begins.
var epoch = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func newClock(scale time.Duration) *clock {
	return &clock{began: time.Now(), start: epoch, scale: scale}
}

// since is how long the world has been running.
func (c *clock) since() time.Duration {
	return time.Duration(int64(time.Since(c.began)) * int64(c.scale))
}

// now is the true time of the world, which nobody in it need share.
func (c *clock) now() time.Time { return c.start.Add(c.since()) }

// sleep waits, and returns early with its cause when ctx ends.
func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d / c.scale)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// after runs fn when the time has come, whoever is alive then.
func (c *clock) after(d time.Duration, fn func()) { time.AfterFunc(d/c.scale, fn) }

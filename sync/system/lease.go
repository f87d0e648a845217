package system

import (
	"context"
	"errors"
	"time"

	"liaison/sync/ledger"
)

// Lease is how long a lane, a hint or a poll is taken for. Whoever works under one keeps it with Hold, so it need not
// outlast the work: it is how long others wait for a hub that was killed.
const Lease = 20 * time.Second

// Hold renews a lease until release is called. held ends with ctx, and when the lease is lost: when renew returns
// ledger.ErrFenced, or could not reach the database for as long as a lease lasts. context.Cause tells which.
func Hold(ctx context.Context, renew func(ctx context.Context, lasts time.Duration) error) (held context.Context, release func()) {
	return hold(ctx, Lease, renew)
}

func hold(ctx context.Context, lasts time.Duration, renew func(context.Context, time.Duration) error) (context.Context, func()) {
	held, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(lasts / 4)
		defer tick.Stop()
		ends := time.Now().Add(lasts)
		for {
			select {
			case <-held.Done():
				return
			case <-tick.C:
			}
			asked := time.Now()
			attempt, stop := context.WithDeadline(held, ends)
			err := renew(attempt, lasts)
			stop()
			switch {
			case err == nil:
				ends = asked.Add(lasts)
			case errors.Is(err, ledger.ErrFenced) || !time.Now().Before(ends):
				cancel(ledger.ErrFenced)
				return
			}
		}
	}()
	return held, func() {
		cancel(nil)
		<-ended
	}
}

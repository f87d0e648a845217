package system

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"liaison/sync/ledger"
)

func TestHold(t *testing.T) {
	t.Parallel()
	broken := errors.New("the database is away")
	for _, c := range []struct {
		name  string
		renew func(since time.Duration) error
		until time.Duration // when the lease is known to be lost; 0: never
	}{
		{"renewed for as long as the work takes", func(time.Duration) error { return nil }, 0},
		{"lost to another", func(since time.Duration) error {
			if since > 30*time.Second {
				return ledger.ErrFenced
			}
			return nil
		}, 35 * time.Second},
		{"a database that is away for less than the lease", func(since time.Duration) error {
			if since > 30*time.Second && since < 40*time.Second {
				return broken
			}
			return nil
		}, 0},
		{"a database that is away for longer", func(since time.Duration) error {
			if since > 30*time.Second {
				return broken
			}
			return nil
		}, 50 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				held, release := hold(t.Context(), 20*time.Second, func(_ context.Context, lasts time.Duration) error {
					if lasts != 20*time.Second {
						t.Errorf("renewed for %s", lasts)
					}
					return c.renew(time.Since(began))
				})
				defer release()
				if c.until == 0 {
					time.Sleep(10 * time.Minute) //nolint:forbidigo // the time of a bubble passes at once
					if held.Err() != nil {
						t.Errorf("the lease was given up: %v", context.Cause(held))
					}
					return
				}
				<-held.Done()
				if lost := time.Since(began); lost != c.until || !errors.Is(context.Cause(held), ledger.ErrFenced) {
					t.Errorf("given up after %s with %v, want %s and ErrFenced", lost, context.Cause(held), c.until)
				}
			})
		})
	}
}

func TestHoldEndsWithItsRelease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		renewed := 0
		held, release := hold(t.Context(), 20*time.Second, func(context.Context, time.Duration) error { renewed++; return nil })
		time.Sleep(12 * time.Second) //nolint:forbidigo // the time of a bubble passes at once
		release()
		release()
		time.Sleep(time.Minute) //nolint:forbidigo // as above
		if renewed != 2 || held.Err() == nil {
			t.Errorf("renewed %d times, want 2 in 12 s and none after the release", renewed)
		}
	})
}

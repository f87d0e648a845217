package system

import (
	"context"
	"errors"
	"sync"
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

// Renewer renews many lanes' leases at once and returns those that were lost.
type Renewer interface {
	RenewAll(ctx context.Context, leases []ledger.Lease, lasts time.Duration) (lost []ledger.Lease, err error)
}

// Keeper keeps the leases of many lanes with one statement every few seconds. It is safe for concurrent use, and costs
// nothing while it keeps none.
type Keeper struct {
	renewer Renewer
	lasts   time.Duration

	mu    sync.Mutex
	kept  map[ledger.Lease]*keeping
	timed bool // renew will come
}

type keeping struct {
	cancel context.CancelCauseFunc
	ends   time.Time // when the lease is over for all that this process knows
}

// NewKeeper returns a keeper of leases that last for Lease.
func NewKeeper(r Renewer) *Keeper {
	return &Keeper{renewer: r, lasts: Lease, kept: map[ledger.Lease]*keeping{}}
}

// Keep renews a lease until release is called. asked is when it was asked for: a process that stood still since then may
// have lost it, and held has ended when that is so. What is said of Hold's held holds here too.
func (k *Keeper) Keep(ctx context.Context, lease ledger.Lease, asked time.Time) (held context.Context, release func()) {
	held, cancel := context.WithCancelCause(ctx)
	ends := asked.Add(k.lasts)
	if !time.Now().Before(ends) {
		cancel(ledger.ErrFenced)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept[lease] = &keeping{cancel: cancel, ends: ends}
	k.again()
	return held, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.kept, lease)
		cancel(nil)
	}
}

// Over reports whether a kept lease has ended for all that this process knows. A process that stood still learns it here
// before held's end has come round: whoever is about to write asks.
func (k *Keeper) Over(lease ledger.Lease) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	kept, ok := k.kept[lease]
	return ok && !time.Now().Before(kept.ends)
}

// renew makes all kept leases last, drops those that are lost, and comes again while any is kept.
func (k *Keeper) renew() {
	asked := time.Now()
	k.mu.Lock()
	leases, first := make([]ledger.Lease, 0, len(k.kept)), asked.Add(k.lasts)
	for lease, kept := range k.kept {
		leases = append(leases, lease)
		if kept.ends.Before(first) {
			first = kept.ends
		}
	}
	k.mu.Unlock()
	var lost []ledger.Lease
	var err error
	if len(leases) > 0 {
		ctx, cancel := context.WithDeadline(context.Background(), first)
		lost, err = k.renewer.RenewAll(ctx, leases, k.lasts)
		cancel()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	gone := map[ledger.Lease]bool{}
	for _, lease := range lost {
		gone[lease] = true
	}
	now := time.Now()
	for _, lease := range leases {
		kept, still := k.kept[lease]
		switch {
		case !still:
		case gone[lease] || err != nil && !now.Before(kept.ends):
			kept.cancel(ledger.ErrFenced)
			delete(k.kept, lease)
		case err == nil:
			kept.ends = asked.Add(k.lasts)
		}
	}
	k.timed = false
	k.again()
}

// again has renew come once more while anything is kept. The caller holds mu.
func (k *Keeper) again() {
	if !k.timed && len(k.kept) > 0 {
		k.timed = true
		time.AfterFunc(k.lasts/4, k.renew)
	}
}

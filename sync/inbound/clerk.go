package inbound

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"liaison/internal/postgres"
	"liaison/sync/inbound/internal/db"
)

const (
	// together bounds how many calls share a transaction: enough that a flood costs few commits, few enough that none waits
	// long for the others.
	together = 64
	// keeping bounds a transaction of the clerk's, whoever has asked for it.
	keeping = 20 * time.Second
)

// clerk stores calls. Those that come while it is at it go into the next transaction together, so that a flood, be it of one
// call a hundred times, takes one connection and not the pool. The zero clerk with a store is ready for use.
type clerk struct {
	store Store

	mu      sync.Mutex
	waiting []*entrant
	running bool
}

// entrant is a call on its way into a transaction.
type entrant struct {
	call *call
	out  kept
	err  error
	done chan struct{}
	left <-chan struct{} // closed when nobody waits for it any more
}

// keep stores a call and says what became of it. When ctx ends first it may be stored all the same: whoever sends it again
// is told that it is a repeat.
func (k *clerk) keep(ctx context.Context, c *call) (kept, error) {
	e := &entrant{call: c, done: make(chan struct{}), left: ctx.Done()}
	k.mu.Lock()
	k.waiting = append(k.waiting, e)
	if !k.running {
		k.running = true
		go k.run(context.WithoutCancel(ctx))
	}
	k.mu.Unlock()
	select {
	case <-e.done:
		return e.out, e.err
	case <-ctx.Done():
		return kept{}, fmt.Errorf("keeping a call: %w", context.Cause(ctx))
	}
}

// run stores what waits until nothing does.
func (k *clerk) run(ctx context.Context) {
	for {
		k.mu.Lock()
		n := min(len(k.waiting), together)
		if n == 0 {
			k.running = false
			k.mu.Unlock()
			return
		}
		some := slices.Clone(k.waiting[:n])
		k.waiting = k.waiting[n:]
		k.mu.Unlock()
		// A sender that has left was answered nothing and will call again: after an outage nobody waits behind those.
		some = slices.DeleteFunc(some, func(e *entrant) bool {
			select {
			case <-e.left:
				return true
			default:
				return false
			}
		})
		k.each(ctx, some)
	}
}

// each stores calls, together or, when that fails for a reason of theirs, each alone: none answers for another.
func (k *clerk) each(ctx context.Context, some []*entrant) {
	if len(some) == 0 {
		return
	}
	err := k.write(ctx, some)
	alone := err != nil && len(some) > 1 && !postgres.IsUnavailable(err) && !postgres.IsTimeout(err) && !errors.Is(err, context.DeadlineExceeded)
	for _, e := range some {
		if e.err = err; alone {
			e.err = k.write(ctx, []*entrant{e})
		}
		close(e.done)
	}
}

// write stores calls in one transaction, in the order in which they came.
func (k *clerk) write(ctx context.Context, some []*entrant) error {
	ctx, cancel := context.WithTimeout(ctx, keeping)
	defer cancel()
	locks := make([]int32, len(some))
	for n, e := range some {
		locks[n] = e.call.lock()
	}
	slices.Sort(locks) // in one order everywhere, so that two hubs never wait for each other
	locks = slices.Compact(locks)
	err := k.store.System(ctx, func(q db.Querier) error {
		for _, lock := range locks {
			if err := q.LockContent(ctx, db.LockContentParams{Class: contentLock, Content: lock}); err != nil {
				return fmt.Errorf("waiting for calls with the same content: %w", err)
			}
		}
		for _, e := range some {
			var err error
			if e.out, err = e.call.keep(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keeping %d calls: %w", len(some), err)
	}
	return nil
}

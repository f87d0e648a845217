package ledger

import (
	"context"
	"sync"
)

// group gathers what many goroutines have to write into shared transactions: whoever comes while one is under way
// goes into the next, so that nobody waits for company and the store is never asked for more than it can commit.
// The zero group with carry set is ready for use.
type group[T any] struct {
	// carry writes all of them and returns one error for each. It must not depend on their order.
	carry func(context.Context, []T) []error

	mu      sync.Mutex
	waiting []entrant[T]
	running bool
}

type entrant[T any] struct {
	what T
	ctx  context.Context //nolint:containedctx // the values of the first one's context go along, such as its trace
	done chan error
}

// most bounds a transaction: enough to share its commit, few enough not to hold locks for long.
const most = 128

// do writes one thing and returns how that ended. When ctx ends first it may be written all the same.
func (g *group[T]) do(ctx context.Context, what T) error {
	e := entrant[T]{what: what, ctx: ctx, done: make(chan error, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, e)
	if !g.running {
		g.running = true
		go g.run()
	}
	g.mu.Unlock()
	select {
	case err := <-e.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run carries what waits until nothing does.
func (g *group[T]) run() {
	for {
		g.mu.Lock()
		n := min(len(g.waiting), most)
		if n == 0 {
			g.running = false
			g.mu.Unlock()
			return
		}
		batch := g.waiting[:n:n]
		g.waiting = g.waiting[n:]
		g.mu.Unlock()
		what := make([]T, n)
		for i, e := range batch {
			what[i] = e.what
		}
		// No deadline of one of them ends the others' transaction; the store has its own.
		for i, err := range g.carry(context.WithoutCancel(batch[0].ctx), what) {
			batch[i].done <- err
		}
	}
}

package outbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel"
	"golang.org/x/sync/errgroup"

	"liaison/internal/telemetry"
	"liaison/sync/ledger"
	"liaison/sync/system"
)

// Options are a worker's settings; the zero value has the defaults.
type Options struct {
	Idle    time.Duration // how often due lanes are looked for when nothing wakes the worker, default 500 ms
	Backoff Backoff
	Log     *slog.Logger     // default slog.Default
	Now     func() time.Time // default time.Now
	Wake    <-chan struct{}  // rings when deliveries wait; nil: only Idle
	Metrics *Metrics         // nil: none
}

// Backoff is the pause before a further try: Base doubled with every try up to Most, half of it random so that
// lanes that failed together do not come back together.
type Backoff struct {
	Base time.Duration // default 1 s
	Most time.Duration // default 30 s: how late a lane may notice that its vendor is back
}

// after returns the pause after the given number of tries.
func (b Backoff) after(tries int) time.Duration {
	d := b.Base << min(max(tries-1, 0), 20)
	if d > b.Most || d <= 0 {
		d = b.Most
	}
	return d/2 + rand.N(d/2+1)
}

// Worker carries the deliveries of one system.
type Worker struct {
	ledger *ledger.Ledger
	system *system.System
	opts   Options
	log    *slog.Logger
}

// NewWorker returns a worker for one system.
func NewWorker(l *ledger.Ledger, s *system.System, opts Options) *Worker {
	if opts.Idle <= 0 {
		opts.Idle = 500 * time.Millisecond
	}
	if opts.Backoff.Base <= 0 {
		opts.Backoff.Base = time.Second
	}
	if opts.Backoff.Most <= 0 {
		opts.Backoff.Most = 30 * time.Second
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Worker{ledger: l, system: s, opts: opts, log: opts.Log.With("system", s.Key)}
}

// Run carries deliveries until ctx ends, and returns once the calls that are under way have ended.
func (w *Worker) Run(ctx context.Context) error {
	free := make(chan struct{}, w.system.Concurrency)
	for range w.system.Concurrency {
		free <- struct{}{}
	}
	defer func() {
		for range w.system.Concurrency { // every slot is back when every call has ended
			<-free
		}
	}()
	tick := time.NewTicker(w.opts.Idle)
	defer tick.Stop()
	trouble := 0
	for {
		started, err := w.start(ctx, free)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if trouble++; trouble == 1 { // an outage is told once, not twice a second
				w.log.WarnContext(ctx, "cannot take deliveries from the ledger; trying on", "error", err)
			}
		case trouble > 0:
			w.log.InfoContext(ctx, "takes deliveries from the ledger again", "failures", trouble)
			trouble = 0
		}
		if started > 0 {
			continue // there may be more
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.opts.Wake:
		case <-tick.C:
		}
	}
}

// start waits for a free slot, takes as many due deliveries as slots are free and begins to carry them.
func (w *Worker) start(ctx context.Context, free chan struct{}) (int, error) {
	select {
	case <-ctx.Done():
		return 0, nil
	case <-free:
	}
	slots := 1
	for more := true; more; {
		select {
		case <-free:
			slots++
		default:
			more = false
		}
	}
	exchanges, err := w.ledger.NextExchanges(ctx, w.system.ID, slots, system.Lease)
	for range slots - len(exchanges) {
		free <- struct{}{}
	}
	for _, x := range exchanges {
		go func() {
			defer func() { free <- struct{}{} }()
			_ = w.carry(ctx, x) // it has logged what went wrong
		}()
	}
	return len(exchanges), err
}

// Step carries what is due now, once, and returns how many exchanges that were.
func (w *Worker) Step(ctx context.Context) (int, error) {
	exchanges, err := w.ledger.NextExchanges(ctx, w.system.ID, w.system.Concurrency, system.Lease)
	if err != nil {
		return 0, err
	}
	var group errgroup.Group
	for _, x := range exchanges {
		group.Go(func() error { return w.carry(ctx, x) })
	}
	return len(exchanges), group.Wait()
}

// carry makes one exchange and settles it. An exchange that cannot be settled is left to the lease's end: its
// delivery is marked as begun, so whoever takes the lane next asks the vendor first.
func (w *Worker) carry(ctx context.Context, x ledger.Exchange) error {
	ctx, span := otel.Tracer("liaison/sync/outbound").Start(telemetry.Extract(ctx, x.Delivery.Trace), "deliver "+string(x.Delivery.Kind))
	defer span.End()
	log := w.log.With("incident", x.Incident.Number, "delivery", x.Delivery.ID, "kind", x.Delivery.Kind)
	held, release := system.Hold(ctx, func(ctx context.Context, lasts time.Duration) error { return w.ledger.Renew(ctx, x.Lease, lasts) })
	defer release()
	began := time.Now()
	s := w.exchange(held, x)
	s.Actor = w.system.Actor()
	w.opts.Metrics.observe(w.system.Key, x, s, time.Since(began))
	// What the vendor has done must be written down even when the hub is told to stop meanwhile.
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := w.ledger.Settle(settle, x, s); err != nil {
		if errors.Is(err, ledger.ErrFenced) {
			log.WarnContext(ctx, "lost the lane while a call was under way; its new holder finds out what became of it")
			return nil
		}
		log.ErrorContext(ctx, "cannot settle a delivery; the vendor is asked again when the lease ends", "error", err)
		return fmt.Errorf("carrying a delivery: %w", err)
	}
	switch {
	case s.State == ledger.StateDead:
		log.ErrorContext(ctx, "a delivery was given up and holds its lane", "error", s.Error)
	case s.State != ledger.StateDelivered && s.Error != "":
		log.WarnContext(ctx, "a delivery goes again later", "state", s.State, "at", s.RetryAt, "error", s.Error)
	}
	return nil
}

// Call makes an exchange's call and forgets how it ended, as a worker does that dies right after it. It is for
// tests of exactly that.
func (w *Worker) Call(ctx context.Context, x ledger.Exchange) { w.exchange(ctx, x) }

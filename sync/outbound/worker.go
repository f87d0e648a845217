package outbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"liaison/connectors"
	"liaison/internal/telemetry"
	"liaison/sync/ledger"
	"liaison/sync/pulse"
	"liaison/sync/system"
)

// Options are a worker's settings; the zero value has the defaults.
type Options struct {
	Idle  time.Duration // how often due lanes are looked for when nothing wakes the worker, default 500 ms
	Drain time.Duration // how long calls under way may take to end once the worker is told to stop, default 10 s
	// Together is how long after a lane was taken the deliveries that were begun with its head share one settlement, default
	// 50 ms. Those of a slow vendor are settled one by one.
	Together time.Duration
	// Onward is how long a lane with more to say is kept by whoever has it, default 100 ms. Until it is given back it can hear
	// nothing from its vendor, and others wait for their turn.
	Onward  time.Duration
	Backoff Backoff
	Log     *slog.Logger     // default slog.Default
	Now     func() time.Time // default time.Now
	Wake    <-chan struct{}  // rings when deliveries wait; nil: only Idle
	Metrics *Metrics         // nil: none
	Pulse   *pulse.Pulse     // nil: nobody is told how the system does
}

// Backoff is the pause before a further try: Base doubled with every try up to Most, half of it random so that
// lanes that failed together do not come back together.
type Backoff struct {
	Base   time.Duration                     // default 1 s
	Most   time.Duration                     // default 30 s: how late a lane may notice that its vendor is back
	Random func(time.Duration) time.Duration // anything from 0 to below its argument; default math/rand
}

// after returns the pause after the given number of tries.
func (b Backoff) after(tries int) time.Duration {
	d := b.Base << min(max(tries-1, 0), 20)
	if d > b.Most || d <= 0 {
		d = b.Most
	}
	return d/2 + b.Random(d/2+1)
}

// Worker carries the deliveries of one system.
type Worker struct {
	ledger *ledger.Ledger
	system *system.System
	opts   Options
	log    *slog.Logger
	leases *system.Keeper

	calls  *semaphore.Weighted // exchanges at a time
	flying atomic.Int64        // lanes that are claimed and not yet settled
	pace   pace
}

// NewWorker returns a worker for one system.
func NewWorker(l *ledger.Ledger, s *system.System, opts Options) *Worker {
	if opts.Idle <= 0 {
		opts.Idle = 500 * time.Millisecond
	}
	if opts.Drain <= 0 {
		opts.Drain = 10 * time.Second
	}
	if opts.Together <= 0 {
		opts.Together = 50 * time.Millisecond
	}
	if opts.Onward <= 0 {
		opts.Onward = 100 * time.Millisecond
	}
	if opts.Backoff.Base <= 0 {
		opts.Backoff.Base = time.Second
	}
	if opts.Backoff.Most <= 0 {
		opts.Backoff.Most = 30 * time.Second
	}
	if opts.Backoff.Random == nil {
		opts.Backoff.Random = rand.N[time.Duration]
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Worker{
		ledger: l, system: s, opts: opts, log: opts.Log.With("system", s.Key), leases: system.NewKeeper(l),
		calls: semaphore.NewWeighted(int64(max(s.Concurrency, 1))),
	}
}

// Run carries deliveries until ctx ends, and returns once the calls that are under way have ended.
//
// Lanes are claimed a little ahead of the calls, so that a fast vendor's are claimed and settled many at a time; a slow
// vendor's lanes are claimed one for each call, because a claimed lane can hear nothing from its vendor.
func (w *Worker) Run(ctx context.Context) error {
	crew := crew{work: make(chan ledger.Exchange), done: make(chan struct{}, 1)}
	defer crew.rest()
	// Calls under way outlive the word to stop, for a while: what they did can then be settled.
	calling, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, func() { time.AfterFunc(w.opts.Drain, hangUp) })()
	tick := time.NewTicker(w.opts.Idle)
	defer tick.Stop()
	trouble := 0
	for {
		claimed, err := w.claim(ctx, calling, &crew)
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
		if claimed > 0 {
			continue // there may be more
		}
		// Lanes that were settled meanwhile may be due again at once, so that is worth a look as well.
		select {
		case <-ctx.Done():
			return nil
		case <-w.opts.Wake:
		case <-crew.done:
		case <-tick.C:
		}
		for range 3 { // one look answers all that has rung
			select {
			case <-w.opts.Wake:
			case <-crew.done:
			case <-tick.C:
			default:
			}
		}
	}
}

// claim takes as many due lanes as may be under way beside those that are, and begins to carry their heads. While the
// vendor is left alone nothing is claimed, and one lane while it is tried again: however many wait, an outage costs
// one call now and then.
func (w *Worker) claim(ctx, calling context.Context, crew *crew) (int, error) {
	ahead, flying := w.pace.ahead(w.system.Concurrency), int(w.flying.Load())
	room := ahead - flying
	if room <= 0 || flying >= w.system.Concurrency && room < ahead/4 { // a few at a time would cost a transaction each
		return 0, nil
	}
	if room = min(room, w.allowed()-flying); room <= 0 {
		return 0, nil
	}
	if ctx.Err() != nil {
		return 0, nil
	}
	// The word to stop must not cut the claim's commit: lanes would stay taken that nobody here knows of.
	claiming, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	exchanges, err := w.ledger.NextExchanges(claiming, w.system.ID, room, system.Lease)
	w.flying.Add(int64(len(exchanges)))
	for _, x := range exchanges {
		crew.carry(x, func(x ledger.Exchange) {
			defer w.flying.Add(-1)
			began := time.Now()
			for more := true; more; {
				x, more, _ = w.carry(ctx, calling, x, func() time.Duration { return w.goOn(ctx, began) }) // it has logged what went wrong
			}
		})
	}
	return len(exchanges), err
}

// crew carries exchanges side by side. Its members stay for the next one, because a goroutine's stack has grown to what an
// exchange needs by then.
type crew struct {
	work    chan ledger.Exchange
	done    chan struct{} // a hint that lanes can be claimed again
	members sync.WaitGroup
}

func (c *crew) carry(x ledger.Exchange, carry func(ledger.Exchange)) {
	select {
	case c.work <- x: // somebody is free
		return
	default:
	}
	c.members.Go(func() {
		for going := true; going; x, going = <-c.work {
			carry(x)
			select {
			case c.done <- struct{}{}:
			default:
			}
		}
	})
}

// rest returns when everybody has finished.
func (c *crew) rest() {
	close(c.work)
	c.members.Wait()
}

// allowed is how many lanes may be under way for all that the vendor's account says.
func (w *Worker) allowed() int {
	paced, ok := w.system.Connector.(connectors.Paced)
	if !ok {
		return most
	}
	switch p := paced.Pace(); {
	case p.Wait > 0:
		return 0
	case p.Breaker == connectors.BreakerHalfOpen:
		return 1
	}
	return most
}

// goOn is for how long a lane that was claimed at a time may be kept once more.
func (w *Worker) goOn(ctx context.Context, claimed time.Time) time.Duration {
	if ctx.Err() != nil || time.Since(claimed) > w.opts.Onward || w.allowed() < most {
		return 0
	}
	return system.Lease
}

// Step carries what is due now, once, and returns how many exchanges that were.
func (w *Worker) Step(ctx context.Context) (int, error) {
	exchanges, err := w.ledger.NextExchanges(ctx, w.system.ID, w.system.Concurrency, system.Lease)
	if err != nil {
		return 0, err
	}
	var group errgroup.Group
	for _, x := range exchanges {
		group.Go(func() error {
			_, _, err := w.carry(ctx, ctx, x, func() time.Duration { return 0 })
			return err
		})
	}
	return len(exchanges), group.Wait()
}

// carry makes the exchanges that were begun together and settles them. Those that cannot be settled are left to the lease's end:
// they are written down as being sent, so whoever takes the lane next asks the vendor first. No call is begun once ctx has ended,
// or when the lane has been lost since it was claimed; one that is under way goes on until calling ends. keep says for how long
// to keep the lane for its next deliveries, which come back as begun.
func (w *Worker) carry(ctx, calling context.Context, x ledger.Exchange, keep func() time.Duration) (next ledger.Exchange, more bool, err error) {
	held, release := w.leases.Keep(calling, x.Lease, x.Asked)
	defer release()
	s := w.one(ctx, held, x)
	for time.Since(x.Asked) < w.opts.Together && ctx.Err() == nil {
		then, more := x.Then(s)
		if !more {
			break
		}
		came := w.one(ctx, held, then)
		if came.State == again.State {
			break
		}
		x, s = then, came
	}
	return w.settle(calling, x, s, keep())
}

// one makes one exchange.
func (w *Worker) one(ctx, held context.Context, x ledger.Exchange) ledger.Settlement {
	held, span := otel.Tracer("liaison/sync/outbound").Start(telemetry.Extract(held, x.Delivery.Trace), "deliver "+string(x.Delivery.Kind))
	defer span.End()
	var s ledger.Settlement
	switch err := w.calls.Acquire(ctx, 1); {
	case err != nil:
		s = unsent(x)
	case held.Err() != nil:
		s = unsent(x)
		w.calls.Release(1)
	default:
		began := time.Now()
		w.opts.Pulse.Begun(x)
		s = w.guarded(held, x)
		w.pace.note(time.Since(began))
		w.calls.Release(1)
		if s.State != again.State {
			w.opts.Pulse.Exchanged(x, s)
			w.opts.Metrics.observe(w.system.Key, x, s, time.Since(began))
		}
	}
	s.Actor = w.system.Actor()
	return s
}

// unsent is the end of an exchange that was never begun: nothing was sent, and the lane is free for others.
func unsent(x ledger.Exchange) ledger.Settlement {
	if x.Found == ledger.StatePending {
		return ledger.Settlement{State: ledger.StatePending}
	}
	return ledger.Settlement{State: ledger.StateUnknown, ErrorKind: x.Delivery.ErrorKind, Error: x.Delivery.Error}
}

// guarded makes the exchange. A panic in a connector or a mapping costs this delivery a try and nobody else anything; what
// was sent before it is not known.
func (w *Worker) guarded(ctx context.Context, x ledger.Exchange) (s ledger.Settlement) {
	defer func() {
		if r := recover(); r != nil {
			w.log.ErrorContext(ctx, "an exchange panicked", "delivery", x.Delivery.ID, "panic", r, "stack", string(debug.Stack()))
			s = ledger.Settlement{
				State: ledger.StateUnknown, Lost: true, ErrorKind: "internal", Error: fmt.Sprintf("an error in the hub itself: %v", r),
				RetryAt: w.in(w.opts.Backoff.after(x.Delivery.Attempts)),
			}
			if x.Delivery.Attempts >= maxPanics {
				s.State = ledger.StateDead
			}
		}
	}()
	return w.exchange(ctx, x)
}

// maxPanics is how often a delivery may upset the hub before a person has to look at it.
const maxPanics = 10

// settle writes down how an exchange ended: also when the hub is told to stop meanwhile, because the vendor may have done
// something.
func (w *Worker) settle(ctx context.Context, x ledger.Exchange, s ledger.Settlement, keep time.Duration) (next ledger.Exchange, more bool, err error) {
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	next, more, err = w.ledger.SettleAndGoOn(settling, x, s, keep)
	if err == nil && (s.State == ledger.StateDelivered || s.Error == "") {
		return next, more, nil
	}
	log := w.log.With("incident", x.Incident.Number, "delivery", x.Delivery.ID, "kind", x.Delivery.Kind)
	switch {
	case errors.Is(err, ledger.ErrFenced):
		log.WarnContext(ctx, "lost the lane while a call was under way; its new holder finds out what became of it")
	case err != nil:
		log.ErrorContext(ctx, "cannot settle a delivery; the vendor is asked again when the lease ends", "error", err)
		return next, more, fmt.Errorf("carrying a delivery: %w", err)
	case s.State == ledger.StateDead:
		log.ErrorContext(ctx, "a delivery was given up and holds its lane", "error", s.Error)
	default:
		log.WarnContext(ctx, "a delivery goes again later", "state", s.State, "at", s.RetryAt, "error", s.Error)
	}
	return next, more, nil
}

// Call makes an exchange's call and settles nothing, as a worker does that dies right after it. It is for tests of exactly
// that.
func (w *Worker) Call(ctx context.Context, x ledger.Exchange) ledger.Settlement {
	return w.exchange(ctx, x)
}

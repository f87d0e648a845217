package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// route is a way that a change takes, from where it is made to where it arrives, with everything on it running. Changes are
// told apart by a number, which stands in the incident's title.
type route struct {
	// send makes a change and tells from when on it is under way. A change of the same turn's incident may be under way still.
	send   func(ctx context.Context, turn int, n int64) (time.Time, error)
	turns  int          // incidents that take turns
	clock  *stopwatch   // is told of arrivals
	broken <-chan error // yields what ended the receiving side; nil: nothing does
	stop   func()
}

// opening starts a route for one round.
type opening func(context.Context) (*route, error)

// stopwatch times changes from when they are under way until they have arrived. It is safe for concurrent use.
type stopwatch struct {
	mu      sync.Mutex
	open    map[int64]*lap
	turns   map[int][]*lap // by whose turn it is: changes that have not arrived, in the order in which they began
	laps    []*lap
	arrived int
	last    time.Time
	news    chan struct{}
}

// lap is one change's.
type lap struct {
	n        int64
	turn     int
	from, to time.Time
}

func newStopwatch() *stopwatch {
	return &stopwatch{open: map[int64]*lap{}, turns: map[int][]*lap{}, news: make(chan struct{}, 1)}
}

// begin announces a change; start says from when on it is late.
func (s *stopwatch) begin(turn int, n int64) {
	l := &lap{n: n, turn: turn}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[n], s.turns[turn], s.laps = l, append(s.turns[turn], l), append(s.laps, l)
}

func (s *stopwatch) start(n int64, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.laps) - 1; i >= 0; i-- { // it began a moment ago
		if s.laps[i].n == n {
			s.laps[i].from = at
			return
		}
	}
}

// arrive notes that a change was seen, the first time that it is; others are nobody's here. Whoever sees an incident's newer
// title has no use for the older ones, so these have arrived as well.
func (s *stopwatch) arrive(n int64, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.open[n]
	if !ok {
		return
	}
	rest := s.turns[l.turn]
	for len(rest) > 0 && rest[0].n <= n {
		rest[0].to, s.last = at, at
		delete(s.open, rest[0].n)
		s.arrived++
		rest = rest[1:]
	}
	s.turns[l.turn] = rest
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// wait returns when everything that has begun has arrived.
func (s *stopwatch) wait(ctx context.Context, broken <-chan error) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		s.mu.Lock()
		missing := len(s.open)
		s.mu.Unlock()
		if missing == 0 {
			return nil
		}
		select {
		case <-s.news:
			late.Reset(patience)
		case err := <-broken:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			return fmt.Errorf("%d changes have not arrived, and none has for %s", missing, patience)
		}
	}
}

// reset forgets all that has arrived.
func (s *stopwatch) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.laps, s.arrived = nil, 0
}

// sample is what was timed. It is asked when all has arrived.
func (s *stopwatch) sample(began time.Time) sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := sample{count: s.arrived, took: s.last.Sub(began)}
	for _, l := range s.laps {
		out.latencies = append(out.latencies, max(0, l.to.Sub(l.from))) // a change may be there before whoever made it is told that it is made
	}
	return out
}

// one makes the change of a turn.
func (w *world) one(ctx context.Context, r *route, turn int) error {
	n := w.changes.Add(1)
	r.clock.begin(turn%r.turns, n)
	at, err := r.send(ctx, turn%r.turns, n)
	if err == nil {
		r.clock.start(n, at)
	}
	return err
}

// warmed opens a route and sends a few changes along it that do not count.
func (w *world) warmed(ctx context.Context, open opening) (*route, error) {
	r, err := open(ctx)
	if err != nil {
		return nil, err
	}
	for turn := range 5 {
		if err = w.one(ctx, r, turn); err == nil {
			err = r.clock.wait(ctx, r.broken)
		}
		if err != nil {
			r.stop()
			return nil, err
		}
	}
	r.clock.reset()
	return r, nil
}

// calm is the pause between two changes of an idle hub.
const calm = 20 * time.Millisecond

// idle makes one change after the other, each when the one before has arrived, and not more often than every 20 ms.
func (w *world) idle(open opening) func(context.Context, time.Duration) (sample, error) {
	var turns atomic.Int64 // a round goes on where the last one ended
	return func(ctx context.Context, d time.Duration) (sample, error) {
		r, err := w.warmed(ctx, open)
		if err != nil {
			return sample{}, err
		}
		defer r.stop()
		before, began := w.cpu(), time.Now()
		for time.Since(began) < d {
			next := time.Now().Add(calm)
			if err := w.one(ctx, r, int(turns.Add(1))); err != nil {
				return sample{}, err
			}
			if err := r.clock.wait(ctx, r.broken); err != nil {
				return sample{}, err
			}
			if err := pause(ctx, time.Until(next)); err != nil {
				return sample{}, err
			}
		}
		out := r.clock.sample(began)
		out.spent = w.cpu().since(before)
		return out, nil
	}
}

// hands is how many changes are made at the same time at most.
const hands = 64

// busy makes changes at a steady rate, whether or not those before have arrived, and waits for all of them at the end. Too
// high a rate is paid for then, so a first round that only warms up can be short.
func (w *world) busy(open opening, perSecond int, warmsUp bool) func(context.Context, time.Duration) (sample, error) {
	var turns atomic.Int64 // as in idle
	return func(ctx context.Context, d time.Duration) (sample, error) {
		r, err := w.warmed(ctx, open)
		if err != nil {
			return sample{}, err
		}
		defer r.stop()
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		if warmsUp && turns.Load() == 0 {
			d /= 4
		}
		count := max(int64(d.Seconds()*float64(perSecond)), 1)
		var next atomic.Int64
		var making sync.WaitGroup
		before, began := w.cpu(), time.Now()
		for range hands {
			making.Go(func() {
				for {
					n := next.Add(1) - 1
					if n >= count {
						return
					}
					due := began.Add(time.Duration(n) * time.Second / time.Duration(perSecond))
					if pause(ctx, time.Until(due)) != nil {
						return
					}
					if err := w.one(ctx, r, int(turns.Add(1))); err != nil {
						cancel(err)
						return
					}
				}
			})
		}
		making.Wait()
		if err := context.Cause(ctx); err != nil {
			return sample{}, err
		}
		if err := r.clock.wait(ctx, r.broken); err != nil {
			return sample{}, err
		}
		out := r.clock.sample(began)
		out.spent = w.cpu().since(before)
		return out, nil
	}
}

// openIdleCall measures the way from a change to its vendor in an idle hub.
func openIdleCall(ctx context.Context, w *world) (*row, error) {
	c, err := newCalls(ctx, w)
	if err != nil {
		return nil, err
	}
	return &row{
		title:   fmt.Sprintf("one title change after the other, every %s, on its way from the ledger to the vendor", calm),
		unit:    "changes/s",
		latency: "from the return of the commit to the arrival of the vendor's request",
		paced:   true,
		peers:   []contender{{name: c.peer(), run: w.idle(c.bare)}},
		liaison: []contender{{name: "change to vendor call", run: w.idle(c.hub)}},
		bounds: func(m *measured) []bound {
			return []bound{below("p99 of "+m.Liaison[0].Name, 20, m.Liaison[0].P99, " ms")}
		},
		facts: told(c.fact()),
	}, nil
}

// openIdleHook measures the way from a vendor's webhook to a subscriber of an idle hub.
func openIdleHook(ctx context.Context, w *world) (*row, error) {
	h, err := newHooks(ctx, w)
	if err != nil {
		return nil, err
	}
	return &row{
		title:   fmt.Sprintf("one change of a ticket after the other, every %s, on its way from ServiceNow's simulator to a subscriber", calm),
		unit:    "changes/s",
		latency: "from the start of the webhook's POST to the subscriber's message",
		paced:   true,
		peers:   []contender{{name: h.peer(), run: w.idle(h.bare)}},
		liaison: []contender{{name: "webhook to subscriber", run: w.idle(h.hub)}},
		bounds: func(m *measured) []bound {
			return []bound{below("p99 of "+m.Liaison[0].Name, 20, m.Liaison[0].P99, " ms")}
		},
		facts: told(h.fact()),
		close: h.close,
	}, nil
}

// kept is the part of the offered rate that has to arrive for a latency to be one at that rate.
const kept = 0.95

// openBusy measures both ways at a steady rate. Where that rate is too much for the machine, it looks which one is not.
func openBusy(ctx context.Context, w *world) (*row, error) {
	c, err := newCalls(ctx, w)
	if err != nil {
		return nil, err
	}
	h, err := newHooks(ctx, w)
	if err != nil {
		c.close()
		return nil, err
	}
	z := w.settings.sizes
	ways := []opening{c.hub, h.hub}
	return &row{
		title:   fmt.Sprintf("%d changes a second, whether or not those before have arrived, over %d incidents in turn, in either direction", z.PerSecond, z.Tickets),
		unit:    "changes/s",
		latency: "as in f and in g; the rate is that of the arrivals",
		paced:   true,
		atMost:  3, // too high a rate makes long rounds
		short:   []string{"bare", "bare"},
		peers: []contender{
			{name: c.peer(), run: w.busy(c.bare, z.PerSecond, true)},
			{name: h.peer(), run: w.busy(h.bare, z.PerSecond, true)},
		},
		liaison: []contender{
			{name: fmt.Sprintf("change to vendor call at %d/s", z.PerSecond), run: w.busy(c.hub, z.PerSecond, true), beside: []int{0}},
			{name: fmt.Sprintf("webhook to subscriber at %d/s", z.PerSecond), run: w.busy(h.hub, z.PerSecond, true), beside: []int{1}},
		},
		bounds: func(m *measured) []bound {
			var out []bound
			for _, l := range m.Liaison {
				out = append(out,
					atLeast(fmt.Sprintf("rate of %s, %g of what was offered", l.Name, kept), kept*float64(z.PerSecond), l.Rate, "/s"),
					below("p99 of "+l.Name, 100, l.P99, " ms"))
			}
			return out
		},
		facts: func(ctx context.Context, m *measured) ([]string, error) {
			var out []string
			for n, l := range m.Liaison {
				if l.P99 < 100 && l.Rate >= kept*float64(z.PerSecond) {
					continue
				}
				found, err := w.bearable(ctx, ways[n], l.Rate)
				if err != nil {
					return out, err
				}
				out = append(out, fmt.Sprintf("%s is not kept by this machine; %s", l.Name, found))
			}
			return out, nil
		},
		close: func() error { c.close(); return h.close() },
	}, nil
}

// bearable tries rates that are lower than what was made, one round of each, until the bound of the busy hub is met.
func (w *world) bearable(ctx context.Context, open opening, made float64) (string, error) {
	var tried []string
	for _, percent := range []int{70, 50, 35, 25, 15, 10, 5} {
		rate := max(w.settings.sizes.PerSecond*percent/100, 1)
		if float64(rate) > made {
			continue
		}
		s, err := w.round(ctx, contender{name: fmt.Sprintf("%d a second", rate), run: w.busy(open, rate, false)})
		if err != nil {
			return "", err
		}
		p99 := milliseconds(percentile(s.latencies, 99))
		found := fmt.Sprintf("%d/s (p99 %.0f ms, %.0f/s made)", rate, p99, s.rate())
		w.log.InfoContext(ctx, "a lower rate", "offered", rate, "made", int(s.rate()), "p99", p99)
		if p99 < 100 && s.rate() >= kept*float64(rate) {
			return "within the bound it makes " + found + strings.Join(append([]string{""}, tried...), "; not "), nil
		}
		tried = append(tried, found)
	}
	return "nor any lower rate that was tried: " + strings.Join(tried, "; "), nil
}

package pulse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres"
	"liaison/sync/pulse/internal/db"
	"liaison/sync/system"
)

// Options are a Monitor's settings; the zero value has the defaults.
type Options struct {
	Every time.Duration    // how often notes go into the table, default 3 s
	Quiet time.Duration    // how long a system may be silent before it is asked whether it is there, default 3 min
	Log   *slog.Logger     // default slog.Default
	Now   func() time.Time // default time.Now
}

// Monitor watches over the systems of one hub.
type Monitor struct {
	db        *postgres.DB
	opts      Options
	pulses    []*Pulse
	listening atomic.Bool

	mu       sync.Mutex
	watchers []*Watcher
}

// New returns a monitor of the given systems. Their ids must be known.
func New(d *postgres.DB, systems []*system.System, opts Options) *Monitor {
	opts.Every, opts.Quiet = cmp.Or(opts.Every, 3*time.Second), cmp.Or(opts.Quiet, 3*time.Minute)
	opts.Log = cmp.Or(opts.Log, slog.Default())
	if opts.Now == nil {
		opts.Now = time.Now
	}
	m := &Monitor{db: d, opts: opts}
	for _, s := range systems {
		m.pulses = append(m.pulses, &Pulse{monitor: m, system: s, asked: m.now()})
	}
	return m
}

// now is the time as Postgres keeps it.
func (m *Monitor) now() time.Time { return m.opts.Now().UTC().Truncate(time.Microsecond) }

// Of returns the pulse of a system by its key, nil when the monitor does not watch over it.
func (m *Monitor) Of(key string) *Pulse {
	if m == nil {
		return nil
	}
	n := slices.IndexFunc(m.pulses, func(p *Pulse) bool { return p.system.Key == key })
	if n < 0 {
		return nil
	}
	return m.pulses[n]
}

// Run keeps the table up to date until ctx ends, and writes the last notes then. It outlives the database: what could not
// be written goes with the next round.
func (m *Monitor) Run(ctx context.Context) error {
	tick := time.NewTicker(m.opts.Every)
	defer tick.Stop()
	trouble := 0
	for {
		err := m.Step(ctx)
		switch {
		case ctx.Err() != nil:
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			err := m.write(last)
			cancel()
			if err != nil {
				m.opts.Log.InfoContext(ctx, "the last notes on how systems do were not written", "error", err)
			}
			return nil
		case err != nil:
			if trouble++; trouble == 1 {
				m.opts.Log.WarnContext(ctx, "cannot write down how systems do; trying on", "error", err)
			}
		case trouble > 0:
			m.opts.Log.InfoContext(ctx, "writes down again how systems do", "failures", trouble)
			trouble = 0
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// Step makes one round: it looks at the breakers, asks systems that were silent for long, and writes what is new.
func (m *Monitor) Step(ctx context.Context) error {
	var asking sync.WaitGroup
	for _, p := range m.pulses {
		p.look()
		if p.mayAsk() {
			asking.Go(func() { p.ask(ctx) })
		}
	}
	asking.Wait()
	return m.write(ctx)
}

// mayAsk reports whether the system was silent for so long that it should be asked whether it is there, and has not been
// asked of late.
func (p *Pulse) mayAsk() bool {
	now, quiet := p.monitor.now(), p.monitor.opts.Quiet
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused || now.Sub(p.heard) < quiet || now.Sub(p.asked) < quiet/3 || p.breaker.Wait > 0 {
		return false
	}
	p.asked = now
	return true
}

// ask makes the cheapest call there is.
func (p *Pulse) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, max(p.system.CallTimeout, time.Second), errors.New("the system did not answer in time"))
	defer cancel()
	err := p.system.Connector.Check(ctx)
	if ctx.Err() != nil && err != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return // the hub stops: that says nothing of the vendor
	}
	p.checked(err)
}

// write lays what is new over the table, and learns from it what other hubs have seen.
func (m *Monitor) write(ctx context.Context) error {
	if len(m.pulses) == 0 {
		return nil
	}
	p := db.BeatParams{At: m.now()}
	taken := make([]notes, len(m.pulses))
	for n, of := range m.pulses {
		of.mu.Lock()
		taken[n], of.fresh = of.fresh, notes{}
		pace := of.breaker
		of.mu.Unlock()
		taken[n].appendTo(&p, int64(of.system.ID), string(pace.Breaker), pace.Until)
	}
	var known []db.KnownPulsesRow
	err := m.db.SystemTx(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		if err := q.Beat(ctx, p); err != nil {
			return err
		}
		var err error
		known, err = q.KnownPulses(ctx, p.Systems)
		return err
	}, postgres.Retry(5))
	if err != nil {
		for n, of := range m.pulses { // they go with the next round
			of.mu.Lock()
			of.fresh = taken[n].under(of.fresh)
			of.mu.Unlock()
		}
		return fmt.Errorf("writing down how systems do: %w", err)
	}
	for _, k := range known {
		for _, of := range m.pulses {
			if int64(of.system.ID) == k.ID {
				of.mu.Lock()
				of.paused = k.Paused || !k.Active
				of.heard = later(of.heard, k.Heard)
				of.mu.Unlock()
			}
		}
	}
	return nil
}

// never stands for "not seen" on the way to the table.
var never = time.Unix(0, 0).UTC()

func or(t time.Time) time.Time {
	if t.IsZero() {
		return never
	}
	return t
}

func (n notes) appendTo(p *db.BeatParams, id int64, breaker string, until time.Time) {
	p.Systems = append(p.Systems, id)
	p.Sent, p.Read, p.Polled = append(p.Sent, or(n.sent)), append(p.Read, or(n.read)), append(p.Polled, or(n.polled))
	p.News, p.Hooks, p.Failed = append(p.News, or(n.news)), append(p.Hooks, or(n.hook)), append(p.Failed, or(n.failed))
	p.SendFailed, p.ReadFailed, p.PollFailed = append(p.SendFailed, or(n.sendFailed)), append(p.ReadFailed, or(n.readFailed)), append(p.PollFailed, or(n.pollFailed))
	p.ErrorKinds, p.Errors = append(p.ErrorKinds, n.errorKind), append(p.Errors, storable(n.err))
	p.Breakers, p.BreakerUntils = append(p.Breakers, breaker), append(p.BreakerUntils, or(until))
	p.Echoes, p.Restored, p.Retries = append(p.Echoes, n.echoes), append(p.Restored, n.restored), append(p.Retries, n.retries)
}

// storable is text that Postgres takes, and no more of it than a person reads.
func storable(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if r := []rune(s); len(r) > 2000 {
		s = string(r[:2000]) + " …"
	}
	return s
}

// under lays newer notes over n.
func (n notes) under(newer notes) notes {
	out := notes{
		sent: later(n.sent, newer.sent), read: later(n.read, newer.read), polled: later(n.polled, newer.polled), news: later(n.news, newer.news),
		hook: later(n.hook, newer.hook), failed: later(n.failed, newer.failed), sendFailed: later(n.sendFailed, newer.sendFailed),
		readFailed: later(n.readFailed, newer.readFailed), pollFailed: later(n.pollFailed, newer.pollFailed), errorKind: newer.errorKind, err: newer.err,
		echoes: n.echoes + newer.echoes, restored: n.restored + newer.restored, retries: n.retries + newer.retries,
	}
	if newer.failed.IsZero() {
		out.errorKind, out.err = n.errorKind, n.err
	}
	return out
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

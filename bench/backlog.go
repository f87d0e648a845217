package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"liaison/internal/postgres"
	"liaison/sync/ledger"
	"liaison/sync/outbound"
	"liaison/sync/system"
)

// openBacklog compares a lane worker before a large backlog with the same worker before a small one. Each has a
// database of its own, alike but for what waits in it, and keeps its length: what a round has sent is queued again
// before the next.
func openBacklog(ctx context.Context, w *world) (_ *row, err error) {
	z := w.settings.sizes
	v := newVendor(nil)
	b := &backlogs{w: w, vendor: v, lead: z.Stretch / 10}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	w.log.InfoContext(ctx, "seeding two databases with a lane for every fifth of the deliveries of the large backlog", "deliveries", z.Many)
	if err := b.template(ctx, "bench_few"); err != nil {
		return nil, err
	}
	if err := w.another(ctx, "bench_many", "bench_few"); err != nil {
		return nil, err
	}
	few, err := b.open(ctx, "bench_few", z.Few)
	if err != nil {
		return nil, err
	}
	many, err := b.open(ctx, "bench_many", z.Many)
	if err != nil {
		return nil, err
	}
	return &row{
		title: fmt.Sprintf("%d deliveries out of a backlog of %d on %d lanes, %d to a lane, carried in order by one worker, %d calls at a time",
			z.Stretch, z.Many, b.lanes(z.Many), z.PerLane, z.Calls),
		unit:    "deliveries/s",
		short:   []string{"few"},
		peers:   []contender{{name: fmt.Sprintf("Liaison as well, out of a backlog of %d on %d of as many lanes", z.Few, b.lanes(z.Few)), run: few.stretch}},
		liaison: []contender{{name: fmt.Sprintf("%d deliveries wait", z.Many), run: many.stretch}},
		bounds: func(m *measured) []bound {
			return []bound{atLeast(fmt.Sprintf("the rate at %d waiting to that at %d", z.Many, z.Few), 0.9, m.Liaison[0].ratio(0), "")}
		},
		facts: told(fmt.Sprintf("so many wait in the middle of the stretch; its time begins at the %dth post and ends with the %dth, and what was sent is queued again before the next round",
			b.lead, b.lead+z.Stretch)),
		close: func() error { b.close(); return nil },
	}, nil
}

// backlogs are the row's databases.
type backlogs struct {
	w      *world
	vendor *vendor
	lead   int // posts before those that are timed
	worlds []*world
}

func (b *backlogs) close() {
	for _, w := range b.worlds {
		w.leave()
	}
	b.vendor.server.Close()
}

// stock is how many deliveries have to wait at the start, so that as many as are spoken of wait in the middle.
func (b *backlogs) stock(waiting int) int { return waiting + b.lead + b.w.settings.sizes.Stretch/2 }

// lanes is how many lanes a backlog takes.
func (b *backlogs) lanes(waiting int) int {
	return (b.stock(waiting) + b.w.settings.sizes.PerLane - 1) / b.w.settings.sizes.PerLane
}

// template fills a database with the lanes of the large backlog, and with nothing that waits.
func (b *backlogs) template(ctx context.Context, name string) error {
	if err := b.w.another(ctx, name, ""); err != nil {
		return err
	}
	w, err := b.w.beside(ctx, name)
	if err != nil {
		return err
	}
	defer w.leave()
	if err := w.direct(ctx, 0); err != nil {
		return err
	}
	lanes := []int64{int64(w.organisations["lanes"])}
	seed, at := w.settings.seed, time.Now().UTC()
	if _, err := w.bare.Exec(ctx, statement("incidents"), lanes, b.lanes(w.settings.sizes.Many), seed, at, false); err != nil {
		return fmt.Errorf("incidents of the backlog: %w", err)
	}
	if _, err := w.bare.Exec(ctx, statement("links"), lanes, int64(w.systems["lanes"]), 100, 0, seed, ""); err != nil {
		return fmt.Errorf("links of the backlog: %w", err)
	}
	return w.tidy(ctx)
}

// backlog is one of the databases, with a worker's system for it.
type backlog struct {
	*world
	all     *backlogs
	system  *system.System
	waiting int // in the middle of a stretch
	rounds  int
}

func (b *backlogs) open(ctx context.Context, name string, waiting int) (*backlog, error) {
	w, err := b.w.beside(ctx, name)
	if err != nil {
		return nil, err
	}
	b.worlds = append(b.worlds, w)
	if err := w.known(ctx); err != nil {
		return nil, err
	}
	s, err := w.system(b.vendor, "lanes")
	if err != nil {
		return nil, err
	}
	out := &backlog{world: w, all: b, system: s, waiting: waiting}
	if err := out.queue(ctx); err != nil {
		return nil, err
	}
	return out, w.tidy(ctx)
}

// queue makes the backlog as long as it has to be.
func (b *backlog) queue(ctx context.Context) error {
	b.rounds++
	waiting, _, err := b.count(ctx)
	if err != nil {
		return err
	}
	missing := (b.all.stock(b.waiting) - waiting) / b.settings.sizes.PerLane
	if missing <= 0 {
		return nil
	}
	_, err = b.bare.Exec(ctx, statement("backlog"), int64(b.organisations["lanes"]), b.settings.sizes.PerLane, missing, time.Now().UTC().Add(-time.Second), strconv.Itoa(b.rounds))
	if err != nil {
		return fmt.Errorf("queueing deliveries: %w", err)
	}
	return nil
}

// count tells how many deliveries wait and how many are over.
func (b *backlog) count(ctx context.Context) (waiting, over int, err error) {
	err = b.bare.QueryRow(ctx, "SELECT count(*) FILTER (WHERE state = 'PENDING'), count(*) FILTER (WHERE state = 'DELIVERED') FROM delivery WHERE organisation_id = $1",
		int64(b.organisations["lanes"])).Scan(&waiting, &over)
	return waiting, over, err
}

// stretch times a worker while it makes so many posts, and then has it stop.
func (b *backlog) stretch(ctx context.Context, _ time.Duration) (sample, error) {
	if err := b.queue(ctx); err != nil {
		return sample{}, err
	}
	_, before, err := b.count(ctx)
	if err != nil {
		return sample{}, err
	}
	n := b.settings.sizes.Stretch
	posted := b.all.vendor.expect(b.all.lead, b.all.lead+n)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	bell := postgres.NewBell(b.db, b.quiet)
	worker := outbound.NewWorker(ledger.New(b.db, bell, time.Now), b.system, outbound.Options{Log: b.quiet, Wake: bell.Subscribe(ledger.TopicLanes)})
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	out := sample{count: n}
	err = func() error {
		began, err := arrival(ctx, posted[0])
		if err != nil {
			return err
		}
		start := b.cpu()
		end, err := arrival(ctx, posted[1])
		out.took, out.spent = end.Sub(began), b.cpu().since(start)
		return err
	}()
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return out, err
	}
	_, after, err := b.count(context.WithoutCancel(ctx))
	if sent := int(b.all.vendor.sent.Load()); err == nil && after-before != sent {
		err = fmt.Errorf("%d deliveries were posted and %d settled", sent, after-before)
	}
	return out, err
}

// arrival waits for what a vendor was told to expect.
func arrival(ctx context.Context, posted <-chan time.Time) (time.Time, error) {
	late := time.NewTimer(5 * time.Minute)
	defer late.Stop()
	select {
	case at := <-posted:
		return at, nil
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	case <-late.C:
		return time.Time{}, errors.New("the worker has not sent enough in five minutes")
	}
}

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"golang.org/x/sync/semaphore"
)

// riverDatabase is where River's tables are: on the same server, in a database of its own.
const riverDatabase = "bench_river"

// queue is River with its jobs, each of which makes one post.
type queue struct {
	w      *world
	vendor *vendor
	pool   *pgxpool.Pool
	client *http.Client
	calls  *semaphore.Weighted
}

// posting is a job: what is posted.
type posting struct{ message }

// Kind names the job for River.
func (posting) Kind() string { return "post" }

// poster works the jobs.
type poster struct {
	river.WorkerDefaults[posting]
	queue *queue
}

// Work makes a job's post. River works more jobs at a time than there are calls, as Liaison claims lanes ahead of its
// calls: both get their rows many at a time.
func (p *poster) Work(ctx context.Context, job *river.Job[posting]) error {
	if err := p.queue.calls.Acquire(ctx, 1); err != nil {
		return err
	}
	defer p.queue.calls.Release(1)
	return post(ctx, p.queue.client, p.queue.vendor.server.URL, job.Args.message)
}

const (
	riverWorkers  = 256
	riverCooldown = time.Millisecond // the least that River takes; its default is 100 ms
)

func (q *queue) String() string {
	return fmt.Sprintf("River v0.26, tuned: InsertMany, fetches %s apart, %d workers of which %d call at a time, no time-out per job, its batch completer; own database on the same server, synchronous commits",
		riverCooldown, riverWorkers, q.w.settings.sizes.Calls)
}

// newRiver makes River's database. Its close must be called.
func (w *world) newRiver(ctx context.Context, v *vendor) (*queue, error) {
	if err := w.another(ctx, riverDatabase, ""); err != nil {
		return nil, fmt.Errorf("making River's database: %w", err)
	}
	pool, err := w.pool(ctx, riverDatabase)
	if err != nil {
		return nil, err
	}
	calls := w.settings.sizes.Calls
	q := &queue{
		w: w, vendor: v, pool: pool, calls: semaphore.NewWeighted(int64(calls)),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: calls}, Timeout: 10 * time.Second},
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		q.close()
		return nil, fmt.Errorf("migrating River's database: %w", err)
	}
	return q, nil
}

func (q *queue) close() {
	q.client.CloseIdleConnections()
	q.pool.Close()
}

// drain inserts as many jobs as the lanes' backlog has deliveries and lets River work them all.
func (q *queue) drain(ctx context.Context, _ time.Duration) (sample, error) {
	n := q.w.settings.sizes.Lanes * q.w.settings.sizes.PerLane
	client, err := q.fill(ctx, n)
	if err != nil {
		return sample{}, fmt.Errorf("inserting jobs: %w", err)
	}
	posted := q.vendor.expect(n)
	running, stop := context.WithCancel(ctx)
	defer stop()
	before := q.w.cpu()
	if err := client.Start(running); err != nil {
		return sample{}, fmt.Errorf("starting River: %w", err)
	}
	began := time.Now()
	out := sample{count: n}
	select {
	case at := <-posted[0]:
		out.took = at.Sub(began)
		err = q.settled(ctx)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	out.spent = q.w.cpu().since(before)
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if stopping := client.Stop(ending); err == nil {
		err = stopping
	}
	return out, err
}

// fill empties the tables of former rounds and inserts n jobs.
func (q *queue) fill(ctx context.Context, n int) (*river.Client[pgx.Tx], error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &poster{queue: q})
	client, err := river.NewClient(riverpgxv5.New(q.pool), &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: riverWorkers}}, Workers: workers,
		FetchCooldown: riverCooldown, FetchPollInterval: riverCooldown, JobTimeout: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	if _, err := q.pool.Exec(ctx, "TRUNCATE river_job"); err != nil {
		return nil, err
	}
	for from := 0; from < n; from += 1000 {
		jobs := make([]river.InsertManyParams, 0, 1000)
		for i := from; i < min(from+1000, n); i++ {
			jobs = append(jobs, river.InsertManyParams{Args: posting{message{Ticket: someTicket, Text: "Printer in room 12 prints page 3 of round " + strconv.Itoa(i%10)}}})
		}
		if _, err := client.InsertManyFast(ctx, jobs); err != nil {
			return nil, err
		}
	}
	return client, q.w.super(ctx, riverDatabase, "VACUUM (ANALYZE) river_job") //nolint:misspell // SQL spells it so
}

// settled returns when no job has anything left to do.
func (q *queue) settled(ctx context.Context) error {
	for {
		var busy bool
		err := q.pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM river_job WHERE state <> 'completed')").Scan(&busy)
		if err != nil || !busy {
			return err
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

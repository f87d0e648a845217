package feed

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"liaison/internal/feed/internal/db"
	"liaison/internal/postgres"
	"liaison/sync/ledger"
)

// TopicFeed is rung by the sequencer after it has stamped entries, and wakes the tails. The sequencer itself is
// woken by [ledger.TopicEntries]. A ring says that there may be something new, never what.
const TopicFeed = "feed"

// topicLease is rung by a sequencer that gives its lease back, so that another takes over at once.
const topicLease = "feed_lease"

// Bell wakes sleepers in this and in other processes: see [postgres.Bell]. Rings of one topic may be merged,
// and may be lost while the database is away.
type Bell interface {
	// Subscribe returns a channel that receives after each ring of the topic.
	Subscribe(topic string) <-chan struct{}
	// Unsubscribe ends what Subscribe began.
	Unsubscribe(topic string, subscription <-chan struct{})
	// Ring wakes all subscribers of the topic. It does not wait for them.
	Ring(topic string)
}

// Config tunes a Feed. The zero value is fit for production.
type Config struct {
	// Batch is the most entries that are stamped, or read, in one transaction: default 1,000.
	Batch int
	// Queue is the most events that wait for one subscriber before it is cut off with [ErrSlow]: default 1,024.
	// A subscriber that reads its backlog is not cut off for being slow.
	Queue int
	// Poll is the pause after which sequencer and tail look by themselves, without having been woken:
	// default 500 ms.
	Poll time.Duration
	// Lease is how long, by the database's clock, a sequencer that has died keeps the others waiting: default 3 s.
	Lease time.Duration
	// Logger hears when the database goes and comes back: default slog.Default().
	Logger *slog.Logger
	// Now is the clock that the lag is measured with: default time.Now.
	Now func() time.Time

	// window is the most positions that one statement looks through for one subscription: a subscriber who may
	// see little of a long backlog costs many short statements, not one that runs into its time-out. Default
	// 20,000; tests make it small.
	window int64
}

// Event is one ledger entry at its place in the feed. Its maps and slices are shared by all subscribers: they
// are for reading only.
type Event struct {
	Position int64
	// Cursor resumes after this event: see [Options.After]. It is opaque; two cursors of one event may differ.
	Cursor string
	Entry  ledger.Entry
}

// Feed is this process's end of the feed.
type Feed struct {
	sealer    *Sealer
	sequencer *sequencer
	tail      *tail
	metrics   *metrics
}

// New joins the feed of a migrated database: it makes the key that seals cursors unless another hub has, begins
// a new epoch when the database turns out to be a copy, and reads where the feed stands. It starts nothing: see
// [Feed.Run].
func New(ctx context.Context, database *postgres.DB, bell Bell, config Config) (*Feed, error) {
	config.Batch = cmp.Or(config.Batch, 1000)
	config.Queue = cmp.Or(config.Queue, 1024)
	config.Poll = cmp.Or(config.Poll, 500*time.Millisecond)
	config.Lease = cmp.Or(config.Lease, 3*time.Second)
	config.window = cmp.Or(config.window, 20_000)
	config.Logger = cmp.Or(config.Logger, slog.Default())
	if config.Now == nil {
		config.Now = time.Now
	}

	pool := queries(database.System)
	sealer, err := sharedSealer(ctx, pool)
	if err != nil {
		return nil, err
	}
	if err := verifyEpoch(ctx, database, config.Logger); err != nil {
		return nil, err
	}
	measured := newMetrics()
	tail, err := newTail(ctx, pool, bell, sealer, measured, config)
	if err != nil {
		return nil, err
	}
	return &Feed{
		sealer: sealer, tail: tail, metrics: measured,
		sequencer: &sequencer{database: database, bell: bell, holder: newHolder(), metrics: measured, config: config},
	}, nil
}

// Run stamps entries, when it is this process's turn, and fans them out until ctx ends. It outlives Postgres:
// while the database is away it tries again with growing pauses, and subscribers stay. When it returns, all
// subscriptions have ended with [ErrStopped], and new ones are refused. Its error is always nil. Run a Feed once.
func (f *Feed) Run(ctx context.Context) error {
	var both sync.WaitGroup
	both.Go(func() { f.sequencer.run(ctx) })
	both.Go(func() { f.tail.run(ctx) })
	both.Wait()
	return nil
}

// Now returns the cursor of the last event that this process has read. It costs no statement.
//
// It is what a query page carries for query-then-subscribe: take it before the page's statements start. Each
// entry up to it was committed before it was read here, hence before the page's snapshot, and is on the page;
// everything later comes after the cursor. So nothing is missed, though an event may tell what the page shows
// already, the more the further this process lags behind. The page must come from the primary: a lagging
// replica could lack what the cursor claims.
func (f *Feed) Now() string { return f.tail.now() }

// Head returns the cursor of the last event that the database holds, which Now may not have reached yet.
func (f *Feed) Head(ctx context.Context) (string, error) {
	at, err := f.tail.head(ctx)
	if err != nil {
		return "", err
	}
	return f.sealer.sealPlace(at), nil
}

// CursorAt returns the cursor of a position in the present epoch, as read from the table feed.
func (f *Feed) CursorAt(position int64) string {
	return f.sealer.sealPlace(place{f.tail.place().epoch, position})
}

// Sealer returns what seals this database's cursors, for cursors of other kinds such as those of connections.
// All hubs on the database share its key.
func (f *Feed) Sealer() *Sealer { return f.sealer }

// Describe implements [prometheus.Collector].
func (f *Feed) Describe(descriptions chan<- *prometheus.Desc) {
	for _, c := range f.metrics.collectors() {
		c.Describe(descriptions)
	}
}

// Collect implements [prometheus.Collector]: register the Feed itself.
func (f *Feed) Collect(measured chan<- prometheus.Metric) {
	for _, c := range f.metrics.collectors() {
		c.Collect(measured)
	}
}

// cursorKey is the name of the sealing key in hub_key.
const cursorKey = "cursor"

func sharedSealer(ctx context.Context, pool *db.Queries) (*Sealer, error) {
	fresh := make([]byte, keySize)
	_, _ = rand.Read(fresh) // crypto/rand never fails: it ends the program instead
	if err := pool.CreateKey(ctx, db.CreateKeyParams{Name: cursorKey, Value: fresh}); err != nil {
		return nil, fmt.Errorf("making the cursors' key: %w", err)
	}
	key, err := pool.ReadKey(ctx, cursorKey)
	if err != nil {
		return nil, fmt.Errorf("reading the cursors' key: %w", err)
	}
	sealer, err := NewSealer(key)
	if err != nil {
		return nil, fmt.Errorf("hub_key row %q: %w; delete the row to get a new key, at the price of every cursor given out", cursorKey, err)
	}
	return sealer, nil
}

// newHolder names this process's sequencer in the lease, for people as well.
func newHolder() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	var unique [6]byte
	_, _ = rand.Read(unique[:])
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), hex.EncodeToString(unique[:]))
}

// queries runs the package's statements outside of transactions.
func queries(pool *pgxpool.Pool) *db.Queries { return db.New(plannedAfresh{pool}) }

// plannedAfresh has each statement planned for its own parameters and for the tables as they are now. A plan
// that was prepared while the tables were still empty reads them from end to end, and goes on doing so until
// their statistics are renewed, while they grow. That costs half a millisecond, so the sequencer's transaction,
// which has several statements for each append, sees to its plans in another way: see LockWatermark.
type plannedAfresh struct{ pool *pgxpool.Pool }

func (p plannedAfresh) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return p.pool.Exec(ctx, sql, afresh(args)...)
}

func (p plannedAfresh) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return p.pool.Query(ctx, sql, afresh(args)...)
}

func (p plannedAfresh) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return p.pool.QueryRow(ctx, sql, afresh(args)...)
}

func afresh(args []any) []any { return append([]any{pgx.QueryExecModeCacheDescribe}, args...) }

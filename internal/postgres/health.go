package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Condition is how a database is doing, in a word that programs may rely on.
type Condition string

// The conditions. All but Healthy mean that requests fail just now; all but Unmigrated and Denied pass by themselves or
// with what the operators do at the server.
const (
	Healthy            Condition = "READY"
	Unreachable        Condition = "DATABASE_UNREACHABLE" // nobody answers
	Starting           Condition = "DATABASE_STARTING"    // it is starting, recovering or shutting down
	DiskFull           Condition = "DISK_FULL"            // SQLSTATE 53100
	TooManyConnections Condition = "TOO_MANY_CONNECTIONS" // SQLSTATE 53300: the server's, the role's or the database's limit
	PoolExhausted      Condition = "POOL_EXHAUSTED"       // every connection that this hub may have is in use
	WritesRefused      Condition = "READ_ONLY"            // SQLSTATE 25006: a standby, or a server that was set to take no writes
	Unmigrated         Condition = "NOT_MIGRATED"         // the hub's role or tables are missing
	Denied             Condition = "ACCESS_DENIED"        // wrong password, database or rights
	Failing            Condition = "DATABASE_FAILING"     // anything else
)

// words say each condition to people who have no log at hand.
var words = map[Condition]string{
	Healthy:            "ready",
	Unreachable:        "the database does not answer",
	Starting:           "the database is starting up, recovering or shutting down",
	DiskFull:           "the database's disk is full",
	TooManyConnections: "the database takes no more connections",
	PoolExhausted:      "every connection to the database is in use",
	WritesRefused:      "the database takes no writes: it is a standby, or was made read-only",
	Unmigrated:         "the database has not been migrated",
	Denied:             "the database refuses the hub: its password, database name or rights are wrong",
	Failing:            "the database does not work as it should; see the hub's log",
}

// String says the condition in plain words.
func (c Condition) String() string { return words[c] }

// ConditionOf reads a condition out of what the database, or the way to it, answered. Errors that say nothing of the
// database's health, such as a constraint's refusal, are Healthy.
func ConditionOf(err error) Condition {
	state := sqlState(err)
	switch {
	case err == nil:
		return Healthy
	case state == "53300":
		return TooManyConnections
	case errors.Is(err, ErrPoolExhausted):
		return PoolExhausted
	case state == "53100":
		return DiskFull
	case state == "25006":
		return WritesRefused
	case state == "57P01", state == "57P02", state == "57P03":
		return Starting
	case state == "22023", state == "42P01": // SET ROLE to a role, or a read of a table, that is not there
		return Unmigrated
	case state == "28000", state == "28P01", state == "3D000", state == "42501":
		return Denied
	case len(state) == 5 && (state[:2] == "53" || state[:2] == "58" || state[:2] == "XX" || state[:3] == "57P"):
		return Failing
	case state == "" && IsUnavailable(err), len(state) == 5 && state[:2] == "08", IsConnecting(err):
		return Unreachable
	}
	return Healthy
}

// refusalLasts is how long a write that was refused for want of space, or because the server takes none, counts after
// the last one.
const refusalLasts = 5 * time.Second

// probeRows make the server write some 700 KB into its data folder: see Check.
const probeRows = 30_000

// Check tells how the database is doing, and with what error it said so. Both pools must answer, the server must take
// writes, and its disk must have room. It costs two round trips and some milliseconds, and answers within the deadline
// of ctx.
//
// Room is proved without leaving anything behind: a result larger than work_mem goes into a temporary file, which is
// gone when the statement ends, needs neither catalogue nor log, and fails just as a table that has to grow would.
// (A temporary file elsewhere, by temp_tablespaces, proves nothing; then the writes that fail do.)
func (db *DB) Check(ctx context.Context) (Condition, error) {
	var readOnly bool
	err := db.checked(ctx, db.System, func(conn *pgxpool.Conn) error {
		batch := &pgx.Batch{}
		batch.Queue("select set_config('work_mem', '64kB', true), set_config('statement_timeout', '5s', true)")
		batch.Queue("select current_setting('transaction_read_only')::boolean").QueryRow(func(row pgx.Row) error { return row.Scan(&readOnly) })
		batch.Queue("select count(*) from generate_series(1, $1::int)", probeRows)
		return conn.SendBatch(ctx, batch).Close()
	})
	if sqlState(err) == "53400" { // temp_file_limit: there is room, only not for that
		err = nil
	}
	if err == nil && !readOnly {
		err = db.checked(ctx, db.App, func(conn *pgxpool.Conn) error { return conn.Ping(ctx) })
	}
	condition := ConditionOf(err)
	switch {
	case err != nil && condition == Healthy: // here it failed, whatever it says
		return Failing, err
	case err != nil:
		return condition, err
	case readOnly:
		return WritesRefused, errors.New("transaction_read_only is on")
	}
	if refused := db.refused.Load(); refused != nil && time.Since(refused.at) < refusalLasts {
		return refused.condition, fmt.Errorf("a statement was refused: %w", refused.err)
	}
	return Healthy, nil
}

// checked runs probe on a connection of the pool, and says which pool failed.
func (db *DB) checked(ctx context.Context, pool *pgxpool.Pool, probe func(*pgxpool.Conn) error) error {
	name := "system"
	if pool == db.App {
		name = "app"
	}
	conn, err := db.acquire(ctx, pool)
	if err != nil {
		if stat := pool.Stat(); ctx.Err() != nil && stat.AcquiredConns() >= stat.MaxConns() && sqlState(err) == "" {
			err = fmt.Errorf("%w (%d of %d in use): %w", ErrPoolExhausted, stat.AcquiredConns(), stat.MaxConns(), err)
		} else if ctx.Err() != nil && sqlState(err) == "" {
			err = fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		return fmt.Errorf("checking the %s pool: %w", name, err)
	}
	defer conn.Release()
	if err := probe(conn); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		return fmt.Errorf("checking the %s pool: %w", name, err)
	}
	return nil
}

// refusal is a write that the server refused for its own trouble.
type refusal struct {
	condition Condition
	err       error
	at        time.Time
}

// refusals notes what statements are refused with, for Check: what requests meet counts more than any probe.
type refusals struct{ last *atomic.Pointer[refusal] }

var _ interface {
	pgx.QueryTracer
	pgx.BatchTracer
} = refusals{}

func (r refusals) note(err error) {
	var refused *pgconn.PgError
	if err == nil || !errors.As(err, &refused) {
		return
	}
	switch condition := ConditionOf(refused); condition {
	case DiskFull, WritesRefused:
		r.last.Store(&refusal{condition, err, time.Now()})
	default:
	}
}

func (refusals) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (r refusals) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	r.note(data.Err)
}

func (refusals) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (r refusals) TraceBatchQuery(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	r.note(data.Err)
}

func (r refusals) TraceBatchEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	r.note(data.Err)
}

// tracer is what the pools' connections are watched by: the refusals, and whoever the options name.
func (r refusals) tracer(own pgx.QueryTracer) pgx.QueryTracer {
	if own == nil {
		return r
	}
	return multitracer.New(own, r)
}

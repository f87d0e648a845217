package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"
)

// AppRole is the role that requests run as. The first migration creates it and grants it to the login role.
const AppRole = "liaison_app"

// OldestServer is the oldest major version of PostgreSQL that the hub works with.
const OldestServer = 14

// Options tunes the pools. The zero value is fit for production.
type Options struct {
	// AppConns is the most connections that requests may hold at once: default 20.
	AppConns int32
	// SystemConns is the most connections that background work may hold at once: default 10.
	SystemConns int32
	// AppTimeouts bound what a request may do: default 8 s for a statement, 4 s for a lock, 15 s for a
	// transaction that sits idle. With AcquireTimeout they keep a request that waits for others below 10 s.
	AppTimeouts Timeouts
	// SystemTimeouts bound background work: default 60 s, 30 s and 60 s. Migrations have bounds of their own.
	SystemTimeouts Timeouts
	// AcquireTimeout is how long AppTx, AppBatch, SystemTx, Check and Ping wait for a connection, be it for a free
	// one or for a new one to be made, before they answer [ErrPoolExhausted]: default 3 s.
	AcquireTimeout time.Duration
	// ApplicationName is what pg_stat_activity shows: default "liaison".
	ApplicationName string
	// Tracer sees every statement of both pools: default none. It may implement pgx's other tracers too.
	Tracer pgx.QueryTracer
	// Now is the clock behind [DB.Now]: default time.Now.
	Now func() time.Time
}

// Timeouts are limits that the server itself enforces. Zero means the default, negative means none.
type Timeouts struct {
	Statement         time.Duration // one statement, SQLSTATE 57014 when over
	Lock              time.Duration // one wait for a lock, 55P03 when over
	IdleInTransaction time.Duration // an open transaction without a statement, 25P03 and the connection's end when over
}

// DB is one database through two pools. Use AppTx, AppBatch and SystemTx; the pools themselves are for
// reads that need no transaction and for libraries that want one.
type DB struct {
	// System runs as the login role.
	System *pgxpool.Pool
	// App runs as liaison_app. A query on it outside AppTx and AppBatch has no viewer and sees no tenant's rows.
	App *pgxpool.Pool

	acquireTimeout time.Duration
	now            func() time.Time
	refused        atomic.Pointer[refusal] // the last write that the server refused for its own trouble
}

// Open connects to the database that url names (a PostgreSQL URL or keyword string) and checks that the
// server answers and is not too old. The schema may still be missing: App's connections, which need its
// role, are made when first used. An error for which [IsUnavailable] holds is worth another try.
func Open(ctx context.Context, url string, opts Options) (*DB, error) {
	appTimeouts := opts.AppTimeouts.or(Timeouts{Statement: 8 * time.Second, Lock: 4 * time.Second, IdleInTransaction: 15 * time.Second})
	systemTimeouts := opts.SystemTimeouts.or(Timeouts{Statement: time.Minute, Lock: 30 * time.Second, IdleInTransaction: time.Minute})

	db := &DB{acquireTimeout: cmp.Or(opts.AcquireTimeout, 3*time.Second), now: opts.Now}
	if db.now == nil {
		db.now = time.Now
	}
	opts.Tracer = refusals{&db.refused}.tracer(opts.Tracer)
	app, err := poolConfig(url, opts, appTimeouts)
	if err != nil {
		return nil, err
	}
	app.MaxConns = cmp.Or(opts.AppConns, 20)
	app.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		pgxuuid.Register(conn.TypeMap())
		return becomeApp(ctx, conn)
	}
	system, err := poolConfig(url, opts, systemTimeouts)
	if err != nil {
		return nil, err
	}
	system.MaxConns = cmp.Or(opts.SystemConns, 10)
	// Background work asks the same few questions again and again, many rows at a time by arrays. Left to itself PostgreSQL
	// plans those anew each time, because it takes the array's length for knowledge: half of a settlement's cost.
	if params := system.ConnConfig.RuntimeParams; params["plan_cache_mode"] == "" {
		params["plan_cache_mode"] = "force_generic_plan"
	}
	system.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		pgxuuid.Register(conn.TypeMap()) // without it pgx writes ids as text and reads them back, one by one
		return nil
	}

	if db.System, err = pgxpool.NewWithConfig(ctx, system); err != nil {
		return nil, fmt.Errorf("opening the system pool: %w", err)
	}
	if db.App, err = pgxpool.NewWithConfig(ctx, app); err != nil {
		db.System.Close()
		return nil, fmt.Errorf("opening the app pool: %w", err)
	}
	if err := db.checkServer(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// Close ends both pools; it waits for connections that are still in use.
func (db *DB) Close() {
	db.App.Close()
	db.System.Close()
}

// URL is the connection string that the database was opened with. It holds the password: never log it.
func (db *DB) URL() string { return db.System.Config().ConnString() }

// Now is the present in UTC, cut to the microseconds that PostgreSQL keeps, so that a time compares equal
// after its way through the database. Read it once per transaction, so that its rows agree.
func (db *DB) Now() time.Time { return db.now().UTC().Truncate(time.Microsecond) }

// Ping tells whether both roles can work: the login role is connected and liaison_app can be assumed.
func (db *DB) Ping(ctx context.Context) error {
	for _, side := range []struct {
		name string
		pool *pgxpool.Pool
	}{{"system", db.System}, {"app", db.App}} {
		conn, err := db.acquire(ctx, side.pool)
		if err != nil {
			return fmt.Errorf("pinging the %s pool: %w", side.name, err)
		}
		err = conn.Ping(ctx)
		conn.Release()
		if err != nil {
			return fmt.Errorf("pinging the %s pool: %w", side.name, err)
		}
	}
	return nil
}

func (db *DB) checkServer(ctx context.Context) error {
	conn, err := db.acquire(ctx, db.System)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	defer conn.Release()
	version := conn.Conn().PgConn().ParameterStatus("server_version")
	if major, ok := majorVersion(version); ok && major < OldestServer {
		return fmt.Errorf("the database server is PostgreSQL %s; Liaison needs %d or newer: upgrade the server", version, OldestServer)
	}
	return nil
}

// majorVersion reads "15" out of "15.4 (Debian 15.4-1)" and "17beta1".
func majorVersion(version string) (int, bool) {
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	major, err := strconv.Atoi(version[:end])
	return major, err == nil
}

// connectAgain is the pause after which a connection that the server had no room for is asked for again.
const connectAgain = 50 * time.Millisecond

// acquire takes a connection, and gives up when the pool stays exhausted: a request must end with an
// answer even while every connection waits for somebody's lock. While the server has no room for one more
// connection, it waits for one of those that there are.
func (db *DB) acquire(ctx context.Context, pool *pgxpool.Pool) (*pgxpool.Conn, error) {
	bounded, cancel := context.WithTimeoutCause(ctx, db.acquireTimeout, ErrPoolExhausted)
	defer cancel()
	var full error // the server's word that it has no room
	for {
		conn, err := pool.Acquire(bounded)
		switch {
		case err == nil:
			return conn, nil
		case sqlState(err) == "53300":
			full = err
			select {
			case <-time.After(connectAgain):
				continue
			case <-bounded.Done():
				return nil, full
			}
		case full != nil && bounded.Err() != nil:
			return nil, full
		case ctx.Err() == nil && errors.Is(context.Cause(bounded), ErrPoolExhausted):
			stat := pool.Stat()
			return nil, fmt.Errorf("%w (%d of %d in use, waited %s): %w", ErrPoolExhausted, stat.AcquiredConns(), stat.MaxConns(), db.acquireTimeout, err)
		}
		return nil, err
	}
}

func poolConfig(url string, opts Options, limits Timeouts) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, badURL(err)
	}
	prepare(config.ConnConfig, cmp.Or(opts.ApplicationName, "liaison"))
	config.ConnConfig.Tracer = opts.Tracer
	params := config.ConnConfig.RuntimeParams
	params["statement_timeout"] = milliseconds(limits.Statement)
	params["lock_timeout"] = milliseconds(limits.Lock)
	params["idle_in_transaction_session_timeout"] = milliseconds(limits.IdleInTransaction)
	// A probe of a connection that lay idle must not wait for a peer that is gone without a word.
	config.PingTimeout = 2 * time.Second
	return config, nil
}

// badURL explains a connection string that does not parse. pgx has blanked out the password already.
func badURL(err error) error {
	return fmt.Errorf("database URL: %w (it looks like postgres://liaison:PASSWORD@db.example.org:5432/liaison)", err)
}

// prepare sets what every connection of the hub has in common, whatever the URL leaves open.
func prepare(config *pgx.ConnConfig, applicationName string) {
	config.RuntimeParams["application_name"] = applicationName
	config.RuntimeParams["timezone"] = "UTC"
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	// A server that lost power sends no farewell. Without these probes a connection to it looks alive for minutes.
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	config.DialFunc = dialer.DialContext
}

// becomeApp takes the login role's rights away from a new connection.
func becomeApp(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "set role "+AppRole)
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		switch refused.Code {
		case "22023": // invalid_parameter_value: what SET ROLE says of a role that does not exist
			return fmt.Errorf("role %s is missing, migrate the database first (liaison migrate): %w", AppRole, err)
		case "42501":
			user := conn.Config().User
			return fmt.Errorf("login role %s may not become %s, let a superuser run: GRANT %s TO %s: %w", user, AppRole, AppRole, pgx.Identifier{user}.Sanitize(), err)
		}
	}
	return err
}

func (t Timeouts) or(defaults Timeouts) Timeouts {
	return Timeouts{
		Statement:         cmp.Or(t.Statement, defaults.Statement),
		Lock:              cmp.Or(t.Lock, defaults.Lock),
		IdleInTransaction: cmp.Or(t.IdleInTransaction, defaults.IdleInTransaction),
	}
}

// milliseconds writes a limit as PostgreSQL reads it: 0 is none.
func milliseconds(d time.Duration) string {
	if d <= 0 {
		return "0"
	}
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

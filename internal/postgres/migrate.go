package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migrations are the hub's own, in goose's format, in a flat file system.
var Migrations = func() fs.FS {
	sub, err := fs.Sub(migrationFiles, "migrations")
	if err != nil { // the directory is named in the line above
		panic(err)
	}
	return sub
}()

// migrationLock is the advisory lock under which one process migrates: "liaison" in ASCII. Advisory locks
// are per database, so databases on one server do not wait for one another.
const migrationLock int64 = 0x6c696169736f6e

// lockPatience bounds how long a migration may wait for a table's lock, because everybody else who comes
// to that table waits behind it. One that had to give up tries again, lockTries times in all.
const (
	lockPatience = time.Second
	lockTries    = 60
)

// Migrate brings the database that url names to the newest version in migrations, as the URL's login role,
// and tells what it applied. Several processes may call it at once: one works, the others wait for it.
//
// Each migration is a transaction, unless its file says otherwise: a crash leaves whole migrations only, and
// the next call goes on from there. No migration waits for a table's lock for longer than a second at a
// time. A database that is newer than migrations is left as it is: when what made it newer lets programs of this level
// work on, that is no error, else a [*NewerSchemaError].
func Migrate(ctx context.Context, url string, migrations fs.FS) ([]Migration, error) {
	provider, db, err := migrator(url, migrations)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	if err := refuseNewer(ctx, db, provider); err != nil {
		return nil, err
	}
	var applied []Migration
	for try := 1; ; try++ {
		results, err := provider.Up(ctx)
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			results = partial.Applied
		}
		for _, result := range results {
			applied = append(applied, Migration{Version: result.Source.Version, Name: result.Source.Path, Took: result.Duration})
		}
		if err == nil {
			break
		}
		if sqlState(err) != "55P03" || try == lockTries {
			return applied, explain(err, partial)
		}
		select {
		case <-time.After(lockPatience):
		case <-ctx.Done():
			return applied, errors.Join(explain(err, partial), context.Cause(ctx))
		}
	}
	// A newer program may have held the lock while this one waited.
	return applied, refuseNewer(ctx, db, provider)
}

// Migration is one step of the schema.
type Migration struct {
	Version   int64
	Name      string        // the file's
	Applied   bool          // in the database
	AppliedAt time.Time     // UTC, zero when not applied
	Took      time.Duration // set by Migrate only
}

// Status lists the migrations in order and tells which of them the database has. It changes nothing but,
// in an empty database, the table that keeps count.
func Status(ctx context.Context, url string, migrations fs.FS) ([]Migration, error) {
	provider, db, err := migrator(url, migrations)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	states, err := provider.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the schema's state: %w", err)
	}
	list := make([]Migration, 0, len(states))
	for _, state := range states {
		list = append(list, Migration{
			Version: state.Source.Version, Name: state.Source.Path,
			Applied: state.State == goose.StateApplied, AppliedAt: state.AppliedAt.UTC(),
		})
	}
	return list, refuseNewer(ctx, db, provider)
}

func migrator(url string, migrations fs.FS) (*goose.Provider, *sql.DB, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, nil, badURL(err)
	}
	prepare(config, "liaison migrate")
	config.RuntimeParams["statement_timeout"] = "0" // building an index takes as long as it takes
	config.RuntimeParams["lock_timeout"] = milliseconds(lockPatience)
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(migrationLock), lock.WithLockTimeout(1, 3600))
	if err != nil {
		return nil, nil, fmt.Errorf("preparing the migration lock: %w", err)
	}
	db := stdlib.OpenDB(*config)
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations,
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true), goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		db.Close()
		return nil, nil, fmt.Errorf("reading the migrations: %w", err)
	}
	return provider, db, nil
}

// refuseNewer looks whether a database that is newer than the program lets it work on. It compares versions without
// goose, which would create its table first.
func refuseNewer(ctx context.Context, db *sql.DB, provider *goose.Provider) error {
	var there bool
	err := db.QueryRowContext(ctx, "select to_regclass($1) is not null", goose.DefaultTablename).Scan(&there)
	if err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	if !there {
		return nil
	}
	var found NewerSchemaError
	err = db.QueryRowContext(ctx, "select coalesce(max(version_id), 0) from "+goose.DefaultTablename).Scan(&found.Database)
	if err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	sources := provider.ListSources()
	if found.Known = sources[len(sources)-1].Version; found.Database <= found.Known {
		return nil
	}
	found.Oldest = found.Database // whoever does not say so is taken to mind
	err = db.QueryRowContext(ctx, "select to_regclass('hub_schema') is not null").Scan(&there)
	if err == nil && there {
		err = db.QueryRowContext(ctx, "select oldest from hub_schema").Scan(&found.Oldest)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("reading which programs may work on the database: %w", err)
	}
	if found.Oldest > found.Known {
		return &found
	}
	return nil
}

// explain names the file that failed, and what PostgreSQL adds to its message.
func explain(err error, partial *goose.PartialError) error {
	where := "migrating the database"
	if partial != nil && partial.Failed != nil {
		where = "migration " + partial.Failed.Source.Path
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) && (refused.Detail != "" || refused.Hint != "" || refused.Where != "") {
		return fmt.Errorf("%s: %w (detail: %s; hint: %s; where: %s)", where, err, refused.Detail, refused.Hint, refused.Where)
	}
	return fmt.Errorf("%s: %w", where, err)
}

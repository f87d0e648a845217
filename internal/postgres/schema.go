package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
)

// Level is a program's place in the schema's history: the number of the newest migration that it brings along. Each
// migration says in hub_schema which level a program must have at least to go on working beside it.
func Level(migrations fs.FS) (int64, error) {
	names, err := fs.Glob(migrations, "*.sql")
	if err != nil {
		return 0, fmt.Errorf("listing the migrations: %w", err)
	}
	var level int64
	for _, name := range names {
		number, err := goose.NumericComponent(name)
		if err != nil {
			return 0, fmt.Errorf("migration %s: %w", name, err)
		}
		level = max(level, number)
	}
	return level, nil
}

// NewerSchemaError tells that the database was migrated by a newer Liaison, and that one of its migrations lets no
// program as old as this one work on.
type NewerSchemaError struct {
	Database int64 // the newest migration in the database
	Oldest   int64 // the level that a program must have at least; Database where no migration says otherwise
	Known    int64 // this program's level
}

func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("the database's schema is at version %d, which only a Liaison that knows version %d or a newer one may work with, and this Liaison knows only %d: "+
		"run the newer Liaison, or restore the database from before its migration", e.Database, e.Oldest, e.Known)
}

// readOldest is the level that the database asks for, and its newest migration.
const readOldest = `select coalesce((select oldest from hub_schema), 0)::bigint, coalesce((select max(version_id) from goose_db_version where is_applied), 0)::bigint`

// CheckSchema tells with a [*NewerSchemaError] that a migration has been made since that a program of this level must
// not work beside. A database that asks for nothing, because it is older than that custom, is fine.
func (db *DB) CheckSchema(ctx context.Context, level int64) error {
	conn, err := db.acquire(ctx, db.System)
	if err != nil {
		return fmt.Errorf("reading which programs may work on the database: %w", err)
	}
	defer conn.Release()
	wanted := NewerSchemaError{Known: level}
	err = conn.QueryRow(ctx, readOldest).Scan(&wanted.Oldest, &wanted.Database)
	switch {
	case errors.Is(err, pgx.ErrNoRows), sqlState(err) == "42P01": // undefined_table
		return nil
	case err != nil:
		return fmt.Errorf("reading which programs may work on the database: %w", err)
	case wanted.Oldest > level:
		return &wanted
	}
	return nil
}

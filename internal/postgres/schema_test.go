package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
)

// later is the hub's own migrations with one more behind them.
func later(t *testing.T, statement string) (files fs.FS, level int64) {
	t.Helper()
	level, err := postgres.Level(postgres.Migrations)
	if err != nil {
		t.Fatal(err)
	}
	level++
	all := fstest.MapFS{fmt.Sprintf("%04d_later.sql", level): &fstest.MapFile{Data: []byte("-- +goose Up\n" + statement + "\n")}}
	names, err := fs.Glob(postgres.Migrations, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(postgres.Migrations, name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = &fstest.MapFile{Data: text}
	}
	return all, level
}

// Issue 3, point 8: each migration names the oldest binary that may still run beside it, and an older one stops.
func TestAProgramKnowsWhetherItMayWorkOn(t *testing.T) {
	t.Parallel()
	known, err := postgres.Level(postgres.Migrations)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		oldest func(newest int64) int64
		may    bool
	}{
		{"it may", func(int64) int64 { return known }, true},
		{"it may not", func(newest int64) int64 { return newest }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			at, ctx := pgtest.URL(t), t.Context()
			running := pgtest.Open(t, at, postgres.Options{}) // a hub of this level, in the middle of its work
			if err := running.CheckSchema(ctx, known); err != nil {
				t.Fatalf("before: %v", err)
			}
			newest := known + 1
			files, _ := later(t, fmt.Sprintf("alter table organisation add motto text; update hub_schema set oldest = %d;", test.oldest(newest)))
			if applied, err := postgres.Migrate(ctx, at, files); err != nil || versions(applied) != fmt.Sprint(newest) {
				t.Fatalf("the newer program's migration: %s, %v", versions(applied), err)
			}
			applied, starts := postgres.Migrate(ctx, at, postgres.Migrations) // the older program starts once more
			if len(applied) > 0 {
				t.Errorf("the older program applied %s", versions(applied))
			}
			_, shows := postgres.Status(ctx, at, postgres.Migrations)
			for name, err := range map[string]error{"starting": starts, "status": shows, "running on": running.CheckSchema(ctx, known)} {
				var newer *postgres.NewerSchemaError
				switch {
				case test.may && err != nil:
					t.Errorf("%s: %v", name, err)
				case !test.may && (!errors.As(err, &newer) || newer.Database != newest || newer.Oldest != newest || newer.Known != known):
					t.Errorf("%s: %v", name, err)
				case !test.may:
					for _, part := range []string{fmt.Sprintf("version %d", newest), fmt.Sprintf("knows only %d", known), "run the newer Liaison"} {
						if !strings.Contains(err.Error(), part) {
							t.Errorf("%s: %q does not say %q", name, err, part)
						}
					}
				}
			}
			if err := running.CheckSchema(ctx, newest); err != nil {
				t.Errorf("the newer program itself: %v", err)
			}
		})
	}
}

// A database from before the custom asks for nothing; one whose newer migrations do not say is left alone.
func TestADatabaseThatDoesNotSayWhoMayWork(t *testing.T) {
	t.Parallel()
	at, ctx := pgtest.Empty(t), t.Context()
	db := pgtest.Open(t, at, postgres.Options{})
	if err := db.CheckSchema(ctx, 1); err != nil {
		t.Errorf("an empty database: %v", err)
	}
	if _, err := postgres.Migrate(ctx, at, migrations("select 1;", "select 1;")); err != nil {
		t.Fatal(err)
	}
	if err := db.CheckSchema(ctx, 1); err != nil {
		t.Errorf("without hub_schema: %v", err)
	}
	var newer *postgres.NewerSchemaError
	if _, err := postgres.Migrate(ctx, at, migrations("select 1;")); !errors.As(err, &newer) || newer.Oldest != 2 {
		t.Errorf("an older program starts: %v", err)
	}
}

// Two hubs that start at once on an empty database migrate it once, and both can work then.
func TestTwoHubsMigrateOnce(t *testing.T) {
	t.Parallel()
	at := pgtest.Empty(t)
	var both sync.WaitGroup
	applied := make([][]postgres.Migration, 2)
	for n := range applied {
		both.Go(func() {
			var err error
			if applied[n], err = postgres.Migrate(context.WithoutCancel(t.Context()), at, postgres.Migrations); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if all := strings.Trim(versions(applied[0])+","+versions(applied[1]), ","); all != versions(mustStatus(t, at)) {
		t.Errorf("together they applied %s", all)
	}
}

func mustStatus(t *testing.T, at string) []postgres.Migration {
	t.Helper()
	all, err := postgres.Status(t.Context(), at, postgres.Migrations)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	namesOldest = regexp.MustCompile(`(?m)^-- Oldest binary that may run beside it: (\d+)\.`)
	setsOldest  = regexp.MustCompile(`(?is)hub_schema\s+(?:\(oldest\)\s+VALUES\s+\(|SET\s+oldest\s*=\s*)(\d+)`)
)

// The head of each migration says whom it lets work on, and the row that it leaves says the same.
func TestEachMigrationNamesTheOldestBinary(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(postgres.Migrations, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	before := "1"
	for _, name := range names[1:] { // the first is where everything begins
		text, err := fs.ReadFile(postgres.Migrations, name)
		if err != nil {
			t.Fatal(err)
		}
		says, sets := namesOldest.FindSubmatch(text), setsOldest.FindAllSubmatch(text, -1)
		leaves := before
		if len(sets) > 0 {
			leaves = string(sets[len(sets)-1][1])
		}
		if says == nil || len(sets) > 1 || string(says[1]) != leaves {
			t.Errorf("%s: its head must say \"-- Oldest binary that may run beside it: N.\", and unless that N is %s already, one statement must set hub_schema.oldest to it", name, before)
			continue
		}
		own, _ := strconv.Atoi(name[:4])
		if oldest, _ := strconv.Atoi(leaves); oldest < 1 || oldest > own {
			t.Errorf("%s asks for binaries of level %d", name, oldest)
		}
		before = leaves
	}
}

func TestLevelOfOddFiles(t *testing.T) {
	t.Parallel()
	if level, err := postgres.Level(migrations("select 1;", "select 1;", "select 1;")); err != nil || level != 3 {
		t.Errorf("level %d, %v", level, err)
	}
	if _, err := postgres.Level(fstest.MapFS{"later.sql": &fstest.MapFile{}}); err == nil || !strings.Contains(err.Error(), "later.sql") {
		t.Errorf("a file without a number: %v", err)
	}
}

// RELIABILITY.md P7: "int8 everywhere". What counts up, and what refers to it, has eight bytes; the exceptions count
// tries and the like.
func TestP7EightByteCounters(t *testing.T) {
	t.Parallel()
	if got := list(t, `SELECT sequencename::text || ' ' || data_type::text FROM pg_sequences WHERE schemaname = 'public' AND sequencename NOT LIKE 'goose%'
		AND (data_type <> 'bigint'::regtype OR max_value < 9223372036854775807 OR cycle)`); len(got) > 0 {
		t.Errorf("sequences that end early: %v", got)
	}
	small := list(t, `SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid IN ('int4'::regtype, 'int2'::regtype, 'oid'::regtype, 'xid'::regtype)
		AND NOT c.relispartition AND `+ours)
	bounded := map[string]string{
		"delivery.attempts": "tries of one delivery", "inbox.attempts": "tries of one hint", "inbox.entries": "entries of one hint",
		"hub_schema.oldest": "a migration's number", "poll.failures": "polls that failed in a row",
	}
	for _, column := range small {
		if bounded[column] == "" {
			t.Errorf("%s has four bytes or fewer: make it bigint, or say here what bounds it", column)
		}
		delete(bounded, column)
	}
	for _, column := range slices.Sorted(maps.Keys(bounded)) {
		t.Errorf("%s is listed, and no such column is small", column)
	}
}

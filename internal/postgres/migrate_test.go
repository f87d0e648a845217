package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
)

// migrations numbers its statements from 1.
func migrations(statements ...string) fs.FS {
	files := fstest.MapFS{}
	for i, statement := range statements {
		files[fmt.Sprintf("%04d_step.sql", i+1)] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + statement + "\n")}
	}
	return files
}

func versions(list []postgres.Migration) string {
	var text []string
	for _, m := range list {
		text = append(text, fmt.Sprint(m.Version))
	}
	return strings.Join(text, ",")
}

func session(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	ctx := t.Context()
	two := migrations("create table one (id bigint);", "create table two (id bigint);")

	before, err := postgres.Status(ctx, url, two)
	if err != nil || len(before) != 2 || before[0].Applied || !before[0].AppliedAt.IsZero() {
		t.Errorf("status before: %+v, %v", before, err)
	}
	applied, err := postgres.Migrate(ctx, url, two)
	if err != nil || versions(applied) != "1,2" {
		t.Fatalf("first time: %+v, %v", applied, err)
	}
	if applied, err = postgres.Migrate(ctx, url, two); err != nil || len(applied) != 0 {
		t.Errorf("second time: %+v, %v", applied, err)
	}
	three := migrations("create table one (id bigint);", "create table two (id bigint);", "create table three (id bigint);")
	after, err := postgres.Status(ctx, url, three)
	if err != nil || len(after) != 3 || !after[1].Applied || after[1].AppliedAt.IsZero() || after[2].Applied {
		t.Errorf("status after: %+v, %v", after, err)
	}
	if applied, err = postgres.Migrate(ctx, url, three); err != nil || versions(applied) != "3" {
		t.Errorf("one more: %+v, %v", applied, err)
	}
	conn := session(t, url)
	if owner := one[string](t, conn, "select tableowner from pg_tables where tablename = 'three'"); owner != one[string](t, conn, "select current_user") {
		t.Errorf("the table belongs to %s, not to the login role", owner)
	}
}

// style.md: "An old binary notices a newer schema and stops."
func TestMigrateRefusesNewerSchema(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	ctx := t.Context()
	if _, err := postgres.Migrate(ctx, url, migrations("select 1;", "select 1;", "select 1;")); err != nil {
		t.Fatal(err)
	}
	older := migrations("select 1;", "select 1;")
	for name, run := range map[string]func(context.Context, string, fs.FS) ([]postgres.Migration, error){"Migrate": postgres.Migrate, "Status": postgres.Status} {
		_, err := run(ctx, url, older)
		var newer *postgres.NewerSchemaError
		if !errors.As(err, &newer) || newer.Database != 3 || newer.Known != 2 || !strings.Contains(err.Error(), "version 3") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMigrateStopsAtTheFirstFailure(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	ctx := t.Context()
	applied, err := postgres.Migrate(ctx, url, migrations("create table one (id bigint);", "create table two (id bigint); select no_such_column from one;", "create table three (id bigint);"))
	if err == nil || !strings.Contains(err.Error(), "0002_step.sql") || !strings.Contains(err.Error(), "no_such_column") {
		t.Errorf("the error must name file and cause: %v", err)
	}
	if versions(applied) != "1" {
		t.Errorf("applied %s", versions(applied))
	}
	if one[bool](t, session(t, url), "select to_regclass('two') is not null") {
		t.Error("half of the failed migration was kept")
	}
	applied, err = postgres.Migrate(ctx, url, migrations("create table one (id bigint);", "create table two (id bigint);", "create table three (id bigint);"))
	if err != nil || versions(applied) != "2,3" {
		t.Errorf("after mending: %s, %v", versions(applied), err)
	}
}

func TestMigrateTogether(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	// The first takes long enough for the others to arrive.
	files := migrations("create table one (id bigint); select pg_sleep(0.5);", "create table two (id bigint);", "insert into two values (1);")
	var all sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for range 4 {
		all.Go(func() {
			applied, err := postgres.Migrate(t.Context(), url, files)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += len(applied)
		})
	}
	all.Wait()
	if total != 3 {
		t.Errorf("%d migrations applied by four processes, want each of the 3 once", total)
	}
}

// RELIABILITY.md P6: "crash in the middle of each migration restarts clean".
func TestMigrateAfterCrash(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	watcher := session(t, url)
	failed := make(chan error, 1)
	go func() {
		_, err := postgres.Migrate(t.Context(), url, migrations("create table one (id bigint); select pg_sleep(600);"))
		failed <- err
	}()
	waitFor(t, func() bool {
		return one[bool](t, watcher, "select count(pg_terminate_backend(pid)) > 0 from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()")
	})
	if err := <-failed; err == nil {
		t.Fatal("the migration outlived its connection")
	}
	if applied, err := postgres.Migrate(t.Context(), url, migrations("create table one (id bigint);")); err != nil || versions(applied) != "1" {
		t.Errorf("after the crash: %s, %v", versions(applied), err)
	}
}

// RELIABILITY.md P6: "no lock > 1 s". A migration that waits for a table makes everybody wait behind it, so
// it gives way and comes again.
func TestMigrateGivesWay(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	ctx := t.Context()
	if _, err := postgres.Migrate(ctx, url, migrations("create table busy (id bigint);")); err != nil {
		t.Fatal(err)
	}
	reader, watcher := session(t, url), session(t, url)
	long, err := reader.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := long.Exec(ctx, "select from busy"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		applied, err := postgres.Migrate(ctx, url, migrations("create table busy (id bigint);", "alter table busy add more text;"))
		if err == nil && versions(applied) != "2" {
			err = fmt.Errorf("applied %q", versions(applied))
		}
		done <- err
	}()
	waiting := "select exists (select from pg_locks where relation = 'busy'::regclass and not granted)"
	waitFor(t, func() bool { return one[bool](t, watcher, waiting) })
	waitFor(t, func() bool { return !one[bool](t, watcher, waiting) }) // it gave way though the reader is still there
	select {
	case err := <-done:
		t.Fatalf("migrated a table in use: %v", err)
	default:
	}
	if err := long.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// The hub's own migrations must run as a login role that is no superuser, and then have nothing left to do.
func TestHubMigrations(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	if _, err := postgres.Migrate(t.Context(), url, postgres.Migrations); err != nil {
		t.Fatal(err)
	}
	status, err := postgres.Status(t.Context(), url, postgres.Migrations)
	if err != nil || len(status) == 0 {
		t.Fatalf("%+v, %v", status, err)
	}
	for _, m := range status {
		if !m.Applied {
			t.Errorf("%s is not applied", m.Name)
		}
	}
}

// waitFor looks until the condition holds.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("waited for 30 s in vain")
		}
		<-tick.C
	}
}

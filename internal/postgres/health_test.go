package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
)

func TestConditionOf(t *testing.T) {
	t.Parallel()
	code := func(code string) error {
		return fmt.Errorf("doing: %w", &pgconn.PgError{Code: code, Severity: "ERROR"})
	}
	for _, test := range []struct {
		err  error
		want postgres.Condition
	}{
		{nil, postgres.Healthy},
		{code("23505"), postgres.Healthy},
		{code("40001"), postgres.Healthy},
		{code("57014"), postgres.Healthy},
		{code("53100"), postgres.DiskFull},
		{code("53300"), postgres.TooManyConnections},
		{code("53200"), postgres.Failing}, // out of memory
		{code("58030"), postgres.Failing}, // an input or output error
		{code("XX001"), postgres.Failing}, // data corrupted
		{code("25006"), postgres.WritesRefused},
		{code("57P01"), postgres.Starting},
		{code("57P03"), postgres.Starting},
		{code("28P01"), postgres.Denied},
		{code("3D000"), postgres.Denied},
		{code("42P01"), postgres.Unmigrated},
		{fmt.Errorf("reading: %w", io.ErrUnexpectedEOF), postgres.Unreachable},
		{&net.OpError{Op: "dial", Err: errors.New("refused")}, postgres.Unreachable},
		{fmt.Errorf("%w: waited", postgres.ErrPoolExhausted), postgres.PoolExhausted},
		{fmt.Errorf("%w: %w", postgres.ErrPoolExhausted, code("53300")), postgres.TooManyConnections},
		{code("08006"), postgres.Unreachable},
		{context.Canceled, postgres.Healthy},
	} {
		if got := postgres.ConditionOf(test.err); got != test.want {
			t.Errorf("ConditionOf(%v) = %s, want %s", test.err, got, test.want)
		}
		if test.want.String() == "" {
			t.Errorf("%s has no words", test.want)
		}
	}
}

// condition checks until it is as wanted, or fails with the last one.
func condition(t *testing.T, db *postgres.DB, want postgres.Condition) {
	t.Helper()
	var got postgres.Condition
	var err error
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		got, err = db.Check(ctx)
		cancel()
		if got == want {
			return
		}
	}
	t.Fatalf("the database is %s (%v), want %s", got, err, want)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	at := pgtest.URL(t)
	db := pgtest.Open(t, at, postgres.Options{AppConns: 2, SystemConns: 2})
	watcher := session(t, at) // connected before any limit
	name := pgx.Identifier{one[string](t, watcher, "select current_database()")}.Sanitize()
	anew := func(sql string) {
		t.Helper()
		for _, sql := range []string{"set default_transaction_read_only = off", sql, "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"} {
			if _, err := watcher.Exec(t.Context(), sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
	}
	condition(t, db, postgres.Healthy)
	anew("alter database " + name + " set default_transaction_read_only = on")
	condition(t, db, postgres.WritesRefused)
	anew("alter database " + name + " reset default_transaction_read_only")
	condition(t, db, postgres.Healthy)
	anew("alter database " + name + " connection limit 0")
	condition(t, db, postgres.TooManyConnections)
	anew("alter database " + name + " connection limit -1")
	condition(t, db, postgres.Healthy)

	for range 2 {
		conn, err := db.App.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
	}
	condition(t, db, postgres.PoolExhausted)
}

// The disk of the tables may be another than that of temporary files: what statements meet counts too.
func TestCheckRemembersRefusedWrites(t *testing.T) {
	t.Parallel()
	db := withProbe(t, postgres.Options{})
	ctx := t.Context()
	exec(t, db, `create function full_disk() returns trigger language plpgsql as $$ begin raise exception 'could not extend file' using errcode = '53100'; end $$`)
	exec(t, db, `create trigger full_disk before insert on probe for each row execute function full_disk()`)
	condition(t, db, postgres.Healthy)
	err := db.AppTx(ctx, nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "insert into probe values (1)")
		return err
	})
	if !postgres.IsUnavailable(err) {
		t.Fatalf("a full disk shows as %v", err)
	}
	if got, err := db.Check(ctx); got != postgres.DiskFull {
		t.Errorf("right after it the database is %s (%v)", got, err)
	}
	condition(t, db, postgres.Healthy) // nobody has met it again for a while
}

// A connection limit that others have used up is waited out for as long as a request may wait.
func TestAcquireWaitsForRoomAtTheServer(t *testing.T) {
	t.Parallel()
	at := pgtest.URL(t)
	watcher := session(t, at)
	db := pgtest.Open(t, at, postgres.Options{AcquireTimeout: 10 * time.Second})
	name := pgx.Identifier{one[string](t, watcher, "select current_database()")}.Sanitize()
	for _, sql := range []string{"alter database " + name + " connection limit 0", "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"} {
		if _, err := watcher.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	err := db.AppTx(short, nil, func(pgx.Tx) error { return nil })
	if postgres.ConditionOf(err) != postgres.TooManyConnections || !postgres.IsUnavailable(err) {
		t.Errorf("without room: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- db.AppTx(t.Context(), nil, func(pgx.Tx) error { return nil }) }()
	if _, err := watcher.Exec(t.Context(), "alter database "+name+" connection limit -1"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("there was room in time, and yet: %v", err)
	}
}

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"liaison/internal/postgres"
	"liaison/internal/postgres/embedded"
	"liaison/internal/postgres/pgtest"
)

// withProbe is a database with a table that liaison_app may write.
func withProbe(t *testing.T, opts postgres.Options) *postgres.DB {
	t.Helper()
	db := pgtest.NewWith(t, opts)
	probe(t, db)
	return db
}

func probe(t *testing.T, db *postgres.DB) {
	t.Helper()
	exec(t, db, "create table probe (id int constraint probe_once primary key, later int constraint probe_later unique deferrable initially deferred, viewer text)")
	exec(t, db, "grant all on probe to liaison_app")
}

func exec(t *testing.T, db *postgres.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.System.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func one[T any](t *testing.T, q interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string, args ...any,
) (value T) {
	t.Helper()
	if err := q.QueryRow(t.Context(), sql, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func TestOpenRefusals(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	listener.Close()
	wrong := strings.Replace(pgtest.Empty(t), "postgres://liaison:", "postgres://liaison:x", 1)

	for name, test := range map[string]struct {
		url         string
		want        string
		unavailable bool
	}{
		"not a URL":          {"postgres://liaison:hunter2@host:notaport/x", "database URL", false},
		"nobody listens":     {"postgres://liaison:hunter2@" + closed + "/liaison", "connecting to the database", true},
		"wrong password":     {wrong, "28P01", false},
		"no such database":   {strings.Replace(pgtest.Empty(t), "/liaison_test", "/none_test", 1), "3D000", false},
		"socket of a ghost":  {"postgres://liaison:hunter2@/liaison?host=/nonexistent", "connecting to the database", true},
		"unknown host":       {"postgres://liaison:hunter2@host.invalid/liaison", "connecting to the database", true},
		"empty user is okay": {"postgres://:hunter2@" + closed + "/liaison", "connecting to the database", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := postgres.Open(t.Context(), test.url, postgres.Options{})
			if err == nil {
				db.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q lacks %q", err, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error shows the password: %v", err)
			}
			if got := postgres.IsUnavailable(err); got != test.unavailable {
				t.Errorf("IsUnavailable(%v) = %v", err, got)
			}
		})
	}
}

// The request's role must own nothing and bypass nothing (DESIGN.md section 4).
func TestRoles(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if got := one[string](t, db.App, "select current_user"); got != postgres.AppRole {
		t.Errorf("requests run as %q", got)
	}
	if one[bool](t, db.App, "select rolsuper or rolbypassrls or rolcanlogin from pg_roles where rolname = current_user") {
		t.Error("the requests' role may do too much")
	}
	if n := one[int](t, db.App, "select count(*)::int from pg_class where relowner = (select oid from pg_roles where rolname = current_user)"); n != 0 {
		t.Errorf("the requests' role owns %d relations", n)
	}
	if got := one[string](t, db.System, "select current_user"); got != one[string](t, db.System, "select session_user") {
		t.Errorf("background work runs as %q", got)
	}
	if one[bool](t, db.System, "select rolsuper or rolbypassrls from pg_roles where rolname = current_user") {
		t.Error("the login role bypasses row-level security, so tests prove nothing about it")
	}
	if err := db.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
}

func TestSessionSettings(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for setting, want := range map[string]string{
		"statement_timeout": "8s", "lock_timeout": "4s", "idle_in_transaction_session_timeout": "15s",
		"timezone": "UTC", "application_name": "liaison",
	} {
		if got := one[string](t, db.App, "select current_setting($1)", setting); got != want {
			t.Errorf("app: %s = %q, want %q", setting, got, want)
		}
	}
	if got := one[string](t, db.System, "select current_setting('statement_timeout')"); got != "1min" {
		t.Errorf("system: statement_timeout = %q", got)
	}
}

func TestLimitsEndWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	db := withProbe(t, postgres.Options{AppTimeouts: postgres.Timeouts{Statement: 200 * time.Millisecond, Lock: 50 * time.Millisecond, IdleInTransaction: 100 * time.Millisecond}})
	ctx := t.Context()

	err := db.AppTx(ctx, nil, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "select pg_sleep(60)"); return err })
	if !postgres.IsTimeout(err) {
		t.Errorf("a long statement ended with %v", err)
	}
	err = db.SystemTx(ctx, func(system pgx.Tx) error {
		if _, err := system.Exec(ctx, "lock table probe"); err != nil {
			return err
		}
		return db.AppTx(ctx, nil, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "select from probe"); return err })
	})
	if !postgres.IsTimeout(err) {
		t.Errorf("a wait for a lock ended with %v", err)
	}
	err = db.AppTx(ctx, nil, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select 1"); err != nil { // BEGIN goes along with the first statement
			return err
		}
		// The server ends the session on its own; reading finds out when.
		_, err := tx.Conn().WaitForNotification(ctx)
		return err
	})
	if err == nil {
		t.Error("an idle transaction was left alone")
	}
	if err := db.AppTx(ctx, nil, func(pgx.Tx) error { return nil }); err != nil {
		t.Errorf("the pool is of no use after that: %v", err)
	}
}

func TestAppTxCarriesItsSettings(t *testing.T) {
	t.Parallel()
	db := withProbe(t, postgres.Options{AppConns: 1}) // one connection: what remains on it, the next one sees
	ctx := t.Context()
	settings := map[string]string{"liaison.subject": `o'brien "x" \ $1 ü`, "liaison.organisations": "{1,2}"}
	err := db.AppTx(ctx, settings, func(tx pgx.Tx) error {
		for name, want := range settings {
			if got := one[string](t, tx, "select current_setting($1)", name); got != want {
				t.Errorf("%s = %q, want %q", name, got, want)
			}
		}
		_, err := tx.Exec(ctx, "insert into probe values (1, 1, current_setting('liaison.subject'))")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, db.System, "select viewer from probe"); got != settings["liaison.subject"] {
		t.Errorf("committed viewer %q", got)
	}
	if got := one[string](t, db.App, "select coalesce(current_setting('liaison.subject', true), '')"); got != "" {
		t.Errorf("the viewer stayed behind: %q", got)
	}
	if err := db.AppTx(ctx, nil, func(tx pgx.Tx) error {
		if got := one[string](t, tx, "select coalesce(current_setting('liaison.subject', true), '')"); got != "" {
			t.Errorf("the next transaction has the viewer of the one before: %q", got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAppTxRefusesSettingsThatAreNotOurs(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, settings := range []map[string]string{
		{"role": "liaison"},
		{"statement_timeout": "0"},
		{"session_authorization": "liaison"},
		{"": "x"},
		{"liaison.": "x"},
		{"Liaison.x": "x"},
		{"liaison.x y": "x"},
		{"liaison.subject": "a\x00b"},
	} {
		ran := false
		err := db.AppTx(t.Context(), settings, func(pgx.Tx) error { ran = true; return nil })
		if err == nil || ran {
			t.Errorf("%q accepted (%v)", settings, err)
		}
		if err := db.AppBatch(t.Context(), settings, &pgx.Batch{}, nil); err == nil {
			t.Errorf("%q accepted for a batch", settings)
		}
	}
}

func TestTxRollsBack(t *testing.T) {
	t.Parallel()
	db := withProbe(t, postgres.Options{})
	insert := func(tx pgx.Tx) error {
		_, err := tx.Exec(context.Background(), "insert into probe values (1)")
		return err
	}
	boom := errors.New("boom")
	if err := db.AppTx(t.Context(), nil, func(tx pgx.Tx) error { return errors.Join(insert(tx), boom) }); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = db.AppTx(t.Context(), nil, func(tx pgx.Tx) error { _ = insert(tx); panic("boom") })
	}()
	ctx, cancel := context.WithCancel(t.Context())
	if err := db.SystemTx(ctx, func(tx pgx.Tx) error { defer cancel(); return insert(tx) }); err == nil {
		t.Error("committed for a caller who had left")
	}
	err := db.SystemTx(t.Context(), func(tx pgx.Tx) error {
		_ = insert(tx)
		_ = insert(tx) // fails, and is ignored
		return nil
	})
	if !errors.Is(err, pgx.ErrTxCommitRollback) || errors.Is(err, postgres.ErrCommitUnknown) {
		t.Errorf("a transaction with a swallowed error ended with %v", err)
	}
	if n := one[int](t, db.System, "select count(*)::int from probe"); n != 0 {
		t.Errorf("%d rows were kept", n)
	}
}

func TestNestedTx(t *testing.T) {
	t.Parallel()
	db := withProbe(t, postgres.Options{})
	ctx := t.Context()
	var escaped pgx.Tx
	err := db.AppTx(ctx, nil, func(tx pgx.Tx) error {
		escaped = tx
		if _, err := tx.Exec(ctx, "insert into probe values (1)"); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
			if _, err := inner.Exec(ctx, "insert into probe values (2)"); err != nil {
				return err
			}
			return pgx.BeginFunc(ctx, inner, func(innermost pgx.Tx) error {
				_, err := innermost.Exec(ctx, "insert into probe values (1)")
				return err
			})
		})
		if !postgres.IsUniqueViolation(err, "probe_once") {
			t.Errorf("inner transaction ended with %v", err)
		}
		return pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
			_, err := inner.CopyFrom(ctx, pgx.Identifier{"probe"}, []string{"id"}, pgx.CopyFromRows([][]any{{3}, {4}}))
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := one[string](t, db.System, "select string_agg(id::text, ',' order by id) from probe"); got != "1,3,4" {
		t.Errorf("kept %s", got)
	}
	_, execErr := escaped.Exec(ctx, "select 1")
	_, queryErr := escaped.Query(ctx, "select 1") //nolint:sqlclosecheck // a connection that has gone gives no rows
	_, beginErr := escaped.Begin(ctx)
	for name, err := range map[string]error{
		"Exec": execErr, "Query": queryErr, "Begin": beginErr, "QueryRow": escaped.QueryRow(ctx, "select 1").Scan(),
		"SendBatch": escaped.SendBatch(ctx, &pgx.Batch{}).Close(), "Commit": escaped.Commit(ctx), "Rollback": escaped.Rollback(ctx),
	} {
		if !errors.Is(err, pgx.ErrTxClosed) {
			t.Errorf("%s after the end: %v", name, err)
		}
	}
}

func TestAppBatchIsOneTransaction(t *testing.T) {
	t.Parallel()
	db := withProbe(t, postgres.Options{AppConns: 1})
	ctx := t.Context()
	settings := map[string]string{"liaison.subject": "maria"}

	batch := &pgx.Batch{}
	batch.Queue("insert into probe values (1, 1, current_setting('liaison.subject'))")
	batch.Queue("select pg_current_xact_id()::text || current_setting('liaison.subject')")
	batch.Queue("select pg_current_xact_id()::text || current_setting('liaison.subject')")
	var first, second string
	err := db.AppBatch(ctx, settings, batch, func(results pgx.BatchResults) error {
		_, err := results.Exec()
		return errors.Join(err, results.QueryRow().Scan(&first), results.QueryRow().Scan(&second))
	})
	if err != nil {
		t.Fatal(err)
	}
	if first != second || !strings.HasSuffix(first, "maria") {
		t.Errorf("not one transaction of maria's: %q, %q", first, second)
	}
	if got := one[string](t, db.App, "select coalesce(current_setting('liaison.subject', true), '')"); got != "" {
		t.Errorf("the viewer stayed behind: %q", got)
	}

	failing := &pgx.Batch{}
	failing.Queue("insert into probe values (2)")
	failing.Queue("insert into probe values (1)")
	failing.Queue("insert into probe values (3)")
	if err := db.AppBatch(ctx, settings, failing, nil); !postgres.IsUniqueViolation(err, "probe_once") {
		t.Errorf("error %v", err)
	}
	if n := one[int](t, db.System, "select count(*)::int from probe"); n != 1 {
		t.Errorf("%d rows: a part of a failed batch was kept", n)
	}

	var called string
	callbacks := &pgx.Batch{}
	callbacks.Queue("select 'called'").QueryRow(func(row pgx.Row) error { return row.Scan(&called) })
	if err := db.AppBatch(ctx, settings, callbacks, nil); err != nil || called != "called" {
		t.Errorf("callback: %q, %v", called, err)
	}
}

func TestAppBatchWithOptions(t *testing.T) {
	t.Parallel()
	db := withProbe(t, postgres.Options{AppConns: 1})
	ctx := t.Context()
	batch := &pgx.Batch{}
	batch.Queue("select current_setting('transaction_isolation') || ' ' || current_setting('transaction_read_only') || ' ' || current_setting('liaison.subject')")
	var got string
	err := db.AppBatch(ctx, map[string]string{"liaison.subject": "maria"}, batch, func(results pgx.BatchResults) error {
		return results.QueryRow().Scan(&got)
	}, postgres.Isolation(pgx.RepeatableRead), postgres.ReadOnly())
	if err != nil || got != "repeatable read on maria" {
		t.Errorf("%q, %v", got, err)
	}
	write := &pgx.Batch{}
	write.Queue("insert into probe values (1)")
	if err := db.AppBatch(ctx, nil, write, nil, postgres.ReadOnly()); err == nil {
		t.Error("wrote in a read-only batch")
	}
	// The same batch again, on another connection.
	if err := db.AppBatch(ctx, nil, write, nil, postgres.Isolation(pgx.Serializable)); err != nil {
		t.Errorf("after a failed batch: %v", err)
	}
	if n := one[int](t, db.System, "select count(*)::int from probe"); n != 1 {
		t.Errorf("%d rows, want the one that was committed", n)
	}
}

// DESIGN.md section 4: "with the viewer in transaction-local settings, in one round trip".
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	w := newWire(t, pgtest.URL(t))
	db := pgtest.Open(t, w.url, postgres.Options{AppConns: 1})
	ctx := t.Context()
	settings := map[string]string{"liaison.subject": "maria", "liaison.staff": "true"}
	batch := func(opts ...postgres.TxOption) func() {
		return func() {
			b := &pgx.Batch{}
			b.Queue("select count(*) from incident where organisation_id = $1", 1)
			b.Queue("select count(*) from comment where organisation_id = $1", 1)
			b.Queue("select count(*) from external_link where organisation_id = $1", 1)
			if err := db.AppBatch(ctx, settings, b, nil, opts...); err != nil {
				t.Error(err)
			}
		}
	}
	tx := func() {
		err := db.AppTx(ctx, settings, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "select count(*) from incident where organisation_id = $1", 1)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	for _, test := range []struct {
		name string
		run  func()
		want int
	}{
		{"batch", batch(), 1},
		{"batch in one snapshot", batch(postgres.Isolation(pgx.RepeatableRead), postgres.ReadOnly()), 1},
		{"transaction: begin with settings and query, commit", tx, 2},
	} {
		test.run() // the connection learns the statements
		if got := w.during(test.run); got != test.want {
			t.Errorf("%s: %d round trips, want %d", test.name, got, test.want)
		}
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	db := withProbe(t, postgres.Options{})
	ctx := t.Context()
	raise := func(code string) func(pgx.Tx) error {
		return func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, fmt.Sprintf("do $$ begin raise exception using errcode = '%s'; end $$", code))
			return err
		}
	}
	for _, test := range []struct {
		code    string
		retries int
		want    int
	}{
		{"40001", 0, 1}, {"40001", 2, 3}, {"40P01", 1, 2}, {"23505", 5, 1}, {"57014", 5, 1},
	} {
		calls := 0
		err := db.AppTx(ctx, nil, func(tx pgx.Tx) error { calls++; return raise(test.code)(tx) }, postgres.Retry(test.retries))
		if err == nil || calls != test.want {
			t.Errorf("%s with %d retries: %d calls (%v), want %d", test.code, test.retries, calls, err, test.want)
		}
	}

	// Two serializable transactions, each reading what the other writes: one must go again and then succeed.
	exec(t, db, "insert into probe values (1, 0), (2, 100)")
	read := make(chan struct{}, 2)
	ready := make(chan struct{})
	go func() { <-read; <-read; close(ready) }()
	results := make(chan error, 2)
	calls := make(chan int, 100)
	for i := 1; i <= 2; i++ {
		go func() {
			first := true
			results <- db.SystemTx(ctx, func(tx pgx.Tx) error {
				calls <- i
				var sum int
				if err := tx.QueryRow(ctx, "select sum(later) from probe").Scan(&sum); err != nil {
					return err
				}
				if first {
					first = false
					read <- struct{}{}
					<-ready
				}
				_, err := tx.Exec(ctx, "update probe set later = $1 + $2 where id = $2", sum, i)
				return err
			}, postgres.Isolation(pgx.Serializable), postgres.Retry(5))
		}()
	}
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if len(calls) < 3 {
		t.Errorf("%d calls: nobody had to go again", len(calls))
	}
}

// RELIABILITY.md P5: the connection is cut between COMMIT and its answer.
func TestCommitUnknown(t *testing.T) {
	t.Parallel()
	at := pgtest.URL(t)
	direct := pgtest.Open(t, at, postgres.Options{})
	probe(t, direct)
	w := newWire(t, at)
	db := pgtest.Open(t, w.url, postgres.Options{AppConns: 2})
	insert := func(id int) error {
		return db.AppTx(t.Context(), nil, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), "insert into probe values ($1, 1)", id)
			return err
		})
	}
	w.loseAnswerTo("commit")
	err := insert(1)
	if !errors.Is(err, postgres.ErrCommitUnknown) || !postgres.IsUnavailable(err) {
		t.Errorf("lost answer: %v", err)
	}
	if n := one[int](t, direct.System, "select count(*)::int from probe"); n != 1 {
		t.Errorf("%d rows, and the commit had reached the server", n)
	}
	// A commit that the server refuses is known not to have happened.
	err = insert(2)
	if errors.Is(err, postgres.ErrCommitUnknown) || !postgres.IsUniqueViolation(err, "probe_later") {
		t.Errorf("refused commit: %v", err)
	}
	// Lost before the commit: nothing unknown about it.
	w.loseAnswerTo("select 'lost'")
	err = db.AppTx(t.Context(), nil, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "select 'lost'")
		return err
	})
	if err == nil || errors.Is(err, postgres.ErrCommitUnknown) || !postgres.IsUnavailable(err) {
		t.Errorf("lost before the commit: %v", err)
	}
}

// RELIABILITY.md P4: with the pool starved a request still ends, with an error that says so.
func TestPoolExhausted(t *testing.T) {
	t.Parallel()
	db := pgtest.NewWith(t, postgres.Options{AppConns: 1, AcquireTimeout: 2 * time.Second})
	ctx := t.Context()
	err := db.AppTx(ctx, nil, func(pgx.Tx) error {
		err := db.AppTx(ctx, nil, func(pgx.Tx) error { return nil })
		if !errors.Is(err, postgres.ErrPoolExhausted) || !postgres.IsUnavailable(err) {
			t.Errorf("second transaction: %v", err)
		}
		if err := db.Ping(ctx); !errors.Is(err, postgres.ErrPoolExhausted) {
			t.Errorf("Ping: %v", err)
		}
		left, cancel := context.WithCancel(ctx)
		cancel()
		if err := db.AppBatch(left, nil, &pgx.Batch{}, nil); !errors.Is(err, context.Canceled) || postgres.IsUnavailable(err) {
			t.Errorf("caller who left: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(ctx); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestErrorKinds(t *testing.T) {
	t.Parallel()
	code := func(code string) error {
		return fmt.Errorf("doing: %w", &pgconn.PgError{Code: code, Severity: "ERROR"})
	}
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("x"), false},
		{context.DeadlineExceeded, false},
		{context.Canceled, false},
		{code("08006"), true},
		{code("53100"), true},
		{code("53300"), true},
		{code("57P01"), true},
		{code("57P03"), true},
		{code("57014"), false},
		{code("23505"), false},
		{code("40001"), false},
		{code("28P01"), false},
		{code("3D000"), false},
		{fmt.Errorf("reading: %w", io.ErrUnexpectedEOF), true},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, true},
		{pgx.ErrNoRows, false},
		{pgx.ErrTxClosed, false},
	} {
		if got := postgres.IsUnavailable(test.err); got != test.want {
			t.Errorf("IsUnavailable(%v) = %v", test.err, got)
		}
	}

	db := withProbe(t, postgres.Options{})
	exec(t, db, "alter table probe add constraint probe_small check (id < 100), add constraint probe_self foreign key (later) references probe deferrable initially deferred")
	_, unique := db.System.Exec(t.Context(), "insert into probe values (1), (1)")
	_, check := db.System.Exec(t.Context(), "insert into probe values (100)")
	_, foreign := db.System.Exec(t.Context(), "insert into probe values (2, 3)")
	for name, ok := range map[string]bool{
		"unique":         postgres.IsUniqueViolation(unique, "probe_once") && postgres.IsUniqueViolation(unique, ""),
		"another unique": !postgres.IsUniqueViolation(unique, "probe_later"),
		"check":          postgres.IsCheckViolation(check, "probe_small") && !postgres.IsUniqueViolation(check, ""),
		"foreign key":    postgres.IsForeignKeyViolation(foreign, "probe_self"),
	} {
		if !ok {
			t.Errorf("%s: wrong kind (%v, %v, %v)", name, unique, check, foreign)
		}
	}
}

// A server that cannot set up a session, such as one whose disk is full ("could not write init file"), is away like one that
// does not answer. One that refuses who is asking is not: that does not pass by itself.
func TestFailuresToConnect(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]struct {
		unavailable bool
		condition   postgres.Condition
	}{
		"XX000": {true, postgres.Failing},
		"58P01": {true, postgres.Failing},
		"55000": {true, postgres.Unreachable},
		"57P03": {true, postgres.Starting},
		"53100": {true, postgres.DiskFull},
		"28P01": {false, postgres.Denied},
		"28000": {false, postgres.Denied},
		"3D000": {false, postgres.Denied},
		"42501": {false, postgres.Denied},
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			db, err := postgres.Open(t.Context(), refusing(t, state), postgres.Options{})
			if err == nil {
				db.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), state) || !postgres.IsConnecting(err) {
				t.Fatalf("it is no failure to connect: %v", err)
			}
			if got := postgres.IsUnavailable(err); got != want.unavailable {
				t.Errorf("IsUnavailable(%v) = %v", err, got)
			}
			if got := postgres.ConditionOf(err); got != want.condition {
				t.Errorf("ConditionOf(%v) = %s, want %s", err, got, want.condition)
			}
			if met := fmt.Errorf("asking: %w", &pgconn.PgError{Code: state}); postgres.IsConnecting(met) {
				t.Errorf("%v came from a statement", met)
			}
		})
	}
}

// refusing is the address of a server that refuses every session.
func refusing(t *testing.T, state string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				backend := pgproto3.NewBackend(conn, conn)
				if _, err := backend.ReceiveStartupMessage(); err != nil {
					return
				}
				backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: state, Message: "no session for you"})
				_ = backend.Flush() // the client may have left
			}()
		}
	}()
	return "postgres://liaison:hunter2@" + listener.Addr().String() + "/liaison?sslmode=disable"
}

func TestNow(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("x", 3600)
	db := pgtest.NewWith(t, postgres.Options{Now: func() time.Time { return time.Date(2026, 3, 29, 2, 30, 0, 123456789, zone) }})
	now := db.Now()
	if got := one[time.Time](t, db.System, "select $1::timestamptz", now); !got.Equal(now) || now.Location() != time.UTC {
		t.Errorf("%v came back as %v", now, got)
	}
}

// RELIABILITY.md P1: an immediate restart loses nothing acknowledged, and the pools come back by themselves.
func TestPoolsSurviveRestart(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	db := withProbeAt(t, server.URL())
	ctx := t.Context()
	for id := range 3 {
		// As the hub does: try again while the database is away.
		for {
			err := db.AppTx(ctx, nil, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, "insert into probe values ($1) on conflict (id) do nothing", id)
				return err
			})
			if err == nil {
				break
			}
			if !postgres.IsUnavailable(err) {
				t.Fatalf("a restart shows as %v", err)
			}
		}
		server.Restart(embedded.Immediate)
	}
	// Idle connections of the old server are probed or fail once; either way the pool ends up whole.
	var err error
	for range 20 {
		if err = db.Ping(ctx); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := one[int](t, db.System, "select count(*)::int from probe"); n != 3 {
		t.Errorf("%d of 3 acknowledged rows are there", n)
	}

	server.Stop()
	if err := db.Ping(ctx); !postgres.IsUnavailable(err) {
		t.Errorf("a stopped server shows as %v", err)
	}
	server.Start()
	for range 20 {
		if err = db.Ping(ctx); err == nil {
			break
		}
	}
	if err != nil {
		t.Errorf("after stop and start: %v", err)
	}
}

func withProbeAt(t *testing.T, url string) *postgres.DB {
	t.Helper()
	db := pgtest.Open(t, url, postgres.Options{})
	probe(t, db)
	return db
}

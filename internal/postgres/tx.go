package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// TxOption changes how a transaction is run.
type TxOption func(*txOptions)

type txOptions struct {
	isolation pgx.TxIsoLevel
	access    pgx.TxAccessMode
	retries   int
}

// Retry runs the transaction again, at most n times more and after a short random pause, when the server
// rolled it back over a serialization failure or a deadlock. The function is then called again from its
// start, so whatever it does outside the transaction must bear that. Default 0. AppBatch ignores it.
func Retry(n int) TxOption { return func(o *txOptions) { o.retries = n } }

// Isolation sets the isolation level: default the server's, READ COMMITTED. Under pgx.RepeatableRead all
// statements see one snapshot.
func Isolation(level pgx.TxIsoLevel) TxOption { return func(o *txOptions) { o.isolation = level } }

// ReadOnly lets the server refuse any write.
func ReadOnly() TxOption { return func(o *txOptions) { o.access = pgx.ReadOnly } }

// begin is the statement that opens a transaction with these options.
func (o txOptions) begin() string {
	words := []string{"begin"}
	if o.isolation != "" {
		words = append(words, "isolation level "+string(o.isolation))
	}
	if o.access != "" {
		words = append(words, string(o.access))
	}
	return strings.Join(words, " ")
}

// applySettings makes any number of settings local to the transaction with one unchanging text, so that it
// is prepared once per connection.
const applySettings = "select set_config(name, value, true) from unnest($1::text[], $2::text[]) as setting(name, value)"

// A setting of our own has a dot in its name; "role" or "statement_timeout" must not slip through here.
var settingName = regexp.MustCompile(`^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+$`)

func settingColumns(settings map[string]string) (names, values []string, err error) {
	names, values = make([]string, 0, len(settings)), make([]string, 0, len(settings))
	for name, value := range settings {
		if !settingName.MatchString(name) {
			return nil, nil, fmt.Errorf("transaction setting %q: the name must be lower case with a prefix of its own, such as liaison.subject", name)
		}
		if strings.ContainsRune(value, 0) {
			return nil, nil, fmt.Errorf("transaction setting %s: the value holds a NUL byte, which PostgreSQL cannot store", name)
		}
		names, values = append(names, name), append(values, value)
	}
	return names, values, nil
}

// AppTx runs fn in a transaction as liaison_app with the given settings, and commits when fn returns nil.
// BEGIN and the settings travel with fn's first statement, in one round trip. Settings end with the transaction; afterwards
// current_setting(name, true) answers NULL on a connection that never had them and an empty string on one
// that had, so policies must take both for "nobody".
//
// fn must neither commit nor roll back; it may nest transactions with Begin. When it fails, everything is
// rolled back and its error is returned as it is. Large objects are not supported.
func (db *DB) AppTx(ctx context.Context, settings map[string]string, fn func(pgx.Tx) error, opts ...TxOption) error {
	names, values, err := settingColumns(settings)
	if err != nil {
		return err
	}
	// Writes find their rows by key: their plans are kept. Lists (AppBatch), whose filters differ, are planned for each.
	names, values = append(names, "plan_cache_mode"), append(values, "force_generic_plan")
	return db.inTx(ctx, db.App, opts, func(options txOptions) *pgx.Batch {
		batch := &pgx.Batch{}
		batch.Queue(options.begin())
		batch.Queue(applySettings, names, values)
		return batch
	}, fn)
}

// SystemTx runs fn in a transaction as the login role, and commits when fn returns nil. What AppTx says of
// fn holds here too.
func (db *DB) SystemTx(ctx context.Context, fn func(pgx.Tx) error, opts ...TxOption) error {
	return db.inTx(ctx, db.System, opts, func(options txOptions) *pgx.Batch {
		batch := &pgx.Batch{}
		batch.Queue(options.begin())
		return batch
	}, fn)
}

// AppBatch runs the queries of batch as liaison_app with the given settings, all in one transaction and in
// exactly one round trip; only a statement that is new to a connection costs one more, to prepare it, and a
// connection that lay idle for a second is probed first.
//
// read takes the results in the order of the queries; nil reads none, which is right when the queries were
// queued with callbacks. Everything is sent before read begins, so an error from read does not roll back.
// When any query fails, none of them has happened. Without an isolation level each query sees its own
// snapshot; with [Isolation](pgx.RepeatableRead) all see the same, still in one round trip.
func (db *DB) AppBatch(ctx context.Context, settings map[string]string, batch *pgx.Batch, read func(pgx.BatchResults) error, opts ...TxOption) error {
	names, values, err := settingColumns(settings)
	if err != nil {
		return err
	}
	var options txOptions
	for _, apply := range opts {
		apply(&options)
	}
	// Statements sent without a Sync between them are one implicit transaction; what is special needs words.
	explicit := options.isolation != "" || options.access != ""
	whole := &pgx.Batch{}
	if explicit {
		whole.Queue(options.begin())
	}
	whole.Queue(applySettings, names, values)
	preamble := whole.Len()
	for _, query := range batch.QueuedQueries {
		// A copy: pgx notes the connection's prepared statement in it, and the caller may send the batch again.
		whole.QueuedQueries = append(whole.QueuedQueries, &pgx.QueuedQuery{SQL: query.SQL, Arguments: query.Arguments, Fn: query.Fn})
	}
	if explicit {
		whole.Queue("commit")
	}

	conn, err := db.acquire(ctx, db.App)
	if err != nil {
		return err
	}
	defer conn.Release() // a connection left inside a failed transaction is closed by the pool
	results := conn.SendBatch(ctx, whole)
	for range preamble {
		if _, err := results.Exec(); err != nil {
			return errors.Join(fmt.Errorf("setting the viewer: %w", err), ignoreRepeated(results.Close(), err))
		}
	}
	var readErr error
	if read != nil {
		readErr = read(results)
	}
	closeErr := results.Close()
	if readErr != nil {
		return readErr
	}
	return closeErr
}

// ignoreRepeated drops what Close says again of an error already in hand.
func ignoreRepeated(err, known error) error {
	if err == nil || errors.Is(err, known) || err.Error() == known.Error() {
		return nil
	}
	return err
}

func (db *DB) inTx(ctx context.Context, pool *pgxpool.Pool, opts []TxOption, opening func(txOptions) *pgx.Batch, fn func(pgx.Tx) error) error {
	var options txOptions
	for _, apply := range opts {
		apply(&options)
	}
	for attempt := 0; ; attempt++ {
		err := db.once(ctx, pool, opening(options), fn)
		if err == nil || attempt >= options.retries || !IsRetryable(err) {
			return err
		}
		// 5 ms doubling to 160 ms, half of it by chance, so that two rivals do not meet again in step.
		pause := 5 * time.Millisecond << min(attempt, 5)
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

func (db *DB) once(ctx context.Context, pool *pgxpool.Pool, opening *pgx.Batch, fn func(pgx.Tx) error) error {
	conn, err := db.acquire(ctx, pool)
	if err != nil {
		return err
	}
	defer conn.Release()
	tx := &transaction{conn: conn.Conn(), opening: opening}
	// Also on panic. The caller's context may be over by now, the server must still be told.
	defer func() {
		if !tx.closed {
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			_ = tx.Rollback(ending) // when it fails the connection is closed, which rolls back too
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return nil
}

// transaction is a pgx.Tx over a connection that has already been told to begin. pgx's own can only begin
// by itself, with a text that has no room for parameters: one more round trip, or values in the statement
// where traces and logs would show them.
//
// It begins with its first statement, so that beginning costs no round trip of its own, and a statement whose context
// was made by Last takes COMMIT along.
type transaction struct {
	conn    *pgx.Conn
	opening *pgx.Batch   // what has to be sent before the first statement; nil once it was
	ended   *ending      // set when COMMIT was sent with the last statement
	outer   *transaction // nil: the transaction itself, else a savepoint in outer
	name    string       // the savepoint's
	made    int          // savepoints made so far, counted on the outermost
	closed  bool
}

var _ pgx.Tx = (*transaction)(nil)

func (tx *transaction) Begin(ctx context.Context) (pgx.Tx, error) {
	if tx.closed {
		return nil, pgx.ErrTxClosed
	}
	if err := tx.begin(ctx); err != nil {
		return nil, err
	}
	top := tx
	for top.outer != nil {
		top = top.outer
	}
	top.made++
	name := fmt.Sprintf("sp_%d", top.made)
	if _, err := tx.conn.Exec(ctx, "savepoint "+name); err != nil {
		return nil, err
	}
	return &transaction{conn: tx.conn, outer: tx, name: name}, nil
}

func (tx *transaction) Commit(ctx context.Context) error {
	if tx.ended != nil {
		return tx.ended.err
	}
	if tx.closed {
		return pgx.ErrTxClosed
	}
	tx.closed = true
	if tx.outer != nil {
		_, err := tx.conn.Exec(ctx, "release savepoint "+tx.name)
		return err
	}
	if tx.opening != nil { // nothing was asked, so there is nothing to commit
		return nil
	}
	// What fails before anything is sent is no commit, and must be told apart here: pgx also says "conn
	// closed", which claims that nothing was sent, when the connection breaks while it awaits the answer.
	if ctx.Err() != nil {
		tx.closed = false // for the rollback
		return context.Cause(ctx)
	}
	if tx.conn.IsClosed() {
		return errConnLost
	}
	return committed(tx.conn.Exec(ctx, "commit"))
}

// committed reads the answer to COMMIT.
func committed(tag pgconn.CommandTag, err error) error {
	switch {
	case err != nil && !isRefusal(err):
		return fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	case err != nil:
		return err
	case tag.String() == "ROLLBACK": // a statement had failed and its error was swallowed
		return pgx.ErrTxCommitRollback
	}
	return nil
}

// isRefusal tells the server's word that a statement failed from an answer that never came. FATAL is none: it
// ends the session at a moment that may be just after the commit.
func isRefusal(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.SeverityUnlocalized == "ERROR"
}

func (tx *transaction) Rollback(ctx context.Context) error {
	if tx.closed {
		return pgx.ErrTxClosed
	}
	tx.closed = true
	if tx.outer != nil {
		_, err := tx.conn.Exec(ctx, "rollback to savepoint "+tx.name)
		return err
	}
	if tx.opening != nil {
		return nil
	}
	_, err := tx.conn.Exec(ctx, "rollback")
	if err != nil {
		_ = tx.conn.Close(ctx) // its state is unknown, and the error is in hand already
	}
	return err
}

func (tx *transaction) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if tx.closed {
		return 0, pgx.ErrTxClosed
	}
	if err := tx.begin(ctx); err != nil {
		return 0, err
	}
	return tx.conn.CopyFrom(ctx, table, columns, rows)
}

func (tx *transaction) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	if tx.closed {
		return failedBatch{pgx.ErrTxClosed}
	}
	if err := tx.begin(ctx); err != nil {
		return failedBatch{err}
	}
	return tx.conn.SendBatch(ctx, batch)
}

// LargeObjects is not supported: its result can only be made inside pgx, and the hub keeps files elsewhere.
func (tx *transaction) LargeObjects() pgx.LargeObjects {
	panic("postgres: large objects are not supported in this transaction")
}

func (tx *transaction) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if tx.closed {
		return nil, pgx.ErrTxClosed
	}
	return tx.conn.Prepare(ctx, name, sql)
}

func (tx *transaction) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	switch {
	case tx.closed:
		return pgconn.CommandTag{}, pgx.ErrTxClosed
	case tx.opening == nil && !isLast(ctx):
		return tx.conn.Exec(ctx, sql, args...)
	}
	c := tx.convoy(ctx, sql, args)
	tag, err := c.results.Exec()
	return tag, c.end(err)
}

func (tx *transaction) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	switch {
	case tx.closed:
		return failedRows{pgx.ErrTxClosed}, pgx.ErrTxClosed
	case tx.opening == nil && !isLast(ctx):
		return tx.conn.Query(ctx, sql, args...)
	}
	c := tx.convoy(ctx, sql, args)
	rows, err := c.results.Query()
	if err != nil {
		return failedRows{err}, c.end(err)
	}
	return &convoyRows{Rows: rows, convoy: c}, nil
}

func (tx *transaction) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	switch {
	case tx.closed:
		return failedRows{pgx.ErrTxClosed}
	case tx.opening == nil && !isLast(ctx):
		return tx.conn.QueryRow(ctx, sql, args...)
	}
	return convoyRow{tx.convoy(ctx, sql, args)}
}

// begin sends what stands before the first statement alone, where it cannot travel with one.
func (tx *transaction) begin(ctx context.Context) error {
	if tx.opening == nil {
		return nil
	}
	opening := tx.opening
	tx.opening = nil
	if err := tx.conn.SendBatch(ctx, opening).Close(); err != nil {
		return fmt.Errorf("beginning a transaction: %w", err)
	}
	return nil
}

func (tx *transaction) Conn() *pgx.Conn { return tx.conn }

// failedRows is the answer of a statement that was never sent.
type failedRows struct{ err error }

func (failedRows) Close()                                       {}
func (r failedRows) Err() error                                 { return r.err }
func (failedRows) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (failedRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (failedRows) Next() bool                                   { return false }
func (r failedRows) Scan(...any) error                          { return r.err }
func (r failedRows) Values() ([]any, error)                     { return nil, r.err }
func (failedRows) RawValues() [][]byte                          { return nil }
func (failedRows) Conn() *pgx.Conn                              { return nil }

type failedBatch struct{ err error }

func (b failedBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, b.err }
func (b failedBatch) Query() (pgx.Rows, error)         { return failedRows(b), b.err }
func (b failedBatch) QueryRow() pgx.Row                { return failedRows(b) }
func (b failedBatch) Close() error                     { return b.err }

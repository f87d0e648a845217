package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

type lastKey struct{}

// Last marks the context of a transaction's last statement: COMMIT travels behind it in the same round trip. When the
// statement fails nothing is committed, as ever. Whatever the transaction is asked after it is refused.
func Last(ctx context.Context) context.Context { return context.WithValue(ctx, lastKey{}, true) }

func isLast(ctx context.Context) bool { return ctx.Value(lastKey{}) != nil }

// ending is how a COMMIT that travelled with a statement was answered.
type ending struct{ err error }

// convoy is a statement on its way with BEGIN before it, COMMIT behind it, or both.
type convoy struct {
	tx      *transaction
	results pgx.BatchResults
	last    bool
	over    bool
}

func (tx *transaction) convoy(ctx context.Context, sql string, args []any) *convoy {
	c := &convoy{tx: tx, last: isLast(ctx) && tx.outer == nil}
	batch := tx.opening
	if batch == nil {
		batch = &pgx.Batch{}
	}
	before := batch.Len()
	tx.opening = nil
	batch.Queue(sql, args...)
	if c.last {
		batch.Queue("commit")
	}
	c.results = tx.conn.SendBatch(ctx, batch)
	for range before {
		if _, err := c.results.Exec(); err != nil {
			_ = c.results.Close() // it says the same again
			c.results = failedBatch{fmt.Errorf("beginning a transaction: %w", err)}
			break
		}
	}
	return c
}

// end reads what comes behind the statement. err is the statement's own outcome, and comes back when there is one.
func (c *convoy) end(err error) error {
	if c.over {
		return err
	}
	c.over = true
	if !c.last {
		if closing := c.results.Close(); err == nil {
			return closing
		}
		return err
	}
	commit := committed(c.results.Exec())
	_ = c.results.Close() // it says the same again
	c.tx.closed = true
	switch {
	case err != nil && isRefusal(err): // the server has rolled back
		commit = err
	case err != nil && !errors.Is(err, pgx.ErrNoRows): // COMMIT was on its way as well
		err = fmt.Errorf("%w: %w", ErrCommitUnknown, err)
		commit = err
	}
	c.tx.ended = &ending{commit}
	return err
}

// convoyRow is the one row of a statement in a convoy.
type convoyRow struct{ *convoy }

func (r convoyRow) Scan(dest ...any) error { return r.end(r.results.QueryRow().Scan(dest...)) }

// convoyRows are the rows of a statement in a convoy; the convoy ends when they are closed.
type convoyRows struct {
	pgx.Rows
	convoy *convoy
	err    error
}

func (r *convoyRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *convoyRows) Close() {
	r.Rows.Close()
	r.err = r.convoy.end(r.Rows.Err())
}

func (r *convoyRows) Err() error { return r.err }

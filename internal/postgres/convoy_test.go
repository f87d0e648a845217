package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
)

// What a transaction sends first takes BEGIN along, what it sends last takes COMMIT: neither may change what the
// transaction is.
func TestConvoy(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db, `CREATE TABLE kept (n int PRIMARY KEY, viewer text NOT NULL DEFAULT coalesce(current_setting('liaison.subject', true), ''))`)
	exec(t, db, `GRANT ALL ON kept TO liaison_app`)
	rows := func() (n int) {
		t.Helper()
		if err := db.System.QueryRow(t.Context(), `SELECT count(*) FROM kept`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const insert = `INSERT INTO kept (n) VALUES ($1) RETURNING viewer`
	refusal := errors.New("refused by the caller")
	for name, c := range map[string]struct {
		run  func(ctx context.Context, tx pgx.Tx) error
		adds int
		want error // nil: none; errAny: any
	}{
		"one row, first and last": {func(ctx context.Context, tx pgx.Tx) error {
			var viewer string
			err := tx.QueryRow(postgres.Last(ctx), insert, 1).Scan(&viewer)
			if err == nil && viewer != "ada" {
				t.Errorf("the settings did not come before the statement: %q", viewer)
			}
			return err
		}, 1, nil},
		"a command, first and last": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(postgres.Last(ctx), insert, 1)
			return err
		}, 1, nil},
		"many rows, first and last": {func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(postgres.Last(ctx), `INSERT INTO kept (n) SELECT generate_series(1, 3) RETURNING n`)
			if err != nil {
				return err
			}
			n, err := pgx.CollectRows(rows, pgx.RowTo[int])
			if len(n) != 3 {
				t.Errorf("%d rows came back", len(n))
			}
			return err
		}, 3, nil},
		"first one, last another": {func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, insert, 1); err != nil {
				return err
			}
			_, err := tx.Exec(postgres.Last(ctx), insert, 2)
			return err
		}, 2, nil},
		"no last": {func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, insert, 1)
			if err != nil {
				return err
			}
			rows.Close()
			return rows.Err()
		}, 1, nil},
		"the last one is refused": {func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, insert, 1); err != nil {
				return err
			}
			_, err := tx.Exec(postgres.Last(ctx), insert, 1)
			return err
		}, 0, errAny},
		"the refusal of the last one is swallowed": {func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, insert, 1)
			_, _ = tx.Exec(postgres.Last(ctx), insert, 1)
			return nil
		}, 0, errAny},
		"the first one is refused": {func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT 1 / 0`).Scan(new(int))
		}, 0, errAny},
		"no row to return": {func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, `SELECT 1 WHERE false`).Scan(new(int))
		}, 0, pgx.ErrNoRows},
		"the caller fails before the last": {func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, insert, 1)
			return refusal
		}, 0, refusal},
		"something after the last": {func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(postgres.Last(ctx), insert, 1); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, insert, 2); !errors.Is(err, pgx.ErrTxClosed) {
				t.Errorf("a statement after the last: %v", err)
			}
			return nil
		}, 1, nil},
		"nothing at all": {func(context.Context, pgx.Tx) error { return nil }, 0, nil},
		"a savepoint first": {func(ctx context.Context, tx pgx.Tx) error {
			return pgx.BeginFunc(ctx, tx, func(inner pgx.Tx) error {
				_, err := inner.Exec(postgres.Last(ctx), insert, 1) // inside a savepoint it is not the transaction's last
				return err
			})
		}, 1, nil},
	} {
		exec(t, db, `DELETE FROM kept`)
		err := db.AppTx(t.Context(), map[string]string{"liaison.subject": "ada"}, func(tx pgx.Tx) error { return c.run(t.Context(), tx) })
		if c.want == nil && err != nil || c.want != nil && err == nil || c.want != nil && c.want != errAny && !errors.Is(err, c.want) { //nolint:errorlint // a sentinel of this test
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if n := rows(); n != c.adds {
			t.Errorf("%s: %d rows are kept, want %d", name, n, c.adds)
		}
		if err := db.Ping(t.Context()); err != nil {
			t.Fatalf("%s: the connection is left unusable: %v", name, err)
		}
	}
}

var errAny = errors.New("any")

package inbound

import (
	"context"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres"
	"liaison/sync/inbound/internal/db"
)

// Store is where the inbox's and the polls' rows lie: each call is one transaction with every right, which happens whole
// or not at all, and which may be run again. Postgres is the only store of record; inboundtest has one in memory,
// for tests of the sync's decisions by the ten thousand, that passes the same suite.
type Store interface {
	System(ctx context.Context, fn func(db.Querier) error) error
}

// Rows returns the store of record.
func Rows(d *postgres.DB) Store { return rows{d} }

// retries is how often a transaction is repeated when Postgres asks for it.
const retries = 5

type rows struct{ db *postgres.DB }

func (r rows) System(ctx context.Context, fn func(db.Querier) error) error {
	return r.db.SystemTx(ctx, func(tx pgx.Tx) error { return fn(db.New(tx)) }, postgres.Retry(retries))
}

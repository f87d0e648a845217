package ledgertest

import (
	"context"

	"liaison/internal/auth"
	"liaison/sync/ledger"
	"liaison/sync/ledger/internal/db"
	"liaison/sync/ledger/ledgertest/memstore"
)

// Gated returns a store whose client stands behind a gate. The gate is asked before each transaction and after its
// commit, under the name "transaction"; it is not asked before the commit, which may travel with the last statement.
func Gated(s ledger.Store, g memstore.Gate) ledger.Store { return gated{s, g} }

type gated struct {
	store ledger.Store
	gate  memstore.Gate
}

func (s gated) System(ctx context.Context, fn func(db.Querier) error) error {
	return s.through(ctx, func() error { return s.store.System(ctx, fn) })
}

func (s gated) Viewer(ctx context.Context, v auth.Viewer, fn func(db.Querier) error) error {
	return s.through(ctx, func() error { return s.store.Viewer(ctx, v, fn) })
}

func (s gated) through(ctx context.Context, run func() error) error {
	return memstore.Through(ctx, s.gate, run)
}

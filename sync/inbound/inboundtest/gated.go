package inboundtest

import (
	"context"

	"liaison/sync/inbound"
	"liaison/sync/inbound/internal/db"
	"liaison/sync/ledger/ledgertest/memstore"
)

// Gated returns a store whose client stands behind a gate, as ledgertest.Gated does.
func Gated(s inbound.Store, g memstore.Gate) inbound.Store { return gated{s, g} }

type gated struct {
	inbound.Store

	gate memstore.Gate
}

func (s gated) System(ctx context.Context, fn func(db.Querier) error) error {
	return memstore.Through(ctx, s.gate, func() error { return s.Store.System(ctx, fn) })
}

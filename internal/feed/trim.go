package feed

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/feed/internal/db"
	"liaison/internal/postgres"
)

// trimRows is how many positions one transaction drops.
const trimRows = 5000

// Trim drops the feed's oldest positions, up to the first whose entry was made at or after before, and returns how many
// those were. Whoever comes back with a cursor from among them is told [ErrExpired]. The entries themselves stay. Any
// number of hubs may trim at once; a crash leaves what was dropped so far dropped.
func Trim(ctx context.Context, database *postgres.DB, before time.Time) (int64, error) {
	var all int64
	for {
		var n int64
		err := database.SystemTx(ctx, func(tx pgx.Tx) (err error) {
			n, err = db.New(tx).Trim(ctx, db.TrimParams{Before: before, MaxRows: trimRows})
			return err
		}, postgres.Retry(3))
		all += n
		if err != nil {
			return all, fmt.Errorf("trimming the feed: %w", err)
		}
		if n < trimRows {
			return all, nil
		}
	}
}

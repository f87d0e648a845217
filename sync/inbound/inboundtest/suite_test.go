package inboundtest_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"liaison/internal/incident"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/inbound"
	"liaison/sync/inbound/inboundtest"
	"liaison/sync/ledger/ledgertest/memstore"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	inboundtest.Suite(t, func(*testing.T) inboundtest.Bench {
		var passed atomic.Int64
		var paused atomic.Bool
		m := inboundtest.NewMemory(func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }, func(incident.SystemID) bool { return paused.Load() })
		return inboundtest.Bench{Store: m.Through(memstore.Open), Expire: func() { passed.Add(int64(time.Hour)) }, Pause: paused.Store}
	})
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	inboundtest.Suite(t, func(t *testing.T) inboundtest.Bench {
		t.Helper()
		db := pgtest.New(t)
		exec := func(sql string, args ...any) {
			t.Helper()
			if _, err := db.System.Exec(context.Background(), sql, args...); err != nil {
				t.Fatal(err)
			}
		}
		exec(`INSERT INTO desk (key, name) VALUES ('desk', 'Desk')`)
		exec(`INSERT INTO external_system (key, name, connector, desk_id, url) VALUES ('alpha', 'Alpha', 'none', 1, ''), ('beta', 'Beta', 'none', 1, '')`)
		return inboundtest.Bench{
			Store: inbound.Rows(db),
			Expire: func() {
				for _, table := range []string{"inbox", "poll"} {
					exec(`UPDATE ` + table + ` SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_until > clock_timestamp()`)
				}
			},
			Pause: func(paused bool) { exec(`UPDATE external_system SET paused = $1 WHERE id = 1`, paused) },
		}
	})
}

package ledgertest_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/ledger"
	"liaison/sync/ledger/ledgertest"
	"liaison/sync/ledger/ledgertest/memstore"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	ledgertest.Suite(t, memory)
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	ledgertest.Suite(t, database)
}

func memory(*testing.T) ledgertest.Bench {
	var mu sync.Mutex
	var passed time.Duration
	m := ledgertest.NewMemory(func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(passed)
	}, ledgertest.Systems()...)
	pass := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		passed += d
	}
	return ledgertest.Bench{
		Store: m.Through(memstore.Open), Contents: m.Contents, Expire: func() { pass(2 * time.Hour) }, Pause: m.Pause,
		Age: func(_ incident.LinkID, ago time.Duration) { pass(ago) },
	}
}

func database(t *testing.T) ledgertest.Bench {
	t.Helper()
	db := pgtest.NewWith(t, postgres.Options{AppConns: 3, SystemConns: 10})
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := db.System.Exec(context.Background(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO desk (key, name) VALUES ('desk', 'Desk')`)
	exec(`INSERT INTO organisation (key, name, desk_id) VALUES ('one', 'One', 1), ('two', 'Two', 1)`)
	exec(`INSERT INTO external_system (key, name, connector, desk_id, url) VALUES ('alpha', 'Alpha', 'none', 1, ''), ('beta', 'Beta', 'none', 1, '')`)
	exec(`INSERT INTO system_organisation (organisation_id, system_id) VALUES (1, 1), (1, 2)`)
	return ledgertest.Bench{
		Store: ledger.Rows(db),
		Contents: func() ledgertest.Contents {
			t.Helper()
			c, err := ledgertest.Read(context.Background(), db)
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		Expire: func() {
			exec(`UPDATE lane SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_until > clock_timestamp()`)
		},
		Pause: func(s incident.SystemID, paused bool) {
			exec(`UPDATE external_system SET paused = $2 WHERE id = $1`, int64(s), paused)
		},
		Age: func(l incident.LinkID, ago time.Duration) {
			exec(`UPDATE delivery SET sent_at = sent_at - $2::interval WHERE link_id = $1`, l.UUID, ago)
		},
	}
}

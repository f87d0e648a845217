package simulation

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/inbound"
	"liaison/sync/inbound/inboundtest"
	"liaison/sync/ledger"
	"liaison/sync/ledger/ledgertest"
)

var (
	schedules = flag.Int("schedules", 8, "how many seeds TestSchedulesOverPostgres tries")
	beside    = flag.Int("beside", 6, "how many of them are tried side by side")
)

// inPostgres are the stores of record.
type inPostgres struct {
	db *postgres.DB

	mu    sync.Mutex
	names map[uuid.UUID]string
}

func (s *inPostgres) ledger(h *hub, now func() time.Time) *ledger.Ledger {
	return ledger.Over(ledgertest.Gated(ledger.Rows(s.db), h.gate), h, now)
}

func (s *inPostgres) inbox(h *hub) inbound.Store {
	return inboundtest.Gated(inbound.Rows(s.db), h.gate)
}

func (s *inPostgres) contents() ledgertest.Contents {
	for {
		c, err := ledgertest.Read(context.Background(), s.db)
		if err == nil {
			return c
		}
	}
}

// name numbers links in the order in which they are first spoken of. A correlation id has its link's name.
func (s *inPostgres) name(id uuid.UUID) string {
	var link uuid.UUID
	if s.db.System.QueryRow(context.Background(), `SELECT id FROM external_link WHERE correlation_id = $1`, id).Scan(&link) == nil {
		id = link
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names[id] == "" {
		s.names[id] = fmt.Sprintf("link %d", len(s.names)+1)
	}
	return s.names[id]
}

func (s *inPostgres) waiting() []string {
	rows, err := s.db.System.Query(context.Background(), `SELECT external_id || ' PARKED ' || reason FROM inbox WHERE state = 'PARKED' AND reason NOT LIKE '%transient%'`)
	if err != nil {
		return []string{err.Error()}
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var row string
		if err := rows.Scan(&row); err != nil {
			return []string{err.Error()}
		}
		out = append(out, row)
	}
	return out
}

// expire ends all leases, as their time would.
func (s *inPostgres) expire(t *testing.T) {
	for _, table := range []string{"lane", "inbox", "poll"} {
		if _, err := s.db.System.Exec(context.Background(), `UPDATE `+table+` SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_until > clock_timestamp()`); err != nil {
			t.Errorf("ending the leases of %s: %v", table, err)
		}
	}
}

// scale is how many times faster than real time a world over Postgres runs.
const scale = 50

// TestSchedulesOverPostgres tries the same worlds over a real Postgres, in real time and sped up: what two transactions at
// once do to one another shows only here. A seed gives the same people, vendors and faults, and an order of its own each time.
func TestSchedulesOverPostgres(t *testing.T) {
	t.Parallel()
	var next, failed atomic.Uint64
	next.Store(*first)
	if *seed != 0 {
		next.Store(*seed)
	}
	end := next.Load() + uint64(*schedules) //nolint:gosec // not negative
	if *seed != 0 {
		end = *seed + 1
	}
	for n := range *beside {
		t.Run(fmt.Sprintf("beside %d", n+1), func(t *testing.T) {
			t.Parallel()
			for failed.Load() < *stop {
				s := next.Add(1) - 1
				if s >= end {
					return
				}
				t.Run(fmt.Sprint("seed ", s), func(t *testing.T) {
					if r := overPostgres(t, newPlan(s)); len(r.problems) > 0 {
						failed.Add(1)
						report(t, r, "TestSchedulesOverPostgres")
						t.Logf("at %v both sides stand so:\n%s", r.world.clock.now(), r.world.standing())
					}
				})
			}
		})
	}
}

func overPostgres(t *testing.T, p plan) result {
	t.Helper()
	db := pgtest.NewWith(t, postgres.Options{AppConns: 4, SystemConns: 6})
	// Standing still for longer than a lease would take as long as a lease.
	p.freezes = 0
	p.kills = min(p.kills, 2)
	w := newWorld(p, scale)
	s := &inPostgres{db: db, names: map[uuid.UUID]string{}}
	w.stores, w.together, w.slack, w.patience = s, func() { s.expire(t) }, time.Second, 30*time.Second*scale
	for _, sql := range []string{
		`INSERT INTO desk (key, name) VALUES ('desk', 'Desk')`,
		`INSERT INTO organisation (key, name, desk_id) VALUES ('school', 'School', 1)`,
		`INSERT INTO external_system (key, name, connector, desk_id, url) VALUES ('alpha', 'Alpha', 'simulated', 1, ''), ('beta', 'Beta', 'simulated', 1, '')`,
	} {
		if _, err := db.System.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range w.vendors {
		if _, err := db.System.Exec(t.Context(), `INSERT INTO system_organisation (organisation_id, system_id) VALUES (1, $1)`, int64(v.id)); err != nil {
			t.Fatal(err)
		}
	}
	return w.run()
}

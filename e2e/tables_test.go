//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// query reads one value from a hub's tables, past its rights: url is the superuser's.
func query[T any](t *testing.T, url, sql string, args ...any) T {
	t.Helper()
	value, err := tryQuery[T](t, url, sql, args...)
	if err != nil {
		t.Fatalf("%v: %s", err, sql)
	}
	return value
}

func tryQuery[T any](t *testing.T, url, sql string, args ...any) (value T, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return value, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, sql, args...).Scan(&value)
	return value, err
}

// laws are what holds in the tables whenever nothing is on its way: each query counts the rows that break one.
var laws = []struct{ law, broken string }{
	{
		"an incident's entries are numbered without a gap up to its version",
		`SELECT count(*) FROM incident i WHERE (SELECT array_agg(version ORDER BY version) FROM ledger_entry e WHERE e.incident_id = i.id)
		   IS DISTINCT FROM (SELECT array_agg(n) FROM generate_series(1, i.version) n)`,
	},
	{
		"the entries, replayed, give the incident's state, title and priority",
		`SELECT count(*) FROM incident i, LATERAL (VALUES ('state', i.state || CASE WHEN i.hold_reason = '' THEN '' ELSE '/' || i.hold_reason END), ('title', i.title), ('priority', i.priority)) AS is_now(field, value)
		 WHERE is_now.value IS DISTINCT FROM (SELECT e.changes->is_now.field->>1 FROM ledger_entry e WHERE e.incident_id = i.id AND e.changes ? is_now.field ORDER BY e.version DESC LIMIT 1)`,
	},
	{
		"every entry stands in the feed once",
		`SELECT count(*) FROM ledger_entry e WHERE (SELECT count(*) FROM feed f WHERE f.incident_id = e.incident_id AND f.version = e.version) <> 1`,
	},
	{"the feed's positions have no gap", `SELECT max(position) - count(*) FROM feed HAVING count(*) > 0`},
	{
		"the feed keeps each incident's order",
		`SELECT count(*) FROM (SELECT version, lag(version) OVER (PARTITION BY incident_id ORDER BY position) AS before FROM feed) f WHERE before >= version`,
	},
	{"every delivery has arrived", `SELECT count(*) FROM delivery WHERE state <> 'DELIVERED'`},
	{
		"a lane's deliveries arrived in order",
		`SELECT count(*) FROM (SELECT settled_at, lag(settled_at) OVER (PARTITION BY link_id ORDER BY version, id) AS before FROM delivery) d WHERE before > settled_at`,
	},
	{"every link has its ticket", `SELECT count(*) FROM external_link WHERE external_id IS NULL`},
	{"a ticket belongs to one link", `SELECT count(*) - count(DISTINCT (system_id, external_id)) FROM external_link`},
	{
		"every comment that was delivered has its copy at the vendor",
		`SELECT count(*) FROM delivery d WHERE kind = 'COMMENT' AND NOT EXISTS (SELECT FROM comment_copy c WHERE c.link_id = d.link_id AND c.comment_id = d.comment_id)`,
	},
	{"nothing is left in the inbox", `SELECT count(*) FROM inbox WHERE state NOT IN ('DONE', 'IGNORED')`},
	{"no field is parked", `SELECT count(*) FROM external_link WHERE parked <> '{}'`},
}

// consistent proves that the tables obey the laws within the time given: what is on its way has to arrive.
func consistent(t *testing.T, url string, within time.Duration) {
	t.Helper()
	eventually(t, within, "the tables are consistent", func() error {
		var broken []string
		for _, l := range laws {
			n, err := tryQuery[int](t, url, `SELECT coalesce((`+l.broken+`), 0)`)
			if wrong := (*pgconn.PgError)(nil); errors.As(err, &wrong) && strings.HasPrefix(wrong.Code, "42") {
				t.Fatalf("the query for %q does not fit the tables: %v", l.law, err)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", l.law, err)
			}
			if n != 0 {
				broken = append(broken, fmt.Sprintf("%s (%d do not)", l.law, n))
			}
		}
		if len(broken) > 0 {
			return fmt.Errorf("broken: %s", strings.Join(broken, "; "))
		}
		return nil
	})
}

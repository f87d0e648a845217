package ledger_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/ledger"
)

// large are the tables that no question of operators may read whole.
var large = regexp.MustCompile(`Seq Scan on (incident|ledger_entry|external_link|delivery|lane|inbox\w*)\b`)

// What operators are shown is counted from indexes: 20,000 links of which few wait, and as many calls that are done with.
func TestOperatorsPlansAtSize(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 20,000 links")
	}
	t.Parallel()
	sent := &statements{}
	db := pgtest.NewWith(t, postgres.Options{Tracer: sent})
	if _, err := db.System.Exec(t.Context(), `
		INSERT INTO desk (key, name) VALUES ('d', 'D');
		INSERT INTO organisation (key, name, desk_id) SELECT 'o' || n, 'O' || n, 1 FROM generate_series(1, 20) n;
		INSERT INTO external_system (key, name, connector, desk_id, url) VALUES ('s', 'S', 'c', 1, ''), ('u', 'U', 'c', 1, '');
		INSERT INTO system_organisation (organisation_id, system_id) SELECT o.id, s.id FROM organisation o, external_system s;
		INSERT INTO incident (organisation_id, id, version, title, description, state, opened_at, updated_at)
		SELECT 1 + n % 20, gen_random_uuid(), 1, 't', 'd', 'NEW', now(), now() FROM generate_series(1, 20000) n;
		INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, at) SELECT organisation_id, id, 1, 'REPORTED', 'PERSON', 'A', opened_at FROM incident;
		INSERT INTO external_link (organisation_id, id, incident_id, system_id, correlation_id, external_id, parked, created_at)
		SELECT organisation_id, gen_random_uuid(), id, 1, gen_random_uuid(), id::text, CASE WHEN random() < 0.001 THEN '{"title": "x"}'::jsonb ELSE '{}' END, opened_at FROM incident;
		INSERT INTO delivery (organisation_id, id, link_id, incident_id, version, kind, state, error_kind, created_at)
		SELECT organisation_id, gen_random_uuid(), id, incident_id, 1, 'CREATE', CASE WHEN parked <> '{}' THEN 'DEAD' ELSE 'DELIVERED' END, CASE WHEN parked <> '{}' THEN 'rejected' ELSE '' END, created_at FROM external_link;
		INSERT INTO lane (organisation_id, link_id, system_id, due_at, held, trouble, done_version)
		SELECT organisation_id, id, system_id, CASE WHEN random() < 0.005 AND parked = '{}' THEN now() END, parked <> '{}', CASE WHEN parked <> '{}' THEN 'DEAD' ELSE '' END,
		  CASE WHEN parked <> '{}' THEN 0 ELSE 1 END FROM external_link;
		INSERT INTO inbox (id, system_id, source, organisation_id, link_id, state, due_at, received_at, trace)
		SELECT gen_random_uuid(), 1, 'WEBHOOK', organisation_id, id, CASE WHEN random() < 0.001 THEN 'PARKED' ELSE 'DONE' END, now(), now() - random() * interval '10 days', '' FROM external_link`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.System.Exec(t.Context(), `VACUUM ANALYSE`); err != nil {
		t.Fatal(err)
	}
	var link, of uuid.UUID
	if err := db.System.QueryRow(t.Context(), `SELECT id, incident_id FROM external_link WHERE organisation_id = 3 LIMIT 1`).Scan(&link, &of); err != nil {
		t.Fatal(err)
	}
	var all []incident.OrganisationID
	for n := range incident.OrganisationID(20) {
		all = append(all, n+1)
	}
	v := viewer(true, all...)
	page := ledger.Page[ledger.Place]{Rows: 21}
	key := ledger.LinkKey{IncidentKey: ledger.IncidentKey{Organisation: 3, Incident: incident.ID{UUID: of}}, Link: incident.LinkID{UUID: link}}
	entry := ledger.Entry{EntryKey: ledger.EntryKey{Organisation: 3, Incident: incident.ID{UUID: of}, Version: 2}, Link: key.Link, TraceID: "0af7651916cd43dd8448eb211c80319c", At: time.Now()}
	var health []ledger.Health
	var rows []ledger.InboxRow
	var causes map[ledger.EntryKey]ledger.Entry
	var calls map[ledger.VersionKey]uuid.UUID
	var lanes []ledger.LaneState
	var heads map[incident.LinkID]ledger.Delivery
	questions := append(ledger.SystemsHealth(&health),
		ledger.Inbox(ledger.InboxFilter{Systems: []incident.SystemID{1}, States: []ledger.InboxState{ledger.InboxParked}}, page, &rows),
		ledger.CausesOf([]ledger.Entry{entry}, &causes), ledger.CallsOf([]ledger.Entry{entry}, &calls), ledger.LanesOf(all, []incident.LinkID{key.Link}, &lanes),
		ledger.HeadsOf([]ledger.LinkKey{key}, &heads))
	sent.take()
	if err := ledger.NewReader(db).Read(t.Context(), v, questions...); err != nil {
		t.Fatal(err)
	}
	if len(health) != 2 || health[0].Dead == 0 || health[0].ParkedFields != health[0].Dead || health[0].ParkedCalls == 0 || !health[0].Followed || health[1].Followed {
		t.Errorf("health is %+v", health)
	}
	asked, _ := sent.take()
	for _, q := range asked {
		if !strings.Contains(q.SQL, "-- name:") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(q.SQL, "-- name: "), " ")
		if plan := planOf(t, db, v, q.SQL, q.Args); large.MatchString(plan) {
			t.Errorf("%s reads a table whole:\n%s", name, plan)
		}
	}
	var ids []incident.DeliveryID
	sent.take()
	ids, err := ledger.New(db, quietBell{}, time.Now).DeadLetters(t.Context(), v, ledger.DeadFilter{}, 100)
	if err != nil || int64(len(ids)) != health[0].Dead {
		t.Errorf("%d dead letters of %d, %v", len(ids), health[0].Dead, err)
	}
}

type quietBell struct{}

func (quietBell) Ring(string) {}

// planOf is the generic plan of a statement as the viewer runs it.
func planOf(t *testing.T, db *postgres.DB, v auth.Viewer, sql string, args []any) string {
	t.Helper()
	var plan []string
	err := db.AppTx(t.Context(), v.Settings(), func(tx pgx.Tx) error {
		ctx := context.Background()
		if _, err := tx.Exec(ctx, "SET LOCAL plan_cache_mode = force_generic_plan"); err != nil {
			return err
		}
		sd, err := tx.Prepare(ctx, "", sql)
		if err != nil {
			return err
		}
		literals := make([]string, len(args))
		for n, a := range args {
			if literals[n], err = literal(tx, sd.ParamOIDs[n], a); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "PREPARE o AS "+sql); err != nil {
			return err
		}
		execute := "EXECUTE o"
		if len(literals) > 0 {
			execute += " (" + strings.Join(literals, ", ") + ")"
		}
		rows, err := tx.Query(ctx, "EXPLAIN (COSTS OFF) "+execute, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			return err
		}
		if plan, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "DEALLOCATE o")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(plan, "\n")
}

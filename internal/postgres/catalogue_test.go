package postgres_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres/pgtest"
)

// list runs a query of one text column.
func list(t *testing.T, sql string) []string {
	t.Helper()
	db := pgtest.New(t)
	rows, err := db.System.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

const ours = `c.relnamespace = 'public'::regnamespace AND c.relname <> 'goose_db_version'`

// RELIABILITY.md I2: what the catalogue must say of row-level security.
func TestEveryTableForcesRowLevelSecurity(t *testing.T) {
	t.Parallel()
	if got := list(t, `SELECT relname::text FROM pg_class c WHERE relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity) AND `+ours); len(got) > 0 {
		t.Errorf("without forced row-level security: %s", strings.Join(got, ", "))
	}
	if got := list(t, `SELECT relname::text FROM pg_class c WHERE relkind = 'r' AND `+ours); !slices.Contains(got, "incident") {
		t.Errorf("the check looks at the wrong tables: %v", got)
	}
}

func TestTheAppRoleOwnsNothingAndBypassesNothing(t *testing.T) {
	t.Parallel()
	if got := list(t, `SELECT rolname::text FROM pg_roles WHERE rolname IN ('liaison_app', 'liaison_system') AND (rolsuper OR rolbypassrls OR rolcanlogin OR rolcreaterole OR rolcreatedb)`); len(got) > 0 {
		t.Errorf("too mighty: %v", got)
	}
	if got := list(t, `SELECT relname::text FROM pg_class WHERE relowner IN ('liaison_app'::regrole, 'liaison_system'::regrole)`); len(got) > 0 {
		t.Errorf("owned by the hub's roles: %v", got)
	}
	if got := list(t, `SELECT table_name || ' ' || privilege_type FROM information_schema.role_table_grants
		WHERE grantee = 'liaison_app' AND (privilege_type IN ('DELETE', 'TRUNCATE') OR table_name IN ('feed', 'watermark', 'hub_key', 'poll')
		OR (table_name IN ('ledger_entry', 'comment', 'comment_copy', 'inbox') AND privilege_type = 'UPDATE'))`); len(got) > 0 {
		t.Errorf("rights that no request needs: %v", got)
	}
	if got := list(t, `SELECT rolname::text FROM pg_roles r WHERE pg_has_role('liaison_app', r.oid, 'MEMBER') AND rolname <> 'liaison_app'`); len(got) > 0 {
		t.Errorf("liaison_app is a member of %v", got)
	}
}

func TestNothingRunsWithItsOwnersRights(t *testing.T) {
	t.Parallel()
	if got := list(t, `SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
		AND NOT coalesce(proconfig::text LIKE '%search_path=%', false)`); len(got) > 0 {
		t.Errorf("SECURITY DEFINER without a fixed search_path: %v", got)
	}
	if got := list(t, `SELECT relname::text FROM pg_class c WHERE relkind = 'v' AND NOT coalesce(reloptions::text LIKE '%security_invoker=true%', false) AND `+ours); len(got) > 0 {
		t.Errorf("views without security_invoker: %v", got)
	}
}

// Whether a row exists in another organisation must not show in a constraint's refusal.
func TestConstraintsOfTenantTablesBeginWithTheOrganisation(t *testing.T) {
	t.Parallel()
	// inbox and feed are written by background work alone: no request can be refused by their constraints.
	tenant := `EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'organisation_id' AND NOT a.attisdropped)
		AND c.relname NOT LIKE 'inbox%' AND c.relname NOT IN ('feed', 'system_organisation') AND ` + ours
	if got := list(t, `SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
		WHERE i.indisunique AND (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = i.indkey[0]) <> 'organisation_id' AND `+tenant); len(got) > 0 {
		t.Errorf("unique indexes that do not begin with the organisation: %v", got)
	}
	if got := list(t, `SELECT k.conname::text FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
		WHERE k.contype = 'f' AND (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = k.conkey[1]) <> 'organisation_id' AND `+tenant); len(got) > 0 {
		t.Errorf("foreign keys that do not begin with the organisation: %v", got)
	}
}

func TestWithoutAViewerThereAreNoRows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for _, sql := range []string{
		`INSERT INTO desk (key, name) VALUES ('d', 'D')`,
		`INSERT INTO organisation (key, name, desk_id) VALUES ('o', 'O', 1)`,
		`INSERT INTO incident (organisation_id, id, version, title, description, state, opened_at, updated_at) VALUES (1, gen_random_uuid(), 1, 't', 'd', 'NEW', now(), now())`,
	} {
		if _, err := db.System.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"incident", "organisation", "desk", "external_system", "inbox"} {
		var n int
		if err := db.App.QueryRow(t.Context(), `SELECT count(*) FROM `+table).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s shows %d rows to nobody (%v)", table, n, err)
		}
	}
	seen := func(organisations string) (n int) {
		err := db.AppTx(t.Context(), map[string]string{"liaison.organisations": organisations}, func(tx pgx.Tx) error {
			return tx.QueryRow(t.Context(), `SELECT count(*) FROM incident`).Scan(&n)
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if own, other := seen("{1}"), seen("{2}"); own != 1 || other != 0 {
		t.Errorf("the own organisation shows %d incidents, another %d", own, other)
	}
}

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"liaison/connectors/registry"
	"liaison/internal/auth"
	"liaison/internal/config"
	"liaison/internal/desk"
	"liaison/internal/directory"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/ledger"
)

// operatorSettings are what the operator's stories run with.
const operatorSettings = `
desks: [{key: btls, name: BTLS}]
organisations: [{key: north, name: North, desk: btls}]
systems:
  - key: snow
    name: ServiceNow
    connector: servicenow
    desk: btls
    url: http://127.0.0.1:1
    auth: {basic: {user: liaison, password: {env: SNOW_PASSWORD}}}
  - key: rt
    name: Request Tracker
    connector: requesttracker
    desk: btls
    url: http://127.0.0.1:1
    auth: {token: {env: SNOW_PASSWORD}}
    settings: {queue: General}
`

// The operator's stories, a file each, on a database of its own in which three incidents were escalated: the first
// one's ticket was refused, the second one's is open and a change to it waits, the third one's is in step.
func TestSyncScripts(t *testing.T) {
	t.Parallel()
	const dir = "testdata/sync"
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	urls := map[string]string{}
	for _, file := range files {
		db := pgtest.New(t)
		populate(t, db)
		urls[strings.TrimSuffix(filepath.Base(file), ".txtar")] = db.URL()
	}
	testscript.Run(t, testscript.Params{Dir: dir, RequireExplicitExec: true, Setup: func(e *testscript.Env) error {
		name := strings.TrimPrefix(filepath.Base(e.WorkDir), "script-")
		e.Setenv("LIAISON_DATABASE_URL", urls[name])
		e.Setenv("SNOW_PASSWORD", "a-password")
		e.Setenv("HOME", e.WorkDir)
		return nil
	}})
}

func populate(t *testing.T, db *postgres.DB) {
	t.Helper()
	ctx := context.Background()
	c, err := config.Parse("liaison.yaml", []byte(operatorSettings), config.Options{Environ: []string{"HOME=/nowhere", "SNOW_PASSWORD=x"}, Connectors: registry.Names()})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := directory.Put(ctx, db, c)
	if err != nil {
		t.Fatal(err)
	}
	north := dir.Organisations["north"]
	ada := auth.Viewer{Subject: "ada", Name: "Ada Agent", Roles: []auth.Role{auth.Agent}, Desk: dir.Desks["btls"], Organisations: dir.Served()[0]}
	d := desk.New(ledger.New(db, postgres.NewBell(db, nil), time.Now), desk.DefaultLimits(), time.Now)
	for n, title := range []string{"Printer on fire", "Mail is slow", "No network"} {
		done, err := d.Report(ctx, ada, desk.ReportInput{Organisation: north, Title: title, Description: "It does not work."})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.Escalate(ctx, ada, desk.EscalateInput{Target: desk.Target{Incident: done.Incident.ID}, System: "snow"}); err != nil {
			t.Fatal(err)
		}
		exec := func(sql string, args ...any) {
			if _, err := db.System.Exec(ctx, sql, args...); err != nil {
				t.Fatal(err)
			}
		}
		id := done.Incident.ID.UUID
		if n == 0 {
			exec(`UPDATE delivery SET state = 'DEAD', attempts = 1, error_kind = 'rejected', error = 'servicenow.Create: rejected (HTTP 400): Invalid assignment group' WHERE incident_id = $1`, id)
			exec(`UPDATE lane SET held = true, trouble = 'DEAD', due_at = NULL WHERE link_id IN (SELECT id FROM external_link WHERE incident_id = $1)`, id)
			continue
		}
		exec(`UPDATE delivery SET state = 'DELIVERED', attempts = 1, settled_at = now() WHERE incident_id = $1`, id)
		exec(`UPDATE lane SET due_at = NULL, done_version = 2 WHERE link_id IN (SELECT id FROM external_link WHERE incident_id = $1)`, id)
		exec(`UPDATE external_link SET external_id = 'id' || $2, number = 'INC001000' || $2, remote_state = 'New', last_synced_at = now() WHERE incident_id = $1`, id, fmt.Sprint(n))
		if n == 1 {
			title := "Mail is very slow"
			if _, err := d.Update(ctx, ada, desk.UpdateInput{Target: desk.Target{Incident: done.Incident.ID}, Title: &title}); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err = db.System.Exec(ctx, `INSERT INTO pulse (system_id, sent_at, read_at, news_at, breaker, since, updated_at)
		SELECT id, now(), now(), now(), 'CLOSED', now(), now() FROM external_system`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.System.Exec(ctx, `INSERT INTO inbox (id, system_id, source, state, reason, body, content_type, due_at, received_at)
		SELECT '01900000-0000-7000-8000-00000000000a', id, 'WEBHOOK', 'PARKED', 'the body names no ticket', '{"hello": 1}', 'application/json', now(), now() FROM external_system WHERE key = 'snow'`)
	if err != nil {
		t.Fatal(err)
	}
}

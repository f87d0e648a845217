package failpoint

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
)

// opened returns points whose ends are counted instead of made.
func opened(t *testing.T) (*Points, *[]int) {
	t.Helper()
	p, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var ends []int
	p.exit = func(code int) { ends = append(ends, code) }
	return p, &ends
}

func order(t *testing.T, p *Points, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, OrderFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func listed(t *testing.T, p *Points, name string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestItEndsWhenThePointIsPassedForTheNthTime(t *testing.T) {
	t.Parallel()
	p, ends := opened(t)
	p.pass("commit after")
	order(t, p, "exit 2 commit after")
	for _, name := range []string{"commit after", "commit before", "begin > commit after"} {
		p.pass(name)
	}
	if len(*ends) != 0 {
		t.Fatal("it ended too early")
	}
	p.pass("commit after")
	if !slices.Equal(*ends, []int{Code}) {
		t.Fatalf("it ended with %v, want once with %d", *ends, Code)
	}
	if got := listed(t, p, ExitedFile); got[0] != "commit after" {
		t.Errorf("it says that it ended at %q", got)
	}
	p.pass("commit after")
	if len(*ends) != 1 {
		t.Error("it ended at a later turn as well")
	}
}

func TestAnOrderReplacedCountsAnew(t *testing.T) {
	t.Parallel()
	p, ends := opened(t)
	order(t, p, "exit 2 a before")
	p.pass("a before")
	order(t, p, "list seen")
	p.pass("a before")
	order(t, p, "exit 2 a before")
	p.pass("a before")
	if len(*ends) != 0 {
		t.Error("passes under an earlier order were counted")
	}
	order(t, p, "")
	p.pass("a before")
	if got := listed(t, p, "seen"); !slices.Equal(got, []string{"a before"}) {
		t.Errorf("listed %q", got)
	}
}

func TestWrongOrdersAreNoFaultOfTheHub(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"exit", "exit 0 a", "exit x a", "exit 1", "stop 1 a"} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			p, _ := opened(t)
			order(t, p, text)
			defer func() {
				if recover() == nil {
					t.Error("the order was taken")
				}
			}()
			p.pass("a")
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "name one that exists") {
		t.Errorf("a folder that is missing: %v", err)
	}
}

func TestPointsOfStatementsTellTheirTransaction(t *testing.T) {
	t.Parallel()
	p, _ := opened(t)
	db := pgtest.Open(t, pgtest.Empty(t), postgres.Options{Tracer: p.Tracer()})
	order(t, p, "list seen")
	ctx := t.Context()
	err := db.SystemTx(ctx, func(tx pgx.Tx) error {
		var n int
		if err := tx.QueryRow(ctx, "-- name: CountOne :one\nselect count(*) from pg_class where relname = $1", "none").Scan(&n); err != nil {
			return err
		}
		for range 2 { // a statement that is repeated stands once in the path of the next
			if _, err := tx.Exec(ctx, "-- name: SelectNothing :exec\nselect 1 where false"); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "select 1")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.SystemTx(ctx, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "-- name: Broken :exec\nselect 1/0"); return err }); err == nil {
		t.Fatal("a division by zero went well")
	}
	if _, err := db.System.Exec(ctx, "-- name: Alone :exec\nselect 1"); err != nil {
		t.Fatal(err)
	}
	batch := &pgx.Batch{}
	batch.Queue("-- name: First :exec\nselect 1")
	batch.Queue("-- name: Second :exec\nselect 2")
	if err := db.System.SendBatch(ctx, batch).Close(); err != nil {
		t.Fatal(err)
	}
	err = db.SystemTx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(postgres.Last(ctx), "-- name: Parting :exec\nselect 1")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"CountOne before", "CountOne after",
		"CountOne > SelectNothing before", "CountOne > SelectNothing=0 after",
		"CountOne > SelectNothing=0 > SelectNothing before", "CountOne > SelectNothing=0 after",
		"CountOne > SelectNothing=0 > select 1 before", "CountOne > SelectNothing=0 > select 1 after",
		"CountOne > SelectNothing=0 > select 1 > commit before", "CountOne > SelectNothing=0 > select 1 > commit after",
		"Broken before", "Broken=error after",
		"Broken=error > rollback before", "Broken=error > rollback after",
		"Alone before", "Alone after",
		"First+Second before", "First+Second after",
		"Parting+commit before", "Parting+commit after",
	}
	// Whether BEGIN travels alone is the pool's business.
	got := slices.DeleteFunc(listed(t, p, "seen"), func(s string) bool { return s == "begin before" || s == "begin after" })
	if !slices.Equal(got, want) {
		t.Errorf("passed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPointsOfCallsAndAnswers(t *testing.T) {
	t.Parallel()
	p, _ := opened(t)
	order(t, p, "list seen")
	server := httptest.NewServer(p.Door(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("q") == "cut" {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "done")
	})))
	t.Cleanup(server.Close)
	client := &http.Client{Transport: p.Transport(http.DefaultTransport)}
	call := func(method, path string) {
		r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Do(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
		}
	}
	call(http.MethodGet, "/table/incident/0123456789abcdef0123456789abcdef?fields=a,b&sysparm_query=correlation_id%3Dx")
	call(http.MethodPost, "/hooks/snow")
	call(http.MethodGet, "/table?q=cut")
	want := []string{
		"GET /table/incident/ID?sysparm_query=correlation_id before", "GET /table/incident/ID?sysparm_query=correlation_id after",
		"POST /hooks/snow before", "arrival of POST /hooks/snow", "answer to POST /hooks/snow before",
		"GET /table before", "GET /table=error after",
	}
	got := listed(t, p, "seen")
	// The caller may have the answer before the door has passed its last point.
	got = slices.DeleteFunc(got, func(s string) bool { return s == "answer to POST /hooks/snow after" || s == "POST /hooks/snow after" })
	if !slices.Equal(got, want) {
		t.Errorf("passed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

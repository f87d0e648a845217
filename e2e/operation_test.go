//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres/embedded"
	"liaison/internal/postgres/pgtest"
)

// A second hub on the same port, or on the same data, says so at once and harms nobody.
func TestTwoHubsInOnePlace(t *testing.T) {
	t.Parallel()
	h := served(t, simulate(t), "", "")
	id, _ := h.report(t, "Here already")
	_, stderr, code := run(t, h.command)
	if code != 1 || !strings.Contains(stderr, "addr: ") || !strings.Contains(stderr, h.addr) || !strings.Contains(stderr, "choose another") {
		t.Errorf("on the same port: exit code %d, %q", code, stderr)
	}
	other := h.command
	other.env = append(other.env[:len(other.env):len(other.env)], "LIAISON_ADDR=127.0.0.1:"+strconv.Itoa(freePorts(t, 1)))
	_, stderr, code = run(t, other)
	if holder := fmt.Sprintf("in use by process %d", h.cmd.Process.Pid); code != 1 || !strings.Contains(stderr, holder) || !strings.Contains(stderr, "LIAISON_DATA_DIR") {
		t.Errorf("on the same data: exit code %d, %q; want it to say %q", code, stderr, holder)
	}
	if r := h.look(t, agent, id); r.Version != 1 {
		t.Errorf("the first hub's incident is now %+v", r)
	}

	port := freePorts(t, 2)
	taken, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port+1))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, stderr, code = run(t, command{args: []string{"demo", "--addr", "127.0.0.1:" + strconv.Itoa(port), "--sim-port", strconv.Itoa(port + 1), "--data-dir", filepath.Join(folder(t), "data")}})
	if code != 1 || !strings.Contains(stderr, strconv.Itoa(port+1)) || !strings.Contains(stderr, "ServiceNow") {
		t.Errorf("a demo whose simulator's port is taken: exit code %d, %q", code, stderr)
	}
}

// SIGTERM in the middle of everything: exit code 0, no error in the log, everything acknowledged is there afterwards.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	sim, database := simulate(t), pgtest.NewServer(t)
	h := served(t, sim, database.URL(), "    poll: {interval: 2s}\n    settle_window: 5s\n    timeout: 5s\n")
	sim.fault(t, map[string]any{"kind": "latency", "rate": 0.5, "delay": "300ms"})
	var ids []string
	for n := range 6 {
		id, _ := h.report(t, fmt.Sprintf("Trouble %d", n))
		h.escalate(t, id, "btls-servicenow")
		ids = append(ids, id)
	}
	for range 10 {
		h.subscribe(t, agent, "")
	}
	var work sync.WaitGroup
	var acknowledged atomic.Int64
	stop := make(chan struct{})
	for n, id := range ids {
		work.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				err := h.try(t, requester, `mutation($id: ID!, $body: String!) { addComment(input: {incidentId: $id, body: $body}) { comment { id } } }`,
					vars{"id": id, "body": fmt.Sprintf("%d-%d", n, k)}, nil)
				if err != nil {
					return // the hub has gone
				}
				acknowledged.Add(1)
			}
		})
	}
	eventually(t, 20*time.Second, "there is load", func() error {
		if n := acknowledged.Load(); n < 60 {
			return fmt.Errorf("%d comments so far", n)
		}
		return nil
	})
	h.stop()
	close(stop)
	work.Wait()
	tables := database.SuperuserURL("liaison")
	stored := query[int64](t, tables, `SELECT count(*) FROM comment`)
	if n := acknowledged.Load(); stored < n {
		t.Errorf("%d comments were acknowledged, %d are there", n, stored)
	}
	if n := query[int](t, tables, `SELECT count(*) FROM lane WHERE lease_until > clock_timestamp()`); n != 0 {
		t.Errorf("%d lanes are still taken after an orderly end", n)
	}
	sim.forgive(t)
	h.again()
	consistent(t, tables, converge)
	total := 0
	for _, got := range sim.tickets(t) {
		total += len(got.Comments)
	}
	if int64(total) != stored {
		t.Errorf("the vendor has %d comments, the hub %d", total, stored)
	}
}

// Issue 2, point 1: a server of one's own, whose login role is no superuser but may create roles.
func TestAServerOfOnesOwn(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(t.Context(), embedded.Options{Dir: folder(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, server.SuperuserURL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range []string{
		`CREATE ROLE clerk LOGIN CREATEROLE PASSWORD 'pw'`, `CREATE DATABASE own OWNER clerk`, `REVOKE CONNECT ON DATABASE own FROM PUBLIC`,
		`CREATE ROLE humble LOGIN PASSWORD 'pw'`, `CREATE DATABASE poor OWNER humble`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	as := func(role, database string) string {
		u, err := url.Parse(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		u.User, u.Path = url.UserPassword(role, "pw"), "/"+database
		return u.String()
	}
	// A role that may not create roles is told so, and can be given them by the administrator.
	_, stderr, code := run(t, command{args: []string{"migrate"}, env: []string{"LIAISON_DATABASE_URL=" + as("humble", "poor")}})
	if code != 1 || !strings.Contains(stderr, "role") {
		t.Errorf("migrate by a role that may not create roles: exit code %d, %q", code, stderr)
	}
	own := as("clerk", "own")
	stdout, stderr, code := run(t, command{args: []string{"migrate"}, env: []string{"LIAISON_DATABASE_URL=" + own}})
	if code != 0 || !strings.Contains(stdout, "applied 0001") {
		t.Fatalf("migrate: exit code %d, %q, %q", code, stdout, stderr)
	}
	if stdout, _, code := run(t, command{args: []string{"migrate"}, env: []string{"LIAISON_DATABASE_URL=" + own}}); code != 0 || !strings.Contains(stdout, "up to date") {
		t.Errorf("migrate again: exit code %d, %q", code, stdout)
	}
	h := served(t, simulate(t), own, "")
	id, _ := h.report(t, "On a server of one's own")
	h.escalate(t, id, "btls-servicenow")
	h.opened(t, id, 10*time.Second)
	tables := server.SuperuserURL("own")
	consistent(t, tables, 10*time.Second)
	if _, err := os.Stat(filepath.Join(h.command.home, "data", "postgres")); err == nil {
		t.Error("a server was started although one is named")
	}
	// The requests' role: DESIGN.md section 4.
	if bad := query[int](t, tables, `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'liaison\_%' AND (rolsuper OR rolbypassrls OR rolcanlogin OR rolcreaterole OR rolcreatedb)`); bad != 0 {
		t.Errorf("%d of the hub's roles may more than they need", bad)
	}
	if owned := query[int](t, tables, `SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname LIKE 'liaison\_%'`); owned != 0 {
		t.Errorf("the hub's roles own %d relations", owned)
	}
}

// RELIABILITY.md P1 in small: Postgres ends as in a crash and comes back while the hub runs.
func TestPostgresComesAndGoes(t *testing.T) {
	t.Parallel()
	sim, database := simulate(t), pgtest.NewServer(t)
	h := served(t, sim, database.URL(), "    poll: {interval: 2s}\n")
	h.provoked = []string{"answering a request", "cannot settle a delivery", "a webhook could not be stored"}
	id, _ := h.report(t, "The library is offline")
	h.escalate(t, id, "btls-servicenow")
	_, l := h.opened(t, id, 10*time.Second)
	live := h.subscribe(t, agent, h.mark(t, id))
	ready := func(want int) {
		t.Helper()
		eventually(t, 30*time.Second, fmt.Sprintf("/readyz answers %d", want), func() error {
			status, text, err := get(t, h.url+"/readyz")
			if err == nil && status != want {
				err = fmt.Errorf("%d %s", status, text)
			}
			return err
		})
	}
	for round := range 3 {
		if err := syscall.Kill(database.PID(), syscall.SIGQUIT); err != nil { // what pg_ctl stop -m immediate does
			t.Fatal(err)
		}
		ready(http.StatusServiceUnavailable)
		if status, _, err := get(t, h.url+"/healthz"); err != nil || status != http.StatusOK {
			t.Errorf("without its database the hub is not even alive: %d, %v", status, err)
		}
		err := h.try(t, requester, `mutation($id: ID!) { addComment(input: {incidentId: $id, body: "lost"}) { comment { id } } }`, vars{"id": id}, nil)
		if refused := (*gqlError)(nil); !errors.As(err, &refused) || refused.Extensions.Code != "UNAVAILABLE" || strings.Contains(refused.Message, "SQLSTATE") || strings.Contains(refused.Message, "postgres") {
			t.Errorf("without its database a mutation is answered with %v", err)
		}
		sim.act(t, l.ExternalID, map[string]string{"comment": fmt.Sprintf("the vendor says %d.", round)}) // its call finds no database
		ready(http.StatusOK)
		// The same socket goes on, both ways.
		insist(t, h, fmt.Sprintf("round-%d", round), id, fmt.Sprintf("the hub says %d.", round))
		want := map[string]bool{fmt.Sprintf("the vendor says %d.", round): true, fmt.Sprintf("the hub says %d.", round): true}
		live.until(converge, func(c change) bool {
			if c.Entry.Comment != nil {
				if !want[c.Entry.Comment.Body] {
					t.Errorf("round %d: came %+v", round, c)
				}
				delete(want, c.Entry.Comment.Body)
			}
			return len(want) == 0
		})
	}
	eventually(t, converge, "the vendor has heard everything", func() error {
		theirs := sim.ticket(t, l.ExternalID)
		for round := range 3 {
			if n := said(theirs.Comments, fmt.Sprintf("the hub says %d.", round)); n != 1 {
				return fmt.Errorf("%d of comment %d", n, round)
			}
		}
		return nil
	})
	consistent(t, database.SuperuserURL("liaison"), converge)
}

// The embedded server is killed, as the kernel does when memory is short: the hub starts it again and goes on.
func TestTheEmbeddedServerIsKilled(t *testing.T) {
	t.Parallel()
	h := served(t, simulate(t), "", "")
	h.provoked = []string{"answering a request"}
	id, _ := h.report(t, "The library is offline")
	live := h.subscribe(t, agent, h.mark(t, id))
	file, err := os.ReadFile(filepath.Join(h.command.home, "data", "postgres", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(file), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	insist(t, h, "after", id, "after the kill")
	if c := live.next(converge); c.Entry.Comment == nil || c.Entry.Comment.Body != "after the kill" {
		t.Errorf("after the kill came %+v", c)
	}
	if r := h.look(t, agent, id); commented(r.Comments.Nodes, "PUBLIC", "after the kill") != 1 {
		t.Errorf("the hub holds %+v", r.Comments.Nodes)
	}
}

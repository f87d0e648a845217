package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres"
	"liaison/internal/postgres/embedded"
)

func TestDatabasesAreApart(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	first, second := New(t), New(t)
	if _, err := first.System.Exec(ctx, "insert into desk (key, name) values ('btls', 'BTLS')"); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := second.System.QueryRow(ctx, "select count(*) from desk").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d desks in the other database (%v)", n, err)
	}
	var tables int
	empty := Open(t, Empty(t), postgres.Options{})
	if err := empty.System.QueryRow(ctx, "select count(*) from pg_tables where schemaname = 'public'").Scan(&tables); err != nil || tables != 0 {
		t.Errorf("%d tables in an empty database (%v)", tables, err)
	}
}

func TestDatabaseGoesWithItsTest(t *testing.T) { //nolint:tparallel // the inner test has to end before the outer looks
	t.Parallel()
	var name string
	t.Run("inner", func(t *testing.T) {
		db := New(t)
		if err := db.System.QueryRow(t.Context(), "select current_database()").Scan(&name); err != nil {
			t.Fatal(err)
		}
	})
	var there bool
	err := New(t).System.QueryRow(t.Context(), "select exists (select from pg_database where datname = $1)", name).Scan(&there)
	if err != nil || there || name == "" {
		t.Errorf("database %q is still there (%v)", name, err)
	}
}

// Many test binaries meet a new migration at the same moment.
func TestTemplateIsMadeOnce(t *testing.T) {
	t.Parallel()
	s := shared(t)
	files := fstest.MapFS{"0001_step.sql": {Data: []byte(fmt.Sprintf("-- +goose Up\n-- %d %d\ncreate table one (id bigint);\n", time.Now().UnixNano(), os.Getpid()))}}
	names := make([]string, 6)
	var all sync.WaitGroup
	for i := range names {
		all.Go(func() {
			var err error
			if names[i], err = s.makeTemplate(files); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	t.Cleanup(func() {
		_ = s.do(context.Background(), func(conn *pgx.Conn) error {
			_, _ = conn.Exec(context.Background(), fmt.Sprintf("alter database %s with is_template false", quote(names[0])))
			return drop(context.Background(), conn, names[0])
		})
	})
	for _, name := range names {
		if name != names[0] {
			t.Errorf("several templates: %q", names)
		}
	}
	all = sync.WaitGroup{}
	for range 3 {
		all.Go(func() {
			db := Open(t, s.create(t, names[0]), postgres.Options{})
			if _, err := db.System.Exec(t.Context(), "insert into one values (1)"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestPrivateServer(t *testing.T) {
	t.Parallel()
	server := NewServer(t, map[string]string{"max_connections": "50"})
	ctx := t.Context()
	db := Open(t, server.URL(), postgres.Options{})
	var fsync, connections string
	if err := db.System.QueryRow(ctx, "select current_setting('fsync'), current_setting('max_connections')").Scan(&fsync, &connections); err != nil || fsync != "on" || connections != "50" {
		t.Errorf("fsync %s, max_connections %s (%v)", fsync, connections, err)
	}
	if _, err := db.System.Exec(ctx, "insert into desk (key, name) values ('btls', 'BTLS')"); err != nil {
		t.Fatal(err)
	}
	url := server.URL()
	server.Restart(embedded.Immediate)
	server.Stop()
	server.Start()
	if server.URL() != url {
		t.Error("the URL changed")
	}
	var n int
	if err := Open(t, url, postgres.Options{}).System.QueryRow(ctx, "select count(*) from desk").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d desks after restarts (%v)", n, err)
	}
}

func TestOwnServerMustBeAURL(t *testing.T) {
	t.Parallel()
	if _, err := (&server{login: "host=/tmp user=x"}).at("y"); err == nil || !strings.Contains(err.Error(), "LIAISON_TEST_DATABASE_URL") {
		t.Errorf("a keyword string as base: %v", err)
	}
}

// This test binary, run several times at once on a folder where no server has been yet: all share one, and
// soon after the last of them nothing runs any more.
func TestManyBinariesShareOneServer(t *testing.T) {
	t.Parallel()
	root, err := os.MkdirTemp("/tmp", "liaison-pgtest-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Chmod(root, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	program := copyOf(t, os.Args[0], root)

	type runner struct {
		name string
		uid  int
		cred *syscall.Credential
	}
	runners := []runner{{"one", os.Geteuid(), nil}, {"two", os.Geteuid(), nil}, {"three", os.Geteuid(), nil}}
	if nobody, err := user.Lookup("nobody"); err == nil && os.Geteuid() == 0 {
		uid, _ := strconv.Atoi(nobody.Uid)
		gid, _ := strconv.Atoi(nobody.Gid)
		runners = append(runners, runner{"as nobody", uid, &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}})
	}
	folders := map[string]bool{}
	var all sync.WaitGroup
	for _, r := range runners {
		folders[filepath.Join(root, "liaison-pgtest-"+strconv.Itoa(r.uid))] = true
		all.Go(func() {
			cmd := exec.Command(program, "-test.run", "^(TestDatabasesAreApart|TestDatabaseGoesWithItsTest)$", "-test.v")
			cmd.Dir = "/"
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LIAISON_TEST_DIR=" + root}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.cred}
			// CombinedOutput returns only when nobody has the output open: a keeper that did would hang "go test".
			out, err := cmd.CombinedOutput()
			if err != nil || strings.Count(string(out), "\n--- PASS: ") != 2 {
				t.Errorf("%s: %v\n%s", r.name, err, out)
			}
		})
	}
	all.Wait()
	for dir := range folders {
		deadline := time.Now().Add(idle + 30*time.Second)
		for {
			file, err := lock(filepath.Join(dir, "keeper.lock"), syscall.LOCK_EX|syscall.LOCK_NB)
			if err == nil {
				file.Close()
				break
			}
			if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
				t.Fatalf("the keeper of %s stays: %v", dir, err)
			}
			<-time.After(poll)
		}
		if _, err := os.Stat(filepath.Join(dir, "postgres", "data", "postmaster.pid")); err == nil {
			t.Errorf("the server of %s was not stopped in order", dir)
		}
		text, _ := os.ReadFile(filepath.Join(dir, "keeper.log"))
		if strings.Count(string(text), "PostgreSQL started") != 1 {
			t.Errorf("the server was started more than once:\n%s", text)
		}
	}
}

func copyOf(t *testing.T, program, dir string) string {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "pgtest.test")
	// A process forked while the file is open for writing would keep it open until its own exec, and running the file
	// meanwhile would end in "text file busy".
	syscall.ForkLock.RLock()
	err = os.WriteFile(to, text, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestServerOfOnesOwn(t *testing.T) {
	t.Parallel()
	server := NewServer(t)
	cmd := exec.Command(os.Args[0], "-test.run", "^(TestDatabasesAreApart|TestDatabaseGoesWithItsTest|TestTemplateIsMadeOnce)$", "-test.v")
	cmd.Env = append(os.Environ(), "LIAISON_TEST_DATABASE_URL="+server.SuperuserURL("postgres"), "LIAISON_TEST_DIR=/nonexistent")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "\n--- PASS: ") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
}

// A failed test's database stays when that was asked for, and goes otherwise.
func TestKeep(t *testing.T) {
	t.Parallel()
	if os.Getenv("LIAISON_PGTEST_FAIL") != "" {
		New(t)
		t.Fatal("as asked")
	}
	server := NewServer(t)
	for _, keep := range []string{"", "1"} {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKeep$", "-test.v")
		cmd.Env = append(os.Environ(), "LIAISON_PGTEST_FAIL=1", "LIAISON_TEST_KEEP="+keep,
			"LIAISON_TEST_DATABASE_URL="+server.SuperuserURL("postgres"), "LIAISON_TEST_DIR=/nonexistent")
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Fatalf("the inner test passed:\n%s", out)
		}
		if named := strings.Contains(string(out), "database kept: psql"); named != (keep != "") {
			t.Errorf("LIAISON_TEST_KEEP=%q:\n%s", keep, out)
		}
		db := Open(t, server.URL(), postgres.Options{})
		var n int
		if err := db.System.QueryRow(t.Context(), "select count(*) from pg_database where starts_with(datname, $1)", databasePrefix).Scan(&n); err != nil || (n == 1) != (keep != "") {
			t.Errorf("LIAISON_TEST_KEEP=%q: %d databases left (%v)", keep, n, err)
		}
	}
}

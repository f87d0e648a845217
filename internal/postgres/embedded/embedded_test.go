package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// hubVariable makes the test binary a hub: it starts a server on the folder that the variable names, says so
// and waits to be killed.
const hubVariable = "LIAISON_EMBEDDED_TEST_HUB"

func TestMain(m *testing.M) {
	if dir := os.Getenv(hubVariable); dir != "" {
		server, err := Start(context.Background(), options(dir))
		if err != nil {
			fmt.Fprintln(os.Stdout, err)
			os.Exit(1)
		}
		fmt.Fprintln(os.Stdout, "ready", server.PID())
		select {}
	}
	code := m.Run()
	os.RemoveAll(ready.dir)
	os.Exit(code)
}

func options(dir string) Options {
	return Options{
		Dir: dir, Settings: map[string]string{"fsync": "off"},
		StartTimeout: time.Minute, StopTimeout: 10 * time.Second, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// folder is a hub's data directory where an unprivileged server can work.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "liaison-embedded-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ready is a stopped hub's data directory that tests copy: initdb takes a second of a processor, and most of
// them are not about it.
var ready struct {
	once sync.Once
	dir  string
	err  error
}

// cluster is a folder where a hub has worked before.
func cluster(t *testing.T) string {
	t.Helper()
	ready.once.Do(func() {
		if ready.dir, ready.err = os.MkdirTemp("/tmp", "liaison-embedded-ready-"); ready.err != nil {
			return
		}
		var server *Server
		if server, ready.err = Start(context.Background(), options(ready.dir)); ready.err == nil {
			ready.err = server.Stop(context.Background())
		}
	})
	if ready.err != nil {
		t.Fatal(ready.err)
	}
	dir := folder(t)
	if out, err := exec.Command("cp", "-a", filepath.Join(ready.dir, "postgres"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

func start(t *testing.T, opts Options) *Server {
	t.Helper()
	server, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, server) })
	return server
}

func stop(t *testing.T, server *Server) {
	t.Helper()
	if err := server.Stop(context.Background()); err != nil {
		t.Errorf("stopping: %v", err)
	}
}

// ask runs a statement and returns its one value as text.
func ask(t *testing.T, url, sql string) string {
	t.Helper()
	value, err := try(t.Context(), url, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func try(ctx context.Context, url, sql string) (value string, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return "", err
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(values) == 0 {
		return "", err
	}
	return values[0], nil
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: waited for 30 s in vain", what)
		}
		<-tick.C
	}
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	durable := options(dir)
	durable.Settings = nil
	server := start(t, durable)
	url := server.URL()
	ask(t, url, "create table kept (word text)")
	ask(t, url, "insert into kept values ('here')")

	for setting, want := range map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "data_checksums": "on",
		"listen_addresses": "", "TimeZone": "UTC", "server_encoding": "UTF8", "max_connections": "200",
		"password_encryption": "scram-sha-256", "unix_socket_permissions": "0700",
	} {
		if got := ask(t, server.SuperuserURL("postgres"), "select current_setting('"+setting+"')"); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	if got := ask(t, url, "select current_user || ' ' || current_database() || ' ' || rolsuper || rolbypassrls || rolcreatedb from pg_roles where rolname = current_user"); got != "liaison liaison falsefalsefalse" {
		t.Errorf("the login role: %s", got)
	}
	if got := ask(t, server.SuperuserURL("postgres"), "select string_agg(distinct auth_method, ',') from pg_hba_file_rules"); got != "scram-sha-256" {
		t.Errorf("people get in by %s", got)
	}
	for name, bad := range map[string]string{
		"wrong password": strings.Replace(url, server.password, "x", 1),
		"no password":    strings.Replace(strings.Replace(url, ":"+server.password, "", 1), "?", "?passfile=%2Fdev%2Fnull&", 1),
		"superuser":      strings.Replace(strings.Replace(url, "liaison:", "postgres:", 1), server.password, "x", 1),
	} {
		var refused *pgconn.PgError
		if _, err := try(t.Context(), bad, "select 'in'"); !errors.As(err, &refused) || refused.Code != "28P01" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if group, err := syscall.Getpgid(server.PID()); err != nil || group != server.PID() {
		t.Errorf("the server is in process group %d, where the terminal's Ctrl-C would reach it (%v)", group, err)
	}
	for path, want := range map[string]fs.FileMode{"password": 0o600, "data": 0o700, "run": 0o700, "log": 0o600} {
		info, err := os.Stat(filepath.Join(dir, "postgres", path))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v (%v)", path, info.Mode(), want, err)
		}
	}
	if text, err := os.ReadFile(server.Log()); err != nil || strings.Contains(string(text), server.password) {
		t.Errorf("the log shows the password (%v)", err)
	}
	if commandLine, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", server.PID())); err == nil && strings.Contains(string(commandLine), server.password) {
		t.Error("the command line shows the password")
	}

	pid := server.PID()
	stop(t, server)
	stop(t, server) // twice is fine
	if serves(pid, server.paths.data) || server.PID() != 0 {
		t.Error("the server still runs")
	}
	again := start(t, durable)
	if got := ask(t, again.URL(), "select word from kept"); got != "here" || again.URL() != url {
		t.Errorf("after a restart %q at %s", got, again.URL())
	}
}

func TestSecondHubIsRefused(t *testing.T) {
	t.Parallel()
	dir := cluster(t)
	server := start(t, options(dir))
	_, err := Start(t.Context(), options(dir))
	var inUse *InUseError
	if !errors.As(err, &inUse) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second hub: %v", err)
	}
	if got := ask(t, server.URL(), "select 'well'"); got != "well" {
		t.Error("the first hub's server suffered")
	}
}

// hub runs the test binary as a hub in another process.
func hub(t *testing.T, dir string) (process *exec.Cmd, postmaster int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), hubVariable+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	line := make([]byte, 4096)
	n, err := out.Read(line)
	if _, scanErr := fmt.Sscanf(string(line[:n]), "ready %d", &postmaster); scanErr != nil {
		t.Fatalf("the hub says %q (%v)", line[:n], err)
	}
	return cmd, postmaster
}

func TestKilledHub(t *testing.T) {
	t.Parallel()
	dir := cluster(t)
	process, postmaster := hub(t, dir)
	data := pathsUnder(dir).data
	if _, err := Start(t.Context(), options(dir)); err == nil || !strings.Contains(err.Error(), strconv.Itoa(process.Process.Pid)) {
		t.Errorf("a second hub beside process %d: %v", process.Process.Pid, err)
	}
	_, _ = process.Process.Kill(), process.Wait()
	if _, err := os.Stat("/proc/self"); err == nil {
		waitFor(t, "PostgreSQL goes when its hub was killed", func() bool { return !serves(postmaster, data) })
	}
	server := start(t, options(dir))
	if got := ask(t, server.URL(), "select 'well'"); got != "well" {
		t.Error("no answer")
	}
}

// A server that outlived its hub, as on systems without a signal at the parent's death.
func TestOrphan(t *testing.T) {
	t.Parallel()
	dir := cluster(t)
	first := start(t, options(dir))
	ask(t, first.URL(), "create table kept (word text)")
	orphan := runAlone(t, first)
	server := start(t, options(dir))
	if serves(orphan, server.paths.data) {
		t.Error("the orphan still runs beside the new server")
	}
	if got := ask(t, server.URL(), "select count(*)::text from kept"); got != "0" {
		t.Error("not the same data")
	}
}

// A server that does not hear: even then the next start must come to its end.
func TestStoppedOrphan(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes 12 s")
	}
	dir := cluster(t)
	orphan := runAlone(t, start(t, options(dir)))
	if err := syscall.Kill(orphan, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	hurried := options(dir)
	hurried.StopTimeout = time.Second
	server := start(t, hurried)
	if got := ask(t, server.URL(), "select 'well'"); got != "well" {
		t.Error("no answer")
	}
}

// runAlone stops the server and runs it again as nobody's child.
func runAlone(t *testing.T, server *Server) (pid int) {
	t.Helper()
	stop(t, server)
	ctl := server.command(server.programs.path("pg_ctl"), "start", "-w", "-D", server.paths.data, "-l", "/dev/null",
		"-o", "-c listen_addresses='' -c unix_socket_directories="+server.paths.run)
	ctl.SysProcAttr = &syscall.SysProcAttr{Credential: server.account.credential()} // outlives who starts it
	if out, err := ctl.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pid = postmasterOf(server.paths.data)
	if pid == 0 {
		t.Fatal("pg_ctl started nothing")
	}
	t.Cleanup(func() {
		if serves(pid, server.paths.data) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return pid
}

// After a crash the process id in postmaster.pid may belong to anybody.
func TestRecycledProcessID(t *testing.T) {
	t.Parallel()
	dir := cluster(t)
	server := start(t, options(dir))
	stop(t, server)

	innocent := exec.Command("sleep", "600")
	innocent.SysProcAttr = &syscall.SysProcAttr{Credential: server.account.credential()} // of the same user: PostgreSQL believes in it
	if err := innocent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = innocent.Process.Kill(), innocent.Wait() })
	for _, file := range []string{filepath.Join(server.paths.data, "postmaster.pid"), filepath.Join(server.paths.run, ".s.PGSQL.5432.lock")} {
		text := fmt.Sprintf("%d\n%s\n%d\n5432\n%s\n\n", innocent.Process.Pid, server.paths.data, time.Now().Unix(), server.paths.run)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := server.account.own(file); err != nil {
			t.Fatal(err)
		}
	}
	again := start(t, options(dir))
	if got := ask(t, again.URL(), "select 'well'"); got != "well" {
		t.Error("no answer")
	}
	if err := syscall.Kill(innocent.Process.Pid, 0); err != nil {
		t.Errorf("the other process was harmed: %v", err)
	}
}

func TestInterruptedInitialisation(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	paths := pathsUnder(dir)
	for _, half := range []string{filepath.Join(paths.unfinished, "base"), paths.data} {
		if err := os.MkdirAll(half, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(paths.unfinished, "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := start(t, options(dir))
	if got := ask(t, server.URL(), "select 'well'"); got != "well" {
		t.Error("no answer")
	}
	if _, err := os.Stat(paths.unfinished); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the half made cluster is still there (%v)", err)
	}
}

func TestFolderWithSomethingElse(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	data := pathsUnder(dir).data
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "thesis.txt"), []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), options(dir)); err == nil || !strings.Contains(err.Error(), "no PostgreSQL cluster") {
		t.Errorf("error %v", err)
	}
	if text, _ := os.ReadFile(filepath.Join(data, "thesis.txt")); string(text) != "years of work" {
		t.Error("what was there is gone")
	}
}

func TestClusterOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := cluster(t)
	server := start(t, options(dir))
	stop(t, server)
	if err := os.WriteFile(filepath.Join(server.paths.data, "PG_VERSION"), []byte("12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), options(dir))
	if err == nil || !strings.Contains(err.Error(), "PostgreSQL 12") || !strings.Contains(err.Error(), server.programs.Version) {
		t.Errorf("the error must name both versions: %v", err)
	}
}

// A socket's path may have 107 bytes.
func TestLongPath(t *testing.T) {
	t.Parallel()
	outer := folder(t)
	if err := os.Chmod(outer, 0o711); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(outer, strings.Repeat("long-", 20), "data")
	server := start(t, options(dir))
	if got := ask(t, server.URL(), "select 'well'"); got != "well" {
		t.Error("no answer")
	}
	if info, err := os.Stat(server.socket); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's folder is open to others: %v, %v", info, err)
	}
	stop(t, server)
	if _, err := os.Stat(server.socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket's folder was left behind (%v)", err)
	}
}

func TestLostPassword(t *testing.T) {
	t.Parallel()
	dir := cluster(t)
	first := start(t, options(dir))
	ask(t, first.URL(), "create table kept (word text)")
	stop(t, first)
	if err := os.Remove(first.paths.password); err != nil {
		t.Fatal(err)
	}
	second := start(t, options(dir))
	if second.password == first.password {
		t.Error("the same password again")
	}
	if got := ask(t, second.URL(), "select count(*)::text from kept"); got != "0" {
		t.Error("not the same data")
	}
}

func TestServerIsBroughtBack(t *testing.T) {
	t.Parallel()
	server := start(t, options(cluster(t)))
	ask(t, server.URL(), "create table kept (word text)")
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the server comes back after a kill", func() bool {
		_, err := try(t.Context(), server.URL(), "select count(*)::text from kept")
		return err == nil
	})

	// Someone restarts it by hand (RELIABILITY.md P1): theirs is taken on, not fought.
	ctl := server.command(server.programs.path("pg_ctl"), "restart", "-w", "-m", "immediate", "-D", server.paths.data, "-l", "/dev/null")
	ctl.SysProcAttr = &syscall.SysProcAttr{Credential: server.account.credential()} // outlives who starts it
	if out, err := ctl.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	theirs := postmasterOf(server.paths.data)
	waitFor(t, "the other postmaster is taken on", func() bool { return server.PID() == theirs })
	if _, err := try(t.Context(), server.URL(), "select count(*)::text from kept"); err != nil {
		t.Errorf("after pg_ctl restart: %v", err)
	}
	stop(t, server)
	if serves(theirs, server.paths.data) {
		t.Error("the server that was restarted by hand outlived Stop")
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	server := start(t, options(cluster(t)))
	ask(t, server.URL(), "create table kept (word text)")
	for _, how := range []Shutdown{Fast, Immediate} {
		before := server.PID()
		if err := server.Restart(t.Context(), how); err != nil {
			t.Fatal(err)
		}
		if server.PID() == before {
			t.Error("the same process")
		}
		if got := ask(t, server.URL(), "select count(*)::text from kept"); got != "0" {
			t.Error("not the same data")
		}
	}
	stop(t, server)
	if err := server.Restart(t.Context(), Fast); err == nil {
		t.Error("restarted a stopped server")
	}
}

func TestStopDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	server := start(t, options(cluster(t)))
	conn, err := pgx.Connect(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "begin; select 1"); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Stop(over); err != nil {
		t.Errorf("stopping with a context that is over: %v", err)
	}
	if len(servers(server.paths.data)) != 0 {
		t.Error("the server still runs")
	}
}

func TestStartFailureShowsTheLog(t *testing.T) {
	t.Parallel()
	opts := options(cluster(t))
	opts.Settings["shared_buffers"] = "one bucket"
	_, err := Start(t.Context(), opts)
	if err == nil || !strings.Contains(err.Error(), "shared_buffers") {
		t.Errorf("error %v", err)
	}
	delete(opts.Settings, "shared_buffers")
	start(t, opts) // the failure left nothing in the way
}

func TestLargeLogIsPutAside(t *testing.T) {
	t.Parallel()
	dir := cluster(t)
	paths := pathsUnder(dir)
	if err := os.MkdirAll(paths.home, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(paths.log, make([]byte, 11<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, options(dir))
	if info, err := os.Stat(paths.log); err != nil || info.Size() > 1<<20 {
		t.Errorf("the log is still large (%v)", err)
	}
	if _, err := os.Stat(paths.log + ".1"); err != nil {
		t.Error(err)
	}
}

func TestUnreachableFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs the server as somebody else")
	}
	closed := folder(t) // mode 0700
	_, err := Start(t.Context(), options(filepath.Join(closed, "data")))
	if err == nil || !strings.Contains(err.Error(), closed) || !strings.Contains(err.Error(), "may not enter") {
		t.Errorf("error %v", err)
	}
	_, err = Start(t.Context(), Options{Dir: folder(t), User: "no-such-user"})
	if err == nil || !strings.Contains(err.Error(), "no-such-user") {
		t.Errorf("error %v", err)
	}
}

// The whole again as a user without rights, when these tests run as root.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the other tests are that already")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skipf("no user to run as: %v", err)
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	// The test binary lies in a folder that others may not enter.
	dir := folder(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "embedded.test")
	// A process forked while the file is open for writing would keep it open until its own exec, and running the file
	// meanwhile would end in "text file busy".
	syscall.ForkLock.RLock()
	err = os.WriteFile(program, text, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run", "^(TestLifecycle|TestKilledHub|TestOrphan|TestLostPassword)$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	if n := strings.Count(string(out), "\n--- PASS"); n != 4 {
		t.Errorf("%d of 4 tests passed:\n%s", n, out)
	}
}

func TestDefaultDir(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/srv/data")
	dir, err := DefaultDir()
	want := "/srv/data/liaison"
	if os.Geteuid() == 0 {
		want = "/var/lib/liaison"
	}
	if err != nil || dir != want {
		t.Errorf("%s, %v", dir, err)
	}
}

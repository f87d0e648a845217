package pgtest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres/embedded"
)

// The shared server's folder holds, beside what embedded keeps:
//
//	users.lock   shared by every test binary for its lifetime; the keeper takes it whole to stop
//	start.lock   held while looking for a keeper and starting one
//	keeper.lock  held by the keeper for its lifetime
//	ready        where the server is, written when it answers
//	keeper.log   what the keeper has to say
//	boot         the machine's boot that the cluster was last used in
//	kept         its time tells when a test last kept its database
const keeperVariable = "LIAISON_PGTEST_KEEPER"

const (
	idle     = 3 * time.Second  // how long the server outlives the last test binary
	idleKept = 30 * time.Minute // the same after a database was kept
	poll     = 100 * time.Millisecond
)

// A test binary started with the variable set is the keeper and runs no tests.
func init() {
	dir := os.Getenv(keeperVariable)
	if dir == "" {
		return
	}
	if err := keep(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

type readiness struct{ Admin, Login string }

// folder is the shared server's, in a place that the unprivileged user of a root's server can reach.
func folder() string {
	return filepath.Join(cmp.Or(os.Getenv("LIAISON_TEST_DIR"), "/tmp"), "liaison-pgtest-"+strconv.Itoa(os.Geteuid()))
}

// openFolder makes the folder. Its name is known to everybody on the machine, so what others made is refused.
func openFolder() (string, error) {
	dir := folder()
	if err := os.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if !ownFolder(info) {
		return "", fmt.Errorf("%s is not a folder of this user alone: remove it, or set LIAISON_TEST_DATABASE_URL", dir)
	}
	return dir, nil
}

// ownFolder tells whether a folder is one that nobody but this user could have filled.
func ownFolder(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.IsDir() && int(stat.Uid) == os.Geteuid() && info.Mode().Perm()&0o022 == 0
}

// users holds this test binary's share of the server; it is never closed, so that it ends with the process.
var users *os.File //nolint:unused // holding it open is its use

// join finds the shared server or starts it.
func join() (*server, error) {
	dir, err := openFolder()
	if err != nil {
		return nil, err
	}
	if users, err = lock(filepath.Join(dir, "users.lock"), syscall.LOCK_SH); err != nil {
		return nil, err
	}
	starting, err := lock(filepath.Join(dir, "start.lock"), syscall.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer starting.Close()

	var exited <-chan struct{} // of the keeper that this process started, if it did
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		if alive, err := kept(dir); err != nil {
			return nil, err
		} else if alive {
			if text, err := os.ReadFile(filepath.Join(dir, "ready")); err == nil {
				var at readiness
				if err := json.Unmarshal(text, &at); err != nil {
					return nil, fmt.Errorf("reading where the server is: %w", err)
				}
				return &server{admin: at.Admin, login: at.Login, owner: embedded.Role}, nil
			}
		} else if exited == nil {
			if exited, err = startKeeper(dir); err != nil {
				return nil, fmt.Errorf("starting the server's keeper: %w", err)
			}
		}
		select {
		case <-exited:
			text, _ := os.ReadFile(filepath.Join(dir, "keeper.log"))
			return nil, fmt.Errorf("the server's keeper ended: %s", strings.TrimSpace(string(text)))
		case <-time.After(poll / 4):
		}
	}
	return nil, fmt.Errorf("the server was not ready after %s, see %s", patience, filepath.Join(dir, "keeper.log"))
}

func lock(path string, how int) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// kept tells whether a keeper lives.
func kept(dir string) (bool, error) {
	file, err := lock(filepath.Join(dir, "keeper.lock"), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, file.Close()
}

func startKeeper(dir string) (<-chan struct{}, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "keeper.log"), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), keeperVariable+"="+dir)
	// Not the test's own output: "go test" waits until nobody has that open.
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its log says how it ended
		close(exited)
	}()
	return exited, nil
}

// keep is the keeper's life: start the server, wait until nobody needs it, stop it.
func keep(dir string) error {
	// Whoever looks for a keeper holds this lock shared for an instant.
	mine, err := lock(filepath.Join(dir, "keeper.lock"), syscall.LOCK_EX)
	if err != nil {
		return err
	}
	defer mine.Close()
	ready := filepath.Join(dir, "ready")
	os.Remove(ready)

	ctx := context.Background()
	server, err := startShared(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { _ = server.Stop(ctx) }() // once more after the last line does nothing
	text, err := json.Marshal(readiness{Admin: server.SuperuserURL("postgres"), Login: server.URL()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(ready+".new", text, 0o600); err != nil {
		return err
	}
	if err := os.Rename(ready+".new", ready); err != nil {
		return err
	}
	defer os.Remove(ready)

	users, err := waitUnused(filepath.Join(dir, "users.lock"), filepath.Join(dir, "kept"))
	if err != nil {
		return err
	}
	defer users.Close() // after the server has stopped: who comes meanwhile waits and starts a new keeper
	os.Remove(ready)
	return server.Stop(ctx)
}

// waitUnused returns with the users' lock when no test binary has held it for a while.
func waitUnused(users, kept string) (*os.File, error) {
	since := time.Now()
	for {
		limit := idle
		if info, err := os.Stat(kept); err == nil && time.Since(info.ModTime()) < idleKept {
			limit = idleKept
		}
		file, err := lock(users, syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			since = time.Now()
		case err != nil:
			return nil, err
		case time.Since(since) > limit:
			return file, nil
		default:
			file.Close()
		}
		<-time.After(poll)
	}
}

// startShared starts the server on the folder's cluster. The cluster is a cache: it was written without
// fsync, so one from before the machine's last start is not to be trusted, and one that does not start is
// made anew.
func startShared(ctx context.Context, dir string) (*embedded.Server, error) {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	last, err := os.ReadFile(filepath.Join(dir, "boot"))
	if err == nil && !bytes.Equal(last, boot) {
		if err := os.RemoveAll(filepath.Join(dir, "postgres")); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "boot"), boot, 0o600); err != nil {
		return nil, err
	}
	options := embedded.Options{
		Dir: dir,
		Settings: map[string]string{
			"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off",
			"max_connections": "400", "wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "1GB", "checkpoint_timeout": "1h",
		},
		StartTimeout: patience / 2,
		Logger:       slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	server, err := embedded.Start(ctx, options)
	if err != nil {
		fmt.Fprintln(os.Stderr, "making the cluster anew:", err)
		if err := os.RemoveAll(filepath.Join(dir, "postgres")); err != nil {
			return nil, err
		}
		if server, err = embedded.Start(ctx, options); err != nil {
			return nil, err
		}
	}
	if err := sweepShared(ctx, server); err != nil {
		return nil, errors.Join(err, server.Stop(ctx))
	}
	return server, nil
}

// sweepShared drops what earlier runs left: all test databases, as no test binary was there when this
// server started, and templates that are older than a day.
func sweepShared(ctx context.Context, server *embedded.Server) error {
	conn, err := pgx.Connect(ctx, server.SuperuserURL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if os.Getenv("LIAISON_TEST_KEEP") == "" {
		if err := sweep(ctx, conn, 0); err != nil {
			return err
		}
	}
	rows, err := conn.Query(ctx, `select datname from pg_database
		where starts_with(datname, $1) and (pg_stat_file('base/' || oid || '/PG_VERSION')).modification < now() - interval '1 day'`, templatePrefix)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := conn.Exec(ctx, fmt.Sprintf("alter database %s with is_template false", quote(name))); err != nil {
			return err
		}
		if err := drop(ctx, conn, name); err != nil {
			return err
		}
	}
	return nil
}

// markKept makes the keeper stay.
func markKept() {
	name := filepath.Join(folder(), "kept")
	now := time.Now()
	if os.Chtimes(name, now, now) != nil {
		_ = os.WriteFile(name, nil, 0o600)
	}
}

package embedded

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// prepareCluster finds the programs, reads or makes the password, and makes the cluster when there is none.
func (s *Server) prepareCluster(ctx context.Context) error {
	major, err := clusterMajor(s.paths.data)
	if err != nil {
		return err
	}
	if s.opts.Programs != "" {
		programs, problem := inspect(ctx, s.opts.Programs)
		if programs.Dir == "" {
			return fmt.Errorf("no PostgreSQL server programs of version %d or newer in %s %s", oldest, s.opts.Programs, problem)
		}
		s.programs, err = choose([]Programs{programs}, major, s.paths.data)
	} else {
		var found []Programs
		if found, err = Find(ctx); err != nil {
			return err
		}
		s.programs, err = choose(found, major, s.paths.data)
	}
	if err != nil {
		return err
	}
	known, err := s.readPassword()
	if err != nil {
		return err
	}
	switch {
	case major == 0:
		return s.initialise(ctx)
	case !known:
		return s.resetPassword(ctx)
	}
	return nil
}

// clusterMajor reads the version of an existing cluster; 0 when there is none.
func clusterMajor(data string) (int, error) {
	entries, err := os.ReadDir(data)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(entries) == 0) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("data directory: %w", err)
	}
	file, err := os.Open(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		return 0, fmt.Errorf("data directory: %s is not empty and no PostgreSQL cluster (%w): move it away", data, err)
	}
	defer file.Close()
	major := firstNumber(file)
	if major == 0 {
		return 0, fmt.Errorf("data directory: %s/PG_VERSION names no version: restore it from a backup", data)
	}
	return major, nil
}

var passwordPattern = regexp.MustCompile(`^[0-9a-f]{32,}$`)

// readPassword reads the password, or makes one and tells that it did. The file is whole before any cluster
// is made with it.
func (s *Server) readPassword() (known bool, err error) {
	text, err := os.ReadFile(s.paths.password)
	switch {
	case err == nil && passwordPattern.Match(bytes.TrimSpace(text)):
		s.password = string(bytes.TrimSpace(text))
		return true, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("reading the database password: %w", err)
	}
	secret := make([]byte, 24)
	rand.Read(secret)
	s.password = hex.EncodeToString(secret)
	fresh := s.paths.password + ".new"
	os.Remove(fresh)
	if err := writeSecret(fresh, s.password, nil); err != nil {
		return false, err
	}
	if err := os.Rename(fresh, s.paths.password); err != nil {
		return false, fmt.Errorf("writing the database password: %w", err)
	}
	return false, syncFolder(s.paths.home)
}

// writeSecret makes a new file that only its owner can read. It follows no link.
func writeSecret(path, secret string, owner *account) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing the database password: %w", err)
	}
	defer file.Close()
	if owner != nil {
		if err := file.Chown(int(owner.uid), int(owner.gid)); err != nil {
			return fmt.Errorf("writing the database password: %w", err)
		}
	}
	if _, err := file.WriteString(secret + "\n"); err != nil {
		return fmt.Errorf("writing the database password: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("writing the database password: %w", err)
	}
	return nil
}

func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	defer folder.Close()
	if err := folder.Sync(); err != nil {
		return fmt.Errorf("data directory: syncing %s: %w", dir, err)
	}
	return nil
}

// initialise makes the cluster under another name and renames it when it is whole, so that a crash in
// between leaves nothing that looks like one.
func (s *Server) initialise(ctx context.Context) error {
	if err := endOrphans(ctx, s.paths.unfinished, 0, s.opts.Logger); err != nil {
		return fmt.Errorf("stopping an earlier initdb: %w", err)
	}
	if err := os.RemoveAll(s.paths.unfinished); err != nil {
		return fmt.Errorf("removing a half made cluster: %w", err)
	}
	if err := s.ownFolder(s.paths.unfinished); err != nil {
		return err
	}
	pwfile := filepath.Join(s.paths.run, "initial-"+s.password[:8])
	os.Remove(pwfile)
	if err := writeSecret(pwfile, s.password, s.account); err != nil {
		return err
	}
	defer os.Remove(pwfile)

	args := []string{
		"-D", s.paths.unfinished, "-U", Superuser, "--pwfile", pwfile,
		"--auth=scram-sha-256", "--encoding=UTF8", "--lc-messages=C", "--data-checksums",
	}
	if s.opts.Settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	out, err := s.command(s.programs.path("initdb"), append(args, "--locale=C.UTF-8")...).run(ctx)
	if err != nil && strings.Contains(out, "locale") { // macOS before 15 and some small systems lack C.UTF-8
		if out, err = s.command(s.programs.path("initdb"), append(args, "--locale=C")...).run(ctx); err == nil {
			s.opts.Logger.Info("no locale C.UTF-8 here, the database uses C")
		}
	}
	if err != nil {
		return fmt.Errorf("making the database cluster %s: initdb: %w: %s", s.paths.data, err, strings.TrimSpace(out))
	}
	os.Remove(s.paths.data) // an empty folder of that name would be in the way; anything else stays
	if err := os.Rename(s.paths.unfinished, s.paths.data); err != nil {
		return fmt.Errorf("making the database cluster: %w", err)
	}
	return syncFolder(s.paths.home)
}

// resetPassword gives an existing cluster the new password: its file was lost, which must not lock the hub
// out of its own data. Single-user mode asks for none, only for the right to read the files.
func (s *Server) resetPassword(ctx context.Context) error {
	if err := s.removeStale(ctx); err != nil {
		return err
	}
	single := s.command(s.programs.path("postgres"), "--single", "-D", s.paths.data, "-c", "log_min_error_statement=panic", "postgres")
	single.Stdin = strings.NewReader(fmt.Sprintf("alter role %s password '%s'\n", Superuser, s.password))
	// Single-user mode answers errors with text, not with its exit code.
	out, err := single.run(ctx)
	if err == nil && strings.Contains(out, "ERROR:") {
		err = errors.New("refused")
	}
	if err != nil {
		os.Remove(s.paths.password) // so that the next start comes here again
		return fmt.Errorf("setting a new database password, as %s was missing: %w: %s", s.paths.password, err, strings.TrimSpace(strings.ReplaceAll(out, s.password, "***")))
	}
	s.opts.Logger.Warn("the database password was missing; a new one is set", "file", s.paths.password)
	return nil
}

// removeStale removes what a dead server left behind. PostgreSQL does so itself, unless the process id in
// the file belongs to somebody else by now; here the processes have been looked at.
func (s *Server) removeStale(ctx context.Context) error {
	if err := endOrphans(ctx, s.paths.data, s.opts.StopTimeout, s.opts.Logger); err != nil {
		return fmt.Errorf("stopping an earlier PostgreSQL server: %w", err)
	}
	stale := []string{filepath.Join(s.paths.data, "postmaster.pid")}
	if s.socket != "" {
		stale = append(stale, filepath.Join(s.socket, ".s.PGSQL."+port), filepath.Join(s.socket, ".s.PGSQL."+port+".lock"))
	}
	for _, file := range stale {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing what an earlier server left behind: %w", err)
		}
	}
	return nil
}

// command is one of PostgreSQL's programs, to be run as the server's user and with a clean environment:
// PGDATA, PGPORT and the like must not reach it.
type command struct{ *exec.Cmd }

func (s *Server) command(program string, args ...string) command {
	cmd := exec.Command(program, args...)
	cmd.Dir = s.paths.home
	cmd.Env = append([]string{"PATH=" + s.programs.Dir + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}, s.opts.Env...)
	cmd.SysProcAttr = processAttributes(s.account)
	return command{cmd}
}

// run runs a program that ends by itself and returns what it wrote.
func (c command) run(ctx context.Context) (string, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	started, err := spawn(c, nil)
	if err != nil {
		return "", err
	}
	select {
	case <-started.exited:
		return out.String(), started.err
	case <-ctx.Done():
		started.end(context.WithoutCancel(ctx), 0)
		return out.String(), context.Cause(ctx)
	}
}

// postmasterFile reads the process id in the cluster's postmaster.pid; 0 when there is none.
func postmasterFile(data string) int {
	file, err := os.Open(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0
	}
	defer file.Close()
	return max(0, firstNumber(file))
}

func exitState(err error, code int) string {
	if err != nil {
		return err.Error()
	}
	return "exit status " + strconv.Itoa(code)
}

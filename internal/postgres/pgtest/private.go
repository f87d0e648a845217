package pgtest

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"liaison/internal/postgres"
	"liaison/internal/postgres/embedded"
)

// Server is a private, durable server (fsync on) for tests that stop it, restart it or break it. Its
// database has the hub's schema. Making one takes a few seconds; use New where that will do.
type Server struct {
	t       testing.TB
	options embedded.Options
	server  *embedded.Server // nil while stopped
	url     string
}

// ServerOptions says what is special about a private server. The zero value is nothing.
type ServerOptions struct {
	// Settings are laid over the server's settings.
	Settings map[string]string
	// Dir is an empty folder that Postgres's own user can enter, under a path short enough for a socket; it stays when the
	// test ends. Default: a fresh one, which is removed.
	Dir string
	// Env is added to the server's environment.
	Env []string
}

// NewServer starts a private server with the hub's schema; it is removed when the test ends. Each settings
// map is laid over the server's settings.
func NewServer(t testing.TB, settings ...map[string]string) *Server {
	t.Helper()
	all := map[string]string{}
	for _, more := range settings {
		maps.Copy(all, more)
	}
	return NewServerWith(t, ServerOptions{Settings: all})
}

// NewServerWith is NewServer with options.
func NewServerWith(t testing.TB, options ServerOptions) *Server {
	t.Helper()
	dir := options.Dir
	if dir == "" {
		prefix := "liaison-pgserver-" + strconv.Itoa(os.Geteuid()) + "-"
		removeAbandoned(prefix)
		// Not t.TempDir: nobody else may enter that, and its path can be too long for a socket.
		var err error
		if dir, err = os.MkdirTemp("/tmp", prefix); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Logf("pgtest: removing %s: %v", dir, err)
			}
		})
	}
	s := &Server{t: t, options: embedded.Options{
		Dir: dir, Settings: options.Settings, Env: options.Env, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}}
	t.Cleanup(s.Stop)
	s.Start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := postgres.Migrate(ctx, s.URL(), postgres.Migrations); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return s
}

// URL is the login role's. It stays the same when the server is stopped and started. It holds the password.
func (s *Server) URL() string { return s.url }

// SuperuserURL is the superuser's URL to the named database.
func (s *Server) SuperuserURL(database string) string { return s.running().SuperuserURL(database) }

// PID is the postmaster's process id, for tests that stop or kill it.
func (s *Server) PID() int { return s.running().PID() }

// Restart ends the server in the given way and returns when it answers again.
func (s *Server) Restart(how embedded.Shutdown) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.running().Restart(ctx, how); err != nil {
		s.t.Fatalf("pgtest: restarting: %v", err)
	}
}

// Stop stops the server; Start starts it again.
func (s *Server) Stop() {
	s.t.Helper()
	if s.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.server.Stop(ctx); err != nil {
		s.t.Errorf("pgtest: stopping: %v", err)
	}
	s.server = nil
}

// Start starts a stopped server on the data it had.
func (s *Server) Start() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	server, err := embedded.Start(ctx, s.options)
	if err != nil {
		s.t.Fatalf("pgtest: %v", err)
	}
	s.server, s.url = server, server.URL()
}

func (s *Server) running() *embedded.Server {
	if s.server == nil {
		s.t.Helper()
		s.t.Fatal("pgtest: the server is stopped")
	}
	return s.server
}

// removeAbandoned removes the folders of test binaries that were killed: old ones that no process locks.
func removeAbandoned(prefix string) {
	dirs, _ := filepath.Glob(filepath.Join("/tmp", prefix+"*"))
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !ownFolder(info) || time.Since(info.ModTime()) < time.Hour {
			continue
		}
		if file, err := lock(filepath.Join(dir, "hub.lock"), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			os.RemoveAll(dir)
			file.Close()
		}
	}
}

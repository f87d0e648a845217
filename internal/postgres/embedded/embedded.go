// Package embedded runs a private PostgreSQL server from the programs found on the machine, for a hub that
// was not given a database of its own.
//
// The server keeps everything under one folder, listens on a Unix socket only, and lets nobody in without a
// password that only the hub can read. It is set for durability. When the hub is root, the server runs as an
// unprivileged user, since PostgreSQL refuses root.
//
// One hub at a time: a lock on the folder refuses a second one by name of the first one's process. The
// server is in a process group of its own, so that Ctrl-C reaches the hub alone and the hub ends it in
// order. When the server ends unasked, it is started again.
//
// A crash leaves nothing that stops the next start. When the hub is killed, Linux tells the server to shut
// down; one that is still running at the next start (other systems, or a shutdown that takes long) is
// stopped first, and what it left behind (process id file, sockets) is removed only after looking at the
// running processes. A cluster that was half made is made again, since it gets its name only when whole.
// PostgreSQL itself brings committed transactions back.
//
// Layout, under Options.Dir:
//
//	hub.lock            held while a hub lives; its process id
//	postgres/data       the cluster, owned by the server's user
//	postgres/run        the socket, unless the path is too long for one (then a private folder in /tmp)
//	postgres/password   the password of both roles, readable by the hub alone
//	postgres/log        the server's log; log.1 the one before, from 10 MiB
//
// All methods are safe for concurrent use.
package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// Role is the login role that owns the database. It is no superuser, so that row-level security and
	// rights are the same here as on a server of one's own; it may create roles, for the migrations.
	Role = "liaison"
	// Superuser is the cluster's first role, for administration.
	Superuser = "postgres"

	port = "5432" // part of the socket's file name; no TCP port is opened
)

// Options says where and how to run the server. Only Dir is required.
type Options struct {
	// Dir is the hub's data directory; see [DefaultDir]. It is created when missing.
	Dir string
	// Programs is the folder with PostgreSQL's programs: default, the best that [Find] finds.
	Programs string
	// User is the system user that the server runs as when the hub is root: default the owner of an existing
	// cluster, else postgres, else nobody. Otherwise the server runs as the hub's own user and User is ignored.
	User string
	// Database is the name of the database: default "liaison".
	Database string
	// Settings are server settings over the package's own, for tests and tuning. Where the server listens
	// cannot be changed.
	Settings map[string]string
	// Env is added to the server's environment, which is otherwise empty but for PATH.
	Env []string
	// StartTimeout bounds the start, crash recovery included: default 2 min.
	StartTimeout time.Duration
	// StopTimeout is how long a fast shutdown may take before the server is made to end: default 30 s.
	StopTimeout time.Duration
	// Logger hears of starts, stops and the server's unexpected ends: default slog.Default.
	Logger *slog.Logger
}

// settings are what the server runs with. fsync, full_page_writes and synchronous_commit are PostgreSQL's
// defaults; they are named so that no configuration file turns them off.
var settings = map[string]string{
	"fsync":                             "on",
	"full_page_writes":                  "on",
	"synchronous_commit":                "on",
	"max_connections":                   "200",
	"timezone":                          "UTC",
	"log_timezone":                      "UTC",
	"password_encryption":               "scram-sha-256",
	"logging_collector":                 "off",
	"log_line_prefix":                   "%m [%p] %q%u@%d ",
	"log_parameter_max_length":          "0",
	"log_parameter_max_length_on_error": "0",
}

// Server is a running PostgreSQL server.
type Server struct {
	opts     Options
	programs Programs
	account  *account // nil: the hub's own
	paths    paths
	password string
	lock     *os.File

	closing    chan struct{} // closed when Stop begins
	supervised chan struct{} // closed when the supervisor has ended
	stopOnce   sync.Once
	stopErr    error

	mu     sync.Mutex // held while a postmaster is started or ended
	socket string     // the socket's folder
	child  *process   // the postmaster that should be running
}

// Start starts the server on opts.Dir, making the cluster and the database when they do not exist, and
// returns when it accepts connections. Cancelling ctx later does not stop the server; Stop does.
func Start(ctx context.Context, opts Options) (_ *Server, err error) {
	if opts.Dir == "" {
		return nil, errors.New("embedded PostgreSQL: no data directory given (LIAISON_DATA_DIR, for example /var/lib/liaison)")
	}
	if opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	opts.Database = cmp.Or(opts.Database, "liaison")
	opts.StartTimeout = cmp.Or(opts.StartTimeout, 2*time.Minute)
	opts.StopTimeout = cmp.Or(opts.StopTimeout, 30*time.Second)
	opts.Logger = cmp.Or(opts.Logger, slog.Default())

	ctx, cancel := context.WithTimeoutCause(ctx, opts.StartTimeout, fmt.Errorf("PostgreSQL was not ready after %s", opts.StartTimeout))
	defer cancel()

	s := &Server{opts: opts, paths: pathsUnder(opts.Dir), closing: make(chan struct{}), supervised: make(chan struct{})}
	if err := s.prepareFolders(); err != nil {
		return nil, err
	}
	if s.lock, err = lockFolder(opts.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.lock.Close()
		}
	}()
	if err := endOrphans(ctx, s.paths.data, opts.StopTimeout, opts.Logger); err != nil {
		return nil, fmt.Errorf("stopping the PostgreSQL server that an earlier hub left running: %w", err)
	}
	if err := s.prepareCluster(ctx); err != nil {
		return nil, err
	}
	if err := s.prepareSocket(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.child, err = s.launch(ctx)
	s.mu.Unlock()
	if err == nil {
		err = s.prepareDatabase(ctx)
	}
	if err != nil {
		if s.child != nil {
			s.child.end(context.WithoutCancel(ctx), opts.StopTimeout)
		}
		s.removeSocket()
		return nil, err
	}
	go s.supervise()
	opts.Logger.Info("embedded PostgreSQL started", "version", s.programs.Version, "data", s.paths.data)
	return s, nil
}

// URL is the connection string of the login role [Role]. It holds the password: never log it.
func (s *Server) URL() string { return s.url(Role, s.opts.Database) }

// SuperuserURL is the connection string of the role [Superuser] to the named database. It holds the
// password: never log it.
func (s *Server) SuperuserURL(database string) string { return s.url(Superuser, database) }

// Log is the path of the server's log file.
func (s *Server) Log() string { return s.paths.log }

// PID is the postmaster's process id; 0 while there is none.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil || s.child.over() {
		return 0
	}
	return s.child.pid
}

// Stop shuts the server down and frees the folder. Sessions are ended, their transactions rolled back
// (fast shutdown); a server that does not end within Options.StopTimeout, or when ctx ends first, is made
// to, which costs nothing but a recovery at the next start. Later calls return what the first one did.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		close(s.closing)
		s.mu.Lock()
		s.child.end(ctx, s.opts.StopTimeout)
		// Whoever restarted the server by hand has put another postmaster in the place of ours.
		s.stopErr = endOrphans(context.WithoutCancel(ctx), s.paths.data, s.opts.StopTimeout, s.opts.Logger)
		s.mu.Unlock()
		<-s.supervised
		s.removeSocket()
		s.lock.Close()
		s.opts.Logger.Info("embedded PostgreSQL stopped", "data", s.paths.data)
	})
	return s.stopErr
}

// Shutdown is how a server is told to end.
type Shutdown int

const (
	// Fast rolls back and disconnects everybody, and writes a checkpoint.
	Fast Shutdown = iota
	// Immediate ends at once, as in a crash; the next start recovers.
	Immediate
)

// Restart ends the server and starts it again, with connections refused in between.
func (s *Server) Restart(ctx context.Context, how Shutdown) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.StartTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closing:
		return errors.New("the server is stopped")
	default:
	}
	patience := s.opts.StopTimeout
	if how == Immediate {
		patience = 0
	}
	s.child.end(ctx, patience)
	child, err := s.launch(ctx)
	if err != nil {
		return err // the supervisor takes it from here
	}
	s.child = child
	return nil
}

// supervise starts the server again when it ends unasked: the kernel may kill it for memory, and someone may
// restart it with pg_ctl.
func (s *Server) supervise() {
	defer close(s.supervised)
	pause := time.Second // gives pg_ctl restart the time to come first
	for {
		s.mu.Lock()
		child := s.child
		s.mu.Unlock()
		select {
		case <-s.closing:
			return
		case <-child.exited:
		}
		// Restart holds mu while it ends one child and starts the next, so this waits for it.
		s.mu.Lock()
		replaced := s.child != child
		s.mu.Unlock()
		if replaced {
			continue
		}
		s.opts.Logger.Warn("embedded PostgreSQL ended unexpectedly", "state", child.state(), "log", s.paths.log, "retry", pause)
		select {
		case <-s.closing:
			return
		case <-time.After(pause):
		}
		if err := s.revive(child); err != nil {
			s.opts.Logger.Error("embedded PostgreSQL does not start", "error", err)
			pause = min(2*pause, 4*time.Second) // a disk that has room again must not wait for long
			continue
		}
		pause = time.Second
	}
}

func (s *Server) revive(dead *process) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.StartTimeout)
	defer cancel()
	go func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child != dead {
		return nil
	}
	if pid := postmasterOf(s.paths.data); pid != 0 {
		s.opts.Logger.Info("embedded PostgreSQL was restarted by someone else", "pid", pid)
		s.child = watch(pid, s.paths.data, s.closing)
		return nil
	}
	child, err := s.launch(ctx)
	if err != nil {
		return err
	}
	s.child = child
	s.opts.Logger.Info("embedded PostgreSQL started again", "pid", child.pid)
	return nil
}

// launch starts a postmaster and waits until it accepts connections. The caller holds mu.
func (s *Server) launch(ctx context.Context) (*process, error) {
	if err := s.removeStale(ctx); err != nil {
		return nil, err
	}
	log, before, err := openLog(s.paths.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	values := maps.Clone(settings)
	maps.Copy(values, s.opts.Settings)
	values["listen_addresses"] = ""
	values["port"] = port
	values["unix_socket_directories"] = s.socket
	values["unix_socket_permissions"] = "0700"
	args := []string{"-D", s.paths.data}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		args = append(args, "-c", name+"="+values[name])
	}
	child, err := spawn(s.command(s.programs.path("postgres"), args...), log)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.programs.path("postgres"), err)
	}
	if err := s.waitReady(ctx, child); err != nil {
		child.end(context.WithoutCancel(ctx), 0)
		return nil, fmt.Errorf("starting PostgreSQL %s on %s: %w%s", s.programs.Version, s.paths.data, err, logTail(s.paths.log, before))
	}
	return child, nil
}

// waitReady tries to connect until it works; while the server recovers it says so and is asked again.
func (s *Server) waitReady(ctx context.Context, child *process) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.url(Superuser, "postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		var refused *pgconn.PgError
		if errors.As(err, &refused) && !strings.HasPrefix(refused.Code, "57P") && !strings.HasPrefix(refused.Code, "53") {
			return err
		}
		select {
		case <-child.exited:
			return fmt.Errorf("the server ended at once (%s)", child.state())
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// prepareDatabase makes the login role and its database. Each step is harmless when done already, so a
// crash between them is mended by the next start.
func (s *Server) prepareDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.url(Superuser, "postgres"))
	if err != nil {
		return fmt.Errorf("connecting to the new server: %w", err)
	}
	defer conn.Close(ctx)
	var role, database, sameLogin bool
	err = conn.QueryRow(ctx, "select exists (select from pg_roles where rolname = $1), exists (select from pg_database where datname = $2)", Role, s.opts.Database).Scan(&role, &database)
	if err != nil {
		return fmt.Errorf("looking for the hub's role and database: %w", err)
	}
	if role {
		if probe, err := pgx.Connect(ctx, s.url(Role, "postgres")); err == nil {
			sameLogin = true
			probe.Close(ctx)
		}
	}
	if !sameLogin {
		verb := "create"
		if role {
			verb = "alter"
		}
		// The password is hexadecimal, and a failing statement must not bring it into the log.
		_, err = conn.Exec(ctx, fmt.Sprintf("set log_min_error_statement = panic; set log_statement = none; %s role %s login nosuperuser createrole password '%s'", verb, Role, s.password))
		if err != nil {
			return fmt.Errorf("making the role %s: %w", Role, err)
		}
	}
	if !database {
		_, err = conn.Exec(ctx, fmt.Sprintf("create database %s owner %s", pgx.Identifier{s.opts.Database}.Sanitize(), Role))
		if err != nil {
			return fmt.Errorf("making the database %s: %w", s.opts.Database, err)
		}
	}
	return nil
}

func (s *Server) url(role, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, s.password), Path: "/" + database,
		RawQuery: url.Values{"host": {s.socket}, "port": {port}}.Encode(),
	}
	return u.String()
}

// DefaultDir is the data directory when none is set: /var/lib/liaison for root, else liaison in the user's
// XDG data folder.
func DefaultDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/liaison", nil
	}
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "liaison"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding a place for the data: %w (set LIAISON_DATA_DIR, for example to /srv/liaison)", err)
	}
	return filepath.Join(home, ".local", "share", "liaison"), nil
}

// Package pgtest gives each test a PostgreSQL database of its own, migrated and empty.
//
// The first test that asks starts a server for this user and machine; all test binaries share it, also
// across runs. It is fast rather than durable (fsync off). A keeper process, which is the asking test binary
// started once more, runs it and stops it three seconds after the last test binary has ended, so nothing
// stays behind but a folder in the temporary directory that makes the next start quick. A server of one's
// own is used instead when LIAISON_TEST_DATABASE_URL names it; its role must be allowed to create databases
// and roles.
//
// Databases are cloned from a template that is made once for each state of the migrations, and dropped when
// their test ends. With LIAISON_TEST_KEEP set, the database of a failed test is kept and its URL logged, and
// the server stays for half an hour.
//
// All functions may be called from parallel tests and from any number of test binaries at once. A test
// binary that is killed leaves its databases to the next keeper, which drops them.
package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/postgres"
)

const (
	databasePrefix = "liaison_test_"
	templatePrefix = "liaison_template_"

	// patience bounds any single step of the preparation on a busy machine.
	patience = 2 * time.Minute
)

// New opens a fresh database with the hub's schema. It is closed and dropped when the test ends.
func New(t testing.TB) *postgres.DB {
	t.Helper()
	return NewWith(t, postgres.Options{AppConns: 8, SystemConns: 8})
}

// NewWith is New with options.
func NewWith(t testing.TB, opts postgres.Options) *postgres.DB {
	t.Helper()
	return Open(t, URL(t), opts)
}

// Open opens the database at url and closes it when the test ends. A test that has not given back all
// connections by then fails.
func Open(t testing.TB, url string, opts postgres.Options) *postgres.DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	db, err := postgres.Open(ctx, url, opts)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() { db.Close(); close(closed) }()
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Errorf("pgtest: %d app and %d system connections were not given back", db.App.Stat().AcquiredConns(), db.System.Stat().AcquiredConns())
		}
	})
	return db
}

// URL makes a fresh database with the hub's schema and returns its login role's URL.
func URL(t testing.TB) string {
	t.Helper()
	s := shared(t)
	template, err := s.template()
	if err != nil {
		t.Fatalf("pgtest: preparing the template database: %v", err)
	}
	return s.create(t, template)
}

// Empty makes a fresh database without any schema and returns its login role's URL.
func Empty(t testing.TB) string {
	t.Helper()
	return shared(t).create(t, "template1")
}

// server is where test databases are made.
type server struct {
	admin string // may create databases
	login string // the login role's URL, to any database
	owner string // the login role when it is not admin's own

	template func() (string, error)
}

var theServer = sync.OnceValues(func() (*server, error) {
	s, err := connect()
	if err != nil {
		return nil, err
	}
	s.template = sync.OnceValues(func() (string, error) { return s.makeTemplate(postgres.Migrations) })
	return s, nil
})

func shared(t testing.TB) *server {
	t.Helper()
	s, err := theServer()
	if err != nil {
		t.Fatalf("pgtest: no server for tests: %v", err)
	}
	return s
}

func connect() (*server, error) {
	if own := os.Getenv("LIAISON_TEST_DATABASE_URL"); own != "" {
		s := &server{admin: own, login: own}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := s.do(ctx, func(conn *pgx.Conn) error {
			// Nobody owns a day-old database without a session: tests do not run that long.
			return sweep(ctx, conn, 24*time.Hour)
		})
		if err != nil {
			return nil, fmt.Errorf("LIAISON_TEST_DATABASE_URL: %w", err)
		}
		return s, nil
	}
	return join()
}

// do runs fn on an administrator's connection.
func (s *server) do(ctx context.Context, fn func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return fn(conn)
}

// at is the login role's URL of the named database.
func (s *server) at(database string) (string, error) {
	u, err := url.Parse(s.login)
	if err != nil || u.Scheme == "" {
		return "", errors.New("LIAISON_TEST_DATABASE_URL: write it as a URL, like postgres://tester:PASSWORD@localhost:5432/postgres")
	}
	u.Path = "/" + database
	return u.String(), nil
}

var made atomic.Int64

func (s *server) create(t testing.TB, template string) string {
	t.Helper()
	name := fmt.Sprintf("%s%d_%d_%d", databasePrefix, time.Now().Unix(), os.Getpid(), made.Add(1))
	at, err := s.at(name)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.do(ctx, func(conn *pgx.Conn) error { return s.createDatabase(ctx, conn, name, template) }); err != nil {
		t.Fatalf("pgtest: creating a database from %s: %v", template, err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("LIAISON_TEST_KEEP") != "" {
			t.Logf("pgtest: database kept: psql '%s'", at)
			markKept()
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.do(ctx, func(conn *pgx.Conn) error { return drop(ctx, conn, name) }); err != nil {
			t.Logf("pgtest: dropping %s: %v", name, err)
		}
	})
	return at
}

func (s *server) createDatabase(ctx context.Context, conn *pgx.Conn, name, template string) error {
	sql := fmt.Sprintf("create database %s template %s", quote(name), quote(template))
	if s.owner != "" {
		sql += " owner " + quote(s.owner)
		// Without fsync, copying files takes 40 ms where the default, from 15 on, writes the log for 70 to 150 ms.
		// Before 15 it is the only way, and has no name.
		if version := conn.PgConn().ParameterStatus("server_version"); !strings.HasPrefix(version, "14") {
			sql += " strategy file_copy"
		}
	}
	_, err := conn.Exec(ctx, sql)
	return err
}

func drop(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, fmt.Sprintf("drop database if exists %s with (force)", quote(name)))
	return err
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// makeTemplate makes the template for a state of the migrations, unless it is there. Other test binaries may
// try the same at the same moment: one works, the others wait for it. A template is marked as one only when
// it is whole; a half made one is made again.
func (s *server) makeTemplate(migrations fs.FS) (string, error) {
	sum, err := digest(migrations)
	if err != nil {
		return "", err
	}
	name := templatePrefix + sum
	at, err := s.at(name)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return name, s.do(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, "select pg_advisory_lock(hashtextextended($1, 0))", name); err != nil {
			return err
		}
		defer func() { // the connection's end would do it as well
			_, _ = conn.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock(hashtextextended($1, 0))", name)
		}()
		var whole bool
		err := conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1 and datistemplate)", name).Scan(&whole)
		if err != nil || whole {
			return err
		}
		if err := drop(ctx, conn, name); err != nil {
			return err
		}
		if err := s.createDatabase(ctx, conn, name, "template1"); err != nil {
			return err
		}
		if _, err := postgres.Migrate(ctx, at, migrations); err != nil {
			return err
		}
		// No connections: one of them would keep the template from being cloned.
		_, err = conn.Exec(ctx, fmt.Sprintf("alter database %s with is_template true allow_connections false", quote(name)))
		return err
	})
}

// digest names a state of the migrations.
func digest(files fs.FS) (string, error) {
	hash := sha256.New()
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(hash, "%s %d\n", path, len(text))
		hash.Write(text)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("reading the migrations: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil))[:16], nil
}

// sweep drops test databases without sessions, and templates, that were made longer ago than age.
func sweep(ctx context.Context, conn *pgx.Conn, age time.Duration) error {
	rows, err := conn.Query(ctx, `select datname from pg_database as d
		where datname ~ ('^' || $1 || '[0-9]+_') and split_part(datname, '_', 3)::bigint < $2
		and not exists (select from pg_stat_activity where datid = d.oid)`,
		databasePrefix, time.Now().Add(-age).Unix())
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := drop(ctx, conn, name); err != nil {
			return fmt.Errorf("dropping the leftover %s: %w", name, err)
		}
	}
	return nil
}

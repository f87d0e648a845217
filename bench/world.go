package main

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"liaison/internal/auth"
	"liaison/internal/config"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/postgres/embedded"
)

//go:embed sql/*.sql
var statements embed.FS

// statement returns the text of a file in sql.
func statement(name string) string {
	text, err := statements.ReadFile("sql/" + name + ".sql")
	if err != nil {
		panic(err) // the file is part of the program
	}
	return string(text)
}

// world is the one server that all rows run on, with its data.
type world struct {
	settings settings
	log      *slog.Logger
	quiet    *slog.Logger // of the parts under test: from warnings on
	dir      string
	load     string // the machine's load before anything began
	server   *embedded.Server
	database string        // its name on the server
	db       *postgres.DB  // as a hub opens it
	bare     *pgxpool.Pool // as anybody opens it, with as many connections
	changes  atomic.Int64  // numbers the titles of the rows on latency

	schools       []incident.OrganisationID
	organisations map[string]incident.OrganisationID
	systems       map[string]incident.SystemID
}

// newWorld starts a durable server and fills it.
func newWorld(ctx context.Context, s settings, log *slog.Logger) (_ *world, err error) {
	w := &world{
		settings: s, log: log, load: loadAverage(), database: "liaison",
		quiet: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.dir, err = os.MkdirTemp(s.dir, "liaison-bench-"); err != nil {
		return nil, err
	}
	log.InfoContext(ctx, "starting PostgreSQL", "dir", w.dir)
	if w.server, err = embedded.Start(ctx, embedded.Options{Dir: w.dir, Logger: w.quiet, Settings: s.server}); err != nil {
		return nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	if err := w.connect(ctx); err != nil {
		return nil, err
	}
	log.InfoContext(ctx, "seeding", "seed", s.seed, "incidents", s.sizes.Incidents)
	began := time.Now()
	if err := w.fill(ctx); err != nil {
		return nil, fmt.Errorf("seeding: %w", err)
	}
	log.InfoContext(ctx, "seeded", "took", time.Since(began).Round(time.Millisecond))
	return w, nil
}

// connect migrates the world's database and opens it.
func (w *world) connect(ctx context.Context) error {
	url, err := w.url(w.database)
	if err != nil {
		return err
	}
	if _, err := postgres.Migrate(ctx, url, postgres.Migrations); err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	if w.db, err = w.open(ctx, nil); err != nil {
		return err
	}
	w.bare, err = w.pool(ctx, w.database)
	return err
}

// url names a database of the server's, with the hub's login.
func (w *world) url(database string) (string, error) {
	u, err := url.Parse(w.server.URL())
	if err != nil {
		return "", err
	}
	u.Path = "/" + database
	return u.String(), nil
}

// pool opens a database as anybody does, with as many connections as a hub's requests have.
func (w *world) pool(ctx context.Context, database string) (*pgxpool.Pool, error) {
	url, err := w.url(database)
	if err != nil {
		return nil, err
	}
	bare, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	bare.MaxConns = int32(config.Default().Database.AppConnections)
	return pgxpool.NewWithConfig(ctx, bare)
}

// another makes one more database on the same server, empty or as a copy of one that nobody is connected to.
func (w *world) another(ctx context.Context, name, template string) error {
	sql := "CREATE DATABASE " + name + " OWNER " + embedded.Role
	if template != "" {
		sql += " TEMPLATE " + template
	}
	return w.super(ctx, w.database, sql)
}

// beside is a world in another database on the same server. Its leave must be called, its close must not.
func (w *world) beside(ctx context.Context, database string) (*world, error) {
	out := &world{settings: w.settings, log: w.log, quiet: w.quiet, server: w.server, database: database}
	if err := out.connect(ctx); err != nil {
		out.leave()
		return nil, err
	}
	return out, nil
}

// leave closes the world's pools.
func (w *world) leave() {
	if w.bare != nil {
		w.bare.Close()
	}
	if w.db != nil {
		w.db.Close()
	}
}

// open opens the database as a hub with default settings does.
func (w *world) open(ctx context.Context, tracer pgx.QueryTracer) (*postgres.DB, error) {
	pools := config.Default().Database
	url, err := w.url(w.database)
	if err != nil {
		return nil, err
	}
	return postgres.Open(ctx, url, postgres.Options{
		AppConns: int32(pools.AppConnections), SystemConns: int32(pools.SystemConnections), Tracer: tracer,
	})
}

func (w *world) close() error {
	var errs []error
	w.leave()
	if w.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		errs = append(errs, w.server.Stop(ctx))
	}
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}

// fill writes the organisations, their incidents, and what hangs on those.
func (w *world) fill(ctx context.Context) error {
	z := w.settings.sizes
	if err := w.direct(ctx, z.Schools); err != nil {
		return err
	}
	var schools []int64
	for n := range z.Schools {
		school := w.organisations["school-"+strconv.Itoa(n+1)]
		w.schools, schools = append(w.schools, school), append(schools, int64(school))
	}
	of := func(organisation string) []int64 { return []int64{int64(w.organisations[organisation])} }
	tickets, worked := int64(w.systems["tickets"]), int64(w.systems["lanes"])
	seed, now := w.settings.seed, time.Now().UTC()
	// Tickets that a lane worker writes show the state that its vendor tells, which is none: else each first write would be news.
	for _, step := range []struct {
		what, statement string
		args            []any
	}{
		{"incidents", "incidents", []any{schools, z.Incidents, seed, now, true}},
		{"comments", "comments", []any{schools, seed}},
		{"links", "links", []any{schools, tickets, 40, 5, seed, "In Progress"}},
		{"second links", "links", []any{schools, worked, 5, 5, seed + 1, "In Progress"}},
		{"incidents of appends", "incidents", []any{of("appends"), z.Written, seed + 1, now, false}},
		{"links of appends", "links", []any{of("appends"), tickets, 100, 0, seed, "In Progress"}},
		{"incidents of subscribers", "incidents", []any{of("subscribers"), 2 * z.Burst, seed + 2, now, false}},
		{"incidents of lanes", "incidents", []any{of("lanes"), z.Lanes, seed + 3, now, false}},
		{"links of lanes", "links", []any{of("lanes"), worked, 100, 0, seed, ""}},
		{"incidents of changes", "incidents", []any{of("changes"), z.Tickets, seed + 4, now, false}},
		{"links of changes", "links", []any{of("changes"), int64(w.systems["changes"]), 100, 0, seed, ""}},
		{"incidents of hooks", "incidents", []any{of("hooks"), z.Tickets, seed + 5, now, false}},
		{"links of hooks", "links", []any{of("hooks"), int64(w.systems["hooks"]), 100, 0, seed, "New"}},
		{"feed", "feed", nil},
	} {
		if _, err := w.bare.Exec(ctx, statement(step.statement), step.args...); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return w.tidy(ctx)
}

// direct makes the desk with its organisations and systems.
func (w *world) direct(ctx context.Context, schools int) error {
	if _, err := w.bare.Exec(ctx, statement("directory"), schools); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	return w.known(ctx)
}

// known reads which organisations and systems there are.
func (w *world) known(ctx context.Context) error {
	w.organisations, w.systems = map[string]incident.OrganisationID{}, map[string]incident.SystemID{}
	found, err := w.bare.Query(ctx, "SELECT 'organisation', key, id FROM organisation UNION ALL SELECT 'system', key, id FROM external_system")
	if err != nil {
		return err
	}
	var what, key string
	var id int64
	_, err = pgx.ForEachRow(found, []any{&what, &key, &id}, func() error {
		if what == "system" {
			w.systems[key] = incident.SystemID(id)
			return nil
		}
		w.organisations[key] = incident.OrganisationID(id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the directory: %w", err)
	}
	return nil
}

// tidy has the planner know the data, and leaves the server nothing to do by itself that would fall into a round.
func (w *world) tidy(ctx context.Context) error {
	return w.super(ctx, w.database, "VACUUM (ANALYZE)") //nolint:misspell // SQL spells it so
}

// super runs a statement that only the superuser may.
func (w *world) super(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, w.server.SuperuserURL(database))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

// checkpoint lets every round begin alike; the first writes after a checkpoint are dearer.
func (w *world) checkpoint(ctx context.Context) error { return w.super(ctx, w.database, "CHECKPOINT") }

// incidentsOf lists an organisation's incidents.
func (w *world) incidentsOf(ctx context.Context, organisation string) ([]incident.ID, error) {
	found, err := w.bare.Query(ctx, "SELECT id FROM incident WHERE organisation_id = $1 ORDER BY id", w.organisations[organisation])
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, func(r pgx.CollectableRow) (id incident.ID, err error) {
		err = r.Scan(&id.UUID)
		return id, err
	})
}

// agent is somebody of the desk who works for one organisation.
func (w *world) agent(organisation string) auth.Viewer {
	return auth.Viewer{Subject: "ada", Name: "Ada Agent", Roles: []auth.Role{auth.Agent}, Desk: 1, Organisations: []incident.OrganisationID{w.organisations[organisation]}}
}

// counter counts what a database is asked. It is a pgx tracer.
type counter struct {
	statements, roundTrips atomic.Int64
	notified, inside       atomic.Int64 // NOTIFYs, and those of them inside a transaction
}

func (c *counter) TraceQueryStart(ctx context.Context, conn *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	c.statements.Add(1)
	c.roundTrips.Add(1)
	c.note(q.SQL, conn.PgConn().TxStatus() != 'I')
	return ctx
}

// note looks for NOTIFY.
func (c *counter) note(sql string, inside bool) {
	sql = strings.ToLower(strings.TrimSpace(sql))
	if !strings.Contains(sql, "pg_notify(") && !strings.HasPrefix(sql, "notify ") {
		return
	}
	c.notified.Add(1)
	if inside {
		c.inside.Add(1)
	}
}

func (c *counter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *counter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.roundTrips.Add(1)
	return ctx
}

func (c *counter) TraceBatchQuery(_ context.Context, _ *pgx.Conn, q pgx.TraceBatchQueryData) {
	c.statements.Add(1)
	c.note(q.SQL, true) // a batch is a transaction, its own or one that it is a part of
}
func (c *counter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// counted says how many statements and round trips a thing takes on a warm database of its own. do returns the thing
// and what ends it.
func (w *world) counted(ctx context.Context, what string, do func(*postgres.DB) (once func() error, end func(), err error)) (string, error) {
	c := &counter{}
	db, err := w.open(ctx, c)
	if err != nil {
		return "", err
	}
	defer db.Close()
	once, end, err := do(db)
	if err != nil {
		return "", err
	}
	defer end()
	// The first ones prepare their statements, and what runs in the background may fall into any of them: the least
	// is the thing alone.
	statements, roundTrips := int64(math.MaxInt64), int64(math.MaxInt64)
	for range 10 {
		c.statements.Store(0)
		c.roundTrips.Store(0)
		if err := once(); err != nil {
			return "", err
		}
		statements, roundTrips = min(statements, c.statements.Load()), min(roundTrips, c.roundTrips.Load())
	}
	return fmt.Sprintf("Liaison asks the database %d statements in %d round trips %s, transaction control and the viewer's settings included",
		statements, roundTrips, what), nil
}

// fsync is the median of writing 8 KiB durably to the database's disk, in milliseconds.
func (w *world) fsync() (float64, error) {
	file, err := os.Create(filepath.Join(w.dir, "fsync"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	page := make([]byte, 8<<10)
	var took []float64
	for range 100 {
		began := time.Now()
		if _, err := file.WriteAt(page, 0); err != nil {
			return 0, err
		}
		if err := file.Sync(); err != nil {
			return 0, err
		}
		took = append(took, milliseconds(time.Since(began)))
	}
	return median(took), nil
}

func orUnknown(s string) string { return cmp.Or(s, "unknown") }

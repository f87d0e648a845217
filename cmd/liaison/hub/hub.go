// Package hub puts a whole Liaison together from its settings: the database, the ledger, the feed, a lane
// worker, a reader and a poller for each system, and the HTTP server in front.
//
// Start either returns a hub that answers, or stops everything that it had begun. Stop drains: no new work is taken
// up, sockets get their close, calls under way settle, and the door is shut last, within the time it is given. A hub
// that is killed instead leaves nothing that stops the next start: the embedded server is adopted, leases end by
// themselves, and what may have been sent is asked after.
//
// A hub outlives its database: while that is away, full, locked or without room, /readyz says so, requests are refused
// with a code, and every part goes on by itself when it can. Only a database that was migrated for newer programs
// ends it, because an older one could do harm there.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"liaison/connectors"
	"liaison/connectors/account"
	"liaison/connectors/client"
	"liaison/connectors/registry"
	"liaison/graph"
	"liaison/internal/auth"
	"liaison/internal/config"
	"liaison/internal/desk"
	"liaison/internal/directory"
	"liaison/internal/feed"
	"liaison/internal/postgres"
	"liaison/internal/postgres/embedded"
	"liaison/internal/telemetry"
	"liaison/sync/inbound"
	"liaison/sync/ledger"
	"liaison/sync/mapping"
	"liaison/sync/outbound"
	"liaison/sync/pulse"
	"liaison/sync/reconcile"
	"liaison/sync/system"
)

// Hub is a running Liaison.
type Hub struct {
	log       *slog.Logger
	telemetry *telemetry.Telemetry
	watch     Watch
	embedded  *embedded.Server
	db        *postgres.DB
	listener  net.Listener
	server    *http.Server
	inside    atomic.Pointer[http.ServeMux] // what stands behind the door once the hub is whole
	graph     *graph.Handler
	hangUp    context.CancelFunc // ends the feed, and with it every subscription
	release   context.CancelFunc // ends the taking up of new work
	cancel    context.CancelFunc // ends the background parts
	work      sync.WaitGroup     // lanes, readers and pollers
	parts     sync.WaitGroup     // everything else
	failed    chan error         // what ended the hub by itself
	phase     atomic.Pointer[phase]
	health    singleflight.Group
	unready   atomic.Bool
}

// Start builds and starts a hub. The telemetry stays the caller's.
func Start(ctx context.Context, c *config.Config, t *telemetry.Telemetry, w Watch) (_ *Hub, err error) {
	h := &Hub{log: t.Logger, telemetry: t, watch: w, failed: make(chan error, 1)}
	h.phase.Store(starting)
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, h.Stop(stop))
		}
	}()
	accounts := account.NewRegistry()
	systems, doors, err := Systems(c, accounts, w.Vendors)
	if err != nil {
		return nil, err
	}
	// The port comes first: a second hub on it should say so at once, not after a database was started.
	if h.listener, err = net.Listen("tcp", c.Addr); err != nil {
		return nil, fmt.Errorf("addr: %w; stop what listens there or choose another, for example 127.0.0.1:8090", err)
	}
	h.openDoor()
	if err := h.openDatabase(ctx, c); err != nil {
		return nil, err
	}
	var dir *directory.Directory
	err = h.patiently(ctx, func() (err error) {
		dir, err = directory.Put(ctx, h.db, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	tokens, err := people(c, dir)
	if err != nil {
		return nil, err
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h.cancel = cancel
	bell := postgres.NewBell(h.db, h.log)
	entries := ledger.New(h.db, bell, time.Now)
	var events *feed.Feed
	err = h.patiently(ctx, func() (err error) {
		events, err = feed.New(ctx, h.db, bell, feed.Config{Logger: h.log})
		return err
	})
	if err != nil {
		return nil, err
	}
	t.Registry.MustRegister(events, client.NewCollector(accounts))
	for _, shared := range accounts.Describe() {
		h.log.InfoContext(ctx, shared)
	}
	h.run(background, &h.parts, bell.Run)
	h.run(background, &h.parts, h.watchSchema)
	streams, hangUp := context.WithCancel(background)
	h.hangUp = hangUp
	h.run(streams, &h.parts, events.Run)
	for _, s := range systems {
		s.ID = dir.Systems[s.Key]
	}
	claims, release := context.WithCancel(background)
	h.release = release
	drain, _ := split(c.DrainTimeout)
	monitor := pulse.New(h.db, systems, pulse.Options{Log: h.log})
	h.run(background, &h.parts, monitor.Run)
	compared := reconcile.New(h.db, entries, systems, reconcile.Options{
		Log: h.log, At: c.Reconcile.At, Requests: c.Reconcile.Requests, PerMinute: c.Reconcile.RequestsPerMinute, Mend: c.Reconcile.Mend, Metrics: reconcile.NewMetrics(t.Registry),
	})
	h.run(claims, &h.work, compared.Run)
	kept := inbound.Retention{Bodies: time.Duration(c.Inbox.BodyDays) * 24 * time.Hour, Rows: time.Duration(c.Inbox.RowDays) * 24 * time.Hour}
	h.run(claims, &h.work, func(ctx context.Context) error { return h.keepLedger(ctx, entries, c.Ledger) })
	h.run(claims, &h.work, inbound.NewKeeper(h.db, kept, time.Now, h.log).Run)
	h.sync(claims, systems, doors, entries, bell, drain, monitor)
	limits := desk.Limits{TitleChars: c.Limits.TitleChars, DescriptionBytes: c.Limits.DescriptionBytes, CommentBytes: c.Limits.CommentBytes}
	reader := ledger.NewReader(h.db)
	t.Registry.MustRegister(pulse.NewCollector(systemsHealth(reader, dir), time.Now, h.log))
	h.furnish(c, ways{
		desk: desk.New(entries, limits, time.Now), reader: reader, feed: events, tokens: tokens,
		inbox: inbound.NewMender(h.db, systems, bell, time.Now), switches: directory.NewSwitch(h.db, bell, time.Now, h.log),
		reconciler: compared, monitor: monitor, systems: systems,
		hooks: inbound.NewHooks(h.db, bell, told(doors, monitor), int64(c.Limits.WebhookBytes), time.Now, h.log),
	})
	h.phase.Store(nil)
	return h, nil
}

// run keeps a part going until its context ends.
func (h *Hub) run(ctx context.Context, group *sync.WaitGroup, part func(context.Context) error) {
	group.Go(func() {
		if err := part(ctx); err != nil && ctx.Err() == nil {
			select {
			case h.failed <- err:
			default:
			}
		}
	})
}

func (h *Hub) openDatabase(ctx context.Context, c *config.Config) error {
	url, err := c.Database.URL.Value()
	if err != nil {
		return fmt.Errorf("database.url: %w", err)
	}
	if url == "" {
		if h.embedded, err = embedded.Start(ctx, embedded.Options{Dir: c.DataDir, Logger: h.log}); err != nil {
			return fmt.Errorf("starting the embedded Postgres: %w", err)
		}
		url = h.embedded.URL()
	}
	h.phase.Store(migrating)
	err = h.patiently(ctx, func() error {
		_, err := postgres.Migrate(ctx, url, postgres.Migrations)
		return err
	})
	if err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	h.phase.Store(starting)
	return h.patiently(ctx, func() (err error) {
		h.db, err = postgres.Open(ctx, url, postgres.Options{
			AppConns: int32(c.Database.AppConnections), SystemConns: int32(c.Database.SystemConnections), Tracer: h.watch.Statements,
		})
		return err
	})
}

const (
	// startPatience is how long a starting hub waits for a database that is away: both may have been started by the
	// same hand, or the database is just being restarted.
	startPatience = time.Minute
	startPause    = 500 * time.Millisecond
	// schemaLook is how often a hub looks whether the database still takes programs as old as itself.
	schemaLook = 10 * time.Second
)

// patiently tries a step of the start again while the database is away, and says so meanwhile.
func (h *Hub) patiently(ctx context.Context, step func() error) error {
	doing := h.phase.Load()
	deadline := time.Now().Add(startPatience)
	for told := false; ; told = true {
		err := step()
		if !postgres.IsUnavailable(err) || time.Now().After(deadline) || ctx.Err() != nil {
			h.phase.Store(doing)
			return err
		}
		condition := postgres.ConditionOf(err)
		h.phase.Store(&phase{state: string(condition), words: condition.String()})
		if !told {
			h.log.WarnContext(ctx, "the database cannot be used yet; trying on", "for", startPatience, "error", err)
		}
		select {
		case <-time.After(startPause):
		case <-ctx.Done():
		}
	}
}

// watchSchema ends the hub when the database has been migrated for programs that are newer than this one.
func (h *Hub) watchSchema(ctx context.Context) error {
	level, err := postgres.Level(postgres.Migrations)
	if err != nil {
		return err
	}
	tick := time.NewTicker(schemaLook)
	defer tick.Stop()
	for {
		err := h.db.CheckSchema(ctx, level)
		if newer, ok := errors.AsType[*postgres.NewerSchemaError](err); ok {
			return newer
		}
		// Any other error is the database's trouble, which others tell of.
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// sync starts, for each system, the worker that sends, the reader that takes in and the poller. They take up work until
// ctx ends, and calls under way then get as long as drain says.
func (h *Hub) sync(ctx context.Context, systems []*system.System, doors []inbound.Door, l *ledger.Ledger, bell *postgres.Bell, drain time.Duration, monitor *pulse.Monitor) {
	sent, taken := outbound.NewMetrics(h.telemetry.Registry), inbound.NewMetrics(h.telemetry.Registry)
	for n, s := range systems {
		h.run(ctx, &h.work, outbound.NewWorker(l, s, outbound.Options{Log: h.log, Wake: bell.Subscribe(ledger.TopicLanes), Metrics: sent, Drain: drain, Pulse: monitor.Of(s.Key)}).Run)
		in := inbound.Options{Log: h.log, Metrics: taken, Pulse: monitor.Of(s.Key), Hooked: !doors[n].Secret.IsZero()}
		h.run(ctx, &h.work, inbound.NewPoller(h.db, l, s, bell, in).Run)
		in.Wake = bell.Subscribe(inbound.TopicInbox)
		h.run(ctx, &h.work, inbound.NewReader(h.db, l, s, in).Run)
	}
}

// told has webhook doors tell the monitor of calls.
func told(doors []inbound.Door, monitor *pulse.Monitor) []inbound.Door {
	out := slices.Clone(doors)
	for n := range out {
		out[n].Pulse = monitor.Of(out[n].System.Key)
	}
	return out
}

// systemsHealth asks how every system does, for the metrics: of all organisations.
func systemsHealth(reader *ledger.Reader, dir *directory.Directory) func(context.Context) ([]ledger.Health, error) {
	everybody := auth.Viewer{Subject: "metrics", Name: "metrics", Roles: []auth.Role{auth.Admin}, Organisations: dir.Served()[0]}
	return func(ctx context.Context) ([]ledger.Health, error) {
		var found []ledger.Health
		err := reader.Read(ctx, everybody, ledger.SystemsHealth(&found)...)
		return found, err
	}
}

// Systems makes the configured systems and their webhook doors. Their ids are still unknown. Those that call as one
// account share its limits. A transport that is not nil carries their calls.
func Systems(c *config.Config, accounts *account.Registry, transport http.RoundTripper) ([]*system.System, []inbound.Door, error) {
	var systems []*system.System
	var doors []inbound.Door
	for n, s := range c.Systems {
		made, door, err := newSystem(s, accounts, transport)
		if err != nil {
			return nil, nil, fmt.Errorf("systems[%d] (%s): %w", n, s.Key, err)
		}
		systems, doors = append(systems, made), append(doors, door)
	}
	return systems, doors, nil
}

func newSystem(s config.System, accounts *account.Registry, transport http.RoundTripper) (*system.System, inbound.Door, error) {
	entry, known := registry.Find(s.Connector)
	if !known {
		return nil, inbound.Door{}, fmt.Errorf("connector %q is not known", s.Connector)
	}
	words, err := Mapping(entry, s.Mapping)
	if err != nil {
		return nil, inbound.Door{}, err
	}
	credentials, err := credentials(s.Auth)
	if err != nil {
		return nil, inbound.Door{}, err
	}
	made, err := entry.New(connectors.Config{
		Key: s.Key, URL: s.URL, Auth: credentials, Settings: s.Settings, PollOverlap: s.Poll.Overlap, SettleWindow: s.SettleWindow,
		Timeout: s.Timeout, Concurrency: s.Concurrency, Rate: s.Rate, Accounts: accounts, Transport: transport,
	})
	if err != nil {
		return nil, inbound.Door{}, err
	}
	secret, err := s.Webhook.Secret.Value()
	if err != nil {
		return nil, inbound.Door{}, fmt.Errorf("webhook.secret: %w", err)
	}
	former, err := s.Webhook.PreviousSecret.Value()
	if err != nil {
		return nil, inbound.Door{}, fmt.Errorf("webhook.previous_secret: %w", err)
	}
	out := &system.System{
		Key: s.Key, Name: s.Name, Connector: made, Mapping: words, Concurrency: s.Concurrency, CallTimeout: s.Timeout,
		SettleWindow: made.Traits().SettleWindow, PollInterval: s.Poll.Interval,
	}
	if s.SettleWindow > 0 {
		out.SettleWindow = s.SettleWindow
	}
	return out, inbound.Door{
		System: out, Header: s.Webhook.Header, Secret: connectors.NewSecret(secret), Previous: connectors.NewSecret(former),
		Signed: s.Webhook.Signature == config.SignatureHMACSHA256, TimestampHeader: s.Webhook.TimestampHeader, IDHeader: s.Webhook.IDHeader,
	}, nil
}

// Mapping loads a connector's default mapping with an organisation's own file, if any, over it.
func Mapping(entry registry.Entry, path string) (*mapping.Mapping, error) {
	base, err := mapping.Load("connectors/"+entry.Name+"/mapping.yaml", entry.Mapping)
	if err != nil || path == "" {
		return base, err
	}
	own, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("mapping: %w", err)
	}
	return mapping.Overlay(base, path, own)
}

func credentials(a config.Auth) (connectors.Credentials, error) {
	reveal := func(what string, s config.Secret) (connectors.Secret, error) {
		v, err := s.Value()
		if err != nil {
			return connectors.Secret{}, fmt.Errorf("auth.%s: %w", what, err)
		}
		return connectors.NewSecret(v), nil
	}
	var out connectors.Credentials
	var err error
	switch {
	case a.Basic != nil:
		out.Basic = &connectors.Basic{User: a.Basic.User}
		out.Basic.Password, err = reveal("basic.password", a.Basic.Password)
	case a.OAuth2 != nil:
		o := a.OAuth2
		out.OAuth2 = &connectors.OAuth2{TokenURL: o.TokenURL, Grant: connectors.Grant(o.Grant), ClientID: o.ClientID, User: o.User, Scopes: o.Scopes}
		if out.OAuth2.ClientSecret, err = reveal("oauth2.client_secret", o.ClientSecret); err == nil {
			out.OAuth2.Password, err = reveal("oauth2.password", o.Password)
		}
	default:
		out.Token, err = reveal("token", a.Token)
	}
	return out, err
}

// people builds the directory of static sign-ins.
func people(c *config.Config, dir *directory.Directory) (*auth.Directory, error) {
	var grants []auth.Grant
	for n, t := range c.Tokens {
		token, err := t.Token.Value()
		if err != nil {
			return nil, fmt.Errorf("tokens[%d]: %w", n, err)
		}
		grants = append(grants, dir.Grant(t, token))
	}
	return auth.NewDirectory(grants, dir.Served())
}

// Addr is where the hub listens.
func (h *Hub) Addr() string { return h.listener.Addr().String() }

// Failed yields what ended the hub by itself, if anything does.
func (h *Hub) Failed() <-chan error { return h.failed }

// settleReserve is the part of a drain's time that is kept for what comes after the calls: writing down how they
// ended, shutting the door, closing the pools.
const settleReserve = 2 * time.Second

// split tells how much of a drain's time the calls under way have, and how much is kept back.
func split(whole time.Duration) (calls, reserve time.Duration) {
	reserve = min(settleReserve, whole/2)
	return whole - reserve, reserve
}

// ErrCut tells that a hub did not come to its end in time: what was still under way was cut off, and the next one to
// take up the work finds out what became of it.
var ErrCut = errors.New("the time to stop in order was over; what was under way was cut off and is found out about at the next start")

// Stop drains the hub and ends it, within ctx: first nothing new is taken up and subscribers are sent elsewhere, then
// calls under way settle, while the door stays open so that /readyz can tell and requests still get their answers; then
// the door, the background parts, the pools and the embedded server end. It may be called once, and also on a hub
// that Start has only half built. [ErrCut] is no reason to worry, as nothing is lost by it.
func (h *Hub) Stop(ctx context.Context) error {
	h.phase.Store(draining)
	if h.release != nil {
		h.release()
	}
	if h.graph != nil {
		h.graph.Shutdown()
	}
	if h.hangUp != nil {
		h.hangUp()
	}
	var errs []error
	settling, cancel := earlier(ctx)
	defer cancel()
	if !ends(settling, h.work.Wait) {
		errs = append(errs, ErrCut)
	}
	if h.server != nil {
		if err := h.server.Shutdown(ctx); err != nil {
			errs = append(errs, h.server.Close())
		}
	} else if h.listener != nil {
		errs = append(errs, h.listener.Close())
	}
	if h.cancel != nil {
		h.cancel()
	}
	if !ends(ctx, func() { h.work.Wait(); h.parts.Wait() }) && len(errs) == 0 {
		errs = append(errs, ErrCut)
	}
	if h.db != nil {
		ends(ctx, h.db.Close) // a connection that is still in use ends with the program
	}
	if h.embedded != nil {
		errs = append(errs, h.embedded.Stop(ctx))
	}
	return errors.Join(errs...)
}

// earlier ends a little before ctx does, when calls have been cut and those cut have had the time to be settled.
func earlier(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return context.WithCancel(ctx)
	}
	_, reserve := split(time.Until(deadline))
	return context.WithDeadline(ctx, deadline.Add(-reserve/2))
}

// ends waits until done returns, and reports whether it did before ctx ended.
func ends(ctx context.Context, done func()) bool {
	over := make(chan struct{})
	go func() { done(); close(over) }()
	select {
	case <-over:
		return true
	case <-ctx.Done():
		return false
	}
}

// Package hub puts a whole Liaison together from its settings: the database, the ledger, the feed, a lane
// worker, a reader and a poller for each system, and the HTTP server in front.
//
// Start either returns a hub that answers, or stops everything that it had begun. Stop ends the parts in the
// reverse order and lets calls under way settle. A hub that is killed instead leaves nothing that stops the next
// start: the embedded server is adopted, leases end by themselves, and what may have been sent is asked after.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"liaison/connectors"
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
	graph     *graph.Handler
	hangUp    context.CancelFunc // ends the feed, and with it every subscription
	cancel    context.CancelFunc // ends the background parts
	parts     sync.WaitGroup
	failed    chan error // what ended the hub by itself
	unready   atomic.Bool
}

// Start builds and starts a hub. The telemetry stays the caller's.
func Start(ctx context.Context, c *config.Config, t *telemetry.Telemetry, w Watch) (_ *Hub, err error) {
	h := &Hub{log: t.Logger, telemetry: t, watch: w, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, h.Stop(stop))
		}
	}()
	systems, doors, err := Systems(c, w.Vendors)
	if err != nil {
		return nil, err
	}
	// The port comes first: a second hub on it should say so at once, not after a database was started.
	if h.listener, err = net.Listen("tcp", c.Addr); err != nil {
		return nil, fmt.Errorf("addr: %w; stop what listens there or choose another, for example 127.0.0.1:8090", err)
	}
	if err := h.openDatabase(ctx, c); err != nil {
		return nil, err
	}
	dir, err := directory.Put(ctx, h.db, c)
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
	events, err := feed.New(ctx, h.db, bell, feed.Config{Logger: h.log})
	if err != nil {
		return nil, err
	}
	t.Registry.MustRegister(events)
	h.run(background, bell.Run)
	streams, hangUp := context.WithCancel(background)
	h.hangUp = hangUp
	h.run(streams, events.Run)
	for _, s := range systems {
		s.ID = dir.Systems[s.Key]
	}
	h.sync(background, systems, entries, bell)
	limits := desk.Limits{TitleChars: c.Limits.TitleChars, DescriptionBytes: c.Limits.DescriptionBytes, CommentBytes: c.Limits.CommentBytes}
	h.serve(c, ways{
		desk: desk.New(entries, limits, time.Now), reader: ledger.NewReader(h.db), feed: events, tokens: tokens,
		hooks: inbound.NewHooks(h.db, bell, doors, int64(c.Limits.WebhookBytes), time.Now, h.log),
	})
	return h, nil
}

// run keeps a part going until the background ends.
func (h *Hub) run(ctx context.Context, part func(context.Context) error) {
	h.parts.Go(func() {
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
	if _, err := postgres.Migrate(ctx, url, postgres.Migrations); err != nil {
		return fmt.Errorf("migrating the database: %w", err)
	}
	h.db, err = postgres.Open(ctx, url, postgres.Options{
		AppConns: int32(c.Database.AppConnections), SystemConns: int32(c.Database.SystemConnections), Tracer: h.watch.Statements,
	})
	return err
}

// sync starts, for each system, the worker that sends, the reader that takes in and the poller.
func (h *Hub) sync(ctx context.Context, systems []*system.System, l *ledger.Ledger, bell *postgres.Bell) {
	sent, taken := outbound.NewMetrics(h.telemetry.Registry), inbound.NewMetrics(h.telemetry.Registry)
	for _, s := range systems {
		h.run(ctx, outbound.NewWorker(l, s, outbound.Options{Log: h.log, Wake: bell.Subscribe(ledger.TopicLanes), Metrics: sent}).Run)
		in := inbound.Options{Log: h.log, Metrics: taken}
		h.run(ctx, inbound.NewPoller(h.db, l, s, bell, in).Run)
		in.Wake = bell.Subscribe(inbound.TopicInbox)
		h.run(ctx, inbound.NewReader(h.db, l, s, in).Run)
	}
}

// Systems makes the configured systems and their webhook doors. Their ids are still unknown. A transport that is not nil
// carries their calls.
func Systems(c *config.Config, transport http.RoundTripper) ([]*system.System, []inbound.Door, error) {
	var systems []*system.System
	var doors []inbound.Door
	for n, s := range c.Systems {
		made, door, err := newSystem(s, transport)
		if err != nil {
			return nil, nil, fmt.Errorf("systems[%d] (%s): %w", n, s.Key, err)
		}
		systems, doors = append(systems, made), append(doors, door)
	}
	return systems, doors, nil
}

func newSystem(s config.System, transport http.RoundTripper) (*system.System, inbound.Door, error) {
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
		Timeout: s.Timeout, Concurrency: s.Concurrency, Rate: s.Rate, Transport: transport,
	})
	if err != nil {
		return nil, inbound.Door{}, err
	}
	secret, err := s.Webhook.Secret.Value()
	if err != nil {
		return nil, inbound.Door{}, fmt.Errorf("webhook.secret: %w", err)
	}
	out := &system.System{
		Key: s.Key, Name: s.Name, Connector: made, Mapping: words, Concurrency: s.Concurrency, CallTimeout: s.Timeout,
		SettleWindow: made.Traits().SettleWindow, PollInterval: s.Poll.Interval,
	}
	if s.SettleWindow > 0 {
		out.SettleWindow = s.SettleWindow
	}
	return out, inbound.Door{System: out, Header: s.Webhook.Header, Secret: connectors.NewSecret(secret), Signed: s.Webhook.Signature == config.SignatureHMACSHA256}, nil
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

// Stop ends the hub: the door first, then the background parts, the pools and the embedded server. It may be
// called once, and also on a hub that Start has only half built.
func (h *Hub) Stop(ctx context.Context) error {
	var errs []error
	if h.graph != nil {
		h.graph.Shutdown()
	}
	if h.hangUp != nil {
		h.hangUp()
	}
	if h.server != nil {
		door, cancel := context.WithTimeout(ctx, 5*time.Second)
		if err := h.server.Shutdown(door); err != nil {
			errs = append(errs, h.server.Close())
		}
		cancel()
	} else if h.listener != nil {
		errs = append(errs, h.listener.Close())
	}
	if h.cancel != nil {
		h.cancel()
		h.parts.Wait()
	}
	if h.db != nil {
		h.db.Close()
	}
	if h.embedded != nil {
		errs = append(errs, h.embedded.Stop(ctx))
	}
	return errors.Join(errs...)
}

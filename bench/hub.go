package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"time"

	"liaison/graph"
	"liaison/internal/auth"
	"liaison/internal/desk"
	"liaison/internal/feed"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/telemetry"
	"liaison/sync/ledger"
)

// hub is the parts of a running hub that a row needs, put together as the binary does.
type hub struct {
	db       *postgres.DB
	bell     *postgres.Bell
	ledger   *ledger.Ledger
	feed     *feed.Feed
	watched  *telemetry.Telemetry
	log      *slog.Logger
	hooks    http.Handler // behind /hooks/{system}; nil: nothing is
	url      string       // of the server, once it serves
	stopping []func()
}

// stop ends what was started, last first.
func (h *hub) stop() {
	for _, stop := range slices.Backward(h.stopping) {
		stop()
	}
}

// hub starts a hub's bell and feed on a database, and returns when every entry that there is has reached its end.
func (w *world) hub(ctx context.Context, db *postgres.DB) (_ *hub, err error) {
	h := &hub{db: db, log: w.quiet}
	defer func() {
		if err != nil {
			h.stop()
		}
	}()
	if h.watched, err = telemetry.Start(ctx, telemetry.Config{LogOutput: io.Discard}); err != nil {
		return nil, err
	}
	h.bell = postgres.NewBell(db, w.quiet)
	h.ledger = ledger.New(db, h.bell, time.Now)
	if h.feed, err = feed.New(ctx, db, h.bell, feed.Config{Logger: w.quiet}); err != nil {
		return nil, err
	}
	h.watched.Registry.MustRegister(h.feed)
	h.run(ctx, h.bell.Run, h.feed.Run)
	if err := h.caughtUp(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// run keeps parts going until the hub stops.
func (h *hub) run(ctx context.Context, parts ...func(context.Context) error) {
	running, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	for _, part := range parts {
		all.Go(func() { _ = part(running) }) // its error is the context's end
	}
	h.stopping = append(h.stopping, func() { cancel(); all.Wait() })
}

// caughtUp waits until every entry is stamped and this hub's tail has read it.
func (h *hub) caughtUp(ctx context.Context) error {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		var stamped bool
		var position int64
		err := h.db.System.QueryRow(ctx, "SELECT scanned >= (SELECT max(id) FROM ledger_entry), position FROM watermark").Scan(&stamped, &position)
		if err != nil {
			return fmt.Errorf("looking how far the feed is: %w", err)
		}
		read, err := h.read()
		if err != nil {
			return err
		}
		if stamped && read >= position {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// read is the position up to which the tail has read, as the hub's metrics tell it.
func (h *hub) read() (int64, error) {
	families, err := h.watched.Registry.Gather()
	if err != nil {
		return 0, err
	}
	for _, f := range families {
		if f.GetName() == "liaison_feed_position" {
			return int64(f.GetMetric()[0].GetGauge().GetValue()), nil
		}
	}
	return 0, errors.New("the feed does not tell its position")
}

// token is a school's, or another organisation's.
func token(o incident.OrganisationID) string { return "bench-" + strconv.FormatInt(int64(o), 10) }

// serve answers GraphQL, and webhooks if there is a handler, on a loopback port the way the binary does, for a requester of
// each organisation.
func (w *world) serve(h *hub) error {
	var grants []auth.Grant
	for key, o := range w.organisations {
		grants = append(grants, auth.Grant{Digest: auth.DigestOf(token(o)), Subject: key, Name: key, Roles: []auth.Role{auth.Requester}, Organisation: o, Desk: 1})
	}
	tokens, err := auth.NewDirectory(grants, nil)
	if err != nil {
		return err
	}
	handler := graph.NewHandler(graph.Deps{
		Desk: desk.New(h.ledger, desk.DefaultLimits(), time.Now), Reader: ledger.NewReader(h.db), Feed: h.feed, Auth: tokens, Logger: h.log,
	})
	mux := http.NewServeMux()
	mux.Handle("/graphql", h.watched.Middleware("graphql", handler))
	if h.hooks != nil {
		mux.Handle("/hooks/{system}", h.watched.Middleware("webhook", h.hooks))
	}
	server := httptest.NewServer(mux)
	h.url = server.URL
	h.stopping = append(h.stopping, func() { handler.Shutdown(); server.Close() })
	return nil
}

// serving starts a hub that serves GraphQL.
func (w *world) serving(ctx context.Context, db *postgres.DB) (*hub, error) {
	h, err := w.hub(ctx, db)
	if err != nil {
		return nil, err
	}
	if err := w.serve(h); err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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
	db     *postgres.DB
	ledger *ledger.Ledger
	feed   *feed.Feed
	stop   func()
}

// hub starts a hub's bell and feed, and returns when every entry that there is has its place.
func (w *world) hub(ctx context.Context, db *postgres.DB) (*hub, error) {
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	h := &hub{db: db, stop: func() { cancel(); parts.Wait() }}
	bell := postgres.NewBell(db, w.quiet)
	h.ledger = ledger.New(db, bell, time.Now)
	var err error
	if h.feed, err = feed.New(ctx, db, bell, feed.Config{Logger: w.quiet}); err != nil {
		cancel()
		return nil, err
	}
	parts.Go(func() { _ = bell.Run(ctx) }) // its error is the context's end
	parts.Go(func() { _ = h.feed.Run(ctx) })
	if err := w.stamped(ctx); err != nil {
		h.stop()
		return nil, err
	}
	return h, nil
}

// stamped waits until the feed has caught up with the ledger.
func (w *world) stamped(ctx context.Context) error {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		var behind bool
		if err := w.bare.QueryRow(ctx, "SELECT scanned < (SELECT max(id) FROM ledger_entry) FROM watermark").Scan(&behind); err != nil {
			return fmt.Errorf("looking how far the feed is: %w", err)
		}
		if !behind {
			return nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// token is a school's, or another organisation's.
func token(o incident.OrganisationID) string { return "bench-" + strconv.FormatInt(int64(o), 10) }

// serve answers GraphQL on a loopback port the way the binary does, for a requester of each organisation.
func (w *world) serve(ctx context.Context, h *hub) (*httptest.Server, func(), error) {
	var grants []auth.Grant
	for key, o := range w.organisations {
		grants = append(grants, auth.Grant{Digest: auth.DigestOf(token(o)), Subject: key, Name: key, Roles: []auth.Role{auth.Requester}, Organisation: o, Desk: 1})
	}
	tokens, err := auth.NewDirectory(grants, nil)
	if err != nil {
		return nil, nil, err
	}
	watched, err := telemetry.Start(ctx, telemetry.Config{LogOutput: io.Discard})
	if err != nil {
		return nil, nil, err
	}
	handler := graph.NewHandler(graph.Deps{
		Desk: desk.New(h.ledger, desk.DefaultLimits(), time.Now), Reader: ledger.NewReader(h.db), Feed: h.feed, Auth: tokens, Logger: w.quiet,
	})
	mux := http.NewServeMux()
	mux.Handle("/graphql", watched.Middleware("graphql", handler))
	server := httptest.NewServer(mux)
	return server, func() { handler.Shutdown(); server.Close() }, nil
}

package hub

import (
	"context"
	"errors"
	"net/http"
	"time"

	"liaison/graph"
	"liaison/internal/auth"
	"liaison/internal/config"
	"liaison/internal/desk"
	"liaison/internal/feed"
	"liaison/internal/postgres"
	"liaison/sync/inbound"
	"liaison/sync/ledger"
)

// ways are the parts that stand behind the HTTP routes.
type ways struct {
	desk   *desk.Desk
	reader *ledger.Reader
	feed   *feed.Feed
	tokens *auth.Directory
	hooks  *inbound.Hooks
}

func (h *Hub) serve(c *config.Config, w ways) {
	mux := http.NewServeMux()
	h.graph = graph.NewHandler(graph.Deps{
		Desk: w.desk, Reader: w.reader, Feed: w.feed, Auth: w.tokens, Logger: h.log,
		Limits: graph.Limits{BodyBytes: int64(c.Limits.BodyBytes), QueryTokens: c.Limits.QueryTokens},
	})
	mux.Handle("/graphql", h.telemetry.Middleware("graphql", h.graph))
	mux.Handle("/hooks/{system}", h.telemetry.Middleware("webhook", w.hooks))
	mux.Handle("GET /metrics", h.telemetry.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", h.ready)
	mux.Handle("GET /{$}", frontPage(c))
	h.server = &http.Server{
		Handler: h.watch.door(mux), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
	}
	h.parts.Go(func() {
		if err := h.server.Serve(h.listener); !errors.Is(err, http.ErrServerClosed) {
			select {
			case h.failed <- err:
			default:
			}
		}
	})
}

// ready says whether the hub can answer: alone, a hub without its database is alive and of no use.
func (h *Hub) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := h.db.Ping(ctx); err != nil {
		if !h.unready.Swap(true) { // whoever asks does so every few seconds
			h.log.WarnContext(ctx, "not ready", "error", err)
		}
		text := "the database does not answer"
		if errors.Is(err, postgres.ErrPoolExhausted) {
			text = "every connection to the database is in use"
		}
		w.Header().Set("Retry-After", "5")
		say(w, http.StatusServiceUnavailable, text)
		return
	}
	if h.unready.Swap(false) {
		h.log.InfoContext(ctx, "ready again")
	}
	say(w, http.StatusOK, "ready")
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the caller has left: there is nobody to tell
}

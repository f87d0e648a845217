package hub

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"liaison/graph"
	"liaison/internal/auth"
	"liaison/internal/config"
	"liaison/internal/desk"
	"liaison/internal/directory"
	"liaison/internal/feed"
	"liaison/sync/inbound"
	"liaison/sync/ledger"
	"liaison/sync/pulse"
	"liaison/sync/reconcile"
	"liaison/sync/system"
)

// ways are the parts that stand behind the HTTP routes.
type ways struct {
	desk   *desk.Desk
	reader *ledger.Reader
	feed   *feed.Feed
	tokens *auth.Directory
	hooks  *inbound.Hooks

	// What operators need.
	inbox      *inbound.Mender
	switches   *directory.Switch
	reconciler *reconcile.Reconciler
	monitor    *pulse.Monitor
	systems    []*system.System
}

// hookTime bounds a webhook: its sender gets an answer while the database is locked or away, and sends again.
const hookTime = 8 * time.Second

// openDoor begins to answer: how the hub is doing from the first moment on, everything else once it is whole.
func (h *Hub) openDoor() {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h.telemetry.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", h.ready)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if inside := h.inside.Load(); inside != nil {
			inside.ServeHTTP(w, r)
			return
		}
		words := "the hub is starting"
		if p := h.phase.Load(); p != nil {
			words = p.words
		}
		w.Header().Set("Retry-After", retryAfter)
		answer(w, http.StatusServiceUnavailable, map[string]any{"errors": []any{map[string]any{
			"message": words + "; try again in a moment", "extensions": map[string]any{"code": "UNAVAILABLE"},
		}}})
	})
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

// furnish puts what people and systems come for behind the door.
func (h *Hub) furnish(c *config.Config, w ways) {
	mux := http.NewServeMux()
	h.graph = graph.NewHandler(graph.Deps{
		Desk: w.desk, Reader: w.reader, Feed: w.feed, Auth: w.tokens, Logger: h.log,
		Inbox: w.inbox, Switch: w.switches, Reconciler: w.reconciler, Monitor: w.monitor, Systems: w.systems,
		Limits: graph.Limits{BodyBytes: int64(c.Limits.BodyBytes), QueryTokens: c.Limits.QueryTokens},
	})
	mux.Handle("/graphql", h.telemetry.Middleware("graphql", h.graph))
	mux.Handle("/hooks/{system}", h.telemetry.Middleware("webhook", within(hookTime, w.hooks)))
	mux.Handle("GET /{$}", frontPage(c))
	h.inside.Store(mux)
}

// within ends a request's context after the given time.
func within(limit time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // the caller has left: there is nobody to tell
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller has left: there is nobody to tell
}

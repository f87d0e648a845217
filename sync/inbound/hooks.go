package inbound

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"liaison/connectors"
	"liaison/internal/postgres"
	"liaison/sync/ledger"
)

// Hooks is the handler behind /hooks/{system}. It stores what comes, understood or not, then answers 202.
type Hooks struct {
	clerk *clerk
	bell  ledger.Bell
	doors map[string]Door
	limit int64
	now   func() time.Time
	log   *slog.Logger

	outage trouble // of the database: every call is refused until it is over
}

// NewHooks returns the handler for the given systems. A system without a secret has no door. limit is the largest
// body in bytes.
func NewHooks(d *postgres.DB, bell ledger.Bell, doors []Door, limit int64, now func() time.Time, log *slog.Logger) *Hooks {
	return NewHooksOver(Rows(d), bell, doors, limit, now, log)
}

// NewHooksOver returns the handler that keeps what comes in a store.
func NewHooksOver(store Store, bell ledger.Bell, doors []Door, limit int64, now func() time.Time, log *slog.Logger) *Hooks {
	h := &Hooks{
		clerk: &clerk{store: store}, bell: bell, doors: map[string]Door{}, limit: limit, now: now, log: log,
		outage: trouble{what: "webhooks cannot be stored, so they are not acknowledged and have to be sent again", over: "webhooks are stored again"},
	}
	for _, door := range doors {
		if !door.Secret.IsZero() {
			h.doors[door.System.Key] = door
		}
	}
	return h
}

func (h *Hooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answer(w, http.StatusMethodNotAllowed, "webhooks are posted")
		return
	}
	door, known := h.doors[r.PathValue("system")]
	if r.ContentLength > h.limit {
		answer(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", h.limit))
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.limit))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		answer(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", h.limit))
		return
	} else if err != nil {
		answer(w, http.StatusBadRequest, "the body ended early")
		return
	}
	// A system that does not exist answers like a wrong secret, so that nobody learns which exist.
	refusal := wrongSecret
	if known {
		refusal = door.refusal(r.Header, body, h.now())
	}
	if refusal != "" {
		answer(w, http.StatusUnauthorized, refusal)
		return
	}
	h.accept(w, r, door, body)
}

// accept stores the call, understood or not, before it is acknowledged.
func (h *Hooks) accept(w http.ResponseWriter, r *http.Request, door Door, body []byte) {
	s := door.System
	c := callOf(r.Context(), s.ID, webhook, body, r.Header.Get("Content-Type"), h.now())
	c.id = door.callID(r.Header)
	c.read(s.Connector, connectors.Hook{Header: r.Header, Body: body})
	got, err := h.clerk.keep(r.Context(), &c)
	h.tell(r.Context(), s.Key, err)
	if err != nil {
		w.Header().Set("Retry-After", "5")
		answer(w, http.StatusServiceUnavailable, "the webhook could not be stored; send it again")
		return
	}
	door.Pulse.Hooked(len(c.refs), c.reason)
	switch got.state {
	case parked:
		h.log.WarnContext(r.Context(), "a webhook was parked", "system", s.Key, "reason", got.reason)
		answer(w, http.StatusAccepted, "stored, but not understood: "+got.reason)
	case duplicate:
		answer(w, http.StatusAccepted, "stored as a repeat: "+got.reason)
	default:
		h.bell.Ring(TopicInbox)
		answer(w, http.StatusAccepted, "")
	}
}

// tell logs what became of storing a call: an outage of the database once and not with each call, its end with how many were
// refused. A sender that has left says nothing of the database.
func (h *Hooks) tell(ctx context.Context, system string, err error) {
	ctx = context.WithoutCancel(ctx) // its end may be the outage's doing
	switch {
	case err == nil, postgres.IsUnavailable(err), postgres.IsTimeout(err), errors.Is(err, context.DeadlineExceeded):
		h.outage.note(ctx, h.log, err)
	case !errors.Is(err, context.Canceled):
		h.log.ErrorContext(ctx, "a webhook could not be stored, so it was not acknowledged", "system", system, "error", err)
	}
}

// readHook asks the connector what a body speaks of; the reason says why it was not understood.
func readHook(c connectors.Connector, hook connectors.Hook) (refs []connectors.Ref, reason string) {
	reader, ok := c.(connectors.HookReader)
	if !ok {
		return nil, "this system's connector takes no webhooks"
	}
	if len(hook.Body) == 0 {
		return nil, "the body is empty"
	}
	refs, err := reader.ReadHook(hook)
	switch {
	case err != nil:
		return nil, connectors.WordsOf(err)
	case len(refs) == 0:
		return nil, "the body names no ticket"
	}
	return refs, ""
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	out := map[string]string{"status": "accepted"}
	if status >= 400 {
		out = map[string]string{"error": text}
	} else if text != "" {
		out["note"] = text
	}
	_ = json.NewEncoder(w).Encode(out) // the caller has left: there is nobody to tell
}

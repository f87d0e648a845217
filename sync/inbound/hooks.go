package inbound

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/connectors"
	"liaison/internal/postgres"
	"liaison/internal/telemetry"
	"liaison/sync/inbound/internal/db"
	"liaison/sync/ledger"
	"liaison/sync/system"
)

// Door is how one system's webhooks are let in.
type Door struct {
	System *system.System
	Header string // the request header that carries the secret or the signature
	Secret connectors.Secret
	Signed bool // the header carries sha256=<hex HMAC-SHA256 of the body> instead of the secret itself
}

// Hooks is the handler behind /hooks/{system}. It stores what comes, then answers 202.
type Hooks struct {
	db    *postgres.DB
	bell  ledger.Bell
	doors map[string]Door
	limit int64
	now   func() time.Time
	log   *slog.Logger
}

// NewHooks returns the handler for the given systems. A system without a secret has no door. limit is the largest
// body in bytes.
func NewHooks(d *postgres.DB, bell ledger.Bell, doors []Door, limit int64, now func() time.Time, log *slog.Logger) *Hooks {
	h := &Hooks{db: d, bell: bell, doors: map[string]Door{}, limit: limit, now: now, log: log}
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
	if !known || !door.admits(r.Header, body) {
		answer(w, http.StatusUnauthorized, "the webhook's secret is missing or wrong")
		return
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "" && kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		answer(w, http.StatusUnsupportedMediaType, "the body must be application/json")
		return
	}
	if !json.Valid(body) {
		answer(w, http.StatusBadRequest, "the body is no JSON; nothing was stored")
		return
	}
	h.accept(w, r, door.System, body)
}

func (d Door) admits(header http.Header, body []byte) bool {
	given, want := header.Get(d.Header), d.Secret.Reveal()
	if d.Signed {
		mac := hmac.New(sha256.New, []byte(want))
		mac.Write(body)
		want = "sha256=" + hex.EncodeToString(mac.Sum(nil))
	}
	g, x := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(g[:], x[:]) == 1
}

// accept stores the body, understood or not, before it is acknowledged.
func (h *Hooks) accept(w http.ResponseWriter, r *http.Request, s *system.System, body []byte) {
	refs, reason := readHook(s.Connector, connectors.Hook{Header: r.Header, Body: body})
	at := h.now()
	state, settled := waiting, (*time.Time)(nil)
	if reason != "" {
		refs, state, settled = []connectors.Ref{{}}, parked, &at
	}
	err := h.db.SystemTx(r.Context(), func(tx pgx.Tx) error {
		for _, ref := range refs {
			err := db.New(tx).InsertInbox(r.Context(), db.InsertInboxParams{
				ID: uuid.Must(uuid.NewV7()), SystemID: int64(s.ID), Source: "WEBHOOK", ExternalID: string(ref.ID), Number: ref.Number, Version: ref.Version,
				Body: body, State: state, Reason: reason, At: at, SettledAt: settled, Trace: telemetry.Inject(r.Context()),
			})
			if err != nil {
				return err
			}
		}
		return nil
	}, postgres.Retry(5))
	if err != nil {
		h.log.ErrorContext(r.Context(), "a webhook could not be stored, so it was not acknowledged", "system", s.Key, "error", err)
		w.Header().Set("Retry-After", "5")
		answer(w, http.StatusServiceUnavailable, "the webhook could not be stored; send it again")
		return
	}
	if reason != "" {
		h.log.WarnContext(r.Context(), "a webhook was parked", "system", s.Key, "reason", reason)
		answer(w, http.StatusAccepted, "stored, but not understood: "+reason)
		return
	}
	h.bell.Ring(TopicInbox)
	answer(w, http.StatusAccepted, "")
}

// readHook asks the connector what a body speaks of; the reason says why it was not understood.
func readHook(c connectors.Connector, hook connectors.Hook) (refs []connectors.Ref, reason string) {
	reader, ok := c.(connectors.HookReader)
	if !ok {
		return nil, "this system's connector takes no webhooks"
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

//go:build e2e

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// change is what a subscriber hears of.
type change struct {
	Cursor     string
	Kind       string
	IncidentID string
	Entry      entry
	Incident   struct {
		Number, State string
		Version       int
	}
}

// name tells a change apart from every other.
func (c change) name() string { return fmt.Sprintf("%s version %d", c.IncidentID, c.Entry.Version) }

// subscriber is a plain client of graphql-transport-ws with one subscription.
type subscriber struct {
	t       *testing.T
	ws      *websocket.Conn
	changes chan change
	once    sync.Once
	err     error // why it ended; set when changes is closed
}

type frame struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

const followDocument = `subscription($after: String, $filter: IncidentChangedFilter) { incidentChanged(after: $after, filter: $filter) {
	cursor kind incidentId
	entry { kind version visibility actor { kind name } changes { field before after } comment { body visibility author } }
	incident { number state version } } }`

// subscribe follows incidents from a cursor; an empty one means from now on.
func (h *hub) subscribe(t *testing.T, token, after string) *subscriber {
	t.Helper()
	s, err := h.trySubscribe(t, token, after)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (h *hub) trySubscribe(t *testing.T, token, after string) (*subscriber, error) {
	dialer := websocket.Dialer{HandshakeTimeout: 10 * time.Second, Subprotocols: []string{"graphql-transport-ws"}}
	ws, res, err := dialer.Dial(strings.Replace(h.url, "http:", "ws:", 1)+"/graphql", http.Header{})
	if err != nil {
		return nil, err
	}
	res.Body.Close()
	s := &subscriber{t: t, ws: ws, changes: make(chan change, 10000)}
	t.Cleanup(s.drop)
	payload, err := json.Marshal(map[string]any{"query": followDocument, "variables": map[string]any{"after": nullable(after)}})
	if err != nil {
		return nil, err
	}
	if err := ws.WriteJSON(frame{Type: "connection_init", Payload: json.RawMessage(`{"Authorization":"Bearer ` + token + `"}`)}); err != nil {
		return nil, err
	}
	var ack frame
	if err := ws.ReadJSON(&ack); err != nil || ack.Type != "connection_ack" {
		return nil, fmt.Errorf("the hub answered connection_init with %+v, %w", ack, err)
	}
	if err := ws.WriteJSON(frame{ID: "1", Type: "subscribe", Payload: payload}); err != nil {
		return nil, err
	}
	go s.read()
	return s, nil
}

func nullable(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func (s *subscriber) read() {
	defer close(s.changes)
	for {
		var f frame
		if s.err = s.ws.ReadJSON(&f); s.err != nil {
			return
		}
		switch f.Type {
		case "next":
			var payload struct {
				Data   struct{ IncidentChanged change }
				Errors []*gqlError
			}
			if s.err = json.Unmarshal(f.Payload, &payload); s.err != nil {
				return
			}
			if len(payload.Errors) > 0 {
				s.err = payload.Errors[0]
				return
			}
			s.changes <- payload.Data.IncidentChanged
		case "error":
			var errs []*gqlError
			if s.err = json.Unmarshal(f.Payload, &errs); s.err == nil && len(errs) > 0 {
				s.err = errs[0]
			}
			return
		case "complete":
			s.err = errors.New("the hub completed the subscription")
			return
		}
	}
}

// next returns the next change.
func (s *subscriber) next(within time.Duration) change {
	s.t.Helper()
	select {
	case c, more := <-s.changes:
		if !more {
			s.t.Fatalf("the subscription ended: %v", s.err)
		}
		return c
	case <-time.After(within):
		s.t.Fatalf("no change within %s", within)
		return change{}
	}
}

// until collects changes up to the one that last accepts.
func (s *subscriber) until(within time.Duration, last func(change) bool) []change {
	s.t.Helper()
	deadline := time.Now().Add(within)
	var all []change
	for {
		c := s.next(time.Until(deadline))
		if all = append(all, c); last(c) {
			return all
		}
	}
}

// drop ends the connection without a word, as a network does. The reader ends as well.
func (s *subscriber) drop() { s.once.Do(func() { s.ws.Close() }) }

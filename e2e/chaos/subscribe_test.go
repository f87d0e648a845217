//go:build chaos

package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// heard is an entry as a subscriber received it.
type heard struct {
	number  string
	id      string
	version int
	cursor  string
}

// watcher is a subscriber that loses its connection now and then, comes back with its last cursor, and keeps everything
// that it ever received.
type watcher struct {
	name  string
	token string
	org   string // of a requester: sees PUBLIC entries of this organisation only

	mu    sync.Mutex
	all   []heard
	lives int
	odd   []string // what should never come
}

func (o *watcher) heard() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.all)
}

// subscribe starts the subscribers, from the first entry on.
func (w *world) subscribe(ctx context.Context) []*watcher {
	watchers := []*watcher{{name: "agent 1", token: agentToken}, {name: "agent 2", token: agentToken}, {name: "agent 3", token: agentToken}}
	for n := range 2 {
		watchers = append(watchers, &watcher{name: "requester of " + organisations[n], token: requesterToken(n), org: organisations[n]})
	}
	for n, o := range watchers {
		cursor := ""
		for cursor == "" {
			var page struct{ Incidents struct{ FeedCursor string } }
			if err := w.try(ctx, w.hubs[0], o.token, `{ incidents(first: 1) { feedCursor } }`, nil, &page); err != nil {
				w.t.Fatalf("asking for the feed's place: %v", err)
			}
			cursor = page.Incidents.FeedCursor
		}
		random := w.plan.random(uint64(400 + n))
		go func() {
			for ctx.Err() == nil {
				h := w.hubs[random.IntN(len(w.hubs))]
				cursor = o.live(ctx, h, cursor, random)
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(random.IntN(300)) * time.Millisecond):
				}
			}
		}()
	}
	return watchers
}

type frame struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

const followDocument = `subscription($after: String) { incidentChanged(after: $after) { cursor kind incidentId entry { version kind } incident { number } } }`

// live is one connection: it goes on until somebody cuts it, and returns the last cursor.
func (o *watcher) live(ctx context.Context, h *hub, cursor string, random *rand.Rand) string {
	dialer := websocket.Dialer{HandshakeTimeout: 5 * time.Second, Subprotocols: []string{"graphql-transport-ws"}}
	ws, res, err := dialer.DialContext(ctx, strings.Replace(h.url(), "http:", "ws:", 1)+"/graphql", http.Header{})
	if err != nil {
		return cursor
	}
	res.Body.Close()
	o.mu.Lock()
	o.lives++
	o.mu.Unlock()
	cut := time.AfterFunc(time.Duration(2000+random.IntN(8000))*time.Millisecond, func() { ws.Close() }) // without a word, as a network does
	stop := context.AfterFunc(ctx, func() { ws.Close() })
	defer func() {
		stop()
		cut.Stop()
		ws.Close()
	}()
	payload, err := json.Marshal(map[string]any{"query": followDocument, "variables": map[string]any{"after": cursor}})
	if err != nil {
		panic(err) // a map of strings cannot fail
	}
	if ws.WriteJSON(frame{Type: "connection_init", Payload: json.RawMessage(`{"Authorization":"Bearer ` + o.token + `"}`)}) != nil ||
		ws.WriteJSON(frame{ID: "1", Type: "subscribe", Payload: payload}) != nil {
		return cursor
	}
	for {
		var f frame
		if ws.ReadJSON(&f) != nil {
			return cursor
		}
		switch f.Type {
		case "next":
			c, err := readChange(f.Payload)
			if errors.Is(err, errPassing) {
				return cursor
			}
			if err != nil {
				o.strange(err)
				return cursor
			}
			o.mu.Lock()
			o.all = append(o.all, c)
			o.mu.Unlock()
			cursor = c.cursor
		case "error":
			var errs []*gqlError
			if err := json.Unmarshal(f.Payload, &errs); err != nil || len(errs) == 0 {
				o.strange(fmt.Errorf("error frame %s", f.Payload))
				return cursor
			}
			if !passing[errs[0].Extensions.Code] {
				o.strange(errs[0])
			}
			if errs[0].Extensions.Cursor != "" && errs[0].Extensions.Code == "RATE_LIMITED" {
				return errs[0].Extensions.Cursor
			}
			return cursor
		case "complete":
			return cursor
		}
	}
}

func (o *watcher) strange(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.odd = append(o.odd, err.Error())
}

func readChange(payload json.RawMessage) (heard, error) {
	var p struct {
		Data struct {
			IncidentChanged *struct {
				Cursor, Kind, IncidentID string
				Entry                    *struct{ Version int }
				Incident                 *struct{ Number string }
			}
		}
		Errors []*gqlError
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return heard{}, err
	}
	if len(p.Errors) > 0 && passing[p.Errors[0].Extensions.Code] {
		return heard{}, errPassing
	}
	c := p.Data.IncidentChanged
	if c == nil {
		return heard{}, fmt.Errorf("no change in %s", payload)
	}
	if c.Entry == nil || c.Incident == nil {
		return heard{}, fmt.Errorf("a change without its entry or incident: %s", payload)
	}
	return heard{number: c.Incident.Number, id: c.IncidentID, version: c.Entry.Version, cursor: c.Cursor}, nil
}

// errPassing is news that could not be told this time: the connection is made anew from the last cursor.
var errPassing = errors.New("not now")

package graph_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"liaison/graph"
	"liaison/graph/socket"
)

func TestOperationsOverASocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.connect(sam)
	p.subscribe("q", `{ viewer { name } }`, nil)
	if got := text(t, p.next("q"), "viewer", "name"); got != "Sam Smith" {
		t.Errorf("viewer %s", got)
	}
	if f := p.read(); f.Type != "complete" || f.ID != "q" {
		t.Errorf("then %v", f)
	}
	p.subscribe("q", `{ viewer { nam } }`, nil) // the id is free again
	if f := p.read(); f.Type != "error" || f.ID != "q" || !strings.Contains(string(f.Payload), "GRAPHQL_VALIDATION_FAILED") {
		t.Errorf("a document that does not fit: %s %s", f.Type, f.Payload)
	}
	p.subscribe("m", `mutation { reportIncident(input: {description: "over a socket"}) { incident { number } } }`, nil)
	if got := text(t, p.next("m"), "reportIncident", "incident", "number"); got != "INC0000001" {
		t.Errorf("number %s", got)
	}
	if f := p.read(); f.Type != "complete" || f.ID != "m" {
		t.Errorf("after an error comes no complete, so this is m's: %v", f)
	}
	p.send(`{"type":"ping","payload":{"n":1}}`)
	if f := p.read(); f.Type != "pong" || string(f.Payload) != `{"n":1}` {
		t.Errorf("pong %v %s", f.Type, f.Payload)
	}
}

// After complete the id may be used again at once, and nothing more comes of the old operation.
func TestCompleteFreesTheID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.connect(sam)
	for range 50 {
		w.begin(p, "1", nil)
		p.send(`{"id":"1","type":"complete"}`)
	}
	w.begin(p, "1", map[string]any{"kinds": []string{"COMMENTED"}})
	id := w.report(sam, "Printer")
	w.comment(sam, id, "x")
	if e := at(t, p.next("1"), "incidentChanged"); text(t, e, "entry", "kind") != "COMMENTED" {
		t.Errorf("an ended operation spoke: %v", e)
	}
}

func TestSocketsByTheLetter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(d *graph.Deps) { d.InitTimeout = 200 * time.Millisecond; d.Sockets.Operations = 3 })
	init := `{"type":"connection_init","payload":{"token":"` + sam + `"}}`
	subscribe := `{"id":"1","type":"subscribe","payload":{"query":"subscription { incidentChanged { cursor } }"}}`
	for _, c := range []struct {
		name string
		send []string
		code int
	}{
		{"wrong token", []string{`{"type":"connection_init","payload":{"token":"wrong"}}`}, 4401},
		{"no token", []string{`{"type":"connection_init"}`}, 4401},
		{"empty header", []string{`{"type":"connection_init","payload":{"Authorization":""}}`}, 4401},
		{"no init", nil, 4408},
		{"subscribe before init", []string{subscribe}, 4401},
		{"two inits", []string{init, init}, 4429},
		{"an id that is taken", []string{init, "ack", subscribe, subscribe}, 4409},
		{"no JSON", []string{init, `{"type"`}, 4400},
		{"an unknown type", []string{init, `{"type":"start"}`}, 4400},
		{"a server's type", []string{init, `{"type":"next","id":"1"}`}, 4400},
		{"subscribe without id", []string{init, "ack", `{"type":"subscribe","payload":{"query":"{viewer{name}}"}}`}, 4400},
		{"subscribe without payload", []string{init, "ack", `{"type":"subscribe","id":"1"}`}, 4400},
		{"payload of init is a list", []string{`{"type":"connection_init","payload":[]}`}, 4400},
		{"payload of init is text", []string{`{"type":"connection_init","payload":"x"}`}, 4400},
		{"a message too large", []string{init, `{"type":"ping","payload":{"x":"` + strings.Repeat("x", 1<<20) + `"}}`}, 1009},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, _, err := w.dial(nil, socket.TransportWS)
			if err != nil {
				t.Fatal(err)
			}
			p.t = t
			for _, m := range c.send {
				if m == "ack" {
					if f := p.read(); f.Type != "connection_ack" {
						t.Fatalf("instead of an ack: %v", f)
					}
					continue
				}
				if err := p.ws.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
					break // closed already: the reading tells
				}
			}
			p.closes(c.code)
		})
	}
	p := w.connect(sam)
	for n := range 4 {
		p.subscribe(fmt.Sprint(n), changes, nil)
	}
	if f := p.read(); f.Type != "error" || f.ID != "3" || !strings.Contains(string(f.Payload), "RATE_LIMITED") {
		t.Errorf("one operation too many: %v %s", f, f.Payload)
	}
}

func TestHandshakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		name      string
		header    http.Header
		protocols []string
		status    int
	}{
		{"foreign page", http.Header{"Origin": {"https://evil.example"}}, []string{socket.TransportWS}, http.StatusForbidden},
		{"page without a host", http.Header{"Origin": {"null"}}, []string{socket.TransportWS}, http.StatusForbidden},
		{"no subprotocol", nil, nil, http.StatusBadRequest},
		{"unknown subprotocol", nil, []string{"mqtt"}, http.StatusBadRequest},
		{"wrong token", http.Header{"Authorization": {"Bearer wrong"}}, []string{socket.TransportWS}, http.StatusUnauthorized},
	} {
		_, answer, err := w.dial(c.header, c.protocols...)
		if err == nil || answer == nil || answer.StatusCode != c.status {
			t.Errorf("%s: %v %v", c.name, answer, err)
		}
	}
	// The header of the handshake signs in as well, and the page of the very host may connect.
	p, _, err := w.dial(http.Header{"Authorization": {"Bearer " + sam}, "Origin": {w.url}}, socket.TransportWS)
	if err != nil {
		t.Fatal(err)
	}
	p.send(`{"type":"connection_init"}`)
	if f := p.read(); f.Type != "connection_ack" {
		t.Errorf("instead of an ack: %v", f)
	}
	p.subscribe("1", `{ viewer { name } }`, nil)
	if got := text(t, p.next("1"), "viewer", "name"); got != "Sam Smith" {
		t.Errorf("viewer %s", got)
	}
}

func TestTheOlderProtocol(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, _, err := w.dial(nil, socket.LegacyWS)
	if err != nil {
		t.Fatal(err)
	}
	p.send(`{"type":"connection_init","payload":{"Authorization":"Bearer ` + sam + `"}}`)
	want := func(kind string) frame {
		t.Helper()
		for {
			if f := p.read(); f.Type == kind {
				return f
			} else if f.Type != "ka" {
				t.Fatalf("want %s, got %v %s", kind, f, f.Payload)
			}
		}
	}
	want("connection_ack")
	p.send(`{"id":"1","type":"start","payload":{"query":"{ viewer { name } }"}}`)
	if f := want("data"); !strings.Contains(string(f.Payload), "Sam Smith") {
		t.Errorf("data %s", f.Payload)
	}
	want("complete")
}

// A client that stops reading loses its socket after the write's deadline, and nobody else notices.
func TestStalledReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(d *graph.Deps) { d.Sockets.WriteTimeout = 300 * time.Millisecond })
	stalled, lively := w.connect(ada), w.connect(ada)
	w.begin(stalled, "1", nil)
	w.begin(lively, "1", nil)
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for ctx.Err() == nil {
			if r := w.ask(sam, `mutation($d: String!) { reportIncident(input: {description: $d}) { incident { id } } }`, map[string]any{"d": strings.Repeat("x", 30_000)}); len(r.Errors) > 0 {
				t.Errorf("reporting beside a stalled reader: %s", r.Body)
			}
		}
	})
	// What the stalled client has not read fills the buffers of both ends, a few megabytes.
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		waitFor(t, func() bool { return w.handler.Sockets() == 1 })
	}()
	last := ""
	for open := true; open; {
		select {
		case <-gone:
			open = false
		default:
			last = text(t, lively.next("1"), "incidentChanged", "cursor")
		}
	}
	cancel()
	writing.Wait()
	// It resumes where it likes.
	again := w.connect(ada)
	w.report(sam, "after")
	again.subscribe("1", changes, map[string]any{"a": last})
	again.next("1")
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	peers := []*peer{w.connect(sam), w.connect(ada)}
	for _, p := range peers {
		w.begin(p, "1", nil)
	}
	w.handler.Shutdown()
	for _, p := range peers {
		p.closes(websocket.CloseServiceRestart)
	}
	late, _, err := w.dial(nil, socket.TransportWS)
	if err != nil {
		t.Fatal(err)
	}
	late.closes(websocket.CloseServiceRestart)
	if n := w.handler.Sockets(); n != 0 {
		t.Errorf("%d sockets are still open", n)
	}
}

// When the feed stops, its subscribers hear that, and from where to go on.
func TestFeedStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.connect(sam)
	w.begin(p, "1", nil)
	w.report(sam, "a")
	cursor := text(t, p.next("1"), "incidentChanged", "cursor")
	w.stop()
	<-w.stopped
	f := p.read()
	if f.Type != "next" || !strings.Contains(string(f.Payload), "UNAVAILABLE") || !strings.Contains(string(f.Payload), cursor) {
		t.Errorf("the last word: %v %s", f.Type, f.Payload)
	}
	if f := p.read(); f.Type != "complete" {
		t.Errorf("then %v", f)
	}
}

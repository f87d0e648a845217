// Package socket carries GraphQL's WebSocket protocols over gorilla/websocket, as the implementation behind
// gqlgen's transport.
//
// gqlgen runs the operations; this package keeps the letter of graphql-transport-ws around it: the close codes
// 4400, 4401, 4408, 4409 and 4429, ids that may be used again after complete, and no message for an operation after
// its end. Every write has a deadline, so that a reader that stalls loses its socket instead of holding it, and
// every socket is pinged by frames that any WebSocket library answers by itself.
//
// Sockets are safe for concurrent use. Nothing is kept: after a crash clients connect again and resume with their
// last cursor.
package socket

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql/handler/transport"
	"github.com/gorilla/websocket"
)

// The subprotocols, the present one and its predecessor.
const (
	TransportWS = "graphql-transport-ws"
	LegacyWS    = "graphql-ws"
)

// Close codes of graphql-transport-ws.
const (
	CodeBadRequest      = 4400
	CodeUnauthorized    = 4401
	CodeInitTimeout     = 4408
	CodeDuplicateID     = 4409
	CodeTooManyInits    = 4429
	codeProtocolFailure = transport.WebsocketCloseProtocolError
)

// Options tune the sockets. The zero value is fit for production.
type Options struct {
	// WriteTimeout is how long a client may leave a message unread before its socket is closed: default 10 s.
	WriteTimeout time.Duration
	// Ping is the pause between pings: default 20 s. A socket that stays silent for two and a half pauses is closed.
	Ping time.Duration
	// Operations is the most that may run on one socket at once: default 100. More are answered RATE_LIMITED.
	Operations int
}

// Sockets accepts WebSockets and closes them at the end.
type Sockets struct {
	options  Options
	upgrader websocket.Upgrader

	mu     sync.Mutex
	open   map[*conn]struct{}
	closed bool
}

// New returns an acceptor of sockets.
func New(o Options) *Sockets {
	o.WriteTimeout, o.Ping, o.Operations = cmp.Or(o.WriteTimeout, 10*time.Second), cmp.Or(o.Ping, 20*time.Second), cmp.Or(o.Operations, 100)
	return &Sockets{options: o, open: map[*conn]struct{}{}, upgrader: websocket.Upgrader{
		HandshakeTimeout: o.WriteTimeout,
		ReadBufferSize:   1024,
		WriteBufferSize:  4096,
		WriteBufferPool:  &sync.Pool{},
		Subprotocols:     []string{TransportWS, LegacyWS},
		CheckOrigin:      SameOrigin,
		Error:            func(http.ResponseWriter, *http.Request, int, error) {}, // gqlgen answers
	}}
}

// SameOrigin reports whether a request comes from a page of this very host, or from no page at all.
func SameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// Offered reports whether a handshake offers a subprotocol that is spoken here.
func Offered(r *http.Request) bool {
	return slices.ContainsFunc(websocket.Subprotocols(r), func(p string) bool { return p == TransportWS || p == LegacyWS })
}

// Accept implements gqlgen's transport.WebsocketImplementation.
func (s *Sockets) Accept(w http.ResponseWriter, r *http.Request, _ transport.WebsocketAcceptOptions) (transport.WebsocketConn, error) {
	ws, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return nil, err
	}
	c := &conn{sockets: s, ws: ws, strict: ws.Subprotocol() == TransportWS, running: map[string]string{}, clientIDs: map[string]string{}}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		c.end(websocket.CloseServiceRestart, "the hub is stopping")
		return c, nil // an error would be answered over HTTP, on a connection that speaks it no more
	}
	s.open[c] = struct{}{}
	s.mu.Unlock()
	c.heard()
	ws.SetPongHandler(func(string) error { c.heard(); return nil })
	c.pinger = time.AfterFunc(s.options.Ping, c.ping)
	return c, nil
}

// Open returns how many sockets are open.
func (s *Sockets) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Shutdown closes every socket with a word of farewell (1012, service restart: clients connect again and resume)
// and accepts no more.
func (s *Sockets) Shutdown() {
	s.mu.Lock()
	s.closed = true
	open := make([]*conn, 0, len(s.open))
	for c := range s.open {
		open = append(open, c)
	}
	s.mu.Unlock()
	var farewells sync.WaitGroup
	for _, c := range open {
		farewells.Go(func() { c.end(websocket.CloseServiceRestart, "the hub is stopping") })
	}
	farewells.Wait()
}

// conn is one socket.
type conn struct {
	sockets *Sockets
	ws      *websocket.Conn
	strict  bool // graphql-transport-ws
	pinger  *time.Timer

	writing sync.Mutex // one writer at a time
	ending  sync.Once

	mu           sync.Mutex
	inits        int
	acknowledged bool
	operations   uint64            // begun so far
	running      map[string]string // the client's id of each operation that runs -> ours
	clientIDs    map[string]string // and back
}

// message is a message of graphql-transport-ws.
type message struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

func (c *conn) Subprotocol() string { return c.ws.Subprotocol() }

func (c *conn) SetReadLimit(limit int64) { c.ws.SetReadLimit(limit) }

// heard gives the peer another while to be silent.
func (c *conn) heard() {
	_ = c.ws.SetReadDeadline(time.Now().Add(c.sockets.options.Ping * 5 / 2)) // fails only on a closed socket, which the next read tells
}

func (c *conn) ping() {
	if err := c.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(c.sockets.options.WriteTimeout)); err != nil {
		_ = c.Close()
		return
	}
	c.pinger.Reset(c.sockets.options.Ping)
}

// NextReader returns the next message that gqlgen is to see.
func (c *conn) NextReader() (int, io.Reader, error) {
	for {
		kind, r, err := c.ws.NextReader()
		if err != nil {
			return 0, nil, c.left(err)
		}
		c.heard()
		if !c.strict {
			return kind, r, nil
		}
		body, err := io.ReadAll(r)
		if err != nil {
			return 0, nil, c.left(err)
		}
		var m message
		if kind != websocket.TextMessage || json.Unmarshal(body, &m) != nil {
			return 0, nil, c.refuse(CodeBadRequest, "a message is one JSON object with a type")
		}
		pass, err := c.judge(&m)
		if err != nil {
			return 0, nil, err
		}
		if pass {
			body, err := json.Marshal(m)
			return kind, bytes.NewReader(body), err
		}
	}
}

// judge decides on a message by the protocol's letter: pass it on, deal with it here, or end the socket.
func (c *conn) judge(m *message) (pass bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch m.Type {
	case "connection_init":
		if c.inits++; c.inits > 1 {
			return false, c.refuse(CodeTooManyInits, "Too many initialisation requests")
		}
		if p := bytes.TrimSpace(m.Payload); len(p) > 0 && p[0] != '{' && string(p) != "null" {
			return false, c.refuse(CodeBadRequest, "the payload of connection_init is an object")
		}
		return true, nil
	case "ping":
		return false, c.send(message{Type: "pong", Payload: m.Payload})
	case "pong":
		return false, nil
	case "subscribe":
		return c.begin(m)
	case "complete":
		ours, ok := c.running[m.ID]
		if ok {
			delete(c.running, m.ID)
			delete(c.clientIDs, ours)
			m.ID = ours
		}
		return ok, nil // an operation that has just ended by itself is completed by both sides
	}
	return false, c.refuse(CodeBadRequest, "the type of a message is unknown, or not for clients to send")
}

// begin admits an operation. It gets an id of our own, so that the client may use its id again at once after
// complete, while gqlgen is still winding the old operation up.
func (c *conn) begin(m *message) (pass bool, err error) {
	_, taken := c.running[m.ID]
	switch {
	case !c.acknowledged:
		return false, c.refuse(CodeUnauthorized, "not signed in: send connection_init first")
	case m.ID == "" || len(m.Payload) == 0:
		return false, c.refuse(CodeBadRequest, "subscribe needs an id and a payload")
	case taken:
		return false, c.refuse(CodeDuplicateID, "Subscriber for "+m.ID+" already exists")
	case len(c.running) >= c.sockets.options.Operations:
		payload, err := json.Marshal([]any{map[string]any{
			"message":    "too many operations run on this socket, at most " + strconv.Itoa(c.sockets.options.Operations) + "; complete some or open another",
			"extensions": map[string]any{"code": "RATE_LIMITED"},
		}})
		if err != nil {
			return false, err
		}
		return false, c.send(message{ID: m.ID, Type: "error", Payload: payload})
	}
	c.operations++
	ours := strconv.FormatUint(c.operations, 10)
	c.running[m.ID], c.clientIDs[ours] = ours, m.ID
	m.ID = ours
	return true, nil
}

// WriteJSON writes a message of gqlgen's, unless the protocol has no place for it any more.
func (c *conn) WriteJSON(v any) error {
	if !c.strict {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return c.write(b)
	}
	m := messageOf(v)
	c.mu.Lock()
	switch m.Type {
	case "connection_ack":
		c.acknowledged = true
	case "next", "error", "complete":
		ours := m.ID
		client, runs := c.clientIDs[ours]
		if !runs {
			c.mu.Unlock()
			return nil
		}
		if m.ID = client; m.Type != "next" {
			delete(c.running, client)
			delete(c.clientIDs, ours)
		}
	}
	c.mu.Unlock()
	return c.send(m)
}

// messageOf reads gqlgen's message, whose type it does not export.
func messageOf(v any) message {
	m := reflect.Indirect(reflect.ValueOf(v))
	payload, _ := m.FieldByName("Payload").Interface().(json.RawMessage)
	return message{ID: m.FieldByName("ID").String(), Type: m.FieldByName("Type").String(), Payload: payload}
}

func (c *conn) send(m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return c.write(b)
}

// write ends the socket when it fails: half a message may be on its way, and the reader must learn of it.
func (c *conn) write(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	err := c.ws.SetWriteDeadline(time.Now().Add(c.sockets.options.WriteTimeout))
	if err == nil {
		err = c.ws.WriteMessage(websocket.TextMessage, b)
	}
	if err != nil {
		_ = c.Close()
	}
	return err
}

// WriteClose sends a close frame, with the protocol's own codes where gqlgen knows only RFC 6455's.
func (c *conn) WriteClose(code int, reason string) error {
	if c.strict && code == codeProtocolFailure {
		switch reason {
		case "connection initialisation timeout":
			code, reason = CodeInitTimeout, "Connection initialisation timeout"
		default:
			code = CodeBadRequest
		}
	}
	c.end(code, reason)
	return nil
}

// refuse ends the socket over a client's fault. The error makes gqlgen stop without a word of its own.
func (c *conn) refuse(code int, reason string) error {
	c.end(code, reason)
	return transport.ErrWebsocketClosed
}

// end closes the socket, once. A close frame's reason has room for 123 bytes.
func (c *conn) end(code int, reason string) {
	c.ending.Do(func() {
		if len(reason) > 120 {
			reason = strings.ToValidUTF8(reason[:120], "")
		}
		_ = c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(time.Second))
	})
	_ = c.Close()
}

func (c *conn) Close() error {
	if c.pinger != nil {
		c.pinger.Stop()
	}
	c.sockets.mu.Lock()
	delete(c.sockets.open, c)
	c.sockets.mu.Unlock()
	return c.ws.Close()
}

// left tells an ordinary farewell from a failure.
func (c *conn) left(err error) error {
	_ = c.Close()
	if websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived) {
		return transport.ErrWebsocketClosed
	}
	return err
}

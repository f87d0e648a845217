package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"

	"liaison/internal/incident"
)

// wallQuery is what a wall board subscribes to.
const wallQuery = `subscription Wall($after: String) { incidentChanged(after: $after) { cursor kind incident { id number title state priority } } }`

// patience bounds the wait for messages; only a run that loses one uses it up.
const patience = 30 * time.Second

// openFanout compares subscriptions to changes with a plain broadcast of the same bytes to as many sockets. Each side
// has its sockets open only while it is measured.
func openFanout(ctx context.Context, w *world) (*row, error) {
	ids, err := w.incidentsOf(ctx, "subscribers")
	if err != nil {
		return nil, err
	}
	f := &fanout{w: w, incidents: ids}
	// A round ahead of all others tells what the bytes of a change are.
	if _, err := f.subscriptions(ctx, 0); err != nil {
		return nil, err
	}
	n, burst := w.settings.sizes.Subscribers, w.settings.sizes.Burst
	return &row{
		title:   fmt.Sprintf("one change heard by %d WebSocket subscribers with the same rights (%d bytes each); rates in bursts of %d changes", n, len(f.change), burst),
		unit:    "messages/s",
		latency: "of a change alone: Liaison from its commit, bare from the first write, to the last of all clients",
		peers:   []contender{{name: fmt.Sprintf("gorilla/websocket, one prepared message, %d writing goroutines", runtime.GOMAXPROCS(0)), run: f.broadcasts}},
		liaison: []contender{{name: "incidentChanged over graphql-transport-ws", run: f.subscriptions}},
		facts:   told("a burst's time begins before its first append, so it holds the commits, the sequencer and the tail; every client's count is checked"),
	}, nil
}

// fanout is the row's state.
type fanout struct {
	w         *world
	incidents []incident.ID
	change    []byte // a message as a subscriber gets it
}

// subscriptions is Liaison's side.
func (f *fanout) subscriptions(ctx context.Context, d time.Duration) (sample, error) {
	h, err := f.w.serving(ctx, f.w.db)
	if err != nil {
		return sample{}, err
	}
	defer h.stop()
	c := newCrowd(f.w.settings.sizes.Subscribers)
	defer c.leave()
	if err := c.subscribe(ctx, h.url+"/graphql", token(f.w.organisations["subscribers"]), h.feed.Now()); err != nil {
		return sample{}, fmt.Errorf("subscribing: %w", err)
	}
	changes := func(ctx context.Context, k int) (time.Time, error) {
		group, ctx := errgroup.WithContext(ctx)
		for i := range k {
			group.Go(func() error { return f.w.retitle(ctx, h.ledger, "subscribers", f.incidents[i]) })
		}
		err := group.Wait()
		return time.Now(), err
	}
	// Everybody is there when everybody has heard of a first change; the cursor makes sure that nobody misses it.
	if _, _, err := c.hear(ctx, 1, changes); err != nil {
		return sample{}, err
	}
	f.change = c.first()
	if d == 0 {
		return sample{}, nil
	}
	return c.measure(ctx, d, f.w.cpu, f.w.settings.sizes.Burst, changes)
}

// broadcasts is the peer's side.
func (f *fanout) broadcasts(ctx context.Context, d time.Duration) (sample, error) {
	b := newBroadcaster(f.w.settings.sizes.Subscribers)
	defer b.server.Close()
	var err error
	if b.message, err = websocket.NewPreparedMessage(websocket.TextMessage, f.change); err != nil {
		return sample{}, err
	}
	c := newCrowd(f.w.settings.sizes.Subscribers)
	defer c.leave()
	if err := c.dial(ctx, b.server.URL, nil, nil); err != nil {
		return sample{}, fmt.Errorf("connecting to the bare server: %w", err)
	}
	for range f.w.settings.sizes.Subscribers { // a client may know of its connection before the server does
		select {
		case <-b.joined:
		case <-ctx.Done():
			return sample{}, context.Cause(ctx)
		}
	}
	changes := func(_ context.Context, k int) (time.Time, error) {
		began := time.Now()
		return began, b.broadcast(k)
	}
	if _, _, err := c.hear(ctx, 1, changes); err != nil {
		return sample{}, err
	}
	return c.measure(ctx, d, f.w.cpu, f.w.settings.sizes.Burst, changes)
}

// crowd is many clients in this process.
type crowd struct {
	conns []*websocket.Conn
	got   []atomic.Int64 // messages, by client

	total   atomic.Int64
	want    atomic.Int64
	reached chan time.Time // when total came to want
	broken  chan error
	leaving atomic.Bool
	reading sync.WaitGroup

	sample atomic.Pointer[[]byte]  // the first client's first message
	heard  func([]byte, time.Time) // if not nil, is handed each message; it must not keep the bytes
}

func newCrowd(n int) *crowd {
	return &crowd{conns: make([]*websocket.Conn, n), got: make([]atomic.Int64, n), reached: make(chan time.Time, 1), broken: make(chan error, 1)}
}

// dial connects all clients, lets each say hello, and begins to read.
func (c *crowd) dial(ctx context.Context, url string, header http.Header, hello func(*websocket.Conn) error) error {
	dialer := &websocket.Dialer{Subprotocols: []string{"graphql-transport-ws"}, HandshakeTimeout: patience, ReadBufferSize: 1024, WriteBufferSize: 1024}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for n := range c.conns {
		group.Go(func() error {
			conn, resp, err := dialer.DialContext(ctx, "ws"+strings.TrimPrefix(url, "http"), header)
			if err != nil {
				return err
			}
			resp.Body.Close()
			c.conns[n] = conn
			if hello == nil {
				return nil
			}
			return hello(conn)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for n, conn := range c.conns {
		c.reading.Go(func() {
			if err := c.read(n, conn); err != nil && !c.leaving.Load() {
				select {
				case c.broken <- fmt.Errorf("client %d: %w", n, err):
				default:
				}
			}
		})
	}
	return nil
}

// subscribe connects all clients and subscribes each to what happens after a cursor.
func (c *crowd) subscribe(ctx context.Context, url, token, after string) error {
	wanted, err := json.Marshal(map[string]any{"id": "1", "type": "subscribe", "payload": map[string]any{"query": wallQuery, "variables": map[string]any{"after": after}}})
	if err != nil {
		return err
	}
	return c.dial(ctx, url, http.Header{"Authorization": {"Bearer " + token}}, func(conn *websocket.Conn) error {
		if err := conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"connection_init"}`)); err != nil {
			return err
		}
		_, answer, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		if !bytes.Contains(answer, []byte(`"connection_ack"`)) {
			return fmt.Errorf("the hub answered %s", answer)
		}
		return conn.WriteMessage(websocket.TextMessage, wanted)
	})
}

func (c *crowd) read(n int, conn *websocket.Conn) error {
	message := make([]byte, 4<<10)
	for {
		_, r, err := conn.NextReader()
		if err != nil {
			return err
		}
		size := 0
		for err == nil {
			var more int
			more, err = r.Read(message[size:])
			if size += more; size == len(message) {
				return errors.New("a message is longer than any should be")
			}
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
		if !bytes.Contains(message[:size], []byte(`"next"`)) || bytes.Contains(message[:size], []byte(`"errors"`)) {
			return fmt.Errorf("the server said %s", message[:size])
		}
		if c.heard != nil {
			c.heard(message[:size], time.Now())
		}
		if c.got[n].Add(1) == 1 && n == 0 {
			first := bytes.Clone(message[:size])
			c.sample.Store(&first)
		}
		if c.total.Add(1) == c.want.Load() {
			c.reached <- time.Now()
		}
	}
}

// first returns the first client's first message, once hear has returned.
func (c *crowd) first() []byte { return *c.sample.Load() }

// happening makes k changes and tells from when on a single one is late.
type happening func(ctx context.Context, k int) (time.Time, error)

// hear makes k changes happen and waits until every client has heard of all of them. It returns what happen told
// and when the last client had the last message.
func (c *crowd) hear(ctx context.Context, k int, happen happening) (since, last time.Time, err error) {
	c.want.Store(c.total.Load() + int64(k*len(c.conns)))
	if since, err = happen(ctx, k); err != nil {
		return since, last, err
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case last = <-c.reached:
		return since, last, nil
	case err := <-c.broken:
		return since, last, err
	case <-ctx.Done():
		return since, last, context.Cause(ctx)
	case <-late.C:
		return since, last, fmt.Errorf("after %s %d messages are missing", patience, c.want.Load()-c.total.Load())
	}
}

// measure spends half of the time on bursts, for the rate, and half on single changes, for the latency.
func (c *crowd) measure(ctx context.Context, d time.Duration, spent func() cpu, burst int, happen happening) (sample, error) {
	var out sample
	before := spent()
	for began := time.Now(); time.Since(began) < d/2 || out.count == 0; {
		start := time.Now()
		_, last, err := c.hear(ctx, burst, happen)
		if err != nil {
			return out, err
		}
		out.took += last.Sub(start)
		out.count += burst * len(c.conns)
	}
	out.spent = spent().since(before)
	for began := time.Now(); time.Since(began) < d/2 || len(out.latencies) == 0; {
		since, last, err := c.hear(ctx, 1, happen)
		if err != nil {
			return out, err
		}
		out.latencies = append(out.latencies, max(0, last.Sub(since)))
	}
	return out, c.even()
}

// even makes sure that every client has heard as much as every other: nothing lost, nothing twice.
func (c *crowd) even() error {
	for n := range c.got {
		if got, want := c.got[n].Load(), c.got[0].Load(); got != want || c.total.Load() != want*int64(len(c.got)) {
			return fmt.Errorf("client %d has heard %d messages, client 0 %d", n, got, want)
		}
	}
	return nil
}

// leave closes all sockets.
func (c *crowd) leave() {
	c.leaving.Store(true)
	for _, conn := range c.conns {
		if conn != nil {
			_ = conn.Close() // the row is over
		}
	}
	c.reading.Wait()
}

// broadcaster is the peer: it knows its sockets and nothing else.
type broadcaster struct {
	server  *httptest.Server
	message *websocket.PreparedMessage
	joined  chan struct{} // one for each socket

	mu    sync.Mutex
	conns []*websocket.Conn
}

func newBroadcaster(n int) *broadcaster {
	b := &broadcaster{joined: make(chan struct{}, n)}
	upgrader := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 4096, WriteBufferPool: &sync.Pool{}}
	b.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(rw, r, nil)
		if err != nil {
			return // the upgrader has answered
		}
		defer conn.Close()
		b.mu.Lock()
		b.conns = append(b.conns, conn)
		b.mu.Unlock()
		b.joined <- struct{}{}
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	}))
	return b
}

// broadcast sends k messages to everybody, each goroutine to its share of the sockets.
func (b *broadcaster) broadcast(k int) error {
	b.mu.Lock()
	conns := b.conns
	b.mu.Unlock()
	var group errgroup.Group
	shards := runtime.GOMAXPROCS(0)
	for shard := range shards {
		group.Go(func() error {
			for range k {
				for n := shard; n < len(conns); n += shards {
					if err := conns[n].WritePreparedMessage(b.message); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return group.Wait()
}

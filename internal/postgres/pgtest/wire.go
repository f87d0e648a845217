package pgtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Wire is a loopback proxy before a database that reads the protocol as it passes, and can cut a connection between
// COMMIT and its answer, whether COMMIT is sent alone or with other statements.
type Wire struct {
	URL string // of the same database, through the proxy

	mu      sync.Mutex
	nth     int  // the how-manieth commit from now is cut; 0: none
	reaches bool // the server gets it and carries it out
	cuts    int
}

// NewWire puts a proxy before the database at the given URL. It ends with the test.
func NewWire(t testing.TB, database string) *Wire {
	t.Helper()
	config, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	network, address := "tcp", net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	if filepath.IsAbs(config.Host) {
		network, address = "unix", filepath.Join(config.Host, ".s.PGSQL."+strconv.Itoa(int(config.Port)))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: listener.Addr().String(),
		Path: "/" + config.Database, RawQuery: "sslmode=disable",
	}
	w := &Wire{URL: u.String()}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(network, address)
			if err != nil {
				client.Close()
				continue
			}
			p := &passage{wire: w, client: client, server: server, statements: map[string]string{}, portals: map[string]string{}, dropAnswer: make(chan struct{})}
			go p.requests()
			go p.answers()
		}
	}()
	return w
}

// CutCommit cuts the connection that sends the nth commit from now on, once: after the server has carried it out and
// before the client hears of it, or, when it does not reach the server, instead of passing it on. The client cannot
// tell the two apart.
func (w *Wire) CutCommit(nth int, reaches bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nth, w.reaches = nth, reaches
}

// Spare takes a CutCommit back that has not struck yet.
func (w *Wire) Spare() { w.CutCommit(0, false) }

// Cuts is how many connections were cut so far.
func (w *Wire) Cuts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cuts
}

// commits counts a commit that is about to be passed on, and tells what becomes of it.
func (w *Wire) commits() (cut, reaches bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nth == 0 {
		return false, true
	}
	if w.nth--; w.nth > 0 {
		return false, true
	}
	w.cuts++
	return true, w.reaches
}

// passage is one connection.
type passage struct {
	wire           *Wire
	client, server net.Conn
	statements     map[string]string // prepared, by name
	portals        map[string]string // bound, by name
	dropAnswer     chan struct{}     // closed when the answer to a commit is to be lost
}

func (p *passage) close() {
	p.client.Close()
	p.server.Close()
}

// requests carries what the client says.
func (p *passage) requests() {
	defer p.close()
	in := bufio.NewReader(p.client)
	opening := make([]byte, 4) // the first message has no type
	if _, err := io.ReadFull(in, opening); err != nil {
		return
	}
	rest := make([]byte, max(int(binary.BigEndian.Uint32(opening))-4, 0))
	if _, err := io.ReadFull(in, rest); err != nil {
		return
	}
	if _, err := p.server.Write(slices.Concat(opening, rest)); err != nil {
		return
	}
	for {
		frame, err := readFrame(in)
		if err != nil {
			return
		}
		if p.isCommit(frame) {
			switch cut, reaches := p.wire.commits(); {
			case cut && !reaches:
				return
			case cut:
				close(p.dropAnswer)
			}
		}
		if _, err := p.server.Write(frame); err != nil {
			return
		}
	}
}

// answers carries what the server says.
func (p *passage) answers() {
	defer p.close()
	in := bufio.NewReader(p.server)
	for {
		frame, err := readFrame(in)
		if err != nil {
			return
		}
		select {
		case <-p.dropAnswer:
			if frame[0] == 'C' && bytes.HasPrefix(frame[5:], []byte("COMMIT")) {
				return
			}
		default:
		}
		if _, err := p.client.Write(frame); err != nil {
			return
		}
	}
}

// isCommit tells whether a message makes the server commit.
func (p *passage) isCommit(frame []byte) bool {
	body := frame[5:]
	switch frame[0] {
	case 'Q':
		var m pgproto3.Query
		return m.Decode(body) == nil && isCommit(m.String)
	case 'P':
		var m pgproto3.Parse
		if m.Decode(body) == nil {
			p.statements[m.Name] = m.Query
		}
	case 'B':
		var m pgproto3.Bind
		if m.Decode(body) == nil {
			p.portals[m.DestinationPortal] = p.statements[m.PreparedStatement]
		}
	case 'E':
		var m pgproto3.Execute
		return m.Decode(body) == nil && isCommit(p.portals[m.Portal])
	}
	return false
}

func isCommit(sql string) bool { return strings.EqualFold(strings.Trim(sql, " ;\n"), "commit") }

// readFrame reads a message with its type and length.
func readFrame(in *bufio.Reader) ([]byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, err
	}
	frame := make([]byte, 5+max(int(binary.BigEndian.Uint32(head[1:]))-4, 0))
	copy(frame, head)
	_, err := io.ReadFull(in, frame[5:])
	return frame, err
}

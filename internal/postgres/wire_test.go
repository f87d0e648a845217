package postgres_test

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// wire is a loopback TCP proxy before a test database. It counts round trips and can lose an answer.
type wire struct {
	url string

	mu         sync.Mutex
	trips      int
	fromServer bool   // the last bytes came from the server
	loseAfter  []byte // when the client sends this, the connection is cut as soon as the server answers
}

func newWire(t *testing.T, databaseURL string) *wire {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
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
	w := &wire{url: u.String(), fromServer: true}
	network, address := pgxAddress(config)
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
			go w.carry(client, server)
		}
	}()
	return w
}

func pgxAddress(config *pgx.ConnConfig) (network, address string) {
	if config.Host[0] == '/' {
		return "unix", config.Host + "/.s.PGSQL.5432"
	}
	return "tcp", net.JoinHostPort(config.Host, "5432")
}

func (w *wire) carry(client, server net.Conn) {
	var lost sync.Once
	cut := make(chan struct{})
	go func() {
		defer server.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := client.Read(buffer)
			if n > 0 {
				w.mu.Lock()
				if w.fromServer {
					w.trips++
				}
				w.fromServer = false
				if len(w.loseAfter) > 0 && bytes.Contains(buffer[:n], w.loseAfter) {
					w.loseAfter = nil
					lost.Do(func() { close(cut) })
				}
				w.mu.Unlock()
				if _, err := server.Write(buffer[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	defer client.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if n > 0 {
			select {
			case <-cut:
				return
			default:
			}
			w.mu.Lock()
			w.fromServer = true
			w.mu.Unlock()
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// during counts the round trips of fn.
func (w *wire) during(fn func()) int {
	w.mu.Lock()
	w.trips = 0
	w.mu.Unlock()
	fn()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trips
}

func (w *wire) loseAnswerTo(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loseAfter = []byte(text)
}

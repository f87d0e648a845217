package graph_test

import (
	"encoding/json"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"liaison/graph"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/ledger"
)

// gate stands before a database and can be shut: then there are no sessions, and whoever asks for one hears why.
type gate struct {
	url string

	mu      sync.Mutex
	refusal string // SQLSTATE; empty: open
	asked   chan struct{}
	open    []net.Conn
}

func newGate(t *testing.T, database string) *gate {
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
	u := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: listener.Addr().String(), Path: "/" + config.Database, RawQuery: "sslmode=disable"}
	g := &gate{url: u.String(), asked: make(chan struct{}, 1)}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go g.admit(client, network, address)
		}
	}()
	return g
}

func (g *gate) admit(client net.Conn, network, address string) {
	defer client.Close()
	g.mu.Lock()
	refusal := g.refusal
	if refusal == "" {
		g.open = append(g.open, client)
	}
	g.mu.Unlock()
	if refusal != "" {
		backend := pgproto3.NewBackend(client, client)
		if _, err := backend.ReceiveStartupMessage(); err != nil {
			return
		}
		backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: refusal, Message: "could not write init file"})
		_ = backend.Flush() // the client may have left
		select {
		case g.asked <- struct{}{}:
		default:
		}
		return
	}
	server, err := net.Dial(network, address)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, client) // either side may be cut
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}

// shut ends all sessions and refuses new ones.
func (g *gate) shut(state string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refusal = state
	for _, conn := range g.open {
		conn.Close()
	}
	g.open = nil
}

func (g *gate) reopen() { g.shut("") }

// reads has everything that GraphQL reads go through the gate.
func (g *gate) reads(t *testing.T) func(*graph.Deps) {
	t.Helper()
	db := pgtest.Open(t, g.url, postgres.Options{AppConns: 4, SystemConns: 2})
	return func(d *graph.Deps) { d.Reader = ledger.NewReader(db) }
}

// A database that cannot set up a session, because its disk is full or for any other trouble of its own, is away: callers are
// told to come again, and the operators are not told of a fault in the hub.
func TestADatabaseThatGivesNoSessionIsAway(t *testing.T) {
	t.Parallel()
	at := pgtest.URL(t)
	g := newGate(t, at)
	w := newWorldAt(t, at, g.reads(t))
	const list = `{ incidents(first: 1) { nodes { id } } }`
	w.must(sam, list, nil)
	for _, state := range []string{"XX000", "58P01", "28P01"} { // the last: the password was changed under the running hub
		g.shut(state)
		refused(t, w.ask(sam, list, nil), "UNAVAILABLE", "", "nothing was stored or read")
	}
	g.reopen()
	w.must(sam, list, nil)
	if logged := w.logs.String(); strings.Contains(logged, "level=ERROR") || !strings.Contains(logged, "answering a request without the database") {
		t.Errorf("the log says\n%s", logged)
	}
}

// What an event refers to is read when it is told. A subscription waits for that while the database is away, tells the event
// whole, and leaves none out.
func TestASubscriptionWaitsForWhatItsEventsReferTo(t *testing.T) {
	t.Parallel()
	at := pgtest.URL(t)
	g := newGate(t, at)
	w := newWorldAt(t, at, g.reads(t))
	w.report(sam, "Printer")
	waitFor(t, func() bool {
		var stamped bool
		err := w.db.System.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM feed) = (SELECT count(*) FROM ledger_entry)`).Scan(&stamped)
		return err != nil || stamped
	})
	cursor, err := w.feed.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := w.connect(sam)
	p.subscribe("1", `subscription($a: String) { incidentChanged(after: $a) { entry { kind comment { body author } } } }`, map[string]any{"a": cursor})
	g.shut("XX000")
	say := func(body string) {
		w.exec(`INSERT INTO comment (organisation_id, id, incident_id, visibility, body, author, at) SELECT organisation_id, gen_random_uuid(), id, 'PUBLIC', $1, 'Sam', now() FROM incident`, body)
		w.exec(`INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, comment_id, at)
			SELECT i.organisation_id, i.id, (SELECT max(e.version) + 1 FROM ledger_entry e WHERE e.incident_id = i.id), 'COMMENTED', 'PERSON', 'Sam', c.id, now() FROM incident i JOIN comment c ON c.body = $1`, body)
	}
	say("first")
	say("second")
	w.bell.Ring(ledger.TopicEntries)
	<-g.asked // the first event is being told
	g.reopen()
	for _, want := range []string{"first", "second"} {
		event := p.next("1")
		b, _ := json.Marshal(event)
		if got := `{"incidentChanged":{"entry":{"comment":{"author":"Sam","body":"` + want + `"},"kind":"COMMENTED"}}}`; string(b) != got {
			t.Errorf("told %s, want %s", b, got)
		}
	}
	if strings.Contains(w.logs.String(), "level=ERROR") {
		t.Errorf("the log says\n%s", w.logs)
	}
}

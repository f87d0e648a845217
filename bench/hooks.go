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
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"liaison/connectors"
	"liaison/connectors/servicenow"
	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/config"
	"liaison/internal/incident"
	"liaison/sync/inbound"
	"liaison/sync/ledger"
	"liaison/sync/mapping"
	"liaison/sync/outbound"
	"liaison/sync/pulse"
	"liaison/sync/system"
)

// hookSecret is what the vendor shows at the door.
const hookSecret = "bench"

// hooks is the way from a vendor's webhook to a subscriber.
type hooks struct {
	w       *world
	sim     *servicenowtest.Server
	server  *httptest.Server // the simulator's
	client  *http.Client     // of whoever posts webhooks
	system  *system.System
	tickets []servicenowtest.Ticket
	lone    *bareAppend
	others  []incident.ID // that the peer writes, so that no base of a link is left behind
}

// newHooks opens as many tickets in a fresh simulator as there are incidents to follow them, and has a hub read each
// once, so that from then on both sides agree. Its close must be called.
func newHooks(ctx context.Context, w *world) (_ *hooks, err error) {
	h := &hooks{w: w, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: hands}, Timeout: patience}}
	if h.sim, err = servicenowtest.New(servicenowtest.Config{Seed: uint64(w.settings.seed)}); err != nil {
		return nil, err
	}
	h.server = httptest.NewServer(h.sim)
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	h.sim.URL = h.server.URL
	var ids, numbers, titles []string
	for range w.settings.sizes.Tickets {
		t, err := h.sim.Open(servicenowtest.Move{Title: title(0), Priority: "5"})
		if err != nil {
			return nil, fmt.Errorf("opening a ticket: %w", err)
		}
		h.tickets = append(h.tickets, t)
		ids, numbers, titles = append(ids, t.SysID), append(numbers, t.Number), append(titles, t.ShortDescription)
	}
	// Another simulator's tickets may have been there before, and what was agreed on about them.
	for _, sql := range []string{"UPDATE external_link SET external_id = id::text, base = '{}', remote_version = '', journal_mark = '' WHERE system_id = $1", "DELETE FROM poll WHERE system_id = $1"} {
		if _, err := w.bare.Exec(ctx, sql, int64(w.systems["hooks"])); err != nil {
			return nil, err
		}
	}
	if _, err := w.bare.Exec(ctx, statement("tickets"), int64(w.organisations["hooks"]), ids, numbers, titles); err != nil {
		return nil, fmt.Errorf("linking the tickets: %w", err)
	}
	if _, err := w.bare.Exec(ctx, "CREATE TABLE IF NOT EXISTS bench_inbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body jsonb NOT NULL, at timestamptz NOT NULL)"); err != nil {
		return nil, err
	}
	if h.system, err = h.connect(); err != nil {
		return nil, err
	}
	if h.others, err = w.incidentsOf(ctx, "appends"); err != nil {
		return nil, err
	}
	if h.lone, err = newBareAppend(ctx, w); err != nil {
		return nil, err
	}
	if err := h.agree(ctx); err != nil {
		return nil, fmt.Errorf("having the hub read every ticket: %w", err)
	}
	return h, nil
}

func (h *hooks) close() error {
	h.client.CloseIdleConnections()
	h.server.Close()
	return h.sim.Close()
}

// connect makes the system as the binary does, with more calls at a time than by default.
func (h *hooks) connect() (*system.System, error) {
	defaults, calls := config.DefaultSystem(), h.w.settings.sizes.Calls
	c, err := servicenow.New(connectors.Config{
		Key: "hooks", URL: h.server.URL, Timeout: defaults.Timeout, Concurrency: calls,
		Auth: connectors.Credentials{Basic: &connectors.Basic{User: servicenowtest.DefaultUser, Password: connectors.NewSecret(servicenowtest.DefaultPassword)}},
	})
	if err != nil {
		return nil, err
	}
	words, err := mapping.Load("connectors/servicenow/mapping.yaml", servicenow.Mapping())
	if err != nil {
		return nil, err
	}
	return &system.System{
		ID: h.w.systems["hooks"], Key: "hooks", Name: "hooks", Connector: c, Mapping: words, Concurrency: calls,
		CallTimeout: defaults.Timeout, SettleWindow: c.Traits().SettleWindow, PollInterval: defaults.Poll.Interval,
	}, nil
}

// serving starts a hub with all that the binary has for a system.
func (h *hooks) serving(ctx context.Context) (*hub, error) {
	out, err := h.w.hub(ctx, h.w.db)
	if err != nil {
		return nil, err
	}
	secret := connectors.NewSecret(hookSecret)
	monitor := pulse.New(out.db, []*system.System{h.system}, pulse.Options{Log: out.log})
	beat := monitor.Of(h.system.Key)
	out.hooks = inbound.NewHooks(out.db, out.bell, []inbound.Door{{System: h.system, Header: config.DefaultSystem().Webhook.Header, Secret: secret, Pulse: beat}},
		int64(config.Default().Limits.WebhookBytes), time.Now, out.log)
	in := inbound.Options{Log: out.log, Pulse: beat, Hooked: true}
	poller := inbound.NewPoller(out.db, out.ledger, h.system, out.bell, in)
	in.Wake = out.bell.Subscribe(inbound.TopicInbox)
	reader := inbound.NewReader(out.db, out.ledger, h.system, in)
	worker := outbound.NewWorker(out.ledger, h.system, outbound.Options{Log: out.log, Wake: out.bell.Subscribe(ledger.TopicLanes), Pulse: beat})
	out.run(ctx, monitor.Run, worker.Run, poller.Run, reader.Run)
	if err := h.w.serve(out); err != nil {
		out.stop()
		return nil, err
	}
	return out, nil
}

// agree has a hub read every ticket: its first poll asks for all that are followed.
func (h *hooks) agree(ctx context.Context) error {
	began := time.Now()
	out, err := h.serving(ctx)
	if err != nil {
		return err
	}
	defer out.stop()
	for {
		var missing int
		err := h.w.bare.QueryRow(ctx, `SELECT (SELECT count(*) FROM external_link WHERE system_id = $1 AND base = '{}')
			+ (SELECT count(*) FROM inbox WHERE system_id = $1 AND state = 'WAITING') + (SELECT count(*) FROM lane WHERE system_id = $1 AND due_at IS NOT NULL)`,
			int64(h.system.ID)).Scan(&missing)
		if err != nil {
			return err
		}
		if missing == 0 {
			break
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	h.w.log.InfoContext(ctx, "the hub has read every ticket", "tickets", len(h.tickets), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// listen connects one subscriber, who tells a stopwatch of what it is sent.
func listen(clock *stopwatch) *crowd {
	c := newCrowd(1)
	c.heard = func(body []byte, at time.Time) {
		if n, ok := serial(body); ok {
			clock.arrive(n, at)
		}
	}
	return c
}

// act changes a ticket's title and posts what a business rule of the vendor's would.
func (h *hooks) act(ctx context.Context, to string, turn int, n int64) (time.Time, error) {
	t, err := h.sim.Act(h.tickets[turn].SysID, servicenowtest.Move{Title: title(n)})
	if err != nil {
		return time.Time{}, err
	}
	body, err := json.Marshal(map[string]string{
		"table": "incident", "operation": "update", "sys_id": t.SysID, "number": t.Number, "state": t.State, "short_description": t.ShortDescription,
		"priority": t.Priority, "sys_mod_count": t.SysModCount, "sys_updated_on": t.SysUpdatedOn, "sys_updated_by": t.SysUpdatedBy,
	})
	if err != nil {
		return time.Time{}, err
	}
	at := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return at, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(config.DefaultSystem().Webhook.Header, hookSecret)
	resp, err := h.client.Do(req)
	if err != nil {
		return at, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("the webhook was answered %s: %.300s", resp.Status, answer)
	}
	return at, err
}

// hub is Liaison's way.
func (h *hooks) hub(ctx context.Context) (*route, error) {
	out, err := h.serving(ctx)
	if err != nil {
		return nil, err
	}
	clock := newStopwatch()
	wall := listen(clock)
	if err := wall.subscribe(ctx, out.url+"/graphql", token(h.w.organisations["hooks"]), out.feed.Now()); err != nil {
		wall.leave()
		out.stop()
		return nil, fmt.Errorf("subscribing: %w", err)
	}
	return &route{
		clock: clock, turns: len(h.tickets), broken: wall.broken,
		send: func(ctx context.Context, turn int, n int64) (time.Time, error) {
			return h.act(ctx, out.url+"/hooks/"+h.system.Key, turn, n)
		},
		stop: func() { wall.leave(); out.stop() },
	}, nil
}

// bare is the peer's way.
func (h *hooks) bare(ctx context.Context) (*route, error) {
	p := &relay{hooks: h, ctx: ctx, sockets: newBroadcaster(1), failed: make(chan error, 1), vendor: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: hands}, Timeout: patience}}
	p.server = httptest.NewServer(p)
	clock := newStopwatch()
	wall := listen(clock)
	stop := func() {
		p.server.Close()
		p.working.Wait()
		wall.leave()
		p.sockets.server.Close()
		p.vendor.CloseIdleConnections()
	}
	if err := wall.dial(ctx, p.sockets.server.URL, nil, nil); err != nil {
		stop()
		return nil, fmt.Errorf("connecting to the bare server: %w", err)
	}
	select {
	case <-p.sockets.joined:
	case <-ctx.Done():
		stop()
		return nil, context.Cause(ctx)
	}
	return &route{
		clock: clock, turns: min(len(h.tickets), len(h.others)), broken: p.failed, stop: stop,
		send: func(ctx context.Context, turn int, n int64) (time.Time, error) {
			return h.act(ctx, p.server.URL, turn, n)
		},
	}, nil
}

// relay is the peer: it stores a webhook's body, answers, reads the ticket, writes the change in one transaction, and tells
// its socket.
type relay struct {
	hooks   *hooks
	ctx     context.Context //nolint:containedctx // of the round: work goes on when a webhook is answered
	server  *httptest.Server
	sockets *broadcaster
	vendor  *http.Client
	failed  chan error
	working sync.WaitGroup
	telling sync.Mutex
	turn    int
}

func (p *relay) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get(config.DefaultSystem().Webhook.Header) != hookSecret {
		rw.WriteHeader(http.StatusUnauthorized)
		return
	}
	if _, err := p.hooks.w.bare.Exec(r.Context(), "INSERT INTO bench_inbox (body, at) VALUES ($1, $2)", body, time.Now()); err != nil {
		http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		return
	}
	p.working.Go(func() {
		if err := p.pass(body); err != nil {
			select {
			case p.failed <- err:
			default:
			}
		}
	})
	rw.WriteHeader(http.StatusAccepted)
}

// pass does what is left once a webhook is answered.
func (p *relay) pass(body []byte) error {
	var told struct {
		ID string `json:"sys_id"`
	}
	if err := json.Unmarshal(body, &told); err != nil {
		return err
	}
	ticket, err := p.read(told.ID)
	if err != nil {
		return err
	}
	p.telling.Lock()
	p.turn++
	turn := p.turn
	p.telling.Unlock()
	if err := p.hooks.lone.write(p.ctx, p.hooks.others[turn%len(p.hooks.others)]); err != nil {
		return err
	}
	p.sockets.mu.Lock()
	conn := p.sockets.conns[0]
	p.sockets.mu.Unlock()
	p.telling.Lock()
	defer p.telling.Unlock()
	return conn.WriteMessage(websocket.TextMessage, append(append([]byte(`{"type":"next","payload":`), ticket...), '}'))
}

// read asks the vendor for the ticket's title.
func (p *relay) read(id string) ([]byte, error) {
	at := p.hooks.server.URL + "/api/now/table/incident/" + url.PathEscape(id) + "?sysparm_fields=sys_id,number,short_description,state,priority,sys_mod_count,sys_updated_on"
	req, err := http.NewRequestWithContext(p.ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(servicenowtest.DefaultUser, servicenowtest.DefaultPassword)
	req.Header.Set("Accept", "application/json")
	resp, err := p.vendor.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	ticket, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the vendor answered %s: %.300s", resp.Status, ticket)
	}
	return bytes.TrimSpace(ticket), err
}

func (*hooks) peer() string {
	return "net/http stores the body in one statement and answers; then one GET of the ticket, the pgx transaction of row b, and a message over gorilla/websocket"
}

func (h *hooks) fact() string {
	return fmt.Sprintf("Liaison: the webhook's door, the reader with %d tickets at a time (ticket and journal are read), feed, graphql-transport-ws; worker, poller and pulse run beside; the simulator runs in this process",
		h.w.settings.sizes.Calls)
}

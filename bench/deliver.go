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
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"liaison/connectors"
	"liaison/connectors/client"
	"liaison/internal/postgres"
	"liaison/sync/ledger"
	"liaison/sync/mapping"
	"liaison/sync/outbound"
	"liaison/sync/system"
)

// openDeliver compares a lane worker that drains a backlog with plain posts of the same bodies, and with River that makes
// one post for each of as many jobs.
func openDeliver(ctx context.Context, w *world) (_ *row, err error) {
	v := newVendor(nil)
	defer func() {
		if err != nil {
			v.server.Close()
		}
	}()
	s, err := w.system(v, "lanes")
	if err != nil {
		return nil, err
	}
	z := w.settings.sizes
	backlogs := 0
	drain := func(ctx context.Context, db *postgres.DB, kind ledger.DeliveryKind) (sample, error) {
		backlogs++
		return w.drain(ctx, db, s, kind, strconv.Itoa(backlogs))
	}
	side := func(kind ledger.DeliveryKind) func(context.Context, time.Duration) (sample, error) {
		return func(ctx context.Context, _ time.Duration) (sample, error) { return drain(ctx, w.db, kind) }
	}
	var asked []string
	for _, kind := range []ledger.DeliveryKind{ledger.UpdateTicket, ledger.SayComment} {
		c := &counter{}
		db, err := w.open(ctx, c)
		if err != nil {
			return nil, err
		}
		_, err = drain(ctx, db, kind)
		db.Close()
		if err != nil {
			return nil, err
		}
		n := float64(z.Lanes * z.PerLane)
		asked = append(asked, fmt.Sprintf("Liaison asks the database %.1f statements in %.1f round trips per delivery of kind %s, in the mean of a backlog",
			float64(c.statements.Load())/n, float64(c.roundTrips.Load())/n, kind))
	}
	queue, err := w.newRiver(ctx, v)
	if err != nil {
		return nil, err
	}
	return &row{
		title:  fmt.Sprintf("a backlog of %d lanes with %d deliveries each, carried in order by one worker, %d calls at a time, each one POST", z.Lanes, z.PerLane, z.Calls),
		unit:   "deliveries/s",
		atMost: 3,
		short:  []string{"bare", "River"},
		peers: []contender{
			{name: "net/http posts of the same bodies", run: func(ctx context.Context, _ time.Duration) (sample, error) {
				return v.posts(ctx, w.cpu, z.Calls, z.Lanes*z.PerLane)
			}},
			{name: queue.String(), run: queue.drain},
		},
		liaison: []contender{
			{name: "title updates", run: side(ledger.UpdateTicket)},
			{name: "comments", run: side(ledger.SayComment)},
		},
		bounds: func(m *measured) []bound {
			var out []bound
			for _, l := range m.Liaison {
				out = append(out, atLeast(l.Name+", to bare posts", 0.5, l.ratio(0), ""), atLeast(l.Name+", to River", 2, l.ratio(1), ""))
			}
			return out
		},
		facts: told(append(asked,
			"a delivery is leased and marked as begun before its call and settled after it, both durably; a comment's journal mark is recorded as well",
			"River keeps no order between jobs; its time begins when its client has started and ends with its last post, before the last jobs are settled")...),
		close: func() error { queue.close(); v.server.Close(); return nil },
	}, nil
}

// system is a vendor as a lane worker sees it, under the name that it has in the directory.
func (w *world) system(v *vendor, key string) (*system.System, error) {
	calls := w.settings.sizes.Calls
	c, err := client.New(client.Config{BaseURL: v.server.URL, Auth: connectors.Credentials{Token: connectors.NewSecret("bench")}, Concurrency: calls})
	if err != nil {
		return nil, err
	}
	words, err := mapping.Load("bench/mapping.yaml", []byte(vendorMapping))
	if err != nil {
		return nil, err
	}
	return &system.System{
		ID: w.systems[key], Key: key, Name: key, Connector: &connector{client: c}, Mapping: words,
		Concurrency: calls, CallTimeout: 10 * time.Second, SettleWindow: time.Minute,
	}, nil
}

// drain queues the backlog and lets a worker carry all of it. The time is from the worker's start until everything
// is settled.
func (w *world) drain(ctx context.Context, db *postgres.DB, s *system.System, kind ledger.DeliveryKind, round string) (sample, error) {
	z := w.settings.sizes
	_, err := w.bare.Exec(ctx, statement("queue"), int64(w.organisations["lanes"]), z.PerLane, string(kind), time.Now().UTC().Add(-time.Second), round)
	if err != nil {
		return sample{}, fmt.Errorf("queueing deliveries: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	bell := postgres.NewBell(db, w.quiet)
	var ringing sync.WaitGroup
	ringing.Go(func() { _ = bell.Run(ctx) }) // its error is the context's end
	defer ringing.Wait()
	defer stop()
	worker := outbound.NewWorker(ledger.New(db, bell, time.Now), s, outbound.Options{Log: w.quiet, Wake: bell.Subscribe(ledger.TopicLanes)})
	carrying, enough := context.WithCancel(ctx)
	defer enough()
	go func() {
		defer enough()
		if err := w.settled(carrying); err != nil && carrying.Err() == nil {
			fmt.Fprintln(os.Stderr, "bench: watching the lanes:", err)
		}
	}()
	before, began := w.cpu(), time.Now()
	if err := worker.Run(carrying); err != nil {
		return sample{}, err
	}
	out := sample{count: z.Lanes * z.PerLane, took: time.Since(began), spent: w.cpu().since(before)}
	if err := context.Cause(ctx); err != nil {
		return out, err
	}
	var left int
	err = w.bare.QueryRow(ctx, "SELECT count(*) FROM delivery WHERE organisation_id = $1 AND state <> 'DELIVERED'", int64(w.organisations["lanes"])).Scan(&left)
	if err == nil && left > 0 {
		err = fmt.Errorf("%d deliveries were posted but not settled", left)
	}
	return out, err
}

// settled returns when no lane has anything left to do. It looks every few milliseconds, by an index that is empty then.
func (w *world) settled(ctx context.Context) error {
	for {
		var busy bool
		err := w.bare.QueryRow(ctx, "SELECT EXISTS (SELECT FROM lane WHERE system_id = $1 AND due_at IS NOT NULL)", int64(w.systems["lanes"])).Scan(&busy)
		if err != nil || !busy {
			return err
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// vendor is a ticket system that answers every post at once.
type vendor struct {
	server *httptest.Server
	sent   atomic.Int64
	marks  atomic.Pointer[map[int64]chan time.Time] // who waits for which post
	heard  func(body []byte, at time.Time)          // if not nil, is told of every post
}

func newVendor(heard func([]byte, time.Time)) *vendor {
	v := &vendor{heard: heard}
	v.server = httptest.NewServer(v)
	return v
}

func (v *vendor) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost {
		rw.WriteHeader(http.StatusBadRequest)
		return
	}
	n := v.sent.Add(1)
	if marks := v.marks.Load(); marks != nil {
		if reached, wanted := (*marks)[n]; wanted {
			reached <- at
		}
	}
	if v.heard != nil {
		v.heard(body, at)
	}
	rw.Header().Set("Content-Type", "application/json")
	_, _ = rw.Write([]byte(`{"id":"` + strconv.FormatInt(n, 10) + `"}`)) // the client sees when it does not arrive
}

// expect counts posts anew. Of each channel one can receive when that many have come.
func (v *vendor) expect(counts ...int) []chan time.Time {
	marks, out := map[int64]chan time.Time{}, make([]chan time.Time, len(counts))
	for n, count := range counts {
		out[n] = make(chan time.Time, 1)
		marks[int64(count)] = out[n]
	}
	v.sent.Store(0)
	v.marks.Store(&marks)
	return out
}

// posts sends n posts, as many at a time as calls says, with what the connector would send.
func (v *vendor) posts(ctx context.Context, spent func() cpu, calls, n int) (sample, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: calls}
	defer transport.CloseIdleConnections()
	plain := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var workers sync.WaitGroup
	before, began := spent(), time.Now()
	for range calls {
		workers.Go(func() {
			for failed.Load() == nil {
				i := next.Add(1)
				if i > int64(n) {
					return
				}
				if err := post(ctx, plain, v.server.URL, message{Ticket: someTicket, Text: "Printer in room 12 prints page 3 of round " + strconv.FormatInt(i%10, 10)}); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	workers.Wait()
	out := sample{count: n, took: time.Since(began), spent: spent().since(before)}
	if err := failed.Load(); err != nil {
		return out, *err
	}
	return out, nil
}

func post(ctx context.Context, c *http.Client, url string, m message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/tickets", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer bench")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer receipt
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || answer.ID == "" {
		return errors.New("the vendor answered " + resp.Status)
	}
	return nil
}

// someTicket is an id as long as those of the lanes' tickets.
const someTicket = "3f0c5d1e9a7b4c26b1d8e2f6a9c40b57"

// message is what a write sends; receipt is the answer.
type message struct {
	Ticket string `json:"ticket"`
	Text   string `json:"text"`
}

type receipt struct {
	ID string `json:"id"`
}

// connector makes one call for each write, through the client that every connector uses, and remembers what it
// wrote instead of reading it.
type connector struct {
	client *client.Client
	titles sync.Map // connectors.ExternalID to the title that was written last
}

var _ connectors.Connector = (*connector)(nil)

// vendorMapping lets the title alone travel.
const vendorMapping = `
vendor: Bench
fields:
  title: {vendor: title, owner: hub}
not_mapped:
  description: only the title is measured
  state: only the title is measured
  deferredTo: only the title is measured
  resolution: only the title is measured
  priority: only the title is measured
  impact: only the title is measured
  urgency: only the title is measured
  category: only the title is measured
  service: only the title is measured
  team: only the title is measured
  assignee: only the title is measured
  contact: only the title is measured
`

func (c *connector) post(ctx context.Context, op string, m message) (receipt, error) {
	var r receipt
	_, err := c.client.JSON(ctx, client.Request{Op: op, Method: http.MethodPost, Path: "/tickets"}, m, &r)
	return r, err
}

func (*connector) Traits() connectors.Traits { return connectors.Traits{SettleWindow: time.Minute} }

func (c *connector) Read(_ context.Context, id connectors.ExternalID, _ []string) (connectors.Ticket, error) {
	title, _ := c.titles.Load(id)
	words, _ := title.(string)
	return connectors.Ticket{ID: id, Fields: connectors.Fields{"title": words}}, nil
}

func (c *connector) Update(ctx context.Context, id connectors.ExternalID, f connectors.Fields) (connectors.Ticket, error) {
	if _, err := c.post(ctx, "bench.Update", message{Ticket: string(id), Text: f["title"]}); err != nil {
		return connectors.Ticket{}, err
	}
	c.titles.Store(id, f["title"])
	return connectors.Ticket{ID: id, Fields: f}, nil
}

func (*connector) Mark(context.Context, connectors.ExternalID) (connectors.Mark, error) {
	return "", nil
}

func (c *connector) Say(ctx context.Context, id connectors.ExternalID, m connectors.Message, _ connectors.Mark) (connectors.JournalEntry, error) {
	r, err := c.post(ctx, "bench.Say", message{Ticket: string(id), Text: m.Body})
	return connectors.JournalEntry{ID: r.ID}, err
}

// unasked is what everything answers that a lane of plain updates and comments never asks for.
func unasked(op string) error {
	return &connectors.Error{Op: op, Kind: connectors.Rejected, Err: errors.New("this row does not ask for it")}
}

func (*connector) Check(context.Context) error { return nil }

func (*connector) Create(context.Context, connectors.Draft) (connectors.Ticket, error) {
	return connectors.Ticket{}, unasked("bench.Create")
}

func (*connector) FindByCorrelation(context.Context, string) ([]connectors.Ticket, error) {
	return nil, unasked("bench.FindByCorrelation")
}

func (*connector) Journal(context.Context, connectors.ExternalID, connectors.Mark) ([]connectors.JournalEntry, connectors.Mark, error) {
	return nil, "", unasked("bench.Journal")
}

func (*connector) Changes(context.Context, connectors.Cursor) (connectors.Page, error) {
	return connectors.Page{}, unasked("bench.Changes")
}

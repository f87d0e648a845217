package simulation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"liaison/connectors"
	"liaison/internal/desk"
	"liaison/internal/postgres"
	"liaison/sync/inbound"
	"liaison/sync/ledger"
	"liaison/sync/ledger/ledgertest/memstore"
	"liaison/sync/outbound"
	"liaison/sync/system"
)

var errDead = errors.New("this hub was killed")

// hub is one process of the hub: it runs from its start until it is killed and never again.
type hub struct {
	world *world
	name  string // "hub2.3" is the third process of the second hub
	place int

	desk  *desk.Desk
	hooks *inbound.Hooks

	ctx  context.Context //nolint:containedctx // ends with the process
	stop context.CancelFunc
	runs sync.WaitGroup
	dead atomic.Bool

	mu     sync.Mutex
	frozen chan struct{} // closed when the process goes on; nil: it runs
	wakes  map[string][]chan struct{}
	reads  map[string]time.Duration
}

// pass is where a process may be stopped or die: before and after everything that can be seen from outside. It waits
// while the process is stopped and reports whether it was.
func (h *hub) pass(d draw, moment, name, on string) (stopped bool, err error) {
	w := h.world
	if stopped, err = h.wait(d, moment); err != nil {
		return stopped, err
	}
	switch {
	case w.quiet():
	case d.chance("kill "+moment, w.plan.killRate) && w.takeKill():
		w.trace.add(h.name, "killed %s %s %s", moment, name, on)
		h.kill()
		return stopped, errDead
	case d.chance("freeze "+moment, w.plan.freezeRate) && w.takeFreeze():
		w.trace.add(h.name, "stopped %s %s %s", moment, name, on)
		h.freeze(time.Minute)
		again, err := h.wait(d, moment)
		return stopped || again, err
	}
	return stopped, nil
}

// wait waits while the process is stopped.
func (h *hub) wait(d draw, moment string) (stopped bool, err error) {
	for {
		if h.dead.Load() {
			return stopped, errDead
		}
		h.mu.Lock()
		frozen := h.frozen
		h.mu.Unlock()
		if frozen == nil {
			return stopped, nil
		}
		stopped = true
		<-frozen
		// Who goes on first is anybody's guess, and the seed's.
		_ = h.world.clock.sleep(context.Background(), d.between("thaw "+moment, time.Microsecond, time.Millisecond))
	}
}

// freeze stops the process as SIGSTOP does.
func (h *hub) freeze(long time.Duration) {
	frozen := make(chan struct{})
	h.mu.Lock()
	h.frozen = frozen
	h.mu.Unlock()
	h.world.clock.after(long, func() {
		h.world.trace.add(h.name, "goes on")
		h.mu.Lock()
		h.frozen = nil
		h.mu.Unlock()
		close(frozen)
	})
}

// kill ends the process as SIGKILL does: nothing that it does from here on reaches anybody.
func (h *hub) kill() {
	if h.dead.Swap(true) {
		return
	}
	h.stop()
	h.world.killed(h)
}

// gate is the process's way to the store.
func (h *hub) gate(ctx context.Context, m memstore.Moment, statement, on string) error {
	w := h.world
	switch m {
	case memstore.Begin:
		d := w.dice.occasion(h.name, statement, on)
		if err := w.clock.sleep(ctx, d.between("begin", 100*time.Microsecond, 2*time.Millisecond)); err != nil {
			_ = w.clock.sleep(context.Background(), d.between("hung up", time.Microsecond, 200*time.Microsecond))
			return fmt.Errorf("%s: %w", statement, err)
		}
		if _, err := h.pass(d, "before", statement, on); err != nil {
			return err
		}
		if w.storeFails(d, "begin") {
			w.trace.add(h.name, "%s %s -> the store is not available", statement, on)
			return fmt.Errorf("%s: %w", statement, postgres.ErrPoolExhausted)
		}
	case memstore.Commit:
		d := w.dice.occasion(h.name, "commit "+statement, on)
		if h.dead.Load() {
			return errDead
		}
		if w.storeFails(d, "commit") {
			w.trace.add(h.name, "%s %s -> the connection was lost before the commit", statement, on)
			return fmt.Errorf("%s: %w", statement, postgres.ErrPoolExhausted)
		}
		if w.plan.verbose || !quiet[statement] {
			w.trace.add(h.name, "%s %s", statement, on)
		}
	case memstore.Done:
		d := w.dice.occasion(h.name, "done "+statement, on)
		if _, err := h.pass(d, "after", statement, on); err != nil {
			return err
		}
		if w.storeFails(d, "answer") {
			w.trace.add(h.name, "%s %s -> the commit's answer was lost", statement, on)
			return fmt.Errorf("%s: %w", statement, postgres.ErrCommitUnknown)
		}
		_ = w.clock.sleep(context.WithoutCancel(ctx), d.between("done", 50*time.Microsecond, time.Millisecond))
		if _, err := h.wait(d, "answered"); err != nil {
			return err
		}
	}
	return nil
}

// quiet statements come all the time and tell nothing.
var quiet = map[string]bool{"LeaseLanes": true, "LeaseInbox": true, "LeasePoll": true, "EnsurePoll": true, "FindLinksByTicket": true, "LinksByTickets": true, "KnownCopies": true}

// lastRead is when this process last read a ticket, for the writes that follow from it.
func (h *hub) lastRead(v *vendor, on, op string) time.Duration {
	if op != "update" {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reads[v.key+on]
}

func (h *hub) noteRead(v *vendor, on string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads[v.key+on] = h.world.clock.since()
}

// Ring is the process's bell: every hub hears it, most of the time.
func (h *hub) Ring(topic string) {
	if h.dead.Load() || topic == ledger.TopicEntries {
		return
	}
	w := h.world
	for _, other := range w.running() {
		d := w.dice.occasion(h.name, "ring "+topic, other.name)
		if d.chance("lost", w.plan.lostRings) {
			continue
		}
		w.clock.after(d.between("ring", 50*time.Microsecond, 3*time.Millisecond), func() {
			other.mu.Lock()
			defer other.mu.Unlock()
			for _, wake := range other.wakes[topic] {
				select {
				case wake <- struct{}{}:
				default:
				}
			}
		})
	}
}

func (h *hub) wake(topic string) <-chan struct{} {
	wake := make(chan struct{}, 1)
	h.wakes[topic] = append(h.wakes[topic], wake)
	return wake
}

// hookSecret is what vendors sign in with.
var hookSecret = connectors.NewSecret("simulated")

// startHub starts a process.
func (w *world) startHub(place, process int) *hub {
	h := &hub{world: w, name: fmt.Sprintf("hub%d.%d", place+1, process), place: place, wakes: map[string][]chan struct{}{}, reads: map[string]time.Duration{}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	skew := w.plan.hubSkew[place]
	now := func() time.Time { return w.clock.now().Add(skew) }
	log := slog.New(slog.DiscardHandler)
	l := w.ledger(h, now)
	inbox := w.inbox(h)
	h.desk = desk.New(l, desk.DefaultLimits(), now)
	var doors []inbound.Door
	for _, v := range w.vendors {
		s := &system.System{
			ID: v.id, Key: v.key, Name: "Vendor " + v.key, Connector: &port{hub: h, vendor: v}, Mapping: v.words, Concurrency: w.plan.concurrency,
			CallTimeout: callTimeout / w.clock.scale, SettleWindow: v.traits.SettleWindow/w.clock.scale + w.slack, PollInterval: w.plan.poll / w.clock.scale,
		}
		doors = append(doors, inbound.Door{System: s, Header: "X-Secret", Secret: hookSecret})
		jitter := func(what string) func(time.Duration) time.Duration {
			return func(d time.Duration) time.Duration {
				return w.dice.occasion(h.name, what, v.key).between("jitter", 0, d)
			}
		}
		worker := outbound.NewWorker(l, s, outbound.Options{
			Idle: w.plan.idle / w.clock.scale, Log: log, Now: now, Wake: h.wake(ledger.TopicLanes),
			Together: w.plan.together / w.clock.scale, Onward: w.plan.onward / w.clock.scale,
			Backoff: outbound.Backoff{Random: jitter("backoff")},
		})
		in := inbound.Options{Idle: w.plan.idle / w.clock.scale, Log: log, Now: now, Wake: h.wake(inbound.TopicInbox), Jitter: jitter("inbox")}
		reader := inbound.NewReaderOver(inbox, l, s, in)
		poller := inbound.NewPollerOver(inbox, l, s, h, in)
		// Processes do not start all their parts in the same instant.
		for _, part := range []struct {
			name string
			run  func(context.Context) error
		}{{"worker", worker.Run}, {"reader", reader.Run}, {"poller", poller.Run}} {
			delay := w.dice.occasion(h.name, "start "+part.name, v.key).between("start", time.Millisecond, 50*time.Millisecond)
			h.runs.Go(func() {
				if w.clock.sleep(h.ctx, delay) == nil {
					_ = part.run(h.ctx) // it ends with its context and has logged everything else
				}
			})
		}
	}
	h.hooks = inbound.NewHooksOver(inbox, h, doors, 1<<20, now, log)
	return h
}

// hook posts a webhook to the process and reports whether it took it.
func (h *hub) hook(v *vendor, call string, body []byte) bool {
	r := httptest.NewRequestWithContext(h.ctx, http.MethodPost, "/hooks/"+v.key, strings.NewReader(string(body)))
	r.SetPathValue("system", v.key)
	r.Header.Set("X-Secret", hookSecret.Reveal())
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Webhook-Id", call)
	answer := httptest.NewRecorder()
	h.hooks.ServeHTTP(answer, r)
	return !h.dead.Load() && answer.Code == http.StatusAccepted
}

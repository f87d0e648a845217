package simulation

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/inbound"
	"liaison/sync/inbound/inboundtest"
	"liaison/sync/ledger"
	"liaison/sync/ledger/ledgertest"
	"liaison/sync/mapping"
)

// plan is what a seed makes of a run.
type plan struct {
	seed        uint64
	hubs        int
	vendors     int
	incidents   int
	people      int
	changes     int           // by each person
	edits       int           // by each vendor's agents
	span        time.Duration // how long people and agents are busy and faults happen
	faults      float64       // of vendors' calls
	store       float64       // of the store's transactions
	lostRings   float64
	lostHooks   float64
	kills       int
	killRate    float64
	freezes     int
	freezeRate  float64
	outage      bool // of the first vendor, in the middle
	removals    bool // an agent deletes or merges a ticket
	automation  bool
	concurrency int
	poll        time.Duration
	idle        time.Duration
	together    time.Duration // for how long deliveries that were begun together share a settlement
	onward      time.Duration // for how long a lane is kept
	hubSkew     []time.Duration
	storeSkew   time.Duration
	verbose     bool
}

func newPlan(seed uint64) plan {
	d := newDice(seed).of("plan")
	p := plan{
		seed: seed, hubs: 1 + d.pick("hubs", 3), vendors: 1 + d.pick("vendors", 2), incidents: 1 + d.pick("incidents", 3), people: 1 + d.pick("people", 2),
		changes: 4 + d.pick("changes", 8), edits: 2 + d.pick("edits", 6), span: d.between("span", 30*time.Second, 90*time.Second),
		faults: []float64{0, 0.05, 0.1, 0.2}[d.pick("faults", 4)], store: []float64{0, 0.01, 0.04}[d.pick("store", 3)],
		lostRings: []float64{0, 0.2, 1}[d.pick("rings", 3)], lostHooks: []float64{0.05, 0.05, 0.3, 1}[d.pick("hooks", 4)],
		kills: d.pick("kills", 4), killRate: 0.01, freezes: d.pick("freezes", 2), freezeRate: 0.004,
		outage: d.chance("outage", 0.15), removals: d.chance("removals", 0.1), automation: d.chance("automation", 0.4),
		concurrency: 1 + d.pick("concurrency", 4), poll: 5 * time.Second, idle: 3 * time.Second,
		together:  []time.Duration{50 * time.Millisecond, 2 * time.Second, 10 * time.Second}[d.pick("together", 3)],
		onward:    []time.Duration{100 * time.Millisecond, 2 * time.Second, 10 * time.Second}[d.pick("onward", 3)],
		storeSkew: d.between("store skew", -2*time.Hour, 2*time.Hour),
	}
	for range p.hubs {
		p.hubSkew = append(p.hubSkew, d.between(fmt.Sprint("hub skew ", len(p.hubSkew)), -2*time.Second, 2*time.Second))
	}
	return p
}

// lateWrites reports whether writes of this kind may be committed after the caller gave up.
func (p plan) lateWrites(op string) bool { return op != "update" }

// world is one run.
type world struct {
	plan    plan
	clock   *clock
	dice    *dice
	trace   *trace
	vendors []*vendor
	stores  stores

	grace time.Duration // nothing fails before each vendor has been polled once: nobody can know of what came before the first poll
	calm  atomic.Bool   // no more faults
	ended atomic.Bool   // no process is started any more

	// together ends all leases. When it is set, processes only die all at once: a real database's clock is nobody's to
	// move, so the lease of one that died cannot be told from another's.
	together func()
	patience time.Duration // beside mercy: leases last as long as they do, however fast a world runs
	slack    time.Duration // how late this machine may be with what the world does, added to settle windows

	mu      sync.Mutex
	hubs    []*hub // by place; nil while none runs there
	process []int
	all     []*hub
	kills   int
	freezes int
	people  []*person
	broke   []string // promises that were broken on the way

	calls, faulty, lost, killings, stops atomic.Int64
}

// stores are where the hubs keep their rows.
type stores interface {
	ledger(h *hub, now func() time.Time) *ledger.Ledger
	inbox(h *hub) inbound.Store
	contents() ledgertest.Contents
	name(id uuid.UUID) string
	waiting() []string // rows of the inbox that nobody has settled
}

// inMemory are the stores in a bubble.
type inMemory struct {
	rows  *ledgertest.Memory
	hints *inboundtest.Memory
}

func (s inMemory) ledger(h *hub, now func() time.Time) *ledger.Ledger {
	return ledger.Over(s.rows.Through(h.gate), h, now)
}
func (s inMemory) inbox(h *hub) inbound.Store    { return s.hints.Through(h.gate) }
func (s inMemory) contents() ledgertest.Contents { return s.rows.Contents() }
func (s inMemory) name(id uuid.UUID) string      { return s.rows.Name(id) }
func (s inMemory) waiting() []string {
	var out []string
	for _, r := range s.hints.Rows() {
		if r.State == "PARKED" && !strings.Contains(r.Reason, "transient") { // bad luck ten times over is told to a person
			out = append(out, r.String())
		}
	}
	return out
}

func (w *world) ledger(h *hub, now func() time.Time) *ledger.Ledger { return w.stores.ledger(h, now) }
func (w *world) inbox(h *hub) inbound.Store                         { return w.stores.inbox(h) }

// named is the store's name for a correlation id: random ids have no place in a history.
func (w *world) named(correlation string) string {
	id, err := uuid.Parse(correlation)
	if err != nil {
		return correlation
	}
	return w.stores.name(id)
}

// newWorld lays out a run.
func newWorld(p plan, scale time.Duration) *world {
	w := &world{plan: p, clock: newClock(scale), dice: newDice(p.seed), kills: p.kills, freezes: p.freezes, process: make([]int, p.hubs), hubs: make([]*hub, p.hubs)}
	w.trace = &trace{clock: w.clock}
	w.grace = time.Duration(300*int64(scale)) * time.Millisecond
	w.plan.span += w.grace
	for n := range p.vendors {
		w.vendors = append(w.vendors, w.newVendor(n))
	}
	return w
}

func (w *world) systems() []ledgertest.System {
	var out []ledgertest.System
	for _, v := range w.vendors {
		out = append(out, ledgertest.System{ID: v.id, Key: v.key, Organisations: []incident.OrganisationID{1}})
	}
	return out
}

var keys = []string{"alpha", "beta"}

func (w *world) newVendor(n int) *vendor {
	d := w.dice.of("vendor", keys[n])
	v := &vendor{
		writing: map[string]*hub{}, world: w, id: incident.SystemID(n + 1), key: keys[n], words: words(n), searchLag: []time.Duration{0, 2 * time.Second, 5 * time.Second}[d.pick("lag", 3)],
		latest: []time.Duration{0, 3 * time.Second, 6 * time.Second}[d.pick("latest", 3)], coarse: d.chance("coarse", 0.5), trims: d.chance("trims", 0.5),
		hooks: d.chance("hooks", 0.8), skew: d.between("skew", -2*time.Hour, 2*time.Hour),
	}
	v.traits = connectors.Traits{SettleWindow: v.latest + v.searchLag + 500*time.Millisecond, MessageKeys: d.chance("keys", 0.3), Hooks: v.hooks}
	return v
}

func words(n int) *mapping.Mapping { return theWords()[n] }

var theWords = sync.OnceValue(func() []*mapping.Mapping {
	var out []*mapping.Mapping
	for n, file := range mappings {
		m, err := mapping.Load(keys[n]+".yaml", []byte(file))
		if err != nil {
			panic(err) // the files are part of this package
		}
		out = append(out, m)
	}
	return out
})

// broken notes a promise that was broken.
func (w *world) broken(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.trace.add("check", "%s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broke = append(w.broke, text)
}

// running lists the processes that live.
func (w *world) running() []*hub {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*hub
	for _, h := range w.hubs {
		if h != nil && !h.dead.Load() {
			out = append(out, h)
		}
	}
	return out
}

func (w *world) takeKill() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kills--
	if w.kills >= 0 {
		w.killings.Add(1)
	}
	return w.kills >= 0
}

func (w *world) takeFreeze() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.freezes--
	if w.freezes >= 0 {
		w.stops.Add(1)
	}
	return w.freezes >= 0
}

// quiet reports whether nothing fails: at the very beginning, and at the end.
func (w *world) quiet() bool { return w.calm.Load() || w.clock.since() < w.grace }

// storeFails reports whether the store fails a transaction at this moment.
func (w *world) storeFails(d draw, moment string) bool {
	return !w.quiet() && d.chance("store "+moment, w.plan.store/3)
}

// out reports whether a vendor cannot be reached.
func (w *world) out(v *vendor) bool {
	if !w.plan.outage || v.id != 1 || w.calm.Load() {
		return false
	}
	now := w.clock.since()
	return now > w.plan.span/4 && now < w.plan.span*3/4
}

// start starts the process at a place.
func (w *world) start(place int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended.Load() {
		return
	}
	w.process[place]++
	h := w.startHub(place, w.process[place])
	w.hubs[place] = h
	w.all = append(w.all, h)
	w.trace.add(h.name, "started")
}

// killed starts a new process after one was killed.
func (w *world) killed(h *hub) {
	d := w.dice.occasion("world", "restart", fmt.Sprint(h.place))
	if w.together == nil {
		w.clock.after(d.between("restart", time.Second, 8*time.Second), func() { w.start(h.place) })
		return
	}
	// The power fails: every process dies, and when they start again their leases have ended.
	dead := append(w.running(), h)
	for _, other := range dead {
		other.dead.Store(true)
		other.stop()
	}
	w.clock.after(d.between("restart", 20*time.Second, 30*time.Second), func() {
		for _, other := range dead {
			other.runs.Wait() // a transaction of its own that is still under way may take a lease
		}
		w.together()
		for place := range w.plan.hubs {
			w.start(place)
		}
	})
}

// call has a vendor tell of a change: mostly once and soon, sometimes twice, late, or never.
func (w *world) call(v *vendor, ref connectors.Ref) {
	name := string(ref.ID) + "@" + ref.Version
	d := w.dice.of("hook", name)
	if d.chance("never", w.plan.lostHooks) && !w.calm.Load() || w.calm.Load() && w.plan.lostHooks == 1 {
		return
	}
	times := 1
	if d.chance("twice", 0.1) {
		times = 2
	}
	for n := range times {
		delay := d.between(fmt.Sprint("soon ", n), 5*time.Millisecond, 200*time.Millisecond)
		if d.chance("delayed", 0.1) {
			delay = d.between(fmt.Sprint("later ", n), 0, 30*time.Second)
		}
		w.clock.after(delay, func() { w.deliver(v, name, encodeHook(ref), d, n) })
	}
}

// deliver posts a webhook to one of the hubs; a vendor whose call fails tries once more and gives up.
func (w *world) deliver(v *vendor, name string, body []byte, d draw, n int) {
	for try := range 2 {
		if running := w.running(); len(running) > 0 {
			h := running[d.pick(fmt.Sprint("hub ", n, try), len(running))]
			if h.hook(v, name, body) {
				return
			}
		}
		if w.clock.sleep(context.Background(), d.between(fmt.Sprint("again ", n), 2*time.Second, 5*time.Second)) != nil || w.ended.Load() {
			return
		}
	}
}

// automate has the vendor's own rules edit a ticket that we have just written, under our account.
func (w *world) automate(t *ticket) {
	if !w.plan.automation || w.calm.Load() {
		return
	}
	v := t.vendor
	d := w.dice.occasion("automation", v.key, string(t.id))
	if !d.chance("rule", 0.2) {
		return
	}
	name := fmt.Sprintf("rule %s %d", t.id, len(t.acts))
	w.clock.after(d.between("rule", 0, time.Second), func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if t.gone != connectors.Present {
			return
		}
		switch d.pick("what", 3) {
		case 0:
			t.set(act{who: "automation"}, connectors.Fields{"service": name})
		case 1:
			t.set(act{who: "automation"}, connectors.Fields{"prio": fmt.Sprint(1 + d.pick("prio", 5))})
		default:
			t.say(act{who: "automation"}, connectors.Message{Visibility: connectors.Public, Body: "By a rule:\n\n" + name}, "Liaison")
		}
	})
}

// mappings are the vendors' words. Alpha owns most of what both write; beta leaves it to the hub and cuts titles short.
var mappings = []string{
	base("Alpha", 60, "vendor"),
	base("Beta", 20, "hub"),
}

func base(name string, title int, owner string) string {
	return strings.NewReplacer("NAME", name, "TITLE", fmt.Sprint(title), "OWNER", owner).Replace(`
vendor: NAME
vendor_values:
  state: ["1", "2", "3", "4", "5", "6"]
  prio: ["0", "1", "2", "3", "4", "5"]
fields:
  title: {vendor: title, max: TITLE, single_line: true, owner: OWNER}
  description: {vendor: text, direction: out, owner: hub}
  service: {vendor: service, max: 100, single_line: true, owner: OWNER}
states:
  owner: OWNER
  rows:
    - {hub: NEW, vendor: {state: "1"}, label: New}
    - {hub: [AWAITING_TRIAGE, ASSIGNED], vendor: {state: "1"}, use: write}
    - {hub: IN_PROGRESS, vendor: {state: "2"}, label: Open}
    - {hub: ON_HOLD, vendor: {state: "3"}, label: Held}
    - {hub: [ON_HOLD/AWAITING_CUSTOMER, ON_HOLD/AWAITING_CHANGE, ON_HOLD/AWAITING_VENDOR, ON_HOLD/CUSTOMER_DEFERRAL, ON_HOLD/AWAITING_PROBLEM], vendor: {state: "3"}, use: write}
    - {hub: RESOLVED, vendor: {state: "4"}, label: Solved}
    - {hub: CLOSED, vendor: {state: "5"}, label: Closed}
    - {hub: CANCELLED, vendor: {state: "6"}, label: Cancelled}
priorities:
  owner: vendor
  rows:
    - {hub: NONE, vendor: {prio: "0"}}
    - {hub: P1, vendor: {prio: "1"}}
    - {hub: P2, vendor: {prio: "2"}}
    - {hub: P3, vendor: {prio: "3"}}
    - {hub: P4, vendor: {prio: "4"}}
    - {hub: P5, vendor: {prio: "5"}}
not_mapped:
  resolution: kept in the hub
  impact: kept in the hub
  urgency: kept in the hub
  category: kept in the hub
  deferredTo: kept in the hub
  team: kept in the hub
  assignee: kept in the hub
  contact: kept in the hub
`)
}

//go:build chaos

package chaos_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// organisations are the tenants of a run; each has a requester.
var organisations = []string{"barnfield", "oakwood", "hillcrest"}

const agentToken = "chaos-agent"

func requesterToken(n int) string { return "chaos-requester-" + organisations[n] }

// world is one run's: everything that takes part.
type world struct {
	t         *testing.T
	plan      plan
	dir       string
	database  *database
	pgWires   []*wire
	hubs      []*hub
	direct    []string // the hubs' own addresses, past their wires
	vendors   []*vendor
	incidents []*incident
	began     time.Time
	calmAt    time.Time // when the last fault was over
	converged time.Duration
	last      []string // what was apart the last time that anything was
	quiet     int      // writes to vendors after everything had settled

	done     atomic.Int64 // changes made, of all sides and kinds
	hubDid   atomic.Int64
	theyDid  atomic.Int64
	attempts atomic.Int64 // GraphQL requests
	waits    atomic.Int64 // deliveries, a moment ago
	stopped  atomic.Bool  // a hub was stopped for longer than a lease

	mu       sync.Mutex
	troubles map[string]int // on wires, by kind
	events   []string       // what the run did to the parts, with times
	found    []violation

	// What the checks read and counted, for the report.
	rows            map[string]*row
	theirs          map[*vendor]map[string]*ticket
	received, lives int
	conflicts       int
	compared        int // links, by liaison sync reconcile
	requests        int // that it made
}

// note keeps what was done, for the report of a failure.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, time.Now().UTC().Format("15:04:05.000")+" "+fmt.Sprintf(format, args...))
}

func (w *world) count(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.troubles[kind]++
}

// run carries out a plan and checks what became of it.
func run(t *testing.T, p plan) {
	w := build(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Hour)
	defer cancel()
	w.began = time.Now()
	watchers := w.subscribe(ctx)
	faults, calm := context.WithCancel(ctx)
	storm := w.storm(faults)
	if err := w.write(ctx); err != nil {
		w.flag("R1 no loss", nil, "%v", err)
	}
	calm()
	if err := storm.Wait(); err != nil {
		t.Errorf("making trouble: %v", err)
	}
	w.heal()
	w.settle(ctx)
	w.check(ctx, watchers)
	w.end()
	w.report()
}

func build(t *testing.T, p plan) *world {
	t.Helper()
	// Not t.TempDir: PostgreSQL's user must be able to enter it, and its path can be too long for a socket.
	dir, err := os.MkdirTemp("/tmp", "liaison-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, plan: p, dir: dir, troubles: map[string]int{}}
	t.Cleanup(func() {
		if t.Failed() || *keepFlag {
			fmt.Fprintf(os.Stdout, "kept: %s\n", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the run's folder: %v", err)
		}
	})
	path := binary(t)
	w.database = startDatabase(t, filepath.Join(dir, "database"))
	var turn atomic.Int64
	w.vendors = newVendors(t, p, dir, func(key string) string {
		return w.hubs[int(turn.Add(1))%len(w.hubs)].url() + "/hooks/" + key
	})
	for n := range 2 {
		w.addHub(path, n)
	}
	t.Cleanup(func() {
		for _, h := range w.hubs {
			if err := h.stop(); err != nil {
				t.Error(err)
			}
		}
	})
	for n, h := range w.hubs {
		if err := h.start(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		err := h.ready(ctx, w.direct[n])
		cancel()
		if err != nil {
			t.Fatalf("%v; its log is %s", err, h.log)
		}
	}
	w.plot()
	return w
}

func (w *world) addHub(path string, n int) {
	w.t.Helper()
	home := filepath.Join(w.dir, fmt.Sprintf("hub-%d", n+1))
	if err := os.Mkdir(home, 0o755); err != nil {
		w.t.Fatal(err)
	}
	addr := freeAddress(w.t)
	pg := newWire(w.t, fmt.Sprintf("postgres-%d", n+1), w.database.listener.Addr().String())
	w.pgWires = append(w.pgWires, pg)
	env := []string{"LIAISON_DATABASE_URL=" + w.database.url(pg), "AGENT=" + agentToken}
	var systems, orgs, tokens strings.Builder
	for _, v := range w.vendors {
		systems.WriteString(v.yaml)
		env = append(env, v.env...)
	}
	for i, key := range organisations {
		fmt.Fprintf(&orgs, "  - {key: %s, name: %[1]s school, desk: btls}\n", key)
		fmt.Fprintf(&tokens, "  - {token: {env: REQUESTER_%d}, name: Sam of %s, email: sam@%[2]s.example, organisation: %[2]s, roles: [requester]}\n", i, key)
		env = append(env, fmt.Sprintf("REQUESTER_%d=%s", i, requesterToken(i)))
	}
	text := fmt.Sprintf(`addr: %s
data_dir: %s
desks:
  - {key: btls, name: BTLS Service Centre}
organisations:
%stokens:
%s  - {token: {env: AGENT}, name: Ada Agent, email: ada@btls.example, desk: btls, roles: [agent, admin]}
systems:
%s`, addr, filepath.Join(home, "data"), orgs.String(), tokens.String(), systems.String())
	config := filepath.Join(home, "liaison.yaml")
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.direct = append(w.direct, addr)
	w.hubs = append(w.hubs, &hub{
		name: fmt.Sprintf("hub-%d", n+1), path: path, config: config, env: env, log: filepath.Join(home, "log"),
		front: newWire(w.t, fmt.Sprintf("front-%d", n+1), addr),
	})
}

var addresses atomic.Int64

func init() { addresses.Store(15000 + rand.Int64N(10000)) }

// freeAddress returns a free address below those from which the system takes the local ends of connections: a port between
// two lives of a hub stays free.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 200 {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.FormatInt(addresses.Add(1), 10))
		if err == nil {
			l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no free ports")
	return ""
}

// storm makes trouble until ctx ends: on the wires, at the vendors, and by killing.
func (w *world) storm(ctx context.Context) *errgroup.Group {
	group := &errgroup.Group{}
	for _, v := range w.vendors {
		v.relay.turn(w.plan.mix)
		v.hooks.turn(w.plan.mix, w.plan.deaf)
	}
	if w.plan.weather {
		wires := slices.Clone(w.pgWires)
		for _, h := range w.hubs {
			wires = append(wires, h.front)
		}
		for _, v := range w.vendors {
			wires = append(wires, v.wire)
		}
		for n, wire := range wires {
			random := w.plan.random(uint64(300 + n))
			group.Go(func() error { return weather(ctx, wire, random, w.count) })
		}
	}
	group.Go(func() error { w.murder(ctx); return nil })
	return group
}

// murder kills at places in the run's progress that the seed names, and stops a hub once.
func (w *world) murder(ctx context.Context) {
	random := w.plan.random(2)
	total := float64(2*w.plan.changes + w.plan.incidents)
	type deed struct {
		at   float64
		what string
	}
	var deeds []deed
	for n := range w.plan.kills { // spread over the run, each somewhere in its part of it
		deeds = append(deeds, deed{(float64(n) + random.Float64()) / float64(w.plan.kills), "hub"})
	}
	for n := range w.plan.pgKills {
		deeds = append(deeds, deed{(float64(n) + random.Float64()) / float64(w.plan.pgKills), "postgres"})
	}
	slices.SortFunc(deeds, func(a, b deed) int { return int((a.at - b.at) * 1e6) })
	var stopped sync.WaitGroup
	defer stopped.Wait()
	if w.plan.stop > 0 {
		stopped.Go(func() { w.freeze(ctx, 0.3*total) })
	}
	for _, d := range deeds {
		if !w.reached(ctx, d.at*0.97*total) {
			return
		}
		switch {
		case d.what == "postgres":
			w.note("PostgreSQL is killed")
			w.database.kill()
		case random.IntN(4) == 0: // both, so that nobody is there for a moment
			w.note("both hubs are killed")
			for _, h := range w.hubs {
				h.kill()
			}
			w.restart(ctx, random, w.hubs...)
		default:
			h := w.hubs[random.IntN(len(w.hubs))]
			w.note("%s is killed", h.name)
			h.kill()
			w.restart(ctx, random, h)
		}
	}
}

// reached waits until so many changes were made; false when ctx ends first.
func (w *world) reached(ctx context.Context, changes float64) bool {
	for float64(w.done.Load()) < changes {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return true
}

func (w *world) restart(ctx context.Context, random *rand.Rand, hubs ...*hub) {
	for _, h := range hubs {
		select {
		case <-time.After(time.Duration(random.IntN(2000)) * time.Millisecond):
		case <-ctx.Done():
		}
		if err := h.start(); err != nil {
			w.flag("the run itself", nil, "%v", err)
		}
		w.note("%s is started", h.name)
	}
}

// freeze stops a hub for longer than a lease lasts, while another works (R7).
func (w *world) freeze(ctx context.Context, after float64) {
	if !w.reached(ctx, after) {
		return
	}
	h := w.hubs[1]
	w.note("%s is stopped", h.name)
	h.signal(syscall.SIGSTOP)
	select {
	case <-time.After(w.plan.stop):
		w.stopped.Store(true)
	case <-ctx.Done():
	}
	h.signal(syscall.SIGCONT)
	w.note("%s goes on", h.name)
}

// heal ends all trouble.
func (w *world) heal() {
	for _, v := range w.vendors {
		v.relay.turn(false)
		v.hooks.calm()
		if !w.plan.deaf {
			v.hooks.turn(false, false)
		}
		if err := v.wire.mend(); err != nil {
			w.t.Errorf("mending %s: %v", v.wire.name, err)
		}
	}
	w.calmAt = time.Now()
	w.note("the last fault is over")
}

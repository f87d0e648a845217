//go:build e2e

package failpoints_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"liaison/internal/failpoint"
)

// point is a fail point of a path: the hub ends when it passes name for the turn-th time.
type point struct {
	path *path
	name string
	turn int
}

func (p point) String() string { return fmt.Sprintf("%s: %s #%d", p.path.name, p.name, p.turn) }

const (
	atOnce   = 4                // hubs that run side by side
	converge = 60 * time.Second // how long both sides may take to agree (RELIABILITY.md, R1)
	fewest   = 60               // points that R6 asks for
	sample   = 240              // points that are tried unless all are asked for, so that it takes minutes
)

// RELIABILITY.md R6: the hub ends at every statement and call of the ways that changes take, each once; afterwards there
// is one ticket, every comment once and in order, equal values on both sides, no write too many and nothing that stands still.
func TestR6EndedAtEveryStatementAndCall(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("LIAISON_FAILPOINTS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("LIAISON_FAILPOINTS_SEED: %q is no number; write the one that an earlier run printed", text)
		}
	}
	t.Logf("seed: LIAISON_FAILPOINTS_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, 6))
	program(t)

	var mu sync.Mutex
	var every []*path
	for n := range paths {
		every = append(every, &paths[n])
	}
	var all []point
	side(t, every, func(t *testing.T, p *path) {
		found := learn(t, p)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, found...)
	}, func(p *path) string { return "learning " + p.name })
	if t.Failed() {
		return
	}
	slices.SortFunc(all, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.path.name, b.path.name), cmp.Compare(a.name, b.name), a.turn-b.turn)
	})
	names := map[string]bool{}
	for _, p := range all {
		names[p.name] = true
	}
	chosen := choose(t, slices.Clone(all), random)
	t.Logf("%d points with %d names, of which %d are tried", len(all), len(names), len(chosen))

	late := map[point]bool{} // the leases of these end after the next hub has started
	for _, p := range chosen {
		late[p] = random.IntN(2) == 0
	}
	reached := map[point]bool{} // under the turn 0: whether any turn was
	var slowest time.Duration
	side(t, chosen, func(t *testing.T, p point) {
		ended, took := false, time.Duration(0)
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			reached[p] = ended
			reached[point{p.path, p.name, 0}] = reached[point{p.path, p.name, 0}] || ended
			slowest = max(slowest, took)
		}()
		for _, turn := range p.tries() {
			if ended, took = end(t, point{p.path, p.name, turn}, late[p]); ended || t.Failed() {
				break
			}
		}
	}, point.String)
	account(t, reached, slowest)
}

// tries are the turns at which to end: what runs side by side in the hub takes turns by chance.
func (p point) tries() []int {
	if filtered() {
		return []int{p.turn, p.turn}
	}
	return []int{p.turn, p.turn, 1}
}

// filtered reports whether somebody named the points to try.
func filtered() bool { return os.Getenv("LIAISON_FAILPOINTS") != "" }

// account says what was tried, and fails when that was too little to prove anything.
func account(t *testing.T, reached map[point]bool, slowest time.Duration) {
	ended, tried, named := 0, 0, 0
	var lost []string
	for p, yes := range reached {
		switch {
		case p.turn > 0:
			tried++
			if yes {
				ended++
			}
		case yes:
			named++
		default:
			named++
			lost = append(lost, p.path.name+": "+p.name)
		}
	}
	slices.Sort(lost)
	t.Logf("the hub ended at %d of %d points, and at %d of %d when all turns of a point count as one; in step again after %s at most", ended, tried, named-len(lost), named, slowest.Round(time.Millisecond))
	if len(lost) > 0 {
		t.Logf("never reached again, because they hang on which part of the hub is faster:\n%s", strings.Join(lost, "\n"))
	}
	if filter := os.Getenv("LIAISON_FAILPOINTS"); filter != "" && filter != "all" {
		return
	}
	if named-len(lost) < fewest {
		t.Errorf("the hub ended at %d points, want at least %d", named-len(lost), fewest)
	}
	if len(lost) > named/10 {
		t.Errorf("%d of %d points were never reached: what the hub passes is left to chance", len(lost), named)
	}
}

// side runs a subtest for each item, some at a time.
func side[T any](t *testing.T, items []T, do func(*testing.T, T), name func(T) string) {
	queue := make(chan T)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for item := range queue {
				t.Run(name(item), func(t *testing.T) { do(t, item) })
			}
		})
	}
	for _, item := range items {
		queue <- item
	}
	close(queue)
	workers.Wait()
}

// learn runs a path once and returns the points on it. What the hub passes when idle as well counts once.
func learn(t *testing.T, p *path) []point {
	w := newWorld(t, p.deaf)
	p.prepare(w)
	w.order("list idle")
	idle := map[string]bool{}
	watched := time.After(2 * time.Second) // four looks by everybody who looks by himself
	<-watched
	for _, name := range w.listed("idle") {
		idle[name] = true
	}
	w.order("list path")
	if err := p.do(w); err != nil {
		t.Fatal(err)
	}
	if err := await(t.Context(), converge, func() error { return p.inStep(w) }); err != nil {
		t.Fatalf("not in step within %s: %v", converge, err)
	}
	w.order("")
	w.agree(p)
	turns := map[string]int{}
	for _, name := range w.listed("path") {
		turns[name]++
	}
	var out []point
	for _, name := range slices.Sorted(maps.Keys(turns)) {
		if idle[name] {
			turns[name] = 1
		}
		for turn := range turns[name] {
			out = append(out, point{p, name, turn + 1})
		}
	}
	for _, part := range p.passes {
		if !slices.ContainsFunc(out, func(p point) bool { return strings.Contains(p.name, part) }) {
			t.Errorf("no point of the path %s has %q in its name", p.name, part)
		}
	}
	t.Logf("%s: %d points with %d names", p.name, len(out), len(turns))
	return out
}

// choose picks the points that this run tries.
func choose(t *testing.T, all []point, random *rand.Rand) []point {
	filter := os.Getenv("LIAISON_FAILPOINTS")
	if filter == "all" {
		return all
	}
	if filter != "" {
		all = slices.DeleteFunc(all, func(p point) bool { return !strings.Contains(p.String(), filter) })
		if len(all) == 0 {
			t.Fatalf("LIAISON_FAILPOINTS: no point's name contains %q; write all, or a part of a name that an earlier run printed", filter)
		}
		return all
	}
	random.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
	seen := map[string]bool{}
	once := slices.DeleteFunc(all, func(p point) bool {
		again := seen[p.name]
		seen[p.name] = true
		return again
	})
	return once[:min(len(once), sample)]
}

// end runs a path until the hub ends at the point, starts it again and checks everything. It reports whether the point
// was reached and how long it took from the start to being in step.
func end(t *testing.T, p point, late bool) (reached bool, took time.Duration) {
	w := newWorld(t, p.path.deaf)
	p.path.prepare(w)
	w.order(fmt.Sprintf("exit %d %s", p.turn, p.name))
	first := w.running()
	did := make(chan error, 1)
	go func() { did <- p.path.do(w) }()
	calm := make(chan struct{})
	go func() {
		defer close(calm)
		if err := <-did; err != nil {
			did <- err
			return
		}
		did <- nil
		_ = await(w.t.Context(), 15*time.Second, func() error {
			select {
			case <-first.ended:
				return nil
			default:
				return p.path.inStep(w)
			}
		})
	}()
	select {
	case <-first.ended:
	case <-calm:
		// It may still pass the point when it looks around by itself.
		select {
		case <-first.ended:
		case <-time.After(time.Second):
			w.order("")
			w.agree(p.path)
			return false, 0
		}
	}
	if code := first.cmd.ProcessState.ExitCode(); code != failpoint.Code {
		t.Fatalf("the hub ended with exit code %d, want %d:\n%s", code, failpoint.Code, first.stderr)
	}
	text, err := os.ReadFile(filepath.Join(w.points, failpoint.ExitedFile))
	if err != nil || strings.TrimSpace(string(text)) != p.name {
		t.Fatalf("the hub says that it ended at %q, want %q: %v", text, p.name, err)
	}
	w.order("")
	began := time.Now()
	leases := w.gone().Add(20 * time.Second)
	if !late {
		w.expire(leases)
	}
	w.start()
	if late {
		w.expire(leases)
	}
	<-calm
	if err := <-did; err != nil {
		t.Fatal(err)
	}
	w.agree(p.path)
	if lines := first.errorLines(); len(lines) > 0 {
		t.Errorf("the hub that ended had logged errors: %s", strings.Join(lines, "\n"))
	}
	return true, time.Since(began)
}

// agree waits until both sides are in step, and proves that they stay so when the hub looks again.
func (w *world) agree(p *path) {
	w.t.Helper()
	if err := await(w.t.Context(), converge, func() error { return p.inStep(w) }); err != nil {
		w.t.Fatalf("not in step within %s: %v", converge, err)
	}
	entries := w.entries()
	if err := w.hint(); err != nil {
		w.t.Fatal(err)
	}
	if err := await(w.t.Context(), converge, func() error { return p.inStep(w) }); err != nil {
		w.t.Fatalf("no longer in step after a further look: %v", err)
	}
	if now := w.entries(); now != entries {
		w.t.Errorf("a further look made %d entries into %d", entries, now)
	}
	if err := p.wrote(w); err != nil {
		w.t.Error(err)
	}
	if lines := w.running().errorLines(); len(lines) > 0 {
		w.t.Errorf("the hub logged errors: %s", strings.Join(lines, "\n"))
	}
}

func (w *world) entries() int {
	w.t.Helper()
	var n int
	if err := w.db.QueryRow(w.t.Context(), `SELECT count(*) FROM ledger_entry`).Scan(&n); err != nil {
		w.t.Fatal(errors.Join(errors.New("counting entries"), err))
	}
	return n
}

package simulation

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	runs  = flag.Int("runs", 300, "how many seeds TestSimulation tries")
	first = flag.Uint64("first", 1, "the first of them")
	seed  = flag.Uint64("seed", 0, "the only seed to try; its whole history is printed")
	stop  = flag.Uint64("stop", 5, "after how many broken seeds to stop")
	tilt  = flag.String("tilt", "", "what to have more of: freezes")
	side  = flag.Int("side", 2, "how many seeds are tried side by side")
)

// tilted is the plan of a seed with more of what -tilt asks for.
func tilted(seed uint64) plan {
	p := newPlan(seed)
	if *tilt == "freezes" {
		p.freezes, p.freezeRate, p.kills = 2, 0.03, 0
	}
	return p
}

// once makes one run in a bubble.
func once(t *testing.T, p plan) result {
	t.Helper()
	var r result
	synctest.Test(t, func(*testing.T) { r = simulate(p) })
	return r
}

// TestSimulation is R16: hubs, vendors, people and faults from a seed, and the promises R1 to R5 and R7 at the end.
func TestSimulation(t *testing.T) { //nolint:tparallel // its sides share the machine with nothing else
	if *seed != 0 {
		p := tilted(*seed)
		p.verbose = testing.Verbose()
		r := once(t, p)
		t.Logf("seed %d: %+v\n%s%s", *seed, p, r.world.trace.about(), r.world.standing())
		report(t, r, "TestSimulation")
		return
	}
	var next, failed atomic.Uint64
	var mu sync.Mutex
	var sum counts
	var slowest time.Duration
	next.Store(*first)
	began := time.Now()
	for n := range *side {
		t.Run(fmt.Sprintf("side %d", n+1), func(t *testing.T) {
			t.Parallel()
			for failed.Load() < *stop {
				s := next.Add(1) - 1
				if s >= *first+uint64(*runs) { //nolint:gosec // not negative
					return
				}
				r := once(t, tilted(s))
				mu.Lock()
				sum.add(r.counts)
				slowest = max(slowest, r.took)
				mu.Unlock()
				if len(r.problems) > 0 {
					failed.Add(1)
					report(t, r, "TestSimulation")
				}
			}
		})
	}
	t.Cleanup(func() {
		t.Logf("%d runs from seed %d in %v: %+v; equal %v after the last fault at the latest", *runs, *first, time.Since(began).Round(time.Millisecond), sum, slowest)
	})
}

// report tells of a run that broke a promise: which, the part of the history that matters, and how to see it again.
func report(t *testing.T, r result, test string) {
	t.Helper()
	if len(r.problems) == 0 {
		return
	}
	words := []string{"killed", "stopped", "goes on", "no more faults", "everybody runs"}
	for _, p := range r.problems {
		for n := 1; n < 10; n++ {
			if link := fmt.Sprintf("link %d", n); mentions(p, link) {
				words = append(words, link, r.world.ticketsOf(link))
			}
		}
	}
	history := r.world.trace.about(words...)
	if lines := strings.SplitAfter(history, "\n"); len(lines) > 200 && *seed == 0 {
		history = strings.Join(lines[:200], "") + fmt.Sprintf("... and %d lines more\n", len(lines)-200)
	}
	t.Errorf("seed %d:\n\t%s\n%s\nalone: go test ./sync/simulation -run %s -seed=%d", r.world.plan.seed, strings.Join(r.problems, "\n\t"), history, test, r.world.plan.seed)
}

func (w *world) ticketsOf(link string) string {
	for _, v := range w.vendors {
		for _, t := range v.tickets {
			if t.link == link {
				return string(t.id)
			}
		}
	}
	return link
}

// TestTheSameSeedGivesTheSameHistory tries seeds twice. When a process that was stopped goes on, everything in it wants to
// run at the same instant, and goroutines that wait for nothing come in any order: from there on histories may differ.
func TestTheSameSeedGivesTheSameHistory(t *testing.T) {
	t.Parallel()
	for s := *first; s < *first+uint64(*runs/3); s++ { //nolint:gosec // not negative
		p := newPlan(s)
		p.verbose = true
		one, two := once(t, p).world.trace, once(t, p).world.trace
		if one.hash() == two.hash() {
			continue
		}
		firstPart := func(t *trace) []string {
			before, _, _ := strings.Cut(t.about(), "goes on")
			return strings.Split(before, "\n")
		}
		a, b := firstPart(one), firstPart(two)
		if len(a) < len(b) {
			a, b = b, a
		}
		for n := range a {
			if n >= len(b) || a[n] != b[n] {
				t.Errorf("seed %d: line %d of the history is\n%s\nthe first time and, the second time,\n%s", s, n, strings.Join(a[max(n-3, 0):min(n+3, len(a))], "\n"), strings.Join(b[max(n-3, 0):min(n+3, len(b))], "\n"))
				break
			}
		}
	}
}

// standing is how both sides stand, for people.
func (w *world) standing() string {
	var b strings.Builder
	c := w.stores.contents()
	for _, i := range c.Incidents {
		fmt.Fprintf(&b, "%s: version %d %v\n", w.stores.name(i.ID.UUID), i.Version, i.Values)
	}
	for _, e := range c.Entries {
		fmt.Fprintf(&b, "%s version %d: %s by %s from %s: %v %v\n", w.stores.name(e.Incident.UUID), e.Version, e.Kind, e.Actor.Name, w.stores.name(e.Link.UUID), e.Changes, e.Detail)
	}
	for _, l := range c.Links {
		fmt.Fprintf(&b, "%s: %s base %v parked %v; due %v held %v taken %v sending %d done %d\n", w.stores.name(l.ID.UUID), l.ExternalID, l.Base, l.Parked,
			l.Due, l.Held, l.Taken, l.SendingVersion, l.DoneVersion)
		for _, d := range c.Deliveries {
			if d.Link == l.ID {
				fmt.Fprintf(&b, "\t%s of version %d %v: %s\n", d.Kind, d.Version, d.Values, d.State)
			}
		}
		for _, v := range w.vendors {
			if t := v.followed(l.ExternalID); t != nil && v.id == l.System {
				fmt.Fprintf(&b, "\tat the vendor: %s\n", show(t.fields))
			}
		}
	}
	return b.String()
}

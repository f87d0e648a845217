package simulation

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"liaison/connectors"
	"liaison/sync/inbound/inboundtest"
	"liaison/sync/ledger/ledgertest"
)

// result is what came of a run.
type result struct {
	problems []string
	world    *world
	took     time.Duration // from the last fault until both sides were equal
	counts   counts
}

// counts tell what a run was made of.
type counts struct {
	changes, edits, calls, faulty, lost, kills, freezes, conflicts, races int
}

func (c *counts) add(o counts) {
	c.changes += o.changes
	c.edits += o.edits
	c.calls += o.calls
	c.faulty += o.faulty
	c.lost += o.lost
	c.kills += o.kills
	c.freezes += o.freezes
	c.conflicts += o.conflicts
	c.races += o.races
}

// mercy is how long after the last fault both sides may differ, beside a poll's interval.
const mercy = time.Minute

// simulate makes one run in memory. It is called in a bubble.
func simulate(p plan) result {
	w := newWorld(p, 1)
	clock := func() time.Time { return w.clock.now().Add(p.storeSkew) }
	rows := ledgertest.NewMemory(clock, w.systems()...)
	w.stores = inMemory{rows: rows, hints: inboundtest.NewMemory(clock, nil)}
	r := w.run()
	for _, u := range rows.Unfenced() {
		r.problems = append(r.problems, "R7: written without the lane's fence: "+u)
	}
	return r
}

// run lets people, agents, hubs and faults loose, ends the faults, and looks what came of it.
func (w *world) run() result {
	for n := range w.plan.hubs {
		w.start(n)
	}
	for n := range w.plan.people {
		w.people = append(w.people, w.newPerson(n))
	}
	var busy sync.WaitGroup
	for n, p := range w.people {
		mine := w.plan.incidents/w.plan.people + min(1, max(0, w.plan.incidents%w.plan.people-n))
		busy.Go(func() { p.live(mine) })
	}
	for _, v := range w.vendors {
		busy.Go(v.work)
	}
	busy.Wait()
	_ = w.clock.sleep(context.Background(), max(w.plan.span-w.clock.since(), 0))
	w.calm.Store(true)
	w.trace.add("world", "no more faults")
	for !w.healed() {
		_ = w.clock.sleep(context.Background(), time.Second)
	}
	r := result{world: w}
	healed := w.clock.since()
	w.trace.add("world", "everybody runs")
	for {
		_ = w.clock.sleep(context.Background(), 2*time.Second)
		problems := w.check(&r.counts)
		r.took = w.clock.since() - healed
		if len(problems) == 0 {
			break
		}
		if r.took > mercy+w.plan.poll+w.patience {
			r.problems = append(r.problems, problems...)
			break
		}
	}
	w.trace.add("world", "equal after %v", r.took)
	before, known := w.written(), len(w.stores.contents().Entries)
	_ = w.clock.sleep(context.Background(), 10*time.Second)
	// A late hint may still have brought something, which other vendors then hear of.
	if after := w.written(); len(r.problems) == 0 && after != before && len(w.stores.contents().Entries) == known {
		r.problems = append(r.problems, fmt.Sprintf("R4: %d writes although both sides were equal", after-before))
	}
	if len(r.problems) == 0 {
		r.problems = append(r.problems, w.check(&r.counts)...)
	}
	w.mu.Lock()
	r.problems = append(r.problems, w.broke...)
	w.mu.Unlock()
	r.counts.calls, r.counts.faulty, r.counts.lost = int(w.calls.Load()), int(w.faulty.Load()), int(w.lost.Load())
	r.counts.kills, r.counts.freezes = int(w.killings.Load()), int(w.stops.Load())
	w.end()
	slices.Sort(r.problems)
	r.problems = slices.Compact(r.problems)
	return r
}

// healed reports whether every place has a process that runs.
func (w *world) healed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hubs {
		if h == nil || h.dead.Load() {
			return false
		}
		h.mu.Lock()
		frozen := h.frozen != nil
		h.mu.Unlock()
		if frozen {
			return false
		}
	}
	return true
}

// end stops the processes as SIGTERM does.
func (w *world) end() {
	w.ended.Store(true)
	w.mu.Lock()
	all := slices.Clone(w.all)
	w.mu.Unlock()
	for _, h := range all {
		h.stop()
	}
	for _, h := range all {
		h.runs.Wait()
	}
	// What is still on its way through the network arrives, at nobody.
	_ = w.clock.sleep(context.Background(), time.Minute)
}

// written counts the hubs' writes at the vendors.
func (w *world) written() int {
	n := 0
	for _, v := range w.vendors {
		v.mu.Lock()
		for _, t := range v.tickets {
			for _, a := range t.acts {
				if a.ours {
					n++
				}
			}
		}
		v.mu.Unlock()
	}
	return n
}

// followed returns the ticket that a link follows.
func (v *vendor) followed(id connectors.ExternalID) *ticket {
	if id == "" {
		return nil
	}
	return v.find(id)
}

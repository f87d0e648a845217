//go:build chaos

package chaos_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report prints what the run was and what it found, and fails the test for each broken promise.
func (w *world) report() {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "  %s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(out, "%s, seed %d, %s\n", w.plan.name, w.plan.seed, time.Since(w.began).Truncate(time.Second))
	line("changes", "%d in the hub, %d at vendors, on %d incidents", w.hubDid.Load(), w.theyDid.Load(), len(w.incidents))
	calls, struck, lostAnswers, writes := 0, map[fault]int{}, 0, 0
	for _, v := range w.vendors {
		v.relay.mu.Lock()
		calls += v.relay.calls
		lostAnswers += v.relay.lost
		writes += len(v.relay.writes)
		for f, n := range v.relay.struck {
			struck[f] += n
		}
		v.relay.mu.Unlock()
	}
	sum := 0
	var kinds []string
	for _, m := range mix {
		sum += struck[m.fault]
		kinds = append(kinds, fmt.Sprintf("%s %d", m.fault, struck[m.fault]))
	}
	line("vendor calls under fault", "%d, of which %d faulted (%.1f %%): %s", calls, sum, 100*float64(sum)/float64(max(1, calls)), strings.Join(kinds, ", "))
	line("answers lost after commit", "%d, of %d writes", lostAnswers, writes)
	came, twice, late, never, arrived := 0, 0, 0, 0, 0
	for _, v := range w.vendors {
		v.hooks.mu.Lock()
		came, twice, late, never, arrived = came+v.hooks.came, twice+v.hooks.twice, late+v.hooks.late, never+v.hooks.never, arrived+v.hooks.ok
		v.hooks.mu.Unlock()
	}
	line("webhooks", "%d made; %d sent twice, %d late and out of order, %d never; %d deliveries acknowledged", came, twice, late, never, arrived)
	var troubles []string
	for _, kind := range slices.Sorted(maps.Keys(w.troubles)) {
		troubles = append(troubles, fmt.Sprintf("%s %d", kind, w.troubles[kind]))
	}
	line("trouble on wires", "%s", strings.Join(troubles, ", "))
	kills, starts, early := int64(0), int64(0), int64(0)
	for _, h := range w.hubs {
		kills, starts, early = kills+h.kills.Load(), starts+h.starts.Load(), early+h.leftEarly.Load()
	}
	line("kill -9", "%d of hubs, %d of PostgreSQL; %d starts of hubs, %d of which found no database", kills, w.database.kills.Load(), starts, early)
	if w.plan.stop > 0 {
		line("SIGSTOP", "of a hub for %s: %v", w.plan.stop, w.stopped.Load())
	}
	line("GraphQL", "%d requests", w.attempts.Load())
	line("subscribers", "%d entries received over %d connections", w.received, w.lives)
	entries := 0
	for _, r := range w.rows {
		entries += len(r.entries)
	}
	line("ledger", "%d entries, %d of them conflicts", entries, w.conflicts)
	line("both sides equal", "%.1f s after the last fault; %d writes after that", w.converged.Seconds(), w.quiet)
	line("liaison sync reconcile", "%d links by %d requests", w.compared, w.requests)
	line("the last to come", "%.300s", strings.Join(head(w.last), "; "))
	for _, p := range properties {
		n := 0
		for _, v := range w.found {
			if v.property == p {
				n++
			}
		}
		line(p, "%d violations", n)
	}
	_ = out.Flush() // to the terminal

	shown := map[*incident]bool{}
	for n, v := range w.found {
		if n == 60 {
			w.t.Errorf("... and %d more violations", len(w.found)-n)
			break
		}
		who := ""
		if v.incident != nil {
			who = v.incident.number + ": "
		}
		w.t.Errorf("seed %d: %s: %s%s", w.plan.seed, v.property, who, v.text)
		if v.incident != nil && !shown[v.incident] && len(shown) < 6 {
			shown[v.incident] = true
			w.t.Log(w.story(v.incident))
		}
	}
	if len(w.found) > 0 {
		w.t.Logf("what was done:\n%s", strings.Join(w.events, "\n"))
	}
}

// story is the history of an incident on all sides.
func (w *world) story(i *incident) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (incident %d; title by %s, priority by %s, state by %s)\nthe ledger:\n", i.number, i.n, i.title, i.priority, i.state)
	r := w.rows[i.number]
	if r == nil {
		return b.String() + "is not there"
	}
	for _, e := range r.entries {
		fmt.Fprintf(&b, "  %s\n", e)
	}
	fmt.Fprintf(&b, "now: %q %s %s version %d\n", r.title, r.priority, r.state, r.version)
	for _, v := range i.vendors {
		l := r.links[v.key]
		if l == nil {
			continue
		}
		fmt.Fprintf(&b, "%s: %+v\n", v.key, *l)
		if t := w.theirs[v][l.ticket]; t != nil {
			for _, h := range t.history {
				fmt.Fprintf(&b, "  %s\n", h)
			}
			fmt.Fprintf(&b, "now: %q %s %s\n", t.title, t.priority, t.state)
		}
		v.relay.mu.Lock()
		for _, c := range v.relay.writes {
			if l.ticket != "" && strings.Contains(c.path, l.ticket) || strings.Contains(c.body, l.correlation) {
				fmt.Fprintf(&b, "  call %s\n", c)
			}
		}
		v.relay.mu.Unlock()
	}
	return b.String()
}

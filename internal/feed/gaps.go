package feed

import (
	"slices"
)

// gap is a range of ids, both ends included, below the highest one seen, of which none has been seen committed.
type gap struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Writers are the transactions that may still commit one of these ids: nil until somebody has looked.
	Writers []string `json:"writers"`
}

// examine notes who may still fill the gaps, given every transaction that may write entries now. It must be
// called before the entries are read: whoever is gone by then has committed or never will.
func examine(gaps []gap, writers []string) []gap {
	examined := make([]gap, len(gaps))
	for n, g := range gaps {
		candidates := g.Writers
		if candidates == nil {
			candidates = writers // the owners drew their ids before the gap was seen, so they are among these
		}
		g.Writers = make([]string, 0, len(candidates))
		for _, w := range candidates {
			if slices.Contains(writers, w) {
				g.Writers = append(g.Writers, w)
			}
		}
		examined[n] = g
	}
	return examined
}

// advance takes the ids that one statement saw committed, in rising order, out of the gaps and moves scanned up
// to the highest of them. Ids passed over become gaps; gaps that nobody can fill any more are given up. When
// the statement was cut short by its row limit, it has said nothing about the gaps beyond its last id.
//
// Neighbouring gaps cannot be joined: what lies between them is stamped, and would be stamped again. Their
// number is bounded by the appends rolled back in the lifetime of the oldest transaction that writes entries.
func advance(gaps []gap, scanned int64, seen []int64, cutShort bool) ([]gap, int64) {
	kept := make([]gap, 0, len(gaps))
	next := 0 // index into seen
	for _, g := range gaps {
		from := g.From
		for next < len(seen) && seen[next] <= g.To {
			if seen[next] > from {
				kept = append(kept, gap{From: from, To: seen[next] - 1, Writers: g.Writers})
			}
			from = seen[next] + 1
			next++
		}
		if from <= g.To {
			kept = append(kept, gap{From: from, To: g.To, Writers: g.Writers})
		}
	}
	known := int64(-1)
	if cutShort {
		known = seen[len(seen)-1]
	}
	kept = slices.DeleteFunc(kept, func(g gap) bool {
		return g.Writers != nil && len(g.Writers) == 0 && (!cutShort || g.To <= known)
	})
	for _, id := range seen[next:] {
		if id > scanned+1 {
			kept = append(kept, gap{From: scanned + 1, To: id - 1})
		}
		scanned = id
	}
	return kept, scanned
}

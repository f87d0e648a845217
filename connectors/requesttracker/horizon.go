package requesttracker

import (
	"encoding/json"
	"errors"
	"slices"
	"sort"
	"time"
)

// horizon is a place in a stream of transaction ids. RT gives an id when a change begins and shows it when the change is
// committed, so a lower id can appear after a higher one was read. A horizon therefore has a floor, below which nothing can
// appear any more, and beyond it the ids that were seen: each reading begins at the floor and passes over those.
//
// The floor rises by the hub's own clock. When a reading has ended, every id up to the newest that it saw was given out
// before that moment. A later reading that began at least the overlap after it, and reached as far, has seen whatever became
// of them, so the floor may follow. However long the hub was away, one reading lies between.
type horizon struct {
	Version int    `json:"v"`
	Floor   int64  `json:"floor"`
	Seen    []span `json:"seen,omitempty"` // in order, apart from one another
	Tops    []top  `json:"tops,omitempty"` // in order
}

// span is a run of ids without a gap, its ends included.
type span [2]int64

// top is the newest id that was seen until some moment.
type top struct {
	At int64 `json:"at"` // Unix seconds
	ID int64 `json:"id"`
}

// formatVersion changes when old cursors and marks can no longer be read.
const formatVersion = 1

// topsPerOverlap is how finely the floor follows.
const topsPerOverlap = 8

var errForeign = errors.New("is none of this connector's")

// valid tells whether a horizon that was read back is one that was written.
func (h horizon) valid() bool {
	if h.Version != formatVersion || h.Floor < 0 {
		return false
	}
	last := h.Floor
	for _, s := range h.Seen {
		if s[0] <= last || s[1] < s[0] {
			return false
		}
		last = s[1]
	}
	newest := h.newest()
	return !slices.ContainsFunc(h.Tops, func(t top) bool { return t.ID > newest || t.ID < 0 })
}

// newest is the highest id seen, or the floor.
func (h horizon) newest() int64 {
	if n := len(h.Seen); n > 0 {
		return h.Seen[n-1][1]
	}
	return h.Floor
}

func (h horizon) knows(id int64) bool {
	if id <= h.Floor {
		return true
	}
	i := sort.Search(len(h.Seen), func(i int) bool { return h.Seen[i][1] >= id })
	return i < len(h.Seen) && h.Seen[i][0] <= id
}

// add notes an id as seen and tells whether it is new.
func (h *horizon) add(id int64) bool {
	if h.knows(id) {
		return false
	}
	i := sort.Search(len(h.Seen), func(i int) bool { return h.Seen[i][1] >= id })
	h.Seen = slices.Insert(slices.Clone(h.Seen), i, span{id, id})
	if i+1 < len(h.Seen) && h.Seen[i+1][0] == id+1 {
		h.Seen[i][1] = h.Seen[i+1][1]
		h.Seen = slices.Delete(h.Seen, i+1, i+2)
	}
	if i > 0 && h.Seen[i-1][1] == id-1 {
		h.Seen[i-1][1] = h.Seen[i][1]
		h.Seen = slices.Delete(h.Seen, i, i+1)
	}
	return true
}

// settle is called when a reading from the floor, begun and ended at those times, is complete. reached is the last id
// that it read: what lies beyond it was not looked at again, whatever was seen there before, so the floor stays below.
func (h *horizon) settle(began, ended time.Time, overlap time.Duration, reached int64) {
	tops := slices.Clone(h.Tops)
	for i := range tops {
		tops[i].At = min(tops[i].At, ended.Unix()) // the clock was set back
	}
	for len(tops) > 0 && !time.Unix(tops[0].At, 0).Add(overlap).After(began) && tops[0].ID <= reached {
		h.raise(tops[0].ID)
		tops = tops[1:]
	}
	at, newest := ended.Add(time.Second-1).Unix(), h.newest()
	if newest > h.Floor {
		switch n := len(tops); {
		case n == 0, tops[n-1].ID < newest && at-tops[n-1].At >= int64(overlap.Seconds())/topsPerOverlap:
			tops = append(tops, top{at, newest})
		}
	}
	h.Tops = tops
}

func (h *horizon) raise(floor int64) {
	h.Floor = max(h.Floor, floor)
	var seen []span
	for _, s := range h.Seen {
		if s[1] > h.Floor {
			seen = append(seen, span{max(s[0], h.Floor+1), s[1]})
		}
	}
	h.Seen = seen
}

// horizonNow is the place behind the newest of ids, of which those up to settled are past changing.
func horizonNow(ids []int64, settled int64, now time.Time) horizon {
	h := horizon{Version: formatVersion, Floor: settled}
	for _, id := range ids {
		h.add(id)
	}
	h.settle(now, now, time.Hour, settled) // nothing to raise; notes the top
	return h
}

func (h horizon) String() string {
	h.Version = formatVersion
	return mustJSON(h)
}

// mustJSON marshals what holds numbers and strings only.
func mustJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

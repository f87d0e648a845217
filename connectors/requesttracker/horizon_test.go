package requesttracker

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"liaison/connectors"
)

func TestHorizonAdd(t *testing.T) {
	t.Parallel()
	h := horizon{Version: formatVersion, Floor: 10}
	for _, step := range []struct {
		id   int64
		new  bool
		seen []span
	}{
		{9, false, nil},
		{10, false, nil},
		{14, true, []span{{14, 14}}},
		{12, true, []span{{12, 12}, {14, 14}}},
		{12, false, []span{{12, 12}, {14, 14}}},
		{13, true, []span{{12, 14}}},
		{20, true, []span{{12, 14}, {20, 20}}},
		{11, true, []span{{11, 14}, {20, 20}}},
		{21, true, []span{{11, 14}, {20, 21}}},
	} {
		if got := h.add(step.id); got != step.new {
			t.Errorf("add(%d) is %t, want %t", step.id, got, step.new)
		}
		if diff := cmp.Diff(step.seen, h.Seen); diff != "" {
			t.Errorf("after %d (-want +got):\n%s", step.id, diff)
		}
		if !h.valid() {
			t.Errorf("after %d the horizon is not valid: %+v", step.id, h)
		}
	}
}

// TestHorizonReadsOnceMore: an id that appears within the overlap is found, also when the hub slept in between: the floor
// follows only after a reading that began the overlap later.
func TestHorizonReadsOnceMore(t *testing.T) {
	t.Parallel()
	const overlap = 5 * time.Minute
	start := time.Date(2026, 11, 21, 19, 0, 0, 0, time.UTC)
	h := horizon{Version: formatVersion, Floor: 100}
	h.add(105) // 104 has its id and is not committed
	h.settle(start, start, overlap, math.MaxInt64)
	if h.Floor != 100 {
		t.Fatalf("the floor rose to %d at once", h.Floor)
	}
	later := start.Add(2 * time.Hour)
	if h.knows(104) {
		t.Fatal("104 was never seen")
	}
	h.add(104)
	h.settle(later, later, overlap, math.MaxInt64)
	if h.Floor != 105 || len(h.Seen) != 0 {
		t.Errorf("after a reading two hours later: %+v, want the floor at 105", h)
	}
}

func TestHorizonClockSetBack(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 19, 0, 0, 0, time.UTC)
	h := horizon{Version: formatVersion, Floor: 100, Seen: []span{{101, 101}}, Tops: []top{{now.AddDate(1, 0, 0).Unix(), 101}}}
	h.settle(now, now, time.Minute, math.MaxInt64)
	later := now.Add(2 * time.Minute)
	h.settle(later, later, time.Minute, math.MaxInt64)
	if h.Floor != 101 {
		t.Errorf("the floor is stuck at %d for a year", h.Floor)
	}
}

// TestHorizonProperties plays a vendor whose changes take up to the overlap from their id to their commit, and a hub that
// reads at irregular times: every change is given out, each once, and what is kept stays bounded.
func TestHorizonProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const overlap = 300 * time.Second
		type change struct {
			id      int64
			visible time.Time
		}
		now := time.Date(2026, 11, 21, 19, 0, 0, 0, time.UTC)
		var changes []change
		given := map[int64]int{}
		h := horizon{Version: formatVersion}
		poll := func() {
			began := now
			for _, c := range changes {
				if c.id > h.Floor && !c.visible.After(now) && h.add(c.id) {
					given[c.id]++
				}
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "reading")) * time.Second)
			h.settle(began, now, overlap, math.MaxInt64)
			text, err := json.Marshal(h)
			if err != nil {
				t.Fatal(err)
			}
			h = horizon{}
			if err := json.Unmarshal(text, &h); err != nil || !h.valid() {
				t.Fatalf("%s is not read back: %v", text, err)
			}
		}
		next := int64(1)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 30, 250, 280, 310, 5000}).Draw(t, "pause")) * time.Second)
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				took := time.Duration(rapid.SampledFrom([]int{0, 0, 1, 60, 295, 300}).Draw(t, "took")) * time.Second
				changes = append(changes, change{next, now.Add(took)})
				next += int64(rapid.IntRange(1, 3).Draw(t, "gap"))
			}
			if rapid.Bool().Draw(t, "poll") {
				poll()
			}
		}
		for range 3 {
			now = now.Add(overlap + time.Second)
			poll()
		}
		for _, c := range changes {
			if given[c.id] != 1 {
				t.Fatalf("change %d was given %d times", c.id, given[c.id])
			}
		}
		if len(h.Seen) > 0 || len(h.Tops) > topsPerOverlap+2 {
			t.Fatalf("still kept after a quiet time: %+v", h)
		}
	})
}

func TestCursorReadBack(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]connectors.Cursor{
		"no JSON": "rubbish", "another's": `{"since":"yesterday"}`, "empty object": "{}", "a list": "[]", "null": "null",
		"another format": `{"v":2,"floor":1}`, "floor below zero": `{"v":1,"floor":-1}`, "seen below the floor": `{"v":1,"floor":9,"seen":[[3,4]]}`,
		"seen backwards": `{"v":1,"floor":1,"seen":[[9,4]]}`, "seen twice": `{"v":1,"floor":1,"seen":[[3,4],[4,5]]}`,
		"top beyond": `{"v":1,"floor":1,"tops":[{"at":1,"id":7}]}`, "sweep below the floor": `{"v":1,"floor":5,"sweep":{"began":1,"pos":2}}`,
	} {
		if c, err := readCursor(text); err == nil {
			t.Errorf("%s: %s was read as %+v", name, text, c)
		}
	}
	want := cursor{
		horizon: horizon{Version: formatVersion, Floor: 7, Seen: []span{{9, 11}}, Tops: []top{{100, 11}}},
		Sweep:   &sweep{Began: 99, Pos: 11, Page: 2}, Probed: 98,
	}
	got, err := readCursor(want.String())
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(cursor{})); diff != "" || err != nil {
		t.Errorf("read back with %v (-want +got):\n%s", err, diff)
	}
}

// FuzzCursor: whatever stood in the hub's tables, it is refused or stays a cursor.
func FuzzCursor(f *testing.F) {
	f.Add(`{"v":1,"floor":7,"seen":[[9,11],[13,13]],"tops":[{"at":100,"id":13}],"sweep":{"began":1,"pos":9}}`, int64(12))
	f.Add(`{"v":1,"floor":0}`, int64(1))
	f.Add(`{}`, int64(0))
	f.Add(`{"v":1,"floor":9223372036854775807,"seen":[]}`, int64(9223372036854775807))
	f.Fuzz(func(t *testing.T, text string, id int64) {
		c, err := readCursor(connectors.Cursor(text))
		if err != nil {
			return
		}
		known := c.knows(id)
		if added := c.add(id); added == known || !c.knows(id) {
			t.Errorf("add(%d) is %t, known before: %t", id, added, known)
		}
		c.settle(time.Unix(1000, 0), time.Unix(1001, 0), time.Minute, math.MaxInt64)
		if _, err := readCursor(c.String()); err != nil && c.Sweep == nil {
			t.Errorf("%s is not read back", c.String())
		}
	})
}

package feed

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"liaison/internal/feed/internal/db"
)

func TestAdvance(t *testing.T) {
	t.Parallel()
	gone, alive := []string{}, []string{"3/7"}
	for _, c := range []struct {
		name     string
		gaps     []gap
		scanned  int64
		seen     []int64
		cutShort bool
		want     []gap
		wantUpTo int64
	}{
		{name: "nothing", scanned: 5, want: []gap{}, wantUpTo: 5},
		{name: "in a row", scanned: 5, seen: []int64{6, 7}, want: []gap{}, wantUpTo: 7},
		{name: "passed over", scanned: 5, seen: []int64{8, 10}, want: []gap{{From: 6, To: 7}, {From: 9, To: 9}}, wantUpTo: 10},
		{name: "a crash's jump", scanned: 1, seen: []int64{34}, want: []gap{{From: 2, To: 33}}, wantUpTo: 34},
		{name: "late, first of the gap", gaps: []gap{{2, 4, alive}}, scanned: 9, seen: []int64{2}, want: []gap{{3, 4, alive}}, wantUpTo: 9},
		{name: "late, in the middle", gaps: []gap{{2, 4, alive}}, scanned: 9, seen: []int64{3}, want: []gap{{2, 2, alive}, {4, 4, alive}}, wantUpTo: 9},
		{name: "late, all", gaps: []gap{{2, 4, alive}}, scanned: 9, seen: []int64{2, 3, 4, 10}, want: []gap{}, wantUpTo: 10},
		{name: "not looked at yet: kept", gaps: []gap{{2, 4, nil}}, scanned: 9, want: []gap{{2, 4, nil}}, wantUpTo: 9},
		{name: "nobody left: given up", gaps: []gap{{2, 4, gone}, {6, 6, alive}}, scanned: 9, want: []gap{{6, 6, alive}}, wantUpTo: 9},
		{name: "nobody left, yet it came", gaps: []gap{{2, 4, gone}}, scanned: 9, seen: []int64{3}, want: []gap{}, wantUpTo: 9},
		{
			name: "cut short: not read that far", gaps: []gap{{2, 4, gone}, {6, 8, gone}}, scanned: 9, seen: []int64{7}, cutShort: true,
			want: []gap{{8, 8, gone}}, wantUpTo: 9,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, upTo := advance(c.gaps, c.scanned, c.seen, c.cutShort)
			if diff := cmp.Diff(c.want, got); diff != "" || upTo != c.wantUpTo {
				t.Errorf("up to %d, want %d; gaps (-want +got):\n%s", upTo, c.wantUpTo, diff)
			}
		})
	}
}

// A world of transactions that draw ids, commit late, roll back or take crashes with them: however the passes
// fall in between, each committed id is stamped exactly once and no gap stays for ever.
func TestGapsAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type writer struct {
			name string
			ids  []int64
		}
		var (
			nextID, nextName int64
			open             []writer
			committed        []int64 // visible now
			stamped          []int64
			gaps             []gap
			scanned          int64
		)
		drop := func(n int) writer {
			w := open[n]
			open = slices.Delete(slices.Clone(open), n, n+1)
			return w
		}
		names := func() []string {
			all := make([]string, 0, len(open))
			for _, w := range open {
				all = append(all, w.name)
			}
			return all
		}
		finish := func() {
			n := rapid.IntRange(0, len(open)-1).Draw(t, "who")
			if w := drop(n); rapid.Bool().Draw(t, "commit") {
				committed = append(committed, w.ids...)
			}
		}
		sweep := func(limit int) {
			writers := names()
			// Between the look at the writers and the statement's snapshot anything may happen.
			if len(open) > 0 && rapid.Bool().Draw(t, "finish in between") {
				finish()
			}
			gaps = examine(gaps, writers)
			visible := slices.DeleteFunc(slices.Clone(committed), func(id int64) bool {
				return id <= scanned && !slices.ContainsFunc(gaps, func(g gap) bool { return g.From <= id && id <= g.To })
			})
			slices.Sort(visible)
			seen := visible[:min(limit, len(visible))]
			gaps, scanned = advance(gaps, scanned, seen, len(seen) == limit)
			stamped = append(stamped, seen...)
			if !slices.IsSortedFunc(gaps, func(a, b gap) int { return int(a.From - b.To) }) {
				t.Fatalf("gaps overlap or are out of order: %v", gaps)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin": func(*rapid.T) {
				nextName++
				open = append(open, writer{name: fmt.Sprint(nextName)})
			},
			"draw": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip() // rapid draws another step: nobody is writing
				}
				nextID++
				n := rapid.IntRange(0, len(open)-1).Draw(t, "who")
				open[n].ids = append(slices.Clone(open[n].ids), nextID)
			},
			"finish": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip() // rapid draws another step: nobody is writing
				}
				finish()
			},
			"crash": func(*rapid.T) { open, nextID = nil, nextID+32 },
			"pass":  func(t *rapid.T) { sweep(rapid.IntRange(1, 4).Draw(t, "limit")) },
		})
		for len(open) > 0 {
			finish()
		}
		for range len(committed) + 3 {
			sweep(3)
		}
		slices.Sort(stamped)
		slices.Sort(committed)
		if !slices.Equal(stamped, committed) {
			t.Fatalf("stamped %v, committed %v", stamped, committed)
		}
		if len(gaps) > 0 {
			t.Fatalf("gaps that nobody can fill stayed: %v", gaps)
		}
	})
}

func TestInVersionOrder(t *testing.T) {
	t.Parallel()
	a, b := uuid.New(), uuid.New()
	entry := func(id int64, incident uuid.UUID, version int64) db.ListUnstampedRow {
		return db.ListUnstampedRow{ID: id, OrganisationID: 1, IncidentID: incident, Version: version}
	}
	got := inVersionOrder([]db.ListUnstampedRow{entry(1, a, 3), entry(2, b, 1), entry(3, a, 1), entry(4, a, 2), entry(5, b, 2)})
	want := []db.ListUnstampedRow{entry(3, a, 1), entry(2, b, 1), entry(4, a, 2), entry(1, a, 3), entry(5, b, 2)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFingerprintMatches(t *testing.T) {
	t.Parallel()
	full := fingerprint{"database": "5", "feed": "7", "system": "99", "timeline": "00000001"}
	for _, c := range []struct {
		name, stored string
		same         bool
	}{
		{"the same", full.String(), true},
		{"settled by a role that may see less", "database=5 feed=7", true},
		{"never settled", "", false},
		{"restored dump", "database=5 feed=8 system=99 timeline=00000001", false},
		{"clone in the same cluster", "database=6 feed=7 system=99 timeline=00000001", false},
		{"another cluster", "database=5 feed=7 system=98 timeline=00000001", false},
		{"promoted or recovered to a point in time", "database=5 feed=7 system=99 timeline=00000002", false},
	} {
		if got := parseFingerprint(c.stored).matches(full); got != c.same {
			t.Errorf("%s: %v, want %v", c.name, got, c.same)
		}
	}
}

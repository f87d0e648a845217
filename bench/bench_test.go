package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"liaison/internal/postgres/embedded"
)

func TestFiguresOfRounds(t *testing.T) {
	t.Parallel()
	seconds := func(n ...int) (out []sample) {
		for _, count := range n {
			out = append(out, sample{count: count, took: time.Second, latencies: []time.Duration{time.Millisecond, 3 * time.Millisecond, 2 * time.Millisecond}})
		}
		return out
	}
	// The second round was disturbed on both sides: the ratio of the same round hardly shows it.
	ours, theirs := seconds(50, 20, 60), seconds(100, 50, 100)
	s, c := sum("x", ours), compare(0, ours, theirs, false)
	if s.Rate != 50 || c.Ratio != 0.5 || c.Low != 0.4 || c.High != 0.6 {
		t.Errorf("rate %v, ratio %v (%v to %v); want 50, 0.5 (0.4 to 0.6)", s.Rate, c.Ratio, c.Low, c.High)
	}
	if c := compare(0, ours, theirs, true); c.Ratio != 0 {
		t.Errorf("at a rate that is given the ratio is %v, want none", c.Ratio)
	}
	if s.P50 != 2 || s.P99 != 3 {
		t.Errorf("p50 %v, p99 %v; want 2, 3", s.P50, s.P99)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("the median of four is %v, want the mean of the middle two", m)
	}
	var hundred []time.Duration
	for n := range 100 {
		hundred = append(hundred, time.Duration(100-n))
	}
	if p50, p99 := percentile(hundred, 50), percentile(hundred, 99); p50 != 50 || p99 != 99 {
		t.Errorf("of 1 to 100, p50 is %d and p99 %d", p50, p99)
	}
}

func TestRepeatCountsWhatIsWhole(t *testing.T) {
	t.Parallel()
	w := &world{server: &embedded.Server{}}
	s, err := w.repeat(t.Context(), 4, 20*time.Millisecond, func(context.Context, int, int) error { return nil })
	if err != nil || s.count == 0 || s.count != len(s.latencies) || s.took < 20*time.Millisecond {
		t.Errorf("%d things, %d latencies, %s, %v", s.count, len(s.latencies), s.took, err)
	}
	broken := errors.New("broken")
	_, err = w.repeat(t.Context(), 4, time.Minute, func(_ context.Context, worker, turn int) error {
		if worker == 2 && turn == 3 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("the error of one worker came out as %v", err)
	}
}

func TestBadFlagsNameTheRemedy(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-only a,x":    `there is no row "x"; use a to h`,
		"-seconds 0":   "use more than 0",
		"-rounds 0":    "use at least 1",
		"-set jit":     "name=value",
		"faster":       `"faster" is no flag`,
		"-quick extra": `"extra" is no flag`,
	} {
		if _, err := parse(strings.Fields(args), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", args, err, want)
		}
	}
}

// Every row, small: the peers answer the same, nothing is lost, and nothing stays behind.
func TestAllRows(t *testing.T) {
	if testing.Short() {
		t.Skip("starts PostgreSQL and runs every row; leave out -short for it")
	}
	t.Parallel()
	// Not t.TempDir: PostgreSQL's own user must be able to enter it.
	dir, err := os.MkdirTemp("/tmp", "liaison-bench-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "figures.json")
	var table, log bytes.Buffer
	if err := run(t.Context(), []string{"-quick", "-seconds", "0.3", "-rounds", "1", "-seed", "5", "-dir", dir, "-json", file}, &table, &log); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	for _, want := range []string{"seed 5", "PostgreSQL 1", "fsync on", "synchronous_commit on", "load before", "the list query over GraphQL", "ledger.Append", "incidentChanged", "title updates", "round trips per list", "River v0.26", "bound, "} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The bounds of issue 3: two sides of appends and their NOTIFYs, two of lanes beside two peers, one of the backlog,
	// two of latency in an idle hub, and in a busy one both latencies with the rates that they are measured at.
	bounds := map[string]int{"b": 3, "d": 4, "e": 1, "f": 1, "g": 1, "h": 4}
	var r report
	if err := json.Unmarshal(text, &r); err != nil || len(r.Rows) != 8 {
		t.Fatalf("%d rows, %v", len(r.Rows), err)
	}
	for _, row := range r.Rows {
		for _, side := range row.Liaison {
			paced := strings.Contains("fgh", row.Key)
			if side.Rate <= 0 || len(side.Beside) == 0 || paced && side.P99 <= 0 {
				t.Errorf("row %s: %+v", row.Key, side)
			}
			for _, c := range side.Beside {
				if row.Peers[c.Peer].Rate <= 0 || (c.Ratio <= 0) != paced {
					t.Errorf("row %s: %s beside %s: %v, ratio %v", row.Key, side.Name, row.Short[c.Peer], row.Peers[c.Peer].Rate, c.Ratio)
				}
			}
		}
		if want := bounds[row.Key]; len(row.Bounds) != want {
			t.Errorf("row %s tells of %d bounds, want %d: %+v", row.Key, len(row.Bounds), want, row.Bounds)
		}
		for _, b := range row.Bounds {
			if !strings.Contains(table.String(), b.What) {
				t.Errorf("row %s: the table says nothing of the bound %q", row.Key, b.What)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTitlesTellTheirNumber(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 7, 999_999_999} {
		text := []byte(`{"ticket":"x","text":"` + title(n) + `"}`)
		if got, ok := serial(text); !ok || got != n {
			t.Errorf("%s: number %d, %v; want %d", text, got, ok, n)
		}
	}
	for _, text := range []string{"", `{"title":"another"}`, titled, titled + "123456789", titled + "12345678x0"} {
		if n, ok := serial([]byte(text)); ok {
			t.Errorf("%q: found the number %d in it", text, n)
		}
	}
}

func TestStopwatch(t *testing.T) {
	t.Parallel()
	began := time.Now()
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	s := newStopwatch()
	for n, turn := range []int{0, 1, 0, 2} {
		s.begin(turn, int64(n))
		s.start(int64(n), at(10*n))
	}
	s.arrive(99, at(1)) // nobody's
	s.arrive(2, at(50)) // of the incident of change 0, which was overtaken
	s.arrive(0, at(55)) // late, and of no more use
	s.arrive(3, at(20)) // there before its maker was told
	if s.wait(canceled(t), nil) == nil {
		t.Error("one change is missing, and nobody waited for it")
	}
	s.arrive(1, at(60))
	s.arrive(1, at(70)) // told twice
	if err := s.wait(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	got := s.sample(began)
	want := []time.Duration{50 * time.Millisecond, 50 * time.Millisecond, 30 * time.Millisecond, 0}
	if got.count != 4 || got.took != 60*time.Millisecond || !slices.Equal(got.latencies, want) {
		t.Errorf("%d in %s: %v; want 4 in 60ms: %v", got.count, got.took, got.latencies, want)
	}
	broken := errors.New("broken")
	failing := make(chan error, 1)
	failing <- broken
	s.begin(0, 5)
	if err := s.wait(t.Context(), failing); !errors.Is(err, broken) {
		t.Errorf("the receiver's end came out as %v", err)
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestBoundsAreToldAsTheyAre(t *testing.T) {
	t.Parallel()
	for want, b := range map[string]bound{
		"bound, lanes: at least 0.5; this run 0.50: met":          atLeast("lanes", 0.5, 0.5, ""),
		"bound, lanes: at least 0.5; this run 0.49: not met":      atLeast("lanes", 0.5, 0.49, ""),
		"bound, p99: below 20 ms; this run 20.00 ms: not met":     below("p99", 20, 20, " ms"),
		"bound, p99: below 20 ms; this run 19.90 ms: met":         below("p99", 20, 19.9, " ms"),
		"bound, NOTIFYs: below 1; this run 0.00: met":             below("NOTIFYs", 1, 0, ""),
		"bound, rate: at least 950/s; this run 449.00/s: not met": atLeast("rate", 950, 449, "/s"),
	} {
		if got := b.String(); got != want {
			t.Errorf("%s; want %s", got, want)
		}
	}
}

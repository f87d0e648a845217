package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"
)

// sample is one timed round of one side.
type sample struct {
	count     int
	took      time.Duration
	latencies []time.Duration // in any order; none where one would say nothing
	spent     cpu             // while counting
}

func (s sample) rate() float64 { return float64(s.count) / s.took.Seconds() }

// contender is one side of a row.
type contender struct {
	name   string
	run    func(context.Context, time.Duration) (sample, error)
	beside []int // of a side of Liaison's: its peers, by their place; nil: all
}

// row is something to be measured: Liaison's ways of doing it beside others'.
type row struct {
	title   string
	unit    string
	latency string // what a latency is
	peers   []contender
	short   []string // the peers' names in the table; nil: "bare" for the only one
	liaison []contender
	paced   bool                                               // things are done at a rate that is given, so that a ratio of rates says nothing
	facts   func(context.Context, *measured) ([]string, error) // asked at the end
	bounds  func(*measured) []bound
	atMost  int // rounds, where one lasts as long as its work does; 0: as many as are asked for
	close   func() error
}

// side is what was measured of one contender.
type side struct {
	Name  string    `json:"name"`
	Rate  float64   `json:"rate"`  // median of the rounds
	Rates []float64 `json:"rates"` // round by round
	P50   float64   `json:"p50ms,omitempty"`
	P99   float64   `json:"p99ms,omitempty"`

	// Processor time of one thing done, in microseconds: here with the load's own, and in PostgreSQL.
	CPUHere     float64 `json:"cpuHereUs,omitempty"`
	CPUPostgres float64 `json:"cpuPostgresUs,omitempty"`

	Beside []comparison `json:"beside,omitempty"` // of a side of Liaison's
}

// comparison is Liaison's rate over a peer's in the same round: the median and the extremes. All are 0 where the rate
// is given.
type comparison struct {
	Peer  int     `json:"peer"` // its place among the row's peers
	Ratio float64 `json:"ratio,omitempty"`
	Low   float64 `json:"low,omitempty"`
	High  float64 `json:"high,omitempty"`
}

// ratio is that to the peer at a place.
func (s *side) ratio(peer int) float64 {
	for _, c := range s.Beside {
		if c.Peer == peer {
			return c.Ratio
		}
	}
	return 0
}

// measured is a row's outcome.
type measured struct {
	Key     string   `json:"key"`
	Title   string   `json:"title"`
	Unit    string   `json:"unit"`
	Latency string   `json:"latency,omitempty"`
	Short   []string `json:"peerNames"`
	Peers   []side   `json:"peers"`
	Liaison []side   `json:"liaison"`
	Bounds  []bound  `json:"bounds,omitempty"`
	Facts   []string `json:"facts,omitempty"`
}

// bound is a promise about a row's figures, and whether this run kept it.
type bound struct {
	What  string  `json:"what"`
	Limit float64 `json:"limit"`
	Got   float64 `json:"got"`
	Met   bool    `json:"met"`

	verb, unit string
}

func atLeast(what string, limit, got float64, unit string) bound {
	return bound{What: what, Limit: limit, Got: got, Met: got >= limit, verb: "at least", unit: unit}
}

func below(what string, limit, got float64, unit string) bound {
	return bound{What: what, Limit: limit, Got: got, Met: got < limit, verb: "below", unit: unit}
}

func (b bound) String() string {
	verdict := "not met"
	if b.Met {
		verdict = "met"
	}
	return fmt.Sprintf("bound, %s: %s %g%s; this run %.2f%s: %s", b.What, b.verb, b.Limit, b.unit, b.Got, b.unit, verdict)
}

// told are facts that are known beforehand.
func told(facts ...string) func(context.Context, *measured) ([]string, error) {
	return func(context.Context, *measured) ([]string, error) { return facts, nil }
}

// measure opens a row, warms every side up, and lets them run by turns. Each round begins with another side, so that
// none always has the others' leavings.
func (w *world) measure(ctx context.Context, open func(context.Context, *world) (*row, error)) (m measured, err error) {
	r, err := open(ctx, w)
	if err != nil {
		return m, err
	}
	if r.close != nil {
		defer func() { err = errors.Join(err, r.close()) }()
	}
	sides := slices.Concat(r.peers, r.liaison)
	samples := make([][]sample, len(sides))
	rounds := w.settings.rounds
	if r.atMost > 0 {
		rounds = min(rounds, r.atMost)
	}
	for round := -1; round < rounds; round++ {
		if err := w.checkpoint(ctx); err != nil {
			return m, err
		}
		for turn := range sides {
			n := (turn + max(round, 0)) % len(sides)
			s, err := w.round(ctx, sides[n])
			if err != nil {
				return m, err
			}
			if round >= 0 { // the first only warms up
				samples[n] = append(samples[n], s)
			}
			w.log.InfoContext(ctx, "measured", "round", round+1, "side", sides[n].name, "rate", math.Round(s.rate()))
		}
	}
	m = measured{Title: r.title, Unit: r.unit, Latency: r.latency, Short: r.short}
	if m.Short == nil {
		m.Short = []string{"bare"}
	}
	for n, s := range sides {
		out := sum(s.name, samples[n])
		if n < len(r.peers) {
			m.Peers = append(m.Peers, out)
			continue
		}
		for peer := range r.peers {
			if s.beside == nil || slices.Contains(s.beside, peer) {
				out.Beside = append(out.Beside, compare(peer, samples[n], samples[peer], r.paced))
			}
		}
		m.Liaison = append(m.Liaison, out)
	}
	if r.bounds != nil {
		m.Bounds = r.bounds(&m)
	}
	if r.facts != nil {
		m.Facts, err = r.facts(ctx, &m)
	}
	return m, err
}

// round lets one side run once.
func (w *world) round(ctx context.Context, c contender) (sample, error) {
	runtime.GC()
	s, err := c.run(ctx, w.settings.round)
	switch {
	case err != nil:
		return s, fmt.Errorf("%s: %w", c.name, err)
	case ctx.Err() != nil:
		return s, context.Cause(ctx)
	case s.count == 0:
		return s, fmt.Errorf("%s: a round of %s did nothing whole; make it longer with -seconds", c.name, w.settings.round)
	}
	return s, nil
}

// sum makes one figure of a side's rounds.
func sum(name string, rounds []sample) side {
	s := side{Name: name}
	var p50, p99, here, postgres []float64
	for _, r := range rounds {
		here, postgres = append(here, microseconds(r.spent.here)/float64(r.count)), append(postgres, microseconds(r.spent.postgres)/float64(r.count))
		s.Rates = append(s.Rates, math.Round(r.rate()))
		if len(r.latencies) > 0 {
			p50, p99 = append(p50, milliseconds(percentile(r.latencies, 50))), append(p99, milliseconds(percentile(r.latencies, 99)))
		}
	}
	s.Rate, s.P50, s.P99, s.CPUHere, s.CPUPostgres = median(s.Rates), median(p50), median(p99), median(here), median(postgres)
	return s
}

// compare sets a side's rounds beside a peer's.
func compare(peer int, rounds, beside []sample, paced bool) comparison {
	if paced {
		return comparison{Peer: peer}
	}
	var ratios []float64
	for n, r := range rounds {
		ratios = append(ratios, r.rate()/beside[n].rate())
	}
	return comparison{Peer: peer, Ratio: median(ratios), Low: slices.Min(ratios), High: slices.Max(ratios)}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// median is the middle one, or the mean of the two in the middle; 0 of nothing.
func median(in []float64) float64 {
	if len(in) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(in))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// percentile is the smallest value that p in 100 of all do not exceed.
func percentile(in []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(in))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// repeat has n workers do one thing after another until the time is over. Each counts what it did whole; the first
// error ends all.
func (w *world) repeat(ctx context.Context, n int, d time.Duration, do func(ctx context.Context, worker, turn int) error) (sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([][]time.Duration, n)
	before := w.cpu()
	began := time.Now()
	end := began.Add(d)
	var workers sync.WaitGroup
	for worker := range n {
		workers.Go(func() {
			for turn := 0; ctx.Err() == nil; turn++ {
				start := time.Now()
				if !start.Before(end) {
					return
				}
				if err := do(ctx, worker, turn); err != nil {
					cancel(err)
					return
				}
				took[worker] = append(took[worker], time.Since(start))
			}
		})
	}
	workers.Wait()
	out := sample{took: time.Since(began), latencies: slices.Concat(took...), spent: w.cpu().since(before)}
	out.count = len(out.latencies)
	return out, context.Cause(ctx)
}

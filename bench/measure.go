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
	name string
	run  func(context.Context, time.Duration) (sample, error)
}

// row is something to be measured: Liaison's ways of doing it beside a bare one.
type row struct {
	title   string
	unit    string
	latency string // what a latency is
	bare    contender
	liaison []contender
	facts   func() []string // asked at the end
	atMost  int             // rounds, where one lasts as long as its work does; 0: as many as are asked for
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

	// Liaison's rate over the bare one's in the same round: the median and the extremes. Not set for the bare side.
	Ratio     float64 `json:"ratio,omitempty"`
	RatioLow  float64 `json:"ratioLow,omitempty"`
	RatioHigh float64 `json:"ratioHigh,omitempty"`
}

// measured is a row's outcome.
type measured struct {
	Key     string   `json:"key"`
	Title   string   `json:"title"`
	Unit    string   `json:"unit"`
	Latency string   `json:"latency,omitempty"`
	Bare    side     `json:"bare"`
	Liaison []side   `json:"liaison"`
	Facts   []string `json:"facts,omitempty"`
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
	sides := append([]contender{r.bare}, r.liaison...)
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
			runtime.GC()
			s, err := sides[n].run(ctx, w.settings.round)
			switch {
			case err != nil:
				return m, fmt.Errorf("%s: %w", sides[n].name, err)
			case ctx.Err() != nil:
				return m, context.Cause(ctx)
			case s.count == 0:
				return m, fmt.Errorf("%s: a round of %s did nothing whole; make it longer with -seconds", sides[n].name, w.settings.round)
			}
			if round >= 0 { // the first only warms up
				samples[n] = append(samples[n], s)
			}
			w.log.InfoContext(ctx, "measured", "round", round+1, "side", sides[n].name, "rate", math.Round(s.rate()))
		}
	}
	m = measured{Title: r.title, Unit: r.unit, Latency: r.latency, Bare: sum(sides[0].name, samples[0], nil)}
	if r.facts != nil {
		m.Facts = r.facts()
	}
	for n := range r.liaison {
		m.Liaison = append(m.Liaison, sum(sides[n+1].name, samples[n+1], samples[0]))
	}
	return m, nil
}

// sum makes one figure of a side's rounds.
func sum(name string, rounds, beside []sample) side {
	s := side{Name: name}
	var p50, p99, ratios, here, postgres []float64
	for n, r := range rounds {
		here, postgres = append(here, microseconds(r.spent.here)/float64(r.count)), append(postgres, microseconds(r.spent.postgres)/float64(r.count))
		s.Rates = append(s.Rates, math.Round(r.rate()))
		if len(r.latencies) > 0 {
			p50, p99 = append(p50, milliseconds(percentile(r.latencies, 50))), append(p99, milliseconds(percentile(r.latencies, 99)))
		}
		if beside != nil {
			ratios = append(ratios, r.rate()/beside[n].rate())
		}
	}
	s.Rate, s.P50, s.P99, s.CPUHere, s.CPUPostgres = median(s.Rates), median(p50), median(p99), median(here), median(postgres)
	if len(ratios) > 0 {
		s.Ratio, s.RatioLow, s.RatioHigh = median(ratios), slices.Min(ratios), slices.Max(ratios)
	}
	return s
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

package simulation

import (
	"strconv"
	"sync"
	"time"
)

// dice draws from a seed and what is drawn for.
type dice struct {
	seed   uint64
	mu     sync.Mutex
	counts map[string]int
}

func newDice(seed uint64) *dice { return &dice{seed: seed, counts: map[string]int{}} }

// draw is one occasion to draw on: it answers the same to the same question.
type draw struct{ state uint64 }

// occasion counts how often this was done by this actor and returns the draw for it.
func (d *dice) occasion(actor, op, on string) draw {
	k := actor + "\x00" + op + "\x00" + on
	d.mu.Lock()
	d.counts[k]++
	n := d.counts[k]
	d.mu.Unlock()
	return d.of(k, strconv.Itoa(n))
}

// of returns the draw for something that happens once.
func (d *dice) of(parts ...string) draw {
	h := d.seed ^ 0x9e3779b97f4a7c15
	for _, p := range parts {
		for n := range len(p) {
			h = (h ^ uint64(p[n])) * 0x100000001b3
		}
		h = mix(h ^ 0xff51afd7ed558ccd)
	}
	return draw{mix(h)}
}

func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

func (d draw) word(what string) uint64 {
	h := d.state
	for n := range len(what) {
		h = (h ^ uint64(what[n])) * 0x100000001b3
	}
	return mix(h)
}

// chance is true with the given probability.
func (d draw) chance(what string, p float64) bool { return float64(d.word(what)>>11)/(1<<53) < p }

// pick is a number from 0 to below n.
func (d draw) pick(what string, n int) int { return int(d.word(what) % uint64(n)) } //nolint:gosec // n is positive

// between is a duration from low to below high.
func (d draw) between(what string, low, high time.Duration) time.Duration {
	return low + time.Duration(d.word(what)%uint64(high-low)) //nolint:gosec // high is above low
}

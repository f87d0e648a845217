package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func begin(t *testing.T, a *Account) *Call {
	t.Helper()
	c, err := a.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pauseOf(t *testing.T, err error) *Pause {
	t.Helper()
	p, ok := errors.AsType[*Pause](err)
	if !ok {
		t.Fatalf("%v, want a pause", err)
	}
	return p
}

func pass(d time.Duration) { <-time.After(d) } // the time of a bubble passes at once

// First come, first served; who leaves the queue leaves no gap in it.
func TestQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r *Registry
		a := r.Join(ID{}, Config{Limits: Limits{Concurrency: 2}})
		held := []*Call{begin(t, a), begin(t, a)}
		var mu sync.Mutex
		var served []int
		leave := map[int]context.CancelFunc{}
		for i := range 6 {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			leave[i] = cancel
			go func() {
				c, err := a.Begin(ctx)
				if err != nil {
					return
				}
				mu.Lock()
				served = append(served, i)
				mu.Unlock()
				pass(time.Second)
				c.End(Ending{Outcome: Answered})
			}()
			synctest.Wait()
		}
		if p := a.Pace(); p.Calls != 0 || p.Wait != 0 || p.Reason == "" || a.Read().Waiting != 6 || a.Read().Running != 2 {
			t.Errorf("with a full house: %+v, %+v", p, a.Read())
		}
		leave[0]()
		leave[3]()
		synctest.Wait()
		held[0].End(Ending{Outcome: Answered})
		synctest.Wait()
		pass(time.Minute)
		held[1].End(Ending{Outcome: Answered})
		synctest.Wait()
		if want := []int{1, 2, 4, 5}; !slices.Equal(served, want) {
			t.Errorf("served %v, want %v", served, want)
		}
		if p := a.Pace(); p.Calls != 2 || p.Reason != "" {
			t.Errorf("with nobody there: %+v", p)
		}
	})
}

// Whoever leaves at the moment of his turn hands it on.
func TestTurnIsHandedOn(t *testing.T) {
	t.Parallel()
	var r *Registry
	a := r.Join(ID{}, Config{Limits: Limits{Concurrency: 1}})
	for range 2000 {
		c := begin(t, a)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan struct{})
		go func() {
			defer close(left)
			if c, err := a.Begin(ctx); err == nil {
				c.End(Ending{Outcome: Answered})
			}
		}()
		go cancel()
		c.End(Ending{Outcome: Answered})
		<-left
	}
	if got := a.Read(); got.Running != 0 || got.Waiting != 0 || got.Pace.Calls != 1 {
		t.Errorf("after all have left: %+v", got)
	}
}

// A breaker that has just closed lets one call more run with each answer, and begins anew after a failure.
func TestRamp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r *Registry
		a := r.Join(ID{}, Config{Limits: Limits{Concurrency: 4}, Patience: Patience{Failures: 2, Cooldown: 30 * time.Second}})
		end := func(o Outcome) { begin(t, a).End(Ending{Outcome: o, Words: "HTTP 500"}) }
		calls := func(step string, want int) {
			t.Helper()
			if p := a.Pace(); p.Calls != want {
				t.Errorf("%s: %+v, want %d calls", step, p, want)
			}
		}
		calls("well", 4)
		end(Sick)
		end(Sick)
		p := a.Pace()
		if p.Breaker != Open || p.Wait > 30*time.Second+1 || p.Wait < 30*time.Second || time.Until(p.Until) != p.Wait {
			t.Errorf("after two failures: %+v", p)
		}
		_, err := a.Begin(t.Context())
		if pause := pauseOf(t, err); pause.Wait != p.Wait || pause.Asked || pause.Reason != "left alone: the vendor has given no usable answer for a while; the last was: HTTP 500" {
			t.Errorf("%+v", pause)
		}
		pass(p.Wait)
		calls("trying", 1)
		trial := begin(t, a)
		_, err = a.Begin(t.Context())
		_ = pauseOf(t, err)
		trial.End(Ending{Outcome: Answered})
		calls("back", 2)
		end(Answered)
		calls("one answer more", 3)
		end(Sick)
		calls("a failure", 1)
		for range 4 {
			end(Answered)
		}
		calls("well again", 4)
	})
}

// The rate shows in what may be begun: no more than leaves within about a second waits inside.
func TestPaceAtARate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate   float64
		begun  int
		wait   time.Duration
		calls  int
		reason bool
	}{
		{0.1, 0, 0, 1, false},
		{0.1, 1, 9 * time.Second, 0, true},
		{2, 0, 0, 3, false},
		{2, 1, 0, 2, false},
		{100, 0, 0, 8, false},
		{100, 3, 0, 8, false},
	} {
		t.Run(fmt.Sprintf("%g a second after %d", c.rate, c.begun), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var r *Registry
				a := r.Join(ID{}, Config{Limits: Limits{Concurrency: 8, Rate: c.rate}})
				for range c.begun {
					begin(t, a).End(Ending{Outcome: Answered})
				}
				p := a.Pace()
				if d := p.Wait - c.wait; d < -time.Microsecond || d > time.Microsecond || p.Calls != c.calls || (p.Reason != "") != c.reason {
					t.Errorf("%+v, want %d calls after %s", p, c.calls, c.wait)
				}
			})
		})
	}
}

// A clock that is set back makes no pause of minutes one of hours.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var r *Registry
	a := r.Join(ID{}, Config{Limits: Limits{Concurrency: 1}, Now: func() time.Time { return now }})
	begin(t, a).End(Ending{Outcome: Limited, Named: 10 * time.Minute})
	now = now.Add(-2 * time.Hour)
	if p := a.Pace(); p.Wait != MaxPause {
		t.Errorf("%+v, want the longest pause", p)
	}
	now = now.Add(MaxPause)
	_ = begin(t, a)
}

func TestLimitsLower(t *testing.T) {
	t.Parallel()
	none, some, other := Limits{}, Limits{Concurrency: 3, Rate: 5}, Limits{Concurrency: 9, Rate: 2, Timeout: time.Second}
	for _, c := range []struct{ a, b, want Limits }{
		{none, none, none},
		{none, some, some},
		{some, none, some},
		{some, other, Limits{Concurrency: 3, Rate: 2, Timeout: time.Second}},
		{other, some, Limits{Concurrency: 3, Rate: 2, Timeout: time.Second}},
	} {
		if got := c.a.lower(c.b); got != c.want {
			t.Errorf("%+v and %+v: %+v, want %+v", c.a, c.b, got, c.want)
		}
	}
}

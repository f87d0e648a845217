package account

import (
	"time"
)

// Breaker is the state of an account's circuit breaker.
type Breaker string

// The states of a breaker.
const (
	Closed   Breaker = "CLOSED"    // calls pass; leaves for OPEN after so many failures in a row
	Open     Breaker = "OPEN"      // none passes; leaves for HALF_OPEN when the cooldown has passed
	HalfOpen Breaker = "HALF_OPEN" // one call passes; its outcome leads to CLOSED or back to OPEN
)

// Breakers lists the states.
func Breakers() []Breaker { return []Breaker{Closed, Open, HalfOpen} }

// Pace says what an account lets happen at a moment. Asking for it costs nothing and calls nobody.
type Pace struct {
	Wait time.Duration // until a call may be made, 0: now
	// Calls is how many may be begun now: 0 while Wait is not 0, 1 while the breaker tries whether the vendor is back, else
	// the free share of the concurrency, and no more than the rate lets out within about a second. It is 0 without a Wait
	// while as many run as may: ask again when one has ended.
	Calls   int
	Breaker Breaker
	Until   time.Time // when Wait ends, by the clock of the configuration; zero without a Wait
	Reason  string    // why there is a Wait or no Calls, for people; empty otherwise
}

// rateHorizon is how far ahead calls are let in to wait for their turn by the rate.
const rateHorizon = time.Second

// Pace returns what may be done now.
func (a *Account) Pace() Pace {
	// The breaker first: what it calls back takes our lock.
	state, probing := a.breaker.look()
	turn := a.turn()
	a.mu.Lock()
	defer a.mu.Unlock()
	p := Pace{Breaker: state, Calls: a.mayBeginLocked(turn)}
	wait := func(d time.Duration, reason string) {
		if d > p.Wait {
			p.Wait, p.Reason = d, reason
		}
	}
	if turn > rateHorizon {
		wait(turn-rateHorizon, "the account's rate of calls a second")
	}
	wait(a.heldLocked(), a.holdReason)
	switch state {
	case Open:
		wait(a.cooldownLocked(), a.leftAloneLocked())
	case HalfOpen:
		p.Calls = min(p.Calls, 1)
		if probing {
			p.Calls, p.Reason = 0, "one call tries whether the vendor is back"
		}
	case Closed:
	}
	switch {
	case p.Wait > 0:
		p.Calls, p.Until = 0, a.now().Add(p.Wait)
	case p.Calls == 0 && p.Reason == "":
		p.Reason = "as many calls run as the account may make at a time"
	}
	return p
}

// turn is how long a call that is begun now waits for its turn by the rate.
func (a *Account) turn() time.Duration {
	limit := float64(a.rate.Limit())
	missing := 1 - a.rate.Tokens()
	if missing <= 0 || limit <= 0 {
		return 0
	}
	return time.Duration(missing / limit * float64(time.Second))
}

// mayBeginLocked is the free share of the concurrency, no more than the rate lets out within its horizon.
func (a *Account) mayBeginLocked(turn time.Duration) int {
	free := max(a.allowedLocked()-a.running-a.queue.Len(), 0)
	if a.limits.Rate > 0 {
		free = min(free, 1+int(max(rateHorizon-turn, 0).Seconds()*a.limits.Rate))
	}
	return free
}

package account

import (
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"
)

// breaker is gobreaker's, with two rules of our own: who finds the one trial call under way is refused, and a trial that
// ends without a verdict has failed. Otherwise callers who give up would try a vendor that is down again and again.
type breaker struct {
	two      *gobreaker.TwoStepCircuitBreaker[struct{}] // nil: never opens
	cooldown time.Duration
}

var (
	errFailed    = errors.New("no usable answer")
	errNoVerdict = errors.New("no verdict")
)

func newBreaker(p Patience, told func(from, to Breaker)) *breaker {
	b := &breaker{cooldown: p.Cooldown}
	if p.Failures <= 0 {
		return b
	}
	b.two = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:       p.Cooldown,
		ReadyToTrip:   func(n gobreaker.Counts) bool { return int(n.ConsecutiveFailures) >= p.Failures },
		IsExcluded:    func(err error) bool { return errors.Is(err, errNoVerdict) },
		OnStateChange: func(_ string, from, to gobreaker.State) { told(stateOf(from), stateOf(to)) },
	})
	return b
}

func stateOf(s gobreaker.State) Breaker {
	switch s {
	case gobreaker.StateOpen:
		return Open
	case gobreaker.StateHalfOpen:
		return HalfOpen
	case gobreaker.StateClosed:
	}
	return Closed
}

// look returns the state, and whether the trial call of a half-open breaker is under way.
func (b *breaker) look() (state Breaker, probing bool) {
	if b.two == nil {
		return Closed, false
	}
	state = stateOf(b.two.State())
	n := b.two.Counts()
	return state, state == HalfOpen && n.Requests > n.TotalExclusions
}

// allow lets a call pass or not. settle tells how it ended; without a verdict it counts for nothing, unless it was the
// trial.
func (b *breaker) allow() (settle func(failed, verdict bool), allowed bool) {
	if b.two == nil {
		return func(bool, bool) {}, true
	}
	done, err := b.two.Allow()
	if err != nil {
		return nil, false
	}
	trial := stateOf(b.two.State()) == HalfOpen // it stays half open until its one call has ended
	return func(failed, verdict bool) {
		switch {
		case failed, !verdict && trial:
			done(errFailed)
		case !verdict:
			done(errNoVerdict)
		default:
			done(nil)
		}
	}, true
}

package connectors

import "liaison/connectors/account"

// Pace says what a connector's account lets happen at a moment: how long to wait, how many calls may be begun, and the
// breaker's state.
type Pace = account.Pace

// The states of an account's circuit breaker, as Pace tells them.
const (
	BreakerClosed   = account.Closed
	BreakerOpen     = account.Open
	BreakerHalfOpen = account.HalfOpen
)

// Paced is fulfilled by connectors that know the limits of the account they call under. Who has many calls waiting asks
// before beginning any: a vendor that is down then costs one call a cooldown, however many wait.
type Paced interface {
	// Pace tells what may be done now. It calls nobody and returns at once.
	Pace() Pace
}

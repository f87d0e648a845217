package incident

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Refusal says why the domain refused something: which field, what is wrong and what to do instead.
type Refusal struct {
	Kind    RefusalKind
	Field   string // the input's field, empty when the incident as a whole is at fault
	Problem string
	Remedy  string
}

// RefusalKind sorts refusals for callers that translate them.
type RefusalKind int

// The kinds of refusal.
const (
	BadInput          RefusalKind = iota // a value is missing or wrong
	InvalidTransition                    // the lifecycle does not allow this step from here
)

func (r *Refusal) Error() string {
	msg := r.Problem
	if r.Field != "" {
		msg = r.Field + ": " + msg
	}
	if r.Remedy != "" {
		msg += "; " + r.Remedy
	}
	return msg
}

// transitions is the lifecycle as people may walk it. RESOLVED leads back to IN_PROGRESS by reopening.
var transitions = map[State][]State{
	New:            {AwaitingTriage, Assigned, InProgress, OnHold, Resolved, Cancelled},
	AwaitingTriage: {Assigned, InProgress, OnHold, Resolved, Cancelled},
	Assigned:       {AwaitingTriage, InProgress, OnHold, Resolved, Cancelled},
	InProgress:     {Assigned, OnHold, Resolved, Cancelled},
	OnHold:         {Assigned, InProgress, OnHold, Resolved, Cancelled},
	Resolved:       {InProgress, Closed},
	Closed:         {},
	Cancelled:      {},
}

// NextStates lists the states that a person may move an incident to from s.
func NextStates(s State) []State { return slices.Clone(transitions[s]) }

// Move is a step in the lifecycle. The zero values of the other fields mean "none".
type Move struct {
	To         State
	HoldReason HoldReason
	DeferredTo time.Time
	Resolution string
}

// Move takes the step as a person, or refuses it. The receiver is a copy; the result is the new state.
func (i Incident) Move(m Move, now time.Time) (Incident, error) {
	if !m.To.Valid() {
		return i, badInput("state", fmt.Sprintf("%q is no state", m.To), "use one of "+list(States()))
	}
	if !slices.Contains(transitions[i.State], m.To) {
		return i, i.refuseMove(m.To)
	}
	if m.To == Resolved && strings.TrimSpace(m.Resolution) == "" {
		return i, badInput("resolution", "is empty", "say what was done to resolve the incident")
	}
	if err := m.checkHold(now); err != nil {
		return i, err
	}
	return i.moved(m, now), nil
}

// Follow takes a step that a vendor reports as a fact. Vendors skip steps, so everything is accepted except
// leaving a final state and changing a resolved incident into anything but reopened or closed. A hold
// without a reason, or a deferral without a date, is a fact as well.
func (i Incident) Follow(m Move, now time.Time) (Incident, error) {
	switch {
	case !m.To.Valid():
		return i, badInput("state", fmt.Sprintf("%q is no state", m.To), "use one of "+list(States()))
	case i.State.Final(), i.State == Resolved && (m.To == New || m.To == AwaitingTriage || m.To == Cancelled):
		return i, i.refuseMove(m.To)
	}
	return i.moved(m, now), nil
}

func (i Incident) refuseMove(to State) error {
	remedy := "from here it can become " + list(transitions[i.State])
	if i.State.Final() {
		remedy = "report a new incident and give this number as its reference"
	}
	return &Refusal{
		Kind: InvalidTransition, Field: "state",
		Problem: fmt.Sprintf("an incident that is %s cannot become %s", i.State, to), Remedy: remedy,
	}
}

func (m Move) checkHold(now time.Time) error {
	switch {
	case m.To != OnHold:
		return nil
	case !m.HoldReason.Valid():
		return badInput("reason", fmt.Sprintf("%q is no hold reason", m.HoldReason), "use one of "+list(HoldReasons()))
	case m.HoldReason != CustomerDeferral && !m.DeferredTo.IsZero():
		return badInput("until", "a date is given but the reason is not CUSTOMER_DEFERRAL", "leave it out")
	case m.HoldReason == CustomerDeferral && !m.DeferredTo.After(now):
		return badInput("until", "CUSTOMER_DEFERRAL needs a date and time in the future", "give it, for example 2030-01-31T09:00:00Z")
	}
	return nil
}

func (i Incident) moved(m Move, now time.Time) Incident {
	i.State, i.HoldReason, i.DeferredTo = m.To, "", time.Time{}
	switch m.To {
	case OnHold:
		i.HoldReason, i.DeferredTo = m.HoldReason, m.DeferredTo
	case Resolved:
		i.ResolvedAt = now
		if m.Resolution != "" {
			i.Resolution = m.Resolution
		}
	case Closed, Cancelled:
		i.ClosedAt = now
	case New, AwaitingTriage, Assigned, InProgress:
		i.ResolvedAt, i.ClosedAt = time.Time{}, time.Time{}
	}
	return i
}

func badInput(field, problem, remedy string) error {
	return &Refusal{Kind: BadInput, Field: field, Problem: problem, Remedy: remedy}
}

func list[S ~string](words []S) string {
	out := make([]string, len(words))
	for n, w := range words {
		out[n] = string(w)
	}
	return strings.Join(out, ", ")
}

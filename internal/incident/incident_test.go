package incident_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"liaison/internal/incident"
)

var now = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

func in(s incident.State) incident.Incident {
	i := incident.Incident{State: s, Title: "t", Description: "d", Priority: incident.PriorityNone}
	if s == incident.OnHold {
		i.HoldReason = incident.AwaitingVendor
	}
	return i
}

// move is a step with everything that its target needs.
func move(to incident.State) incident.Move {
	m := incident.Move{To: to}
	switch to {
	case incident.OnHold:
		m.HoldReason = incident.AwaitingCustomer
	case incident.Resolved:
		m.Resolution = "Changed the toner"
	default:
	}
	return m
}

// The whole lifecycle, as a person may walk it: from each state, the states that can be reached in one step.
func TestMoveFollowsTheLifecycle(t *testing.T) {
	t.Parallel()
	allowed := map[incident.State]string{
		incident.New:            "AWAITING_TRIAGE ASSIGNED IN_PROGRESS ON_HOLD RESOLVED CANCELLED",
		incident.AwaitingTriage: "ASSIGNED IN_PROGRESS ON_HOLD RESOLVED CANCELLED",
		incident.Assigned:       "AWAITING_TRIAGE IN_PROGRESS ON_HOLD RESOLVED CANCELLED",
		incident.InProgress:     "ASSIGNED ON_HOLD RESOLVED CANCELLED",
		incident.OnHold:         "ASSIGNED IN_PROGRESS ON_HOLD RESOLVED CANCELLED",
		incident.Resolved:       "IN_PROGRESS CLOSED", // S33: closed is read only; reopening leads back to work
		incident.Closed:         "",
		incident.Cancelled:      "",
	}
	for _, from := range incident.States() {
		for _, to := range incident.States() {
			after, err := in(from).Move(move(to), now)
			want := slices.Contains(strings.Fields(allowed[from]), string(to))
			if (err == nil) != want {
				t.Errorf("%s to %s: %v, want allowed %t", from, to, err, want)
			}
			refusal, refused := errors.AsType[*incident.Refusal](err)
			switch {
			case err == nil && after.State != to:
				t.Errorf("%s to %s ended in %s", from, to, after.State)
			case err != nil && (!refused || refusal.Kind != incident.InvalidTransition || refusal.Remedy == "" || after.State != from):
				t.Errorf("%s to %s: %v in state %s, want a refusal with a remedy and nothing changed", from, to, err, after.State)
			}
		}
	}
}

func TestMoveAsksForWhatTheStateNeeds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		move  incident.Move
		field string
	}{
		"S125: resolved without a solution text": {incident.Move{To: incident.Resolved, Resolution: " \n"}, "resolution"},
		"on hold without a reason":               {incident.Move{To: incident.OnHold}, "reason"},
		"on hold with an unknown reason":         {incident.Move{To: incident.OnHold, HoldReason: "LUNCH"}, "reason"},
		"S40: a deferral without a date":         {incident.Move{To: incident.OnHold, HoldReason: incident.CustomerDeferral}, "until"},
		"S40: a deferral into the past":          {incident.Move{To: incident.OnHold, HoldReason: incident.CustomerDeferral, DeferredTo: now}, "until"},
		"a date without a deferral":              {incident.Move{To: incident.OnHold, HoldReason: incident.AwaitingVendor, DeferredTo: now.Add(time.Hour)}, "until"},
		"an unknown state":                       {incident.Move{To: "DONE"}, "state"},
	} {
		_, err := in(incident.InProgress).Move(c.move, now)
		refusal, ok := errors.AsType[*incident.Refusal](err)
		if !ok || refusal.Kind != incident.BadInput || refusal.Field != c.field || refusal.Problem == "" || refusal.Remedy == "" {
			t.Errorf("%s: %#v, want bad input at %s with problem and remedy", name, err, c.field)
		}
	}
}

func TestMoveKeepsItsBooks(t *testing.T) {
	t.Parallel()
	until := now.Add(48 * time.Hour)
	held, err := in(incident.InProgress).Move(incident.Move{To: incident.OnHold, HoldReason: incident.CustomerDeferral, DeferredTo: until}, now)
	if err != nil || held.HoldReason != incident.CustomerDeferral || !held.DeferredTo.Equal(until) {
		t.Fatalf("held: %+v, %v", held, err)
	}
	resolved, err := held.Move(incident.Move{To: incident.Resolved, Resolution: "Done"}, now)
	if err != nil || resolved.HoldReason != "" || !resolved.DeferredTo.IsZero() || !resolved.ResolvedAt.Equal(now) || resolved.Resolution != "Done" {
		t.Fatalf("resolved: %+v, %v", resolved, err)
	}
	reopened, err := resolved.Move(incident.Move{To: incident.InProgress}, now)
	if err != nil || !reopened.ResolvedAt.IsZero() {
		t.Fatalf("reopened: %+v, %v", reopened, err)
	}
	closed, err := resolved.Move(incident.Move{To: incident.Closed}, now)
	if err != nil || !closed.ClosedAt.Equal(now) {
		t.Fatalf("closed: %+v, %v", closed, err)
	}
}

// A vendor's facts may skip steps, but nothing comes back from the end, and a resolved incident is reopened or
// closed and nothing else.
func TestFollowAcceptsFacts(t *testing.T) {
	t.Parallel()
	for _, from := range incident.States() {
		for _, to := range incident.States() {
			_, err := in(from).Follow(incident.Move{To: to}, now)
			want := !from.Final() && (from != incident.Resolved || to != incident.New && to != incident.AwaitingTriage && to != incident.Cancelled)
			if (err == nil) != want {
				t.Errorf("a vendor's fact %s to %s: %v, want accepted %t", from, to, err, want)
			}
		}
	}
}

func TestStateValuesRoundTrip(t *testing.T) {
	t.Parallel()
	values := incident.StateValues()
	if want := len(incident.States()) + len(incident.HoldReasons()); len(values) != want {
		t.Errorf("%d values, want %d", len(values), want)
	}
	for _, v := range values {
		s, r, err := incident.ParseStateValue(v)
		if err != nil || incident.StateValue(s, r) != v {
			t.Errorf("%q is read as %s %s (%v)", v, s, r, err)
		}
	}
	for _, bad := range []string{"", "DONE", "ON_HOLD/", "ON_HOLD/LUNCH", "NEW/AWAITING_VENDOR", "/"} {
		if _, _, err := incident.ParseStateValue(bad); err == nil {
			t.Errorf("%q was understood", bad)
		}
	}
}

// What an incident says of itself, taken by another, makes the two alike in every field that a vendor may set.
func TestTakeIsTheInverseOfValues(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one := incident.Incident{
			Title: rapid.String().Draw(t, "title"), Description: rapid.String().Draw(t, "description"),
			State:    rapid.SampledFrom(incident.States()).Draw(t, "state"),
			Priority: rapid.SampledFrom(incident.Priorities()).Draw(t, "priority"),
			Impact:   rapid.SampledFrom(append(incident.Impacts(), "")).Draw(t, "impact"),
			Urgency:  rapid.SampledFrom(append(incident.Urgencies(), "")).Draw(t, "urgency"),
			Category: rapid.String().Draw(t, "category"), Team: rapid.String().Draw(t, "team"), Resolution: rapid.String().Draw(t, "resolution"),
		}
		if one.State == incident.OnHold {
			one.HoldReason = rapid.SampledFrom(append(incident.HoldReasons(), "")).Draw(t, "reason")
			if one.HoldReason == incident.CustomerDeferral {
				one.DeferredTo = now.Add(time.Duration(rapid.Int64Range(1, 1e15).Draw(t, "until")) * time.Microsecond)
			}
		}
		values := one.Values()
		delete(values, incident.FieldContact)
		two, refused := in(incident.New).Take(values, now)
		if len(refused) > 0 {
			t.Fatalf("refused %v", refused)
		}
		two.Contact = one.Contact
		if changed := incident.Changed(one.Values(), two.Values()); len(changed) > 0 {
			t.Fatalf("%v differ:\n%v\n%v", changed, one.Values(), two.Values())
		}
	})
}

func TestTakeRefusesFieldByField(t *testing.T) {
	t.Parallel()
	after, refused := in(incident.Closed).Take(incident.Values{
		incident.FieldTitle: "better", incident.FieldState: "IN_PROGRESS", incident.FieldPriority: "P9", incident.FieldContact: "x\ny\nz",
	}, now)
	if after.Title != "better" || after.State != incident.Closed || after.Priority != incident.PriorityNone {
		t.Errorf("%+v", after)
	}
	for _, f := range []incident.Field{incident.FieldState, incident.FieldPriority, incident.FieldContact} {
		if refused[f] == nil {
			t.Errorf("%s was taken", f)
		}
	}
}

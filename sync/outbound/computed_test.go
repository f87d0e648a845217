package outbound_test

import (
	"strings"
	"testing"

	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/sync/pair"
)

// ServiceNow computes the priority: what is written are other words than what is read. A priority that was not sent, or was
// refused, must not pass for one that the vendor took and then put back.
func TestAPriorityThatWasNotSentIsNotCalledOverruled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		set  func(p *pair.Pair, ticket string)
		want string
	}{
		{"withheld", func(p *pair.Pair, ticket string) {
			p.Act(ticket, servicenowtest.Move{State: "6"})
			p.Poll()
		}, "withheld: "},
		{"refused", func(p *pair.Pair, _ string) {
			if err := p.Sim.Reconfigure(func(s *servicenowtest.Switches) {
				s.AbortRules = []servicenowtest.Rule{{Name: "No priorities by partners", When: "impact=1"}}
			}); err != nil {
				t.Fatal(err)
			}
		}, "No priorities by partners"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := pair.New(t, nil)
			p.Poll()
			id, ticket := p.Escalated("Priorities")
			p.Poll()
			c.set(p, ticket.SysID)
			high := incident.P1
			if _, err := p.Desk.Assess(t.Context(), p.Agent, desk.AssessInput{Target: desk.Target{Incident: id}, Priority: &high}); err != nil {
				t.Fatal(err)
			}
			p.Deliver()
			if got := pair.Scan[string](p, `SELECT coalesce(parked->>'priority', '') FROM external_link`); !strings.Contains(got, c.want) {
				t.Errorf("the priority waits because %q, want %q", got, c.want)
			}
		})
	}
}

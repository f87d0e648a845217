package pull_test

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/connectors/servicenow"
	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/sync/inbound"
	"liaison/sync/ledger"
	"liaison/sync/outbound"
	"liaison/sync/pair"
	"liaison/sync/system"
)

// other is a second vendor of the same hub.
type other struct {
	*customs
	sim    *servicenowtest.Server
	system *system.System
	worker *outbound.Worker
	reader *inbound.Reader
	poller *inbound.Poller
}

type silent struct{}

func (silent) Ring(string) {}

func second(t *testing.T, p *pair.Pair) *other {
	t.Helper()
	o := &other{sim: servicenowtest.Start(t)}
	must(t, p, `INSERT INTO external_system (key, name, connector, desk_id, url) VALUES ('other', 'Other', 'servicenow', 1, '')`)
	must(t, p, `INSERT INTO system_organisation (organisation_id, system_id) VALUES (1, 2)`)
	connector, err := servicenow.New(connectors.Config{
		Key: "other", URL: o.sim.URL, Timeout: 5 * time.Second, Now: p.Now,
		Auth: connectors.Credentials{Basic: &connectors.Basic{User: servicenowtest.DefaultUser, Password: connectors.NewSecret(servicenowtest.DefaultPassword)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	o.customs = &customs{Connector: connector}
	s := *p.System
	s.ID, s.Key, s.Name, s.Connector = 2, "other", "Other", o.customs
	o.system = &s
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	o.worker = outbound.NewWorker(p.Ledger, o.system, outbound.Options{Log: log, Now: p.Now})
	o.reader = inbound.NewReader(p.DB, p.Ledger, o.system, inbound.Options{Log: log, Now: p.Now})
	o.poller = inbound.NewPoller(p.DB, p.Ledger, o.system, silent{}, inbound.Options{Log: log, Now: p.Now})
	return o
}

// round has everything that is due done on both sides, once.
func (o *other) round(t *testing.T, p *pair.Pair) {
	t.Helper()
	p.Deliver()
	p.Poll()
	for _, step := range []func() (int, error){
		func() (int, error) { return o.worker.Step(t.Context()) },
		func() (int, error) { _, err := o.poller.Step(t.Context()); return 0, err },
		func() (int, error) { return o.reader.Step(t.Context()) },
	} {
		for {
			n, err := step()
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
		}
	}
}

// Two systems, each of which has a rule that rewrites the title in its own way, would rewrite each other's for ever. The breaker
// stops that one field on one link with an alert; everything else goes on; a person frees it when the rule is mended.
func TestTwoSystemsThatRewriteEachOtherAreStopped(t *testing.T) {
	t.Parallel()
	p, upper := world(t, "")
	lower := second(t, p)
	lower.round(t, p)
	id, ticket := p.Escalated("the printer jams")
	if _, _, err := p.Desk.Escalate(t.Context(), p.Agent, desk.EscalateInput{Target: desk.Target{Incident: id}, System: "other"}); err != nil {
		t.Fatal(err)
	}
	lower.round(t, p)
	lower.round(t, p)
	theirs := lower.sim.Tickets()[0]

	rewrites := func(sim *servicenowtest.Server, with func(string) string) func(connectors.ExternalID, connectors.Fields) {
		return func(id connectors.ExternalID, f connectors.Fields) {
			if v, there := f["short_description"]; there {
				if _, err := sim.Act(string(id), act{Title: with(v)}); err != nil {
					t.Error(err)
				}
			}
		}
	}
	upper.after, lower.after = rewrites(p.Sim, strings.ToUpper), rewrites(lower.sim, strings.ToLower)
	p.Retitle(id, "The Printer Burns")
	for range 40 {
		lower.round(t, p)
	}
	const stopped = `SELECT coalesce(string_agg(kind, ' '), '') FROM ledger_entry WHERE kind IN ('FIELD_PARKED','FIELD_FREED','FIELD_STOPPED','DELIVERY_FAILED')`
	if got := pair.Scan[string](p, stopped); got != "FIELD_STOPPED" {
		t.Fatalf("the ledger tells of %q, want that one field was stopped", got)
	}
	if n := len(p.Sim.Calls()); n > 2000 {
		t.Errorf("%d calls", n)
	}
	if got := pair.Scan[string](p, `SELECT string_agg(field, ' ') FROM external_link, jsonb_object_keys(parked) AS field`); got != "title" {
		t.Errorf("parked: %s", got)
	}
	calls := writes(p)
	for range 10 {
		lower.round(t, p)
	}
	if n := writes(p) - calls; n != 0 {
		t.Errorf("%d writes go on", n)
	}

	// Nothing else stops: not the other fields of the link, and not its comments.
	if _, err := p.Desk.Assess(t.Context(), p.Agent, assess(id, incident.P1)); err != nil {
		t.Fatal(err)
	}
	p.Say(id, incident.Public, "any news?")
	p.Act(ticket.SysID, act{State: "2"})
	lower.round(t, p)
	lower.round(t, p)
	again, err := lower.sim.Ticket(theirs.SysID)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]servicenowtest.Ticket{"the first": p.Ticket(ticket.SysID), "the second": again} {
		if got.Priority != "1" || got.State != "2" || len(got.Comments) != 1 {
			t.Errorf("%s system has priority %s, state %s and %d comments", name, got.Priority, got.State, len(got.Comments))
		}
	}

	// Mended and freed, it is in step again.
	upper.after, lower.after = nil, nil
	p.Advance(15 * time.Minute)
	var link incident.LinkID
	if err := link.Scan(pair.Scan[string](p, `SELECT id::text FROM external_link WHERE parked <> '{}'`)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Ledger.FreeField(t.Context(), p.Agent, ledger.Actor{Kind: ledger.Person, Name: "Ada Agent"}, ledger.Key{}, link, incident.FieldTitle); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		lower.round(t, p)
	}
	if again, err = lower.sim.Ticket(theirs.SysID); err != nil {
		t.Fatal(err)
	}
	if hub, one, two := title(p), p.Ticket(ticket.SysID).ShortDescription, again.ShortDescription; hub != one || hub != two {
		t.Errorf("after freeing the titles are %q, %q and %q", hub, one, two)
	}
	p.Retitle(id, "All is well")
	for range 3 {
		lower.round(t, p)
	}
	if again, err = lower.sim.Ticket(theirs.SysID); err != nil {
		t.Fatal(err)
	}
	if one, two := p.Ticket(ticket.SysID).ShortDescription, again.ShortDescription; one != "All is well" || two != "All is well" {
		t.Errorf("later the titles are %q and %q", one, two)
	}
}

// People who write a field in turns are no bounce, however fast they are, unless they go on putting back what was there or never
// end; a file can say what is.
func TestTurnsOfPeopleAreNoBounce(t *testing.T) {
	t.Parallel()
	again := func(side string, _ int) string { return side }
	anew := func(side string, n int) string { return fmt.Sprint(side, " ", n) }
	for name, tt := range map[string]struct {
		own     string
		value   func(side string, n int) string
		turns   int
		pause   time.Duration
		stopped bool
	}{
		"new values, fast":          {"", anew, 10, 0, false},
		"new values without an end": {"", anew, 20, 0, true},
		"the same two, slowly":      {"", again, 10, 4 * time.Minute, false},
		"the same two, fast":        {"", again, 10, 0, true},
		"the same two, as allowed":  {"bounce: {flips: 50}\n", again, 10, 0, false},
		"the same two, disapproved": {"bounce: {flips: 1, within: 1h}\n", again, 3, 4 * time.Minute, true},
		"one side alone, very fast": {"", anew, 20, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, _ := world(t, tt.own)
			id, ticket := p.Escalated("0")
			quiet(p)
			for n := range tt.turns {
				if !strings.HasPrefix(name, "one side") {
					p.Retitle(id, tt.value("hub", n))
				}
				p.Deliver()
				p.Act(ticket.SysID, act{Title: tt.value("vendor", n)})
				p.Poll()
				p.Advance(tt.pause)
			}
			if got := strings.Contains(entries(p), "FIELD_STOPPED"); got != tt.stopped {
				t.Errorf("stopped: %v, the ledger tells of %q", got, entries(p))
			}
		})
	}
}

package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/pair"
	"liaison/sync/reconcile"
	"liaison/sync/system"
)

// size is how large a test is: as given for make test, more when the variable says so.
func size(name string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return usual
}

func reconciler(p *pair.Pair, change ...func(*reconcile.Options)) *reconcile.Reconciler {
	o := reconcile.Options{Log: slog.New(slog.DiscardHandler), Now: p.Now}
	for _, c := range change {
		c(&o)
	}
	return reconcile.New(p.DB, p.Ledger, []*system.System{p.System}, o)
}

// compared runs one comparison by a person.
func compared(t *testing.T, p *pair.Pair, mend bool) (reconcile.Report, []reconcile.Drift) {
	t.Helper()
	var drift []reconcile.Drift
	report, err := reconciler(p).System(t.Context(), p.System, reconcile.Request{
		Cause: reconcile.Person, By: "Ada Agent", Mend: mend, Each: func(d reconcile.Drift) { drift = append(drift, d) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return report, drift
}

func quiet(p *pair.Pair) {
	p.Poll()
	p.Deliver()
	p.Poll()
}

// fingerprint changes whenever a row of the sync's tables does, or one comes or goes.
func fingerprint(p *pair.Pair) string {
	var out []string
	for _, table := range []string{"incident", "ledger_entry", "comment", "comment_copy", "external_link", "lane", "delivery", "inbox", "drift", "conflict"} {
		out = append(out, table+pair.Scan[string](p, `SELECT ' ' || count(*) || ' ' || coalesce(md5(string_agg(ctid::text || xmin::text, ',' ORDER BY ctid)), '') FROM `+table))
	}
	return strings.Join(out, "\n")
}

func writes(p *pair.Pair) (n int) {
	for _, call := range p.Sim.Calls() {
		if call.Method != http.MethodGet {
			n++
		}
	}
	return n
}

// RELIABILITY.md R15: a full comparison makes no write when nothing differs: not at the vendor, not in the ledger, in no row.
func TestR15AFullComparisonWritesNothing(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	links := size("LIAISON_LINKS", 25) // 100,000 in full
	p.Poll()
	for n := range links {
		id, ticket := p.Escalated(fmt.Sprint("Printer ", n))
		if n%3 == 0 {
			p.Say(id, incident.Public, "How is it going?")
			p.Retitle(id, fmt.Sprint("Printer on fire ", n))
			p.Deliver()
			p.Act(ticket.SysID, servicenowtest.Move{State: "2", Comment: "On our way", Note: "toner"})
		}
	}
	quiet(p)
	before := fingerprint(p)
	p.Sim.ForgetCalls()
	for _, mend := range []bool{false, true} {
		report, drift := compared(t, p, mend)
		if report.State != reconcile.Done || report.Links != links || report.Drifted != 0 || report.Failed != 0 {
			t.Errorf("mend %t: %+v %+v", mend, report, drift)
		}
		if most := links + links/100 + 1; report.Requests > most {
			t.Errorf("%d requests, want at most %d: tickets are read many at a time, journals one by one", report.Requests, most)
		}
	}
	if n := writes(p); n != 0 {
		t.Errorf("%d writes reached the vendor", n)
	}
	if after := fingerprint(p); after != before {
		t.Errorf("rows were written:\n%s\nbefore:\n%s", after, before)
	}
}

// Every kind of drift is found, told dry without a change, and mended by policy.
func TestDriftIsFoundAndMended(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		make   func(t *testing.T, p *pair.Pair, id incident.ID, ticket servicenowtest.Ticket)
		what   string
		vendor string // part of it
		mended bool
		check  string // answers 'good' when all is as it should be
	}{
		{
			"the vendor's title moved and nobody told", func(_ *testing.T, p *pair.Pair, _ incident.ID, k servicenowtest.Ticket) {
				p.Act(k.SysID, servicenowtest.Move{Title: "Their title"})
			}, "field title", "Their title", true, `SELECT CASE WHEN title = 'Their title' THEN 'good' ELSE title END FROM incident`,
		},
		{
			"the vendor's state moved and nobody told", func(_ *testing.T, p *pair.Pair, _ incident.ID, k servicenowtest.Ticket) {
				p.Act(k.SysID, servicenowtest.Move{State: "2"})
			}, "field state", "IN_PROGRESS", true, `SELECT CASE WHEN state = 'IN_PROGRESS' THEN 'good' ELSE state END FROM incident`,
		},
		{
			"a comment that the hub lacks, older than the journal's mark", func(t *testing.T, p *pair.Pair, _ incident.ID, k servicenowtest.Ticket) {
				p.Act(k.SysID, servicenowtest.Move{Comment: "lost on the way"})
				quiet(p)
				for _, sql := range []string{`DELETE FROM comment_copy`, `DELETE FROM comment`} {
					if _, err := p.DB.System.Exec(t.Context(), sql); err != nil {
						t.Fatal(err)
					}
				}
			}, "comment", "lost on the way", true, `SELECT CASE WHEN count(*) = 1 THEN 'good' ELSE count(*)::text END FROM comment WHERE body = 'lost on the way'`,
		},
		{
			"a delivery that was given up", func(t *testing.T, p *pair.Pair, id incident.ID, _ servicenowtest.Ticket) {
				p.Retitle(id, "Our title")
				if _, err := p.DB.System.Exec(t.Context(), `WITH d AS (UPDATE delivery SET state = 'SKIPPED' WHERE state = 'PENDING' RETURNING version)
					UPDATE lane SET due_at = NULL, done_version = (SELECT max(version) FROM d)`); err != nil {
					t.Fatal(err)
				}
			}, "field title", "Drift", true, `SELECT CASE WHEN base->'title'->>'hub' = 'Our title' THEN 'good' ELSE base->>'title' END FROM external_link`,
		},
		{
			"a ticket that was deleted", func(t *testing.T, p *pair.Pair, _ incident.ID, k servicenowtest.Ticket) {
				asAdmin(t, p, http.MethodDelete, k.SysID, "")
			}, "ticket", "deleted", true, `SELECT CASE WHEN gone = 'DELETED' THEN 'good' ELSE gone END FROM external_link`,
		},
		{
			"another number", func(t *testing.T, p *pair.Pair, _ incident.ID, _ servicenowtest.Ticket) {
				if _, err := p.DB.System.Exec(t.Context(), `UPDATE external_link SET number = 'INC0'`); err != nil {
					t.Fatal(err)
				}
			}, "number", "INC00", true, `SELECT CASE WHEN number LIKE 'INC00%' THEN 'good' ELSE number END FROM external_link`,
		},
		{
			"a correlation id that somebody changed there", func(t *testing.T, p *pair.Pair, _ incident.ID, k servicenowtest.Ticket) {
				asAdmin(t, p, http.MethodPatch, k.SysID, `{"correlation_id":"theirs"}`)
				quiet(p)
			}, "correlation id", "theirs", false, `SELECT 'good'`,
		},
		{
			"a comment that the vendor lacks", func(t *testing.T, p *pair.Pair, id incident.ID, _ servicenowtest.Ticket) {
				p.Say(id, incident.Public, "said once")
				p.Deliver()
				if _, err := p.DB.System.Exec(t.Context(), `UPDATE comment_copy SET external_id = '00000000000000000000000000000000'`); err != nil {
					t.Fatal(err)
				}
			}, "comment", "", false, `SELECT 'good'`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := pair.New(t, nil)
			p.Poll()
			id, ticket := p.Escalated("Drift")
			quiet(p)
			c.make(t, p, id, ticket)
			entries := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry`)
			p.Sim.ForgetCalls()

			report, drift := compared(t, p, false)
			if n := slices.IndexFunc(drift, func(d reconcile.Drift) bool {
				return d.What == c.what && strings.Contains(d.Vendor, c.vendor) && (c.vendor != "" || d.Vendor == "")
			}); n < 0 {
				t.Fatalf("%s was not found: %+v", c.what, drift)
			}
			if report.Drifted != len(drift) || report.Mended != 0 || writes(p) != 0 || pair.Scan[int](p, `SELECT count(*) FROM ledger_entry`) != entries {
				t.Errorf("the dry comparison changed something: %+v, %d writes", report, writes(p))
			}
			if n := pair.Scan[int](p, `SELECT count(*) FROM drift WHERE open`); n != len(drift) {
				t.Errorf("%d pieces of drift are kept open, want %d", n, len(drift))
			}

			report, drift = compared(t, p, true)
			n := slices.IndexFunc(drift, func(d reconcile.Drift) bool {
				return d.What == c.what && strings.Contains(d.Vendor, c.vendor) && (c.vendor != "" || d.Vendor == "")
			})
			if n < 0 || drift[n].Mended != c.mended {
				t.Fatalf("mending: %+v", drift)
			}
			p.Deliver()
			if got := pair.Scan[string](p, c.check); got != "good" {
				t.Errorf("after mending: %s", got)
			}
			if c.name == "a comment that the vendor lacks" { // the entry there has another id now, and is news
				return
			}
			told := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry WHERE kind = 'RECONCILED'`)
			if told != map[bool]int{true: 1, false: 0}[report.Mended > 0] {
				t.Errorf("%d entries tell that it was mended, of %d mended", told, report.Mended)
			}

			before := fingerprint(p)
			report, drift = compared(t, p, true)
			if c.mended && (report.Drifted != 0 || fingerprint(p) != before && pair.Scan[int](p, `SELECT count(*) FROM drift WHERE open`) != 0) {
				t.Errorf("comparing again: %+v", drift)
			}
			if open := pair.Scan[int](p, `SELECT count(*) FROM drift WHERE open`); open != report.Drifted {
				t.Errorf("%d pieces of drift are open, want %d", open, report.Drifted)
			}
		})
	}
}

func asAdmin(t *testing.T, p *pair.Pair, method, sysID, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, p.Sim.URL+"/api/now/table/incident/"+sysID, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("admin", "admin")
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		t.Fatalf("the vendor answered %s", answer.Status)
	}
}

// What waits in a lane is on its way, and what is parked is told already: neither is drift.
func TestWhatIsToldAlreadyIsNoDrift(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	id, ticket := p.Escalated("Known")
	quiet(p)
	asAdmin(t, p, http.MethodPatch, ticket.SysID, `{"hold_reason":"42","state":"3"}`)
	p.Poll()
	p.Retitle(id, "On its way")
	p.Say(id, incident.Public, "So is this")
	if parked := pair.Scan[string](p, `SELECT string_agg(parked::text, '') FROM external_link`); !strings.Contains(parked, "42") {
		t.Fatalf("nothing is parked: %s", parked)
	}
	if report, drift := compared(t, p, false); report.Drifted != 0 {
		t.Errorf("%+v", drift)
	}
}

// The nightly comparison keeps to its budget and goes on from its place the next night, once a night, by one hub.
func TestTheNightlyComparisonKeepsItsBudget(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	const links = 7
	for n := range links {
		p.Escalated(fmt.Sprint("Night ", n))
	}
	quiet(p)
	now := p.Now()
	p.Advance(time.Date(now.Year(), now.Month(), now.Day()+1, 2, 0, 0, 0, time.UTC).Sub(now))
	nightly := func(o *reconcile.Options) { o.At, o.Requests = "02:30", 4 } // a batch and three journals
	hub, neighbour := reconciler(p, nightly), reconciler(p, nightly)
	if got := hub.Step(t.Context()); len(got) != 0 {
		t.Fatalf("half an hour early: %+v", got)
	}
	seen, nights := 0, 0
	for ; nights < 5; nights++ {
		p.Advance(time.Hour) // to 03:00
		got := append(hub.Step(t.Context()), neighbour.Step(t.Context())...)
		if len(got) != 1 {
			t.Fatalf("night %d: %d comparisons, want 1", nights, len(got))
		}
		if got[0].Requests > 4 {
			t.Errorf("night %d: %d requests, want at most 4", nights, got[0].Requests)
		}
		seen += got[0].Links
		p.Advance(23 * time.Hour)
		if got[0].State == reconcile.Done {
			break
		}
		if got[0].State != reconcile.Stopped {
			t.Fatalf("night %d: %+v", nights, got[0])
		}
	}
	if seen != links || nights != 2 {
		t.Errorf("%d links in %d nights, want each of %d once in 3", seen, nights+1, links)
	}
	p.Advance(10 * time.Hour) // noon
	if got := reconciler(p, nightly).Step(t.Context()); len(got) != 0 {
		t.Errorf("a hub that comes up at noon compares: %+v", got)
	}
}

// A paused system is not compared: a person hears why, the night passes it over with one line, and goes on when it is resumed
// in time. One that is paused in the middle ends there.
func TestAPausedSystemIsNotCompared(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	_, ticket := p.Escalated("Paused")
	quiet(p)
	now := p.Now()
	p.Advance(time.Date(now.Year(), now.Month(), now.Day()+1, 3, 0, 0, 0, time.UTC).Sub(now))
	exec := func(sql string) {
		t.Helper()
		if _, err := p.DB.System.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var told strings.Builder
	night := reconciler(p, func(o *reconcile.Options) {
		o.At, o.Log = "02:30", slog.New(slog.NewTextHandler(&told, nil))
	})
	exec(`UPDATE external_system SET paused = true, paused_by = 'Ruth Root', pause_reason = 'their maintenance'`)
	p.Sim.ForgetCalls()
	link := incident.LinkID{UUID: pair.Scan[uuid.UUID](p, `SELECT id FROM external_link`)}
	ask := reconcile.Request{Cause: reconcile.Person, By: "Ada", Mend: true}
	_, whole := night.System(t.Context(), p.System, ask)
	_, _, one := night.Link(t.Context(), &p.Agent, link, ask)
	for what, err := range map[string]error{"a system": whole, "a link": one} {
		paused, ok := errors.AsType[*reconcile.Paused](err)
		if !ok || paused.Key != pair.SystemKey || !strings.Contains(err.Error(), "paused by Ruth Root (their maintenance)") || !strings.Contains(err.Error(), "resume") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for range 3 { // it looks every minute
		if got := night.Step(t.Context()); len(got) != 0 {
			t.Errorf("the night compared %+v", got)
		}
		p.Advance(time.Minute)
	}
	if n := strings.Count(told.String(), "\n"); n != 1 || !strings.Contains(told.String(), "their maintenance") {
		t.Errorf("the night says %d times:\n%s", n, &told)
	}
	if calls := p.Sim.Calls(); len(calls) != 0 || pair.Scan[int](p, `SELECT count(*) FROM reconciliation`) != 0 {
		t.Errorf("a paused vendor was called: %+v", calls)
	}
	exec(`UPDATE external_system SET paused = false`)
	if got := night.Step(t.Context()); len(got) != 1 || got[0].State != reconcile.Done || got[0].Links != 1 {
		t.Errorf("resumed at night: %+v", got)
	}
	exec(`UPDATE external_system SET paused = true`)
	if _, _, err := night.Link(t.Context(), nil, link, ask); err == nil {
		t.Errorf("the operator compares ticket %s of a paused system", ticket.Number)
	}
	exec(`UPDATE external_system SET paused = false`)
	// Paused in the middle.
	for n := range 2 {
		p.Escalated(fmt.Sprint("More ", n))
	}
	quiet(p)
	for _, id := range strings.Fields(pair.Scan[string](p, `SELECT string_agg(external_id, ' ') FROM external_link`)) {
		p.Act(id, servicenowtest.Move{Title: "Changed there"})
	}
	ask.Each = func(reconcile.Drift) {
		exec(`UPDATE external_system SET paused = true`)
		p.Advance(time.Minute)
	}
	report, err := night.System(t.Context(), p.System, ask)
	if _, ok := errors.AsType[*reconcile.Paused](err); !ok || report.State != reconcile.Failed || report.Links != 1 {
		t.Errorf("paused in the middle: %+v %v", report, err)
	}
}

// A comparison whose hub died is taken up from its place; while it lives nobody else begins one.
func TestOneComparisonAtATime(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Escalated("Once")
	quiet(p)
	if _, err := p.DB.System.Exec(t.Context(), `INSERT INTO reconciliation (id, system_id, cause, by_whom, mend, started_at, lease_until) VALUES ($1, 1, 'PERSON', 'Bob', false, $2, now() + interval '1 hour')`, uuid.New(), p.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := reconciler(p).System(t.Context(), p.System, reconcile.Request{Cause: reconcile.Person, By: "Ada"}); !errors.Is(err, reconcile.ErrRunning) {
		t.Errorf("beside another: %v", err)
	}
	if _, err := p.DB.System.Exec(t.Context(), `UPDATE reconciliation SET lease_until = '-infinity'`); err != nil {
		t.Fatal(err)
	}
	if report, _ := compared(t, p, false); report.State != reconcile.Done || report.Links != 1 {
		t.Errorf("after its death: %+v", report)
	}
	if got := pair.Scan[string](p, `SELECT string_agg(state, ',' ORDER BY by_whom) FROM reconciliation`); got != "DONE,FAILED" {
		t.Errorf("the comparisons are %s", got)
	}
}

// A vendor that is away ends the comparison, which says how far it came.
func TestAnOutageEndsTheComparison(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Escalated("Away")
	quiet(p)
	ctx, cancel := context.WithCancel(t.Context())
	if err := p.Sim.AddFault(servicenowtest.Fault{Kind: servicenowtest.FaultServerError, Status: 400, Rate: 1}); err != nil {
		t.Fatal(err)
	}
	report, err := reconciler(p).System(ctx, p.System, reconcile.Request{Cause: reconcile.Person, By: "Ada"})
	if err != nil || report.Failed != 1 || report.State != reconcile.Done {
		t.Errorf("one link that fails: %+v %v", report, err)
	}
	cancel()
	if report, err = reconciler(p).System(ctx, p.System, reconcile.Request{Cause: reconcile.Person, By: "Ada"}); err == nil || report.State == reconcile.Done {
		t.Errorf("told to stop: %+v %v", report, err)
	}
}

// One link is compared and mended by the people who may see it, and by nobody else.
func TestOneLink(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	_, ticket := p.Escalated("Link")
	quiet(p)
	p.Act(ticket.SysID, servicenowtest.Move{Title: "Moved"})
	link := incident.LinkID{UUID: pair.Scan[uuid.UUID](p, `SELECT id FROM external_link`)}
	ask := reconcile.Request{Cause: reconcile.Person, By: "Ada", Mend: true}
	eve := auth.Viewer{Subject: "eve", Roles: []auth.Role{auth.Agent}, Desk: 2, Organisations: []incident.OrganisationID{2}}
	for name, id := range map[string]incident.LinkID{"another desk's": link, "none": {UUID: uuid.New()}} {
		if _, _, err := reconciler(p).Link(t.Context(), &eve, id, ask); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
	report, drift, err := reconciler(p).Link(t.Context(), &p.Agent, link, ask)
	if err != nil || report.Mended == 0 || len(drift) != report.Drifted {
		t.Errorf("%+v %+v %v", report, drift, err)
	}
	if got := pair.Scan[string](p, `SELECT title FROM incident`); got != "Moved" {
		t.Errorf("the title is %s", got)
	}
	if report, drift, err = reconciler(p).Link(t.Context(), nil, link, ask); err != nil || report.Drifted != 0 {
		t.Errorf("again: %+v %v", drift, err)
	}
}

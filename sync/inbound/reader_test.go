package inbound_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"liaison/connectors"
	"liaison/connectors/servicenow"
	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/inbound"
	"liaison/sync/pair"
	"liaison/sync/pulse"
	"liaison/sync/system"
)

// size is how large a test is: as given for make test, more when the variable says so.
func size(name string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return usual
}

// RELIABILITY.md R8: a ticket that cannot be read is parked after at most ten tries with its reason, the others are read at
// once, and a replay after mending loses nothing.
func TestR8PoisonHoldsUpNobody(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"refused": 400, "broken": 500} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pair.New(t, nil)
			healthy := size("LIAISON_POISON", 20) // 999 in full
			_, poison := p.Escalated("Poison")
			var others []string
			for n := range healthy {
				_, ticket := p.Escalated(fmt.Sprint("Healthy ", n))
				others = append(others, ticket.SysID)
			}
			if err := p.Sim.AddFault(servicenowtest.Fault{Kind: servicenowtest.FaultServerError, Status: status, Path: poison.SysID, Rate: 1}); err != nil {
				t.Fatal(err)
			}
			door := hooks(t, p).URL + "/hooks/" + pair.SystemKey
			for _, id := range append([]string{poison.SysID}, others...) {
				p.Act(id, servicenowtest.Move{Comment: "news"})
				post(t, door, secret, strings.NewReader(fmt.Sprintf(`{"sys_id":%q}`, id)))
			}
			read(t, p)
			if n := pair.Scan[int](p, `SELECT count(*) FROM inbox WHERE state = 'DONE'`); n != healthy {
				t.Fatalf("%d of %d healthy tickets were read at once", n, healthy)
			}
			tries := 0
			for ; pair.Scan[int](p, `SELECT count(*) FROM inbox WHERE state = 'WAITING'`) > 0; tries++ {
				if tries > 40 {
					t.Fatal("the poison is never parked")
				}
				p.Advance(31 * time.Second)
				// Meanwhile another ticket goes on as usual.
				p.Act(others[0], servicenowtest.Move{Comment: fmt.Sprint("more ", tries)})
				post(t, door, secret, strings.NewReader(fmt.Sprintf(`{"sys_id":%q,"n":%d}`, others[0], tries)))
				read(t, p)
				if n := pair.Scan[int](p, `SELECT count(*) FROM comment WHERE body = $1`, fmt.Sprint("more ", tries)); n != 1 {
					t.Fatal("a healthy ticket waits behind the poison")
				}
			}
			var attempts int
			var reason string
			if err := p.DB.System.QueryRow(t.Context(), `SELECT attempts, reason FROM inbox WHERE state = 'PARKED'`).Scan(&attempts, &reason); err != nil {
				t.Fatal(err)
			}
			if attempts > 10 || !strings.Contains(reason, strconv.Itoa(status)) || !strings.Contains(reason, "tries") {
				t.Errorf("parked after %d tries because %q", attempts, reason)
			}

			if err := p.Sim.SetFaults(servicenowtest.Faults{}); err != nil {
				t.Fatal(err)
			}
			did := replayed(t, p, &p.Agent, inbound.Selection{System: pair.SystemKey})
			if len(did) != 1 || did[0].State != "WAITING" || len(did[0].As) != 1 {
				t.Fatalf("%+v", did)
			}
			read(t, p)
			if n := pair.Scan[int](p, `SELECT count(*) FROM comment JOIN external_link l ON l.id = comment.link_id WHERE l.external_id = $1`, poison.SysID); n != 1 {
				t.Errorf("after the replay the hub has %d of 1 comment", n)
			}
			if got := pair.Scan[string](p, `SELECT state || ' ' || source FROM inbox WHERE id = $1`, did[0].As[0]); got != "DONE REPLAY" {
				t.Errorf("the replay is %s", got)
			}
		})
	}
}

// While the vendor is away nothing is parked, however often it is tried.
func TestAnOutageParksNothing(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	_, ticket := p.Escalated("Outage")
	p.Act(ticket.SysID, servicenowtest.Move{Comment: "before"})
	door := hooks(t, p).URL + "/hooks/" + pair.SystemKey
	post(t, door, secret, strings.NewReader(fmt.Sprintf(`{"sys_id":%q}`, ticket.SysID)))
	if err := p.Sim.AddFault(servicenowtest.Fault{Kind: servicenowtest.FaultReset, Rate: 1}); err != nil {
		t.Fatal(err)
	}
	p.Advance(2 * time.Minute) // since the vendor last answered
	for range 25 {
		p.Advance(31 * time.Second)
		read(t, p)
	}
	if got := pair.Scan[string](p, `SELECT state FROM inbox`); got != "WAITING" {
		t.Errorf("the hint is %s", got)
	}
}

func replayed(t *testing.T, p *pair.Pair, v *auth.Viewer, s inbound.Selection) []inbound.Replayed {
	t.Helper()
	m := inbound.NewMender(p.DB, []*system.System{p.System}, deaf{}, p.Now)
	out, err := m.Replay(t.Context(), v, "Ada Agent", s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A body that was not understood is read again by the connector as it is configured by then.
func TestReplayReadsAParkedBodyAgain(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	_, ticket := p.Escalated("Replay")
	p.Act(ticket.SysID, servicenowtest.Move{State: "2"})
	door := hooks(t, p).URL + "/hooks/" + pair.SystemKey
	post(t, door, secret, strings.NewReader(fmt.Sprintf(`{"record":{"id":%q}}`, ticket.SysID)), "webhook-id", "m1")
	post(t, door, secret, strings.NewReader(`noise`))

	before := replayed(t, p, &p.Agent, inbound.Selection{})
	if len(before) != 2 || before[0].State != "PARKED" || before[0].Reason == "" || len(before[0].As) != 0 {
		t.Fatalf("before mending: %+v", before)
	}
	mended := connectors.Config{
		Key: pair.SystemKey, URL: p.Sim.URL, Settings: map[string]string{"hook_id": "record.id"},
		Auth: connectors.Credentials{Basic: &connectors.Basic{User: servicenowtest.DefaultUser, Password: connectors.NewSecret(servicenowtest.DefaultPassword)}},
	}
	p.System.Connector = reconnect(t, mended)
	all := replayed(t, p, nil, inbound.Selection{})
	if len(all) != 2 || all[0].State != "WAITING" || len(all[0].As) != 1 || all[1].State != "PARKED" {
		t.Fatalf("after mending: %+v", all)
	}
	again := replayed(t, p, nil, inbound.Selection{IDs: []uuid.UUID{all[0].Row}})
	if len(again) != 1 || len(again[0].As) != 1 || again[0].As[0] != all[0].As[0] {
		t.Errorf("replaying twice: %+v, want the replay that waits: %v", again, all[0].As)
	}
	waits := replayed(t, p, nil, inbound.Selection{IDs: all[0].As})
	if len(waits) != 1 || waits[0].As[0] != all[0].As[0] {
		t.Errorf("replaying what waits: %+v, want itself", waits)
	}
	read(t, p)
	if got := pair.Scan[string](p, `SELECT state FROM incident`); got != "IN_PROGRESS" {
		t.Errorf("the incident is %s", got)
	}
	if got := pair.Scan[string](p, `SELECT state || ' ' || reason FROM inbox WHERE id = $1`, all[0].Row); !strings.HasPrefix(got, "DONE replayed by Ada Agent as ") || !strings.Contains(got, "names neither") {
		t.Errorf("the history says %q", got)
	}
	// What was acted upon can be acted upon again: it is a hint.
	more := replayed(t, p, nil, inbound.Selection{IDs: []uuid.UUID{all[0].As[0]}})
	if len(more) != 1 || more[0].As[0] == all[0].As[0] {
		t.Errorf("replaying what is done: %+v, want a new row", more)
	}
}

// RELIABILITY.md I1: what another desk's people or requesters name is left out, as what does not exist.
func TestReplayIsForTheDeskThatOwnsTheSystem(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	post(t, hooks(t, p).URL+"/hooks/"+pair.SystemKey, secret, strings.NewReader(`noise`))
	id := pair.Scan[uuid.UUID](p, `SELECT id FROM inbox`)
	for name, v := range map[string]auth.Viewer{
		"another desk": {Subject: "eve", Roles: []auth.Role{auth.Agent, auth.Admin}, Desk: 2, Organisations: []incident.OrganisationID{2}},
		"a requester":  {Subject: "rob", Roles: []auth.Role{auth.Requester}, Organisation: 1, Organisations: []incident.OrganisationID{1}},
	} {
		for _, s := range []inbound.Selection{{}, {IDs: []uuid.UUID{id}}, {IDs: []uuid.UUID{uuid.New()}}} {
			if did := replayed(t, p, &v, s); len(did) != 0 {
				t.Errorf("%s replays %+v", name, did)
			}
		}
	}
	if did := replayed(t, p, &p.Agent, inbound.Selection{IDs: []uuid.UUID{id}}); len(did) != 1 {
		t.Errorf("the own desk's people cannot replay: %+v", did)
	}
}

// A paused system is left alone: what comes waits.
func TestAPausedSystemsHintsAndPollsWait(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	_, ticket := p.Escalated("Paused")
	p.Act(ticket.SysID, servicenowtest.Move{State: "2"})
	pause := func(paused bool) {
		if _, err := p.DB.System.Exec(t.Context(), `UPDATE external_system SET paused = $1`, paused); err != nil {
			t.Fatal(err)
		}
	}
	pause(true)
	post(t, hooks(t, p).URL+"/hooks/"+pair.SystemKey, secret, strings.NewReader(fmt.Sprintf(`{"sys_id":%q}`, ticket.SysID)))
	p.Sim.ForgetCalls()
	p.Poll()
	if calls := p.Sim.Calls(); len(calls) != 0 {
		t.Errorf("%d calls to a paused system", len(calls))
	}
	if got := pair.Scan[string](p, `SELECT state FROM inbox`); got != "WAITING" {
		t.Errorf("the hint is %s", got)
	}
	pause(false)
	p.Poll()
	if got := pair.Scan[string](p, `SELECT state FROM incident`); got != "IN_PROGRESS" {
		t.Errorf("after the pause the incident is %s", got)
	}
}

// RELIABILITY.md R15: whatever the webhooks did not tell, the next poll brings within its interval and a minute, and the
// number of changes restored is told.
func TestR15DroppedWebhooksAreRestored(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	dropped := size("LIAISON_DROPPED", 40) // 1,000 in full
	p.Poll()
	var tickets []string
	for n := range dropped {
		_, ticket := p.Escalated(fmt.Sprint("Dropped ", n))
		tickets = append(tickets, ticket.SysID)
	}
	p.Poll() // the hub has read all that it has opened
	registry := prometheus.NewRegistry()
	p.Reader = inbound.NewReader(p.DB, p.Ledger, p.System, inbound.Options{Now: p.Now, Log: slog.New(slog.DiscardHandler), Hooked: true, Metrics: inbound.NewMetrics(registry)})
	for _, id := range tickets {
		p.Act(id, servicenowtest.Move{Comment: "never told"})
	}
	_, told := p.Escalated("Told")
	p.Act(told.SysID, servicenowtest.Move{Comment: "told"})
	p.Poll() // the new ticket's own first read
	told2 := p.Now()
	post(t, hooks(t, p).URL+"/hooks/"+pair.SystemKey, secret, strings.NewReader(fmt.Sprintf(`{"sys_id":%q}`, told.SysID)))
	p.Poll()
	if n := pair.Scan[int](p, `SELECT count(*) FROM comment WHERE body = 'never told'`); n != dropped {
		t.Errorf("%d of %d dropped changes were found", n, dropped)
	}
	if took := p.Now().Sub(told2); took > p.System.PollInterval+time.Minute {
		t.Errorf("it took %s", took)
	}
	if n := restored(t, registry); n != dropped+1 {
		t.Errorf("the metric tells of %d restored changes, want %d", n, dropped+1)
	}
	if n := pair.Scan[int](p, `SELECT coalesce(sum(entries), 0) FROM inbox WHERE reason LIKE '%no webhook told%'`); n != dropped+1 {
		t.Errorf("the inbox names %d restored changes, want %d", n, dropped+1)
	}
}

// A change for which a webhook waits as well was not missed.
func TestAChangeThatAWebhookToldIsNotRestored(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	_, ticket := p.Escalated("Told")
	p.Poll()
	registry := prometheus.NewRegistry()
	p.Reader = inbound.NewReader(p.DB, p.Ledger, p.System, inbound.Options{Now: p.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Hooked: true, Metrics: inbound.NewMetrics(registry)})
	p.Act(ticket.SysID, servicenowtest.Move{Comment: "told"})
	p.Advance(p.System.PollInterval + time.Second)
	if n, err := p.Poller.Step(t.Context()); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	post(t, hooks(t, p).URL+"/hooks/"+pair.SystemKey, secret, strings.NewReader(fmt.Sprintf(`{"sys_id":%q}`, ticket.SysID)))
	read(t, p)
	if n := restored(t, registry); n != 0 {
		t.Errorf("%d changes count as restored", n)
	}
}

// RELIABILITY.md R7, R2: a ticket that a stale worker opens a second time is told, closed at the vendor as a duplicate and
// never followed, within one poll interval.
func TestR7ASecondTicketIsToldAndClosed(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	_, ticket := p.Escalated("Twice")
	p.Poll()
	correlation := pair.Scan[string](p, `SELECT correlation_id::text FROM external_link`)
	began := p.Now()
	twin, err := p.System.Connector.Create(t.Context(), connectors.Draft{CorrelationID: correlation, Fields: connectors.Fields{"short_description": "Twice"}})
	if err != nil {
		t.Fatal(err)
	}
	p.Poll()
	p.Deliver()
	if took := p.Now().Sub(began); took > p.System.PollInterval+time.Minute {
		t.Errorf("it took %s", took)
	}
	closed, kept := p.Ticket(string(twin.ID)), p.Ticket(ticket.SysID)
	if closed.State != "7" && closed.State != "8" || kept.State != "1" {
		t.Errorf("the second ticket is in state %s, the first in %s", closed.State, kept.State)
	}
	if len(closed.WorkNotes) != 1 || !strings.Contains(closed.WorkNotes[0].Value, kept.Number) {
		t.Errorf("the second one's notes %+v do not name %s", closed.WorkNotes, kept.Number)
	}
	for range 3 { // the closed one is in the poll's overlap for a while
		p.Poll()
		p.Deliver()
	}
	// The vendor calls about it, too: it is told once.
	post(t, hooks(t, p).URL+"/hooks/"+pair.SystemKey, secret, strings.NewReader(fmt.Sprintf(`{"sys_id":%q}`, twin.ID)))
	read(t, p)
	const kinds = `SELECT string_agg(kind || ' ' || (detail->>'externalId'), ', ' ORDER BY version) FROM ledger_entry WHERE kind LIKE 'DUPLICATE%'`
	if got, want := pair.Scan[string](p, kinds), fmt.Sprintf("DUPLICATE_FOUND %s, DUPLICATE_CLOSED %s", twin.ID, twin.ID); got != want {
		t.Errorf("the ledger says %s, want %s", got, want)
	}
	if got := pair.Scan[string](p, `SELECT external_id || ' ' || (SELECT trouble FROM lane) FROM external_link`); got != ticket.SysID+" " {
		t.Errorf("the link follows %s", got)
	}
	if n := pair.Scan[int](p, `SELECT count(*) FROM delivery WHERE kind = 'CLOSE_DUPLICATE'`); n != 1 {
		t.Errorf("%d deliveries close it, want 1", n)
	}
}

// A person's copy of a ticket carries its correlation id, too. It is told and left alone, with the reason, and whatever else
// is to be sent goes on.
func TestR7APersonsCopyIsToldAndLeft(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	_, ticket := p.Escalated("Copied")
	p.Poll()
	correlation := pair.Scan[string](p, `SELECT correlation_id::text FROM external_link`)
	copied, err := p.Sim.Open(servicenowtest.Move{Title: "Copied", Fields: map[string]string{"correlation_id": correlation}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		p.Poll()
		p.Deliver()
	}
	after := p.Ticket(copied.SysID)
	if after.State != copied.State || after.SysModCount != copied.SysModCount || len(after.WorkNotes) != 0 {
		t.Errorf("the copy was touched: state %s, then %s, %d notes", copied.State, after.State, len(after.WorkNotes))
	}
	const kinds = `SELECT string_agg(kind, ', ' ORDER BY version) FROM ledger_entry WHERE kind LIKE 'DUPLICATE%' OR kind = 'DELIVERY_FAILED'`
	if got, want := pair.Scan[string](p, kinds), "DUPLICATE_FOUND, DELIVERY_FAILED"; got != want {
		t.Errorf("the ledger says %s, want %s", got, want)
	}
	if got := pair.Scan[string](p, `SELECT state || ': ' || error FROM delivery WHERE kind = 'CLOSE_DUPLICATE'`); !strings.HasPrefix(got, "SKIPPED: ") ||
		!strings.Contains(got, servicenowtest.DefaultAgent) || !strings.Contains(got, copied.Number) {
		t.Errorf("the delivery says %s: it names neither the copy nor who opened it", got)
	}
	if got := pair.Scan[string](p, `SELECT external_id || ' ' || (SELECT trouble FROM lane) FROM external_link`); got != ticket.SysID+" " {
		t.Errorf("the link follows %s", got)
	}
}

// The same when the second one is found by the search after a lost answer.
func TestR2TwoTicketsFoundAfterALostAnswer(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Strike(servicenowtest.Fault{Kind: servicenowtest.FaultLostAnswer, Method: "POST"})
	p.Escalate("Lost")
	p.Deliver()
	correlation := pair.Scan[string](p, `SELECT correlation_id::text FROM external_link`)
	if _, err := p.System.Connector.Create(t.Context(), connectors.Draft{CorrelationID: correlation, Fields: connectors.Fields{"short_description": "Lost"}}); err != nil {
		t.Fatal(err)
	}
	p.Advance(time.Minute)
	p.Deliver()
	open := 0
	for _, ticket := range p.Sim.Tickets() {
		if ticket.State != "7" && ticket.State != "8" {
			open++
			if got := pair.Scan[string](p, `SELECT external_id FROM external_link`); got != ticket.SysID {
				t.Errorf("the open ticket is %s, the followed one %s", ticket.SysID, got)
			}
		}
	}
	if open != 1 || len(p.Sim.Tickets()) != 2 {
		t.Errorf("%d of %d tickets are open, want 1 of 2", open, len(p.Sim.Tickets()))
	}
	if n := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry WHERE kind IN ('DUPLICATE_FOUND', 'DUPLICATE_CLOSED')`); n != 2 {
		t.Errorf("%d entries tell of it, want 2", n)
	}
}

// A change that the vendor makes while the ticket's creation is still being settled is not lost to a poll in between.
func TestAPollBeforeTheCreationIsSettledLosesNothing(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	p.Escalate("Early")
	lanes, err := p.Ledger.NextExchanges(t.Context(), p.System.ID, 1, system.Lease)
	if err != nil || len(lanes) != 1 {
		t.Fatal(lanes, err)
	}
	p.Worker.Call(t.Context(), lanes[0]) // opened, and nobody wrote that down
	p.Act(p.Sim.Tickets()[0].SysID, servicenowtest.Move{State: "2", Comment: "early bird"})
	p.Poll()
	if _, err := p.DB.System.Exec(t.Context(), `UPDATE lane SET lease_until = '-infinity'`); err != nil {
		t.Fatal(err)
	}
	p.Advance(time.Minute)
	p.Deliver()
	p.Advance(time.Minute)
	read(t, p)
	if got := pair.Scan[string](p, `SELECT state || (SELECT count(*) FROM comment WHERE body = 'early bird') FROM incident`); got != "IN_PROGRESS1" {
		t.Errorf("the hub has %s", got)
	}
}

// reconnect makes a connector of a changed configuration.
func reconnect(t *testing.T, c connectors.Config) connectors.Connector {
	t.Helper()
	made, err := servicenow.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// restored is what the metric of missed webhooks tells.
func restored(t *testing.T, from prometheus.Gatherer) int {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == "liaison_inbound_restored_total" {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return int(sum)
}

// RELIABILITY.md R8: a read that takes long holds up its own ticket only, also when there are more tickets than may be read at a
// time.
func TestR8ASlowReadHoldsUpNobody(t *testing.T) {
	t.Parallel()
	p := pair.New(t, func(c *connectors.Config) { c.Timeout = time.Minute })
	p.System.Concurrency = 2
	door := hooks(t, p).URL + "/hooks/" + pair.SystemKey
	hint := func(id string) { post(t, door, secret, strings.NewReader(fmt.Sprintf(`{"sys_id":%q}`, id))) }
	_, slow := p.Escalated("Slow")
	var others []string
	for n := range 40 {
		_, ticket := p.Escalated(fmt.Sprint("Quick ", n))
		others = append(others, ticket.SysID)
	}
	if err := p.Sim.AddFault(servicenowtest.Fault{Kind: servicenowtest.FaultLatency, Delay: time.Minute, Path: slow.SysID, Rate: 1}); err != nil {
		t.Fatal(err)
	}
	hint(slow.SysID)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	reader := inbound.NewReader(p.DB, p.Ledger, p.System, inbound.Options{Idle: 10 * time.Millisecond, Now: p.Now, Log: slog.New(slog.DiscardHandler)})
	go func() { ended <- reader.Run(ctx) }()
	const leased = `SELECT count(*) FROM inbox WHERE state = 'WAITING' AND lease_until > '-infinity'`
	await(t, func() bool { return pair.Scan[int](p, leased) == 1 })
	for _, id := range others {
		hint(id)
	}
	await(t, func() bool {
		return pair.Scan[int](p, `SELECT count(*) FROM inbox WHERE state = 'DONE'`) == len(others)
	})
	if pair.Scan[int](p, leased) != 1 {
		t.Error("the slow read is over: the others may have waited for it")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// await waits for something that other goroutines bring about.
func await(t *testing.T, came func() bool) {
	t.Helper()
	deadline := time.After(45 * time.Second)
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !came() {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatal("it has not come about in 45 s")
		}
	}
}

// Issue 3, point 8: a hub that is told to stop cuts its reads and its poll. That is nobody's failure: no try is counted, the
// next hub goes on at once, and the vendor is not said to have failed.
func TestStoppingCountsNoTry(t *testing.T) {
	t.Parallel()
	p := pair.New(t, func(c *connectors.Config) { c.Timeout = time.Minute })
	_, ticket := p.Escalated("Stop")
	p.Poll()
	p.Advance(time.Hour)
	post(t, hooks(t, p).URL+"/hooks/"+pair.SystemKey, secret, strings.NewReader(fmt.Sprintf(`{"sys_id":%q}`, ticket.SysID)))
	monitor := pulse.New(p.DB, []*system.System{p.System}, pulse.Options{Log: slog.New(slog.DiscardHandler), Now: p.Now})
	opts := inbound.Options{Idle: 10 * time.Millisecond, Now: p.Now, Log: slog.New(slog.DiscardHandler), Pulse: monitor.Of(pair.SystemKey)}
	reader, poller := inbound.NewReader(p.DB, p.Ledger, p.System, opts), inbound.NewPoller(p.DB, p.Ledger, p.System, deaf{}, opts)
	if _, err := poller.Step(t.Context()); err != nil { // what it does at a beginning is done
		t.Fatal(err)
	}
	p.Advance(time.Hour)
	before := pair.Scan[string](p, `SELECT due_at::text || failures || last_error FROM poll`)
	if err := p.Sim.AddFault(servicenowtest.Fault{Kind: servicenowtest.FaultLatency, Delay: time.Minute, Rate: 1}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	p.Sim.ForgetCalls()
	ended := make(chan error, 2)
	go func() { ended <- reader.Run(ctx) }()
	go func() { ended <- poller.Run(ctx) }()
	await(t, func() bool {
		return pair.Scan[bool](p, `SELECT (SELECT lease_until > now() FROM poll) AND (SELECT lease_until > now() FROM inbox WHERE state = 'WAITING') AND (SELECT lease_until > now() FROM lane)`)
	})
	stop()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if got := pair.Scan[string](p, `SELECT state || ' ' || attempts || ' ' || (lease_until < now()) FROM inbox WHERE source = 'WEBHOOK'`); got != "WAITING 0 true" {
		t.Errorf("the hint is %s", got)
	}
	if after := pair.Scan[string](p, `SELECT due_at::text || failures || last_error FROM poll`); after != before {
		t.Errorf("the poll was %s and is %s", before, after)
	}
	if pair.Scan[bool](p, `SELECT (SELECT lease_until > now() FROM poll) OR (SELECT lease_until > now() FROM lane)`) {
		t.Error("the poll or the lane is still taken")
	}
	if err := p.Sim.SetFaults(servicenowtest.Faults{}); err != nil {
		t.Fatal(err)
	}
	if err := monitor.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pair.Scan[bool](p, `SELECT EXISTS (SELECT FROM pulse WHERE failed_at IS NOT NULL OR read_failed_at IS NOT NULL OR poll_failed_at IS NOT NULL)`) {
		t.Error("the vendor is said to have failed")
	}
	read(t, p)
	if got := pair.Scan[string](p, `SELECT state FROM inbox WHERE source = 'WEBHOOK'`); got != "DONE" {
		t.Errorf("the next hub leaves the hint %s", got)
	}
}

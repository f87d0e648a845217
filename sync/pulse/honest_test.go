package pulse_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/incident"
	"liaison/sync/inbound"
	"liaison/sync/ledger"
	"liaison/sync/outbound"
	"liaison/sync/pair"
	"liaison/sync/pulse"
	"liaison/sync/system"
)

// watched is a hub's sync and a simulated ServiceNow under a monitor, with the hub's clock in the test's hand.
type watched struct {
	*pair.Pair
	t       *testing.T
	monitor *pulse.Monitor
}

func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{Pair: pair.New(t, nil), t: t}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	w.monitor = pulse.New(w.DB, []*system.System{w.System}, pulse.Options{Log: quiet, Now: w.Now})
	p := w.monitor.Of(pair.SystemKey)
	w.Worker = outbound.NewWorker(w.Ledger, w.System, outbound.Options{Log: quiet, Now: w.Now, Pulse: p, Backoff: outbound.Backoff{Base: time.Millisecond, Most: 2 * time.Millisecond}})
	in := inbound.Options{Log: quiet, Now: w.Now, Pulse: p}
	w.Reader, w.Poller = inbound.NewReader(w.DB, w.Ledger, w.System, in), inbound.NewPoller(w.DB, w.Ledger, w.System, quietBell{}, in)
	return w
}

type quietBell struct{}

func (quietBell) Ring(string) {}

// judged writes the notes down and judges what the table says.
func (w *watched) judged() (pulse.Judgement, ledger.Health) {
	w.t.Helper()
	if err := w.monitor.Step(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	var found []ledger.Health
	if err := ledger.NewReader(w.DB).Read(context.Background(), w.Agent, ledger.SystemsHealth(&found)...); err != nil {
		w.t.Fatal(err)
	}
	return pulse.Judge(found[0], w.Now()), found[0]
}

func (w *watched) is(want pulse.Status, why string) ledger.Health {
	w.t.Helper()
	j, h := w.judged()
	if j.Status != want {
		w.t.Errorf("%s it is %s, want %s (%v)", why, j.Status, want, j.Alarms)
	}
	return h
}

// What health says of a real exchange with a vendor, good and bad.
func TestHealthIsHonest(t *testing.T) {
	t.Parallel()
	w := watch(t)
	w.is(pulse.Unproven, "before anything was exchanged")
	w.Poll()
	w.is(pulse.Unproven, "after a poll alone, with nothing ever sent,")
	id, ticket := w.Escalated("The printer is on fire")
	w.Poll()
	h := w.is(pulse.InStep, "after a write and a poll")
	if h.SentAt.IsZero() || h.ReadAt.IsZero() || h.PolledAt.IsZero() || !h.Followed {
		t.Errorf("health is %+v", h)
	}

	// Polls fail, while writes go well.
	w.Strike(servicenowtest.Fault{Kind: servicenowtest.FaultServerError, Method: "GET", Path: "/api/now/table/incident", Next: 50, Status: 503})
	w.Advance(w.System.PollInterval + time.Second)
	if _, err := w.Poller.Step(context.Background()); err == nil {
		t.Fatal("the poll did not fail")
	}
	if h := w.is(pulse.Failing, "after a failed poll"); h.PollFailedAt.IsZero() || h.Error == "" {
		t.Errorf("health is %+v", h)
	}
	if err := w.Sim.SetFaults(servicenowtest.Faults{}); err != nil {
		t.Fatal(err)
	}
	w.Advance(time.Minute)
	w.Poll()
	w.is(pulse.InStep, "after a poll that went well")

	// Writes fail, while polls go well.
	w.Strike(servicenowtest.Fault{Kind: servicenowtest.FaultServerError, Method: "PATCH", Next: 100, Status: 503})
	w.Retitle(id, "The printer was on fire")
	if _, err := w.Worker.Step(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.Poll()
	if h := w.is(pulse.Failing, "after a failed write, although polls work,"); h.SendFailedAt.IsZero() || h.Unknown != 1 || h.Waiting != 1 || h.Retries == 0 {
		t.Errorf("health is %+v", h)
	}
	if err := w.Sim.SetFaults(servicenowtest.Faults{}); err != nil {
		t.Fatal(err)
	}
	w.Advance(time.Minute)
	w.Deliver()
	w.Poll()
	w.is(pulse.InStep, "after the write came through")

	// The vendor's people act: that is news.
	before := w.is(pulse.InStep, "before the vendor's news").NewsAt
	w.Act(ticket.SysID, servicenowtest.Move{Comment: "We are on our way"})
	w.Poll()
	if h := w.is(pulse.InStep, "after news"); !h.NewsAt.After(before) {
		t.Errorf("news at %s, before %s", h.NewsAt, before)
	}
	w.Say(id, incident.Public, "Thank you")
	w.is(pulse.InStep, "with something that waits for a moment")
	w.Advance(2 * time.Minute)
	w.is(pulse.Catching, "with something that waits for two minutes")
}

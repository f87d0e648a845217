package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"liaison/cmd/liaison/hub"
	"liaison/connectors/account"
	"liaison/graph/nodeid"
	"liaison/internal/desk"
	"liaison/internal/directory"
	"liaison/internal/incident"
	"liaison/sync/explain"
	"liaison/sync/inbound"
	"liaison/sync/ledger"
	"liaison/sync/pulse"
)

type syncCmd struct {
	Status    syncStatusCmd    `cmd:"" help:"Say how the exchange with each system does."`
	Explain   syncExplainCmd   `cmd:"" help:"Say what happened to an incident lately, why, and where its tickets stand."`
	Retry     syncRetryCmd     `cmd:"" help:"Send deliveries again that were given up."`
	Skip      syncSkipCmd      `cmd:"" help:"Give deliveries up for good, so that those behind them go on."`
	Replay    syncReplayCmd    `cmd:"" help:"Have what vendors sent acted upon again, after mending."`
	Reconcile syncReconcileCmd `cmd:"" help:"Compare tickets with their vendors, print what differs, and mend it if asked to."`
	Pause     syncPauseCmd     `cmd:"" help:"Stop all exchange with a system; what comes is kept."`
	Resume    syncResumeCmd    `cmd:"" help:"Take the exchange with a paused system up again."`
}

// print writes v as JSON, or has say write it for people.
func (o *operator) print(asJSON bool, v any, say func()) error {
	if !asJSON {
		say()
		return nil
	}
	w := json.NewEncoder(o.env.stdout)
	w.SetIndent("", "  ")
	w.SetEscapeHTML(false)
	return w.Encode(v)
}

func (o *operator) say(format string, args ...any) { fmt.Fprintf(o.env.stdout, format+"\n", args...) }

type syncStatusCmd struct {
	System string `help:"Only the system with this key." placeholder:"KEY"`
	JSON   bool   `name:"json" help:"Write JSON."`
	Check  bool   `help:"Fail unless every system is in step or paused."`
}

// systemStatus is a system's health for programs.
type systemStatus struct {
	System       string            `json:"system"`
	Name         string            `json:"name"`
	Status       pulse.Status      `json:"status"`
	Alarms       []systemAlarm     `json:"alarms"`
	LastSentAt   *time.Time        `json:"lastSentAt"`
	LastReadAt   *time.Time        `json:"lastReadAt"`
	LastNewsAt   *time.Time        `json:"lastNewsAt"`
	OldestUnsent *time.Time        `json:"oldestUnsent"`
	Counts       map[string]int64  `json:"counts"`
	Breaker      string            `json:"breaker,omitempty"`
	Paused       map[string]string `json:"paused,omitempty"`
	ReportedAt   *time.Time        `json:"reportedAt"`
}

type systemAlarm struct {
	Kind  pulse.AlarmKind `json:"kind"`
	Text  string          `json:"text"`
	Since *time.Time      `json:"since"`
}

func (c syncStatusCmd) Run(e *env) error {
	return e.operate(func(o *operator) error {
		health, err := o.health(c.System)
		if err != nil {
			return err
		}
		now, bad := o.now(), 0
		list := []systemStatus{}
		for _, h := range health {
			s := statusOf(h, now)
			if s.Status != pulse.InStep && s.Status != pulse.Paused && s.Status != pulse.Retired {
				bad++
			}
			list = append(list, s)
		}
		err = o.print(c.JSON, list, func() {
			for n, h := range health {
				if n > 0 {
					o.say("")
				}
				o.status(h, now)
			}
			if len(health) == 0 {
				o.say("No system is in the settings yet.")
			}
		})
		if err == nil && c.Check && bad > 0 {
			return exit(1)
		}
		return err
	})
}

func (o *operator) status(h ledger.Health, now time.Time) {
	sum, grounds, alarms := explain.Health(h, now)
	o.say("%s", sum)
	for _, line := range grounds {
		o.say("  %s", line)
	}
	for _, line := range alarms {
		o.say("  ! %s", line)
	}
}

// health reads how systems do: the one with the key, or all.
func (o *operator) health(key string) ([]ledger.Health, error) {
	var all []ledger.Health
	if err := o.read(ledger.SystemsHealth(&all)...); err != nil || key == "" {
		return all, err
	}
	var known []string
	for _, h := range all {
		if h.Key == key {
			return []ledger.Health{h}, nil
		}
		known = append(known, h.Key)
	}
	return nil, fmt.Errorf("there is no system %q; use one of %s", key, strings.Join(known, ", "))
}

func statusOf(h ledger.Health, now time.Time) systemStatus {
	j := pulse.Judge(h, now)
	s := systemStatus{
		System: h.Key, Name: h.Name, Status: j.Status, Alarms: []systemAlarm{}, LastSentAt: stamp(h.SentAt), LastReadAt: stamp(h.ReadAt), LastNewsAt: stamp(h.NewsAt),
		OldestUnsent: stamp(h.OldestUnsent), Breaker: h.Breaker, ReportedAt: stamp(h.ReportedAt),
		Counts: map[string]int64{
			"waiting": h.Waiting, "retrying": h.Retrying, "dead": h.Dead, "unknown": h.Unknown, "parkedFields": h.ParkedFields, "parkedCalls": h.ParkedCalls,
			"inboxWaiting": h.InboxNow, "conflicts": h.Conflicts, "drift": h.Drift, "echoes": h.Echoes, "restored": h.Restored, "retries": h.Retries,
		},
	}
	for _, a := range j.Alarms {
		s.Alarms = append(s.Alarms, systemAlarm{Kind: a.Kind, Text: a.Text, Since: stamp(a.Since)})
	}
	if h.Paused {
		s.Paused = map[string]string{"by": h.PausedBy, "reason": h.PauseReason, "at": h.PausedAt.Format(time.RFC3339)}
	}
	return s
}

// stamp is null for the zero time.
func stamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// deadFilter says which deliveries a command is about: those that are named, or those that a filter finds.
type deadFilter struct {
	Deliveries []string `arg:"" optional:"" help:"Ids of deliveries, as explain and GraphQL give them."`
	All        bool     `help:"Every delivery that was given up."`
	System     string   `help:"Those to the system with this key." placeholder:"KEY"`
	Incident   string   `help:"Those of the incident with this number." placeholder:"NUMBER"`
	ErrorKind  []string `help:"Those given up for this kind of failure, for example rejected." placeholder:"KIND"`
	JSON       bool     `name:"json" help:"Write JSON."`
}

// mended is a decided delivery for programs.
type mended struct {
	Delivery incident.DeliveryID `json:"delivery"`
	State    ledger.State        `json:"state"`
}

type (
	one  func(id incident.DeliveryID) (ledger.Delivery, error)
	many func(f ledger.DeadFilter) (desk.Mended, error)
)

func (c deadFilter) run(e *env, verb string, one func(*operator) one, all func(*operator) many) error {
	filtered := c.All || c.System != "" || c.Incident != "" || len(c.ErrorKind) > 0
	if filtered == (len(c.Deliveries) > 0) {
		return fmt.Errorf("name deliveries, or say which with --system, --incident, --error-kind or --all")
	}
	return e.operate(func(o *operator) error {
		var done []ledger.Delivery
		var err error
		if filtered {
			done, err = c.filtered(o, all(o))
		} else {
			done, err = c.named(one(o))
		}
		if err != nil && len(done) == 0 {
			return err
		}
		out := []mended{}
		for _, d := range done {
			out = append(out, mended{d.ID, d.State})
		}
		if failed := o.print(c.JSON, out, func() {
			if len(done) == 1 {
				o.say("%s 1 delivery.", verb)
			} else {
				o.say("%s %d deliveries.", verb, len(done))
			}
		}); failed != nil {
			return failed
		}
		return err
	})
}

func (c deadFilter) named(do one) ([]ledger.Delivery, error) {
	var out []ledger.Delivery
	for _, text := range c.Deliveries {
		id, err := named(nodeid.Delivery, text)
		if err != nil {
			return out, fmt.Errorf("%q is no delivery's id: %w", text, err)
		}
		d, err := do(incident.DeliveryID{UUID: id})
		if err != nil {
			return out, fmt.Errorf("delivery %s: %w", text, err)
		}
		out = append(out, d)
	}
	return out, nil
}

func (c deadFilter) filtered(o *operator, do many) ([]ledger.Delivery, error) {
	f := ledger.DeadFilter{ErrorKinds: c.ErrorKind}
	if c.System != "" {
		if _, err := o.health(c.System); err != nil {
			return nil, err
		}
		f.System = &c.System
	}
	if c.Incident != "" {
		i, err := o.incident(c.Incident)
		if err != nil {
			return nil, err
		}
		f.Incident = i.ID
	}
	var out []ledger.Delivery
	for {
		done, err := do(f)
		out = append(out, done.Deliveries...)
		if err != nil || !done.More {
			return out, err
		}
	}
}

type syncRetryCmd struct{ deadFilter }

func (c syncRetryCmd) Run(e *env) error {
	return c.run(e, "Sent again:", func(o *operator) one {
		return func(id incident.DeliveryID) (ledger.Delivery, error) {
			return o.desk.RetryDelivery(e.ctx, o.viewer, id, desk.Key{})
		}
	}, func(o *operator) many {
		return func(f ledger.DeadFilter) (desk.Mended, error) {
			return o.desk.RetryDeliveries(e.ctx, o.viewer, f, desk.Key{})
		}
	})
}

type syncSkipCmd struct{ deadFilter }

func (c syncSkipCmd) Run(e *env) error {
	return c.run(e, "Given up for good:", func(o *operator) one {
		return func(id incident.DeliveryID) (ledger.Delivery, error) {
			return o.desk.SkipDelivery(e.ctx, o.viewer, id, desk.Key{})
		}
	}, func(o *operator) many {
		return func(f ledger.DeadFilter) (desk.Mended, error) {
			return o.desk.SkipDeliveries(e.ctx, o.viewer, f, desk.Key{})
		}
	})
}

type syncReplayCmd struct {
	Items  []string      `arg:"" optional:"" help:"Ids of what came in. Default: everything parked."`
	System string        `help:"Only parked ones of the system with this key." placeholder:"KEY"`
	Since  time.Duration `help:"Only parked ones that came in within this time, for example 24h." placeholder:"SPAN"`
	JSON   bool          `name:"json" help:"Write JSON."`
}

// replayed is a replayed item for programs.
type replayed struct {
	Item   uuid.UUID   `json:"item"`
	As     []uuid.UUID `json:"as"`
	State  string      `json:"state"`
	Reason string      `json:"reason,omitempty"`
}

func (c syncReplayCmd) Run(e *env) error {
	return e.operate(func(o *operator) error {
		s := inbound.Selection{System: c.System}
		if c.Since > 0 {
			s.From = o.now().Add(-c.Since)
		}
		if c.System != "" {
			if _, err := o.health(c.System); err != nil {
				return err
			}
		}
		for _, text := range c.Items {
			id, err := named(nodeid.InboxItem, text)
			if err != nil {
				return fmt.Errorf("%q is no id of something that came in: %w", text, err)
			}
			s.IDs = append(s.IDs, id)
		}
		// What was not understood is read again by its connector, so this needs the settings whole.
		full, err := e.settings()
		if err != nil {
			return err
		}
		systems, _, err := hub.Systems(full, account.NewRegistry(), nil)
		if err != nil {
			return err
		}
		done, err := inbound.NewMender(o.db, systems, o.bell, o.now).Replay(e.ctx, nil, o.viewer.Name, s)
		if err != nil {
			return err
		}
		out, again := []replayed{}, 0
		for _, d := range done {
			out = append(out, replayed{d.Row, d.As, d.State, d.Reason})
			if len(d.As) > 0 {
				again++
			}
		}
		return o.print(c.JSON, out, func() {
			o.say("%d of %d acted upon again.", again, len(done))
			for _, d := range done {
				if len(d.As) == 0 {
					o.say("  %s is still parked: %s.", d.Row, strings.TrimSuffix(d.Reason, "."))
				}
			}
			if missing := len(s.IDs) - len(done); missing > 0 {
				o.say("  %d of those named are not there.", missing)
			}
		})
	})
}

type syncPauseCmd struct {
	System string `arg:"" help:"The system's key."`
	Reason string `help:"Why, for colleagues." placeholder:"TEXT"`
}

func (c syncPauseCmd) Run(e *env) error {
	return e.operate(func(o *operator) error {
		return o.turn(c.System, func(s *directory.Switch) error {
			return s.Pause(e.ctx, o.viewer, c.System, o.viewer.Name, c.Reason)
		})
	})
}

type syncResumeCmd struct {
	System string `arg:"" help:"The system's key."`
}

func (c syncResumeCmd) Run(e *env) error {
	return e.operate(func(o *operator) error {
		return o.turn(c.System, func(s *directory.Switch) error { return s.Resume(e.ctx, o.viewer, c.System) })
	})
}

// turn has a system paused or resumed and says how it stands then.
func (o *operator) turn(key string, do func(*directory.Switch) error) error {
	if _, err := o.health(key); err != nil {
		return err
	}
	if err := do(directory.NewSwitch(o.db, o.bell, o.now, slog.New(slog.DiscardHandler))); err != nil {
		return err
	}
	after, err := o.health(key)
	if err != nil {
		return err
	}
	o.status(after[0], o.now())
	return nil
}

// incident finds an incident by its number.
func (o *operator) incident(number string) (incident.Incident, error) {
	var found []incident.Incident
	if err := o.read(ledger.IncidentsByNumber(o.viewer.Organisations, number, &found)); err != nil {
		return incident.Incident{}, err
	}
	if len(found) == 0 {
		return incident.Incident{}, fmt.Errorf("there is no incident %q; numbers look like INC0000001", number)
	}
	return found[0], nil
}

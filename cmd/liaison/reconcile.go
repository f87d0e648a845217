package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"liaison/cmd/liaison/hub"
	"liaison/connectors/account"
	"liaison/graph/nodeid"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/reconcile"
	"liaison/sync/system"
)

type syncReconcileCmd struct {
	System string `help:"Only the system with this key." placeholder:"KEY"`
	Link   string `help:"Only this link." placeholder:"ID"`
	Mend   bool   `help:"Mend what differs: take the vendor's news in by the mapping's policies, and send what the vendor lacks. Without it nothing is changed."`
	JSON   bool   `name:"json" help:"Write JSON."`
}

// reconciled is what the command found, for programs.
type reconciled struct {
	Reports []reconcile.Report `json:"reports"`
	Drift   []reconcile.Drift  `json:"drift"`
}

// Run compares links with their vendors' tickets and ends with 1 when something differs still, or could not be compared.
func (c syncReconcileCmd) Run(e *env) error {
	return e.operate(func(o *operator) error {
		systems, err := c.systems(e, o)
		if err != nil {
			return err
		}
		out := reconciled{Reports: []reconcile.Report{}, Drift: []reconcile.Drift{}}
		quiet := slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
		r := reconcile.New(o.db, o.ledger, systems, reconcile.Options{Log: quiet, Now: o.now})
		ask := reconcile.Request{Cause: reconcile.Person, By: o.viewer.Name, Mend: c.Mend, Each: func(d reconcile.Drift) {
			out.Drift = append(out.Drift, d)
			if !c.JSON {
				o.drift(d)
			}
		}}
		if c.Link != "" {
			err = c.link(e, o, r, ask, &out)
		} else {
			err = c.all(e, o, r, systems, ask, &out)
		}
		if err != nil {
			return err
		}
		if err := o.print(c.JSON, out, func() {}); err != nil {
			return err
		}
		for _, report := range out.Reports {
			if report.Drifted > report.Mended || report.Failed > 0 || report.State != reconcile.Done {
				return exit(1)
			}
		}
		return nil
	})
}

func (c syncReconcileCmd) link(e *env, o *operator, r *reconcile.Reconciler, ask reconcile.Request, out *reconciled) error {
	id, err := named(nodeid.ExternalLink, c.Link)
	if err != nil {
		return fmt.Errorf("%q is no id of a link: %w", c.Link, err)
	}
	report, _, err := r.Link(e.ctx, nil, incident.LinkID{UUID: id}, ask)
	if errors.Is(err, ledger.ErrNotFound) {
		return fmt.Errorf("there is no link %s with a ticket that is followed, in a system of the settings", c.Link)
	} else if err != nil {
		return err
	}
	out.Reports = append(out.Reports, report)
	if !c.JSON {
		o.reconciled(report)
	}
	return nil
}

func (c syncReconcileCmd) all(e *env, o *operator, r *reconcile.Reconciler, systems []*system.System, ask reconcile.Request, out *reconciled) error {
	if len(systems) == 0 && !c.JSON {
		o.say("There is nothing to compare: no system is in the settings. Name the hub's settings file with --config.")
	}
	for _, s := range systems {
		report, err := r.System(e.ctx, s, ask)
		switch {
		case errors.Is(err, reconcile.ErrRunning):
			report = reconcile.Report{System: s.Key, State: reconcile.Running, Mend: c.Mend, Error: reconcile.ErrRunning.Error()}
		case isPaused(err) && report.State == "" && c.System != "":
			return err
		case isPaused(err) && report.State == "":
			report = reconcile.Report{System: s.Key, State: reconcile.PassedOver, Mend: c.Mend, Error: err.Error()}
		case e.ctx.Err() != nil:
			return err
		case err != nil && report.State != reconcile.Failed:
			return err
		}
		out.Reports = append(out.Reports, report)
		if !c.JSON {
			o.reconciled(report)
		}
	}
	return nil
}

func isPaused(err error) bool {
	_, paused := errors.AsType[*reconcile.Paused](err)
	return paused
}

// systems makes the systems to compare, with the ids that the database gave them.
func (c syncReconcileCmd) systems(e *env, o *operator) ([]*system.System, error) {
	health, err := o.health(c.System)
	if err != nil {
		return nil, err
	}
	full, err := e.settings()
	if err != nil {
		return nil, err
	}
	all, _, err := hub.Systems(full, account.NewRegistry(), nil)
	if err != nil {
		return nil, err
	}
	var out []*system.System
	for _, s := range all {
		for _, h := range health {
			if h.Key == s.Key {
				s.ID = h.System
				out = append(out, s)
			}
		}
	}
	if len(out) == 0 && c.System != "" {
		return nil, fmt.Errorf("system %q is not in the settings any more, so it cannot be called", c.System)
	}
	return out, nil
}

// drift says what differs. Values are quoted: they come from other people's systems.
func (o *operator) drift(d reconcile.Drift) {
	differs := fmt.Sprintf("%s is %q in the hub and %q at the vendor", d.What, d.Hub, d.Vendor)
	switch {
	case d.What == "comment" && d.Hub == "":
		differs = fmt.Sprintf("the hub lacks the comment %q", d.Vendor)
	case d.What == "comment":
		differs = fmt.Sprintf("the vendor lacks the comment %q", d.Hub)
	}
	o.say("%s, ticket %s: %s; %s.", d.Incident, d.Number, differs, d.Outcome)
}

func (o *operator) reconciled(r reconcile.Report) {
	if r.State == reconcile.Running || r.State == reconcile.PassedOver {
		o.say("%s: %s.", r.System, r.Error)
		return
	}
	sum := "nothing differs"
	if r.Drifted > 0 {
		sum = fmt.Sprintf("%d %s", r.Drifted, plural(r.Drifted, "thing differs", "things differ"))
		if r.Mend {
			sum += fmt.Sprintf(", %d mended", r.Mended)
		}
	}
	if r.Failed > 0 {
		sum += fmt.Sprintf("; %d could not be compared", r.Failed)
	}
	o.say("%s: %d %s compared by %d %s in %s: %s.", r.System, r.Links, plural(r.Links, "link", "links"), r.Requests, plural(r.Requests, "request", "requests"), r.Took.Round(100*time.Millisecond), sum)
	if r.State != reconcile.Done {
		o.say("  ! The comparison ended early: %s.", r.Error)
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

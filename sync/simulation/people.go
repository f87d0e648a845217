package simulation

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"liaison/connectors"
	"liaison/internal/auth"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// person is one of the desk's people at a portal, who repeats what was not answered under the same key.
type person struct {
	world  *world
	name   string
	viewer auth.Viewer

	mu       sync.Mutex
	said     map[string]incident.ID // bodies of comments that were acknowledged
	reported map[string]incident.ID // titles of incidents
	wishes   map[incident.ID]map[string]bool
}

func (w *world) newPerson(n int) *person {
	name := fmt.Sprintf("p%d", n+1)
	return &person{
		world: w, name: name, said: map[string]incident.ID{}, reported: map[string]incident.ID{}, wishes: map[incident.ID]map[string]bool{},
		viewer: auth.Viewer{Subject: name, Name: "Person " + name, Roles: []auth.Role{auth.Agent, auth.Admin}, Desk: 1, Organisations: []incident.OrganisationID{1}},
	}
}

// insist asks until somebody answers: yes, or no with a reason.
func (p *person) insist(what string, ask func(ctx context.Context, d *desk.Desk, k desk.Key) error) error {
	w := p.world
	key := desk.Key{Value: p.name + " " + what, Digest: sha256.Sum256([]byte(what))}
	for try := 0; ; try++ {
		d := w.dice.occasion(p.name, "ask", what)
		if running := w.running(); len(running) > 0 {
			h := running[d.pick("hub", len(running))]
			ctx, cancel := context.WithTimeout(h.ctx, max(10*time.Second/w.clock.scale, 5*time.Second))
			err := ask(ctx, h.desk, key)
			cancel()
			if refusal, ok := errors.AsType[*incident.Refusal](err); err == nil && !h.dead.Load() || ok && !h.dead.Load() {
				if ok {
					err = refusal
				}
				w.trace.add(p.name, "%s -> %s", what, verdict(err))
				return err
			} else if _, ok := errors.AsType[*ledger.KeyReused](err); ok {
				return err
			}
		}
		if w.ended.Load() {
			return errDead
		}
		_ = w.clock.sleep(context.Background(), d.between("again", 200*time.Millisecond, 2*time.Second))
	}
}

func verdict(err error) string {
	if err != nil {
		return "refused"
	}
	return "done"
}

// live is what a person does: report an incident, escalate it to the vendors, and change it now and then.
func (p *person) live(incidents int) {
	w := p.world
	d := w.dice.of("life", p.name)
	_ = w.clock.sleep(context.Background(), w.grace)
	for n := range incidents {
		title := fmt.Sprintf("%s incident %d", p.name, n+1)
		_ = w.clock.sleep(context.Background(), d.between("report "+title, 0, 3*time.Second))
		var id incident.ID
		err := p.insist("report "+title, func(ctx context.Context, d *desk.Desk, k desk.Key) error {
			r, err := d.Report(ctx, p.viewer, desk.ReportInput{Title: title, Description: title + " does not work", Organisation: 1, Key: k})
			id = r.Incident.ID
			return err
		})
		if err != nil {
			return
		}
		p.mu.Lock()
		p.reported[title] = id
		p.mu.Unlock()
		for n, v := range w.vendors {
			if n > 0 && d.chance("only one "+title, 0.3) {
				continue
			}
			_ = w.clock.sleep(context.Background(), d.between(fmt.Sprint("escalate ", title, n), 0, 2*time.Second))
			_ = p.insist("escalate "+title+" to "+v.key, func(ctx context.Context, d *desk.Desk, k desk.Key) error {
				_, _, err := d.Escalate(ctx, p.viewer, desk.EscalateInput{Target: desk.Target{Incident: id, Key: k}, System: v.key})
				return err
			})
		}
	}
	for n := range w.plan.changes {
		pause := max(w.plan.span/time.Duration(w.plan.changes), 2)
		_ = w.clock.sleep(context.Background(), w.dice.of("pause", p.name, fmt.Sprint(n)).between("pause", 0, pause*2))
		if w.clock.since() > w.plan.span {
			return
		}
		p.change(n)
	}
}

// change makes one change to one of the incidents.
func (p *person) change(n int) {
	w := p.world
	d := w.dice.of("change", p.name, fmt.Sprint(n))
	all := w.reported()
	if len(all) == 0 {
		return
	}
	id := all[d.pick("incident", len(all))]
	t := func(k desk.Key) desk.Target { return desk.Target{Incident: id, Key: k} }
	what := fmt.Sprintf("change %d of %s", n+1, w.stores.name(id.UUID))
	switch k := d.pick("kind", 12); k {
	case 0, 1, 2, 3:
		body := fmt.Sprintf("%s says %d", p.name, n+1)
		if d.chance("same words", 0.3) {
			body = "Any news?"
		}
		visibility := incident.Public
		if d.chance("internal", 0.3) {
			visibility = incident.Internal
		}
		var said incident.Comment
		if p.insist("comment "+what, func(ctx context.Context, d *desk.Desk, k desk.Key) error {
			_, c, err := d.Comment(ctx, p.viewer, desk.CommentInput{Target: t(k), Body: body, Visibility: visibility})
			said = c
			return err
		}) == nil {
			p.mu.Lock()
			p.said[said.ID.String()] = id
			p.mu.Unlock()
		}
	case 4, 5:
		title := fmt.Sprintf("%s.%d title", p.name, n+1)
		if d.chance("blank", 0.3) {
			title += " "
		}
		_ = p.insist("title "+what, func(ctx context.Context, d *desk.Desk, k desk.Key) error {
			_, err := d.Update(ctx, p.viewer, desk.UpdateInput{Target: t(k), Title: &title})
			return err
		})
	case 6:
		service := fmt.Sprintf("%s.%d service", p.name, n+1)
		_ = p.insist("service "+what, func(ctx context.Context, d *desk.Desk, k desk.Key) error {
			_, err := d.Update(ctx, p.viewer, desk.UpdateInput{Target: t(k), Service: &service})
			return err
		})
	case 7:
		priority := incident.Priorities()[d.pick("priority", len(incident.Priorities()))]
		_ = p.insist("priority "+what, func(ctx context.Context, d *desk.Desk, k desk.Key) error {
			_, err := d.Assess(ctx, p.viewer, desk.AssessInput{Target: t(k), Priority: &priority})
			return err
		})
	default:
		moves := []incident.Move{
			{To: incident.InProgress},
			{To: incident.OnHold, HoldReason: incident.AwaitingVendor},
			{To: incident.InProgress},
			{To: incident.Resolved, Resolution: "Mended."},
			{To: incident.InProgress},
			{To: incident.Closed},
		}
		m := moves[d.pick("move", len(moves))]
		_ = p.insist(fmt.Sprintf("move to %s %s", m.To, what), func(ctx context.Context, d *desk.Desk, k desk.Key) error {
			_, err := d.Move(ctx, p.viewer, t(k), m)
			return err
		})
	}
}

// reported lists every incident that was acknowledged, in the order of the people.
func (w *world) reported() []incident.ID {
	var out []incident.ID
	for _, p := range w.people {
		p.mu.Lock()
		for n := range len(p.reported) {
			if id, ok := p.reported[fmt.Sprintf("%s incident %d", p.name, n+1)]; ok {
				out = append(out, id)
			}
		}
		p.mu.Unlock()
	}
	return out
}

// work is what a vendor's agents do to their tickets.
func (v *vendor) work() {
	w := v.world
	_ = w.clock.sleep(context.Background(), w.grace)
	for n := range w.plan.edits {
		d := w.dice.of("agent", v.key, fmt.Sprint(n))
		_ = w.clock.sleep(context.Background(), d.between("pause", 0, 2*w.plan.span/time.Duration(w.plan.edits)))
		if w.clock.since() > w.plan.span {
			return
		}
		v.edit(d, n)
	}
}

func (v *vendor) edit(d draw, n int) {
	w := v.world
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.tickets) == 0 {
		return
	}
	t := v.tickets[d.pick("ticket", len(v.tickets))]
	if t.gone != connectors.Present || t.duplicateOf != "" {
		return
	}
	a := act{who: "agent"}
	switch k := d.pick("kind", 12); {
	case k < 4:
		visibility, body := connectors.Public, fmt.Sprintf("agent of %s says %d", v.key, n+1)
		if d.chance("internal", 0.3) {
			visibility = connectors.Internal
		}
		if d.chance("same words", 0.3) {
			body = "Any news?"
		}
		t.say(a, connectors.Message{Visibility: visibility, Body: body}, "Agent of "+v.key)
	case k < 6:
		t.set(a, connectors.Fields{"title": fmt.Sprintf("%s.%d agent", v.key, n+1)})
	case k < 7:
		t.set(a, connectors.Fields{"service": fmt.Sprintf("%s.%d agent", v.key, n+1)})
	case k < 8:
		t.set(a, connectors.Fields{"prio": fmt.Sprint(1 + d.pick("prio", 5))})
	case k < 11:
		t.set(a, connectors.Fields{"state": fmt.Sprint(1 + d.pick("state", 6))})
	case w.plan.removals:
		t.gone = connectors.Deleted
		if d.chance("merged", 0.5) {
			t.gone, t.successor = connectors.Merged, "elsewhere"
		}
		w.trace.add("agent", "%s %s is %s", t.link, t.id, t.gone)
		t.changed()
	}
}

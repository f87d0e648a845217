package desk

import (
	"context"
	"fmt"
	"strings"
	"time"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// Target names the incident that an action is about.
type Target struct {
	Incident incident.ID
	// ExpectedVersion refuses the action with a conflict when the incident has moved on; 0 asks for no such check.
	ExpectedVersion int64
	Key             Key
}

// UpdateInput names new values; nil leaves a field as it is.
type UpdateInput struct {
	Target
	Title    *string
	Category *string
	Service  *string
	Contact  *incident.Contact
}

// Update changes what describes the incident. The description stays the customer's own text.
func (d *Desk) Update(ctx context.Context, v auth.Viewer, in UpdateInput) (incident.Incident, error) {
	if in.Title != nil {
		if strings.TrimSpace(*in.Title) == "" {
			return incident.Incident{}, refuse("title", "is empty", "give a short summary of the trouble")
		}
		if err := d.title(*in.Title); err != nil {
			return incident.Incident{}, err
		}
	}
	if in.Category != nil {
		if err := d.checkCategory(*in.Category); err != nil {
			return incident.Incident{}, err
		}
	}
	if in.Service != nil {
		if err := line("service", *in.Service, shortBytes); err != nil {
			return incident.Incident{}, err
		}
	}
	if in.Contact != nil {
		if err := firstError(checkEmail(in.Contact.Email), line("contact.name", in.Contact.Name, shortBytes),
			line("contact.phone", in.Contact.Phone, shortBytes)); err != nil {
			return incident.Incident{}, err
		}
	}
	return d.change(ctx, v, in.Target, "updating", func(i incident.Incident) (incident.Incident, error) {
		if err := writable(i); err != nil {
			return i, err
		}
		set(&i.Title, in.Title)
		set(&i.Category, in.Category)
		set(&i.Service, in.Service)
		set(&i.Contact, in.Contact)
		return i, nil
	})
}

// AssessInput is the provider's judgement; nil leaves a field as it is.
type AssessInput struct {
	Target
	Priority *incident.Priority
	Impact   *incident.Impact
	Urgency  *incident.Urgency
	Category *string
}

// Assess sets priority, impact, urgency and category. Only the provider may.
func (d *Desk) Assess(ctx context.Context, v auth.Viewer, in AssessInput) (incident.Incident, error) {
	if err := requireStaff(v, "assess incidents"); err != nil {
		return incident.Incident{}, err
	}
	if in.Category != nil {
		if err := d.checkCategory(*in.Category); err != nil {
			return incident.Incident{}, err
		}
	}
	return d.change(ctx, v, in.Target, "assessing", func(i incident.Incident) (incident.Incident, error) {
		if err := writable(i); err != nil {
			return i, err
		}
		set(&i.Priority, in.Priority)
		set(&i.Impact, in.Impact)
		set(&i.Urgency, in.Urgency)
		set(&i.Category, in.Category)
		return i, nil
	})
}

// Assign gives the incident to a team, and to an agent of it when one is named.
func (d *Desk) Assign(ctx context.Context, v auth.Viewer, t Target, team, assignee string) (incident.Incident, error) {
	if err := requireStaff(v, "assign incidents"); err != nil {
		return incident.Incident{}, err
	}
	if strings.TrimSpace(team) == "" {
		return incident.Incident{}, refuse("team", "is empty", "name the team that is to own the incident")
	}
	if err := firstError(line("team", team, shortBytes), line("assignee", assignee, shortBytes)); err != nil {
		return incident.Incident{}, err
	}
	return d.change(ctx, v, t, "assigning", func(i incident.Incident) (incident.Incident, error) {
		if i.State == incident.New || i.State == incident.AwaitingTriage {
			moved, err := i.Move(incident.Move{To: incident.Assigned}, d.now())
			if err != nil {
				return i, err
			}
			i = moved
		} else if i.State.Final() || i.State == incident.Resolved {
			return i.Move(incident.Move{To: incident.Assigned}, d.now())
		}
		i.Team, i.Assignee = team, assignee
		return i, nil
	})
}

// Move takes a step in the lifecycle for the desk: begin work, hold, resume, resolve, reopen, close.
func (d *Desk) Move(ctx context.Context, v auth.Viewer, t Target, m incident.Move) (incident.Incident, error) {
	if err := requireStaff(v, "change the state of an incident"); err != nil {
		return incident.Incident{}, err
	}
	if err := text("resolution", m.Resolution, d.limits.CommentBytes); err != nil {
		return incident.Incident{}, err
	}
	return d.change(ctx, v, t, "moving", func(i incident.Incident) (incident.Incident, error) { return i.Move(m, d.now()) })
}

// Hold puts the incident on hold.
func (d *Desk) Hold(ctx context.Context, v auth.Viewer, t Target, reason incident.HoldReason, until time.Time) (incident.Incident, error) {
	return d.Move(ctx, v, t, incident.Move{To: incident.OnHold, HoldReason: reason, DeferredTo: until})
}

// Resume ends a hold. It refuses an incident that is not on hold, so that a late click does not reopen one.
func (d *Desk) Resume(ctx context.Context, v auth.Viewer, t Target) (incident.Incident, error) {
	return d.moveFrom(ctx, v, t, incident.OnHold, incident.Move{To: incident.InProgress}, "resumed")
}

// Reopen takes a resolved incident back into work.
func (d *Desk) Reopen(ctx context.Context, v auth.Viewer, t Target) (incident.Incident, error) {
	return d.moveFrom(ctx, v, t, incident.Resolved, incident.Move{To: incident.InProgress}, "reopened")
}

func (d *Desk) moveFrom(ctx context.Context, v auth.Viewer, t Target, from incident.State, m incident.Move, done string) (incident.Incident, error) {
	if err := requireStaff(v, "change the state of an incident"); err != nil {
		return incident.Incident{}, err
	}
	return d.change(ctx, v, t, "moving", func(i incident.Incident) (incident.Incident, error) {
		if i.State != from {
			return i, &incident.Refusal{
				Kind: incident.InvalidTransition, Field: "state",
				Problem: fmt.Sprintf("only an incident that is %s can be %s, this one is %s", from, done, i.State), Remedy: "look at its present state first",
			}
		}
		return i.Move(m, d.now())
	})
}

// Cancel withdraws an incident. Its own people may while nobody has begun to work on it, the desk always.
func (d *Desk) Cancel(ctx context.Context, v auth.Viewer, t Target) (incident.Incident, error) {
	return d.change(ctx, v, t, "cancelling", func(i incident.Incident) (incident.Incident, error) {
		if !v.Staff() && i.State != incident.New && i.State != incident.AwaitingTriage {
			return i, &Denied{Problem: "work on this incident has begun, so only the desk may cancel it", Remedy: "add a comment that it is no longer needed"}
		}
		return i.Move(incident.Move{To: incident.Cancelled}, d.now())
	})
}

func (d *Desk) change(ctx context.Context, v auth.Viewer, t Target, doing string, decide func(incident.Incident) (incident.Incident, error)) (incident.Incident, error) {
	done, err := d.ledger.Append(ctx, ledger.Append{
		Viewer: v, Actor: person(v), Incident: t.Incident, ExpectedVersion: t.ExpectedVersion, Key: t.Key,
		Decide: func(draft *ledger.Draft) error {
			after, err := decide(draft.Before)
			draft.After = after
			return err
		},
	})
	if err != nil {
		return incident.Incident{}, fmt.Errorf("%s: %w", doing, err)
	}
	return done.Incident, nil
}

func set[T any](at *T, to *T) {
	if to != nil {
		*at = *to
	}
}

package ledger

import (
	"context"
	"fmt"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

// NotDead says that only a dead letter can be retried, skipped or edited.
type NotDead struct{ State State }

func (e *NotDead) Error() string {
	return fmt.Sprintf("this delivery is %s, and only one that is DEAD is retried, skipped or edited", e.State)
}

// Decision is what a person decides about a dead letter.
type Decision struct {
	Viewer   auth.Viewer
	Actor    Actor
	Key      Key
	Delivery incident.DeliveryID
}

// Edit changes what a dead letter says. It keeps its place: those behind it in its lane still come after it.
type Edit struct {
	Decision
	Values  map[incident.Field]*string // CREATE and UPDATE: new values in the hub's words; nil takes the field out
	Comment *string                    // COMMENT: the text that this vendor gets instead of the comment's own
	Again   bool                       // send it again at once
}

// Retry sends a dead letter again and lets its lane go on.
func (l *Ledger) Retry(ctx context.Context, m Decision) (Delivery, error) {
	return l.mend(ctx, m, func(w *mending) error { return w.revive(DeliveryRetried, StatePending) })
}

// Skip gives a dead letter up and lets its lane go on without it.
func (l *Ledger) Skip(ctx context.Context, m Decision) (Delivery, error) {
	return l.mend(ctx, m, func(w *mending) error { return w.revive(DeliverySkipped, StateSkipped) })
}

// Edit changes a dead letter. What it said before stays in the ledger.
func (l *Ledger) Edit(ctx context.Context, e Edit) (Delivery, error) {
	return l.mend(ctx, e.Decision, func(w *mending) error {
		if err := w.edit(e); err != nil || !e.Again {
			return err
		}
		return w.revive(DeliveryRetried, StatePending)
	})
}

// mending is a transaction about one dead letter, its incident locked.
type mending struct {
	ctx      context.Context //nolint:containedctx // it lives as long as one call
	q        db.Querier
	ledger   *Ledger
	actor    Actor
	incident incident.Incident
	delivery Delivery
}

func (l *Ledger) mend(ctx context.Context, m Decision, do func(*mending) error) (Delivery, error) {
	var out Delivery
	err := l.asViewer(ctx, m.Viewer, m.Key, func(q db.Querier) error {
		found, err := q.FindDeliveryIncident(ctx, m.Delivery.UUID)
		if err != nil {
			return notFound(err)
		}
		before, first, err := l.lock(ctx, q, m.Viewer, incident.ID{UUID: found.IncidentID}, 0, m.Key)
		if err != nil {
			return err
		}
		d, err := q.LockDelivery(ctx, db.LockDeliveryParams{OrganisationID: found.OrganisationID, ID: m.Delivery.UUID})
		if err != nil {
			return notFound(err)
		}
		if out, err = deliveryOf(now(d, nil, nil)); err != nil || first != nil {
			return err
		}
		if out.State != StateDead {
			return &NotDead{State: out.State}
		}
		w := &mending{ctx: ctx, q: q, ledger: l, actor: m.Actor, incident: before, delivery: out}
		if err := do(w); err != nil {
			return err
		}
		out = w.delivery
		return keep(ctx, q, m.Viewer, before, m.Key, Done{}, l.now())
	})
	if err != nil {
		return Delivery{}, fmt.Errorf("mending a delivery: %w", err)
	}
	l.bell.Ring(TopicEntries)
	l.bell.Ring(TopicLanes)
	return out, nil
}

// tell writes an entry about the delivery.
func (w *mending) tell(kind Kind, detail map[string]any) error {
	detail["delivery"], detail["kind"] = w.delivery.ID, w.delivery.Kind
	after, _, err := w.ledger.write(w.ctx, w.q, change{
		kind: kind, visibility: incident.Internal, actor: w.actor, before: w.incident, after: w.incident, about: w.delivery.Link, detail: detail,
	}, w.ledger.now())
	w.incident = after
	return err
}

// revive ends the lane's standstill, with the delivery or without it.
func (w *mending) revive(kind Kind, to State) error {
	if err := w.tell(kind, map[string]any{"error": w.delivery.Error}); err != nil {
		return err
	}
	at := w.ledger.now()
	p := db.ReviveDeliveryParams{OrganisationID: int64(w.delivery.Organisation), ID: w.delivery.ID.UUID, State: string(to), At: at}
	if to == StateSkipped {
		p.SettledAt, w.delivery.SettledAt = &at, at
	}
	w.delivery.State, w.delivery.Attempts, w.delivery.Error, w.delivery.ErrorKind = to, 0, "", ""
	return w.q.ReviveDelivery(w.ctx, p)
}

// edit lays new values over the delivery's.
func (w *mending) edit(e Edit) error {
	was, is := incident.Values{}, w.delivery.Values.Clone()
	set := func(f incident.Field, value *string) {
		if before, there := is[f]; there {
			was[f] = before
		}
		if value == nil {
			delete(is, f)
		} else {
			is[f] = *value
		}
	}
	for f, value := range e.Values {
		set(f, value)
	}
	if e.Comment != nil {
		set(otherText, e.Comment)
	}
	after := incident.Values{}
	for f, value := range is {
		if before, there := w.delivery.Values[f]; !there || before != value {
			after[f] = value
		}
	}
	if err := w.tell(DeliveryEdited, map[string]any{"before": was, "after": after}); err != nil {
		return err
	}
	w.delivery.Values = is
	return w.q.EditDelivery(w.ctx, db.EditDeliveryParams{OrganisationID: int64(w.delivery.Organisation), ID: w.delivery.ID.UUID, Payload: object(is)})
}

// otherText stands in a comment's delivery for the text that its vendor gets instead of the comment's own.
const otherText incident.Field = "comment"

// OtherText returns the text that an edit gave a comment's delivery, if one did.
func (d Delivery) OtherText() (string, bool) {
	text, edited := d.Values[otherText]
	return text, edited
}

// saying is the comment as the delivery brings it to its vendor.
func (d Delivery) saying(c incident.Comment) incident.Comment {
	if text, edited := d.OtherText(); edited {
		c.Body = text
	}
	return c
}

// DeadFilter says which dead letters. The zero value of each part asks nothing.
type DeadFilter struct {
	System     *string // the system's key
	Incident   incident.ID
	ErrorKinds []string
}

// DeadLetters returns the dead letters that a filter finds, as far as the viewer may see them, the oldest first.
func (l *Ledger) DeadLetters(ctx context.Context, v auth.Viewer, f DeadFilter, most int) ([]incident.DeliveryID, error) {
	var out []incident.DeliveryID
	err := l.store.Viewer(ctx, v, func(q db.Querier) error {
		ids, err := q.DeadLetters(ctx, f.params(v, most))
		out = deliveryIDs(ids)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for dead letters: %w", err)
	}
	return out, nil
}

package ledger

import (
	"context"
	"fmt"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

// NotDead says that only a dead letter can be retried or skipped.
type NotDead struct{ State State }

func (e *NotDead) Error() string {
	return fmt.Sprintf("this delivery is %s, and only one that is DEAD is retried or skipped", e.State)
}

// Retry sends a dead letter again and lets its lane go on.
func (l *Ledger) Retry(ctx context.Context, v auth.Viewer, actor Actor, id incident.DeliveryID) (Delivery, error) {
	return l.revive(ctx, v, actor, id, DeliveryRetried, StatePending)
}

// Skip gives a dead letter up and lets its lane go on without it.
func (l *Ledger) Skip(ctx context.Context, v auth.Viewer, actor Actor, id incident.DeliveryID) (Delivery, error) {
	return l.revive(ctx, v, actor, id, DeliverySkipped, StateSkipped)
}

func (l *Ledger) revive(ctx context.Context, v auth.Viewer, actor Actor, id incident.DeliveryID, kind Kind, to State) (Delivery, error) {
	var out Delivery
	err := l.asViewer(ctx, v, Key{}, func(q db.Querier) error {
		found, err := q.FindDeliveryIncident(ctx, id.UUID)
		if err != nil {
			return notFound(err)
		}
		row, err := q.LockIncident(ctx, found.IncidentID)
		if err != nil {
			return notFound(err)
		}
		d, err := q.LockDelivery(ctx, db.LockDeliveryParams{OrganisationID: found.OrganisationID, ID: id.UUID})
		if err != nil {
			return notFound(err)
		}
		if out, err = deliveryOf(now(d, nil)); err != nil {
			return err
		}
		if out.State != StateDead {
			return &NotDead{State: out.State}
		}
		at := l.now()
		i := incidentOf(row)
		if _, _, err := l.write(ctx, q, change{
			kind: kind, visibility: incident.Internal, actor: actor, before: i, after: i, about: out.Link,
			detail: map[string]any{"delivery": out.ID, "kind": out.Kind, "error": out.Error},
		}, at); err != nil {
			return err
		}
		p := db.ReviveDeliveryParams{OrganisationID: found.OrganisationID, ID: id.UUID, State: string(to), At: at}
		if to == StateSkipped {
			p.SettledAt, out.SettledAt = &at, at
		}
		out.State, out.Attempts = to, 0
		return q.ReviveDelivery(ctx, p)
	})
	if err != nil {
		return Delivery{}, fmt.Errorf("mending a delivery: %w", err)
	}
	l.bell.Ring(TopicEntries)
	l.bell.Ring(TopicLanes)
	return out, nil
}

package desk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// RetryDelivery sends a dead letter again; one that is settled or on its way is refused.
func (d *Desk) RetryDelivery(ctx context.Context, v auth.Viewer, id incident.DeliveryID, key Key) (ledger.Delivery, error) {
	if err := requireStaff(v, "retry deliveries"); err != nil {
		return ledger.Delivery{}, err
	}
	return d.ledger.Retry(ctx, ledger.Decision{Viewer: v, Actor: person(v), Key: key, Delivery: id})
}

// SkipDelivery gives a dead letter up, so that the lane goes on without it. Only an administrator may: the
// vendor will never hear of that change.
func (d *Desk) SkipDelivery(ctx context.Context, v auth.Viewer, id incident.DeliveryID, key Key) (ledger.Delivery, error) {
	if err := requireAdmin(v, "skip deliveries"); err != nil {
		return ledger.Delivery{}, err
	}
	return d.ledger.Skip(ctx, ledger.Decision{Viewer: v, Actor: person(v), Key: key, Delivery: id})
}

// EditInput changes what a dead letter says to its vendor; the incident stays as it is.
type EditInput struct {
	Delivery incident.DeliveryID
	Key      Key
	Values   map[incident.Field]*string // in the hub's words; nil takes the field out of the delivery
	Comment  *string                    // the text that this vendor gets instead of the comment's own
	Again    bool                       // send it again at once
}

// EditDelivery changes a dead letter. Only an administrator may: the vendor is then told something else than the incident
// says.
func (d *Desk) EditDelivery(ctx context.Context, v auth.Viewer, in EditInput) (ledger.Delivery, error) {
	if err := requireAdmin(v, "edit deliveries"); err != nil {
		return ledger.Delivery{}, err
	}
	if len(in.Values) == 0 && in.Comment == nil {
		return ledger.Delivery{}, refuse("values", "nothing is changed", "give values, or a comment for a delivery that carries one")
	}
	if len(in.Values) > 0 && in.Comment != nil {
		return ledger.Delivery{}, refuse("comment", "values are given as well", "give values for a CREATE or UPDATE, a comment for a COMMENT")
	}
	for f, value := range in.Values {
		if value == nil {
			continue
		}
		if err := d.value(f, *value); err != nil {
			return ledger.Delivery{}, err
		}
	}
	if in.Comment != nil {
		if err := d.message("comment", *in.Comment); err != nil {
			return ledger.Delivery{}, err
		}
	}
	return d.ledger.Edit(ctx, ledger.Edit{
		Decision: ledger.Decision{Viewer: v, Actor: person(v), Key: in.Key, Delivery: in.Delivery}, Values: in.Values, Comment: in.Comment, Again: in.Again,
	})
}

// value checks a field's value in the hub's words.
func (d *Desk) value(f incident.Field, value string) error {
	at := "values." + string(f)
	switch f {
	case incident.FieldState:
		if _, _, err := incident.ParseStateValue(value); err != nil {
			return refuse(at, fmt.Sprintf("%q is no state", value), "use a state, or ON_HOLD/ and a hold reason, for example ON_HOLD/AWAITING_VENDOR")
		}
	case incident.FieldPriority:
		return oneOf(at, value, words(incident.Priorities()))
	case incident.FieldImpact:
		return oneOf(at, value, words(incident.Impacts()))
	case incident.FieldUrgency:
		return oneOf(at, value, words(incident.Urgencies()))
	case incident.FieldDeferredTo:
		if _, err := time.Parse(time.RFC3339Nano, value); value != "" && err != nil {
			return refuse(at, fmt.Sprintf("%q is no time", value), "use RFC 3339, for example 2030-01-31T09:00:00Z")
		}
	case incident.FieldTitle:
		return d.title(value)
	case incident.FieldDescription, incident.FieldResolution:
		return text(at, value, d.limits.DescriptionBytes)
	case incident.FieldContact:
		return text(at, value, 3*shortBytes)
	case incident.FieldCategory, incident.FieldService, incident.FieldTeam, incident.FieldAssignee:
		return line(at, value, shortBytes)
	default:
		return refuse(at, "there is no such field", "use one of the fields that the delivery's values list")
	}
	return nil
}

func words[S ~string](in []S) []string {
	out := make([]string, len(in))
	for n, w := range in {
		out[n] = string(w)
	}
	return out
}

// MostMended bounds how many dead letters one call mends.
const MostMended = 500

// Mended is how mending in bulk ended.
type Mended struct {
	Deliveries []ledger.Delivery // those that were mended, the oldest first
	Left       int               // dead letters that somebody else mended meanwhile
	More       bool              // there were more than one call mends: call again
}

// RetryDeliveries sends every dead letter again that a filter finds, the oldest first. Each is its lane's head, so those
// behind it follow in order. Called again with the same key it answers for the same ones, and goes on with those that the first
// call did not come to.
func (d *Desk) RetryDeliveries(ctx context.Context, v auth.Viewer, f ledger.DeadFilter, key Key) (Mended, error) {
	if err := requireStaff(v, "retry deliveries"); err != nil {
		return Mended{}, err
	}
	return d.mendAll(ctx, v, f, key, d.ledger.Retry)
}

// SkipDeliveries gives up every dead letter that a filter finds. Only an administrator may. A key does what RetryDeliveries says.
func (d *Desk) SkipDeliveries(ctx context.Context, v auth.Viewer, f ledger.DeadFilter, key Key) (Mended, error) {
	if err := requireAdmin(v, "skip deliveries"); err != nil {
		return Mended{}, err
	}
	return d.mendAll(ctx, v, f, key, d.ledger.Skip)
}

func (d *Desk) mendAll(ctx context.Context, v auth.Viewer, f ledger.DeadFilter, key Key, mend func(context.Context, ledger.Decision) (ledger.Delivery, error)) (Mended, error) {
	chosen, err := d.ledger.SelectDead(ctx, v, key, f, MostMended)
	if err != nil {
		return Mended{}, err
	}
	out := Mended{More: chosen.More}
	for _, id := range chosen.Deliveries {
		done, err := mend(ctx, ledger.Decision{Viewer: v, Actor: person(v), Key: key.For(id), Delivery: id})
		if notDead := (*ledger.NotDead)(nil); errors.As(err, &notDead) {
			out.Left++
			continue
		} else if err != nil {
			return out, fmt.Errorf("after %d of %d: %w", len(out.Deliveries), len(chosen.Deliveries), err)
		}
		out.Deliveries = append(out.Deliveries, done)
	}
	return out, nil
}

// Staff refuses an action to all but the desk's people.
func Staff(v auth.Viewer, action string) error {
	if v.Staff() {
		return nil
	}
	return &Denied{Problem: "only the desk may " + action, Remedy: "ask the desk"}
}

// Administrator refuses an action to all but administrators.
func Administrator(v auth.Viewer, action string) error { return requireAdmin(v, action) }

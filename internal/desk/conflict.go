package desk

import (
	"context"
	"fmt"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/merge"
)

// ResolveConflict lets one side's value stand.
func (d *Desk) ResolveConflict(ctx context.Context, v auth.Viewer, id incident.ConflictID, winner merge.Owner, key Key) (incident.Incident, ledger.Conflict, error) {
	if err := requireStaff(v, "decide conflicts"); err != nil {
		return incident.Incident{}, ledger.Conflict{}, err
	}
	done, c, err := d.ledger.ResolveConflict(ctx, v, person(v), key, id, winner)
	return done.Incident, c, err
}

// FreeField lets a parked or stopped field of a link travel again.
func (d *Desk) FreeField(ctx context.Context, v auth.Viewer, link incident.LinkID, f incident.Field, key Key) (incident.Incident, error) {
	if err := requireStaff(v, "free fields"); err != nil {
		return incident.Incident{}, err
	}
	if !f.Valid() {
		return incident.Incident{}, refuse("field", fmt.Sprintf("%q is no field", string(f)), "use one that the link's parked list names")
	}
	done, err := d.ledger.FreeField(ctx, v, person(v), key, link, f)
	return done.Incident, err
}

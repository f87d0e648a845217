package desk

import (
	"context"
	"fmt"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// EscalateInput asks for a ticket in a vendor's system.
type EscalateInput struct {
	Target
	System  string // the system's key
	Summary string // goes to the vendor as an internal note after the ticket is open; optional
}

// Escalate links the incident to a system and has a ticket opened there. Escalating again into the same
// system answers the link that exists: an incident has at most one ticket in each.
func (d *Desk) Escalate(ctx context.Context, v auth.Viewer, in EscalateInput) (incident.Incident, ledger.Link, error) {
	none := incident.Incident{}
	if err := requireStaff(v, "escalate incidents"); err != nil {
		return none, ledger.Link{}, err
	}
	if err := text("summary", in.Summary, d.limits.CommentBytes); err != nil {
		return none, ledger.Link{}, err
	}
	done, err := d.ledger.Escalate(ctx, ledger.Escalate{
		Viewer: v, Actor: person(v), Incident: in.Incident, ExpectedVersion: in.ExpectedVersion, Key: in.Key,
		System: in.System, Note: in.Summary,
	})
	if err != nil {
		return none, ledger.Link{}, fmt.Errorf("escalating: %w", err)
	}
	return done.Incident, done.Link, nil
}

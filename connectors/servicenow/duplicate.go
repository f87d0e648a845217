package servicenow

import (
	"context"
	"fmt"
	"net/http"

	"liaison/connectors"
)

// CloseDuplicate cancels the ticket with a work note that names the one that stays, all in one PATCH, so that a lost
// answer leaves either both or neither. The code is sent along for instances whose data policy asks for one with every
// final state. The ticket keeps its correlation id: it tells where it came from.
func (c *Connector) CloseDuplicate(ctx context.Context, id, of connectors.ExternalID) error {
	const op = "servicenow.CloseDuplicate"
	if err := checkID(op, id); err != nil {
		return err
	}
	stays, err := c.stays(ctx, op, id, of)
	if err != nil {
		return err
	}
	rec, _, err := c.row(ctx, op, http.MethodGet, id, nil, columns([]string{"state", "active"}, "sys_created_by"))
	if connectors.KindOf(err) == connectors.NotFound {
		if deleted, auditErr := c.wasDeleted(ctx, op, id); auditErr != nil || deleted {
			return auditErr
		}
	}
	if err != nil || c.isFinal(rec) {
		return err
	}
	if err := c.isOurs(ctx, op, rec); err != nil {
		return err
	}
	reason := "Duplicate of " + stays + ": both were opened for the same fault by mistake."
	change := connectors.Fields{
		"state": c.set.duplicateState, "close_code": c.set.duplicateCode, "close_notes": reason,
		workNotes: reason + " This one is closed, the work goes on in " + stays + ".",
	}
	rec, a, err := c.row(ctx, op, http.MethodPatch, id, change, columns([]string{"state", "active"}))
	if err != nil {
		return err
	}
	if !c.isFinal(rec) {
		return &connectors.Error{
			Op: op, Kind: connectors.Rejected, Status: a.Status, Fields: []string{"state"},
			Err: fmt.Errorf("the vendor answered as if done and left state at %q; let the account write it, or set settings.duplicate_state to a final state of the instance", rec.get("state")),
		}
	}
	return nil
}

// stays returns the number of the ticket that stays. One that is not there is none to point at.
func (c *Connector) stays(ctx context.Context, op string, id, of connectors.ExternalID) (number string, err error) {
	if err := checkID(op, of); err != nil {
		return "", err
	}
	if id == of {
		return "", refuse(op, "ticket %s is no duplicate of itself", id)
	}
	rec, _, err := c.row(ctx, op, http.MethodGet, of, nil, columns(nil))
	switch {
	case connectors.KindOf(err) == connectors.NotFound && err != nil:
		return "", refuse(op, "ticket %s, which should stay, is not there", of)
	case err != nil:
		return "", err
	}
	return rec.get("number"), nil
}

// isOurs refuses a ticket that this account is not certain to have opened itself.
func (c *Connector) isOurs(ctx context.Context, op string, rec record) error {
	login, err := c.ownLogin(ctx, op)
	switch by, number := rec.get("sys_created_by"), rec.get("number"); {
	case err != nil:
		return err
	case by == "":
		return refuse(op, "%w: the vendor does not show who opened %s; let the account read sys_created_by", connectors.ErrNotOurs, number)
	case login == "":
		return refuse(op, "%w: %s was opened by %q, and the vendor does not tell the account's own login; set settings.user", connectors.ErrNotOurs, number, by)
	case !isLogin(login, by):
		return refuse(op, "%w: %s was opened by %q", connectors.ErrNotOurs, number, by)
	}
	return nil
}

// isFinal tells whether a row is closed or cancelled. The platform keeps active beside the state, whatever states an
// instance has.
func (c *Connector) isFinal(rec record) bool {
	return rec.get("active") == "false" || rec.get("state") == c.set.duplicateState
}

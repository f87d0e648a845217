package requesttracker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"liaison/connectors"
	"liaison/connectors/client"
)

// CloseDuplicate gives the ticket a comment that names the one that stays and the first of settings.duplicate_status that
// the lifecycle takes, both in one call where it takes the first. It is not merged: RT would carry the duplicate's
// messages over into the ticket that stays, and answer for both under one id. The ticket keeps its correlation id: it
// tells where it came from.
func (c *Connector) CloseDuplicate(ctx context.Context, id, of connectors.ExternalID) error {
	const op = "requesttracker.CloseDuplicate"
	if err := checkID(op, id); err != nil {
		return err
	}
	if err := c.stays(ctx, op, id, of); err != nil {
		return err
	}
	rec, a, err := c.record(ctx, op, id)
	if err != nil || c.isClosed(id, rec, a) {
		return err
	}
	if err := c.isOurs(ctx, op, rec); err != nil {
		return err
	}
	words := fmt.Sprintf("Duplicate of ticket %s: both were opened for the same fault by mistake. This one is closed, the work goes on in %s.", of, of)
	said, err := c.hasSaid(ctx, id, words)
	if err != nil {
		return err
	}
	if !said {
		r := client.Request{Op: op, Method: http.MethodPost, Path: "/ticket/" + string(id) + "/comment"}
		b := map[string]any{"Content": words, "ContentType": "text/plain", "Status": c.set.duplicate[0]}
		var answered sentences
		if _, err := c.call(ctx, r, b, &answered); err != nil {
			return unsaid(err)
		}
		if rec, a, err = c.record(ctx, op, id); err != nil {
			return connectors.AsUnknown(op, fmt.Errorf("reading back: %w", err))
		}
		if c.isClosed(id, rec, a) {
			return nil
		}
	}
	return c.closeBy(ctx, op, id)
}

// closeBy tries the statuses one by one.
func (c *Connector) closeBy(ctx context.Context, op string, id connectors.ExternalID) error {
	var last error
	for _, status := range c.set.duplicate {
		t, err := c.Update(ctx, id, connectors.Fields{"Status": status})
		switch {
		case err == nil && t.Fields["Status"] == status:
			return nil
		case err != nil && connectors.KindOf(err) != connectors.Rejected:
			return err
		}
		last = err
	}
	e := &connectors.Error{
		Op: op, Kind: connectors.Rejected, Fields: []string{"Status"},
		Err: fmt.Errorf("the queue's lifecycle takes ticket %s to none of the statuses %q; set settings.duplicate_status to one that ends a ticket there", id, c.set.duplicate),
	}
	if refused, ok := errors.AsType[*connectors.Error](last); ok {
		e.Vendor = refused.Vendor
	}
	return e
}

// stays refuses to point at a ticket that cannot be followed.
func (c *Connector) stays(ctx context.Context, op string, id, of connectors.ExternalID) error {
	if err := checkID(op, of); err != nil {
		return err
	}
	if id == of {
		return refuse(op, "ticket %s is no duplicate of itself", id)
	}
	rec, a, err := c.record(ctx, op, of)
	if connectors.KindOf(err) == connectors.NotFound && err != nil {
		return refuse(op, "ticket %s, which should stay, is not there", of)
	}
	if err != nil {
		return err
	}
	if t := c.ticket(of, rec, a, nil); t.Gone != connectors.Present {
		return refuse(op, "ticket %s, which should stay, was deleted or merged", of)
	}
	return nil
}

// isClosed tells whether nobody works on the ticket any more: it was ended, deleted or merged into another.
func (c *Connector) isClosed(id connectors.ExternalID, rec ticketRecord, a client.Answer) bool {
	return c.ticket(id, rec, a, nil).Gone != connectors.Present || slices.Contains(c.set.duplicate, rec.Status)
}

// isOurs refuses a ticket that this account is not certain to have opened itself.
func (c *Connector) isOurs(ctx context.Context, op string, rec ticketRecord) error {
	login, err := c.ownLogin(ctx, op)
	switch by := string(rec.Creator.ID); {
	case err != nil:
		return err
	case by == "":
		return refuse(op, "%w: RT does not show who opened ticket %s", connectors.ErrNotOurs, rec.ID)
	case login == "":
		return refuse(op, "%w: ticket %s was opened by %q, and RT does not tell the account's own login; set settings.user", connectors.ErrNotOurs, rec.ID, by)
	case !isLogin(login, by):
		return refuse(op, "%w: ticket %s was opened by %q", connectors.ErrNotOurs, rec.ID, by)
	}
	return nil
}

// hasSaid tells whether an earlier try got as far as the comment.
func (c *Connector) hasSaid(ctx context.Context, id connectors.ExternalID, words string) (bool, error) {
	said, _, err := c.Journal(ctx, id, "")
	return slices.ContainsFunc(said, func(e connectors.JournalEntry) bool {
		return e.Visibility == connectors.Internal && e.Body == words
	}), err
}

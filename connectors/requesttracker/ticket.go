package requesttracker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"liaison/connectors"
	"liaison/connectors/client"
)

const deleted = "deleted" // the status, in every lifecycle

var (
	ticketID = regexp.MustCompile(`^[1-9][0-9]{0,9}$`)
	uuidForm = regexp.MustCompile(`^[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$`)
)

func isID(id connectors.ExternalID) bool { return ticketID.MatchString(string(id)) }

// checkID keeps an id from becoming another path or another query.
func checkID(op string, id connectors.ExternalID) error {
	if !isID(id) {
		return refuse(op, "ticket id %q is none of RT's, which are numbers", id)
	}
	return nil
}

// Create opens a ticket in the queue with the draft's fields over those of the settings. The field Content is the
// first message. A status in which the lifecycle opens no tickets is left out; the answer shows the one that RT gave.
func (c *Connector) Create(ctx context.Context, d connectors.Draft) (connectors.Ticket, error) {
	const op = "requesttracker.Create"
	if !uuidForm.MatchString(d.CorrelationID) {
		return connectors.Ticket{}, refuse(op, "the draft's correlation id %q is no UUID", d.CorrelationID)
	}
	given := connectors.Fields{"Queue": c.set.queue}
	maps.Copy(given, c.set.onCreate)
	maps.Copy(given, d.Fields)
	content := given["Content"]
	delete(given, "Content")
	given["CustomFields."+c.set.correlationField] = d.CorrelationID
	b, err := body(op, given)
	if err != nil {
		return connectors.Ticket{}, err
	}
	if strings.TrimSpace(content) != "" {
		b["Content"], b["ContentType"] = newlines(content), "text/plain"
	}
	if err := c.checkedQueue(ctx, op); err != nil {
		return connectors.Ticket{}, err
	}
	id, err := c.post(ctx, op, b)
	if err != nil {
		return connectors.Ticket{}, err
	}
	return c.created(ctx, op, id, d.CorrelationID, slices.Collect(maps.Keys(d.Fields)))
}

// post opens the ticket and returns its id.
func (c *Connector) post(ctx context.Context, op string, b map[string]any) (connectors.ExternalID, error) {
	var made struct { // not a reference, which may be a bare id
		ID text `json:"id"`
	}
	r := client.Request{Op: op, Method: http.MethodPost, Path: "/ticket"}
	a, err := c.call(ctx, r, b, &made)
	if e, ok := errors.AsType[*connectors.Error](err); ok && e.Status == http.StatusBadRequest && b["Status"] != nil {
		// A status that is not for new tickets is the one part of the body that depends on the lifecycle. 400 says that
		// nothing was done, and a ticket in another status is better than none.
		b = maps.Clone(b)
		delete(b, "Status")
		return c.post(ctx, op, b)
	}
	if err != nil {
		return "", err
	}
	if id := connectors.ExternalID(made.ID); isID(id) {
		return id, nil
	}
	return "", c.client.Unreadable(r, a, errors.New("the answer names no ticket"))
}

// created reads a new ticket back and looks whether it can be found again.
func (c *Connector) created(ctx context.Context, op string, id connectors.ExternalID, correlationID string, wanted []string) (connectors.Ticket, error) {
	rec, a, err := c.record(ctx, op, id)
	if err != nil {
		return connectors.Ticket{}, connectors.AsUnknown(op, fmt.Errorf("ticket %s was opened, reading it back: %w", id, err))
	}
	c.learnLogin(string(rec.Creator.ID))
	t := c.ticket(id, rec, a, wanted)
	if t.Gone == connectors.Present && t.CorrelationID != correlationID {
		return connectors.Ticket{}, &connectors.Error{
			Op: op, Kind: connectors.Rejected, Status: a.Status, Fields: []string{"CustomFields." + c.set.correlationField},
			Err: fmt.Errorf("RT opened ticket %s and dropped the correlation id; close that ticket by hand, and grant the account SetInitialCustomField and ModifyCustomField on %q", id, c.set.correlationField),
		}
	}
	return t, nil
}

// record reads a ticket as it is.
func (c *Connector) record(ctx context.Context, op string, id connectors.ExternalID) (ticketRecord, client.Answer, error) {
	var rec ticketRecord
	r := client.Request{Op: op, Path: "/ticket/" + string(id), Query: url.Values{"fields[Queue]": {"Name"}}}
	a, err := c.call(ctx, r, nil, &rec)
	if err != nil {
		return rec, a, err
	}
	if !isID(connectors.ExternalID(rec.ID)) || rec.Status == "" {
		return rec, a, c.client.Unreadable(r, a, errors.New("the answer is no ticket"))
	}
	return rec, a, nil
}

// ticket makes a Ticket of what was read under an id. RT answers a merged ticket's id with the ticket that it was merged
// into, and a deleted one's with the ticket itself.
func (c *Connector) ticket(asked connectors.ExternalID, rec ticketRecord, a client.Answer, wanted []string) connectors.Ticket {
	t := connectors.Ticket{ID: asked, Number: string(asked), URL: c.base + "/Ticket/Display.html?id=" + string(asked), Fields: connectors.Fields{}}
	if got := connectors.ExternalID(rec.ID); got != asked {
		t.Gone, t.SuccessorID = connectors.Merged, got
		return t
	}
	if rec.Status == deleted {
		t.Gone = connectors.Deleted
	}
	t.Version = strings.Trim(strings.TrimPrefix(a.Header.Get("ETag"), "W/"), `"`)
	t.CorrelationID, _ = rec.CustomFields.get(c.set.correlationField)
	if rec.LastUpdated != noDate {
		t.UpdatedAt, _ = connectors.ParseTime(time.RFC3339, rec.LastUpdated)
	}
	t.Fields = rec.fields(wanted)
	return t
}

// Read returns the ticket. Its version is the id of its newest transaction that the account sees; a link from another
// ticket moves it too.
func (c *Connector) Read(ctx context.Context, id connectors.ExternalID, fields []string) (connectors.Ticket, error) {
	const op = "requesttracker.Read"
	if err := checkID(op, id); err != nil {
		return connectors.Ticket{}, err
	}
	rec, a, err := c.record(ctx, op, id)
	if err != nil {
		return connectors.Ticket{}, err
	}
	return c.ticket(id, rec, a, fields), nil
}

// stillThere refuses to write to a ticket that was merged away or deleted: RT would change the other ticket, or take the
// write where nobody looks.
func stillThere(op string, t connectors.Ticket) error {
	switch t.Gone {
	case connectors.Present:
	case connectors.Merged:
		return &connectors.Error{Op: op, Kind: connectors.Conflict, Err: fmt.Errorf("ticket %s was merged into %s", t.ID, t.SuccessorID)}
	case connectors.Deleted:
		return &connectors.Error{Op: op, Kind: connectors.NotFound, Err: fmt.Errorf("ticket %s was deleted", t.ID)}
	}
	return nil
}

// Update writes those fields that differ from what the ticket holds: RT refuses a status that it has already. What RT cut
// or dropped shows in the answer. When it took nothing at all and said why, its sentences are an error of kind Rejected.
func (c *Connector) Update(ctx context.Context, id connectors.ExternalID, f connectors.Fields) (connectors.Ticket, error) {
	const op = "requesttracker.Update"
	if err := checkID(op, id); err != nil {
		return connectors.Ticket{}, err
	}
	if _, err := body(op, f); err != nil {
		return connectors.Ticket{}, err
	}
	wanted := slices.Sorted(maps.Keys(f))
	rec, a, err := c.record(ctx, op, id)
	if err != nil {
		return connectors.Ticket{}, err
	}
	before := c.ticket(id, rec, a, wanted)
	if err := stillThere(op, before); err != nil {
		return connectors.Ticket{}, err
	}
	changed := connectors.Fields{}
	for name, v := range f {
		if old, shown := before.Fields[name]; !shown || old != v {
			changed[name] = v
		}
	}
	if len(changed) == 0 {
		return before, nil
	}
	sentences, err := c.put(ctx, op, id, changed, before.Fields)
	if err != nil {
		return connectors.Ticket{}, err
	}
	rec, a, err = c.record(ctx, op, id)
	if err != nil {
		return connectors.Ticket{}, connectors.AsUnknown(op, fmt.Errorf("reading back: %w", err))
	}
	after := c.ticket(id, rec, a, wanted)
	return after, refusal(op, changed, before, after, sentences)
}

// put sends the changes and returns what RT says to them.
func (c *Connector) put(ctx context.Context, op string, id connectors.ExternalID, changed, before connectors.Fields) ([]string, error) {
	b, err := body(op, changed)
	if err != nil {
		return nil, err
	}
	if custom, ok := b["CustomFields"].(map[string]any); ok {
		for name, v := range custom {
			if v == nil && strings.Contains(before["CustomFields."+name], "\n") {
				custom[name] = []string{} // several values are cleared by none, a single one by null
			}
		}
	}
	var said sentences
	r := client.Request{Op: op, Method: http.MethodPut, Path: "/ticket/" + string(id)}
	_, err = c.call(ctx, r, b, &said)
	return said, err
}

// refusal is the error for a write of which RT took no part and gave reasons, and nil for every other.
func refusal(op string, changed connectors.Fields, before, after connectors.Ticket, sentences []string) error {
	if len(sentences) == 0 || after.Gone != connectors.Present {
		return nil
	}
	for name, wanted := range changed {
		old, shown := before.Fields[name]
		if now := after.Fields[name]; !shown || now != old || now == wanted {
			return nil
		}
	}
	words := []rune(strings.Join(sentences, " "))
	return &connectors.Error{
		Op: op, Kind: connectors.Rejected, Status: http.StatusOK, Vendor: string(words[:min(len(words), 500)]),
		Fields: slices.Sorted(maps.Keys(changed)), Err: errors.New("RT changed nothing"),
	}
}

// FindByCorrelation returns the tickets that carry the id, oldest first, also those that were merged into others. Nothing
// found is only believed when the account sees the field: RT answers a search in an unknown or hidden one with no rows.
// RT's search never shows deleted tickets.
func (c *Connector) FindByCorrelation(ctx context.Context, correlationID string) ([]connectors.Ticket, error) {
	const op = "requesttracker.FindByCorrelation"
	if !uuidForm.MatchString(correlationID) {
		return nil, refuse(op, "correlation id %q is no UUID and cannot be searched for", correlationID)
	}
	found, _, err := rows[ticketRecord](ctx, c, op, listing{
		path: "/tickets", fields: "EffectiveId,CustomFields", perPage: maxPage,
		// Naming EffectiveId makes RT show tickets that were merged away.
		query: "CF.{" + c.set.correlationField + "} = '" + correlationID + "' AND EffectiveId > 0",
	})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, c.checkQueue(ctx, op, false)
	}
	tickets := []connectors.Ticket{}
	for _, rec := range found {
		got, shown := rec.CustomFields.get(c.set.correlationField)
		if !shown || !isID(connectors.ExternalID(rec.ID)) {
			return nil, hidden(op, c.set.correlationField, "tickets", "correlation_field", c.set.queue)
		}
		if got != correlationID {
			continue
		}
		t, err := c.Read(ctx, connectors.ExternalID(rec.ID), nil)
		if err != nil {
			return nil, err
		}
		if t.Gone == connectors.Merged {
			t.CorrelationID = got // its own page shows the other ticket's
		}
		if t.CorrelationID == correlationID { // else it was taken away since the search
			tickets = append(tickets, t)
		}
	}
	return tickets, nil
}

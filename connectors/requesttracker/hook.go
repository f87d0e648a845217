package requesttracker

import (
	"bytes"
	"encoding/json"
	"strconv"

	"liaison/connectors"
	"liaison/connectors/client"
)

// ReadHook understands the body of a scrip that calls out: a JSON object with the ticket's id and, where it has one, the
// transaction's. A scrip runs before its change is committed, so the ticket may not be there yet, or still be as it was;
// and calls come out of order. The call is believed in nothing but that something may have happened.
func (c *Connector) ReadHook(h connectors.Hook) ([]connectors.Ref, error) {
	const op = "requesttracker.ReadHook"
	body := bytes.TrimSpace(h.Body)
	if err := client.CheckJSON(body); err != nil {
		return nil, refuse(op, "the webhook's body: %w", err)
	}
	var call map[string]json.RawMessage
	if err := json.Unmarshal(body, &call); err != nil || call == nil {
		return nil, refuse(op, "the webhook's body is no JSON object; send one with %q", c.set.hookTicket)
	}
	id, given := hookID(call[c.set.hookTicket])
	if !given {
		return nil, refuse(op, "the webhook's body names no %q; add it or set settings.hook_ticket", c.set.hookTicket)
	}
	if !isID(connectors.ExternalID(id)) {
		return nil, refuse(op, "the webhook's body: %q is no ticket id", c.set.hookTicket)
	}
	ref := connectors.Ref{ID: connectors.ExternalID(id), Number: id}
	if version, given := hookID(call[c.set.hookTransaction]); given {
		if n, err := strconv.ParseInt(version, 10, 64); err != nil || n < 1 {
			return nil, refuse(op, "the webhook's body: %q is no transaction id", c.set.hookTransaction)
		}
		ref.Version = version
	}
	return []connectors.Ref{ref}, nil
}

// hookID returns an id that is a number or a string.
func hookID(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", false
	}
	var t text
	if t.UnmarshalJSON(raw) != nil {
		return string(raw), true
	}
	return string(t), t != ""
}

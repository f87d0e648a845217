package requesttracker

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"liaison/connectors"
)

const (
	nobody = "Nobody"               // RT's word for no owner
	noDate = "1970-01-01T00:00:00Z" // RT's word for a date that is not set
	// dateLayout is the one form that RT does not read in somebody's time zone.
	dateLayout = "2006-01-02T15:04:05Z"
)

// ticketRecord is a ticket as RT sends it.
type ticketRecord struct {
	ID           text         `json:"id"`
	EffectiveID  reference    `json:"EffectiveId"`
	Status       string       `json:"Status"`
	Creator      reference    `json:"Creator"`
	LastUpdated  string       `json:"LastUpdated"`
	CustomFields customFields `json:"CustomFields"`

	all map[string]json.RawMessage
}

// longestRecord is far more than any ticket's record holds, in bytes of JSON: messages and files stand elsewhere.
const longestRecord = 4 << 20

// UnmarshalJSON keeps the whole record beside the parts that have a place here.
func (t *ticketRecord) UnmarshalJSON(data []byte) error {
	if len(data) > longestRecord {
		return fmt.Errorf("a ticket's record holds more than %d bytes", longestRecord)
	}
	type plain ticketRecord
	if err := json.Unmarshal(data, (*plain)(t)); err != nil {
		return err
	}
	return json.Unmarshal(data, &t.all)
}

// value returns a field in the mapping's terms, and whether RT shows it. What is not set is empty: no owner, no date.
func (t ticketRecord) value(name string) (string, bool) {
	if custom, ok := strings.CutPrefix(name, "CustomFields."); ok {
		return t.CustomFields.get(custom)
	}
	raw, shown := t.all[name]
	if !shown || name == "CustomFields" || strings.HasPrefix(name, "_") {
		return "", false
	}
	if raw[0] == '[' { // watchers
		var people []reference
		if json.Unmarshal(raw, &people) != nil {
			return "", false
		}
		var names []string
		for _, p := range people {
			names = append(names, string(p.ID))
		}
		return strings.Join(names, ", "), true
	}
	var r reference // also a bare value
	if json.Unmarshal(raw, &r) != nil {
		return "", false
	}
	switch {
	case name == "Queue":
		return r.Name, r.Name != ""
	case raw[0] == '{' && string(r.ID) == nobody, string(r.ID) == noDate:
		return "", true
	}
	return string(r.ID), true
}

// fields returns those of the named fields that RT shows.
func (t ticketRecord) fields(names []string) connectors.Fields {
	f := connectors.Fields{}
	for _, name := range names {
		if v, shown := t.value(name); shown {
			f[name] = v
		}
	}
	return f
}

var errNotWritable = errors.New("is no field that can be written")

// outgoing returns a field's value as RT takes it in a ticket's JSON. A custom field's is that inside CustomFields.
func outgoing(name, v string) (any, error) {
	if custom, ok := strings.CutPrefix(name, "CustomFields."); ok {
		if !isName(custom) {
			return nil, errNotWritable
		}
		if v == "" {
			return nil, nil // "" would leave a null that cannot be cleared any more
		}
		return v, nil
	}
	switch name {
	case "Subject", "Status", "Queue":
		return v, nil
	case "Priority", "InitialPriority", "FinalPriority", "TimeEstimated":
		if v == "" {
			v = "0"
		}
		return v, nil
	case "Owner":
		if v == "" {
			v = nobody
		}
		return v, nil
	case "Requestor", "Cc", "AdminCc":
		return append([]string{}, list(v)...), nil
	case "Due", "Starts":
		if v == "" {
			return noDate, nil
		}
		at, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return nil, errors.New("is no time of RFC 3339, such as 2026-12-02T10:00:00Z")
		}
		return at.UTC().Format(dateLayout), nil
	}
	return nil, errNotWritable
}

// body returns the JSON of a ticket that holds the fields.
func body(op string, f connectors.Fields) (map[string]any, error) {
	b, custom := map[string]any{}, map[string]any{}
	for name, v := range f {
		out, err := outgoing(name, v)
		if err != nil {
			return nil, &connectors.Error{Op: op, Kind: connectors.Rejected, Fields: []string{name}, Err: fmt.Errorf("%q %w", name, err)}
		}
		if field, ok := strings.CutPrefix(name, "CustomFields."); ok {
			custom[field] = out
		} else {
			b[name] = out
		}
	}
	if len(custom) > 0 {
		b["CustomFields"] = custom
	}
	return b, nil
}

package servicenow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"liaison/connectors"
	"liaison/connectors/client"
)

// maxRefs bounds the tickets that one webhook call may name.
const maxRefs = 100

// ReadHook understands the body that a customer's business rule or flow posts: an object, or a list of them, that names
// a ticket under the keys of the settings. There is no body of the vendor's own. The call is believed in nothing but
// that: the ticket is read.
func (c *Connector) ReadHook(h connectors.Hook) ([]connectors.Ref, error) {
	const op = "servicenow.ReadHook"
	body := bytes.TrimSpace(h.Body)
	if err := client.CheckJSON(body); err != nil {
		return nil, refuse(op, "the webhook's body: %w", err)
	}
	var calls []map[string]json.RawMessage
	if body[0] != '[' {
		body = append(append([]byte{'['}, body...), ']')
	}
	if err := json.Unmarshal(body, &calls); err != nil {
		return nil, refuse(op, "the webhook's body is no JSON object; send one with %q or %q", c.set.hookID, c.set.hookNumber)
	}
	if len(calls) == 0 || len(calls) > maxRefs {
		return nil, refuse(op, "the webhook's body names %d tickets; send 1 to %d", len(calls), maxRefs)
	}
	refs := make([]connectors.Ref, 0, len(calls))
	for i, call := range calls {
		ref, err := c.hookRef(call)
		if err != nil {
			return nil, refuse(op, "the webhook's body, ticket %d: %w", i+1, err)
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

func (c *Connector) hookRef(call map[string]json.RawMessage) (connectors.Ref, error) {
	ref := connectors.Ref{ID: connectors.ExternalID(hookValue(call, c.set.hookID)), Number: hookValue(call, c.set.hookNumber)}
	if ref.ID == "" && ref.Number == "" {
		return ref, fmt.Errorf("names neither %q nor %q; add one of them or set hook_id and hook_number", c.set.hookID, c.set.hookNumber)
	}
	if ref.ID != "" && !sysID.MatchString(string(ref.ID)) {
		return ref, fmt.Errorf("%q is no sys_id", c.set.hookID)
	}
	if len(ref.Number) > 40 || checkQueryValue(ref.Number) != nil {
		return ref, fmt.Errorf("%q is no ticket number", c.set.hookNumber)
	}
	count, updated := hookValue(call, c.set.hookVersion), hookStamp(hookValue(call, c.set.hookUpdated))
	if count != "" && updated != "" { // half a version would never equal a whole one
		ref.Version = version(record{"sys_mod_count": value(count), "sys_updated_on": value(updated)})
	}
	return ref, nil
}

// hookValue returns the text under a key, whose dots lead into nested objects. A reference gives its value.
func hookValue(call map[string]json.RawMessage, key string) string {
	raw, found := call[key]
	if !found {
		outer, inner, dotted := strings.Cut(key, ".")
		var nested map[string]json.RawMessage
		if !dotted || json.Unmarshal(call[outer], &nested) != nil {
			return ""
		}
		return hookValue(nested, inner)
	}
	var v value
	if err := json.Unmarshal(raw, &v); err != nil {
		return ""
	}
	return strings.TrimSpace(string(v))
}

var epoch = regexp.MustCompile(`^[0-9]{10}([0-9]{3})?$`)

// hookStamp returns a stamp in the form of the vendor's column. Customers script these bodies, and some send the value with
// a zone or as seconds or milliseconds since 1970. It is empty for every other form: a display value in somebody's own
// zone is none that can be read.
func hookStamp(text string) string {
	if epoch.MatchString(text) {
		n, _ := strconv.ParseInt(text, 10, 64) // ten or thirteen digits fit
		if len(text) > len("1795287919") {
			n /= 1000
		}
		return time.Unix(n, 0).UTC().Format(stampLayout)
	}
	for _, layout := range []string{stampLayout, time.RFC3339} {
		if t, err := connectors.ParseTime(layout, text); err == nil {
			return t.Format(stampLayout)
		}
	}
	return ""
}

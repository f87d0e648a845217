package servicenow

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"

	"liaison/connectors"
	"liaison/connectors/client"
)

// explain keeps the vendor's own words and sorts a 403, which is about the sign-in, the row's access rules, or a rule on
// the data: only the last is the ticket's own affair.
func explain(a client.Answer, e *connectors.Error) {
	words := complaint(a.Body)
	if words == "" {
		return
	}
	e.Vendor = words
	if a.Status != http.StatusForbidden {
		return
	}
	switch {
	case strings.Contains(words, "Data Policy Exception"):
		e.Kind, e.Fields = connectors.Rejected, mandatory(words)
	case strings.Contains(words, "Business Rule"):
		e.Kind = connectors.Rejected
	}
}

// complaint returns what an error body says: the forms of the Table API and of OAuth. It is empty for any other body.
func complaint(body []byte) string {
	var b struct {
		Error json.RawMessage `json:"error"`
		// OAuth's form.
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &b) != nil {
		return ""
	}
	var form struct {
		Message string  `json:"message"`
		Detail  *string `json:"detail"`
	}
	if json.Unmarshal(b.Error, &form) == nil {
		if form.Detail != nil && *form.Detail != "" && *form.Detail != form.Message {
			return strings.Trim(form.Message+": "+*form.Detail, ": ")
		}
		return form.Message
	}
	var word string
	_ = json.Unmarshal(b.Error, &word)
	if b.Description != "" && b.Description != word {
		return strings.Trim(word+": "+b.Description, ": ")
	}
	return word
}

var mandatoryFields = regexp.MustCompile(`mandatory: ([^.]+)`)

// labels are the base system's English labels of columns that data policies name. Other labels are kept as they are.
var labels = map[string]string{
	"Resolution code": "close_code", "Resolution notes": "close_notes", "Close code": "close_code", "Close notes": "close_notes",
	"Caller": "caller_id", "On hold reason": "hold_reason", "Additional comments": "comments", "Work notes": "work_notes",
	"Short description": "short_description", "Description": "description", "Assignment group": "assignment_group",
	"Assigned to": "assigned_to", "Category": "category", "Subcategory": "subcategory", "Impact": "impact", "Urgency": "urgency",
}

// mandatory returns the columns that a data policy misses.
func mandatory(words string) []string {
	m := mandatoryFields.FindStringSubmatch(words)
	if m == nil {
		return nil
	}
	var fields []string
	for label := range strings.SplitSeq(m[1], ",") {
		label = strings.TrimSpace(label)
		if column, known := labels[label]; known {
			label = column
		}
		fields = append(fields, label)
	}
	return fields
}

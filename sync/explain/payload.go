package explain

import (
	"encoding/json"
	"maps"
	"strings"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/system"
)

// payload is what a delivery sends.
type payload struct {
	System        string            `json:"system"`
	Does          string            `json:"does"`
	Ticket        string            `json:"ticket,omitempty"`
	CorrelationID string            `json:"correlationId,omitempty"`
	Visibility    string            `json:"visibility,omitempty"`
	Body          string            `json:"body,omitempty"`
	Fields        connectors.Fields `json:"fields,omitempty"`
	NotSent       map[string]string `json:"notSent,omitempty"` // fields that have no word at the vendor, with the reason
}

// Payload writes what a delivery sends in the vendor's own words, as JSON for operators. People's names and addresses and
// what looks like a secret are taken out. c is the comment, for a delivery that carries one.
func Payload(s *system.System, d ledger.Delivery, link ledger.Link, i incident.Incident, c incident.Comment) string {
	out := payload{System: s.Key, Does: strings.ToLower(string(d.Kind)), Ticket: string(link.ExternalID)}
	switch d.Kind {
	case ledger.SayComment:
		if text, edited := d.OtherText(); edited {
			c.Body = text
		}
		m := system.Message(c)
		out.Visibility, out.Body = string(m.Visibility), m.Body
	case ledger.CreateTicket, ledger.UpdateTicket:
		all := i.Values()
		maps.Copy(all, d.Values)
		written := s.Mapping.Write(d.Values, all)
		out.Fields = written.Fields()
		if d.Kind == ledger.CreateTicket {
			out.CorrelationID = link.CorrelationID
		}
		for f, reason := range written.Parked {
			if out.NotSent == nil {
				out.NotSent = map[string]string{}
			}
			out.NotSent[string(f)] = reason
		}
	case ledger.CloseDuplicate:
	}
	hide := contact(i.Contact)
	out.Body = Redacted(hide.Replace(out.Body))
	for name, word := range out.Fields {
		out.Fields[name] = Redacted(hide.Replace(word))
	}
	b, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return "" // strings always have a form
	}
	return string(b)
}

// contact takes a person out of texts.
func contact(c incident.Contact) *strings.Replacer {
	var pairs []string
	for _, s := range []string{c.Email, c.Phone, c.Name} {
		if len(s) > 2 {
			pairs = append(pairs, s, blank)
		}
	}
	return strings.NewReplacer(pairs...)
}

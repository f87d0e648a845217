package explain

import (
	"encoding/json"
	"fmt"
	"strings"

	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// Entry says in a sentence what a line of the ledger tells.
func Entry(e ledger.Entry, at Where) string {
	d := details(e.Detail)
	who, system, ticket := actor(e), at.system(), at.ticket()
	switch e.Kind {
	case ledger.Reported:
		return sentence(who + " reported it")
	case ledger.Changed:
		return sentence(who + " changed " + changes(e.Changes))
	case ledger.Commented:
		if e.Visibility == incident.Internal {
			return sentence(who + " wrote a work note")
		}
		return sentence(who + " wrote a comment")
	case ledger.Escalated:
		return sentence(who + " asked for a ticket in " + system)
	case ledger.TicketOpened:
		number := d.text("number")
		if number == "" {
			number = d.text("externalId")
		}
		return sentence(system + " opened ticket " + number)
	case ledger.TicketChanged:
		if pushed := d.words("pushed"); len(pushed) > 0 {
			return sentence("Liaison sends " + theFields(pushed) + " to " + ticket + " again, because the hub's value stands")
		}
		if was, is, ok := d.pair("state"); ok {
			return sentence(capital(ticket) + " went " + fromTo(was, is) + " there, which changes nothing here")
		}
		return sentence(capital(ticket) + " changed there, which changes nothing here")
	case ledger.TicketGone:
		if d.text("how") == "MERGED" {
			return sentence(capital(ticket) + " was merged into another one there and is no longer followed")
		}
		return sentence(capital(ticket) + " was deleted there and is no longer followed")
	default:
		return trouble(e, at, d)
	}
}

// trouble says what the entries tell that speak of something out of the ordinary.
func trouble(e ledger.Entry, at Where, d detail) string {
	who, system, ticket := actor(e), at.system(), at.ticket()
	field := Field(incident.Field(d.text("field")))
	switch e.Kind { //nolint:exhaustive // the others are Entry's
	case ledger.Conflicted:
		text := fmt.Sprintf("Both sides changed the %s: here it was %s, in %s %s", field, value(d.text("hub")), system, value(d.text("vendor")))
		switch strings.ToUpper(d.text("winner")) {
		case "HUB":
			text += ". The value here stands"
		case "VENDOR":
			text += ". The value of " + system + " stands"
		default:
			return sentence(text + ". A person has to decide")
		}
		if rule := d.text("rule"); rule != "" {
			text += " (rule: " + rule + ")"
		}
		return sentence(text)
	case "CONFLICT_RESOLVED":
		switch strings.ToUpper(d.text("winner")) {
		case "HUB":
			return sentence(who + " decided the conflict over the " + field + ": the value here stands")
		case "VENDOR":
			return sentence(who + " decided the conflict over the " + field + ": the value of " + system + " stands")
		}
		return sentence("The conflict over the " + field + " is over")
	case ledger.FieldParked:
		return sentence("The " + field + " waits for a person and is not exchanged with " + system + ": " + clip(d.text("reason"), 400))
	case ledger.FieldFreed:
		return sentence("The " + field + " is exchanged with " + system + " again")
	case "FIELD_STOPPED":
		return sentence("The " + field + " went to and fro with " + system + " too often and is left alone until a person frees it")
	case ledger.DeliveryFailed:
		failed := ledger.Delivery{Kind: ledger.DeliveryKind(d.text("kind")), State: ledger.StateDead, ErrorKind: d.text("errorKind"), Error: d.text("error")}
		return sentence("A delivery was given up. " + failure(failed, at).What)
	case ledger.DeliveryRetried:
		return sentence(who + " sent a delivery to " + system + " again")
	case ledger.DeliverySkipped:
		return sentence(who + " gave a delivery to " + system + " up for good")
	case ledger.DeliveryEdited:
		return sentence(who + " edited a delivery to " + system)
	case "DUPLICATE_FOUND":
		return sentence("A second ticket stands in " + system + " beside " + ticket)
	case "DUPLICATE_CLOSED":
		return sentence("The second ticket beside " + ticket + " was closed")
	case "RECONCILED":
		return sentence("A comparison with " + ticket + " found a difference and mended it")
	case "CHECKPOINT":
		return sentence("Older entries were put away")
	}
	return sentence(who + ": " + strings.ToLower(strings.ReplaceAll(string(e.Kind), "_", " ")))
}

// actor names who made an entry.
func actor(e ledger.Entry) string {
	if e.Actor.Name == "" {
		return "Somebody"
	}
	return e.Actor.Name
}

// changes lists what changed, before and after.
func changes(c ledger.Changes) string {
	var parts []string
	for _, f := range incident.Fields() {
		change, there := c[f]
		if !there {
			continue
		}
		if f == incident.FieldDescription || f == incident.FieldContact { // long, or several lines
			parts = append(parts, "the "+Field(f))
			continue
		}
		parts = append(parts, "the "+Field(f)+" "+fromTo(change[0], change[1]))
	}
	return list(parts)
}

func fromTo(was, is string) string {
	switch {
	case was == "":
		return "to " + value(is)
	case is == "":
		return "from " + value(was) + " to nothing"
	}
	return "from " + value(was) + " to " + value(is)
}

// value shows a value as people see it: our own words bare, texts in quotes.
func value(v string) string {
	switch {
	case v == "":
		return "empty"
	case strings.ToUpper(v) == v && !strings.ContainsAny(v, " \n"):
		return v
	}
	return "“" + clip(v, 80) + "”"
}

func theFields(names []string) string {
	parts := make([]string, len(names))
	for n, f := range names {
		parts[n] = "the " + Field(incident.Field(f))
	}
	return list(parts)
}

// detail is an entry's Detail.
type detail map[string]json.RawMessage

func details(raw json.RawMessage) detail {
	d := detail{}
	_ = json.Unmarshal(raw, &d) // an entry without readable detail tells less
	return d
}

func (d detail) text(name string) string {
	var s string
	if json.Unmarshal(d[name], &s) != nil {
		return ""
	}
	return s
}

func (d detail) words(name string) []string {
	var s []string
	_ = json.Unmarshal(d[name], &s) // see details
	return s
}

func (d detail) pair(name string) (was, is string, ok bool) {
	s := d.words(name)
	if len(s) != 2 {
		return "", "", false
	}
	return s[0], s[1], true
}

// Rule returns the rule that an entry's detail names, empty when there is none.
func Rule(e ledger.Entry) string { return details(e.Detail).text("rule") }

// DeliveryOf returns the id of the delivery that an entry's detail names, empty when there is none.
func DeliveryOf(e ledger.Entry) string { return details(e.Detail).text("delivery") }

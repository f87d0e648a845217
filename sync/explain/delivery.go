package explain

import (
	"fmt"
	"regexp"
	"strings"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// Where names what a delivery or an entry is about, for people.
type Where struct {
	System string // the system's name; empty: the vendor's system
	Ticket string // the ticket's number; empty while unknown
	Paused bool   // the system is paused
}

func (w Where) system() string {
	if w.System == "" {
		return "the vendor's system"
	}
	return w.System
}

// ticket names the ticket, or says that there is none yet.
func (w Where) ticket() string {
	if w.Ticket == "" {
		return "the ticket of " + w.system()
	}
	return "ticket " + w.Ticket + " of " + w.system()
}

// bare names the ticket where the system has just been named.
func (w Where) bare() string {
	if w.Ticket == "" {
		return "the ticket"
	}
	return "ticket " + w.Ticket
}

// Words are what a person is told.
type Words struct {
	What string // what has happened, in whole sentences
	Do   string // what a person can do; empty when nobody has to do anything
}

// String is both, as one paragraph.
func (w Words) String() string {
	if w.Do == "" {
		return w.What
	}
	return w.What + " What you can do: " + w.Do
}

// The words of deliveries that failed before any vendor was called.
const (
	kindGone     = "gone"
	kindInternal = "internal"
)

// NotOurs is the word of a duplicate that was not closed, because it is not certain that Liaison opened it.
const NotOurs = "not ours"

// Delivery says how a delivery stands.
func Delivery(d ledger.Delivery, at Where) Words {
	switch d.State {
	case ledger.StateDelivered:
		return Words{What: sentence(at.system() + " has it: Liaison " + deedThere(d, at, past) + tries(d))}
	case ledger.StateSkipped:
		if d.ErrorKind == NotOurs {
			return failure(d, at)
		} else if d.ErrorKind != "" { // a person's decision leaves none
			return Words{
				What: sentence("Liaison could not " + deed(d, at, infinitive) + quoted(d.Error)),
				Do:   "Have it done there by hand. Nothing waits for that here.",
			}
		}
		return Words{What: sentence("A person decided that " + at.system() + " need not have this: Liaison did not " + deedThere(d, at, infinitive))}
	case ledger.StateSending:
		return Words{What: sentence("Liaison is about to " + deed(d, at, infinitive))}
	case ledger.StatePending, ledger.StateUnknown, ledger.StateDead:
	}
	if d.ErrorKind == "" {
		w := Words{What: sentence("Liaison has yet to " + deed(d, at, infinitive))}
		if at.Paused {
			w.What += " " + at.system() + " is paused, so this waits."
			w.Do = "Ask an administrator to resume the system."
		}
		return w
	}
	w := failure(d, at)
	switch {
	case d.State == ledger.StateDead:
		w.Do += " Until then, later changes to this ticket wait behind it."
	case at.Paused:
		w.What += " " + at.system() + " is paused, so it is not tried again for now."
	}
	return w
}

// failure turns the kind of a failure into words: the one place that does.
func failure(d ledger.Delivery, at Where) Words {
	system, dead := at.system(), d.State == ledger.StateDead
	again := func(byItself, byHand string) string {
		if dead {
			return byHand
		}
		return byItself
	}
	switch d.ErrorKind {
	case connectors.Rejected.String():
		return Words{
			What: sentence(system + " refused " + object(d, at) + quoted(d.Error)),
			Do:   again("Correct the value; it is tried again by itself.", "Correct what it says and send it again, send it again unchanged once "+system+" would take it, or skip it: then "+system+" never hears of this change."),
		}
	case connectors.NotFound.String():
		return Words{
			What: sentence(system + " does not find " + at.bare() + ", or hides it from the account that Liaison uses, so Liaison could not " + deedThere(d, at, infinitive) + quoted(d.Error)),
			Do:   again("Look whether the ticket still exists there.", "Look whether the ticket still exists there and whether Liaison's account may see it. If so, send this again; if it is gone for good, skip this."),
		}
	case connectors.Auth.String():
		return Words{
			What: sentence(system + " did not let Liaison in, so Liaison could not " + deedThere(d, at, infinitive) + quoted(d.Error)),
			Do: again("Ask an administrator to check the user, password and rights that Liaison has there. It is sent again by itself.",
				"Ask an administrator to check the user, password and rights that Liaison has there, then send it again."),
		}
	case connectors.RateLimited.String():
		return Words{
			What: sentence(system + " asked for fewer calls, so Liaison waits before it tries to " + deedThere(d, at, infinitive) + quoted(d.Error)),
			Do:   again("", "Send it again."),
		}
	case connectors.Transient.String():
		return Words{
			What: sentence(system + " could not be reached or could not answer, so Liaison could not " + deedThere(d, at, infinitive) + quoted(d.Error)),
			Do:   again("", "Send it again once "+system+" answers."),
		}
	case connectors.Unknown.String():
		return Words{
			What: sentence("Liaison tried to "+deed(d, at, infinitive)+", and the answer was lost: nobody knows yet whether it is there"+quoted(d.Error)) +
				again(" Liaison asks "+system+" what became of it, and sends it again only when it is sure that it is not there.", ""),
			Do: again("", "Look at "+system+" whether it is there. If it is, skip this; if it is not, send it again."),
		}
	case connectors.Conflict.String():
		return Words{
			What: sentence(capital(at.ticket()) + " was changed there at the same moment, so Liaison could not " + deedGone(d) + quoted(d.Error)),
			Do:   again("", "Send it again: Liaison reads the ticket first."),
		}
	case NotOurs:
		return Words{
			What: sentence("A second ticket stands beside " + at.ticket() + ", and it is not certain that Liaison opened it, so Liaison leaves it as it is" + quoted(d.Error)),
			Do:   "Look at both tickets there, and have the second one closed if it is there by mistake. Nothing waits for that here.",
		}
	case kindGone:
		return Words{
			What: sentence(capital(at.ticket()) + " no longer exists there, so Liaison could not " + deedGone(d)),
			Do:   again("Look whether the ticket was merged into another.", "Skip it. If the trouble goes on, escalate the incident into another system, or ask "+system+"'s people to restore the ticket and send this again."),
		}
	case kindInternal:
		return Words{
			What: sentence("Liaison itself could not " + deed(d, at, infinitive) + quoted(d.Error)),
			Do:   again("Tell the operators of the hub if it lasts; it is tried again by itself.", "Tell the operators of the hub. Send it again when they have mended it, or skip it."),
		}
	}
	return Words{
		What: sentence("Liaison could not " + deed(d, at, infinitive) + " (" + d.ErrorKind + ")" + quoted(d.Error)),
		Do:   again("Tell the operators of the hub if it lasts; it is tried again by itself.", "Ask the operators of the hub what this means, then send it again or skip it."),
	}
}

type tense int

const (
	infinitive tense = iota
	past
)

// deed is what a delivery does: "open a ticket in ServiceNow", "wrote the priority to ticket INC1 of ServiceNow".
func deed(d ledger.Delivery, at Where, t tense) string {
	return deedTo(d, at, t, at.ticket(), " in "+at.system())
}

// deedThere is the same where the system has just been named: "open a ticket", "wrote the priority to ticket INC1".
func deedThere(d ledger.Delivery, at Where, t tense) string { return deedTo(d, at, t, at.bare(), "") }

func deedTo(d ledger.Delivery, at Where, t tense, ticket, in string) string {
	verb := func(now, then string) string {
		if t == past {
			return then
		}
		return now
	}
	switch d.Kind {
	case ledger.CreateTicket:
		if t == past && at.Ticket != "" {
			return "opened " + ticket
		}
		return verb("open", "opened") + " a ticket" + in
	case ledger.SayComment:
		return verb("write", "wrote") + " a comment to " + ticket
	case ledger.CloseDuplicate:
		return verb("close", "closed") + " a duplicate of " + ticket
	case ledger.UpdateTicket:
	}
	if len(d.Values) == 0 {
		return verb("update", "updated") + " " + ticket
	}
	return verb("write", "wrote") + " " + fields(d.Values) + " to " + ticket
}

// deedGone is the same where the ticket has just been named: "write the priority to it".
func deedGone(d ledger.Delivery) string {
	if d.Kind == ledger.CreateTicket {
		return "open it"
	}
	return deedTo(d, Where{}, infinitive, "it", "")
}

// object is what a vendor refuses: "the priority of ticket INC1", "the comment for ticket INC1".
func object(d ledger.Delivery, at Where) string {
	switch d.Kind {
	case ledger.CreateTicket:
		return "to open a ticket"
	case ledger.SayComment:
		return "a comment for " + at.bare()
	case ledger.CloseDuplicate:
		return "to close a duplicate of " + at.bare()
	case ledger.UpdateTicket:
	}
	if len(d.Values) == 0 {
		return "a change to " + at.bare()
	}
	return fields(d.Values) + " of " + at.bare()
}

// fields lists the fields of values: "the title, the priority and the contact".
func fields(v incident.Values) string {
	var names []string
	for _, f := range incident.Fields() {
		if _, there := v[f]; there {
			names = append(names, "the "+Field(f))
		}
	}
	return list(names)
}

// Field is a field's name for people.
func Field(f incident.Field) string {
	switch f {
	case incident.FieldDeferredTo:
		return "end of the deferral"
	case incident.FieldAssignee:
		return "agent"
	default:
		return string(f)
	}
}

func list(words []string) string {
	switch n := len(words); n {
	case 0:
		return "nothing"
	case 1:
		return words[0]
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}

func tries(d ledger.Delivery) string {
	if d.Attempts <= 1 {
		return ""
	}
	return fmt.Sprintf(", at the %s try", ordinal(d.Attempts))
}

func ordinal(n int) string {
	ending := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			ending = "st"
		case 2:
			ending = "nd"
		case 3:
			ending = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, ending)
}

// callPrefix is what connectors.Error puts before the vendor's words.
var callPrefix = regexp.MustCompile(`^(?:[a-z0-9]+\.[A-Za-z]+|reading before writing): (?:transient|unknown outcome|rate limited|auth|rejected|conflict|not found)(?: \(HTTP \d+\))?(?:: )?`)

// VendorWords takes what only programmers read off the front of a failure.
func VendorWords(text string) string {
	for {
		rest := callPrefix.ReplaceAllString(text, "")
		if rest == text {
			return strings.TrimSpace(text)
		}
		text = rest
	}
}

// quoted is a failure's text behind a sentence.
func quoted(text string) string {
	if text = VendorWords(text); text == "" {
		return ""
	}
	return ": “" + clip(text, 400) + "”"
}

// clip shortens a text to so many characters, on one line.
func clip(text string, most int) string {
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > most {
		return strings.TrimSpace(string(r[:most])) + " …"
	}
	return text
}

// sentence begins with a capital and ends in a full stop.
func sentence(text string) string {
	text = capital(strings.TrimSpace(text))
	if strings.HasSuffix(text, ".") || strings.HasSuffix(text, ".”") {
		return text
	}
	return text + "."
}

func capital(text string) string {
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

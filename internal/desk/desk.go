package desk

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// ErrNotFound is returned for what does not exist and for what the viewer may not know of, alike.
var ErrNotFound = ledger.ErrNotFound

// Denied says that the viewer's role does not allow the action, and who may do it instead.
type Denied struct {
	Problem string
	Remedy  string
}

func (d *Denied) Error() string { return d.Problem + "; " + d.Remedy }

// Limits bound what people send. Bytes are those of UTF-8, characters are code points.
type Limits struct {
	TitleChars       int // default 160
	DescriptionBytes int // default 32,000
	CommentBytes     int // default 32,000
}

// shortBytes bounds every text that has no limit of its own.
const shortBytes = 400

// DefaultLimits are the limits when the settings name none.
func DefaultLimits() Limits {
	return Limits{TitleChars: 160, DescriptionBytes: 32000, CommentBytes: 32000}
}

// Desk carries out the use cases.
type Desk struct {
	ledger *ledger.Ledger
	limits Limits
	now    func() time.Time
}

// New returns the use cases over a ledger.
func New(l *ledger.Ledger, limits Limits, now func() time.Time) *Desk {
	return &Desk{ledger: l, limits: limits, now: now}
}

// Key makes a repeated call answer the first result: the client's own key and a digest of everything else in
// the input. The zero Key means that the client gave none.
type Key = ledger.Key

func person(v auth.Viewer) ledger.Actor { return ledger.Actor{Kind: ledger.Person, Name: v.Name} }

func requireStaff(v auth.Viewer, action string) error {
	if v.Staff() {
		return nil
	}
	return &Denied{Problem: "only the desk may " + action, Remedy: "add a comment to the incident, and the desk will see it"}
}

func requireAdmin(v auth.Viewer, action string) error {
	if v.Has(auth.Admin) {
		return nil
	}
	return &Denied{Problem: "only an administrator may " + action, Remedy: "ask one of the desk's administrators"}
}

func refuse(field, problem, remedy string) error {
	return &incident.Refusal{Kind: incident.BadInput, Field: field, Problem: problem, Remedy: remedy}
}

// writable refuses to change an incident that is finished.
func writable(i incident.Incident) error {
	if !i.State.Final() {
		return nil
	}
	return &incident.Refusal{
		Kind: incident.InvalidTransition, Problem: fmt.Sprintf("an incident that is %s is read only", i.State),
		Remedy: "report a new incident and give this number as its reference",
	}
}

// text checks what a person typed: valid UTF-8, no NUL (Postgres cannot keep one), within the limit.
func text(field, s string, limit int) error {
	switch {
	case !utf8.ValidString(s) || strings.ContainsRune(s, 0):
		return refuse(field, "contains bytes that are no text", "send UTF-8 without NUL characters")
	case len(s) > limit:
		return refuse(field, fmt.Sprintf("is %d bytes long, the limit is %d", len(s), limit), "shorten it or attach the rest as a file")
	}
	return nil
}

// title checks a title, whose limit is in characters because vendors count those.
func (d *Desk) title(s string) error {
	if n := utf8.RuneCountInString(s); n > d.limits.TitleChars {
		return refuse("title", fmt.Sprintf("is %d characters long, the limit is %d", n, d.limits.TitleChars), "shorten it and say the rest in the description")
	}
	return line("title", s, 4*d.limits.TitleChars)
}

// line checks a one-line text.
func line(field, s string, limit int) error {
	if strings.ContainsAny(s, "\r\n") {
		return refuse(field, "contains a line break", "write it on one line")
	}
	return text(field, s, limit)
}

func oneOf(field, s string, words []string) error {
	if s == "" || slices.Contains(words, s) {
		return nil
	}
	return refuse(field, fmt.Sprintf("%q is not known", s), "use one of "+strings.Join(words, ", "))
}

func firstError(errs ...error) error {
	i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if i < 0 {
		return nil
	}
	return errs[i]
}

// IsRefusal reports whether err is a refusal by the domain's rules, and returns it.
func IsRefusal(err error) (*incident.Refusal, bool) {
	return errors.AsType[*incident.Refusal](err)
}

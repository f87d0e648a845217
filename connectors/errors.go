package connectors

import (
	"errors"
	"fmt"
	"time"
)

// Kind sorts failures by what can be done about them. One place, the lane, decides from it.
type Kind int

// The kinds. All except Unknown say that a write did not happen.
const (
	Transient   Kind = iota // worth trying again later: refused connection, 5xx before a write
	Unknown                 // a write may or may not have happened: no answer, a cut answer, a 5xx after sending
	RateLimited             // the vendor asks for fewer calls; RetryAfter says from when on
	Auth                    // credentials are missing, wrong, or lack a right: a person has to act
	Rejected                // the vendor understood and refused: trying again changes nothing
	Conflict                // the ticket has changed meanwhile: read, merge, try again
	NotFound                // the ticket is not there, or hidden from this account
)

var kindNames = [...]string{"transient", "unknown outcome", "rate limited", "auth", "rejected", "conflict", "not found"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", int(k))
}

// Error is a failed exchange with a vendor. It never carries a secret.
type Error struct {
	Op         string        // "servicenow.Create"
	Kind       Kind          // what can be done about it
	Status     int           // the HTTP status, 0 when there was none
	RetryAfter time.Duration // how long the vendor asked to wait, 0 when it named nothing
	Vendor     string        // the vendor's own words, shortened; empty when it said nothing readable
	Fields     []string      // the vendor's fields at fault, where it names them
	Err        error         // the cause, may be nil
}

func (e *Error) Error() string {
	msg := e.Op + ": " + e.Kind.String()
	if e.Status != 0 {
		msg += fmt.Sprintf(" (HTTP %d)", e.Status)
	}
	if e.Vendor != "" {
		msg += ": " + e.Vendor
	}
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of err. An error that no connector made is Unknown, the kind that is never
// repeated blindly.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Unknown
}

// RetryAfterOf returns how long the vendor asked to wait, 0 when err names nothing.
func RetryAfterOf(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// WordsOf returns what the vendor said of the failure, else err's own text.
func WordsOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Vendor != "" {
		return e.Vendor
	}
	return err.Error()
}

// AsUnknown turns the failure of a look behind a write into the write's own: it was sent, and how it stands is not
// known.
func AsUnknown(op string, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return &Error{Op: op, Kind: Unknown, Err: err}
	}
	unknown := *e
	unknown.Op, unknown.Kind = op, Unknown
	return &unknown
}

package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrPoolExhausted tells that no connection could be had within Options.AcquireTimeout. [IsUnavailable] holds for it.
	ErrPoolExhausted = errors.New("no database connection came free")

	// ErrCommitUnknown tells that the connection was lost between COMMIT and its answer: the transaction has
	// happened whole or not at all, and only reading what it wrote can tell. [IsUnavailable] holds for it.
	ErrCommitUnknown = errors.New("the outcome of the commit is unknown")
)

// errNoAnswer is what a check answers whose time was up.
var errNoAnswer = errors.New("the database did not answer in time")

// errConnLost is what a transaction answers when its connection was gone before the commit was sent.
var errConnLost = errors.New("the connection was lost before the commit")

// IsUniqueViolation tells whether err is the refusal of a duplicate by the named constraint or unique
// index; an empty name means any.
func IsUniqueViolation(err error, constraint string) bool { return violates(err, "23505", constraint) }

// IsForeignKeyViolation tells whether err is the refusal of a dangling reference by the named constraint;
// an empty name means any.
func IsForeignKeyViolation(err error, constraint string) bool {
	return violates(err, "23503", constraint)
}

// IsCheckViolation tells whether err is the refusal of a value by the named CHECK; an empty name means any.
func IsCheckViolation(err error, constraint string) bool { return violates(err, "23514", constraint) }

func violates(err error, code, constraint string) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == code && (constraint == "" || refused.ConstraintName == constraint)
}

// IsRetryable tells whether the server rolled a transaction back only because of others at the same time:
// a serialization failure or a deadlock. The same transaction, run again from its start, may well succeed.
func IsRetryable(err error) bool {
	switch sqlState(err) {
	case "40001", "40P01":
		return true
	}
	return false
}

// IsTimeout tells whether the server ended a statement, a wait for a lock or an idle transaction at its limit.
func IsTimeout(err error) bool {
	switch sqlState(err) {
	case "57014", "55P03", "25P03":
		return true
	}
	return false
}

// IsUnavailable tells whether the database could not be reached or could not work just now: connection
// refused or lost, server starting or stopping, read-only, disk or connections used up, pool exhausted, a server that cannot
// set up a session for whatever trouble of its own. Trying again later is right; whether a write of the failed attempt
// happened must be looked up first.
func IsUnavailable(err error) bool {
	if err == nil {
		return false
	}
	if errors.Is(err, ErrPoolExhausted) || errors.Is(err, ErrCommitUnknown) || errors.Is(err, errConnLost) || errors.Is(err, errNoAnswer) {
		return true
	}
	// The server's own word decides before the layers around it: a wrong password is a connect error too.
	if state := sqlState(err); state != "" {
		return strings.HasPrefix(state, "08") || strings.HasPrefix(state, "53") || strings.HasPrefix(state, "57P") || state == "25006" ||
			IsConnecting(err) && !refusesUs(state)
	}
	var network net.Error
	switch {
	case IsConnecting(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return true
	case errors.As(err, &network):
		// A caller's own deadline also satisfies net.Error; only one that struck the socket is an operation's.
		var operation *net.OpError
		return errors.As(err, &operation)
	}
	// "conn closed" has no name in pgx, only this trait, which a caller's own ended context has too.
	return pgconn.SafeToRetry(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// IsConnecting tells whether err befell an attempt to connect, so that nothing was asked of the database. [IsUnavailable]
// tells whether the cause passes by itself: a wrong password does not.
func IsConnecting(err error) bool {
	var connecting *pgconn.ConnectError
	return errors.As(err, &connecting)
}

// refusesUs tells whether a server that refuses a session means its client: who it is, what it asks for, what it may.
func refusesUs(state string) bool {
	for _, class := range []string{"0A", "22", "28", "3D", "42"} {
		if strings.HasPrefix(state, class) {
			return true
		}
	}
	return false
}

// sqlState is the server's five-character code, "" when the error is not the server's.
func sqlState(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

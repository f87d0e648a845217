package graph

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/errcode"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"liaison/connectors"
	"liaison/graph/model"
	"liaison/internal/desk"
	"liaison/internal/feed"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/telemetry"
	"liaison/sync/ledger"
	"liaison/sync/reconcile"
)

// The stable values of extensions.code. Documents that are no GraphQL, or do not fit the schema, have
// GRAPHQL_PARSE_FAILED and GRAPHQL_VALIDATION_FAILED; too large ones COMPLEXITY_LIMIT_EXCEEDED.
const (
	codeUnauthenticated   = "UNAUTHENTICATED"
	codeForbidden         = "FORBIDDEN"
	codeNotFound          = "NOT_FOUND"
	codeBadUserInput      = "BAD_USER_INPUT"
	codeInvalidTransition = "INVALID_TRANSITION"
	codeConflict          = "CONFLICT"
	codeRateLimited       = "RATE_LIMITED"
	codeCursorExpired     = "CURSOR_EXPIRED"
	codeUnavailable       = "UNAVAILABLE"
	codeInternal          = "INTERNAL"
)

// answer is what a client is told of an error.
type answer struct {
	code    string
	message string
	field   string
	more    map[string]any
}

// presenter makes every error that leaves: it codes the known, and scrubs and logs the rest.
type presenter struct{ log *slog.Logger }

func (p presenter) present(ctx context.Context, err error) *gqlerror.Error {
	var out gqlerror.Error
	var shaped *gqlerror.Error
	if errors.As(err, &shaped) {
		out = *shaped
		if shaped.Err == nil { // made by the executor, about the document
			p.complete(&out)
			return &out
		}
		err = shaped.Err
	} else {
		out.Path = graphql.GetPath(ctx)
	}
	a, known := p.known(err, out.Path)
	if !known {
		a = p.internal(ctx, err)
	}
	out.Message, out.Extensions, out.Err = a.message, map[string]any{"code": a.code}, nil
	if a.field != "" {
		out.Extensions["field"] = a.field
	}
	for k, v := range a.more {
		out.Extensions[k] = v
	}
	return &out
}

// complete makes sure that an error about the document has a code, and that it does not run on for pages.
func (presenter) complete(e *gqlerror.Error) {
	if len(e.Message) > 1000 {
		e.Message = strings.ToValidUTF8(e.Message[:1000], "") + " …"
	}
	if e.Extensions["code"] == nil {
		extensions := map[string]any{"code": errcode.ValidationFailed}
		for k, v := range e.Extensions {
			extensions[k] = v
		}
		e.Extensions = extensions
	}
}

func (p presenter) known(err error, path ast.Path) (answer, bool) {
	if a, ok := domain(err); ok {
		return a, true
	}
	if a, ok := transport(err); ok {
		return a, true
	}
	var bad *model.BadValue
	var integer *graphql.IntegerError
	if errors.As(err, &bad) {
		return answer{code: codeBadUserInput, message: bad.Problem, field: inputField(path)}, true
	}
	if errors.As(err, &integer) {
		return answer{code: codeBadUserInput, message: "this is no number that fits 32 bits; use a smaller one", field: inputField(path)}, true
	}
	return answer{}, false
}

// domain knows the refusals of the rules and of the ledger.
func domain(err error) (answer, bool) {
	if refusal, ok := desk.IsRefusal(err); ok {
		code := codeBadUserInput
		if refusal.Kind == incident.InvalidTransition {
			code = codeInvalidTransition
		}
		return answer{code: code, message: refusal.Error(), field: refusal.Field}, true
	}
	if denied, ok := errors.AsType[*desk.Denied](err); ok {
		return answer{code: codeForbidden, message: denied.Error()}, true
	}
	if conflict, ok := errors.AsType[*ledger.VersionConflict](err); ok {
		return answer{
			code: codeConflict, message: conflict.Error() + "; read it again and decide anew", field: "expectedVersion",
			more: map[string]any{"expectedVersion": conflict.Expected, "actualVersion": conflict.Actual},
		}, true
	}
	if reused, ok := errors.AsType[*ledger.KeyReused](err); ok {
		return answer{code: codeConflict, message: reused.Error() + "; use a new key for a new call", field: "idempotencyKey"}, true
	}
	if unknown, ok := errors.AsType[*ledger.SystemUnknown](err); ok {
		return answer{code: codeBadUserInput, message: unknown.Error(), field: "system"}, true
	}
	if alive, ok := errors.AsType[*ledger.NotDead](err); ok {
		return answer{code: codeInvalidTransition, message: alive.Error(), field: "deliveryId"}, true
	}
	if a, ok := operators(err); ok {
		return a, true
	}
	if errors.Is(err, ledger.ErrNotFound) {
		return answer{code: codeNotFound, message: "there is no such thing, or you may not know of it"}, true
	}
	return answer{}, false
}

// operators knows what those hear who mend the sync.
func operators(err error) (answer, bool) {
	if decided, ok := errors.AsType[*ledger.ConflictDecided](err); ok {
		return answer{code: codeConflict, message: decided.Error(), field: "conflictId"}, true
	}
	if moved, ok := errors.AsType[*ledger.ConflictMoved](err); ok {
		return answer{code: codeConflict, message: moved.Error(), field: "conflictId"}, true
	}
	if held, ok := errors.AsType[*ledger.FieldHeld](err); ok {
		return answer{code: codeInvalidTransition, message: held.Error(), field: "field"}, true
	}
	if paused, ok := errors.AsType[*reconcile.Paused](err); ok {
		return answer{code: codeInvalidTransition, message: paused.Error(), field: "linkId"}, true
	}
	if errors.Is(err, ledger.ErrBusy) {
		return answer{code: codeConflict, message: "an exchange with the vendor is under way on this link and does not end; try again in a moment"}, true
	}
	if vendor, ok := errors.AsType[*connectors.Error](err); ok {
		return answer{code: codeUnavailable, message: "the vendor did not answer as it should: " + connectors.WordsOf(vendor)}, true
	}
	return answer{}, false
}

// transport knows the feed's errors and those of the way in.
func transport(err error) (answer, bool) {
	var cut *cutOff
	more := map[string]any{}
	if errors.As(err, &cut) && cut.cursor != "" {
		more["cursor"] = cut.cursor
	}
	switch {
	case errors.Is(err, errSignedOut):
		return answer{code: codeUnauthenticated, message: signIn}, true
	case errors.Is(err, feed.ErrExpired):
		return answer{
			code: codeCursorExpired, field: "after",
			message: "the cursor belongs to another history; read the lists again and subscribe with their feedCursor",
		}, true
	case errors.Is(err, feed.ErrBadCursor):
		return answer{code: codeBadUserInput, field: "after", message: "after: is no cursor of the feed; use one exactly as it was received, or leave it out"}, true
	case errors.Is(err, feed.ErrSlow):
		return answer{code: codeRateLimited, more: more, message: "changes arrived faster than they were read; subscribe again after the last cursor"}, true
	case errors.Is(err, feed.ErrStopped), errors.Is(err, feed.ErrClosed):
		return answer{code: codeUnavailable, more: more, message: "the hub is stopping; subscribe again after the last cursor"}, true
	}
	return answer{}, false
}

// inputField names the input at fault by the path of an argument: what follows the argument input or filter.
func inputField(path ast.Path) string {
	var words []string
	for n, part := range path {
		name, ok := part.(ast.PathName)
		if !ok || n == 0 || (n == 1 && (name == "input" || name == "filter")) {
			continue
		}
		words = append(words, string(name))
	}
	return strings.Join(words, ".")
}

// internal logs a cause that clients are not told, and says how to find it again. Trouble with the database is the
// hub's to report on /readyz, and is logged as a warning.
func (p presenter) internal(ctx context.Context, err error) answer {
	id := telemetry.TraceID(ctx)
	a, known := unavailable(err)
	switch {
	case known:
		p.log.WarnContext(ctx, "answering a request without the database", "error", err, "trace", id, "path", graphql.GetPath(ctx).String())
	case errors.Is(err, context.Canceled):
		a = answer{code: codeInternal, message: "the request was given up"}
	default:
		a = answer{code: codeInternal, message: "something went wrong in the hub; tell its operators the trace id " + id}
		p.log.ErrorContext(ctx, "answering a request", "error", err, "trace", id, "path", graphql.GetPath(ctx).String())
	}
	if a.more == nil {
		a.more = map[string]any{}
	}
	a.more["traceId"] = id
	return a
}

// unavailable knows the database's troubles, which pass: the same call may succeed a moment later.
func unavailable(err error) (answer, bool) {
	a := answer{code: codeUnavailable}
	switch {
	case errors.Is(err, postgres.ErrCommitUnknown):
		a.message = "the database was lost while the change was being stored; look whether it happened, or repeat the call with the same idempotencyKey"
		a.more = map[string]any{"outcome": "UNKNOWN"}
	case postgres.IsUnavailable(err), postgres.IsConnecting(err):
		a.message = "nothing was stored or read, because " + postgres.ConditionOf(err).String() + "; try again in a moment"
	case errors.Is(err, context.DeadlineExceeded), postgres.IsTimeout(err):
		a.message = "the database did not answer in time; try again"
	default:
		return a, false
	}
	return a, true
}

// errPanic is what a panic in a resolver becomes.
var errPanic = errors.New("panic")

// recover logs a panic's stack and lets present tell the client no more than of any internal error.
func (p presenter) recover(ctx context.Context, cause any) error {
	p.log.ErrorContext(ctx, "panic in a resolver", "cause", fmt.Sprint(cause), "stack", string(debug.Stack()))
	return errPanic
}

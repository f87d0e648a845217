package auth

import (
	"context"
	"errors"
	"net/http"
	"strings"
)

// The reasons why a request has no viewer.
var (
	ErrNoToken  = errors.New("no bearer token was sent")
	ErrBadToken = errors.New("the bearer token is not valid")
)

// Lookup finds who holds a token: a Directory, or whatever else knows.
type Lookup interface {
	Lookup(ctx context.Context, token string) (Viewer, bool)
}

// Bearer returns the token of an Authorization header, "" when it holds none. The scheme's case does not matter
// (RFC 9110, section 11.1).
func Bearer(header string) string {
	scheme, token, ok := strings.Cut(strings.TrimSpace(header), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// Authenticate returns ctx with the holder of the token. Its errors are ErrNoToken and ErrBadToken.
func Authenticate(ctx context.Context, who Lookup, token string) (context.Context, error) {
	if token == "" {
		return ctx, ErrNoToken
	}
	v, ok := who.Lookup(ctx, token)
	if !ok {
		return ctx, ErrBadToken
	}
	return WithViewer(ctx, v), nil
}

// Middleware signs requests in by their Authorization header. A request without a valid token goes to refused
// with the reason. A WebSocket handshake without a token passes without a viewer, because browsers cannot send the
// header with it: what reads the socket must ask for the token in the first message.
func Middleware(who Lookup, refused func(http.ResponseWriter, *http.Request, error), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, err := Authenticate(r.Context(), who, Bearer(r.Header.Get("Authorization")))
		switch {
		case err == nil:
			next.ServeHTTP(w, r.WithContext(ctx))
		case errors.Is(err, ErrNoToken) && r.Header.Get("Authorization") == "" && IsWebSocket(r):
			next.ServeHTTP(w, r)
		default:
			refused(w, r, err)
		}
	})
}

// IsWebSocket reports whether a request asks for a WebSocket.
func IsWebSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

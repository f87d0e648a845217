package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	gqltransport "github.com/99designs/gqlgen/graphql/handler/transport"

	"liaison/graph/socket"
	"liaison/internal/auth"
)

const signIn = "sign in with a bearer token, in the header Authorization: Bearer TOKEN"

// fail answers a request that never reached the executor, in the form that GraphQL clients read.
func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	body, err := json.Marshal(map[string]any{"errors": []any{map[string]any{"message": message, "extensions": map[string]any{"code": code}}}})
	if err == nil {
		_, _ = w.Write(body) // whether it arrives is the client's business
	}
}

// guard sets the headers that every answer has and turns away what is no GraphQL request.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		switch {
		case auth.IsWebSocket(r) && !socket.SameOrigin(r):
			fail(w, http.StatusForbidden, codeForbidden, "WebSockets from pages of another origin are refused")
		case auth.IsWebSocket(r) && !socket.Offered(r):
			fail(w, http.StatusBadRequest, codeBadUserInput, "the header Sec-WebSocket-Protocol must offer graphql-transport-ws or graphql-ws")
		case r.Method != http.MethodGet && r.Method != http.MethodPost:
			w.Header().Set("Allow", "GET, POST")
			fail(w, http.StatusMethodNotAllowed, codeBadUserInput, "use POST, or GET for queries")
		case r.Method == http.MethodPost && !jsonBody(r):
			w.Header().Set("Accept-Post", "application/json")
			fail(w, http.StatusUnsupportedMediaType, codeBadUserInput, "the body must be JSON in UTF-8, with Content-Type: application/json")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func jsonBody(r *http.Request) bool {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	return err == nil && media == "application/json" && (charset == "" || strings.EqualFold(charset, "utf-8"))
}

// refuseSignIn answers requests without a valid token (RFC 6750, section 3).
func refuseSignIn(w http.ResponseWriter, _ *http.Request, reason error) {
	challenge, message := `Bearer realm="liaison"`, signIn
	if errors.Is(reason, auth.ErrBadToken) {
		challenge, message = challenge+`, error="invalid_token"`, "the bearer token is not valid; "+signIn
	}
	w.Header().Set("WWW-Authenticate", challenge)
	fail(w, http.StatusUnauthorized, codeUnauthenticated, message)
}

// request is the body of a GraphQL request over HTTP.
type request struct {
	Query         string         `json:"query"`
	OperationName string         `json:"operationName"`
	Variables     map[string]any `json:"variables"`
	Extensions    map[string]any `json:"extensions"`
}

// checkBody reads a POST's body within its limit and makes sure that gqlgen will understand it: gqlgen repeats a
// body that it does not understand in its answer and its log. Requests that do not stream get a time limit.
func checkBody(limit int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		streams := auth.IsWebSocket(r) || strings.Contains(r.Header.Get("Accept"), "text/event-stream")
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
			var large *http.MaxBytesError
			switch {
			case errors.As(err, &large):
				fail(w, http.StatusRequestEntityTooLarge, codeBadUserInput, "the body is larger than "+strconv.FormatInt(limit, 10)+" bytes")
				return
			case err != nil:
				fail(w, http.StatusBadRequest, codeBadUserInput, "the body did not arrive whole")
				return
			}
			if problem := misread(body); problem != "" {
				fail(w, http.StatusBadRequest, codeBadUserInput, problem)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		if !streams {
			ctx, cancel := context.WithTimeout(r.Context(), requestTime)
			defer cancel()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
}

// misread says what is wrong with a body, without repeating any of it.
func misread(body []byte) string {
	if !utf8.Valid(body) {
		return "the body is not UTF-8"
	}
	var in request
	err := json.Unmarshal(body, &in)
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		return "the body's " + wrong.Field + " has the wrong type: query and operationName are text, variables and extensions are objects"
	case errors.As(err, &syntax):
		return "the body is no JSON: it goes wrong at byte " + strconv.FormatInt(syntax.Offset, 10)
	case err != nil || len(body) == 0 || bytes.TrimSpace(body)[0] != '{':
		return `the body must be one JSON object such as {"query": "{ viewer { name } }"}`
	case in.Query == "":
		return "the body has no query"
	}
	return ""
}

// signInSocket signs a WebSocket in by its first message, unless the handshake has done so already. Tokens
// in the message go before the handshake's.
func signInSocket(who auth.Lookup) gqltransport.WebsocketInitFunc {
	return func(ctx context.Context, payload gqltransport.InitPayload) (context.Context, *gqltransport.InitPayload, error) {
		token := payload.GetString("token")
		if header := payload.Authorization(); header != "" {
			token = auth.Bearer(header)
		} else if token == "" {
			if _, ok := auth.ViewerFrom(ctx); ok {
				return ctx, nil, nil
			}
		}
		signedIn, err := auth.Authenticate(ctx, who, token)
		if err != nil {
			ctx = gqltransport.WithWebsocketCloseCode(ctx, socket.CodeUnauthorized)
			return gqltransport.AppendCloseReason(ctx, "not signed in: "+err.Error()), nil, errors.New(codeUnauthenticated + ": " + err.Error())
		}
		return signedIn, nil, nil
	}
}

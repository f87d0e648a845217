package graph

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/handler"
	"github.com/99designs/gqlgen/graphql/handler/extension"
	"github.com/99designs/gqlgen/graphql/handler/lru"
	gqltransport "github.com/99designs/gqlgen/graphql/handler/transport"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"liaison/graph/generated"
	"liaison/graph/model"
	"liaison/graph/socket"
	"liaison/internal/auth"
	"liaison/internal/desk"
	"liaison/internal/feed"
	"liaison/internal/telemetry"
	"liaison/sync/ledger"
	"liaison/sync/pulse"
	"liaison/sync/system"
)

// Limits of a request.
const (
	// maxComplexity bounds an answer, counted in fields: a page of 100 incidents with all their fields, three comments
	// and links is about 10,000.
	maxComplexity = 25_000
	// maxErrors is how many errors an answer lists.
	maxErrors = 25
	// requestTime bounds a query or mutation over HTTP, so that each is answered within 10 s whatever holds it up.
	requestTime = 9 * time.Second
	// cachedDocument is the longest document that is kept parsed, in bytes, and cachedDocuments how many are.
	cachedDocument, cachedDocuments = 16 << 10, 1000
)

// Deps are what the GraphQL face stands on.
type Deps struct {
	Desk   *desk.Desk
	Reader *ledger.Reader
	Feed   *feed.Feed
	// Inbox replays what came in, Switch pauses and resumes systems.
	Inbox  Inbox
	Switch Switch
	// Reconciler compares links with their vendors' tickets; nil: reconcileLink fails.
	Reconciler Reconciler
	// Monitor tells what goes on in this hub: default one in which nothing does.
	Monitor *pulse.Monitor
	// Systems translate what is sent, so that operators can see it. Payloads of systems that are not among them are null.
	Systems []*system.System
	// Now is the time by which health is judged: default time.Now.
	Now func() time.Time
	// Auth knows who holds a token.
	Auth auth.Lookup
	// Logger hears of internal errors: default slog.Default().
	Logger *slog.Logger
	// Limits bound what one request may bring.
	Limits Limits
	// Sockets tunes WebSockets.
	Sockets socket.Options
	// InitTimeout is how long a fresh socket may wait with its first message: default 10 s.
	InitTimeout time.Duration
	// KeepAlive is the pause between comments on an idle stream of server-sent events: default 15 s.
	KeepAlive time.Duration
}

// Limits bound what one request may bring. Zero means the default.
type Limits struct {
	BodyBytes   int64 // of a request's body and of a socket's message: default 1 MiB
	QueryTokens int   // of a document, because validation takes time that is quadratic in its length: default 2,000
}

// Handler serves /graphql.
type Handler struct {
	http.Handler
	sockets *socket.Sockets
}

// Shutdown closes all WebSockets, so that their clients connect again elsewhere. Server-sent events end with the
// feed or with the server's base context.
func (h *Handler) Shutdown() { h.sockets.Shutdown() }

// Sockets returns how many WebSockets are open.
func (h *Handler) Sockets() int { return h.sockets.Open() }

// NewHandler returns the handler of /graphql: POST and GET, WebSocket and server-sent events. Requests must
// carry a bearer token; on a WebSocket the first message may carry it instead, as {"Authorization": "Bearer …"} or
// {"token": "…"}.
func NewHandler(d Deps) *Handler {
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	d.Limits.BodyBytes = cmp.Or(d.Limits.BodyBytes, 1<<20)
	d.Limits.QueryTokens = cmp.Or(d.Limits.QueryTokens, 2000)
	if d.InitTimeout == 0 {
		d.InitTimeout = 10 * time.Second
	}
	if d.KeepAlive == 0 {
		d.KeepAlive = 15 * time.Second
	}
	if d.Monitor == nil {
		d.Monitor = pulse.New(nil, nil, pulse.Options{})
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	r := &Resolver{
		desk: d.Desk, reader: d.Reader, feed: d.Feed, fanout: newFanout(d.Reader),
		inbox: d.Inbox, systemSwitch: d.Switch, reconciler: d.Reconciler, monitor: d.Monitor, systems: d.Systems, now: d.Now,
	}
	p := presenter{log: d.Logger}
	sockets := socket.New(d.Sockets)

	srv := handler.New(generated.NewExecutableSchema(generated.Config{Resolvers: r, Complexity: complexity()}))
	srv.SetErrorPresenter(p.present)
	srv.SetRecoverFunc(p.recover)
	srv.SetParserTokenLimit(d.Limits.QueryTokens)
	srv.SetQueryCache(shortDocuments{lru.New[*ast.QueryDocument](cachedDocuments)})
	srv.Use(extension.Introspection{})
	srv.Use(extension.FixedComplexityLimit(maxComplexity))
	srv.AroundOperations(r.aroundOperation(p))
	srv.AroundResponses(fewErrors)
	readLimit := d.Limits.BodyBytes
	srv.AddTransport(gqltransport.Websocket{
		Implementation: sockets, InitFunc: signInSocket(d.Auth), InitTimeout: d.InitTimeout, PayloadReadLimit: &readLimit,
		KeepAlivePingInterval: d.KeepAlive, // of the older protocol, whose clients expect it
	})
	srv.AddTransport(gqltransport.SSE{KeepAlivePingInterval: d.KeepAlive})
	srv.AddTransport(gqltransport.POST{})
	srv.AddTransport(gqltransport.GET{})
	return &Handler{Handler: guard(auth.Middleware(d.Auth, refuseSignIn, checkBody(d.Limits.BodyBytes, srv))), sockets: sockets}
}

// shortDocuments keeps parsed documents that are not out of the ordinary long.
type shortDocuments struct{ *lru.LRU[*ast.QueryDocument] }

func (s shortDocuments) Add(ctx context.Context, query string, doc *ast.QueryDocument) {
	if len(query) <= cachedDocument {
		s.LRU.Add(ctx, query, doc)
	}
}

// aroundOperation gives each operation what it needs: a trace, one set of reads, and to a subscription a last word.
func (r *Resolver) aroundOperation(p presenter) graphql.OperationMiddleware {
	return func(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
		ctx = telemetry.Ensure(ctx)
		switch graphql.GetOperationContext(ctx).Operation.Operation {
		case ast.Query:
			return next(r.withSet(ctx))
		case ast.Subscription:
			e := &ending{}
			responses := next(context.WithValue(ctx, endingKey{}, e))
			return func(ctx context.Context) *graphql.Response {
				if response := responses(ctx); response != nil {
					return response
				}
				if err := e.take(); err != nil {
					return &graphql.Response{Errors: gqlerror.List{p.present(ctx, err)}}
				}
				return nil
			}
		default: // each change of a document reads anew
			return next(ctx)
		}
	}
}

// fewErrors keeps a document of a thousand mistakes from making an answer of a thousand errors.
func fewErrors(ctx context.Context, next graphql.ResponseHandler) *graphql.Response {
	response := next(ctx)
	if response != nil && len(response.Errors) > maxErrors {
		response.Errors = append(response.Errors[:maxErrors:maxErrors], &gqlerror.Error{
			Message: "there are more errors; mend these first", Extensions: map[string]any{"code": codeBadUserInput},
		})
	}
	return response
}

// complexity counts a connection as its page times what is asked of each row.
func complexity() generated.ComplexityRoot {
	page := func(first, last *int32) int {
		size := int32(defaultPage)
		if first != nil {
			size = *first
		} else if last != nil {
			size = *last
		}
		return int(min(max(size, 1), maxPage))
	}
	paged := func(child int, first *int32, _ *string, last *int32, _ *string) int {
		return 1 + child*page(first, last)
	}
	var c generated.ComplexityRoot
	c.Query.Incidents = func(child int, _ *model.IncidentFilter, _ *model.IncidentOrder, first *int32, after *string, last *int32, before *string) int {
		return paged(child, first, after, last, before)
	}
	c.Query.Ledger = func(child int, _ *model.LedgerFilter, first *int32, after *string, last *int32, before *string) int {
		return paged(child, first, after, last, before)
	}
	c.Query.Inbox = func(child int, _ *model.InboxFilter, first *int32, after *string, last *int32, before *string) int {
		return paged(child, first, after, last, before)
	}
	c.Query.Deliveries = func(child int, _ *model.DeliveryFilter, first *int32, after *string, last *int32, before *string) int {
		return paged(child, first, after, last, before)
	}
	c.Incident.Comments, c.Incident.History, c.ExternalLink.Deliveries = paged, paged, paged
	c.ExternalLink.Conflicts = func(child int, _ bool, first *int32, after *string, last *int32, before *string) int {
		return paged(child, first, after, last, before)
	}
	return c
}

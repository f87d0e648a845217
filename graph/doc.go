// Package graph is the hub's GraphQL face: thin resolvers over the use cases and the ledger's reader, one
// presenter of errors, and the ways in (POST, GET, WebSocket, server-sent events).
//
// Rules live elsewhere: internal/desk decides who may do what, row-level security what exists for whom. What is
// hidden and what does not exist answer alike. Expected failures carry a stable extensions.code; an internal
// cause is logged with the trace id that the client is told, and goes no further.
//
// Handlers and resolvers are safe for concurrent use and keep nothing between requests but parsed documents and,
// for subscribers, the newest state of incidents that just changed; a crash leaves nothing behind. A subscription
// that was cut off resumes at its last cursor.
package graph

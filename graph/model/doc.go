// Package model holds the Go side of the GraphQL types: the domain's values as the schema shows them, and the
// inputs that gqlgen makes.
//
// Values are built for one answer and not changed afterwards, so reading them is safe for concurrent use; nothing
// is kept, so a crash leaves nothing behind. Each value knows its peers, the things that were read with it, so
// that a field of all of them is read by one statement.
package model

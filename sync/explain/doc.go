// Package explain says in plain sentences what the sync has done, what stands in its way and what a person can do about it.
//
// It is the one place where a failure's kind becomes words for an agent: GraphQL and the command line show the same. The
// functions are pure and safe for concurrent use; they read nothing, so a crash leaves nothing behind.
package explain

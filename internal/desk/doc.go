// Package desk holds the use cases: what people do to incidents. Each one authorises the viewer, decides by
// the domain's rules and appends one change to the ledger; nothing is written when anything is refused.
//
// Functions are safe for concurrent use. The package keeps no state, so that a crash leaves behind only what
// the ledger's transaction made durable, and a repeated call with the same idempotency key answers the first
// result again.
package desk

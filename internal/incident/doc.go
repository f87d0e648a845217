// Package incident is the domain: the incident model, its words and its lifecycle. It is pure: no I/O, no
// clock, no database and no vendor's words.
//
// Values are plain structs that callers copy; functions are safe for concurrent use because nothing here
// keeps state. A crash leaves nothing behind, for the same reason. Every rule that refuses something returns
// a *Refusal, which names the field, the problem and the remedy.
package incident

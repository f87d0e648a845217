// Package inbound takes in what vendors say: webhooks as they come, and polls for whatever they missed.
//
// A webhook's body is stored in the inbox before it is acknowledged; a poll's findings are stored in the
// transaction that moves its cursor. Both are hints: a reader takes the ticket's lane, reads the ticket itself
// and lets pull lay it into the ledger, so that duplicates, reordered and late calls all end in the same state. A
// hint that cannot be acted upon is tried again and finally parked with its reason; none is dropped. A call that repeats
// another, by its sender's id or by its content, is kept as its duplicate and not acted upon. What is parked, or over, can be
// replayed by a person, and what is old is put away by the Keeper.
//
// A ticket that fails while others of its vendor do not is parked after ten tries; while the vendor or the database is away
// nothing is. Tickets of the hub's own that nobody follows, opened twice by a lost race, are told, and their link's lane closes
// them.
//
// Everything is safe for concurrent use, in one process and in many: inbox rows and polls are shared by leases
// whose tokens fence every later write. A crash leaves rows waiting, and their leases end by themselves.
package inbound

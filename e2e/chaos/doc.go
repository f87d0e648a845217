// Package chaos runs the whole of Liaison under fault and proves that it keeps its promises: two hubs, each the built
// binary in a process of its own, on a PostgreSQL that is killed now and then; ServiceNow's simulator and the real Request
// Tracker; toxiproxy on every wire between them; writers on both sides, subscribers that come and go, and a checker that
// knows every write. "make chaos" runs it.
//
// Each test is a plan, and the same world carries all of them out:
//
//   - TestChaos: all faults at once, and hubs and PostgreSQL killed at random moments (RELIABILITY.md R1 to R4, R7, L1).
//   - TestR5Partition: a vendor out of reach while both sides go on, some of it on the same fields.
//   - TestR15DroppedWebhooks: no webhook arrives, and the poll finds everything.
//   - TestR15Reconcile: comparing many tickets with their vendors writes nothing.
//
// What is decided at random comes from one seed, which each run prints; -chaos.seed repeats it, as far as processes that
// run side by side allow. A failure names the seed, the incident and its tickets, and shows what both sides recorded.
//
// The checks look from outside: GraphQL and sockets in front, the vendors' own histories behind, and between them the
// tables that are the hub's record (ledger_entry, comment, external_link, delivery, feed). Programs end with the test binary,
// also when it is killed; what a killed run can leave behind is a folder named liaison-chaos-* in the temporary folder.
package chaos

// Package ledgertest holds the ledger's store in memory, and the suite that it and Postgres both pass.
//
// Memory is Postgres's one permitted stand-in: it lets the sync's decisions be tried by the ten thousand under a clock
// that tests move. It gives the statements that write, and those that lanes and readers ask, the meaning of their SQL:
// transactions one after the other, rolled back whole, constraints, row-level security by the viewer's organisations and
// role, leases by a clock of its own. Statements that page through what people read are left to Postgres. Waiting
// for locks does not show in it, nor does anything else about two transactions at once; those are tried on Postgres itself.
//
// A Memory is safe for concurrent use and lives as long as its process.
package ledgertest

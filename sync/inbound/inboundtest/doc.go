// Package inboundtest holds the inbox and the polls' places in memory, and the suite that this store and Postgres both
// pass.
//
// Memory gives the statements of the hooks, the reader and the poller the meaning of their SQL, one transaction after
// the other, under a clock of its own. Replays and retention are left to Postgres. A Memory is safe for concurrent use
// and lives as long as its process.
package inboundtest

// Package ledger is the one door through which an incident changes.
//
// Append writes the incident's new state, one immutable entry and a delivery for every link that must hear of
// it in one transaction: after a crash all of them exist or none does. Settle does the same for what an
// exchange with a vendor brought. Nothing else writes the tables incident, ledger_entry, comment,
// external_link, lane, delivery and conflict.
//
// Rows are locked in one order everywhere, the incident first and its lanes by link id after it, so that
// writers wait for one another but never deadlock. All functions are safe for concurrent use, in one process
// and in many. Times come from the caller's clock; leases alone use the database's.
package ledger

// Package feed is the ledger's tail: every committed entry once, in one order that all hubs agree on,
// resumable at any place by a sealed cursor.
//
// Entry ids are handed out before commit, so an entry may become visible after one with a higher id, and
// "everything beyond the last id" would skip it. Therefore a sequencer, one among all hubs by a lease, stamps
// committed entries with dense positions into the insert-only table feed. Each process has one tail, which
// reads every stamped entry once and fans it out to its subscribers.
//
// # Guarantees
//
//   - Each committed entry is stamped exactly once, an incident's entries in the order of their versions.
//   - A subscriber gets every event that it may see beyond its cursor, once and in order, across the change
//     from backlog to live and across restarts of the hub and of Postgres. The end of a subscription always
//     shows as an error from [Subscription.Next], never as a silent gap.
//   - A cursor names the epoch of its positions. A restored or copied database has another epoch, and its
//     hub answers [ErrExpired] instead of reading positions that mean something else there.
//
// Wake-ups (the bell's topics [ledger.TopicEntries] and [TopicFeed]) only make it fast; a slow poll behind them finds
// whatever a lost wake-up left.
//
// # How late commits are found
//
// The sequencer remembers the highest id that it has seen and the ids below it that it has not: the gaps. It
// looks into them on every pass, so a late entry is stamped when its transaction has committed and holds
// nobody up until then. An id that never comes, because its transaction was rolled back or the server crashed
// with ids in hand, must be given up at some time. An INSERT locks ledger_entry (ROW EXCLUSIVE) before it draws
// its id and keeps the lock until after its commit has become visible. So a gap remembers the transactions that
// held this lock when it was first looked at, and is given up when none of them is left and a fresh snapshot
// still lacks the id. This asks nothing of transaction ids, which are cluster-wide: a writer that idles in
// another database delays nothing here, and one in this database only keeps gaps in memory.
//
// What it asks of writers: ids are drawn by the INSERT itself, as GENERATED ALWAYS sees to, and versions of an
// incident are made under its row's lock, so that version n+1 cannot commit before version n.
//
// # Concurrency and crashes
//
// All functions are safe for concurrent use; of a single Subscription, Next is for one goroutine at a time.
// Correctness rests on the lock of the watermark's row and on state living only in that row, not on the lease:
// two sequencers at once, or one that was frozen and goes on, stamp nothing twice. A crash leaves either a whole
// batch or none of it; a stamp is made durable before anybody hears of it. After a crash another hub's
// sequencer takes over when the lease has run out, within [Config.Lease].
package feed

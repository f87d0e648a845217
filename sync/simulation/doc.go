// Package simulation runs the sync engine, whole, in a world of its own: one to three hubs over one store, vendors that
// lose answers and commit late, people and vendors' agents who change the same tickets, and everything that can die or
// stand still doing so. It then checks the promises: nothing lost, nothing twice, order, no echo, both sides equal,
// nobody past the fence.
//
// A run is driven by one seed. Every latency and every fault is drawn from a hash of the seed, who acts, what is done, to
// what, and how often that was done before, never from a shared source, so that a draw does not depend on which
// goroutine came first. In a testing/synctest bubble, where time moves only when everybody waits, the latencies differ
// by nanoseconds and so put all that happens into one order: the same seed gives the same history, as long as no process
// was stopped and goes on: then everything in it runs at one instant. Over a real Postgres
// the same world runs in real time, sped up, and a seed gives the same people and faults but not the same order.
//
// Workers, readers, pollers, hooks and use cases are the real ones. What is replaced are the clock, the vendors'
// network and, in a bubble, Postgres by the stores in memory that pass the same suites.
package simulation

// Package failpoints ends a hub at every statement, call and answer of the ways that a change takes, each once, starts
// it again and looks whether both sides still agree: RELIABILITY.md R6.
//
// Which points there are is learned: the scenario of each path runs once while the hub lists what it passes. Then it runs
// once for each point, with a database and a vendor of its own, until the hub ends there. Its client repeats what was not
// answered under the same idempotency key, its vendor repeats webhooks that were not accepted, and instead of waiting for
// the dead hub's leases the test moves them into the past; all else takes its real time.
//
// The tests stand behind the build tag e2e. They build the program with the tag failpoints. Without settings a sample of the
// points runs, no name twice, which takes a few minutes; LIAISON_FAILPOINTS=all tries all of them, which takes up to half an hour, any
// other value those whose names contain it. Each run prints its seed, and LIAISON_FAILPOINTS_SEED runs that one again. The tests
// import no part of the hub. What they start ends with them.
package failpoints

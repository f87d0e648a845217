// Package e2e tests the built binary from outside: against a PostgreSQL of each test's own, the ServiceNow simulator as
// a process of its own, the real Request Tracker, and real clients (curl, graphql-ws on Node.js, Chromium).
//
// The tests stand behind the build tag e2e and run by "make e2e", which installs what they need; none of them is
// skipped: what is missing fails with its remedy. They import no part of the hub that they test. Each promise is
// named at the test that proves it, by its number in RELIABILITY.md or its place in the design.
//
// Tests run side by side, each with ports, folders and databases of its own. Programs that they start end with the
// test binary, also when that is killed: the kernel ends a hub with its parent, and its Postgres with the hub. What a
// killed run can leave behind is a folder named liaison-e2e-* in the temporary folder.
package e2e

// Package rt5 runs a real Request Tracker 5, from Debian 12's packages, for tests.
//
// Start gives a test a server of its own on a free loopback port: seeded, the same each time, with its own
// database on a Unix socket, away from the system's PostgreSQL. The packages are installed once per machine
// (94 s on a bare one), the server's folder once per machine and slot (7 to 17 s); after that a start takes
// about 5 s. Where the tests do not run as root, the scripts are called through "sudo -n". The scripts install,
// start and stop beside this file can be called by hand as well.
//
// Open and Start are safe for concurrent use, also from several test binaries: each server holds the lock of one
// slot, and whoever finds all slots taken waits. A Server's methods are for one goroutine. A test binary that
// is killed leaves its server running and its lock free: the next start of that slot ends the old server and
// begins with the seeded database again.
package rt5

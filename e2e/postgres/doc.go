// Package postgres tests what becomes of a running hub when its database is restarted, gone, full or two hours off, and
// of what it was doing when it is told to stop: the built binary in a process of its own, on a private server that the
// tests break.
//
// The tests have the build tag e2e and run with "make e2e" in a short form; these variables make them the full ones of
// RELIABILITY.md:
//
//	LIAISON_P1_RESTARTS=20  how often the server is restarted under load; default 3
//	LIAISON_P1_GONE=60      for how many seconds it is gone at the end; default 10
//	LIAISON_SEED=1          what is decided at random goes the same way as in the run that printed this seed
//
// A full disk takes root and the right to mount; a wrong clock takes the package faketime. Where one is missing the test
// says so and is skipped. Programs and servers end with the test binary, also when it is killed; what that can leave
// behind is a folder liaison-pg-* in /tmp, and the small file system mounted on it.
package postgres

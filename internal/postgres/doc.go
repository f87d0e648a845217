// Package postgres is the hub's way to its only store of record: two connection pools, transactions that
// carry the viewer, the migrations and their runner, and the bell that wakes readers.
//
// There is one database URL and there are two pools. System is the login role, for migrations and
// background work. App is what requests run on: each of its connections has switched to the role
// liaison_app, which owns nothing and cannot bypass row-level security, and says on whose behalf it works
// in settings that end with the transaction.
//
// Nothing here is kept in memory that a crash could lose: a transaction whose commit was not acknowledged
// has either happened or not, and [ErrCommitUnknown] says so. Wake-ups may be lost or come twice; they are
// hints, never data. All functions and methods are safe for concurrent use.
package postgres

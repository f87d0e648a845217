//go:build e2e

package postgres_test

import (
	"path/filepath"
	"testing"
	"time"

	"liaison/internal/postgres/pgtest"
)

// libfaketime finds the library that tells a program a wrong time.
func libfaketime(t *testing.T) string {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib*/faketime/libfaketime.so.1", "/usr/local/lib/faketime/libfaketime.so.1"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	t.Skip("SKIPPED, AND WITH IT THE WRONG CLOCK OF RELIABILITY.md P7 AND R14: libfaketime is not installed (apt-get install faketime)")
	return ""
}

// RELIABILITY.md P7 and R14: the database's clock is two hours off. Nothing rests on two machines' clocks.
func TestP7DatabaseClockIsOff(t *testing.T) {
	t.Parallel()
	library := libfaketime(t)
	for _, off := range []string{"-2h", "+2h"} {
		t.Run(off, func(t *testing.T) {
			t.Parallel()
			server := pgtest.NewServerWith(t, pgtest.ServerOptions{Env: []string{"LD_PRELOAD=" + library, "FAKETIME=" + off, "FAKETIME_DONT_FAKE_MONOTONIC=1"}})
			conn := connect(t, server.SuperuserURL("liaison"))
			if skew := time.Until(scan[time.Time](t, conn, `SELECT clock_timestamp()`)).Abs(); skew < 119*time.Minute || skew > 121*time.Minute {
				t.Fatalf("the database's clock is off by %s: the library does not work here", skew)
			}
			h := run(t, server.URL())
			live := h.follow()
			l := h.load(4)
			for range 20 {
				l.writesAgain(5 * time.Second)
			}
			l.kept(server.SuperuserURL("liaison"))
			live.heardAll(conn, 30*time.Second)
			if n := scan[int](t, conn, `SELECT count(*) FROM ledger_entry WHERE abs(extract(epoch FROM at - clock_timestamp())) < 3600`); n > 0 {
				t.Errorf("%d entries have the database's time: the hub's own was wanted", n)
			}
			if code := h.stop(30 * time.Second); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

//go:build e2e

package postgres_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"liaison/internal/postgres/pgtest"
)

// smallDisk mounts a file system of so many bytes, which ends with the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "liaison-pg-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "size="+size+",mode=0755"); err != nil {
		t.Skipf("SKIPPED, AND WITH IT THE FULL DISK OF RELIABILITY.md P3: mounting a small file system takes root and CAP_SYS_ADMIN (%v); "+
			"TestP3WritesRefused in cmd/liaison/hub covers the rest", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// fill leaves no room at all.
func fill(t *testing.T, dir string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zeros := make([]byte, 1<<20)
	for size := len(zeros); size > 0; {
		if _, err := f.Write(zeros[:size]); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil && !errors.Is(err, io.ErrShortWrite) {
			t.Fatal(err)
		}
	}
	return ballast
}

// RELIABILITY.md P3: the database's disk has no room, and later has room again.
func TestP3DiskFull(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "220m")
	server := pgtest.NewServerWith(t, pgtest.ServerOptions{Dir: disk, Settings: map[string]string{
		"min_wal_size": "32MB", "max_wal_size": "48MB", "autovacuum_naptime": "5s",
	}})
	h := run(t, server.URL())
	live := h.follow()
	l := h.load(10)
	l.writesAgain(10 * time.Second)
	for round := range 2 {
		ballast := fill(t, disk)
		h.says("DISK_FULL", 20*time.Second)
		// A webhook that cannot be stored is not acknowledged. Room in a table's last page may let one through.
		refused := 0
		eventually(t, 60*time.Second, "webhooks are refused", func() error {
			status, retry, err := h.hook("0123456789abcdef0123456789abcdef")
			switch {
			case err != nil:
				return err
			case status == http.StatusAccepted:
				return errors.New("there is room yet")
			case status != http.StatusServiceUnavailable || retry == "":
				t.Errorf("a webhook without room is answered with %d, Retry-After %q", status, retry)
			}
			if refused++; refused < 3 {
				return errors.New("once more")
			}
			return nil
		})
		if answer, err := client.Get("http://" + h.addr + "/healthz"); err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("/healthz: %v", err)
		} else {
			answer.Body.Close()
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		h.says("READY", 10*time.Second)
		l.writesAgain(10*time.Second - time.Since(began))
		t.Logf("round %d: works again %s after there was room", round+1, time.Since(began).Round(time.Millisecond))
	}
	l.kept(server.SuperuserURL("liaison"))
	live.heardAll(connect(t, server.SuperuserURL("liaison")), 30*time.Second)
	if code := h.stop(30 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
)

// A second program works on a running hub's database and leaves it running; without a hub there is nothing to attach to.
func TestAttach(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	nothing := func(why string) {
		t.Helper()
		var none *NotRunningError
		if _, err := Attach(options(dir)); !errors.As(err, &none) {
			t.Errorf("%s: %v", why, err)
		}
	}
	nothing("before the first start")
	if _, err := os.Stat(filepath.Join(dir, "postgres")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("attaching made a folder: %v", err)
	}
	s, err := Start(t.Context(), options(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(t.Context()) })
	url, err := Attach(options(dir))
	if err != nil || url != s.URL() {
		t.Fatalf("attached to another address than the hub's (%v)", err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	var role string
	if err := conn.QueryRow(t.Context(), `SELECT current_user`).Scan(&role); err != nil || role != Role {
		t.Errorf("attached as %q, %v", role, err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if s.PID() == 0 {
		t.Error("the hub's server has ended")
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	nothing("after the hub has stopped")
}

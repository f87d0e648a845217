package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// NotRunningError tells that no server runs on the data directory, so that there is nothing to attach to.
type NotRunningError struct{ Dir string }

func (e *NotRunningError) Error() string {
	return fmt.Sprintf("no embedded PostgreSQL runs on %s: start the hub (liaison serve), or name another folder with LIAISON_DATA_DIR, or a database with LIAISON_DATABASE_URL", e.Dir)
}

// Attach returns the connection string of the role [Role] on the server that a running hub keeps under opts.Dir. It starts,
// stops and locks nothing. Only the hub's own user can read the password that it takes. The string holds it: never log it.
// Without a running server its error is a [*NotRunningError].
func Attach(opts Options) (string, error) {
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return "", fmt.Errorf("data directory: %w", err)
	}
	p := pathsUnder(dir)
	if postmasterOf(p.data) == 0 {
		return "", &NotRunningError{Dir: dir}
	}
	password, err := os.ReadFile(p.password)
	if err != nil {
		return "", fmt.Errorf("attaching to the hub's PostgreSQL: %w; run this as the user that runs the hub", err)
	}
	socket := p.run
	elsewhere, err := os.ReadFile(p.elsewhere)
	switch {
	case err == nil:
		socket = strings.TrimSpace(string(elsewhere))
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("attaching to the hub's PostgreSQL: %w; run this as the user that runs the hub", err)
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(Role, strings.TrimSpace(string(password))), Path: "/" + cmp.Or(opts.Database, "liaison"),
		RawQuery: url.Values{"host": {socket}, "port": {port}}.Encode(),
	}
	return u.String(), nil
}

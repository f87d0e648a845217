package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the unprivileged user that a root hub runs the server as. A nil account is the hub's own.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount chooses whom to run the server as. An existing cluster decides: PostgreSQL refuses to work
// on one that belongs to somebody else.
func serverAccount(name, data string) (*account, error) {
	var owner *account
	info, err := os.Stat(data)
	switch {
	case err == nil:
		stat := info.Sys().(*syscall.Stat_t)
		owner = &account{name: strconv.Itoa(int(stat.Uid)), uid: stat.Uid, gid: stat.Gid}
		if known, err := user.LookupId(owner.name); err == nil {
			owner.name = known.Username
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if me := os.Geteuid(); me != 0 {
		if owner != nil && int(owner.uid) != me {
			return nil, fmt.Errorf("data directory: %s belongs to user %s, and this is user %d: run as that user or as root, or set LIAISON_DATA_DIR to another folder", data, owner.name, me)
		}
		return nil, nil
	}
	if owner != nil && owner.uid != 0 {
		if name != "" && name != owner.name {
			return nil, fmt.Errorf("data directory: %s belongs to user %s, and the server is to run as %s: chown -R %s it first", data, owner.name, name, name)
		}
		return owner, nil
	}
	candidates := []string{"postgres", "nobody"}
	if name != "" {
		candidates = []string{name}
	}
	for _, candidate := range candidates {
		found, err := user.Lookup(candidate)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
		if uidErr != nil || gidErr != nil || uid == 0 {
			continue
		}
		return &account{name: candidate, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("PostgreSQL refuses to run as root, and no other user was found (looked for %v): create one, for example with adduser --system --group postgres", candidates)
}

// credential is what a command needs to run as the account.
func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// own gives a file to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Lchown(path, int(a.uid), int(a.gid)); err != nil {
		return fmt.Errorf("giving %s to user %s: %w", path, a.name, err)
	}
	return nil
}

// canReach tells which folder above dir keeps the account out. It looks at the mode bits, as /root and home
// folders are closed by them; anything finer PostgreSQL will complain of itself.
func (a *account) canReach(dir string) error {
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	for ; ; resolved = filepath.Dir(resolved) {
		info, err := os.Stat(resolved)
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		stat := info.Sys().(*syscall.Stat_t)
		enter := fs.FileMode(0o001)
		switch {
		case stat.Uid == a.uid:
			enter = 0o100
		case stat.Gid == a.gid:
			enter = 0o010
		}
		if info.Mode().Perm()&enter == 0 {
			return fmt.Errorf("data directory: user %s, who runs PostgreSQL, may not enter %s (mode %04o): set LIAISON_DATA_DIR to a folder outside it, for example /var/lib/liaison, or run chmod o+x %s", a.name, resolved, info.Mode().Perm(), resolved)
		}
		if resolved == filepath.Dir(resolved) {
			return nil
		}
	}
}

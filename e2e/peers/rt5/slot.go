package rt5

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The scripts travel inside the test binary, so that a test finds them from any folder.
//
//go:embed install start stop pg seed.pl
var scripts embed.FS

// DirVariable names an environment variable with the folder to use instead of one under the system's temporary
// folder. It is then the only slot, and a server that was installed there by hand is used as it is.
const DirVariable = "LIAISON_E2E_RT_DIR"

const (
	slots   = 4  // servers at once on one machine; each takes about half a gigabyte
	longest = 80 // bytes of a folder's path: PostgreSQL's socket in it must stay under 107
)

// slot is the right to use one server's folder, kept by a lock that ends with the process.
type slot struct {
	dir     string
	own     bool // the folder is this package's, not one that DirVariable names
	lock    *os.File
	scripts string
}

// takeSlot takes the first slot that is free. When all are taken it waits for the first one.
func takeSlot() (*slot, error) {
	candidates := []slot{{dir: os.Getenv(DirVariable)}}
	if candidates[0].dir == "" {
		base := filepath.Join(os.TempDir(), "liaison-rt5-"+strconv.Itoa(os.Getuid()))
		if err := privateDir(base); err != nil {
			return nil, err
		}
		candidates = candidates[:0]
		for n := range slots {
			candidates = append(candidates, slot{dir: filepath.Join(base, strconv.Itoa(n)), own: true})
		}
	}
	for _, c := range candidates {
		if err := c.take(syscall.LOCK_EX | syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
			return &c, err
		}
	}
	first := candidates[0]
	return &first, first.take(syscall.LOCK_EX)
}

func (s *slot) take(how int) (err error) {
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return fmt.Errorf("%s: %w", DirVariable, err)
	}
	if err := reachable(s.dir); err != nil {
		return err
	}
	if s.lock, err = lockFile(s.dir+".lock", how); err != nil {
		return err
	}
	if s.scripts, err = os.MkdirTemp("", "liaison-rt5-scripts-"); err == nil {
		err = unpack(s.scripts)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("unpacking the scripts: %w", err), s.free())
	}
	return nil
}

// free gives the slot back. What is installed in it stays.
func (s *slot) free() error {
	return errors.Join(os.RemoveAll(s.scripts), s.lock.Close())
}

// install makes the slot's folder ready, from the packages on. It takes a fraction of a second when that was
// done before by the same scripts.
func (s *slot) install(ctx context.Context) error {
	// apt-get, and the files that keep services from starting, are for one at a time.
	lock, err := lockFile(filepath.Join(filepath.Dir(s.dir), "install.lock"), syscall.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()

	version, err := scriptsVersion()
	if err != nil {
		return err
	}
	stamp := s.dir + ".version"
	if old, err := os.ReadFile(stamp); s.own && (err != nil || string(old) != version) {
		// Made by other scripts, or given up half-way.
		if _, err := s.run(ctx, nil, "stop", s.dir, "--purge"); err != nil {
			return err
		}
	}
	if _, err := s.run(ctx, nil, "install", s.dir); err != nil {
		return fmt.Errorf("%w\nRequest Tracker comes from Debian 12's packages: run these tests there, as root or with sudo that asks nothing", err)
	}
	return os.WriteFile(stamp, []byte(version), 0o644)
}

// run calls one of the scripts with additional variables and returns what it printed.
func (s *slot) run(ctx context.Context, env []string, script string, args ...string) ([]byte, error) {
	words := append([]string{"env"}, env...) // sudo passes no variables on
	words = append(words, filepath.Join(s.scripts, script))
	out, err := s.asRoot(ctx, nil, append(words, args...)...)
	if err != nil {
		return nil, fmt.Errorf("script %s: %w", script, err)
	}
	return out, nil
}

// asRoot calls a program as root, through sudo when this process is not.
func (s *slot) asRoot(ctx context.Context, stdin io.Reader, words ...string) ([]byte, error) {
	if os.Getuid() != 0 {
		words = append([]string{"sudo", "-n"}, words...)
	}
	cmd, stdout, stderr := command(ctx, words[0], words[1:]...)
	cmd.Stdin = stdin
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s as root, for %s: %w\n%s", strings.Join(words, " "), s.dir, err, tail(stdout.String()+stderr.String()))
	}
	return stdout.Bytes(), nil
}

// tail keeps the last lines of a program's output, which is where its reason stands.
func tail(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

func unpack(dir string) error {
	entries, err := scripts.ReadDir(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		text, err := scripts.ReadFile(e.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), text, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// scriptsVersion names what is installed: it changes with install and seed.pl.
func scriptsVersion() (string, error) {
	sum := sha256.New()
	for _, name := range []string{"install", "seed.pl"} {
		text, err := scripts.ReadFile(name)
		if err != nil {
			return "", err
		}
		sum.Write(text)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
		}
	}
}

// privateDir makes dir, or checks that it belongs to this user: its name can be guessed, and programs are run
// as root by what lies in it.
func privateDir(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if !info.IsDir() || int(owner) != os.Getuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s must be a folder that only this user may write to; remove it, or set %s to another", dir, DirVariable)
	}
	return nil
}

// reachable checks what install would find out late: that Request Tracker's user can enter the folder and that
// a socket's path fits.
func reachable(dir string) error {
	if len(dir) > longest {
		return fmt.Errorf("%s is longer than %d bytes, too long for PostgreSQL's socket; set %s or TMPDIR to a shorter path", dir, longest, DirVariable)
	}
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("the user www-data cannot enter %s; set %s or TMPDIR to a folder it can reach, such as one in /tmp", parent, DirVariable)
		}
		if parent == filepath.Dir(parent) {
			return nil
		}
	}
}

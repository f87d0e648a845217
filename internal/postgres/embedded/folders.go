package embedded

import (
	"bytes"
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

// paths are the server's files. Only data and run belong to the server's user; what the hub writes lies in
// folders that user cannot write, so that no link planted there turns a root hub's pen elsewhere.
type paths struct {
	hub        string // the data directory
	home       string // postgres/
	data       string // the cluster
	unfinished string // the cluster while it is being made
	run        string // the socket
	elsewhere  string // names the socket's folder when it is not run
	password   string
	log        string
}

func pathsUnder(dir string) paths {
	home := filepath.Join(dir, "postgres")
	return paths{
		hub: dir, home: home,
		data: filepath.Join(home, "data"), unfinished: filepath.Join(home, "data.unfinished"),
		run: filepath.Join(home, "run"), elsewhere: filepath.Join(home, "socket"),
		password: filepath.Join(home, "password"), log: filepath.Join(home, "log"),
	}
}

// prepareFolders finds the account and makes the folders it needs.
func (s *Server) prepareFolders() (err error) {
	if s.account, err = serverAccount(s.opts.User, s.paths.data); err != nil {
		return err
	}
	// Another user must be able to pass through, though not to look around.
	mode := fs.FileMode(0o700)
	if s.account != nil {
		mode = 0o711
	}
	for _, dir := range []string{s.paths.hub, s.paths.home} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("data directory: %w (set LIAISON_DATA_DIR to a folder that can be written, for example /var/lib/liaison)", err)
		}
		if s.account == nil {
			continue
		}
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		if missing := mode &^ info.Mode().Perm(); missing != 0 {
			if err := os.Chmod(dir, info.Mode().Perm()|mode); err != nil {
				return fmt.Errorf("data directory: %w", err)
			}
		}
	}
	if s.account != nil {
		if err := s.account.canReach(s.paths.home); err != nil {
			return err
		}
	}
	return s.ownFolder(s.paths.run)
}

// ownFolder makes a folder that only the server's user can enter.
func (s *Server) ownFolder(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("data directory: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("data directory: %s is not a folder", dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return s.account.own(dir)
}

// lockFolder keeps a second hub away. The kernel frees the lock when the process ends, however it ends.
func lockFolder(dir string) (*os.File, error) {
	name := filepath.Join(dir, "hub.lock")
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer file.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", name, err)
		}
		holder := "another process"
		if pid := firstNumber(file); pid > 0 {
			holder = fmt.Sprintf("process %d", pid)
		}
		return nil, &InUseError{Dir: dir, Holder: holder}
	}
	err = file.Truncate(0)
	if err == nil {
		_, err = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	return file, nil
}

// InUseError tells that another hub lives on the data directory.
type InUseError struct {
	Dir    string
	Holder string // "process 4711"
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("data directory %s is in use by %s: stop that one, or set LIAISON_DATA_DIR to another folder", e.Dir, e.Holder)
}

func firstNumber(r io.Reader) int {
	text, _ := io.ReadAll(io.LimitReader(r, 64))
	line, _, _ := strings.Cut(string(text), "\n")
	number, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0
	}
	return number
}

// prepareSocket chooses the socket's folder. The kernel keeps a socket's path in a short fixed field.
func (s *Server) prepareSocket() error {
	// What a killed hub left in the temporary folder. The name is the hub's own writing.
	if old, err := os.ReadFile(s.paths.elsewhere); err == nil {
		if dir := strings.TrimSpace(string(old)); strings.HasPrefix(filepath.Base(dir), "liaison-pg-") {
			os.RemoveAll(dir)
		}
		os.Remove(s.paths.elsewhere)
	}
	longest := len(syscall.RawSockaddrUnix{}.Path) - 1 // 107 bytes on Linux
	fits := func(dir string) bool { return len(filepath.Join(dir, ".s.PGSQL."+port)) <= longest }
	if fits(s.paths.run) {
		s.socket = s.paths.run
		return nil
	}
	temp := os.TempDir()
	if !fits(filepath.Join(temp, "liaison-pg-1234567890")) {
		temp = "/tmp"
	}
	dir, err := os.MkdirTemp(temp, "liaison-pg-")
	if err != nil {
		return fmt.Errorf("making a folder for the socket: %w", err)
	}
	if err := errors.Join(s.account.own(dir), os.WriteFile(s.paths.elsewhere, []byte(dir+"\n"), 0o600)); err != nil {
		os.RemoveAll(dir)
		return fmt.Errorf("making a folder for the socket: %w", err)
	}
	if s.account != nil {
		if err := s.account.canReach(temp); err != nil {
			os.RemoveAll(dir)
			return err
		}
	}
	s.socket = dir
	return nil
}

func (s *Server) removeSocket() {
	if s.socket != "" && s.socket != s.paths.run {
		os.RemoveAll(s.socket)
		os.Remove(s.paths.elsewhere)
	}
}

// openLog opens the log to append to, putting a large one aside, and tells where the new lines begin.
func openLog(path string) (*os.File, int64, error) {
	const large = 10 << 20
	if info, err := os.Stat(path); err == nil && info.Size() > large {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, 0, fmt.Errorf("putting the server's old log aside: %w", err)
		}
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("opening the server's log: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, 0, fmt.Errorf("opening the server's log: %w", err)
	}
	return file, info.Size(), nil
}

// logTail is the last few lines that the server wrote after offset, to go with an error.
func logTail(path string, offset int64) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	text, _ := io.ReadAll(io.NewSectionReader(file, offset, 64<<10))
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(lines) > 12 {
		lines = lines[len(lines)-12:]
	}
	tail := string(bytes.Join(lines, []byte("\n  ")))
	if tail == "" {
		return " (its log " + path + " says nothing)"
	}
	return "; its log " + path + " ends with:\n  " + tail
}

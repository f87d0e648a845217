package servicenowtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

const (
	logName         = "records.jsonl"
	attachmentsName = "attachments"
)

// changeLog is the append-only file of a store: one JSON array of ops per line and transaction. A nil log stores
// nothing.
type changeLog struct {
	file *os.File
	lock *os.File
	dir  string
}

// openLog takes the directory, replays its log into the store and drops a last line that a crash cut short.
func openLog(dir string, s *store) (*changeLog, error) {
	if err := os.MkdirAll(filepath.Join(dir, attachmentsName), 0o700); err != nil {
		return nil, fmt.Errorf("making the ticket directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the ticket directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("directory %s is in use by another simulator: stop it or choose another directory", dir), lock.Close())
	}
	l := &changeLog{lock: lock, dir: dir}
	if err := l.open(s); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return l, nil
}

func (l *changeLog) open(s *store) error {
	path := filepath.Join(l.dir, logName)
	good, lines, err := replay(path, s)
	if err != nil {
		return err
	}
	if lines > 1000 && lines > 2*s.size() {
		if good, err = rewrite(path, s); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the ticket log: %w", err)
	}
	if err := f.Truncate(good); err != nil {
		return errors.Join(fmt.Errorf("cutting the ticket log to its last whole line: %w", err), f.Close())
	}
	if _, err := f.Seek(good, io.SeekStart); err != nil {
		return errors.Join(fmt.Errorf("opening the ticket log: %w", err), f.Close())
	}
	l.file = f
	return nil
}

// replay reads the log and tells the length of its whole lines and their number.
func replay(path string, s *store) (good int64, lines int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("reading the ticket log: %w", err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // a line without its end was never acknowledged
			return good, lines, nil
		}
		if err != nil {
			return 0, 0, fmt.Errorf("reading the ticket log: %w", err)
		}
		lines++
		var ops []op
		if err := json.Unmarshal(line, &ops); err != nil {
			return 0, 0, fmt.Errorf("%s:%d: not a change: %w; move the file away to start empty", path, lines, err)
		}
		for _, o := range ops {
			if err := s.apply(o); err != nil {
				return 0, 0, fmt.Errorf("%s:%d: %w", path, lines, err)
			}
		}
		good += int64(len(line))
	}
}

// rewrite replaces the log by one line per row, so that it does not grow without end. A crash leaves the old or the
// new file, never a part.
func rewrite(path string, s *store) (int64, error) {
	var out bytes.Buffer
	write := func(o op) error {
		line, err := json.Marshal([]op{o})
		if err == nil {
			out.Write(append(line, '\n'))
		}
		return err
	}
	for _, o := range s.dump() {
		if err := write(o); err != nil {
			return 0, fmt.Errorf("rewriting the ticket log: %w", err)
		}
	}
	if err := writeWhole(path, &out); err != nil {
		return 0, fmt.Errorf("rewriting the ticket log: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, fmt.Errorf("rewriting the ticket log: %w", err)
	}
	return info.Size(), nil
}

// writeWhole makes a file appear at path complete or not at all.
func writeWhole(path string, from io.Reader) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(tmp, from)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

func (s *store) size() int {
	n := 0
	for _, t := range s.tables {
		n += len(t.rows)
	}
	return n
}

func (s *store) dump() []op {
	var out []op
	for name, n := range s.counters {
		out = append(out, op{Counter: name, Number: n})
	}
	for name, t := range s.tables {
		for _, id := range t.order {
			out = append(out, op{Table: name, ID: id, Values: t.rows[id].vals, Born: t.rows[id].born})
		}
	}
	return out
}

// append stores one transaction as one line in one write. After a write that failed half way the file is cut back, so
// that the next line starts clean.
func (l *changeLog) append(ops []op) error {
	if l == nil {
		return nil
	}
	if l.file == nil {
		return os.ErrClosed
	}
	line, err := json.Marshal(ops)
	if err != nil {
		return err
	}
	if _, err := l.file.Write(append(line, '\n')); err != nil {
		return errors.Join(err, l.cutBack())
	}
	return nil
}

func (l *changeLog) cutBack() error {
	data, err := os.ReadFile(l.file.Name())
	if err != nil {
		return err
	}
	good := int64(bytes.LastIndexByte(data, '\n') + 1)
	if err := l.file.Truncate(good); err != nil {
		return err
	}
	_, err = l.file.Seek(good, io.SeekStart)
	return err
}

func (l *changeLog) close() error {
	if l == nil || l.file == nil {
		return nil
	}
	err := errors.Join(l.file.Sync(), l.file.Close(), l.lock.Close())
	l.file = nil
	return err
}

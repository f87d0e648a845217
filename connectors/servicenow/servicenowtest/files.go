package servicenowtest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

var errTooLarge = errors.New("attachment too large")

// fileStore keeps the bytes of attachments by sys_id.
type fileStore interface {
	save(id string, body io.Reader, limit int64) (fileInfo, error)
	open(id string) (io.ReadCloser, error)
	remove(id string) error
}

type fileInfo struct {
	size int64
	hash string // SHA-256, hex
}

// measured copies a body, counts and hashes it, and stops past the limit.
func measured(to io.Writer, body io.Reader, limit int64) (fileInfo, error) {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), io.LimitReader(body, limit+1))
	if err == nil && n > limit {
		err = errTooLarge
	}
	return fileInfo{n, hex.EncodeToString(sum.Sum(nil))}, err
}

// memoryFiles keeps attachments in memory.
type memoryFiles struct {
	mu    sync.Mutex
	bytes map[string][]byte
}

func newMemoryFiles() *memoryFiles { return &memoryFiles{bytes: map[string][]byte{}} }

func (m *memoryFiles) save(id string, body io.Reader, limit int64) (fileInfo, error) {
	var b bytes.Buffer
	info, err := measured(&b, body, limit)
	if err != nil {
		return info, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes[id] = b.Bytes()
	return info, nil
}

func (m *memoryFiles) open(id string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.bytes[id]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m *memoryFiles) remove(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.bytes, id)
	return nil
}

// diskFiles keeps attachments in a folder, each in a file that appears whole or not at all.
type diskFiles string

func (d diskFiles) path(id string) string { return filepath.Join(string(d), attachmentsName, id) }

func (d diskFiles) save(id string, body io.Reader, limit int64) (fileInfo, error) {
	tmp, err := os.CreateTemp(filepath.Dir(d.path(id)), ".new-*")
	if err != nil {
		return fileInfo{}, err
	}
	info, err := measured(tmp, body, limit)
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), d.path(id))
	}
	if err != nil {
		return info, errors.Join(err, os.Remove(tmp.Name()))
	}
	return info, nil
}

func (d diskFiles) open(id string) (io.ReadCloser, error) { return os.Open(d.path(id)) }

func (d diskFiles) remove(id string) error { return os.Remove(d.path(id)) }

//go:build e2e

package failpoints_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain removes the program that the tests built.
func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // a folder of the temporary folder: the system clears it away at the latest
	}
	os.Exit(code)
}

var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// program builds the hub with its fail points, once.
func program(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "liaison-failpoints-"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "liaison")
		out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-tags", "failpoints", "-o", built.path, "liaison/cmd/liaison").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("building the program with fail points: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// starter starts programs from one thread that never ends: the kernel kills them when that thread is gone, which is
// when the test binary has ended in whatever way.
var starter = sync.OnceValue(func() chan<- func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// output keeps what a hub says and tells the address that it says it is ready on.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	ready chan string
	told  bool
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.text.Write(p)
	if _, rest, found := strings.Cut(o.text.String(), "is ready on "); found && !o.told && strings.Contains(rest, "\n") {
		o.told = true
		o.ready <- strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0])
	}
	return n, err
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// hub is one run of the program.
type hub struct {
	url    string
	cmd    *exec.Cmd
	stderr *output
	ended  chan struct{} // closed when it has ended
}

// startHub starts a hub and waits until it is ready.
func startHub(home string, path string, env []string) (*hub, error) {
	stdout := &output{ready: make(chan string, 1)}
	h := &hub{cmd: exec.Command(path, "serve", "--config", filepath.Join(home, "liaison.yaml")), stderr: &output{ready: make(chan string, 1)}, ended: make(chan struct{})}
	h.cmd.Dir, h.cmd.Stdout, h.cmd.Stderr = home, stdout, h.stderr
	h.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}, env...)
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	h.cmd.WaitDelay = 10 * time.Second
	started := make(chan error)
	starter() <- func() { started <- h.cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	go func() {
		_ = h.cmd.Wait() // the exit code tells
		close(h.ended)
	}()
	select {
	case h.url = <-stdout.ready:
		return h, nil
	case <-h.ended:
		return nil, fmt.Errorf("the hub ended at once, exit code %d:\n%s", h.cmd.ProcessState.ExitCode(), h.stderr)
	case <-time.After(time.Minute):
		return nil, errors.Join(errors.New("the hub is not ready after a minute"), h.cmd.Process.Kill())
	}
}

// kill ends a hub that is of no more use.
func (h *hub) kill() {
	_ = h.cmd.Process.Kill() // it may have ended by itself
	<-h.ended
}

// errorLines are the lines of a log that tell of something that must not happen.
func (h *hub) errorLines() []string {
	var out []string
	for line := range strings.Lines(h.stderr.String()) {
		if strings.Contains(line, "level=ERROR") || strings.HasPrefix(line, "panic:") || strings.Contains(line, "lost the lane") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

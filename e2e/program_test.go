//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMain removes the binary that the tests built.
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

// binary builds the program, once for all tests, unless LIAISON_E2E_BINARY names one to be tested.
func binary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.path = os.Getenv("LIAISON_E2E_BINARY"); built.path != "" {
			return
		}
		// Not t.TempDir: it ends with the first test, and the program is also run by another user.
		if built.dir, built.err = os.MkdirTemp("", "liaison-e2e-bin-"); built.err != nil {
			return
		}
		if built.err = os.Chmod(built.dir, 0o755); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "liaison")
		out, err := exec.Command("go", "build", "-buildvcs=false", "-o", built.path, "liaison/cmd/liaison").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("building the program: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// folder makes a folder that other users can enter (Postgres's own has to) under a path short enough for a socket.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "liaison-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("LIAISON_TEST_KEEP") != "" {
			t.Logf("kept: %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the test's folder: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

var ports struct {
	sync.Mutex
	next int
}

// freePorts returns n free ports in a row, below those from which the system takes the local ends of connections:
// a port between two runs of a hub stays free.
func freePorts(t *testing.T, n int) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.next == 0 {
		ports.next = 15000 + rand.N(10000)
	}
	for range 200 {
		first := ports.next
		ports.next += n
		free := true
		for port := first; port < first+n; port++ {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
			if err != nil {
				free = false
				break
			}
			l.Close()
		}
		if free {
			return first
		}
	}
	t.Fatal("no free ports between 15000 and 25000")
	return 0
}

// output keeps what a program writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// command is a run of the program.
type command struct {
	args    []string
	env     []string            // beside PATH and HOME
	home    string              // default: a fresh folder; also the working folder
	user    *syscall.Credential // default: the test's own
	secrets []string            // that no output may hold
}

// process is a program that was started.
type process struct {
	t       *testing.T
	command command
	cmd     *exec.Cmd
	stdout  *output
	stderr  *output
	ended   chan struct{}
	err     error // set when ended is closed
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

func start(t *testing.T, c command) *process {
	t.Helper()
	if c.home == "" {
		c.home = folder(t)
	}
	p := &process{t: t, command: c, cmd: exec.Command(binary(t), c.args...), stdout: &output{}, stderr: &output{}, ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = c.home, p.stdout, p.stderr
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.home}, c.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: c.user}
	p.cmd.WaitDelay = 10 * time.Second
	started := make(chan error)
	starter() <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		t.Fatalf("starting liaison %s: %v", strings.Join(c.args, " "), err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		if !p.over() {
			p.kill()
		}
		for _, secret := range c.secrets {
			if strings.Contains(p.stderr.String()+p.stdout.String(), secret) {
				t.Errorf("liaison %s printed the secret %q", strings.Join(c.args, " "), secret)
			}
		}
		if t.Failed() {
			t.Logf("liaison %s (process %d) logged:\n%s", strings.Join(c.args, " "), p.cmd.Process.Pid, tail(p.stderr.String(), 25))
		}
	})
	return p
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("sending %s to process %d: %v", s, p.cmd.Process.Pid, err)
	}
}

// wait waits for the end and returns the exit code; -1 is an end by a signal.
func (p *process) wait(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(within):
		p.signal(syscall.SIGQUIT) // has Go print its goroutines
		select {
		case <-p.ended:
		case <-time.After(10 * time.Second):
		}
		p.t.Fatalf("liaison %s did not end within %s:\n%s", strings.Join(p.command.args, " "), within, tail(p.stderr.String(), 200))
	}
	return p.cmd.ProcessState.ExitCode()
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.ended
}

// run runs the program to its end.
func run(t *testing.T, c command) (stdout, stderr string, code int) {
	t.Helper()
	p := start(t, c)
	code = p.wait(2 * time.Minute)
	return p.stdout.String(), p.stderr.String(), code
}

// hub is a running hub, which can be ended and started again.
type hub struct {
	*process
	t    *testing.T
	addr string
	url  string // http://addr
	// provoked are parts of the error-level log lines that the test itself causes; any other fails it.
	provoked []string
}

// startHub starts a hub that will listen on addr, waits until it is ready and ends it with the test.
func startHub(t *testing.T, addr string, c command) *hub {
	t.Helper()
	h := &hub{t: t, addr: addr, url: "http://" + addr}
	if c.home == "" {
		c.home = folder(t)
	}
	h.start(c)
	t.Cleanup(func() {
		if !h.over() {
			h.stop()
		}
	})
	return h
}

func (h *hub) start(c command) {
	h.t.Helper()
	h.process = start(h.t, c)
	eventually(h.t, time.Minute, "the hub is ready", func() error {
		if h.over() {
			h.t.Fatalf("the hub ended at once, exit code %d:\n%s", h.cmd.ProcessState.ExitCode(), tail(h.stderr.String(), 30))
		}
		status, body, err := get(h.t, h.url+"/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("/readyz answers %d %s", status, body)
		}
		return err
	})
}

// again starts the hub that was ended, as it was.
func (h *hub) again() {
	h.t.Helper()
	h.start(h.command)
}

// stop ends the hub as its operators do, and looks at what it logged.
func (h *hub) stop() { h.t.Helper(); h.stopBy(syscall.SIGTERM) }

func (h *hub) stopBy(s syscall.Signal) {
	h.t.Helper()
	h.signal(s)
	if code := h.wait(time.Minute); code != 0 {
		h.t.Errorf("after %s the hub ended with exit code %d, want 0:\n%s", s, code, tail(h.stderr.String(), 20))
	}
	h.checkLog()
}

// kill ends the hub as kill -9 does, and looks at what it had logged by then.
func (h *hub) kill() {
	h.t.Helper()
	h.process.kill()
	h.checkLog()
}

func (h *hub) checkLog() {
	h.t.Helper()
lines:
	for line := range strings.Lines(h.stderr.String()) {
		// One hub alone never loses a lane to another.
		if !strings.Contains(line, "level=ERROR") && !strings.HasPrefix(line, "panic:") && !strings.Contains(line, "lost the lane") {
			continue
		}
		for _, part := range h.provoked {
			if strings.Contains(line, part) {
				continue lines
			}
		}
		h.t.Errorf("the hub logged an error: %s", line)
	}
}

// pause is how often a condition is looked at.
const pause = 20 * time.Millisecond

// eventually looks again and again until check returns no error, and fails with its last one after the time given.
func eventually(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	if err := await(t.Context(), within, check); err != nil {
		t.Fatalf("not within %s: %s: %v", within, what, err)
	}
}

func await(ctx context.Context, within time.Duration, check func() error) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	deadline := time.After(within)
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline:
			return err
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// client is what all plain requests go through: nothing here takes longer.
var client = &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func get(t *testing.T, url string) (status int, body string, err error) {
	t.Helper()
	return request(t, http.MethodGet, url, "", nil)
}

func request(t *testing.T, method, url, body string, header map[string]string) (status int, answer string, err error) {
	t.Helper()
	// Not the test's context: it is over while the test's cleanups still look around.
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

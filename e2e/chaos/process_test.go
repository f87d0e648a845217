//go:build chaos

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"liaison/internal/postgres/embedded"
)

// starter starts programs from one thread that never ends: the kernel kills them when that thread is gone, which is when
// the test binary has ended in whatever way.
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

// hub is one hub process, which is killed and started again.
type hub struct {
	name   string
	path   string // of the program
	config string
	env    []string
	log    string // its log, all lives in one file
	front  *wire  // how people, subscribers and vendors reach it

	mu      sync.Mutex
	cmd     *exec.Cmd
	ended   chan struct{}
	wanted  bool
	readyAt time.Time

	starts, kills, leftEarly, died atomic.Int64
}

func (h *hub) url() string { return "http://" + h.front.address() }

// start starts the process and watches it: one that ends unasked is started again, as a service manager does.
func (h *hub) start() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wanted = true
	return h.launch()
}

func (h *hub) launch() error {
	out, err := os.OpenFile(h.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(h.path, "serve", "--config", h.config)
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Dir(h.config), out, out
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(h.config)}, h.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	fmt.Fprintf(out, "=== started at %s\n", time.Now().UTC().Format(time.RFC3339Nano))
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return fmt.Errorf("starting %s: %w", h.name, err)
	}
	h.cmd, h.ended = cmd, make(chan struct{})
	h.starts.Add(1)
	go h.watch(cmd, h.ended)
	return nil
}

func (h *hub) watch(cmd *exec.Cmd, ended chan struct{}) {
	began := time.Now()
	_ = cmd.Wait() // how it ended shows in its state and its log
	close(ended)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.wanted || h.cmd != cmd {
		return
	}
	// A hub may refuse to start while its database is away. One that has served must not end by itself.
	if h.readyAt.After(began) {
		h.died.Add(1)
	} else {
		h.leftEarly.Add(1)
	}
	time.AfterFunc(500*time.Millisecond, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.wanted && h.cmd == cmd {
			_ = h.launch() // tried again when this one ends
		}
	})
}

// kill ends the process as kill -9 does.
func (h *hub) kill() {
	h.mu.Lock()
	h.wanted = false
	cmd, ended := h.cmd, h.ended
	h.mu.Unlock()
	h.kills.Add(1)
	_ = cmd.Process.Kill() // it may have ended already
	<-ended
}

func (h *hub) signal(s syscall.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.cmd.Process.Signal(s) // it may have ended already
}

// stop ends the process in order, and says how that went.
func (h *hub) stop() error {
	h.mu.Lock()
	h.wanted = false
	cmd, ended := h.cmd, h.ended
	h.mu.Unlock()
	if cmd == nil {
		return nil
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-ended:
		if code := cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("%s ended with exit code %d after SIGTERM, want 0; its log is %s", h.name, code, h.log)
		}
		return nil
	case <-time.After(40 * time.Second):
		_ = cmd.Process.Kill() // the last resort
		<-ended
		return fmt.Errorf("%s did not end within 40 s of SIGTERM; its log is %s", h.name, h.log)
	}
}

// ready waits until the hub answers that it is, past the front wire.
func (h *hub) ready(ctx context.Context, direct string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+direct+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				h.mu.Lock()
				h.readyAt = time.Now()
				h.mu.Unlock()
				return nil
			}
			err = fmt.Errorf("/readyz answers %d", res.StatusCode)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", h.name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// complaints are the log's lines that a hub must not write in whatever weather.
func (h *hub) complaints() []string {
	text, err := os.ReadFile(h.log)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.Contains(line, "DATA RACE") || strings.Contains(line, "panicked") {
			out = append(out, h.name+": "+strings.TrimSpace(line))
		}
	}
	return out
}

// database is a PostgreSQL server, and a TCP address for it: toxiproxy knows no Unix sockets.
type database struct {
	server   *embedded.Server
	listener net.Listener
	socket   string
	pool     *pgxpool.Pool // the checker's own, past all wires and rights
	kills    atomic.Int64
}

func startDatabase(t *testing.T, dir string) *database {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatalf("starting PostgreSQL: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stopping PostgreSQL: %v", err)
		}
	})
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	d := &database{server: server, socket: filepath.Join(u.Query().Get("host"), ".s.PGSQL."+u.Query().Get("port"))}
	if d.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.listener.Close() })
	go d.forward()
	if d.pool, err = pgxpool.New(t.Context(), server.SuperuserURL("liaison")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.pool.Close)
	return d
}

func (d *database) forward() {
	for {
		from, err := d.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("unix", d.socket)
		if err != nil {
			from.Close()
			continue
		}
		for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
			go func() {
				_, _ = io.Copy(way[0], way[1]) // its end is the news
				way[0].Close()
				way[1].Close()
			}()
		}
	}
}

// url is the login role's address by way of a wire.
func (d *database) url(by *wire) string {
	u, err := url.Parse(d.server.URL())
	if err != nil {
		panic(err) // it was parsed at the start
	}
	u.Host, u.RawQuery = by.address(), "sslmode=disable"
	return u.String()
}

// kill ends the server as kill -9 does; it is started again within seconds.
func (d *database) kill() {
	if pid := d.server.PID(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended already
		d.kills.Add(1)
	}
}

// insist repeats what reads the tables while PostgreSQL is away.
func insist[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the tables could not be read for a minute"))
	defer cancel()
	for {
		got, err := ask(ctx)
		if err == nil {
			return got, nil
		}
		select {
		case <-ctx.Done():
			return got, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

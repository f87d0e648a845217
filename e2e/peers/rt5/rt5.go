package rt5

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// User is one of the seeded users. What each may do is told in seed.pl.
type User struct {
	Name     string
	Password string
	Token    string // for "Authorization: token …"; only the users Hub and Alice have one
}

// Server is a running Request Tracker 5.
type Server struct {
	URL string // such as http://127.0.0.1:40123, without a slash at the end; the same after Restart
	Dir string // what the server writes: log/server.log, log/rt.log, var/*.mbox

	Hub      User // the connector's user: sees and works in all queues but Private, and may not delete
	Alice    User // an agent
	Bob      User // an agent
	Tomo     User // an agent whose own time zone is Asia/Tokyo
	Outsider User // may sign in and see nothing
	Carol    User // a requestor without privileges
	Root     User // may do everything

	WebhookSecret string // what a call's signature is made with

	slot    *slot
	port    int
	options Options
}

// Options change how a server is started. The zero value is ready to use.
type Options struct {
	// Timezone is the server's own zone, in which it reads dates for users who have none: default UTC.
	Timezone string
	// Workers is the number of requests served at once: default 3. Each takes about 130 MB of memory.
	Workers int
}

// Start opens a server for a test and closes it when the test ends. It fails the test when there is none to be
// had, with the reason and the remedy.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	s, err := Open(t.Context(), options)
	if err != nil {
		t.Fatalf("starting Request Tracker: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Request Tracker's logs are in %s, until the next start", filepath.Join(s.Dir, "log"))
		}
		if err := s.Close(); err != nil {
			t.Errorf("closing Request Tracker: %v", err)
		}
	})
	return s
}

// Open installs what is missing and starts a server with the seeded database. Close must follow; cancelling ctx
// ends only the start itself. It waits, without a limit of its own, while all slots are taken.
func Open(ctx context.Context, options Options) (_ *Server, err error) {
	slot, err := takeSlot()
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: slot.dir, slot: slot, options: options}
	defer func() {
		if err != nil { // then the caller has nothing to close
			err = errors.Join(err, s.Close())
		}
	}()
	if err := slot.install(ctx); err != nil {
		return nil, err
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	if err := s.Fresh(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Close stops the server and frees its slot. The installed folder stays for the next start.
func (s *Server) Close() error {
	// A test's context is done by now, and the server has to end all the same.
	ctx, cancel := context.WithTimeoutCause(context.Background(), time.Minute, errors.New("Request Tracker did not stop within a minute"))
	defer cancel()
	return errors.Join(s.Stop(ctx), s.slot.free())
}

// Stop ends the server and its database. What they hold stays for Restart. Stopping twice is no error.
func (s *Server) Stop(ctx context.Context) error {
	_, err := s.slot.run(ctx, nil, "stop", s.Dir)
	return err
}

// Restart starts the server again with the data and the port it had. A running one is stopped first.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	return s.start(ctx)
}

// Fresh starts the server with the seeded database and without a webhook: everything since is forgotten. A
// running one is stopped first. Ticket ids begin at 1 again, and the port stays.
func (s *Server) Fresh(ctx context.Context) error {
	return s.start(ctx, "--fresh")
}

// SetWebhook makes the server call url for each change from now on; an empty url ends that. No restart is
// needed, and Restart keeps it.
func (s *Server) SetWebhook(ctx context.Context, url string) error {
	file := filepath.Join(s.Dir, "var", "webhook.url")
	if url == "" {
		_, err := s.slot.asRoot(ctx, nil, "rm", "-f", file)
		return err
	}
	// Under a name of its own first: a request that is being served must not read half an address.
	if _, err := s.slot.asRoot(ctx, strings.NewReader(url+"\n"), "tee", file+".new"); err != nil {
		return err
	}
	_, err := s.slot.asRoot(ctx, nil, "mv", file+".new", file)
	return err
}

func (s *Server) start(ctx context.Context, flags ...string) error {
	env := []string{"RT_PORT=" + strconv.Itoa(s.port)}
	if s.options.Timezone != "" {
		env = append(env, "RT_TIMEZONE="+s.options.Timezone)
	}
	if s.options.Workers != 0 {
		env = append(env, "RT_WORKERS="+strconv.Itoa(s.options.Workers))
	}
	out, err := s.slot.run(ctx, env, "start", append([]string{s.Dir}, flags...)...)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return s.readEnv(lines[len(lines)-1])
}

// readEnv takes over the address, the users and the secrets from the file that the script start names.
func (s *Server) readEnv(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading what start wrote: %w", err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[name] = value
		}
	}
	s.URL, s.WebhookSecret = values["RT_URL"], values["RT_WEBHOOK_SECRET"]
	for name, user := range map[string]*User{
		"HUB": &s.Hub, "ALICE": &s.Alice, "BOB": &s.Bob, "TOMO": &s.Tomo, "OUTSIDER": &s.Outsider, "CAROL": &s.Carol, "ROOT": &s.Root,
	} {
		*user = User{Name: values["RT_"+name+"_USER"], Password: values["RT_"+name+"_PASS"], Token: values["RT_"+name+"_TOKEN"]}
		if user.Name == "" || user.Password == "" {
			return fmt.Errorf("%s names no user or password for %s", path, name)
		}
	}
	if s.URL == "" || s.WebhookSecret == "" || s.Hub.Token == "" || s.Alice.Token == "" {
		return fmt.Errorf("%s lacks one of RT_URL, RT_WEBHOOK_SECRET, RT_HUB_TOKEN, RT_ALICE_TOKEN", path)
	}
	return nil
}

// freePort returns a loopback port that nobody listens on at this moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// command makes a command whose children may outlive it: a server that start leaves behind must not hold up
// the reading of its output.
func command(ctx context.Context, name string, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	cmd = exec.CommandContext(ctx, name, args...)
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// The scripts tidy up when they are asked to end; they could not after SIGKILL.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd, stdout, stderr
}

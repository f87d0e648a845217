package servicenowtest_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"liaison/connectors/servicenow/servicenowtest"
)

// serveDir makes the test binary a simulator in its own process, for the tests that kill it.
const serveDir = "SERVICENOWTEST_SERVE_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveDir); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serve(dir string) error {
	s, err := servicenowtest.New(servicenowtest.Config{Dir: dir})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(os.Stdout, "http://"+l.Addr().String()); err != nil {
		return err
	}
	return http.Serve(l, s)
}

// startProcess runs a simulator on a directory and gives its address.
func startProcess(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	exe, err := os.Executable()
	mustDo(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), serveDir+"="+dir)
	out, err := cmd.StdoutPipe()
	mustDo(t, err)
	mustDo(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	mustDo(t, err)
	return cmd, strings.TrimSpace(line)
}

// A kill -9 loses nothing that was acknowledged: Config.Dir.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := map[string]bool{}
	for round := range 3 {
		cmd, base := startProcess(t, dir)
		c := &client{t: t, base: base, user: "sim", http: http.DefaultClient}
		var mu sync.Mutex
		var wg sync.WaitGroup
		enough := make(chan struct{})
		var once sync.Once
		for w := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					body := fmt.Sprintf(`{"short_description":"r%d w%d n%d","comments":"c"}`, round, w, i)
					res, err := c.http.Do(c.request("POST", "/api/now/table/incident", body))
					if err != nil {
						return // killed
					}
					_ = res.Body.Close()
					if res.StatusCode != http.StatusCreated {
						t.Errorf("status %d", res.StatusCode)
						return
					}
					mu.Lock()
					acked[fmt.Sprintf("r%d w%d n%d", round, w, i)] = true
					n := len(acked)
					mu.Unlock()
					if n > 60*(round+1) {
						once.Do(func() { close(enough) })
					}
				}
			})
		}
		<-enough
		mustDo(t, cmd.Process.Kill())
		_ = cmd.Wait()
		wg.Wait()
	}
	s := servicenowtest.Start(t, servicenowtest.WithDir(dir))
	found, numbers := map[string]int{}, map[string]bool{}
	for _, ticket := range s.Tickets() {
		found[ticket.ShortDescription]++
		if numbers[ticket.Number] {
			t.Errorf("number %s was given twice", ticket.Number)
		}
		numbers[ticket.Number] = true
		if len(ticket.Comments) != 1 {
			t.Errorf("%s has %d comments, want the one of its own save", ticket.Number, len(ticket.Comments))
		}
	}
	for name := range acked {
		if found[name] != 1 {
			t.Errorf("acknowledged ticket %q is there %d times", name, found[name])
		}
	}
}

// A last line that a crash cut short was never acknowledged and is dropped; what follows starts clean.
func TestTornLineIsDropped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *servicenowtest.Server {
		s, err := servicenowtest.New(servicenowtest.Config{Dir: dir})
		mustDo(t, err)
		return s
	}
	s := open()
	first, err := s.Open(servicenowtest.Move{Title: "first"})
	mustDo(t, err)
	mustDo(t, s.Close())
	mustDo(t, s.Close())
	path := filepath.Join(dir, "records.jsonl")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	mustDo(t, err)
	_, err = f.WriteString(`[{"t":"incident","id":"ab` + strings.Repeat("c", 10000)) // longer than what is written next
	mustDo(t, err)
	mustDo(t, f.Close())

	s = open()
	if _, err := s.Act(first.Number, servicenowtest.Move{Comment: "after the crash"}); err != nil {
		t.Fatal(err)
	}
	mustDo(t, s.Close())
	s = open()
	defer s.Close()
	got := s.Tickets()
	if len(got) != 1 || len(got[0].Comments) != 1 || got[0].Comments[0].Value != "after the crash" {
		t.Errorf("tickets after the crash: %+v", got)
	}
	if _, err := servicenowtest.New(servicenowtest.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second server on one directory: %v, want a refusal", err)
	}
}

func TestAttachmentsAndSeedsSurviveReopening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := servicenowtest.Config{Dir: dir, SeedIncidents: 3}
	s, err := servicenowtest.New(cfg)
	mustDo(t, err)
	srv := httptest.NewServer(s)
	c := &client{t: t, base: srv.URL, user: "sim", http: srv.Client()}
	inc := c.create(`{}`)
	id := c.do("POST", "/api/now/attachment/file?table_name=incident&table_sys_id="+inc+"&file_name=a.txt", "hello", "Content-Type", "text/plain").
		want(201).record()["sys_id"].(string)
	srv.Close()
	mustDo(t, s.Close())

	s = servicenowtest.Start(t, servicenowtest.WithConfig(cfg))
	if got := newClient(t, s).get("/api/now/attachment/" + id + "/file").want(200).text; got != "hello" {
		t.Errorf("attachment = %q", got)
	}
	if n := len(s.Tickets()); n != 4 {
		t.Errorf("%d incidents, want 3 seeded once and 1 created", n)
	}
}

// The log is rewritten when it has grown far beyond what it holds, and loses nothing by it.
func TestLogIsRewritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := servicenowtest.New(servicenowtest.Config{Dir: dir})
	mustDo(t, err)
	ticket, err := s.Open(servicenowtest.Move{Title: "moved often"})
	mustDo(t, err)
	for i := range 1500 {
		_, err := s.Act(ticket.SysID, servicenowtest.Move{Title: fmt.Sprint("title ", i)})
		mustDo(t, err)
	}
	mustDo(t, s.Close())
	before, err := os.Stat(filepath.Join(dir, "records.jsonl"))
	mustDo(t, err)
	for range 2 {
		s, err = servicenowtest.New(servicenowtest.Config{Dir: dir})
		mustDo(t, err)
		if got := s.Tickets(); len(got) != 1 || got[0].ShortDescription != "title 1499" || got[0].SysModCount != "1500" {
			t.Errorf("tickets = %+v", got)
		}
		next, err := s.Open(servicenowtest.Move{Title: "x"})
		mustDo(t, err)
		if next.Number == ticket.Number {
			t.Errorf("number %s was given again", next.Number)
		}
		_ = newDelete(t, s, next.SysID)
		mustDo(t, s.Close())
	}
	after, err := os.Stat(filepath.Join(dir, "records.jsonl"))
	mustDo(t, err)
	if after.Size() > before.Size()/2 {
		t.Errorf("log has %d bytes after %d", after.Size(), before.Size())
	}
}

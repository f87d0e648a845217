//go:build e2e

package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// event is a line that the Node.js client prints.
type event struct {
	Name, Event string
	Data        json.RawMessage
}

// nodeClient is the reference client of graphql-transport-ws in a process of its own.
type nodeClient struct {
	t      *testing.T
	in     io.Writer
	events chan event
}

// startNode installs the client from the npm registry and starts it.
func startNode(t *testing.T, url, token string) *nodeClient {
	t.Helper()
	dir := folder(t)
	for _, name := range []string{"package.json", "client.mjs"} {
		text, err := os.ReadFile(filepath.Join("testdata", "graphql-ws", name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text))
	}
	npm := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm cannot install the graphql-ws client: %v\n%s\nIt needs Node.js from version 18 and the npm registry.", err, tail(string(out), 20))
	}
	node := exec.CommandContext(t.Context(), "node", "client.mjs", url, token)
	node.Dir, node.Stderr = dir, &output{}
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	c := &nodeClient{t: t, in: in, events: make(chan event, 1000)}
	go func() {
		defer close(c.events)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				c.events <- e
			}
		}
	}()
	t.Cleanup(func() {
		in.Close()
		_ = node.Process.Kill() // when it has ended already, that is as good
		_ = node.Wait()
		if t.Failed() {
			t.Logf("the Node.js client said:\n%s", node.Stderr)
		}
	})
	return c
}

func (c *nodeClient) do(command string, args ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, strings.TrimSpace(command+" "+fmt.Sprintln(args...))); err != nil {
		c.t.Fatal(err)
	}
}

// next returns the next event, which must be of the kind and operation named.
func (c *nodeClient) next(name, kind string) event {
	c.t.Helper()
	select {
	case e, more := <-c.events:
		if !more || e.Name != name || e.Event != kind {
			c.t.Fatalf("the client tells of %s %s %s, want %s %s", e.Name, e.Event, e.Data, name, kind)
		}
		return e
	case <-time.After(20 * time.Second):
		c.t.Fatalf("the client tells of no %s of %q", kind, name)
		return event{}
	}
}

// heard returns the change of a next event.
func (c *nodeClient) heard(name string) change {
	c.t.Helper()
	var result struct {
		Data   struct{ IncidentChanged change }
		Errors []*gqlError
	}
	e := c.next(name, "next")
	if err := json.Unmarshal(e.Data, &result); err != nil || len(result.Errors) > 0 {
		c.t.Fatalf("the client got %s (%v)", e.Data, err)
	}
	return result.Data.IncidentChanged
}

// Issue 2, point 4, with the client that portals use: subscribe, complete, subscribe again under the same id on the same
// socket, resume on a new one.
func TestReferenceClient(t *testing.T) {
	t.Parallel()
	h := served(t, simulate(t), "", "")
	id, _ := h.report(t, "The library is offline")
	url := strings.Replace(h.url, "http:", "ws:", 1) + "/graphql"
	c := startNode(t, url, agent)
	c.next("", "connected")

	c.do("query", "q")
	if e := c.next("q", "next"); !strings.Contains(string(e.Data), `"Ada Agent"`) {
		t.Errorf("a query over the socket answers %s", e.Data)
	}
	c.next("q", "complete")

	cursor := h.mark(t, id)
	h.comment(t, id, "PUBLIC", "one")
	for _, name := range []string{"live", "twin"} {
		c.do("subscribe", name, cursor)
		if one := c.heard(name); one.Entry.Comment == nil || one.Entry.Comment.Body != "one" {
			t.Errorf("%s heard of %+v, want the first comment", name, one)
		}
	}
	c.do("complete", "twin")
	c.next("twin", "complete")
	h.comment(t, id, "PUBLIC", "two")
	two := c.heard("live")
	if two.Entry.Comment.Body != "two" {
		t.Errorf("heard of %+v, want the second comment", two)
	}
	c.do("complete", "live")
	c.next("live", "complete")
	h.comment(t, id, "PUBLIC", "missed")
	c.do("subscribe", "live", two.Cursor)
	if missed := c.heard("live"); missed.Entry.Comment.Body != "missed" || missed.Entry.Version != two.Entry.Version+1 {
		t.Errorf("after resuming came %+v, want the comment that was missed", missed)
	}
	c.do("subscribe", "bad", "nonsense")
	if e := c.next("bad", "next"); !strings.Contains(string(e.Data), `"BAD_USER_INPUT"`) { // as the library's own server does
		t.Errorf("a wrong cursor is answered with %s", e.Data)
	}
	c.next("bad", "complete")

	// The hub goes away and comes again: the client learns the code by which it may connect again, and resumes.
	h.stop()
	for e := range c.events {
		if e.Event == "closed" {
			if !strings.Contains(string(e.Data), "1012") {
				t.Errorf("the socket was closed with %s, want 1012", e.Data)
			}
			break
		}
	}
	h.again()
	h.comment(t, id, "PUBLIC", "after the restart")
	again := startNode(t, url, agent)
	again.next("", "connected")
	again.do("subscribe", "live", two.Cursor)
	for _, want := range []string{"missed", "after the restart"} {
		if got := again.heard("live"); got.Entry.Comment == nil || got.Entry.Comment.Body != want {
			t.Errorf("resumed on a new socket came %+v, want %q", got, want)
		}
	}
	wrong := startNode(t, url, "no-such-token")
	for e := range wrong.events {
		if e.Event == "closed" {
			if !strings.Contains(string(e.Data), "4401") {
				t.Errorf("a wrong token closes the socket with %s, want 4401", e.Data)
			}
			break
		}
	}
}

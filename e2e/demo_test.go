//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// demo is a running demo with the simulator inside it.
type demo struct {
	*hub
	sim simulator
}

// startDemo starts "liaison demo" on free ports. An empty dir leaves the data directory to the program.
func startDemo(t *testing.T, c command, dir string) demo {
	t.Helper()
	port := freePorts(t, 2)
	addr := "127.0.0.1:" + strconv.Itoa(port)
	c.args = []string{"demo", "--addr", addr, "--sim-port", strconv.Itoa(port + 1)}
	if dir != "" {
		c.args = append(c.args, "--data-dir", dir)
	}
	return demo{hub: startHub(t, addr, c), sim: simulator{url: "http://127.0.0.1:" + strconv.Itoa(port+1)}}
}

// nobody is a user without rights on every Unix.
const nobody = 65534

// people runs a test as each kind of user: as root and as somebody without rights where this is root, else as
// this user alone.
func people(t *testing.T, test func(t *testing.T, c command)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Run("as this user", func(t *testing.T) { test(t, command{}) })
		return
	}
	t.Run("as root", func(t *testing.T) { test(t, command{}) })
	t.Run("as nobody", func(t *testing.T) {
		home := folder(t)
		if err := os.Chown(home, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		test(t, command{home: home, user: &syscall.Credential{Uid: nobody, Gid: nobody}})
	})
}

// The first two minutes of a new user: issue 2, points 1 to 3. Not parallel: it looks at times, so the machine is its own.
func TestDemo(t *testing.T) {
	people(t, func(t *testing.T, c command) {
		dir := ""
		if c.user == nil {
			dir = filepath.Join(folder(t), "data")
		}
		d := startDemo(t, c, dir)
		if dir == "" {
			if _, err := os.Stat(filepath.Join(c.home, ".local/share/liaison/demo/postgres/data")); err != nil {
				t.Errorf("without --data-dir the data is in the user's own data folder: %v", err)
			}
		}
		incident := d.welcome(t)
		r, l := d.opened(t, incident, 2*time.Second)
		theirs := d.onlyTicket(t)
		if l.ExternalID != theirs.SysID || l.ExternalNumber != theirs.Number || l.URL != theirs.URL || l.CorrelationID != theirs.CorrelationID || l.RemoteState != "New" {
			t.Errorf("the link says %+v, the vendor's ticket is %+v", l, theirs)
		}
		if theirs.ShortDescription != "The printer in room 4 says PC LOAD LETTER" {
			t.Errorf("the vendor's ticket is titled %q", theirs.ShortDescription)
		}
		d.answers(t, r.ID, theirs.SysID)
		d.goesOut(t, r.ID, theirs.SysID)
		d.comesBack(t, r.ID, theirs.SysID)
	})
}

// welcome plays a user who copies what the demo prints, and returns the incident's id.
func (d demo) welcome(t *testing.T) (incident string) {
	t.Helper()
	// The program prints when it is ready, a moment after it answers.
	var commands []string
	eventually(t, 5*time.Second, "the welcome is printed", func() error {
		if commands = curls(d.stdout.String()); len(commands) != 2 {
			return fmt.Errorf("it shows %d curl commands, want 2:\n%s", len(commands), d.stdout)
		}
		return nil
	})
	for _, part := range []string{"http://" + d.addr, d.sim.url + "/_sim/tickets", requester, agent, admin} {
		if !strings.Contains(d.stdout.String(), part) {
			t.Errorf("the welcome does not name %s", part)
		}
	}
	var reported struct {
		Data struct {
			ReportIncident struct {
				Incident        struct{ ID, Number, State string }
				NotifiedAddress string
			}
		}
	}
	shell(t, commands[0], &reported)
	made := reported.Data.ReportIncident
	if !regexp.MustCompile(`^INC\d{7}$`).MatchString(made.Incident.Number) || made.Incident.State != "NEW" || made.NotifiedAddress != "office@barnfield.example" {
		t.Fatalf("the first command answers %+v", made)
	}
	var escalated struct {
		Data struct {
			EscalateIncident struct{ Link struct{ SyncStatus string } }
		}
	}
	shell(t, strings.Replace(commands[1], `\"ID\"`, `\"`+made.Incident.ID+`\"`, 1), &escalated)
	if escalated.Data.EscalateIncident.Link.SyncStatus != "OPENING" {
		t.Fatalf("the second command answers %+v", escalated)
	}
	return made.Incident.ID
}

// curls returns the curl commands in a text, each with its continued lines.
func curls(text string) []string {
	var out []string
	for _, command := range regexp.MustCompile(`(?m)^ *curl (?:.*\\\n)*.*\n`).FindAllString(text, -1) {
		out = append(out, strings.TrimSpace(command))
	}
	return out
}

// shell runs a command as a person at a terminal does, and reads the JSON that it prints.
func shell(t *testing.T, command string, into any) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "bash", "-c", command).Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		t.Fatalf("%v: %s\nprinted %s", err, command, out)
	}
}

func (d demo) onlyTicket(t *testing.T) ticket {
	t.Helper()
	all := d.sim.tickets(t)
	if len(all) != 1 {
		t.Fatalf("%d tickets at the vendor, want 1: %+v", len(all), all)
	}
	return all[0]
}

// answers proves that what the vendor's agent does stands in the hub within a second. The simulator calls the webhook;
// the poll, every five seconds in the demo, would be too late for the middle one of five.
func (d demo) answers(t *testing.T, incident, ticket string) {
	t.Helper()
	var took []time.Duration
	for n, state := range []string{"In Progress", "On Hold", "In Progress", "On Hold", "In Progress"} {
		text := fmt.Sprintf("We are on our way (%d)", n)
		began := time.Now()
		d.sim.act(t, ticket, map[string]string{"state": state, "comment": text, "note": fmt.Sprintf("toner (%d)", n)})
		eventually(t, 10*time.Second, "the vendor's answer is in the hub", func() error {
			r := d.look(t, agent, incident)
			want := strings.ReplaceAll(strings.ToUpper(state), " ", "_")
			if r.State != want || commented(r.Comments.Nodes, "PUBLIC", text) != 1 || commented(r.Comments.Nodes, "INTERNAL", fmt.Sprintf("toner (%d)", n)) != 1 {
				return fmt.Errorf("state %s, comments %+v", r.State, r.Comments.Nodes)
			}
			return nil
		})
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("vendor to hub: %v", took)
	if took[2] > time.Second {
		t.Errorf("the vendor's answers took %v to arrive, want a second at most", took)
	}
	r := d.look(t, agent, incident)
	if r.HoldReason != "" || r.Links[0].RemoteState != "In Progress" {
		t.Errorf("in the end the incident is held for %q and the vendor says %q", r.HoldReason, r.Links[0].RemoteState)
	}
	// The requester reads what is meant for everybody and nothing else.
	theirs := d.look(t, requester, incident)
	if n, m := commented(theirs.Comments.Nodes, "PUBLIC", "on our way"), commented(theirs.Comments.Nodes, "INTERNAL", ""); n != 5 || m != 0 {
		t.Errorf("the requester sees %d public comments and %d work notes, want 5 and 0", n, m)
	}
}

// goesOut proves the way from the hub to the vendor: comments with their visibility, state, title and priority.
func (d demo) goesOut(t *testing.T, incident, ticket string) {
	t.Helper()
	d.comment(t, incident, "PUBLIC", "It is by the window")
	d.comment(t, incident, "INTERNAL", "They called twice")
	d.mutate(t, "updateIncident", incident, `, title: "Printer, room 4"`)
	d.mutate(t, "assessIncident", incident, `, priority: P2`)
	d.mutate(t, "resolveIncident", incident, `, resolution: "New toner"`)
	eventually(t, 10*time.Second, "the vendor has heard everything", func() error {
		got := d.sim.ticket(t, ticket)
		if said(got.Comments, "It is by the window") != 1 || said(got.WorkNotes, "They called twice") != 1 || said(got.Comments, "They called twice") != 0 ||
			got.ShortDescription != "Printer, room 4" || got.Priority != "2" || got.State != "6" {
			return fmt.Errorf("the ticket is %+v", got)
		}
		return nil
	})
}

// comesBack proves what stays: after Ctrl-C, and after kill -9, the next start finds everything and goes on.
func (d demo) comesBack(t *testing.T, incident, ticket string) {
	t.Helper()
	d.settled(t, incident, "Resolved", 10*time.Second)
	before := d.look(t, agent, incident)
	same := func(when string) {
		t.Helper()
		if after := d.look(t, agent, incident); after.Version != before.Version || after.State != before.State || len(after.Comments.Nodes) != len(before.Comments.Nodes) {
			t.Errorf("after %s the incident is at version %d, %s with %d comments; it was at %d, %s with %d", when,
				after.Version, after.State, len(after.Comments.Nodes), before.Version, before.State, len(before.Comments.Nodes))
		}
		if got := d.onlyTicket(t); got.SysID != ticket || got.State != "6" {
			t.Errorf("after %s the vendor's ticket is %+v", when, got)
		}
	}
	d.stopBy(syscall.SIGINT)
	d.again()
	same("a second start")

	d.process.kill()
	d.again()
	same("kill -9")

	// And the path still works, both ways.
	d.sim.act(t, ticket, map[string]string{"state": "In Progress", "comment": "It jams again"})
	d.comment(t, incident, "PUBLIC", "It does")
	eventually(t, converge, "changes pass both ways after the restarts", func() error {
		r, theirs := d.look(t, agent, incident), d.sim.ticket(t, ticket)
		if r.State != "IN_PROGRESS" || commented(r.Comments.Nodes, "PUBLIC", "It jams again") != 1 || said(theirs.Comments, "It does") != 1 {
			return fmt.Errorf("the incident is %s with %+v, the ticket has %+v", r.State, r.Comments.Nodes, theirs.Comments)
		}
		return nil
	})
}

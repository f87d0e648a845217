//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// simulator is a vendor's simulator, spoken to by its control door.
type simulator struct {
	url string
}

// message is an entry of a simulated ticket's journal.
type message struct {
	Value     string `json:"value"`
	CreatedBy string `json:"sys_created_by"`
}

// ticket is a simulated ticket.
type ticket struct {
	SysID            string    `json:"sys_id"`
	Number           string    `json:"number"`
	State            string    `json:"state"`
	ShortDescription string    `json:"short_description"`
	Priority         string    `json:"priority"`
	CorrelationID    string    `json:"correlation_id"`
	URL              string    `json:"url"`
	Comments         []message `json:"comments"`
	WorkNotes        []message `json:"work_notes"`
}

// simulate plays a ServiceNow in a process of its own, which outlives the hub's.
func simulate(t *testing.T) simulator {
	t.Helper()
	addr := "127.0.0.1:" + strconv.Itoa(freePorts(t, 1))
	p := start(t, command{args: []string{"simulate", "servicenow", "--addr", addr, "--dir", filepath.Join(folder(t), "tickets")}})
	s := simulator{url: "http://" + addr}
	eventually(t, 20*time.Second, "the simulator answers", func() error {
		_, _, err := get(t, s.url+"/_sim/tickets")
		return err
	})
	t.Cleanup(func() {
		p.signal(15)
		if code := p.wait(20 * time.Second); code != 0 {
			t.Errorf("the simulator ended with exit code %d, want 0", code)
		}
	})
	return s
}

func (s simulator) call(t *testing.T, method, path string, body, into any) {
	t.Helper()
	text := ""
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	status, answer, err := request(t, method, s.url+path, text, nil)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s %s %s: %d %s %v", method, path, text, status, answer, err)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(answer), into); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, answer)
		}
	}
}

func (s simulator) tickets(t *testing.T) []ticket {
	t.Helper()
	var out []ticket
	s.call(t, http.MethodGet, "/_sim/tickets", nil, &out)
	return out
}

func (s simulator) ticket(t *testing.T, id string) ticket {
	t.Helper()
	var out ticket
	s.call(t, http.MethodGet, "/_sim/tickets/"+id, nil, &out)
	return out
}

// act does to a ticket what the vendor's agent does.
func (s simulator) act(t *testing.T, id string, move map[string]string) {
	t.Helper()
	s.call(t, http.MethodPost, "/_sim/tickets/"+id, move, nil)
}

// fault adds a fault rule.
func (s simulator) fault(t *testing.T, rule map[string]any) {
	t.Helper()
	s.call(t, http.MethodPost, "/_sim/faults", rule, nil)
}

// struck is how often faults of a kind have struck.
func (s simulator) struck(t *testing.T, kind string) int {
	t.Helper()
	var now struct {
		Rules []struct {
			Kind   string
			Struck int
		}
	}
	s.call(t, http.MethodGet, "/_sim/faults", nil, &now)
	n := 0
	for _, r := range now.Rules {
		if r.Kind == kind {
			n += r.Struck
		}
	}
	return n
}

func (s simulator) forgive(t *testing.T) {
	t.Helper()
	s.call(t, http.MethodDelete, "/_sim/faults", nil, nil)
}

// tellsOf makes the simulator call a hub's webhook.
func (s simulator) tells(t *testing.T, url, header, secret string) {
	t.Helper()
	s.call(t, http.MethodPost, "/_sim/webhook", map[string]string{"url": url, "header": header, "secret": secret}, nil)
}

// said counts the messages that contain a text.
func said(in []message, text string) int {
	n := 0
	for _, m := range in {
		if strings.Contains(m.Value, text) {
			n++
		}
	}
	return n
}

// commented counts the hub's comments that contain a text.
func commented(in []comment, visibility, text string) int {
	n := 0
	for _, c := range in {
		if c.Visibility == visibility && strings.Contains(c.Body, text) {
			n++
		}
	}
	return n
}

// settings writes a settings file with the demo's people and the given systems (YAML list items), and returns the
// command that serves it.
func settings(t *testing.T, addr, systems string, env ...string) command {
	t.Helper()
	home := folder(t)
	text := fmt.Sprintf(`
addr: %s
data_dir: %s
desks:
  - {key: btls, name: BTLS Service Centre}
  - {key: dllp, name: DLLP Support}
organisations:
  - {key: barnfield, name: Barnfield Primary School, desk: btls}
  - {key: oakwood, name: Oakwood Academy, desk: btls}
  - {key: lindenschule, name: Lindenschule, desk: dllp}
tokens:
  - {token: {env: REQUESTER}, name: Sam Smith, email: office@barnfield.example, organisation: barnfield, roles: [requester]}
  - {token: {env: AGENT}, name: Ada Agent, email: ada@btls.example, desk: btls, roles: [agent]}
  - {token: {env: ADMIN}, name: Alex Admin, roles: [admin]}
systems:
%s`, addr, filepath.Join(home, "data"), systems)
	return command{
		args: []string{"serve", "--config", write(t, filepath.Join(home, "liaison.yaml"), text)},
		env:  append([]string{"REQUESTER=" + requester, "AGENT=" + agent, "ADMIN=" + admin}, env...), home: home,
	}
}

// serviceNow is the settings of a system that is played by a simulator.
func serviceNow(s simulator, more string) string {
	return fmt.Sprintf(`  - key: btls-servicenow
    name: BTLS ServiceNow
    connector: servicenow
    desk: btls
    url: %s
    auth: {basic: {user: sim, password: {env: SIM_PASSWORD}}}
    webhook: {secret: {env: HOOK_SECRET}}
%s`, s.url, more)
}

const (
	hookHeader = "X-Liaison-Webhook"
	hookSecret = "a-webhook-secret-of-thirty-two-b"
)

// served starts a hub between a simulator and a database. An empty database means the embedded one.
func served(t *testing.T, s simulator, database, more string) *hub {
	t.Helper()
	addr := "127.0.0.1:" + strconv.Itoa(freePorts(t, 1))
	c := settings(t, addr, serviceNow(s, more), "SIM_PASSWORD=sim", "HOOK_SECRET="+hookSecret)
	c.secrets = []string{hookSecret, requester, agent, admin}
	if database != "" {
		c.env = append(c.env, "LIAISON_DATABASE_URL="+database)
		c.secrets = append(c.secrets, database)
	}
	s.tells(t, "http://"+addr+"/hooks/btls-servicenow", hookHeader, hookSecret)
	return startHub(t, addr, c)
}

//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// The people of the demo, and of every other hub here.
const (
	requester = "demo-requester" // Sam Smith of Barnfield Primary School
	agent     = "demo-agent"     // Ada Agent of the BTLS Service Centre
	admin     = "demo-admin"
)

// gqlError is an error of a GraphQL answer.
type gqlError struct {
	Message    string `json:"message"`
	Path       []any  `json:"path"`
	Extensions struct {
		Code   string `json:"code"`
		Field  string `json:"field"`
		Cursor string `json:"cursor"`
	} `json:"extensions"`
}

func (e *gqlError) Error() string { return e.Extensions.Code + ": " + e.Message }

// vars are a document's variables.
type vars map[string]any

// try sends a document. Its error is a *gqlError, or says why there was no answer.
func (h *hub) try(t *testing.T, token, document string, v vars, into any) error {
	t.Helper()
	body, err := json.Marshal(map[string]any{"query": document, "variables": v})
	if err != nil {
		return err
	}
	_, text, err := request(t, http.MethodPost, h.url+"/graphql", string(body), map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json"})
	if err != nil {
		return err
	}
	var answer struct {
		Data   json.RawMessage `json:"data"`
		Errors []*gqlError     `json:"errors"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return fmt.Errorf("the answer is no JSON: %w: %s", err, text)
	}
	if len(answer.Errors) > 0 {
		return answer.Errors[0]
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer.Data, into)
}

// ask sends a document that has to work.
func (h *hub) ask(t *testing.T, token, document string, v vars, into any) {
	t.Helper()
	if err := h.try(t, token, document, v, into); err != nil {
		t.Fatalf("%v\nasked for: %s %v", err, document, v)
	}
}

// link is a tie to a vendor's ticket.
type link struct {
	ID             string
	ExternalID     string
	ExternalNumber string
	URL            string
	RemoteState    string
	SyncStatus     string
	CorrelationID  string
	LastSyncedAt   time.Time
	System         struct{ Key string }
	Parked         []struct{ Field, Reason string }
	Deliveries     struct {
		Nodes []struct{ Kind, State, Error string }
	}
}

// comment is a message on an incident.
type comment struct {
	Body, Visibility, Author string
	Link                     *struct{ ID string }
}

// entry is a line of the ledger.
type entry struct {
	Kind       string
	Version    int
	Visibility string
	At         time.Time
	Actor      struct{ Kind, Name string }
	Changes    []struct{ Field, Before, After string }
	Detail     []struct{ Name, Value string }
	Comment    *comment
}

// report is an incident as the desk sees it.
type report struct {
	ID, Number, State, HoldReason, Priority, Title string
	Version                                        int
	Comments                                       struct{ Nodes []comment }
	Links                                          []link
	History                                        struct{ Nodes []entry }
}

const reportFields = `id number state holdReason priority title version
	comments(first: 100) { nodes { body visibility author link { id } } }
	links { id externalId externalNumber url remoteState syncStatus correlationId lastSyncedAt system { key } parked { field reason } deliveries(first: 50) { nodes { kind state error } } }
	history(first: 100) { nodes { kind version visibility at actor { kind name } changes { field before after } detail { name value } comment { body visibility author } } }`

// look reads an incident by its id.
func (h *hub) look(t *testing.T, token, id string) report {
	t.Helper()
	var data struct{ Incident report }
	h.ask(t, token, `query($id: ID!) { incident(id: $id) { `+reportFields+` } }`, vars{"id": id}, &data)
	return data.Incident
}

// report reports an incident and returns its id and number.
func (h *hub) report(t *testing.T, description string) (id, number string) {
	t.Helper()
	var data struct {
		ReportIncident struct{ Incident struct{ ID, Number string } }
	}
	h.ask(t, requester, `mutation($d: String!) { reportIncident(input: {description: $d}) { incident { id number } } }`, vars{"d": description}, &data)
	return data.ReportIncident.Incident.ID, data.ReportIncident.Incident.Number
}

// escalate asks for a ticket at a vendor's.
func (h *hub) escalate(t *testing.T, id, system string) {
	t.Helper()
	h.ask(t, agent, `mutation($id: ID!, $system: String!) { escalateIncident(input: {incidentId: $id, system: $system}) { link { syncStatus } } }`,
		vars{"id": id, "system": system}, nil)
}

// comment adds a comment, as the requester when it is public and as the agent when it is a work note.
func (h *hub) comment(t *testing.T, id, visibility, body string) {
	t.Helper()
	token := requester
	if visibility == "INTERNAL" {
		token = agent
	}
	h.ask(t, token, `mutation($id: ID!, $v: Visibility!, $body: String!) { addComment(input: {incidentId: $id, visibility: $v, body: $body}) { comment { id } } }`,
		vars{"id": id, "v": visibility, "body": body}, nil)
}

// mutate calls a mutation that takes an incident and answers it.
func (h *hub) mutate(t *testing.T, name, id, more string) {
	t.Helper()
	h.ask(t, agent, fmt.Sprintf(`mutation($id: ID!) { %s(input: {incidentId: $id%s}) { incident { version } } }`, name, more), vars{"id": id}, nil)
}

// opened waits until the ticket of an incident is known and everything was sent.
func (h *hub) opened(t *testing.T, id string, within time.Duration) (report, link) {
	t.Helper()
	var r report
	eventually(t, within, "the ticket's id is on the incident's link", func() error {
		if r = h.look(t, agent, id); len(r.Links) != 1 || r.Links[0].ExternalID == "" || r.Links[0].SyncStatus != "IN_STEP" {
			return fmt.Errorf("links: %+v", r.Links)
		}
		return nil
	})
	return r, r.Links[0]
}

// converge is how long both sides may take to agree after the last fault (RELIABILITY.md, R1).
const converge = time.Minute

// settled waits until nothing is on its way to the vendor of the incident's only link and the vendor's state, in its
// own words, has been read.
func (h *hub) settled(t *testing.T, id, remoteState string, within time.Duration) report {
	t.Helper()
	var r report
	eventually(t, within, "both sides agree", func() error {
		if r = h.look(t, agent, id); len(r.Links) != 1 || r.Links[0].SyncStatus != "IN_STEP" || r.Links[0].RemoteState != remoteState {
			return fmt.Errorf("the incident is %s at version %d, its links are %+v", r.State, r.Version, r.Links)
		}
		return nil
	})
	return r
}

//go:build e2e

package requesttracker_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/connectors/conformance"
	"liaison/connectors/requesttracker"
	"liaison/e2e/peers/rt5"
)

// person acts at the real server as one of its users, past the connector.
type person struct {
	server *rt5.Server
	rt5.User
}

// try makes a call and returns its status and body.
func (p person) try(ctx context.Context, method, path string, body any) (int, http.Header, []byte, error) {
	var sent io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, nil, err
		}
		sent = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.server.URL+"/REST/2.0"+path, sent)
	if err != nil {
		return 0, nil, nil, err
	}
	req.SetBasicAuth(p.Name, p.Password)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, text, err
}

// call makes a call that succeeds and reads its answer into out.
func (p person) call(t testing.TB, method, path string, body, out any) http.Header {
	t.Helper()
	status, header, text, err := p.try(t.Context(), method, path, body)
	if err != nil || status < 200 || status > 299 {
		t.Fatalf("%s: %s %s: %d %s (%v)", p.Name, method, path, status, text, err)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatalf("%s: %s %s: %v in %s", p.Name, method, path, err, text)
		}
	}
	return header
}

func (p person) put(t testing.TB, id connectors.ExternalID, change map[string]any) {
	t.Helper()
	p.call(t, http.MethodPut, "/ticket/"+string(id), change, nil)
}

// say returns the transaction's id.
func (p person) say(t testing.TB, id connectors.ExternalID, v connectors.Visibility, contentType, body string) string {
	t.Helper()
	kind := "correspond"
	if v == connectors.Internal {
		kind = "comment"
	}
	h := p.call(t, http.MethodPost, "/ticket/"+string(id)+"/"+kind, map[string]any{"Content": body, "ContentType": contentType}, nil)
	return path.Base(h.Get("Location"))
}

func (p person) status(t testing.TB, id connectors.ExternalID) string {
	t.Helper()
	var ticket struct{ Status string }
	p.call(t, http.MethodGet, "/ticket/"+string(id), nil, &ticket)
	return ticket.Status
}

// count is how many tickets carry the correlation id, merged ones included.
func (p person) count(t testing.TB, correlationID string) int {
	t.Helper()
	var found struct{ Items []any }
	q := url.QueryEscape("CF.{External ID} = '" + correlationID + "' AND EffectiveId > 0")
	p.call(t, http.MethodGet, "/tickets?orderby=id&per_page=100&query="+q, nil, &found)
	return len(found.Items)
}

// row is a transaction as the server lists it.
type row struct {
	ID       string `json:"id"`
	Type     string
	Record   string `json:"type"` // else it would overwrite Type
	OldValue string
	NewValue string
	Creator  struct {
		ID string `json:"id"`
	}
}

func (p person) history(t testing.TB, id connectors.ExternalID) []row {
	t.Helper()
	var found struct{ Items []row }
	q := url.QueryEscape("ObjectType='RT::Ticket' AND ObjectId=" + string(id))
	p.call(t, http.MethodGet, "/transactions?orderby=id&per_page=100&fields=Type,OldValue,NewValue,Creator&query="+q, nil, &found)
	return found.Items
}

func (p person) messages(t testing.TB, id connectors.ExternalID) []conformance.Message {
	t.Helper()
	var all []conformance.Message
	for _, r := range p.history(t, id) {
		m := conformance.Message{Visibility: connectors.Public}
		switch r.Type {
		case "Comment":
			m.Visibility = connectors.Internal
		case "Correspond":
		default:
			continue
		}
		var parts struct {
			Items []struct {
				ID string `json:"id"`
			}
		}
		p.call(t, http.MethodGet, "/transaction/"+r.ID+"/attachments", nil, &parts)
		for _, part := range parts.Items {
			var a struct{ Content string }
			p.call(t, http.MethodGet, "/attachment/"+part.ID, nil, &a)
			text, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(a.Content, "\n", ""))
			if err != nil {
				t.Fatal(err)
			}
			m.Body += string(text)
		}
		all = append(all, m)
	}
	return all
}

// rt is a server of a test's own and its people.
type rt struct {
	*rt5.Server
	alice, root person
}

func startRT(t testing.TB) rt {
	t.Helper()
	s := rt5.Start(t, rt5.Options{})
	return rt{s, person{s, s.Alice}, person{s, s.Root}}
}

func (s rt) token() connectors.Credentials {
	return connectors.Credentials{Token: connectors.NewSecret(s.Hub.Token)}
}

func (s rt) basic() connectors.Credentials {
	return connectors.Credentials{Basic: &connectors.Basic{User: s.Hub.Name, Password: connectors.NewSecret(s.Hub.Password)}}
}

// overlap keeps what a poll reads again small. No change here takes longer than the webhook's three seconds.
const overlap = 6 * time.Second

func (s rt) connect(t testing.TB, change func(*connectors.Config)) *requesttracker.Connector {
	t.Helper()
	cfg := connectors.Config{Key: "rt", URL: s.URL, Auth: s.token(), Settings: map[string]string{}, PollOverlap: overlap, Timeout: 20 * time.Second}
	if change != nil {
		change(&cfg)
	}
	c, err := requesttracker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestConformance runs the suite of all connectors against the real server.
func TestConformance(t *testing.T) {
	t.Parallel()
	s := startRT(t)
	conformance.Run(t, conformance.Spec{New: func(testing.TB) conformance.Harness { return s.harness() }})
}

// touched makes each title unlike the one before.
var touched atomic.Int64

// harness is the server as the suite of all connectors sees it.
func (s rt) harness() conformance.Harness {
	return conformance.Harness{
		URL: s.URL,
		Connect: func(t testing.TB, o conformance.Options) connectors.Connector {
			t.Helper()
			return s.connect(t, func(cfg *connectors.Config) {
				cfg.URL = o.URL
				if o.PageSize > 0 {
					cfg.Settings["page_size"] = strconv.Itoa(o.PageSize)
				}
			})
		},
		Secrets: []string{s.Hub.Token},
		Fields: func(title string) connectors.Fields {
			return connectors.Fields{"Subject": title, "Content": "a fault", "Status": "new", "Priority": "30"}
		},
		Updates: [2]connectors.Fields{
			{"Subject": "first", "Status": "acknowledged", "Priority": "50", "CustomFields.Severity": "S2"},
			{"Subject": "second", "Status": "in progress", "Priority": "70", "CustomFields.Severity": "S3"},
		},
		UnknownID: "2000000000",
		Vendor: conformance.Vendor{
			Count: s.alice.count,
			Say: func(t testing.TB, id connectors.ExternalID, v connectors.Visibility, body string) {
				t.Helper()
				s.alice.say(t, id, v, "text/plain", body)
			},
			Touch: func(t testing.TB, id connectors.ExternalID) {
				t.Helper()
				s.alice.put(t, id, map[string]any{"Subject": fmt.Sprintf("touched %d", touched.Add(1))})
			},
			Messages: s.alice.messages,
			Close: func(t testing.TB, id connectors.ExternalID) {
				t.Helper()
				s.alice.put(t, id, map[string]any{"Status": "cancelled"})
			},
			Copy: func(t testing.TB, correlationID string) connectors.ExternalID {
				t.Helper()
				var made struct{ ID json.Number }
				s.alice.call(t, http.MethodPost, "/ticket", map[string]any{
					"Queue": "Incidents", "Subject": "a copy", "CustomFields": map[string]any{"External ID": correlationID},
				}, &made)
				return connectors.ExternalID(made.ID)
			},
			Closed: func(t testing.TB, id connectors.ExternalID) bool {
				t.Helper()
				return slices.Contains([]string{"cancelled", "closed", "resolved", "rejected"}, s.alice.status(t, id))
			},
		},
	}
}

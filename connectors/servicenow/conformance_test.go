package servicenow_test

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/connectors/conformance"
	"liaison/connectors/servicenow"
	"liaison/connectors/servicenow/servicenowtest"
)

const (
	login    = "liaison.svc"
	password = "Plant3d-Secret/One+Two"
)

// basic is how the connector signs in at the simulator in these tests.
func basic() connectors.Credentials {
	return connectors.Credentials{Basic: &connectors.Basic{User: login, Password: connectors.NewSecret(password)}}
}

// simulator starts an instance that knows the account.
func simulator(t testing.TB, cfg servicenowtest.Config) *servicenowtest.Server {
	t.Helper()
	cfg.Users = []servicenowtest.User{
		{Name: login, Password: password, APIKey: "Plant3d-Key-77aa", FullName: "Liaison", Roles: []string{"itil"}},
		{Name: "admin", Password: "admin", Admin: true},
	}
	cfg.ClientID, cfg.ClientSecret = "liaison-client", "Plant3d-Client-Secret"
	return servicenowtest.Start(t, servicenowtest.WithConfig(cfg))
}

// secrets are what an account's credentials must not show.
func secrets(a connectors.Credentials) []string {
	all := []string{a.Token.Reveal()}
	if b := a.Basic; b != nil {
		all = append(all, b.Password.Reveal(), base64.StdEncoding.EncodeToString([]byte(b.User+":"+b.Password.Reveal())))
	}
	if o := a.OAuth2; o != nil {
		all = append(all, o.ClientSecret.Reveal(), o.Password.Reveal())
	}
	return all
}

// harness wraps an instance for the suite.
func harness(srv *servicenowtest.Server, auth func(url string) connectors.Credentials) conformance.Harness {
	var mu sync.Mutex
	touched := 0
	act := func(t testing.TB, id connectors.ExternalID, m servicenowtest.Move) {
		t.Helper()
		if _, err := srv.Act(string(id), m); err != nil {
			t.Fatalf("acting as the agent: %v", err)
		}
	}
	return conformance.Harness{
		URL: srv.URL,
		Connect: func(t testing.TB, o conformance.Options) connectors.Connector {
			t.Helper()
			settings := map[string]string{}
			if o.PageSize > 0 {
				settings["page_size"] = strconv.Itoa(o.PageSize)
			}
			c, err := servicenow.New(connectors.Config{Key: "sim", URL: o.URL, Auth: auth(srv.URL), Settings: settings, Timeout: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		Secrets: secrets(auth("")),
		Fields: func(title string) connectors.Fields {
			return connectors.Fields{"short_description": title, "description": "a fault", "impact": "3", "urgency": "2"}
		},
		Updates: [2]connectors.Fields{
			{"short_description": "first", "urgency": "1"}, {"short_description": "second", "urgency": "3"},
		},
		UnknownID: "00000000000000000000000000000bad",
		Vendor: conformance.Vendor{
			Count: func(_ testing.TB, correlationID string) int {
				n := 0
				for _, ticket := range srv.Tickets() {
					if ticket.CorrelationID == correlationID {
						n++
					}
				}
				return n
			},
			Say: func(t testing.TB, id connectors.ExternalID, v connectors.Visibility, body string) {
				t.Helper()
				if v == connectors.Public {
					act(t, id, servicenowtest.Move{Comment: body})
				} else {
					act(t, id, servicenowtest.Move{Note: body})
				}
			},
			Touch: func(t testing.TB, id connectors.ExternalID) {
				t.Helper()
				mu.Lock()
				touched++
				title := fmt.Sprintf("touched %d", touched)
				mu.Unlock()
				act(t, id, servicenowtest.Move{Title: title})
			},
			Messages: func(t testing.TB, id connectors.ExternalID) []conformance.Message {
				t.Helper()
				ticket, err := srv.Ticket(string(id))
				if err != nil {
					t.Fatal(err)
				}
				var all []conformance.Message
				for _, e := range ticket.Comments {
					all = append(all, conformance.Message{Visibility: connectors.Public, Body: e.Value})
				}
				for _, e := range ticket.WorkNotes {
					all = append(all, conformance.Message{Visibility: connectors.Internal, Body: e.Value})
				}
				return all
			},
			Close: func(t testing.TB, id connectors.ExternalID) {
				t.Helper()
				act(t, id, servicenowtest.Move{State: "7"})
			},
			Copy: func(t testing.TB, correlationID string) connectors.ExternalID {
				t.Helper()
				ticket, err := srv.Open(servicenowtest.Move{Title: "a copy", Fields: map[string]string{"correlation_id": correlationID}})
				if err != nil {
					t.Fatal(err)
				}
				return connectors.ExternalID(ticket.SysID)
			},
			Closed: func(t testing.TB, id connectors.ExternalID) bool {
				t.Helper()
				ticket, err := srv.Ticket(string(id))
				if err != nil {
					t.Fatal(err)
				}
				return ticket.Fields["active"] == "false"
			},
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	frozen := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	for name, cfg := range map[string]servicenowtest.Config{
		"plain": {},
		// Everything happens in one second of the vendor's clock.
		"frozen clock": {Now: func() time.Time { return frozen }},
		"awkward instance": {
			SeedIncidents: 5,
			Switches: servicenowtest.Switches{
				UnstableOrder: true, NoTotalCount: true, StrictHeaders: true, JournalName: "task", BadQuery: servicenowtest.BadQueryRefuse,
			},
		},
		"lagging search": {Switches: servicenowtest.Switches{SearchLag: 300 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conformance.Run(t, conformance.Spec{New: func(t testing.TB) conformance.Harness {
				return harness(simulator(t, cfg), func(string) connectors.Credentials { return basic() })
			}})
		})
	}
}

// TestConformanceSignIns runs the suite with the other ways to sign in.
func TestConformanceSignIns(t *testing.T) {
	t.Parallel()
	oauth := func(grant connectors.Grant) func(string) connectors.Credentials {
		return func(url string) connectors.Credentials {
			o := connectors.OAuth2{TokenURL: url + "/oauth_token.do", Grant: grant, ClientID: "liaison-client", ClientSecret: connectors.NewSecret("Plant3d-Client-Secret")}
			if grant == connectors.GrantPassword {
				o.User, o.Password = login, connectors.NewSecret(password)
			}
			return connectors.Credentials{OAuth2: &o}
		}
	}
	for name, run := range map[string]struct {
		auth   func(string) connectors.Credentials
		waived map[string]string
	}{
		"api key": {auth: func(string) connectors.Credentials {
			return connectors.Credentials{Token: connectors.NewSecret("Plant3d-Key-77aa")}
		}},
		"client credentials": {auth: oauth(connectors.GrantClientCredentials)},
		"password grant":     {auth: oauth(connectors.GrantPassword)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conformance.Run(t, conformance.Spec{
				New: func(t testing.TB) conformance.Harness {
					return harness(simulator(t, servicenowtest.Config{}), run.auth)
				},
				Waived: run.waived,
			})
		})
	}
}

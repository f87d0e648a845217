package servicenow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"liaison/connectors"
	"liaison/connectors/servicenow"
	"liaison/connectors/servicenow/servicenowtest"
)

// connect makes a connector for the instance.
func connect(t testing.TB, srv *servicenowtest.Server, options ...func(*connectors.Config)) *servicenow.Connector {
	t.Helper()
	cfg := connectors.Config{Key: "sim", URL: srv.URL, Auth: basic(), Timeout: 10 * time.Second}
	for _, o := range options {
		o(&cfg)
	}
	c, err := servicenow.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func setting(name, value string) func(*connectors.Config) {
	return func(c *connectors.Config) {
		if c.Settings == nil {
			c.Settings = map[string]string{}
		}
		c.Settings[name] = value
	}
}

func draft(fields connectors.Fields) connectors.Draft {
	if fields == nil {
		fields = connectors.Fields{"short_description": "printer on fire"}
	}
	return connectors.Draft{CorrelationID: uuid.NewString(), Fields: fields}
}

func open(t testing.TB, c *servicenow.Connector) connectors.Ticket {
	t.Helper()
	ticket, err := c.Create(context.Background(), draft(nil))
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func wantKind(t testing.TB, err error, want connectors.Kind, words ...string) *connectors.Error {
	t.Helper()
	e := &connectors.Error{}
	ok := errors.As(err, &e)
	if !ok || e.Kind != want {
		t.Fatalf("%v, want kind %s", err, want)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v: does not say %q", err, w)
		}
	}
	return e
}

// admin calls the instance's API as its administrator.
func admin(t testing.TB, srv *servicenowtest.Server, method, path, contentType, body string) {
	t.Helper()
	req, err := http.NewRequest(method, srv.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", "admin")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s %s: %s %s", method, path, resp.Status, text)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings map[string]string
		want     string
	}{
		"misspelt":               {map[string]string{"asignment_group": "x"}, `did you mean "assignment_group"?`},
		"unknown":                {map[string]string{"whatever": "x"}, "settings.whatever: unknown setting; known are table"},
		"table":                  {map[string]string{"table": "incident/../sys_user"}, "settings.table"},
		"page size":              {map[string]string{"page_size": "many"}, "settings.page_size"},
		"page size of nought":    {map[string]string{"page_size": "0"}, "settings.page_size"},
		"filter with new group":  {map[string]string{"filter": "active=true^NQactive=false"}, "settings.filter"},
		"filter with order":      {map[string]string{"filter": "active=true^ORDERBYnumber"}, "settings.filter"},
		"filter with line break": {map[string]string{"filter": "active=true\n"}, "settings.filter"},
		"filter of an OR":        {map[string]string{"filter": "ORactive=true"}, "settings.filter"},
		"system column":          {map[string]string{"create.sys_created_on": "x"}, "settings.create.sys_created_on"},
		"journal":                {map[string]string{"create.comments": "x"}, "settings.create.comments"},
		"column name":            {map[string]string{"create.u-site": "x"}, "settings.create.u-site"},
	} {
		_, err := servicenow.New(connectors.Config{Key: "btls", URL: "https://example.service-now.com", Settings: c.settings})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "btls") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := servicenow.New(connectors.Config{Key: "btls", URL: "https://u:p@example.service-now.com"}); err == nil {
		t.Error("an address with a password was taken")
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{Columns: []string{"u_site"}})
	c := connect(t, srv, setting("category", "hardware"), setting("create.u_site", "north"), setting("contact_type", "integration"))
	d := draft(connectors.Fields{"short_description": "line down", "category": "network", "impact": "1", "urgency": "1", "priority": "5", "u_unknown": "x"})
	got, err := c.Create(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	held, err := srv.Ticket(string(got.ID))
	if err != nil {
		t.Fatal(err)
	}
	// The draft's own category stands before the setting's; section 8: priority is computed from impact and urgency.
	for column, want := range map[string]string{
		"category": "network", "u_site": "north", "contact_type": "integration", "priority": "1", "correlation_display": "Liaison", "correlation_id": d.CorrelationID,
	} {
		if held.Fields[column] != want {
			t.Errorf("the vendor holds %s %q, want %q", column, held.Fields[column], want)
		}
	}
	if got.Fields["priority"] != "1" || got.Fields["u_site"] != "north" {
		t.Errorf("the answer hides what the vendor overruled: %v", got.Fields)
	}
	if _, shown := got.Fields["u_unknown"]; shown {
		t.Error("a column that the vendor ignored (section 3) is reported as stored")
	}
	if want := srv.URL + "/nav_to.do?uri=incident.do%3Fsys_id%3D" + string(got.ID); got.URL != want || got.Number != held.Number || got.CorrelationID != d.CorrelationID {
		t.Errorf("url %s number %s correlation %s, want %s %s", got.URL, got.Number, got.CorrelationID, want, held.Number)
	}
	if got.UpdatedAt.Format(time.DateTime) != held.SysUpdatedOn || got.Version != "0@"+held.SysUpdatedOn {
		t.Errorf("updated %s version %s, want %s and 0@ of it", got.UpdatedAt, got.Version, held.SysUpdatedOn)
	}
	if _, err := http.Get(got.URL); err != nil {
		t.Errorf("the page: %v", err)
	}
}

func TestWhatIsNotWritten(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{})
	c := connect(t, srv)
	ticket := open(t, c)
	srv.ForgetCalls()
	for _, column := range []string{"comments", "work_notes", "comments_and_work_notes", "sys_updated_on", "correlation_id", "caller_id.email", "a b", "A", "a^b", ""} {
		_, err := c.Update(t.Context(), ticket.ID, connectors.Fields{column: "x"})
		_ = wantKind(t, err, connectors.Rejected)
		_, err = c.Create(t.Context(), draft(connectors.Fields{column: "x"}))
		_ = wantKind(t, err, connectors.Rejected)
	}
	for _, id := range []connectors.ExternalID{"", "../sys_user", "a^ORsys_idISNOTEMPTY", "javascript:gs.getUserID()", "a/b", "a b", "a\nb", connectors.ExternalID(strings.Repeat("a", 33))} {
		_, err := c.Read(t.Context(), id, nil)
		_ = wantKind(t, err, connectors.Rejected, "no sys_id")
		_, err = c.Mark(t.Context(), id)
		_ = wantKind(t, err, connectors.Rejected)
		_, err = c.Attachments(t.Context(), id)
		_ = wantKind(t, err, connectors.Rejected)
	}
	for _, correlation := range []string{"", "a^NQactive=true", "javascript:gs.getUserID()", " JavaScript:x", "a\nb", "a\u2028b"} {
		_, err := c.FindByCorrelation(t.Context(), correlation)
		_ = wantKind(t, err, connectors.Rejected)
	}
	_, err := c.Read(t.Context(), ticket.ID, []string{"number,sys_created_by"})
	_ = wantKind(t, err, connectors.Rejected)
	if n := len(srv.Calls()); n != 0 {
		t.Errorf("%d calls reached the vendor", n)
	}
}

// Section 6, traps 1 to 3: a lookup whose condition the vendor drops must never be read as "found" or "not found".
func TestFindByCorrelationTraps(t *testing.T) {
	t.Parallel()
	for _, mode := range []servicenowtest.BadQuery{servicenowtest.BadQueryIgnore, servicenowtest.BadQueryNone, servicenowtest.BadQueryRefuse} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			srv := simulator(t, servicenowtest.Config{SeedIncidents: 3, Switches: servicenowtest.Switches{
				BadQuery: mode, HiddenColumns: []string{"incident.correlation_id"},
			}})
			_, err := connect(t, srv).FindByCorrelation(t.Context(), uuid.NewString())
			_ = wantKind(t, err, connectors.Auth)
		})
	}
	srv := simulator(t, servicenowtest.Config{})
	c := connect(t, srv)
	d := draft(nil)
	var want []connectors.ExternalID
	for range 2 { // another hub's mistake: no unique index keeps twins away (section 15)
		ticket, err := c.Create(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, ticket.ID)
	}
	open(t, c)
	found, err := c.FindByCorrelation(t.Context(), d.CorrelationID)
	if err != nil || len(found) != 2 || !slices.Contains(want, found[0].ID) || !slices.Contains(want, found[1].ID) {
		t.Errorf("%v %v, want the two of %v", found, err, want)
	}
}

func TestCheckNamesTheHiddenColumn(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{SeedIncidents: 1, Switches: servicenowtest.Switches{HiddenColumns: []string{"incident.sys_mod_count"}}})
	_ = wantKind(t, connect(t, srv).Check(t.Context()), connectors.Auth, "incident.sys_mod_count", "grant")
}

func TestDeleted(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{})
	c := connect(t, srv)
	ticket := open(t, c)
	admin(t, srv, http.MethodDelete, "/api/now/table/incident/"+string(ticket.ID), "application/json", "")
	got, err := c.Read(t.Context(), ticket.ID, []string{"state"})
	if err != nil || got.Gone != connectors.Deleted || got.ID != ticket.ID {
		t.Errorf("%+v %v, want a deleted ticket", got, err)
	}
	_, err = c.Update(t.Context(), ticket.ID, connectors.Fields{"state": "2"})
	_ = wantKind(t, err, connectors.NotFound)
	// Without an answer to "was it deleted?" nothing is known, not even "not found".
	if err := srv.SetFaults(servicenowtest.Faults{Rules: []servicenowtest.Fault{{Kind: servicenowtest.FaultServerError, Path: "sys_audit_delete", Next: 10}}}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Read(t.Context(), ticket.ID, nil)
	_ = wantKind(t, err, connectors.Transient)
}

// Section 8 and 10: a 403 is sorted by its detail, and the vendor's words are kept.
func TestRefusals(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{Switches: servicenowtest.Switches{
		AbortRules: []servicenowtest.Rule{{Name: "No network tickets", When: "category=network"}},
		ResetRules: []servicenowtest.Rule{{Name: "Keep urgency", When: "category=hardware", Field: "urgency"}},
	}})
	c := connect(t, srv)
	ticket := open(t, c)
	_, err := c.Update(t.Context(), ticket.ID, connectors.Fields{"state": "6"})
	e := wantKind(t, err, connectors.Rejected, "Data Policy Exception", "mandatory")
	if slices.Sort(e.Fields); !slices.Equal(e.Fields, []string{"close_code", "close_notes"}) {
		t.Errorf("fields at fault: %v", e.Fields)
	}
	_, err = c.Update(t.Context(), ticket.ID, connectors.Fields{"category": "network"})
	_ = wantKind(t, err, connectors.Rejected, "Business Rule 'No network tickets")
	got, err := c.Update(t.Context(), ticket.ID, connectors.Fields{"category": "hardware", "urgency": "1"})
	if err != nil || got.Fields["urgency"] != "3" {
		t.Errorf("%v %v: want the value that the rule put back", got.Fields, err)
	}
	_, err = connect(t, srv, func(cfg *connectors.Config) { cfg.Settings = map[string]string{"table": "nosuchtable"} }).Create(t.Context(), draft(nil))
	_ = wantKind(t, err, connectors.Rejected, "Invalid table")
	_, err = connect(t, srv, func(cfg *connectors.Config) { cfg.Auth.Basic.Password = connectors.NewSecret("wrong") }).Create(t.Context(), draft(nil))
	_ = wantKind(t, err, connectors.Auth, "ser")
}

// Section 11: a body with an error beside a started result is a failed page, with status 200.
func TestResultAndError(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{SeedIncidents: 10})
	if err := srv.SetFaults(servicenowtest.Faults{Rules: []servicenowtest.Fault{{Kind: servicenowtest.FaultResultAndError, Next: 100}}}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, srv)
	_, err := c.Changes(t.Context(), "")
	_ = wantKind(t, err, connectors.Transient, "maximum execution time")
	_, err = c.FindByCorrelation(t.Context(), uuid.NewString())
	_ = wantKind(t, err, connectors.Transient)
}

// The account may not read the journal: every call says so before a message is written that could not be found again.
func TestJournalDenied(t *testing.T) {
	t.Parallel()
	old := func() time.Time { return time.Now().Add(-time.Hour) }
	srv := simulator(t, servicenowtest.Config{Now: old})
	c := connect(t, srv)
	ticket := open(t, c)
	if _, err := c.Mark(t.Context(), ticket.ID); err != nil {
		t.Fatalf("a ticket without messages: %v", err)
	}
	for _, uncounted := range []bool{false, true} { // with a count of the hidden rows, and without
		denied := simulator(t, servicenowtest.Config{Now: old, Switches: servicenowtest.Switches{JournalDenied: true, NoTotalCount: uncounted}})
		c = connect(t, denied)
		ticket = open(t, c)
		if _, err := denied.Act(string(ticket.ID), servicenowtest.Move{Comment: "are you there?"}); err != nil {
			t.Fatal(err)
		}
		_, err := c.Mark(t.Context(), ticket.ID)
		_ = wantKind(t, err, connectors.Auth, "sys_journal_field", "grant")
		_, _, err = c.Journal(t.Context(), ticket.ID, "")
		_ = wantKind(t, err, connectors.Auth, "sys_journal_field")
	}
}

// Section 3: a column that the account may not write is dropped with 200. That nothing was kept shows in the stamp.
func TestSayDropped(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{
		Now:      func() time.Time { return time.Now().Add(-time.Hour) },
		Switches: servicenowtest.Switches{ReadOnlyColumns: []string{"incident.comments"}},
	})
	c := connect(t, srv)
	ticket := open(t, c)
	_, err := c.Say(t.Context(), ticket.ID, connectors.Message{Visibility: connectors.Public, Body: "hello"}, "")
	_ = wantKind(t, err, connectors.Rejected, "kept nothing", "comments")
	if _, err := c.Say(t.Context(), ticket.ID, connectors.Message{Visibility: connectors.Internal, Body: "hello"}, ""); err != nil {
		t.Errorf("a work note: %v", err)
	}
	for _, m := range []connectors.Message{{Visibility: connectors.Public, Body: " \r\n"}, {Visibility: "SECRET", Body: "x"}} {
		_, err := c.Say(t.Context(), ticket.ID, m, "")
		_ = wantKind(t, err, connectors.Rejected)
	}
	_, err = c.Say(t.Context(), ticket.ID, connectors.Message{Visibility: connectors.Public, Body: "x"}, "no mark of ours")
	_ = wantKind(t, err, connectors.Rejected, "mark")
}

// A colleague who says the same at the same time is not taken for us, nor is our work note for our comment.
func TestSayFindsItsOwn(t *testing.T) {
	t.Parallel()
	frozen := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	srv := simulator(t, servicenowtest.Config{Now: func() time.Time { return frozen }})
	c := connect(t, srv)
	ticket := open(t, c)
	m, err := c.Mark(t.Context(), ticket.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Act(string(ticket.ID), servicenowtest.Move{Comment: "done"}); err != nil {
		t.Fatal(err)
	}
	note, err := c.Say(t.Context(), ticket.ID, connectors.Message{Visibility: connectors.Internal, Body: "done"}, m)
	if err != nil {
		t.Fatal(err)
	}
	said, err := c.Say(t.Context(), ticket.ID, connectors.Message{Visibility: connectors.Public, Body: "done"}, m)
	if err != nil {
		t.Fatal(err)
	}
	held, err := srv.Ticket(string(ticket.ID))
	if err != nil {
		t.Fatal(err)
	}
	own := slices.IndexFunc(held.Comments, func(e servicenowtest.Entry) bool { return e.CreatedBy == login })
	if len(held.Comments) != 2 || held.Comments[own].SysID != said.ID || held.WorkNotes[0].SysID != note.ID {
		t.Errorf("comments %+v notes %+v, want our entries %s and %s", held.Comments, held.WorkNotes, said.ID, note.ID)
	}
}

// An entry that is committed late carries a stamp before the mark and was not there when the mark was taken.
func TestJournalLateCommit(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{})
	c := connect(t, srv)
	ticket := open(t, c)
	if _, err := srv.Act(string(ticket.ID), servicenowtest.Move{Comment: "on time"}); err != nil {
		t.Fatal(err)
	}
	m, err := c.Mark(t.Context(), ticket.ID)
	if err != nil {
		t.Fatal(err)
	}
	late := servicenowtest.Faults{Rules: []servicenowtest.Fault{{Kind: servicenowtest.FaultLateStamp, Delay: 40 * time.Second, Next: 1, Method: http.MethodPatch}}}
	if err := srv.SetFaults(late); err != nil {
		t.Fatal(err)
	}
	admin(t, srv, http.MethodPatch, "/api/now/table/incident/"+string(ticket.ID), "application/json", `{"comments":"late"}`)
	entries, behind, err := c.Journal(t.Context(), ticket.ID, m)
	if err != nil || len(entries) != 1 || entries[0].Body != "late" {
		t.Fatalf("%+v %v, want the late entry", entries, err)
	}
	if entries, _, err = c.Journal(t.Context(), ticket.ID, behind); err != nil || len(entries) != 0 {
		t.Errorf("%+v %v, want nothing twice", entries, err)
	}
}

// An entry that a wrong clock stamped in the future hides nothing that is said after it.
func TestJournalFutureStamp(t *testing.T) {
	t.Parallel()
	clk := &clock{at: time.Now().UTC()}
	srv := simulator(t, servicenowtest.Config{Now: clk.now})
	c := connect(t, srv)
	ticket := open(t, c)
	clk.advance(time.Hour)
	if _, err := srv.Act(string(ticket.ID), servicenowtest.Move{Comment: "from later"}); err != nil {
		t.Fatal(err)
	}
	m, err := c.Mark(t.Context(), ticket.ID)
	if err != nil {
		t.Fatal(err)
	}
	clk.advance(-time.Hour)
	said, err := c.Say(t.Context(), ticket.ID, connectors.Message{Visibility: connectors.Public, Body: "now"}, m)
	if err != nil {
		t.Fatal(err)
	}
	entries, behind, err := c.Journal(t.Context(), ticket.ID, m)
	if err != nil || len(entries) != 1 || entries[0].ID != said.ID {
		t.Errorf("%+v %v, want %s", entries, err, said.ID)
	}
	if entries, _, err = c.Journal(t.Context(), ticket.ID, behind); err != nil || len(entries) != 0 {
		t.Errorf("%+v %v, want nothing twice", entries, err)
	}
}

// With client credentials and API keys nobody has said who the account is; the vendor is asked.
func TestOwnIsLearned(t *testing.T) {
	t.Parallel()
	for name, auth := range map[string]func(string) connectors.Credentials{
		"api key": func(string) connectors.Credentials {
			return connectors.Credentials{Token: connectors.NewSecret("Plant3d-Key-77aa")}
		},
		"client credentials": func(base string) connectors.Credentials {
			return connectors.Credentials{OAuth2: &connectors.OAuth2{
				TokenURL: base + "/oauth_token.do", Grant: connectors.GrantClientCredentials, ClientID: "liaison-client", ClientSecret: connectors.NewSecret("Plant3d-Client-Secret"),
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := simulator(t, servicenowtest.Config{})
			ticket := open(t, connect(t, srv))
			for _, journal := range []string{"comments", "work_notes"} {
				req, _ := http.NewRequest(http.MethodPatch, srv.URL+"/api/now/table/incident/"+string(ticket.ID), strings.NewReader(`{"`+journal+`":"from the account"}`))
				req.SetBasicAuth(login, password)
				req.Header.Set("Content-Type", "application/json")
				if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != http.StatusOK {
					t.Fatal(resp, err)
				}
			}
			c := connect(t, srv, func(cfg *connectors.Config) { cfg.Auth = auth(srv.URL) })
			entries, _, err := c.Journal(t.Context(), ticket.ID, "")
			if err != nil || len(entries) != 2 || !entries[0].Own || !entries[1].Own {
				t.Errorf("%+v %v, want two own entries", entries, err)
			}
			srv.ExpireTokens()
			if _, err := c.Read(t.Context(), ticket.ID, nil); err != nil {
				t.Errorf("after the tokens expired: %v", err)
			}
		})
	}
}

func TestAttachments(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{})
	c := connect(t, srv, setting("page_size", "2"))
	ticket, other := open(t, c), open(t, c)
	for i := range 5 {
		q := url.Values{"table_name": {"incident"}, "table_sys_id": {string(ticket.ID)}, "file_name": {fmt.Sprintf("photo %d.jpg", i)}}
		admin(t, srv, http.MethodPost, "/api/now/attachment/file?"+q.Encode(), "image/jpeg", strings.Repeat("x", i+1))
	}
	files, err := c.Attachments(t.Context(), ticket.ID)
	if err != nil || len(files) != 5 {
		t.Fatalf("%+v %v, want 5 files", files, err)
	}
	var size int64
	for _, f := range files {
		size += f.Size
		if f.ID == "" || f.ContentType != "image/jpeg" || f.Own || f.Author != "admin" || f.At.IsZero() || !strings.HasPrefix(f.Name, "photo ") {
			t.Errorf("%+v", f)
		}
	}
	if size != 15 {
		t.Errorf("sizes add up to %d, want 15", size)
	}
	if files, err := c.Attachments(t.Context(), other.ID); err != nil || len(files) != 0 {
		t.Errorf("a ticket without files: %+v %v", files, err)
	}
}

// Codes and UTC are asked for in every reading call: labels depend on the account's language and zone (section 5).
func TestPlainValuesAreAskedFor(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{Switches: servicenowtest.Switches{Language: "de"}})
	c := connect(t, srv)
	ticket := open(t, c)
	got, err := c.Read(t.Context(), ticket.ID, []string{"state", "opened_by", "opened_by.user_name", "no_such_column"})
	if err != nil || got.Fields["state"] != "1" || got.Fields["opened_by.user_name"] != login || len(got.Fields["opened_by"]) != 32 {
		t.Errorf("%v %v, want codes and ids", got.Fields, err)
	}
	if _, shown := got.Fields["no_such_column"]; shown {
		t.Error("a column that does not exist was read as empty")
	}
	for _, call := range srv.Calls() {
		q, _ := url.ParseQuery(call.Query)
		if q.Get("sysparm_display_value") != "false" || q.Get("sysparm_exclude_reference_link") != "true" || q.Get("sysparm_fields") == "" {
			t.Errorf("%s %s?%s", call.Method, call.Path, call.Query)
		}
	}
}

func TestReadHook(t *testing.T) {
	t.Parallel()
	const id = "46e18c0fa9fe19810066a0083f76bd56"
	full := `{"sys_id":"` + id + `","number":"INC0010001","sys_mod_count":"3","sys_updated_on":"2026-11-21 10:00:00"}`
	nested := []func(*connectors.Config){setting("hook_id", "record.sys_id"), setting("hook_number", "record.number"), setting("hook_version", "mod")}
	for name, c := range map[string]struct {
		body     string
		settings []func(*connectors.Config)
		want     []connectors.Ref // nil: refused
	}{
		"whole":                {full, nil, []connectors.Ref{{ID: id, Number: "INC0010001", Version: "3@2026-11-21 10:00:00"}}},
		"blanks around":        {"\n " + full + " \n", nil, []connectors.Ref{{ID: id, Number: "INC0010001", Version: "3@2026-11-21 10:00:00"}}},
		"id alone":             {`{"sys_id":"` + id + `"}`, nil, []connectors.Ref{{ID: id}}},
		"number alone":         {`{"number":"INC0010001","sys_mod_count":3}`, nil, []connectors.Ref{{Number: "INC0010001"}}},
		"reference object":     {`{"sys_id":{"value":"` + id + `","display_value":"INC1"}}`, nil, []connectors.Ref{{ID: id}}},
		"list":                 {`[{"number":"INC1"},{"number":"INC2"}]`, nil, []connectors.Ref{{Number: "INC1"}, {Number: "INC2"}}},
		"own keys":             {`{"record":{"sys_id":"` + id + `","number":"INC1"},"mod":7}`, nested, []connectors.Ref{{ID: id, Number: "INC1"}}},
		"no known key":         {`{"id":"` + id + `"}`, nil, nil},
		"no sys_id":            {`{"sys_id":"../../etc/passwd"}`, nil, nil},
		"query in the number":  {`{"number":"INC1^NQactive=true"}`, nil, nil},
		"script in the number": {`{"number":"javascript:gs.getUserID()"}`, nil, nil},
		"control character":    {`{"number":"INC1\u001b[31m"}`, nil, nil},
		"list in the key":      {`{"sys_id":["` + id + `"]}`, nil, nil},
		"key twice":            {`{"number":"INC1","number":"INC2"}`, nil, nil},
		"too many":             {"[" + strings.TrimSuffix(strings.Repeat(`{"number":"INC1"},`, 101), ",") + "]", nil, nil},
		"form":                 {"sys_id=" + id, nil, nil},
		"cut":                  {full[:len(full)-2], nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := connectors.Config{Key: "x", URL: "https://example.service-now.com"}
			for _, s := range c.settings {
				s(&cfg)
			}
			conn, err := servicenow.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			refs, err := conn.ReadHook(connectors.Hook{Body: []byte(c.body)})
			if c.want == nil {
				_ = wantKind(t, err, connectors.Rejected)
				return
			}
			if err != nil || !slices.Equal(refs, c.want) {
				t.Errorf("%+v %v, want %+v", refs, err, c.want)
			}
		})
	}
}

// The simulator's own calls are understood with the settings' defaults.
func TestReadHookOfTheSimulator(t *testing.T) {
	t.Parallel()
	bodies := make(chan []byte, 10)
	receiver := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- body
	})
	srv := simulator(t, servicenowtest.Config{Webhook: servicenowtest.Webhook{URL: listen(t, receiver)}})
	c := connect(t, srv)
	ticket := open(t, c)
	var body []byte
	select {
	case body = <-bodies:
	case <-time.After(20 * time.Second):
		t.Fatal("no call")
	}
	refs, err := c.ReadHook(connectors.Hook{Body: body})
	if err != nil || len(refs) != 1 || refs[0].ID != ticket.ID || refs[0].Number != ticket.Number {
		t.Errorf("%s: %+v %v, want %s %s", body, refs, err, ticket.ID, ticket.Number)
	}
	if refs[0].Version != "" && refs[0].Version != ticket.Version {
		t.Errorf("version %q, want %q", refs[0].Version, ticket.Version)
	}
}

func FuzzReadHook(f *testing.F) {
	f.Add(`{"sys_id":"46e18c0fa9fe19810066a0083f76bd56","number":"INC1","sys_mod_count":1}`)
	f.Add(`[{"number":{"value":"INC1"}}]`)
	f.Add(`{"sys_id":null}`)
	conn, err := servicenow.New(connectors.Config{Key: "x", URL: "https://example.service-now.com"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		refs, err := conn.ReadHook(connectors.Hook{Body: []byte(body)})
		if err != nil {
			_ = wantKind(t, err, connectors.Rejected)
			return
		}
		for _, r := range refs {
			if r.ID == "" && r.Number == "" || strings.ContainsAny(string(r.ID)+r.Number, "^\r\n/") || !json.Valid([]byte(body)) {
				t.Errorf("%q gives %+v", body, r)
			}
		}
	})
}

//go:build e2e

package requesttracker_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"liaison/connectors"
	"liaison/connectors/requesttracker"
	"liaison/e2e/peers/rt5"
)

// TestTraps goes through what is peculiar to RT, on one server: its tests open tickets of their own.
func TestTraps(t *testing.T) {
	t.Parallel()
	s := startRT(t)
	for name, trap := range map[string]func(*testing.T, rt){
		"a long subject is cut":                    subjectCut,
		"a refused status comes with RT's words":   refusedStatus,
		"a partial refusal shows in the answer":    partialRefusal,
		"fields of all sorts":                      fieldSorts,
		"unicode":                                  unicodeText,
		"a status that opens no ticket":            startStatus,
		"a dropped correlation id is told":         droppedCorrelation,
		"a missing field stops the create":         missingField,
		"merged":                                   merged,
		"deleted":                                  deletedTicket,
		"replies leave the status alone":           repliesAndStatus,
		"the sender's key comes back":              messageKey,
		"HTML, files and other authors":            otherMessages,
		"a ticket is followed into another queue":  movedQueue,
		"watched queues":                           watchedQueues,
		"a user in Tokyo":                          tokyo,
		"what RT takes for a browser":              browser,
		"rights that are missing":                  missingRights,
		"signing in with a password":               password,
		"an id that leads elsewhere":               naivePath,
		"either address of the server":             restAddress,
		"a correlation id that is none is refused": noUUID,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trap(t, s)
		})
	}
}

func open(t *testing.T, c *requesttracker.Connector, f connectors.Fields) connectors.Ticket {
	t.Helper()
	all := connectors.Fields{"Subject": t.Name(), "Content": "a fault"}
	for name, v := range f {
		all[name] = v
	}
	ticket, err := c.Create(t.Context(), connectors.Draft{CorrelationID: uuid.NewString(), Fields: all})
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func read(t *testing.T, c *requesttracker.Connector, id connectors.ExternalID, fields ...string) connectors.Ticket {
	t.Helper()
	ticket, err := c.Read(t.Context(), id, fields)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func wantKind(t *testing.T, doing string, err error, want connectors.Kind) {
	t.Helper()
	_ = failure(t, doing, err, want)
}

// failure returns an error that is of that kind.
func failure(t *testing.T, doing string, err error, want connectors.Kind) *connectors.Error {
	t.Helper()
	e, ok := errors.AsType[*connectors.Error](err)
	if !ok || e.Kind != want {
		t.Fatalf("%s: %v, want kind %s", doing, err, want)
	}
	return e
}

func subjectCut(t *testing.T, s rt) {
	c := s.connect(t, nil)
	long := strings.Repeat("0123456789", 25)
	ticket := open(t, c, nil)
	got, err := c.Update(t.Context(), ticket.ID, connectors.Fields{"Subject": long})
	if err != nil || got.Fields["Subject"] != long[:200] {
		t.Errorf("a subject of 250 bytes: %q (%v), want its first 200", got.Fields["Subject"], err)
	}
}

// refusedStatus: closed has no way out. RT answers that with 200 and a sentence.
func refusedStatus(t *testing.T, s rt) {
	c := s.connect(t, nil)
	ticket := open(t, c, connectors.Fields{"Status": "in progress"})
	for _, status := range []string{"resolved", "closed"} {
		if _, err := c.Update(t.Context(), ticket.ID, connectors.Fields{"Status": status}); err != nil {
			t.Fatal(err)
		}
	}
	before := read(t, c, ticket.ID)
	_, err := c.Update(t.Context(), ticket.ID, connectors.Fields{"Status": "in progress"})
	e := failure(t, "opening a closed ticket", err, connectors.Rejected)
	if !strings.Contains(e.Vendor, "closed") || !slices.Equal(e.Fields, []string{"Status"}) {
		t.Errorf("the refusal says %q about %v, want RT's words about Status", e.Vendor, e.Fields)
	}
	got, err := c.Update(t.Context(), ticket.ID, connectors.Fields{"Status": "closed"})
	if err != nil || got.Version != before.Version {
		t.Errorf("the same status again: version %s after %s (%v), want nothing written", got.Version, before.Version, err)
	}
}

func partialRefusal(t *testing.T, s rt) {
	c := s.connect(t, nil)
	ticket := open(t, c, nil)
	got, err := c.Update(t.Context(), ticket.ID, connectors.Fields{
		"Subject": "taken", "Status": "bogus", "Owner": "nobody.of.that.name", "CustomFields.Severity": "S9", "CustomFields.No Such": "x",
	})
	if err != nil {
		t.Fatalf("a write of which RT took a part: %v", err)
	}
	want := connectors.Fields{"Subject": "taken", "Status": "new", "Owner": "", "CustomFields.Severity": ""}
	if diff := cmp.Diff(want, got.Fields); diff != "" {
		t.Errorf("the ticket afterwards (-want +got):\n%s", diff)
	}
}

func fieldSorts(t *testing.T, s rt) {
	c := s.connect(t, func(cfg *connectors.Config) {
		cfg.Settings["requestor"] = "carol@customer.example.test"
		cfg.Settings["create.CustomFields.Severity"] = "S4"
		cfg.Settings["create.Priority"] = "20"
	})
	ticket := open(t, c, connectors.Fields{"Priority": "40"})
	names := []string{"Queue", "Requestor", "Priority", "Owner", "Due", "CustomFields.Severity", "CustomFields.Workaround", "CustomFields.No Such"}
	got := read(t, c, ticket.ID, names...)
	want := connectors.Fields{
		"Queue": "Incidents", "Requestor": "carol@customer.example.test", "Priority": "40", "Owner": "", "Due": "", "CustomFields.Severity": "S4", "CustomFields.Workaround": "",
	}
	if diff := cmp.Diff(want, got.Fields); diff != "" {
		t.Errorf("as opened (-want +got):\n%s", diff)
	}
	for _, step := range []connectors.Fields{
		{"Owner": "alice", "Due": "2026-12-02T10:00:00Z", "CustomFields.Severity": "S1", "CustomFields.Workaround": "one\ntwo", "Priority": "0"},
		{"Owner": "", "Due": "", "CustomFields.Severity": "", "CustomFields.Workaround": ""},
		{"CustomFields.Severity": "S2"},
	} {
		got, err := c.Update(t.Context(), ticket.ID, step)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step, got.Fields); diff != "" {
			t.Errorf("after writing %v (-want +got):\n%s", step, diff)
		}
	}
	if got.URL != s.URL+"/Ticket/Display.html?id="+string(ticket.ID) {
		t.Errorf("URL %q", got.URL)
	}
}

func unicodeText(t *testing.T, s rt) {
	c := s.connect(t, nil)
	const subject = `Zürich 日本 € 🙂 "quoted" \ <b>`
	ticket := open(t, c, connectors.Fields{"Subject": subject, "Content": "naïve 日本\r\nsecond line"})
	if got := read(t, c, ticket.ID, "Subject").Fields["Subject"]; got != subject {
		t.Errorf("Subject %q, want %q", got, subject)
	}
	entries, _, err := c.Journal(t.Context(), ticket.ID, "")
	if err != nil || len(entries) != 0 {
		t.Errorf("the description is no message, yet the journal holds %+v (%v)", entries, err)
	}
}

// startStatus: the lifecycle opens no ticket on hold. A ticket that is new is better than none.
func startStatus(t *testing.T, s rt) {
	c := s.connect(t, nil)
	ticket := open(t, c, connectors.Fields{"Status": "on hold", "Priority": "70"})
	if want := (connectors.Fields{"Status": "new", "Priority": "70"}); ticket.Fields["Status"] != want["Status"] || ticket.Fields["Priority"] != want["Priority"] {
		t.Errorf("opened with %v, want %v", ticket.Fields, want)
	}
	if n := s.alice.count(t, ticket.CorrelationID); n != 1 {
		t.Errorf("%d tickets, want 1", n)
	}
}

// droppedCorrelation: Severity exists, takes four words, and RT drops any other with 201.
func droppedCorrelation(t *testing.T, s rt) {
	c := s.connect(t, func(cfg *connectors.Config) { cfg.Settings["correlation_field"] = "Severity" })
	_, err := c.Create(t.Context(), connectors.Draft{CorrelationID: uuid.NewString(), Fields: connectors.Fields{"Subject": t.Name()}})
	if e := failure(t, "Create", err, connectors.Rejected); !strings.Contains(e.Error(), "dropped the correlation id") {
		t.Errorf("the error does not say what happened: %v", e)
	}
}

func missingField(t *testing.T, s rt) {
	c := s.connect(t, func(cfg *connectors.Config) { cfg.Settings["correlation_field"] = "No Such Field" })
	subject := uuid.NewString()
	_, err := c.Create(t.Context(), connectors.Draft{CorrelationID: uuid.NewString(), Fields: connectors.Fields{"Subject": subject}})
	wantKind(t, "Create", err, connectors.Auth)
	wantKind(t, "Check", c.Check(t.Context()), connectors.Auth)
	_, err = c.FindByCorrelation(t.Context(), uuid.NewString())
	wantKind(t, "FindByCorrelation", err, connectors.Auth)
	var found struct{ Items []any }
	s.alice.call(t, http.MethodGet, "/tickets?query=Subject%3D%27"+subject+"%27", nil, &found)
	if len(found.Items) != 0 {
		t.Error("a ticket was opened that nobody finds again")
	}
	key := s.connect(t, func(cfg *connectors.Config) { cfg.Settings["message_key_field"] = "No Such Field" })
	if e := failure(t, "Check without the key's field", key.Check(t.Context()), connectors.Auth); !strings.Contains(e.Error(), "settings.message_key_field") {
		t.Errorf("the error names no setting: %v", e)
	}
	queue := s.connect(t, func(cfg *connectors.Config) { cfg.Settings["queue"] = "Private" })
	wantKind(t, "Check of a queue without rights", queue.Check(t.Context()), connectors.Auth)
}

func merged(t *testing.T, s rt) {
	c := s.connect(t, nil)
	kept, gone := open(t, c, nil), open(t, c, nil)
	at, err := c.Changes(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	s.alice.put(t, gone.ID, map[string]any{"MergeInto": string(kept.ID)})
	if !eventuallyChanged(t, c, at.Next, gone.ID) {
		t.Error("the merged ticket is not among the changes")
	}
	got := read(t, c, gone.ID, "Subject")
	if got.ID != gone.ID || got.Gone != connectors.Merged || got.SuccessorID != kept.ID {
		t.Errorf("Read: %+v, want merged into %s", got, kept.ID)
	}
	found, err := c.FindByCorrelation(t.Context(), gone.CorrelationID)
	if err != nil || len(found) != 1 || found[0].ID != gone.ID || found[0].SuccessorID != kept.ID || found[0].CorrelationID != gone.CorrelationID {
		t.Errorf("FindByCorrelation: %+v (%v), want the merged ticket: else it would be opened again", found, err)
	}
	before := read(t, c, kept.ID, "Subject")
	_, err = c.Update(t.Context(), gone.ID, connectors.Fields{"Subject": "for the other"})
	wantKind(t, "Update", err, connectors.Conflict)
	_, err = c.Say(t.Context(), gone.ID, connectors.Message{Key: "k", Visibility: connectors.Internal, Body: "for the other"}, "")
	wantKind(t, "Say", err, connectors.Conflict)
	if diff := cmp.Diff(before, read(t, c, kept.ID, "Subject")); diff != "" {
		t.Errorf("the other ticket was changed (-before +after):\n%s", diff)
	}
}

func deletedTicket(t *testing.T, s rt) {
	c := s.connect(t, nil)
	ticket := open(t, c, nil)
	s.root.put(t, ticket.ID, map[string]any{"Status": "deleted"})
	if got := read(t, c, ticket.ID, "Status"); got.Gone != connectors.Deleted || got.Fields["Status"] != "deleted" || got.ID != ticket.ID {
		t.Errorf("Read: %+v, want deleted", got)
	}
	_, err := c.Update(t.Context(), ticket.ID, connectors.Fields{"Subject": "nobody looks there"})
	wantKind(t, "Update", err, connectors.NotFound)
	_, err = c.Say(t.Context(), ticket.ID, connectors.Message{Key: "k", Visibility: connectors.Public, Body: "nobody looks there"}, "")
	wantKind(t, "Say", err, connectors.NotFound)
	if n := len(s.alice.messages(t, ticket.ID)); n != 0 {
		t.Errorf("%d messages went to a deleted ticket", n)
	}
}

// repliesAndStatus: a mirrored message is no work on the ticket. RT's rule for replies is undone wherever the lifecycle
// lets it: of the test server's, only from acknowledged there is no way back to new.
func repliesAndStatus(t *testing.T, s rt) {
	for _, tt := range []struct {
		queue string
		path  []string // the statuses gone through
		want  string
	}{
		{"Incidents", nil, "acknowledged"},
		{"Incidents", []string{"acknowledged"}, "acknowledged"},
		{"Incidents", []string{"in progress"}, "in progress"},
		{"Incidents", []string{"in progress", "on hold"}, "on hold"},
		{"Incidents", []string{"in progress", "resolved"}, "resolved"},
		{"Incidents", []string{"in progress", "resolved", "closed"}, "closed"},
		{"Incidents", []string{"cancelled"}, "cancelled"},
		{"Service Requests", nil, "new"},
		{"Service Requests", []string{"open", "stalled"}, "stalled"},
		{"Service Requests", []string{"resolved"}, "resolved"},
		{"Service Requests", []string{"rejected"}, "rejected"},
	} {
		name := tt.queue + " new"
		if n := len(tt.path); n > 0 {
			name = tt.queue + " " + tt.path[n-1]
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := s.connect(t, func(cfg *connectors.Config) { cfg.Settings["queue"] = tt.queue })
			id := open(t, c, nil).ID
			status := "new"
			for _, status = range tt.path {
				if _, err := c.Update(t.Context(), id, connectors.Fields{"Status": status}); err != nil {
					t.Fatal(err)
				}
			}
			for _, v := range []connectors.Visibility{connectors.Internal, connectors.Public} {
				if _, err := c.Say(t.Context(), id, connectors.Message{Key: uuid.NewString(), Visibility: v, Body: "mirrored"}, ""); err != nil {
					t.Fatal(err)
				}
				want := status
				if v == connectors.Public {
					want = tt.want
				}
				if got := s.alice.status(t, id); got != want {
					t.Errorf("%s message to a ticket that is %s: now %s, want %s", v, status, got, want)
				}
			}
		})
	}
}

func messageKey(t *testing.T, s rt) {
	c := s.connect(t, nil)
	id := open(t, c, nil).ID
	mark, err := c.Mark(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	key := uuid.NewString()
	said, err := c.Say(t.Context(), id, connectors.Message{Key: key, Visibility: connectors.Public, Body: "hello\nthere"}, mark)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := c.Journal(t.Context(), id, mark)
	if err != nil || len(got) != 1 {
		t.Fatalf("Journal: %+v (%v), want one entry", got, err)
	}
	want := connectors.JournalEntry{ID: said.ID, Key: key, Visibility: connectors.Public, Body: "hello\nthere", Author: "Hub Integration", Own: true, At: got[0].At}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Errorf("the entry (-want +got):\n%s", diff)
	}
	if since := time.Since(got[0].At); since < -time.Minute || since > time.Minute {
		t.Errorf("At is %s ago", since)
	}
}

func otherMessages(t *testing.T, s rt) {
	c := s.connect(t, nil)
	id := open(t, c, nil).ID
	s.alice.say(t, id, connectors.Public, "text/html", "<p>Dear <b>all</b>,</p><ul><li>one &amp; two</li></ul>")
	file := base64.StdEncoding.EncodeToString([]byte("0123"))
	files := []map[string]string{{"FileName": "evidence.png", "FileType": "image/png", "FileContent": file}}
	s.alice.call(t, http.MethodPost, "/ticket/"+string(id)+"/comment", map[string]any{"Attachments": files}, nil)
	s.alice.call(t, http.MethodPost, "/ticket/"+string(id)+"/comment", map[string]any{"Attachments": append(files, map[string]string{
		"FileName": "log.txt", "FileType": "text/plain", "FileContent": file,
	}), "Content": "see the files", "ContentType": "text/plain"}, nil)
	s.alice.call(t, http.MethodPost, "/ticket/"+string(id)+"/comment", map[string]any{}, nil)
	got, mark, err := c.Journal(t.Context(), id, "")
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		Visibility   connectors.Visibility
		Body, Author string
		Own          bool
	}
	var lines []line
	for _, e := range got {
		lines = append(lines, line{e.Visibility, e.Body, e.Author, e.Own})
	}
	want := []line{
		{connectors.Public, "Dear all,\n\n- one & two", "Alice Agent", false},
		{connectors.Internal, "Attached: evidence.png", "Alice Agent", false},
		{connectors.Internal, "see the files", "Alice Agent", false},
		{connectors.Internal, "", "Alice Agent", false},
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("the journal (-want +got):\n%s", diff)
	}
	again, _, err := c.Journal(t.Context(), id, mark)
	if err != nil || len(again) != 0 {
		t.Errorf("beyond the end: %+v (%v), want nothing", again, err)
	}
}

// eventuallyChanged drains the changes a few times and tells whether the ticket was among them.
func eventuallyChanged(t *testing.T, c *requesttracker.Connector, at connectors.Cursor, id connectors.ExternalID) bool {
	t.Helper()
	seen, _ := drain(t, c, at)
	return slices.ContainsFunc(seen, func(r connectors.Ref) bool { return r.ID == id })
}

func drain(t *testing.T, c *requesttracker.Connector, at connectors.Cursor) ([]connectors.Ref, connectors.Cursor) {
	t.Helper()
	var refs []connectors.Ref
	for {
		p, err := c.Changes(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		refs, at = append(refs, p.Refs...), p.Next
		if !p.More {
			return refs, at
		}
	}
}

// movedQueue: a provider's agent hands the ticket to another team. It must not be lost from sight.
func movedQueue(t *testing.T, s rt) {
	c := s.connect(t, nil)
	id := open(t, c, nil).ID
	s.alice.put(t, id, map[string]any{"Queue": "Changes"})
	_, at := drain(t, c, "")
	s.alice.put(t, id, map[string]any{"Subject": "in the other queue"})
	refs, _ := drain(t, c, at)
	i := slices.IndexFunc(refs, func(r connectors.Ref) bool { return r.ID == id })
	if i < 0 {
		t.Fatal("the moved ticket's change was not shown")
	}
	got := read(t, c, id, "Queue", "Subject")
	if got.Fields["Queue"] != "Changes" || got.Version != refs[i].Version {
		t.Errorf("read %v at version %s, want queue Changes at %s", got.Fields, got.Version, refs[i].Version)
	}
}

func watchedQueues(t *testing.T, s rt) {
	c := s.connect(t, func(cfg *connectors.Config) { cfg.Settings["watch_queues"] = "Changes, Service Requests" })
	other := s.connect(t, func(cfg *connectors.Config) { cfg.Settings["queue"] = "Service Requests" })
	_, at := drain(t, c, "")
	unwatched, watched := open(t, s.connect(t, nil), nil).ID, open(t, other, nil).ID
	refs, _ := drain(t, c, at)
	has := func(id connectors.ExternalID) bool {
		return slices.ContainsFunc(refs, func(r connectors.Ref) bool { return r.ID == id })
	}
	if has(unwatched) || !has(watched) {
		t.Errorf("shown: the other queue's ticket %t, the watched one's %t", has(unwatched), has(watched))
	}
}

// tokyo: RT reads dates in queries in the account's zone. Nothing here sends one.
func tokyo(t *testing.T, s rt) {
	c := s.connect(t, func(cfg *connectors.Config) {
		cfg.Auth = connectors.Credentials{Basic: &connectors.Basic{User: s.Tomo.Name, Password: connectors.NewSecret(s.Tomo.Password)}}
	})
	ticket := open(t, c, nil)
	if since := time.Since(ticket.UpdatedAt); since < -time.Minute || since > time.Minute {
		t.Errorf("updated %s ago", since)
	}
	_, at := drain(t, c, "")
	mark, err := c.Mark(t.Context(), ticket.ID)
	if err != nil {
		t.Fatal(err)
	}
	id := s.alice.say(t, ticket.ID, connectors.Public, "text/plain", "hello Tokyo")
	if refs, _ := drain(t, c, at); !slices.ContainsFunc(refs, func(r connectors.Ref) bool { return r.ID == ticket.ID }) {
		t.Error("the change was not shown")
	}
	entries, _, err := c.Journal(t.Context(), ticket.ID, mark)
	if err != nil || len(entries) != 1 || entries[0].ID != id {
		t.Errorf("Journal: %+v (%v), want %s alone", entries, err, id)
	}
}

// headers adds to every request what a careless gateway would.
type headers map[string]string

func (h headers) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, v := range h {
		r.Header.Set(name, v)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// browser: to what looks like one, RT answers a wrong sign-in with a redirect. Nothing was done then.
func browser(t *testing.T, s rt) {
	for name, h := range map[string]headers{"cookie": {"Cookie": "a=b"}, "user agent": {"User-Agent": "Mozilla/5.0"}} {
		c := s.connect(t, func(cfg *connectors.Config) {
			cfg.Transport = h
			cfg.Auth = connectors.Credentials{Basic: &connectors.Basic{User: "hub", Password: connectors.NewSecret("not-the-password")}}
		})
		wantKind(t, name+": Check", c.Check(t.Context()), connectors.Auth)
		_, err := c.Create(t.Context(), connectors.Draft{CorrelationID: uuid.NewString(), Fields: connectors.Fields{"Subject": "x"}})
		wantKind(t, name+": Create", err, connectors.Auth)
	}
}

func missingRights(t *testing.T, s rt) {
	id := open(t, s.connect(t, nil), nil).ID
	c := s.connect(t, func(cfg *connectors.Config) {
		cfg.Auth = connectors.Credentials{Basic: &connectors.Basic{User: s.Outsider.Name, Password: connectors.NewSecret(s.Outsider.Password)}}
	})
	_, err := c.Read(t.Context(), id, nil)
	wantKind(t, "Read", err, connectors.Auth)
	_, err = c.Say(t.Context(), id, connectors.Message{Key: "k", Visibility: connectors.Public, Body: "hello"}, "")
	wantKind(t, "Say", err, connectors.Auth)
	_, _, err = c.Journal(t.Context(), id, "")
	wantKind(t, "Journal", err, connectors.Auth)
	_, err = c.Mark(t.Context(), id)
	wantKind(t, "Mark", err, connectors.Auth)
	_, err = c.FindByCorrelation(t.Context(), uuid.NewString())
	wantKind(t, "FindByCorrelation", err, connectors.Auth)
}

func password(t *testing.T, s rt) {
	c := s.connect(t, func(cfg *connectors.Config) { cfg.Auth = s.basic() })
	if err := c.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := open(t, c, nil).ID
	if _, err := c.Say(t.Context(), id, connectors.Message{Key: "k", Visibility: connectors.Internal, Body: "ours"}, ""); err != nil {
		t.Fatal(err)
	}
	// The token's owner is the same user: what one wrote is the other's own.
	entries, _, err := s.connect(t, nil).Journal(t.Context(), id, "")
	if err != nil || len(entries) != 1 || !entries[0].Own {
		t.Errorf("Journal: %+v (%v), want one own entry", entries, err)
	}
}

func naivePath(t *testing.T, s rt) {
	c := s.connect(t, nil)
	for _, id := range []connectors.ExternalID{"", "0", "-1", "1/history", "../queue/1", "1?fields=x", "1 OR id > 0", "１", "12345678901"} {
		_, err := c.Read(t.Context(), id, nil)
		wantKind(t, "Read "+string(id), err, connectors.Rejected)
		_, err = c.Mark(t.Context(), id)
		wantKind(t, "Mark "+string(id), err, connectors.Rejected)
		_, err = c.Update(t.Context(), id, connectors.Fields{"Subject": "x"})
		wantKind(t, "Update "+string(id), err, connectors.Rejected)
	}
}

func restAddress(t *testing.T, s rt) {
	for _, suffix := range []string{"", "/", "/REST/2.0", "/REST/2.0/"} {
		c := s.connect(t, func(cfg *connectors.Config) { cfg.URL += suffix })
		if err := c.Check(t.Context()); err != nil {
			t.Errorf("address with %q: %v", suffix, err)
		}
	}
}

func noUUID(t *testing.T, s rt) {
	c := s.connect(t, nil)
	for _, id := range []string{"", "x' OR id > 0 OR CF.{External ID} = '", "11111111-1111-4111-8111-11111111111'"} {
		_, err := c.FindByCorrelation(t.Context(), id)
		wantKind(t, "FindByCorrelation", err, connectors.Rejected)
		_, err = c.Create(t.Context(), connectors.Draft{CorrelationID: id, Fields: connectors.Fields{"Subject": "x"}})
		wantKind(t, "Create", err, connectors.Rejected)
	}
}

// call is a webhook call as it arrived.
type call struct {
	header http.Header
	body   []byte
	event  struct {
		Ticket      json.Number
		Transaction json.Number
		Type        string
	}
}

// listen takes the server's webhook calls; answer may hold them up.
func listen(t *testing.T, s rt, answer func(call)) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		c := call{header: r.Header.Clone()}
		c.body, _ = io.ReadAll(r.Body)
		if err := json.Unmarshal(c.body, &c.event); err != nil {
			t.Errorf("the webhook's body %q: %v", c.body, err)
		}
		answer(c)
	}))
	t.Cleanup(srv.Close)
	if err := s.SetWebhook(t.Context(), srv.URL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.SetWebhook(t.Context(), ""); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
}

// TestWebhook has a server of its own, because its calls are the whole server's: they come before the commit, and what
// they hold up is committed after what came later.
func TestWebhook(t *testing.T) {
	t.Parallel()
	s := startRT(t)
	earlyCall(t, s)
	lateCommit(t, s)
}

func earlyCall(t *testing.T, s rt) {
	c := s.connect(t, nil)
	type seen struct {
		call
		refs    []connectors.Ref
		readErr error
	}
	calls := make(chan seen, 16)
	listen(t, s, func(h call) {
		got := seen{call: h}
		if refs, err := c.ReadHook(connectors.Hook{Header: h.header, Body: h.body}); err != nil {
			t.Errorf("ReadHook of %s: %v", h.body, err)
		} else {
			got.refs = refs
			_, got.readErr = c.Read(t.Context(), refs[0].ID, nil)
		}
		calls <- got
	})
	ticket := open(t, s.connect(t, nil), nil)
	h := <-calls // made before the create's answer, so it is there
	wantKind(t, "Read from inside the call", h.readErr, connectors.NotFound)
	if want := []connectors.Ref{{ID: ticket.ID, Number: string(ticket.ID), Version: h.event.Transaction.String()}}; !slices.Equal(h.refs, want) {
		t.Errorf("ReadHook: %+v, want %+v", h.refs, want)
	}
	if got := read(t, c, ticket.ID); got.Version != h.refs[0].Version {
		t.Errorf("read again at version %s, want the hook's %s", got.Version, h.refs[0].Version)
	}
	mac := hmac.New(sha256.New, []byte(s.WebhookSecret))
	mac.Write(h.body)
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); h.header.Get("X-RT-Signature") != want {
		t.Errorf("signature %q, want %q", h.header.Get("X-RT-Signature"), want)
	}
}

// lateCommit: a change on the first ticket got its id and hangs before its commit; one on the second overtakes it. RT lets
// nobody hold it up for more than three seconds, so on a machine that is too busy the race is run again.
func lateCommit(t *testing.T, s rt) {
	for range 5 {
		if overtake(t, s) {
			return
		}
	}
	t.Error("the machine is too slow: RT never hung for long enough")
}

// overtake tells whether RT hung all the while.
func overtake(t *testing.T, s rt) bool {
	c := s.connect(t, nil)
	first, second := open(t, c, nil).ID, open(t, c, nil).ID
	mark, err := c.Mark(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	_, at := drain(t, c, "")
	hanging, release := make(chan struct{}), make(chan struct{})
	var since time.Time
	listen(t, s, func(h call) {
		if h.event.Ticket.String() == string(first) && h.event.Type == "Comment" {
			since = time.Now()
			close(hanging)
			<-release
		}
	})
	said := make(chan string, 1)
	go func() {
		_, header, _, _ := s.alice.try(t.Context(), http.MethodPost, "/ticket/"+string(first)+"/comment", map[string]any{"Content": "late", "ContentType": "text/plain"})
		said <- header.Get("Location")
	}()
	<-hanging
	s.alice.put(t, second, map[string]any{"Subject": "overtaken"})
	refs, at := drain(t, c, at)
	has := func(id connectors.ExternalID) bool {
		return slices.ContainsFunc(refs, func(r connectors.Ref) bool { return r.ID == id })
	}
	entries, mark, err := c.Journal(t.Context(), first, mark)
	if time.Since(since) > 2500*time.Millisecond {
		close(release)
		<-said
		return false
	}
	if !has(second) || has(first) {
		t.Fatalf("while the first hangs: %+v, want the second ticket alone", refs)
	}
	newest := refs[len(refs)-1].Version
	if err != nil || len(entries) != 0 {
		t.Fatalf("the journal while it hangs: %+v (%v), want nothing", entries, err)
	}
	close(release)
	if location := <-said; location == "" {
		t.Fatal("the late comment was not taken")
	}
	if refs, at = drain(t, c, at); !has(first) || has(second) {
		t.Errorf("after the late commit: %+v, want the first ticket alone", refs)
	} else if len(refs[0].Version) > len(newest) || refs[0].Version >= newest {
		t.Errorf("the late transaction %s is not below %s: the test shows nothing", refs[0].Version, newest)
	}
	if entries, _, err = c.Journal(t.Context(), first, mark); err != nil || len(entries) != 1 || entries[0].Body != "late" {
		t.Errorf("the journal afterwards: %+v (%v), want the late comment", entries, err)
	}
	if refs, _ = drain(t, c, at); len(refs) != 0 {
		t.Errorf("nothing has happened since, yet: %+v", refs)
	}
	return true
}

// TestServerZone: a server in New York reads a UTC date five hours off.
func TestServerZone(t *testing.T) {
	t.Parallel()
	srv := rt5.Start(t, rt5.Options{Timezone: "America/New_York", Workers: 2})
	s := rt{srv, person{srv, srv.Alice}, person{srv, srv.Root}}
	c := s.connect(t, nil)
	id := open(t, c, nil).ID
	_, at := drain(t, c, "")
	s.alice.put(t, id, map[string]any{"Subject": "changed"})
	if refs, _ := drain(t, c, at); len(refs) != 1 || refs[0].ID != id {
		t.Errorf("changes: %+v, want ticket %s", refs, id)
	}
}

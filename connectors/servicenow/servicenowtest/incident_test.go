package servicenowtest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
)

// Section 8: priority is looked up from impact and urgency; alone in a PATCH it has no lasting effect.
func TestSection8PriorityLookup(t *testing.T) {
	t.Parallel()
	c := newClient(t, servicenowtest.Start(t))
	id := c.create(`{}`)
	for _, row := range [][3]string{{"1", "1", "1"}, {"1", "2", "2"}, {"1", "3", "3"}, {"2", "1", "2"}, {"2", "2", "3"}, {"2", "3", "4"}, {"3", "1", "3"}, {"3", "2", "4"}, {"3", "3", "5"}} {
		r := c.patch(id, fmt.Sprintf(`{"impact":%q,"urgency":%q,"priority":"9"}`, row[0], row[1])).want(200).record()
		wantField(t, r, "priority", row[2])
	}
	wantField(t, c.patch(id, `{"priority":"1"}`).want(200).record(), "priority", "5")
}

func TestSection8SilentCuts(t *testing.T) {
	t.Parallel()
	c := newClient(t, servicenowtest.Start(t))
	r := c.read(c.create(fmt.Sprintf(`{"short_description":%q,"description":%q,"correlation_id":%q}`,
		strings.Repeat("ä", 161), strings.Repeat("d", 4001), strings.Repeat("c", 101))))
	for name, n := range map[string]int{"short_description": 160, "description": 4000, "correlation_id": 100} {
		if got := len([]rune(r[name].(string))); got != n {
			t.Errorf("%s has %d characters, want %d", name, got, n)
		}
	}
}

// Section 8, "State model and rules that change or refuse a write".
func TestSection8Resolve(t *testing.T) {
	t.Parallel()
	now := newClock()
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithNow(now.Now)))
	id := c.create(`{"state":"2"}`)
	c.patch(id, `{"state":"6"}`).wantError(403, "Operation Failed", "Data Policy Exception: The following fields are mandatory: Resolution code, Resolution notes")
	c.patch(id, `{"state":"7","close_notes":"n"}`).wantError(403, "Operation Failed", "Data Policy Exception: The following fields are mandatory: Resolution code")
	wantField(t, c.read(id), "state", "2")
	now.add(time.Minute)
	r := c.patch(id, `{"state":"6","close_code":"Solution provided","close_notes":"n"}`).want(200).record()
	for name, want := range map[string]string{"state": "6", "incident_state": "6", "active": "true", "resolved_at": "2026-03-04 10:21:30", "closed_at": ""} {
		wantField(t, r, name, want)
	}
	r = c.patch(id, `{"state":"2"}`).want(200).record()
	for name, want := range map[string]string{"state": "2", "reopen_count": "1", "reopened_time": "2026-03-04 10:21:30"} {
		wantField(t, r, name, want)
	}
	if who, _ := r["reopened_by"].(map[string]any); who == nil {
		t.Error("reopened_by is empty")
	}
	r = c.patch(id, `{"incident_state":"7"}`).want(200).record()
	for name, want := range map[string]string{"state": "7", "active": "false", "closed_at": "2026-03-04 10:21:30"} {
		wantField(t, r, name, want)
	}
}

func TestSection8ClosedIsReadOnly(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		mode   servicenowtest.Closed
		user   string
		status int
		title  string
	}{{"", "sim", 403, "old"}, {"drop", "sim", 200, "old"}, {"allow", "sim", 200, "new"}, {"", "admin", 200, "new"}} {
		t.Run(string(tc.mode)+" "+tc.user, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, servicenowtest.Start(t, servicenowtest.WithSwitches(servicenowtest.Switches{Closed: tc.mode})))
			for _, state := range []string{`"7","close_code":"User error","close_notes":"n"`, `"8"`} {
				id := c.create(`{"short_description":"old","state":` + state + `}`)
				was := c.read(id)["state"]
				a := c.as(tc.user).patch(id, `{"short_description":"new","state":"2"}`)
				if a.want(tc.status); tc.status == 403 {
					a.wantError(403, "Operation Failed", "Operation against file 'incident' was aborted by Business Rule '")
				}
				wantField(t, c.read(id), "short_description", tc.title)
				wantField(t, c.read(id), "state", was) // a closed incident cannot be reopened
			}
		})
	}
}

func TestSection8Hold(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t, servicenowtest.WithConfig(servicenowtest.Config{Users: []servicenowtest.User{
		{Name: "sim", Password: "sim"}, {Name: "joe.employee", Password: "joe.employee", FullName: "Joe Employee"},
	}}))
	c := newClient(t, s)
	caller := c.get("/api/now/table/sys_user", "user_name", "joe.employee").list()[0]["sys_id"].(string)
	id := c.create(`{"caller_id":"` + caller + `","state":"3","hold_reason":"4"}`)
	step := func(c *client, body, state, reason string) {
		t.Helper()
		r := c.patch(id, body).want(200).record()
		wantField(t, r, "state", state)
		wantField(t, r, "hold_reason", reason)
	}
	step(c, `{"state":"2"}`, "2", "")
	step(c, `{"state":"3","hold_reason":"1","comments":"which room?"}`, "3", "1")
	step(c, `{"comments":"the integration user's comment does not reopen"}`, "3", "1")
	step(c.as("joe.employee"), `{"work_notes":"a note neither"}`, "3", "1")
	step(c.as("joe.employee"), `{"comments":"room 12"}`, "2", "")
	step(c, `{"state":"3","hold_reason":"5"}`, "3", "5")
	step(c.as("joe.employee"), `{"comments":"only Awaiting Caller ends so"}`, "3", "5")
}

func TestSection8ParentAndChildren(t *testing.T) {
	t.Parallel()
	c := newClient(t, servicenowtest.Start(t))
	parent := c.create(`{}`)
	open := c.create(`{"parent_incident":"` + parent + `"}`)
	done := c.create(`{"parent_incident":"` + parent + `","state":"8"}`)
	wantField(t, c.read(parent), "child_incidents", "2")
	wantField(t, c.read(parent), "sys_mod_count", "0")
	c.patch(parent, `{"state":"3","hold_reason":"1"}`).want(200)
	wantField(t, c.read(open), "state", "1")
	c.patch(parent, `{"state":"2"}`).want(200)
	c.patch(parent, `{"state":"3","hold_reason":"4"}`).want(200)
	wantField(t, c.read(open), "hold_reason", "4")
	c.patch(parent, `{"state":"6","close_code":"User error","close_notes":"as told","comments":"all done"}`).want(200)
	r := c.read(open)
	wantField(t, r, "state", "6")
	wantField(t, r, "close_notes", "as told")
	wantField(t, c.read(done), "state", "8")
	if got := c.get("/api/now/table/sys_journal_field", "sysparm_query", "element_id="+open).column("value"); !slices.Equal(got, []string{"all done"}) {
		t.Errorf("child's journal: %v", got)
	}
	c.patch(parent, `{"state":"7"}`).want(200)
	wantField(t, c.read(open), "state", "6")
}

func TestSection8CustomerRules(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t, servicenowtest.WithSwitches(servicenowtest.Switches{
		AbortRules:      []servicenowtest.Rule{{Name: "No network tickets", When: "category=network"}},
		ResetRules:      []servicenowtest.Rule{{Name: "Keep title", When: "state=2", Field: "short_description"}},
		RequireCaller:   true,
		ClearNonMembers: true,
	}))
	c := newClient(t, s)
	c.do("POST", incidents, `{"category":"network","caller_id":"x"}`).wantError(403, "Operation Failed", "aborted by Business Rule 'No network tickets^")
	c.do("POST", incidents, `{}`).wantError(403, "Operation Failed", "Data Policy Exception: The following fields are mandatory: Caller")
	id := c.create(`{"caller_id":"x","state":"2","short_description":"kept"}`)
	wantField(t, c.patch(id, `{"short_description":"changed"}`).want(200).record(), "short_description", "kept")
	group := c.get("/api/now/table/sys_user_group", "name", "Network").list()[0]["sys_id"].(string)
	for login, stays := range map[string]bool{"beth.anglin": true, "abel.tuter": false} {
		user := c.get("/api/now/table/sys_user", "user_name", login).list()[0]["sys_id"].(string)
		r := c.patch(id, `{"assignment_group":"`+group+`","assigned_to":"`+user+`"}`).want(200).record()
		if (r["assigned_to"] != "") != stays {
			t.Errorf("%s: assigned_to = %v", login, r["assigned_to"])
		}
	}
}

func TestSection8LegacyStatesAndLanguage(t *testing.T) {
	t.Parallel()
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithSwitches(servicenowtest.Switches{LegacyStates: true, Language: "de"})))
	id := c.create(`{"state":"4"}`)
	r := c.get(incidents+"/"+id, "sysparm_display_value", "true").record()
	wantField(t, r, "state", "Warten auf Anwenderinformation")
	labels := c.get("/api/now/table/sys_choice", "sysparm_query", "name=incident^element=state^inactive=false^language=en^ORDERBYsequence").column("label")
	if want := []string{"New", "Active", "Awaiting Problem", "Awaiting User Info", "Awaiting Evidence", "Resolved", "Closed", "Canceled"}; !slices.Equal(labels, want) {
		t.Errorf("labels %q", labels)
	}
}

func TestSection8Choices(t *testing.T) {
	t.Parallel()
	c := newClient(t, servicenowtest.Start(t))
	id := c.create(`{"category":"made up","state":"41"}`)
	r := c.get(incidents+"/"+id, "sysparm_display_value", "all").record()
	wantField(t, r, "category", map[string]string{"display_value": "made up", "value": "made up"})
	c.do("POST", "/api/now/table/sys_choice", `{"name":"incident","element":"state","value":"41","label":"Awaiting Triage","language":"en"}`).want(201)
	r = c.get(incidents+"/"+id, "sysparm_display_value", "all").record()
	wantField(t, r, "state", map[string]string{"display_value": "Awaiting Triage", "value": "41"})
	codes := c.get("/api/now/table/sys_choice", "sysparm_query", "name=incident^element=close_code^inactive=false").column("value")
	if len(codes) != 10 || !slices.Contains(codes, "Workaround provided") {
		t.Errorf("close codes %q", codes)
	}
}

func TestSection8AutoClose(t *testing.T) {
	t.Parallel()
	now := newClock()
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithNow(now.Now), servicenowtest.WithSwitches(servicenowtest.Switches{AutoClose: 24 * time.Hour})))
	id := c.create(`{"state":"6","close_code":"User error","close_notes":"n"}`)
	now.add(24*time.Hour - time.Second)
	wantField(t, c.read(id), "state", "6")
	now.add(2 * time.Minute)
	r := c.read(id)
	wantField(t, r, "state", "7")
	wantField(t, r, "sys_updated_by", "system")
}

// Section 9: journals.
func TestSection9Journals(t *testing.T) {
	t.Parallel()
	now := newClock()
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithNow(now.Now)))
	id := c.create(`{"comments":"first"}`)
	now.add(time.Minute)
	wantField(t, c.patch(id, `{"comments":"second","work_notes":"inside"}`).want(200).record(), "comments", "")
	c.patch(id, `{"comments":"second"}`).want(200) // a retried write makes a second entry
	entries := c.get("/api/now/table/sys_journal_field", "sysparm_query", "element_id="+id+"^elementINcomments,work_notes^ORDERBYsys_created_on^ORDERBYsys_id").want(200).list()
	var texts []string
	for _, e := range entries {
		texts = append(texts, e["element"].(string)+":"+e["value"].(string))
		wantField(t, e, "name", "incident")
		wantField(t, e, "sys_created_by", "sim")
	}
	slices.Sort(texts)
	if want := []string{"comments:first", "comments:second", "comments:second", "work_notes:inside"}; !slices.Equal(texts, want) {
		t.Errorf("entries %q", texts)
	}
	r := c.get(incidents+"/"+id, "sysparm_display_value", "all", "sysparm_fields", "comments,work_notes,comments_and_work_notes").record()
	second := "2026-03-04 10:21:30 - Web Service (Additional comments)\nsecond\n\n"
	first := "2026-03-04 10:20:30 - Web Service (Additional comments)\nfirst\n\n"
	note := "2026-03-04 10:21:30 - Web Service (Work notes)\ninside\n\n"
	for name, want := range map[string]string{"comments": second + second + first, "work_notes": note, "comments_and_work_notes": second + note + second + first} {
		wantField(t, r, name, map[string]string{"display_value": want, "value": ""})
	}
	c.do("DELETE", "/api/now/table/sys_journal_field/"+entries[0]["sys_id"].(string), "").want(403)
}

func TestSection9JournalAccessDenied(t *testing.T) {
	t.Parallel()
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithSwitches(servicenowtest.Switches{JournalDenied: true})))
	id := c.create(`{"comments":"c"}`)
	query := []string{"sysparm_query", "element_id=" + id}
	if got := c.get("/api/now/table/sys_journal_field", query...).want(200).list(); len(got) != 0 {
		t.Errorf("%d entries", len(got))
	}
	if got := c.as("admin").get("/api/now/table/sys_journal_field", query...).want(200).list(); len(got) != 1 {
		t.Errorf("%d entries for admin", len(got))
	}
	if got := c.get(incidents+"/"+id, "sysparm_display_value", "true").record()["comments"]; got == "" {
		t.Error("the record's display value is empty too")
	}
}

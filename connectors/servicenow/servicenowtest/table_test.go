package servicenowtest_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
)

const incidents = "/api/now/table/incident"

func newDelete(t *testing.T, s *servicenowtest.Server, id string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodDelete, incidents+"/"+id, nil)
	r.SetBasicAuth("sim", "sim")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusNoContent {
		t.Fatalf("delete: %d %s", w.Code, w.Body)
	}
	return w
}

// Section 1: addresses, versions, headers.
func TestSection1Versions(t *testing.T) {
	t.Parallel()
	c := newClient(t, servicenowtest.Start(t))
	none := "?sysparm_query=number%3DINC9999999"
	for path, status := range map[string]int{"/api/now/table/incident": 200, "/api/now/v2/table/incident": 200, "/api/now/v1/table/incident": 404} {
		got := c.do("GET", path+none, "").want(status)
		if status == 200 && strings.TrimSpace(got.text) != `{"result":[]}` {
			t.Errorf("%s: %s", path, got.text)
		}
	}
	id := c.create(`{}`)
	for _, v := range []string{"", "/v1", "/v2"} {
		c.get("/api/now" + v + "/table/incident/" + id).want(200)
		c.get("/api/now" + v + "/stats/incident?sysparm_count=true").want(200)
	}
}

func TestSection1Headers(t *testing.T) {
	t.Parallel()
	c := newClient(t, servicenowtest.Start(t))
	id := c.create(`{"short_description":"a"}`)
	one := incidents + "/" + id
	if got := c.do("GET", one, "", "Accept", "").want(200).header.Get("Content-Type"); got != "application/json;charset=UTF-8" {
		t.Errorf("Content-Type %q", got)
	}
	head := c.do("HEAD", incidents, "").want(200)
	if head.text != "" || head.header.Get("X-Total-Count") != "1" {
		t.Errorf("HEAD: %q, count %q", head.text, head.header.Get("X-Total-Count"))
	}
	c.do("POST", one, `{"short_description":"b"}`, "X-HTTP-Method-Override", "PATCH").want(200)
	wantField(t, c.read(id), "short_description", "b")
	if quiet := c.do("PATCH", one, `{"short_description":"c"}`, "X-no-response-body", "true"); quiet.status/100 != 2 || quiet.text != "" {
		t.Errorf("X-no-response-body: %d %q", quiet.status, quiet.text)
	}
	quiet := c.do("POST", incidents, `{}`, "X-no-response-body", "true").want(201)
	if quiet.text != "" || quiet.header.Get("Location") == "" {
		t.Errorf("quiet insert: %q %v", quiet.text, quiet.header)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(`{"short_description":"zipped"}`))
	mustDo(t, z.Close())
	wantField(t, c.do("PATCH", one, zipped.String(), "Content-Encoding", "gzip").want(200).record(), "short_description", "zipped")
	wantField(t, c.do("PATCH", one, `[{"short_description":"first"},{"short_description":"second"}]`).want(200).record(), "short_description", "first")
	c.do("GET", one, "", "Accept", "text/csv").want(406)
	c.do("PATCH", one, "x", "Content-Type", "text/plain").want(415)
	c.do("POST", one, "{}").want(405)
	c.do("PUT", incidents, "{}").want(405)
	xml := c.do("PATCH", one, `<request><entry><short_description>a &amp; b</short_description></entry></request>`,
		"Content-Type", "application/xml", "Accept", "application/xml").want(200)
	if !strings.Contains(xml.text, "<response><result>") || !strings.Contains(xml.text, "<short_description>a &amp; b</short_description>") {
		t.Errorf("XML: %s", xml.text)
	}
}

func TestSection1Cookies(t *testing.T) {
	t.Parallel()
	c := newClient(t, servicenowtest.Start(t))
	got := strings.Join(c.get(incidents).want(200).header.Values("Set-Cookie"), "\n")
	for _, name := range []string{"JSESSIONID=", "glide_user_route=", "glide_user=", "glide_user_session=", "BIGipServerpool_"} {
		if !strings.Contains(got, name) {
			t.Errorf("no cookie %s in %s", name, got)
		}
	}
	if again := c.do("GET", incidents, "", "Cookie", "JSESSIONID=ABC").header.Values("Set-Cookie"); len(again) != 0 {
		t.Errorf("cookies in a session: %v", again)
	}
}

// Section 3: operations.
func TestSection3Operations(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t)
	c := newClient(t, s)
	made := c.do("POST", incidents, `{"short_description":"x","u_unknown":"y","sys_created_by":"me","urgency":2,"knowledge":true,"caller_id":null}`).want(201)
	r := made.record()
	id := r["sys_id"].(string)
	if want := s.URL + incidents + "/" + id; made.header.Get("Location") != want {
		t.Errorf("Location %q, want %q", made.header.Get("Location"), want)
	}
	for name, want := range map[string]string{
		"urgency": "2", "knowledge": "true", "caller_id": "", "sys_created_by": "sim", "sys_mod_count": "0",
		"number": "INC0010001", "active": "true", "approval": "not requested", "category": "inquiry", "escalation": "0", "impact": "3",
		"incident_state": "1", "made_sla": "true", "notify": "1", "severity": "3", "state": "1", "sys_class_name": "incident",
		"sys_domain_path": "/", "upon_approval": "proceed", "upon_reject": "cancel", "child_incidents": "0", "comments": "", "work_notes": "",
	} {
		wantField(t, r, name, want)
	}
	if _, ok := r["u_unknown"]; ok {
		t.Error("unknown column is in the answer")
	}
	wantField(t, r, "sys_domain", map[string]string{"link": s.URL + "/api/now/table/sys_user_group/global", "value": "global"})
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) {
		t.Errorf("sys_id %q", id)
	}
	wantField(t, c.do("PUT", incidents+"/"+id, `{"description":"d"}`).want(200).record(), "short_description", "x")
	c.get(incidents + "/" + strings.ToUpper(id)).want(200)
	before := c.read(id)
	after := c.patch(id, `{"sys_created_by":"me","sys_updated_on":"2001-01-01 00:00:00","sys_mod_count":"9","sys_domain":"x","number":"INC1","made_sla":"false","reopen_count":"4"}`).want(200).record()
	for _, name := range []string{"sys_created_by", "sys_updated_on", "sys_mod_count", "sys_domain", "number", "made_sla", "reopen_count"} {
		wantField(t, after, name, before[name])
	}
	own := strings.Repeat("0123456789abcdef", 2)
	if got := c.create(`{"sys_id":"` + own + `"}`); got != own {
		t.Errorf("own sys_id became %q", got)
	}
	if gone := c.do("DELETE", incidents+"/"+id, "").want(204); gone.text != "" {
		t.Errorf("DELETE: %q", gone.text)
	}
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		body := ""
		if method == "PATCH" {
			body = "{}"
		}
		c.do(method, incidents+"/"+id, body).wantError(404, "No Record found", "Record doesn't exist or ACL restricts the record retrieval")
	}
	audit := c.get("/api/now/table/sys_audit_delete", "sysparm_query", "tablename=incident^documentkey="+id).want(200).list()
	if len(audit) != 1 {
		t.Errorf("sys_audit_delete has %d rows", len(audit))
	}
}

// Section 5: response shapes, for a plain column, a reference set and a reference unset.
func TestSection5Shapes(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t)
	c := newClient(t, s)
	caller := c.get("/api/now/table/sys_user", "sysparm_query", "user_name=joe.employee").list()[0]["sys_id"].(string)
	id := c.create(`{"state":"2","caller_id":"` + caller + `"}`)
	link := s.URL + "/api/now/table/sys_user/" + caller
	type m = map[string]any
	for _, tc := range []struct {
		mode, exclude     string
		state, set, unset any
	}{
		{"", "", "2", m{"link": link, "value": caller}, ""},
		{"False", "true", "2", caller, ""},
		{"true", "", "In Progress", m{"display_value": "Joe Employee", "link": link}, ""},
		{"TRUE", "true", "In Progress", "Joe Employee", ""},
		{"all", "", m{"display_value": "In Progress", "value": "2"}, m{"display_value": "Joe Employee", "link": link, "value": caller}, m{"display_value": "", "value": ""}},
		{"all", "true", m{"display_value": "In Progress", "value": "2"}, m{"display_value": "Joe Employee", "value": caller}, m{"display_value": "", "value": ""}},
	} {
		t.Run("mode "+tc.mode+" exclude "+tc.exclude, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, s)
			r := c.get(incidents+"/"+id, "sysparm_display_value", tc.mode, "sysparm_exclude_reference_link", tc.exclude).want(200).record()
			wantField(t, r, "state", tc.state)
			wantField(t, r, "caller_id", tc.set)
			wantField(t, r, "assigned_to", tc.unset)
		})
	}
}

func TestSection5DatesInTheUsersZoneAndFormat(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Europe/Dublin")
	mustDo(t, err)
	now := &clock{now: time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)}
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithConfig(servicenowtest.Config{Zone: zone, DateFormat: "dd/MM/yyyy HH:mm:ss", Now: now.Now})))
	id := c.create(`{}`)
	r := c.get(incidents+"/"+id, "sysparm_display_value", "all").record()
	wantField(t, r, "opened_at", map[string]string{"display_value": "01/07/2026 13:00:00", "value": "2026-07-01 12:00:00"})
	c.do("PATCH", incidents+"/"+id+"?sysparm_input_display_value=true", `{"due_date":"02/07/2026 09:30:00","state":"In Progress","assigned_to":"Beth Anglin"}`).want(200)
	r = c.get(incidents+"/"+id, "sysparm_display_value", "all").record()
	wantField(t, r, "due_date", map[string]string{"display_value": "02/07/2026 09:30:00", "value": "2026-07-02 08:30:00"})
	wantField(t, r, "state", map[string]string{"display_value": "In Progress", "value": "2"})
	if r["assigned_to"].(map[string]any)["display_value"] != "Beth Anglin" {
		t.Errorf("assigned_to = %v", r["assigned_to"])
	}
}

// Section 4: parameters.
func TestSection4Parameters(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t)
	c := newClient(t, s)
	caller := c.get("/api/now/table/sys_user", "sysparm_query", "user_name=joe.employee").list()[0]["sys_id"].(string)
	id := c.create(`{"short_description":"one","caller_id":"` + caller + `","state":"6","close_code":"User error","close_notes":"n"}`)
	c.create(`{"short_description":"two"}`)

	r := c.get(incidents+"/"+id, "sysparm_fields", "number,caller_id.email,nonsense,caller_id.manager.name").record()
	if len(r) != 3 {
		t.Errorf("fields = %v", r)
	}
	wantField(t, r, "caller_id.email", "joe.employee@example.com")
	wantField(t, r, "caller_id.manager.name", "")
	for _, pair := range [][2]string{{"state", "resolved"}, {"state", "6"}, {"caller_id", "joe.employee"}, {"caller_id", "Joe Employee"}, {"short_description", "one"}} {
		if got := c.get(incidents, pair[0], pair[1]).column("sys_id"); len(got) != 1 || got[0] != id {
			t.Errorf("%s=%s found %v", pair[0], pair[1], got)
		}
	}
	c.get(incidents, "sysparm_offset", "-1").want(400)
	tiny := c.do("POST", "/api/now/tinyurl", `{"url":"incident_list.do?sysparm_query=short_description%3Dtwo"}`).want(200)
	var where struct{ Result string }
	tiny.decode(&where)
	page, ref, ok := strings.Cut(where.Result, "?sysparm_tiny=")
	if !ok || page != "incident_list.do" {
		t.Fatalf("tinyurl = %q", where.Result)
	}
	if got := c.get(incidents, "sysparm_tiny", ref, "sysparm_fields", "short_description").column("short_description"); !slices.Equal(got, []string{"two"}) {
		t.Errorf("tiny query found %v", got)
	}
	long := c.get(incidents, "sysparm_query", strings.Repeat("number=x^OR", 1000)).want(414)
	if !strings.HasPrefix(long.header.Get("Content-Type"), "text/html") {
		t.Errorf("long URL: %v", long.header)
	}
}

// Section 7: paging. next is missing on the last page and prev on the first; following next reads every row once.
func TestSection7Paging(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t, servicenowtest.WithSeedIncidents(25))
	c := newClient(t, s)
	path := incidents + "?sysparm_limit=10&sysparm_fields=number,sys_updated_on&sysparm_query=" + url.QueryEscape("ORDERBYsys_updated_on^ORDERBYsys_id")
	link := regexp.MustCompile(`<([^>]+)>;rel="(\w+)"`)
	var seen, rels []string
	for path != "" {
		a := c.do("GET", path, "").want(200)
		if a.header.Get("X-Total-Count") != "25" {
			t.Errorf("X-Total-Count %q", a.header.Get("X-Total-Count"))
		}
		seen = append(seen, a.column("number")...)
		path = ""
		page := ""
		for _, m := range link.FindAllStringSubmatch(a.header.Get("Link"), -1) {
			page += m[2] + " "
			if m[2] == "next" {
				path = strings.TrimPrefix(m[1], s.URL)
			}
		}
		rels = append(rels, page)
	}
	if want := []string{"first next last ", "first prev next last ", "first prev last "}; !slices.Equal(rels, want) {
		t.Errorf("links %q, want %q", rels, want)
	}
	if slices.Sort(seen); len(slices.Compact(seen)) != 25 {
		t.Errorf("saw %d rows", len(seen))
	}
	if got := c.get(incidents, "sysparm_limit", "5", "sysparm_offset", "20").header.Get("Link"); strings.Contains(got, "next") {
		t.Errorf("a full last page has a next page: %s", got)
	}
	a := c.get(incidents, "sysparm_no_count", "true", "sysparm_suppress_pagination_header", "true")
	if a.header.Get("X-Total-Count") != "" || a.header.Get("Link") != "" {
		t.Errorf("headers %v", a.header)
	}
	if stamps := c.get(incidents).column("sys_updated_on"); len(slices.Compact(stamps)) != 1 {
		t.Errorf("seeded stamps differ: %v", stamps)
	}
}

// Section 17: rows hidden by row rules make pages short, while the count still has them.
func TestSection7ShortPagesAndHiddenColumns(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t, servicenowtest.WithSeedIncidents(10), servicenowtest.WithSwitches(servicenowtest.Switches{
		HiddenRows: "short_descriptionLIKEprinter", HiddenColumns: []string{"incident.correlation_id"}, ReadOnlyColumns: []string{"description"},
	}))
	c := newClient(t, s)
	a := c.get(incidents, "sysparm_limit", "5").want(200)
	if len(a.list()) != 4 || a.header.Get("X-Total-Count") != "10" {
		t.Errorf("%d rows, count %s", len(a.list()), a.header.Get("X-Total-Count"))
	}
	var hidden string
	for _, ticket := range s.Tickets() {
		if strings.Contains(ticket.ShortDescription, "Printer") {
			hidden = ticket.SysID
		}
	}
	c.get(incidents + "/" + hidden).want(404)
	c.as("admin").get(incidents + "/" + hidden).want(200)
	r := c.do("POST", incidents, `{"description":"d","correlation_id":"c"}`).want(201).record()
	wantField(t, r, "description", "")
	if _, ok := r["correlation_id"]; ok {
		t.Error("hidden column is shown")
	}
}

func TestSection7NoOpUpdateLeavesStamps(t *testing.T) {
	t.Parallel()
	now := newClock()
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithNow(now.Now)))
	id := c.create(`{"short_description":"a"}`)
	steps := []struct {
		body, count string
		moves       bool
	}{
		{`{"short_description":"a"}`, "0", false},
		{`{}`, "0", false},
		{`{"priority":"1"}`, "0", false},
		{`{"short_description":"b"}`, "1", true},
		{`{"comments":"c"}`, "2", true},
		{`{"work_notes":"c"}`, "3", true},
	}
	at := "2026-03-04 10:20:30"
	for _, step := range steps {
		now.add(90 * time.Second)
		if step.moves {
			at = now.Now().Format("2006-01-02 15:04:05")
		}
		r := c.patch(id, step.body).want(200).record()
		wantField(t, r, "sys_mod_count", step.count)
		wantField(t, r, "sys_updated_on", at)
	}
	now.add(time.Minute)
	c.do("POST", "/api/now/attachment/file?table_name=incident&table_sys_id="+id+"&file_name=a.txt", "x", "Content-Type", "text/plain").want(201)
	wantField(t, c.read(id), "sys_updated_on", at)
}

// Section 10: errors.
func TestSection10Errors(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t)
	c := newClient(t, s)
	c.get("/api/now/table/nonsense").wantError(400, "Invalid table nonsense", "")
	for _, body := range []string{`{"a"`, `"text"`, `{} {}`} {
		c.do("POST", incidents, body).wantError(400, "Exception while reading request", "")
	}
	c.get("/api/now/nonsense").wantError(400, "Requested URI does not represent any resource", "/api/now/nonsense")
	c.as("nobody").get(incidents).wantError(401, "User is not authenticated", "Required to provide Auth information")
	if got := c.as("").get(incidents).want(401).header.Get("WWW-Authenticate"); got != `Basic realm="Service-now"` {
		t.Errorf("WWW-Authenticate %q", got)
	}
	if entry := c.get("/nothing.do").want(404); !strings.HasPrefix(entry.header.Get("Content-Type"), "text/html") {
		t.Errorf("unknown page: %v", entry.header)
	}
}

// Section 11: rate limit rules.
func TestSection11RateLimit(t *testing.T) {
	t.Parallel()
	now := newClock()
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithNow(now.Now), servicenowtest.WithSwitches(servicenowtest.Switches{RateLimits: []servicenowtest.RateLimit{
		{Name: "all", PerHour: 1}, {Name: "agents", PerHour: 3, Role: "itil"}, {Name: "many agents", PerHour: 9, Role: "itil"}, {Name: "stats", PerHour: 1, User: "sim", Resource: "Aggregate API"},
	}})))
	for range 3 {
		a := c.get(incidents).want(200)
		if a.header.Get("X-RateLimit-Limit") != "3" || a.header.Get("X-RateLimit-Reset") != fmt.Sprint(time.Date(2026, 3, 4, 11, 0, 0, 0, time.UTC).Unix()) ||
			len(a.header.Get("X-RateLimit-Rule")) != 32 || a.header.Get("X-RateLimit-Remaining") != "" {
			t.Errorf("headers %v", a.header)
		}
	}
	a := c.get(incidents)
	a.wantError(429, "Rate limit exceeded", "Rate limit of 3 requests per hour for Table API exceeded")
	if a.header.Get("Retry-After") != "2371" { // 39:30 to the full hour, and one second
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	c.get("/api/now/stats/incident").want(200)
	c.get("/api/now/stats/incident").want(429)
	c.as("admin").get(incidents).want(200)
	now.add(time.Hour)
	c.get(incidents).want(200)
}

func TestSection17SwitchesAtRunTime(t *testing.T) {
	t.Parallel()
	s := servicenowtest.Start(t, servicenowtest.WithSeedIncidents(12))
	c := newClient(t, s)
	mustDo(t, s.Reconfigure(func(sw *servicenowtest.Switches) {
		sw.NoTotalCount, sw.StrictHeaders, sw.UnstableOrder = true, true, true
	}))
	if got := c.get(incidents).want(200).header.Get("X-Total-Count"); got != "" {
		t.Errorf("X-Total-Count %q", got)
	}
	c.do("GET", incidents, "", "Accept", "").want(400)
	first := c.get(incidents).column("number")
	eventually(t, "rows without ORDERBY change places", func() bool { return !slices.Equal(first, c.get(incidents).column("number")) })
	if got := c.get(incidents, "sysparm_query", "ORDERBYnumber").column("number"); !slices.IsSorted(got) {
		t.Errorf("ordered rows: %v", got)
	}
	if err := s.Reconfigure(func(sw *servicenowtest.Switches) {
		sw.AbortRules = []servicenowtest.Rule{{Name: "r", When: "nonsense=1"}}
	}); err == nil ||
		!strings.Contains(err.Error(), "nonsense=1") {
		t.Errorf("bad rule: %v", err)
	}
}

func TestSearchLagHidesNewRowsFromLists(t *testing.T) {
	t.Parallel()
	now := newClock()
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithNow(now.Now), servicenowtest.WithSwitches(servicenowtest.Switches{SearchLag: 10 * time.Second})))
	id := c.create(`{"correlation_id":"c1"}`)
	found := func() int { return len(c.get(incidents, "sysparm_query", "correlation_id=c1").list()) }
	if n := found(); n != 0 {
		t.Errorf("found %d at once", n)
	}
	c.get(incidents + "/" + id).want(200)
	now.add(10 * time.Second)
	if n := found(); n != 1 {
		t.Errorf("found %d after the lag", n)
	}
}

package servicenowtest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
)

// queryFixture has four incidents a, b, c and d made an hour apart; the clock stands at 2026-03-04 13:20:30 after.
func queryFixture(t *testing.T, sw servicenowtest.Switches) (*servicenowtest.Server, *client) {
	t.Helper()
	now := newClock()
	s := servicenowtest.Start(t, servicenowtest.WithNow(now.Now), servicenowtest.WithSwitches(sw))
	c := newClient(t, s)
	users := map[string]string{}
	for _, u := range c.get("/api/now/table/sys_user").list() {
		users[u["user_name"].(string)] = u["sys_id"].(string)
	}
	for i, body := range []string{
		`{"short_description":"a","description":"Printer on fire","urgency":"1","impact":"1","caller_id":"` + users["joe.employee"] + `","correlation_id":"X-1"}`,
		`{"short_description":"b","description":"printer jam","state":"2","assigned_to":"` + users["abel.tuter"] + `","caller_id":"` + users["abel.tuter"] + `","comments":"please hurry"}`,
		`{"short_description":"c","description":"100% slow","state":"3","hold_reason":"1","due_date":"2026-03-10 00:00:00","opened_at":"2026-03-01 10:00:00"}`,
		`{"short_description":"d","description":"","correlation_id":"x-2","caller_id":"` + users["sim"] + `"}`,
	} {
		if i > 0 {
			now.add(time.Hour)
		}
		c.create(body)
	}
	return s, c
}

// Section 6: what each operator finds.
func TestSection6Operators(t *testing.T) {
	t.Parallel()
	s, _ := queryFixture(t, servicenowtest.Switches{})
	for _, tc := range []struct{ query, want string }{
		{"", "abcd"},
		{"^EQ", "abcd"},
		{"short_description=a", "a"},
		{"short_description=A", "a"},
		{"short_description!=a", "bcd"},
		{"correlation_id!=X-1", "bcd"},
		{"priority<5", "a"},
		{"priority<=1", "a"},
		{"state>1", "bc"},
		{"state>=2^state<3", "b"},
		{"state=1^ORstate=2^short_description=b", "b"},
		{"state=1^short_description=a^NQstate=3", "ac"},
		{"descriptionLIKEPRINTER", "ab"},
		{"description*printer", "ab"},
		{"descriptionCONTAINSprinter", "ab"},
		{"descriptionNOT LIKEprinter", "cd"},
		{"description!*printer", "cd"},
		{"descriptionDOES NOT CONTAINprinter", "cd"},
		{"descriptionSTARTSWITHprinter", "ab"},
		{"descriptionENDSWITHjam", "b"},
		{"description%jam", "b"},
		{"descriptionLIKE100%", "c"},
		{"stateIN2,3", "bc"},
		{"stateNOT IN2,3", "ad"},
		{"short_descriptionINa,d", "ad"},
		{"stateIN", ""},
		{"descriptionISEMPTY", "d"},
		{"descriptionISNOTEMPTY", "abc"},
		{"descriptionEMPTYSTRING", "d"},
		{"description=", "d"},
		{"descriptionANYTHING", "abcd"},
		{"assigned_toISEMPTY", "acd"},
		{"stateBETWEEN2@3", "bc"},
		{"sys_created_onBETWEEN2026-03-04 11:00:00@2026-03-04 12:59:59", "bc"},
		{"sys_created_on>=2026-03-04 12:20:30", "cd"},
		{"sys_created_on<2026-03-04", ""},
		{"due_date>2026-03-05", "c"},
		{"due_date<2027-01-01 00:00:00", "c"},
		{"caller_idSAMEASassigned_to", "b"},
		{"caller_idNSAMEASassigned_to^caller_idISNOTEMPTY", "ad"},
		{"opened_atLT_FIELDsys_created_on", "c"},
		{"sys_created_onGT_FIELDopened_at", "c"},
		{"opened_atGT_OR_EQUALS_FIELDsys_created_on", "abd"},
		{"opened_atLT_OR_EQUALS_FIELDsys_created_on", "abcd"},
		{"sys_created_onMORETHANopened_at@hour@after@2", "c"},
		{"caller_id.user_name=joe.employee", "a"},
		{"caller_id.nameSTARTSWITHabel", "b"},
		{"caller_idLIKEtuter", "b"},
		{"caller_id.manager.nameISEMPTY", "abcd"},
		{"caller_id=javascript:gs.getUserID()", "d"},
		{"sys_created_by=javascript:gs.getUserName()", "abcd"},
		{"sys_created_on>=javascript:gs.beginningOfToday()^sys_created_on<=javascript:gs.endOfToday()", "abcd"},
		{"sys_created_onONToday@javascript:gs.beginningOfToday()@javascript:gs.endOfToday()", "abcd"},
		{"opened_atNOTONToday@javascript:gs.beginningOfToday()@javascript:gs.endOfToday()", "c"},
		{"opened_at>javascript:gs.daysAgoStart(2)", "abd"},
		{"opened_at<=javascript:gs.daysAgoEnd(3)", "c"},
		{"sys_created_on>=javascript:gs.minutesAgoStart(60)", "cd"},
		{"sys_created_on>javascript:gs.dateGenerate('2026-03-04','12:00:00')", "cd"},
		{"sys_created_onRELATIVEGT@hour@ago@2", "cd"},
		{"sys_created_onRELATIVELT@hour@ago@2", "a"},
		{"active=true^state!=3", "abd"},
		{"sys_class_nameINSTANCEOFtask", "abcd"},
		{"123TEXTQUERY321=printer fire", "a"},
		{"123TEXTQUERY321=hurry", "b"},
		{"ORDERBYDESCshort_description", "dcba"},
		{"ORDERBYpriority^ORDERBYDESCsys_created_on", "adcb"},
		{"stateIN1,2^ORDERBYDESCnumber", "dba"},
		{"ORDERBYcaller_id", "cbad"},
	} {
		t.Run(tc.query, func(t *testing.T) {
			t.Parallel()
			got := newClient(t, s).get(incidents, "sysparm_query", tc.query).want(200).column("short_description")
			if strings.Join(got, "") != tc.want {
				t.Errorf("found %q, want %q", got, tc.want)
			}
		})
	}
}

// Section 6, trap 1: an invalid condition is dropped, ends in no rows, or is refused.
func TestSection6Trap1InvalidCondition(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		mode  servicenowtest.BadQuery
		query string
		want  string // "403" is the refusal
	}{
		{"", "nonsense=1", "abcd"},
		{"ignore", "nonsense=1^state=2", "b"},
		{"ignore", "state=2^ORnonsense=1", "b"},
		{"ignore", "not a condition", "abcd"},
		{"ignore", "caller_id.nonsense=1", "abcd"},
		{"ignore", "state.name=1", "abcd"},
		{"ignore", "due_date>yesterday", "abcd"},
		{"ignore", "short_description=javascript:gs.nonsense()", "abcd"},
		{"ignore", "state=2^ORDERBYnonsense", "b"},
		{"none", "nonsense=1^ORstate=2", ""},
		{"none", "state=2", "b"},
		{"refuse", "nonsense=1", "403"},
		{"refuse", "ORDERBYnonsense", "403"},
		{"refuse", "state=2", "b"},
	} {
		t.Run(string(tc.mode)+" "+tc.query, func(t *testing.T) {
			t.Parallel()
			_, c := queryFixture(t, servicenowtest.Switches{BadQuery: tc.mode})
			a := c.get(incidents, "sysparm_query", tc.query)
			if tc.want == "403" {
				a.wantError(403, "Insufficient rights to query records", "Field(s) present in the query do not have permission to be read")
				return
			}
			if got := a.want(200).column("short_description"); strings.Join(got, "") != tc.want {
				t.Errorf("found %q, want %q", got, tc.want)
			}
		})
	}
}

// Section 6, trap 2: a caret in a value ends it, ^NQ breaks out of the filter, and a script runs.
func TestSection6Trap2Injection(t *testing.T) {
	t.Parallel()
	_, c := queryFixture(t, servicenowtest.Switches{})
	find := func(id string) []string {
		return c.get(incidents, "sysparm_query", "correlation_id="+id+"^state=1").want(200).column("short_description")
	}
	if got := find("X-1^NQstate=2"); !slices.Equal(got, []string{"a"}) {
		t.Errorf("found %v, want the row of the first group, freed from the condition after the value", got)
	}
	if got := find("none^NQnumberISNOTEMPTY"); !slices.Equal(got, []string{"a", "d"}) {
		t.Errorf("break-out found %v, want the rows of the group that came with the value", got)
	}
	if got := c.get(incidents, "sysparm_query", "correlation_id=X-1^more").column("short_description"); !slices.Equal(got, []string{"a"}) {
		t.Errorf("cut value found %v, want the row of the first part", got)
	}
	id := c.create(`{"short_description":"caret","correlation_id":"a^b"}`)
	wantField(t, c.read(id), "correlation_id", "a^b")
	if got := c.get(incidents, "sysparm_query", "correlation_id=a^b").column("short_description"); len(got) != 0 {
		t.Errorf("lookup of a^b found %v", got)
	}
}

// Literal datetimes are UTC; those of dateGenerate are in the caller's zone (section 7).
func TestSection7DatesInQueries(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("America/New_York")
	mustDo(t, err)
	now := newClock() // 10:20:30 UTC is 05:20:30 in New York
	c := newClient(t, servicenowtest.Start(t, servicenowtest.WithConfig(servicenowtest.Config{Zone: zone, Now: now.Now})))
	now.add(-8 * time.Hour)
	c.create(`{}`) // today in UTC, yesterday in New York
	now.add(8 * time.Hour)
	c.create(`{}`)
	for query, want := range map[string]int{
		"sys_created_on=2026-03-04 10:20:30":                                  1,
		"sys_created_on=2026-03-04 05:20:30":                                  0,
		"sys_created_on>=javascript:gs.dateGenerate('2026-03-04','05:20:30')": 1,
		"sys_created_on>=javascript:gs.dateGenerate('2026-03-04','05:20:31')": 0,
		"sys_created_on>=javascript:gs.beginningOfToday()":                    1,
	} {
		if got := len(c.get(incidents, "sysparm_query", query).list()); got != want {
			t.Errorf("%s: %d rows, want %d", query, got, want)
		}
	}
}

package servicenowtest

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Section 6: how an encoded query is read.
func TestParseQuery(t *testing.T) {
	t.Parallel()
	cond := func(column, op, value string) queryCondition {
		return queryCondition{column: column, op: op, value: value}
	}
	for _, tc := range []struct {
		text string
		want encodedQuery
	}{
		{"", encodedQuery{}},
		{"state=1^ORstate=2^active=true^EQ", encodedQuery{groups: []queryGroup{{{cond("state", "=", "1"), cond("state", "=", "2")}, {cond("active", "=", "true")}}}}},
		{"state=1^NQpriority<=2", encodedQuery{groups: []queryGroup{{{cond("state", "=", "1")}}, {{cond("priority", "<=", "2")}}}}},
		{"numberNOT LIKEx^caller_id.nameSTARTSWITHa", encodedQuery{groups: []queryGroup{{{cond("number", "NOT LIKE", "x")}, {cond("caller_id.name", "STARTSWITH", "a")}}}}},
		{"stateIN1,2^stateNOT IN3^numberISNOTEMPTY", encodedQuery{groups: []queryGroup{{{cond("state", "IN", "1,2")}, {cond("state", "NOT IN", "3")}, {cond("number", "ISNOTEMPTY", "")}}}}},
		{"ORDERBYsys_updated_on^ORDERBYDESCsys_id", encodedQuery{order: []orderTerm{{"sys_updated_on", false}, {"sys_id", true}}}},
		{"123TEXTQUERY321=no network", encodedQuery{groups: []queryGroup{{{cond(textQuery, "=", "no network")}}}}},
		{"correlation_id=a^b", encodedQuery{groups: []queryGroup{{{cond("correlation_id", "=", "a")}, {{value: "b"}}}}}},
		{"numberSAMEAStask_effective_number^numberNSAMEASorder", encodedQuery{groups: []queryGroup{{{cond("number", "SAMEAS", "task_effective_number")}, {cond("number", "NSAMEAS", "order")}}}}},
		{"RLQUERYtask_sla.task,>=1^active=true^ENDRLQUERY^state=1", encodedQuery{groups: []queryGroup{{{{value: "RLQUERYtask_sla.task,>=1"}}, {cond("state", "=", "1")}}}}},
	} {
		if diff := cmp.Diff(tc.want, parseQuery(tc.text), cmp.AllowUnexported(encodedQuery{}, queryCondition{}, orderTerm{})); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", tc.text, diff)
		}
	}
}

// The parser must take any text: it reads what clients send. What it wrote, it reads alike.
func FuzzParseQuery(f *testing.F) {
	for _, text := range []string{
		"", "a=b", "state=1^ORstate=2^NQactive=true^ORDERBYnumber", "^^^", "ORx", "NQ", "NQNQ", "^OR^NQ^EQ", "aBETWEEN1@2", "RLQUERYa^b^ENDRLQUERY",
		"javascript:gs.x()", "sys_created_onONToday@javascript:gs.beginningOfToday()@javascript:gs.endOfToday()", "123TEXTQUERY321=x", "a.b.c!=*%",
	} {
		f.Add(text)
	}
	s, err := New(Config{SeedIncidents: 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	f.Fuzz(func(t *testing.T, text string) {
		q := parseQuery(text)
		again := parseQuery(q.String())
		if diff := cmp.Diff(q, again, cmp.AllowUnexported(encodedQuery{}, queryCondition{}, orderTerm{})); diff != "" {
			t.Errorf("%q written as %q reads differently (-first +second)\n%s", text, q, diff)
		}
		rows := s.bind("incident", q, actor{zone: s.cfg.Zone}).find()
		if len(rows) > 3 || slices.Contains(rows, nil) {
			t.Errorf("%q found %d rows", text, len(rows))
		}
	})
}

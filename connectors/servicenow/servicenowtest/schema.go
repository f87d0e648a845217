package servicenowtest

import (
	"fmt"
	"strconv"
	"strings"
)

// kind is a column's type on the platform.
type kind int

const (
	kindString kind = iota
	kindInteger
	kindBoolean
	kindDateTime
	kindDuration
	kindReference
	kindList // comma list of references
	kindJournal
	kindPassword
)

// column describes one column: what it stores and how it behaves in writes.
type column struct {
	name     string
	kind     kind
	choice   bool   // labels come from sys_choice
	computed bool   // set by the platform alone; ignored in writes
	ref      string // table that a reference points to
	max      int    // longest value in characters; longer input is cut
	initial  string // value of a new record
}

func (c *column) system() bool { return strings.HasPrefix(c.name, "sys_") }

// tableDef describes one table.
type tableDef struct {
	name    string
	label   string
	extends string // parent class
	prefix  string // of the number, e.g. INC
	display string // column whose value stands for the record
	columns map[string]*column
	order   []string
}

func (d *tableDef) column(name string) *column { return d.columns[name] }

// parseColumns reads lines of "name type [initial]". Types: string(n), choice, number, numberchoice, boolean, datetime,
// duration, journal, password, ref(table), list(table); a leading ! marks a computed column.
func parseColumns(text string) []*column {
	var out []*column
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		c := &column{name: words[0], initial: strings.ReplaceAll(strings.Join(words[2:], " "), `""`, "")}
		typ, arg, _ := strings.Cut(strings.TrimSuffix(words[1], ")"), "(")
		typ, c.computed = strings.TrimPrefix(typ, "!"), strings.HasPrefix(typ, "!")
		c.setType(typ, arg)
		out = append(out, c)
	}
	return out
}

func (c *column) setType(typ, arg string) {
	switch typ {
	case "string":
		c.max = 40
		if arg != "" {
			c.max, _ = strconv.Atoi(arg)
		}
	case "choice":
		c.choice, c.max = true, 40
	case "numberchoice":
		c.kind, c.choice = kindInteger, true
	case "number":
		c.kind = kindInteger
	case "boolean":
		c.kind = kindBoolean
	case "datetime":
		c.kind = kindDateTime
	case "duration":
		c.kind = kindDuration
	case "journal":
		c.kind = kindJournal
	case "password":
		c.kind = kindPassword
	case "ref":
		c.kind, c.ref, c.max = kindReference, arg, 32
	case "list":
		c.kind, c.ref, c.max = kindList, arg, 4000
	default:
		panic(fmt.Sprintf("servicenowtest: column %s has unknown type %q", c.name, typ))
	}
}

const systemColumns = `
sys_id          string(32)
sys_created_on  datetime
sys_created_by  string
sys_updated_on  datetime
sys_updated_by  string
sys_mod_count   number
sys_tags        string
`

const taskColumns = `
active                    boolean true
activity_due              datetime
additional_assignee_list  list(sys_user)
approval                  choice not requested
approval_history          journal
approval_set              datetime
assigned_to               ref(sys_user)
assignment_group          ref(sys_user_group)
business_duration         !duration
business_service          ref(cmdb_ci)
calendar_duration         !duration
close_notes               string(4000)
closed_at                 datetime
closed_by                 ref(sys_user)
cmdb_ci                   ref(cmdb_ci)
comments                  journal
comments_and_work_notes   journal
company                   ref(core_company)
contact_type              choice
contract                  string(32)
correlation_display       string(100)
correlation_id            string(100)
delivery_plan             string(32)
delivery_task             string(32)
description               string(4000)
due_date                  datetime
escalation                numberchoice 0
expected_start            datetime
follow_up                 datetime
group_list                list(sys_user_group)
impact                    numberchoice 3
knowledge                 boolean false
location                  ref(cmn_location)
made_sla                  !boolean true
number                    string
opened_at                 datetime
opened_by                 ref(sys_user)
order                     number
parent                    ref(task)
priority                  numberchoice 5
reassignment_count        !number 0
route_reason              number
service_offering          ref(cmdb_ci)
short_description         string(160)
sla_due                   !datetime
state                     numberchoice 1
sys_class_name            string(80)
sys_domain                ref(sys_user_group) global
sys_domain_path           string(255) /
task_effective_number     string
time_worked               duration
universal_request         ref(task)
upon_approval             choice proceed
upon_reject               choice cancel
urgency                   numberchoice 3
user_input                string(4000)
watch_list                list(sys_user)
work_end                  datetime
work_notes                journal
work_notes_list           list(sys_user)
work_start                datetime
`

const incidentColumns = `
business_stc      !number
calendar_stc      !number
caller_id         ref(sys_user)
category          choice inquiry
caused_by         ref(change_request)
child_incidents   !number 0
close_code        choice
hold_reason       numberchoice
incident_state    numberchoice 1
notify            numberchoice 1
parent_incident   ref(incident)
problem_id        ref(problem)
reopen_count      !number 0
reopened_by       ref(sys_user)
reopened_time     datetime
resolved_at       datetime
resolved_by       ref(sys_user)
rfc               ref(change_request)
severity          numberchoice 3
subcategory       choice
`

//nolint:misspell // the columns are the vendor's words
const attachmentColumns = `
file_name            string(255)
content_type         string(255)
size_bytes           number
size_compressed      number
compressed           boolean
table_name           string(80)
table_sys_id         string(32)
image_height         number
image_width          number
average_image_color  string
created_by_name      string(80)
updated_by_name      string(80)
hash                 string(64)
state                choice
chunk_size_bytes     number
encryption_context   string(32)
`

// tableDefs lists the tables played. Columns of a table come after those it inherits.
func tableDefs(custom []string) map[string]*tableDef {
	defs := map[string]*tableDef{}
	add := func(name, label, extends, prefix, display, columns string) {
		d := &tableDef{name: name, label: label, extends: extends, prefix: prefix, display: display, columns: map[string]*column{}}
		text := systemColumns + columns
		if extends == "task" {
			text = systemColumns + taskColumns + columns
		}
		for _, c := range parseColumns(text) {
			d.columns[c.name] = c
			d.order = append(d.order, c.name)
		}
		defs[name] = d
	}
	named := "name string(100)\n"
	customColumns := ""
	for _, c := range custom {
		customColumns += c + " string(4000)\n"
	}
	add("task", "Task", "", "TASK", "number", taskColumns)
	add("incident", "Incident", "task", "INC", "number", incidentColumns+customColumns)
	add("problem", "Problem", "task", "PRB", "number", "")
	add("change_request", "Change Request", "task", "CHG", "number", "")
	add("sys_user", "User", "", "", "name", `
user_name string
name string(151)
first_name string(50)
last_name string(50)
email string(100)
phone string
mobile_phone string
title string(60)
active boolean true
locked_out boolean false
web_service_access_only boolean false
company ref(core_company)
department ref(cmn_department)
location ref(cmn_location)
manager ref(sys_user)
time_zone string
date_format string
time_format string
preferred_language string
user_password password
vip boolean false`)
	add("sys_user_group", "Group", "", "", "name", named+`
description string(1000)
active boolean true
email string(100)
manager ref(sys_user)
parent ref(sys_user_group)
type list(sys_user_group)`)
	add("sys_user_grmember", "Group Member", "", "", "user", "user ref(sys_user)\ngroup ref(sys_user_group)")
	add("sys_choice", "Choice", "", "", "label", `
name string(80)
element string(80)
value string
label string(255)
sequence number
language string en
dependent_value string
hint string(255)
inactive boolean false`)
	add("sys_journal_field", "Journal Entry", "", "", "value", `
name string(80)
element string(80)
element_id string(32)
value string(65535)`)
	add("sys_attachment", "Attachment", "", "", "file_name", attachmentColumns)
	add("sys_audit_delete", "Deleted Record", "", "", "display_value", `
tablename string(80)
documentkey string(32)
display_value string(255)
payload string(65535)`)
	add("cmdb_ci", "Configuration Item", "", "", "name", named+"short_description string(1000)")
	add("core_company", "Company", "", "", "name", named)
	add("cmn_department", "Department", "", "", "name", named+"description string(1000)\ndept_head ref(sys_user)")
	add("sys_db_object", "Table", "", "", "label", "name string(80)\nlabel string(80)\nsuper_class ref(sys_db_object)")
	add("cmn_location", "Location", "", "", "name", named+"city string\ncountry string")
	add("sys_properties", "System Property", "", "", "name", named+"value string(4000)\ndescription string(1000)")
	return defs
}

// columnLabels are the labels that differ from the column's name with blanks for underscores; data policy refusals
// name them.
var columnLabels = map[string]string{
	"close_code":  "Resolution code",
	"close_notes": "Resolution notes",
	"caller_id":   "Caller",
	"hold_reason": "On hold reason",
	"comments":    "Additional comments",
	"work_notes":  "Work notes",
}

func columnLabel(name string) string {
	if l, ok := columnLabels[name]; ok {
		return l
	}
	words := strings.ReplaceAll(name, "_", " ")
	return strings.ToUpper(words[:1]) + words[1:]
}

package servicenowtest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// change is what one save asks for, after it was read from a request: plain columns and journal texts.
type change struct {
	fields   map[string]string
	journals []journalText
}

type journalText struct{ element, text string }

func (c change) text(element string) string {
	for _, j := range c.journals {
		if j.element == element {
			return j.text
		}
	}
	return ""
}

var hexID = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)

// readChange sorts a request's fields into a change. Unknown, system, computed and read-only columns are dropped
// without a word, as the platform does.
func (s *Server) readChange(def *tableDef, body map[string]any, who actor, display, insert bool) change {
	out := change{fields: map[string]string{}}
	for name, v := range body {
		col := def.column(name)
		if col == nil || !s.writable(def, col, who, insert) {
			continue
		}
		text := scalar(v, display)
		if col.kind == kindJournal {
			if text != "" && (name == "comments" || name == "work_notes") {
				out.journals = append(out.journals, journalText{name, text})
			}
			continue
		}
		if stored, ok := s.coerce(col, text, who, display); ok {
			out.fields[name] = stored
		}
	}
	slices.SortFunc(out.journals, func(a, b journalText) int { return strings.Compare(a.element, b.element) })
	return out
}

func (s *Server) writable(def *tableDef, col *column, who actor, insert bool) bool {
	if !who.admin && (slices.Contains(s.cfg.ReadOnlyColumns, col.name) || slices.Contains(s.cfg.ReadOnlyColumns, def.name+"."+col.name)) {
		return false
	}
	if col.name == "sys_id" || col.name == "number" {
		return insert
	}
	return !col.computed && !col.system()
}

// scalar is a JSON value as the string that the platform stores. An object, as a record that was read holds for
// references, counts by its value or display_value.
func scalar(v any, display bool) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case json.Number:
		return v.String()
	case map[string]any:
		first, second := "value", "display_value"
		if display {
			first, second = second, first
		}
		if got, ok := v[first]; ok {
			return scalar(got, display)
		}
		return scalar(v[second], display)
	case []any:
		parts := make([]string, len(v))
		for i, p := range v {
			parts[i] = scalar(p, display)
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}

// coerce turns a text into the stored form of a column; false when the column refuses the value and keeps its own.
func (s *Server) coerce(col *column, text string, who actor, display bool) (string, bool) {
	switch col.kind {
	case kindBoolean:
		return strconv.FormatBool(text == "1" || strings.EqualFold(text, "true")), true
	case kindDateTime, kindDuration:
		return s.coerceDate(text, who, display), true
	case kindReference:
		if display {
			text = s.resolve(col.ref, text)
		}
	case kindInteger:
		return s.coerceNumber(col, text, display)
	default:
		if col.choice && display {
			text = s.choiceValue(col.name, text)
		}
		if col.choice && text == "" && col.initial != "" {
			return "", false
		}
	}
	return cut(text, col.max), true
}

func (s *Server) coerceNumber(col *column, text string, display bool) (string, bool) {
	if col.choice && display {
		text = s.choiceValue(col.name, text)
	}
	if text == "" {
		return "", col.initial == ""
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return strconv.FormatInt(n, 10), err == nil
}

func (s *Server) coerceDate(text string, who actor, display bool) string {
	if display {
		if at, err := time.ParseInLocation(who.layout, text, who.zone); err == nil {
			return at.UTC().Format(stampLayout)
		}
	}
	zone := time.UTC
	if display {
		zone = who.zone
	}
	at, err := parseStamp(text, zone)
	if err != nil {
		return ""
	}
	return at.UTC().Format(stampLayout)
}

func parseStamp(text string, zone *time.Location) (time.Time, error) {
	if at, err := time.ParseInLocation(stampLayout, text, zone); err == nil {
		return at, nil
	}
	return time.ParseInLocation(time.DateOnly, text, zone)
}

// resolve finds the sys_id behind a display value; a text that names nothing is stored as it is.
func (s *Server) resolve(ref, text string) string {
	if text == "" || s.db.get(ref, text) != nil {
		return text
	}
	for _, r := range s.db.all(ref) {
		if strings.EqualFold(s.db.display(r), text) || ref == "sys_user" && strings.EqualFold(r.vals["user_name"], text) {
			return r.id()
		}
	}
	return text
}

// cut shortens silently to a number of characters; 0 is no limit.
func cut(text string, limit int) string {
	if limit == 0 || len(text) <= limit {
		return text
	}
	r := []rune(text)
	return string(r[:min(len(r), limit)])
}

// blank is a new record with the columns' initial values and no sys_id.
func (t *tx) blank(name string) *row {
	def := t.s.db.defs[name]
	vals := make(map[string]string, len(def.order))
	for _, c := range def.order {
		vals[c] = def.columns[c].initial
	}
	return &row{class: name, vals: vals}
}

// insert makes a record, by the rules of its table.
func (t *tx) insert(name string, in change) (*row, error) {
	r := t.blank(name)
	for col, v := range in.fields {
		r.vals[col] = v
	}
	if !hexID.MatchString(r.vals["sys_id"]) {
		r.vals["sys_id"] = newSysID()
	}
	if t.get(name, r.id()) != nil {
		return nil, &apiError{status: 403, message: "Operation Failed", detail: "Error during insert of " + name + " (sys_id " + r.id() + "): unique key violation"}
	}
	t.stampNew(r)
	if t.s.db.defs[name].prefix == "" {
		t.derive(r)
		t.put(r)
		return r, nil
	}
	t.stampTask(r)
	if name != "incident" {
		return r, t.saveTask(r, in)
	}
	return t.saveIncident(nil, r, in)
}

// derive fills columns of other tables that the platform makes itself.
func (t *tx) derive(r *row) {
	if r.class != "sys_user" || r.vals["name"] != "" {
		return
	}
	r.vals["name"] = strings.TrimSpace(r.vals["first_name"] + " " + r.vals["last_name"])
}

func (t *tx) stampTask(r *row) {
	r.vals["sys_class_name"] = r.class
	if r.vals["number"] == "" {
		r.vals["number"] = t.nextNumber(t.s.db.defs[r.class].prefix)
	}
	r.vals["task_effective_number"] = r.vals["number"]
	for col, v := range map[string]string{"opened_at": t.stamp, "opened_by": t.who.id} {
		if r.vals[col] == "" {
			r.vals[col] = v
		}
	}
}

func (t *tx) saveTask(r *row, in change) error {
	t.put(r)
	t.writeJournals(r, in.journals)
	return nil
}

// update changes a record, by the rules of its table. A save that changes nothing leaves the stamps alone.
func (t *tx) update(old *row, in change) (*row, error) {
	r := old.with(in.fields)
	if old.class == "incident" {
		return t.saveIncident(old, r, in)
	}
	if len(in.journals) == 0 && sameValues(old, r) {
		return old, nil
	}
	t.stampUpdate(r)
	return r, t.saveTask(r, in)
}

func sameValues(a, b *row) bool {
	for k, v := range b.vals {
		if a.vals[k] != v {
			return false
		}
	}
	return true
}

// delete removes a record with its journal and attachments and notes it in sys_audit_delete.
func (t *tx) delete(r *row) {
	if r.class == "incident" {
		t.events = append(t.events, event{operation: "delete", row: r})
	}
	payload, _ := json.Marshal(r.vals) // a map of strings cannot fail
	audit := t.blank("sys_audit_delete")
	for k, v := range map[string]string{
		"sys_id": newSysID(), "tablename": r.class, "documentkey": r.id(),
		"display_value": t.s.db.display(r), "payload": string(payload),
	} {
		audit.vals[k] = v
	}
	t.stampNew(audit)
	t.put(audit)
	for _, e := range slices.Clone(t.s.db.journal[r.id()]) {
		t.remove(e)
	}
	for _, a := range t.s.db.all("sys_attachment") {
		if a.vals["table_sys_id"] == r.id() {
			t.remove(a)
		}
	}
	t.remove(r)
}

package servicenowtest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// view is how a client wants records shown (section 5).
type view struct {
	mode    string   // "false", "true" or "all"
	noLinks bool     // references without link
	fields  []string // nil: every column
	base    string
	who     actor
}

// incidentList is the column set of sysparm_view on incident.
var incidentList = []string{
	"sys_id", "number", "opened_at", "short_description", "caller_id", "priority", "state", "category",
	"assignment_group", "assigned_to", "sys_updated_on", "sys_updated_by",
}

func (c *call) view(class string) view {
	v := view{mode: strings.ToLower(c.params.Get("sysparm_display_value")), base: c.base, who: c.who}
	if v.mode != "true" && v.mode != "all" {
		v.mode = "false"
	}
	v.noLinks = isTrue(c.params.Get("sysparm_exclude_reference_link"))
	if c.params.Get("sysparm_view") != "" && class == "incident" {
		v.fields = incidentList
	}
	if f := c.params.Get("sysparm_fields"); f != "" {
		v.fields = nil
		for name := range strings.SplitSeq(f, ",") {
			v.fields = append(v.fields, strings.TrimSpace(name))
		}
	}
	return v
}

func isTrue(v string) bool { return strings.EqualFold(v, "true") || v == "1" }

// record is an object whose keys keep their order: that of sysparm_fields, or of the table.
type record []recordField

type recordField struct {
	name  string
	value any
}

func (r *record) set(name string, value any) {
	for i, f := range *r {
		if f.name == name {
			(*r)[i].value = value
			return
		}
	}
	*r = append(*r, recordField{name, value})
}

// MarshalJSON writes the fields in order.
func (r record) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, f := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := enc.Encode(f.name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := enc.Encode(f.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// render shows a record. Unknown and hidden columns are left out.
func (s *Server) render(r *row, v view) record {
	names := v.fields
	if names == nil {
		names = s.db.defs[r.class].order
	}
	out := make(record, 0, len(names))
	for _, name := range names {
		path := s.path(r.class, name, v.who)
		if path == nil {
			continue
		}
		out.set(name, s.renderField(s.walk(r, path), path[len(path)-1], v))
	}
	return out
}

func (s *Server) renderField(r *row, col *column, v view) any {
	value := ""
	if r != nil { // journal columns hold nothing: their text is in sys_journal_field
		value = r.vals[col.name]
	}
	if col.kind == kindPassword && value != "" {
		value = "********"
	}
	if v.mode == "false" {
		if col.kind == kindReference && value != "" && !v.noLinks {
			return map[string]any{"link": v.link(col.ref, value), "value": value}
		}
		return value
	}
	shown := s.displayValue(r, col, value, v.who)
	isLink := col.kind == kindReference && value != "" && !v.noLinks
	if v.mode == "all" {
		out := map[string]any{"display_value": shown, "value": value}
		if isLink {
			out["link"] = v.link(col.ref, value)
		}
		return out
	}
	if isLink {
		return map[string]any{"display_value": shown, "link": v.link(col.ref, value)}
	}
	return shown
}

func (v view) link(ref, id string) string { return v.base + "/api/now/table/" + ref + "/" + id }

// displayValue is what a person would see in the column.
func (s *Server) displayValue(r *row, col *column, value string, who actor) string {
	switch {
	case r == nil:
		return ""
	case col.kind == kindJournal:
		return s.journalDisplay(r, col.name, who)
	case value == "":
		return ""
	case col.kind == kindDateTime:
		return s.displayDate(value, who)
	case col.kind == kindReference:
		if target := s.db.get(col.ref, value); target != nil {
			return s.db.display(target)
		}
		return value
	case col.kind == kindList:
		return s.displayList(col.ref, value)
	case col.choice:
		return s.choiceLabel(col.name, value)
	case col.name == "sys_class_name":
		if d := s.db.defs[value]; d != nil {
			return d.label
		}
	}
	return value
}

func (s *Server) displayList(ref, value string) string {
	parts := strings.Split(value, ",")
	for i, p := range parts {
		if target := s.db.get(ref, p); target != nil {
			parts[i] = s.db.display(target)
		}
	}
	return strings.Join(parts, ", ")
}

// choiceLabel is a choice's label in the instance's language; an unknown value shows raw.
func (s *Server) choiceLabel(element, value string) string {
	labels := s.db.choiceLabels()
	if l, ok := labels[s.cfg.Language+"|"+element+"|"+value]; ok {
		return l
	}
	if l, ok := labels["en|"+element+"|"+value]; ok {
		return l
	}
	return value
}

// choiceValue finds the value behind a label; a text that is none stays.
func (s *Server) choiceValue(element, label string) string {
	for _, r := range s.db.all("sys_choice") {
		v := r.vals
		if v["element"] == element && v["inactive"] != "true" && strings.EqualFold(v["label"], label) {
			return v["value"]
		}
	}
	return label
}

// choiceLabels are the labels of sys_choice by language, element and value, read once until the table changes.
func (s *store) choiceLabels() map[string]string {
	if known := s.labels.Load(); known != nil {
		return *known
	}
	labels := map[string]string{}
	for _, r := range s.all("sys_choice") {
		if v := r.vals; v["name"] == "incident" || v["name"] == "task" {
			labels[v["language"]+"|"+v["element"]+"|"+v["value"]] = v["label"]
		}
	}
	s.labels.Store(&labels)
	return labels
}

func (s *Server) writeReply(w http.ResponseWriter, r *http.Request, rep *reply) {
	maps.Copy(w.Header(), rep.header)
	if rep.stream != nil {
		rep.stream(w)
		return
	}
	quiet := isTrue(r.Header.Get("X-no-response-body")) && (r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch)
	if rep.body == nil || quiet {
		status := rep.status
		if status == http.StatusOK {
			status = http.StatusNoContent
		}
		w.WriteHeader(status)
		return
	}
	writeBody(w, r, rep.status, rep.body)
}

// writeBody writes a value as JSON, or as XML for a client that accepts nothing else.
func writeBody(w http.ResponseWriter, r *http.Request, status int, v any) {
	var out bytes.Buffer
	if wantsXML(r) {
		w.Header().Set("Content-Type", "application/xml;charset=UTF-8")
		out.WriteString(xml.Header)
		writeXML(&out, "response", v)
	} else {
		w.Header().Set("Content-Type", "application/json;charset=UTF-8")
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(v) // maps, slices and strings cannot fail
	}
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // a client that has left is no error of ours
}

// writeXML writes a value in the simple form: an element per key, repeated for lists.
func writeXML(b *bytes.Buffer, name string, v any) {
	if list, ok := v.([]any); ok {
		for _, item := range list {
			writeXML(b, name, item)
		}
		return
	}
	b.WriteString("<" + name + ">")
	switch v := v.(type) {
	case record:
		for _, f := range v {
			writeXML(b, f.name, f.value)
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			writeXML(b, k, v[k])
		}
	case string:
		_ = xml.EscapeText(b, []byte(v)) // writing to memory cannot fail
	case nil:
	default:
		fmt.Fprint(b, v)
	}
	b.WriteString("</" + name + ">")
}

func wantsXML(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "xml") && !strings.Contains(accept, "json") && !strings.Contains(accept, "*/*")
}

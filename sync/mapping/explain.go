package mapping

import (
	"fmt"
	"slices"
	"strings"

	"liaison/connectors"
	"liaison/internal/incident"
)

// Verdict says what became of one field in an explanation.
type Verdict string

// The verdicts.
const (
	Translated Verdict = "TRANSLATED"
	Parked     Verdict = "PARKED"     // waits for a person: Why says for what
	Skipped    Verdict = "SKIPPED"    // does not travel this way: Why says the reason
	Incomplete Verdict = "INCOMPLETE" // some of the vendor fields that it is read from were not given: Why names them
)

// Explanation tells, field by field, what a mapping makes of given words and which line of which file decides it.
type Explanation struct {
	Vendor string
	Fields []Explained
	Unused []string // what was given and nothing looks at, with the nearest known name where there is one
}

// Explained is one hub field of an explanation.
type Explained struct {
	Field   incident.Field
	Verdict Verdict
	Value   string            // the hub's word
	Words   connectors.Fields // the vendor's words, read or to be written
	Label   string            // the row's, may be empty
	Place   string            // file:line of the row, text field or declaration, empty when none decided
	Shared  []string          // other hub values that are written with the same words and therefore left alone
	Why     string

	reads []string // the vendor fields in the order of the rows
}

// Explain tells what Read makes of a ticket's words.
func (m *Mapping) Explain(remote connectors.Fields) Explanation {
	out := Explanation{Vendor: m.vendor}
	known := m.VendorFields()
	for _, field := range sorted(remote) {
		if !slices.Contains(known, field) {
			out.Unused = append(out.Unused, m.unused(field, known))
		}
	}
	reading := m.Read(remote)
	for _, f := range incident.Fields() {
		fields := m.readFields(f)
		if len(fields) == 0 || !slices.ContainsFunc(fields, func(field string) bool { _, given := remote[field]; return given }) {
			continue
		}
		out.Fields = append(out.Fields, m.explain(f, fields, remote, reading))
	}
	return out
}

func (m *Mapping) unused(field string, known []string) string {
	if near := nearest(field, known); near != "" {
		return fmt.Sprintf("%s is read for no hub field; did you mean %q?", field, near)
	}
	return field + " is read for no hub field"
}

func (m *Mapping) explain(f incident.Field, fields []string, remote connectors.Fields, reading Reading) Explained {
	e := Explained{Field: f, Words: reading.Words[f], reads: slices.Clone(fields)}
	if e.Words == nil {
		var missing []string
		e.Words = connectors.Fields{}
		for _, field := range fields {
			if word, given := remote[field]; given {
				e.Words[field] = word
			} else {
				missing = append(missing, field)
			}
		}
		e.Verdict, e.Why = Incomplete, fmt.Sprintf("%s is read together with %s: give it too", f, strings.Join(missing, " and "))
		return e
	}
	if why, parked := reading.Parked[f]; parked {
		e.Verdict, e.Why, e.Place = Parked, why, m.tables[f].at.String()
		return e
	}
	e.Verdict, e.Value, e.Label = Translated, reading.Values[f].Value, reading.Values[f].Label
	if t := m.texts[f]; t != nil {
		e.Place = t.at.String()
		return e
	}
	t := m.tables[f]
	r := t.reader(e.Words)
	e.Place = r.at.String()
	for _, other := range sorted(t.back) {
		if other != e.Value && t.means(r, other) {
			e.Shared = append(e.Shared, other)
		}
	}
	return e
}

// ExplainHub tells what Write makes of an incident's values.
func (m *Mapping) ExplainHub(values incident.Values) Explanation {
	out := Explanation{Vendor: m.vendor}
	w := m.Write(values, values)
	for _, f := range incident.Fields() {
		v, given := values[f]
		if !given {
			continue
		}
		e := Explained{Field: f, Value: v, Words: w.Words[f], Verdict: Translated, reads: slices.Clone(m.readFields(f))}
		if why, parked := w.Parked[f]; parked {
			e.Verdict, e.Why = Parked, why
		} else if why, skipped := w.Skipped[f]; skipped {
			e.Verdict, e.Why = Skipped, why
		}
		e.Place, e.Label = m.decidedBy(f, v)
		out.Fields = append(out.Fields, e)
	}
	for _, f := range sorted(valuesByName(values)) {
		if !incident.Field(f).Valid() {
			out.Unused = append(out.Unused, fmt.Sprintf("%s is no hub field; %s", f, didYouMean(f, fieldNames())))
		}
	}
	return out
}

func valuesByName(values incident.Values) map[string]string {
	out := make(map[string]string, len(values))
	for f, v := range values {
		out[string(f)] = v
	}
	return out
}

// decidedBy returns the line that decides how v is written, and its label.
func (m *Mapping) decidedBy(f incident.Field, v string) (at, label string) {
	if u := m.unmapped[f]; u != nil {
		return u.at.String(), ""
	}
	if t := m.texts[f]; t != nil {
		return t.at.String(), ""
	}
	t := m.tables[f]
	if t == nil {
		return "", ""
	}
	if r := t.writer(v); r != nil {
		return r.at.String(), r.label
	}
	if n := t.refuses(v); n != nil {
		return n.at.String(), ""
	}
	return t.at.String(), ""
}

// String tells the explanation to people, two lines a field.
func (e Explanation) String() string {
	var b strings.Builder
	for _, f := range e.Fields {
		fmt.Fprintf(&b, "%-11s %s\n", f.Field, f)
	}
	for _, u := range e.Unused {
		fmt.Fprintf(&b, "%-11s %s\n", "unused", u)
	}
	return b.String()
}

// order lists the vendor fields of Words, those of the field's row first.
func (e Explained) order() []string {
	order := e.reads
	for _, field := range sorted(e.Words) {
		if !slices.Contains(order, field) {
			order = append(order, field)
		}
	}
	return order
}

func (e Explained) String() string {
	words := spoken(e.order(), e.Words)
	at := ""
	if e.Place != "" {
		at = " (" + e.Place + ")"
	}
	switch e.Verdict {
	case Parked, Skipped, Incomplete:
		if strings.Contains(e.Why, e.Place) {
			at = ""
		}
		return strings.ToLower(string(e.Verdict)) + at + ": " + e.Why
	case Translated:
	}
	out := fmt.Sprintf("%q = %s%s", e.Value, words, at)
	if e.Label != "" {
		out += fmt.Sprintf(", there %q", e.Label)
	}
	if len(e.Shared) > 0 {
		out += "; the same words stand for " + strings.Join(e.Shared, ", ")
	}
	return out
}

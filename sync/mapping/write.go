package mapping

import (
	"fmt"
	"slices"

	"liaison/connectors"
	"liaison/internal/incident"
)

// Written is what to tell a vendor. Every field of the change is in exactly one of Words, Parked and Skipped.
type Written struct {
	Words   map[incident.Field]connectors.Fields // the vendor's words to write
	Parked  map[incident.Field]string            // cannot be written though it should be: a person has to act; the reason
	Skipped map[incident.Field]string            // nothing to do: not mapped, or declared not to be written; why

	// Expect holds, for every field that this write touches and that is also read, what its vendor fields will hold afterwards as
	// far as the mapping tells: the part of the next reading that is our own echo. It names more fields than Words where a row
	// sends another field along (the resolution with RESOLVED), and lacks what the vendor may set as it likes.
	Expect map[incident.Field]connectors.Fields
	// Values holds the hub's values that all this is about: every field of the change, and those that went along.
	Values incident.Values
}

// Fields merges all words into one write.
func (w Written) Fields() connectors.Fields {
	all := connectors.Fields{}
	for _, words := range w.Words {
		for field, word := range words { // no two hub fields write one vendor field: Check saw to it
			all[field] = word
		}
	}
	return all
}

// Write translates the changed fields. all holds the incident's whole values, for rows that send another field along, such as
// the resolution with RESOLVED; a field that is in changed is taken from there.
func (m *Mapping) Write(changed, all incident.Values) Written {
	w := Written{
		Words: map[incident.Field]connectors.Fields{}, Parked: map[incident.Field]string{}, Skipped: map[incident.Field]string{},
		Expect: map[incident.Field]connectors.Fields{}, Values: incident.Values{},
	}
	value := func(f incident.Field) string {
		if v, there := changed[f]; there {
			return v
		}
		return all[f]
	}
	for _, f := range incident.Fields() {
		v, spokenOf := changed[f]
		if !spokenOf {
			continue
		}
		w.Values[f] = v
		switch {
		case m.tables[f] != nil:
			m.writeRow(&w, m.tables[f], v, value)
		case m.texts[f] != nil && m.texts[f].direction != inOnly:
			w.Words[f] = connectors.Fields{m.texts[f].vendor: m.texts[f].limit.fit(v)}
		default:
			m.writeAlong(&w, f, changed, value)
		}
	}
	for f, v := range changed {
		if !f.Valid() {
			w.Parked[f] = fmt.Sprintf("%q is no field of an incident (value %q)", f, v)
		}
	}
	m.expect(&w, value)
	return w
}

// expect fills in what the next reading will show of the write.
func (m *Mapping) expect(w *Written, value func(incident.Field) string) {
	written := w.Fields()
	for _, f := range incident.Fields() {
		words, own := w.Words[f]
		if t := m.tables[f]; t != nil {
			if own {
				w.Expect[f] = m.expected(t, words)
			}
		} else if words, ok := m.WordsOf(f, written); ok {
			w.Expect[f], w.Values[f] = words, value(f)
		}
	}
}

func (m *Mapping) writeRow(w *Written, t *table, v string, value func(incident.Field) string) {
	r := t.writer(v)
	if r == nil {
		m.writeNothing(w, t, v)
		return
	}
	words := r.words()
	for field, tmpl := range r.with {
		word, err := tmpl.render(value)
		if err != nil {
			w.Parked[t.field] = fmt.Sprintf("%s cannot be written to %s (%s): %v", v, field, r.at, err)
			return
		}
		words[field] = m.limitOf(field).fit(word)
	}
	w.Words[t.field] = words
}

// writeNothing says why the table has no row for v.
func (m *Mapping) writeNothing(w *Written, t *table, v string) {
	if n := t.refuses(v); n != nil {
		reason := fmt.Sprintf("%s is not written to %s (%s): %s", spokenValue(v), m.vendor, n.at, n.reason)
		if n.park {
			w.Parked[t.field] = reason
		} else {
			w.Skipped[t.field] = reason
		}
		return
	}
	if v == "" {
		w.Skipped[t.field] = fmt.Sprintf("no %s is given, and %s has no row for none", t.field, t.at.file)
		return
	}
	w.Parked[t.field] = fmt.Sprintf("%q is written by no row of %s; add a row under %s:", v, t.at.file, t.key)
}

// refuses returns the declaration that v is not written: the one that names it before one for every other value.
func (t *table) refuses(v string) *notWritable {
	var rest *notWritable
	for n := range t.notWritable {
		if slices.Contains(t.notWritable[n].hub, v) {
			return &t.notWritable[n]
		}
		if v != "" && slices.Contains(t.notWritable[n].hub, "*") {
			rest = &t.notWritable[n]
		}
	}
	return rest
}

// writeAlong handles a field that is not written by itself. Where the row of a table's present value sends it along, a change
// of it alone is sent with the words of that row that hold it: a resolution that is corrected after resolving.
func (m *Mapping) writeAlong(w *Written, f incident.Field, changed incident.Values, value func(incident.Field) string) {
	for _, tf := range incident.Fields() {
		t := m.tables[tf]
		if t == nil || !t.sendsAlong(f) {
			continue
		}
		r := t.writer(value(tf))
		_, withIt := changed[tf]
		if r == nil || withIt || !r.sendsAlong(f) {
			w.Skipped[f] = fmt.Sprintf("%s is sent to %s together with %s (%s)", f, m.vendor, tf, t.at)
			continue
		}
		words := connectors.Fields{}
		for field, tmpl := range r.with {
			if !slices.Contains(tmpl.fields(), f) {
				continue
			}
			word, err := tmpl.render(value)
			if err != nil {
				delete(w.Skipped, f)
				w.Parked[f] = fmt.Sprintf("%s cannot be written to %s (%s): %v", f, field, r.at, err)
				return
			}
			words[field] = m.limitOf(field).fit(word)
		}
		delete(w.Skipped, f)
		w.Words[f] = words
		return
	}
	if w.Skipped[f] != "" {
		return
	}
	switch u, t := m.unmapped[f], m.texts[f]; {
	case u != nil:
		w.Skipped[f] = fmt.Sprintf("%s is not mapped to %s (%s): %s", f, m.vendor, u.at, u.reason)
	case t != nil:
		w.Skipped[f] = fmt.Sprintf("%s is only read from %s (%s)", f, m.vendor, t.at)
	default:
		w.Skipped[f] = fmt.Sprintf("%s is not mapped to %s", f, m.vendor)
	}
}

func (t *table) sendsAlong(f incident.Field) bool {
	return slices.ContainsFunc(t.rows, func(r *row) bool { return r.sendsAlong(f) })
}

func (r *row) sendsAlong(f incident.Field) bool {
	for _, tmpl := range r.with {
		if r.writes() && slices.Contains(tmpl.fields(), f) {
			return true
		}
	}
	return false
}

func spokenValue(v string) string {
	if v == "" {
		return "an empty value"
	}
	return v
}

package mapping

import (
	"fmt"
	"strconv"
	"strings"

	"liaison/connectors"
	"liaison/internal/incident"
)

// Reading is a vendor's ticket in the hub's words.
type Reading struct {
	Values map[incident.Field]Read              // what was understood
	Parked map[incident.Field]string            // what is in no row, with the reason and the remedy
	Words  map[incident.Field]connectors.Fields // the vendor's words of every field in Values and Parked
	State  string                               // the vendor's state as people say it there: the row's label, else the raw words
}

// Read is one field's value.
type Read struct {
	Value string            // the hub's word
	Words connectors.Fields // the vendor's words that it was read from
	File  string            // of the row or text field that read it
	Line  int               // in File
	Label string            // the row's, may be empty

	means func(hub string) bool
}

// Means reports whether the hub value says the same to the vendor as the words that were read: it is Value, it is written with
// the same words (ASSIGNED and NEW where both are the vendor's "1"), or it differs in what the vendor cuts or trims.
func (r Read) Means(hub string) bool { return hub == r.Value || r.means != nil && r.means(hub) }

// Read translates what was read of a ticket. A hub field of which not all vendor words were read is not spoken of; a word in no
// row parks its own field and no other.
func (m *Mapping) Read(remote connectors.Fields) Reading {
	out := Reading{Values: map[incident.Field]Read{}, Parked: map[incident.Field]string{}, Words: map[incident.Field]connectors.Fields{}}
	for _, f := range incident.Fields() {
		words, ok := m.WordsOf(f, remote)
		if !ok {
			continue
		}
		out.Words[f] = words
		if t := m.texts[f]; t != nil {
			out.Values[f] = t.read(words)
			continue
		}
		t := m.tables[f]
		r := t.reader(words)
		if f == incident.FieldState {
			out.State = stateWords(t, r, words)
		}
		if r == nil {
			out.Parked[f] = t.unknown(words)
			continue
		}
		out.Values[f] = Read{Value: r.hub[0], Words: words, File: r.at.file, Line: r.at.line, Label: r.label, means: func(hub string) bool { return t.means(r, hub) }}
	}
	return out
}

func (t *text) read(words connectors.Fields) Read {
	word := words[t.vendor]
	return Read{Value: unixLines(word), Words: words, File: t.at.file, Line: t.at.line, means: func(hub string) bool {
		return fold(t.limit.fit(hub)) == fold(word)
	}}
}

// WordsOf returns the vendor's words that f is read from, false when f is not read at all or not all of them are in remote.
func (m *Mapping) WordsOf(f incident.Field, remote connectors.Fields) (connectors.Fields, bool) {
	fields := m.readFields(f)
	words := make(connectors.Fields, len(fields))
	for _, field := range fields {
		word, there := remote[field]
		if !there {
			return nil, false
		}
		words[field] = word
	}
	return words, len(fields) > 0
}

func (t *table) unknown(words connectors.Fields) string {
	return fmt.Sprintf("%s is in no row of %s; add a row under %s:", spoken(t.reads, words), t.at.file, t.key)
}

// spoken writes words as people read them: state "9" with hold_reason "".
func spoken(order []string, words connectors.Fields) string {
	var out []string
	for _, field := range order {
		if word, there := words[field]; there {
			out = append(out, field+" "+strconv.Quote(word))
		}
	}
	return strings.Join(out, " with ")
}

// stateWords is what the console shows as the vendor's state.
func stateWords(t *table, r *row, words connectors.Fields) string {
	if r != nil && r.label != "" {
		return r.label
	}
	var raw []string
	for _, field := range t.reads {
		if words[field] != "" {
			raw = append(raw, words[field])
		}
	}
	return strings.Join(raw, " / ")
}

package mapping

import (
	"fmt"
	"strings"
	"time"

	"liaison/internal/incident"
)

// template is a text with references to hub fields: "{resolution}", "{resolution|Resolved.}" with a default for an empty value,
// "{deferredTo as 2006-01-02 15:04:05}" with a layout of Go's time package for the one field that is a time. "{{" is a brace.
type template struct {
	source string
	parts  []part
}

// part is a literal text, or a reference when field is set.
type part struct {
	literal    string
	field      incident.Field
	layout     string
	fallback   string
	hasDefault bool
}

func parseTemplate(source string) (template, error) {
	t := template{source: source}
	rest := source
	for rest != "" {
		open := strings.IndexByte(rest, '{')
		if open < 0 {
			t.literal(rest)
			break
		}
		t.literal(rest[:open])
		rest = rest[open+1:]
		if strings.HasPrefix(rest, "{") {
			t.literal("{")
			rest = rest[1:]
			continue
		}
		inside, after, closed := strings.Cut(rest, "}")
		if !closed {
			return t, fmt.Errorf("the reference %q is not closed", "{"+rest)
		}
		ref, err := parseReference(inside)
		if err != nil {
			return t, err
		}
		t.parts = append(t.parts, ref)
		rest = after
	}
	return t, nil
}

func parseReference(inside string) (part, error) {
	var p part
	name, fallback, hasDefault := strings.Cut(inside, "|")
	p.fallback, p.hasDefault = fallback, hasDefault
	name, layout, hasLayout := strings.Cut(name, " as ")
	p.field, p.layout = incident.Field(name), layout
	switch {
	case !p.field.Valid():
		return p, fmt.Errorf("{%s} refers to %q, which is no hub field (%s)", inside, name, didYouMean(name, fieldNames()))
	case hasLayout && p.field != incident.FieldDeferredTo:
		return p, fmt.Errorf("{%s} gives a time layout, but %s is no time", inside, name)
	case hasLayout && strings.TrimSpace(layout) == "":
		return p, fmt.Errorf("{%s} gives an empty time layout", inside)
	}
	return p, nil
}

func (t *template) literal(s string) {
	if s != "" {
		t.parts = append(t.parts, part{literal: s})
	}
}

// constant returns the text of a template without references.
func (t template) constant() (string, bool) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.field != "" {
			return "", false
		}
		b.WriteString(p.literal)
	}
	return b.String(), true
}

// fields lists the hub fields that the template refers to.
func (t template) fields() []incident.Field {
	var out []incident.Field
	for _, p := range t.parts {
		if p.field != "" {
			out = append(out, p.field)
		}
	}
	return out
}

// render fills the references in. A reference to an empty value without a default is an error.
func (t template) render(value func(incident.Field) string) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.field == "" {
			b.WriteString(p.literal)
			continue
		}
		v := value(p.field)
		switch {
		case v == "" && !p.hasDefault:
			return "", fmt.Errorf("it needs %s, which is empty: give it, or a default in the mapping as in {%s|...}", p.field, p.field)
		case v == "":
			v = p.fallback
		case p.layout != "":
			at, err := time.Parse(time.RFC3339Nano, v)
			if err != nil {
				return "", fmt.Errorf("%s holds %q, which is no RFC 3339 time", p.field, v)
			}
			v = at.UTC().Format(p.layout)
		}
		b.WriteString(v)
	}
	return b.String(), nil
}

func fieldNames() []string {
	var out []string
	for _, f := range incident.Fields() {
		out = append(out, string(f))
	}
	return out
}

package mapping

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"liaison/internal/incident"
)

// tableFields names the tables and the hub fields that they translate, in the order in which problems are looked for.
var tableFields = []struct {
	key   string
	field incident.Field
}{
	{"states", incident.FieldState},
	{"priorities", incident.FieldPriority},
	{"impacts", incident.FieldImpact},
	{"urgencies", incident.FieldUrgency},
	{"categories", incident.FieldCategory},
	{"services", incident.FieldService},
	{"teams", incident.FieldTeam},
}

// onlyTables are the hub fields whose values are the hub's own words, so that no vendor's text can stand for them.
var onlyTables = []incident.Field{incident.FieldState, incident.FieldPriority, incident.FieldImpact, incident.FieldUrgency}

// largestFile bounds what parse looks at.
const largestFile = 1 << 20

// parser collects the faults of one file while it reads it.
type parser struct {
	file     string
	problems Problems
}

func (p *parser) at(n *yaml.Node) place { return place{file: p.file, line: n.Line} }

func (p *parser) fail(n *yaml.Node, remedy, format string, args ...any) {
	p.problems = append(p.problems, p.at(n).problem(remedy, format, args...))
}

// parse reads one file, complete or an organisation's own, and reports what is wrong with its form.
func parse(name string, data []byte) (*Mapping, Problems) {
	p := &parser{file: name}
	root := p.document(data)
	if root == nil {
		return nil, p.problems
	}
	sum := sha256.Sum256(data)
	m := &Mapping{
		name: name, version: short(sum), values: map[string]*domain{}, computed: map[string]*computed{},
		texts: map[incident.Field]*text{}, tables: map[incident.Field]*table{}, unmapped: map[incident.Field]*unmapped{},
	}
	known := []string{"vendor", "vendor_values", "computed", "fields", "not_mapped", "bounce"}
	for _, t := range tableFields {
		known = append(known, t.key)
	}
	keys := p.keys(root, "the mapping", known)
	if n := keys["vendor"]; n != nil {
		m.vendor, _ = p.filled(n, "vendor")
	}
	if n := keys["vendor_values"]; n != nil {
		p.vendorValues(m, n)
	}
	if n := keys["computed"]; n != nil {
		p.computed(m, n)
	}
	if n := keys["fields"]; n != nil {
		p.texts(m, n)
	}
	for _, t := range tableFields {
		if n := keys[t.key]; n != nil {
			p.table(m, t.key, t.field, keyOf(root, t.key), n)
		}
	}
	if n := keys["not_mapped"]; n != nil {
		p.unmapped(m, n)
	}
	if n := keys["bounce"]; n != nil {
		p.bounces(m, n)
	}
	return m, p.problems
}

// document parses the YAML as a tree and refuses what is not plain: it returns nil when there is nothing to go on with.
func (p *parser) document(data []byte) *yaml.Node {
	fault := func(line int, remedy, format string, args ...any) *yaml.Node {
		p.problems = append(p.problems, place{p.file, line}.problem(remedy, format, args...))
		return nil
	}
	if len(data) > largestFile {
		return fault(0, "keep it below 1 MiB", "the file has %d bytes", len(data))
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return fault(0, `begin with a line such as "vendor: ServiceNow"`, "the file is empty")
	case err != nil:
		return p.syntax(err)
	}
	if err := dec.Decode(&more); err == nil {
		return fault(more.Line, `keep one document and remove the "---" before the others`, "a second YAML document begins here")
	} else if !errors.Is(err, io.EOF) {
		return p.syntax(err)
	}
	if len(doc.Content) == 0 {
		return fault(0, `begin with a line such as "vendor: ServiceNow"`, "the file is empty")
	}
	return doc.Content[0]
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

func (p *parser) syntax(err error) *yaml.Node {
	msg, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if found := yamlLine.FindStringSubmatch(msg); found != nil {
		line, _ = strconv.Atoi(found[1])
		msg = strings.Replace(msg, found[0], "", 1)
	}
	p.problems = append(p.problems, place{p.file, line}.problem("mend the YAML: indent with blanks and quote words that hold a colon or a bracket", "the file is no YAML: %s", msg))
	return nil
}

// entry is one key with its value.
type entry struct {
	name string
	key  *yaml.Node
	node *yaml.Node
}

// entries lists a mapping's keys in the file's order.
func (p *parser) entries(n *yaml.Node, what string) []entry {
	if !p.kind(n, yaml.MappingNode, what, "keys with values") {
		return nil
	}
	var out []entry
	seen := map[string]int{}
	for at := 0; at+1 < len(n.Content); at += 2 {
		key := n.Content[at]
		name, ok := p.word(key, "a key of "+what)
		if !ok {
			continue
		}
		if line, twice := seen[name]; twice {
			p.fail(key, "remove one of them", "%s has %q twice: line %d has it already", what, name, line)
			continue
		}
		seen[name] = key.Line
		out = append(out, entry{name, key, n.Content[at+1]})
	}
	return out
}

// keys is entries for a mapping whose keys are fixed.
func (p *parser) keys(n *yaml.Node, what string, known []string) map[string]*yaml.Node {
	out := map[string]*yaml.Node{}
	for _, e := range p.entries(n, what) {
		if !slices.Contains(known, e.name) {
			p.fail(e.key, didYouMean(e.name, known), "%s has no key %q", what, e.name)
			continue
		}
		out[e.name] = e.node
	}
	return out
}

// list returns a sequence's items.
func (p *parser) list(n *yaml.Node, what string) []*yaml.Node {
	if !p.kind(n, yaml.SequenceNode, what, "a list") {
		return nil
	}
	return n.Content
}

var kindNames = map[yaml.Kind]string{
	yaml.MappingNode: "keys with values", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single word", yaml.AliasNode: "an alias",
}

func (p *parser) kind(n *yaml.Node, want yaml.Kind, what, wanted string) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		p.fail(n, "write the words out where they are meant", "%s uses a YAML anchor or alias", what)
	case n.Style&yaml.TaggedStyle != 0:
		p.fail(n, "remove the tag", "%s has the YAML tag %q", what, n.Tag)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null" && want != yaml.ScalarNode:
		p.fail(n, "fill it in or remove the key", "%s is empty", what)
	case n.Kind != want:
		p.fail(n, "write it as "+wanted, "%s is %s", what, kindNames[n.Kind])
	default:
		return true
	}
	return false
}

// word returns a scalar as it is written: 1 and "1" are the same word.
func (p *parser) word(n *yaml.Node, what string) (string, bool) {
	if !p.kind(n, yaml.ScalarNode, what, "a single word") {
		return "", false
	}
	if n.Tag == "!!null" {
		p.fail(n, `fill it in, or write "" for an empty word`, "%s has no value", what)
		return "", false
	}
	return n.Value, true
}

// filled is word for what must not be empty.
func (p *parser) filled(n *yaml.Node, what string) (string, bool) {
	w, ok := p.word(n, what)
	if ok && strings.TrimSpace(w) == "" {
		p.fail(n, "fill it in", "%s is empty", what)
		return "", false
	}
	return w, ok
}

// words returns one word or a list of them.
func (p *parser) words(n *yaml.Node, what string) []string {
	nodes := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		if nodes = p.list(n, what); len(nodes) == 0 {
			p.fail(n, "name at least one word", "%s is an empty list", what)
		}
	}
	var out []string
	for _, one := range nodes {
		w, ok := p.word(one, what)
		if ok && slices.Contains(out, w) {
			p.fail(one, "remove one of them", "%s has %q twice", what, w)
			continue
		}
		if ok {
			out = append(out, w)
		}
	}
	return out
}

// choice returns one of known, or the first of them when n is nil or wrong.
func choice[S ~string](p *parser, n *yaml.Node, what string, known ...S) S {
	if n == nil {
		return known[0]
	}
	w, ok := p.word(n, what)
	if ok && !slices.Contains(known, S(w)) {
		var names []string
		for _, k := range known {
			names = append(names, string(k))
		}
		p.fail(n, didYouMean(w, names), "%s is %q", what, w)
		ok = false
	}
	if !ok {
		return known[0]
	}
	return S(w)
}

func (p *parser) vendorValues(m *Mapping, n *yaml.Node) {
	for _, e := range p.entries(n, "vendor_values") {
		what := "vendor_values." + e.name
		d := &domain{at: p.at(e.key)}
		for _, w := range p.words(e.node, what) {
			if err := d.add(w); err != nil {
				p.fail(e.node, `list the documented values, such as ["1", "2"] or "0..100"`, "%s: %v", what, err)
			}
		}
		m.values[e.name] = d
	}
}

func (p *parser) computed(m *Mapping, n *yaml.Node) {
	for _, e := range p.entries(n, "computed") {
		what := "computed." + e.name
		c := &computed{at: p.at(e.key), field: e.name}
		for _, item := range p.list(e.node, what) {
			keys := p.keys(item, "a rule of "+what, []string{"when", "gives"})
			if keys["when"] == nil || keys["gives"] == nil {
				p.fail(item, `write it as {when: {impact: "1"}, gives: "1"}`, "a rule of %s lacks when: or gives:", what)
				continue
			}
			when, _ := p.patterns(keys["when"], "when: of "+what)
			gives, _ := p.word(keys["gives"], "gives: of "+what)
			c.rules = append(c.rules, computedRule{at: p.at(item), when: when, gives: gives})
		}
		m.computed[e.name] = c
	}
}

func (p *parser) patterns(n *yaml.Node, what string) (map[string]pattern, []string) {
	out := map[string]pattern{}
	var order []string
	for _, e := range p.entries(n, what) {
		out[e.name] = p.pattern(e.node, e.name+" in "+what)
		order = append(order, e.name)
	}
	if len(out) == 0 && n.Kind == yaml.MappingNode {
		p.fail(n, `name at least one vendor field with its word, such as {state: "2"}`, "%s names no vendor field", what)
	}
	return out, order
}

// pattern reads a word, a range, "*", or a list of words.
func (p *parser) pattern(n *yaml.Node, what string) pattern {
	if n.Kind != yaml.SequenceNode {
		w, _ := p.word(n, what)
		one, err := parsePattern(w)
		if err != nil {
			p.fail(n, "write the smaller number first", "%s: %v", what, err)
		}
		return one
	}
	var all pattern
	for _, w := range p.words(n, what) {
		one, err := parsePattern(w)
		if err != nil || one.any || one.span != nil {
			p.fail(n, `list plain words only; give a range or "*" a row of its own`, "%s has %q in a list", what, w)
			continue
		}
		all.words = append(all.words, w)
	}
	return all
}

func (p *parser) texts(m *Mapping, n *yaml.Node) {
	for _, e := range p.entries(n, "fields") {
		what := "fields." + e.name
		f := incident.Field(e.name)
		if !f.Valid() {
			p.fail(e.key, didYouMean(e.name, fieldNames()), "%q is no hub field", e.name)
			continue
		}
		if slices.Contains(onlyTables, f) {
			p.fail(e.key, fmt.Sprintf("give it a table under %s:", tableKey(f)), "%s has words of the hub's own, which no text can stand for", e.name)
			continue
		}
		keys := p.keys(e.node, what, slices.Concat([]string{"vendor", "direction", "max", "unit", "single_line"}, rulingKeys))
		t := &text{
			at: p.at(e.key), field: f, ruling: p.ruling(f, keys, what),
			direction: choice(p, keys["direction"], "direction: of "+what, bothWays, outOnly, inOnly),
		}
		if keys["vendor"] == nil {
			p.fail(e.key, "name the vendor's field, such as vendor: short_description", "%s lacks vendor:", what)
		} else {
			t.vendor, _ = p.filled(keys["vendor"], "vendor: of "+what)
		}
		t.limit = p.limit(keys, what)
		m.texts[f] = t
	}
}

func (p *parser) limit(keys map[string]*yaml.Node, what string) limit {
	l := limit{
		bytes:      choice(p, keys["unit"], "unit: of "+what, "runes", "bytes") == "bytes",
		singleLine: choice(p, keys["single_line"], "single_line: of "+what, "false", "true") == "true",
	}
	switch n := keys["max"]; {
	case n != nil:
		l.max = p.number(n, "max: of "+what, math.MaxInt32, "give a whole number above 0, or leave max: out")
	case keys["unit"] != nil:
		p.fail(keys["unit"], "add max:, or remove unit:", "%s has a unit: but no max:", what)
	}
	return l
}

// number reads a whole number from 1 to most; what is none counts as 0.
func (p *parser) number(n *yaml.Node, what string, most int, remedy string) int {
	w, ok := p.word(n, what)
	number, err := strconv.Atoi(w)
	sound := err == nil && number >= 1 && number <= most
	if ok && !sound {
		p.fail(n, remedy, "%s is %q", what, w)
	}
	if !sound {
		return 0
	}
	return number
}

func tableKey(f incident.Field) string {
	for _, t := range tableFields {
		if t.field == f {
			return t.key
		}
	}
	return ""
}

func (p *parser) unmapped(m *Mapping, n *yaml.Node) {
	for _, e := range p.entries(n, "not_mapped") {
		f := incident.Field(e.name)
		if !f.Valid() {
			p.fail(e.key, didYouMean(e.name, fieldNames()), "%q is no hub field", e.name)
			continue
		}
		if reason, ok := p.filled(e.node, "the reason of not_mapped."+e.name); ok {
			m.unmapped[f] = &unmapped{at: p.at(e.key), reason: reason}
		}
	}
}

// keyOf returns the node of a mapping's key, so that a table is named by the line on which it begins.
func keyOf(n *yaml.Node, name string) *yaml.Node {
	for at := 0; at+1 < len(n.Content); at += 2 {
		if n.Content[at].Value == name {
			return n.Content[at]
		}
	}
	return n
}

func (p *parser) table(m *Mapping, key string, f incident.Field, at, n *yaml.Node) {
	keys := p.keys(n, key, slices.Concat([]string{"rows", "not_writable"}, rulingKeys))
	t := &table{at: p.at(at), key: key, field: f, ruling: p.ruling(f, keys, key)}
	if keys["rows"] == nil {
		p.fail(at, "add rows:, or name the field under not_mapped: with the reason", "%s has no rows", key)
	} else {
		for _, item := range p.list(keys["rows"], "rows: of "+key) {
			if r := p.row(item, key); r != nil {
				t.rows = append(t.rows, r)
			}
		}
	}
	if keys["not_writable"] != nil {
		for _, item := range p.list(keys["not_writable"], "not_writable: of "+key) {
			t.notWritable = append(t.notWritable, p.notWritable(item, key))
		}
	}
	m.tables[f] = t
}

func (p *parser) row(n *yaml.Node, key string) *row {
	what := "a row of " + key
	keys := p.keys(n, what, []string{"hub", "vendor", "write", "with", "use", "label"})
	if keys["hub"] == nil || keys["vendor"] == nil {
		p.fail(n, `write it as {hub: IN_PROGRESS, vendor: {state: "2"}}`, "%s lacks hub: or vendor:", what)
		return nil
	}
	r := &row{at: p.at(n), hub: p.words(keys["hub"], "hub: of "+what), use: choice(p, keys["use"], "use: of "+what, useBoth, useRead, useWrite)}
	r.vendor, r.order = p.patterns(keys["vendor"], "vendor: of "+what)
	if keys["label"] != nil {
		r.label, _ = p.filled(keys["label"], "label: of "+what)
	}
	if keys["write"] != nil {
		r.write = map[string]string{}
		for _, e := range p.entries(keys["write"], "write: of "+what) {
			r.write[e.name], _ = p.word(e.node, e.name+" in write: of "+what)
		}
	}
	if keys["with"] != nil {
		r.with = p.templates(keys["with"], "with: of "+what)
	}
	switch {
	case len(r.hub) == 0:
		return nil // reported already
	case len(r.hub) > 1 && r.use != useWrite:
		p.fail(n, "give each value its own row, or say use: write and let another row read", "a row that reads gives several hub values: %s", quoted(r.hub))
		return nil
	case r.use == useRead && (r.write != nil || r.with != nil):
		p.fail(n, "remove write: and with:, or use: read", "a row that is only read has write: or with:")
	}
	return r
}

func (p *parser) templates(n *yaml.Node, what string) map[string]template {
	out := map[string]template{}
	for _, e := range p.entries(n, what) {
		w, ok := p.word(e.node, e.name+" in "+what)
		if !ok {
			continue
		}
		t, err := parseTemplate(w)
		if err != nil {
			p.fail(e.node, "refer to a hub field as {resolution} or {resolution|a default}; write {{ for a brace", "%s in %s: %v", e.name, what, err)
			continue
		}
		out[e.name] = t
	}
	return out
}

func (p *parser) notWritable(n *yaml.Node, key string) notWritable {
	what := "an item under not_writable: of " + key
	keys := p.keys(n, what, []string{"hub", "reason", "then"})
	out := notWritable{at: p.at(n), park: choice(p, keys["then"], "then: of "+what, "park", "skip") == "park"}
	if keys["hub"] == nil || keys["reason"] == nil {
		p.fail(n, `write it as {hub: NONE, reason: "why it is never written"}`, "%s lacks hub: or reason:", what)
		return out
	}
	out.hub = p.words(keys["hub"], "hub: of "+what)
	out.reason, _ = p.filled(keys["reason"], "reason: of "+what)
	return out
}

package mapping

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"liaison/connectors"
	"liaison/internal/incident"
)

// Mapping is one system's checked translation. It is made by Load and Overlay and never changes.
type Mapping struct {
	name     string // the files, as problems name them
	vendor   string
	version  string
	values   map[string]*domain
	computed map[string]*computed
	texts    map[incident.Field]*text
	tables   map[incident.Field]*table
	unmapped map[incident.Field]*unmapped
	bounce   *Bounce // nil: as usual

	tried map[string][]string // by vendor field: the words with which the tables are checked
}

// unmapped is a hub field that the file declares not to travel.
type unmapped struct {
	at     place
	reason string
}

// computed is a vendor field that the vendor works out from others, whatever is written to it.
type computed struct {
	at    place
	field string
	rules []computedRule
}

type computedRule struct {
	at    place
	when  map[string]pattern
	gives string
}

// gives works the field's value out from what is written, false when that does not settle it.
func (c *computed) gives(words connectors.Fields) (string, bool) {
	for _, r := range c.rules {
		if matchAll(r.when, words) {
			return r.gives, true
		}
	}
	return "", false
}

// table translates one hub field by rows.
type table struct {
	at          place
	key         string // as the file calls it: "states"
	field       incident.Field
	ruling      Ruling
	rows        []*row
	notWritable []notWritable

	reads []string                 // the vendor fields that the reading rows match on, in the file's order
	back  map[string]map[*row]bool // by hub value: the rows that read what is written for it
}

// use says which way a row works.
type use string

const (
	useBoth  use = "both"
	useRead  use = "read"
	useWrite use = "write"
)

// row is one line of a table.
type row struct {
	at     place
	hub    []string // one word; more only in rows that merely write
	vendor map[string]pattern
	order  []string            // vendor's keys as the file has them
	write  map[string]string   // what is written instead of vendor's words, nil without
	with   map[string]template // what is written beside them
	use    use
	label  string
}

func (r *row) reads() bool  { return r.use != useWrite }
func (r *row) writes() bool { return r.use != useRead }

func (r *row) matches(words connectors.Fields) bool { return matchAll(r.vendor, words) }

// matchAll reports whether every pattern finds its word. A word that is not there matches nothing.
func matchAll(patterns map[string]pattern, words connectors.Fields) bool {
	for field, p := range patterns {
		if word, there := words[field]; !there || !p.matches(word) {
			return false
		}
	}
	return true
}

// words returns the fixed words that the row writes, without those of with.
func (r *row) words() connectors.Fields {
	words := connectors.Fields{}
	if r.write != nil {
		for field, w := range r.write {
			words[field] = w
		}
		return words
	}
	for field, p := range r.vendor {
		if w, ok := p.writes(); ok {
			words[field] = w
		}
	}
	return words
}

// constants returns words and those of with that hold no reference.
func (r *row) constants() connectors.Fields {
	words := r.words()
	for field, t := range r.with {
		if w, ok := t.constant(); ok {
			words[field] = w
		}
	}
	return words
}

type notWritable struct {
	at     place
	hub    []string // "*": every value without a row
	reason string
	park   bool // false: nobody needs to hear that it is not written
}

// Load reads and checks a complete mapping file. name is how problems call it, such as "connectors/servicenow/mapping.yaml". An
// error is of type Problems and holds everything that is wrong.
func Load(name string, data []byte) (*Mapping, error) {
	m, problems := parse(name, data)
	if len(problems) > 0 {
		return nil, problems.sorted()
	}
	m.finish()
	if problems = m.Check(); len(problems) > 0 {
		return nil, problems
	}
	return m, nil
}

// Overlay lays an organisation's own file over base and checks the result. What the own file gives for a hub field, a table, a
// text field or the word that it is not mapped, replaces all that base says of that field; so does what it gives for a vendor
// field under vendor_values and computed, and what it gives under bounce. The rest of base stays. base itself is left as it is.
func Overlay(base *Mapping, name string, data []byte) (*Mapping, error) {
	own, problems := parse(name, data)
	if own != nil && own.vendor != "" && own.vendor != base.vendor {
		problems = append(problems, Problem{
			File: name, Problem: fmt.Sprintf("the file is for %q but lies over a mapping for %q", own.vendor, base.vendor),
			Remedy: "name this file in a system of its own vendor, or leave vendor: out",
		})
	}
	if len(problems) > 0 {
		return nil, problems.sorted()
	}
	m := base.overlaid(own)
	m.finish()
	if problems = m.Check(); len(problems) > 0 {
		return nil, problems
	}
	return m, nil
}

func (m *Mapping) overlaid(own *Mapping) *Mapping {
	sum := sha256.Sum256([]byte(m.version + "\n" + own.version))
	laid := &Mapping{
		name: own.name, vendor: m.vendor, version: short(sum), values: map[string]*domain{}, computed: map[string]*computed{},
		texts: map[incident.Field]*text{}, tables: map[incident.Field]*table{}, unmapped: map[incident.Field]*unmapped{},
	}
	for _, from := range []*Mapping{m, own} {
		for field, d := range from.values {
			laid.values[field] = d
		}
		for field, c := range from.computed {
			laid.computed[field] = c
		}
		for _, f := range incident.Fields() {
			if from.mentions(f) {
				delete(laid.texts, f)
				delete(laid.tables, f)
				delete(laid.unmapped, f)
			}
		}
		for f, t := range from.texts {
			laid.texts[f] = t
		}
		for f, t := range from.tables {
			laid.tables[f] = t.raw()
		}
		for f, u := range from.unmapped {
			laid.unmapped[f] = u
		}
		if from.bounce != nil {
			laid.bounce = from.bounce
		}
	}
	return laid
}

// raw is the table as its file has it, without what finish worked out against one mapping's values.
func (t *table) raw() *table {
	return &table{at: t.at, key: t.key, field: t.field, ruling: t.ruling, rows: t.rows, notWritable: t.notWritable}
}

func (m *Mapping) mentions(f incident.Field) bool {
	return m.texts[f] != nil || m.tables[f] != nil || m.unmapped[f] != nil
}

// Vendor returns the vendor's name as people say it.
func (m *Mapping) Vendor() string { return m.vendor }

// Version returns a short hash of the content: two mappings with the same version translate alike.
func (m *Mapping) Version() string { return m.version }

// VendorFields lists every vendor field that Read needs, sorted.
func (m *Mapping) VendorFields() []string {
	var out []string
	for _, f := range incident.Fields() {
		out = append(out, m.readFields(f)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// readFields lists the vendor fields that f is read from, none when it is not read.
func (m *Mapping) readFields(f incident.Field) []string {
	if t := m.tables[f]; t != nil {
		return t.reads
	}
	if t := m.texts[f]; t != nil && t.direction != outOnly {
		return []string{t.vendor}
	}
	return nil
}

// limitOf returns how much a vendor field takes.
func (m *Mapping) limitOf(vendorField string) limit {
	for _, f := range incident.Fields() {
		if t := m.texts[f]; t != nil && t.vendor == vendorField {
			return t.limit
		}
	}
	return limit{}
}

// otherWord stands for the words of an open domain that nobody listed. No vendor can send it: it is no valid text.
const otherWord = "\xff"

// finish works out what the tables need at run time.
func (m *Mapping) finish() {
	m.tried = map[string][]string{}
	for field, d := range m.values {
		m.tried[field] = slices.Clone(d.words)
		if d.open {
			m.tried[field] = append(m.tried[field], otherWord)
		}
	}
	for _, t := range m.tables {
		for _, r := range t.rows {
			for field, p := range r.vendor {
				if d := m.values[field]; d == nil || !d.open {
					continue
				}
				for _, w := range p.words {
					if !slices.Contains(m.tried[field], w) {
						m.tried[field] = append(m.tried[field], w)
					}
				}
			}
		}
	}
	for _, t := range m.tables {
		t.reads = nil
		for _, r := range t.rows {
			for _, field := range r.order {
				if r.reads() && !slices.Contains(t.reads, field) {
					t.reads = append(t.reads, field)
				}
			}
		}
		t.back = map[string]map[*row]bool{}
		for _, r := range t.rows {
			if !r.writes() {
				continue
			}
			rows := map[*row]bool{}
			m.combinations(t.reads, m.expected(t, r.constants()), func(words connectors.Fields) {
				if reader := t.reader(words); reader != nil {
					rows[reader] = true
				}
			})
			for _, hub := range r.hub {
				t.back[hub] = rows
			}
		}
	}
}

// expected returns what the table's own vendor fields will hold after words were written, as far as the file tells.
func (m *Mapping) expected(t *table, words connectors.Fields) connectors.Fields {
	expect := connectors.Fields{}
	for _, field := range t.reads {
		if c := m.computed[field]; c != nil {
			if w, ok := c.gives(words); ok {
				expect[field] = w
			}
		} else if w, ok := words[field]; ok {
			expect[field] = w
		}
	}
	return expect
}

// mostCombinations bounds the cross product of vendor values that a table is checked against.
const mostCombinations = 20_000

// combinations calls yield with every combination of documented values of the fields, those in fixed held fast. It reports
// whether there were few enough to try them all. yield must not keep what it is given.
func (m *Mapping) combinations(fields []string, fixed connectors.Fields, yield func(connectors.Fields)) bool {
	total := 1
	for _, field := range fields {
		if _, held := fixed[field]; !held {
			if total *= max(1, len(m.tried[field])); total > mostCombinations {
				return false
			}
		}
	}
	words := make(connectors.Fields, len(fields))
	var walk func(n int)
	walk = func(n int) {
		if n == len(fields) {
			yield(words)
			return
		}
		if word, held := fixed[fields[n]]; held {
			words[fields[n]] = word
			walk(n + 1)
			return
		}
		for _, word := range m.tried[fields[n]] {
			words[fields[n]] = word
			walk(n + 1)
		}
	}
	walk(0)
	return true
}

// reader returns the first row that reads the words.
func (t *table) reader(words connectors.Fields) *row {
	for _, r := range t.rows {
		if r.reads() && r.matches(words) {
			return r
		}
	}
	return nil
}

// writer returns the row that writes the hub value.
func (t *table) writer(hub string) *row {
	for _, r := range t.rows {
		if r.writes() && slices.Contains(r.hub, hub) {
			return r
		}
	}
	return nil
}

// means reports whether the hub value is written as words that r reads: whether both say the same to the vendor.
func (t *table) means(r *row, hub string) bool { return r.hub[0] == hub || t.back[hub][r] }

func short(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:6]) }

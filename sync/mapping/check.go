package mapping

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"liaison/connectors"
	"liaison/internal/incident"
)

// checker goes through one mapping.
type checker struct {
	m        *Mapping
	problems Problems
}

func (c *checker) fail(at place, remedy, format string, args ...any) {
	c.problems = append(c.problems, at.problem(remedy, format, args...))
}

// Check goes through the whole mapping and returns everything that is wrong with it. Load and Overlay have done so already: for
// what they return there is nothing to report.
func (m *Mapping) Check() Problems {
	c := &checker{m: m}
	c.whole()
	for _, tf := range tableFields {
		t := m.tables[tf.field]
		if t == nil {
			continue
		}
		sound := c.vendorWords(t)
		c.hubWords(t)
		c.everyHubValue(t)
		if !sound { // the rest would only repeat it in other words
			continue
		}
		if c.everyVendorValue(t) {
			c.readBack(t)
		}
	}
	c.computedRules()
	c.oneWriter()
	c.limits()
	return c.problems.sorted()
}

// whole checks that every hub field is spoken of once.
func (c *checker) whole() {
	if c.m.vendor == "" {
		c.problems = append(c.problems, Problem{File: c.m.name, Problem: "vendor: is missing", Remedy: "name the vendor as people say it, such as vendor: ServiceNow"})
	}
	var missing []string
	for _, f := range incident.Fields() {
		var at []place
		if t := c.m.texts[f]; t != nil {
			at = append(at, t.at)
		}
		if t := c.m.tables[f]; t != nil {
			at = append(at, t.at)
		}
		if u := c.m.unmapped[f]; u != nil {
			at = append(at, u.at)
		}
		switch {
		case len(at) == 0:
			missing = append(missing, string(f))
		case len(at) > 1:
			c.fail(at[1], "keep one of them", "%s is mapped twice: %s has it already", f, at[0])
		}
	}
	if len(missing) > 0 {
		c.problems = append(c.problems, Problem{
			File: c.m.name, Problem: "nothing is said of the hub fields " + strings.Join(missing, ", "),
			Remedy: "map them, or name each under not_mapped: with the reason",
		})
	}
}

// vendorWords checks that the words of the rows are documented ones. It reports whether all fields have their values.
func (c *checker) vendorWords(t *table) bool {
	before := len(c.problems)
	undocumented := map[string]bool{}
	for _, r := range t.rows {
		for _, field := range r.order {
			d := c.m.values[field]
			if d == nil {
				if !undocumented[field] {
					c.fail(r.at, fmt.Sprintf(`list what the vendor documents, such as %s: ["1", "2"], with "*" when other words occur too`, field),
						"vendor_values has no %s, on which %s matches", field, t.key)
				}
				undocumented[field] = true
				continue
			}
			for _, word := range r.vendor[field].words {
				c.documented(r.at, field, word)
			}
		}
		if r.writes() {
			words := r.constants()
			for _, field := range sorted(words) {
				if !slices.Contains(r.vendor[field].words, words[field]) { // those are looked at already
					c.documented(r.at, field, words[field])
				}
			}
		}
	}
	return len(c.problems) == before
}

func (c *checker) documented(at place, field, word string) {
	if d := c.m.values[field]; d != nil && !d.has(word) {
		remedy := fmt.Sprintf("correct it, or add it to vendor_values.%s (%s)", field, d.at)
		if near := nearest(word, d.words); near != "" && len(word) > 2 {
			remedy = fmt.Sprintf("did you mean %q? If not, add it to vendor_values.%s (%s)", near, field, d.at)
		}
		c.fail(at, remedy, "%s %q is none of the vendor's documented values", field, word)
	}
}

// hubValues returns the hub's words of a field, nil for fields in which every organisation has its own.
func hubValues(f incident.Field) []string {
	switch f {
	case incident.FieldState:
		return incident.StateValues()
	case incident.FieldPriority:
		return texts(incident.Priorities())
	case incident.FieldImpact:
		return texts(incident.Impacts())
	case incident.FieldUrgency:
		return texts(incident.Urgencies())
	default:
		return nil
	}
}

func texts[S ~string](words []S) []string {
	out := make([]string, len(words))
	for n, w := range words {
		out[n] = string(w)
	}
	return out
}

// mayBeEmpty reports whether the hub's own words for f include none at all.
func mayBeEmpty(f incident.Field) bool {
	return f != incident.FieldState && f != incident.FieldPriority
}

// hubWords checks that the hub's words in rows and declarations are the hub's.
func (c *checker) hubWords(t *table) {
	values := hubValues(t.field)
	if values == nil {
		return
	}
	known := func(at place, word string) {
		if !slices.Contains(values, word) && (word != "" || !mayBeEmpty(t.field)) {
			c.fail(at, didYouMean(word, values), "%q is no %s of the hub", word, t.field)
		}
	}
	for _, r := range t.rows {
		for _, word := range r.hub {
			known(r.at, word)
		}
	}
	for _, n := range t.notWritable {
		for _, word := range n.hub {
			if word != "*" {
				known(n.at, word)
			}
		}
	}
}

// everyHubValue checks that each hub value is written by one row or declared not to be.
func (c *checker) everyHubValue(t *table) {
	writers := map[string]place{}
	for _, r := range t.rows {
		for _, hub := range r.hub {
			if !r.writes() {
				continue
			}
			if first, twice := writers[hub]; twice {
				c.fail(r.at, "say use: read in one of them", "%s is written by two rows: %s does so already", spokenValue(hub), first)
				continue
			}
			writers[hub] = r.at
		}
	}
	declared := map[string]place{}
	for _, n := range t.notWritable {
		for _, hub := range n.hub {
			if first, twice := declared[hub]; twice {
				c.fail(n.at, "keep one of them", "%s is declared not writable twice: %s does so already", spokenValue(hub), first)
			}
			if at, written := writers[hub]; written {
				c.fail(n.at, "remove it here, or say use: read in the row", "%s is declared not writable but written by a row (%s)", spokenValue(hub), at)
			}
			declared[hub] = n.at
		}
	}
	if _, rest := declared["*"]; rest {
		return
	}
	for _, hub := range hubValues(t.field) {
		_, written := writers[hub]
		if _, refused := declared[hub]; !written && !refused {
			c.fail(t.at, "add a row, or name it under not_writable: with the reason", "%s is written by no row of %s", hub, t.key)
		}
	}
}

// shown is how many examples a problem names.
const shown = 5

// everyVendorValue checks that each documented combination is read by a row, and that each row can read something.
func (c *checker) everyVendorValue(t *table) bool {
	sound := true
	var unread []string
	used, hiddenBy := map[*row]bool{}, map[*row]map[*row]bool{}
	few := c.m.combinations(t.reads, nil, func(words connectors.Fields) {
		first := t.reader(words)
		if first == nil {
			if !other(words) { // what nobody documents parks
				unread = append(unread, spoken(t.reads, words))
			}
			return
		}
		used[first] = true
		for _, r := range t.rows {
			if r == first || !r.reads() || !r.matches(words) {
				continue
			}
			if hiddenBy[r] == nil {
				hiddenBy[r] = map[*row]bool{}
			}
			hiddenBy[r][first] = true
		}
	})
	if !few {
		c.fail(t.at, "match on fewer fields or narrower ranges", "%s has more than %d combinations of vendor values", t.key, mostCombinations)
		return false
	}
	if len(unread) > 0 {
		more := ""
		if len(unread) > shown {
			more = fmt.Sprintf(" and %d more", len(unread)-shown)
			unread = unread[:shown]
		}
		c.fail(t.at, "add a row, with use: read if it is never written", "%s is read by no row of %s", strings.Join(unread, "; ")+more, t.key)
		sound = false
	}
	for _, r := range t.rows {
		switch {
		case !r.reads() || used[r]:
		case len(hiddenBy[r]) > 0:
			c.fail(r.at, "move it before them, or say use: write", "the row is never read: all that it matches is read before by %s", t.places(hiddenBy[r]))
			sound = false
		default:
			c.fail(r.at, "correct it, or add what it is for to vendor_values", "the row matches none of the vendor's documented values")
			sound = false
		}
	}
	return sound
}

// places lists where rows stand, in the order of the table.
func (t *table) places(rows map[*row]bool) string {
	var out []string
	for _, r := range t.rows {
		if rows[r] {
			out = append(out, r.at.String())
		}
	}
	return strings.Join(out, ", ")
}

func other(words connectors.Fields) bool {
	for _, w := range words {
		if w == otherWord {
			return true
		}
	}
	return false
}

// readBack checks that what a row writes is read as a value that shares its words, whatever the vendor fields hold that it
// leaves alone.
func (c *checker) readBack(t *table) {
	for _, r := range t.rows {
		if !r.writes() || !c.writable(r) {
			continue
		}
		expect := c.m.expected(t, r.constants())
		if len(expect) == 0 && len(t.reads) > 0 {
			c.fail(r.at, "write one of them, or say under computed: how the vendor works them out", "%s is read from %s, but the row writes none of them",
				t.field, strings.Join(t.reads, " and "))
			continue
		}
		readers := t.back[r.hub[0]]
		for _, reader := range t.rows { // in the file's order, so that the first problem is always the same
			u := reader.hub[0]
			if !readers[reader] || slices.Contains(r.hub, u) || c.sameWords(t, r, u) {
				continue
			}
			c.fail(r.at, "write words that are read back as the same value, or let both values write the same words",
				"%s is written as %s, which is read back as %s (%s)", spokenValue(r.hub[0]), spoken(t.reads, expect), spokenValue(u), reader.at)
			break
		}
	}
}

// sameWords reports whether hub value u is written by the words that r writes.
func (c *checker) sameWords(t *table, r *row, u string) bool {
	w := t.writer(u)
	if w == nil {
		return false
	}
	return maps.Equal(c.m.expected(t, r.constants()), c.m.expected(t, w.constants()))
}

// writable checks the words that one row writes.
func (c *checker) writable(r *row) bool {
	before := len(c.problems)
	if r.write != nil && len(r.write) == 0 {
		c.fail(r.at, "name what is written, or remove write:", "write: is empty")
	}
	if r.write == nil {
		for _, field := range r.order {
			p := r.vendor[field]
			if _, ok := p.writes(); !ok && p.span != nil {
				c.fail(r.at, fmt.Sprintf("add write: {%s: ...} with a number of the range", field), "%s matches the range %s, so that the row does not tell what to write", field, p)
			}
		}
	}
	if len(r.words()) == 0 && len(c.problems) == before {
		c.fail(r.at, "add write:, or say use: read", "the row does not tell what to write")
	}
	for _, field := range sorted(r.constants()) {
		if comp := c.m.computed[field]; comp != nil {
			c.fail(r.at, "write the fields that it is computed from, with write:", "the vendor computes %s itself (%s), so that writing it has no effect", field, comp.at)
		}
	}
	for _, field := range sorted(r.with) {
		if _, twice := r.words()[field]; twice {
			c.fail(r.at, "keep one of them", "%s is written by both vendor: or write: and with:", field)
		}
	}
	return len(c.problems) == before
}

// computedRules checks the words of the vendor's own arithmetic.
func (c *checker) computedRules() {
	for _, field := range sorted(c.m.computed) {
		for _, rule := range c.m.computed[field].rules {
			c.documented(rule.at, field, rule.gives)
			for _, from := range sorted(rule.when) {
				for _, word := range rule.when[from].words {
					c.documented(rule.at, from, word)
				}
			}
		}
	}
}

// oneWriter checks that no vendor field is written on behalf of two hub fields: the later one would undo the earlier.
func (c *checker) oneWriter() {
	type claim struct {
		hub incident.Field
		at  place
	}
	claims := map[string]claim{}
	take := func(vendorField string, hub incident.Field, at place) {
		first, taken := claims[vendorField]
		if taken && first.hub != hub {
			c.fail(at, "let one of them go: direction: in for a text, not_mapped: for a table", "the vendor's %s is written for %s and for %s (%s)", vendorField, hub, first.hub, first.at)
			return
		}
		if !taken {
			claims[vendorField] = claim{hub, at}
		}
	}
	for _, f := range incident.Fields() {
		if t := c.m.texts[f]; t != nil && t.direction != inOnly {
			take(t.vendor, f, t.at)
		}
		t := c.m.tables[f]
		if t == nil {
			continue
		}
		for _, r := range t.rows {
			if !r.writes() {
				continue
			}
			for _, field := range sorted(r.words()) {
				take(field, f, r.at)
			}
			for _, field := range sorted(r.with) {
				take(field, f, r.at)
			}
		}
	}
}

// limits checks that fixed texts fit into the fields that they are written to.
func (c *checker) limits() {
	for _, tf := range tableFields {
		t := c.m.tables[tf.field]
		if t == nil {
			continue
		}
		for _, r := range t.rows {
			for _, field := range sorted(r.with) {
				l, fixed := c.m.limitOf(field), 0
				for _, p := range r.with[field].parts {
					fixed += l.size(p.literal) + l.size(p.fallback)
				}
				if l.max > 0 && fixed > l.max {
					c.fail(r.at, "shorten it", "the text for %s has %d %s, the vendor takes %d", field, fixed, l, l.max)
				}
			}
		}
	}
}

// sorted returns a map's keys in order, so that problems come in the same order each time.
func sorted[M ~map[string]V, V any](m M) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

package servicenowtest

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// filter is a query bound to a table: columns found, values evaluated, invalid conditions taken out.
type filter struct {
	s      *Server
	class  string
	groups [][][]test
	order  []boundOrder
	bad    bool // a condition or order was invalid
	none   bool // no row matches, whatever it holds
}

type boundOrder struct {
	path []*column
	desc bool
}

// test is one condition ready to run.
type test struct {
	path    []*column
	op      string
	args    []string
	other   []*column // of column comparisons
	display bool
	words   []string // of a text query
}

// bind makes a filter for a user. Invalid conditions are dropped and noted.
func (s *Server) bind(class string, q encodedQuery, who actor) *filter {
	f := &filter{s: s, class: class}
	for _, g := range q.groups {
		var group [][]test
		for _, clause := range g {
			var bound []test
			for _, c := range clause {
				if t, ok := s.bindCondition(class, c, who); ok {
					bound = append(bound, t)
				} else {
					f.bad = true
				}
			}
			if len(bound) > 0 {
				group = append(group, bound)
			}
		}
		f.groups = append(f.groups, group)
	}
	for _, o := range q.order {
		if path := s.path(class, o.column, who); path != nil {
			f.order = append(f.order, boundOrder{path, o.desc})
		} else {
			f.bad = true
		}
	}
	f.none = f.bad && s.cfg.BadQuery == BadQueryNone
	return f
}

// path resolves a dotted column name; nil when it is unknown or hidden from the user.
func (s *Server) path(class, name string, who actor) []*column {
	var out []*column
	parts := strings.Split(name, ".")
	for i, p := range parts {
		def := s.db.defs[class]
		if def == nil || s.hidden(class, p, who) {
			return nil
		}
		col := def.column(p)
		if col == nil || i < len(parts)-1 && col.kind != kindReference {
			return nil
		}
		out = append(out, col)
		class = col.ref
	}
	return out
}

func (s *Server) hidden(class, col string, who actor) bool {
	return !who.admin && slices.Contains(s.cfg.HiddenColumns, class+"."+col)
}

// walk follows a path and returns the record that holds the last column, nil when a reference on the way is empty.
func (s *Server) walk(r *row, path []*column) *row {
	for _, c := range path[:len(path)-1] {
		if r = s.db.get(c.ref, r.vals[c.name]); r == nil {
			return nil
		}
	}
	return r
}

func (s *Server) bindCondition(class string, c queryCondition, who actor) (test, bool) {
	if c.column == textQuery {
		return test{words: strings.Fields(strings.ToLower(c.value))}, true
	}
	t := test{path: s.path(class, c.column, who), op: c.op, display: c.display}
	if t.path == nil || c.op == "" {
		return t, false
	}
	var ok bool
	switch c.op {
	case "ISEMPTY", "ISNOTEMPTY", "ANYTHING", "EMPTYSTRING":
		return t, true
	case "SAMEAS", "NSAMEAS", "GT_FIELD", "LT_FIELD", "GT_OR_EQUALS_FIELD", "LT_OR_EQUALS_FIELD":
		t.other = s.path(class, c.value, who)
		return t, t.other != nil
	case "MORETHAN", "LESSTHAN":
		other, _, _ := strings.Cut(c.value, "@")
		t.other = s.path(class, other, who)
		t.args = strings.Split(c.value, "@")
		return t, t.other != nil && len(t.args) == 4
	case "RELATIVEGT", "RELATIVELT", "RELATIVEGE", "RELATIVELE", "RELATIVEEE":
		t.args, ok = s.relativeArg(c.value)
		return t, ok
	case "BETWEEN":
		t.args = strings.SplitN(c.value, "@", 2)
		ok = len(t.args) == 2
	case "ON", "NOTON":
		t.args = strings.SplitN(c.value, "@", 3)
		ok = len(t.args) == 3
		t.args = t.args[min(1, len(t.args)):]
	case "IN", "NOT IN", "NOTIN":
		t.args, ok = []string{c.value}, true
		if !strings.HasPrefix(c.value, scriptMark) {
			t.args = strings.Split(c.value, ",")
		}
	default:
		t.args, ok = []string{c.value}, true
	}
	return t, ok && s.bindArgs(&t, who)
}

// bindArgs evaluates scripts and puts dates into stored form.
func (s *Server) bindArgs(t *test, who actor) bool {
	col := t.path[len(t.path)-1]
	for i, a := range t.args {
		if strings.HasPrefix(a, scriptMark) {
			v, ok := s.script(a, who)
			if !ok {
				return false
			}
			t.args[i] = v
			continue
		}
		if col.kind == kindDateTime && a != "" && !slices.Contains([]string{"LIKE", "STARTSWITH", "ENDSWITH", "*", "%", "CONTAINS"}, t.op) {
			at, err := parseStamp(a, time.UTC)
			if err != nil {
				return false
			}
			t.args[i] = at.Format(stampLayout)
		}
	}
	return true
}

// matches runs an encoded query against one record; the empty query matches all.
func (s *Server) matches(query string, r *row, who actor) bool {
	return s.bind(r.class, parseQuery(query), who).match(r)
}

func (f *filter) match(r *row) bool {
	if f.none {
		return false
	}
	if len(f.groups) == 0 {
		return true
	}
	return slices.ContainsFunc(f.groups, func(g [][]test) bool {
		for _, clause := range g {
			if !slices.ContainsFunc(clause, func(t test) bool { return f.s.run(t, r) }) {
				return false
			}
		}
		return true
	})
}

// run decides one condition for one record.
func (s *Server) run(t test, r *row) bool {
	if t.path == nil {
		return s.runText(t.words, r)
	}
	col := t.path[len(t.path)-1]
	at := s.walk(r, t.path)
	v := ""
	if at != nil {
		v = at.vals[col.name]
	}
	if col.kind == kindJournal && at != nil {
		v = s.journalText(at, col.name)
	}
	switch t.op {
	case "ANYTHING":
		return true
	case "ISEMPTY", "EMPTYSTRING":
		return v == ""
	case "ISNOTEMPTY":
		return v != ""
	}
	if t.other != nil {
		return s.runColumns(t, r, col, v)
	}
	return s.runValue(t, at, col, v)
}

// runValue compares a column with the condition's values.
func (s *Server) runValue(t test, at *row, col *column, v string) bool {
	switch t.op {
	case "=":
		return s.equals(t, at, col, v)
	case "!=":
		return !s.equals(t, at, col, v) && (v != "" || col.kind != kindDateTime)
	case "IN":
		return slices.ContainsFunc(t.args, func(a string) bool { return compare(col, v, a) == 0 })
	case "NOT IN", "NOTIN":
		return !slices.ContainsFunc(t.args, func(a string) bool { return compare(col, v, a) == 0 })
	case "INSTANCEOF":
		return v == t.args[0] || s.db.defs[v] != nil && s.db.defs[v].extends == t.args[0]
	case "BETWEEN", "ON":
		return v != "" && compare(col, v, t.args[0]) >= 0 && compare(col, v, t.args[1]) <= 0
	case "NOTON":
		return v != "" && (compare(col, v, t.args[0]) < 0 || compare(col, v, t.args[1]) > 0)
	case "<", "<=", ">", ">=", "RELATIVEGT", "RELATIVELT", "RELATIVEGE", "RELATIVELE", "RELATIVEEE":
		return v != "" && ordered(t.op, compare(col, v, t.args[0]))
	}
	return s.runPattern(t, at, col, v)
}

func ordered(op string, c int) bool {
	switch op {
	case "<", "RELATIVELT":
		return c < 0
	case "<=", "RELATIVELE":
		return c <= 0
	case ">", "RELATIVEGT":
		return c > 0
	case ">=", "RELATIVEGE":
		return c >= 0
	}
	return c == 0
}

// runPattern matches text without regard to case. A reference is matched by its display value.
func (s *Server) runPattern(t test, at *row, col *column, v string) bool {
	if col.kind == kindReference && at != nil {
		if target := s.db.get(col.ref, v); target != nil {
			v = s.db.display(target)
		}
	}
	v, arg := strings.ToLower(v), strings.ToLower(t.args[0])
	switch t.op {
	case "LIKE", "*", "CONTAINS":
		return strings.Contains(v, arg)
	case "NOT LIKE", "NOTLIKE", "!*", "DOES NOT CONTAIN":
		return !strings.Contains(v, arg)
	case "STARTSWITH":
		return strings.HasPrefix(v, arg)
	}
	return strings.HasSuffix(v, arg) // ENDSWITH, %
}

// equals compares with one value, which in field=value pairs may be a display value.
func (s *Server) equals(t test, at *row, col *column, v string) bool {
	arg := t.args[0]
	if compare(col, v, arg) == 0 {
		return true
	}
	if !t.display || at == nil || v == "" {
		return false
	}
	if col.kind == kindReference {
		target := s.db.get(col.ref, v)
		return target != nil && (strings.EqualFold(s.db.display(target), arg) || strings.EqualFold(target.vals["user_name"], arg))
	}
	return col.choice && strings.EqualFold(s.choiceLabel(col.name, v), arg)
}

// runColumns compares two columns of the same record.
func (s *Server) runColumns(t test, r *row, col *column, v string) bool {
	w := ""
	if at := s.walk(r, t.other); at != nil {
		w = at.vals[t.other[len(t.other)-1].name]
	}
	switch t.op {
	case "SAMEAS":
		return v != "" && compare(col, v, w) == 0
	case "NSAMEAS":
		return compare(col, v, w) != 0
	case "MORETHAN", "LESSTHAN":
		return runDistance(t, v, w)
	}
	op := map[string]string{"GT_FIELD": ">", "LT_FIELD": "<", "GT_OR_EQUALS_FIELD": ">=", "LT_OR_EQUALS_FIELD": "<="}[t.op]
	return v != "" && w != "" && ordered(op, compare(col, v, w))
}

// runDistance decides "more (less) than n units before (after) the other column".
func runDistance(t test, v, w string) bool {
	a, errA := parseStamp(v, time.UTC)
	b, errB := parseStamp(w, time.UTC)
	n, errN := strconv.Atoi(t.args[3])
	unit, known := units[t.args[1]]
	if errA != nil || errB != nil || errN != nil || !known {
		return false
	}
	apart := a.Sub(b)
	if t.args[2] == "before" {
		apart = -apart
	}
	if t.op == "MORETHAN" {
		return apart > time.Duration(n)*unit
	}
	return apart >= 0 && apart < time.Duration(n)*unit
}

// runText looks for every word in the record's texts.
func (s *Server) runText(words []string, r *row) bool {
	text := strings.ToLower(strings.Join([]string{
		r.vals["number"], r.vals["name"], r.vals["short_description"], r.vals["description"],
		s.journalText(r, "comments_and_work_notes"),
	}, "\n"))
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

func (s *Server) journalText(r *row, col string) string {
	var texts []string
	for _, e := range s.db.entries(r.id(), journalElements(col)...) {
		texts = append(texts, e.vals["value"])
	}
	return strings.Join(texts, "\n")
}

// compare orders two stored values by the column's type; strings without regard to case, as most databases collate.
func compare(col *column, a, b string) int {
	if col.kind == kindInteger {
		x, errX := strconv.ParseFloat(a, 64)
		y, errY := strconv.ParseFloat(b, 64)
		if errX == nil && errY == nil {
			return cmp.Compare(x, y)
		}
	}
	if col.kind == kindBoolean {
		a, b = boolText(a), boolText(b)
	}
	return strings.Compare(strings.ToLower(a), strings.ToLower(b))
}

func boolText(v string) string {
	if v == "1" {
		return "true"
	}
	if v == "0" {
		return "false"
	}
	return v
}

// find runs the filter over its table and orders the rows.
func (f *filter) find() []*row {
	var out []*row
	for _, r := range f.candidates() {
		if f.match(r) {
			out = append(out, r)
		}
	}
	if f.s.cfg.UnstableOrder {
		rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	}
	f.sort(out)
	return out
}

// candidates spares reading the whole journal when the query names one record.
func (f *filter) candidates() []*row {
	if f.none {
		return nil
	}
	if len(f.groups) == 1 && f.class == "sys_journal_field" {
		for _, clause := range f.groups[0] {
			if len(clause) == 1 && clause[0].op == "=" && len(clause[0].path) == 1 && clause[0].path[0].name == "element_id" {
				return slices.Clone(f.s.db.journal[strings.ToLower(clause[0].args[0])])
			}
		}
	}
	return f.s.db.all(f.class)
}

func (f *filter) sort(rows []*row) {
	if len(f.order) == 0 {
		return
	}
	key := func(r *row, o boundOrder) string {
		at := f.s.walk(r, o.path)
		if at == nil {
			return ""
		}
		col := o.path[len(o.path)-1]
		v := at.vals[col.name]
		if col.kind == kindReference {
			if target := f.s.db.get(col.ref, v); target != nil {
				return f.s.db.display(target)
			}
		}
		return v
	}
	slices.SortStableFunc(rows, func(a, b *row) int {
		for _, o := range f.order {
			c := compare(o.path[len(o.path)-1], key(a, o), key(b, o))
			if o.desc {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
}

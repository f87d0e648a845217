package servicenowtest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// stampLayout is the stored form of a date: UTC, one second.
const stampLayout = "2006-01-02 15:04:05"

// row is one stored record. It never changes once stored: a write makes a new one.
type row struct {
	class string            // the table it belongs to
	vals  map[string]string // column to value, "" when unset
	born  time.Time         // when the record was inserted, by the instance's clock
}

// id is the key of the record: its sys_id in lower case, whatever case a client chose on insert.
func (r *row) id() string { return strings.ToLower(r.vals["sys_id"]) }

// with is a copy of r in which the given columns are set.
func (r *row) with(changes map[string]string) *row {
	vals := maps.Clone(r.vals)
	maps.Copy(vals, changes)
	return &row{class: r.class, vals: vals, born: r.born}
}

// table holds the rows of one class in insertion order.
type table struct {
	rows  map[string]*row
	order []string
}

// store holds all tables. It is not safe for concurrent use: Server guards it.
type store struct {
	defs     map[string]*tableDef
	tables   map[string]*table
	counters map[string]int64
	journal  map[string][]*row                 // journal entries by element_id, oldest first
	labels   atomic.Pointer[map[string]string] // choice labels; nil when they must be read anew
	log      *changeLog                        // nil in memory
}

func newStore(defs map[string]*tableDef) *store {
	s := &store{defs: defs, tables: map[string]*table{}, counters: map[string]int64{}, journal: map[string][]*row{}}
	for name := range defs {
		s.tables[name] = &table{rows: map[string]*row{}}
	}
	return s
}

// classes are the table itself and those that extend it.
func (s *store) classes(name string) []string {
	out := []string{name}
	for _, d := range s.defs {
		if d.extends == name {
			out = append(out, d.name)
		}
	}
	slices.Sort(out[1:])
	return out
}

// get finds a record by sys_id in a table or one that extends it; nil when absent. Case does not count.
func (s *store) get(name, id string) *row {
	if id == "" {
		return nil
	}
	id = strings.ToLower(id)
	t := s.tables[name]
	if t == nil {
		return nil
	}
	if r := t.rows[id]; r != nil {
		return r
	}
	if name != "task" {
		return nil
	}
	for _, class := range s.classes(name)[1:] {
		if r := s.tables[class].rows[id]; r != nil {
			return r
		}
	}
	return nil
}

// all are the rows of a table and of those that extend it, in insertion order by class.
func (s *store) all(name string) []*row {
	var out []*row
	for _, class := range s.classes(name) {
		t := s.tables[class]
		for _, id := range t.order {
			out = append(out, t.rows[id])
		}
	}
	return out
}

// find returns the first row whose column has the value, case ignored.
func (s *store) find(name, col, value string) *row {
	t := s.tables[name]
	for _, id := range t.order {
		if strings.EqualFold(t.rows[id].vals[col], value) {
			return t.rows[id]
		}
	}
	return nil
}

// entries are a record's journal entries of the given elements, oldest first.
func (s *store) entries(id string, elements ...string) []*row {
	var out []*row
	for _, r := range s.journal[id] {
		if slices.Contains(elements, r.vals["element"]) {
			out = append(out, r)
		}
	}
	return out
}

// display is a record's display value.
func (s *store) display(r *row) string {
	d := s.defs[r.class]
	v := r.vals[d.display]
	if c := d.column(d.display); c.kind == kindReference {
		if target := s.get(c.ref, v); target != nil {
			return s.display(target)
		}
	}
	return v
}

// op is one stored change: a row put or deleted, or a counter set. It is also a part of a log line.
type op struct {
	Table   string            `json:"t,omitempty"`
	ID      string            `json:"id,omitempty"`
	Values  map[string]string `json:"v,omitempty"` // nil deletes the row
	Born    time.Time         `json:"b,omitzero"`
	Counter string            `json:"c,omitempty"`
	Number  int64             `json:"n,omitempty"`
}

func (s *store) apply(o op) error {
	if o.Counter != "" {
		s.counters[o.Counter] = o.Number
		return nil
	}
	t := s.tables[o.Table]
	if t == nil {
		return fmt.Errorf("table %q is unknown", o.Table)
	}
	if o.Table == "sys_choice" {
		s.labels.Store(nil)
	}
	if o.Values == nil {
		s.drop(t, o)
		return nil
	}
	r := &row{class: o.Table, vals: o.Values, born: o.Born}
	if _, known := t.rows[o.ID]; !known {
		t.order = append(t.order, o.ID)
		if o.Table == "sys_journal_field" {
			s.journal[r.vals["element_id"]] = append(s.journal[r.vals["element_id"]], r)
		}
	}
	t.rows[o.ID] = r
	return nil
}

func (s *store) drop(t *table, o op) {
	r := t.rows[o.ID]
	if r == nil {
		return
	}
	delete(t.rows, o.ID)
	t.order = slices.DeleteFunc(t.order, func(id string) bool { return id == o.ID })
	if o.Table == "sys_journal_field" {
		key := r.vals["element_id"]
		s.journal[key] = slices.DeleteFunc(s.journal[key], func(e *row) bool { return e.id() == o.ID })
	}
}

// tx is one transaction: changes are gathered, seen by its own reads, and applied whole by commit or not at all.
type tx struct {
	s      *Server
	now    time.Time // read once, so that all rows of a save agree
	stamp  string
	who    actor
	ops    []op
	seen   map[string]*row // puts, by table and id
	events []event
	busy   map[string]bool // incidents being saved, against circles of parents
}

// begin starts a transaction; the server's lock must be held until commit.
func (s *Server) begin(who actor) *tx {
	now := s.cfg.Now().UTC().Truncate(time.Second)
	return &tx{s: s, now: now, stamp: now.Format(stampLayout), who: who, seen: map[string]*row{}, busy: map[string]bool{}}
}

func (t *tx) get(name, id string) *row {
	if r, ok := t.seen[name+"/"+strings.ToLower(id)]; ok {
		return r
	}
	return t.s.db.get(name, id)
}

func (t *tx) put(r *row) {
	t.seen[r.class+"/"+r.id()] = r
	t.ops = append(t.ops, op{Table: r.class, ID: r.id(), Values: r.vals, Born: r.born})
}

func (t *tx) remove(r *row) {
	t.seen[r.class+"/"+r.id()] = nil
	t.ops = append(t.ops, op{Table: r.class, ID: r.id()})
}

// nextNumber draws from the table's counter: INC0010001, INC0010002, ...
func (t *tx) nextNumber(prefix string) string {
	n := max(t.s.db.counters[prefix], 10000)
	for _, o := range t.ops {
		if o.Counter == prefix {
			n = o.Number
		}
	}
	n++
	t.ops = append(t.ops, op{Counter: prefix, Number: n})
	return fmt.Sprintf("%s%07d", prefix, n)
}

// commit stores the changes, in the log first, and sends the events on their way.
func (t *tx) commit() error {
	if len(t.ops) == 0 {
		return nil
	}
	if err := t.s.db.log.append(t.ops); err != nil {
		return fmt.Errorf("storing the change: %w", err)
	}
	for _, o := range t.ops {
		if err := t.s.db.apply(o); err != nil {
			return fmt.Errorf("storing the change: %w", err)
		}
	}
	t.s.announce(t.events)
	return nil
}

// stampNew fills the system columns of a new record.
func (t *tx) stampNew(r *row) {
	r.born = t.now
	for col, v := range map[string]string{
		"sys_created_on": t.stamp, "sys_updated_on": t.stamp, "sys_created_by": t.who.login, "sys_updated_by": t.who.login,
		"sys_mod_count": "0",
	} {
		r.vals[col] = v
	}
}

// stampUpdate counts a real update of a record.
func (t *tx) stampUpdate(r *row) {
	n, _ := strconv.Atoi(r.vals["sys_mod_count"])
	r.vals["sys_mod_count"] = strconv.Itoa(n + 1)
	r.vals["sys_updated_on"], r.vals["sys_updated_by"] = t.stamp, t.who.login
}

// newSysID is 32 lower-case hex digits.
func newSysID() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }

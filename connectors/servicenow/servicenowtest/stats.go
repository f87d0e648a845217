package servicenowtest

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bucket is a group of rows with the values that they share.
type bucket struct {
	keys []string // values of the group-by columns
	rows []*row
}

// serveStats answers the Aggregate API.
func (s *Server) serveStats(c *call) (*reply, error) {
	if len(c.path) != 1 {
		return nil, noResource(c.r)
	}
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return nil, badMethod(c.r)
	}
	name := c.path[0]
	if s.db.defs[name] == nil {
		return nil, badTable(name)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	rows, err := s.query(c, name)
	if err != nil {
		return nil, err
	}
	groupBy := s.knownColumns(c, name, "sysparm_group_by")
	if len(groupBy) == 0 {
		return result(http.StatusOK, map[string]any{"stats": s.aggregate(c, name, rows)}), nil
	}
	buckets := s.buckets(name, groupBy, rows, c.who)
	buckets = slices.DeleteFunc(buckets, func(b *bucket) bool { return !s.having(c, name, b) })
	s.orderBuckets(c, groupBy, buckets)
	out := make([]any, 0, len(buckets))
	for _, b := range buckets {
		out = append(out, map[string]any{"stats": s.aggregate(c, name, b.rows), "groupby_fields": s.groupFields(c, name, groupBy, b)})
	}
	return result(http.StatusOK, out), nil
}

func (s *Server) knownColumns(c *call, class, param string) []string {
	var out []string
	for name := range strings.SplitSeq(c.params.Get(param), ",") {
		if name = strings.TrimSpace(name); name != "" && s.path(class, name, c.who) != nil {
			out = append(out, name)
		}
	}
	return out
}

func (s *Server) value(class, name string, r *row, who actor) string {
	path := s.path(class, name, who)
	if at := s.walk(r, path); at != nil {
		return at.vals[path[len(path)-1].name]
	}
	return ""
}

func (s *Server) buckets(class string, groupBy []string, rows []*row, who actor) []*bucket {
	known := map[string]*bucket{}
	var out []*bucket
	for _, r := range rows {
		var keys []string
		for _, g := range groupBy {
			keys = append(keys, s.value(class, g, r, who))
		}
		id := strings.Join(keys, "\x00")
		if known[id] == nil {
			known[id] = &bucket{keys: keys}
			out = append(out, known[id])
		}
		known[id].rows = append(known[id].rows, r)
	}
	slices.SortFunc(out, func(a, b *bucket) int { return slices.Compare(a.keys, b.keys) })
	return out
}

// aggregate computes what the request asks for over rows; all numbers are strings.
func (s *Server) aggregate(c *call, class string, rows []*row) map[string]any {
	out := map[string]any{}
	if isTrue(c.params.Get("sysparm_count")) {
		out["count"] = strconv.Itoa(len(rows))
	}
	for _, f := range []string{"avg", "min", "max", "sum"} {
		values := map[string]any{}
		for _, name := range s.knownColumns(c, class, "sysparm_"+f+"_fields") {
			values[name] = s.fold(f, class, name, rows, c.who)
		}
		if len(values) > 0 {
			out[f] = values
		}
	}
	return out
}

// fold is one aggregate of one column; empty values do not count. Dates have min, max and avg.
func (s *Server) fold(f, class, name string, rows []*row, who actor) string {
	path := s.path(class, name, who)
	isDate := path[len(path)-1].kind == kindDateTime
	var numbers []float64
	for _, r := range rows {
		v := s.value(class, name, r, who)
		if at, err := parseStamp(v, time.UTC); isDate && err == nil {
			numbers = append(numbers, float64(at.Unix()))
		} else if n, err := strconv.ParseFloat(v, 64); err == nil {
			numbers = append(numbers, n)
		}
	}
	if len(numbers) == 0 {
		return ""
	}
	sum := 0.0
	for _, n := range numbers {
		sum += n
	}
	got := map[string]float64{"sum": sum, "avg": sum / float64(len(numbers)), "min": slices.Min(numbers), "max": slices.Max(numbers)}[f]
	if isDate && f != "sum" {
		return time.Unix(int64(got), 0).UTC().Format(stampLayout)
	}
	return strconv.FormatFloat(math.Round(got*1e4)/1e4, 'f', -1, 64)
}

// having applies sysparm_having, e.g. count^state^>^3 or sum^reopen_count^>^1; several are joined by commas.
func (s *Server) having(c *call, class string, b *bucket) bool {
	for cond := range strings.SplitSeq(c.params.Get("sysparm_having"), ",") {
		part := strings.Split(cond, "^")
		if len(part) != 4 {
			continue
		}
		got := strconv.Itoa(len(b.rows))
		if f := strings.ToLower(part[0]); f != "count" && s.path(class, part[1], c.who) != nil {
			got = s.fold(f, class, part[1], b.rows, c.who)
		}
		equal := compare(&column{kind: kindInteger}, got, part[3])
		if part[2] == "!=" && equal == 0 || part[2] != "!=" && !ordered(part[2], equal) {
			return false
		}
	}
	return true
}

// orderBuckets applies sysparm_order_by: COUNT or a group-by column, ^DESC for falling order.
func (s *Server) orderBuckets(c *call, groupBy []string, buckets []*bucket) {
	name, direction, _ := strings.Cut(c.params.Get("sysparm_order_by"), "^")
	if name == "" {
		return
	}
	at := slices.Index(groupBy, name)
	slices.SortStableFunc(buckets, func(a, b *bucket) int {
		d := 0
		if strings.EqualFold(name, "count") {
			d = len(a.rows) - len(b.rows)
		} else if at >= 0 {
			d = strings.Compare(a.keys[at], b.keys[at])
		}
		if strings.EqualFold(direction, "desc") {
			return -d
		}
		return d
	})
}

func (s *Server) groupFields(c *call, class string, groupBy []string, b *bucket) []any {
	mode := strings.ToLower(c.params.Get("sysparm_display_value"))
	out := make([]any, len(groupBy))
	for i, name := range groupBy {
		field := map[string]any{"field": name, "value": b.keys[i]}
		path := s.path(class, name, c.who)
		shown := s.displayValue(s.walk(b.rows[0], path), path[len(path)-1], b.keys[i], c.who)
		switch mode {
		case "true":
			field["value"] = shown
		case "all":
			field["display_value"] = shown
		}
		out[i] = field
	}
	return out
}

package servicenow_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"liaison/connectors"
	"liaison/connectors/servicenow"
)

// instance is a model of the Table API as far as polling sees it, made from the vendor's document alone: a write is stamped
// when its transaction begins and shows when it commits; stamps have whole seconds; limit and offset are applied before
// the rows that the account may not see are taken out; without an order there is none.
type instance struct {
	mu      sync.Mutex
	t       *rapid.T
	now     time.Time     // the clock of the stamps
	skew    time.Duration // of the clock that writes the Date header
	slowest time.Duration // of a call
	rows    []*row
	open    []write // transactions under way
	count   string  // how the answer tells of further rows: total, link, nothing
}

type row struct {
	id     string
	number string
	mods   int
	stamp  string
	hidden bool
}

func (r *row) version() string { return fmt.Sprintf("%d@%s", r.mods, r.stamp) }

type write struct {
	row     *row // nil: a new one
	id      string
	stamp   string
	commits time.Time
}

// pass moves the clock and commits what is due, in the order of the commits.
func (v *instance) pass(d time.Duration) {
	v.now = v.now.Add(d)
	slices.SortStableFunc(v.open, func(a, b write) int { return a.commits.Compare(b.commits) })
	for len(v.open) > 0 && !v.open[0].commits.After(v.now) {
		w := v.open[0]
		v.open = v.open[1:]
		if w.row == nil {
			w.row = &row{id: w.id, number: "INC" + w.id[:7], mods: -1}
			v.rows = append(v.rows, w.row)
		}
		w.row.mods++
		w.row.stamp = w.stamp // also when a later one has committed before
	}
}

func (v *instance) begin(r *row, id string, takes time.Duration) {
	v.open = append(v.open, write{row: r, id: id, stamp: v.now.Format(time.DateTime), commits: v.now.Add(takes)})
	v.pass(0)
}

func (v *instance) RoundTrip(req *http.Request) (*http.Response, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	// Half of a call's time passes before the vendor reads its rows.
	took := time.Duration(rapid.Int64Range(0, int64(v.slowest/2)).Draw(v.t, "call"))
	v.pass(took)
	defer v.pass(took)
	q := req.URL.Query()
	found := v.find(q)
	limit, _ := strconv.Atoi(q.Get("sysparm_limit"))
	offset, _ := strconv.Atoi(q.Get("sysparm_offset"))
	page := found[min(offset, len(found)):min(offset+limit, len(found))]
	h := http.Header{"Content-Type": {"application/json;charset=UTF-8"}, "Date": {v.now.Add(v.skew).Format(http.TimeFormat)}}
	switch v.count {
	case "total":
		h.Set("X-Total-Count", strconv.Itoa(len(found)))
	case "link":
		rel := "prev"
		if offset+limit < len(found) {
			rel = "next"
		}
		h.Set("Link", `<https://vendor.example/x>;rel="`+rel+`"`)
	}
	result := []map[string]string{}
	for _, r := range page {
		if !r.hidden {
			result = append(result, map[string]string{"sys_id": r.id, "number": r.number, "sys_mod_count": strconv.Itoa(r.mods), "sys_updated_on": r.stamp})
		}
	}
	body, _ := json.Marshal(map[string]any{"result": result})
	return &http.Response{StatusCode: http.StatusOK, Header: h, Body: io.NopCloser(bytes.NewReader(body)), ProtoMajor: 1, ProtoMinor: 1, Request: req}, nil
}

// find runs an encoded query of the few operators that polling uses.
func (v *instance) find(q url.Values) []*row {
	groups := [][]string{nil}
	var order []string
	for condition := range strings.SplitSeq(q.Get("sysparm_query"), "^") {
		switch {
		case condition == "":
		case strings.HasPrefix(condition, "ORDERBY"):
			order = append(order, strings.TrimPrefix(condition, "ORDERBY"))
		case strings.HasPrefix(condition, "NQ"):
			groups = append(groups, []string{strings.TrimPrefix(condition, "NQ")})
		default:
			groups[len(groups)-1] = append(groups[len(groups)-1], condition)
		}
	}
	column := func(r *row, name string) string {
		switch name {
		case "sys_updated_on":
			return r.stamp
		case "sys_id":
			return r.id
		}
		v.t.Fatalf("the query speaks of %q", name)
		return ""
	}
	holds := func(r *row, condition string) bool {
		for _, operator := range []string{">=", ">", "="} {
			if name, value, ok := strings.Cut(condition, operator); ok {
				is := column(r, name)
				return operator != ">" && is == value || operator != "=" && is > value
			}
		}
		v.t.Fatalf("the query holds %q", condition)
		return false
	}
	var found []*row
	for _, r := range v.rows {
		if slices.ContainsFunc(groups, func(g []string) bool {
			return !slices.ContainsFunc(g, func(c string) bool { return !holds(r, c) })
		}) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *row) int {
		for _, name := range order {
			name, down := strings.CutPrefix(name, "DESC")
			if c := strings.Compare(column(a, name), column(b, name)); c != 0 {
				if down {
					return -c
				}
				return c
			}
		}
		return 0
	})
	return found
}

// Whatever order transactions commit in, however long each takes within the overlap, whatever the clocks say and however
// rows move while pages are read: the last version of every row is shown, and none comes again without a change.
func TestChangesCommitOrders(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		const overlap = 2 * time.Minute
		v := &instance{
			t: rt, now: time.Date(2026, 3, 29, 0, 59, 0, 0, time.UTC),
			skew:    time.Duration(rapid.SampledFrom([]int{0, 0, 1, -1, 90, -90, 7200, -7200}).Draw(rt, "skew")) * time.Second,
			slowest: time.Duration(rapid.SampledFrom([]int{0, 1, 10, 20}).Draw(rt, "slowest")) * time.Second,
			count:   rapid.SampledFrom([]string{"total", "link", "nothing"}).Draw(rt, "count"),
		}
		ids := 0
		id := func() string {
			ids++
			return fmt.Sprintf("%032x", uint64(ids)*0x9e3779b97f4a7c15) // in no order
		}
		for range rapid.IntRange(1, 8).Draw(rt, "rows") {
			v.begin(nil, id(), 0)
			v.pass(time.Duration(rapid.IntRange(0, 2).Draw(rt, "apart")) * time.Second)
		}
		for i, r := range v.rows {
			// An instance that tells neither a count nor a link and shows an empty page leaves nothing to know more by.
			r.hidden = i > 0 && v.count != "nothing" && rapid.IntRange(0, 4).Draw(rt, "hidden") == 0
		}
		hub := time.Duration(rapid.SampledFrom([]int{0, 3600, -3600}).Draw(rt, "hub's clock")) * time.Second
		c, err := servicenow.New(connectors.Config{
			Key: "model", URL: "https://vendor.example", Transport: v, PollOverlap: overlap, Auth: basic(),
			Settings: map[string]string{"page_size": strconv.Itoa(rapid.IntRange(1, 5).Draw(rt, "page size"))},
			Now:      func() time.Time { return v.now.Add(hub) },
		})
		if err != nil {
			rt.Fatal(err)
		}
		shown := map[connectors.ExternalID]string{}
		poll := func(at connectors.Cursor) connectors.Page {
			p, err := c.Changes(context.Background(), at)
			if err != nil {
				rt.Fatal(err)
			}
			for _, r := range p.Refs {
				if shown[r.ID] == r.Version {
					rt.Errorf("%s came again at %s without a change", r.ID, r.Version)
				}
				shown[r.ID] = r.Version
			}
			return p
		}
		at := poll("").Next
		before := map[string]string{}
		for _, r := range v.rows {
			before[r.id] = r.version()
		}
		// A transaction may take up to the overlap less what a call takes: a look at the clock and a look at the rows are two.
		longest := int((overlap - 2*v.slowest - time.Second).Seconds())
		took := func() time.Duration {
			return time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 30, longest}).Draw(rt, "takes")) * time.Second
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 6).Draw(rt, "step") {
			case 0:
				v.pass(time.Duration(rapid.SampledFrom([]int{1, 1, 5, 60, 119, 600}).Draw(rt, "pause")) * time.Second)
			case 1:
				v.begin(nil, id(), took())
			case 2, 3:
				v.begin(rapid.SampledFrom(v.rows).Draw(rt, "row"), "", took())
			case 4: // a bulk job stamps all alike
				for _, r := range slices.Clone(v.rows) {
					v.begin(r, "", 0)
				}
			default:
				at = poll(at).Next
			}
		}
		drain := func() {
			for range 500 {
				p := poll(at)
				if at = p.Next; !p.More {
					return
				}
			}
			rt.Fatal("no end")
		}
		drain()
		v.pass(overlap) // everything has committed
		drain()
		drain()
		for _, r := range v.rows {
			if !r.hidden && before[r.id] != r.version() && shown[connectors.ExternalID(r.id)] != r.version() {
				rt.Errorf("%s stands at %s and was last shown at %q", r.id, r.version(), shown[connectors.ExternalID(r.id)])
			}
		}
	})
}

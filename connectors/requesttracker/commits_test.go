package requesttracker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"liaison/connectors"
	"liaison/connectors/requesttracker"
)

// feed is a model of RT's list of transactions, made from what was seen of RT alone: an id is given when a change begins
// and shows when it commits, in whatever order; a page is cut before the rows that the account may not see are taken out.
type feed struct {
	mu      sync.Mutex
	t       *rapid.T
	now     time.Time     // the hub's clock
	skew    time.Duration // of RT's
	slowest time.Duration // of a call
	rows    []change      // in the order of their ids
}

type change struct {
	id      int64
	ticket  string
	created time.Time // RT's clock, at its beginning
	visible time.Time // the hub's clock
	hidden  bool
}

func (f *feed) RoundTrip(req *http.Request) (*http.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	took := time.Duration(rapid.Int64Range(0, int64(f.slowest/2)).Draw(f.t, "call"))
	f.now = f.now.Add(took)
	defer func() { f.now = f.now.Add(took) }()
	q := req.URL.Query()
	after := int64(0)
	if m := idBeyond.FindStringSubmatch(q.Get("query")); m != nil {
		after, _ = strconv.ParseInt(m[1], 10, 64)
	}
	var found []change
	for _, c := range f.rows {
		if c.id > after && !c.visible.After(f.now) {
			found = append(found, c)
		}
	}
	if q.Get("order") == "DESC" {
		slices.Reverse(found)
	}
	per, _ := strconv.Atoi(q.Get("per_page"))
	page, _ := strconv.Atoi(q.Get("page"))
	from := min((max(page, 1)-1)*per, len(found))
	items := []map[string]any{}
	for _, c := range found[from:min(from+per, len(found))] {
		if !c.hidden {
			items = append(items, map[string]any{
				"id": strconv.FormatInt(c.id, 10), "type": "transaction", "ObjectId": c.ticket, "Created": c.created.UTC().Format("2006-01-02T15:04:05Z"),
			})
		}
	}
	body, _ := json.Marshal(map[string]any{"items": items, "total": nil, "pages": 0.0})
	h := http.Header{"Content-Type": {"application/json; charset=utf-8"}, "Date": {f.now.Add(f.skew).UTC().Format(http.TimeFormat)}}
	return &http.Response{StatusCode: http.StatusOK, Header: h, Body: io.NopCloser(bytes.NewReader(body)), ProtoMajor: 1, ProtoMinor: 1, Request: req}, nil
}

// allShown fails unless every change that was visible at that time has been shown, apart from those behind as many hidden
// ones as fill a page: these wait for the next look behind an empty page.
func (f *feed) allShown(newest map[string]int64, at time.Time, old int, started time.Time, size int) {
	run := 0
	for i, r := range f.rows {
		switch {
		case r.visible.After(at):
			continue
		case r.hidden:
			run++
		case run < size:
			run = 0
		}
		before := i < old && !r.visible.After(started)
		if !r.hidden && !before && run < size && newest[r.ticket] < r.id {
			f.t.Errorf("change %d of ticket %s was not shown by the look that should have seen it", r.id, r.ticket)
		}
	}
}

// Whatever order changes commit in, however long each takes within the overlap, whatever RT's clock says and however many
// rows are hidden: every change's ticket is shown after it, and no change twice.
func TestChangesCommitOrders(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		const overlap = 5 * time.Minute
		f := &feed{
			t: rt, now: time.Date(2026, 10, 25, 0, 59, 0, 0, time.UTC),
			skew:    time.Duration(rapid.SampledFrom([]int{0, 0, 1, -1, 7200, -7200}).Draw(rt, "skew")) * time.Second,
			slowest: time.Duration(rapid.SampledFrom([]int{0, 1, 10, 20}).Draw(rt, "slowest")) * time.Second,
		}
		next := int64(1)
		begin := func(takes time.Duration, hidden bool) {
			f.rows = append(f.rows, change{
				id: next, ticket: strconv.Itoa(rapid.IntRange(1, 4).Draw(rt, "ticket")), created: f.now.Add(f.skew), visible: f.now.Add(takes), hidden: hidden,
			})
			next += int64(rapid.IntRange(1, 3).Draw(rt, "gap"))
		}
		longest := int((overlap - 2*f.slowest - 2*time.Second).Seconds())
		took := func() time.Duration {
			return time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 30, longest}).Draw(rt, "takes")) * time.Second
		}
		for range rapid.IntRange(0, 6).Draw(rt, "old") {
			begin(took(), rapid.Bool().Draw(rt, "hidden"))
			f.now = f.now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 200, 400}).Draw(rt, "apart")) * time.Second)
		}
		old, size, long := len(f.rows), rapid.IntRange(1, 5).Draw(rt, "page size"), 0
		if size > 3 { // as many as the pages that are passed over can hold
			long = 3
		}
		c, err := requesttracker.New(connectors.Config{
			Key: "model", URL: "https://rt.example", Transport: f, PollOverlap: overlap, Now: func() time.Time { return f.now },
			Auth:     connectors.Credentials{Token: connectors.NewSecret("1-27-00ff")},
			Settings: map[string]string{"page_size": strconv.Itoa(size)},
		})
		if err != nil {
			rt.Fatal(err)
		}
		shown := map[string]bool{} // ticket and version
		newest := map[string]int64{}
		poll := func(at connectors.Cursor) connectors.Page {
			p, err := c.Changes(context.Background(), at)
			if err != nil {
				rt.Fatal(err)
			}
			for _, r := range p.Refs {
				if shown[r.Number+"@"+r.Version] {
					rt.Errorf("%s came again at %s", r.ID, r.Version)
				}
				shown[r.Number+"@"+r.Version] = true
				v, _ := strconv.ParseInt(r.Version, 10, 64)
				newest[r.Number] = max(newest[r.Number], v)
			}
			return p
		}
		at := poll("").Next
		started := f.now
		look := func() {
			for range 500 {
				p := poll(at)
				if at = p.Next; !p.More {
					return
				}
			}
			rt.Fatal("no end")
		}
		drain := func() {
			look() // to the end of one that may have begun before
			began := f.now
			look()
			f.allShown(newest, began, old, started, size)
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0:
				f.now = f.now.Add(time.Duration(rapid.SampledFrom([]int{1, 1, 30, 290, 310, 5000}).Draw(rt, "pause")) * time.Second)
			case 1:
				run := rapid.IntRange(1, 12).Draw(rt, "run")
				if long > 0 && rapid.IntRange(0, 3).Draw(rt, "long") == 0 {
					run, long = 120, long-1 // more than a page of any size
				}
				for range run {
					begin(0, true)
				}
			case 2, 3:
				begin(took(), false)
			case 4:
				at = poll(at).Next
			default:
				drain()
			}
		}
		drain()
		f.now = f.now.Add(overlap + time.Second)
		drain() // everything has committed: one look shows it
		for i, r := range f.rows {
			if r.hidden || i < old && !r.visible.After(started) {
				continue
			}
			if newest[r.ticket] < r.id {
				rt.Errorf("change %d of ticket %s was not shown", r.id, r.ticket)
			}
		}
		for range 2 {
			f.now = f.now.Add(overlap + time.Second)
			drain() // and nothing comes again
		}
	})
}

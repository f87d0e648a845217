package servicenow_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"liaison/connectors"
	"liaison/connectors/servicenow"
	"liaison/connectors/servicenow/servicenowtest"
)

// listen serves h on loopback until the test ends and returns its address.
func listen(t testing.TB, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return "http://" + l.Addr().String()
}

// clock is the instance's, moved by hand.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }

func (c *clock) advance(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.at = c.at.Add(d) }

// drain reads to the end and fails when there is none.
func drain(t rapid.TB, c *servicenow.Connector, at connectors.Cursor) ([]connectors.Ref, connectors.Cursor) {
	t.Helper()
	var refs []connectors.Ref
	for range 200 {
		p, err := c.Changes(context.Background(), at)
		if err != nil {
			t.Fatalf("Changes: %v", err)
		}
		refs, at = append(refs, p.Refs...), p.Next
		if !p.More {
			return refs, at
		}
	}
	t.Fatal("Changes: no end")
	return nil, ""
}

func touch(t rapid.TB, srv *servicenowtest.Server, id connectors.ExternalID, title string) {
	t.Helper()
	if _, err := srv.Act(string(id), servicenowtest.Move{Title: title}); err != nil {
		t.Fatalf("acting: %v", err)
	}
}

// A bulk job stamps far more rows alike than fit a page: all are shown, each once, and the stream ends.
func TestChangesBulkInOneSecond(t *testing.T) {
	t.Parallel()
	clk := newClock()
	srv := simulator(t, servicenowtest.Config{Now: clk.now, SeedIncidents: 37, Switches: servicenowtest.Switches{UnstableOrder: true}})
	c := connect(t, srv, setting("page_size", "5"))
	page, err := c.Changes(t.Context(), "")
	if err != nil || len(page.Refs) != 0 || page.More {
		t.Fatalf("from now on: %+v %v", page, err)
	}
	clk.advance(time.Second)
	for i, ticket := range srv.Tickets() {
		touch(t, srv, connectors.ExternalID(ticket.SysID), fmt.Sprint("bulk ", i))
	}
	refs, at := drain(t, c, page.Next)
	seen := map[connectors.ExternalID]int{}
	for _, r := range refs {
		seen[r.ID]++
	}
	if len(seen) != 37 || len(refs) != 37 {
		t.Errorf("%d tickets in %d refs, want 37 in 37", len(seen), len(refs))
	}
	if refs, _ = drain(t, c, at); len(refs) != 0 {
		t.Errorf("%d came again without a change", len(refs))
	}
}

// Rows that the account may not see shorten pages and make empty ones; what lies behind them is found.
func TestChangesBehindHiddenRows(t *testing.T) {
	t.Parallel()
	clk := newClock()
	srv := simulator(t, servicenowtest.Config{Now: clk.now, SeedIncidents: 30, Switches: servicenowtest.Switches{HiddenRows: "category=hardware"}})
	c := connect(t, srv, setting("page_size", "4"))
	_, at := drain(t, c, "")
	clk.advance(time.Hour)
	var last connectors.ExternalID
	for i, ticket := range srv.Tickets() {
		last = connectors.ExternalID(ticket.SysID)
		category := "hardware"
		if i == 29 {
			category = "software"
			clk.advance(time.Second)
		}
		if _, err := srv.Act(ticket.SysID, servicenowtest.Move{Fields: map[string]string{"category": category}, Title: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	refs, _ := drain(t, c, at)
	if len(refs) != 1 || refs[0].ID != last {
		t.Errorf("%+v, want the one visible row %s behind 29 hidden ones", refs, last)
	}
}

// A row can become visible with a stamp before rows that were shown already: the overlap finds it.
func TestChangesLateCommit(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{})
	c := connect(t, srv)
	early, late := open(t, c), open(t, c)
	_, at := drain(t, c, "")
	touch(t, srv, early.ID, "on time")
	_, at = drain(t, c, at)
	if err := srv.SetFaults(servicenowtest.Faults{Rules: []servicenowtest.Fault{{Kind: servicenowtest.FaultLateStamp, Delay: 55 * time.Second, Next: 1}}}); err != nil {
		t.Fatal(err)
	}
	admin(t, srv, http.MethodPatch, "/api/now/table/incident/"+string(late.ID), "application/json", `{"short_description":"late"}`)
	refs, _ := drain(t, c, at)
	if len(refs) != 1 || refs[0].ID != late.ID {
		t.Errorf("%+v, want the late row %s", refs, late.ID)
	}
}

func TestChangesFilter(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{})
	c := connect(t, srv, setting("filter", "category=network^ORcategory=database"), setting("page_size", "1"))
	var want, other []connectors.ExternalID
	for _, category := range []string{"network", "hardware", "database", "software"} {
		ticket, err := c.Create(t.Context(), draft(connectors.Fields{"category": category}))
		if err != nil {
			t.Fatal(err)
		}
		if category == "network" || category == "database" {
			want = append(want, ticket.ID)
		} else {
			other = append(other, ticket.ID)
		}
	}
	_, at := drain(t, c, "")
	for _, id := range append(other, want...) {
		touch(t, srv, id, "changed")
	}
	refs, _ := drain(t, c, at)
	seen := map[connectors.ExternalID]bool{}
	for _, r := range refs {
		seen[r.ID] = true
	}
	if len(seen) != 2 || !seen[want[0]] || !seen[want[1]] {
		t.Errorf("%+v, want %v", refs, want)
	}
}

func TestChangesHiddenStamp(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{SeedIncidents: 2, Switches: servicenowtest.Switches{HiddenColumns: []string{"incident.sys_updated_on"}}})
	_, err := connect(t, srv).Changes(t.Context(), "")
	_ = wantKind(t, err, connectors.Auth, "sys_updated_on")
}

// An empty table is a beginning like any other.
func TestChangesFromEmptyTable(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{})
	c := connect(t, srv)
	_, at := drain(t, c, "")
	ticket := open(t, c)
	if refs, _ := drain(t, c, at); len(refs) != 1 || refs[0].ID != ticket.ID || refs[0].Version != ticket.Version || refs[0].Number != ticket.Number {
		t.Errorf("%+v, want %s at %s", refs, ticket.ID, ticket.Version)
	}
}

// Whatever is changed whenever, in whatever second, read by pages of whatever size and in whatever portions: the last
// version of every ticket was shown in the end.
func TestChangesSkipNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		clk := newClock()
		srv, err := servicenowtest.New(servicenowtest.Config{Now: clk.now, SeedIncidents: 6, Switches: servicenowtest.Switches{
			UnstableOrder: rapid.Bool().Draw(rt, "unstable"), NoTotalCount: rapid.Bool().Draw(rt, "no count"),
		}, Users: []servicenowtest.User{{Name: login, Password: password, Roles: []string{"itil"}}}})
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = srv.Close() }()
		web := &http.Server{Handler: srv, ReadHeaderTimeout: 10 * time.Second}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			rt.Fatal(err)
		}
		go func() { _ = web.Serve(l) }()
		defer web.Close()
		srv.URL = "http://" + l.Addr().String()
		size := rapid.IntRange(1, 4).Draw(rt, "page size")
		c := connect(t, srv, setting("page_size", strconv.Itoa(size)))
		first, err := c.Changes(context.Background(), "")
		if err != nil {
			rt.Fatal(err)
		}
		at, shown, wanted := first.Next, map[connectors.ExternalID]string{}, map[connectors.ExternalID]string{}
		take := func(refs []connectors.Ref) {
			for _, r := range refs {
				shown[r.ID] = r.Version
			}
		}
		tickets := srv.Tickets()
		for i := range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 4).Draw(rt, "step") {
			case 0:
				clk.advance(time.Duration(rapid.IntRange(1, 100).Draw(rt, "seconds")) * time.Second)
			case 1:
				p, err := c.Changes(context.Background(), at)
				if err != nil {
					rt.Fatal(err)
				}
				take(p.Refs)
				at = p.Next
			default:
				id := connectors.ExternalID(tickets[rapid.IntRange(0, len(tickets)-1).Draw(rt, "ticket")].SysID)
				touch(rt, srv, id, fmt.Sprint("step ", i))
				now, err := srv.Ticket(string(id))
				if err != nil {
					rt.Fatal(err)
				}
				wanted[id] = now.SysModCount + "@" + now.SysUpdatedOn
			}
		}
		// A sweep under way may have passed a row before it changed back to front; the next one finds it.
		for range 2 {
			var refs []connectors.Ref
			refs, at = drain(rt, c, at)
			take(refs)
		}
		for id, version := range wanted {
			if shown[id] != version {
				rt.Errorf("%s was last shown at %q, stands at %q", id, shown[id], version)
			}
		}
		if refs, _ := drain(rt, c, at); len(refs) != 0 {
			rt.Errorf("%+v came again without a change", refs)
		}
	})
}

// A sweep that takes long reads on behind rows that commit late: what was stamped after its begin is looked for again.
func TestChangesLateCommitBehindALongSweep(t *testing.T) {
	t.Parallel()
	clk := &clock{at: time.Now().UTC().Truncate(time.Second)} // the simulator's Date header is the true time
	srv := simulator(t, servicenowtest.Config{Now: clk.now, SeedIncidents: 4})
	c := connect(t, srv, setting("page_size", "1"))
	_, at := drain(t, c, "")
	all := srv.Tickets()
	id := func(i int) connectors.ExternalID { return connectors.ExternalID(all[i].SysID) }
	clk.advance(time.Second)
	touch(t, srv, id(0), "first")
	next := func(want connectors.ExternalID) {
		t.Helper()
		for range 20 { // the overlap's known rows come first, without being shown
			p, err := c.Changes(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			at = p.Next
			if len(p.Refs) > 0 {
				if p.Refs[0].ID != want {
					t.Fatalf("%+v, want %s", p.Refs, want)
				}
				return
			}
		}
		t.Fatalf("%s was not shown", want)
	}
	clk.advance(10 * time.Second)
	touch(t, srv, id(1), "second")
	next(id(0)) // the sweep has begun
	clk.advance(10 * time.Minute)
	touch(t, srv, id(2), "much later")
	touch(t, srv, id(1), "much later, too")
	p, err := c.Changes(t.Context(), at) // one of the two, the other is waiting
	if err != nil || len(p.Refs) != 1 || !p.More {
		t.Fatalf("%+v %v", p, err)
	}
	late := servicenowtest.Faults{Rules: []servicenowtest.Fault{{Kind: servicenowtest.FaultLateStamp, Delay: 9 * time.Minute, Next: 1}}}
	if err := srv.SetFaults(late); err != nil {
		t.Fatal(err)
	}
	admin(t, srv, http.MethodPatch, "/api/now/table/incident/"+all[3].SysID, "application/json", `{"short_description":"late"}`)
	_, at = drain(t, c, p.Next)
	refs, _ := drain(t, c, at)
	if len(refs) != 1 || refs[0].ID != id(3) {
		t.Errorf("%+v, want the row that was committed late, %s", refs, id(3))
	}
}

// A row that a wrong clock stamped in the future hides nothing that is stamped rightly after it.
func TestChangesFutureStamp(t *testing.T) {
	t.Parallel()
	clk := &clock{at: time.Now().UTC()}
	srv := simulator(t, servicenowtest.Config{Now: clk.now, SeedIncidents: 3})
	c := connect(t, srv, setting("page_size", "2"))
	_, old := drain(t, c, "")
	all := srv.Tickets()
	clk.advance(48 * time.Hour)
	touch(t, srv, connectors.ExternalID(all[0].SysID), "from tomorrow")
	_, at := drain(t, c, old)
	_, fresh := drain(t, c, "")
	clk.advance(-48 * time.Hour)
	touch(t, srv, connectors.ExternalID(all[2].SysID), "today")
	if refs, _ := drain(t, c, fresh); len(refs) != 1 || string(refs[0].ID) != all[2].SysID {
		t.Errorf("from now on: %+v, want %s", refs, all[2].SysID)
	}
	_, at = drain(t, c, at)
	for i := range 3 {
		touch(t, srv, connectors.ExternalID(all[1].SysID), fmt.Sprint("today ", i))
		var refs []connectors.Ref
		if refs, at = drain(t, c, at); len(refs) != 1 || string(refs[0].ID) != all[1].SysID {
			t.Fatalf("%+v, want %s", refs, all[1].SysID)
		}
	}
}

//go:build chaos

package chaos_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"liaison/connectors/servicenow/servicenowtest"
	"liaison/e2e/peers/rt5"
)

// The hubs' time-outs for one call to a vendor. Request Tracker takes its time on a busy machine.
const (
	callTimeout   = 3 * time.Second
	rtCallTimeout = 8 * time.Second
)

// move is what a vendor's agent does in one save. State and priority are in the hub's words.
type move struct {
	title, priority, state, comment, note string
}

// change is a line of a vendor's own history of a ticket.
type change struct {
	at    string // by the vendor's clock, for ordering only where a place in the list says nothing
	hub   bool   // made by the hub's account
	born  bool   // stood there when the ticket was made
	field string // title, priority, state, comment, note
	value string // in the hub's words
}

func (c change) String() string {
	who := "vendor"
	if c.hub {
		who = "hub"
	}
	return fmt.Sprintf("%s %-6s %-8s %.120q", c.at, who, c.field, c.value)
}

// ticket is a vendor's ticket with its history, oldest first.
type ticket struct {
	id, correlation        string
	title, priority, state string // in the hub's words
	history                []change
}

// desk is a vendor's inside: its agents and its records.
type desk interface {
	act(ctx context.Context, id string, m move) error
	// now are all tickets as they stand, by id; their history is there only with full.
	now(ctx context.Context, full bool) (map[string]*ticket, error)
}

// vendor is a ticket system with all that stands between it and the hubs.
type vendor struct {
	key   string
	n     int // its letter in tokens
	rt    bool
	lags  bool // its search shows what was written ten seconds later
	desk  desk
	relay *relay
	hooks *hooks
	wire  *wire // the hubs reach it by this
	yaml  string
	env   []string
}

// token names a write: the incident, the side that wrote it ('h' for the hub, else the vendor's letter) and its number.
var token = regexp.MustCompile(`#(\d+)([a-z])(\d+)#`)

func (v *vendor) letter() string { return string(rune('a' + v.n)) }

// tokenSide tells which side wrote a text.
func tokenSide(text string) string {
	m := token.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return m[2]
}

// instance is a ServiceNow, played in this process.
type instance struct {
	sim *servicenowtest.Server
	log string
}

var (
	nowStates = map[string]string{"1": "NEW", "2": "IN_PROGRESS", "6": "RESOLVED", "7": "CLOSED", "8": "CANCELLED"}
	nowHolds  = map[string]string{"": "ON_HOLD", "1": "ON_HOLD/AWAITING_CUSTOMER", "3": "ON_HOLD/AWAITING_PROBLEM", "4": "ON_HOLD/AWAITING_VENDOR", "5": "ON_HOLD/AWAITING_CHANGE"}
)

func nowState(state, hold string) string {
	if state == "3" {
		return nowHolds[hold]
	}
	return nowStates[state]
}

func startInstance(t *testing.T, dir string, skew, lag time.Duration, secret string, hooks string) (*instance, string) {
	t.Helper()
	sim, err := servicenowtest.New(servicenowtest.Config{
		Dir: dir, Now: func() time.Time { return time.Now().Add(skew) },
		Webhook:  servicenowtest.Webhook{URL: hooks, Header: "X-Liaison-Webhook", Secret: secret},
		Switches: servicenowtest.Switches{SearchLag: lag},
	})
	if err != nil {
		t.Fatalf("starting ServiceNow's simulator: %v", err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(func() {
		server.Close()
		if err := sim.Close(); err != nil {
			t.Errorf("closing ServiceNow's simulator: %v", err)
		}
	})
	return &instance{sim: sim, log: filepath.Join(dir, "records.jsonl")}, server.URL
}

func (i *instance) act(_ context.Context, id string, m move) error {
	in := servicenowtest.Move{Title: m.title, Comment: m.comment, Note: m.note, Priority: strings.TrimPrefix(m.priority, "P")}
	for code, word := range nowStates {
		if m.state == word {
			in.State = code
		}
	}
	for reason, word := range nowHolds {
		if m.state == word {
			in.State, in.HoldReason = "3", reason
		}
	}
	_, err := i.sim.Act(id, in)
	return err
}

func (i *instance) now(_ context.Context, full bool) (map[string]*ticket, error) {
	out := map[string]*ticket{}
	for _, s := range i.sim.Tickets() {
		t := &ticket{id: s.SysID, correlation: s.CorrelationID, title: s.ShortDescription, priority: "P" + s.Priority, state: nowState(s.State, s.HoldReason)}
		out[s.SysID] = t
	}
	if !full {
		return out, nil
	}
	return out, i.read(out)
}

// record is a stored row in the simulator's log.
type record struct {
	Table  string            `json:"t"`
	ID     string            `json:"id"`
	Values map[string]string `json:"v"`
}

// read fills in the histories from the simulator's log: each line is a save.
func (i *instance) read(tickets map[string]*ticket) error {
	file, err := os.Open(i.log)
	if err != nil {
		return fmt.Errorf("reading the simulator's log: %w", err)
	}
	defer file.Close()
	before := map[string]map[string]string{}
	in := bufio.NewReaderSize(file, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the simulator's log: %w", err)
		}
		var records []record
		if err := json.Unmarshal(line, &records); err != nil {
			return fmt.Errorf("reading the simulator's log: %w", err)
		}
		for _, r := range records {
			switch r.Table {
			case "incident":
				if t := tickets[r.ID]; t != nil {
					t.history = append(t.history, moved(before[r.ID], r.Values)...)
				}
				before[r.ID] = r.Values
			case "sys_journal_field":
				if t := tickets[r.Values["element_id"]]; t != nil {
					field := map[string]string{"comments": "comment", "work_notes": "note"}[r.Values["element"]]
					t.history = append(t.history, change{
						at: r.Values["sys_created_on"], hub: r.Values["sys_created_by"] == "sim", field: field, value: r.Values["value"],
					})
				}
			}
		}
	}
}

func moved(was, is map[string]string) []change {
	var out []change
	look := func(field, before, after string) {
		if was == nil || before != after {
			out = append(out, change{at: is["sys_updated_on"], hub: is["sys_updated_by"] == "sim", born: was == nil, field: field, value: after})
		}
	}
	look("title", was["short_description"], is["short_description"])
	look("priority", "P"+was["priority"], "P"+is["priority"])
	look("state", nowState(was["state"], was["hold_reason"]), nowState(is["state"], is["hold_reason"]))
	return out
}

// tracker is the real Request Tracker.
type tracker struct{ server *rt5.Server }

var (
	rtStates     = map[string]string{"new": "NEW", "acknowledged": "ASSIGNED", "in progress": "IN_PROGRESS", "open": "IN_PROGRESS", "on hold": "ON_HOLD", "stalled": "ON_HOLD", "resolved": "RESOLVED", "closed": "CLOSED", "cancelled": "CANCELLED", "rejected": "CANCELLED", "deleted": "CANCELLED"}
	rtPriorities = map[string]string{"P1": "90", "P2": "70", "P3": "50", "P4": "30", "P5": "10"}
)

func rtPriority(n string) string {
	for word, number := range rtPriorities {
		if n == number {
			return word
		}
	}
	if n == "0" || n == "" {
		return "NONE"
	}
	return "?" + n
}

func (r *tracker) call(ctx context.Context, method, path string, body, into any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, r.server.URL+"/REST/2.0"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "token "+r.server.Alice.Token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("Request Tracker: %s %s: %d %.300s", method, path, res.StatusCode, answer)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

func (r *tracker) act(ctx context.Context, id string, m move) error {
	fields := map[string]string{}
	if m.title != "" {
		fields["Subject"] = m.title
	}
	if m.priority != "" {
		fields["Priority"] = rtPriorities[m.priority]
	}
	if m.state != "" {
		for _, status := range []string{"in progress", "on hold", "resolved"} {
			if rtStates[status] == m.state {
				fields["Status"] = status
			}
		}
	}
	if len(fields) > 0 {
		if err := r.call(ctx, http.MethodPut, "/ticket/"+id, fields, nil); err != nil {
			return err
		}
	}
	for way, text := range map[string]string{"correspond": m.comment, "comment": m.note} {
		if text == "" {
			continue
		}
		if err := r.call(ctx, http.MethodPost, "/ticket/"+id+"/"+way, map[string]string{"Content": text, "ContentType": "text/plain"}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (r *tracker) now(ctx context.Context, full bool) (map[string]*ticket, error) {
	var list struct {
		Items []struct {
			ID                        string `json:"id"`
			Subject, Status, Priority string
			CustomFields              []struct {
				Name   string   `json:"name"`
				Values []string `json:"values"`
			}
		}
	}
	out := map[string]*ticket{}
	for page := 1; ; page++ {
		q := fmt.Sprintf("/tickets?query=%s&fields=Subject,Status,Priority,CustomFields&per_page=100&page=%d&orderby=id", url.QueryEscape("id > 0"), page)
		list.Items = nil
		if err := r.call(ctx, http.MethodGet, q, nil, &list); err != nil {
			return nil, err
		}
		for _, i := range list.Items {
			t := &ticket{id: i.ID, title: i.Subject, priority: rtPriority(i.Priority), state: rtStates[i.Status]}
			for _, f := range i.CustomFields {
				if f.Name == "External ID" && len(f.Values) > 0 {
					t.correlation = f.Values[0]
				}
			}
			out[i.ID] = t
		}
		if len(list.Items) < 100 {
			break
		}
	}
	if !full {
		return out, nil
	}
	var group errgroup.Group
	group.SetLimit(3)
	for _, t := range out {
		group.Go(func() error { return r.read(ctx, t) })
	}
	return out, group.Wait()
}

// read fills in a ticket's history. "type" and "Type" are two things in RT, so the rows are read as maps.
func (r *tracker) read(ctx context.Context, t *ticket) error {
	for page := 1; ; page++ {
		var list struct{ Items []map[string]any }
		which := "ObjectType = 'RT::Ticket' AND TicketId = " + t.id
		q := fmt.Sprintf("/transactions?fields=Type,Field,OldValue,NewValue,Creator,Created&orderby=id&per_page=100&page=%d&query=%s", page, url.QueryEscape(which))
		if err := r.call(ctx, http.MethodGet, q, nil, &list); err != nil {
			return err
		}
		for _, item := range list.Items {
			if err := r.line(ctx, t, item); err != nil {
				return err
			}
		}
		if len(list.Items) < 100 {
			return nil
		}
	}
}

func (r *tracker) line(ctx context.Context, t *ticket, item map[string]any) error {
	text := func(name string) string { s, _ := item[name].(string); return s }
	creator := ""
	if who, ok := item["Creator"].(map[string]any); ok {
		creator, _ = who["id"].(string)
	}
	c := change{at: text("Created"), hub: creator == r.server.Hub.Name, value: text("NewValue")}
	switch kind, field := text("Type"), text("Field"); {
	case kind == "Create":
		t.history = append(t.history, change{at: c.at, hub: c.hub, born: true, field: "create"})
		return nil
	case kind == "Set" && field == "Subject":
		c.field = "title"
	case kind == "Set" && field == "Priority":
		c.field, c.value = "priority", rtPriority(c.value)
	case kind == "Status":
		c.field, c.value = "state", rtStates[c.value]
	case kind == "Correspond", kind == "Comment":
		c.field = map[string]string{"Correspond": "comment", "Comment": "note"}[kind]
		var bodies struct{ Items []struct{ Content string } }
		if err := r.call(ctx, http.MethodGet, "/transaction/"+fmt.Sprint(item["id"])+"/attachments?fields=Content", nil, &bodies); err != nil {
			return err
		}
		for _, b := range bodies.Items {
			c.value += b.Content
		}
	default:
		return nil
	}
	t.history = append(t.history, c)
	return nil
}

// newVendors starts the vendors of a plan, the hubs' doors being told by door(key).
func newVendors(t *testing.T, p plan, dir string, door func(key string) string) []*vendor {
	t.Helper()
	random := p.random(1)
	var out []*vendor
	const secret = "a-webhook-secret-of-thirty-two-b"
	add := func(v *vendor, address string, clock func() time.Time) {
		timeout := callTimeout
		if v.rt {
			timeout = rtCallTimeout
		}
		v.relay = newRelay(t, address, clock, timeout, p.random(uint64(100+v.n)))
		v.wire = newWire(t, v.key, v.relay.address())
		v.yaml = strings.ReplaceAll(v.yaml, "URL", "http://"+v.wire.address())
		out = append(out, v)
	}
	instances := p.serviceNows
	if p.mix {
		instances++ // one whose search index lags: RELIABILITY.md R2
	}
	for n := range instances {
		v := &vendor{key: fmt.Sprintf("servicenow-%d", n+1), n: n, lags: n == p.serviceNows}
		v.hooks = newHooks(t, p.random(uint64(200+n)), func() string { return door(v.key) })
		skew, lag := time.Duration(0), time.Duration(0)
		if p.skew {
			skew = time.Duration((random.Float64()*4 - 2) * float64(time.Hour)).Truncate(time.Second)
		}
		if v.lags {
			v.key, lag = "servicenow-lagging", 10*time.Second
		}
		sim, address := startInstance(t, filepath.Join(dir, v.key), skew, lag, secret, v.hooks.server.URL)
		v.desk = sim
		v.env = []string{"SIM_PASSWORD=sim", "HOOK_SECRET=" + secret}
		v.yaml = fmt.Sprintf(`  - key: %s
    name: %[1]s
    connector: servicenow
    desk: btls
    url: URL
    auth: {basic: {user: sim, password: {env: SIM_PASSWORD}}}
    webhook: {secret: {env: HOOK_SECRET}}
    poll: {interval: %s}
    timeout: %s
    settle_window: %s
    concurrency: 8
`, v.key, p.poll, callTimeout, max(5*time.Second, lag+2*time.Second))
		add(v, address, func() time.Time { return time.Now().Add(skew) })
	}
	if p.rt > 0 {
		server := rt5.Start(t, rt5.Options{})
		v := &vendor{key: "rt", n: len(out), rt: true, desk: &tracker{server}}
		v.hooks = newHooks(t, p.random(299), func() string { return door(v.key) })
		if err := server.SetWebhook(t.Context(), v.hooks.server.URL); err != nil {
			t.Fatal(err)
		}
		v.env = []string{"RT_TOKEN=" + server.Hub.Token, "RT_HOOK_SECRET=" + server.WebhookSecret}
		v.yaml = fmt.Sprintf(`  - key: rt
    name: rt
    connector: requesttracker
    desk: btls
    url: URL
    auth: {token: {env: RT_TOKEN}}
    webhook: {secret: {env: RT_HOOK_SECRET}, header: X-RT-Signature, signature: hmac-sha256}
    poll: {interval: %s}
    timeout: %s
    settle_window: 5s
    concurrency: 3
`, p.poll, rtCallTimeout)
		add(v, server.URL, time.Now)
	}
	return out
}

// everything reads all vendors' tickets.
func everything(ctx context.Context, vendors []*vendor, full bool) (map[*vendor]map[string]*ticket, error) {
	out := map[*vendor]map[string]*ticket{}
	var mu sync.Mutex
	var group errgroup.Group
	for _, v := range vendors {
		group.Go(func() error {
			tickets, err := v.desk.now(ctx, full)
			if err != nil {
				return fmt.Errorf("reading %s: %w", v.key, err)
			}
			mu.Lock()
			defer mu.Unlock()
			out[v] = tickets
			return nil
		})
	}
	return out, group.Wait()
}

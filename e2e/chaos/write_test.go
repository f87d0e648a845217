//go:build chaos

package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// owner says which side changes a field of an incident.
type owner string

const (
	byHub    owner = "hub"
	byVendor owner = "vendor"
	byBoth   owner = "both"
)

// op is a change that a writer made.
type op struct {
	at      time.Time
	field   string // title, priority, state, comment, note, create, escalate
	value   string
	token   string
	refused string // the code, when it was refused: then nothing must have happened
	failed  error  // never acknowledged
}

// incident is one trouble with its writers' notes.
type incident struct {
	n                      int
	org                    int
	vendors                []*vendor // the first one's agents act on it, the second one's only comment
	title, priority, state owner

	hubTurn, vendorTurn sync.Mutex // one writer of a side at a time

	mu        sync.Mutex
	id        string // GraphQL's
	number    string
	tickets   map[*vendor]string
	hubOps    []op
	vendorOps map[*vendor][]op
	hubN      int
	vendorN   int
}

func (i *incident) nextToken(side string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if side == "h" {
		i.hubN++
		return fmt.Sprintf("#%d%s%d#", i.n, side, i.hubN)
	}
	i.vendorN++
	return fmt.Sprintf("#%d%s%d#", i.n, side, i.vendorN)
}

func (i *incident) did(o op) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.hubOps = append(i.hubOps, o)
}

func (i *incident) theyDid(v *vendor, o op) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.vendorOps[v] = append(i.vendorOps[v], o)
}

// plot decides what incidents there are and who changes what.
func (w *world) plot() {
	random := w.plan.random(3)
	var now []*vendor
	var rt, lagging *vendor
	for _, v := range w.vendors {
		switch {
		case v.rt:
			rt = v
		case v.lags:
			lagging = v
		default:
			now = append(now, v)
		}
	}
	for n := range w.plan.incidents {
		i := &incident{n: n, org: random.IntN(len(organisations)), tickets: map[*vendor]string{}, vendorOps: map[*vendor][]op{}}
		switch {
		case rt != nil && n < w.plan.rt:
			i.vendors = []*vendor{rt}
		case lagging != nil && n%20 == 19:
			i.vendors = []*vendor{lagging}
		case w.plan.partition > 0: // most of them at the one that is out of reach
			i.vendors = []*vendor{now[n%4/3]}
		default:
			i.vendors = []*vendor{now[n%len(now)]}
			if len(now) > 1 && random.Float64() < w.plan.both {
				i.vendors = append(i.vendors, now[(n+1)%len(now)])
			}
		}
		pick := func() owner { return []owner{byHub, byVendor}[random.IntN(2)] }
		i.title, i.priority, i.state = byHub, pick(), pick()
		if share := w.plan.contested; math.Floor(float64(n+1)*share+0.5) > math.Floor(float64(n)*share+0.5) { // evenly, also among a few
			i.title, i.priority, i.state = byBoth, byBoth, byBoth
		}
		switch {
		case i.vendors[0].rt: // replies move the state there by themselves
			i.state = byVendor
		case i.vendors[0].lags: // its people set priorities and nothing else: see vendorChange
			i.priority = byVendor
		}
		w.incidents = append(w.incidents, i)
	}
}

// write has both sides make their changes, at the plan's pace. It returns when all are acknowledged.
func (w *world) write(ctx context.Context) error {
	var group errgroup.Group
	pace := time.Duration(float64(time.Second) / w.plan.rate)
	p := &picker{w: w, first: make(chan struct{})}
	group.Go(func() error { // people report and escalate
		var each errgroup.Group
		each.SetLimit(8)
		for _, i := range w.incidents {
			each.Go(func() error {
				i.hubTurn.Lock()
				defer i.hubTurn.Unlock()
				w.open(ctx, i, w.plan.random(uint64(10000+i.n)))
				p.add(i)
				return nil
			})
			<-time.After(pace / 2)
		}
		return each.Wait()
	})
	if w.plan.changes == 0 {
		return group.Wait()
	}
	looking, enough := context.WithCancel(ctx)
	defer enough()
	go w.lookForTickets(looking)
	<-p.first
	if w.plan.partition > 0 {
		if err := w.partition(ctx); err != nil {
			return err
		}
	}
	group.Go(func() error {
		return w.side(pace, w.plan.random(4), p.any, func(i *incident, random *rand.Rand) { w.hubChange(ctx, i, random) })
	})
	group.Go(func() error {
		for !w.third() && ctx.Err() == nil { // else the first few tickets would get all the changes
			<-time.After(100 * time.Millisecond)
		}
		return w.side(pace, w.plan.random(5), p.opened, func(i *incident, random *rand.Rand) { w.vendorChange(ctx, i, random) })
	})
	return group.Wait()
}

// third reports whether a third of the incidents have their tickets.
func (w *world) third() bool {
	open := 0
	for _, i := range w.incidents {
		if i.open() {
			open++
		}
	}
	return 3*open >= len(w.incidents)
}

// picker draws the incidents to change, from those that were reported so far.
type picker struct {
	w     *world
	first chan struct{} // closed when there is one

	mu    sync.Mutex
	ready []*incident
}

func (p *picker) add(i *incident) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready = append(p.ready, i); len(p.ready) == 1 {
		close(p.first)
	}
}

// any draws an incident. Request Tracker takes a second for each message, and where the journal lags a message keeps its lane
// until it shows: such incidents are drawn less often. Where it lags, they are not drawn towards the end: the length of
// their lanes would be measured, and not how the hub recovers.
func (p *picker) any(random *rand.Rand) *incident {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.ready[random.IntN(len(p.ready))]
	rare := i.vendors[0].rt || i.vendors[0].lags
	if rare && random.IntN(3) > 0 {
		i = p.ready[random.IntN(len(p.ready))]
	}
	for late := p.w.done.Load() > int64(p.w.plan.changes); late && i.vendors[0].lags; {
		i = p.ready[random.IntN(len(p.ready))]
	}
	return i
}

// opened draws an incident whose tickets are there, as far as that is so: agents work on those.
func (p *picker) opened(random *rand.Rand) *incident {
	i := p.any(random)
	for n := 0; n < 50 && !i.open(); n++ {
		i = p.any(random)
	}
	return i
}

// partition cuts the first vendor off once every ticket is open.
func (w *world) partition(ctx context.Context) error {
	for _, i := range w.incidents {
		for i.hubs() < len(i.vendors)+1 { // reported and escalated
			<-time.After(20 * time.Millisecond)
		}
		for _, v := range i.vendors {
			if _, err := w.ticketOf(ctx, i, v); err != nil {
				return err
			}
		}
	}
	w.note("%s is out of reach", w.vendors[0].key)
	return w.vendors[0].wire.sever(true)
}

func (i *incident) hubs() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.hubOps)
}

// waiting is how many deliveries may wait for each vendor before the writers hold back.
const waiting = 40

// side makes one side's changes, in bursts of up to four on one incident, several incidents at a time.
func (w *world) side(pace time.Duration, random *rand.Rand, pick func(*rand.Rand) *incident, change func(*incident, *rand.Rand)) error {
	var group errgroup.Group
	group.SetLimit(12)
	for left := w.plan.changes; left > 0; {
		burst := min(left, 1+random.IntN(4))
		left -= burst
		// Faults cost time, on a busy machine much of it. What would pile up is not written: the run is to show how the hubs
		// recover, and not how long their queues have become.
		for w.plan.partition == 0 && w.waits.Load() > int64(waiting*len(w.vendors)) {
			<-time.After(50 * time.Millisecond)
		}
		i, mine := pick(random), rand.New(rand.NewPCG(random.Uint64(), random.Uint64()))
		group.Go(func() error {
			for range burst {
				change(i, mine)
			}
			return nil
		})
		<-time.After(time.Duration(burst) * pace)
	}
	return group.Wait()
}

var flourishes = []string{"", " it stands still", " — Grüße, 図書館", " <b>bold</b> & \"quoted\" 'text'", " %41 \\n ${x} {{y}}", " a  b"}

var lines = []string{"", "\nsecond line", "\r\nsecond line\r\n\r\nfourth", "\n\tindented\n", " " + string(bytes.Repeat([]byte("long "), 300)) + "end"}

func some(random *rand.Rand, from []string) string { return from[random.IntN(len(from))] }

// open reports an incident and escalates it.
func (w *world) open(ctx context.Context, i *incident, random *rand.Rand) {
	tok := i.nextToken("h")
	title := tok + " reported" + some(random, flourishes)
	var reported struct {
		ReportIncident struct{ Incident struct{ ID, Number string } }
	}
	err := w.insist(ctx, requesterToken(i.org), `mutation($t: String!, $key: String!) { reportIncident(input: {title: $t, description: "since nine", idempotencyKey: $key}) {
		incident { id number } } }`, vars{"t": title, "key": tok}, &reported)
	i.did(op{at: time.Now(), field: "title", value: title, token: tok, failed: err})
	w.done.Add(1)
	if err != nil {
		return
	}
	i.mu.Lock()
	i.id, i.number = reported.ReportIncident.Incident.ID, reported.ReportIncident.Incident.Number
	i.mu.Unlock()
	for _, v := range i.vendors {
		tok := i.nextToken("h")
		err := w.insist(ctx, agentToken, `mutation($id: ID!, $s: String!, $sum: String!, $key: String!) { escalateIncident(input: {incidentId: $id, system: $s, summary: $sum, idempotencyKey: $key}) {
			link { id } } }`, vars{"id": i.id, "s": v.key, "sum": tok + " please look", "key": tok}, nil)
		i.did(op{at: time.Now(), field: "escalate", value: v.key, token: tok, failed: err})
	}
}

// shares are the parts of [0, 1) that lead to changes of the title, the priority and the state; what is left is for messages.
// Conflicts are what a partition is about.
func (w *world) shares(i *incident, title, priority, state float64) (t, p, s float64) {
	if w.plan.partition > 0 && i.title == byBoth {
		return 0.40, 0.65, 0.80
	}
	return title, priority, state
}

// hubChange makes one change in the hub.
func (w *world) hubChange(ctx context.Context, i *incident, random *rand.Rand) {
	i.hubTurn.Lock()
	defer i.hubTurn.Unlock()
	defer w.done.Add(1)
	defer w.hubDid.Add(1)
	title, priority, state := w.shares(i, 0.30, 0.42, 0.55)
	switch at := random.Float64(); {
	case at < title && i.title != byVendor:
		tok := i.nextToken("h")
		title := tok + " named" + some(random, flourishes)
		w.mutate(ctx, i, "title", title, tok, `updateIncident(input: {incidentId: $id, title: $v, idempotencyKey: $key})`, "String!")
	case at < priority && i.priority != byVendor:
		tok := i.nextToken("h")
		w.mutate(ctx, i, "priority", some(random, []string{"P1", "P2", "P3", "P4"}), tok, `assessIncident(input: {incidentId: $id, priority: $v, idempotencyKey: $key})`, "Priority!")
	case at < state && i.state != byVendor:
		w.hubMove(ctx, i, random)
	case at < 0.85:
		w.say(ctx, i, random, "comment")
	default:
		w.say(ctx, i, random, "note")
	}
}

// mutate makes a change with a value and notes what became of it.
func (w *world) mutate(ctx context.Context, i *incident, field, value, tok, call, kind string) (refused bool) {
	v := vars{"id": i.id, "key": tok}
	declare := ""
	if kind != "" {
		v["v"], declare = value, ", $v: "+kind
	}
	err := w.insist(ctx, agentToken, fmt.Sprintf(`mutation($id: ID!, $key: String!%s) { %s { incident { version } } }`, declare, call), v, nil)
	o := op{at: time.Now(), field: field, value: value, token: tok}
	if e := (*gqlError)(nil); errors.As(err, &e) {
		o.refused = e.Extensions.Code
	} else {
		o.failed = err
	}
	i.did(o)
	return o.refused != ""
}

// hubMove takes a step in the lifecycle; which ones are possible depends on what the vendor did meanwhile.
func (w *world) hubMove(ctx context.Context, i *incident, random *rand.Rand) {
	steps := []struct{ state, call string }{
		{"IN_PROGRESS", `beginWork(input: {incidentId: $id, idempotencyKey: $key})`},
		{"ON_HOLD/AWAITING_VENDOR", `holdIncident(input: {incidentId: $id, reason: AWAITING_VENDOR, idempotencyKey: $key})`},
		{"ON_HOLD/AWAITING_CHANGE", `holdIncident(input: {incidentId: $id, reason: AWAITING_CHANGE, idempotencyKey: $key})`},
		{"IN_PROGRESS", `resumeIncident(input: {incidentId: $id, idempotencyKey: $key})`},
		{"RESOLVED", `resolveIncident(input: {incidentId: $id, resolution: "Mended.", idempotencyKey: $key})`},
		{"IN_PROGRESS", `reopenIncident(input: {incidentId: $id, idempotencyKey: $key})`},
	}
	for _, n := range random.Perm(len(steps)) {
		if !w.mutate(ctx, i, "state", steps[n].state, i.nextToken("h"), steps[n].call, "") {
			return
		}
	}
}

func (w *world) say(ctx context.Context, i *incident, random *rand.Rand, field string) {
	tok, who, visibility := i.nextToken("h"), agentToken, "INTERNAL"
	if field == "comment" {
		visibility = "PUBLIC"
		if random.IntN(2) == 0 {
			who = requesterToken(i.org)
		}
	}
	body := tok + " said" + some(random, flourishes) + some(random, lines)
	err := w.insist(ctx, who, `mutation($id: ID!, $v: Visibility!, $b: String!, $key: String!) { addComment(input: {incidentId: $id, visibility: $v, body: $b, idempotencyKey: $key}) {
		comment { id } } }`, vars{"id": i.id, "v": visibility, "b": body, "key": tok}, nil)
	i.did(op{at: time.Now(), field: field, value: body, token: tok, failed: err})
}

// vendorChange has a vendor's agent do something to a ticket.
func (w *world) vendorChange(ctx context.Context, i *incident, random *rand.Rand) {
	i.vendorTurn.Lock()
	defer i.vendorTurn.Unlock()
	defer w.done.Add(1)
	defer w.theyDid.Add(1)
	v := i.vendors[0]
	second := len(i.vendors) > 1 && random.IntN(4) == 0
	if second {
		v = i.vendors[1]
	}
	id, err := w.ticketOf(ctx, i, v)
	if err != nil {
		w.flag("R1 no loss", i, "its ticket at %s was never opened: %v", v.key, err)
		return
	}
	o := op{at: time.Now(), token: i.nextToken(v.letter())}
	var m move
	title, priority, state := w.shares(i, 0.20, 0.40, 0.55)
	// Where the journal shows what was said only later than the ticket shows that it changed, a message is found with the
	// ticket's next change, and nobody knows when that is. So agents there set priorities.
	switch at := random.Float64(); {
	case at < title && i.title != byHub && !second:
		o.field, o.value = "title", o.token+" renamed"+some(random, flourishes)
		m.title = o.value
	case (at < priority || v.lags && !*lagFlag) && i.priority != byHub && !second:
		o.field, o.value = "priority", some(random, []string{"P1", "P2", "P3", "P4"})
		m.priority = o.value
	case at < state && i.state != byHub && !second:
		o.field, o.value = "state", some(random, []string{"IN_PROGRESS", "ON_HOLD/AWAITING_CUSTOMER", "ON_HOLD/AWAITING_PROBLEM", "IN_PROGRESS", "RESOLVED"})
		if v.rt {
			o.value = some(random, []string{"IN_PROGRESS", "ON_HOLD", "RESOLVED"})
		}
		m.state = o.value
	case at < 0.8:
		o.field, o.value = "comment", o.token+" answered"+some(random, flourishes)+some(random, lines)
		m.comment = o.value
	default:
		o.field, o.value = "note", o.token+" noted"+some(random, flourishes)+some(random, lines)
		m.note = o.value
	}
	if err := v.desk.act(ctx, id, m); err != nil {
		if o.field == "state" { // its lifecycle does not allow the step from where the ticket is
			o.refused = err.Error()
		} else {
			o.failed = err
		}
	}
	i.theyDid(v, o)
}

// open reports whether all the incident's tickets are known.
func (i *incident) open() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.tickets) == len(i.vendors)
}

// lookForTickets notes the tickets that the hub has come to know, and how much waits, until ctx ends.
func (w *world) lookForTickets(ctx context.Context) {
	for ctx.Err() == nil {
		var waits int64
		if err := w.database.pool.QueryRow(ctx, `SELECT count(*) FROM delivery WHERE state NOT IN ('DELIVERED', 'SKIPPED')`).Scan(&waits); err == nil {
			w.waits.Store(waits)
		}
		if rows, err := w.read(ctx, false); err == nil {
			for _, i := range w.incidents {
				i.mu.Lock()
				if r := rows[i.number]; r != nil {
					for _, v := range i.vendors {
						if l := r.links[v.key]; l != nil && l.ticket != "" && l.read {
							i.tickets[v] = l.ticket
						}
					}
				}
				i.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// ticketOf waits until the hub knows the ticket and has read it once: what stands there when it first reads it counts as what
// the vendor gave a fresh ticket, and is nobody's change.
func (w *world) ticketOf(ctx context.Context, i *incident, v *vendor) (string, error) {
	i.mu.Lock()
	id, number := i.tickets[v], i.number
	i.mu.Unlock()
	if id != "" {
		return id, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, w.plan.partition+5*time.Minute, errors.New("not within five minutes"))
	defer cancel()
	for {
		var found *string
		err := w.database.pool.QueryRow(ctx, `SELECT l.external_id FROM external_link l JOIN incident i ON i.organisation_id = l.organisation_id AND i.id = l.incident_id
			JOIN external_system s ON s.id = l.system_id WHERE i.number = $1 AND s.key = $2 AND l.base ? 'priority'`, number, v.key).Scan(&found)
		if err == nil && found != nil {
			i.mu.Lock()
			i.tickets[v] = *found
			i.mu.Unlock()
			return *found, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// vars are a document's variables.
type vars map[string]any

// gqlError is an error of a GraphQL answer.
type gqlError struct {
	Message    string
	Extensions struct{ Code, Field, Cursor string }
}

func (e *gqlError) Error() string { return e.Extensions.Code + ": " + e.Message }

// passing are the codes of refusals that say "not now".
var passing = map[string]bool{"": true, "INTERNAL": true, "UNAVAILABLE": true, "RATE_LIMITED": true}

var person = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: 5 * time.Second}}

// insist sends a document, to whichever hub, until it is acknowledged or refused for good. The documents carry idempotency
// keys, so that a repetition does no harm. Its error is a *gqlError, or says that there was no answer for two minutes.
func (w *world) insist(ctx context.Context, who, document string, v vars, into any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("never acknowledged"))
	defer cancel()
	for n := 0; ; n++ {
		err := w.try(ctx, w.hubs[(n+len(document)+len(v["key"].(string)))%len(w.hubs)], who, document, v, into)
		e := (*gqlError)(nil)
		if err == nil || errors.As(err, &e) && !passing[e.Extensions.Code] {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), err.Error()) // the cause alone tells what sort it is
		case <-time.After(time.Duration(50+rand.IntN(200)) * time.Millisecond):
		}
	}
}

func (w *world) try(ctx context.Context, h *hub, who, document string, v vars, into any) error {
	w.attempts.Add(1)
	body, err := json.Marshal(map[string]any{"query": document, "variables": v})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url()+"/graphql", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+who)
	req.Header.Set("Content-Type", "application/json")
	res, err := person.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	var answer struct {
		Data   json.RawMessage
		Errors []*gqlError
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("no JSON: %w: %.200s", err, text)
	}
	if len(answer.Errors) > 0 {
		return answer.Errors[0]
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer.Data, into)
}

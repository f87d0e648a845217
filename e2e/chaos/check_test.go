//go:build chaos

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// violation is a broken promise.
type violation struct {
	property string
	incident *incident
	text     string
}

func (w *world) flag(property string, i *incident, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found = append(w.found, violation{property, i, fmt.Sprintf(format, args...)})
}

// The properties, as the report lists them.
var properties = []string{
	"R1 no loss", "R1 convergence", "R2 no ticket twice", "R2 no comment twice", "R3 order", "R4 no echo", "R5 no silent overwrite",
	"L1 subscribers", "the ledger itself", "the operators' view", "the processes", "the run itself",
}

// same compares the fields of both sides, and returns what differs. What the hub withholds from a ticket on which the work is
// over may differ: a write would start the vendor's clock anew.
func same(r *row, t *ticket, v *vendor) (differs []string) {
	fold := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	look := func(field, hub, theirs string) {
		over := t.state == "RESOLVED" || t.state == "CLOSED" || t.state == "CANCELLED"
		withheld := over && strings.HasPrefix(r.links[v.key].parked[field], "withheld: ")
		if hub != theirs && !withheld {
			differs = append(differs, fmt.Sprintf("%s: hub %q, %s %q", field, hub, v.key, theirs))
		}
	}
	look("title", fold(r.title), fold(t.title))
	if r.priority != "NONE" { // not assessed: the vendor computes one all the same
		look("priority", r.priority, t.priority)
	}
	state := r.state
	if v.rt { // it keeps no reasons
		state, _, _ = strings.Cut(state, "/")
	}
	look("state", state, t.state)
	return differs
}

// apart tells what is not yet equal on both sides, or still on its way.
func (w *world) apart(ctx context.Context) ([]string, error) {
	var out []string
	for what, sql := range map[string]string{
		"deliveries wait at": `SELECT count(*) || ' ' || s.key FROM delivery d JOIN external_link l ON l.organisation_id = d.organisation_id AND l.id = d.link_id
			JOIN external_system s ON s.id = l.system_id WHERE d.state NOT IN ('DELIVERED', 'SKIPPED') GROUP BY s.key`,
		"inbox rows wait from":        `SELECT count(*) || ' ' || s.key FROM inbox i JOIN external_system s ON s.id = i.system_id WHERE i.state = 'WAITING' GROUP BY s.key`,
		"links lack their tickets at": `SELECT count(*) || ' ' || s.key FROM external_link l JOIN external_system s ON s.id = l.system_id WHERE l.external_id IS NULL GROUP BY s.key`,
	} {
		counts, err := w.texts(ctx, sql)
		if err != nil {
			return nil, err
		}
		for _, c := range counts {
			n, key, _ := strings.Cut(c, " ")
			out = append(out, fmt.Sprintf("%s %s %s", n, what, key))
		}
	}
	rows, err := w.records(ctx, false)
	if err != nil {
		return nil, err
	}
	theirs, err := everything(ctx, w.vendors, false)
	if err != nil {
		return nil, err
	}
	for _, i := range w.incidents {
		r := rows[i.number]
		if r == nil {
			continue // check tells
		}
		for _, v := range i.vendors {
			l := r.links[v.key]
			if l == nil || l.ticket == "" || theirs[v][l.ticket] == nil {
				out = append(out, fmt.Sprintf("%s has no ticket at %s", i.number, v.key))
				continue
			}
			for _, d := range same(r, theirs[v][l.ticket], v) {
				out = append(out, i.number+" "+d)
			}
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	bodies, err := w.texts(ctx, `SELECT body FROM comment WHERE link_id IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	here := map[string]bool{}
	for _, b := range bodies {
		here[token.FindString(b)] = true
	}
	for _, i := range w.incidents {
		for _, v := range i.vendors {
			for _, o := range i.vendorOps[v] {
				if (o.field == "comment" || o.field == "note") && o.failed == nil && !here[o.token] {
					out = append(out, fmt.Sprintf("%s lacks %s's %s %s", i.number, v.key, o.field, o.token))
				}
			}
		}
	}
	return out, nil
}

// settle waits until both sides are equal, and then looks whether they leave each other alone.
func (w *world) settle(ctx context.Context) {
	deadline := w.calmAt.Add(2 * *convergeFlag) // twice the time allowed, so that a miss can be measured
	if w.plan.changes == 0 {
		deadline = w.calmAt.Add(time.Hour) // nothing to recover from: only the tickets have to be opened
	}
	for {
		differs, err := w.apart(ctx)
		if err != nil {
			w.flag("the run itself", nil, "%v", err)
			return
		}
		if w.converged = time.Since(w.calmAt); len(differs) == 0 {
			break
		}
		w.last = differs
		if time.Now().After(deadline) {
			for n, d := range differs {
				if n == 20 {
					w.flag("R1 convergence", nil, "... and %d more", len(differs)-n)
					break
				}
				number, _, _ := strings.Cut(d, " ")
				w.flag("R1 convergence", w.by(number), "still apart after %s: %s", w.converged.Truncate(time.Second), d)
			}
			return
		}
		<-time.After(250 * time.Millisecond)
	}
	limit := *convergeFlag
	if w.plan.deaf {
		limit += w.plan.poll // R15: one poll interval and a minute
	}
	if w.converged > limit && w.plan.changes > 0 {
		w.flag("R1 convergence", nil, "both sides were equal %s after the last fault, want %s at most", w.converged.Truncate(time.Second), limit)
	}
	before := w.written()
	<-time.After(2*w.plan.poll + 2*time.Second)
	if w.quiet = w.written() - before; w.quiet > 0 {
		w.flag("R4 no echo", nil, "%d writes to vendors after everything was equal", w.quiet)
	}
	if differs, err := w.apart(ctx); err != nil || len(differs) > 0 {
		w.flag("R1 convergence", nil, "what was equal has parted again: %v %v", differs, err)
	}
}

func (w *world) by(number string) *incident {
	for _, i := range w.incidents {
		if i.number == number {
			return i
		}
	}
	return nil
}

// written counts the hub's writes to all vendors.
func (w *world) written() int {
	n := 0
	for _, v := range w.vendors {
		v.relay.mu.Lock()
		n += len(v.relay.writes)
		v.relay.mu.Unlock()
	}
	return n
}

// check compares what everybody recorded.
func (w *world) check(ctx context.Context, watchers []*watcher) {
	rows, err := w.records(ctx, true)
	if err != nil {
		w.flag("the run itself", nil, "%v", err)
		return
	}
	theirs, err := everything(ctx, w.vendors, true)
	if err != nil {
		w.flag("the run itself", nil, "%v", err)
		return
	}
	w.rows, w.theirs = rows, theirs
	for _, i := range w.incidents {
		r := rows[i.number]
		if r == nil {
			w.flag("R1 no loss", i, "it is not in the hub: %v", i.hubOps)
			continue
		}
		c := checker{w: w, i: i, r: r}
		c.acknowledged()
		c.tickets(theirs)
		c.comments()
		c.finals()
	}
	w.strays(rows, theirs)
	w.ledger(ctx)
	w.subscribers(ctx, watchers)
	w.operators(ctx)
}

// operators: the hub's own means of proof say the same, and comparing everything writes nothing (R15, second half).
func (w *world) operators(ctx context.Context) {
	h := w.hubs[0]
	before := w.written()
	ask := func(into any, words ...string) {
		cmd := exec.CommandContext(ctx, h.path, append(words, "--json", "--config", h.config)...)
		cmd.Dir, cmd.Env = filepath.Dir(h.config), append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(h.config)}, h.env...)
		var complaint strings.Builder
		cmd.Stderr = &complaint
		out, err := cmd.Output()
		if err != nil {
			w.flag("the operators' view", nil, "liaison %s: %v: %.500s %.1500s", strings.Join(words, " "), err, complaint.String(), out)
			return
		}
		if err := json.Unmarshal(out, into); err != nil {
			w.flag("the operators' view", nil, "liaison %s: %v in %.500s", strings.Join(words, " "), err, out)
		}
	}
	var verified any
	ask(&verified, "ledger", "verify")
	var compared struct {
		Reports []struct{ Links, Requests, Drifted, Failed int }
	}
	ask(&compared, "sync", "reconcile")
	for _, r := range compared.Reports {
		w.compared += r.Links
		w.requests += r.Requests
		if r.Drifted > 0 || r.Failed > 0 {
			w.flag("the operators' view", nil, "the comparison found %d differences and failed at %d links", r.Drifted, r.Failed)
		}
	}
	if n := w.written() - before; n > 0 {
		w.flag("R4 no echo", nil, "comparing everything wrote %d times to vendors", n)
	}
	if want := len(w.linked()); w.compared != want {
		w.flag("the operators' view", nil, "%d links were compared, want %d", w.compared, want)
	}
}

func (w *world) linked() (out []*linkRow) {
	for _, r := range w.rows {
		for _, l := range r.links {
			out = append(out, l)
		}
	}
	return out
}

// checker checks one incident.
type checker struct {
	w *world
	i *incident
	r *row
}

func (c checker) flag(property, format string, args ...any) { c.w.flag(property, c.i, format, args...) }

// acknowledged: what the hub has acknowledged stands in its ledger once, and what it has refused does not.
func (c checker) acknowledged() {
	titles, says := map[string]int{}, map[string]int{}
	for _, e := range c.r.entries {
		if to, ok := e.to("title"); ok {
			titles[token.FindString(to)]++
		}
		says[token.FindString(e.Comment)]++
	}
	for _, o := range c.i.hubOps {
		if o.failed != nil {
			c.flag("R1 no loss", "%s %s: %v", o.field, o.token, o.failed)
			continue
		}
		switch o.field {
		case "title":
			if titles[o.token] < 1 {
				c.flag("R1 no loss", "the title %s was acknowledged and is not in the ledger", o.token)
			}
		case "comment", "note", "escalate":
			if n := says[o.token]; n != 1 {
				c.flag(map[bool]string{true: "R1 no loss", false: "R2 no comment twice"}[n == 0], "the %s %s stands %d times in the ledger", o.field, o.token, n)
			}
		}
	}
	versions := 0
	for n, e := range c.r.entries {
		if e.Version != n+1 {
			c.flag("the ledger itself", "entry %d has the version %d", n+1, e.Version)
			return
		}
		versions = e.Version
	}
	if versions != c.r.version {
		c.flag("the ledger itself", "its version is %d, its last entry's %d", c.r.version, versions)
	}
}

// tickets: one ticket at each vendor, whose history is an image of the ledger.
func (c checker) tickets(theirs map[*vendor]map[string]*ticket) {
	for _, v := range c.i.vendors {
		l := c.r.links[v.key]
		if l == nil || l.ticket == "" {
			c.flag("R1 no loss", "it has no ticket at %s", v.key)
			continue
		}
		for field, reason := range l.parked {
			if !strings.HasPrefix(reason, "withheld: ") {
				c.flag("R1 no loss", "its %s waits for a person at %s: %s", field, v.key, reason)
			}
		}
		t := theirs[v][l.ticket]
		if t == nil {
			c.flag("R1 no loss", "%s has no ticket %s", v.key, l.ticket)
			continue
		}
		c.order(v, t)
		c.echo(v, t)
		c.overwritten(v, t)
	}
}

// order: what the hub wrote came in the order in which it stands in the ledger (R3).
func (c checker) order(v *vendor, t *ticket) {
	version := map[string]int{}
	withheld := false // then the titles went along with a later write, when the ticket was reopened
	for _, e := range c.r.entries {
		withheld = withheld || e.Kind == "FIELD_PARKED" && e.Link == v.key && strings.Contains(e.Detail, "withheld: ") && strings.Contains(e.Detail, `"title"`)
		if to, ok := e.to("title"); ok && version[token.FindString(to)] == 0 {
			version[token.FindString(to)] = e.Version
		}
		if tok := token.FindString(e.Comment); tok != "" {
			version[tok] = e.Version
		}
	}
	seen, last, lastTok := map[string]bool{}, 0, ""
	for _, h := range t.history {
		tok := token.FindString(h.value)
		if !h.hub || tok == "" || version[tok] == 0 {
			continue
		}
		if h.field == "title" {
			if withheld {
				continue
			}
			if seen[tok] { // written again after the vendor's people had overwritten it
				if c.i.title == byHub {
					c.flag("R3 order", "%s was given the title %s again", v.key, tok)
				}
				continue
			}
			seen[tok] = true
		}
		if version[tok] < last {
			c.flag("R3 order", "%s has %s (version %d) after %s (version %d)", v.key, tok, version[tok], lastTok, last)
		}
		last, lastTok = version[tok], tok
	}
	c.states(v, t)
	c.orderIn(v, t)
}

// states: values that are not unique, where nobody but the hub sets them: the vendor's are a sub-sequence of the ledger's.
func (c checker) states(v *vendor, t *ticket) {
	for field, who := range map[string]owner{"state": c.i.state, "priority": c.i.priority} {
		if who != byHub || len(c.i.vendors) > 1 {
			continue
		}
		var ours []string
		for _, e := range c.r.entries {
			if to, ok := e.to(field); ok {
				ours = append(ours, to)
			}
		}
		at := 0
		for _, h := range t.history {
			if h.field != field || !h.hub || h.born {
				continue
			}
			for at < len(ours) && ours[at] != h.value {
				at++
			}
			if at == len(ours) {
				c.flag("R3 order", "%s's %s %s fits nowhere behind those before it: the ledger has %v, the ticket %v", v.key, field, h.value, ours, values(t, field))
				break
			}
			at++
		}
	}
}

func values(t *ticket, field string) (out []string) {
	for _, h := range t.history {
		if h.field == field {
			out = append(out, h.value)
		}
	}
	return out
}

// orderIn: what the vendor's people said came into the ledger in their order. ServiceNow stamps to the second: within one
// there is no order.
func (c checker) orderIn(v *vendor, t *ticket) {
	version := map[string]int{}
	for _, e := range c.r.entries {
		if e.Comment != "" {
			version[token.FindString(e.Comment)] = e.Version
		}
	}
	newest, before := 0, 0 // of the second of the last message, and of all seconds before it
	stamp := ""
	for _, h := range t.history {
		if h.hub || h.field != "comment" && h.field != "note" {
			continue
		}
		if h.at != stamp || v.rt {
			stamp, before = h.at, max(before, newest)
		}
		n := version[token.FindString(h.value)]
		if n != 0 && n < before {
			c.flag("R3 order", "%s said %s before others that the ledger has earlier (version %d after %d)", v.key, token.FindString(h.value), n, before)
		}
		newest = max(newest, n)
	}
}

// echo: no value of the vendor's own is ever written back to it (R4).
func (c checker) echo(v *vendor, t *ticket) {
	made := map[string]map[string]bool{"state": {}, "priority": {}}
	for _, e := range c.r.entries {
		for field := range made {
			if to, ok := e.to(field); ok && e.Link != v.key {
				made[field][to] = true
				bare, _, _ := strings.Cut(to, "/")
				made[field][bare] = v.rt || made[field][bare]
			}
		}
	}
	// Request Tracker reopens a ticket upon a reply, so a reply goes along with the state that stands there: it is not a new one.
	stands, replied := "", ""
	for _, h := range t.history {
		if h.field == "state" {
			stands = h.value
		}
		if !h.hub || h.born {
			continue
		}
		if v.rt && h.field == "comment" {
			replied = stands
		}
		if v.rt && h.field == "state" && h.value == replied {
			continue
		}
		switch side := tokenSide(h.value); h.field {
		case "title", "comment", "note":
			if side == v.letter() {
				c.flag("R4 no echo", "%s was given its own %s back: %.80q", v.key, h.field, h.value)
			}
		default:
			if !made[h.field][h.value] {
				c.flag("R4 no echo", "%s was given the %s %s, which nobody but itself has set", v.key, h.field, h.value)
			}
		}
	}
}

// overwritten: what the vendor's people set and the hub then set otherwise stands in the ledger, as a change or in a
// conflict (R5). What they themselves set anew before the hub looked need not, nor what the hub's people had set as well.
func (c checker) overwritten(v *vendor, t *ticket) {
	var conflicts strings.Builder
	known := map[string]bool{}
	for _, e := range c.r.entries {
		if e.Kind == "CONFLICT" {
			conflicts.WriteString(e.Detail)
		}
		for _, field := range []string{"title", "priority", "state"} {
			if to, ok := e.to(field); ok {
				known[field+to] = true
				bare, _, _ := strings.Cut(to, "/")
				known[field+bare] = true
			}
		}
	}
	last := map[string]change{}
	for _, h := range t.history {
		if before, ok := last[h.field]; ok && h.hub && !before.hub && !before.born && before.value != h.value {
			tok := token.FindString(before.value)
			told := known[before.field+before.value] || strings.Contains(conflicts.String(), `"`+before.value+`"`) || tok != "" && strings.Contains(conflicts.String(), tok)
			if !told {
				c.flag("R5 no silent overwrite", "%s's %s %q was overwritten with %q and is nowhere in the ledger", v.key, h.field, before.value, h.value)
			}
		}
		if h.field == "title" || h.field == "priority" || h.field == "state" {
			last[h.field] = h
		}
	}
	c.lostInHub(t, conflicts.String())
}

// lostInHub: a title of the hub's people that the vendor's one replaced has reached the vendor before, or stands in a conflict.
func (c checker) lostInHub(t *ticket, conflicts string) {
	there := map[string]bool{}
	for _, h := range t.history {
		there[token.FindString(h.value)] = true
	}
	ours := ""
	for _, e := range c.r.entries {
		to, ok := e.to("title")
		if !ok {
			continue
		}
		if e.Link == "" {
			ours = token.FindString(to)
			continue
		}
		if ours != "" && !there[ours] && !strings.Contains(conflicts, ours) {
			c.flag("R5 no silent overwrite", "the hub's title %s gave way to %s's %.60q and is in no conflict", ours, e.Link, to)
		}
		ours = ""
	}
}

// comments: every message stands once on every side, with its visibility.
func (c checker) comments() {
	here := map[string][]comment{}
	for _, m := range c.r.comments {
		tok := token.FindString(m.body)
		here[tok] = append(here[tok], m)
	}
	want := map[string]string{} // token to field
	for _, o := range c.i.hubOps {
		if o.failed == nil && o.refused == "" && (o.field == "comment" || o.field == "note" || o.field == "escalate") {
			want[o.token] = map[string]string{"comment": "comment", "note": "note", "escalate": "note"}[o.field]
		}
	}
	for _, v := range c.i.vendors {
		for _, o := range c.i.vendorOps[v] {
			if o.failed != nil {
				c.flag("the run itself", "%s could not %s: %v", v.key, o.field, o.failed)
			} else if o.field == "comment" || o.field == "note" {
				want[o.token] = o.field
			}
		}
	}
	for tok, field := range want {
		switch got := here[tok]; {
		case len(got) == 0:
			c.flag("R1 no loss", "the hub lacks the %s %s", field, tok)
		case len(got) > 1:
			c.flag("R2 no comment twice", "the hub has the %s %s %d times", field, tok, len(got))
		case got[0].visibility != map[string]string{"comment": "PUBLIC", "note": "INTERNAL"}[field]:
			c.flag("R1 no loss", "the hub shows the %s %s as %s", field, tok, got[0].visibility)
		}
	}
	for tok := range here {
		if want[tok] == "" {
			c.flag("R4 no echo", "the hub has a comment that nobody wrote: %v", here[tok])
		}
	}
	for _, v := range c.i.vendors {
		c.commentsAt(v, want)
	}
}

func (c checker) commentsAt(v *vendor, want map[string]string) {
	l := c.r.links[v.key]
	if l == nil || c.w.theirs[v][l.ticket] == nil {
		return
	}
	there := map[string]int{}
	for _, h := range c.w.theirs[v][l.ticket].history {
		if h.field == "comment" || h.field == "note" {
			there[h.field+token.FindString(h.value)]++
		}
	}
	for tok, field := range want {
		escalation := false
		for _, o := range c.i.hubOps {
			escalation = escalation || o.token == tok && o.field == "escalate" && o.value != v.key
		}
		switch n := there[field+tok]; {
		case n == 0 && !escalation && !c.before(tok, v):
			c.flag("R1 no loss", "%s lacks the %s %s", v.key, field, tok)
		case n > 1:
			c.flag("R2 no comment twice", "%s has the %s %s %d times", v.key, field, tok, n)
		}
		other := map[string]string{"comment": "note", "note": "comment"}[field]
		if there[other+tok] > 0 {
			c.flag("R1 no loss", "%s has the %s %s as a %s", v.key, field, tok, other)
		}
	}
}

// before reports whether a message is older than the escalation to a vendor: those are not sent after it.
func (c checker) before(tok string, v *vendor) bool {
	for _, e := range c.r.entries {
		if e.Kind == "ESCALATED" && e.Link == v.key {
			return false
		}
		if token.FindString(e.Comment) == tok {
			return true
		}
	}
	return false
}

// finals: where one side alone sets a field, its last word stands.
func (c checker) finals() {
	now := map[string]string{"title": token.FindString(c.r.title), "priority": c.r.priority, "state": c.r.state}
	for field, who := range map[string]owner{"title": c.i.title, "priority": c.i.priority, "state": c.i.state} {
		last, ops := "", c.i.hubOps
		if who == byVendor {
			ops = c.i.vendorOps[c.i.vendors[0]]
		}
		for _, o := range ops {
			if o.field == field && o.failed == nil && o.refused == "" {
				last = o.value
			}
		}
		if field == "title" {
			last = token.FindString(last)
		}
		if who == byBoth || last == "" || last == now[field] || c.i.vendors[0].rt && field == "state" { // RT moves states by itself
			continue
		}
		c.flag("R1 no loss", "its %s is %s, and the last one that the %s's people gave was %s", field, now[field], who, last)
	}
}

// strays: every ticket at a vendor belongs to a link, and no correlation id is there twice.
func (w *world) strays(rows map[string]*row, theirs map[*vendor]map[string]*ticket) {
	for _, v := range w.vendors {
		linked, holder := map[string]string{}, map[string]string{}
		for _, r := range rows {
			if l := r.links[v.key]; l != nil {
				linked[l.ticket], holder[l.correlation] = r.number, r.number
			}
		}
		for id, t := range theirs[v] {
			if linked[id] == "" {
				w.flag("R2 no ticket twice", w.by(holder[t.correlation]), "%s has the ticket %s (correlation %s, state %s) that no link knows", v.key, id, t.correlation, t.state)
			}
		}
	}
}

// ledger: what holds in the tables whenever nothing is on its way.
func (w *world) ledger(ctx context.Context) {
	for what, sql := range map[string]string{
		"dead deliveries":                           `SELECT count(*) FROM delivery WHERE state = 'DEAD'`,
		"parked inbox rows":                         `SELECT count(*) FROM inbox WHERE state = 'PARKED'`,
		"entries that stand not once in the feed":   `SELECT count(*) FROM ledger_entry e WHERE (SELECT count(*) FROM feed f WHERE f.organisation_id = e.organisation_id AND f.incident_id = e.incident_id AND f.version = e.version) <> 1`,
		"missing positions of the feed":             `SELECT coalesce(max(position) - count(*), 0) FROM feed`,
		"feed positions out of an incident's order": `SELECT count(*) FROM (SELECT version, lag(version) OVER (PARTITION BY incident_id ORDER BY position) AS before FROM feed) f WHERE before >= version`,
	} {
		n, err := w.number(ctx, sql)
		if err != nil {
			w.flag("the run itself", nil, "%v", err)
		} else if n != 0 {
			w.flag("the ledger itself", nil, "%d %s", n, what)
		}
	}
	unnamed := 0
	for _, r := range w.rows {
		for _, e := range r.entries {
			if e.Kind != "CONFLICT" {
				continue
			}
			w.conflicts++
			for _, part := range []string{`"field"`, `"hub"`, `"vendor"`, `"winner"`, `"rule"`} {
				if !strings.Contains(e.Detail, part) {
					unnamed++
					break
				}
			}
		}
	}
	if unnamed > 0 {
		w.flag("R5 no silent overwrite", nil, "%d conflicts do not name both values, the winner and the rule", unnamed)
	}
	if w.plan.partition > 0 && w.conflicts < w.plan.changes/20 {
		w.flag("the run itself", nil, "only %d conflicts, want one for twenty changes of a side at least", w.conflicts)
	}
	dead, err := w.texts(ctx, `SELECT i.number || ' ' || d.kind || ' ' || d.error_kind || ': ' || d.error FROM delivery d JOIN incident i ON i.organisation_id = d.organisation_id AND i.id = d.incident_id WHERE d.state = 'DEAD' LIMIT 10`)
	if err != nil {
		w.flag("the run itself", nil, "%v", err)
	}
	for _, d := range dead {
		number, _, _ := strings.Cut(d, " ")
		w.flag("R1 no loss", w.by(number), "a dead delivery: %s", d)
	}
}

// subscribers: over all its connections each has received what it may see, in the feed's order, each entry once.
func (w *world) subscribers(ctx context.Context, watchers []*watcher) {
	rows, err := w.texts(ctx, `SELECT i.number || ' ' || f.version || ' ' || e.visibility || ' ' || o.key FROM feed f
		JOIN incident i ON i.organisation_id = f.organisation_id AND i.id = f.incident_id JOIN organisation o ON o.id = f.organisation_id
		JOIN ledger_entry e ON e.organisation_id = f.organisation_id AND e.incident_id = f.incident_id AND e.version = f.version ORDER BY f.position`)
	if err != nil {
		w.flag("the run itself", nil, "%v", err)
		return
	}
	var feed []string
	public := map[string]string{} // entry to the organisation, if a requester sees it
	for _, r := range rows {
		part := strings.Fields(r)
		name := part[0] + " " + part[1]
		if feed = append(feed, name); part[2] == "PUBLIC" {
			public[name] = part[3]
		}
	}
	for _, o := range watchers {
		want := feed
		if o.org != "" {
			want = slices.DeleteFunc(slices.Clone(feed), func(name string) bool { return public[name] != o.org })
		}
		for until := time.Now().Add(30 * time.Second); o.heard() < len(want) && time.Now().Before(until); {
			<-time.After(50 * time.Millisecond)
		}
		o.mu.Lock()
		var got []string
		for _, h := range o.all {
			got = append(got, fmt.Sprintf("%s %d", h.number, h.version))
		}
		for _, odd := range o.odd {
			w.flag("L1 subscribers", nil, "%s heard %s", o.name, odd)
		}
		w.received += len(got)
		w.lives += o.lives
		o.mu.Unlock()
		if err := differ(want, got); err != nil {
			w.flag("L1 subscribers", nil, "%s: %v", o.name, err)
		}
	}
}

// differ compares two lists that should be the same, and tells the first places where they are not.
func differ(want, got []string) error {
	if slices.Equal(want, got) {
		return nil
	}
	count := map[string]int{}
	for _, g := range got {
		count[g]++
	}
	var missing, twice []string
	for _, x := range want {
		if count[x] == 0 {
			missing = append(missing, x)
		}
	}
	for _, x := range slices.Sorted(maps.Keys(count)) {
		if count[x] > 1 {
			twice = append(twice, x)
		}
	}
	first := 0
	for first < min(len(want), len(got)) && want[first] == got[first] {
		first++
	}
	return fmt.Errorf("received %d entries, want %d; missing %v, more than once %v, the first difference at place %d", len(got), len(want), head(missing), head(twice), first+1)
}

func head(list []string) []string { return list[:min(len(list), 10)] }

// end stops the hubs in order and looks at what they logged.
func (w *world) end() {
	for _, h := range w.hubs {
		if err := h.stop(); err != nil {
			w.flag("the processes", nil, "%v", err)
		}
		for _, line := range h.complaints() {
			w.flag("the processes", nil, "%s", line)
		}
		if n := h.died.Load(); n > 0 {
			w.flag("the processes", nil, "%s ended by itself %d times", h.name, n)
		}
	}
}

package simulation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/ledger/ledgertest"
)

// checker compares what the hub holds with what the vendors hold and with what everybody did.
type checker struct {
	world    *world
	contents ledgertest.Contents
	entries  map[incident.ID][]ledgertest.Entry
	problems []string
	counts   *counts
	stale    bool // a process that had stood still wrote values somewhere
}

func (c *checker) fail(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// check returns every promise that does not hold right now. While something is on its way some do not.
func (w *world) check(n *counts) []string {
	*n = counts{}
	c := &checker{world: w, contents: w.stores.contents(), entries: map[incident.ID][]ledgertest.Entry{}, counts: n, stale: w.staleUpdate()}
	for _, e := range c.contents.Entries {
		c.entries[e.Incident] = append(c.entries[e.Incident], e)
	}
	c.acknowledged()
	for _, v := range w.vendors {
		v.mu.Lock()
		for _, l := range c.contents.Links {
			if l.System == v.id {
				c.link(v, l)
			}
		}
		for _, t := range v.tickets {
			if !slices.ContainsFunc(c.contents.Links, func(l ledgertest.Link) bool { return l.CorrelationID == t.correlation }) {
				c.fail("R2: ticket %s belongs to no link", t.id)
			}
			for _, a := range t.acts {
				if !a.ours {
					n.edits++
				}
			}
		}
		v.mu.Unlock()
	}
	for _, row := range w.stores.waiting() {
		c.fail("R1: a hint is not settled: %s", row)
	}
	return c.problems
}

// acknowledged checks that what people were told has happened, once.
func (c *checker) acknowledged() {
	incidents, said := 0, 0
	for _, p := range c.world.people {
		p.mu.Lock()
		for title, id := range p.reported {
			incidents++
			if !slices.ContainsFunc(c.contents.Incidents, func(i ledgertest.Incident) bool { return i.ID == id }) {
				c.fail("R1: %q was acknowledged and is not there", title)
			}
		}
		for id, in := range p.said {
			said++
			if !slices.ContainsFunc(c.contents.Comments, func(m ledgertest.Comment) bool { return m.ID.String() == id && m.Incident == in }) {
				c.fail("R1: a comment of %s was acknowledged and is not there", p.name)
			}
		}
		p.mu.Unlock()
	}
	if len(c.contents.Incidents) != incidents {
		c.fail("R2: %d incidents were acknowledged and %d are there", incidents, len(c.contents.Incidents))
	}
	own := 0
	for _, m := range c.contents.Comments {
		if m.Link == (incident.LinkID{}) {
			own++
		}
	}
	if own != said {
		c.fail("R2: %d comments were acknowledged and %d are there", said, own)
	}
	for id, entries := range c.entries {
		for n, e := range entries {
			if e.Version != int64(n+1) {
				c.fail("R3: %s has version %d where %d should be", c.world.stores.name(id.UUID), e.Version, n+1)
			}
			if e.Kind == ledger.Changed || e.Kind == ledger.Commented {
				c.counts.changes++
			}
			if e.Kind == ledger.Conflicted {
				c.counts.conflicts++
			}
		}
	}
}

// link checks one link against the vendor's tickets.
func (c *checker) link(v *vendor, l ledgertest.Link) {
	name := c.world.stores.name(l.ID.UUID)
	var tickets []*ticket
	stale := false
	for _, t := range v.tickets {
		if t.correlation == l.CorrelationID {
			tickets = append(tickets, t)
			stale = stale || t.acts[0].stale
		}
	}
	open := slices.DeleteFunc(slices.Clone(tickets), func(t *ticket) bool { return t.duplicateOf != "" || t.gone != connectors.Present })
	switch {
	case len(tickets) > 1 && !stale:
		c.fail("R2: %s was opened %d times", name, len(tickets))
	case len(open) > 1:
		c.fail("R7: %s has %d open tickets: a duplicate is not closed", name, len(open))
	}
	t := v.followed(l.ExternalID)
	if t == nil {
		c.fail("R1: %s has no ticket (%s)", name, c.standing(l))
		return
	}
	if t.correlation != l.CorrelationID {
		c.fail("R2: %s follows %s, which is another link's", name, t.id)
		return
	}
	c.order(v, l, name, t)
	if !c.stale { // an old value that a stale worker wrote elsewhere comes back as that vendor's own
		c.echoes(v, l, name, t)
	}
	c.overwritten(v, l, name, t)
	if t.gone != connectors.Present {
		if l.Gone != t.gone {
			c.fail("R11: %s does not know that %s is %s", name, t.id, t.gone)
		}
		return
	}
	if s := c.standing(l); s != "" {
		c.fail("R1: %s is not done: %s", name, s)
	}
	c.equal(v, l, name, t)
	c.comments(l, name, t)
}

// standing says why a lane is not at rest.
func (c *checker) standing(l ledgertest.Link) string {
	for _, d := range c.contents.Deliveries {
		if d.Link == l.ID && d.State != ledger.StateDelivered && d.State != ledger.StateSkipped {
			return fmt.Sprintf("its %s of version %d is %s after %d tries: %s", d.Kind, d.Version, d.State, d.Attempts, d.Error)
		}
	}
	switch {
	case l.Held:
		return "it is held"
	case l.SendingVersion != 0:
		return fmt.Sprintf("it is said to send version %d", l.SendingVersion)
	case l.Trouble != "":
		return "its trouble is " + l.Trouble
	}
	return ""
}

// equal checks that both sides say the same.
func (c *checker) equal(v *vendor, l ledgertest.Link, name string, t *ticket) {
	var values incident.Values
	for _, i := range c.contents.Incidents {
		if i.ID == l.Incident {
			values = i.Values
		}
	}
	reading := v.words.Read(t.fields)
	for f, read := range reading.Values {
		if _, parked := l.Parked[f]; parked || f == incident.FieldDescription || read.Means(values[f]) {
			continue
		}
		c.fail("R5: %s: %s is %q in the hub and %q at %s", name, f, values[f], read.Value, t.id)
	}
}

// comments checks that every message is on both sides, once.
func (c *checker) comments(l ledgertest.Link, name string, t *ticket) {
	since := int64(0)
	for _, e := range c.entries[l.Incident] {
		if e.Kind == ledger.Escalated && e.Link == l.ID {
			since = e.Version
		}
	}
	written, there := map[string]int{}, map[string]bool{}
	for _, a := range t.acts {
		if a.ours && a.key != "" {
			there[a.key] = true
			if !a.stale {
				written[a.key]++
			}
		}
	}
	for key, n := range written {
		if n > 1 {
			c.fail("R2: %s: %s was written %d times", name, c.named(key), n)
		}
	}
	for _, e := range c.entries[l.Incident] {
		if e.Kind == ledger.Commented && e.Link != l.ID && e.Version > since && !there[e.Comment.String()] {
			c.fail("R1: %s: %s of version %d is not at %s", name, c.named(e.Comment.String()), e.Version, t.id)
		}
	}
	copies := map[string]incident.CommentID{}
	for _, k := range c.contents.Copies {
		if k.Link == l.ID {
			copies[k.ExternalID] = k.Comment
		}
	}
	theirs, extra := 0, 0
	for _, a := range t.acts {
		switch {
		case a.entry == "":
		case a.stale:
			extra++
		case a.ours:
			if held, ok := copies[a.entry]; ok && held.String() != a.key {
				c.fail("R2: %s: %s is held to be %s and is %s", name, a.entry, c.named(held.String()), c.named(a.key))
			} else if !ok {
				c.fail("R2: %s: %s is not known to be %s", name, a.entry, c.named(a.key))
			}
		default:
			theirs++
			if _, ok := copies[a.entry]; !ok {
				c.fail("R1: %s: %s by %s is not in the hub", name, a.entry, a.who)
			}
		}
	}
	taken := 0
	for _, m := range c.contents.Comments {
		if m.Link == l.ID {
			taken++
		}
	}
	if taken > theirs+extra {
		c.fail("R2: %s: %d messages of %s's people are %d comments in the hub", name, theirs, t.id, taken)
	}
}

func (c *checker) named(comment string) string {
	for n, m := range c.contents.Comments {
		if m.ID.String() == comment {
			return fmt.Sprintf("comment %d (%q by %s)", n+1, m.Body, m.Author)
		}
	}
	return "no comment"
}

// span is a value and the versions of the incident in which it stood: from the first up to before the second.
type span struct {
	value    string
	from, to int64
}

const forever = int64(1) << 62

// spans lists the values that a field had.
func (c *checker) spans(id incident.ID, f incident.Field) []span {
	var out []span
	for _, e := range c.entries[id] {
		if ch, ok := e.Changes[f]; ok {
			if len(out) > 0 {
				out[len(out)-1].to = e.Version
			}
			out = append(out, span{ch[1], e.Version, forever})
		}
	}
	return out
}

// order checks that the vendor heard of changes in the ledger's order.
func (c *checker) order(v *vendor, l ledgertest.Link, name string, t *ticket) {
	versions := map[string]int64{}
	for _, e := range c.entries[l.Incident] {
		if e.Kind == ledger.Commented {
			versions[e.Comment.String()] = e.Version
		}
	}
	titles := c.spans(l.Incident, incident.FieldTitle)
	last := int64(0)
	for _, a := range t.acts {
		if !a.ours || a.stale || a.late {
			continue
		}
		if a.key != "" {
			if versions[a.key] < last {
				c.fail("R3: %s: version %d was written at %v, after version %d", name, versions[a.key], a.at, last)
			}
			last = max(last, versions[a.key])
			continue
		}
		read, ok := v.words.Read(a.fields).Values[incident.FieldTitle]
		if !ok {
			continue
		}
		at := slices.IndexFunc(titles, func(s span) bool { return s.to > last && read.Means(s.value) })
		if at < 0 {
			c.fail("R3: %s: title %q was written at %v, after version %d", name, read.Value, a.at, last)
			continue
		}
		last = max(last, titles[at].from)
	}
}

// echoes checks that nothing was written that stood there already or that came from there.
func (c *checker) echoes(v *vendor, l ledgertest.Link, name string, t *ticket) {
	states, pushes := 0, 0
	for _, e := range c.entries[l.Incident] {
		if _, ok := e.Changes[incident.FieldState]; ok && e.Link != l.ID {
			states++
		}
		if _, ok := e.Detail["pushed"]; ok && e.Link == l.ID {
			pushes++
		}
	}
	wrote := 0
	for n, a := range t.acts {
		if !a.ours || a.stale || a.late || a.key != "" || a.before == nil || a.closed {
			continue
		}
		for field, word := range a.fields {
			between := slices.ContainsFunc(t.acts[:n], func(o act) bool { _, same := o.fields[field]; return same && o.at >= a.read })
			if a.before[field] == a.sent[field] && !between {
				c.fail("R4: %s: %s=%q was written at %v although it stood there", name, field, word, a.at)
			}
			if strings.HasPrefix(word, v.key+".") || strings.HasPrefix(word, "rule "+string(t.id)) {
				c.fail("R4: %s: %s=%q came from %s and was written back at %v", name, field, word, t.id, a.at)
			}
			if field == "state" {
				wrote++
			}
		}
	}
	if wrote > states+pushes {
		c.fail("R4: %s: the state was written %d times for %d changes and %d corrections", name, wrote, states, pushes)
	}
}

// staleUpdate reports whether a process that had stood still wrote values at any vendor.
func (w *world) staleUpdate() bool {
	return slices.ContainsFunc(w.vendors, func(v *vendor) bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		return slices.ContainsFunc(v.tickets, func(t *ticket) bool {
			return slices.ContainsFunc(t.acts, func(a act) bool { return a.stale && len(a.sent) > 0 })
		})
	})
}

// hubFields are the hub's fields behind the vendors'.
var hubFields = map[string]incident.Field{"title": incident.FieldTitle, "service": incident.FieldService, "prio": incident.FieldPriority, "state": incident.FieldState}

// overwritten checks that no value of the vendor's people was overwritten by us without a trace.
func (c *checker) overwritten(v *vendor, l ledgertest.Link, name string, t *ticket) {
	for n, a := range t.acts {
		if a.ours || a.entry != "" {
			continue
		}
		for field, word := range a.fields {
			if a.before[field] == word {
				continue
			}
			next := slices.IndexFunc(t.acts[n+1:], func(o act) bool { _, same := o.fields[field]; return same })
			if next < 0 || !t.acts[n+1+next].ours {
				continue
			}
			over := t.acts[n+1+next]
			if over.stale || over.late || over.fields[field] == word || c.told(v, l, field, word) {
				continue
			}
			if a.at >= over.read-time.Millisecond {
				c.counts.races++ // between the read and the write: nobody could have known
				continue
			}
			c.fail("R5: %s: %s=%q, set by %s at %v, was overwritten with %q at %v and is nowhere in the ledger", name, field, word, a.who, a.at, over.fields[field], over.at)
		}
	}
}

// told reports whether the ledger knows of a vendor's value.
func (c *checker) told(v *vendor, l ledgertest.Link, field, word string) bool {
	f := hubFields[field]
	read, ok := v.words.Read(connectors.Fields{field: word}).Values[f]
	if !ok {
		return true
	}
	for _, e := range c.entries[l.Incident] {
		if ch, ok := e.Changes[f]; ok && read.Means(ch[1]) {
			return true
		}
		if e.Detail["field"] == string(f) {
			for _, side := range []string{"hub", "vendor", "base"} {
				if value, ok := e.Detail[side].(string); ok && read.Means(value) {
					return true
				}
			}
		}
	}
	return false
}

package simulation

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/mapping"
)

// vendor is one vendor's ticket system, in memory and always up: what fails is the way to it.
type vendor struct {
	world  *world
	id     incident.SystemID
	key    string
	words  *mapping.Mapping
	traits connectors.Traits

	searchLag time.Duration // how late a ticket shows in a search by correlation id
	latest    time.Duration // how long after a call timed out its write may still be committed
	coarse    bool          // a journal read begins with the entry at the mark
	trims     bool          // cuts blanks at a value's end
	hooks     bool          // calls out
	skew      time.Duration

	mu      sync.Mutex
	writing map[string]*hub // whose write to a ticket is under way
	tickets []*ticket
	entries int
	stream  []connectors.Ref
}

// ticket is one ticket with everything that was ever done to it.
type ticket struct {
	vendor      *vendor
	id          connectors.ExternalID
	correlation string
	link        string // the store's name for the link that it was opened for
	opened      time.Duration
	fields      connectors.Fields
	version     int
	journal     []connectors.JournalEntry
	gone        connectors.Gone
	successor   connectors.ExternalID
	duplicateOf connectors.ExternalID
	acts        []act
}

// act is something that was done to a ticket.
type act struct {
	at     time.Duration
	who    string // "hub1.1", "agent", "automation"
	ours   bool   // by a hub
	stale  bool   // sent by a hub that had been stopped and lost its lease before the call left it
	late   bool   // committed after the caller had given up
	fields connectors.Fields
	sent   connectors.Fields // the fields as they were sent
	before connectors.Fields // what stood there
	read   time.Duration     // when the same exchange read the ticket, for writes of ours
	key    string            // of a message
	entry  string            // its entry
	closed bool              // closed as a duplicate
}

func (v *vendor) find(id connectors.ExternalID) *ticket {
	for _, t := range v.tickets {
		if t.id == id {
			return t
		}
	}
	return nil
}

// enter notes that a write is under way and that nobody else's is: a lane has one at a time.
func (v *vendor) enter(h *hub, on string) (leave func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if other := v.writing[on]; other != nil && !other.dead.Load() {
		v.world.broken("R7: %s and %s write to %s at the same time", other.name, h.name, on)
	}
	v.writing[on] = h
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.writing[on] == h {
			delete(v.writing, on)
		}
	}
}

// changed gives a ticket its next version and tells of it.
func (t *ticket) changed() {
	v := t.vendor
	t.version++
	ref := connectors.Ref{ID: t.id, Version: strconv.Itoa(t.version), CorrelationID: t.correlation}
	v.stream = append(v.stream, ref)
	if v.hooks {
		v.world.call(v, ref)
	}
}

func (t *ticket) normal(fields connectors.Fields) connectors.Fields {
	out := maps.Clone(fields)
	if t.vendor.trims {
		for name, value := range out {
			out[name] = strings.TrimRight(value, " ")
		}
	}
	return out
}

// set writes fields and keeps who did it. The caller holds the vendor.
func (t *ticket) set(a act, fields connectors.Fields) {
	a.at, a.fields, a.sent, a.before = t.vendor.world.clock.since(), t.normal(fields), fields, connectors.Fields{}
	for name, value := range a.fields {
		a.before[name] = t.fields[name]
		t.fields[name] = value
	}
	t.acts = append(t.acts, a)
	t.vendor.world.trace.add(a.who, "%s %s set %s%s", t.link, t.id, show(a.fields), lateness(a))
	t.changed()
}

func lateness(a act) string {
	switch {
	case a.stale:
		return " (stale)"
	case a.late:
		return " (late)"
	}
	return ""
}

func show(f connectors.Fields) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		out = append(out, name+"="+strconv.Quote(f[name]))
	}
	return strings.Join(out, " ")
}

// say adds a message to the journal. The caller holds the vendor.
func (t *ticket) say(a act, m connectors.Message, author string) connectors.JournalEntry {
	v := t.vendor
	v.entries++
	e := connectors.JournalEntry{
		ID: fmt.Sprintf("%s-J%d", v.key, v.entries), Visibility: m.Visibility, Body: m.Body, Author: author, Own: a.ours || a.who == "automation",
		At: v.world.clock.now().Add(v.skew),
	}
	if v.traits.MessageKeys {
		e.Key = m.Key
	}
	if v.trims {
		e.Body = strings.TrimRight(e.Body, " \n")
	}
	t.journal = append(t.journal, e)
	a.at, a.key, a.entry = v.world.clock.since(), m.Key, e.ID
	t.acts = append(t.acts, a)
	first, _, _ := strings.Cut(m.Body, "\n\n")
	v.world.trace.add(a.who, "%s %s say %s %s%s", t.link, t.id, e.ID, strconv.Quote(strings.TrimPrefix(m.Body, first+"\n\n")), lateness(a))
	t.changed()
	return e
}

// open makes a ticket. The caller holds the vendor.
func (v *vendor) open(a act, d connectors.Draft) *ticket {
	t := &ticket{
		vendor: v, id: connectors.ExternalID(fmt.Sprintf("%s-%d", v.key, len(v.tickets)+1)), correlation: d.CorrelationID, link: v.world.named(d.CorrelationID),
		opened: v.world.clock.since(), fields: connectors.Fields{},
	}
	for name := range v.fields() {
		t.fields[name] = v.fields()[name]
	}
	v.tickets = append(v.tickets, t)
	maps.Copy(t.fields, t.normal(d.Fields))
	a.at, a.fields = t.opened, t.normal(d.Fields)
	t.acts = append(t.acts, a)
	v.world.trace.add(a.who, "%s opened %s %s%s", t.link, t.id, show(t.fields), lateness(a))
	t.changed()
	return t
}

// fields are what a fresh ticket holds.
func (v *vendor) fields() connectors.Fields {
	return connectors.Fields{"title": "", "text": "", "state": "1", "prio": "0", "service": ""}
}

func (t *ticket) shown(fields []string) connectors.Ticket {
	v := t.vendor
	out := connectors.Ticket{
		ID: t.id, Number: "N" + string(t.id), Version: strconv.Itoa(t.version), CorrelationID: t.correlation, UpdatedAt: v.world.clock.now().Add(v.skew),
		Gone: t.gone, SuccessorID: t.successor, Fields: connectors.Fields{},
	}
	for _, name := range fields {
		if value, there := t.fields[name]; there {
			out.Fields[name] = value
		}
	}
	return out
}

// hookBody is what the vendor posts.
type hookBody struct {
	Ticket  connectors.ExternalID `json:"ticket"`
	Version string                `json:"version"`
}

func encodeHook(ref connectors.Ref) []byte {
	b, _ := json.Marshal(hookBody{ref.ID, ref.Version}) // two strings can always be written
	return b
}

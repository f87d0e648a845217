package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/merge"
	"liaison/sync/pull"
	"liaison/sync/system"
)

// Drift is one thing about a link that is not as it should be.
type Drift struct {
	Organisation incident.OrganisationID `json:"-"`
	Link         incident.LinkID         `json:"link"`
	Incident     string                  `json:"incident"` // its number
	Ticket       connectors.ExternalID   `json:"ticket"`
	Number       string                  `json:"number"` // the ticket's, as people say it
	What         string                  `json:"what"`   // "field title", "comment", "ticket", "state words", "number", "correlation id"
	Hub          string                  `json:"hub"`
	Vendor       string                  `json:"vendor"`
	Outcome      string                  `json:"outcome"` // what was done about it, or why nothing was
	Mended       bool                    `json:"mended"`

	repair repair
	field  incident.Field
}

// repair is how drift is mended.
type repair int

const (
	byHand   repair = iota // a person looks at it
	byTaking               // the vendor's news are taken in, conflicts decided by policy
	byPush                 // the vendor hears the hub's value again
)

// would says what a comparison that mends would do.
func (r repair) would() string {
	return map[repair]string{
		byHand: "told: a person looks at it", byTaking: "found: mending takes the vendor's news in, by policy", byPush: "found: mending sends the hub's value again",
	}[r]
}

// view is what was read of a ticket.
type view struct {
	ticket  connectors.Ticket
	journal []connectors.JournalEntry
	mark    connectors.Mark
	hidden  bool // the vendor does not show the ticket: deleted without a trace, or hidden from the account
}

func (v view) entries() []string {
	ids := make([]string, len(v.journal))
	for n, e := range v.journal {
		ids[n] = e.ID
	}
	return ids
}

// comparison gathers what differs between a ticket and the hub.
type comparison struct {
	system *system.System
	now    ledger.Situation
	copies []ledger.Copy
	view   view
	found  []Drift
}

// compare returns what differs. It is pure but for the look-ups that the situation brings.
func compare(s *system.System, now ledger.Situation, copies []ledger.Copy, v view) ([]Drift, error) {
	c := &comparison{system: s, now: now, copies: copies, view: v}
	if v.hidden {
		if now.Link.RemoteState != pull.Hidden {
			c.add(byTaking, "", "ticket", "followed", pull.Hidden)
		}
		return c.found, nil
	}
	if v.ticket.Gone != connectors.Present {
		if now.Link.Gone == connectors.Present {
			c.add(byTaking, "", "ticket", "followed", strings.ToLower(string(v.ticket.Gone)))
		}
		return c.found, nil
	}
	arrival, err := pull.Look(s, now, v.ticket, v.journal, v.mark)
	if err != nil {
		return nil, err
	}
	c.fields(arrival.Outcome)
	c.ids()
	if arrival.RemoteState != now.Link.RemoteState && !c.has(incident.FieldState) {
		c.add(byTaking, "", "state words", now.Link.RemoteState, arrival.RemoteState)
	}
	c.comments(arrival.Messages)
	return c.found, nil
}

func (c *comparison) add(r repair, f incident.Field, what, hub, vendor string) {
	link := c.now.Link
	c.found = append(c.found, Drift{
		Organisation: link.Organisation, Link: link.ID, Incident: c.now.Incident.Number, Ticket: link.ExternalID, Number: link.Number,
		What: what, Hub: hub, Vendor: vendor, Outcome: r.would(), repair: r, field: f,
	})
}

func (c *comparison) has(f incident.Field) bool {
	return slices.ContainsFunc(c.found, func(d Drift) bool { return d.field == f })
}

func (c *comparison) fields(o merge.Outcome) {
	hub, reading := c.now.Incident.Values(), c.system.Mapping.Read(c.view.ticket.Fields)
	conflicts := map[incident.Field]merge.Conflict{}
	for _, k := range o.Conflicts {
		conflicts[k.Field] = k
	}
	for _, f := range incident.Fields() {
		words, read := reading.Words[f]
		if !read {
			continue
		}
		vendor := spoken(words)
		taken, takes := o.Take[f]
		conflict, both := conflicts[f]
		reason, parks := o.Parked[f]
		switch {
		case both:
			c.add(byTaking, f, "field "+string(f), conflict.Hub, conflict.Remote)
		case takes:
			c.add(byTaking, f, "field "+string(f), hub[f], taken)
		case parks && reason != c.now.Link.Parked[f]:
			c.add(byTaking, f, "field "+string(f), hub[f], vendor)
		case parks, c.now.Link.Standing[f].Held != merge.Unheld: // the ledger tells of it already
		case slices.Contains(o.Push, f):
			c.add(byTaking, f, "field "+string(f), hub[f], vendor)
		case c.untold(f, hub):
			c.add(byPush, f, "field "+string(f), hub[f], vendor)
		}
	}
}

// untold tells whether the hub's value has moved on from what was agreed and no delivery of it is on its way, although the
// vendor has words for it.
func (c *comparison) untold(f incident.Field, hub incident.Values) bool {
	base, agreed := c.now.Link.Base[f]
	remote, understood := c.system.Mapping.Read(c.view.ticket.Fields).Values[f]
	if !agreed || !understood || base.Hub == hub[f] || remote.Means(hub[f]) || c.now.Pending(f) {
		return false
	}
	_, words := c.system.Mapping.Write(incident.Values{f: hub[f]}, maps.Clone(hub)).Words[f]
	return words
}

// ids compares what names the ticket.
func (c *comparison) ids() {
	link, ticket := c.now.Link, c.view.ticket
	if ticket.Number != "" && ticket.Number != link.Number {
		c.add(byTaking, "", "number", link.Number, ticket.Number)
	}
	if ticket.CorrelationID != link.CorrelationID {
		c.add(byHand, "", "correlation id", link.CorrelationID, ticket.CorrelationID)
	}
}

// comments compares the journal with what the hub has of it.
func (c *comparison) comments(fresh []connectors.JournalEntry) {
	for _, e := range fresh {
		if strings.TrimSpace(e.Body) != "" { // the hub keeps no empty comments
			c.add(byTaking, "", "comment", "", excerpt(e.Author+": "+e.Body))
		}
	}
	there := map[string]bool{}
	for _, e := range c.view.journal {
		there[e.ID] = true
	}
	for _, k := range c.copies {
		if !there[k.Entry] {
			c.add(byHand, "", "comment", excerpt(k.Author+": "+k.Body), "")
		}
	}
}

// longest is how much of a comment a line of drift shows, in characters.
const longest = 80

// in tells whether the same thing is among others.
func (d Drift) in(others []Drift) bool {
	return slices.ContainsFunc(others, func(o Drift) bool { return o.What == d.What && o.Hub == d.Hub && o.Vendor == d.Vendor })
}

// storable is text that Postgres takes: a vendor's words may hold what it does not.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func excerpt(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > longest {
		return string(r[:longest]) + "…"
	}
	return s
}

func spoken(words connectors.Fields) string {
	names := slices.Sorted(maps.Keys(words))
	if len(names) == 1 {
		return words[names[0]]
	}
	out := make([]string, len(names))
	for n, name := range names {
		out[n] = fmt.Sprintf("%s %q", name, words[name])
	}
	return strings.Join(out, ", ")
}

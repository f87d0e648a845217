package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"liaison/graph/nodeid"
	"liaison/internal/incident"
	"liaison/sync/explain"
	"liaison/sync/ledger"
)

type syncExplainCmd struct {
	What string `arg:"" help:"An incident's number or id, a link's or delivery's id, or a vendor's ticket number."`
	Last int    `default:"20" help:"How many of the latest changes." placeholder:"N"`
	JSON bool   `name:"json" help:"Write JSON."`
}

// story is an incident explained, for programs.
type story struct {
	Incident    string        `json:"incident"`
	Title       string        `json:"title"`
	State       string        `json:"state"`
	Priority    string        `json:"priority"`
	Entries     []storyEntry  `json:"entries"`
	Tickets     []storyTicket `json:"tickets"`
	only        *ledger.Delivery
	lastVersion int64
}

type storyEntry struct {
	Version int64     `json:"version"`
	At      time.Time `json:"at"`
	Kind    string    `json:"kind"`
	Text    string    `json:"text"`
	Because []string  `json:"because"`
	Rule    string    `json:"rule,omitempty"`
	Mapping string    `json:"mapping,omitempty"`
	Trace   string    `json:"trace,omitempty"`
}

type storyTicket struct {
	Link     incident.LinkID      `json:"link"`
	System   string               `json:"system"`
	Ticket   string               `json:"ticket"`
	Status   ledger.SyncStatus    `json:"status"`
	Why      []string             `json:"why"`
	Delivery *incident.DeliveryID `json:"delivery,omitempty"` // the next one, or the one that stands in the way
	name     string
}

func (c syncExplainCmd) Run(e *env) error {
	if c.Last < 1 || c.Last > 500 {
		return fmt.Errorf("--last: %d is out of range; use 1 to 500", c.Last)
	}
	return e.operate(func(o *operator) error {
		i, only, err := o.find(c.What)
		if err != nil {
			return err
		}
		s, err := o.story(i, c.Last)
		if err != nil {
			return err
		}
		s.only = only
		return o.print(c.JSON, s, func() { o.tell(s) })
	})
}

// find says which incident a person means, and the delivery when one was named.
func (o *operator) find(what string) (incident.Incident, *ledger.Delivery, error) {
	none := incident.Incident{}
	var byNumber, byID []incident.Incident
	var links []ledger.Link
	var deliveries []ledger.Delivery
	all := o.viewer.Organisations
	systems, err := o.systemIDs()
	if err != nil {
		return none, nil, err
	}
	asked := []ledger.Question{ledger.IncidentsByNumber(all, what, &byNumber), ledger.LinksNamed(all, systems, what, &links)}
	kind, id := nodeid.Kind(""), uuid.UUID{}
	for _, k := range []nodeid.Kind{nodeid.Incident, nodeid.ExternalLink, nodeid.Delivery} {
		if u, err := named(k, what); err == nil {
			kind, id = k, u
			break
		}
	}
	if kind != "" { // a bare id may be of any kind
		var linked []ledger.Link
		asked = append(asked, ledger.IncidentsByID([]incident.ID{{UUID: id}}, &byID), ledger.LinksByID(all, []incident.LinkID{{UUID: id}}, &linked),
			ledger.DeliveriesByID(all, []incident.DeliveryID{{UUID: id}}, &deliveries))
		if err := o.read(asked...); err != nil {
			return none, nil, err
		}
		links = append(links, linked...)
	} else if err := o.read(asked...); err != nil {
		return none, nil, err
	}
	switch {
	case len(byNumber) > 0:
		return byNumber[0], nil, nil
	case len(byID) > 0:
		return byID[0], nil, nil
	case len(deliveries) > 0:
		i, err := o.incidentByID(deliveries[0].Incident)
		return i, &deliveries[0], err
	case len(links) > 1:
		return none, nil, fmt.Errorf("%d tickets are called %q; name the incident instead", len(links), what)
	case len(links) == 1:
		i, err := o.incidentByID(links[0].Incident)
		return i, nil, err
	}
	return none, nil, fmt.Errorf("there is no incident, link, delivery or ticket called %q; name an incident by its number, for example INC0000001", what)
}

func (o *operator) systemIDs() ([]incident.SystemID, error) {
	var all []ledger.ExternalSystem
	err := o.read(ledger.Systems(&all))
	ids := make([]incident.SystemID, len(all))
	for n, s := range all {
		ids[n] = s.ID
	}
	return ids, err
}

func (o *operator) incidentByID(id incident.ID) (incident.Incident, error) {
	var found []incident.Incident
	if err := o.read(ledger.IncidentsByID([]incident.ID{id}, &found)); err != nil {
		return incident.Incident{}, err
	}
	if len(found) == 0 {
		return incident.Incident{}, ledger.ErrNotFound
	}
	return found[0], nil
}

// story gathers what happened to an incident and where its tickets stand.
func (o *operator) story(i incident.Incident, last int) (*story, error) {
	key := ledger.IncidentKey{Organisation: i.Organisation, Incident: i.ID}
	var history map[incident.ID][]ledger.Entry
	var links map[incident.ID][]ledger.Link
	var health []ledger.Health
	questions := append(ledger.SystemsHealth(&health),
		ledger.HistoryOf([]ledger.IncidentKey{key}, ledger.LineFilter{}, ledger.Page[int64]{Rows: last}, &history), ledger.LinksOf([]ledger.IncidentKey{key}, &links))
	if err := o.read(questions...); err != nil {
		return nil, err
	}
	entries := history[i.ID]
	slices.Reverse(entries) // the oldest first
	s := &story{
		Incident: i.Number, Title: i.Title, State: incident.StateValue(i.State, i.HoldReason), Priority: string(i.Priority), lastVersion: i.Version,
		Entries: []storyEntry{}, Tickets: []storyTicket{},
	}
	where := func(l ledger.Link) explain.Where {
		h := healthOf(health, l.System)
		return explain.Where{System: h.Name, Ticket: l.Number, Paused: h.Paused}
	}
	if err := o.causes(s, entries, links[i.ID], where); err != nil {
		return nil, err
	}
	return s, o.tickets(s, key, links[i.ID], health, where)
}

func healthOf(all []ledger.Health, id incident.SystemID) ledger.Health {
	if n := slices.IndexFunc(all, func(h ledger.Health) bool { return h.System == id }); n >= 0 {
		return all[n]
	}
	return ledger.Health{}
}

// causes adds the entries with what set them off.
func (o *operator) causes(s *story, entries []ledger.Entry, links []ledger.Link, where func(ledger.Link) explain.Where) error {
	if len(entries) == 0 {
		return nil
	}
	var causes map[ledger.EntryKey]ledger.Entry
	var calls map[ledger.VersionKey]uuid.UUID
	if err := o.read(ledger.CausesOf(entries, &causes), ledger.CallsOf(entries, &calls)); err != nil {
		return err
	}
	var ids []uuid.UUID
	for _, id := range calls {
		ids = append(ids, id)
	}
	var rows []ledger.InboxRow
	if len(ids) > 0 {
		if err := o.read(ledger.InboxByID(ids, &rows)); err != nil {
			return err
		}
	}
	about := func(e ledger.Entry) explain.Where {
		if n := slices.IndexFunc(links, func(l ledger.Link) bool { return l.ID == e.Link }); n >= 0 {
			return where(links[n])
		}
		return explain.Where{}
	}
	for _, e := range entries {
		at := about(e)
		out := storyEntry{Version: e.Version, At: e.At, Kind: string(e.Kind), Text: explain.Entry(e, at), Because: []string{}, Rule: explain.Rule(e), Mapping: e.Mapping, Trace: e.TraceID}
		if first, ok := causes[e.EntryKey]; ok && !explain.Together(first, e) {
			out.Because = append(out.Because, fmt.Sprintf("of change %d: %s", first.Version, explain.Entry(first, about(first))))
		}
		if id, ok := calls[ledger.VersionKey{Incident: e.Incident, Version: e.Version}]; ok {
			if n := slices.IndexFunc(rows, func(r ledger.InboxRow) bool { return r.ID == id }); n >= 0 {
				out.Because = append(out.Because, "of what came in: "+explain.Call(rows[n], at))
			}
		}
		s.Entries = append(s.Entries, out)
	}
	return nil
}

// tickets adds where each link stands.
func (o *operator) tickets(s *story, of ledger.IncidentKey, links []ledger.Link, health []ledger.Health, where func(ledger.Link) explain.Where) error {
	if len(links) == 0 {
		return nil
	}
	var keys []ledger.LinkKey
	var ids []incident.LinkID
	for _, l := range links {
		keys, ids = append(keys, ledger.LinkKey{IncidentKey: of, Link: l.ID}), append(ids, l.ID)
	}
	var lanes []ledger.LaneState
	var heads map[incident.LinkID]ledger.Delivery
	if err := o.read(ledger.LanesOf([]incident.OrganisationID{of.Organisation}, ids, &lanes), ledger.HeadsOf(keys, &heads)); err != nil {
		return err
	}
	for _, l := range links {
		h := healthOf(health, l.System)
		st := explain.Standing{Link: l, System: h}
		if n := slices.IndexFunc(lanes, func(x ledger.LaneState) bool { return x.Link == l.ID }); n >= 0 {
			st.Lane = lanes[n]
		}
		out := storyTicket{Link: l.ID, System: h.Key, name: h.Name, Ticket: l.Number, Status: l.SyncStatus()}
		if head, waits := heads[l.ID]; waits {
			st.Head, out.Delivery = &head, &head.ID
		}
		out.Why = explain.Link(st, where(l), o.now())
		s.Tickets = append(s.Tickets, out)
	}
	return nil
}

// tell writes a story for people.
func (o *operator) tell(s *story) {
	o.say("%s “%s”: %s, priority %s.", s.Incident, s.Title, s.State, s.Priority)
	if s.only != nil {
		o.say("")
		o.say("Delivery %s carries change %d.", s.only.ID, s.only.Version)
		for _, t := range s.Tickets {
			if t.Link == s.only.Link {
				o.say("  %s", explain.Delivery(*s.only, explain.Where{System: t.name, Ticket: t.Ticket}))
			}
		}
	}
	o.say("")
	if n := len(s.Entries); int64(n) < s.lastVersion {
		o.say("The last %d of %d changes, the oldest first:", n, s.lastVersion)
	} else {
		o.say("What happened, the oldest first:")
	}
	for _, e := range s.Entries {
		o.say("%5d  %s  %s", e.Version, e.At.Format("2 Jan 2006 15:04:05"), e.Text)
		for _, b := range e.Because {
			o.say("       because %s", b)
		}
		if by := described(e); by != "" {
			o.say("       %s", by)
		}
	}
	for _, t := range s.Tickets {
		o.say("")
		name := t.name
		if t.Ticket != "" {
			name += ", ticket " + t.Ticket
		}
		o.say("%s: %s.", name, statusText(t.Status))
		for _, why := range t.Why {
			o.say("  %s", why)
		}
		if t.Delivery != nil && t.Status == ledger.Stopped {
			o.say("  The delivery is %s.", t.Delivery)
		}
	}
	if len(s.Tickets) == 0 {
		o.say("")
		o.say("It has no ticket in any system.")
	}
}

// described is an entry's rule, mapping and trace on one line.
func described(e storyEntry) string {
	var parts []string
	if e.Mapping != "" {
		parts = append(parts, "mapping "+e.Mapping)
	}
	if e.Trace != "" {
		parts = append(parts, "trace "+e.Trace)
	}
	return strings.Join(parts, ", ")
}

// statusText is a link's status for people.
func statusText(s ledger.SyncStatus) string {
	switch s {
	case ledger.Opening:
		return "to be opened"
	case ledger.NotOpened:
		return "no ticket"
	case ledger.InStep:
		return "in step"
	case ledger.Sending:
		return "something is on its way"
	case ledger.Unsettled:
		return "an answer was lost and is being asked after"
	case ledger.Stopped:
		return "stopped, a person has to decide"
	case ledger.TicketLost:
		return "no longer followed"
	}
	return strings.ToLower(string(s))
}

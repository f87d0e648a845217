package model

import (
	"time"

	"liaison/graph/load"
	"liaison/graph/nodeid"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// Node is anything that has an id.
type Node interface{ IsNode() }

// optional shows the domain's "nobody has said" as null.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Incident is an incident as the schema shows it.
type Incident struct {
	incident.Incident
	Peers *load.Peers
}

// Incidents shows incidents that were read together.
func Incidents(s *load.Set, in []incident.Incident) []*Incident {
	peers, out := s.Incidents(in...), make([]*Incident, len(in))
	for n, i := range in {
		out[n] = &Incident{Incident: i, Peers: peers}
	}
	return out
}

func (*Incident) IsNode() {}

func (i *Incident) ID() string                   { return nodeid.Of(nodeid.Incident, i.Incident.ID.UUID) }
func (i *Incident) DeferredUntil() time.Time     { return i.DeferredTo }
func (i *Incident) Category() *string            { return optional(i.Incident.Category) }
func (i *Incident) Service() *string             { return optional(i.Incident.Service) }
func (i *Incident) Team() *string                { return optional(i.Incident.Team) }
func (i *Incident) Assignee() *string            { return optional(i.Incident.Assignee) }
func (i *Incident) Resolution() *string          { return optional(i.Incident.Resolution) }
func (i *Incident) Reference() *string           { return optional(i.Incident.Reference) }
func (i *Incident) Contact() *Contact            { return &Contact{i.Incident.Contact} }
func (i *Incident) NextStates() []incident.State { return incident.NextStates(i.State) }

// Contact is whom the desk calls back, as the schema shows it.
type Contact struct{ contact incident.Contact }

func (c *Contact) Name() *string  { return optional(c.contact.Name) }
func (c *Contact) Phone() *string { return optional(c.contact.Phone) }
func (c *Contact) Email() *string { return optional(c.contact.Email) }

// Comment is a comment as the schema shows it.
type Comment struct {
	ledger.Comment
	Peers *load.Peers
}

func (*Comment) IsNode() {}

func (c *Comment) ID() string { return nodeid.Of(nodeid.Comment, c.Comment.ID.UUID) }

// Organisation is an organisation as the schema shows it.
type Organisation struct{ ledger.Organisation }

func (*Organisation) IsNode() {}

func (o *Organisation) ID() string           { return nodeid.OfNumber(nodeid.Organisation, o.Organisation.ID) }
func (o *Organisation) Desk() *Desk          { return &Desk{o.Organisation.Desk} }
func (o *Organisation) Categories() []string { return incident.DefaultCategories() }

// Desk is a support provider as the schema shows it.
type Desk struct{ ledger.Desk }

func (*Desk) IsNode() {}

func (d *Desk) ID() string { return nodeid.OfNumber(nodeid.Desk, d.Desk.ID) }

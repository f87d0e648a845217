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

// IsNode marks what has an id.
func (*Incident) IsNode() {}

// ID is the opaque id.
func (i *Incident) ID() string { return nodeid.Of(nodeid.Incident, i.Incident.ID.UUID) }

// DeferredUntil is the zero time unless the customer asked to wait.
func (i *Incident) DeferredUntil() time.Time { return i.DeferredTo }

// Category is nil until somebody says.
func (i *Incident) Category() *string { return optional(i.Incident.Category) }

// Service is nil until somebody says.
func (i *Incident) Service() *string { return optional(i.Incident.Service) }

// Team is nil before assignment.
func (i *Incident) Team() *string { return optional(i.Incident.Team) }

// Assignee is nil while nobody is named.
func (i *Incident) Assignee() *string { return optional(i.Incident.Assignee) }

// Resolution is nil before the first one.
func (i *Incident) Resolution() *string { return optional(i.Incident.Resolution) }

// Reference is nil when none was given.
func (i *Incident) Reference() *string { return optional(i.Incident.Reference) }

// Contact is whom the desk calls back.
func (i *Incident) Contact() *Contact { return &Contact{i.Incident.Contact} }

// NextStates lists where a person may move it to.
func (i *Incident) NextStates() []incident.State { return incident.NextStates(i.State) }

// Contact is whom the desk calls back, as the schema shows it.
type Contact struct{ contact incident.Contact }

// Name is nil when none was given.
func (c *Contact) Name() *string { return optional(c.contact.Name) }

// Phone is nil when none was given.
func (c *Contact) Phone() *string { return optional(c.contact.Phone) }

// Email is nil when none was given.
func (c *Contact) Email() *string { return optional(c.contact.Email) }

// Comment is a comment as the schema shows it.
type Comment struct {
	ledger.Comment
	Peers *load.Peers
}

// IsNode marks what has an id.
func (*Comment) IsNode() {}

// ID is the opaque id.
func (c *Comment) ID() string { return nodeid.Of(nodeid.Comment, c.Comment.ID.UUID) }

// Organisation is an organisation as the schema shows it.
type Organisation struct{ ledger.Organisation }

// IsNode marks what has an id.
func (*Organisation) IsNode() {}

// ID is the opaque id.
func (o *Organisation) ID() string { return nodeid.OfNumber(nodeid.Organisation, o.Organisation.ID) }

// Desk is who serves, or owns, it.
func (o *Organisation) Desk() *Desk { return &Desk{o.Organisation.Desk} }

// Categories are those that incidents can have.
func (o *Organisation) Categories() []string { return incident.DefaultCategories() }

// Desk is a support provider as the schema shows it.
type Desk struct{ ledger.Desk }

// IsNode marks what has an id.
func (*Desk) IsNode() {}

// ID is the opaque id.
func (d *Desk) ID() string { return nodeid.OfNumber(nodeid.Desk, d.Desk.ID) }

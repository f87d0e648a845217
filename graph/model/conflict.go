package model

import (
	"time"

	"liaison/graph/load"
	"liaison/graph/nodeid"
	"liaison/sync/ledger"
	"liaison/sync/merge"
)

// Conflict is a conflict as the schema shows it.
type Conflict struct {
	ledger.Conflict
	Peers *load.Peers
}

// IsNode marks what has an id.
func (*Conflict) IsNode() {}

// ID is the opaque id.
func (c *Conflict) ID() string { return nodeid.Of(nodeid.Conflict, c.Conflict.ID.UUID) }

// Field is the field's name.
func (c *Conflict) Field() string { return string(c.Conflict.Field) }

// Base is nil when it was empty, as are the others.
func (c *Conflict) Base() *string { return optional(c.Conflict.Base) }

// Hub is the hub's value.
func (c *Conflict) Hub() *string { return optional(c.Conflict.Hub) }

// Vendor is the vendor's value.
func (c *Conflict) Vendor() *string { return optional(c.Conflict.Vendor) }

// Policy is how such conflicts are decided.
func (c *Conflict) Policy() string { return string(c.Conflict.Policy) }

// Winner is nil while a person has yet to decide.
func (c *Conflict) Winner() *merge.Owner {
	if c.Conflict.Winner == "" {
		return nil
	}
	return &c.Conflict.Winner
}

// Open reports whether it waits for a person.
func (c *Conflict) Open() bool { return c.Conflict.Open() }

// ResolvedAt is nil while nobody has decided.
func (c *Conflict) ResolvedAt() *time.Time { return moment(c.Conflict.ResolvedAt) }

// ResolvedBy is nil when nobody has decided.
func (c *Conflict) ResolvedBy() *string { return optional(c.Conflict.ResolvedBy) }

// ConflictConnection is a page of conflicts.
type ConflictConnection struct {
	Edges    []*ConflictEdge
	PageInfo *PageInfo
}

// ConflictEdge is a conflict on a page.
type ConflictEdge struct {
	Node *Conflict
	Seal func() string
}

// Cursor is the sealed place of the edge.
func (e *ConflictEdge) Cursor() string { return e.Seal() }

// Nodes lists the page without its cursors.
func (c *ConflictConnection) Nodes() []*Conflict {
	return nodes(c.Edges, func(e *ConflictEdge) *Conflict { return e.Node })
}

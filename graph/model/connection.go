package model

import "liaison/sync/ledger"

// PageInfo says where a page stands. Cursors are sealed when they are asked for.
type PageInfo struct {
	HasNextPage     bool
	HasPreviousPage bool
	Start, End      func() string // nil on an empty page
}

// StartCursor is nil on an empty page.
func (p *PageInfo) StartCursor() *string { return called(p.Start) }

// EndCursor is nil on an empty page.
func (p *PageInfo) EndCursor() *string { return called(p.End) }

func called(f func() string) *string {
	if f == nil {
		return nil
	}
	s := f()
	return &s
}

// IncidentConnection is a page of incidents.
type IncidentConnection struct {
	Edges      []*IncidentEdge
	PageInfo   *PageInfo
	FeedCursor string
	Filter     ledger.IncidentFilter // what totalCount counts
}

// IncidentEdge is an incident on a page.
type IncidentEdge struct {
	Node *Incident
	Seal func() string
}

// Cursor is the sealed place of the edge.
func (e *IncidentEdge) Cursor() string { return e.Seal() }

// Nodes lists the page without its cursors.
func (c *IncidentConnection) Nodes() []*Incident {
	return nodes(c.Edges, func(e *IncidentEdge) *Incident { return e.Node })
}

// CommentConnection is a page of an incident's comments.
type CommentConnection struct {
	Edges    []*CommentEdge
	PageInfo *PageInfo
	Of       *Incident
}

// CommentEdge is a comment on a page.
type CommentEdge struct {
	Node *Comment
	Seal func() string
}

// Cursor is the sealed place of the edge.
func (e *CommentEdge) Cursor() string { return e.Seal() }

// Nodes lists the page without its cursors.
func (c *CommentConnection) Nodes() []*Comment {
	return nodes(c.Edges, func(e *CommentEdge) *Comment { return e.Node })
}

// LedgerEntryConnection is a page of entries.
type LedgerEntryConnection struct {
	Edges    []*LedgerEntryEdge
	PageInfo *PageInfo
}

// LedgerEntryEdge is an entry on a page.
type LedgerEntryEdge struct {
	Node *LedgerEntry
	Seal func() string
}

// Cursor is the sealed place of the edge.
func (e *LedgerEntryEdge) Cursor() string { return e.Seal() }

// Nodes lists the page without its cursors.
func (c *LedgerEntryConnection) Nodes() []*LedgerEntry {
	return nodes(c.Edges, func(e *LedgerEntryEdge) *LedgerEntry { return e.Node })
}

// DeliveryConnection is a page of deliveries.
type DeliveryConnection struct {
	Edges    []*DeliveryEdge
	PageInfo *PageInfo
}

// DeliveryEdge is a delivery on a page.
type DeliveryEdge struct {
	Node *Delivery
	Seal func() string
}

// Cursor is the sealed place of the edge.
func (e *DeliveryEdge) Cursor() string { return e.Seal() }

// Nodes lists the page without its cursors.
func (c *DeliveryConnection) Nodes() []*Delivery {
	return nodes(c.Edges, func(e *DeliveryEdge) *Delivery { return e.Node })
}

func nodes[E, N any](edges []E, node func(E) N) []N {
	out := make([]N, len(edges))
	for n, e := range edges {
		out[n] = node(e)
	}
	return out
}

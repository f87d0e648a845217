package model

import (
	"strings"
	"time"

	"liaison/graph/load"
	"liaison/graph/nodeid"
	"liaison/internal/auth"
	"liaison/sync/explain"
	"liaison/sync/ledger"
)

// InboxItem is a row of the inbox as the schema shows it.
type InboxItem struct {
	ledger.InboxRow
	Peers *load.Peers
}

// InboxItems shows rows that were read together.
func InboxItems(s *load.Set, rows []ledger.InboxRow) []*InboxItem {
	peers := s.Inbox(rows...)
	out := make([]*InboxItem, len(rows))
	for n, r := range rows {
		out[n] = &InboxItem{InboxRow: r, Peers: peers}
	}
	return out
}

// IsNode marks what has an id.
func (*InboxItem) IsNode() {}

// ID is the opaque id.
func (i *InboxItem) ID() string { return nodeid.Of(nodeid.InboxItem, i.InboxRow.ID) }

// Reason is nil when there is nothing to say.
func (i *InboxItem) Reason() *string { return optional(i.InboxRow.Reason) }

// ExternalID is nil when it names none.
func (i *InboxItem) ExternalID() *string { return optional(i.InboxRow.ExternalID) }

// ExternalNumber is nil when it names none.
func (i *InboxItem) ExternalNumber() *string { return optional(i.Number) }

// CallID is nil where the vendor sends none.
func (i *InboxItem) CallID() *string { return optional(i.InboxRow.CallID) }

// Body is nil for all but administrators.
func (i *InboxItem) Body() *string {
	if !i.Peers.Set().Viewer().Has(auth.Admin) {
		return nil
	}
	return optional(explain.Redacted(string(i.InboxRow.Body)))
}

// ContentType is nil when there is no body.
func (i *InboxItem) ContentType() *string { return optional(i.InboxRow.ContentType) }

// DuplicateOf is nil when it repeats none.
func (i *InboxItem) DuplicateOf() *string {
	if i.InboxRow.DuplicateOf == [16]byte{} {
		return nil
	}
	id := nodeid.Of(nodeid.InboxItem, i.InboxRow.DuplicateOf)
	return &id
}

// DueAt is nil unless it waits.
func (i *InboxItem) DueAt() *time.Time {
	if i.State != ledger.InboxWaiting {
		return nil
	}
	return moment(i.InboxRow.DueAt)
}

// TraceID is nil when none was kept.
func (i *InboxItem) TraceID() *string { return optional(traceID(i.Trace)) }

// traceID is the trace that a traceparent names.
func traceID(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(parts) != 4 {
		return ""
	}
	return parts[1]
}

// InboxConnection is a page of the inbox.
type InboxConnection struct {
	Edges    []*InboxEdge
	PageInfo *PageInfo
}

// InboxEdge is an item on a page.
type InboxEdge struct {
	Node *InboxItem
	Seal func() string
}

// Cursor is the sealed place of the edge.
func (e *InboxEdge) Cursor() string { return e.Seal() }

// Nodes lists the page without its cursors.
func (c *InboxConnection) Nodes() []*InboxItem {
	return nodes(c.Edges, func(e *InboxEdge) *InboxItem { return e.Node })
}

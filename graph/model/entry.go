package model

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"liaison/graph/load"
	"liaison/graph/nodeid"
	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// LedgerEntry is a line of the ledger as the schema shows it.
type LedgerEntry struct {
	ledger.Entry
	Peers *load.Peers
}

// IsNode marks what has an id.
func (*LedgerEntry) IsNode() {}

// ID is the opaque id.
func (e *LedgerEntry) ID() string { return nodeid.OfEntry(e.EntryKey) }

// Actor is who made the change.
func (e *LedgerEntry) Actor() *Actor {
	return &Actor{Kind: e.Entry.Actor.Kind, Name: e.Entry.Actor.Name}
}

// TraceID is nil for all but staff.
func (e *LedgerEntry) TraceID() *string {
	if !e.Peers.Set().Viewer().Staff() {
		return nil
	}
	return optional(e.Entry.TraceID)
}

// Changes lists what changed in the order in which changes are told.
func (e *LedgerEntry) Changes() []*FieldChange {
	out := make([]*FieldChange, 0, len(e.Entry.Changes))
	for _, f := range incident.Fields() {
		if c, ok := e.Entry.Changes[f]; ok {
			out = append(out, &FieldChange{Field: string(f), Before: optional(c[0]), After: optional(c[1])})
		}
	}
	return out
}

// Detail lists what else the entry tells, by name.
func (e *LedgerEntry) Detail() []*EntryDetail {
	if !e.Peers.Set().Viewer().Staff() {
		return nil
	}
	var parts map[string]json.RawMessage
	if json.Unmarshal(e.Entry.Detail, &parts) != nil {
		return []*EntryDetail{}
	}
	out := make([]*EntryDetail, 0, len(parts))
	for name, raw := range parts {
		value := string(bytes.TrimSpace(raw))
		var text string
		if json.Unmarshal(raw, &text) == nil {
			value = text
		}
		out = append(out, &EntryDetail{Name: name, Value: value})
	}
	slices.SortFunc(out, func(a, b *EntryDetail) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// IncidentChange is an event as the schema shows it.
type IncidentChange struct {
	Cursor   string
	Kind     IncidentChangeKind
	Entry    *LedgerEntry // nil when removed
	Incident *Incident    // nil when it may no longer be seen
	Of       incident.ID
}

// IncidentID is the opaque id of the incident that changed.
func (c *IncidentChange) IncidentID() string { return nodeid.Of(nodeid.Incident, c.Of.UUID) }

// Viewer is who asks, as the schema shows it.
type Viewer struct {
	auth.Viewer
	Set *load.Set
}

// Email is nil when none was given.
func (v *Viewer) Email() *string { return optional(v.Viewer.Email) }

// Phone is nil when none was given.
func (v *Viewer) Phone() *string { return optional(v.Viewer.Phone) }

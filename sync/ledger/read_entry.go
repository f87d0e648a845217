package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

// Line is an entry with its place in the whole ledger. Places are handed out before commit: a list by them can
// gain a line in its middle, so whoever must miss nothing follows the feed.
type Line struct {
	Entry
	Place int64
}

// LineFilter says which lines of the ledger. The zero value of each part asks nothing.
type LineFilter struct {
	Kinds        []Kind
	Systems      []incident.SystemID // from or about a ticket in one of these
	Actors       []ActorKind
	Since, Until time.Time // made at or after Since and before Until
}

// until is the end of the filter's time.
func (f LineFilter) until() time.Time {
	if f.Until.IsZero() {
		return lastPlace.At
	}
	return f.Until
}

// HistoryOf asks for the same page of entries of each of many incidents, in the page's order. Places are versions.
func HistoryOf(keys []IncidentKey, f LineFilter, page Page[int64], answer *map[incident.ID][]Entry) Question {
	above, below := numberBounds(page)
	p := db.HistoryNewestParams{
		Above: above, Below: below, Kinds: texts(f.Kinds), Systems: numbers(f.Systems), Actors: texts(f.Actors), Since: f.Since, Until: f.until(), MaxRows: int32(page.Rows),
	}
	p.Organisations, p.Incidents = columns(keys)
	ask := (*db.Queries).HistoryNewest
	if page.Oldest {
		ask = func(q *db.Queries, ctx context.Context, p db.HistoryNewestParams) ([]db.LedgerEntry, error) {
			return q.HistoryOldest(ctx, db.HistoryOldestParams(p))
		}
	}
	return many(ask, p, lineOf, func(lines []Line) {
		found := make(map[incident.ID][]Entry, len(keys))
		for _, l := range lines {
			found[l.Incident] = append(found[l.Incident], l.Entry)
		}
		*answer = found
	})
}

// Lines asks for a page of the whole ledger of some organisations; none finds none.
func Lines(organisations []incident.OrganisationID, f LineFilter, page Page[int64], answer *[]Line) Question {
	above, below := numberBounds(page)
	p := db.EntriesNewestParams{
		Organisations: numbers(organisations), Above: above, Below: below, Kinds: texts(f.Kinds), Systems: numbers(f.Systems), Actors: texts(f.Actors),
		Since: f.Since, Until: f.until(), MaxRows: int32(page.Rows),
	}
	ask := (*db.Queries).EntriesNewest
	if page.Oldest {
		ask = func(q *db.Queries, ctx context.Context, p db.EntriesNewestParams) ([]db.LedgerEntry, error) {
			return q.EntriesOldest(ctx, db.EntriesOldestParams(p))
		}
	}
	return many(ask, p, lineOf, func(found []Line) { *answer = found })
}

// VersionKey names an entry where the organisation is not known.
type VersionKey struct {
	Incident incident.ID
	Version  int64
}

// EntriesByKey asks for entries by incident and version, in no particular order.
func EntriesByKey(keys []VersionKey, answer *[]Entry) Question {
	var p db.EntriesByKeyParams
	for _, k := range keys {
		p.Incidents, p.Versions = append(p.Incidents, k.Incident.UUID), append(p.Versions, k.Version)
	}
	return many((*db.Queries).EntriesByKey, p, entryOf, func(found []Entry) { *answer = found })
}

func lineOf(r db.LedgerEntry) (Line, error) {
	e, err := entryOf(r)
	return Line{Entry: e, Place: r.ID}, err
}

func entryOf(r db.LedgerEntry) (Entry, error) {
	k := keyOf(r.OrganisationID, r.IncidentID)
	e := Entry{
		EntryKey: EntryKey{Organisation: k.Organisation, Incident: k.Incident, Version: r.Version}, Kind: Kind(r.Kind),
		Visibility: incident.Visibility(r.Visibility), Actor: Actor{Kind: ActorKind(r.ActorKind), Name: r.Actor},
		Link: incident.LinkID{UUID: r.LinkID.UUID}, Comment: incident.CommentID{UUID: r.CommentID.UUID},
		Detail: r.Detail, At: r.At.UTC(), TraceID: r.TraceID, Mapping: r.Mapping,
	}
	if err := json.Unmarshal(r.Changes, &e.Changes); err != nil {
		return e, fmt.Errorf("reading the changes of entry %s/%d: %w", r.IncidentID, r.Version, err)
	}
	return e, nil
}

package ledger

import (
	"time"

	"github.com/google/uuid"

	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

// CausesOf asks, for each of the entries, for the first entry on the same incident in the same trace; those that are the
// first themselves, or in no trace, are left out of the answer.
func CausesOf(entries []Entry, answer *map[EntryKey]Entry) Question {
	var p db.CausesOfParams
	for _, e := range entries {
		p.Organisations, p.Incidents = append(p.Organisations, int64(e.Organisation)), append(p.Incidents, e.Incident.UUID)
		p.Versions, p.Traces = append(p.Versions, e.Version), append(p.Traces, e.TraceID)
	}
	type cause struct {
		of    EntryKey
		entry Entry
	}
	each := func(r db.CausesOfRow) (cause, error) {
		e, err := entryOf(r.LedgerEntry)
		return cause{EntryKey{Organisation: e.Organisation, Incident: e.Incident, Version: r.OfVersion}, e}, err
	}
	return many((*db.Queries).CausesOf, p, each, func(causes []cause) {
		found := make(map[EntryKey]Entry, len(causes))
		for _, c := range causes {
			found[c.of] = c.entry
		}
		*answer = found
	})
}

// CallsOf asks, for each of the entries that are about a link, for what came in and set it off: the row of the inbox in the
// same trace. Those without one are left out of the answer.
func CallsOf(entries []Entry, answer *map[VersionKey]uuid.UUID) Question {
	var p db.CallsOfParams
	for _, e := range entries {
		if e.Link == (incident.LinkID{}) || e.TraceID == "" {
			continue
		}
		p.Organisations, p.Incidents, p.Versions = append(p.Organisations, int64(e.Organisation)), append(p.Incidents, e.Incident.UUID), append(p.Versions, e.Version)
		p.Links, p.Traces, p.Ats = append(p.Links, e.Link.UUID), append(p.Traces, e.TraceID), append(p.Ats, e.At)
	}
	each := func(r db.CallsOfRow) (db.CallsOfRow, error) { return r, nil }
	return many((*db.Queries).CallsOf, p, each, func(calls []db.CallsOfRow) {
		found := make(map[VersionKey]uuid.UUID, len(calls))
		for _, c := range calls {
			found[VersionKey{Incident: incident.ID{UUID: c.OfIncident}, Version: c.OfVersion}] = c.ID
		}
		*answer = found
	})
}

// LaneState is how a link's lane stands, to be explained.
type LaneState struct {
	Link    incident.LinkID
	DueAt   time.Time // when it has its next turn; zero when nothing waits, or a dead letter holds it
	Trouble State     // of its head: StateDead or StateUnknown, empty when all is well
	Done    int64     // every version up to this one is settled
	Since   time.Time // when the call was begun that is under way or whose answer was lost, otherwise zero
	Taken   bool      // somebody exchanges on it right now
}

// LanesOf asks how the lanes of some links stand, in no particular order.
func LanesOf(organisations []incident.OrganisationID, links []incident.LinkID, answer *[]LaneState) Question {
	p := db.LanesOfParams{Organisations: numbers(organisations)}
	for _, l := range links {
		p.Links = append(p.Links, l.UUID)
	}
	each := func(r db.LanesOfRow) (LaneState, error) {
		return LaneState{
			Link: incident.LinkID{UUID: r.LinkID}, DueAt: timeOf(r.DueAt), Trouble: State(r.Trouble), Done: r.DoneVersion, Since: timeOf(r.SendingSince), Taken: r.Taken,
		}, nil
	}
	return many((*db.Queries).LanesOf, p, each, func(found []LaneState) { *answer = found })
}

// LinksNamed asks for the links whose ticket has a number, or an id at the vendor, among organisations and systems.
func LinksNamed(organisations []incident.OrganisationID, systems []incident.SystemID, name string, answer *[]Link) Question {
	p := db.LinksByNameParams{Organisations: numbers(organisations), Systems: numbers(systems), Name: name}
	each := func(r db.LinksByNameRow) (Link, error) { return summarised(r.ExternalLink, r.Waiting, r.Head, false) }
	return many((*db.Queries).LinksByName, p, each, func(found []Link) { *answer = found })
}

// HeadsOf asks for the next delivery of each of some links; those with nothing to send are left out of the answer.
func HeadsOf(links []LinkKey, answer *map[incident.LinkID]Delivery) Question {
	var p db.HeadsOfParams
	for _, k := range links {
		p.Organisations, p.Links = append(p.Organisations, int64(k.Organisation)), append(p.Links, k.Link.UUID)
	}
	return many((*db.Queries).HeadsOf, p, deliveryOf, func(heads []Delivery) {
		found := make(map[incident.LinkID]Delivery, len(heads))
		for _, d := range heads {
			found[d.Link] = d
		}
		*answer = found
	})
}

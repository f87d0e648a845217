package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger/internal/db"
)

// Fault is something that the ledger's rows do not agree upon.
type Fault struct {
	Organisation incident.OrganisationID `json:"organisation"`
	Incident     incident.ID             `json:"incident"`
	Number       string                  `json:"number"`
	Version      int64                   `json:"version,omitempty"` // of the entry at fault, 0 when it is none
	Problem      string                  `json:"problem"`
}

// Verified is what a verification looked at and found.
type Verified struct {
	Incidents   int     `json:"incidents"`
	Entries     int     `json:"entries"`
	Checkpoints int     `json:"checkpoints"`
	Faults      []Fault `json:"faults"`
}

// verifyPage is how many incidents are read at a time.
const verifyPage = 500

// Verify builds every incident's state anew from its entries and compares it with the state that is stored: each entry
// must begin where the one before it ended, versions must have no gap, checkpoints must hold what the entries before them
// came to, comments and their entries must name each other, and lanes must agree with their deliveries. number, if not
// empty, names one incident. Nothing is changed, and writers are not held up.
func Verify(ctx context.Context, d *postgres.DB, number string) (Verified, error) {
	out := Verified{Faults: []Fault{}}
	p := db.VerifyIncidentsParams{MaxRows: verifyPage}
	if number != "" {
		p.Number = &number
	}
	for {
		var last db.Incident
		err := d.SystemTx(ctx, func(tx pgx.Tx) error {
			q := db.New(tx)
			rows, err := q.VerifyIncidents(ctx, p)
			if err != nil || len(rows) == 0 {
				last = db.Incident{}
				return err
			}
			last = rows[len(rows)-1]
			return verifyIncidents(ctx, q, rows, &out)
		}, postgres.Isolation(pgx.RepeatableRead), postgres.ReadOnly())
		switch {
		case err != nil:
			return out, fmt.Errorf("verifying the ledger: %w", err)
		case last.ID == uuid.Nil && number != "" && out.Incidents == 0:
			return out, ErrNotFound
		case last.ID == uuid.Nil:
			return out, nil
		}
		p.AfterOrganisation, p.AfterID = last.OrganisationID, last.ID
	}
}

func verifyIncidents(ctx context.Context, q *db.Queries, rows []db.Incident, out *Verified) error {
	keys := make([]IncidentKey, len(rows))
	for n, r := range rows {
		keys[n] = keyOf(r.OrganisationID, r.ID)
	}
	organisations, incidents := columns(keys)
	entries, err := q.VerifyEntries(ctx, db.VerifyEntriesParams{Organisations: organisations, Incidents: incidents})
	if err != nil {
		return fmt.Errorf("reading entries: %w", err)
	}
	comments, err := q.VerifyComments(ctx, db.VerifyCommentsParams{Organisations: organisations, Incidents: incidents})
	if err != nil {
		return fmt.Errorf("reading comments: %w", err)
	}
	lanes, err := q.VerifyLanes(ctx, db.VerifyLanesParams{Organisations: organisations, Incidents: incidents})
	if err != nil {
		return fmt.Errorf("reading lanes: %w", err)
	}
	history, said := map[uuid.UUID][]db.VerifyEntriesRow{}, map[uuid.UUID]map[uuid.UUID]bool{}
	for _, e := range entries {
		history[e.IncidentID] = append(history[e.IncidentID], e)
	}
	for _, c := range comments {
		if said[c.IncidentID] == nil {
			said[c.IncidentID] = map[uuid.UUID]bool{}
		}
		said[c.IncidentID][c.ID] = true
	}
	for _, r := range rows {
		v := verification{out: out, row: r, state: incident.Values{}, comments: said[r.ID]}
		if err := v.run(history[r.ID]); err != nil {
			return err
		}
		out.Incidents, out.Entries = out.Incidents+1, out.Entries+len(history[r.ID])
		for _, l := range lanes {
			if l.IncidentID == r.ID {
				v.fault(l.Version, fmt.Sprintf("link %s counts everything up to version %d as settled, but the delivery of version %d is %s", l.LinkID, l.DoneVersion, l.Version, l.State))
			}
		}
	}
	return nil
}

// verification builds one incident anew.
type verification struct {
	out      *Verified
	row      db.Incident
	state    incident.Values
	whole    bool // state has every field: the beginning or a checkpoint was seen
	comments map[uuid.UUID]bool
}

func (v *verification) fault(version int64, problem string) {
	v.out.Faults = append(v.out.Faults, Fault{
		Organisation: incident.OrganisationID(v.row.OrganisationID), Incident: incident.ID{UUID: v.row.ID}, Number: v.row.Number, Version: version, Problem: problem,
	})
}

func (v *verification) run(entries []db.VerifyEntriesRow) error {
	next := int64(1)
	for n, e := range entries {
		if n == 0 && Kind(e.Kind) == Checkpointed && v.row.ArchivedVersion > 0 {
			next = e.Version // what came before it was dropped from the archive by age
		}
		if e.Version != next {
			v.fault(e.Version, fmt.Sprintf("the entry before it has version %d: entries are missing", next-1))
		}
		next = e.Version + 1
		if err := v.entry(e); err != nil {
			return err
		}
	}
	if next != v.row.Version+1 {
		v.fault(0, fmt.Sprintf("the incident is at version %d, its last entry has %d", v.row.Version, next-1))
	}
	for id := range v.comments {
		if v.row.ArchivedVersion == 0 {
			v.fault(0, fmt.Sprintf("comment %s has no entry", id))
		}
	}
	is := incidentOf(v.row).Values()
	for _, f := range incident.Fields() {
		if v.whole && is[f] != v.state[f] {
			v.fault(0, fmt.Sprintf("%s is %q, its entries come to %q", f, is[f], v.state[f]))
		}
	}
	return nil
}

func (v *verification) entry(e db.VerifyEntriesRow) error {
	if Kind(e.Kind) == Checkpointed {
		return v.checkpoint(e)
	}
	var changes Changes
	if err := json.Unmarshal(e.Changes, &changes); err != nil {
		return fmt.Errorf("reading the changes of entry %s/%d: %w", e.IncidentID, e.Version, err)
	}
	for _, f := range slices.Sorted(maps.Keys(changes)) {
		if c := changes[f]; c[0] != v.state[f] {
			v.fault(e.Version, fmt.Sprintf("it changes %s from %q, which was %q then", f, c[0], v.state[f]))
		}
		v.state[f] = changes[f][1]
	}
	v.whole = v.whole || Kind(e.Kind) == Reported
	if id := e.CommentID; id.Valid {
		if !v.comments[id.UUID] {
			v.fault(e.Version, fmt.Sprintf("its comment %s is missing", id.UUID))
		}
		delete(v.comments, id.UUID)
	}
	return nil
}

// checkpoint is what a CHECKPOINT entry's detail holds.
type checkpoint struct {
	Values  incident.Values `json:"values"`
	Entries int64           `json:"entries"` // how many came before it
}

func (v *verification) checkpoint(e db.VerifyEntriesRow) error {
	v.out.Checkpoints++
	var c checkpoint
	if err := json.Unmarshal(e.Detail, &c); err != nil {
		return fmt.Errorf("reading the checkpoint %s/%d: %w", e.IncidentID, e.Version, err)
	}
	if v.whole {
		for _, f := range incident.Fields() {
			if c.Values[f] != v.state[f] {
				v.fault(e.Version, fmt.Sprintf("the checkpoint says %s was %q, the entries before it come to %q", f, c.Values[f], v.state[f]))
			}
		}
	}
	v.state, v.whole = c.Values.Clone(), true
	return nil
}

package ledger

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

// IncidentFilter says which incidents. The zero value of each part asks nothing, except that Organisations
// names where to look: none finds none.
type IncidentFilter struct {
	Organisations []incident.OrganisationID
	Open          bool // only those neither closed nor cancelled
	States        []incident.State
	Priorities    []incident.Priority
	Category      *string
	Team          *string
	Assignee      *string
}

// open reports whether only open incidents can match, so that the index of open ones serves.
func (f IncidentFilter) open() bool {
	return f.Open || (len(f.States) > 0 && !slices.ContainsFunc(f.States, incident.State.Final))
}

// IncidentOrder is the time by which incidents are listed.
type IncidentOrder int

// The orders.
const (
	ByOpened IncidentOrder = iota
	ByUpdated
)

// Place is where the incident stands in the order.
func (o IncidentOrder) Place(i incident.Incident) Place {
	if o == ByUpdated {
		return Place{At: i.UpdatedAt, ID: i.ID.UUID}
	}
	return Place{At: i.OpenedAt, ID: i.ID.UUID}
}

// Incidents asks for a page of incidents.
func Incidents(f IncidentFilter, by IncidentOrder, page Page[Place], answer *[]incident.Incident) Question {
	above, below := bounds(page)
	p := db.IncidentsNewestParams{
		Organisations: numbers(f.Organisations), BelowAt: below.At, BelowID: below.ID, AboveAt: above.At, AboveID: above.ID,
		States: texts(f.States), Priorities: texts(f.Priorities), Category: f.Category, Team: f.Team, Assignee: f.Assignee, MaxRows: int32(page.Rows),
	}
	if f.Open && len(f.States) == 0 && by == ByUpdated {
		p.States = texts(slices.DeleteFunc(incident.States(), incident.State.Final))
	} else if f.Open {
		p.States = texts(slices.DeleteFunc(slices.Clone(f.States), incident.State.Final))
		if len(f.States) > 0 && len(p.States) == 0 {
			p.States = []string{""} // open and closed at once: nothing is
		}
	}
	ask := incidentLists[incidentList{by, f.open() && by == ByOpened, page.Oldest}]
	return Question{func(ctx context.Context, q *db.Queries) error {
		rows, err := ask(q, ctx, p)
		*answer = incidentsOf(rows)
		return err
	}}
}

type incidentList struct {
	by     IncidentOrder
	open   bool
	oldest bool
}

// incidentLists names the statement for each kind of list. Each has its order and its state predicate in its
// text, because that is what lets the planner take the index that is sorted the same way.
var incidentLists = map[incidentList]func(*db.Queries, context.Context, db.IncidentsNewestParams) ([]db.Incident, error){
	{ByOpened, true, false}: func(q *db.Queries, ctx context.Context, p db.IncidentsNewestParams) ([]db.Incident, error) {
		return q.OpenIncidentsNewest(ctx, db.OpenIncidentsNewestParams(p))
	},
	{ByOpened, true, true}: func(q *db.Queries, ctx context.Context, p db.IncidentsNewestParams) ([]db.Incident, error) {
		return q.OpenIncidentsOldest(ctx, db.OpenIncidentsOldestParams(p))
	},
	{ByOpened, false, false}: (*db.Queries).IncidentsNewest,
	{ByOpened, false, true}: func(q *db.Queries, ctx context.Context, p db.IncidentsNewestParams) ([]db.Incident, error) {
		return q.IncidentsOldest(ctx, db.IncidentsOldestParams(p))
	},
	{ByUpdated, false, false}: func(q *db.Queries, ctx context.Context, p db.IncidentsNewestParams) ([]db.Incident, error) {
		return q.IncidentsLastUpdated(ctx, db.IncidentsLastUpdatedParams(p))
	},
	{ByUpdated, false, true}: func(q *db.Queries, ctx context.Context, p db.IncidentsNewestParams) ([]db.Incident, error) {
		return q.IncidentsFirstUpdated(ctx, db.IncidentsFirstUpdatedParams(p))
	},
}

// CountIncidents asks how many incidents the filter finds.
func CountIncidents(f IncidentFilter, answer *int64) Question {
	p := db.CountIncidentsParams{
		Organisations: numbers(f.Organisations), OnlyOpen: f.Open, States: texts(f.States), Priorities: texts(f.Priorities),
		Category: f.Category, Team: f.Team, Assignee: f.Assignee,
	}
	return Question{func(ctx context.Context, q *db.Queries) (err error) {
		*answer, err = q.CountIncidents(ctx, p)
		return err
	}}
}

// IncidentsByID asks for incidents by id, in no particular order. Those that do not exist are left out.
func IncidentsByID(ids []incident.ID, answer *[]incident.Incident) Question {
	plain := make([]uuid.UUID, len(ids))
	for n, id := range ids {
		plain[n] = id.UUID
	}
	return Question{func(ctx context.Context, q *db.Queries) error {
		rows, err := q.IncidentsByID(ctx, plain)
		*answer = incidentsOf(rows)
		return err
	}}
}

// IncidentsByNumber asks for the incident with a number among the organisations.
func IncidentsByNumber(organisations []incident.OrganisationID, number string, answer *[]incident.Incident) Question {
	return Question{func(ctx context.Context, q *db.Queries) error {
		rows, err := q.IncidentsByNumber(ctx, db.IncidentsByNumberParams{Organisations: numbers(organisations), Number: number})
		*answer = incidentsOf(rows)
		return err
	}}
}

func incidentsOf(rows []db.Incident) []incident.Incident {
	out := make([]incident.Incident, len(rows))
	for n := range rows {
		out[n] = incidentOf(rows[n])
	}
	return out
}

package ledger

import (
	"context"

	"github.com/google/uuid"

	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

// Comment is a comment with where it belongs.
type Comment struct {
	incident.Comment
	Of   IncidentKey
	Link incident.LinkID // the link through which it came; zero when it was written in the hub
}

// Place is where the comment stands among its incident's.
func (c Comment) Place() Place { return Place{At: c.At, ID: c.ID.UUID} }

// CommentsOf asks for the same page of comments of each of many incidents, in the page's order.
func CommentsOf(keys []IncidentKey, page Page[Place], answer *map[incident.ID][]Comment) Question {
	above, below := bounds(page)
	p := db.CommentsNewestParams{BelowAt: below.At, BelowID: below.ID, AboveAt: above.At, AboveID: above.ID, MaxRows: int32(page.Rows)}
	p.Organisations, p.Incidents = columns(keys)
	return Question{func(ctx context.Context, q *db.Queries) (err error) {
		var rows []db.Comment
		if page.Oldest {
			rows, err = q.CommentsOldest(ctx, db.CommentsOldestParams(p))
		} else {
			rows, err = q.CommentsNewest(ctx, p)
		}
		found := make(map[incident.ID][]Comment, len(keys))
		for _, r := range rows {
			c := commentWithPlace(r)
			found[c.Of.Incident] = append(found[c.Of.Incident], c)
		}
		*answer = found
		return err
	}}
}

// CountComments asks how many comments each of many incidents has. An incident without any is left out.
func CountComments(keys []IncidentKey, answer *map[incident.ID]int64) Question {
	var p db.CountCommentsParams
	p.Organisations, p.Incidents = columns(keys)
	return Question{func(ctx context.Context, q *db.Queries) error {
		rows, err := q.CountComments(ctx, p)
		found := make(map[incident.ID]int64, len(rows))
		for _, r := range rows {
			found[incident.ID{UUID: r.IncidentID}] = r.Comments
		}
		*answer = found
		return err
	}}
}

// CommentsByID asks for comments by id among the organisations, in no particular order.
func CommentsByID(organisations []incident.OrganisationID, ids []incident.CommentID, answer *[]Comment) Question {
	p := db.CommentsByIDParams{Organisations: numbers(organisations), Ids: make([]uuid.UUID, len(ids))}
	for n, id := range ids {
		p.Ids[n] = id.UUID
	}
	return many((*db.Queries).CommentsByID, p, func(r db.Comment) (Comment, error) { return commentWithPlace(r), nil },
		func(found []Comment) { *answer = found })
}

func commentWithPlace(r db.Comment) Comment {
	return Comment{Comment: commentOf(r), Of: keyOf(r.OrganisationID, r.IncidentID), Link: incident.LinkID{UUID: r.LinkID.UUID}}
}

func keyOf(organisation int64, id uuid.UUID) IncidentKey {
	return IncidentKey{Organisation: incident.OrganisationID(organisation), Incident: incident.ID{UUID: id}}
}

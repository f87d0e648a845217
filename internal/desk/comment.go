package desk

import (
	"context"
	"fmt"
	"strings"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// CommentInput is a message to be added.
type CommentInput struct {
	Target
	Body       string
	Visibility incident.Visibility // default PUBLIC; INTERNAL is a work note and the desk's alone
}

// Comment adds a message to an incident that is not finished.
func (d *Desk) Comment(ctx context.Context, v auth.Viewer, in CommentInput) (incident.Incident, incident.Comment, error) {
	none := incident.Incident{}
	if in.Visibility == "" {
		in.Visibility = incident.Public
	}
	if in.Visibility == incident.Internal && !v.Staff() {
		return none, incident.Comment{}, &Denied{Problem: "only the desk writes work notes", Remedy: "use visibility PUBLIC"}
	}
	if err := d.message("body", in.Body); err != nil {
		return none, incident.Comment{}, err
	}
	c := incident.Comment{ID: incident.NewCommentID(), Visibility: in.Visibility, Body: in.Body, Author: v.Name, At: d.now()}
	done, err := d.ledger.Append(ctx, ledger.Append{
		Viewer: v, Actor: person(v), Incident: in.Incident, ExpectedVersion: in.ExpectedVersion, Key: in.Key,
		Decide: func(draft *ledger.Draft) error {
			if err := writable(draft.Before); err != nil {
				return err
			}
			draft.Comment = &c
			return nil
		},
	})
	if err != nil {
		return none, incident.Comment{}, fmt.Errorf("commenting: %w", err)
	}
	return done.Incident, done.Comment, nil
}

// message checks what a comment says.
func (d *Desk) message(field, body string) error {
	if strings.TrimSpace(body) == "" {
		return refuse(field, "is empty", "write the message")
	}
	return text(field, body, d.limits.CommentBytes)
}

package ledger

import (
	"context"
	"time"

	"liaison/internal/incident"
	"liaison/sync/ledger/internal/db"
)

// Desk is a support provider.
type Desk struct {
	ID   incident.DeskID
	Key  string
	Name string
}

// Organisation is a tenant with the desk that serves it.
type Organisation struct {
	ID   incident.OrganisationID
	Key  string
	Name string
	Desk Desk
}

// ExternalSystem is a configured system of a vendor.
type ExternalSystem struct {
	ID        incident.SystemID
	Key       string
	Name      string
	Connector string
	URL       string
	Active    bool // false when it left the settings
	Paused    bool
	// When, by whom and why it was paused; zero while it is not.
	PausedAt    time.Time
	PausedBy    string
	PauseReason string
	Desk        Desk // zero when the desk serves none of the viewer's organisations
}

// Organisations asks for every organisation that the viewer may see, by name.
func Organisations(answer *[]Organisation) Question {
	return Question{func(ctx context.Context, q *db.Queries) error {
		rows, err := q.Organisations(ctx)
		found := make([]Organisation, len(rows))
		for n, r := range rows {
			desk := Desk{ID: incident.DeskID(r.Desk.ID), Key: r.Desk.Key, Name: r.Desk.Name}
			found[n] = Organisation{ID: incident.OrganisationID(r.Organisation.ID), Key: r.Organisation.Key, Name: r.Organisation.Name, Desk: desk}
		}
		*answer = found
		return err
	}}
}

// Systems asks for every system into which the viewer's incidents can be escalated, by key.
func Systems(answer *[]ExternalSystem) Question {
	return Question{func(ctx context.Context, q *db.Queries) error {
		rows, err := q.Systems(ctx)
		found := make([]ExternalSystem, len(rows))
		for n, r := range rows {
			s := r.ExternalSystem
			found[n] = ExternalSystem{
				ID: incident.SystemID(s.ID), Key: s.Key, Name: s.Name, Connector: s.Connector, URL: s.Url, Active: s.Active, Paused: s.Paused,
				PausedAt: timeOf(s.PausedAt), PausedBy: s.PausedBy, PauseReason: s.PauseReason,
			}
			if r.DeskKey != nil && r.DeskName != nil {
				found[n].Desk = Desk{ID: incident.DeskID(s.DeskID), Key: *r.DeskKey, Name: *r.DeskName}
			}
		}
		*answer = found
		return err
	}}
}

// Package directory keeps the tables of desks, organisations and systems as the settings name them.
//
// Put writes all of it in one transaction, under a lock of its own, so hubs that start together do not
// interleave and a crash leaves either the old directory or the new one. Nothing is ever deleted: what left the
// settings keeps its rows, because incidents hang on them.
package directory

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/auth"
	"liaison/internal/config"
	"liaison/internal/directory/internal/db"
	"liaison/internal/incident"
	"liaison/internal/postgres"
)

// Directory is what the settings name, with the ids that the tables gave.
type Directory struct {
	Desks         map[string]incident.DeskID
	Organisations map[string]incident.OrganisationID
	Systems       map[string]incident.SystemID

	served map[incident.DeskID][]incident.OrganisationID
}

// Put brings the tables in step with the settings.
func Put(ctx context.Context, d *postgres.DB, c *config.Config) (*Directory, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var out *Directory
	err := d.SystemTx(ctx, func(tx pgx.Tx) error {
		out = &Directory{
			Desks: map[string]incident.DeskID{}, Organisations: map[string]incident.OrganisationID{}, Systems: map[string]incident.SystemID{},
			served: map[incident.DeskID][]incident.OrganisationID{},
		}
		q := db.New(tx)
		if err := q.LockDirectory(ctx); err != nil {
			return err
		}
		if err := out.people(ctx, q, c); err != nil {
			return err
		}
		return out.systems(ctx, q, c)
	}, postgres.Retry(5))
	if err != nil {
		return nil, fmt.Errorf("writing the directory: %w", err)
	}
	return out, nil
}

func (d *Directory) people(ctx context.Context, q *db.Queries, c *config.Config) error {
	for _, desk := range c.Desks {
		id, err := q.PutDesk(ctx, db.PutDeskParams{Key: desk.Key, Name: desk.Name})
		if err != nil {
			return fmt.Errorf("desk %s: %w", desk.Key, err)
		}
		d.Desks[desk.Key] = incident.DeskID(id)
	}
	for _, o := range c.Organisations {
		id, err := q.PutOrganisation(ctx, db.PutOrganisationParams{Key: o.Key, Name: o.Name, DeskID: int64(d.Desks[o.Desk])})
		if err != nil {
			return fmt.Errorf("organisation %s: %w", o.Key, err)
		}
		d.Organisations[o.Key] = incident.OrganisationID(id)
	}
	rows, err := q.OrganisationsOfDesks(ctx)
	if err != nil {
		return err
	}
	for _, r := range rows {
		desk, o := incident.DeskID(r.DeskID), incident.OrganisationID(r.ID)
		d.served[desk], d.served[0] = append(d.served[desk], o), append(d.served[0], o)
	}
	return nil
}

func (d *Directory) systems(ctx context.Context, q *db.Queries, c *config.Config) error {
	keys := []string{}
	for _, s := range c.Systems {
		keys = append(keys, s.Key)
		id, err := q.PutSystem(ctx, db.PutSystemParams{Key: s.Key, Name: s.Name, Connector: s.Connector, DeskID: int64(d.Desks[s.Desk]), Url: s.URL, SilenceSeconds: s.SilenceAfter.Seconds()})
		if err != nil {
			return fmt.Errorf("system %s: %w", s.Key, err)
		}
		d.Systems[s.Key] = incident.SystemID(id)
		allowed := []int64{}
		for _, key := range c.OrganisationsOf(s) {
			allowed = append(allowed, int64(d.Organisations[key]))
		}
		if err := q.Permit(ctx, db.PermitParams{SystemID: id, Organisations: allowed}); err != nil {
			return fmt.Errorf("system %s: %w", s.Key, err)
		}
		if err := q.Forbid(ctx, db.ForbidParams{SystemID: id, Organisations: allowed}); err != nil {
			return fmt.Errorf("system %s: %w", s.Key, err)
		}
	}
	return q.RetireSystems(ctx, keys)
}

// Grant returns what a static token gives.
func (d *Directory) Grant(t config.Token, token string) auth.Grant {
	g := auth.Grant{
		Digest: auth.DigestOf(token), Subject: t.Email, Name: t.Name, Email: t.Email, Phone: t.Phone,
		Organisation: d.Organisations[t.Organisation], Desk: d.Desks[t.Desk],
	}
	if g.Subject == "" {
		g.Subject = t.Name
	}
	for _, r := range t.Roles {
		g.Roles = append(g.Roles, auth.Role(r))
	}
	return g
}

// Served names the organisations of each desk, and all of them under desk 0, for administrators of none.
func (d *Directory) Served() map[incident.DeskID][]incident.OrganisationID { return d.served }

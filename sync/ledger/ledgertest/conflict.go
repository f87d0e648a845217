package ledgertest

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/ledger/internal/db"
)

// decides reports whether the viewer may see conflicts: they are the desk's business.
func (t *tx) decides(organisation int64) bool {
	return t.sees(organisation) && (t.viewer == nil || t.viewer.Staff())
}

func (t *tx) InsertConflict(ctx context.Context, p db.InsertConflictParams) error {
	if err := t.begin(ctx, "InsertConflict", p.LinkID); err != nil {
		return err
	}
	if !t.decides(p.OrganisationID) {
		return t.Abort(policy("conflict"))
	}
	t.memory.conflicts.Put(t.Tx, p.ID, db.Conflict{
		OrganisationID: p.OrganisationID, ID: p.ID, IncidentID: p.IncidentID, LinkID: p.LinkID, Version: p.Version, Field: p.Field,
		Base: p.Base, Hub: p.Hub, Vendor: p.Vendor, Policy: p.Policy, Winner: p.Winner, Rule: p.Rule, At: stamp(p.At),
	})
	return nil
}

func (t *tx) OpenConflicts(ctx context.Context, p db.OpenConflictsParams) ([]db.Conflict, error) {
	if err := t.begin(ctx, "OpenConflicts", p.LinkID); err != nil {
		return nil, err
	}
	var out []db.Conflict
	for _, c := range t.memory.conflicts.All {
		if c.LinkID == p.LinkID && c.OrganisationID == p.OrganisationID && c.Winner == "" && c.ResolvedAt == nil && t.decides(c.OrganisationID) {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b db.Conflict) int { return a.At.Compare(b.At) })
	return out, nil
}

// unresolved changes a conflict that waits for a person.
func (t *tx) unresolved(organisation int64, id uuid.UUID, change func(*db.Conflict)) {
	c, ok := t.memory.conflicts.Get(id)
	if !ok || c.OrganisationID != organisation || c.ResolvedAt != nil || !t.decides(organisation) {
		return
	}
	change(&c)
	t.memory.conflicts.Put(t.Tx, id, c)
}

func (t *tx) UpdateConflict(ctx context.Context, p db.UpdateConflictParams) error {
	if err := t.begin(ctx, "UpdateConflict", p.ID); err != nil {
		return err
	}
	t.unresolved(p.OrganisationID, p.ID, func(c *db.Conflict) { c.Hub, c.Vendor = p.Hub, p.Vendor })
	return nil
}

func (t *tx) CloseConflict(ctx context.Context, p db.CloseConflictParams) error {
	if err := t.begin(ctx, "CloseConflict", p.ID); err != nil {
		return err
	}
	t.unresolved(p.OrganisationID, p.ID, func(c *db.Conflict) {
		c.Winner, c.Rule, c.ResolvedAt, c.ResolvedBy = p.Winner, p.Rule, stampPtr(&p.At), p.ByWhom
	})
	return nil
}

func (t *tx) FindConflict(ctx context.Context, p db.FindConflictParams) (db.Conflict, error) {
	if err := t.begin(ctx, "FindConflict", p.ID); err != nil {
		return db.Conflict{}, err
	}
	c, ok := t.memory.conflicts.Get(p.ID)
	if !ok || !slices.Contains(p.Organisations, c.OrganisationID) || !t.decides(c.OrganisationID) {
		return db.Conflict{}, pgx.ErrNoRows
	}
	return c, nil
}

func (t *tx) NewerConflicts(ctx context.Context, p db.NewerConflictsParams) (int64, error) {
	if err := t.begin(ctx, "NewerConflicts", p.LinkID); err != nil {
		return 0, err
	}
	var n int64
	for _, c := range t.memory.conflicts.All {
		if c.OrganisationID == p.OrganisationID && c.LinkID == p.LinkID && c.Field == p.Field && c.Version > p.Version && t.decides(c.OrganisationID) {
			n++
		}
	}
	return n, nil
}

func (t *tx) FieldSetAt(ctx context.Context, p db.FieldSetAtParams) ([]time.Time, error) {
	if err := t.begin(ctx, "FieldSetAt", p.IncidentID); err != nil {
		return nil, err
	}
	var out []time.Time
	var version int64
	for _, e := range t.memory.entries.All {
		if e.IncidentID != p.IncidentID || e.OrganisationID != p.OrganisationID || e.Version < version || !t.reads(e.OrganisationID, e.Visibility) {
			continue
		}
		var changes ledger.Changes
		parse(e.Changes, &changes)
		if _, set := changes[incident.Field(p.Field)]; set {
			out, version = []time.Time{e.At}, e.Version
		}
	}
	return out, nil
}

package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger/internal/db"
)

// Selection is what one decision about many dead letters is about.
type Selection struct {
	Deliveries []incident.DeliveryID // the oldest first
	More       bool                  // the filter found more than one decision may be about
}

// SelectDead returns the dead letters that a filter finds, as far as the viewer may see them, and at most so many. The first
// selection under a key is written down: whoever calls again with it gets the same one, whatever has died since, and so never
// decides on what the first call knew nothing of. Another input under the key is a [*KeyReused].
func (l *Ledger) SelectDead(ctx context.Context, v auth.Viewer, key Key, f DeadFilter, most int) (Selection, error) {
	if key.Value == "" || len(v.Organisations) == 0 {
		ids, err := l.DeadLetters(ctx, v, f, most+1)
		return Selection{Deliveries: ids[:min(len(ids), most)], More: len(ids) > most}, err
	}
	var out Selection
	run := func() error {
		return l.store.Viewer(ctx, v, func(q db.Querier) (err error) {
			out, err = l.selectDead(ctx, q, v, key, f, most)
			return err
		})
	}
	err := run()
	if postgres.IsUniqueViolation(err, "bulk_decision_pkey") { // the same call, at the same moment
		err = run()
	}
	if err != nil {
		return Selection{}, fmt.Errorf("selecting dead letters: %w", err)
	}
	return out, nil
}

func (l *Ledger) selectDead(ctx context.Context, q db.Querier, v auth.Viewer, key Key, f DeadFilter, most int) (Selection, error) {
	row, err := q.FindBulk(ctx, db.FindBulkParams{Organisations: numbers(v.Organisations), Subject: v.Subject, Key: key.Value})
	switch {
	case err == nil && !bytes.Equal(row.InputDigest, key.Digest[:]):
		return Selection{}, &KeyReused{Key: key.Value}
	case err == nil:
		return Selection{Deliveries: deliveryIDs(row.Deliveries), More: row.More}, nil
	case !errors.Is(err, pgx.ErrNoRows):
		return Selection{}, fmt.Errorf("looking up an idempotency key: %w", err)
	}
	ids, err := q.DeadLetters(ctx, f.params(v, most+1))
	if err != nil {
		return Selection{}, err
	}
	some := ids[:min(len(ids), most)]
	if some == nil {
		some = []uuid.UUID{}
	}
	err = q.InsertBulk(ctx, db.InsertBulkParams{
		OrganisationID: int64(slices.Min(v.Organisations)), Subject: v.Subject, Key: key.Value, InputDigest: key.Digest[:],
		Deliveries: some, More: len(ids) > most, At: l.now(),
	})
	return Selection{Deliveries: deliveryIDs(some), More: len(ids) > most}, err
}

func (f DeadFilter) params(v auth.Viewer, most int) db.DeadLettersParams {
	return db.DeadLettersParams{
		Organisations: numbers(v.Organisations), System: f.System, Incident: nullUUID(f.Incident.UUID), ErrorKinds: texts(f.ErrorKinds), MaxRows: int32(most),
	}
}

func deliveryIDs(in []uuid.UUID) []incident.DeliveryID {
	out := make([]incident.DeliveryID, len(in))
	for n, id := range in {
		out[n] = incident.DeliveryID{UUID: id}
	}
	return out
}

// For is the key of one delivery's part of a decision about many; none when there is none.
func (k Key) For(id incident.DeliveryID) Key {
	if k.Value == "" {
		return Key{}
	}
	return Key{Value: k.Value + "\x1f" + id.String(), Digest: sha256.Sum256(append(k.Digest[:], id.UUID[:]...))}
}

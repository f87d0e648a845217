package inbound

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/connectors"
	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/inbound/internal/db"
	"liaison/sync/ledger"
	"liaison/sync/system"
)

// MaxReplays bounds how many rows one call of Replay takes.
const MaxReplays = 1000

// Selection names rows of the inbox.
type Selection struct {
	IDs []uuid.UUID // exactly these, whatever their state; empty: the parked ones that the rest describes

	System   string    // key; empty: any
	From, To time.Time // received at or after From and before To; zero: no bound
	Most     int       // default and most MaxReplays, oldest first
}

// Replayed is what became of a row that was replayed.
type Replayed struct {
	Row uuid.UUID // the row that was named
	// As are the rows that are acted upon now: new ones with the source REPLAY, or Row itself when it was waiting still. Empty
	// when the body is still not understood.
	As     []uuid.UUID
	State  string // of As: WAITING; or PARKED, when there are none
	Reason string // why it is still parked
}

// Mender has rows of the inbox acted upon again, after whatever was wrong has been mended.
type Mender struct {
	db      *postgres.DB
	systems []*system.System
	bell    ledger.Bell
	now     func() time.Time
}

// NewMender returns a mender. Bodies that were not understood are read again by the connectors of the given systems.
func NewMender(d *postgres.DB, systems []*system.System, bell ledger.Bell, now func() time.Time) *Mender {
	return &Mender{db: d, systems: systems, bell: bell, now: now}
}

// Replay has rows acted upon again. A row that waits is made due. One that is over stays as the history that it is, and new
// rows with the source REPLAY take its place; a parked one is settled as replayed. Replaying a row whose replay still waits
// answers that one, so a repeated call makes nothing twice.
//
// A viewer replays what row-level security shows: staff only, of the own desk. Nil is the operator at the command line,
// who may replay everything. by names the person in the rows' reasons. Rows that are not there, or not the viewer's to
// see, are left out of the answer.
func (m *Mender) Replay(ctx context.Context, viewer *auth.Viewer, by string, s Selection) ([]Replayed, error) {
	rows, err := m.find(ctx, viewer, s)
	if err != nil {
		return nil, fmt.Errorf("finding rows to replay: %w", err)
	}
	out := make([]Replayed, 0, len(rows))
	for _, row := range rows {
		one, err := m.replay(ctx, row, by)
		if err != nil {
			return out, fmt.Errorf("replaying row %s: %w", row.ID, err)
		}
		out = append(out, one)
	}
	if len(out) > 0 {
		m.bell.Ring(TopicInbox)
	}
	return out, nil
}

func (m *Mender) find(ctx context.Context, viewer *auth.Viewer, s Selection) ([]db.LockRowParams, error) {
	p := db.SelectParkedParams{System: s.System, Since: s.From, Until: s.To, Most: int32(min(s.Most, MaxReplays))}
	if p.Until.IsZero() {
		p.Until = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if p.Most <= 0 {
		p.Most = MaxReplays
	}
	var rows []db.LockRowParams
	read := func(tx pgx.Tx) error {
		rows = nil
		if len(s.IDs) > 0 {
			found, err := db.New(tx).SelectRows(ctx, s.IDs[:min(len(s.IDs), MaxReplays)])
			for _, row := range found {
				rows = append(rows, db.LockRowParams(row))
			}
			return err
		}
		found, err := db.New(tx).SelectParked(ctx, p)
		for _, row := range found {
			rows = append(rows, db.LockRowParams(row))
		}
		return err
	}
	var err error
	switch {
	case viewer == nil:
		err = m.db.SystemTx(ctx, read, postgres.Retry(retries))
	case viewer.Staff():
		err = m.db.AppTx(ctx, viewer.Settings(), read, postgres.Retry(retries))
	}
	return rows, err
}

func (m *Mender) replay(ctx context.Context, named db.LockRowParams, by string) (Replayed, error) {
	out := Replayed{Row: named.ID}
	err := m.db.SystemTx(ctx, func(tx pgx.Tx) error {
		out = Replayed{Row: named.ID, State: waiting}
		q, at := db.New(tx), m.now()
		row, err := q.LockRow(ctx, named)
		if errors.Is(err, pgx.ErrNoRows) {
			out.State, out.Reason = ignored, "the row is gone"
			return nil
		} else if err != nil {
			return fmt.Errorf("locking it: %w", err)
		}
		if row.State == waiting {
			out.As = []uuid.UUID{row.ID}
			return q.WakeRow(ctx, db.WakeRowParams{At: at, ID: row.ID, ReceivedAt: row.ReceivedAt})
		}
		if out.As, err = q.WaitingReplay(ctx, row.ID); err != nil || len(out.As) > 0 {
			return err
		}
		return m.again(ctx, q, row, by, &out, at)
	}, postgres.Retry(retries))
	return out, err
}

// again makes the rows that take the place of one that is over.
func (m *Mender) again(ctx context.Context, q *db.Queries, row db.LockRowRow, by string, out *Replayed, at time.Time) error {
	c := callOf(ctx, incident.SystemID(row.SystemID), replay, nil, row.ContentType, at)
	c.id, c.repeats = row.CallID, uuid.NullUUID{UUID: row.ID, Valid: true}
	c.body = []byte{} // it stands in the row that is replayed
	copy(c.digest[:], row.Digest)
	if row.ExternalID != "" || row.Number != "" {
		c.refs = []connectors.Ref{{ID: connectors.ExternalID(row.ExternalID), Number: row.Number, Version: row.Version}}
	} else {
		m.readAgain(row, &c)
	}
	if c.reason != "" {
		out.State, out.Reason = parked, c.reason
		return q.CloseRow(ctx, db.CloseRowParams{State: parked, Reason: storable(c.reason), At: at, ID: row.ID, ReceivedAt: row.ReceivedAt})
	}
	made := kept{state: waiting, reason: "replayed by " + by}
	c.id = "" // remembered with the first call
	if err := c.insert(ctx, q, &made, db.FindRepeatsRow{}); err != nil {
		return err
	}
	out.As = made.rows
	if row.State != parked {
		return nil
	}
	return q.CloseRow(ctx, db.CloseRowParams{State: done, Reason: storable(fmt.Sprintf("replayed by %s as %s; it was parked because %s", by, made.rows[0], row.Reason)), At: at, ID: row.ID, ReceivedAt: row.ReceivedAt})
}

// readAgain has the connector look at a body that names no ticket so far.
func (m *Mender) readAgain(row db.LockRowRow, c *call) {
	n := slices.IndexFunc(m.systems, func(s *system.System) bool { return s.Key == row.System })
	switch {
	case n < 0:
		c.reason = "system " + row.System + " is not in the settings any more"
	case len(row.Body) == 0:
		c.reason = "its body is empty, or was put away by age"
	default:
		c.read(m.systems[n].Connector, connectors.Hook{Header: http.Header{"Content-Type": {row.ContentType}}, Body: row.Body})
	}
}

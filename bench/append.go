package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger"
)

// deaf is a bell that nobody hears.
type deaf struct{}

func (deaf) Ring(string) {}

// openAppend compares appends to the ledger with a plain transaction that writes the same four rows.
func openAppend(ctx context.Context, w *world) (*row, error) {
	ids, err := w.incidentsOf(ctx, "appends")
	if err != nil {
		return nil, err
	}
	alone := ledger.New(w.db, deaf{}, time.Now)
	asked, err := w.counted(ctx, "per append", func(db *postgres.DB) (func() error, func(), error) {
		l := ledger.New(db, deaf{}, time.Now)
		return func() error { return w.retitle(ctx, l, "appends", ids[0]) }, func() {}, nil
	})
	if err != nil {
		return nil, err
	}
	rung, err := w.notified(ctx, ids)
	if err != nil {
		return nil, err
	}
	peer, err := newBareAppend(ctx, w)
	if err != nil {
		return nil, err
	}
	writers := w.settings.sizes.Writers
	// Each writer has incidents of its own, so that nobody waits for anybody's row.
	own := func(worker, turn int) incident.ID { return ids[(turn*writers+worker)%(len(ids)/writers*writers)] }
	behind := time.Duration(0)
	return &row{
		title:   fmt.Sprintf("a title change of an incident with one link, made durable: incident, entry, delivery, lane; %d writers, %d incidents", writers, len(ids)),
		unit:    "appends/s",
		latency: "from the call to the commit's answer",
		peers: []contender{{name: "one pgx transaction: BEGIN, the four writes in one batch, COMMIT", run: func(ctx context.Context, d time.Duration) (sample, error) {
			return w.repeat(ctx, writers, d, func(ctx context.Context, worker, turn int) error { return peer.write(ctx, own(worker, turn)) })
		}}},
		liaison: []contender{
			{name: "ledger.Append", run: func(ctx context.Context, d time.Duration) (sample, error) {
				return w.repeat(ctx, writers, d, func(ctx context.Context, worker, turn int) error {
					return w.retitle(ctx, alone, "appends", own(worker, turn))
				})
			}},
			{name: "ledger.Append, the feed following", run: func(ctx context.Context, d time.Duration) (sample, error) {
				h, err := w.hub(ctx, w.db)
				if err != nil {
					return sample{}, err
				}
				defer h.stop()
				s, err := w.repeat(ctx, writers, d, func(ctx context.Context, worker, turn int) error {
					return w.retitle(ctx, h.ledger, "appends", own(worker, turn))
				})
				if err != nil {
					return s, err
				}
				ended := time.Now()
				err = h.caughtUp(ctx)
				behind = max(behind, time.Since(ended))
				return s, err
			}},
		},
		bounds: func(m *measured) []bound {
			var out []bound
			for _, l := range m.Liaison {
				out = append(out, atLeast(l.Name+", to the bare transaction", 0.8, l.ratio(0), ""))
			}
			inside := below("NOTIFYs inside the transactions of 100 appends with the bell, of "+strconv.FormatInt(rung.all, 10), 1, float64(rung.inside), "")
			return append(out, inside)
		},
		facts: func(context.Context, *measured) ([]string, error) {
			return []string{asked, fmt.Sprintf("when the appends ended the feed had caught up within %d ms, at worst", behind.Milliseconds())}, nil
		},
	}, nil
}

// titled is what a title's number follows, and serials are what the numbers of titles begin at, so that all are of the
// same length.
const (
	titled  = "Printer in room 12 prints blank pages, attempt "
	serials = 1_000_000_000
)

// title is a new one each time, always of the same length.
func title(n int64) string { return titled + strconv.FormatInt(serials+n%serials, 10) }

// serial finds the number of the first title in a text.
func serial(text []byte) (n int64, found bool) {
	_, rest, found := bytes.Cut(text, []byte(titled))
	if !found || len(rest) < 10 {
		return 0, false
	}
	n, err := strconv.ParseInt(string(rest[:10]), 10, 64)
	return n - serials, err == nil
}

// rings are NOTIFYs that a database was asked for.
type rings struct{ all, inside int64 }

// notified counts NOTIFYs, and those of them inside a transaction, while incidents change under a hub with its bell and
// its feed.
func (w *world) notified(ctx context.Context, ids []incident.ID) (rings, error) {
	c := &counter{}
	db, err := w.open(ctx, c)
	if err != nil {
		return rings{}, err
	}
	defer db.Close()
	h, err := w.hub(ctx, db)
	if err != nil {
		return rings{}, err
	}
	for n := range 100 {
		if err = w.retitle(ctx, h.ledger, "appends", ids[n%len(ids)]); err != nil {
			break
		}
	}
	if err == nil {
		err = h.caughtUp(ctx)
	}
	h.stop() // the bell has sent what was rung, or is cut off
	return rings{all: c.notified.Load(), inside: c.inside.Load()}, err
}

// retitle makes one change through the hub's door.
func (w *world) retitle(ctx context.Context, l *ledger.Ledger, organisation string, id incident.ID) error {
	return w.entitle(ctx, l, organisation, id, time.Now().UnixNano())
}

// entitle gives an incident the title with a number.
func (w *world) entitle(ctx context.Context, l *ledger.Ledger, organisation string, id incident.ID, n int64) error {
	done, err := l.Append(ctx, ledger.Append{
		Viewer: w.agent(organisation), Actor: ledger.Actor{Kind: ledger.Person, Name: "Ada Agent"}, Incident: id,
		Decide: func(d *ledger.Draft) error {
			d.After.Title = title(n)
			return nil
		},
	})
	if err == nil && !done.Changed {
		return fmt.Errorf("incident %s was not changed", id)
	}
	return err
}

// bareAppend knows beforehand what the ledger has to look up: the incident's link.
type bareAppend struct {
	w            *world
	organisation incident.OrganisationID
	links        map[incident.ID]incident.LinkID
}

func newBareAppend(ctx context.Context, w *world) (*bareAppend, error) {
	b := &bareAppend{w: w, organisation: w.organisations["appends"], links: map[incident.ID]incident.LinkID{}}
	found, err := w.bare.Query(ctx, "SELECT incident_id, id FROM external_link WHERE organisation_id = $1", b.organisation)
	if err != nil {
		return nil, err
	}
	var id incident.ID
	var link incident.LinkID
	_, err = pgx.ForEachRow(found, []any{&id.UUID, &link.UUID}, func() error { b.links[id] = link; return nil })
	return b, err
}

const (
	bareUpdate = `UPDATE incident SET title = $3, version = version + 1, updated_at = $4 WHERE organisation_id = $1 AND id = $2`
	bareEntry  = `INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, changes, at)
		SELECT organisation_id, id, version, 'CHANGED', 'PERSON', 'Ada Agent', $3, $4 FROM incident WHERE organisation_id = $1 AND id = $2`
	bareDelivery = `INSERT INTO delivery (organisation_id, id, link_id, incident_id, version, kind, payload, created_at)
		SELECT organisation_id, gen_random_uuid(), $3, id, version, 'UPDATE', $4, $5 FROM incident WHERE organisation_id = $1 AND id = $2`
	bareLane = `UPDATE lane SET due_at = coalesce(due_at, $3) WHERE organisation_id = $1 AND link_id = $2`
)

func (b *bareAppend) write(ctx context.Context, id incident.ID) error {
	now := time.Now().UTC()
	is, was := title(now.UnixNano()), title(0)
	o, link := int64(b.organisation), b.links[id].UUID
	var batch pgx.Batch
	batch.Queue(bareUpdate, o, id.UUID, is, now)
	batch.Queue(bareEntry, o, id.UUID, []byte(`{"title":["`+was+`","`+is+`"]}`), now)
	batch.Queue(bareDelivery, o, id.UUID, link, []byte(`{"title":"`+is+`"}`), now)
	batch.Queue(bareLane, o, link, now)
	return pgx.BeginFunc(ctx, b.w.bare, func(tx pgx.Tx) error { return tx.SendBatch(ctx, &batch).Close() })
}

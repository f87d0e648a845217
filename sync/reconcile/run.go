package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger"
	"liaison/sync/pull"
	"liaison/sync/reconcile/internal/db"
	"liaison/sync/system"
)

const (
	retries   = 5   // how often a transaction is repeated when Postgres asks for it
	batchSize = 100 // links between two notes of progress
	// maxFailures is how many links in a row may fail before the comparison gives up: the vendor is away.
	maxFailures = 10
	// maxTries is how often one request is made, and firstPause the wait before the second one.
	maxTries   = 4
	firstPause = time.Second
	// A lane that is busy is asked for again after laneWait, laneTries times.
	laneWait  = 100 * time.Millisecond
	laneTries = 50
)

// run is a comparison under way.
type run struct {
	*Reconciler
	system *system.System
	ask    Request
	meter  *meter
	report Report
	token  int64            // of the lease; 0: the comparison of a single link has none
	place  ledger.LinkPlace // everything up to here was compared

	compared []ledger.Link // since progress was last noted
	drift    []Drift       // likewise
	failures int           // in a row
	looked   time.Time     // when it was last seen that the system is not paused
}

func (r *Reconciler) single(s *system.System, q Request) *run {
	return &run{
		Reconciler: r, system: s, ask: q, meter: newMeter(s.Connector, q.Requests, q.PerMinute),
		report: Report{ID: uuid.Must(uuid.NewV7()), System: s.Key, State: Running, Mend: q.Mend}, looked: r.opts.Now(),
	}
}

// start writes the comparison down, under a lease.
func (r *Reconciler) start(ctx context.Context, s *system.System, q Request) (*run, error) {
	n := r.single(s, q)
	err := r.db.SystemTx(ctx, func(tx pgx.Tx) error {
		queries, at := db.New(tx), r.opts.Now()
		if err := queries.LeaveDeadRuns(ctx, db.LeaveDeadRunsParams{At: at, SystemID: int64(s.ID)}); err != nil {
			return fmt.Errorf("looking for comparisons that were cut off: %w", err)
		}
		n.place = ledger.LinkPlace{}
		if q.Cause == Nightly {
			last, err := queries.LastNightly(ctx, int64(s.ID))
			if err != nil {
				return fmt.Errorf("looking for the last comparison: %w", err)
			}
			if len(last) > 0 && State(last[0].State) != Done {
				n.place = ledger.LinkPlace{Organisation: incident.OrganisationID(last[0].AtOrganisation), Link: incident.LinkID{UUID: last[0].AtLink}}
			}
		}
		tokens, err := queries.StartRun(ctx, db.StartRunParams{
			ID: n.report.ID, SystemID: int64(s.ID), Cause: string(q.Cause), ByWhom: q.By, Mend: q.Mend, At: at, LeaseSeconds: system.Lease.Seconds(),
			AtOrganisation: int64(n.place.Organisation), AtLink: n.place.Link.UUID,
		})
		if err != nil {
			return err
		}
		if len(tokens) == 0 {
			return ErrRunning
		}
		n.token = tokens[0]
		return nil
	}, postgres.Retry(retries))
	if err != nil {
		return nil, fmt.Errorf("beginning to compare %s: %w", s.Key, err)
	}
	return n, nil
}

func (n *run) renew(ctx context.Context, lasts time.Duration) error {
	return n.db.SystemTx(ctx, func(tx pgx.Tx) error {
		kept, err := db.New(tx).RenewRun(ctx, db.RenewRunParams{ID: n.report.ID, LeaseToken: n.token, LeaseSeconds: lasts.Seconds()})
		if err == nil && kept == 0 {
			err = ledger.ErrFenced
		}
		return err
	}, postgres.Retry(retries))
}

// through compares link after link.
func (n *run) through(ctx context.Context) error {
	for {
		links, err := n.ledger.Followed(ctx, n.system.ID, n.place, batchSize)
		if err != nil || len(links) == 0 {
			return err
		}
		if err := n.batch(ctx, links); err != nil {
			return err
		}
		if err := n.note(ctx); err != nil {
			return err
		}
	}
}

// batch compares links, whose tickets are read together where the connector can.
func (n *run) batch(ctx context.Context, links []ledger.Link) error {
	tickets, err := n.readMany(ctx, links)
	if err != nil {
		return err
	}
	for _, link := range links {
		if err := n.goOn(ctx); err != nil {
			return err
		}
		ticket, read := tickets[link.ExternalID]
		drift, err := n.link(ctx, link, ticket, read)
		switch {
		case err == nil:
			n.failures = 0
		case errors.Is(err, errSpent), errors.Is(err, ledger.ErrFenced), ctx.Err() != nil:
			return err
		default:
			n.report.Failed++
			n.log.WarnContext(ctx, "a link could not be compared", "system", n.system.Key, "ticket", link.ExternalID, "error", err)
			if n.failures++; n.failures >= maxFailures {
				return fmt.Errorf("%d links in a row could not be compared, the last one because %w", n.failures, err)
			}
		}
		n.report.Links++
		n.place, n.report.Requests = link.Place(), n.meter.spent
		if err == nil {
			n.compared = append(n.compared, link)
		}
		for _, d := range drift {
			n.report.Drifted++
			if d.Mended {
				n.report.Mended++
			}
			if n.ask.Each != nil {
				n.ask.Each(d)
			}
		}
		n.drift = append(n.drift, drift...)
		n.opts.Metrics.compared(n.system.Key, drift)
	}
	return nil
}

// call makes one request, again when the vendor was away for a moment.
func (n *run) call(ctx context.Context, request func(context.Context) error) error {
	pause := firstPause
	for try := 1; ; try++ {
		if err := n.meter.request(ctx); err != nil {
			return err
		}
		err := request(ctx)
		kind := connectors.KindOf(err)
		if err == nil || try == maxTries || kind != connectors.Transient && kind != connectors.RateLimited {
			return err
		}
		if err := sleep(ctx, max(pause, connectors.RetryAfterOf(err))); err != nil {
			return err
		}
		pause *= 4
	}
}

// readMany reads the tickets of links together. Those that the connector cannot read so are missing.
func (n *run) readMany(ctx context.Context, links []ledger.Link) (map[connectors.ExternalID]connectors.Ticket, error) {
	reader, can := n.system.Connector.(connectors.BatchReader)
	if !can || len(links) < 2 {
		return nil, nil
	}
	out := map[connectors.ExternalID]connectors.Ticket{}
	for len(links) > 0 {
		some := links[:min(len(links), reader.MostAtOnce())]
		links = links[len(some):]
		ids := make([]connectors.ExternalID, len(some))
		for i, l := range some {
			ids[i] = l.ExternalID
		}
		err := n.call(ctx, func(ctx context.Context) error {
			tickets, err := reader.ReadMany(ctx, ids, n.system.Mapping.VendorFields())
			for _, t := range tickets {
				out[t.ID] = t
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// read reads a ticket, unless it was read already, and its journal.
func (n *run) read(ctx context.Context, id connectors.ExternalID, ticket connectors.Ticket, have bool) (view, error) {
	v := view{ticket: ticket}
	if !have {
		err := n.call(ctx, func(ctx context.Context) (err error) {
			v.ticket, err = n.system.Connector.Read(ctx, id, n.system.Mapping.VendorFields())
			return err
		})
		if connectors.KindOf(err) == connectors.NotFound {
			return view{hidden: true}, nil
		} else if err != nil {
			return v, err
		}
	}
	if v.ticket.Gone != connectors.Present {
		return v, nil
	}
	err := n.call(ctx, func(ctx context.Context) (err error) {
		v.journal, v.mark, err = n.system.Connector.Journal(ctx, id, "")
		return err
	})
	return v, err
}

// link compares one link. What differs is looked at again under the lane's lease, when no exchange is under way.
func (n *run) link(ctx context.Context, link ledger.Link, ticket connectors.Ticket, have bool) ([]Drift, error) {
	v, err := n.read(ctx, link.ExternalID, ticket, have)
	if err != nil {
		return nil, err
	}
	drift, err := n.compare(ctx, link, v)
	if err != nil || len(drift) == 0 {
		return nil, err
	}
	lease, err := n.lease(ctx, link)
	if err != nil {
		return nil, err
	}
	defer func() {
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := n.ledger.Release(release, lease); err != nil {
			n.log.WarnContext(ctx, "cannot give a lane back; its lease ends by itself", "error", err)
		}
	}()
	ctx, let := system.Hold(ctx, func(ctx context.Context, lasts time.Duration) error { return n.ledger.Renew(ctx, lease, lasts) })
	defer let()
	if v, err = n.read(ctx, link.ExternalID, connectors.Ticket{}, false); err != nil {
		return nil, err
	}
	if drift, err = n.compare(ctx, link, v); err != nil || len(drift) == 0 || !n.ask.Mend {
		return drift, err
	}
	return drift, n.mend(ctx, lease, link, v, drift)
}

func (n *run) lease(ctx context.Context, link ledger.Link) (ledger.Lease, error) {
	for try := 1; ; try++ {
		lease, err := n.ledger.Lease(ctx, link.Organisation, link.ID, system.Lease)
		if !errors.Is(err, ledger.ErrBusy) || try == laneTries {
			return lease, err
		}
		if err := sleep(ctx, laneWait); err != nil {
			return lease, err
		}
	}
}

func (n *run) compare(ctx context.Context, link ledger.Link, v view) ([]Drift, error) {
	var out []Drift
	err := n.ledger.Inspect(ctx, link.Organisation, link.ID, v.entries(), func(now ledger.Situation, copies []ledger.Copy) (err error) {
		out, err = compare(n.system, now, copies, v)
		return err
	})
	return out, err
}

// mend does what can be done about drift, and says of each piece what became of it.
func (n *run) mend(ctx context.Context, lease ledger.Lease, link ledger.Link, v view, drift []Drift) error {
	r := ledger.Repair{Actor: ledger.Actor{Kind: ledger.Hub, Name: "Liaison"}}
	taking := false
	for _, d := range drift {
		taking = taking || d.repair == byTaking
		if d.repair == byPush {
			r.Push = append(r.Push, d.field)
		}
	}
	if taking {
		if err := n.take(ctx, lease, link, v); err != nil {
			return err
		}
	}
	left, err := n.compare(ctx, link, v)
	if err != nil {
		return err
	}
	var lines []map[string]string
	for i := range drift {
		d := &drift[i]
		switch {
		case d.repair == byPush:
			d.Outcome, d.Mended = "mended: the hub's value is on its way to the vendor", true
		case d.repair == byTaking && !d.in(left):
			d.Outcome, d.Mended = "mended: the vendor's news was taken in, by policy", true
		case d.repair == byTaking:
			d.Outcome = "told: taking the vendor's news in did not mend it"
		}
		lines = append(lines, map[string]string{"what": d.What, "hub": d.Hub, "vendor": d.Vendor, "outcome": d.Outcome})
	}
	if !taking && len(r.Push) == 0 {
		return nil
	}
	r.Detail = map[string]any{"reconciliation": n.report.ID, "drift": lines}
	return n.ledger.Repaired(ctx, lease, r)
}

func (n *run) take(ctx context.Context, lease ledger.Lease, link ledger.Link, v view) error {
	if v.hidden {
		_, err := pull.Pull(ctx, n.ledger, n.system, lease, link) // it notes that the vendor does not show the ticket
		if connectors.KindOf(err) == connectors.NotFound {
			err = nil
		}
		return err
	}
	_, err := n.ledger.Take(ctx, lease, v.entries(), func(now ledger.Situation) (ledger.Arrival, error) {
		return pull.Look(n.system, now, v.ticket, v.journal, v.mark)
	})
	return err
}

// end writes down how the comparison ended.
func (n *run) end(ctx context.Context, err error) {
	switch {
	case err == nil:
		n.report.State = Done
	case errors.Is(err, errSpent):
		n.report.State, n.report.Error = Stopped, errSpent.Error()
	default:
		n.report.State, n.report.Error = Failed, err.Error()
		if ctx.Err() != nil {
			n.report.Error = "the hub was told to stop"
		}
	}
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := n.note(settle); err != nil {
		n.log.ErrorContext(ctx, "cannot write down how a comparison ended; the next one goes on from its last noted place", "system", n.system.Key, "error", err)
	}
}

// note writes the progress and what was found since it was last written.
func (n *run) note(ctx context.Context) error {
	at := n.opts.Now()
	p := db.NoteProgressParams{
		ID: n.report.ID, LeaseToken: n.token, AtOrganisation: int64(n.place.Organisation), AtLink: n.place.Link.UUID, Links: int64(n.report.Links),
		Reads: int64(n.report.Requests), Drifted: int64(n.report.Drifted), Mended: int64(n.report.Mended), Failed: int64(n.report.Failed),
		State: string(n.report.State), Error: n.report.Error,
	}
	if n.report.State != Running {
		p.EndedAt = &at
	}
	err := n.db.SystemTx(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		kept, err := q.NoteProgress(ctx, p)
		if err != nil {
			return fmt.Errorf("noting a comparison's progress: %w", err)
		}
		if kept == 0 {
			return ledger.ErrFenced
		}
		return n.found(ctx, q, at)
	}, postgres.Retry(retries))
	if err == nil {
		n.compared, n.drift = nil, nil
	}
	return err
}

// record writes what the comparison of a single link found, if anything.
func (n *run) record(ctx context.Context) error {
	at := n.opts.Now()
	return n.db.SystemTx(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		if len(n.drift) > 0 {
			err := q.RecordRun(ctx, db.RecordRunParams{
				ID: n.report.ID, SystemID: int64(n.system.ID), Cause: string(n.ask.Cause), ByWhom: n.ask.By, Mend: n.ask.Mend, Links: int64(n.report.Links),
				Reads: int64(n.report.Requests), Drifted: int64(n.report.Drifted), Mended: int64(n.report.Mended), Failed: int64(n.report.Failed), At: at,
			})
			if err != nil {
				return fmt.Errorf("writing the comparison down: %w", err)
			}
		}
		return n.found(ctx, q, at)
	}, postgres.Retry(retries))
}

// found replaces what earlier comparisons found on the links.
func (n *run) found(ctx context.Context, q *db.Queries, at time.Time) error {
	if len(n.compared) == 0 {
		return nil
	}
	var c db.CloseDriftParams
	for _, link := range n.compared {
		c.Organisations, c.Links = append(c.Organisations, int64(link.Organisation)), append(c.Links, link.ID.UUID)
	}
	if _, err := q.CloseDrift(ctx, c); err != nil {
		return fmt.Errorf("closing earlier drift: %w", err)
	}
	for _, d := range n.drift {
		err := q.InsertDrift(ctx, db.InsertDriftParams{
			OrganisationID: int64(d.Organisation), ID: uuid.Must(uuid.NewV7()), ReconciliationID: n.report.ID, LinkID: d.Link.UUID, What: d.What,
			Hub: storable(d.Hub), Vendor: storable(d.Vendor), Outcome: d.Outcome, At: at, Open: !d.Mended,
		})
		if err != nil {
			return fmt.Errorf("writing drift: %w", err)
		}
	}
	return nil
}

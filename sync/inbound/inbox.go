package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel"
	"golang.org/x/sync/errgroup"

	"liaison/connectors"
	"liaison/internal/postgres"
	"liaison/internal/telemetry"
	"liaison/sync/inbound/internal/db"
	"liaison/sync/ledger"
	"liaison/sync/pull"
	"liaison/sync/system"
)

// TopicInbox is rung when hints wait.
const TopicInbox = "inbox"

// States of an inbox row.
const (
	waiting = "WAITING"
	done    = "DONE"
	ignored = "IGNORED"
	parked  = "PARKED"
)

// maxTries is how often a hint that the vendor rejects is tried before it is parked.
const maxTries = 10

// Options are a reader's settings; the zero value has the defaults.
type Options struct {
	Idle    time.Duration    // how often the inbox is looked at when nothing wakes the reader, default 500 ms
	Log     *slog.Logger     // default slog.Default
	Now     func() time.Time // default time.Now
	Wake    <-chan struct{}  // rings when hints wait; nil: only Idle
	Metrics *Metrics         // nil: none
}

func (o Options) withDefaults() Options {
	if o.Idle <= 0 {
		o.Idle = 500 * time.Millisecond
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Reader acts upon the inbox of one system.
type Reader struct {
	db     *postgres.DB
	ledger *ledger.Ledger
	system *system.System
	opts   Options
	log    *slog.Logger
}

// NewReader returns a reader for one system.
func NewReader(d *postgres.DB, l *ledger.Ledger, s *system.System, opts Options) *Reader {
	opts = opts.withDefaults()
	return &Reader{db: d, ledger: l, system: s, opts: opts, log: opts.Log.With("system", s.Key)}
}

// Run acts upon hints until ctx ends.
func (r *Reader) Run(ctx context.Context) error {
	tick := time.NewTicker(r.opts.Idle)
	defer tick.Stop()
	trouble := 0
	for {
		n, err := r.Step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if trouble++; trouble == 1 { // an outage is told once, not twice a second
				r.log.WarnContext(ctx, "cannot work through the inbox; trying on", "error", err)
			}
		case trouble > 0:
			r.log.InfoContext(ctx, "works through the inbox again", "failures", trouble)
			trouble = 0
		}
		if n > 0 && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.opts.Wake:
		case <-tick.C:
		}
	}
}

// Step acts once upon the hints that are due and returns how many there were. Hints about one ticket are
// answered by one read of it.
func (r *Reader) Step(ctx context.Context) (int, error) {
	var rows []db.LeaseInboxRow
	err := r.db.SystemTx(ctx, func(tx pgx.Tx) error {
		var err error
		rows, err = db.New(tx).LeaseInbox(ctx, db.LeaseInboxParams{SystemID: int64(r.system.ID), At: r.opts.Now(), Most: int32(16 * r.system.Concurrency), LeaseSeconds: system.Lease.Seconds()})
		return err
	}, postgres.Retry(5))
	if err != nil {
		return 0, fmt.Errorf("leasing the inbox: %w", err)
	}
	if len(rows) == 0 {
		return 0, nil
	}
	ctx, release := system.Hold(ctx, r.renew(rows))
	defer release()
	byTicket := map[connectors.Ref][]db.LeaseInboxRow{}
	for _, row := range rows {
		ref := connectors.Ref{ID: connectors.ExternalID(row.ExternalID)}
		if ref.ID == "" {
			ref.Number = row.Number
		}
		byTicket[ref] = append(byTicket[ref], row)
	}
	var group errgroup.Group
	group.SetLimit(max(r.system.Concurrency, 1))
	for ref, hints := range byTicket {
		group.Go(func() error { return r.follow(ctx, ref, hints) })
	}
	return len(rows), group.Wait()
}

// renew makes the leases of hints last: those that wait for their turn as well as those that are being acted upon. A
// single lost one stops nothing, because settling it is fenced by its own token.
func (r *Reader) renew(rows []db.LeaseInboxRow) func(context.Context, time.Duration) error {
	var p db.RenewInboxParams
	for _, row := range rows {
		p.Ids, p.Tokens = append(p.Ids, row.ID), append(p.Tokens, row.LeaseToken)
	}
	return func(ctx context.Context, lasts time.Duration) error {
		p.LeaseSeconds = lasts.Seconds()
		return r.db.SystemTx(ctx, func(tx pgx.Tx) error { return db.New(tx).RenewInbox(ctx, p) }, postgres.Retry(5))
	}
}

// verdict is what becomes of hints.
type verdict struct {
	state  string
	reason string
	after  time.Duration // how long to wait, when the state is waiting
	try    bool          // the wait counts as a failed try
	link   ledger.Link
}

// follow acts upon the hints about one ticket.
func (r *Reader) follow(ctx context.Context, ref connectors.Ref, hints []db.LeaseInboxRow) error {
	ctx, span := otel.Tracer("liaison/sync/inbound").Start(telemetry.Extract(ctx, hints[0].Trace), "read ticket")
	defer span.End()
	v := r.read(ctx, ref, int(hints[0].Attempts))
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return r.db.SystemTx(settle, func(tx pgx.Tx) error {
		q := db.New(tx)
		for _, h := range hints {
			if err := r.settle(settle, q, h, v); err != nil {
				return fmt.Errorf("settling the inbox: %w", err)
			}
		}
		return nil
	}, postgres.Retry(5))
}

func (r *Reader) settle(ctx context.Context, q *db.Queries, h db.LeaseInboxRow, v verdict) error {
	at := r.opts.Now()
	if v.state == waiting {
		attempts := h.Attempts
		if v.try {
			attempts++
		}
		_, err := q.PostponeInbox(ctx, db.PostponeInboxParams{ID: h.ID, LeaseToken: h.LeaseToken, DueAt: at.Add(v.after), Attempts: attempts, Reason: v.reason})
		return err
	}
	r.opts.Metrics.settled(r.system.Key, v.state)
	p := db.SettleInboxParams{ID: h.ID, LeaseToken: h.LeaseToken, State: v.state, Reason: v.reason, SettledAt: &at}
	if v.link.ID.UUID != uuid.Nil {
		o := int64(v.link.Organisation)
		p.OrganisationID, p.LinkID = &o, uuid.NullUUID{UUID: v.link.ID.UUID, Valid: true}
	}
	_, err := q.SettleInbox(ctx, p)
	return err
}

func (r *Reader) read(ctx context.Context, ref connectors.Ref, tries int) verdict {
	links, err := r.ledger.FindLinks(ctx, r.system.ID, ref)
	switch {
	case err != nil:
		return r.again(err, tries)
	case len(links) == 0:
		return r.unlinked(ctx, ref, tries)
	}
	for _, link := range links {
		if v := r.pull(ctx, link, tries); v.state != done {
			return v
		}
	}
	return verdict{state: done, link: links[0]}
}

func (r *Reader) pull(ctx context.Context, link ledger.Link, tries int) verdict {
	lease, err := r.ledger.Lease(ctx, link.Organisation, link.ID, system.Lease)
	switch {
	case errors.Is(err, ledger.ErrBusy):
		return verdict{state: waiting, after: 20*time.Millisecond + rand.N(60*time.Millisecond), reason: "another exchange on this link is under way"}
	case err != nil:
		return r.again(err, tries)
	}
	defer func() {
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := r.ledger.Release(release, lease); err != nil {
			r.log.WarnContext(ctx, "cannot give a lane back; its lease ends by itself", "error", err)
		}
	}()
	ctx, let := system.Hold(ctx, func(ctx context.Context, lasts time.Duration) error { return r.ledger.Renew(ctx, lease, lasts) })
	defer let()
	// The link as it stands now that nobody else writes it.
	links, err := r.ledger.FindLinks(ctx, r.system.ID, connectors.Ref{ID: link.ExternalID})
	if err != nil || len(links) == 0 {
		return r.again(errors.Join(err, errors.New("the link has changed meanwhile")), tries)
	}
	taken, err := pull.Pull(ctx, r.ledger, r.system, lease, links[0])
	if err != nil {
		v := r.again(err, tries)
		v.link = link
		return v
	}
	r.opts.Metrics.pulled(r.system.Key, taken.Entries)
	return verdict{state: done, link: link}
}

// unlinked finds out whether a ticket that no link names is one whose creation is just being settled.
func (r *Reader) unlinked(ctx context.Context, ref connectors.Ref, tries int) verdict {
	if ref.ID == "" {
		if tries < 3 {
			return verdict{state: waiting, try: true, after: time.Second << tries, reason: "no link has this number yet"}
		}
		return verdict{state: ignored, reason: "no incident is linked to a ticket with this number"}
	}
	ticket, err := r.system.Connector.Read(ctx, ref.ID, r.system.Mapping.VendorFields())
	if err != nil {
		return r.again(err, tries)
	}
	link, err := r.ledger.FindLinkByCorrelation(ctx, r.system.ID, ticket.CorrelationID)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return verdict{state: ignored, reason: "no incident is linked to this ticket"}
	case err != nil:
		return r.again(err, tries)
	case link.ExternalID == "":
		return verdict{state: waiting, after: 250 * time.Millisecond, reason: "the ticket's creation is still being settled", link: link}
	case link.ExternalID == ref.ID:
		return verdict{state: waiting, after: 0, link: link} // settled between the two looks
	}
	return verdict{state: ignored, link: link, reason: fmt.Sprintf("a further ticket under the correlation id of %s, which is the one that is followed", link.ExternalID)}
}

// again decides from the failure when, and whether, a hint is tried again.
func (r *Reader) again(err error, tries int) verdict {
	v := verdict{state: waiting, try: true, reason: err.Error(), after: min(time.Second<<min(tries, 8), 30*time.Second)}
	v.after = v.after/2 + rand.N(v.after/2+1)
	if e, ok := errors.AsType[*connectors.Error](err); ok {
		v.after = max(v.after, e.RetryAfter)
		if (e.Kind == connectors.Rejected || e.Kind == connectors.NotFound) && tries+1 >= maxTries {
			v.state = parked
		}
	}
	if errors.Is(err, ledger.ErrFenced) {
		v.try, v.after = false, 100*time.Millisecond
	}
	return v
}

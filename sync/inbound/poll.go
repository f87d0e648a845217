package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/connectors"
	"liaison/internal/postgres"
	"liaison/sync/inbound/internal/db"
	"liaison/sync/ledger"
	"liaison/sync/pull"
	"liaison/sync/system"
)

// maxPages bounds one poll; what is left comes with the next one, at once.
const maxPages = 50

// Poller looks for changes that no webhook told of.
type Poller struct {
	store  Store
	ledger *ledger.Ledger
	system *system.System
	bell   ledger.Bell
	opts   Options
	log    *slog.Logger

	placed    bool // the system's row is there
	reweighed bool // what an earlier mapping had parked was read again
}

// NewPoller returns a poller for one system. A system whose PollInterval is 0 is never polled.
func NewPoller(d *postgres.DB, l *ledger.Ledger, s *system.System, bell ledger.Bell, opts Options) *Poller {
	return NewPollerOver(Rows(d), l, s, bell, opts)
}

// NewPollerOver returns a poller that keeps its place in a store.
func NewPollerOver(store Store, l *ledger.Ledger, s *system.System, bell ledger.Bell, opts Options) *Poller {
	opts = opts.withDefaults()
	return &Poller{store: store, ledger: l, system: s, bell: bell, opts: opts, log: opts.Log.With("system", s.Key)}
}

// Run polls until ctx ends.
func (p *Poller) Run(ctx context.Context) error {
	if p.system.PollInterval <= 0 {
		return nil
	}
	tick := time.NewTicker(min(p.system.PollInterval, time.Second))
	defer tick.Stop()
	for {
		if _, err := p.Step(ctx); err != nil && ctx.Err() == nil {
			p.log.WarnContext(ctx, "polling failed; the next poll takes it up from the same place", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Step polls once if a poll is due and the account may be called, and returns how many tickets are to be read. It is for
// one goroutine at a time.
func (p *Poller) Step(ctx context.Context) (int, error) {
	if paced, ok := p.system.Connector.(connectors.Paced); ok && paced.Pace().Wait > 0 {
		return 0, nil // a poll now would only fail and be put off for longer
	}
	if err := p.place(ctx); err != nil {
		return 0, err
	}
	if err := p.reweigh(ctx); err != nil {
		return 0, err
	}
	row, err := p.lease(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil // not due, or another hub is at it
	} else if err != nil {
		return 0, fmt.Errorf("leasing the poll: %w", err)
	}
	ctx, release := system.Hold(ctx, func(ctx context.Context, lasts time.Duration) error { return p.renew(ctx, row, lasts) })
	defer release()
	cursor, found := connectors.Cursor(row.Cursor), 0
	for n := range maxPages {
		page, err := p.system.Connector.Changes(ctx, cursor)
		if err != nil {
			return found, errors.Join(err, p.failed(ctx, row, cursor, err))
		}
		moved, err := p.moved(ctx, page.Refs)
		if err != nil {
			return found, errors.Join(err, p.failed(ctx, row, cursor, err))
		}
		if cursor == "" {
			// The vendor's stream begins now. What moved before, while no poll had succeeded yet, is in none of its pages.
			if moved, err = p.everything(ctx); err != nil {
				return found, errors.Join(err, p.failed(ctx, row, cursor, err))
			}
		}
		found += len(moved)
		cursor = page.Next
		last := !page.More
		if err := p.keep(ctx, row, moved, cursor, last, !last && n+1 < maxPages); err != nil {
			return found, err
		}
		if last {
			break
		}
	}
	p.opts.Pulse.Polled(found, nil)
	if found > 0 {
		p.bell.Ring(TopicInbox)
	}
	return found, nil
}

// everything lists all tickets that are followed.
func (p *Poller) everything(ctx context.Context) ([]string, error) {
	var out []string
	for after := (ledger.LinkPlace{}); ; {
		links, err := p.ledger.Followed(ctx, p.system.ID, after, 1000)
		if err != nil || len(links) == 0 {
			return out, err
		}
		for _, link := range links {
			out = append(out, string(link.ExternalID))
		}
		after = links[len(links)-1].Place()
	}
}

// reweigh reads again, once, what an earlier mapping had parked: no poll brings it up as long as the ticket does not change.
func (p *Poller) reweigh(ctx context.Context) error {
	if p.reweighed {
		return nil
	}
	if _, err := pull.Reweigh(ctx, p.ledger, p.system); err != nil {
		return fmt.Errorf("weighing parked fields anew: %w", err)
	}
	p.reweighed = true
	return nil
}

// place makes the row that holds the poll's place, once.
func (p *Poller) place(ctx context.Context) error {
	if p.placed {
		return nil
	}
	if err := p.store.System(ctx, func(q db.Querier) error { return q.EnsurePoll(ctx, int64(p.system.ID)) }); err != nil {
		return fmt.Errorf("placing the poll: %w", err)
	}
	p.placed = true
	return nil
}

func (p *Poller) lease(ctx context.Context) (db.LeasePollRow, error) {
	var row db.LeasePollRow
	err := p.store.System(ctx, func(q db.Querier) error {
		var err error
		row, err = q.LeasePoll(ctx, db.LeasePollParams{SystemID: int64(p.system.ID), At: p.opts.Now(), LeaseSeconds: system.Lease.Seconds()})
		return err
	})
	return row, err
}

func (p *Poller) renew(ctx context.Context, row db.LeasePollRow, lasts time.Duration) error {
	return p.store.System(ctx, func(q db.Querier) error {
		n, err := q.RenewPoll(ctx, db.RenewPollParams{SystemID: int64(p.system.ID), LeaseToken: row.LeaseToken, LeaseSeconds: lasts.Seconds()})
		if err == nil && n == 0 {
			err = ledger.ErrFenced
		}
		return err
	})
}

// moved keeps the tickets that are linked and whose version is not the one that the hub has read, and those that carry a
// link's correlation id without being the one that it follows. The latter are asked for first: a ticket whose creation is
// settled between the two looks is then found by the second.
func (p *Poller) moved(ctx context.Context, refs []connectors.Ref) ([]string, error) {
	versions := map[connectors.ExternalID]string{}
	ids := make([]connectors.ExternalID, 0, len(refs))
	var ours []ledger.Stray
	for _, ref := range refs {
		if _, seen := versions[ref.ID]; !seen {
			ids = append(ids, ref.ID)
			if ref.CorrelationID != "" {
				ours = append(ours, ledger.Stray{Ticket: ref.ID, CorrelationID: ref.CorrelationID})
			}
		}
		versions[ref.ID] = ref.Version // the last one is the newest
	}
	strays, err := p.ledger.Strays(ctx, p.system.ID, ours)
	if err != nil {
		return nil, err
	}
	links, err := p.ledger.LinksOf(ctx, p.system.ID, ids)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, link := range links {
		if v := versions[link.ExternalID]; v == "" || v != link.RemoteVersion {
			out = append(out, string(link.ExternalID))
		}
		delete(versions, link.ExternalID)
	}
	for _, ref := range refs {
		if _, unlinked := versions[ref.ID]; unlinked && ref.CorrelationID == "" && ref.Opened {
			out = append(out, string(ref.ID))
		}
	}
	for _, id := range strays {
		out = append(out, string(id))
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// keep stores what a page told and moves the cursor past it, together. Unless this poll goes on it gives the lease back.
func (p *Poller) keep(ctx context.Context, row db.LeasePollRow, tickets []string, cursor connectors.Cursor, last, goesOn bool) error {
	at := p.opts.Now()
	return p.store.System(ctx, func(q db.Querier) error {
		if len(tickets) > 0 {
			if err := q.InsertHints(ctx, db.InsertHintsParams{SystemID: int64(p.system.ID), Source: poll, ExternalIds: tickets, At: at}); err != nil {
				return fmt.Errorf("storing a poll's findings: %w", err)
			}
		}
		settle := db.SettlePollParams{SystemID: int64(p.system.ID), LeaseToken: row.LeaseToken, Cursor: string(cursor), DueAt: at, LastOkAt: &at, More: goesOn}
		if last {
			settle.DueAt = at.Add(p.system.PollInterval)
		}
		return p.settle(ctx, q, settle)
	})
}

// failed keeps the cursor and waits longer with every failure in a row. A poll that was cut off because the hub stops is
// none: the next hub makes it at once.
func (p *Poller) failed(ctx context.Context, row db.LeasePollRow, cursor connectors.Cursor, cause error) error {
	cut := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if cut {
		return p.store.System(ctx, func(q db.Querier) error {
			return q.LeavePoll(ctx, db.LeavePollParams{SystemID: int64(p.system.ID), LeaseToken: row.LeaseToken, Cursor: string(cursor)})
		})
	}
	p.opts.Pulse.Polled(0, cause)
	wait := min(p.system.PollInterval<<min(row.Failures, 6), max(30*time.Second, p.system.PollInterval))
	wait = max(wait, connectors.RetryAfterOf(cause))
	return p.store.System(ctx, func(q db.Querier) error {
		return p.settle(ctx, q, db.SettlePollParams{
			SystemID: int64(p.system.ID), LeaseToken: row.LeaseToken, Cursor: string(cursor),
			DueAt: p.opts.Now().Add(wait), Failures: row.Failures + 1, LastError: cause.Error(),
		})
	})
}

func (p *Poller) settle(ctx context.Context, q db.Querier, s db.SettlePollParams) error {
	n, err := q.SettlePoll(ctx, s)
	if err != nil {
		return fmt.Errorf("settling the poll: %w", err)
	}
	if n == 0 {
		return errors.New("the poll's lease has ended")
	}
	return nil
}

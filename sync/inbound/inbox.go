package inbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"golang.org/x/sync/errgroup"

	"liaison/connectors"
	"liaison/internal/postgres"
	"liaison/internal/telemetry"
	"liaison/sync/inbound/internal/db"
	"liaison/sync/ledger"
	"liaison/sync/pull"
	"liaison/sync/pulse"
	"liaison/sync/system"
)

// TopicInbox is rung when hints wait.
const TopicInbox = "inbox"

// States of an inbox row.
const (
	waiting   = "WAITING"   // to be acted upon when it is due
	done      = "DONE"      // its ticket was read, or it goes again as other rows
	ignored   = "IGNORED"   // its ticket is nobody's here
	parked    = "PARKED"    // waits for a person: the reason says what is wrong
	duplicate = "DUPLICATE" // repeats another row and is not acted upon
)

// Sources of an inbox row.
const (
	webhook = "WEBHOOK" // the vendor called
	poll    = "POLL"    // a poll noticed a change
	replay  = "REPLAY"  // a person had a row acted upon again
)

// maxTries is how often a hint is tried whose ticket fails while others of the same vendor do not, before it is parked.
const maxTries = 10

// Options are a reader's settings; the zero value has the defaults.
type Options struct {
	Idle    time.Duration    // how often the inbox is looked at when nothing wakes the reader, default 500 ms
	Log     *slog.Logger     // default slog.Default
	Now     func() time.Time // default time.Now
	Wake    <-chan struct{}  // rings when hints wait; nil: only Idle
	Metrics *Metrics         // nil: none
	Pulse   *pulse.Pulse     // nil: nobody is told how the system does
	// Hooked tells that the vendor calls the hub about changes: one that only a poll brought counts as restored.
	Hooked bool
	// Jitter returns a random duration from 0 up to the given one, which is positive; default rand.N.
	Jitter func(time.Duration) time.Duration
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
	if o.Jitter == nil {
		o.Jitter = rand.N[time.Duration]
	}
	return o
}

// Reader acts upon the inbox of one system.
type Reader struct {
	store  Store
	ledger *ledger.Ledger
	system *system.System
	opts   Options
	log    *slog.Logger

	answered atomic.Int64 // when the vendor last answered for a ticket, Unix nanoseconds by opts.Now
	trouble  trouble
}

// NewReader returns a reader for one system.
func NewReader(d *postgres.DB, l *ledger.Ledger, s *system.System, opts Options) *Reader {
	return NewReaderOver(Rows(d), l, s, opts)
}

// NewReaderOver returns a reader of the inbox in a store.
func NewReaderOver(store Store, l *ledger.Ledger, s *system.System, opts Options) *Reader {
	opts = opts.withDefaults()
	return &Reader{
		store: store, ledger: l, system: s, opts: opts, log: opts.Log.With("system", s.Key),
		trouble: trouble{what: "cannot work through the inbox; trying on", over: "works through the inbox again"},
	}
}

// trouble tells an outage once, not twice a second, and its end.
type trouble struct {
	what, over string // what the log says when it begins and when it has ended

	mu sync.Mutex
	n  int
}

func (t *trouble) note(ctx context.Context, log *slog.Logger, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case err != nil:
		if t.n++; t.n == 1 {
			log.WarnContext(ctx, t.what, "error", err)
		}
	case t.n > 0:
		log.InfoContext(ctx, t.over, "failures", t.n)
		t.n = 0
	}
}

// Run acts upon hints until ctx ends, and returns once the reads that are under way have ended. As many tickets are read
// at a time as the system's concurrency says; one whose read takes long holds up no other.
func (r *Reader) Run(ctx context.Context) error {
	slots := max(r.system.Concurrency, 1)
	free := make(chan struct{}, slots)
	for range slots {
		free <- struct{}{}
	}
	defer func() {
		for range slots { // every slot is back when every read has ended
			<-free
		}
	}()
	tick := time.NewTicker(r.opts.Idle)
	defer tick.Stop()
	for {
		n, err := r.start(ctx, free)
		r.trouble.note(ctx, r.log, err)
		if ctx.Err() != nil {
			return nil
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
		for range 3 { // one look answers all that has rung
			select {
			case <-r.opts.Wake:
			case <-tick.C:
			default:
			}
		}
	}
}

// start waits for a free slot, takes hints for all that are free, and lets them be acted upon.
func (r *Reader) start(ctx context.Context, free chan struct{}) (int, error) {
	select {
	case <-ctx.Done():
		return 0, nil
	case <-free:
	}
	slots := 1
	for more := true; more; {
		select {
		case <-free:
			slots++
		default:
			more = false
		}
	}
	release := func(n int) {
		for range n {
			free <- struct{}{}
		}
	}
	use := min(slots, r.mayRead())
	release(slots - use)
	if use == 0 {
		return 0, nil
	}
	rows, err := r.lease(ctx, use)
	if err != nil || len(rows) == 0 {
		release(use)
		return 0, err
	}
	go func() {
		err := r.work(ctx, rows, use, func() { release(1) })
		if err != nil {
			r.trouble.note(ctx, r.log, err)
		}
	}()
	return len(rows), nil
}

// mayRead is how many tickets the account lets be read at a time now: none while it waits, one while its breaker tries
// whether the vendor is back.
func (r *Reader) mayRead() int {
	paced, ok := r.system.Connector.(connectors.Paced)
	if !ok {
		return max(r.system.Concurrency, 1)
	}
	pace := paced.Pace()
	switch {
	case pace.Wait > 0:
		return 0
	case pace.Breaker == connectors.BreakerHalfOpen:
		return min(pace.Calls, 1)
	}
	return max(r.system.Concurrency, 1)
}

// Step acts once upon the hints that are due and returns how many there were. Hints about one ticket are
// answered by one read of it.
func (r *Reader) Step(ctx context.Context) (int, error) {
	workers := max(r.system.Concurrency, 1)
	rows, err := r.lease(ctx, workers)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	return len(rows), r.work(ctx, rows, workers, func() {})
}

func (r *Reader) lease(ctx context.Context, workers int) ([]db.LeaseInboxRow, error) {
	var rows []db.LeaseInboxRow
	err := r.store.System(ctx, func(q db.Querier) error {
		var err error
		rows, err = q.LeaseInbox(ctx, db.LeaseInboxParams{SystemID: int64(r.system.ID), At: r.opts.Now(), Most: int32(16 * workers), LeaseSeconds: system.Lease.Seconds()})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("leasing the inbox: %w", err)
	}
	return rows, nil
}

// work has so many workers act upon the hints, ticket by ticket. Each calls ended when nothing is left for it.
func (r *Reader) work(ctx context.Context, rows []db.LeaseInboxRow, workers int, ended func()) error {
	ctx, release := system.Hold(ctx, r.renew(rows))
	defer release()
	byTicket, tickets := map[connectors.Ref]hints{}, []connectors.Ref(nil)
	for _, row := range rows {
		ref := connectors.Ref{ID: connectors.ExternalID(row.ExternalID)}
		if ref.ID == "" {
			ref.Number = row.Number
		}
		if byTicket[ref] == nil {
			tickets = append(tickets, ref)
		}
		byTicket[ref] = append(byTicket[ref], row)
	}
	todo := make(chan connectors.Ref, len(tickets))
	for _, ref := range tickets { // the longest due first
		todo <- ref
	}
	close(todo)
	var group errgroup.Group
	for range workers {
		group.Go(func() error {
			defer ended()
			var errs []error
			for ref := range todo {
				errs = append(errs, r.follow(ctx, ref, byTicket[ref]))
			}
			return errors.Join(errs...)
		})
	}
	return group.Wait()
}

// hints are rows about one ticket, under leases.
type hints []db.LeaseInboxRow

// keys are the columns by which rows are written together, each fenced by its own token.
func (h hints) keys() (ids []uuid.UUID, received []time.Time, tokens []int64) {
	for _, row := range h {
		ids, received, tokens = append(ids, row.ID), append(received, row.ReceivedAt), append(tokens, row.LeaseToken)
	}
	return ids, received, tokens
}

func (h hints) tries() int32 {
	return slices.MaxFunc(h, func(a, b db.LeaseInboxRow) int { return int(a.Attempts - b.Attempts) }).Attempts
}

// polled tells that nothing but polls gave the hints.
func (h hints) polled() bool {
	return !slices.ContainsFunc(h, func(row db.LeaseInboxRow) bool { return row.Source != poll })
}

// renew makes the leases of hints last: those that wait for their turn as well as those that are being acted upon. A
// single lost one stops nothing, because settling it is fenced by its own token.
func (r *Reader) renew(rows hints) func(context.Context, time.Duration) error {
	var p db.RenewInboxParams
	p.Ids, p.Received, p.Tokens = rows.keys()
	return func(ctx context.Context, lasts time.Duration) error {
		p.LeaseSeconds = lasts.Seconds()
		return r.store.System(ctx, func(q db.Querier) error { return q.RenewInbox(ctx, p) })
	}
}

// verdict is what becomes of hints.
type verdict struct {
	state   string
	reason  string
	after   time.Duration // how long to wait, when the state is waiting
	try     bool          // the wait counts as a failed try
	link    ledger.Link
	entries int // how many ledger entries it led to
}

// follow acts upon the hints about one ticket.
func (r *Reader) follow(ctx context.Context, ref connectors.Ref, rows hints) error {
	ctx, span := otel.Tracer("liaison/sync/inbound").Start(telemetry.Extract(ctx, rows[0].Trace), "read ticket")
	defer span.End()
	v := r.read(ctx, ref, int(rows.tries()))
	if v.state == done && v.entries > 0 && r.opts.Hooked && rows.polled() {
		v.reason = "found by the poll: no webhook told of it"
		r.opts.Metrics.restored(r.system.Key, v.entries)
		r.opts.Pulse.Restored(v.entries)
	}
	if v.state == parked {
		r.log.WarnContext(ctx, "a hint was parked: its ticket cannot be read", "ticket", string(ref.ID)+ref.Number, "reason", v.reason)
	}
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := r.store.System(settle, func(q db.Querier) error { return r.settle(settle, q, rows, v) }); err != nil {
		return fmt.Errorf("settling the inbox: %w", err)
	}
	if v.state != waiting {
		r.opts.Metrics.settled(r.system.Key, v.state, len(rows))
	}
	return nil
}

func (r *Reader) settle(ctx context.Context, q db.Querier, rows hints, v verdict) error {
	ids, received, tokens := rows.keys()
	at, reason := r.opts.Now(), storable(v.reason)
	if v.state == waiting {
		attempts := rows.tries()
		if v.try {
			attempts++
		}
		_, err := q.PostponeInbox(ctx, db.PostponeInboxParams{Ids: ids, Received: received, Tokens: tokens, DueAt: at.Add(v.after), Attempts: attempts, Reason: reason})
		return err
	}
	p := db.SettleInboxParams{Ids: ids, Received: received, Tokens: tokens, State: v.state, Reason: reason, Entries: int32(v.entries), SettledAt: &at}
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
		return r.again(ctx, err, tries)
	case len(links) == 0:
		return r.unlinked(ctx, ref, tries)
	}
	out := verdict{state: done, link: links[0]}
	for _, link := range links {
		v := r.pull(ctx, link, tries)
		if v.state != done {
			return v
		}
		out.entries += v.entries
	}
	return out
}

func (r *Reader) pull(ctx context.Context, link ledger.Link, tries int) verdict {
	// The word to stop must not cut the commit: the lane would stay taken by nobody.
	leasing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	lease, err := r.ledger.Lease(leasing, link.Organisation, link.ID, system.Lease)
	cancel()
	switch {
	case errors.Is(err, ledger.ErrBusy):
		return verdict{state: waiting, after: 20*time.Millisecond + r.opts.Jitter(60*time.Millisecond), reason: "another exchange on this link is under way", link: link}
	case err != nil:
		return r.again(ctx, err, tries)
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
	// The link as it stands now that nobody else writes it. Several organisations may follow one ticket.
	links, err := r.ledger.FindLinks(ctx, r.system.ID, connectors.Ref{ID: link.ExternalID})
	n := slices.IndexFunc(links, func(l ledger.Link) bool { return l.ID == link.ID })
	if err != nil || n < 0 {
		return r.again(ctx, errors.Join(err, errors.New("the link has changed meanwhile")), tries)
	}
	taken, err := pull.Pull(ctx, r.ledger, r.system, lease, links[n])
	if err == nil || ctx.Err() == nil { // a read that was cut off says nothing of the vendor
		r.opts.Pulse.Pulled(links[n], taken, err)
	}
	if err != nil {
		v := r.again(ctx, err, tries)
		v.link = link
		return v
	}
	r.answered.Store(r.opts.Now().UnixNano())
	r.opts.Metrics.pulled(r.system.Key, taken)
	return verdict{state: done, link: link, entries: taken.Entries}
}

// unlinked finds out whether a ticket that no link names is one whose creation is just being settled, or one that was
// opened a second time.
func (r *Reader) unlinked(ctx context.Context, ref connectors.Ref, tries int) verdict {
	if ref.ID == "" {
		if tries < 3 {
			return verdict{state: waiting, try: true, after: time.Second << tries, reason: "no link has this number yet"}
		}
		return verdict{state: ignored, reason: "no incident is linked to a ticket with this number"}
	}
	ticket, err := r.system.Connector.Read(ctx, ref.ID, r.system.Mapping.VendorFields())
	if err != nil {
		return r.again(ctx, err, tries)
	}
	r.answered.Store(r.opts.Now().UnixNano())
	link, err := r.ledger.FindLinkByCorrelation(ctx, r.system.ID, ticket.CorrelationID)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return verdict{state: ignored, reason: "no incident is linked to this ticket"}
	case err != nil:
		return r.again(ctx, err, tries)
	case link.ExternalID == "":
		return verdict{state: waiting, try: true, after: min(250*time.Millisecond<<min(tries, 8), 30*time.Second), reason: "the ticket's creation is still being settled", link: link}
	case link.ExternalID == ref.ID:
		return verdict{state: waiting, after: 0, link: link} // settled between the two looks
	}
	return r.further(ctx, link, ticket, tries)
}

// further tells of a ticket that stands under a link's correlation id beside the one that is followed. Its lane closes it.
func (r *Reader) further(ctx context.Context, link ledger.Link, ticket connectors.Ticket, tries int) verdict {
	v := verdict{state: ignored, link: link, reason: fmt.Sprintf("a further ticket under the correlation id of %s, which is the one that is followed", link.ExternalID)}
	if ticket.Gone != connectors.Present || link.Gone != connectors.Present {
		v.reason += "; one of them is gone, so nothing is closed"
		return v
	}
	told, err := r.ledger.TellDuplicate(ctx, r.system.Actor(), link, ticket)
	if err != nil {
		return r.again(ctx, err, tries)
	}
	if told {
		v.entries = 1
	}
	return v
}

// again decides from the failure when, and whether, a hint is tried again. What fails because the vendor or the database
// is away is tried for as long as that lasts; a ticket that fails while others do not is parked after maxTries.
func (r *Reader) again(ctx context.Context, err error, tries int) verdict {
	v := verdict{state: waiting, try: true, reason: err.Error(), after: min(time.Second<<min(tries, 8), 30*time.Second)}
	switch e, vendors := errors.AsType[*connectors.Error](err); {
	case errors.Is(err, ledger.ErrFenced):
		return verdict{state: waiting, reason: v.reason, after: 100 * time.Millisecond}
	case ctx.Err() != nil:
		return verdict{state: waiting, reason: "the hub was told to stop"}
	case vendors:
		v.try = r.counts(ctx, e, tries)
		v.after = max(v.after, e.RetryAfter)
	case postgres.IsUnavailable(err), postgres.IsTimeout(err):
		v.try = false
	}
	if !v.try {
		v.after = max(v.after, 5*time.Second)
	}
	if v.try && tries+1 >= maxTries {
		return verdict{state: parked, reason: fmt.Sprintf("given up after %d tries: %s", tries+1, err)}
	}
	v.after = v.after/2 + r.opts.Jitter(v.after/2+1)
	if vendors := connectors.RetryAfterOf(err); vendors > v.after {
		v.after = vendors // never before the time that the vendor named
	}
	return v
}

// counts tells whether a vendor's failure is the ticket's own.
func (r *Reader) counts(ctx context.Context, e *connectors.Error, tries int) bool {
	switch e.Kind {
	case connectors.RateLimited:
		return false
	case connectors.Transient, connectors.Auth, connectors.Unknown:
		return r.well(ctx, tries)
	case connectors.Rejected, connectors.NotFound, connectors.Conflict:
	}
	return true
}

// well tells whether the vendor answers for others: lately, or when it is asked.
func (r *Reader) well(ctx context.Context, tries int) bool {
	now := r.opts.Now()
	if now.Sub(time.Unix(0, r.answered.Load())) < 5*time.Second { // longer would count an outage's beginning against the ticket
		return true
	}
	if tries < 2 || r.system.Connector.Check(ctx) != nil {
		return tries < 2
	}
	r.answered.Store(now.UnixNano())
	return true
}

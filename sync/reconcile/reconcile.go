package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"liaison/connectors"
	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger"
	"liaison/sync/system"
)

// Cause says what a comparison was begun for.
type Cause string

// The causes.
const (
	Nightly Cause = "NIGHTLY"
	Person  Cause = "PERSON"
)

// State is how a comparison stands.
type State string

// The states of a comparison.
const (
	Running State = "RUNNING"
	Done    State = "DONE"    // every followed link was compared
	Stopped State = "STOPPED" // its budget was used up; the next one goes on from its place
	// PassedOver is none that is written down: the system is paused, so nothing was begun.
	PassedOver State = "PASSED_OVER"
	Failed     State = "FAILED" // the vendor or the database stayed away, or the hub stopped; the next one goes on from its place
)

// Report is what a comparison came to.
type Report struct {
	ID       uuid.UUID     `json:"id"`
	System   string        `json:"system"`
	State    State         `json:"state"`
	Mend     bool          `json:"mend"`
	Links    int           `json:"links"`    // compared
	Requests int           `json:"requests"` // to the vendor
	Drifted  int           `json:"drifted"`  // things that were not as they should be
	Mended   int           `json:"mended"`   // of those
	Failed   int           `json:"failed"`   // links that could not be compared
	Error    string        `json:"error,omitempty"`
	Took     time.Duration `json:"-"`
}

// ErrRunning says that the system is being compared already.
var ErrRunning = errors.New("a comparison of this system is under way; wait for its end, or look at it with liaison sync status")

// Options are a reconciler's settings; the zero value has the defaults.
type Options struct {
	Log *slog.Logger     // default slog.Default
	Now func() time.Time // default time.Now
	// At is when the nightly comparison begins, as HH:MM in Now's zone. Empty: never.
	At        string
	Requests  int  // the most to one system in one night; 0: no bound
	PerMinute int  // the most requests of the nightly comparison to one system a minute; 0: no bound but the account's
	Mend      bool // whether the nightly comparison mends
	Metrics   *Metrics
}

// Reconciler compares links with their vendors' tickets.
type Reconciler struct {
	db      *postgres.DB
	ledger  *ledger.Ledger
	systems []*system.System
	opts    Options
	log     *slog.Logger

	mu         sync.Mutex
	passedOver map[string]time.Time // paused systems, by key: the last night that was told to pass over them
}

// New returns a reconciler of the given systems.
func New(d *postgres.DB, l *ledger.Ledger, systems []*system.System, opts Options) *Reconciler {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Reconciler{db: d, ledger: l, systems: systems, opts: opts, log: opts.Log}
}

// Request is what to compare.
type Request struct {
	Cause Cause
	By    string // who asked, for people
	Mend  bool
	// Requests bounds the requests to the vendor, PerMinute their pace; 0: only the account's own limits hold.
	Requests, PerMinute int
	// Each is told of every piece of drift as it is found, mended or not. Nil: nobody is.
	Each func(Drift)
}

// System compares every followed link of a system, from the place where the last nightly comparison was cut off if this is one,
// else from the first. It returns ErrRunning while another comparison of the system is under way, and a [*Paused] while the
// system is paused; one that is paused meanwhile ends the comparison. The report also says how far it came when the error is
// not nil.
func (r *Reconciler) System(ctx context.Context, s *system.System, q Request) (Report, error) {
	if err := r.unpaused(ctx, s); err != nil {
		return Report{}, err
	}
	run, err := r.start(ctx, s, q)
	if err != nil {
		return Report{}, err
	}
	began := r.opts.Now()
	held, release := system.Hold(ctx, run.renew)
	err = run.through(held)
	release()
	run.report.Took = r.opts.Now().Sub(began)
	run.end(ctx, err)
	return run.report, err
}

// Link compares one link and, if asked to, mends it. A viewer compares what row-level security shows; nil is the operator. A link
// that does not exist, is not the viewer's or has no ticket that is followed is ledger.ErrNotFound, one in a system that is
// paused a [*Paused].
func (r *Reconciler) Link(ctx context.Context, v *auth.Viewer, id incident.LinkID, q Request) (Report, []Drift, error) {
	link, err := r.ledger.LinkByID(ctx, v, id)
	if err != nil {
		return Report{}, nil, fmt.Errorf("finding the link: %w", err)
	}
	n := slices.IndexFunc(r.systems, func(s *system.System) bool { return s.ID == link.System })
	if n < 0 || link.ExternalID == "" || link.Gone != connectors.Present {
		return Report{}, nil, fmt.Errorf("the link has no ticket that is followed: %w", ledger.ErrNotFound)
	}
	if err := r.unpaused(ctx, r.systems[n]); err != nil {
		return Report{}, nil, err
	}
	var drift []Drift
	told := q.Each
	q.Each = func(d Drift) {
		drift = append(drift, d)
		if told != nil {
			told(d)
		}
	}
	run := r.single(r.systems[n], q)
	if err := run.batch(ctx, []ledger.Link{link}); err != nil {
		return run.report, drift, err
	}
	run.report.State = Done
	if err := run.record(ctx); err != nil {
		return run.report, drift, err
	}
	return run.report, drift, nil
}

package graph

import (
	"context"
	"slices"

	"liaison/graph/load"
	"liaison/graph/model"
	"liaison/internal/desk"
	"liaison/internal/feed"
	"liaison/internal/incident"
	"liaison/sync/explain"
	"liaison/sync/ledger"
	"liaison/sync/pulse"
)

// activityRoom is how many moments may wait for a client before some are left out.
const activityRoom = 256

// activityFilter is a subscription's filter, its names resolved.
type activityFilter struct {
	systems   map[incident.SystemID]*model.System // those that the viewer may know and asks for
	narrowed  bool                                // only systems that were named
	incident  *incident.ID
	kinds     []pulse.Kind
	failures  bool
	organised func(incident.OrganisationID) bool
}

func (r *Resolver) activityFilter(ctx context.Context, s *load.Set, in *model.SyncActivityFilter) (activityFilter, error) {
	f := activityFilter{systems: map[incident.SystemID]*model.System{}, organised: s.Viewer().Sees}
	if in == nil {
		in = &model.SyncActivityFilter{}
	}
	f.kinds, f.failures, f.narrowed = in.Kinds, value(in.Failures), len(in.Systems) > 0
	ids, err := systemIDs(ctx, s, "systems", in.Systems)
	if err != nil {
		return f, err
	}
	all, err := s.Systems(ctx)
	if err != nil {
		return f, err
	}
	for _, x := range all {
		if slices.Contains(ids, x.ID) {
			f.systems[x.ID] = model.NewSystem(s, x)
		}
	}
	if in.Incident != nil {
		id, err := incidentID("incident", *in.Incident)
		if err != nil {
			return f, err
		}
		if _, err := s.Incident(ctx, id); err != nil {
			return f, err
		}
		f.incident = &id
	}
	return f, nil
}

// shows reports whether a moment is for the subscriber: of a system that it may know, about an organisation that it serves.
func (f activityFilter) shows(a pulse.Activity) bool {
	_, known := f.systems[a.System]
	return known && (a.Organisation == 0 || f.organised(a.Organisation)) && f.asked(a.Kind, a.Incident, a.Error != "")
}

func (f activityFilter) asked(k pulse.Kind, i incident.ID, failed bool) bool {
	return (len(f.kinds) == 0 || slices.Contains(f.kinds, k)) && (f.incident == nil || *f.incident == i) && (!f.failures || failed)
}

// vendorKinds are the entries that tell of vendors' tickets, beside whatever came from one; those in failed tell of trouble.
var (
	vendorKinds = []ledger.Kind{
		ledger.Escalated, ledger.TicketOpened, ledger.TicketChanged, ledger.TicketGone, ledger.Conflicted, ledger.ConflictResolved, ledger.FieldParked,
		ledger.FieldFreed, ledger.FieldStopped, ledger.DeliveryFailed, ledger.DeliveryRetried, ledger.DeliverySkipped, ledger.DeliveryEdited, ledger.DuplicateFound,
		ledger.DuplicateClosed, ledger.Reconciled,
	}
	troubles = []ledger.Kind{ledger.TicketGone, ledger.Conflicted, ledger.FieldParked, ledger.FieldStopped, ledger.DeliveryFailed, ledger.DuplicateFound}
)

// entry reports whether an entry can be for the subscriber as far as the entry itself tells.
func (f activityFilter) entry(e ledger.Entry) bool {
	return (slices.Contains(vendorKinds, e.Kind) || e.Link != (incident.LinkID{})) &&
		f.asked(model.EntryWritten, e.Incident, slices.Contains(troubles, e.Kind))
}

// activity hands what goes on to the executor until the client leaves or the hub stops.
func (r *Resolver) activity(ctx context.Context, filter *model.SyncActivityFilter) (<-chan *model.SyncActivity, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	if err := desk.Staff(s.Viewer(), "watch the exchange with vendors"); err != nil {
		return nil, err
	}
	f, err := r.activityFilter(ctx, s, filter)
	if err != nil {
		return nil, err
	}
	sub, err := r.feed.Subscribe(ctx, s.Viewer(), feed.Options{Match: f.entry})
	if err != nil {
		return nil, err
	}
	out := make(chan *model.SyncActivity)
	watcher := r.monitor.Watch(activityRoom)
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		defer close(out)
		defer sub.Close()
		defer watcher.Close()
		defer cancel(nil)
		entries := r.entriesOf(ctx, sub, cancel)
		missed := 0
		for {
			var next *model.SyncActivity
			select {
			case <-ctx.Done():
				if e, ok := ctx.Value(endingKey{}).(*ending); ok && context.Cause(ctx) != context.Canceled { //nolint:errorlint // only what cancel was given
					e.set(&cutOff{cause: context.Cause(ctx)})
				}
				return
			case a := <-watcher.Events():
				if !f.shows(a) {
					continue
				}
				next = &model.SyncActivity{Activity: a, System: f.systems[a.System]}
			case e := <-entries:
				if next = r.entryActivity(ctx, f, e); next == nil {
					continue
				}
			}
			missed += watcher.Missed()
			next.Missed = missed
			select {
			case out <- next:
				missed = 0
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

// entriesOf reads the feed until ctx ends. A live view is not resumed: a feed that ends, ends it.
func (r *Resolver) entriesOf(ctx context.Context, sub *feed.Subscription, end context.CancelCauseFunc) <-chan ledger.Entry {
	out := make(chan ledger.Entry)
	go func() {
		for {
			event, err := sub.Next(ctx)
			if err != nil {
				end(err)
				return
			}
			select {
			case out <- event.Entry:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// entryActivity shows an entry as a moment; nil when it is not for the subscriber.
func (r *Resolver) entryActivity(ctx context.Context, f activityFilter, e ledger.Entry) *model.SyncActivity {
	s, err := r.set(context.WithValue(ctx, setKey{}, nil))
	if err != nil {
		return nil
	}
	shown := &model.LedgerEntry{Entry: e, Peers: s.Entries(e)}
	out := &model.SyncActivity{Entry: shown, Activity: pulse.Activity{
		At: e.At, Kind: model.EntryWritten, Organisation: e.Organisation, Incident: e.Incident, Link: e.Link,
	}}
	if i, err := s.Incident(ctx, e.Incident); err == nil {
		out.Number = i.Number
	}
	at := explain.Where{}
	if e.Link != (incident.LinkID{}) {
		if link, err := s.Link(ctx, e.Link); err == nil {
			out.Activity.System, out.System = link.System, f.systems[link.System]
			if at, err = where(ctx, s, link); err != nil {
				return nil
			}
		}
	}
	if f.narrowed && out.System == nil {
		return nil
	}
	out.Text = explain.Entry(e, at)
	if slices.Contains(troubles, e.Kind) {
		out.Activity.Error = out.Text
	}
	return out
}

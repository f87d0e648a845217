package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/connectors"
	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger"
	"liaison/sync/ledger/internal/db"
	"liaison/sync/merge"
)

// Bench is a store with what the suite needs to move it. It holds two organisations, 1 and 2, and the systems 1, alpha, and
// 2, beta, which the first organisation may use; and no rows.
type Bench struct {
	Store    ledger.Store
	Contents func() Contents
	Expire   func()                                        // ends every lease
	Pause    func(system incident.SystemID, paused bool)   // stops a system's lanes
	Age      func(link incident.LinkID, ago time.Duration) // moves back when the lane's head was sent
}

// Systems are those of a Bench.
func Systems() []System {
	return []System{{ID: 1, Key: "alpha", Organisations: []incident.OrganisationID{1}}, {ID: 2, Key: "beta", Organisations: []incident.OrganisationID{1}}}
}

// Suite checks that a store keeps what the ledger relies on.
func Suite(t *testing.T, open func(t *testing.T) Bench) {
	t.Helper()
	for name, check := range map[string]func(*desk){
		"a lane is leased once":                          leasedOnce,
		"a lease that ended is taken over and fenced":    takenOver,
		"a lane goes by version":                         goesByVersion,
		"a kept lane goes on":                            goesOn,
		"deliveries begun together":                      together,
		"a run whose worker died":                        brokenRun,
		"a comment sent at the second try":               sentLater,
		"settlements together":                           settledTogether,
		"an unknown outcome keeps when it was sent":      unknownKeeps,
		"a dead letter holds its lane":                   deadHolds,
		"overruled values are withdrawn":                 withdrawn,
		"what must be there once is there once":          once,
		"a transaction happens whole or not at all":      whole,
		"a viewer sees the own organisation and no more": isolated,
		"news is taken under the lane's fence":           taken,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t)
			d := &desk{T: t, Bench: b, now: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)}
			d.ledger = ledger.Over(b.Store, silent{}, func() time.Time { return d.now })
			check(d)
		})
	}
}

type silent struct{}

func (silent) Ring(string) {}

// desk is one check's bench.
type desk struct {
	*testing.T
	Bench

	ledger *ledger.Ledger
	now    time.Time
}

var (
	agent = auth.Viewer{Subject: "agent", Name: "Ada", Roles: []auth.Role{auth.Agent, auth.Admin}, Desk: 1, Organisations: []incident.OrganisationID{1, 2}}
	ours  = auth.Viewer{Subject: "sam", Name: "Sam", Roles: []auth.Role{auth.Requester}, Organisation: 1, Organisations: []incident.OrganisationID{1}}
	other = auth.Viewer{Subject: "oli", Name: "Oli", Roles: []auth.Role{auth.Requester}, Organisation: 2, Organisations: []incident.OrganisationID{2}}
	ada   = ledger.Actor{Kind: ledger.Person, Name: "Ada"}
)

func must[V any](v V, err error) func(*desk) V {
	return func(d *desk) V {
		d.Helper()
		if err != nil {
			d.Fatal(err)
		}
		return v
	}
}

func (d *desk) open() incident.Incident {
	d.Helper()
	return must(d.ledger.Open(d.Context(), ours, ada, incident.Incident{
		ID: incident.NewID(), Organisation: 1, Title: "Printer", Description: "It does not print", State: incident.New, Priority: incident.PriorityNone,
		Source: incident.SourceUser, OpenedAt: d.now,
	}, ledger.Key{}))(d).Incident
}

func (d *desk) escalate(i incident.Incident, system string) ledger.Link {
	d.Helper()
	return must(d.ledger.Escalate(d.Context(), ledger.Escalate{Viewer: agent, Actor: ada, Incident: i.ID, System: system}))(d).Link
}

func (d *desk) retitle(i incident.ID, title string) {
	d.Helper()
	must(d.ledger.Append(d.Context(), ledger.Append{Viewer: agent, Actor: ada, Incident: i, Decide: func(x *ledger.Draft) error { x.After.Title = title; return nil }}))(d)
}

func (d *desk) say(i incident.ID, v incident.Visibility, body string) incident.Comment {
	d.Helper()
	c := incident.Comment{ID: incident.NewCommentID(), Visibility: v, Body: body, Author: "Ada", At: d.now}
	must(d.ledger.Append(d.Context(), ledger.Append{Viewer: agent, Actor: ada, Incident: i, Decide: func(x *ledger.Draft) error { x.Comment = &c; return nil }}))(d)
	return c
}

func (d *desk) next(want int) []ledger.Exchange {
	d.Helper()
	xs := must(d.ledger.NextExchanges(d.Context(), 1, 10, time.Minute))(d)
	if len(xs) != want {
		d.Fatalf("%d lanes are due, want %d", len(xs), want)
	}
	return xs
}

func (d *desk) settle(x ledger.Exchange, s ledger.Settlement) {
	d.Helper()
	if err := d.ledger.Settle(d.Context(), x, s); err != nil {
		d.Fatal(err)
	}
}

// opened is the end of a create.
func opened(id connectors.ExternalID) ledger.Settlement {
	return ledger.Settlement{State: ledger.StateDelivered, Actor: ledger.Actor{Kind: ledger.System, Name: "Alpha"}, Ticket: &connectors.Ticket{ID: id, Number: "N" + string(id)}, RemoteState: "New"}
}

// ready is an incident with an open ticket and nothing to say.
func (d *desk) ready(ticket connectors.ExternalID) (incident.Incident, ledger.Link) {
	d.Helper()
	i := d.open()
	l := d.escalate(i, "alpha")
	d.settle(d.next(1)[0], opened(ticket))
	return i, l
}

func (d *desk) link(id incident.LinkID) Link {
	d.Helper()
	for _, l := range d.Contents().Links {
		if l.ID == id {
			return l
		}
	}
	d.Fatalf("there is no link %s", id)
	return Link{}
}

func leasedOnce(d *desk) {
	l := d.escalate(d.open(), "alpha")
	d.Pause(1, true)
	d.next(0)
	d.Pause(1, false)
	x := d.next(1)[0]
	if x.Found != ledger.StatePending {
		d.Errorf("a first try was found %s", x.Found)
	}
	if now := d.link(l.ID); now.SendingVersion != x.Delivery.Version || now.SendingSince.IsZero() || !now.Taken {
		d.Errorf("the claim is not written down: %+v", now)
	}
	d.next(0)
	if _, err := d.ledger.Lease(d.Context(), 1, l.ID, time.Minute); !errors.Is(err, ledger.ErrBusy) {
		d.Errorf("a leased lane was leased again: %v", err)
	}
	if err := d.ledger.Renew(d.Context(), x.Lease, time.Minute); err != nil {
		d.Error(err)
	}
	d.settle(x, ledger.Settlement{State: ledger.StatePending, RetryAt: d.now.Add(time.Hour)})
	if err := d.ledger.Renew(d.Context(), x.Lease, time.Minute); !errors.Is(err, ledger.ErrFenced) {
		d.Errorf("a lane that was given back was renewed: %v", err)
	}
	d.next(0) // not due for an hour
	lease := must(d.ledger.Lease(d.Context(), 1, l.ID, time.Minute))(d)
	d.now = d.now.Add(2 * time.Hour)
	d.next(0) // the reader has it
	for range 2 {
		if err := d.ledger.Release(d.Context(), lease); err != nil {
			d.Error(err)
		}
	}
	d.next(1)
}

func takenOver(d *desk) {
	l := d.escalate(d.open(), "alpha")
	dead := d.next(1)[0]
	d.Expire()
	x := d.next(1)[0]
	if x.Delivery.ID != dead.Delivery.ID || x.Found != ledger.StateUnknown || x.Token <= dead.Token {
		d.Errorf("taken over: %+v after %+v", x, dead)
	}
	before := d.Contents()
	if err := d.ledger.Settle(d.Context(), dead, ledger.Settlement{State: ledger.StatePending}); !errors.Is(err, ledger.ErrFenced) {
		d.Errorf("a plain settlement under a lost lease: %v", err)
	}
	if err := d.ledger.Settle(d.Context(), dead, opened("T1")); !errors.Is(err, ledger.ErrFenced) {
		d.Errorf("a settlement under a lost lease: %v", err)
	}
	if err := d.ledger.NoteMark(d.Context(), dead, "9"); !errors.Is(err, ledger.ErrFenced) {
		d.Errorf("a mark under a lost lease: %v", err)
	}
	if err := d.ledger.Renew(d.Context(), dead.Lease, time.Minute); !errors.Is(err, ledger.ErrFenced) {
		d.Errorf("a lost lease was renewed: %v", err)
	}
	if lost, err := d.ledger.RenewAll(d.Context(), []ledger.Lease{dead.Lease, x.Lease}, time.Minute); err != nil || len(lost) != 1 || lost[0] != dead.Lease {
		d.Errorf("renewing both: %v %v", lost, err)
	}
	if err := d.ledger.Release(d.Context(), dead.Lease); err != nil {
		d.Error(err)
	}
	if after := d.Contents(); fmt.Sprint(after) != fmt.Sprint(before) {
		d.Errorf("somebody past the fence wrote:\n%+v\n%+v", before, after)
	}
	d.settle(x, opened("T1"))
	if d.link(l.ID).ExternalID != "T1" {
		d.Error("the holder's settlement is not there")
	}
}

func goesByVersion(d *desk) {
	i, _ := d.ready("T1")
	d.retitle(i.ID, "one")
	c := d.say(i.ID, incident.Internal, "two")
	d.retitle(i.ID, "three")
	var last int64
	for n := range 3 {
		x := d.next(1)[0]
		d.next(0)
		if x.Delivery.Version <= last {
			d.Errorf("version %d came after %d", x.Delivery.Version, last)
		}
		if n == 1 && (x.Delivery.Comment != c.ID || x.Comment.Body != "two" || x.Comment.Author != "Ada" || x.Comment.Visibility != incident.Internal) {
			d.Errorf("the second is not the comment: %+v", x)
		}
		last = x.Delivery.Version
		d.settle(x, ledger.Settlement{State: ledger.StateDelivered})
	}
	d.next(0)
}

// goesOn settles with the wish to keep the lane: what comes back is as if the lane had been claimed again.
func goesOn(d *desk) {
	i, l := d.ready("T1")
	d.retitle(i.ID, "one")
	c := d.say(i.ID, incident.Internal, "two")
	d.retitle(i.ID, "three")
	x := d.next(1)[0]
	goOn := func(s ledger.Settlement) (ledger.Exchange, bool) {
		d.Helper()
		next, more, err := d.ledger.SettleAndGoOn(d.Context(), x, s, time.Minute)
		if err != nil {
			d.Fatal(err)
		}
		return next, more
	}
	done := ledger.Settlement{State: ledger.StateDelivered}
	two, more := goOn(done)
	if !more || two.Lease != x.Lease || two.Delivery.Version != x.Delivery.Version+1 || two.Comment.Body != "two" || two.Delivery.Comment != c.ID || two.Found != ledger.StatePending ||
		two.Delivery.Attempts != 1 || two.Incident.Title != "three" || two.Asked.IsZero() || two.Link.LastSyncedAt.IsZero() {
		d.Fatalf("after the first came %v, %+v", more, two)
	}
	if now := d.link(l.ID); now.SendingVersion != two.Delivery.Version+1 || now.SendingSince.IsZero() || !now.Taken {
		d.Errorf("the second is not written down as being sent: %+v", now)
	}
	d.next(0)
	if err := d.ledger.Renew(d.Context(), two.Lease, time.Minute); err != nil {
		d.Error(err)
	}
	// Somebody dies here: the second may have been sent.
	d.Expire()
	taken := d.next(1)[0]
	if taken.Delivery.ID != two.Delivery.ID || taken.Found != ledger.StateUnknown {
		d.Errorf("taken over: %+v", taken)
	}
	if _, more, err := d.ledger.SettleAndGoOn(d.Context(), two, done, time.Minute); more || !errors.Is(err, ledger.ErrFenced) {
		d.Errorf("past the fence: %v %v", more, err)
	}
	// A failure does not go on to the next, nor does a lane whose system is paused.
	x = taken
	if _, more := goOn(ledger.Settlement{State: ledger.StatePending}); more {
		d.Error("a delivery that goes again was passed over")
	}
	d.Pause(1, true)
	d.Expire()
	d.next(0)
	d.Pause(1, false)
	x = d.next(1)[0]
	d.Pause(1, true)
	if _, more := goOn(done); more {
		d.Error("a paused system's lane went on")
	}
	d.next(0)
	d.Pause(1, false)
	x = d.next(1)[0]
	if x.Delivery.Version != taken.Delivery.Version+1 {
		d.Errorf("the third is %+v", x)
	}
	if next, more := goOn(done); more {
		d.Errorf("after the last came %+v", next)
	}
	if d.link(l.ID).Taken {
		d.Error("a lane with nothing to say is kept")
	}
	d.next(0)
}

// together sends three deliveries of a lane that were begun together and settles them at once.
func together(d *desk) {
	i, l := d.ready("T1")
	d.retitle(i.ID, "one")
	c := d.say(i.ID, incident.Internal, "two")
	d.retitle(i.ID, "three")
	for n := range 10 {
		d.retitle(i.ID, fmt.Sprint("more ", n))
	}
	one := d.next(1)[0]
	if one.Follows() {
		d.Error("the first follows something")
	}
	first := one.Delivery.Version
	if now := d.link(l.ID); now.SendingVersion < first+2 || now.SendingVersion > first+11 {
		d.Fatalf("of %d deliveries from version %d on those up to %d are begun, want some", 13, first, now.SendingVersion)
	}
	agreed := func(title string) ledger.Settlement {
		return ledger.Settlement{State: ledger.StateDelivered, Agreed: map[incident.Field]merge.Base{incident.FieldTitle: {Hub: title, Vendor: connectors.Fields{"short": title}}}}
	}
	if _, more := one.Then(ledger.Settlement{State: ledger.StatePending}); more {
		d.Error("what has to go again was passed over")
	}
	two, more := one.Then(agreed("one"))
	if !more || !two.Follows() || two.Comment.Body != "two" || two.Lease != one.Lease || two.Found != ledger.StatePending || two.Link.Base[incident.FieldTitle].Hub != "one" {
		d.Fatalf("the second is %+v", two)
	}
	if err := d.ledger.NoteMark(d.Context(), two, "7"); err != nil {
		d.Fatal(err)
	}
	three, more := two.Then(ledger.Settlement{State: ledger.StateDelivered, Copy: "j1"})
	if !more || three.Delivery.Values[incident.FieldTitle] != "three" {
		d.Fatalf("the third is %+v", three)
	}
	d.settle(three, ledger.Settlement{State: ledger.StateUnknown, Lost: true, Error: "lost"})
	now := d.link(l.ID)
	if now.DoneVersion != first+1 || now.SendingVersion != 0 || now.Trouble != string(ledger.StateUnknown) || now.Base[incident.FieldTitle].Hub != "one" || now.Taken {
		d.Errorf("the lane is %+v", now)
	}
	for _, x := range d.Contents().Deliveries {
		want, attempts, mark := ledger.StatePending, 0, ""
		switch {
		case x.Version < first:
			continue
		case x.Version < first+2:
			want, attempts = ledger.StateDelivered, 1
		case x.Version == first+2:
			want, attempts, mark = ledger.StateUnknown, 1, "=7"
		}
		if x.State != want || x.Attempts != attempts || x.Mark != mark || x.SentAt.IsZero() == (want == ledger.StateUnknown) {
			d.Errorf("version %d is %+v, want %s with mark %q", x.Version, x, want, mark)
		}
	}
	if copies := d.Contents().Copies; len(copies) != 1 || copies[0].ExternalID != "j1" || copies[0].Comment != c.ID {
		d.Errorf("the copies are %+v", copies)
	}
	again := d.next(1)[0]
	if again.Delivery.ID != three.Delivery.ID || again.Found != ledger.StateUnknown || again.Delivery.Mark != "7" || len(again.Overtaken) > 0 {
		d.Errorf("then comes %+v", again)
	}
	if next, more := again.Then(agreed("three")); more {
		d.Errorf("beyond one whose outcome is unknown, %+v was begun", next)
	}
	d.settle(again, ledger.Settlement{State: ledger.StatePending, RetryAt: d.now.Add(time.Hour)})
	if now := d.link(l.ID); now.DoneVersion != first+1 || now.Trouble != "" {
		d.Errorf("after a retry was set the lane is %+v", now)
	}
}

// brokenRun takes over from a worker that died among deliveries that it had begun together: each may have been sent.
func brokenRun(d *desk) {
	i, l := d.ready("T1")
	for n := range 3 {
		d.retitle(i.ID, fmt.Sprint("title ", n))
	}
	d.say(i.ID, incident.Public, "hello")
	dead := d.next(1)[0]
	if err := d.ledger.NoteMark(d.Context(), dead, "3"); err != nil {
		d.Fatal(err)
	}
	d.Expire()
	// A reader comes first, and sees that they may have been sent.
	lease := must(d.ledger.Lease(d.Context(), 1, l.ID, time.Minute))(d)
	must(d.ledger.Take(d.Context(), lease, nil, func(now ledger.Situation) (ledger.Arrival, error) {
		for _, open := range now.Open {
			if open.State != ledger.StateSending || !open.Marked || open.Mark != "3" {
				d.Errorf("a reader sees %+v", open.Delivery)
			}
		}
		if len(now.Open) != 4 {
			d.Errorf("a reader sees %d open deliveries", len(now.Open))
		}
		return ledger.Arrival{Actor: ledger.Actor{Kind: ledger.System, Name: "Alpha"}, Ticket: connectors.Ticket{ID: "T1", Version: "2"}}, nil
	}))(d)
	if err := d.ledger.Release(d.Context(), lease); err != nil {
		d.Fatal(err)
	}
	for n := range 4 {
		x := d.next(1)[0]
		if x.Found != ledger.StateUnknown || x.Delivery.Version != dead.Delivery.Version+int64(n) || x.SentAgo < 0 || n == 0 && x.SentAgo > time.Minute || !x.Delivery.Marked || x.Delivery.Mark != "3" {
			d.Errorf("number %d is %+v", n, x)
		}
		if overtaken := n < 2; overtaken != (len(x.Overtaken) == 1 && x.Overtaken[0] == incident.FieldTitle) {
			d.Errorf("number %d: %v is overtaken", n, x.Overtaken)
		}
		if n == 0 {
			d.Age(l.ID, time.Hour)
		}
		if n > 0 && x.SentAgo < time.Hour {
			d.Errorf("taking over moved the time of sending to %v ago", x.SentAgo)
		}
		if n == 1 {
			d.settle(x, ledger.Settlement{State: ledger.StatePending}) // it is not there, and goes again: the others are still unknown
			if x = d.next(1)[0]; x.Found != ledger.StatePending || x.Delivery.Version != dead.Delivery.Version+1 {
				d.Errorf("to go again it comes as %+v", x)
			}
			if next, more := x.Then(ledger.Settlement{State: ledger.StateDelivered}); more {
				d.Errorf("%+v was begun along with it, although its outcome is unknown", next)
			}
		}
		d.settle(x, ledger.Settlement{State: ledger.StateDelivered})
	}
	d.next(0)
}

// sentLater has a worker die before it sends a comment, and the next one right after sending it: the mark of the second is not
// lost, although the delivery was unknown before.
func sentLater(d *desk) {
	i, l := d.ready("T1")
	d.say(i.ID, incident.Public, "hello")
	d.next(1)
	d.Expire()
	x := d.next(1)[0]
	if x.Found != ledger.StateUnknown || x.Delivery.Marked {
		d.Errorf("after the first death: %+v", x)
	}
	d.Age(l.ID, time.Hour)
	if err := d.ledger.NoteMark(d.Context(), x, "5"); err != nil {
		d.Fatal(err)
	}
	d.Expire()
	lease := must(d.ledger.Lease(d.Context(), 1, l.ID, time.Minute))(d)
	must(d.ledger.Take(d.Context(), lease, nil, func(now ledger.Situation) (ledger.Arrival, error) {
		if len(now.Open) != 1 || !now.Open[0].Marked || now.Open[0].Mark != "5" {
			d.Errorf("a reader sees %+v", now.Open)
		}
		return ledger.Arrival{Actor: ledger.Actor{Kind: ledger.System, Name: "Alpha"}, Ticket: connectors.Ticket{ID: "T1", Version: "2"}}, nil
	}))(d)
	if err := d.ledger.Release(d.Context(), lease); err != nil {
		d.Fatal(err)
	}
	if x = d.next(1)[0]; x.Found != ledger.StateUnknown || !x.Delivery.Marked || x.Delivery.Mark != "5" || x.SentAgo > time.Minute {
		d.Errorf("after the second death: %+v", x)
	}
	d.settle(x, ledger.Settlement{State: ledger.StateDelivered, Copy: "j1"})
	d.next(0)
}

func settledTogether(d *desk) {
	for range 8 {
		d.escalate(d.open(), "alpha")
	}
	xs := d.next(8)
	lost := xs[3]
	d.Expire()
	retaken := false
	for _, x := range must(d.ledger.NextExchanges(d.Context(), 1, 10, time.Minute))(d) {
		if x.Lease.Link == lost.Lease.Link {
			retaken = true
			continue
		}
		for n := range xs {
			if xs[n].Lease.Link == x.Lease.Link {
				xs[n] = x
			}
		}
	}
	if !retaken {
		d.Fatal("the lost lane was not taken over")
	}
	errs := make([]error, len(xs))
	var all sync.WaitGroup
	for n, x := range xs {
		all.Go(func() {
			errs[n] = d.ledger.Settle(d.Context(), x, ledger.Settlement{State: ledger.StatePending, RetryAt: d.now.Add(time.Hour)})
		})
	}
	all.Wait()
	for n, err := range errs {
		if fenced := errors.Is(err, ledger.ErrFenced); fenced != (n == 3) || !fenced && err != nil {
			d.Errorf("settlement %d: %v", n, err)
		}
	}
}

func unknownKeeps(d *desk) {
	l := d.escalate(d.open(), "alpha")
	d.settle(d.next(1)[0], ledger.Settlement{State: ledger.StateUnknown, Lost: true})
	if now := d.link(l.ID); now.Trouble != string(ledger.StateUnknown) || now.SendingVersion != 0 || d.Contents().Deliveries[0].SentAt.IsZero() {
		d.Fatalf("an unknown outcome left %+v, %+v", now, d.Contents().Deliveries)
	}
	d.Age(l.ID, time.Minute)
	x := d.next(1)[0]
	if x.Found != ledger.StateUnknown || x.SentAgo < time.Minute {
		d.Errorf("found %s, sent %v ago, want UNKNOWN of a minute ago", x.Found, x.SentAgo)
	}
	d.settle(x, ledger.Settlement{State: ledger.StateUnknown}) // asked, and still not known
	if x = d.next(1)[0]; x.SentAgo < time.Minute {
		d.Errorf("asking moved the time of sending to %v ago", x.SentAgo)
	}
	d.settle(x, ledger.Settlement{State: ledger.StateUnknown, Lost: true}) // sent again, and lost again
	if x = d.next(1)[0]; x.SentAgo >= time.Minute {
		d.Errorf("sending again left the time at %v ago", x.SentAgo)
	}
	d.settle(x, opened("T1"))
	if now := d.link(l.ID); now.Trouble != "" || now.SendingVersion != 0 || !now.Due.IsZero() {
		d.Errorf("after the end: %+v", now)
	}
}

func deadHolds(d *desk) {
	i, l := d.ready("T1")
	d.retitle(i.ID, "one")
	d.settle(d.next(1)[0], ledger.Settlement{State: ledger.StateDead, Actor: ada, Error: "refused"})
	d.retitle(i.ID, "two")
	d.next(0)
	if now := d.link(l.ID); !now.Held || now.Trouble != string(ledger.StateDead) {
		d.Errorf("a dead letter left %+v", now)
	}
	var letter incident.DeliveryID
	for _, x := range d.Contents().Deliveries {
		if x.State == ledger.StateDead {
			letter = x.ID
		}
	}
	must(d.ledger.Retry(d.Context(), ledger.Decision{Viewer: agent, Actor: ada, Delivery: letter}))(d)
	x := d.next(1)[0]
	if x.Delivery.ID != letter || x.Delivery.Attempts != 1 {
		d.Errorf("after a retry comes %+v", x.Delivery)
	}
	d.settle(x, ledger.Settlement{State: ledger.StateDead, Actor: ada})
	must(d.ledger.Skip(d.Context(), ledger.Decision{Viewer: agent, Actor: ada, Delivery: letter}))(d)
	if x = d.next(1)[0]; x.Delivery.Values[incident.FieldTitle] != "two" {
		d.Errorf("after a skip comes %+v", x.Delivery)
	}
}

// take lays news into the ledger under a fresh lease.
func (d *desk) take(l ledger.Link, journal []string, a ledger.Arrival) {
	d.Helper()
	lease := must(d.ledger.Lease(d.Context(), 1, l.ID, time.Minute))(d)
	a.Actor, a.Ticket = ledger.Actor{Kind: ledger.System, Name: "Alpha"}, connectors.Ticket{ID: "T1", Version: "2"}
	must(d.ledger.Take(d.Context(), lease, journal, func(ledger.Situation) (ledger.Arrival, error) { return a, nil }))(d)
	if err := d.ledger.Release(d.Context(), lease); err != nil {
		d.Fatal(err)
	}
}

func withdrawn(d *desk) {
	i, l := d.ready("T1")
	d.retitle(i.ID, "ours")
	d.take(l, nil, ledger.Arrival{Outcome: merge.Outcome{
		Take: incident.Values{incident.FieldTitle: "theirs"}, Agreed: map[incident.Field]merge.Base{incident.FieldTitle: {Hub: "theirs"}},
	}})
	x := d.next(1)[0]
	if _, still := x.Delivery.Values[incident.FieldTitle]; still || x.Incident.Title != "theirs" {
		d.Errorf("an overruled title still goes out: %+v", x.Delivery)
	}
}

func taken(d *desk) {
	i, l := d.ready("T1")
	second := d.escalate(i, "beta")
	d.take(l, []string{"J1"}, ledger.Arrival{Messages: []connectors.JournalEntry{{ID: "J1", Visibility: connectors.Public, Body: "Any news?", Author: "Vera"}}, Mark: "1"})
	if known := must(d.ledger.Known(d.Context(), ledger.Lease{Organisation: 1, Link: l.ID}, []string{"J1", "J2"}))(d); !known["J1"] || known["J2"] {
		d.Errorf("known are %v", known)
	}
	heard := map[incident.LinkID]int{}
	for _, x := range d.Contents().Deliveries {
		if x.Kind == ledger.SayComment {
			heard[x.Link]++
		}
	}
	if heard[l.ID] != 0 || heard[second.ID] != 1 {
		d.Errorf("a message from one link was sent %v times", heard)
	}
	lease := must(d.ledger.Lease(d.Context(), 1, l.ID, time.Minute))(d)
	d.Expire()
	must(d.ledger.Lease(d.Context(), 1, l.ID, time.Minute))(d)
	_, err := d.ledger.Take(d.Context(), lease, nil, func(ledger.Situation) (ledger.Arrival, error) {
		return ledger.Arrival{Outcome: merge.Outcome{Take: incident.Values{incident.FieldTitle: "stale"}}}, nil
	})
	if !errors.Is(err, ledger.ErrFenced) {
		d.Errorf("news under a lost lease: %v", err)
	}
}

func once(d *desk) {
	i, l := d.ready("T1")
	if again := d.escalate(i, "alpha"); again.ID != l.ID {
		d.Error("escalated twice into one system")
	}
	key := ledger.Key{Value: "k", Digest: [32]byte{1}}
	ask := func(k ledger.Key) (ledger.Done, error) {
		c := incident.Comment{ID: incident.NewCommentID(), Visibility: incident.Public, Body: "once", Author: "Ada", At: d.now}
		return d.ledger.Append(d.Context(), ledger.Append{Viewer: agent, Actor: ada, Incident: i.ID, Key: k, Decide: func(x *ledger.Draft) error { x.Comment = &c; return nil }})
	}
	first, second := must(ask(key))(d), must(ask(key))(d)
	if first.Comment.ID != second.Comment.ID || second.Changed {
		d.Errorf("one key made two comments: %+v %+v", first, second)
	}
	reused := new(ledger.KeyReused)
	if _, err := ask(ledger.Key{Value: "k", Digest: [32]byte{2}}); !errors.As(err, &reused) {
		d.Errorf("a key with another input: %v", err)
	}
	j := d.open()
	d.escalate(j, "alpha")
	d.settle(d.next(2)[0], ledger.Settlement{State: ledger.StateDelivered, Copy: "J9"})
	d.Expire()
	for _, x := range d.next(1) {
		err := d.ledger.Settle(d.Context(), x, opened("T1"))
		if !postgres.IsUniqueViolation(err, "external_link_ticket_once") {
			d.Errorf("two links follow one ticket: %v", err)
		}
	}
	err := d.Store.System(d.Context(), func(q db.Querier) error {
		for range 2 {
			if err := q.InsertKey(d.Context(), db.InsertKeyParams{OrganisationID: 1, Subject: "x", Key: "x", InputDigest: []byte{1}, IncidentID: i.ID.UUID, At: d.now}); err != nil {
				return err
			}
		}
		return nil
	})
	if !postgres.IsUniqueViolation(err, "idempotency_pkey") {
		d.Errorf("a key was kept twice: %v", err)
	}
}

func whole(d *desk) {
	i, _ := d.ready("T1")
	before := fmt.Sprint(d.Contents())
	refusal := errors.New("no")
	if _, err := d.ledger.Append(d.Context(), ledger.Append{Viewer: agent, Actor: ada, Incident: i.ID, Decide: func(*ledger.Draft) error { return refusal }}); !errors.Is(err, refusal) {
		d.Errorf("a refused change: %v", err)
	}
	err := d.Store.System(d.Context(), func(q db.Querier) error {
		if _, err := q.OpenIncident(d.Context(), db.OpenIncidentParams{
			OrganisationID: 1, ID: incident.NewID().UUID, Title: "x", Description: "y", State: "NEW", Priority: "NONE", Source: "USER", At: d.now, ActorKind: "PERSON", Actor: "Ada", Changes: []byte("{}"),
		}); err != nil {
			return err
		}
		return refusal
	})
	if !errors.Is(err, refusal) {
		d.Errorf("a transaction that fails: %v", err)
	}
	err = d.Store.System(d.Context(), func(q db.Querier) error {
		_, err := q.OpenIncident(d.Context(), db.OpenIncidentParams{
			OrganisationID: 1, ID: incident.NewID().UUID, Title: "", Description: "y", State: "NEW", Priority: "NONE", Source: "USER", At: d.now, ActorKind: "PERSON", Actor: "Ada", Changes: []byte("{}"),
		})
		if !postgres.IsCheckViolation(err, "incident_title_check") {
			d.Errorf("an incident without a title: %v", err)
		}
		if _, err := q.FindIncident(d.Context(), i.ID.UUID); err == nil || errors.Is(err, pgx.ErrNoRows) {
			d.Errorf("a statement after a failed one: %v", err)
		}
		return nil // swallowed, and yet nothing may be committed
	})
	if err == nil {
		d.Error("a transaction with a failed statement was committed")
	}
	if after := fmt.Sprint(d.Contents()); after != before {
		d.Errorf("something stayed:\n%s\n%s", before, after)
	}
}

func isolated(d *desk) {
	i, l := d.ready("T1")
	c := d.say(i.ID, incident.Internal, "for the desk")
	for name, v := range map[string]auth.Viewer{"another organisation": other, "nobody": {}} {
		if _, err := d.ledger.Append(d.Context(), ledger.Append{Viewer: v, Actor: ada, Incident: i.ID, Decide: func(x *ledger.Draft) error { x.After.Title = "mine"; return nil }}); !errors.Is(err, ledger.ErrNotFound) {
			d.Errorf("%s changed an incident: %v", name, err)
		}
		err := d.Store.Viewer(d.Context(), v, func(q db.Querier) error {
			if _, err := q.FindLink(d.Context(), db.FindLinkParams{OrganisationID: 1, ID: l.ID.UUID}); !errors.Is(err, pgx.ErrNoRows) {
				d.Errorf("%s saw a link: %v", name, err)
			}
			if rows, err := q.UsableSystems(d.Context(), 1); err != nil || len(rows) > 0 {
				d.Errorf("%s may use %v: %v", name, rows, err)
			}
			return nil
		})
		if err != nil {
			d.Error(err)
		}
	}
	err := d.Store.Viewer(d.Context(), ours, func(q db.Querier) error {
		if _, err := q.FindComment(d.Context(), db.FindCommentParams{OrganisationID: 1, ID: c.ID.UUID}); !errors.Is(err, pgx.ErrNoRows) {
			d.Errorf("a requester read a work note: %v", err)
		}
		_, err := q.FindIncident(d.Context(), i.ID.UUID)
		return err
	})
	if err != nil {
		d.Error(err)
	}
	note := incident.Comment{ID: incident.NewCommentID(), Visibility: incident.Internal, Body: "x", Author: "Sam", At: d.now}
	if _, err := d.ledger.Append(context.WithoutCancel(d.Context()), ledger.Append{Viewer: ours, Actor: ada, Incident: i.ID, Decide: func(x *ledger.Draft) error { x.Comment = &note; return nil }}); err == nil || !strings.Contains(err.Error(), "row-level security") {
		d.Errorf("a requester wrote a work note: %v", err)
	}
}

package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"liaison/connectors"
	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/ledger"
	"liaison/sync/merge"
)

// bundle is a hub's database with two organisations of one desk and a system that the first may use.
type bundle struct {
	t       *testing.T
	db      *postgres.DB
	ledger  *ledger.Ledger
	bell    *bell
	now     time.Time
	agent   auth.Viewer // sees both organisations
	staff   auth.Viewer // a requester of the first
	other   auth.Viewer // a requester of the second
	system  incident.SystemID
	system2 incident.SystemID
}

type bell struct{ entries, lanes atomic.Int64 }

func (b *bell) Ring(topic string) {
	switch topic {
	case ledger.TopicEntries:
		b.entries.Add(1)
	case ledger.TopicLanes:
		b.lanes.Add(1)
	}
}

func setup(t *testing.T) *bundle {
	t.Helper()
	t.Parallel()
	b := &bundle{t: t, db: pgtest.New(t), bell: &bell{}, now: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)}
	b.ledger = ledger.New(b.db, b.bell, func() time.Time { return b.now })
	b.exec(`INSERT INTO desk (key, name) VALUES ('btls', 'BTLS')`)
	b.exec(`INSERT INTO organisation (key, name, desk_id) VALUES ('barnfield', 'Barnfield', 1), ('oakwood', 'Oakwood', 1)`)
	b.exec(`INSERT INTO external_system (key, name, connector, desk_id, url) VALUES ('snow', 'ServiceNow', 'servicenow', 1, ''), ('rt', 'RT', 'requesttracker', 1, '')`)
	b.exec(`INSERT INTO system_organisation (organisation_id, system_id) VALUES (1, 1), (1, 2)`)
	b.system, b.system2 = 1, 2
	both := []incident.OrganisationID{1, 2}
	b.agent = auth.Viewer{Subject: "agent", Name: "Ada Agent", Roles: []auth.Role{auth.Agent, auth.Admin}, Desk: 1, Organisations: both}
	b.staff = auth.Viewer{Subject: "sam", Name: "Sam Smith", Roles: []auth.Role{auth.Requester}, Organisation: 1, Organisations: both[:1]}
	b.other = auth.Viewer{Subject: "oli", Name: "Oli Oak", Roles: []auth.Role{auth.Requester}, Organisation: 2, Organisations: both[1:]}
	return b
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.db.System.Exec(b.t.Context(), sql, args...); err != nil {
		b.t.Fatal(err)
	}
}

func scan[T any](b *bundle, sql string, args ...any) T {
	b.t.Helper()
	var out T
	if err := b.db.System.QueryRow(b.t.Context(), sql, args...).Scan(&out); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func (b *bundle) open() incident.Incident {
	b.t.Helper()
	done, err := b.ledger.Open(b.t.Context(), b.staff, ledger.Actor{Kind: ledger.Person, Name: b.staff.Name}, fresh(b.now), ledger.Key{})
	if err != nil {
		b.t.Fatal(err)
	}
	return done.Incident
}

func fresh(now time.Time) incident.Incident {
	return incident.Incident{
		ID: incident.NewID(), Organisation: 1, Title: "Printer", Description: "It does not print", State: incident.New,
		Priority: incident.PriorityNone, Source: incident.SourceUser, ReportedBy: "Sam Smith", OpenedAt: now,
	}
}

func (b *bundle) escalate(i incident.Incident, system string) ledger.Link {
	b.t.Helper()
	done, err := b.ledger.Escalate(b.t.Context(), ledger.Escalate{Viewer: b.agent, Actor: ledger.Actor{Kind: ledger.Person, Name: "Ada"}, Incident: i.ID, System: system})
	if err != nil {
		b.t.Fatal(err)
	}
	return done.Link
}

func (b *bundle) retitle(i incident.ID, title string) {
	b.t.Helper()
	if err := b.tryRetitle(b.t.Context(), i, title); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) tryRetitle(ctx context.Context, i incident.ID, title string) error {
	_, err := b.ledger.Append(ctx, ledger.Append{
		Viewer: b.agent, Actor: ledger.Actor{Kind: ledger.Person, Name: "Ada"}, Incident: i,
		Decide: func(d *ledger.Draft) error { d.After.Title = title; return nil },
	})
	return err
}

func (b *bundle) say(i incident.ID, body string) incident.Comment {
	b.t.Helper()
	c := incident.Comment{ID: incident.NewCommentID(), Visibility: incident.Public, Body: body, Author: "Sam Smith", At: b.now}
	_, err := b.ledger.Append(b.t.Context(), ledger.Append{
		Viewer: b.staff, Actor: ledger.Actor{Kind: ledger.Person, Name: "Sam"}, Incident: i,
		Decide: func(d *ledger.Draft) error { d.Comment = &c; return nil },
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// next takes the lane's head, which must be there.
func (b *bundle) next(system incident.SystemID) ledger.Exchange {
	b.t.Helper()
	xs, err := b.ledger.NextExchanges(b.t.Context(), system, 10, time.Minute)
	if err != nil {
		b.t.Fatal(err)
	}
	if len(xs) != 1 {
		b.t.Fatalf("%d exchanges are due, want 1", len(xs))
	}
	return xs[0]
}

func (b *bundle) settle(x ledger.Exchange, s ledger.Settlement) {
	b.t.Helper()
	s.Actor = ledger.Actor{Kind: ledger.System, Name: "ServiceNow"}
	if err := b.ledger.Settle(b.t.Context(), x, s); err != nil {
		b.t.Fatal(err)
	}
}

// opened settles a create as the vendor's ticket T1.
func (b *bundle) opened(x ledger.Exchange) {
	b.t.Helper()
	b.settle(x, ledger.Settlement{
		State: ledger.StateDelivered, RemoteState: "New", Ticket: &connectors.Ticket{ID: "T1", Number: "INC77", URL: "https://v/T1"},
		Agreed: map[incident.Field]merge.Base{incident.FieldTitle: {Hub: x.Delivery.Values[incident.FieldTitle], Vendor: connectors.Fields{"short": x.Delivery.Values[incident.FieldTitle]}}},
	})
}

func (b *bundle) kinds(i incident.ID) []string {
	b.t.Helper()
	return scan[[]string](b, `SELECT array_agg(kind ORDER BY version) FROM ledger_entry WHERE incident_id = $1`, i.UUID)
}

func TestOpenNumbersAndRecordsTheIncident(t *testing.T) {
	b := setup(t)
	i := b.open()
	if i.Number != "INC0000001" {
		t.Errorf("number %q, want INC and seven digits", i.Number)
	}
	if second := b.open(); second.Number != "INC0000002" {
		t.Errorf("the second number is %q", second.Number)
	}
	if got := b.kinds(i.ID); !cmp.Equal(got, []string{"REPORTED"}) {
		t.Errorf("entries %v", got)
	}
}

func TestNobodyChangesWhatTheyCannotSee(t *testing.T) {
	b := setup(t)
	i := b.open()
	_, err := b.ledger.Append(t.Context(), ledger.Append{Viewer: b.other, Incident: i.ID, Decide: func(d *ledger.Draft) error { d.After.Title = "mine"; return nil }})
	if !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a stranger's change ended in %v, want ErrNotFound", err)
	}
	_, missing := b.ledger.Append(t.Context(), ledger.Append{Viewer: b.other, Incident: incident.NewID(), Decide: func(*ledger.Draft) error { return nil }})
	if missing == nil || err == nil || missing.Error() != err.Error() {
		t.Errorf("what exists answers %q, what does not %q: they must be alike", err, missing)
	}
	foreign := fresh(b.now)
	foreign.Organisation = 2
	if _, err := b.ledger.Open(t.Context(), b.staff, ledger.Actor{Kind: ledger.Person}, foreign, ledger.Key{}); err == nil {
		t.Error("an incident was opened for a foreign organisation")
	}
}

func TestEntriesAreNeverChangedOrDeleted(t *testing.T) {
	b := setup(t)
	b.open()
	for _, sql := range []string{`UPDATE ledger_entry SET actor = 'x'`, `DELETE FROM ledger_entry`} {
		if _, err := b.db.System.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s succeeded", sql)
		}
	}
}

func TestConfidentialIsRefusedByTheTable(t *testing.T) {
	b := setup(t)
	i := b.open()
	if _, err := b.db.System.Exec(t.Context(), `UPDATE incident SET confidential = true WHERE id = $1`, i.ID.UUID); !postgres.IsCheckViolation(err, "incident_confidential_not_kept_yet") {
		t.Errorf("marking an incident confidential ended in %v", err)
	}
}

func TestAChangeIsOneEntryAndADeliveryPerLink(t *testing.T) {
	b := setup(t)
	i := b.open()
	b.escalate(i, "snow")
	b.escalate(i, "rt")
	b.retitle(i.ID, "Printer in room 4")
	if n := scan[int](b, `SELECT count(*) FROM delivery WHERE kind = 'UPDATE' AND payload = '{"title": "Printer in room 4"}'`); n != 2 {
		t.Errorf("%d deliveries carry the title, want one per link", n)
	}
	if got := b.kinds(i.ID); !cmp.Equal(got, []string{"REPORTED", "ESCALATED", "ESCALATED", "CHANGED"}) {
		t.Errorf("entries %v", got)
	}
	if n := scan[int](b, `SELECT count(*) FROM delivery WHERE kind = 'CREATE'`); n != 2 {
		t.Errorf("%d creates, want one per link", n)
	}
	before := b.bell.entries.Load()
	b.retitle(i.ID, "Printer in room 4")
	if got := len(b.kinds(i.ID)); got != 4 || b.bell.entries.Load() != before {
		t.Errorf("a change that changes nothing made an entry or rang")
	}
}

func TestEscalatingTwiceAnswersTheSameLink(t *testing.T) {
	b := setup(t)
	i := b.open()
	if first, second := b.escalate(i, "snow"), b.escalate(i, "snow"); first.ID != second.ID || first.CorrelationID != second.CorrelationID {
		t.Errorf("two links to one system: %v and %v", first.ID, second.ID)
	}
	var unknown *ledger.SystemUnknown
	_, err := b.ledger.Escalate(t.Context(), ledger.Escalate{Viewer: b.agent, Incident: i.ID, System: "snwo"})
	if !errors.As(err, &unknown) || !cmp.Equal(unknown.Known, []string{"rt", "snow"}) {
		t.Errorf("an unknown system ended in %v", err)
	}
}

func TestAnIdempotencyKeyAnswersTheFirstResult(t *testing.T) {
	b := setup(t)
	key := ledger.Key{Value: "k1", Digest: [32]byte{1}}
	var wg sync.WaitGroup
	numbers := make([]string, 8)
	for n := range numbers {
		wg.Go(func() {
			done, err := b.ledger.Open(t.Context(), b.staff, ledger.Actor{Kind: ledger.Person, Name: "Sam"}, fresh(b.now), key)
			if err != nil {
				t.Error(err)
			}
			numbers[n] = done.Incident.Number
		})
	}
	wg.Wait()
	for _, number := range numbers {
		if number != numbers[0] || number == "" {
			t.Fatalf("one key, several incidents: %v", numbers)
		}
	}
	if n := scan[int](b, `SELECT count(*) FROM incident`); n != 1 {
		t.Errorf("%d incidents were stored", n)
	}
	var reused *ledger.KeyReused
	if _, err := b.ledger.Open(t.Context(), b.staff, ledger.Actor{Kind: ledger.Person}, fresh(b.now), ledger.Key{Value: "k1", Digest: [32]byte{2}}); !errors.As(err, &reused) {
		t.Errorf("the key with another input ended in %v", err)
	}
	if _, err := b.ledger.Open(t.Context(), b.agent, ledger.Actor{Kind: ledger.Person}, fresh(b.now), ledger.Key{Value: "k1", Digest: [32]byte{2}}); err != nil {
		t.Errorf("another person's equal key ended in %v", err)
	}
}

func TestAnOutdatedExpectationIsAConflict(t *testing.T) {
	b := setup(t)
	i := b.open()
	b.retitle(i.ID, "A")
	var conflict *ledger.VersionConflict
	_, err := b.ledger.Append(t.Context(), ledger.Append{Viewer: b.agent, Incident: i.ID, ExpectedVersion: 1, Decide: func(*ledger.Draft) error { return nil }})
	if !errors.As(err, &conflict) || conflict.Actual != 2 {
		t.Errorf("got %v, want a conflict that names version 2", err)
	}
}

func TestWritersToOneIncidentFollowOneAnother(t *testing.T) {
	b := setup(t)
	i := b.open()
	b.escalate(i, "snow")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := range 10 {
				if err := b.tryRetitle(t.Context(), i.ID, fmt.Sprintf("w%d n%d", w, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if v := scan[int](b, `SELECT version FROM incident`); v != 82 {
		t.Errorf("version %d after 82 changes", v)
	}
	if n := scan[int](b, `SELECT count(*) FROM ledger_entry a JOIN ledger_entry b ON b.version = a.version + 1 WHERE a.id > b.id`); n != 0 {
		t.Errorf("%d entries have an id below their predecessor's", n)
	}
}

func TestALaneGoesInOrderOneAtATime(t *testing.T) {
	b := setup(t)
	i := b.open()
	b.escalate(i, "snow")
	b.retitle(i.ID, "second")
	b.say(i.ID, "third")
	create := b.next(b.system)
	if create.Delivery.Kind != ledger.CreateTicket || create.Found != ledger.StatePending || create.Link.CorrelationID == "" {
		t.Fatalf("the first exchange is %+v", create.Delivery)
	}
	if more, err := b.ledger.NextExchanges(t.Context(), b.system, 10, time.Minute); err != nil || len(more) != 0 {
		t.Fatalf("a second exchange began on a taken lane: %v %v", more, err)
	}
	b.opened(create)
	update := b.next(b.system)
	if update.Delivery.Kind != ledger.UpdateTicket || update.Delivery.Values[incident.FieldTitle] != "second" || update.Link.ExternalID != "T1" {
		t.Fatalf("the second exchange is %+v on %+v", update.Delivery, update.Link)
	}
	b.settle(update, ledger.Settlement{State: ledger.StateDelivered})
	said := b.next(b.system)
	if said.Delivery.Kind != ledger.SayComment || said.Comment.Body != "third" {
		t.Fatalf("the third exchange is %+v", said.Delivery)
	}
	b.settle(said, ledger.Settlement{State: ledger.StateDelivered, Copy: "j1"})
	if n := scan[int](b, `SELECT count(*) FROM lane WHERE due_at IS NOT NULL`); n != 0 {
		t.Error("an empty lane is still due")
	}
	if got := b.kinds(i.ID); !cmp.Equal(got, []string{"REPORTED", "ESCALATED", "CHANGED", "COMMENTED", "TICKET_OPENED"}) {
		t.Errorf("entries %v", got)
	}
}

func TestADeadWorkersDeliveryComesBackAsUnknown(t *testing.T) {
	b := setup(t)
	b.escalate(b.open(), "snow")
	lost := b.next(b.system)
	b.exec(`UPDATE lane SET lease_until = '-infinity'`) // the worker died and its lease ran out
	again := b.next(b.system)
	if again.Delivery.ID != lost.Delivery.ID || again.Found != ledger.StateUnknown || !again.Delivery.SentAt.Equal(lost.Delivery.SentAt) && lost.Delivery.SentAt.IsZero() {
		t.Errorf("found %s sent at %s, want the same delivery as UNKNOWN", again.Found, again.Delivery.SentAt)
	}
	if err := b.ledger.Settle(t.Context(), lost, ledger.Settlement{State: ledger.StateDelivered, Ticket: &connectors.Ticket{ID: "T0"}}); !errors.Is(err, ledger.ErrFenced) {
		t.Errorf("the dead worker's late settlement ended in %v, want ErrFenced", err)
	}
	if n := scan[int](b, `SELECT count(*) FROM external_link WHERE external_id IS NOT NULL`); n != 0 {
		t.Error("a fenced worker wrote the ticket's id")
	}
	if err := b.ledger.NoteMark(t.Context(), lost, "m"); !errors.Is(err, ledger.ErrFenced) {
		t.Errorf("a fenced worker's mark ended in %v", err)
	}
}

func TestADeadLetterHoldsItsLaneUntilSomebodyDecides(t *testing.T) {
	b := setup(t)
	i := b.open()
	b.escalate(i, "snow")
	x := b.next(b.system)
	b.settle(x, ledger.Settlement{State: ledger.StateDead, ErrorKind: "rejected", Error: "no such category"})
	b.retitle(i.ID, "later") // must not wake a held lane
	if n := scan[int](b, `SELECT count(*) FROM lane WHERE due_at IS NOT NULL`); n != 0 {
		t.Error("a held lane is due: every worker would look at it in vain")
	}
	if more, _ := b.ledger.NextExchanges(t.Context(), b.system, 10, time.Minute); len(more) != 0 {
		t.Fatal("a held lane went on")
	}
	if _, err := b.ledger.Retry(t.Context(), ledger.Decision{Viewer: b.other, Actor: ledger.Actor{Kind: ledger.Person}, Delivery: x.Delivery.ID}); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a stranger's retry ended in %v", err)
	}
	if _, err := b.ledger.Retry(t.Context(), ledger.Decision{Viewer: b.agent, Actor: ledger.Actor{Kind: ledger.Person, Name: "Ada"}, Delivery: x.Delivery.ID}); err != nil {
		t.Fatal(err)
	}
	again := b.next(b.system)
	if again.Delivery.ID != x.Delivery.ID || again.Found != ledger.StatePending {
		t.Errorf("after the retry the lane's head is %v, found %s", again.Delivery.ID, again.Found)
	}
	var notDead *ledger.NotDead
	if _, err := b.ledger.Skip(t.Context(), ledger.Decision{Viewer: b.agent, Actor: ledger.Actor{Kind: ledger.Person}, Delivery: x.Delivery.ID}); !errors.As(err, &notDead) {
		t.Errorf("skipping a delivery on its way ended in %v", err)
	}
	b.settle(again, ledger.Settlement{State: ledger.StateDead, Error: "still"})
	if _, err := b.ledger.Skip(t.Context(), ledger.Decision{Viewer: b.agent, Actor: ledger.Actor{Kind: ledger.Person, Name: "Ada"}, Delivery: x.Delivery.ID}); err != nil {
		t.Fatal(err)
	}
	if head := b.next(b.system); head.Delivery.Kind != ledger.UpdateTicket {
		t.Errorf("after the skip the head is %s", head.Delivery.Kind)
	}
}

// A worker that settles and a writer that adds a delivery at the same moment must not leave a delivery behind in
// a lane that is not due.
func TestNoDeliveryIsLeftInASleepingLane(t *testing.T) {
	b := setup(t)
	i := b.open()
	b.escalate(i, "snow")
	b.opened(b.next(b.system))
	var writer sync.WaitGroup
	stop := make(chan struct{})
	writer.Go(func() {
		defer close(stop)
		for n := range 150 {
			if err := b.tryRetitle(t.Context(), i.ID, fmt.Sprint("title ", n)); err != nil {
				t.Error(err)
			}
		}
	})
	drain := func() int {
		xs, err := b.ledger.NextExchanges(t.Context(), b.system, 10, time.Minute)
		if err != nil {
			t.Error(err)
		}
		for _, x := range xs {
			if err := b.ledger.Settle(t.Context(), x, ledger.Settlement{State: ledger.StateDelivered}); err != nil {
				t.Error(err)
			}
		}
		return len(xs)
	}
	for running := true; running; {
		select {
		case <-stop:
			running = false
		default:
			drain()
		}
	}
	writer.Wait()
	for drain() > 0 {
	}
	if n := scan[int](b, `SELECT count(*) FROM delivery WHERE state <> 'DELIVERED'`); n != 0 {
		t.Errorf("%d deliveries were left behind", n)
	}
}

func (b *bundle) take(lease ledger.Lease, journal []string, a ledger.Arrival) {
	b.t.Helper()
	a.Actor = ledger.Actor{Kind: ledger.System, Name: "ServiceNow"}
	if a.Ticket.ID == "" {
		a.Ticket = connectors.Ticket{ID: "T1", Version: "v2"}
	}
	if _, err := b.ledger.Take(b.t.Context(), lease, journal, func(s ledger.Situation) (ledger.Arrival, error) {
		var unknown []connectors.JournalEntry
		for _, m := range a.Messages {
			if !s.Known[m.ID] {
				unknown = append(unknown, m)
			}
		}
		a.Messages = unknown
		return a, nil
	}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bundle) lease(l ledger.Link) ledger.Lease {
	b.t.Helper()
	lease, err := b.ledger.Lease(b.t.Context(), l.Organisation, l.ID, time.Minute)
	if err != nil {
		b.t.Fatal(err)
	}
	return lease
}

func TestAVendorsNewsReachesTheOtherLinksAndNeverItself(t *testing.T) {
	b := setup(t)
	i := b.open()
	snow, rt := b.escalate(i, "snow"), b.escalate(i, "rt")
	b.opened(b.next(b.system))
	lease := b.lease(snow)
	news := ledger.Arrival{
		RemoteState: "In Progress", Outcome: merge.Outcome{Take: incident.Values{incident.FieldState: "IN_PROGRESS"}},
		Messages: []connectors.JournalEntry{{ID: "j1", Visibility: connectors.Public, Body: "We are looking", Author: "Abel", At: b.now}, {ID: "j2", Visibility: connectors.Internal, Body: "psst", Author: "Abel", At: b.now}},
	}
	b.take(lease, []string{"j1", "j2"}, news)
	b.take(lease, []string{"j1", "j2"}, news) // the same news again
	if got := b.kinds(i.ID); !cmp.Equal(got, []string{"REPORTED", "ESCALATED", "ESCALATED", "TICKET_OPENED", "CHANGED", "COMMENTED", "COMMENTED"}) {
		t.Errorf("entries %v", got)
	}
	if n := scan[int](b, `SELECT count(*) FROM delivery WHERE link_id = $1 AND kind <> 'CREATE'`, snow.ID.UUID); n != 0 {
		t.Errorf("%d deliveries echo to where the news came from", n)
	}
	if n := scan[int](b, `SELECT count(*) FROM delivery WHERE link_id = $1 AND kind <> 'CREATE'`, rt.ID.UUID); n != 3 {
		t.Errorf("%d deliveries to the other link, want the state and two comments", n)
	}
	if v := scan[string](b, `SELECT visibility FROM comment WHERE body = 'psst'`); v != "INTERNAL" {
		t.Errorf("a work note came in as %s", v)
	}
}

func TestAVendorsValueWithdrawsTheWaitingOne(t *testing.T) {
	b := setup(t)
	i := b.open()
	link := b.escalate(i, "snow")
	b.opened(b.next(b.system))
	b.retitle(i.ID, "ours")
	b.take(b.lease(link), nil, ledger.Arrival{Outcome: merge.Outcome{
		Take:      incident.Values{incident.FieldTitle: "theirs"},
		Conflicts: []merge.Conflict{{Field: incident.FieldTitle, Base: "Printer", Hub: "ours", Remote: "theirs", Winner: merge.Vendor, Rule: "title belongs to the vendor"}},
	}})
	if p := scan[string](b, `SELECT payload::text FROM delivery WHERE kind = 'UPDATE'`); p != "{}" {
		t.Errorf("the overruled value still waits to be sent: %s", p)
	}
	if d := scan[string](b, `SELECT detail->>'hub' FROM ledger_entry WHERE kind = 'CONFLICT'`); d != "ours" {
		t.Errorf("the loser's value is %q in the ledger, want it kept", d)
	}
}

func TestTheLifecycleRefusesAFactWithATrace(t *testing.T) {
	b := setup(t)
	i := b.open()
	link := b.escalate(i, "snow")
	b.opened(b.next(b.system))
	b.exec(`UPDATE incident SET state = 'CLOSED'`)
	b.take(b.lease(link), nil, ledger.Arrival{Outcome: merge.Outcome{Take: incident.Values{incident.FieldState: "IN_PROGRESS"}}})
	if s := scan[string](b, `SELECT state FROM incident`); s != "CLOSED" {
		t.Errorf("a closed incident became %s", s)
	}
	if n := scan[int](b, `SELECT count(*) FROM ledger_entry WHERE kind = 'CONFLICT' AND detail->>'vendor' = 'IN_PROGRESS'`); n != 1 {
		t.Errorf("%d conflict entries tell of it, want 1", n)
	}
}

func TestReadersAndWritersShareALane(t *testing.T) {
	b := setup(t)
	link := b.escalate(b.open(), "snow")
	lease := b.lease(link)
	if _, err := b.ledger.Lease(t.Context(), link.Organisation, link.ID, time.Minute); !errors.Is(err, ledger.ErrBusy) {
		t.Errorf("a taken lane was taken again: %v", err)
	}
	if xs, _ := b.ledger.NextExchanges(t.Context(), b.system, 10, time.Minute); len(xs) != 0 {
		t.Error("a delivery was sent while the ticket was being read")
	}
	for range 2 { // releasing twice does nothing
		if err := b.ledger.Release(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
	}
	b.next(b.system)
}

// What could not be committed was not taken: a call made for it could not be told from one that was never made.
func TestExchangesOfATransactionThatFailedAreNobodys(t *testing.T) {
	b := setup(t)
	b.escalate(b.open(), "snow")
	b.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no commit'; END $$`)
	b.exec(`CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON lane DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
	xs, err := b.ledger.NextExchanges(t.Context(), b.system, 10, time.Minute)
	if err == nil || len(xs) != 0 {
		t.Errorf("%d exchanges and the error %v, want none and the commit's", len(xs), err)
	}
	if got := scan[string](b, `SELECT state FROM delivery`); got != "PENDING" {
		t.Errorf("the delivery is %s", got)
	}
}

func TestALeaseIsRenewedByItsHolderAlone(t *testing.T) {
	b := setup(t)
	b.escalate(b.open(), "snow")
	x := b.next(b.system)
	left := func() float64 {
		return scan[float64](b, `SELECT extract(epoch FROM lease_until - clock_timestamp())::float8 FROM lane`)
	}
	if err := b.ledger.Renew(t.Context(), x.Lease, time.Hour); err != nil {
		t.Fatal(err)
	}
	if s := left(); s < 3500 {
		t.Errorf("after renewing it for an hour the lease lasts %.0f s", s)
	}
	// Somebody else took the lane over.
	b.exec(`UPDATE lane SET lease_until = '-infinity'`)
	other := b.next(b.system)
	if err := b.ledger.Renew(t.Context(), x.Lease, time.Hour); !errors.Is(err, ledger.ErrFenced) {
		t.Errorf("renewing a lost lease: %v, want ErrFenced", err)
	}
	if s := left(); s > 100 {
		t.Errorf("the new holder's lease lasts %.0f s: the old one renewed it", s)
	}
	// A lane that was given back is free, whatever its last token says.
	if err := b.ledger.Settle(t.Context(), other, ledger.Settlement{State: ledger.StatePending, RetryAt: b.now}); err != nil {
		t.Fatal(err)
	}
	if err := b.ledger.Renew(t.Context(), other.Lease, time.Hour); !errors.Is(err, ledger.ErrFenced) {
		t.Errorf("renewing a lease that was given back: %v, want ErrFenced", err)
	}
	b.next(b.system)
}

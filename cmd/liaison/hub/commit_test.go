package hub_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/inbound"
	"liaison/sync/ledger"
	"liaison/sync/outbound"
	"liaison/sync/pair"
)

// number reads how much of something a long test is to do: what the variable says, or else what fits every day.
func number(t *testing.T, variable string, everyday int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return everyday
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a whole number, for example %d", variable, text, everyday)
	}
	return n
}

// seeded is the chance of a long run, which prints its seed and takes it from LIAISON_SEED.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(number(t, "LIAISON_SEED", int(time.Now().UnixNano()&0xffff_ffff)))
	t.Logf("seed %d (LIAISON_SEED=%d goes the same way again)", seed, seed)
	return rand.New(rand.NewPCG(seed, 5))
}

type silence struct{}

func (silence) Ring(string) {}

// ambiguous is a hub's sync whose connections to the database are cut at commits, beside a pair of its own that looks at
// the same database and the same vendor undisturbed.
type ambiguous struct {
	*testing.T
	*pair.Pair
	wire   *pgtest.Wire
	random *rand.Rand
	ledger *ledger.Ledger
	desk   *desk.Desk
	worker *outbound.Worker
	reader *inbound.Reader
	poller *inbound.Poller
	calls  int
}

func newAmbiguous(t *testing.T) *ambiguous {
	p := pair.New(t, nil)
	a := &ambiguous{T: t, Pair: p, wire: pgtest.NewWire(t, p.DB.URL()), random: seeded(t)}
	db := pgtest.Open(t, a.wire.URL, postgres.Options{AppConns: 4, SystemConns: 8})
	a.ledger = ledger.New(db, silence{}, p.Now)
	a.desk = desk.New(a.ledger, desk.DefaultLimits(), p.Now)
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	a.worker = outbound.NewWorker(a.ledger, p.System, outbound.Options{Log: quiet, Now: p.Now})
	in := inbound.Options{Log: quiet, Now: p.Now}
	a.reader = inbound.NewReader(db, a.ledger, p.System, in)
	a.poller = inbound.NewPoller(db, a.ledger, p.System, silence{}, in)
	return a
}

// insist makes a call whose commit is cut, and goes on as a careful client does: with a key it repeats the call; without
// one it looks whether the change has happened, and only then repeats it.
func (a *ambiguous) insist(what string, keyed bool, do func(desk.Key) error, happened func() bool) {
	a.Helper()
	var key desk.Key
	if a.calls++; keyed {
		key = desk.Key{Value: fmt.Sprintf("key-%d", a.calls), Digest: sha256.Sum256([]byte(what))}
	}
	reaches := a.random.IntN(10) < 7
	before := a.wire.Cuts()
	a.wire.CutCommit(1, reaches)
	err := do(key)
	if a.wire.Cuts() == before {
		a.Fatalf("%s: nothing was committed, so nothing was cut (%v)", what, err)
	}
	if !errors.Is(err, postgres.ErrCommitUnknown) {
		a.Errorf("%s: the commit was cut off (it reached the server: %t) and the call answers %v", what, reaches, err)
	}
	if got := happened(); got != reaches {
		a.Fatalf("%s: the commit reached the server: %t; it happened: %t", what, reaches, got)
	}
	if keyed || !happened() {
		if err := do(key); err != nil {
			a.Errorf("%s, once more: %v", what, err)
		}
	}
	if !happened() {
		a.Errorf("%s is lost", what)
	}
}

func (a *ambiguous) count(sql string, args ...any) int {
	a.Helper()
	return pair.Scan[int](a.Pair, "SELECT count(*) FROM "+sql, args...)
}

// RELIABILITY.md P5: the connection is cut between COMMIT and its answer, 1,000 times (LIAISON_P5_CUTS): nothing is lost
// and nothing happens twice.
func TestP5AmbiguousCommit(t *testing.T) {
	t.Parallel()
	cuts := number(t, "LIAISON_P5_CUTS", 60)
	a := newAmbiguous(t)
	began := time.Now()
	a.people(cuts / 2)
	a.lanes(cuts)
	t.Logf("%d connections were cut in %s", a.wire.Cuts(), time.Since(began).Round(time.Millisecond))
}

// people report, change, comment and escalate until so many connections were cut, and a fifth of them have no keys.
func (a *ambiguous) people(cuts int) {
	type story struct {
		id       incident.ID
		title    string
		entries  int
		linked   bool
		comments int
	}
	var all []*story
	ctx := a.Context()
	for n := 0; a.wire.Cuts() < cuts; n++ {
		keyed := a.random.IntN(5) > 0
		if len(all) == 0 || n%8 == 0 {
			s := &story{title: fmt.Sprintf("trouble %d", n), entries: 1}
			a.insist("reporting "+s.title, keyed, func(key desk.Key) error {
				_, err := a.desk.Report(ctx, a.Agent, desk.ReportInput{Organisation: 1, Title: s.title, Description: "It is broken", Key: key})
				return err
			}, func() bool { return a.count("incident WHERE title = $1", s.title) == 1 })
			s.id = incident.ID{UUID: pair.Scan[[16]byte](a.Pair, "SELECT id FROM incident WHERE title = $1", s.title)}
			all = append(all, s)
			continue
		}
		s := all[a.random.IntN(len(all))]
		target := func(key desk.Key) desk.Target { return desk.Target{Incident: s.id, Key: key} }
		switch kind := a.random.IntN(4); {
		case kind == 0 && !s.linked:
			a.insist("escalating "+s.title, keyed, func(key desk.Key) error {
				_, _, err := a.desk.Escalate(ctx, a.Agent, desk.EscalateInput{Target: target(key), System: pair.SystemKey})
				return err
			}, func() bool { return a.count("external_link WHERE incident_id = $1", s.id.UUID) == 1 })
			s.linked = true
		case kind <= 1:
			title := fmt.Sprintf("%s, step %d", strings.Split(s.title, ",")[0], n)
			version := pair.Scan[int64](a.Pair, "SELECT version FROM incident WHERE id = $1", s.id.UUID)
			a.insist("retitling to "+title, keyed, func(key desk.Key) error {
				at := target(key)
				at.ExpectedVersion = version
				_, err := a.desk.Update(ctx, a.Agent, desk.UpdateInput{Target: at, Title: &title})
				return err
			}, func() bool { return a.count("incident WHERE title = $1", title) == 1 })
			s.title = title
		default:
			body := fmt.Sprintf("comment %d", n)
			a.insist("saying "+body, keyed, func(key desk.Key) error {
				_, _, err := a.desk.Comment(ctx, a.Agent, desk.CommentInput{Target: target(key), Body: body, Visibility: incident.Public})
				return err
			}, func() bool { return a.count("comment WHERE body = $1", body) == 1 })
			s.comments++
		}
		s.entries++
	}
	a.wire.Spare()
	if got := a.count("incident"); got != len(all) {
		a.Errorf("%d incidents were reported, %d are there", len(all), got)
	}
	for _, s := range all {
		for what, got := range map[string]int{
			"entries":                 a.count("ledger_entry WHERE incident_id = $1", s.id.UUID),
			"versions":                pair.Scan[int](a.Pair, "SELECT version::int FROM incident WHERE id = $1", s.id.UUID),
			"different entries":       pair.Scan[int](a.Pair, "SELECT count(DISTINCT version) FROM ledger_entry WHERE incident_id = $1", s.id.UUID),
			"entries without comment": s.comments + a.count("ledger_entry WHERE incident_id = $1 AND kind <> 'COMMENTED'", s.id.UUID),
		} {
			if got != s.entries {
				a.Errorf("%q has %d %s, want %d", s.title, got, what, s.entries)
			}
		}
	}
}

// lanes has both sides talk, and the hub carry it, until so many connections were cut.
func (a *ambiguous) lanes(cuts int) {
	ctx := a.Context()
	type ticket struct {
		id            incident.ID
		title         string
		hub, vendor   []string // the comments of either side, in order
		vendorsTicket string
	}
	var all []*ticket
	for n := range 4 {
		s := &ticket{title: fmt.Sprintf("lane %d", n)}
		s.id = a.Escalate(s.title)
		all = append(all, s)
	}
	step := func() {
		_, _ = a.worker.Step(ctx) // what fails here is the point: the next step takes it up
		a.Advance(a.System.SettleWindow + time.Minute)
		_, _ = a.poller.Step(ctx)
		_, _ = a.reader.Step(ctx)
		for _, table := range []string{"lane", "poll", "inbox"} { // nobody waits 20 s for a lease to run out
			if _, err := a.DB.System.Exec(ctx, "UPDATE "+table+" SET lease_until = '-infinity' WHERE lease_until > '-infinity'"); err != nil {
				a.Fatal(err)
			}
		}
	}
	for n := 0; a.wire.Cuts() < cuts; n++ {
		if n > 40*cuts {
			a.Fatalf("only %d connections were cut", a.wire.Cuts())
		}
		s := all[a.random.IntN(len(all))]
		s.vendorsTicket = pair.Scan[string](a.Pair, "SELECT coalesce(max(external_id), '') FROM external_link WHERE incident_id = $1", s.id.UUID)
		switch kind := a.random.IntN(4); {
		case kind == 0:
			s.title = fmt.Sprintf("lane, step %d", n)
			a.Retitle(s.id, s.title)
		case kind == 1 && s.vendorsTicket != "":
			text := fmt.Sprintf("the vendor says %d.", n)
			a.Act(s.vendorsTicket, servicenowtest.Move{Comment: text, State: []string{"2", "3"}[n%2]})
			s.vendor = append(s.vendor, text)
		default:
			text := fmt.Sprintf("the hub says %d.", n)
			a.Say(s.id, incident.Public, text)
			s.hub = append(s.hub, text)
		}
		a.wire.CutCommit(1+a.random.IntN(6), a.random.IntN(10) < 7)
		step()
	}
	a.wire.Spare()
	open := func() int {
		return a.count("delivery WHERE state <> 'DELIVERED'") + a.count("inbox WHERE state = 'WAITING'")
	}
	for n := 0; n < 3 || open() > 0; n++ {
		if n == 100 {
			a.Fatalf("%d deliveries and hints do not come to an end", open())
		}
		step()
	}
	if got, want := len(a.Sim.Tickets()), a.count("external_link"); got != want {
		a.Errorf("the vendor has %d tickets for %d links", got, want)
	}
	if n := a.count("ledger_entry WHERE kind IN ('DUPLICATE_FOUND', 'DELIVERY_FAILED', 'FIELD_PARKED')"); n > 0 {
		a.Errorf("%d entries tell of trouble", n)
	}
	for _, s := range all {
		id := pair.Scan[string](a.Pair, "SELECT external_id FROM external_link WHERE incident_id = $1", s.id.UUID)
		theirs := a.Ticket(id)
		if theirs.ShortDescription != s.title {
			a.Errorf("the ticket is called %q, the incident %q", theirs.ShortDescription, s.title)
		}
		var said []string
		for _, c := range theirs.Comments {
			if _, text, ours := strings.Cut(c.Value, "wrote:\n\n"); ours {
				said = append(said, text)
			}
		}
		if strings.Join(said, "|") != strings.Join(s.hub, "|") {
			a.Errorf("the vendor heard %q, want %q", said, s.hub)
		}
		heard := pair.Scan[string](a.Pair, `SELECT coalesce(string_agg(body, '|' ORDER BY at, body), '') FROM comment WHERE incident_id = $1 AND body LIKE 'the vendor says%'`, s.id.UUID)
		for _, text := range s.vendor {
			if strings.Count(heard, text) != 1 {
				a.Errorf("the hub heard %q %d times", text, strings.Count(heard, text))
			}
		}
		if n := strings.Count(heard, "says"); n != len(s.vendor) {
			a.Errorf("the hub heard %d comments, the vendor made %d", n, len(s.vendor))
		}
		if gaps := pair.Scan[int](a.Pair, `SELECT (i.version - (SELECT count(*) FROM ledger_entry e WHERE e.incident_id = i.id))::int FROM incident i WHERE id = $1`, s.id.UUID); gaps != 0 {
			a.Errorf("%d entries are missing or too many", gaps)
		}
	}
}

package pull_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/merge"
	"liaison/sync/pair"
)

// The policies of issue 3: the later writer wins, unless the two times tell nothing.
func TestTheLaterWriterWins(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		policy string
		vendor time.Duration // when the ticket last changed, from when the hub set the title
		want   string
		rule   string
	}{
		"the vendor was later":               {"policy: latest", 5 * time.Minute, "theirs", "the later writer wins: the hub at "},
		"the hub was later":                  {"policy: latest, owner: vendor", -5 * time.Minute, "ours", "the later writer wins: the hub at "},
		"within the skew the hub owns it":    {"policy: latest", 90 * time.Second, "ours", "less than 2m0s apart"},
		"within the skew the vendor owns it": {"policy: latest, owner: vendor", -90 * time.Second, "theirs", "less than 2m0s apart"},
		"a skew of its own":                  {"policy: latest, skew: 30s", 90 * time.Second, "theirs", "the later writer wins"},
		"the vendor tells no time":           {"policy: latest, owner: vendor", -1 << 62, "theirs", "it is not known when each wrote"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, c := world(t, titled(tt.policy))
			id, ticket := p.Escalated("agreed")
			p.Poll()
			p.Advance(time.Hour)
			set := p.Now()
			p.Retitle(id, "ours")
			p.Act(ticket.SysID, act{Title: "theirs"})
			c.sees(func(t *connectors.Ticket, err error) error {
				if t.UpdatedAt = set.Add(tt.vendor); tt.vendor < -time.Hour {
					t.UpdatedAt = time.Time{}
				}
				return err
			})
			p.Advance(time.Hour) // what counts is when the title was set, not when it is compared
			quiet(p)
			if hub, vendor := title(p), p.Ticket(ticket.SysID).ShortDescription; hub != tt.want || vendor != tt.want {
				t.Errorf("%q in the hub and %q at the vendor, want %q", hub, vendor, tt.want)
			}
			if got := pair.Scan[string](p, `SELECT policy || ' ' || rule FROM conflict`); !strings.HasPrefix(got, "LATEST ") || !strings.Contains(got, tt.rule) {
				t.Errorf("the conflict says %q", got)
			}
			if got := pair.Scan[string](p, `SELECT detail->>'hub' || ' ' || (detail->>'vendor') || ' ' || (detail->>'winner') || ' ' || (detail->>'loser') FROM ledger_entry WHERE kind = 'CONFLICT'`); got != map[string]string{"ours": "ours theirs HUB VENDOR", "theirs": "ours theirs VENDOR HUB"}[tt.want] {
				t.Errorf("the entry says %q", got)
			}
		})
	}
}

// States are settled by the lifecycle: the hub's people closed the incident while the vendor went on with it.
func TestStatesAreSettledByTheLifecycle(t *testing.T) {
	t.Parallel()
	p, _ := world(t, "")
	id, ticket := p.Escalated("states")
	p.Poll()
	move(t, p, id, incident.Move{To: incident.Resolved, Resolution: "works again"})
	p.Act(ticket.SysID, act{State: "2"})
	quiet(p)
	if got := pair.Scan[string](p, `SELECT state FROM incident`) + " " + p.Ticket(ticket.SysID).State; got != "RESOLVED 6" {
		t.Errorf("the sides are in %s", got)
	}
	if got := pair.Scan[string](p, `SELECT policy || ' ' || winner || ' ' || rule FROM conflict`); got != "LIFECYCLE HUB both sides changed state; the hub says that it is resolved; whoever disagrees with that reopens it" {
		t.Errorf("the conflict says %q", got)
	}
}

// reviewed is a pair with a conflict over the title that waits for a person.
func reviewed(t *testing.T) (*pair.Pair, incident.ID, string, incident.ConflictID) {
	t.Helper()
	p, _ := world(t, titled("policy: review"))
	id, ticket := p.Escalated("agreed")
	p.Poll()
	p.Retitle(id, "ours")
	p.Act(ticket.SysID, act{Title: "theirs"})
	quiet(p)
	return p, id, ticket.SysID, conflict(p)
}

func conflict(p *pair.Pair) incident.ConflictID {
	var id incident.ConflictID
	if err := id.Scan(pair.Scan[string](p, `SELECT id::text FROM conflict ORDER BY at DESC, id DESC LIMIT 1`)); err != nil {
		panic(err)
	}
	return id
}

func row(p *pair.Pair) string {
	return pair.Scan[string](p, `SELECT string_agg(hub || '|' || vendor || '|' || winner || '|' || (resolved_at IS NOT NULL), ' ' ORDER BY at, id) FROM conflict`)
}

func TestUnderReviewBothSidesKeepTheirOwn(t *testing.T) {
	t.Parallel()
	p, id, ticket, _ := reviewed(t)
	check := func(when, hub, vendor, conflicts string) {
		t.Helper()
		if got := title(p) + "|" + p.Ticket(ticket).ShortDescription; got != hub+"|"+vendor {
			t.Errorf("%s: the sides have %s", when, got)
		}
		if got := row(p); got != conflicts {
			t.Errorf("%s: the conflicts are %s, want %s", when, got, conflicts)
		}
	}
	before := writes(p)
	check("after the conflict", "ours", "theirs", "ours|theirs||false")
	if got := parked(p, incident.FieldTitle); !strings.Contains(got, "a person decides") {
		t.Errorf("the title is parked because of %q", got)
	}
	// Either side goes on changing it: the same conflict says so.
	p.Retitle(id, "ours again")
	quiet(p)
	check("after the hub's further change", "ours again", "theirs", "ours again|theirs||false")
	p.Act(ticket, act{Title: "theirs again"})
	quiet(p)
	check("after the vendor's further change", "ours again", "theirs again", "ours again|theirs again||false")
	if n := writes(p) - before; n != 0 {
		t.Errorf("%d writes to the ticket, though nothing else changed", n)
	}
	// Other fields flow.
	p1 := incident.P1
	if _, err := p.Desk.Assess(t.Context(), p.Agent, assess(id, p1)); err != nil {
		t.Fatal(err)
	}
	quiet(p)
	if got := p.Ticket(ticket).Priority; got != "1" {
		t.Errorf("the priority is %s at the vendor", got)
	}
	check("at the end", "ours again", "theirs again", "ours again|theirs again||false")
	if got := entries(p); got != "CONFLICT" {
		t.Errorf("the ledger tells of %s", got)
	}
}

// A conflict about which nobody has to decide any more is over.
func TestAConflictEndsByItself(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		act  func(p *pair.Pair, id incident.ID, ticket string)
		want string
	}{
		"the vendor comes to the hub's value": {func(p *pair.Pair, _ incident.ID, ticket string) { p.Act(ticket, act{Title: "ours"}) }, "ours"},
		"the hub comes to the vendor's value": {func(p *pair.Pair, id incident.ID, _ string) { p.Retitle(id, "theirs") }, "theirs"},
		"the vendor takes its change back":    {func(p *pair.Pair, _ incident.ID, ticket string) { p.Act(ticket, act{Title: "agreed"}) }, "ours"},
		"the hub takes its change back":       {func(p *pair.Pair, id incident.ID, _ string) { p.Retitle(id, "agreed") }, "theirs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, id, ticket, _ := reviewed(t)
			tt.act(p, id, ticket)
			quiet(p)
			if got := title(p) + "|" + p.Ticket(ticket).ShortDescription; got != tt.want+"|"+tt.want {
				t.Errorf("the sides have %s", got)
			}
			if got := entries(p); got != "CONFLICT CONFLICT_RESOLVED" {
				t.Errorf("the ledger tells of %s", got)
			}
			if pair.Scan[bool](p, `SELECT resolved_at IS NULL FROM conflict`) || parked(p, incident.FieldTitle) != "" {
				t.Error("the conflict is still open")
			}
		})
	}
}

func resolve(t *testing.T, p *pair.Pair, id incident.ConflictID, pick merge.Owner) error {
	t.Helper()
	_, _, err := p.Ledger.ResolveConflict(t.Context(), p.Agent, ledger.Actor{Kind: ledger.Person, Name: "Ada Agent"}, ledger.Key{}, id, pick)
	return err
}

func TestAPersonDecidesAReview(t *testing.T) {
	t.Parallel()
	for pick, want := range map[merge.Owner]string{merge.Hub: "ours", merge.Vendor: "theirs"} {
		t.Run(string(pick), func(t *testing.T) {
			t.Parallel()
			p, id, ticket, c := reviewed(t)
			if err := resolve(t, p, c, pick); err != nil {
				t.Fatal(err)
			}
			before := writes(p)
			quiet(p)
			if got := title(p) + "|" + p.Ticket(ticket).ShortDescription; got != want+"|"+want {
				t.Errorf("the sides have %s", got)
			}
			if n := writes(p) - before; n != map[merge.Owner]int{merge.Hub: 1, merge.Vendor: 0}[pick] {
				t.Errorf("%d writes to the ticket", n)
			}
			if got := row(p); got != "ours|theirs|"+string(pick)+"|true" {
				t.Errorf("the conflict says %s", got)
			}
			if got := entries(p); got != "CONFLICT CONFLICT_RESOLVED" {
				t.Errorf("the ledger tells of %s", got)
			}
			var decided *ledger.ConflictDecided
			if err := resolve(t, p, c, pick); !errors.As(err, &decided) || decided.By != "Ada Agent" || decided.Winner != pick {
				t.Errorf("deciding it again: %v", err)
			}
			// The field travels as ever.
			p.Retitle(id, "from the hub")
			quiet(p)
			p.Act(ticket, act{Title: "from the vendor"})
			quiet(p)
			if got := title(p) + "|" + p.Ticket(ticket).ShortDescription; got != "from the vendor|from the vendor" {
				t.Errorf("later the sides have %s", got)
			}
		})
	}
}

// What a policy has decided can be decided the other way, for as long as the field has not moved on.
func TestAPersonOverrulesAPolicy(t *testing.T) {
	t.Parallel()
	for policy, pick := range map[string]merge.Owner{"owner: hub": merge.Vendor, "owner: vendor": merge.Hub} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			p, _ := world(t, titled(policy))
			id, ticket := p.Escalated("agreed")
			p.Poll()
			p.Retitle(id, "ours")
			p.Act(ticket.SysID, act{Title: "theirs"})
			quiet(p)
			first := conflict(p)
			if err := resolve(t, p, first, pick); err != nil {
				t.Fatal(err)
			}
			quiet(p)
			want := map[merge.Owner]string{merge.Hub: "ours", merge.Vendor: "theirs"}[pick]
			if got := title(p) + "|" + p.Ticket(ticket.SysID).ShortDescription; got != want+"|"+want {
				t.Errorf("the sides have %s", got)
			}
			p.Retitle(id, "ours again")
			p.Act(ticket.SysID, act{Title: "theirs again"})
			quiet(p)
			p.Retitle(id, "moved on")
			var moved *ledger.ConflictMoved
			if err := resolve(t, p, conflict(p), pick); !errors.As(err, &moved) || moved.Now != "moved on" {
				t.Errorf("deciding a conflict that time has passed: %v", err)
			}
		})
	}
}

// A decision upon a value that is no longer shown is refused, and the conflict shows what is there now.
func TestADecisionUponAnOldValueIsRefused(t *testing.T) {
	t.Parallel()
	p, id, _, c := reviewed(t)
	p.Retitle(id, "ours by now")
	var moved *ledger.ConflictMoved
	if err := resolve(t, p, c, merge.Hub); !errors.As(err, &moved) || moved.Now != "ours by now" {
		t.Fatalf("deciding upon the old value: %v", err)
	}
	if got := row(p); got != "ours by now|theirs||false" {
		t.Errorf("the conflict says %s", got)
	}
	if err := resolve(t, p, c, merge.Hub); err != nil {
		t.Errorf("deciding upon the new value: %v", err)
	}
}

func TestOnlyStaffDecide(t *testing.T) {
	t.Parallel()
	p, _, _, c := reviewed(t)
	strangers := map[string]auth.Viewer{
		"a requester":              {Subject: "rita", Name: "Rita", Roles: []auth.Role{auth.Requester}, Organisation: 1, Organisations: []incident.OrganisationID{1}},
		"an agent of another desk": {Subject: "otto", Name: "Otto", Roles: []auth.Role{auth.Agent}, Desk: 2},
	}
	for name, v := range strangers {
		if _, _, err := p.Ledger.ResolveConflict(t.Context(), v, ledger.Actor{Kind: ledger.Person, Name: v.Name}, ledger.Key{}, c, merge.Hub); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Ledger.FreeField(t.Context(), v, ledger.Actor{Kind: ledger.Person, Name: v.Name}, ledger.Key{}, linkOf(t, p), incident.FieldTitle); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("%s frees a field: %v", name, err)
		}
		var found []ledger.Conflict
		if err := ledger.NewReader(p.DB).Read(t.Context(), v, ledger.ConflictsByID(v.Organisations, []incident.ConflictID{c}, &found)); err != nil || len(found) != 0 {
			t.Errorf("%s reads %v, %v", name, found, err)
		}
	}
	var found []ledger.Conflict
	if err := ledger.NewReader(p.DB).Read(t.Context(), p.Agent, ledger.ConflictsByID([]incident.OrganisationID{1}, []incident.ConflictID{c}, &found)); err != nil || len(found) != 1 || !found[0].Open() || found[0].Hub != "ours" {
		t.Errorf("the desk reads %v, %v", found, err)
	}
	var byLink map[incident.LinkID][]ledger.Conflict
	key := ledger.LinkKey{IncidentKey: ledger.IncidentKey{Organisation: 1, Incident: found[0].Incident}, Link: found[0].Link}
	for _, oldest := range []bool{false, true} {
		q := ledger.ConflictsOf([]ledger.LinkKey{key}, true, ledger.Page[ledger.Place]{Rows: 10, Oldest: oldest}, &byLink)
		if err := ledger.NewReader(p.DB).Read(t.Context(), p.Agent, q); err != nil || len(byLink[key.Link]) != 1 {
			t.Errorf("of the link the desk reads %v, %v", byLink, err)
		}
	}
	var held *ledger.FieldHeld
	if _, err := p.Ledger.FreeField(t.Context(), p.Agent, ledger.Actor{Kind: ledger.Person, Name: "Ada"}, ledger.Key{}, key.Link, incident.FieldTitle); !errors.As(err, &held) || held.Held != merge.Review {
		t.Errorf("freeing what waits for a decision: %v", err)
	}
}

// The same key answers the first result again, and an exchange that is under way is waited for, not overwritten.
func TestADecisionIsMadeOnce(t *testing.T) {
	t.Parallel()
	p, _, _, c := reviewed(t)
	key := ledger.Key{Value: "k1", Digest: [32]byte{1}}
	actor := ledger.Actor{Kind: ledger.Person, Name: "Ada Agent"}
	lease, err := p.Ledger.Lease(t.Context(), 1, linkOf(t, p), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := p.Ledger.ResolveConflict(ctx, p.Agent, actor, key, c, merge.Hub); !errors.Is(err, ledger.ErrBusy) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while an exchange is under way: %v", err)
	}
	if err := p.Ledger.Release(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		done, got, err := p.Ledger.ResolveConflict(t.Context(), p.Agent, actor, key, c, merge.Hub)
		if err != nil || got.Winner != merge.Hub || done.Incident.Title != "ours" {
			t.Errorf("deciding: %+v %+v %v", done, got, err)
		}
	}
	if n := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry WHERE kind = 'CONFLICT_RESOLVED'`); n != 1 {
		t.Errorf("%d decisions in the ledger", n)
	}
}

// What a vendor's news made and what was translated for it says by which mapping.
func TestEntriesAndDeliveriesNameTheMapping(t *testing.T) {
	t.Parallel()
	p, _ := world(t, "")
	id, ticket := p.Escalated("mapped")
	p.Retitle(id, "from the hub")
	p.Act(ticket.SysID, act{State: "2", Comment: "looking"})
	quiet(p)
	version := p.System.Mapping.Version()
	const told = `SELECT string_agg(DISTINCT kind, ' ' ORDER BY kind) FROM ledger_entry WHERE mapping = `
	if got := pair.Scan[string](p, told+`$1`, version); got != "CHANGED COMMENTED TICKET_CHANGED TICKET_OPENED" && got != "CHANGED COMMENTED TICKET_OPENED" {
		t.Errorf("by this mapping: %s", got)
	}
	if n := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry WHERE (actor_kind = 'SYSTEM') <> (mapping <> '')`); n != 0 {
		t.Errorf("%d entries of the vendor's name no mapping, or others one", n)
	}
	if n := pair.Scan[int](p, `SELECT count(*) FROM delivery WHERE mapping <> $1`, version); n != 0 {
		t.Errorf("%d deliveries do not name their mapping", n)
	}
}

func linkOf(t *testing.T, p *pair.Pair) incident.LinkID {
	t.Helper()
	var id incident.LinkID
	if err := id.Scan(pair.Scan[string](p, `SELECT id::text FROM external_link ORDER BY system_id LIMIT 1`)); err != nil {
		t.Fatal(err)
	}
	return id
}

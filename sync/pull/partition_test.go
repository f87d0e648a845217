package pull_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/pair"
)

// cut makes every call fail before it leaves, as an unreachable vendor does.
type cut struct {
	*customs
	down bool
}

func (c *cut) failure() error {
	if c.down {
		return &connectors.Error{Op: "test", Kind: connectors.Transient, Err: errors.New("no route to host")}
	}
	return nil
}

func (c *cut) Read(ctx context.Context, id connectors.ExternalID, f []string) (connectors.Ticket, error) {
	if err := c.failure(); err != nil {
		return connectors.Ticket{}, err
	}
	return c.customs.Read(ctx, id, f)
}

func (c *cut) Mark(ctx context.Context, id connectors.ExternalID) (connectors.Mark, error) {
	if err := c.failure(); err != nil {
		return "", err
	}
	return c.customs.Mark(ctx, id)
}

func (c *cut) Changes(ctx context.Context, after connectors.Cursor) (connectors.Page, error) {
	if err := c.failure(); err != nil {
		return connectors.Page{}, err
	}
	return c.customs.Changes(ctx, after)
}

// R5: the vendor is unreachable for ten minutes while both sides make changes, a tenth of them to the same field. Within a minute
// of its return every ticket is equal on both sides, and every value that lost stands in an entry that names the winner, the
// loser and the rule. LIAISON_R5_CHANGES sets the number of changes (default 120), LIAISON_SEED the seed.
func TestR5ConvergenceAfterAPartition(t *testing.T) {
	t.Parallel()
	changes, seed := setting(t, "LIAISON_R5_CHANGES", 120), uint64(setting(t, "LIAISON_SEED", int(time.Now().UnixNano()&0xffffff)))
	t.Logf("%d changes, LIAISON_SEED=%d", changes, seed)
	draw := rand.New(rand.NewPCG(seed, 5))
	p, c := world(t, "")
	vendor := &cut{customs: c}
	p.System.Connector = vendor
	tickets := max(4, changes/20)
	ids, theirs := make([]incident.ID, tickets), make([]string, tickets)
	for n := range tickets {
		id, opened := p.Escalated(fmt.Sprint("incident ", n))
		ids[n], theirs[n] = id, opened.SysID
	}
	quiet(p)

	vendor.down = true
	type last struct{ hub, vendor string }
	titles, priorities := map[int]*last{}, map[int]*last{}
	of := func(all map[int]*last, n int) *last {
		if all[n] == nil {
			all[n] = &last{}
		}
		return all[n]
	}
	for change := range changes {
		n := draw.IntN(tickets)
		if change%10 == 0 {
			n = 0 // the same field of the same ticket
		}
		switch what := draw.IntN(6); {
		case change%10 == 0 && what%2 == 0, what == 0:
			of(titles, n).hub = fmt.Sprint("hub ", change)
			p.Retitle(ids[n], titles[n].hub)
		case change%10 == 0, what == 1:
			of(titles, n).vendor = fmt.Sprint("vendor ", change)
			p.Act(theirs[n], act{Title: titles[n].vendor})
		case what == 2:
			value := []incident.Priority{incident.P1, incident.P2}[draw.IntN(2)]
			if _, err := p.Desk.Assess(t.Context(), p.Agent, assess(ids[n], value)); err != nil {
				t.Fatal(err)
			}
			of(priorities, n).hub = string(value)
		case what == 3:
			value := draw.IntN(2) + 3 // never what the hub says: where both say the same there is no conflict
			p.Act(theirs[n], act{Priority: strconv.Itoa(value)})
			of(priorities, n).vendor = fmt.Sprint("P", value)
		case what == 4:
			p.Say(ids[n], incident.Public, fmt.Sprint("from the hub ", change))
		default:
			p.Act(theirs[n], act{Comment: fmt.Sprint("from the vendor ", change)})
		}
		if change%10 == 0 {
			p.Deliver()
			p.Advance(10 * time.Minute / time.Duration(max(1, changes/10)))
			_, _ = p.Poller.Step(t.Context()) // it fails, and is tried again later
		}
	}
	vendor.down = false
	healed := p.Now()
	for p.Now().Sub(healed) < 60*time.Second {
		p.Deliver()
		p.Poll()
	}
	p.Deliver()

	for n := range tickets {
		ticket := p.Ticket(theirs[n])
		hub := pair.Scan[string](p, `SELECT title || '|' || (CASE priority WHEN 'NONE' THEN 'P5' ELSE priority END) || '|' || (SELECT count(*) FROM comment c WHERE c.incident_id = i.id) FROM incident i WHERE id = $1`, ids[n].UUID)
		vendors := fmt.Sprintf("%s|P%s|%d", ticket.ShortDescription, ticket.Priority, len(ticket.Comments))
		if hub != vendors {
			t.Errorf("ticket %d: %q in the hub, %q at the vendor", n, hub, vendors)
		}
		for field, all := range map[string]map[int]*last{"title": titles, "priority": priorities} {
			l := all[n]
			conflicts := pair.Scan[int](p, `SELECT count(*) FROM conflict WHERE incident_id = $1 AND field = $2`, ids[n].UUID, field)
			if l == nil || l.hub == "" || l.vendor == "" || l.hub == l.vendor {
				if conflicts != 0 {
					t.Errorf("ticket %d: %d conflicts over %s, which one side changed (%+v)", n, conflicts, field, l)
				}
				continue
			}
			told := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry WHERE incident_id = $1 AND kind = 'CONFLICT' AND detail->>'field' = $2 AND detail->>'hub' = $3 AND detail->>'vendor' = $4
				AND detail->>'winner' IN ('HUB', 'VENDOR') AND detail->>'loser' IN ('HUB', 'VENDOR') AND detail->>'loser' <> detail->>'winner' AND detail->>'rule' <> ''`, ids[n].UUID, field, l.hub, l.vendor)
			if told != 1 || conflicts != 1 {
				t.Errorf("ticket %d: %d entries and %d conflicts tell of %s, which was %+v", n, told, conflicts, field, *l)
			}
		}
	}
	if n := pair.Scan[int](p, `SELECT count(*) FROM delivery WHERE state <> 'DELIVERED'`); n != 0 {
		t.Errorf("%d deliveries are not through", n)
	}
}

func setting(t *testing.T, name string, or int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return or
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q; give a whole number above 0", name, text)
	}
	return n
}

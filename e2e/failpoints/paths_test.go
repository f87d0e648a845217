//go:build e2e

package failpoints_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"liaison/connectors/servicenow/servicenowtest"
)

// path is a way that changes take, as a scenario.
type path struct {
	name   string
	fresh  bool // begins with nothing; the others begin with an incident whose ticket is in step
	deaf   bool // the vendor sends no webhooks
	do     func(w *world) error
	after  outcome
	passes []string // what must be among the points: parts of their names
}

// outcome is what both sides hold in the end.
type outcome struct {
	incident map[string]string // columns of the incident
	ticket   map[string]string // columns of the ticket
	comments []string          // of the ticket, in order: what each ends with
	notes    []string          // likewise its work notes
	said     []string          // comments of the incident, each with its visibility, in the ledger's order
	writes   []string          // the hub's writes at the vendor: method and what the body contains
}

const title = "The printer in room 4 prints nothing"

var paths = []path{
	{
		name: "create", fresh: true,
		do: func(w *world) error { return errors.Join(w.report(), w.escalate()) },
		after: outcome{
			incident: map[string]string{"title": title, "state": "NEW", "version": "3"},
			ticket:   map[string]string{"short_description": title, "state": "1"},
			writes:   []string{"POST " + title},
		},
		passes: []string{"OpenIncident", "LockIncident", "InsertLink", "WriteChange", "InsertKey", "POST /api/now/table/incident before", "POST /api/now/table/incident after", "answer to POST /graphql"},
	},
	{
		name: "comment",
		do: func(w *world) error {
			// Two are equal, and have to stay two.
			for n, c := range [][2]string{{"PUBLIC", "Any news?"}, {"INTERNAL", "Asked twice by now."}, {"PUBLIC", "Any news?"}, {"PUBLIC", "It is urgent."}} {
				token := map[string]string{"PUBLIC": requester, "INTERNAL": agent}[c[0]]
				if err := w.say(token, "addComment", "comment { id }", fmt.Sprint("comment-", n), map[string]any{"incidentId": w.incident, "visibility": c[0], "body": c[1]}, nil); err != nil {
					return err
				}
			}
			return nil
		},
		after: outcome{
			comments: []string{"Any news?", "Any news?", "It is urgent."}, notes: []string{"Asked twice by now."},
			said:   []string{"PUBLIC Any news?", "INTERNAL Asked twice by now.", "PUBLIC Any news?", "PUBLIC It is urgent."},
			writes: []string{"PATCH Any news?", "PATCH Asked twice", "PATCH Any news?", "PATCH It is urgent"},
		},
		passes: []string{"LockIncident", "WriteChange", "NoteMark", "CopyComment", "PATCH /api/now/table/incident/ID before", "PATCH /api/now/table/incident/ID after"},
	},
	{
		name: "update",
		do: func(w *world) error {
			return errors.Join(
				w.say(agent, "beginWork", "incident { version }", "begin", map[string]any{"incidentId": w.incident}, nil),
				w.say(agent, "assessIncident", "incident { version }", "assess", map[string]any{"incidentId": w.incident, "priority": "P2"}, nil),
				w.say(agent, "updateIncident", "incident { version }", "update", map[string]any{"incidentId": w.incident, "title": "The printer in room 5 prints nothing"}, nil),
			)
		},
		after: outcome{
			incident: map[string]string{"title": "The printer in room 5 prints nothing", "state": "IN_PROGRESS", "priority": "P2"},
			ticket:   map[string]string{"short_description": "The printer in room 5 prints nothing", "state": "2", "priority": "2"},
			writes:   []string{`PATCH "state"`, `PATCH "impact"`, `PATCH "short_description"`},
		},
		passes: []string{"LockIncident", "WriteChange", "UpdateLink", "GET /api/now/table/incident/ID before", "PATCH /api/now/table/incident/ID after"},
	},
	{
		name: "close",
		do: func(w *world) error {
			return errors.Join(
				w.say(agent, "resolveIncident", "incident { version }", "resolve", map[string]any{"incidentId": w.incident, "resolution": "The fuser was replaced."}, nil),
				w.say(agent, "closeIncident", "incident { version }", "close", map[string]any{"incidentId": w.incident}, nil),
			)
		},
		after: outcome{
			incident: map[string]string{"state": "CLOSED", "resolution": "The fuser was replaced."},
			ticket:   map[string]string{"state": "7", "close_notes": "The fuser was replaced."},
			writes:   []string{`PATCH "6"`, `PATCH "7"`},
		},
		passes: []string{"LockIncident", "WriteChange", "PATCH /api/now/table/incident/ID before", "PATCH /api/now/table/incident/ID after"},
	},
	{
		name: "webhook", do: vendorActs, after: vendorActed,
		passes: []string{"arrival of POST /hooks/snow", "InsertInbox", "LeaseInbox", "SettleInbox", "WriteChange", "CopyComment", "answer to POST /hooks/snow"},
	},
	{
		name: "poll", deaf: true, do: vendorActs, after: vendorActed,
		passes: []string{"LeasePoll", "InsertHints", "SettlePoll", "WriteChange", "CopyComment"},
	},
}

// vendorActs is what the vendor's people do to a ticket, each move in a second of its own: the vendor's journal is stamped by
// the second and has no order within one.
func vendorActs(w *world) error {
	for _, m := range []servicenowtest.Move{
		{State: "2", Comment: "We are on it."}, {Note: "Third fuser this year."}, {Priority: "2"}, {State: "3", HoldReason: "1", Comment: "Which room was it?"},
	} {
		w.ahead.Add(int64(time.Second))
		if _, err := w.vendor.Act(w.ticket, m); err != nil {
			return err
		}
	}
	return nil
}

var vendorActed = outcome{
	incident: map[string]string{"state": "ON_HOLD", "hold_reason": "AWAITING_CUSTOMER", "priority": "P2", "title": title},
	ticket:   map[string]string{"state": "3", "hold_reason": "1", "priority": "2"},
	comments: []string{"We are on it.", "Which room was it?"}, notes: []string{"Third fuser this year."},
	said: []string{"PUBLIC We are on it.", "INTERNAL Third fuser this year.", "PUBLIC Which room was it?"},
}

func (w *world) report() error {
	var made struct{ Incident struct{ ID string } }
	err := w.say(requester, "reportIncident", "incident { id }", "report", map[string]any{"description": title}, &made)
	w.incident = made.Incident.ID
	return err
}

func (w *world) escalate() error {
	return w.say(agent, "escalateIncident", "link { id }", "escalate", map[string]any{"incidentId": w.incident, "system": "snow"}, nil)
}

// prepare brings a world to where the path begins.
func (p *path) prepare(w *world) {
	w.t.Helper()
	if p.fresh {
		return
	}
	if err := errors.Join(w.report(), w.escalate()); err != nil {
		w.t.Fatal(err)
	}
	if err := await(w.t.Context(), 30*time.Second, func() error { return paths[0].inStep(w) }); err != nil {
		w.t.Fatalf("the ticket was not opened: %v", err)
	}
	w.vendor.ForgetCalls()
}

// laws are what holds in the tables once nothing is on its way: each query counts the rows that break one.
var laws = []struct{ law, broken string }{
	{"every delivery has arrived", `SELECT count(*) FROM delivery WHERE state <> 'DELIVERED'`},
	{"every hint was acted upon", `SELECT count(*) FROM inbox WHERE state IN ('WAITING', 'PARKED')`},
	{"every lane is free", `SELECT count(*) FROM lane WHERE held OR due_at IS NOT NULL OR lease_until > clock_timestamp()`},
	{"every link has its ticket and no field that waits for a person", `SELECT count(*) FROM external_link WHERE external_id IS NULL OR parked <> '{}' OR gone <> ''`},
	{
		"an incident's entries are numbered without a gap up to its version",
		`SELECT count(*) FROM incident i WHERE (SELECT array_agg(version ORDER BY version) FROM ledger_entry e WHERE e.incident_id = i.id)
		   IS DISTINCT FROM (SELECT array_agg(n) FROM generate_series(1, i.version) n)`,
	},
	{
		"every entry stands in the feed once, in order",
		`SELECT count(*) FROM ledger_entry e WHERE (SELECT count(*) FROM feed f WHERE f.incident_id = e.incident_id AND f.version = e.version) <> 1
		   OR EXISTS (SELECT FROM feed a JOIN feed b USING (incident_id) WHERE a.incident_id = e.incident_id AND a.version < b.version AND a.position > b.position)`,
	},
	{
		"a lane's deliveries arrived in order",
		`SELECT count(*) FROM (SELECT settled_at, lag(settled_at) OVER (PARTITION BY link_id ORDER BY version) AS before FROM delivery) d WHERE before > settled_at`,
	},
	{
		"every comment that was delivered has its copy at the vendor",
		`SELECT count(*) FROM delivery d WHERE kind = 'COMMENT' AND NOT EXISTS (SELECT FROM comment_copy c WHERE c.link_id = d.link_id AND c.comment_id = d.comment_id)`,
	},
	{"no copy stands for two comments", `SELECT count(*) - count(DISTINCT comment_id) FROM comment_copy`},
}

var allLaws = func() string {
	var all []string
	for _, l := range laws {
		all = append(all, fmt.Sprintf("SELECT '%s', coalesce((%s), 0)", strings.ReplaceAll(l.law, "'", "''"), l.broken))
	}
	return strings.Join(all, " UNION ALL ")
}()

// inStep says what still differs from the path's outcome.
func (p *path) inStep(w *world) error {
	if !w.relay.quiet() {
		return errors.New("a webhook is not accepted yet")
	}
	rows, err := w.db.Query(w.t.Context(), allLaws)
	if err != nil {
		return final{fmt.Errorf("the laws do not fit the tables: %w", err)}
	}
	defer rows.Close()
	var broken []error
	for rows.Next() {
		var law string
		var n int
		if err := rows.Scan(&law, &n); err != nil {
			return err
		}
		if n != 0 {
			broken = append(broken, fmt.Errorf("%s: %d do not", law, n))
		}
	}
	return errors.Join(append(broken, rows.Err(), w.peaceful(), p.incidentIs(w), p.ticketIs(w))...)
}

// peaceful says what trouble the ledger tells of where nobody made any.
func (w *world) peaceful() error {
	var kind, detail string
	err := w.db.QueryRow(w.t.Context(), `SELECT kind, detail::text FROM ledger_entry
		WHERE kind IN ('CONFLICT', 'FIELD_PARKED', 'FIELD_STOPPED', 'DELIVERY_FAILED', 'TICKET_GONE', 'DUPLICATE_FOUND') LIMIT 1`).Scan(&kind, &detail)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		err = final{fmt.Errorf("the ledger tells of a %s: %s", kind, detail)}
	}
	return err
}

// incidentIs compares the hub's side with the outcome.
func (p *path) incidentIs(w *world) error {
	var got map[string]any
	var said []string
	err := w.db.QueryRow(w.t.Context(), `SELECT (SELECT to_jsonb(incident) FROM incident),
		(SELECT coalesce(array_agg(c.visibility || ' ' || c.body ORDER BY e.version), '{}') FROM comment c JOIN ledger_entry e ON e.comment_id = c.id AND e.kind = 'COMMENTED')`).Scan(&got, &said)
	if err != nil {
		return fmt.Errorf("there is not one incident: %w", err)
	}
	var wrong []error
	for column, want := range p.after.incident {
		if fmt.Sprint(got[column]) != want {
			wrong = append(wrong, fmt.Errorf("the incident's %s is %v, want %s", column, got[column], want))
		}
	}
	if !slices.Equal(said, p.after.said) {
		wrong = append(wrong, fmt.Errorf("the incident has the comments %q, want %q", said, p.after.said))
	}
	return errors.Join(wrong...)
}

// ticketIs compares the vendor's side with the outcome.
func (p *path) ticketIs(w *world) error {
	all := w.vendor.Tickets()
	if len(all) != 1 {
		return fmt.Errorf("the vendor has %d tickets, want one", len(all))
	}
	t := all[0]
	w.ticket = t.SysID
	var correlation string
	if err := w.db.QueryRow(w.t.Context(), `SELECT correlation_id::text FROM external_link WHERE external_id = $1`, t.SysID).Scan(&correlation); err != nil || correlation != t.CorrelationID {
		return fmt.Errorf("the ticket %s with the correlation id %s is not the link's, %q: %w", t.SysID, t.CorrelationID, correlation, err)
	}
	var wrong []error
	for column, want := range p.after.ticket {
		if t.Fields[column] != want {
			wrong = append(wrong, fmt.Errorf("the ticket's %s is %q, want %q", column, t.Fields[column], want))
		}
	}
	return errors.Join(append(wrong, journalIs("comments", t.Comments, p.after.comments), journalIs("work notes", t.WorkNotes, p.after.notes))...)
}

func journalIs(what string, got []servicenowtest.Entry, want []string) error {
	texts := make([]string, len(got))
	for n, e := range got {
		_, body, wrapped := strings.Cut(e.Value, " wrote:\n\n")
		if texts[n] = e.Value; wrapped {
			texts[n] = body
		}
	}
	if !slices.Equal(texts, want) {
		return fmt.Errorf("the ticket has the %s %q, want %q", what, texts, want)
	}
	return nil
}

// writes are the hub's calls at the vendor that may change something, with their bodies.
func (w *world) writes() []string {
	var out []string
	for _, c := range w.vendor.Calls() {
		if c.Method != http.MethodGet && c.Method != http.MethodHead {
			out = append(out, c.Method+" "+c.Body)
		}
	}
	return out
}

// wrote says where the hub's writes differ from those that the outcome needs: none may be missing, made twice, or out of turn.
func (p *path) wrote(w *world) error {
	got := w.writes()
	ok := len(got) == len(p.after.writes)
	for n := 0; ok && n < len(got); n++ {
		method, part, _ := strings.Cut(p.after.writes[n], " ")
		ok = strings.HasPrefix(got[n], method+" ") && strings.Contains(got[n], part)
	}
	if !ok {
		return fmt.Errorf("the hub wrote at the vendor %q, want %q", got, p.after.writes)
	}
	return nil
}

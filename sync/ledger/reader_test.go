package ledger_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/ledger"
)

// statements keeps the SQL and the arguments that a reader sends.
type statements struct {
	mu   sync.Mutex
	sent []pgx.TraceBatchQueryData
	all  int // batches
}

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (s *statements) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all++
	return ctx
}

func (s *statements) TraceBatchQuery(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, d)
}
func (s *statements) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (s *statements) take() (sent []pgx.TraceBatchQueryData, batches int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent, batches = s.sent, s.all
	s.sent, s.all = nil, 0
	return sent, batches
}

func viewer(staff bool, organisations ...incident.OrganisationID) auth.Viewer {
	v := auth.Viewer{Subject: "v", Roles: []auth.Role{auth.Requester}, Organisations: organisations}
	if staff {
		v.Roles = []auth.Role{auth.Agent}
	}
	return v
}

func keyOf(i incident.Incident) ledger.IncidentKey {
	return ledger.IncidentKey{Organisation: i.Organisation, Incident: i.ID}
}

// Everything that is asked at once travels in one round trip and one transaction.
func TestReadIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	sent := &statements{}
	db := pgtest.NewWith(t, postgres.Options{Tracer: sent, AppConns: 1})
	reader := ledger.NewReader(db)
	var incidents []incident.Incident
	var count int64
	var organisations []ledger.Organisation
	var systems []ledger.ExternalSystem
	var lines []ledger.Line
	for range 2 {
		sent.take()
		err := reader.Read(t.Context(), viewer(true, 1, 2), ledger.Incidents(ledger.IncidentFilter{Organisations: []incident.OrganisationID{1}}, ledger.ByOpened, ledger.Page[ledger.Place]{Rows: 5}, &incidents),
			ledger.CountIncidents(ledger.IncidentFilter{Organisations: []incident.OrganisationID{1}}, &count), ledger.Organisations(&organisations), ledger.Systems(&systems),
			ledger.Lines([]incident.OrganisationID{1}, ledger.LineFilter{}, ledger.Page[int64]{Rows: 5}, &lines))
		if err != nil {
			t.Fatal(err)
		}
	}
	if queries, batches := sent.take(); batches != 1 || len(queries) != 6 {
		t.Errorf("%d statements in %d batches, want the settings and five questions in one", len(queries), batches)
	}
	if err := reader.Read(t.Context(), viewer(true, 1)); err != nil {
		t.Errorf("no question: %v", err)
	}
}

// What a viewer may not know of is simply not there, whatever ids are asked for.
func TestReadersSeeWhatTheyMay(t *testing.T) {
	b := setup(t)
	i := b.open()
	b.say(i.ID, "public")
	link := b.escalate(i, "snow")
	note := incident.Comment{ID: incident.NewCommentID(), Visibility: incident.Internal, Body: "note", Author: "Ada", At: b.now}
	if _, err := b.ledger.Append(t.Context(), ledger.Append{
		Viewer: b.agent, Actor: ledger.Actor{Kind: ledger.Person, Name: "Ada"}, Incident: i.ID,
		Decide: func(d *ledger.Draft) error { d.Comment = &note; return nil },
	}); err != nil {
		t.Fatal(err)
	}
	reader := ledger.NewReader(b.db)
	for name, c := range map[string]struct {
		viewer                                          auth.Viewer
		incidents, comments, entries, links, deliveries int
	}{
		"agent":                 {viewer(true, 1, 2), 1, 2, 4, 1, 2},
		"requester":             {viewer(false, 1), 1, 1, 3, 1, 2},
		"neighbour":             {viewer(false, 2), 0, 0, 0, 0, 0},
		"agent of another desk": {viewer(true, 7), 0, 0, 0, 0, 0},
		"nobody":                {auth.Viewer{}, 0, 0, 0, 0, 0},
	} {
		both := []incident.OrganisationID{1, 2}
		keys := []ledger.IncidentKey{keyOf(i)}
		page, lines := ledger.Page[ledger.Place]{Rows: 50}, ledger.Page[int64]{Rows: 50}
		var listed, byID, byNumber []incident.Incident
		var comments map[incident.ID][]ledger.Comment
		var counts map[incident.ID]int64
		var commentsByID []ledger.Comment
		var history map[incident.ID][]ledger.Entry
		var all []ledger.Line
		var entries []ledger.Entry
		var links map[incident.ID][]ledger.Link
		var linksByID []ledger.Link
		var deliveries []ledger.Delivery
		var linkDeliveries map[incident.LinkID][]ledger.Delivery
		var total int64
		filter := ledger.IncidentFilter{Organisations: both}
		if err := reader.Read(t.Context(), c.viewer,
			ledger.Incidents(filter, ledger.ByUpdated, page, &listed), ledger.IncidentsByID([]incident.ID{i.ID}, &byID), ledger.IncidentsByNumber(both, i.Number, &byNumber),
			ledger.CountIncidents(filter, &total), ledger.CommentsOf(keys, page, &comments), ledger.CountComments(keys, &counts),
			ledger.CommentsByID(both, []incident.CommentID{note.ID}, &commentsByID), ledger.HistoryOf(keys, ledger.LineFilter{}, lines, &history),
			ledger.Lines(both, ledger.LineFilter{}, lines, &all), ledger.EntriesByKey([]ledger.VersionKey{{Incident: i.ID, Version: 1}, {Incident: i.ID, Version: 4}}, &entries),
			ledger.LinksOf(keys, &links), ledger.LinksByID(both, []incident.LinkID{link.ID}, &linksByID), ledger.Deliveries(ledger.DeliveryFilter{Organisations: both}, page, &deliveries),
			ledger.DeliveriesOf([]ledger.LinkKey{{IncidentKey: keys[0], Link: link.ID}}, page, &linkDeliveries)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		staff := min(c.incidents, 1)
		if !c.viewer.Staff() {
			staff = 0
		}
		for what, got := range map[string][2]int{
			"incidents": {len(listed), c.incidents}, "incidents by id": {len(byID), c.incidents}, "incidents by number": {len(byNumber), c.incidents}, "total": {int(total), c.incidents},
			"comments": {len(comments[i.ID]), c.comments}, "comment count": {int(counts[i.ID]), c.comments}, "notes by id": {len(commentsByID), staff},
			"history": {len(history[i.ID]), c.entries}, "lines": {len(all), c.entries}, "entries by key": {len(entries), min(c.incidents, 1) + staff},
			"links": {len(links[i.ID]), c.links}, "links by id": {len(linksByID), c.links}, "deliveries": {len(deliveries), c.deliveries}, "deliveries of the link": {len(linkDeliveries[link.ID]), c.deliveries},
		} {
			if got[0] != got[1] {
				t.Errorf("%s sees %d %s, want %d", name, got[0], what, got[1])
			}
		}
	}
}

func TestLinksTellTheStateOfTheirLane(t *testing.T) {
	b := setup(t)
	i := b.open()
	link := b.escalate(i, "snow")
	b.say(i.ID, "one")
	reader := ledger.NewReader(b.db)
	for _, c := range []struct {
		sql     string
		want    ledger.SyncStatus
		waiting int
	}{
		{`SELECT 1`, ledger.Opening, 2},
		{`UPDATE lane SET trouble = 'UNKNOWN'`, ledger.Unsettled, 2},
		{`UPDATE lane SET trouble = 'DEAD'`, ledger.Stopped, 2},
		{`UPDATE lane SET trouble = ''; UPDATE delivery SET state = 'DEAD' WHERE kind = 'COMMENT'`, ledger.Opening, 2}, // not the head
		{`UPDATE lane SET done_version = (SELECT version FROM delivery WHERE kind = 'CREATE'); UPDATE delivery SET state = 'SKIPPED' WHERE kind = 'CREATE'`, ledger.NotOpened, 1},
		{`UPDATE lane SET trouble = 'DEAD'`, ledger.Stopped, 1}, // what stands behind it cannot go without a ticket
		{`UPDATE lane SET trouble = '', done_version = (SELECT max(version) FROM delivery)`, ledger.NotOpened, 0},
		{`UPDATE lane SET done_version = (SELECT version FROM delivery WHERE kind = 'CREATE'); UPDATE external_link SET external_id = 'x'`, ledger.Sending, 1},
		{`UPDATE lane SET done_version = (SELECT max(version) FROM delivery)`, ledger.InStep, 0},
		{`UPDATE external_link SET gone = 'MERGED', parked = '{"state": "unknown"}'`, ledger.TicketLost, 0},
	} {
		b.exec(c.sql)
		var links map[incident.ID][]ledger.Link
		var named []ledger.Link
		if err := reader.Read(t.Context(), b.staff, ledger.LinksOf([]ledger.IncidentKey{keyOf(i)}, &links), ledger.LinksByID([]incident.OrganisationID{1}, []incident.LinkID{link.ID}, &named)); err != nil {
			t.Fatal(err)
		}
		for _, l := range append(links[i.ID], named...) {
			if l.SyncStatus() != c.want || l.Waiting != c.waiting {
				t.Errorf("after %s: %s, %d wait; want %s, %d", c.sql, l.SyncStatus(), l.Waiting, c.want, c.waiting)
			}
		}
	}
}

// Pages of each of many incidents come from one statement, each with its own rows in the page's order.
func TestPagesOfMany(t *testing.T) {
	b := setup(t)
	var keys []ledger.IncidentKey
	for n := range 3 {
		i := b.open()
		keys = append(keys, keyOf(i))
		for k := range n * 3 {
			b.now = b.now.Add(time.Second)
			b.say(i.ID, fmt.Sprintf("%d.%d", n, k))
		}
	}
	reader := ledger.NewReader(b.db)
	read := func(page ledger.Page[ledger.Place]) (map[incident.ID][]ledger.Comment, string) {
		t.Helper()
		var found map[incident.ID][]ledger.Comment
		if err := reader.Read(t.Context(), b.staff, ledger.CommentsOf(keys, page, &found)); err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, k := range keys {
			var bodies []string
			for _, c := range found[k.Incident] {
				bodies = append(bodies, c.Body)
			}
			out = append(out, strings.Join(bodies, ","))
		}
		return found, strings.Join(out, "|")
	}
	found, newest := read(ledger.Page[ledger.Place]{Rows: 2})
	if newest != "|1.2,1.1|2.5,2.4" {
		t.Errorf("the newest: %s", newest)
	}
	if _, got := read(ledger.Page[ledger.Place]{Rows: 2, Oldest: true}); got != "|1.0,1.1|2.0,2.1" {
		t.Errorf("the oldest: %s", got)
	}
	last := found[keys[2].Incident][1]
	if _, got := read(ledger.Page[ledger.Place]{Rows: 9, Below: last.Place()}); got != "|1.2,1.1,1.0|2.3,2.2,2.1,2.0" {
		t.Errorf("below 2.4: %s", got)
	}
	if _, got := read(ledger.Page[ledger.Place]{Rows: 9, Oldest: true, Above: last.Place()}); got != "||2.5" {
		t.Errorf("above 2.4: %s", got)
	}
}

// With many incidents a page comes from the index that is sorted like it, also when the plan is a
// generic one: no statement may read the table or sort more than it returns. (The plans are the same with 100,000.)
func TestPlansAtSize(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 20,000 incidents")
	}
	t.Parallel()
	sent := &statements{}
	db := pgtest.NewWith(t, postgres.Options{Tracer: sent})
	if _, err := db.System.Exec(t.Context(), `
		INSERT INTO desk (key, name) VALUES ('d', 'D');
		INSERT INTO organisation (key, name, desk_id) SELECT 'o' || n, 'O' || n, 1 FROM generate_series(1, 20) n;
		INSERT INTO external_system (key, name, connector, desk_id, url) VALUES ('s', 'S', 'c', 1, '');
		INSERT INTO system_organisation (organisation_id, system_id) SELECT id, 1 FROM organisation;
		INSERT INTO incident (organisation_id, id, version, title, description, state, opened_at, updated_at)
		SELECT CASE WHEN n % 2 = 0 THEN 1 ELSE 2 + n % 19 END, gen_random_uuid(), 2, 't', 'd', CASE WHEN n % 5 < 2 THEN 'IN_PROGRESS' ELSE 'CLOSED' END,
		       timestamptz '2026-01-01' + n * interval '1 minute', timestamptz '2026-01-01' + n * interval '1 minute' FROM generate_series(1, 20000) n;
		INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, at)
		SELECT organisation_id, id, 1, 'REPORTED', 'PERSON', 'A', opened_at FROM incident;
		INSERT INTO comment (organisation_id, id, incident_id, visibility, body, author, at)
		SELECT organisation_id, gen_random_uuid(), id, 'PUBLIC', 'b', 'a', opened_at FROM incident;
		INSERT INTO external_link (organisation_id, id, incident_id, system_id, correlation_id, created_at)
		SELECT organisation_id, gen_random_uuid(), id, 1, gen_random_uuid(), opened_at FROM incident;
		INSERT INTO delivery (organisation_id, id, link_id, incident_id, version, kind, state, created_at)
		SELECT organisation_id, gen_random_uuid(), id, incident_id, 1, 'CREATE', CASE WHEN random() < 0.9 THEN 'DELIVERED' ELSE 'PENDING' END, created_at FROM external_link`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.System.Exec(t.Context(), `VACUUM ANALYSE`); err != nil {
		t.Fatal(err)
	}
	reader := ledger.NewReader(db)
	var all []incident.OrganisationID
	for n := range incident.OrganisationID(20) {
		all = append(all, n+1)
	}
	v := viewer(true, all...)
	first := ledger.Page[ledger.Place]{Rows: 21}
	later := ledger.Page[ledger.Place]{Rows: 21, Below: ledger.Place{At: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), ID: uuid.New()}}
	for name, c := range map[string]struct {
		organisations []incident.OrganisationID
		open          bool
		oldest        bool
		page          ledger.Page[ledger.Place]
		index         string
	}{
		"open of one":         {all[:1], true, false, first, "incident_open_newest"},
		"open of all":         {all, true, false, first, "incident_open_newest"},
		"open, later page":    {all[:1], true, false, later, "incident_open_newest"},
		"open, oldest":        {all[:1], true, true, first, "incident_open_newest"},
		"any of one":          {all[:1], false, false, first, "incident_newest"},
		"any of all":          {all, false, false, first, "incident_newest"},
		"any, later page":     {all[:1], false, false, later, "incident_newest"},
		"any, oldest":         {all, false, true, first, "incident_newest"},
		"any of a small one":  {all[4:5], false, false, first, "incident_newest"},
		"open of a small one": {all[4:5], true, false, first, "incident_open_newest"},
	} {
		var found []incident.Incident
		page := c.page
		page.Oldest = c.oldest
		sent.take()
		if err := reader.Read(t.Context(), v, ledger.Incidents(ledger.IncidentFilter{Organisations: c.organisations, Open: c.open}, ledger.ByOpened, page, &found)); err != nil {
			t.Fatal(err)
		}
		explain(t, db, v, sent, name, c.index)
		if len(found) != 21 {
			t.Errorf("%s: %d rows", name, len(found))
		}
		var keys []ledger.IncidentKey
		for _, i := range found {
			keys = append(keys, keyOf(i))
		}
		var comments map[incident.ID][]ledger.Comment
		var links map[incident.ID][]ledger.Link
		var history map[incident.ID][]ledger.Entry
		for index, q := range map[string]ledger.Question{
			"comment_newest": ledger.CommentsOf(keys, ledger.Page[ledger.Place]{Rows: 3}, &comments), "external_link_one_per_system": ledger.LinksOf(keys, &links),
			"ledger_entry_pkey": ledger.HistoryOf(keys, ledger.LineFilter{}, ledger.Page[int64]{Rows: 3}, &history),
		} {
			sent.take()
			if err := reader.Read(t.Context(), v, q); err != nil {
				t.Fatal(err)
			}
			explain(t, db, v, sent, name, index)
		}
	}
}

var (
	sequential = regexp.MustCompile(`Seq Scan on (incident|comment|ledger_entry|external_link|delivery)\b`)
	removed    = regexp.MustCompile(`Rows Removed by Filter: (\d+)`)
	rowsRead   = regexp.MustCompile(`Scan.* on (incident|comment|ledger_entry|external_link|delivery)\b.*actual rows=(\d+) loops=(\d+)`)
)

// explain runs the last statement again as a custom and as a generic plan, and looks at what each reads.
func explain(t *testing.T, db *postgres.DB, v auth.Viewer, sent *statements, name, index string) {
	t.Helper()
	queries, _ := sent.take()
	last := queries[len(queries)-1]
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		var plan strings.Builder
		err := db.AppTx(t.Context(), v.Settings(), func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), "SET LOCAL plan_cache_mode = "+mode); err != nil {
				return err
			}
			sd, err := tx.Prepare(t.Context(), "", last.SQL)
			if err != nil {
				return err
			}
			literals := make([]string, len(last.Args))
			for n, a := range last.Args {
				if literals[n], err = literal(tx, sd.ParamOIDs[n], a); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(t.Context(), fmt.Sprintf(`PREPARE p AS %s`, last.SQL)); err != nil {
				return err
			}
			rows, err := tx.Query(t.Context(), "EXPLAIN (ANALYSE, COSTS OFF, TIMING OFF) EXECUTE p ("+strings.Join(literals, ", ")+")", pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				return err
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			plan.WriteString(strings.Join(lines, "\n"))
			if err == nil {
				_, err = tx.Exec(t.Context(), "DEALLOCATE p")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var read int
		for _, m := range rowsRead.FindAllStringSubmatch(plan.String(), -1) {
			var rows, loops int
			fmt.Sscan(m[2], &rows)  //nolint:errcheck // the pattern is digits
			fmt.Sscan(m[3], &loops) //nolint:errcheck // the pattern is digits
			read += rows * loops
		}
		for _, m := range removed.FindAllStringSubmatch(plan.String(), -1) {
			var rows int
			fmt.Sscan(m[1], &rows) //nolint:errcheck // the pattern is digits
			read += rows
		}
		if sequential.MatchString(plan.String()) || !strings.Contains(plan.String(), index) || read > 600 {
			t.Errorf("%s (%s): reads %d rows, wants %s\n%s", name, mode, read, index, plan.String())
		}
	}
}

func literal(tx pgx.Tx, oid uint32, v any) (string, error) {
	b, err := tx.Conn().TypeMap().Encode(oid, pgx.TextFormatCode, v, nil)
	if err != nil || b == nil {
		return "NULL", err
	}
	return "'" + strings.ReplaceAll(string(b), "'", "''") + "'", nil
}

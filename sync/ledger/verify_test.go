package ledger_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// lived is an incident with a history: fields, comments, a ticket, a delivery that is done and one that waits.
func (b *bundle) lived() incident.Incident {
	b.t.Helper()
	i := b.open()
	b.escalate(i, "snow")
	b.say(i.ID, "one")
	for _, title := range []string{"Printer again", "Printer for good"} {
		if _, err := b.ledger.Append(b.t.Context(), ledger.Append{
			Viewer: b.agent, Actor: ledger.Actor{Kind: ledger.Person, Name: "Ada Agent"}, Incident: i.ID,
			Decide: func(d *ledger.Draft) error { d.After.Title = title; return nil },
		}); err != nil {
			b.t.Fatal(err)
		}
	}
	return i
}

func (b *bundle) verify() ledger.Verified {
	b.t.Helper()
	found, err := ledger.Verify(b.t.Context(), b.db, "")
	if err != nil {
		b.t.Fatal(err)
	}
	return found
}

// Whatever is changed past the ledger's door shows: in the state, in the chain of entries, in comments and in lanes.
func TestVerify(t *testing.T) {
	b := setup(t)
	i := b.lived()
	b.lived()
	if found := b.verify(); len(found.Faults) > 0 || found.Incidents != 2 || found.Entries < 10 {
		t.Fatalf("two sound incidents: %+v", found)
	}
	const tamper = `ALTER TABLE ledger_entry DISABLE TRIGGER USER; `
	for name, c := range map[string]struct{ break_, mend, want string }{
		"a field":         {`UPDATE incident SET title = 'x' WHERE number = $1`, `UPDATE incident SET title = 'Printer for good' WHERE number = $1`, `title is "x", its entries come to "Printer for good"`},
		"a version":       {`UPDATE incident SET version = version + 1 WHERE number = $1`, `UPDATE incident SET version = version - 1 WHERE number = $1`, "its last entry has"},
		"a comment":       {`INSERT INTO comment SELECT organisation_id, gen_random_uuid(), id, 'PUBLIC', 'x', 'x', NULL, now() FROM incident WHERE number = $1`, `DELETE FROM comment WHERE body = 'x' AND $1 <> ''`, "has no entry"},
		"a settled lane":  {`UPDATE lane SET done_version = 2 WHERE link_id IN (SELECT l.id FROM external_link l JOIN incident i ON i.id = l.incident_id WHERE i.number = $1)`, `UPDATE lane SET done_version = 0 WHERE link_id IN (SELECT l.id FROM external_link l JOIN incident i ON i.id = l.incident_id WHERE i.number = $1)`, "counts everything up to version 2 as settled"},
		"an entry's word": {`UPDATE ledger_entry SET changes = '{"title": ["y", "Printer for good"]}' WHERE changes->'title'->>1 = 'Printer for good' AND incident_id = (SELECT id FROM incident WHERE number = $1)`, `UPDATE ledger_entry SET changes = '{"title": ["Printer again", "Printer for good"]}' WHERE changes->'title'->>1 = 'Printer for good' AND incident_id = (SELECT id FROM incident WHERE number = $1)`, `it changes title from "y", which was "Printer again" then`},
	} {
		b.exec(tamper)
		b.exec(c.break_, i.Number)
		found := b.verify()
		if len(found.Faults) == 0 || found.Faults[0].Number != i.Number || !strings.Contains(found.Faults[0].Problem, c.want) {
			t.Errorf("%s: %+v, want one that says %q", name, found.Faults, c.want)
		}
		b.exec(c.mend, i.Number)
		if found := b.verify(); len(found.Faults) > 0 {
			t.Fatalf("%s, mended: %+v", name, found.Faults)
		}
	}
	if found, err := ledger.Verify(t.Context(), b.db, i.Number); err != nil || found.Incidents != 1 {
		t.Errorf("one incident: %+v %v", found, err)
	}
	if _, err := ledger.Verify(t.Context(), b.db, "INC9999999"); err != ledger.ErrNotFound { //nolint:errorlint // returned as it is
		t.Errorf("a number that nobody has: %v", err)
	}
}

// Old entries of a closed incident go to the archive and a checkpoint takes their place: the state can still be built anew,
// with the archive and without it, and after the incident goes on. Nothing that anybody still needs is put away.
func TestArchive(t *testing.T) {
	b := setup(t)
	i, open := b.lived(), b.lived()
	b.exec(`UPDATE delivery SET state = 'DELIVERED' WHERE incident_id = $1`, i.ID.UUID)
	archive := func(at time.Time) ledger.Archived {
		t.Helper()
		done, err := b.ledger.Archive(t.Context(), b.db, at, 100)
		if err != nil {
			t.Fatal(err)
		}
		if found := b.verify(); len(found.Faults) > 0 {
			t.Fatalf("after putting away %+v: %+v", done, found.Faults)
		}
		return done
	}
	b.exec(`UPDATE lane SET done_version = (SELECT max(d.version) FROM delivery d WHERE d.link_id = lane.link_id) WHERE link_id IN (SELECT id FROM external_link WHERE incident_id = $1)`, i.ID.UUID)
	if done := archive(b.now.Add(time.Hour)); done.Incidents != 0 {
		t.Errorf("incidents that are open were put away: %+v", done)
	}
	if _, err := b.ledger.Append(t.Context(), ledger.Append{
		Viewer: b.agent, Actor: ledger.Actor{Kind: ledger.Person, Name: "Ada Agent"}, Incident: i.ID,
		Decide: func(d *ledger.Draft) error { d.After.State = incident.Cancelled; return nil },
	}); err != nil {
		t.Fatal(err)
	}
	b.exec(`UPDATE watermark SET scanned = (SELECT max(id) FROM ledger_entry)`)
	if done := archive(b.now.Add(time.Hour)); done.Incidents != 0 {
		t.Errorf("an incident was put away whose vendor has yet to hear of its end: %+v", done)
	}
	b.exec(`UPDATE delivery SET state = 'DELIVERED' WHERE incident_id = $1`, i.ID.UUID)
	b.exec(`UPDATE lane SET done_version = (SELECT max(d.version) FROM delivery d WHERE d.link_id = lane.link_id) WHERE link_id IN (SELECT id FROM external_link WHERE incident_id = $1)`, i.ID.UUID)
	b.exec(`INSERT INTO feed SELECT id, organisation_id, incident_id, version FROM ledger_entry WHERE incident_id = $1`, i.ID.UUID)
	if done := archive(b.now.Add(time.Hour)); done.Incidents != 0 {
		t.Errorf("an incident was put away that a cursor may still come back to: %+v", done)
	}
	b.exec(`DELETE FROM feed`)
	if done := archive(b.now); done.Incidents != 0 {
		t.Errorf("an incident was put away before its time: %+v", done)
	}
	before := b.verify()
	done := archive(b.now.Add(time.Hour))
	if done.Incidents != 1 || done.Entries < 6 {
		t.Fatalf("put away: %+v", done)
	}
	after := b.verify()
	if after.Checkpoints != 1 || after.Entries != before.Entries+1 || after.Incidents != 2 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if done := archive(b.now.Add(time.Hour)); done.Incidents != 0 {
		t.Errorf("put away twice: %+v", done)
	}
	// Without a word in the archive, the ledger lets nothing go.
	if _, err := b.db.System.Exec(t.Context(), `DELETE FROM ledger_entry WHERE incident_id = $1`, open.ID.UUID); err == nil {
		t.Error("entries that the archive does not hold were deleted")
	}
	if n, err := b.ledger.DropArchive(t.Context(), b.db, b.now.AddDate(0, 2, 0)); n == 0 || err != nil {
		t.Fatalf("%d months of the archive were dropped (%v)", n, err)
	}
	if found := b.verify(); len(found.Faults) > 0 || found.Checkpoints != 1 {
		t.Errorf("with the checkpoint alone: %+v", found)
	}
	b.exec(`UPDATE incident SET title = 'x' WHERE id = $1`, i.ID.UUID)
	if found := b.verify(); len(found.Faults) != 1 {
		t.Errorf("a checkpoint does not tell what was changed past it: %+v", found)
	}
}

// putAway ends an incident, has its vendors hear everything, and puts its entries away.
func (b *bundle) putAway(i incident.Incident) {
	b.t.Helper()
	if _, err := b.ledger.Append(b.t.Context(), ledger.Append{
		Viewer: b.agent, Actor: ledger.Actor{Kind: ledger.Person, Name: "Ada Agent"}, Incident: i.ID,
		Decide: func(d *ledger.Draft) error { d.After.State = incident.Cancelled; return nil },
	}); err != nil {
		b.t.Fatal(err)
	}
	b.exec(`UPDATE delivery SET state = 'DELIVERED' WHERE incident_id = $1`, i.ID.UUID)
	b.exec(`UPDATE lane SET done_version = (SELECT max(d.version) FROM delivery d WHERE d.link_id = lane.link_id) WHERE link_id IN (SELECT id FROM external_link WHERE incident_id = $1)`, i.ID.UUID)
	b.exec(`UPDATE watermark SET scanned = (SELECT max(id) FROM ledger_entry)`)
	if done, err := b.ledger.Archive(b.t.Context(), b.db, b.now.Add(time.Hour), 100); err != nil || done.Incidents != 1 {
		b.t.Fatalf("put away: %+v %v", done, err)
	}
}

// history reads all entries of an incident, page by page.
func (b *bundle) history(v auth.Viewer, i incident.Incident, f ledger.LineFilter, rows int, oldest bool) []ledger.Entry {
	b.t.Helper()
	var all []ledger.Entry
	for page := (ledger.Page[int64]{Rows: rows, Oldest: oldest}); ; {
		var found map[incident.ID][]ledger.Entry
		if err := ledger.NewReader(b.db).Read(b.t.Context(), v, ledger.HistoryOf([]ledger.IncidentKey{keyOf(i)}, f, page, &found)); err != nil {
			b.t.Fatal(err)
		}
		got := found[i.ID]
		if all = append(all, got...); len(got) < rows || len(all) > 100 {
			return all
		}
		if page.Above, page.Below = 0, got[len(got)-1].Version; oldest {
			page.Above, page.Below = got[len(got)-1].Version, 0
		}
	}
}

// What was put away stays in the incident's history: for the same viewers, in the same order, whatever the size of the
// pages that lead across the border, and whatever is asked for.
func TestArchivedEntriesStayInTheHistory(t *testing.T) {
	b := setup(t)
	i := b.open()
	b.escalate(i, "snow")
	b.say(i.ID, "public")
	b.now = b.now.AddDate(0, 1, 0) // into another month of the archive
	note := incident.Comment{ID: incident.NewCommentID(), Visibility: incident.Internal, Body: "note", Author: "Ada", At: b.now}
	if _, err := b.ledger.Append(t.Context(), ledger.Append{
		Viewer: b.agent, Actor: ledger.Actor{Kind: ledger.Person, Name: "Ada"}, Incident: i.ID,
		Decide: func(d *ledger.Draft) error { d.Comment = &note; return nil },
	}); err != nil {
		t.Fatal(err)
	}
	b.retitle(i.ID, "Printer again")
	viewers := map[string]auth.Viewer{
		"agent": b.agent, "requester": b.staff, "neighbour": b.other, "agent of another desk": viewer(true, 7), "nobody": {},
	}
	before := map[string][]ledger.Entry{}
	for name, v := range viewers {
		before[name] = b.history(v, i, ledger.LineFilter{}, 50, true)
	}
	if len(before["agent"]) != 5 || len(before["requester"]) != 4 || len(before["neighbour"])+len(before["agent of another desk"])+len(before["nobody"]) != 0 {
		t.Fatalf("the history before: %d %d", len(before["agent"]), len(before["requester"]))
	}
	b.putAway(i)
	if n := scan[int](b, `SELECT count(*) FROM ledger_entry WHERE incident_id = $1`, i.ID.UUID); n != 1 {
		t.Fatalf("%d entries were left behind, want the checkpoint alone", n)
	}
	b.retitle(i.ID, "Printer for good")
	for name, v := range viewers {
		whole := b.history(v, i, ledger.LineFilter{}, 50, true)
		more := map[string]int{"agent": 3, "requester": 2}[name] // the end, the checkpoint for the desk alone, the new title
		if len(whole) != len(before[name])+more {
			t.Fatalf("%s: %d entries, before it were %d", name, len(whole), len(before[name]))
		}
		if diff := cmp.Diff(before[name], whole[:len(before[name])], cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: an entry reads differently from the archive:\n%s", name, diff)
		}
		for rows := 1; rows <= 4; rows++ {
			for _, oldest := range []bool{true, false} {
				got := b.history(v, i, ledger.LineFilter{}, rows, oldest)
				if !oldest {
					slices.Reverse(got)
				}
				if diff := cmp.Diff(whole, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s, pages of %d, oldest first %t:\n%s", name, rows, oldest, diff)
				}
			}
		}
		for n := range int64(8) {
			var found []ledger.Entry
			if err := ledger.NewReader(b.db).Read(t.Context(), v, ledger.EntriesByKey([]ledger.VersionKey{{Incident: i.ID, Version: n + 1}}, &found)); err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc(whole, func(e ledger.Entry) bool { return e.Version == n+1 })
			if at >= 0 != (len(found) == 1) || at >= 0 && !cmp.Equal(found[0], whole[at]) {
				t.Errorf("%s: entry %d by its key: %+v", name, n+1, found)
			}
		}
	}
	for name, c := range map[string]struct {
		filter ledger.LineFilter
		want   []int64
	}{
		"kinds":             {ledger.LineFilter{Kinds: []ledger.Kind{ledger.Changed, ledger.Reported}}, []int64{1, 5, 6, 8}},
		"a system":          {ledger.LineFilter{Systems: []incident.SystemID{b.system}}, []int64{2}},
		"another system":    {ledger.LineFilter{Systems: []incident.SystemID{b.system2}}, nil},
		"actors":            {ledger.LineFilter{Actors: []ledger.ActorKind{ledger.Hub}}, []int64{7}},
		"since":             {ledger.LineFilter{Since: b.now}, []int64{4, 5, 6, 7, 8}},
		"until":             {ledger.LineFilter{Until: b.now}, []int64{1, 2, 3}},
		"nothing of either": {ledger.LineFilter{Kinds: []ledger.Kind{ledger.TicketGone}}, nil},
	} {
		var got []int64
		for _, e := range b.history(b.agent, i, c.filter, 2, true) {
			got = append(got, e.Version)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: versions %v, want %v", name, got, c.want)
		}
	}
}

// Row-level security holds in the archive as in the ledger, whoever asks it directly and by whatever name: its months show
// nothing to a request.
func TestTheArchiveIsGuarded(t *testing.T) {
	b := setup(t)
	i := b.lived()
	b.putAway(i)
	month := "ledger_archive_" + b.now.Format("2006_01")
	if n := scan[int](b, `SELECT count(*) FROM `+month); n == 0 {
		t.Fatalf("%s is empty", month)
	}
	count := func(v auth.Viewer, sql string) (n int, err error) {
		err = b.db.AppTx(t.Context(), v.Settings(), func(tx pgx.Tx) error { return tx.QueryRow(t.Context(), sql).Scan(&n) })
		return n, err
	}
	b.exec(`UPDATE ledger_archive SET visibility = 'INTERNAL' WHERE version = 1`)
	all := scan[int](b, `SELECT count(*) FROM ledger_archive`)
	for name, c := range map[string]struct {
		viewer auth.Viewer
		want   int
	}{"agent": {b.agent, all}, "requester": {b.staff, all - 1}, "neighbour": {b.other, 0}, "agent of another desk": {viewer(true, 7), 0}, "nobody": {auth.Viewer{}, 0}} {
		if n, err := count(c.viewer, `SELECT count(*) FROM ledger_archive`); err != nil || n != c.want {
			t.Errorf("%s sees %d archived entries (%v), want %d", name, n, err, c.want)
		}
		sql := `SELECT count(*) FROM archived_history(1, '` + i.ID.String() + `', 0, 1000, '{}', '{}', '{}', '-infinity', 'infinity', true, 1000)`
		if n, err := count(c.viewer, sql); err != nil || n != c.want {
			t.Errorf("%s gets %d archived entries (%v), want %d", name, n, err, c.want)
		}
		if n, err := count(c.viewer, `SELECT count(*) FROM `+month); n != 0 {
			t.Errorf("%s sees %d entries of a month (%v)", name, n, err)
		}
	}
	for _, sql := range []string{`DELETE FROM ledger_archive`, `UPDATE ledger_archive SET actor = 'x'`} {
		if err := b.db.AppTx(t.Context(), b.agent.Settings(), func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), sql)
			return err
		}); err == nil {
			t.Errorf("a request may %s", sql)
		}
	}
}

// An incident with nothing in the archive is read without it: its months are neither planned nor locked.
func TestTheUsualHistoryLeavesTheArchiveAlone(t *testing.T) {
	b := setup(t)
	away, i := b.lived(), b.lived()
	b.putAway(away)
	read := func(i incident.Incident) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var found map[incident.ID][]ledger.Entry
		return ledger.NewReader(b.db).Read(ctx, b.agent, ledger.HistoryOf([]ledger.IncidentKey{keyOf(i)}, ledger.LineFilter{}, ledger.Page[int64]{Rows: 50}, &found))
	}
	err := b.db.SystemTx(t.Context(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `LOCK TABLE ledger_archive`); err != nil {
			return err
		}
		if err := read(i); err != nil {
			t.Errorf("the usual history: %v", err)
		}
		if err := read(away); err == nil {
			t.Error("the history of an incident that was put away was read past the lock: this proves nothing")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

package ledger_test

import (
	"strings"
	"testing"
	"time"

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

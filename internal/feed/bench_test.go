package feed

import (
	"testing"

	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// BenchmarkSequencer stamps a ledger that is already written; it reports entries stamped per second.
func BenchmarkSequencer(b *testing.B) {
	w := newWorld(b)
	h := w.idleHub(Config{})
	key := w.mustReport(w.db.System, w.north)
	w.exec(`INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, at)
		SELECT $1, $2, v, 'CHANGED', 'HUB', '', now() FROM generate_series(2, $3::bigint) v`, key.Organisation, key.Incident.UUID, max(b.N, 2))
	b.ResetTimer()
	stamped := 0
	for more := true; more; {
		done, err := h.sequencer.pass(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		stamped, more = stamped+done.stamped, done.full
	}
	b.StopTimer()
	b.ReportMetric(float64(stamped)/b.Elapsed().Seconds(), "entries/s")
}

// BenchmarkAppendToEvent is the time from before an append on an idle system until a subscriber has its event.
func BenchmarkAppendToEvent(b *testing.B) {
	w := newWorld(b)
	h := w.hub(Config{})
	r := h.subscribe(w.agent(), Options{})
	for b.Loop() {
		key := w.mustReport(w.db.System, w.north)
		h.ring()
		r.expect(key)
	}
}

// BenchmarkAppendAlone is what of BenchmarkAppendToEvent is the append itself.
func BenchmarkAppendAlone(b *testing.B) {
	w := newWorld(b)
	for b.Loop() {
		w.mustReport(w.db.System, w.north)
	}
}

// BenchmarkFanOut hands one event to a thousand subscribers, who take it from their queues.
func BenchmarkFanOut(b *testing.B) {
	w := newWorld(b)
	h := w.idleHub(Config{})
	readers := make([]*reader, 1000)
	for n := range readers {
		readers[n] = h.subscribe(w.requester(w.north), Options{})
	}
	for b.Loop() {
		at := h.tail.place()
		e := &Event{Position: at.position + 1, Cursor: h.CursorAt(at.position + 1), Entry: ledger.Entry{EntryKey: ledger.EntryKey{Organisation: w.north}, Visibility: incident.Public}}
		h.tail.publish(at, []*Event{e})
		for _, r := range readers {
			if _, err := r.Next(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(readers))/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkSealCursor(b *testing.B) {
	s := testSealer(b, 1)
	for b.Loop() {
		s.sealPlace(place{position: 42})
	}
}

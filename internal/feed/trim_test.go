package feed

import (
	"errors"
	"testing"
	"time"
)

// What is trimmed is gone for everybody alike: whoever comes back from among it is told so, whoever is past it misses
// nothing, and a younger entry keeps everything behind it.
func TestTrim(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.hub(Config{Poll: 10 * time.Millisecond})
	live := h.subscribe(w.agent(), Options{})
	old := live.expect(w.mustReport(w.db.System, w.north), w.mustReport(w.db.System, w.south), w.mustReport(w.db.System, w.north))
	border := time.Now()
	w.exec(`SELECT pg_sleep(0.01)`)
	young := live.expect(w.mustReport(w.db.System, w.south), w.mustReport(w.db.System, w.north))
	if n, err := Trim(t.Context(), w.db, border.Add(-time.Hour)); n != 0 || err != nil {
		t.Fatalf("%d positions were trimmed although all are younger (%v)", n, err)
	}
	if n, err := Trim(t.Context(), w.db, border); n != 3 || err != nil {
		t.Fatalf("%d positions were trimmed, want the 3 old ones (%v)", n, err)
	}
	for n, e := range old[:2] {
		r := h.subscribe(w.agent(), Options{After: e.Cursor})
		if got, err := r.tryNext(); !errors.Is(err, ErrExpired) {
			t.Errorf("resuming after old event %d gave %v, %v; want ErrExpired", n, got, err)
		}
	}
	past := h.subscribe(w.agent(), Options{After: old[2].Cursor}) // everything that comes after it is still there
	past.expect(young[0].Entry.EntryKey, young[1].Entry.EntryKey)
	next := w.mustReport(w.db.System, w.north)
	for name, r := range map[string]*reader{"the live one": live, "the one that came back": past} {
		if got := r.next(); got.Entry.EntryKey != next {
			t.Errorf("%s got %v after the trimming, want %v", name, got.Entry.EntryKey, next)
		}
	}
	if n, err := Trim(t.Context(), w.db, border); n != 0 || err != nil {
		t.Errorf("trimming again dropped %d (%v)", n, err)
	}
}

package requesttracker_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata" // the zones, also where the machine has none

	"liaison/connectors"
)

// offsets are the zones' of the world, half and quarter hours included: RT writes UTC, a proxy or a later RT may not.
var offsets = []string{
	"+14:00", "+13:45", "+13:00", "+12:00", "+11:00", "+10:30", "+09:30", "+09:00", "+05:45", "+05:30", "+04:30", "+03:30", "+03:00", "+01:00", "+00:00", "-01:00",
	"-02:30", "-03:00", "-04:00", "-05:00", "-07:00", "-08:00", "-09:30", "-11:00",
}

// RELIABILITY R14: a ticket's times, read and written, to the second.
func TestR14Time(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var stamp, written string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		if r.Method == http.MethodPut {
			written = string(body)
			fmt.Fprint(w, `[]`)
			return
		}
		fmt.Fprint(w, strings.ReplaceAll(ticketJSON, "2026-11-21T19:05:13Z", stamp))
	}))
	t.Cleanup(srv.Close)
	c := newConnector(t, srv.URL, nil)
	read := func(text string) time.Time {
		t.Helper()
		mu.Lock()
		stamp = text
		mu.Unlock()
		got, err := c.Read(t.Context(), "7", nil)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return got.UpdatedAt
	}
	cases := 0
	for _, offset := range offsets {
		for _, local := range []string{
			"2026-03-29T01:59:59", "2026-03-29T02:00:00", "2026-03-29T02:30:00", "2026-03-29T03:00:00", "2026-10-25T01:59:59", "2026-10-25T02:00:00",
			"2026-10-25T02:30:00", "2026-10-25T03:00:00", "2026-03-08T02:30:00", "2026-11-01T01:30:00", "2026-01-01T00:00:00", "2026-12-31T23:59:59",
			"2024-02-29T00:00:00", "1999-12-31T23:59:59", "2038-01-19T03:14:08", "2026-11-21T19:05:13",
		} {
			at, err := time.Parse(time.RFC3339, local+offset)
			if err != nil {
				t.Fatal(err)
			}
			cases += 2
			for _, text := range []string{local + offset, at.UTC().Format(time.RFC3339)} {
				if got := read(text); !got.Equal(at) || got.Location() != time.UTC {
					t.Errorf("%s was read as %s", text, got)
				}
			}
			// RT drops an offset that it is given, so it must never be given one.
			cases++
			if _, err := c.Update(t.Context(), "7", connectors.Fields{"Due": local + offset}); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			if want := `"Due":"` + at.UTC().Format("2006-01-02T15:04:05Z") + `"`; !strings.Contains(written, want) {
				t.Errorf("%s was written as %s, want %s", local+offset, written, want)
			}
			mu.Unlock()
		}
	}
	// What is no time of a known zone is not known, rather than wrong.
	for _, text := range []string{
		"2026-11-21 19:05:13", "2026-11-21T19:05:13", "2026-02-30T10:00:00Z", "2026-11-21T24:00:00Z", "1795287913", "1795287913000", "Sat Nov 21 19:05:13 2026",
		"", "soon", "1970-01-01T00:00:00Z",
	} {
		cases++
		if got := read(text); !got.IsZero() {
			t.Errorf("%q was read as %s", text, got)
		}
	}
	cases++
	if got, want := read("2016-12-31T23:59:60Z"), time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("the leap second was read as %s", got)
	}
	for _, due := range []string{"2026-11-21 19:05:13", "2026-11-21T19:05:13", "2026-02-30T10:00:00Z", "1795287913", "tomorrow"} {
		cases++
		if _, err := c.Update(t.Context(), "7", connectors.Fields{"Due": due}); connectors.KindOf(err) != connectors.Rejected || err == nil {
			t.Errorf("Due %q: %v, want it refused", due, err)
		}
	}
	if cases < 500 {
		t.Errorf("%d cases, want at least 500", cases)
	}
	t.Logf("%d cases", cases)
}

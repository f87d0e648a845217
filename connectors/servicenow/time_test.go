package servicenow_test

import (
	"strconv"
	"testing"
	"time"
	_ "time/tzdata" // the zones, also where the machine has none

	"liaison/connectors"
	"liaison/connectors/servicenow"
	"liaison/connectors/servicenow/servicenowtest"
)

// zones are 24 of the world's, with gaps and overlaps of their own and without.
var zones = []string{
	"Pacific/Kiritimati", "Pacific/Apia", "Pacific/Chatham", "Pacific/Auckland", "Australia/Lord_Howe", "Australia/Adelaide", "Asia/Tokyo",
	"Asia/Kathmandu", "Asia/Kolkata", "Asia/Tehran", "Europe/Moscow", "Africa/Cairo", "Asia/Jerusalem", "Europe/Berlin", "Europe/London", "Africa/Casablanca",
	"Atlantic/Azores", "America/St_Johns", "America/Sao_Paulo", "America/New_York", "America/Chicago", "America/Los_Angeles", "Pacific/Marquesas", "Pacific/Pago_Pago",
}

// shifts are the zone's changes of its offset in a year: at each a wall clock skips an hour or shows one twice.
func shifts(zone *time.Location, year int) []time.Time {
	var all []time.Time
	offset := func(t time.Time) int { _, o := t.In(zone).Zone(); return o }
	for t := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC); t.Year() == year; t = t.Add(time.Hour) {
		if offset(t) != offset(t.Add(time.Hour)) {
			low, high := t, t.Add(time.Hour)
			for high.Sub(low) > time.Second {
				if mid := low.Add(high.Sub(low) / 2).Truncate(time.Second); offset(mid) == offset(low) {
					low = mid
				} else {
					high = mid
				}
			}
			all = append(all, high)
		}
	}
	return all
}

// moments are what clocks get wrong: around each shift of the zone, the ends of days and years, leap days and seconds.
func moments(zone *time.Location) []time.Time {
	var all []time.Time
	for _, shift := range shifts(zone, 2026) {
		for _, seconds := range []int{-3600, -1801, -1, 0, 1, 1800, 3599, 3600} {
			all = append(all, shift.Add(time.Duration(seconds)*time.Second))
		}
	}
	for _, at := range []string{
		"2026-01-01T00:00:00Z", "2026-12-31T23:59:59Z", "2024-02-29T12:00:00Z", "2016-12-31T23:59:59Z", "2017-01-01T00:00:00Z", "2026-03-29T01:30:00Z",
		"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2038-01-19T03:14:08Z", "1999-12-31T23:59:59Z", "2026-06-21T11:59:59Z", "2026-11-21T19:05:13Z",
	} {
		t, _ := time.Parse(time.RFC3339, at)
		all = append(all, t)
	}
	for _, hour := range []int{0, 2, 12, 23} { // of the zone's own day
		all = append(all, time.Date(2026, 7, 1, hour, 59, 59, 0, zone))
	}
	return all
}

// RELIABILITY R14: whatever zone and date format the account and the instance have, every time is read to the second.
func TestR14Time(t *testing.T) {
	t.Parallel()
	cases := 0
	for _, name := range zones {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		clk := newClock()
		srv := simulator(t, servicenowtest.Config{Now: clk.now, Zone: zone, DateFormat: "dd/MM/yyyy HH:mm:ss"})
		c := connect(t, srv)
		for _, at := range moments(zone) {
			cases++
			clk.mu.Lock()
			clk.at = at
			clk.mu.Unlock()
			ticket := open(t, c)
			touch(t, srv, ticket.ID, "at "+at.String())
			if _, err := srv.Act(string(ticket.ID), servicenowtest.Move{Comment: "hello"}); err != nil {
				t.Fatal(err)
			}
			got, err := c.Read(t.Context(), ticket.ID, nil)
			if err != nil || !got.UpdatedAt.Equal(at.Truncate(time.Second)) {
				t.Errorf("%s, %s: the ticket's time is %s (%v)", name, at.UTC(), got.UpdatedAt, err)
			}
			said, _, err := c.Journal(t.Context(), ticket.ID, "")
			if err != nil || len(said) != 1 || !said[0].At.Equal(at.Truncate(time.Second)) {
				t.Errorf("%s, %s: the comment's time is in %+v (%v)", name, at.UTC(), said, err)
			}
		}
	}
	if cases < 500 {
		t.Errorf("%d cases, want at least 500", cases)
	}
	t.Logf("%d cases", cases)
}

// RELIABILITY R14: the stamps of webhooks, whose bodies customers script. What cannot be read is left out.
func TestR14HookStamps(t *testing.T) {
	t.Parallel()
	conn, err := servicenow.New(connectors.Config{Key: "x", URL: "https://example.service-now.com"})
	if err != nil {
		t.Fatal(err)
	}
	read := func(text string) string {
		t.Helper()
		refs, err := conn.ReadHook(connectors.Hook{Body: []byte(`{"number":"INC1","sys_mod_count":3,"sys_updated_on":` + text + `}`)})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return refs[0].Version
	}
	cases := 0
	for _, name := range zones {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range moments(zone) {
			want := "3@" + at.UTC().Format(time.DateTime)
			for _, text := range []string{
				at.UTC().Format(`"2006-01-02 15:04:05"`), at.In(zone).Format(`"` + time.RFC3339 + `"`), at.UTC().Format(`"` + time.RFC3339 + `"`),
				at.UTC().Format(`"2006-01-02T15:04:05.000Z"`),
			} {
				cases++
				if got := read(text); got != want {
					t.Errorf("%s of %s: %q, want %q", text, name, got, want)
				}
			}
			if at.Unix() < 1_000_000_000 {
				continue // nine digits are no stamp that anybody sends today
			}
			for _, text := range []string{strconv.FormatInt(at.Unix(), 10), strconv.FormatInt(at.UnixMilli()+999, 10), `"` + strconv.FormatInt(at.Unix(), 10) + `"`} {
				cases++
				if got := read(text); got != want {
					t.Errorf("%s of %s: %q, want %q", text, name, got, want)
				}
			}
			// In somebody's own zone and format: no version rather than a wrong one.
			for _, layout := range []string{"02/01/2006 15:04:05", "02-01-2006 15:04:05", "01/02/2006 03:04:05 PM", "2006-01-02 03:04:05 PM", "02.01.2006 15:04"} {
				cases++
				if got := read(at.In(zone).Format(`"` + layout + `"`)); got != "" {
					t.Errorf("%s of %s gives version %q", layout, name, got)
				}
			}
		}
	}
	for _, text := range []string{`"2026-02-30 10:00:00"`, `"2026-11-21 25:00:00"`, `"0"`, `"soon"`, `12345`, `12345678901`, `-1795287913`, `1.7e9`, `true`} {
		cases++
		if got := read(text); got != "" {
			t.Errorf("%s gives version %q", text, got)
		}
	}
	t.Logf("%d cases", cases)
}

package connectors

import (
	"testing"
	"time"
)

// RELIABILITY R14: what no calendar has is refused, and a leap second is told.
func TestR14ParseTime(t *testing.T) {
	t.Parallel()
	const naive = time.DateTime
	for _, c := range []struct{ layout, value, want string }{
		{naive, "2026-11-21 19:05:13", "2026-11-21T19:05:13Z"},
		{naive, "2016-12-31 23:59:60", "2017-01-01T00:00:00Z"},
		{naive, "2015-06-30 23:59:60", "2015-07-01T00:00:00Z"},
		{time.RFC3339, "2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"},
		{time.RFC3339, "2017-01-01T08:59:60+09:00", "2017-01-01T00:00:00Z"},
		{time.RFC3339, "2016-12-31T18:59:60-05:00", "2017-01-01T00:00:00Z"},
		{time.RFC3339, "2016-12-31T23:59:60.75Z", "2017-01-01T00:00:00Z"},
		{time.RFC3339, "2026-11-21T19:05:13+05:45", "2026-11-21T13:20:13Z"},
		{naive, "2024-02-29 00:00:00", "2024-02-29T00:00:00Z"},
		{naive, "2026-02-30 00:00:00", ""},
		{naive, "2026-02-29 00:00:00", ""},
		{naive, "2026-13-01 00:00:00", ""},
		{naive, "2026-00-10 00:00:00", ""},
		{naive, "2026-04-31 12:00:00", ""},
		{naive, "2026-11-21 24:00:00", ""},
		{naive, "2026-11-21 19:60:00", ""},
		{naive, "2026-11-21 19:59:60", ""},
		{naive, "2016-12-31 23:59:61", ""},
		{naive, "2016-12-31 23:60:60", ""},
		{naive, "21/11/2026 19:05:13", ""},
		{naive, "11-21-2026 07:05:13 PM", ""},
		{naive, "2026-11-21 07:05:13 PM", ""},
		{naive, "2026-11-21T19:05:13Z", ""},
		{naive, "2026-11-21 19:05:13 CET", ""},
		{naive, "1795287913", ""},
		{naive, "", ""},
		{time.RFC3339, "2026-11-21T19:05:13", ""},
		{time.RFC3339, "2026-11-21 19:05:13", ""},
		{time.RFC3339, "2026-02-30T19:05:13Z", ""},
		{time.RFC3339, "1795287913", ""},
		{time.RFC3339, "1795287913000", ""},
		{time.RFC3339, "Sat Nov 21 19:05:13 2026", ""},
	} {
		got, err := ParseTime(c.layout, c.value)
		switch {
		case c.want == "" && err == nil:
			t.Errorf("%q was read as %s, want it refused", c.value, got)
		case c.want == "" && !got.IsZero():
			t.Errorf("%q was refused and yet is %s", c.value, got)
		case c.want != "" && (err != nil || got.Format(time.RFC3339) != c.want):
			t.Errorf("%q was read as %s (%v), want %s", c.value, got, err, c.want)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{
		"2026-11-21 19:05:13", "2016-12-31 23:59:60", "2026-02-30 10:00:00", "2026-11-21T19:05:13+05:45", "2016-12-31T23:59:60Z", ":60", "1795287913000",
		"9999-12-31 23:59:60", "0000-01-01 00:00:00", "2026-11-21 19:05:13.999999999",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, layout := range []string{time.DateTime, time.RFC3339} {
			got, err := ParseTime(layout, value)
			if err != nil {
				if !got.IsZero() {
					t.Errorf("%q: %s beside the error %v", value, got, err)
				}
				continue
			}
			// What was read is written and read again as the same.
			again, err := ParseTime(time.RFC3339Nano, got.Format(time.RFC3339Nano))
			if got.Year() <= 9999 && (err != nil || !again.Equal(got)) || got.Location() != time.UTC {
				t.Errorf("%q is %s, read again %s (%v)", value, got, again, err)
			}
		}
	})
}

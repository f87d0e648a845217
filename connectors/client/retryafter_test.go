package client

import (
	"net/http"
	"testing"
	"time"
)

// RELIABILITY R10, RFC 9110 section 10.2.3.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		name, value, date string
		want              time.Duration
	}{
		{"missing", "", "", 0},
		{"seconds", "7", "", 7 * time.Second},
		{"seconds with blanks", " 7 ", "", 7 * time.Second},
		{"zero", "0", "", 0},
		{"negative", "-7", "", 0},
		{"plus", "+7", "", 0},
		{"fraction", "7.5", "", 0},
		{"hex", "0x10", "", 0},
		{"garbage", "soon", "", 0},
		{"huge", "999999999", "", MaxRetryAfter},
		{"beyond any number", "99999999999999999999999999", "", MaxRetryAfter},
		{"a second over the bound", "901", "", MaxRetryAfter},
		{"other digits", "７", "", 0},
		{"date", at(7 * time.Second), at(0), 7 * time.Second},
		{"date of a vendor two hours ahead", at(2*time.Hour + 7*time.Second), at(2 * time.Hour), 7 * time.Second},
		{"date of a vendor two hours behind", at(-2*time.Hour + 7*time.Second), at(-2 * time.Hour), 7 * time.Second},
		{"date without a Date", at(7 * time.Second), "", 7 * time.Second},
		{"date with a garbled Date", at(7 * time.Second), "yesterday", 7 * time.Second},
		{"date in the past", at(-7 * time.Second), at(0), 0},
		{"date now", at(0), at(0), 0},
		{"far date", at(240 * time.Hour), at(0), MaxRetryAfter},
		{"date centuries away", "Fri, 31 Dec 9999 23:59:59 GMT", at(0), MaxRetryAfter},
		{"RFC 850 date", now.Add(9 * time.Second).Format("Monday, 02-Jan-06 15:04:05 GMT"), at(0), 9 * time.Second},
		{"asctime date", now.Add(9 * time.Second).Format(time.ANSIC), at(0), 9 * time.Second},
		{"joined by a proxy", "7, 120", "", 2 * time.Minute},
		{"joined with garbage", "7, soon", "", 0},
		{"joined with nothing", "7,", "", 0},
		{"impossible date", "Mon, 30 Feb 2026 12:00:00 GMT", at(0), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			if c.value != "" {
				h.Set("Retry-After", c.value)
			}
			if c.date != "" {
				h.Set("Date", c.date)
			}
			if got := RetryAfter(h, now); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// A proxy and the vendor behind it may each send one.
func TestRetryAfterRepeated(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		values []string
		want   time.Duration
	}{
		"the longer one last":  {[]string{"7", "30"}, 30 * time.Second},
		"the longer one first": {[]string{"30", "7"}, 30 * time.Second},
		"one is garbage":       {[]string{"soon", "7"}, 7 * time.Second},
		"both forms":           {[]string{"7", now.Add(time.Minute).Format(http.TimeFormat)}, time.Minute},
		"none names a time":    {[]string{"-1", ""}, 0},
	} {
		if got := RetryAfter(http.Header{"Retry-After": c.values}, now); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("7", "")
	f.Add("Sat, 21 Nov 2026 12:00:07 GMT", "Sat, 21 Nov 2026 12:00:00 GMT")
	f.Add("-1", "garbage")
	f.Fuzz(func(t *testing.T, value, date string) {
		h := http.Header{"Retry-After": {value}, "Date": {date}}
		if got := RetryAfter(h, time.Unix(1795000000, 0)); got < 0 || got > MaxRetryAfter {
			t.Errorf("%q with Date %q gives %s", value, date, got)
		}
	})
}

package client

import (
	"net/http"
	"strings"
	"time"
)

// RetryAfter returns how long the vendor asks to wait (RFC 9110, section 10.2.3), at most MaxRetryAfter, and 0 when it
// names nothing that can be understood: a missing, negative or garbled value, or a date that has passed. A date is
// compared with the answer's own Date header, so that a vendor's wrong clock does no harm; now serves where there is none.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if seconds, ok := deltaSeconds(value); ok {
		return time.Duration(seconds) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	// Compared before subtracting: the difference of far-away times does not fit a Duration.
	switch {
	case !until.After(now):
		return 0
	case until.After(now.Add(MaxRetryAfter)):
		return MaxRetryAfter
	}
	return until.Sub(now)
}

// deltaSeconds reads digits and nothing else, bounded by MaxRetryAfter however many there are.
func deltaSeconds(value string) (int, bool) {
	seconds := 0
	for _, d := range []byte(value) {
		if d < '0' || d > '9' {
			return 0, false
		}
		seconds = min(seconds*10+int(d-'0'), int(MaxRetryAfter/time.Second))
	}
	return seconds, true
}

package client

import (
	"net/http"
	"strings"
	"time"
)

// RetryAfter returns how long the vendor asks to wait (RFC 9110, section 10.2.3), at most MaxRetryAfter, and 0 when it
// names nothing that can be understood: a missing, negative or garbled value, or a date that has passed. A date is
// compared with the answer's own Date header, so that a vendor's wrong clock does no harm; now serves where there is none.
// Of a repeated header the longest wait counts: a proxy and the vendor behind it can each have asked for theirs.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	var longest time.Duration
	for _, value := range h.Values("Retry-After") {
		longest = max(longest, retryAfter(value, h, now))
	}
	return longest
}

func retryAfter(value string, h http.Header, now time.Time) time.Duration {
	if seconds, ok := deltaSeconds(value); ok {
		return seconds
	}
	until, err := http.ParseTime(strings.TrimSpace(value))
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

// deltaSeconds reads digits and nothing else, bounded by MaxRetryAfter however many there are. A proxy may have joined a
// repeated header's values by commas (RFC 9110, section 5.3); then each has to be such a number.
func deltaSeconds(value string) (longest time.Duration, ok bool) {
	for part := range strings.SplitSeq(value, ",") {
		part = strings.Trim(part, " \t")
		if part == "" {
			return 0, false
		}
		seconds := 0
		for _, d := range []byte(part) {
			if d < '0' || d > '9' {
				return 0, false
			}
			seconds = min(seconds*10+int(d-'0'), int(MaxRetryAfter/time.Second))
		}
		longest = max(longest, time.Duration(seconds)*time.Second)
	}
	return longest, true
}

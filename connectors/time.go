package connectors

import (
	"strings"
	"time"
)

// ParseTime reads a vendor's stamp and returns it in UTC. A layout without a zone is read as UTC: what a vendor writes in
// somebody's own zone cannot be read at all, and asking for it is the connector's mistake. A leap second, which time.Parse
// does not know, is the second after it, as POSIX counts. Days that no calendar has are an error.
func ParseTime(layout, value string) (time.Time, error) {
	t, err := time.Parse(layout, value)
	if err == nil {
		return t.UTC(), nil
	}
	const leap = ":60"
	at := strings.LastIndex(value, leap)
	if at < 0 {
		return time.Time{}, err
	}
	before, wrong := time.Parse(layout, value[:at]+":59"+value[at+len(leap):])
	before = before.UTC()
	if wrong != nil || before.Hour() != 23 || before.Minute() != 59 { // leap seconds end a day of UTC
		return time.Time{}, err
	}
	return before.Truncate(time.Second).Add(time.Second), nil
}

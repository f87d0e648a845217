package servicenowtest

import (
	"regexp"
	"strconv"
	"strings"
	"time"
)

// scriptMark starts a query value that the server evaluates.
const scriptMark = "javascript:"

var (
	scriptCall = regexp.MustCompile(`^javascript:\s*gs\.([A-Za-z]+)\(([^()]*)\)\s*;?\s*$`)
	units      = map[string]time.Duration{
		"second": time.Second, "minute": time.Minute, "hour": time.Hour,
		"day": 24 * time.Hour, "dayofweek": 24 * time.Hour, "week": 7 * 24 * time.Hour,
	}
	agoCall = regexp.MustCompile(`^(minutes|hours|days|weeks|months|quarters|years)Ago(Start|End)?$`)
	dayCall = regexp.MustCompile(`^(beginning|end)Of(Today|Yesterday|Tomorrow|ThisWeek|LastWeek|NextWeek|ThisMonth|LastMonth|NextMonth|ThisYear|LastYear|NextYear)$`)
)

// script evaluates a gs helper in the user's time zone and gives the stored form; false for anything else.
func (s *Server) script(text string, who actor) (string, bool) {
	m := scriptCall.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	name, args := m[1], scriptArgs(m[2])
	now := s.cfg.Now().In(who.zone).Truncate(time.Second)
	switch name {
	case "getUserID":
		return who.id, true
	case "getUserName":
		return who.login, true
	case "getUserDisplayName":
		return who.name, true
	case "now", "nowDateTime", "nowNoTZ":
		return now.UTC().Format(stampLayout), true
	case "dateGenerate":
		return dateGenerate(args, who.zone)
	}
	at, ok := agoDate(name, args, now)
	if !ok {
		at, ok = calendarDate(name, now)
	}
	return at.UTC().Format(stampLayout), ok
}

func scriptArgs(text string) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	args := strings.Split(text, ",")
	for i, a := range args {
		args[i] = strings.Trim(strings.TrimSpace(a), `'"`)
	}
	return args
}

// dateGenerate reads a date and a time in the user's zone; the time may be start or end.
func dateGenerate(args []string, zone *time.Location) (string, bool) {
	if len(args) == 0 {
		return "", false
	}
	text := args[0]
	if len(args) > 1 {
		clock := map[string]string{"start": "00:00:00", "end": "23:59:59"}[args[1]]
		if clock == "" {
			clock = args[1]
		}
		text += " " + clock
	}
	at, err := parseStamp(text, zone)
	return at.UTC().Format(stampLayout), err == nil
}

// agoDate is n units before now; Start and End name the edges of that unit.
func agoDate(name string, args []string, now time.Time) (time.Time, bool) {
	m := agoCall.FindStringSubmatch(name)
	if m == nil || len(args) != 1 {
		return now, false
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return now, false
	}
	at, start, next := stepBack(m[1], n, now)
	switch m[2] {
	case "Start":
		return start, true
	case "End":
		return next.Add(-time.Second), true
	}
	return at, true
}

// stepBack gives the moment n units ago, the start of its unit and the start of the one after.
func stepBack(unit string, n int, now time.Time) (at, start, next time.Time) {
	y, m, d := now.Date()
	day := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, now.Location()) }
	switch unit {
	case "minutes":
		at = now.Add(-time.Duration(n) * time.Minute)
		start = at.Truncate(time.Minute)
		return at, start, start.Add(time.Minute)
	case "hours":
		at = now.Add(-time.Duration(n) * time.Hour)
		start = time.Date(at.Year(), at.Month(), at.Day(), at.Hour(), 0, 0, 0, now.Location())
		return at, start, start.Add(time.Hour)
	case "days":
		return now.AddDate(0, 0, -n), day(y, m, d-n), day(y, m, d-n+1)
	case "weeks":
		monday := d - (int(now.Weekday())+6)%7 - 7*n
		return now.AddDate(0, 0, -7*n), day(y, m, monday), day(y, m, monday+7)
	case "months":
		return now.AddDate(0, -n, 0), day(y, m-time.Month(n), 1), day(y, m-time.Month(n)+1, 1)
	case "quarters":
		first := m - (m-1)%3 - time.Month(3*n)
		return now.AddDate(0, -3*n, 0), day(y, first, 1), day(y, first+3, 1)
	}
	return now.AddDate(-n, 0, 0), day(y-n, 1, 1), day(y-n+1, 1, 1)
}

// calendarDate is the edge of a day, week, month or year near now.
func calendarDate(name string, now time.Time) (time.Time, bool) {
	m := dayCall.FindStringSubmatch(name)
	if m == nil {
		return now, false
	}
	span := map[string]struct {
		unit string
		n    int
	}{
		"Today": {"days", 0}, "Yesterday": {"days", 1}, "Tomorrow": {"days", -1},
		"ThisWeek": {"weeks", 0}, "LastWeek": {"weeks", 1}, "NextWeek": {"weeks", -1},
		"ThisMonth": {"months", 0}, "LastMonth": {"months", 1}, "NextMonth": {"months", -1},
		"ThisYear": {"years", 0}, "LastYear": {"years", 1}, "NextYear": {"years", -1},
	}[m[2]]
	_, start, next := stepBack(span.unit, span.n, now)
	if m[1] == "beginning" {
		return start, true
	}
	return next.Add(-time.Second), true
}

// relativeArg reads "@hour@ago@1" or "minute@ahead@5" into a stamp.
func (s *Server) relativeArg(text string) ([]string, bool) {
	part := strings.Split(strings.TrimPrefix(text, "@"), "@")
	if len(part) != 3 {
		return nil, false
	}
	n, err := strconv.Atoi(part[2])
	if err != nil || part[1] != "ago" && part[1] != "ahead" {
		return nil, false
	}
	if part[1] == "ahead" {
		n = -n
	}
	now := s.cfg.Now().UTC()
	var at time.Time
	switch unit, known := units[part[0]]; {
	case known:
		at = now.Add(-time.Duration(n) * unit)
	case part[0] == "month":
		at = now.AddDate(0, -n, 0)
	case part[0] == "quarter":
		at = now.AddDate(0, -3*n, 0)
	case part[0] == "year":
		at = now.AddDate(-n, 0, 0)
	default:
		return nil, false
	}
	return []string{at.Format(stampLayout)}, true
}

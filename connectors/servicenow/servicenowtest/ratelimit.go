package servicenowtest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// limiter counts requests per rule, user and hour.
type limiter struct {
	mu    sync.Mutex
	hour  time.Time
	count map[string]int
}

// limit applies the rate limit rule that fits the caller and sets its headers.
func (s *Server) limit(w http.ResponseWriter, c *call, resource string) error {
	s.mu.RLock()
	rule, ok := pickRule(s.cfg.RateLimits, c.who, resource)
	s.mu.RUnlock()
	if !ok {
		return nil
	}
	now := s.cfg.Now()
	used, end := s.limits.use(rule.Name+"|"+c.who.login, now)
	h := w.Header()
	h.Set("X-RateLimit-Limit", strconv.Itoa(rule.PerHour))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(end.Unix(), 10))
	h.Set("X-RateLimit-Rule", fixedID("sys_rate_limit_rules", rule.Name))
	if used <= rule.PerHour {
		return nil
	}
	wait := int(end.Sub(now).Seconds()) + 1
	return &apiError{
		status: http.StatusTooManyRequests, message: "Rate limit exceeded",
		detail: fmt.Sprintf("Rate limit of %d requests per hour for %s exceeded", rule.PerHour, resource),
		header: http.Header{"Retry-After": {strconv.Itoa(wait)}},
	}
}

// use counts a request and tells the end of the counting hour.
func (l *limiter) use(key string, now time.Time) (int, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if hour := now.Truncate(time.Hour); !hour.Equal(l.hour) || l.count == nil {
		l.hour, l.count = hour, map[string]int{}
	}
	l.count[key]++
	return l.count[key], l.hour.Add(time.Hour)
}

// pickRule finds the rule in force: by user before by role before for all; of several by role the lowest.
func pickRule(rules []RateLimit, who actor, resource string) (RateLimit, bool) {
	var best RateLimit
	rank := 0
	for _, r := range rules {
		if r.Resource != "" && !strings.EqualFold(r.Resource, resource) {
			continue
		}
		got := 0
		switch {
		case r.User != "":
			if strings.EqualFold(r.User, who.login) {
				got = 3
			}
		case r.Role != "":
			if slices.Contains(who.roles, r.Role) {
				got = 2
			}
		default:
			got = 1
		}
		if got > rank || got > 0 && got == rank && r.PerHour < best.PerHour {
			best, rank = r, got
		}
	}
	return best, rank > 0
}

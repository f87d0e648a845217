package pulse

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"liaison/connectors"
	"liaison/sync/ledger"
)

// Collector tells Prometheus how each system does. It asks the database when it is scraped, at most once in a while however
// often that is; while the database is away it tells nothing. Hubs on one database all tell the same, so ask for the max and
// not the sum.
type Collector struct {
	read func(context.Context) ([]ledger.Health, error)
	now  func() time.Time
	log  *slog.Logger

	mu    sync.Mutex
	known []ledger.Health
	asked time.Time
	lost  bool
}

// The measures of a Collector.
const (
	scrapeEvery   = 10 * time.Second // what is known may be as old as this
	scrapePatient = 5 * time.Second  // how long the database may take
)

// NewCollector returns a collector. read asks how every system does.
func NewCollector(read func(context.Context) ([]ledger.Health, error), now func() time.Time, log *slog.Logger) *Collector {
	return &Collector{read: read, now: now, log: log}
}

// metric is one of a system's numbers.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(h ledger.Health, now time.Time) float64
}

func gauge(name, help string, value func(ledger.Health, time.Time) float64) metric {
	return metric{prometheus.NewDesc(name, help, []string{"system"}, nil), prometheus.GaugeValue, value}
}

func counter(name, help string, value func(ledger.Health) int64) metric {
	return metric{prometheus.NewDesc(name, help, []string{"system"}, nil), prometheus.CounterValue, func(h ledger.Health, _ time.Time) float64 { return float64(value(h)) }}
}

func count(value func(ledger.Health) int64) func(ledger.Health, time.Time) float64 {
	return func(h ledger.Health, _ time.Time) float64 { return float64(value(h)) }
}

// age is how long ago something was, 0 when it never was.
func age(value func(ledger.Health) time.Time) func(ledger.Health, time.Time) float64 {
	return func(h ledger.Health, now time.Time) float64 {
		if t := value(h); !t.IsZero() {
			return max(now.Sub(t).Seconds(), 0)
		}
		return 0
	}
}

func yes(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

var metrics = []metric{
	gauge("liaison_sync_in_step", "1 when the system is in step: both ways worked lately and nothing waits.", func(h ledger.Health, now time.Time) float64 { return yes(Judge(h, now).Status == InStep) }),
	gauge("liaison_sync_paused", "1 while a person has paused the system.", func(h ledger.Health, _ time.Time) float64 { return yes(h.Paused) }),
	gauge("liaison_sync_alarms", "Things about the system that are not as they should be.", func(h ledger.Health, now time.Time) float64 { return float64(len(Judge(h, now).Alarms)) }),
	gauge("liaison_sync_oldest_unsent_seconds", "Age of the oldest change that the vendor has yet to hear of, 0 when nothing waits.", age(func(h ledger.Health) time.Time { return h.OldestUnsent })),
	gauge("liaison_sync_oldest_unread_seconds", "Age of the oldest call or finding that waits to be acted upon, 0 when nothing waits.", age(func(h ledger.Health) time.Time { return h.OldestUnread })),
	gauge("liaison_sync_sent_age_seconds", "Time since the vendor last took a delivery, 0 before the first time.", age(func(h ledger.Health) time.Time { return h.SentAt })),
	gauge("liaison_sync_read_age_seconds", "Time since the vendor last answered a read, poll or check, 0 before the first time.", age(func(h ledger.Health) time.Time { return h.ReadAt })),
	gauge("liaison_sync_news_age_seconds", "Time since the vendor last told something new, 0 before the first time.", age(func(h ledger.Health) time.Time { return h.NewsAt })),
	gauge("liaison_sync_lanes_waiting", "Tickets with something to be sent, at most 20,000.", count(func(h ledger.Health) int64 { return h.Lanes })),
	gauge("liaison_sync_waiting", "Deliveries that wait or are under way, of at most 20,000 tickets.", count(func(h ledger.Health) int64 { return h.Waiting })),
	gauge("liaison_sync_retrying", "Tickets whose next delivery has failed and is tried again.", count(func(h ledger.Health) int64 { return h.Retrying })),
	gauge("liaison_sync_dead", "Deliveries that were given up and hold those behind them.", count(func(h ledger.Health) int64 { return h.Dead })),
	gauge("liaison_sync_unknown", "Deliveries whose outcome is being asked after.", count(func(h ledger.Health) int64 { return h.Unknown })),
	gauge("liaison_sync_parked_fields", "Fields of tickets that wait for a person.", count(func(h ledger.Health) int64 { return h.ParkedFields })),
	gauge("liaison_sync_parked_calls", "Calls that came in and were not understood.", count(func(h ledger.Health) int64 { return h.ParkedCalls })),
	gauge("liaison_sync_inbox_waiting", "Calls and findings that wait to be acted upon, at most 20,000.", count(func(h ledger.Health) int64 { return h.InboxNow })),
	gauge("liaison_sync_conflicts", "Conflicts that wait for a decision.", count(func(h ledger.Health) int64 { return h.Conflicts })),
	gauge("liaison_sync_drift", "Differences that the last comparison found and did not mend.", count(func(h ledger.Health) int64 { return h.Drift })),
	counter("liaison_sync_retries_total", "Exchanges that had to be made again.", func(h ledger.Health) int64 { return h.Retries }),
	counter("liaison_sync_echoes_total", "Fields that came back from the vendor as the hub had written them, each counted once.", func(h ledger.Health) int64 { return h.Echoes }),
	counter("liaison_sync_restored_total", "Changes that only a poll brought although the vendor should have called.", func(h ledger.Health) int64 { return h.Restored }),
}

var breaker = prometheus.NewDesc("liaison_sync_breaker", "1 for the state that the system's circuit breaker is in.", []string{"system", "state"}, nil)

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range metrics {
		out <- m.desc
	}
	out <- breaker
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	now := c.now()
	for _, h := range c.health(now) {
		if !h.Active {
			continue
		}
		for _, m := range metrics {
			out <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(h, now), h.Key)
		}
		if h.Breaker == "" {
			continue
		}
		for _, state := range []string{string(connectors.BreakerClosed), string(connectors.BreakerOpen), string(connectors.BreakerHalfOpen)} {
			out <- prometheus.MustNewConstMetric(breaker, prometheus.GaugeValue, yes(h.Breaker == state), h.Key, state)
		}
	}
}

// health returns what is known, asking anew when that is old.
func (c *Collector) health(now time.Time) []ledger.Health {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.asked) < scrapeEvery && now.Sub(c.asked) >= 0 {
		return c.known
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapePatient)
	defer cancel()
	known, err := c.read(ctx)
	if err != nil {
		if !c.lost {
			c.log.Warn("cannot tell how systems do", "error", err)
		}
		c.known, c.lost = nil, true
		return nil
	}
	c.known, c.asked, c.lost = known, now, false
	return c.known
}

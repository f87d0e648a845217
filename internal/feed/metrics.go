package feed

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics is what an operator watches. Names follow Prometheus's conventions: base units, _total on counters.
type metrics struct {
	position    prometheus.Gauge
	lag         prometheus.Histogram
	subscribers prometheus.Gauge
	cut         *prometheus.CounterVec
	stamped     prometheus.Counter
	gaps        prometheus.Gauge
	leading     prometheus.Gauge
	failures    *prometheus.CounterVec
}

func newMetrics() *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "liaison", Subsystem: "feed", Name: name, Help: help})
	}
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "liaison", Subsystem: "feed", Name: name, Help: help}, []string{label})
	}
	return &metrics{
		position: gauge("position", "Position of the last event that this process has fanned out."),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "liaison", Subsystem: "feed", Name: "lag_seconds",
			Help:    "Time from a ledger entry's own time to its fan-out in this process.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}),
		subscribers: gauge("subscribers", "Open subscriptions, those that still read their backlog included."),
		cut:         counter("subscribers_cut_total", "Subscriptions ended by the hub, by reason: slow, expired, stopped.", "reason"),
		stamped: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "liaison", Subsystem: "feed", Name: "entries_stamped_total", Help: "Ledger entries that this process has given a position.",
		}),
		gaps:     gauge("gaps", "Ranges of entry ids not yet seen committed, as of this process's last pass."),
		leading:  gauge("sequencer_leading", "1 while this process holds the sequencer's lease, else 0."),
		failures: counter("failures_total", "Failed attempts to use the database, by part: sequencer, tail.", "part"),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.position, m.lag, m.subscribers, m.cut, m.stamped, m.gaps, m.leading, m.failures}
}

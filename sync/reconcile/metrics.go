package reconcile

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what comparisons find. A nil *Metrics counts nothing.
type Metrics struct {
	links *prometheus.CounterVec
	drift *prometheus.CounterVec
}

// NewMetrics registers the comparisons' metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		links: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "liaison_reconcile_links_total",
			Help: "Links that were compared with their vendor's ticket, by system.",
		}, []string{"system"}),
		drift: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "liaison_reconcile_drift_total",
			Help: "Things that comparisons found not to be as they should, by system and whether they were mended.",
		}, []string{"system", "mended"}),
	}
	r.MustRegister(m.links, m.drift)
	return m
}

func (m *Metrics) compared(system string, drift []Drift) {
	if m == nil {
		return
	}
	m.links.WithLabelValues(system).Inc()
	for _, d := range drift {
		m.drift.WithLabelValues(system, map[bool]string{true: "yes", false: "no"}[d.Mended]).Inc()
	}
}

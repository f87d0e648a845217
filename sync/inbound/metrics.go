package inbound

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"liaison/sync/ledger"
)

// Metrics count what comes in. A nil *Metrics counts nothing.
type Metrics struct {
	hints     *prometheus.CounterVec
	entries   *prometheus.CounterVec
	echoes    *prometheus.CounterVec
	conflicts *prometheus.CounterVec
	stopped   *prometheus.CounterVec
	missed    *prometheus.CounterVec
}

// NewMetrics registers the inbox's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		hints: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "liaison_inbox_settled_total",
			Help: "Hints from vendors by system and what became of them.",
		}, []string{"system", "state"}),
		entries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "liaison_inbound_entries_total",
			Help: "Ledger entries that vendors' news made, by system.",
		}, []string{"system"}),
		echoes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "liaison_inbound_echoes_total",
			Help: "Fields that a read showed for the first time as the hub had written them, by system: echoes, each of which is counted once.",
		}, []string{"system"}),
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "liaison_inbound_conflicts_total",
			Help: "Fields that both sides had changed, differently, by system.",
		}, []string{"system"}),
		stopped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "liaison_inbound_stopped_total",
			Help: "Fields that went to and fro once too often and were stopped until a person frees them, by system.",
		}, []string{"system"}),
		missed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "liaison_inbound_restored_total",
			Help: "Ledger entries of changes that only a poll brought although the vendor's webhooks are let in, by system: missed webhooks.",
		}, []string{"system"}),
	}
	r.MustRegister(m.hints, m.entries, m.echoes, m.conflicts, m.stopped, m.missed)
	return m
}

func (m *Metrics) settled(system, state string, rows int) {
	if m != nil {
		m.hints.WithLabelValues(system, strings.ToLower(state)).Add(float64(rows))
	}
}

func (m *Metrics) restored(system string, entries int) {
	if m != nil {
		m.missed.WithLabelValues(system).Add(float64(entries))
	}
}

func (m *Metrics) pulled(system string, taken ledger.Taken) {
	if m == nil {
		return
	}
	m.entries.WithLabelValues(system).Add(float64(taken.Entries))
	m.echoes.WithLabelValues(system).Add(float64(taken.Echoes))
	m.conflicts.WithLabelValues(system).Add(float64(taken.Conflicts))
	m.stopped.WithLabelValues(system).Add(float64(taken.Stopped))
}

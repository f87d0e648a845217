package outbound

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"liaison/sync/ledger"
)

// Metrics count exchanges. A nil *Metrics counts nothing.
type Metrics struct {
	exchanges *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	age       *prometheus.HistogramVec
}

// NewMetrics registers the lanes' metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "liaison_exchanges_total",
			Help: "Exchanges with vendors by system, kind of delivery and the delivery's state afterwards.",
		}, []string{"system", "kind", "state"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "liaison_exchange_seconds",
			Help: "How long an exchange with a vendor took.", Buckets: prometheus.ExponentialBuckets(0.002, 2, 15),
		}, []string{"system"}),
		age: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "liaison_delivery_age_seconds",
			Help: "How old a change was when the vendor had it.", Buckets: prometheus.ExponentialBuckets(0.005, 2.5, 15),
		}, []string{"system"}),
	}
	r.MustRegister(m.exchanges, m.seconds, m.age)
	return m
}

func (m *Metrics) observe(system string, x ledger.Exchange, s ledger.Settlement, took time.Duration) {
	if m == nil {
		return
	}
	m.exchanges.WithLabelValues(system, strings.ToLower(string(x.Delivery.Kind)), strings.ToLower(string(s.State))).Inc()
	m.seconds.WithLabelValues(system).Observe(took.Seconds())
	if s.State == ledger.StateDelivered {
		m.age.WithLabelValues(system).Observe(time.Since(x.Delivery.CreatedAt).Seconds())
	}
}

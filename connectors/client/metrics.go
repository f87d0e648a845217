package client

import (
	"github.com/prometheus/client_golang/prometheus"

	"liaison/connectors/account"
)

// Collector tells Prometheus of accounts. An account is named by its systems' keys, joined by "+": its login is in no
// label, because it can be a secret's shadow.
type Collector struct {
	accounts *account.Registry

	breaker, opened, calls, pauses, wait, running, waiting *prometheus.Desc
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector returns a collector for the accounts of a registry, also of those that join later.
func NewCollector(accounts *account.Registry) *Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("liaison_account_"+name, help, append([]string{"account"}, labels...), nil)
	}
	return &Collector{
		accounts: accounts,
		breaker:  desc("breaker_state", "1 for the state that the account's circuit breaker is in, 0 for the others.", "state"),
		opened:   desc("breaker_opened_total", "How often the account's circuit breaker opened."),
		calls:    desc("calls_total", "Calls under the account by outcome; held_back and left_alone were not made.", "outcome"),
		pauses:   desc("pauses_total", "Pauses that the vendor asked for."),
		wait:     desc("wait_seconds", "How long no call may be made, for whatever reason."),
		running:  desc("calls_running", "Calls under way."),
		waiting:  desc("calls_waiting", "Calls that wait for others to end."),
	}
}

// Describe names the metrics.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.breaker, c.opened, c.calls, c.pauses, c.wait, c.running, c.waiting} {
		ch <- d
	}
}

// Collect reads the accounts.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	named := map[string]bool{}
	for _, a := range c.accounts.All() {
		name := a.Name()
		if named[name] { // two accounts without a system's key, at one origin
			continue
		}
		named[name] = true
		c.collect(ch, name, a.Read())
	}
}

func (c *Collector) collect(ch chan<- prometheus.Metric, name string, r account.Reading) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, append([]string{name}, labels...)...)
	}
	for _, s := range account.Breakers() {
		is := 0.0
		if r.Pace.Breaker == s {
			is = 1
		}
		send(c.breaker, prometheus.GaugeValue, is, string(s))
	}
	for _, o := range account.Outcomes() {
		send(c.calls, prometheus.CounterValue, float64(r.Counts.Calls[o]), string(o))
	}
	send(c.opened, prometheus.CounterValue, float64(r.Counts.Opened))
	send(c.pauses, prometheus.CounterValue, float64(r.Counts.Pauses))
	send(c.wait, prometheus.GaugeValue, r.Pace.Wait.Seconds())
	send(c.running, prometheus.GaugeValue, float64(r.Running))
	send(c.waiting, prometheus.GaugeValue, float64(r.Waiting))
}

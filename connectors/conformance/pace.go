package conformance

import (
	"net/http"
	"time"

	"liaison/connectors"
)

func paceCases() []Case {
	return []Case{
		{"PaceTellsThePause", paceTellsThePause},
		{"PaceTellsTheBreaker", paceTellsTheBreaker},
	}
}

// paceTellsThePause: who asks before calling learns of the pause that the vendor has asked for.
func paceTellsThePause(b *bench) {
	paced, ok := b.conn.(connectors.Paced)
	if !ok {
		return
	}
	if p := paced.Pace(); p.Wait != 0 || p.Calls < 1 || p.Breaker != connectors.BreakerClosed || !p.Until.IsZero() {
		b.Errorf("before any call: %+v, want calls now", p)
	}
	b.proxy.inject(anything, 1, answer(http.StatusTooManyRequests, map[string]string{"Retry-After": "7"}, ""))
	b.kind("Check with 429", b.conn.Check(b.ctx), connectors.RateLimited)
	p := paced.Pace()
	if p.Wait < 6*time.Second || p.Wait > 7*time.Second || p.Calls != 0 || p.Reason == "" || p.Until.IsZero() {
		b.Errorf("after 429 with Retry-After 7: %+v, want about 7s and why", p)
	}
}

// paceTellsTheBreaker: a vendor that gives no usable answer is left alone after some tries, and Pace says so.
func paceTellsTheBreaker(b *bench) {
	paced, ok := b.conn.(connectors.Paced)
	if !ok {
		return
	}
	hits := b.proxy.inject(anything, always, answer(http.StatusInternalServerError, nil, ""))
	for range 20 {
		b.kind("Check with 500", b.conn.Check(b.ctx), connectors.Transient)
	}
	before := hits()
	b.kind("Check with an open breaker", b.conn.Check(b.ctx), connectors.Transient)
	if p := paced.Pace(); hits() != before || p.Breaker != connectors.BreakerOpen || p.Wait <= 0 || p.Calls != 0 || p.Reason == "" {
		b.Errorf("after %d failures: %+v and %d more calls, want an open breaker and none", before, p, hits()-before)
	}
}

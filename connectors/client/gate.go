package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"liaison/connectors"
)

// gate lets attempts through: so many at a time, so many a second, none before the vendor's named time and none while
// the breaker is open. It is shared by all calls of one account.
type gate struct {
	next    http.RoundTripper
	now     func() time.Time
	slots   *semaphore.Weighted
	rate    *rate.Limiter
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]

	mu        sync.Mutex
	notBefore time.Time // the vendor asked for no calls until then
	opened    time.Time // when the breaker last opened
	cooldown  time.Duration
}

func newGate(cfg Config, next http.RoundTripper) *gate {
	g := &gate{next: next, now: cfg.Now, slots: semaphore.NewWeighted(int64(cfg.Concurrency)), cooldown: cfg.Breaker.Cooldown}
	g.rate = rate.NewLimiter(rate.Inf, 1)
	if cfg.Rate > 0 {
		g.rate.SetLimit(rate.Limit(cfg.Rate)) // a burst of one: never above the rate, not even after an idle hour
	}
	if cfg.Breaker.Failures > 0 {
		g.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:       cfg.Breaker.Cooldown,
			ReadyToTrip:   func(n gobreaker.Counts) bool { return int(n.ConsecutiveFailures) >= cfg.Breaker.Failures },
			IsExcluded:    func(err error) bool { return errors.Is(err, errNoVerdict) },
			OnStateChange: func(_ string, _, to gobreaker.State) { g.noteState(to) },
		})
	}
	return g
}

// What an attempt tells the breaker, beside nothing for a usable answer.
var (
	errSick      = errors.New("no usable answer")
	errNoVerdict = errors.New("the caller gave up") // says nothing about the vendor
)

func (g *gate) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	// A new attempt: whatever the one before it did was found safe to repeat.
	exchangeOf(ctx).left.Store(false)
	if err := g.closed(); err != nil { // before queueing: a sick vendor's callers must not fill the queue
		return nil, err
	}
	if err := g.slots.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting for a free call: %w", err)
	}
	defer g.slots.Release(1)
	if err := g.rate.Wait(ctx); err != nil {
		return nil, fmt.Errorf("waiting for the rate: %w", err)
	}
	if err := g.held(); err != nil { // again: the wait may have been long
		return nil, err
	}
	done := func(error) {}
	if g.breaker != nil {
		var err error
		if done, err = g.breaker.Allow(); err != nil {
			return nil, g.open()
		}
	}
	resp, err := g.next.RoundTrip(req)
	done(verdict(ctx, resp, err))
	if resp != nil {
		g.heed(resp)
	}
	return resp, err
}

func verdict(ctx context.Context, resp *http.Response, err error) error {
	switch {
	case err != nil && ctx.Err() != nil:
		return errNoVerdict
	case err != nil:
		// A refused sign-in must stay visible as one: an open breaker would hide it.
		if k := connectors.KindOf(err); k == connectors.Auth || k == connectors.RateLimited || isUntrusted(err) {
			return errNoVerdict
		}
		return errSick
	case resp.StatusCode >= 500:
		return errSick
	}
	return nil
}

func (g *gate) closed() error {
	if err := g.held(); err != nil {
		return err
	}
	if g.breaker != nil && g.breaker.State() == gobreaker.StateOpen {
		return g.open()
	}
	return nil
}

// held refuses a call before the time that the vendor has named.
func (g *gate) held() error {
	g.mu.Lock()
	wait := g.notBefore.Sub(g.now())
	g.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	return &connectors.Error{Kind: connectors.RateLimited, RetryAfter: wait, Err: errors.New("held back: the vendor has asked for a pause")}
}

// heed notes how long the vendor wants to be left alone.
func (g *gate) heed(resp *http.Response) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return
	}
	now := g.now()
	until := now.Add(RetryAfter(resp.Header, now))
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.notBefore) {
		g.notBefore = until
	}
}

func (g *gate) noteState(to gobreaker.State) {
	if to != gobreaker.StateOpen {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = time.Now()
}

// open is the error while the breaker is open. Nothing was sent.
func (g *gate) open() error {
	g.mu.Lock()
	wait := time.Until(g.opened.Add(g.cooldown))
	g.mu.Unlock()
	return &connectors.Error{
		Kind: connectors.Transient, RetryAfter: max(wait, 0),
		Err: errors.New("left alone: the vendor has given no usable answer for a while"),
	}
}

package reconcile

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"liaison/connectors"
)

// errSpent says that the budget of requests is used up.
var errSpent = errors.New("the budget of requests is used up")

// meter counts a comparison's requests and keeps their pace: its own, and behind it the account's, so that deliveries and
// polls go first.
type meter struct {
	connector connectors.Connector
	budget    int // 0: no bound
	limiter   *rate.Limiter
	spent     int
}

func newMeter(c connectors.Connector, budget, perMinute int) *meter {
	m := &meter{connector: c, budget: budget, limiter: rate.NewLimiter(rate.Inf, 1)}
	if perMinute > 0 {
		m.limiter = rate.NewLimiter(rate.Every(time.Minute/time.Duration(perMinute)), 1)
	}
	return m
}

// request waits for the turn of one request. Its error is errSpent or ctx's.
func (m *meter) request(ctx context.Context) error {
	if m.budget > 0 && m.spent >= m.budget {
		return errSpent
	}
	if err := m.limiter.Wait(ctx); err != nil {
		return err
	}
	for {
		paced, ok := m.connector.(connectors.Paced)
		if !ok {
			break
		}
		pace := paced.Pace()
		if pace.Wait <= 0 {
			break
		}
		if err := sleep(ctx, min(pace.Wait, time.Minute)); err != nil {
			return err
		}
	}
	m.spent++
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

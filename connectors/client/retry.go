package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"liaison/connectors"
)

// maxPatience is the longest Retry-After that is waited for within a call. A longer wait is the lane's.
const maxPatience = 2 * time.Second

// checkRetry allows another attempt only at what is safe to repeat: a read, or a write that never left.
func (c *Client) checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, nil //nolint:nilerr // the caller has left: the attempt's own error tells why
	}
	x := exchangeOf(ctx)
	if err != nil {
		_, sorted := errors.AsType[*connectors.Error](err)
		final := sorted || isUntrusted(err) || errors.Is(err, errEgress) || errors.Is(err, errTooLong)
		return !final && (!x.write || !x.left.Load()), nil
	}
	if x.write {
		return false, nil
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		wait := RetryAfter(resp.Header, c.cfg.Now())
		return wait > 0 && wait <= maxPatience, nil
	case http.StatusServiceUnavailable:
		return RetryAfter(resp.Header, c.cfg.Now()) <= maxPatience, nil
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true, nil
	}
	return false, nil
}

// backoff is what the vendor asked for, else a doubling wait of which the upper half is random.
func (c *Client) backoff(first, longest time.Duration, attempt int, resp *http.Response) time.Duration {
	if resp != nil {
		if wait := RetryAfter(resp.Header, c.cfg.Now()); wait > 0 {
			return wait
		}
	}
	wait := min(first<<min(attempt, 16), longest)
	return wait/2 + rand.N(wait/2+1)
}

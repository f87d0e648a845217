package main

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/outbound"
	"liaison/sync/system"
)

// calls is the way from a change in the ledger to the vendor's request.
type calls struct {
	w         *world
	vendor    *vendor
	clock     atomic.Pointer[stopwatch] // of the round
	system    *system.System
	incidents []incident.ID
	lone      *bareAppend
	others    []incident.ID // that the peer writes, since its deliveries are nobody's
}

// newCalls makes a vendor that has heard of nothing yet. Its close must be called.
func newCalls(ctx context.Context, w *world) (_ *calls, err error) {
	c := &calls{w: w}
	c.vendor = newVendor(func(text []byte, at time.Time) {
		if n, ok := serial(text); ok {
			c.clock.Load().arrive(n, at)
		}
	})
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if _, err := w.bare.Exec(ctx, "UPDATE external_link SET base = '{}', flips = '{}' WHERE system_id = $1", int64(w.systems["changes"])); err != nil {
		return nil, err
	}
	if c.system, err = w.system(c.vendor, "changes"); err != nil {
		return nil, err
	}
	if c.incidents, err = w.incidentsOf(ctx, "changes"); err != nil {
		return nil, err
	}
	if c.others, err = w.incidentsOf(ctx, "appends"); err != nil {
		return nil, err
	}
	c.lone, err = newBareAppend(ctx, w)
	return c, err
}

func (c *calls) close() { c.vendor.server.Close() }

// timed has a stopwatch of its own told of what comes from now on.
func (c *calls) timed() *stopwatch {
	clock := newStopwatch()
	c.clock.Store(clock)
	return clock
}

// hub is Liaison's way: a hub with its bell, its feed and the vendor's worker.
func (c *calls) hub(ctx context.Context) (*route, error) {
	h, err := c.w.hub(ctx, c.w.db)
	if err != nil {
		return nil, err
	}
	h.run(ctx, outbound.NewWorker(h.ledger, c.system, outbound.Options{Log: h.log, Wake: h.bell.Subscribe(ledger.TopicLanes)}).Run)
	return &route{
		clock: c.timed(), turns: len(c.incidents),
		send: func(ctx context.Context, turn int, n int64) (time.Time, error) {
			err := c.w.entitle(ctx, h.ledger, "changes", c.incidents[turn], n)
			return time.Now(), err
		},
		stop: h.stop,
	}, nil
}

// bare is the peer's way: whoever has committed makes the call.
func (c *calls) bare(context.Context) (*route, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: hands}
	plain := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	return &route{
		clock: c.timed(), turns: len(c.others),
		send: func(ctx context.Context, turn int, n int64) (time.Time, error) {
			if err := c.lone.write(ctx, c.others[turn]); err != nil {
				return time.Time{}, err
			}
			at := time.Now()
			return at, post(ctx, plain, c.vendor.server.URL, message{Ticket: someTicket, Text: title(n)})
		},
		stop: transport.CloseIdleConnections,
	}, nil
}

func (*calls) peer() string {
	return "the pgx transaction of row b, then at once a plain net/http post by whoever has committed; nothing is written down of it"
}

func (c *calls) fact() string {
	return fmt.Sprintf("Liaison: ledger.Append, the bell, and a worker with %d calls at a time, the feed following; the ticket is read before it is written, which this vendor's connector answers from memory", c.w.settings.sizes.Calls)
}

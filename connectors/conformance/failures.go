package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/google/uuid"

	"liaison/connectors"
)

func failureCases() []Case {
	return []Case{
		{"Unauthorised", unauthorised},
		{"RateLimitedSeconds", rateLimitedSeconds},
		{"RateLimitedDate", rateLimitedDate},
		{"ServerErrorOnRead", serverErrorOnRead},
		{"ServerErrorOnWrite", serverErrorOnWrite},
		{"ConnectionRefused", connectionRefused},
		{"HTMLInsteadOfJSON", htmlInsteadOfJSON},
		{"TruncatedJSON", truncatedJSON},
		{"CancelledRead", cancelledRead},
		{"CancelledWrite", cancelledWrite},
		{"Redirect", redirect},
		{"NoSecretInErrors", noSecret},
	}
}

// calls are one read and one write of each sort, for faults that meet any call.
func (b *bench) calls(id connectors.ExternalID) (read, write map[string]func(context.Context, connectors.Connector) error) {
	read = map[string]func(context.Context, connectors.Connector) error{
		"Check": func(ctx context.Context, c connectors.Connector) error { return c.Check(ctx) },
		"Read": func(ctx context.Context, c connectors.Connector) error {
			_, err := c.Read(ctx, id, nil)
			return err
		},
		"FindByCorrelation": func(ctx context.Context, c connectors.Connector) error {
			_, err := c.FindByCorrelation(ctx, uuid.NewString())
			return err
		},
		"Journal": func(ctx context.Context, c connectors.Connector) error {
			_, _, err := c.Journal(ctx, id, "")
			return err
		},
		"Mark": func(ctx context.Context, c connectors.Connector) error {
			_, err := c.Mark(ctx, id)
			return err
		},
		"Changes": func(ctx context.Context, c connectors.Connector) error {
			_, err := c.Changes(ctx, "")
			return err
		},
	}
	write = map[string]func(context.Context, connectors.Connector) error{
		"Create": func(ctx context.Context, c connectors.Connector) error {
			_, err := c.Create(ctx, b.draft())
			return err
		},
		"Update": func(ctx context.Context, c connectors.Connector) error {
			_, err := c.Update(ctx, id, b.Updates[0])
			return err
		},
		"Say": func(ctx context.Context, c connectors.Connector) error {
			_, err := c.Say(ctx, id, connectors.Message{Key: uuid.NewString(), Visibility: connectors.Public, Body: "hello"}, "")
			return err
		},
	}
	return read, write
}

// struck runs every call on a fresh connector under the fault and passes its error to judge.
func (b *bench) struck(fits func(*http.Request) bool, do func(*proxy, http.ResponseWriter, *http.Request), judge func(name string, write bool, err error)) {
	b.Helper()
	id := b.open().ID
	read, write := b.calls(id)
	for _, set := range []map[string]func(context.Context, connectors.Connector) error{read, write} {
		for name, call := range set {
			_, isWrite := write[name]
			b.proxy.inject(fits, always, do)
			err := call(b.ctx, b.connect(0))
			b.proxy.clear()
			judge(name, isWrite, err)
		}
	}
}

func unauthorised(b *bench) {
	b.struck(anything, answer(http.StatusUnauthorized, map[string]string{"Content-Type": "application/json"}, `{}`), func(name string, _ bool, err error) {
		b.kind(name+" with 401", err, connectors.Auth)
	})
}

func (b *bench) rateLimited(header map[string]string) {
	b.struck(anything, answer(http.StatusTooManyRequests, header, `{}`), func(name string, _ bool, err error) {
		e := b.kind(name+" with 429", err, connectors.RateLimited)
		if e.RetryAfter < 6*time.Second || e.RetryAfter > 7*time.Second {
			b.Errorf("%s: RetryAfter is %s, want 7s", name, e.RetryAfter)
		}
	})
}

func rateLimitedSeconds(b *bench) {
	b.rateLimited(map[string]string{"Content-Type": "application/json", "Retry-After": "7"})
}

// rateLimitedDate: the vendor's clock is two hours off; its date form counts from its own Date.
func rateLimitedDate(b *bench) {
	clock := time.Now().UTC().Add(2 * time.Hour)
	b.rateLimited(map[string]string{
		"Content-Type": "application/json", "Date": clock.Format(http.TimeFormat), "Retry-After": clock.Add(7 * time.Second).Format(http.TimeFormat),
	})
}

func serverErrorOnRead(b *bench) {
	for _, status := range []int{500, 502, 503, 504} {
		id := b.open().ID
		b.proxy.inject(reads, always, answer(status, nil, ""))
		_, err := b.connect(0).Read(b.ctx, id, nil)
		b.proxy.clear()
		b.kind(fmt.Sprintf("Read with %d", status), err, connectors.Transient)
	}
}

// serverErrorOnWrite: a 5xx may stand for a write that was committed before the answer went wrong.
func serverErrorOnWrite(b *bench) {
	for _, status := range []int{500, 502, 503, 504} {
		d := b.draft()
		hits := b.proxy.inject(writes, always, func(p *proxy, w http.ResponseWriter, r *http.Request) {
			p.whole(r)
			w.WriteHeader(status)
		})
		_, err := b.connect(0).Create(b.ctx, d)
		b.proxy.clear()
		b.kind(fmt.Sprintf("Create with %d after it was done", status), err, connectors.Unknown)
		if hits() != 1 || b.Vendor.Count(b.TB, d.CorrelationID) != 1 {
			b.Errorf("with %d the ticket was sent %d times and stands %d times", status, hits(), b.Vendor.Count(b.TB, d.CorrelationID))
		}
	}
}

// connectionRefused: nothing was sent, so a write is as safe to try again as a read.
func connectionRefused(b *bench) {
	id := b.open().ID
	gone := httptest.NewServer(http.NotFoundHandler())
	address := gone.URL
	gone.Close()
	c := b.Connect(b.TB, Options{URL: address})
	read, write := b.calls(id)
	for _, set := range []map[string]func(context.Context, connectors.Connector) error{read, write} {
		for name, call := range set {
			b.kind(name+" with nobody there", call(b.ctx, c), connectors.Transient)
		}
	}
}

func htmlInsteadOfJSON(b *bench) {
	page := answer(http.StatusOK, map[string]string{"Content-Type": "text/html; charset=utf-8"}, "<html><title>Back soon</title></html>")
	b.struck(reads, page, func(name string, write bool, err error) {
		if !write {
			b.kind(name+" with an HTML page", err, connectors.Transient)
		}
	})
	// Only the write's own answer is bad here: a connector that looks before it writes gets to see that nothing was sent.
	b.struck(writes, page, func(name string, write bool, err error) {
		if write {
			b.kind(name+" with an HTML page", err, connectors.Unknown)
		}
	})
}

func truncatedJSON(b *bench) {
	id := b.open().ID
	for _, share := range []float64{0, 0.01, 0.1, 0.5, 0.9, 0.99} {
		b.proxy.inject(reads, always, truncate(share))
		_, err := b.connect(0).Read(b.ctx, id, nil)
		b.proxy.clear()
		b.kind(fmt.Sprintf("Read of %.0f%% of the answer", 100*share), err, connectors.Transient)
	}
	d := b.draft()
	b.proxy.inject(writes, always, truncate(0.5))
	_, err := b.connect(0).Create(b.ctx, d)
	b.proxy.clear()
	// A vendor that names the ticket in a header of its answer may have told enough.
	if err != nil {
		b.kind("Create with half of the answer", err, connectors.Unknown)
	}
	if n := b.Vendor.Count(b.TB, d.CorrelationID); n != 1 {
		b.Errorf("the vendor holds %d tickets, want 1", n)
	}
}

// cancelled runs a call whose caller leaves once the vendor has answered, and returns the call's error.
func (b *bench) cancelled(fits func(*http.Request) bool, call func(context.Context) error) error {
	b.Helper()
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	answered := make(chan struct{}, 1)
	b.proxy.inject(fits, always, hold(answered))
	defer b.proxy.clear()
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	select {
	case <-answered:
	case err := <-done:
		b.Fatalf("the call ended before its caller left: %v", err)
	}
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			b.Errorf("the error does not tell that the caller left: %v", err)
		}
		return err
	case <-time.After(b.patience):
		b.Fatalf("the call goes on %s after its caller left", b.patience)
		return nil
	}
}

func cancelledRead(b *bench) {
	id := b.open().ID
	err := b.cancelled(reads, func(ctx context.Context) error {
		_, err := b.conn.Read(ctx, id, nil)
		return err
	})
	b.kind("Read whose caller left", err, connectors.Transient)
}

// cancelledWrite: who leaves in the middle of a write does not know whether it happened.
func cancelledWrite(b *bench) {
	d := b.draft()
	err := b.cancelled(writes, func(ctx context.Context) error {
		_, err := b.conn.Create(ctx, d)
		return err
	})
	b.kind("Create whose caller left", err, connectors.Unknown)
	if n := b.Vendor.Count(b.TB, d.CorrelationID); n != 1 {
		b.Errorf("the vendor holds %d tickets, want 1", n)
	}
}

// redirect: nobody is followed elsewhere, least of all with the credentials.
func redirect(b *bench) {
	var stolen int
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen++ }))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		b.struck(anything, answer(status, map[string]string{"Location": elsewhere.URL}, ""), func(name string, _ bool, err error) {
			if err == nil {
				b.Errorf("%s with %d: no error", name, status)
			}
		})
	}
	if stolen > 0 {
		b.Errorf("%d calls followed the redirect", stolen)
	}
}

// noSecret: vendors repeat what they were sent; errors end up in logs and before people's eyes.
func noSecret(b *bench) {
	for _, status := range []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusInternalServerError, http.StatusOK} {
		b.struck(anything, echo(status, b), func(name string, _ bool, err error) {
			if err == nil {
				b.Errorf("%s with %d and an error in the body: no error", name, status)
				return
			}
			b.noSecret(fmt.Sprintf("%s with %d", name, status), err)
		})
	}
}

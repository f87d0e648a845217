package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"liaison/connectors"
)

// defaultPatience is for slow vendors: one needs some seconds for a page of calls.
const defaultPatience = 30 * time.Second

// bench is the workplace of one case.
type bench struct {
	testing.TB
	Harness

	proxy    *proxy
	conn     connectors.Connector
	ctx      context.Context
	patience time.Duration

	exhaustive bool
}

func newBench(t testing.TB, spec Spec) *bench {
	t.Helper()
	h := spec.New(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*defaultPatience)
	t.Cleanup(cancel)
	b := &bench{TB: t, Harness: h, proxy: newProxy(t, h.URL), ctx: ctx, patience: spec.Patience, exhaustive: spec.Exhaustive}
	if b.patience <= 0 {
		b.patience = defaultPatience
	}
	if b.Vendor.TouchAll == nil {
		b.Vendor.TouchAll = func(t testing.TB, ids []connectors.ExternalID) {
			for _, id := range ids {
				h.Vendor.Touch(t, id)
			}
		}
	}
	b.conn = b.connect(0)
	return b
}

// connect makes a fresh connector: one whose breaker and pauses know nothing of earlier faults.
func (b *bench) connect(pageSize int) connectors.Connector {
	b.Helper()
	path := ""
	if _, rest, found := strings.Cut(b.URL, "://"); found {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			path = strings.TrimRight(rest[i:], "/")
		}
	}
	return b.Connect(b.TB, Options{URL: b.proxy.server.URL + path, PageSize: pageSize})
}

// draft is a new ticket to be; its title is unlike any other.
func (b *bench) draft() connectors.Draft {
	id := uuid.NewString()
	return connectors.Draft{CorrelationID: id, Fields: b.Fields("conformance " + id)}
}

func (b *bench) open() connectors.Ticket {
	b.Helper()
	ticket, err := b.conn.Create(b.ctx, b.draft())
	b.noError("Create", err)
	return ticket
}

func (b *bench) noError(doing string, err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", doing, err)
	}
}

// kind fails unless err is a *connectors.Error of one of the kinds, and returns it.
func (b *bench) kind(doing string, err error, want ...connectors.Kind) *connectors.Error {
	b.Helper()
	if err == nil {
		b.Fatalf("%s: no error, want kind %v", doing, want)
	}
	e := &connectors.Error{}
	ok := errors.As(err, &e)
	if !ok {
		b.Fatalf("%s: a %T, want a *connectors.Error: %v", doing, err, err)
	}
	b.noSecret(doing, err)
	for _, k := range want {
		if e.Kind == k {
			return e
		}
	}
	b.Fatalf("%s: kind %s, want %v: %v", doing, e.Kind, want, err)
	return nil
}

func (b *bench) noSecret(doing string, err error) {
	b.Helper()
	shown := fmt.Sprintf("%v %+v %q", err, err, fmt.Sprint(err))
	b.proxy.mu.Lock()
	secrets := slices.Concat(b.Secrets, b.proxy.echoed)
	b.proxy.mu.Unlock()
	for _, secret := range secrets {
		if secret != "" && strings.Contains(shown, secret) {
			b.Errorf("%s: the error shows a secret", doing)
		}
	}
}

// eventually asks until the answer is yes: a vendor's search may lag.
func (b *bench) eventually(what string, ask func() bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, b.patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ask() {
		select {
		case <-ctx.Done():
			b.Fatalf("%s: not within %s", what, b.patience)
		case <-tick.C:
		}
	}
}

// find waits until the vendor's search shows the correlation id's tickets.
func (b *bench) find(correlationID string) []connectors.Ticket {
	b.Helper()
	var found []connectors.Ticket
	b.eventually("FindByCorrelation", func() bool {
		var err error
		found, err = b.conn.FindByCorrelation(b.ctx, correlationID)
		b.noError("FindByCorrelation", err)
		return len(found) > 0
	})
	return found
}

func (b *bench) mark(id connectors.ExternalID) connectors.Mark {
	b.Helper()
	m, err := b.conn.Mark(b.ctx, id)
	b.noError("Mark", err)
	return m
}

func (b *bench) say(id connectors.ExternalID, v connectors.Visibility, body string, m connectors.Mark) connectors.JournalEntry {
	b.Helper()
	e, err := b.conn.Say(b.ctx, id, connectors.Message{Key: uuid.NewString(), Visibility: v, Body: body}, m)
	b.noError("Say", err)
	return e
}

// journal reads beyond the mark until at least n entries satisfy the filter, and returns those.
func (b *bench) journal(id connectors.ExternalID, after connectors.Mark, n int, wanted func(connectors.JournalEntry) bool) []connectors.JournalEntry {
	b.Helper()
	var found []connectors.JournalEntry
	b.eventually(fmt.Sprintf("%d entries in the journal", n), func() bool {
		all, _, err := b.conn.Journal(b.ctx, id, after)
		b.noError("Journal", err)
		found = nil
		for _, e := range all {
			if wanted(e) {
				found = append(found, e)
			}
		}
		return len(found) >= n
	})
	return found
}

func body(text string) func(connectors.JournalEntry) bool {
	return func(e connectors.JournalEntry) bool { return strings.Contains(e.Body, text) }
}

// maxPages bounds one drain: a stream that does not end within it goes round in circles.
const maxPages = 500

// drain reads changes until no more are waiting.
func (b *bench) drain(c connectors.Connector, at connectors.Cursor) (map[connectors.ExternalID]int, connectors.Cursor) {
	b.Helper()
	seen := map[connectors.ExternalID]int{}
	for range maxPages {
		p, err := c.Changes(b.ctx, at)
		b.noError("Changes", err)
		if p.Next == "" {
			b.Fatalf("Changes: a page without a cursor for the next")
		}
		for _, r := range p.Refs {
			seen[b.refID(r)]++
		}
		at = p.Next
		if !p.More {
			return seen, at
		}
	}
	b.Fatalf("Changes: no end after %d pages", maxPages)
	return nil, ""
}

// refID is the id that a reference names; one that names a number only is looked up by nobody here.
func (b *bench) refID(r connectors.Ref) connectors.ExternalID {
	if r.ID == "" {
		return connectors.ExternalID("number:" + r.Number)
	}
	return r.ID
}

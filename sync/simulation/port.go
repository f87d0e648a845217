package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"liaison/connectors"
)

// callTimeout is the longest that a call takes before its caller gives up.
const callTimeout = 4 * time.Second

// port is a hub's connector to a vendor: a network that delays, cuts and loses, and a vendor that is busy or refuses.
type port struct {
	hub    *hub
	vendor *vendor
}

var _ interface {
	connectors.Connector
	connectors.HookReader
	connectors.DuplicateCloser
} = (*port)(nil)

func (p *port) Traits() connectors.Traits { return p.vendor.traits }

// fate is how a call goes.
type fate int

const (
	fine      fate = iota
	refused        // never arrives: connection refused, 5xx from the door, 429
	limited        // 429 with a time
	forgotten      // arrives, is done, and the answer is lost or cut
	timedOut       // arrives, is done, and the answer comes too late
	late           // is done only after the caller has given up
	vanished       // never arrives, and nobody tells the caller
	slow           // answered just in time
)

var fates = []struct {
	fate   fate
	weight float64
}{{refused, 0.25}, {limited, 0.10}, {forgotten, 0.25}, {timedOut, 0.10}, {late, 0.10}, {vanished, 0.10}, {slow, 0.10}}

func (p *port) fate(d draw, op string, write bool) fate {
	w := p.hub.world
	if w.out(p.vendor) {
		return refused
	}
	if w.quiet() || !d.chance("faulty", w.plan.faults) {
		return fine
	}
	x := float64(d.word("fate")>>11) / (1 << 53)
	for _, f := range fates {
		if x -= f.weight; x < 0 {
			if f.fate == late && (!write || !w.plan.lateWrites(op)) {
				return timedOut
			}
			return f.fate
		}
	}
	return fine
}

// call carries one call. do is run by the vendor, under its lock, when the call arrives there.
func call[T any](ctx context.Context, p *port, op, on string, write bool, do func(act) (T, *connectors.Error)) (T, error) {
	var none T
	w, v := p.hub.world, p.vendor
	name := v.key + "." + op
	d := w.dice.occasion(p.hub.name, name, on)
	lost := func(kind connectors.Kind, text string) error {
		if !write && kind == connectors.Unknown {
			kind = connectors.Transient
		}
		w.trace.add(p.hub.name, "%s %s -> %s %s", name, on, kind, text)
		return &connectors.Error{Op: name, Kind: kind, Err: errors.New(text)}
	}
	// Calls that begin together are put into an order here.
	if err := w.clock.sleep(ctx, d.between("begin", time.Microsecond, 500*time.Microsecond)); err != nil || ctx.Err() != nil {
		return none, lost(connectors.Transient, "not sent: the caller's time was over")
	}
	stopped, err := p.hub.pass(d, "before", name, on)
	if err != nil {
		return none, lost(connectors.Unknown, err.Error())
	}
	w.trace.add(p.hub.name, "%s %s", name, on)
	fate := p.fate(d, op, write)
	w.calls.Add(1)
	if fate != fine && fate != slow {
		w.faulty.Add(1)
	}
	if write && (fate == forgotten || fate == timedOut || fate == late) {
		w.lost.Add(1)
	}
	there, back := d.between("there", 2*time.Millisecond, 40*time.Millisecond), d.between("back", 2*time.Millisecond, 40*time.Millisecond)
	a := act{who: p.hub.name, ours: true, stale: stopped, read: p.hub.lastRead(v, on, op)}
	type answer struct {
		value T
		err   *connectors.Error
	}
	arrived := make(chan answer, 1)
	arrive := func() {
		v.mu.Lock()
		value, err := do(a)
		v.mu.Unlock()
		arrived <- answer{value, err}
	}
	leave := func() {}
	if write && !stopped {
		leave = v.enter(p.hub, on)
	}
	wait, kind, text := there+back, connectors.Transient, ""
	switch fate {
	case fine:
	case slow:
		wait = d.between("slow", time.Second, callTimeout)
	case refused:
		text = "refused"
	case limited:
		text, kind = "too many calls", connectors.RateLimited
	case forgotten:
		text, kind = "the answer was cut off", connectors.Unknown
	case timedOut:
		text, kind, wait = "timed out", connectors.Unknown, callTimeout
	case late:
		there = callTimeout + d.between("late", time.Millisecond, v.latest+10*time.Millisecond)
		a.late = true
		text, kind, wait = "timed out", connectors.Unknown, callTimeout
	case vanished:
		text, kind, wait = "timed out", connectors.Unknown, callTimeout
	}
	if fate != refused && fate != limited && fate != vanished {
		w.clock.after(there, arrive) // once sent, it happens whatever becomes of the caller
	}
	err = w.clock.sleep(ctx, wait)
	leave()
	if err != nil {
		// Many calls end at once when their callers do.
		_ = w.clock.sleep(context.Background(), d.between("hung up", time.Microsecond, 200*time.Microsecond))
		return none, lost(connectors.Unknown, "the caller hung up")
	}
	if _, err := p.hub.pass(d, "after", name, on); err != nil {
		return none, lost(connectors.Unknown, err.Error())
	}
	if text != "" {
		err := lost(kind, text)
		if kind == connectors.RateLimited {
			e, _ := errors.AsType[*connectors.Error](err)
			e.RetryAfter = d.between("retry after", 0, 5*time.Second)
		}
		return none, err
	}
	got := <-arrived
	if got.err != nil {
		got.err.Op = name
		w.trace.add(p.hub.name, "%s %s -> %s", name, on, got.err.Kind)
		return none, got.err
	}
	return got.value, nil
}

func (p *port) Check(ctx context.Context) error {
	_, err := call(ctx, p, "check", "", false, func(act) (struct{}, *connectors.Error) { return struct{}{}, nil })
	return err
}

func (p *port) Create(ctx context.Context, d connectors.Draft) (connectors.Ticket, error) {
	return call(ctx, p, "create", p.hub.world.named(d.CorrelationID), true, func(a act) (connectors.Ticket, *connectors.Error) {
		t := p.vendor.open(a, d)
		return t.shown([]string{"title", "text", "state", "prio", "service"}), nil
	})
}

func (p *port) FindByCorrelation(ctx context.Context, correlation string) ([]connectors.Ticket, error) {
	v := p.vendor
	return call(ctx, p, "find", p.hub.world.named(correlation), false, func(act) ([]connectors.Ticket, *connectors.Error) {
		var out []connectors.Ticket
		for _, t := range v.tickets {
			if t.correlation == correlation && t.opened+v.searchLag <= v.world.clock.since() {
				out = append(out, t.shown([]string{"title", "text", "state", "prio", "service"}))
			}
		}
		return out, nil
	})
}

// with finds a ticket that can be worked on.
func with[T any](p *port, id connectors.ExternalID, do func(*ticket) (T, *connectors.Error)) (T, *connectors.Error) {
	t := p.vendor.find(id)
	if t == nil || t.gone != connectors.Present {
		var none T
		return none, &connectors.Error{Kind: connectors.NotFound, Vendor: "no such ticket"}
	}
	return do(t)
}

func (p *port) Read(ctx context.Context, id connectors.ExternalID, fields []string) (connectors.Ticket, error) {
	return call(ctx, p, "read", string(id), false, func(act) (connectors.Ticket, *connectors.Error) {
		t := p.vendor.find(id)
		if t == nil {
			return connectors.Ticket{}, &connectors.Error{Kind: connectors.NotFound, Vendor: "no such ticket"}
		}
		p.hub.noteRead(p.vendor, string(id))
		return t.shown(fields), nil
	})
}

func (p *port) Update(ctx context.Context, id connectors.ExternalID, f connectors.Fields) (connectors.Ticket, error) {
	return call(ctx, p, "update", string(id), true, func(a act) (connectors.Ticket, *connectors.Error) {
		return with(p, id, func(t *ticket) (connectors.Ticket, *connectors.Error) {
			t.set(a, f)
			names := make([]string, 0, len(f))
			for name := range f {
				names = append(names, name)
			}
			out := t.shown(names)
			p.hub.world.automate(t)
			return out, nil
		})
	})
}

func (p *port) Mark(ctx context.Context, id connectors.ExternalID) (connectors.Mark, error) {
	return call(ctx, p, "mark", string(id), false, func(act) (connectors.Mark, *connectors.Error) {
		return with(p, id, func(t *ticket) (connectors.Mark, *connectors.Error) { return markAt(len(t.journal)), nil })
	})
}

func markAt(n int) connectors.Mark {
	if n == 0 {
		return ""
	}
	return connectors.Mark(strconv.Itoa(n))
}

func (p *port) Say(ctx context.Context, id connectors.ExternalID, m connectors.Message, _ connectors.Mark) (connectors.JournalEntry, error) {
	return call(ctx, p, "say", string(id), true, func(a act) (connectors.JournalEntry, *connectors.Error) {
		return with(p, id, func(t *ticket) (connectors.JournalEntry, *connectors.Error) { return t.say(a, m, "Liaison"), nil })
	})
}

type journalPage struct {
	entries []connectors.JournalEntry
	mark    connectors.Mark
}

func (p *port) Journal(ctx context.Context, id connectors.ExternalID, after connectors.Mark) ([]connectors.JournalEntry, connectors.Mark, error) {
	page, err := call(ctx, p, "journal", string(id), false, func(act) (journalPage, *connectors.Error) {
		return with(p, id, func(t *ticket) (journalPage, *connectors.Error) {
			n, _ := strconv.Atoi(string(after))
			from := n
			if p.vendor.coarse && from > 0 {
				from--
			}
			if from > len(t.journal) {
				return journalPage{}, &connectors.Error{Kind: connectors.Rejected, Vendor: fmt.Sprintf("mark %q lies behind the journal's end", after)}
			}
			return journalPage{slices.Clone(t.journal[from:]), markAt(len(t.journal))}, nil
		})
	})
	return page.entries, page.mark, err
}

func (p *port) Changes(ctx context.Context, after connectors.Cursor) (connectors.Page, error) {
	v := p.vendor
	size := 1 + v.world.dice.occasion(p.hub.name, v.key+".page", "").pick("size", 4)
	return call(ctx, p, "changes", "", false, func(act) (connectors.Page, *connectors.Error) {
		if after == "" {
			return connectors.Page{Next: connectors.Cursor(strconv.Itoa(len(v.stream)))}, nil
		}
		n, err := strconv.Atoi(string(after))
		if err != nil || n > len(v.stream) {
			return connectors.Page{}, &connectors.Error{Kind: connectors.Rejected, Vendor: fmt.Sprintf("cursor %q is not known", after)}
		}
		end := min(n+size, len(v.stream))
		return connectors.Page{Refs: slices.Clone(v.stream[max(n-1, 0):end]), Next: connectors.Cursor(strconv.Itoa(end)), More: end < len(v.stream)}, nil
	})
}

func (p *port) ReadHook(h connectors.Hook) ([]connectors.Ref, error) {
	var body hookBody
	if err := json.Unmarshal(h.Body, &body); err != nil || body.Ticket == "" {
		return nil, &connectors.Error{Op: "hook", Kind: connectors.Rejected, Vendor: "the body names no ticket"}
	}
	return []connectors.Ref{{ID: body.Ticket, Version: body.Version}}, nil
}

func (p *port) CloseDuplicate(ctx context.Context, id, of connectors.ExternalID) error {
	_, err := call(ctx, p, "close duplicate", string(id), true, func(a act) (struct{}, *connectors.Error) {
		t := p.vendor.find(id)
		if t == nil || t.gone != connectors.Present || t.duplicateOf != "" {
			return struct{}{}, nil
		}
		t.duplicateOf, a.closed = of, true
		t.set(a, connectors.Fields{"state": "5"})
		return struct{}{}, nil
	})
	return err
}

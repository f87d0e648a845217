package pulse

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/system"
)

// Pulse takes down what one system does. A nil *Pulse takes nothing down.
type Pulse struct {
	monitor *Monitor
	system  *system.System

	mu      sync.Mutex
	fresh   notes     // not yet in the table
	heard   time.Time // the last answer that this hub or, by the table, any other had
	asked   time.Time // when it was last asked whether it is there
	paused  bool
	breaker connectors.Pace
}

// notes are what the table holds of a system; zero times were not seen.
type notes struct {
	sent, read, polled, news, hook             time.Time
	failed, sendFailed, readFailed, pollFailed time.Time
	errorKind, err                             string
	echoes, restored, retries                  int64
}

// note takes something down at the Monitor's time.
func (p *Pulse) note(take func(n *notes, at time.Time)) {
	at := p.monitor.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	take(&p.fresh, at)
	if at.After(p.heard) && (p.fresh.read.Equal(at) || p.fresh.polled.Equal(at)) {
		p.heard = at
	}
}

func (n *notes) fail(at time.Time, kind, text string) { n.failed, n.errorKind, n.err = at, kind, text }

// systemic reports whether a failure speaks of the system and not of the one ticket that it was about. A vendor that asks
// for patience is there and well.
func systemic(kind string) bool {
	switch kind {
	case connectors.Transient.String(), connectors.Auth.String(), connectors.Unknown.String():
		return true
	}
	return false
}

// failure returns the kind and text of a vendor's failure; ok is false for failures of our own, such as the database's.
func failure(err error) (kind, text string, ok bool) {
	e, ok := errors.AsType[*connectors.Error](err)
	if !ok {
		return "", "", false
	}
	return e.Kind.String(), err.Error(), true
}

// Begun tells that an exchange is about to be made.
func (p *Pulse) Begun(x ledger.Exchange) {
	if p == nil || !p.monitor.watched() {
		return
	}
	p.tell(ExchangeBegun, x.Link, x.Delivery.ID, x.Incident.Number, doing(x.Delivery.Kind)+" "+p.ticket(x.Link), "")
}

// Exchanged takes down how an exchange ended.
func (p *Pulse) Exchanged(x ledger.Exchange, s ledger.Settlement) {
	if p == nil {
		return
	}
	p.note(func(n *notes, at time.Time) {
		switch {
		case s.State == ledger.StateDelivered && (s.Ticket != nil || s.Copy != ""):
			n.sent = at
		case s.ErrorKind != "" && systemic(s.ErrorKind):
			n.sendFailed = at
			n.fail(at, s.ErrorKind, s.Error)
		}
		if s.ErrorKind != "" && (s.State == ledger.StatePending || s.State == ledger.StateUnknown) {
			n.retries++
		}
	})
	if !p.monitor.watched() {
		return
	}
	switch {
	case s.State == ledger.StateDelivered:
		p.tell(ExchangeEnded, x.Link, x.Delivery.ID, x.Incident.Number, done(x.Delivery.Kind)+" "+p.ticket(x.Link), "")
	case s.Error != "":
		p.tell(ExchangeFailed, x.Link, x.Delivery.ID, x.Incident.Number, failed(x.Delivery.Kind, s.State)+" "+p.ticket(x.Link), s.Error)
	}
}

// Hooked takes down that the vendor called. reason says why the call was not understood, empty when it was.
func (p *Pulse) Hooked(tickets int, reason string) {
	if p == nil {
		return
	}
	p.note(func(n *notes, at time.Time) { n.hook = at })
	if p.monitor.watched() {
		text := p.system.Name + " called about " + plural(tickets, "ticket")
		if reason != "" {
			text = p.system.Name + " called, and was not understood"
		}
		p.tell(HookCame, ledger.Link{}, incident.DeliveryID{}, "", text, reason)
	}
}

// Polled takes down how a poll ended: how many tickets it found changed, or why it failed.
func (p *Pulse) Polled(changed int, err error) {
	if p == nil {
		return
	}
	kind, text, vendor := failure(err)
	switch {
	case err == nil:
		p.note(func(n *notes, at time.Time) { n.polled, n.read = at, at })
	case vendor:
		p.note(func(n *notes, at time.Time) {
			n.pollFailed = at // also a refusal: a poll is about nothing but the system
			n.fail(at, kind, text)
		})
	default:
		return
	}
	if !p.monitor.watched() {
		return
	}
	if err == nil {
		p.tell(PollEnded, ledger.Link{}, incident.DeliveryID{}, "", p.system.Name+" was asked for news and named "+plural(changed, "changed ticket"), "")
		return
	}
	p.tell(PollFailed, ledger.Link{}, incident.DeliveryID{}, "", p.system.Name+" could not be asked for news", text)
}

// Pulled takes down that a link's ticket was read and what came of it: entries, echoes of our own writes, or nothing new.
func (p *Pulse) Pulled(link ledger.Link, taken ledger.Taken, err error) {
	if p == nil {
		return
	}
	kind, text, vendor := failure(err)
	switch {
	case err == nil:
		p.note(func(n *notes, at time.Time) {
			n.read = at
			if taken.Entries > 0 {
				n.news = at
			}
			n.echoes += int64(taken.Echoes)
		})
	case vendor && systemic(kind):
		p.note(func(n *notes, at time.Time) {
			n.readFailed = at
			n.fail(at, kind, text)
		})
	}
	if !p.monitor.watched() {
		return
	}
	switch {
	case err == nil && taken.Entries == 0:
		p.tell(TicketRead, link, incident.DeliveryID{}, "", p.ticket(link)+" was read and holds nothing new", "")
	case err == nil:
		p.tell(TicketRead, link, incident.DeliveryID{}, "", p.ticket(link)+" was read and brought "+plural(taken.Entries, "entry"), "")
	case vendor:
		p.tell(ReadFailed, link, incident.DeliveryID{}, "", p.ticket(link)+" could not be read", text)
	}
}

// Restored takes down changes that only a poll brought although the vendor should have called.
func (p *Pulse) Restored(changes int) {
	if p == nil || changes == 0 {
		return
	}
	p.note(func(n *notes, _ time.Time) { n.restored += int64(changes) })
}

// checked takes down whether the system is there.
func (p *Pulse) checked(err error) {
	kind, text, vendor := failure(err)
	switch {
	case err == nil:
		p.note(func(n *notes, at time.Time) { n.read = at })
	case vendor:
		p.note(func(n *notes, at time.Time) {
			n.readFailed = at
			n.fail(at, kind, text)
		})
	}
	if !p.monitor.watched() {
		return
	}
	if err == nil {
		p.tell(Checked, ledger.Link{}, incident.DeliveryID{}, "", p.system.Name+" was asked whether it is there, and answered", "")
	} else if vendor {
		p.tell(CheckFailed, ledger.Link{}, incident.DeliveryID{}, "", p.system.Name+" was asked whether it is there, and did not answer well", text)
	}
}

// look takes the breaker's state over and tells when it has changed.
func (p *Pulse) look() {
	paced, ok := p.system.Connector.(connectors.Paced)
	if !ok {
		return
	}
	now := paced.Pace()
	p.mu.Lock()
	before := p.breaker
	p.breaker = now
	p.mu.Unlock()
	if before.Breaker == now.Breaker || before.Breaker == "" || !p.monitor.watched() {
		return
	}
	text := map[any]string{
		connectors.BreakerOpen:     p.system.Name + " failed too often in a row and is left alone for a while",
		connectors.BreakerHalfOpen: p.system.Name + " is tried with a single call",
		connectors.BreakerClosed:   p.system.Name + " answers again",
	}[now.Breaker]
	p.tell(BreakerMoved, ledger.Link{}, incident.DeliveryID{}, "", text, now.Reason)
}

func (p *Pulse) ticket(l ledger.Link) string {
	switch {
	case l.Number != "":
		return "ticket " + l.Number + " of " + p.system.Name
	case l.ExternalID != "":
		return "ticket " + string(l.ExternalID) + " of " + p.system.Name
	}
	return "a ticket of " + p.system.Name
}

func doing(k ledger.DeliveryKind) string {
	switch k {
	case ledger.CreateTicket:
		return "opening"
	case ledger.SayComment:
		return "writing a comment to"
	case ledger.CloseDuplicate:
		return "closing a duplicate of"
	case ledger.UpdateTicket:
	}
	return "updating"
}

func done(k ledger.DeliveryKind) string {
	switch k {
	case ledger.CreateTicket:
		return "opened"
	case ledger.SayComment:
		return "wrote a comment to"
	case ledger.CloseDuplicate:
		return "closed a duplicate of"
	case ledger.UpdateTicket:
	}
	return "updated"
}

func failed(k ledger.DeliveryKind, s ledger.State) string {
	switch s {
	case ledger.StateDead:
		return "gave up " + doing(k)
	case ledger.StateUnknown:
		return "cannot tell yet what became of " + doing(k)
	case ledger.StatePending, ledger.StateSending, ledger.StateDelivered, ledger.StateSkipped:
	}
	return "will try again later " + doing(k)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	if stem, y := strings.CutSuffix(word, "ry"); y {
		word = stem + "rie"
	}
	return fmt.Sprintf("%d %ss", n, word)
}

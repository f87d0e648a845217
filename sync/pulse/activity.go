package pulse

import (
	"slices"
	"sync"
	"time"

	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// Kind says what a moment of the sync was about.
type Kind string

// The kinds of activity.
const (
	ExchangeBegun  Kind = "EXCHANGE_BEGUN"  // a delivery is about to be carried to the vendor
	ExchangeEnded  Kind = "EXCHANGE_ENDED"  // the vendor has it
	ExchangeFailed Kind = "EXCHANGE_FAILED" // it goes again later, is being asked after, or was given up
	HookCame       Kind = "HOOK_CAME"       // the vendor called
	PollEnded      Kind = "POLL_ENDED"      // the vendor was asked what has changed, and answered
	PollFailed     Kind = "POLL_FAILED"     // it was asked and did not answer well
	TicketRead     Kind = "TICKET_READ"     // a ticket was read and taken in
	ReadFailed     Kind = "READ_FAILED"     // a ticket could not be read
	Checked        Kind = "CHECKED"         // a vendor that had been quiet was asked whether it is there
	CheckFailed    Kind = "CHECK_FAILED"    // it was asked and did not answer well
	BreakerMoved   Kind = "BREAKER_MOVED"   // calls to the vendor were suspended, tried again or resumed
)

// Kinds lists every kind of activity.
func Kinds() []Kind {
	return []Kind{ExchangeBegun, ExchangeEnded, ExchangeFailed, HookCame, PollEnded, PollFailed, TicketRead, ReadFailed, Checked, CheckFailed, BreakerMoved}
}

// Activity is one moment of the sync in this hub.
type Activity struct {
	At     time.Time
	Kind   Kind
	System incident.SystemID

	// What it was about; zero where it was about the system as a whole.
	Organisation incident.OrganisationID
	Incident     incident.ID
	Number       string // the incident's
	Link         incident.LinkID
	Delivery     incident.DeliveryID

	Text  string // what happened, for people
	Error string // in the vendor's words where there are any, empty when nothing failed
}

func (p *Pulse) tell(k Kind, link ledger.Link, delivery incident.DeliveryID, number, text, failure string) {
	p.monitor.spread(Activity{
		At: p.monitor.now(), Kind: k, System: p.system.ID, Organisation: link.Organisation, Incident: link.Incident, Number: number, Link: link.ID,
		Delivery: delivery, Text: text, Error: failure,
	})
}

// Watcher hears what goes on in this hub, from when it was made until it is closed. Nothing waits for a slow one: what it has
// no room for is left out and counted.
type Watcher struct {
	monitor *Monitor
	events  chan Activity

	mu     sync.Mutex
	missed int
}

// Watch begins to listen. room is how many moments may wait to be heard.
func (m *Monitor) Watch(room int) *Watcher {
	w := &Watcher{monitor: m, events: make(chan Activity, room)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers = append(m.watchers, w)
	m.listening.Store(true)
	return w
}

// Events yields what goes on. It is never closed.
func (w *Watcher) Events() <-chan Activity { return w.events }

// Missed returns how many moments were left out since it was last asked.
func (w *Watcher) Missed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.missed
	w.missed = 0
	return n
}

// Close ends listening. It may be called more than once.
func (w *Watcher) Close() {
	m := w.monitor
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watchers = slices.DeleteFunc(m.watchers, func(x *Watcher) bool { return x == w })
	m.listening.Store(len(m.watchers) > 0)
}

// watched reports whether anybody listens, so that nothing is made up for nobody.
func (m *Monitor) watched() bool { return m.listening.Load() }

func (m *Monitor) spread(a Activity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range m.watchers {
		select {
		case w.events <- a:
		default:
			w.mu.Lock()
			w.missed++
			w.mu.Unlock()
		}
	}
}

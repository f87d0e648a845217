//go:build e2e

package postgres_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/postgres/embedded"
	"liaison/internal/postgres/pgtest"
)

// load is ten people who say something five times a second each, and a vendor's agent who answers now and then.
type load struct {
	*hub
	ids     []string
	stop    chan struct{}
	writers sync.WaitGroup

	mu           sync.Mutex
	acknowledged map[string]time.Time // bodies
	repeated     int
	answers      []string
	last         atomic.Int64 // when something was acknowledged last
}

func (h *hub) load(writers int) *load {
	h.Helper()
	l := &load{hub: h, stop: make(chan struct{}), acknowledged: map[string]time.Time{}}
	for n := range writers {
		id := h.report(fmt.Sprintf("Trouble %d", n))
		h.escalate(id)
		l.ids = append(l.ids, id)
	}
	eventually(h.T, 30*time.Second, "every ticket is open", func() error {
		if n := len(h.sim.Tickets()); n != writers {
			return fmt.Errorf("%d tickets", n)
		}
		return nil
	})
	for n, id := range l.ids {
		l.writers.Go(func() {
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for k := 0; ; k++ {
				select {
				case <-l.stop:
					return
				case <-tick.C:
				}
				body := fmt.Sprintf("writer %d says %d.", n, k)
				ok, tries := h.comment(id, fmt.Sprintf("key-%d-%d", n, k), body, nil)
				if !ok {
					return // it has said why
				}
				l.mu.Lock()
				l.acknowledged[body] = time.Now()
				if tries > 1 {
					l.repeated++
				}
				l.mu.Unlock()
				l.last.Store(time.Now().UnixNano())
			}
		})
	}
	tickets := h.sim.Tickets()
	l.writers.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for k := 0; ; k++ {
			select {
			case <-l.stop:
				return
			case <-tick.C:
			}
			text := fmt.Sprintf("vendor says %d.", k)
			if _, err := h.sim.Act(tickets[k%len(tickets)].SysID, servicenowtest.Move{Comment: text}); err != nil {
				h.Error(err)
				return
			}
			_, _, _ = h.hook(tickets[k%len(tickets)].SysID) // it may find no database; the poll finds the change
			l.mu.Lock()
			l.answers = append(l.answers, text)
			l.mu.Unlock()
		}
	})
	return l
}

// writesAgain returns how long after now a write that began after it is acknowledged.
func (l *load) writesAgain(within time.Duration) time.Duration {
	l.Helper()
	began := time.Now()
	// Two acknowledgements: the first may be of a call that had been waiting for its answer.
	for range 2 {
		seen := max(l.last.Load(), began.UnixNano())
		eventually(l.T, within, "writes go on", func() error {
			if l.last.Load() <= seen {
				return fmt.Errorf("the last was acknowledged %s ago", time.Since(time.Unix(0, l.last.Load())).Round(time.Millisecond))
			}
			return nil
		})
	}
	return time.Since(began)
}

// kept ends the load and proves that everything acknowledged is there once, on both sides.
func (l *load) kept(database string) {
	l.Helper()
	close(l.stop)
	l.writers.Wait()
	conn := connect(l.T, database)
	if got := scan[int](l.T, conn, `SELECT count(*) FROM (SELECT body FROM comment WHERE body LIKE 'writer%' GROUP BY body) AS said`); got != len(l.acknowledged) {
		l.Errorf("%d comments were acknowledged, %d are there", len(l.acknowledged), got)
	}
	for body := range l.acknowledged {
		if n := scan[int](l.T, conn, `SELECT count(*) FROM comment WHERE body = $1`, body); n != 1 {
			l.Errorf("%q was acknowledged and is there %d times", body, n)
		}
	}
	// However far the lanes have fallen behind on a busy machine, they have to get on.
	began, open, moved := time.Now(), -1, time.Now()
	eventually(l.T, 15*time.Minute, "both sides have heard everything", func() error {
		deliveries := scan[int](l.T, conn, `SELECT count(*) FROM delivery WHERE state <> 'DELIVERED'`)
		answers := len(l.answers) - scan[int](l.T, conn, `SELECT count(*) FROM comment WHERE body LIKE 'vendor%'`)
		if deliveries+answers != open {
			open, moved = deliveries+answers, time.Now()
		}
		switch {
		case open <= 0:
			return nil
		case time.Since(moved) > time.Minute:
			l.Fatalf("%d deliveries and %d answers of the vendor stand still", deliveries, answers)
		}
		return fmt.Errorf("%d deliveries and %d answers of the vendor are on their way", deliveries, answers)
	})
	l.Logf("both sides had heard everything %s after the last write", time.Since(began).Round(time.Millisecond))
	if n := scan[int](l.T, conn, `SELECT count(*) FROM comment WHERE body LIKE 'vendor%'`); n != len(l.answers) {
		l.Errorf("the vendor answered %d times, the hub heard %d", len(l.answers), n)
	}
	said := map[string]int{}
	for _, ticket := range l.sim.Tickets() {
		last := -1
		for _, c := range ticket.Comments {
			_, text, ours := strings.Cut(c.Value, "wrote:\n\n")
			if !ours {
				continue
			}
			said[text]++
			var writer, n int
			if _, err := fmt.Sscanf(text, "writer %d says %d.", &writer, &n); err != nil || n < last {
				l.Errorf("ticket %s: %q came after comment %d", ticket.Number, text, last)
			}
			last = n
		}
	}
	for body := range l.acknowledged {
		if said[body] != 1 {
			l.Errorf("the vendor heard %q %d times", body, said[body])
		}
	}
	l.Logf("%d writes acknowledged, %d of them after a repetition; %d answers of the vendor", len(l.acknowledged), l.repeated, len(l.answers))
}

// RELIABILITY.md P1: the server is restarted at once, as in a crash, again and again under 50 writes a second, and is
// gone for a while at the end. It asks how soon writes go on, so it runs alone.
func TestP1Restart(t *testing.T) {
	restarts, gone := number(t, "LIAISON_P1_RESTARTS", 3), time.Duration(number(t, "LIAISON_P1_GONE", 10))*time.Second
	random := seeded(t)
	server := pgtest.NewServer(t)
	h := run(t, server.URL())
	live, late := h.follow(), h.follow()
	l := h.load(10)
	var slowest time.Duration
	for n := range restarts {
		<-time.After(5*time.Second + time.Duration(random.IntN(9000))*time.Millisecond) // the load, not this test, decides what a restart meets
		server.Restart(embedded.Immediate)
		h.says("READY", 10*time.Second)
		took := l.writesAgain(5 * time.Second)
		slowest = max(slowest, took)
		t.Logf("restart %d: writes again after %s", n+1, took.Round(time.Millisecond))
	}
	server.Stop()
	h.says("DATABASE_UNREACHABLE", 10*time.Second)
	<-time.After(gone)
	server.Start()
	slowest = max(slowest, l.writesAgain(5*time.Second))
	t.Logf("writes again after %s at most", slowest.Round(time.Millisecond))
	l.kept(server.SuperuserURL("liaison"))
	conn := connect(t, server.SuperuserURL("liaison"))
	live.heardAll(conn, 30*time.Second)
	late.heardAll(conn, 30*time.Second)
	if h.over() {
		t.Fatal("the hub has ended")
	}
	if code := h.stop(30 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, "panic") {
			t.Errorf("the hub logged %s", line)
		}
	}
}

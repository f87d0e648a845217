package postgres_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// ringing starts a bell, as one process of several would, and waits until it listens.
func ringing(t *testing.T, db *postgres.DB) *postgres.Bell {
	t.Helper()
	bell := postgres.NewBell(db, quiet)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := bell.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	up := bell.Subscribe("up")
	woken(t, up, "listening at last")
	bell.Unsubscribe("up", up)
	return bell
}

func woken(t *testing.T, ch <-chan struct{}, why string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(30 * time.Second):
		t.Fatalf("not woken: %s", why)
	}
}

func asleep(t *testing.T, ch <-chan struct{}, why string) {
	t.Helper()
	select {
	case <-ch:
		t.Errorf("woken: %s", why)
	default:
	}
}

func TestBellInOneProcess(t *testing.T) {
	t.Parallel()
	bell := postgres.NewBell(pgtest.New(t), quiet) // not running: what happens here needs no database
	feed, again, other := bell.Subscribe("feed"), bell.Subscribe("feed"), bell.Subscribe("other")
	for range 3 {
		bell.Ring("feed")
	}
	for _, ch := range []<-chan struct{}{feed, again} {
		if len(ch) != 1 {
			t.Errorf("three rings became %d wake-ups", len(ch))
		}
	}
	asleep(t, other, "by another topic")
	<-feed
	bell.Unsubscribe("feed", again)
	<-again
	bell.Ring("feed")
	woken(t, feed, "still subscribed")
	asleep(t, again, "after unsubscribing")
}

func TestBellAcrossProcesses(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	first := ringing(t, pgtest.Open(t, url, postgres.Options{}))
	second := ringing(t, pgtest.Open(t, url, postgres.Options{}))

	firstFeed, firstFence := first.Subscribe("feed"), first.Subscribe("fence")
	secondFeed, secondOther := second.Subscribe("feed"), second.Subscribe("other")
	first.Ring("feed")
	woken(t, firstFeed, "own ring")
	woken(t, secondFeed, "other process's ring")
	asleep(t, secondOther, "by another topic")

	// Notifications come in the order of their commits: when the fence is heard, one's own ring has come back.
	second.Ring("fence")
	woken(t, firstFence, "fence")
	asleep(t, firstFeed, "a second time, by the own notification")
}

// One NOTIFY at a time: what is rung while one is on its way goes with the next (gqlgen.md: one coalesced
// NOTIFY sent outside the writers' transactions).
func TestBellCoalesces(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	db := pgtest.Open(t, url, postgres.Options{SystemConns: 1})
	bell := ringing(t, db)
	listener := session(t, url)
	if _, err := listener.Exec(t.Context(), "listen liaison_bell"); err != nil {
		t.Fatal(err)
	}
	held := hold(t, db.System)
	for i := range 1000 {
		bell.Ring([]string{"a", "b", "c"}[i%3])
	}
	held.Release()
	var heard []string
	for len(heard) < 3 || !strings.Contains(strings.Join(heard, " "), "c") {
		notification, err := listener.WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		heard = append(heard, strings.Fields(notification.Payload)[1:]...)
		if len(heard) > 6 {
			break
		}
	}
	// The first may have left with what was rung before it was ready to go; the rest is one more.
	if len(heard) > 4 {
		t.Errorf("1,000 rings of 3 topics became %q", heard)
	}
}

func hold(t *testing.T, pool *pgxpool.Pool) *pgxpool.Conn {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// A notification carries less than 8,000 bytes.
func TestBellManyTopics(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	db := pgtest.Open(t, url, postgres.Options{SystemConns: 1})
	first := ringing(t, db)
	second := ringing(t, pgtest.Open(t, url, postgres.Options{}))
	held := hold(t, db.System)
	var subscriptions []<-chan struct{}
	for i := range 200 {
		topic := fmt.Sprintf("%d:%s", i, strings.Repeat("x", postgres.MaxTopic-4))
		subscriptions = append(subscriptions, second.Subscribe(topic))
		first.Ring(topic)
	}
	held.Release()
	for i, ch := range subscriptions {
		woken(t, ch, fmt.Sprintf("topic %d", i))
	}
}

func TestBellAfterReconnect(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	db := pgtest.Open(t, url, postgres.Options{})
	bell := ringing(t, db)
	feed, other := bell.Subscribe("feed"), bell.Subscribe("other")
	listeners := "select count(*)::int from pg_stat_activity where datname = current_database() and application_name like '% bell'"
	if n := one[int](t, db.System, listeners); n != 1 {
		t.Errorf("%d listening connections, want 1 (RELIABILITY.md L3)", n)
	}
	one[int](t, db.System, "select count(pg_terminate_backend(pid))::int from pg_stat_activity where datname = current_database() and application_name like '% bell'")
	woken(t, feed, "the connection was lost and made again")
	woken(t, other, "the connection was lost and made again")
	asleep(t, feed, "more than once")

	second := ringing(t, pgtest.Open(t, url, postgres.Options{}))
	second.Ring("feed")
	woken(t, feed, "another process's ring over the new connection")
}

func TestBellTopics(t *testing.T) {
	t.Parallel()
	bell := postgres.NewBell(pgtest.New(t), quiet)
	for _, topic := range []string{"", "two words", "line\nbreak", "nul\x00", strings.Repeat("x", postgres.MaxTopic+1)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("topic %q accepted", topic)
				}
			}()
			bell.Ring(topic)
		}()
	}
}

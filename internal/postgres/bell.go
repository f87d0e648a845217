package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// bellChannel is the one NOTIFY channel of all hubs on a database.
const bellChannel = "liaison_bell"

// maxPayload keeps below the 8,000 bytes that NOTIFY carries, the ringer's name included.
const maxPayload = 7900

// MaxTopic is the longest topic in bytes.
const MaxTopic = 200

// Bell wakes readers, in this process and in every other one on the database, when there may be something
// new to read. A ring says which topic and nothing else. Rings merge, may come twice, and are lost while the
// connection is down; after it is back, everybody is woken once. So a reader reads on from its own place
// whenever it is woken, and now and then without.
//
// A process holds one LISTEN connection, however many readers it has. Rings for other processes are sent
// outside of any transaction, one NOTIFY at a time: whatever is rung while one is on its way goes with the
// next. (A NOTIFY inside the writers' transactions would make all their commits wait for one another.)
//
// All methods are safe for concurrent use and never wait for the network, Run apart.
type Bell struct {
	db     *DB
	logger *slog.Logger
	self   string // names this bell in what it sends, so that its own rings do not wake it twice

	mu          sync.Mutex
	subscribers map[string]map[chan struct{}]struct{} // by topic
	pending     map[string]struct{}                   // rung, not yet told to other processes
	wake        chan struct{}                         // tells the sender that pending has something
}

// NewBell makes a bell for the database. It wakes subscribers in this process at once; others hear of it,
// and it hears of others, while Run runs. A nil logger means slog.Default.
func NewBell(db *DB, logger *slog.Logger) *Bell {
	if logger == nil {
		logger = slog.Default()
	}
	return &Bell{
		db: db, logger: logger, self: uuid.NewString(),
		subscribers: map[string]map[chan struct{}]struct{}{},
		pending:     map[string]struct{}{},
		wake:        make(chan struct{}, 1),
	}
}

// Subscribe returns a channel that gets a value after each ring of the topic. It holds at most one: rings
// that come before it is received are one. It is never closed.
func (b *Bell) Subscribe(topic string) <-chan struct{} {
	ch := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subscribers[topic] == nil {
		b.subscribers[topic] = map[chan struct{}]struct{}{}
	}
	b.subscribers[topic][ch] = struct{}{}
	return ch
}

// Unsubscribe ends what Subscribe began.
func (b *Bell) Unsubscribe(topic string, subscription <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.subscribers[topic] {
		if ch == subscription {
			delete(b.subscribers[topic], ch)
		}
	}
	if len(b.subscribers[topic]) == 0 {
		delete(b.subscribers, topic)
	}
}

// Ring wakes the topic's subscribers: here at once, elsewhere within milliseconds. Call it after the commit.
// A topic is a short word such as "feed" or "lane:servicenow"; it must not be empty, hold white space, or be
// longer than MaxTopic bytes, else Ring panics, as the topic is written in the program.
func (b *Bell) Ring(topic string) {
	if topic == "" || len(topic) > MaxTopic || strings.ContainsAny(topic, " \t\r\n\x00") {
		panic(fmt.Sprintf("postgres: bad bell topic %q", topic))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wakeTopic(topic)
	b.pending[topic] = struct{}{}
	b.nudge()
}

// nudge tells the sender to look. The caller holds mu or has nothing to add.
func (b *Bell) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// wakeTopic wakes the subscribers in this process. The caller holds mu.
func (b *Bell) wakeTopic(topic string) {
	for ch := range b.subscribers[topic] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (b *Bell) wakeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for topic := range b.subscribers {
		b.wakeTopic(topic)
	}
}

// Run carries rings between this process and the others until ctx ends, and then returns nil. It never
// gives up: a lost connection is made anew after a pause of 100 ms that grows to 2 s.
func (b *Bell) Run(ctx context.Context) error {
	var both sync.WaitGroup
	both.Go(func() { b.persist(ctx, "listening for wake-ups", b.listen) })
	both.Go(func() { b.persist(ctx, "sending wake-ups", b.send) })
	both.Wait()
	return nil
}

// persist calls work again whenever it fails. Work that went well for a while starts over with a short pause.
func (b *Bell) persist(ctx context.Context, doing string, work func(context.Context) error) {
	const shortest, longest = 100 * time.Millisecond, 2 * time.Second
	pause := shortest
	for {
		began := time.Now()
		err := work(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > longest {
			pause = shortest
		}
		b.logger.Warn("the bell lost the database", "doing", doing, "error", err, "retry", pause)
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, longest)
	}
}

// listen hears of other processes' rings over one connection until that fails.
func (b *Bell) listen(ctx context.Context) error {
	config := b.db.System.Config().ConnConfig
	config.Tracer = nil // it would see one statement that never ends
	prepare(config, config.RuntimeParams["application_name"]+" bell")
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		conn.Close(closing)
	}()
	if _, err := conn.Exec(ctx, "listen "+bellChannel); err != nil {
		return err
	}
	b.wakeAll() // what was rung while nobody listened
	for {
		// A peer that vanished says nothing; asking now and then finds out.
		waiting, cancel := context.WithTimeout(ctx, 15*time.Second)
		notification, err := conn.WaitForNotification(waiting)
		quiet := waiting.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil:
			b.hear(notification.Payload)
		case quiet:
			asking, cancel := context.WithTimeout(ctx, 5*time.Second)
			err := conn.Ping(asking)
			cancel()
			if err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// hear takes "ringer topic topic ...".
func (b *Bell) hear(payload string) {
	words := strings.Fields(payload)
	if len(words) == 0 || words[0] == b.self {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, topic := range words[1:] {
		b.wakeTopic(topic)
	}
}

// send tells other processes what was rung here, until that fails. What could not be told stays pending.
func (b *Bell) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
		}
		topics, more := b.take()
		if len(topics) == 0 {
			continue
		}
		_, err := b.db.System.Exec(ctx, "select pg_notify($1, $2)", bellChannel, b.self+" "+strings.Join(topics, " "))
		if err != nil {
			b.mu.Lock()
			for _, topic := range topics {
				b.pending[topic] = struct{}{}
			}
			b.nudge()
			b.mu.Unlock()
			return errors.Join(err, ctx.Err())
		}
		if more {
			b.nudge()
		}
	}
}

// take removes as many pending topics as one NOTIFY can carry.
func (b *Bell) take() (topics []string, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := len(b.self)
	for _, topic := range slices.Sorted(maps.Keys(b.pending)) {
		if size += 1 + len(topic); size > maxPayload {
			return topics, true
		}
		topics = append(topics, topic)
		delete(b.pending, topic)
	}
	return topics, false
}

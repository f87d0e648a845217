package inbound

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"liaison/sync/inbound/internal/db"
)

// slowStore takes a second for a transaction and refuses those that hold a marked call.
type slowStore struct {
	mu   sync.Mutex
	runs int
	kept map[string]int
	fail func(callID string) error
}

type slowTx struct {
	db.Querier
	ids  []string
	fail func(string) error
}

func (s *slowStore) System(_ context.Context, fn func(db.Querier) error) error {
	time.Sleep(time.Second) //nolint:forbidigo // the time of a bubble passes at once
	t := &slowTx{fail: s.fail}
	err := fn(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	if err == nil {
		for _, id := range t.ids {
			s.kept[id]++
		}
	}
	return err
}

func (t *slowTx) LockContent(context.Context, db.LockContentParams) error { return nil }
func (t *slowTx) FindRepeats(context.Context, db.FindRepeatsParams) (db.FindRepeatsRow, error) {
	return db.FindRepeatsRow{}, nil
}

func (t *slowTx) InsertInbox(_ context.Context, p db.InsertInboxParams) error {
	t.ids = append(t.ids, p.CallID)
	return t.fail(p.CallID)
}
func (t *slowTx) RememberCall(context.Context, db.RememberCallParams) error { return nil }

// Calls that come together share transactions, one that is at fault fails alone, and one whose sender has left is let go.
func TestTheClerkStoresCallsTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("no such text")
		store := &slowStore{kept: map[string]int{}, fail: func(id string) error {
			if id == "bad" {
				return bad
			}
			return nil
		}}
		k := &clerk{store: store}
		keep := func(ctx context.Context, id string) error {
			c := callOf(ctx, 1, webhook, []byte(id), "application/json", time.Now())
			c.id = id
			_, err := k.keep(ctx, &c)
			return err
		}
		var calls sync.WaitGroup
		calls.Go(func() {
			if err := keep(t.Context(), "first"); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait() // the first is under way
		for n := range 3 * together {
			calls.Go(func() {
				if err := keep(t.Context(), fmt.Sprint("call ", n)); err != nil {
					t.Error(err)
				}
			})
		}
		gone, leave := context.WithCancel(t.Context())
		calls.Go(func() {
			if err := keep(gone, "gone"); !errors.Is(err, context.Canceled) {
				t.Errorf("a sender that left: %v", err)
			}
		})
		synctest.Wait()
		leave()
		calls.Wait()
		if store.runs > 5 {
			t.Errorf("%d transactions for %d calls", store.runs, 3*together+1)
		}
		for _, id := range []string{"bad", "good", "fine"} {
			calls.Go(func() {
				if err := keep(t.Context(), id); (id == "bad") != errors.Is(err, bad) {
					t.Errorf("%s: %v", id, err)
				}
			})
		}
		calls.Wait()
		for id, n := range store.kept {
			if n != 1 || id == "bad" || id == "gone" {
				t.Errorf("%s was stored %d times", id, n)
			}
		}
		if len(store.kept) != 3*together+3 {
			t.Errorf("%d calls are stored, want %d", len(store.kept), 3*together+3)
		}
	})
}

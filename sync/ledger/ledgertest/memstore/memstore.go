// Package memstore runs transactions over rows in memory, one after the other, each whole or not at all. The stores in
// memory that tests of the sync use are built on it.
//
// Between a client and its transactions stands a Gate, by which tests make latency, faults and death. A Store is safe
// for concurrent use and is gone with its process.
package memstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Moment is when, in a transaction's life, its client's gate is asked.
type Moment int

// The moments.
const (
	Begin  Moment = iota // before the first statement; the gate may wait, and an error means that nothing happens
	Commit               // before the commit; the gate must not wait, and an error rolls the transaction back
	Done                 // after the commit; the gate may wait, and its error is answered although all has happened
)

// Gate stands between one client and the store. statement is the name of the transaction's first statement and on what
// it speaks of, such as "link 3"; both are the same in every run with the same history.
type Gate func(ctx context.Context, m Moment, statement, on string) error

// Open is the gate that lets everything pass at once.
func Open(context.Context, Moment, string, string) error { return nil }

// Store is a set of tables under one lock.
type Store struct{ mu sync.Mutex }

// Look runs fn while no transaction is under way.
func (s *Store) Look(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// Tx is a transaction. It begins with its first statement and holds the store until it ends. It is not safe for
// concurrent use.
type Tx struct {
	store     *Store
	gate      Gate
	begun     bool
	aborted   error
	statement string
	on        string
	undo      []func()
}

// Run runs fn in a transaction: what it wrote stays when it returns nil and the gate lets the commit pass.
func (s *Store) Run(ctx context.Context, gate Gate, fn func(*Tx) error) error {
	t := &Tx{store: s, gate: gate}
	err := t.run(ctx, fn)
	if err == nil && t.begun {
		err = gate(ctx, Done, t.statement, t.on)
	}
	return err
}

func (t *Tx) run(ctx context.Context, fn func(*Tx) error) error {
	whole := false
	defer func() {
		if !t.begun {
			return
		}
		if !whole {
			for _, undo := range slices.Backward(t.undo) {
				undo()
			}
		}
		t.store.mu.Unlock()
	}()
	if err := fn(t); err != nil || !t.begun {
		return err
	}
	if t.aborted != nil { // as Postgres answers COMMIT in a failed transaction
		return fmt.Errorf("commit unexpectedly resulted in rollback: %w", t.aborted)
	}
	if err := t.gate(ctx, Commit, t.statement, t.on); err != nil {
		return err
	}
	whole = true
	return nil
}

// Begin opens the transaction before its first statement and refuses further ones once one has failed. Every statement
// calls it first. on is called before the store is locked.
func (t *Tx) Begin(ctx context.Context, statement string, on func() string) error {
	if t.aborted != nil {
		return fmt.Errorf("current transaction is aborted: %w", t.aborted)
	}
	if !t.begun {
		t.statement, t.on = statement, on()
		if err := t.gate(ctx, Begin, t.statement, t.on); err != nil {
			return err
		}
		t.store.mu.Lock()
		t.begun = true
	}
	return nil
}

// Abort ends the transaction's usefulness, as a failed statement does, and returns err.
func (t *Tx) Abort(err error) error {
	t.aborted = err
	return err
}

// Table is a table's rows in the order in which they were inserted. A row is replaced whole and never changed in
// place, so what a statement returned stays as it was. The zero Table is empty. It is used within transactions only.
type Table[K comparable, V any] struct {
	rows  map[K]V
	order []K
}

// Get returns a row.
func (r *Table[K, V]) Get(k K) (V, bool) {
	v, ok := r.rows[k]
	return v, ok
}

// Len is how many rows there are.
func (r *Table[K, V]) Len() int { return len(r.order) }

// Put inserts or replaces a row until the transaction is rolled back.
func (r *Table[K, V]) Put(t *Tx, k K, v V) {
	if r.rows == nil {
		r.rows = map[K]V{}
	}
	before, there := r.rows[k]
	r.rows[k] = v
	if there {
		t.undo = append(t.undo, func() { r.rows[k] = before })
		return
	}
	r.order = append(r.order, k)
	t.undo = append(t.undo, func() {
		delete(r.rows, k)
		r.order = r.order[:len(r.order)-1]
	})
}

// All yields the rows in the order of their insertion. Rows that are put meanwhile may be yielded or not.
func (r *Table[K, V]) All(yield func(K, V) bool) {
	for _, k := range r.order {
		if !yield(k, r.rows[k]) {
			return
		}
	}
}

// Through runs a transaction of some other store behind a gate, which is asked before it and after its commit.
func Through(ctx context.Context, gate Gate, run func() error) error {
	const name = "transaction"
	if err := gate(ctx, Begin, name, ""); err != nil {
		return err
	}
	if err := run(); err != nil {
		return err
	}
	return gate(ctx, Done, name, "")
}

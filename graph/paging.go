package graph

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"liaison/graph/model"
	"liaison/internal/feed"
	"liaison/sync/ledger"
)

// Page sizes of every connection.
const (
	defaultPage = 20
	maxPage     = 100
)

// Kinds of sealed cursors: one of a list is none of another, nor of the same list in another order.
const (
	cursorOpened     = "incidents by openedAt"
	cursorUpdated    = "incidents by updatedAt"
	cursorComments   = "comments"
	cursorHistory    = "history"
	cursorLedger     = "ledger"
	cursorDeliveries = "deliveries"
	cursorInbox      = "inbox"
	cursorConflicts  = "conflicts"
)

// span is the part of a connection that a client asks for.
type span struct {
	first, last   *int32
	after, before *string
}

// window is a span whose cursors are opened. P is where rows stand in the connection's order.
type window[P comparable] struct {
	rows          int
	back          bool // from the end
	after, before P    // the zero P is none
}

// codec writes places as sealed cursors.
type codec[P comparable] struct {
	kind   string
	encode func(P) []byte
	decode func([]byte) (P, bool)
}

func places(kind string) codec[ledger.Place] {
	return codec[ledger.Place]{
		kind: kind,
		encode: func(p ledger.Place) []byte {
			b := binary.BigEndian.AppendUint64(make([]byte, 0, 32), uint64(p.At.UnixMicro()))
			return append(binary.BigEndian.AppendUint64(b, uint64(p.Version)), p.ID[:]...)
		},
		decode: func(b []byte) (p ledger.Place, ok bool) {
			if len(b) != 32 {
				return p, false
			}
			p.At = time.UnixMicro(int64(binary.BigEndian.Uint64(b))).UTC()
			p.Version = int64(binary.BigEndian.Uint64(b[8:]))
			copy(p.ID[:], b[16:])
			return p, true
		},
	}
}

func numbers(kind string) codec[int64] {
	return codec[int64]{
		kind:   kind,
		encode: func(n int64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 0, 8), uint64(n)) },
		decode: func(b []byte) (int64, bool) {
			if len(b) != 8 {
				return 0, false
			}
			return int64(binary.BigEndian.Uint64(b)), true
		},
	}
}

func (c codec[P]) seal(s *feed.Sealer, p P) func() string {
	return func() string { return s.Seal(c.kind, c.encode(p)) }
}

func (c codec[P]) open(s *feed.Sealer, field string, cursor *string) (P, error) {
	var none P
	if cursor == nil {
		return none, nil
	}
	payload, err := s.Open(c.kind, *cursor)
	if err == nil {
		if p, ok := c.decode(payload); ok {
			return p, nil
		}
	}
	return none, refuse(field, "is no cursor of this list", "use a cursor exactly as a page of the same list in the same order gave it, or leave it out")
}

// window checks a span. fromEnd is what is meant when neither first nor last is given.
func (c codec[P]) window(s *feed.Sealer, in span, fromEnd bool) (window[P], error) {
	w := window[P]{rows: defaultPage, back: in.first == nil && in.after == nil && (fromEnd || in.before != nil)}
	size, field := in.first, "first"
	if in.last != nil {
		size, field, w.back = in.last, "last", true
	}
	switch {
	case in.first != nil && in.last != nil:
		return w, refuse("last", "first is given as well", "give either first or last")
	case size == nil:
	case *size < 1 || *size > maxPage:
		return w, refuse(field, fmt.Sprintf("%d is out of range", *size), fmt.Sprintf("ask for 1 to %d and page on with cursors", maxPage))
	default:
		w.rows = int(*size)
	}
	var err error
	if w.after, err = c.open(s, "after", in.after); err != nil {
		return w, err
	}
	w.before, err = c.open(s, "before", in.before)
	return w, err
}

// page asks for one row more than wanted, to see whether there is more. ascending is the connection's order.
func (w window[P]) page(ascending bool) ledger.Page[P] {
	p := ledger.Page[P]{Rows: w.rows + 1, Oldest: ascending != w.back, Above: w.before, Below: w.after}
	if ascending {
		p.Above, p.Below = w.after, w.before
	}
	return p
}

// cut brings what page found into the connection's order and describes the page. The input is left as it is,
// because others may share it.
func cut[P comparable, T any](w window[P], found []T, cursor func(T) func() string) ([]T, *model.PageInfo) {
	var none P
	more := len(found) > w.rows
	found = slices.Clone(found[:min(len(found), w.rows)])
	info := &model.PageInfo{HasNextPage: more, HasPreviousPage: w.after != none}
	if w.back {
		slices.Reverse(found)
		info.HasNextPage, info.HasPreviousPage = w.before != none, more
	}
	if len(found) > 0 {
		info.Start, info.End = cursor(found[0]), cursor(found[len(found)-1])
	}
	return found, info
}

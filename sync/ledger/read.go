package ledger

import (
	"bytes"
	"context"
	"errors"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger/internal/db"
)

// Reader answers questions about what the ledger holds, as far as a viewer may know: row-level security
// decides, and what is hidden is simply not found.
type Reader struct{ db *postgres.DB }

// NewReader returns a reader of a database.
func NewReader(d *postgres.DB) *Reader { return &Reader{db: d} }

// Question is one statement with a place for its answer. Each function that makes one says what it asks; the
// answer stands in its last argument once Read has returned nil. A question whose Read failed may be asked again.
type Question struct {
	// ask runs exactly one statement. It is called twice: first to take down the statement, with no answer, then
	// to read the answer. So it must not depend on what an earlier statement answered.
	ask func(context.Context, *db.Queries) error
}

// Read asks all questions for the viewer in one round trip and one transaction. Each statement sees what was
// committed when it began; ErrNotFound is never returned, an answer without rows is an empty answer.
func (r *Reader) Read(ctx context.Context, v auth.Viewer, questions ...Question) error {
	if len(questions) == 0 {
		return nil
	}
	batch := &pgx.Batch{}
	taking := db.New(takeDown{batch})
	for _, q := range questions {
		if err := q.ask(ctx, taking); err != nil && !errors.Is(err, errTakenDown) {
			return err
		}
	}
	return r.db.AppBatch(ctx, v.Settings(), batch, func(results pgx.BatchResults) error {
		reading := db.New(readBack{results})
		for _, q := range questions {
			if err := q.ask(ctx, reading); err != nil {
				return err
			}
		}
		return nil
	})
}

// many is a question whose answer is a list.
func many[P, R, T any](ask func(*db.Queries, context.Context, P) ([]R, error), params P, each func(R) (T, error), into func([]T)) Question {
	return Question{func(ctx context.Context, q *db.Queries) error {
		rows, err := ask(q, ctx, params)
		if err != nil {
			return err
		}
		out := make([]T, len(rows))
		for n, row := range rows {
			if out[n], err = each(row); err != nil {
				return err
			}
		}
		into(out)
		return nil
	}}
}

// Place is where a row stands in an order by time. The zero Place is no bound.
type Place struct {
	At time.Time
	// Version orders what one change made at one moment: of deliveries alone, 0 for everything else.
	Version int64
	ID      uuid.UUID
}

// Page asks for part of a list whose rows stand at places of type P. Bounds are exclusive, and the zero P is none.
type Page[P comparable] struct {
	Rows   int  // at most so many
	Oldest bool // beginning at the oldest, or smallest, row; otherwise at the newest
	Above  P    // only rows newer, or larger, than this
	Below  P    // only rows older, or smaller, than this
}

// The ends of time, as far as Postgres and people go.
var (
	firstPlace = Place{At: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)}
	lastPlace  = Place{At: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), Version: math.MaxInt64, ID: uuid.UUID(bytes.Repeat([]byte{0xff}, 16))}
)

func bounds(p Page[Place]) (above, below Place) {
	above, below = p.Above, p.Below
	if above == (Place{}) {
		above = firstPlace
	}
	if below == (Place{}) {
		below = lastPlace
	}
	return above, below
}

func numberBounds(p Page[int64]) (above, below int64) {
	if p.Below == 0 {
		return p.Above, math.MaxInt64
	}
	return p.Above, p.Below
}

// IncidentKey names an incident together with its organisation, where every index begins.
type IncidentKey struct {
	Organisation incident.OrganisationID
	Incident     incident.ID
}

func columns(keys []IncidentKey) (organisations []int64, incidents []uuid.UUID) {
	organisations, incidents = make([]int64, len(keys)), make([]uuid.UUID, len(keys))
	for n, k := range keys {
		organisations[n], incidents[n] = int64(k.Organisation), k.Incident.UUID
	}
	return organisations, incidents
}

func numbers[T ~int64](in []T) []int64 {
	out := make([]int64, len(in))
	for n, v := range in {
		out[n] = int64(v)
	}
	return out
}

func texts[T ~string](in []T) []string {
	out := make([]string, len(in))
	for n, v := range in {
		out[n] = string(v)
	}
	return out
}

// errTakenDown is what a statement of one row answers while it is only taken down.
var errTakenDown = errors.New("the statement was taken down")

// takeDown writes statements into a batch instead of running them.
type takeDown struct{ batch *pgx.Batch }

func (t takeDown) Exec(_ context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	t.batch.Queue(sql, args...)
	return pgconn.CommandTag{}, nil
}

func (t takeDown) Query(_ context.Context, sql string, args ...any) (pgx.Rows, error) {
	t.batch.Queue(sql, args...)
	return nil, errTakenDown
}

func (t takeDown) QueryRow(_ context.Context, sql string, args ...any) pgx.Row {
	t.batch.Queue(sql, args...)
	return noRow{}
}

type noRow struct{}

func (noRow) Scan(...any) error { return errTakenDown }

// readBack gives each statement the next answer of the batch.
type readBack struct{ results pgx.BatchResults }

func (r readBack) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return r.results.Exec()
}
func (r readBack) Query(context.Context, string, ...any) (pgx.Rows, error) { return r.results.Query() }
func (r readBack) QueryRow(context.Context, string, ...any) pgx.Row        { return r.results.QueryRow() }

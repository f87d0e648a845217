package failpoint

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Tracer puts points round the statements of a database's pools.
type Tracer struct{ points *Points }

var (
	_ pgx.QueryTracer = (*Tracer)(nil)
	_ pgx.BatchTracer = (*Tracer)(nil)
)

// Tracer returns the tracer for a pool.
func (p *Points) Tracer() *Tracer { return &Tracer{p} }

// underWay is what a connection is asked just now.
type underWay struct{ names []string }

type underWayKey struct{}

// TraceQueryStart is the point before a statement.
func (t *Tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return t.before(ctx, conn, nameOf(data.SQL))
}

// TraceQueryEnd is the point after it.
func (t *Tracer) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	t.after(ctx, conn, data.CommandTag.RowsAffected() == 0, data.Err)
}

// TraceBatchStart is the point before a batch.
func (t *Tracer) TraceBatchStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	var names []string
	for _, q := range data.Batch.QueuedQueries {
		names = append(names, nameOf(q.SQL))
	}
	return t.before(ctx, conn, names...)
}

// TraceBatchQuery is no point: all results of a batch are on their way by then.
func (*Tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd is the point after a batch.
func (t *Tracer) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	t.after(ctx, conn, false, data.Err)
}

func (t *Tracer) before(ctx context.Context, conn *pgx.Conn, names ...string) context.Context {
	if conn.PgConn().TxStatus() == idle {
		setTrail(conn, nil)
	}
	t.points.pass(pathTo(trailOf(conn), strings.Join(names, "+")) + " before")
	return context.WithValue(ctx, underWayKey{}, underWay{names})
}

func (t *Tracer) after(ctx context.Context, conn *pgx.Conn, nothing bool, err error) {
	now, ok := ctx.Value(underWayKey{}).(underWay)
	if !ok {
		return
	}
	name, last := strings.Join(now.names, "+"), now.names[len(now.names)-1]
	switch {
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		name += "=error"
	case nothing && last != "commit" && last != "rollback" && now.names[0] != "begin":
		name += "=0"
	}
	trail := trailOf(conn)
	switch {
	case conn.PgConn().TxStatus() == idle:
		setTrail(conn, nil)
	case now.names[0] != "begin": // every transaction has one
		setTrail(conn, append(slices.Clip(trail), name))
	}
	t.points.pass(pathTo(trail, name) + " after")
}

// pathTo writes a statement behind those before it; one that is repeated stands there once.
func pathTo(trail []string, name string) string {
	return strings.Join(slices.Compact(append(slices.Clone(trail), name)), " > ")
}

// idle is the server's word for a connection outside any transaction.
const idle = 'I'

// The trail of the running transaction lives with its connection, so it ends with it.
const trailKey = "failpoint.trail"

func trailOf(conn *pgx.Conn) []string {
	trail, _ := conn.PgConn().CustomData()[trailKey].([]string)
	return trail
}

func setTrail(conn *pgx.Conn, trail []string) { conn.PgConn().CustomData()[trailKey] = trail }

// nameOf is the name that sqlc gave a statement, or its first words.
func nameOf(sql string) string {
	if rest, ok := strings.CutPrefix(sql, "-- name: "); ok {
		name, _, _ := strings.Cut(rest, " ")
		return name
	}
	words := strings.Fields(strings.ToLower(sql))
	if len(words) == 0 {
		return "nothing"
	}
	word, _, _ := strings.Cut(strings.Join(words[:min(2, len(words))], " "), "(")
	if word = strings.Trim(word, " ;"); strings.HasPrefix(word, "begin") {
		return "begin"
	}
	return word
}

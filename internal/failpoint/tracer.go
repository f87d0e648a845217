package failpoint

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Tracer puts points round the statements of a database's pools.
type Tracer struct{ points *Points }

var (
	_ pgx.QueryTracer = (*Tracer)(nil)
	_ pgx.BatchTracer = (*Tracer)(nil)
)

// Tracer returns the tracer for a pool.
func (p *Points) Tracer() *Tracer { return &Tracer{p} }

// underWay is what a connection is asked just now: one statement, or those of a batch.
type underWay struct {
	names   []string
	answers int // how many of them were answered
}

// answered notes how the next statement ended.
func (u *underWay) answered(tag pgconn.CommandTag, err error) {
	if u.answers == len(u.names) {
		return
	}
	name := &u.names[u.answers]
	u.answers++
	switch {
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		*name += "=error"
	case tag.RowsAffected() == 0 && !isFrame(*name):
		*name += "=0"
	}
}

// frames are what every transaction has.
var frames = []string{"begin", "commit", "rollback", settings}

const settings = "select set_config"

func isFrame(name string) bool { return slices.Contains(frames, name) }

// String leaves out what stands before every transaction, unless it was sent alone.
func (u *underWay) String() string {
	told := slices.DeleteFunc(slices.Clone(u.names), func(name string) bool { return name == "begin" || name == settings })
	if len(told) == 0 {
		return "begin"
	}
	return strings.Join(told, "+")
}

type underWayKey struct{}

// TraceQueryStart is the point before a statement.
func (t *Tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return t.before(ctx, conn, nameOf(data.SQL))
}

// TraceQueryEnd is the point after it.
func (t *Tracer) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	if now, ok := ctx.Value(underWayKey{}).(*underWay); ok {
		now.answered(data.CommandTag, data.Err)
		t.after(conn, now)
	}
}

// TraceBatchStart is the point before a batch.
func (t *Tracer) TraceBatchStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	var names []string
	for _, q := range data.Batch.QueuedQueries {
		names = append(names, nameOf(q.SQL))
	}
	return t.before(ctx, conn, names...)
}

// TraceBatchQuery is no point, because the whole batch was sent by then; it only learns how one of its statements ended.
func (*Tracer) TraceBatchQuery(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchQueryData) {
	if now, ok := ctx.Value(underWayKey{}).(*underWay); ok {
		now.answered(data.CommandTag, data.Err)
	}
}

// TraceBatchEnd is the point after a batch.
func (t *Tracer) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	if now, ok := ctx.Value(underWayKey{}).(*underWay); ok {
		if data.Err != nil {
			now.answered(pgconn.CommandTag{}, data.Err)
		}
		t.after(conn, now)
	}
}

func (t *Tracer) before(ctx context.Context, conn *pgx.Conn, names ...string) context.Context {
	if conn.PgConn().TxStatus() == idle {
		setTrail(conn, nil)
	}
	now := &underWay{names: names}
	t.points.pass(pathTo(trailOf(conn), now.String()) + " before")
	return context.WithValue(ctx, underWayKey{}, now)
}

func (t *Tracer) after(conn *pgx.Conn, now *underWay) {
	name, trail := now.String(), trailOf(conn)
	switch {
	case conn.PgConn().TxStatus() == idle:
		setTrail(conn, nil)
	case name != "begin":
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

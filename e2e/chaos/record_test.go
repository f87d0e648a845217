//go:build chaos

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// row is an incident as the hub holds it, with its links, entries and comments.
type row struct {
	number, organisation   string
	version                int
	title, priority, state string // the state carries its hold reason
	links                  map[string]*linkRow
	entries                []entry
	comments               []comment
}

// linkRow is the tie to a ticket.
type linkRow struct {
	id, system, ticket, correlation string
	read                            bool              // the hub has seen the ticket's fields
	parked                          map[string]string // field to reason
}

// entry is a line of the ledger.
type entry struct {
	Version    int
	Kind       string
	Visibility string
	ActorKind  string
	Link       string // the system it came from
	Comment    string // its comment's body
	Changes    map[string][]*string
	Detail     string
	At         time.Time
}

func (e entry) String() string {
	var changes []string
	for f, c := range e.Changes {
		changes = append(changes, fmt.Sprintf("%s %.60q -> %.60q", f, text(c, 0), text(c, 1)))
	}
	return fmt.Sprintf("%s v%-3d %-15s %-6s from=%-12s %s %.100q %.300s", e.At.UTC().Format("15:04:05.000"), e.Version, e.Kind, e.ActorKind, e.Link, strings.Join(changes, ", "), e.Comment, strings.TrimPrefix(e.Detail, "{}"))
}

func text(change []*string, n int) string {
	if n < len(change) && change[n] != nil {
		return *change[n]
	}
	return ""
}

// to is what the entry made of a field, and whether it touched it.
func (e entry) to(field string) (string, bool) {
	c, ok := e.Changes[field]
	return text(c, 1), ok
}

type comment struct {
	visibility, body, link string
}

// records reads the hub's tables. With full the ledger and the comments come along.
func (w *world) records(ctx context.Context, full bool) (map[string]*row, error) {
	return insist(ctx, func(ctx context.Context) (map[string]*row, error) { return w.read(ctx, full) })
}

func (w *world) read(ctx context.Context, full bool) (map[string]*row, error) {
	out := map[string]*row{}
	err := each(ctx, w, `SELECT i.number, o.key, i.version, i.title, i.priority, i.state || CASE WHEN i.hold_reason = '' THEN '' ELSE '/' || i.hold_reason END
		FROM incident i JOIN organisation o ON o.id = i.organisation_id`, func(rows pgx.Rows) error {
		r := &row{links: map[string]*linkRow{}}
		if err := rows.Scan(&r.number, &r.organisation, &r.version, &r.title, &r.priority, &r.state); err != nil {
			return err
		}
		out[r.number] = r
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each(ctx, w, `SELECT i.number, l.id::text, s.key, coalesce(l.external_id, ''), l.correlation_id::text, l.parked::text, l.base ? 'priority'
		FROM external_link l JOIN incident i ON i.organisation_id = l.organisation_id AND i.id = l.incident_id JOIN external_system s ON s.id = l.system_id`, func(rows pgx.Rows) error {
		var number, parked string
		l := &linkRow{}
		if err := rows.Scan(&number, &l.id, &l.system, &l.ticket, &l.correlation, &parked, &l.read); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(parked), &l.parked); err != nil {
			return err
		}
		out[number].links[l.system] = l
		return nil
	})
	if err != nil || !full {
		return out, err
	}
	err = each(ctx, w, `SELECT i.number, e.version, e.kind, e.visibility, e.actor_kind, coalesce(s.key, ''), coalesce(c.body, ''), e.changes::text, e.detail::text, e.at
		FROM ledger_entry e JOIN incident i ON i.organisation_id = e.organisation_id AND i.id = e.incident_id
		LEFT JOIN external_link l ON l.organisation_id = e.organisation_id AND l.id = e.link_id LEFT JOIN external_system s ON s.id = l.system_id
		LEFT JOIN comment c ON c.organisation_id = e.organisation_id AND c.id = e.comment_id ORDER BY e.incident_id, e.version`, func(rows pgx.Rows) error {
		var number, changes string
		var e entry
		if err := rows.Scan(&number, &e.Version, &e.Kind, &e.Visibility, &e.ActorKind, &e.Link, &e.Comment, &changes, &e.Detail, &e.At); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(changes), &e.Changes); err != nil {
			return err
		}
		out[number].entries = append(out[number].entries, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, each(ctx, w, `SELECT i.number, c.visibility, c.body, coalesce(s.key, '') FROM comment c JOIN incident i ON i.organisation_id = c.organisation_id AND i.id = c.incident_id
		LEFT JOIN external_link l ON l.organisation_id = c.organisation_id AND l.id = c.link_id LEFT JOIN external_system s ON s.id = l.system_id`, func(rows pgx.Rows) error {
		var number string
		var c comment
		if err := rows.Scan(&number, &c.visibility, &c.body, &c.link); err != nil {
			return err
		}
		out[number].comments = append(out[number].comments, c)
		return nil
	})
}

func each(ctx context.Context, w *world, sql string, scan func(pgx.Rows) error) error {
	rows, err := w.database.pool.Query(ctx, sql)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (w *world) number(ctx context.Context, sql string) (int, error) {
	return insist(ctx, func(ctx context.Context) (n int, err error) {
		err = w.database.pool.QueryRow(ctx, sql).Scan(&n)
		return n, err
	})
}

func (w *world) texts(ctx context.Context, sql string) ([]string, error) {
	return insist(ctx, func(ctx context.Context) ([]string, error) {
		rows, err := w.database.pool.Query(ctx, sql)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[string])
	})
}

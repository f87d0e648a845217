package servicenow

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"liaison/connectors"
)

// cursor is the readable form of a connectors.Cursor. Polling goes in sweeps: each begins the overlap before Since and
// reads to the table's end, page by page. Rows are told apart by their count of changes, so a row that was returned does
// not come again unless it changed, and one that changed twice within a second does.
type cursor struct {
	// Since is the newest stamp up to which everything was seen, apart from what commits within the overlap.
	Since string `json:"since"`
	// Seen are the rows at or after the overlap's begin that were returned: stamp, sys_id, sys_mod_count.
	Seen map[string]map[string]string `json:"seen,omitempty"`
	// Sweep is where a sweep that took more than a page goes on.
	Sweep *sweep `json:"sweep,omitempty"`
}

type sweep struct {
	Newest string `json:"newest,omitempty"` // the newest stamp of the sweep so far
	Began  string `json:"began,omitempty"`  // the vendor's clock at the sweep's first page
	Stamp  string `json:"stamp,omitempty"`  // the last row seen: rows beyond it follow
	ID     string `json:"id,omitempty"`
	Skip   int    `json:"skip,omitempty"` // rows beyond it that the account may not see, counted in whole pages
}

// beginning is the cursor's place in a table without rows.
const beginning = "1970-01-01 00:00:00"

var changeColumns = []string{"sys_id", "number", "sys_mod_count", "sys_updated_on", "correlation_id"}

// Changes returns tickets whose sys_updated_on lies beyond the cursor. It cannot see what moves no stamp: attachments,
// and scripts that switch the stamp off.
func (c *Connector) Changes(ctx context.Context, after connectors.Cursor) (connectors.Page, error) {
	const op = "servicenow.Changes"
	if after == "" {
		return c.fromNowOn(ctx, op)
	}
	at, ok := readCursor(after)
	if !ok {
		return connectors.Page{}, refuse(op, "the cursor is none of this connector's")
	}
	return c.changes(ctx, op, at)
}

// readCursor reads a cursor back. What stands in it goes into queries, so it must be of the form that was written.
func readCursor(text connectors.Cursor) (at cursor, ok bool) {
	if json.Unmarshal([]byte(text), &at) != nil || !isStamp(at.Since) {
		return cursor{}, false
	}
	for stamp := range at.Seen {
		if !isStamp(stamp) {
			return cursor{}, false
		}
	}
	if s := at.Sweep; s != nil {
		unset := func(stamp string) bool { return stamp == "" || isStamp(stamp) }
		if !unset(s.Stamp) || !unset(s.Newest) || !unset(s.Began) || (s.ID == "") != (s.Stamp == "") || s.ID != "" && !sysID.MatchString(s.ID) || s.Skip < 0 {
			return cursor{}, false
		}
	}
	return at, true
}

// stampForm is stricter than time.Parse, which takes a fraction of a second.
var stampForm = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$`)

func isStamp(text string) bool {
	_, err := connectors.ParseTime(stampLayout, text)
	return err == nil && stampForm.MatchString(text)
}

// fromNowOn sets the cursor behind the newest row by the vendor's own stamps. The rows before it are swept once, so that
// what commits late among them is told from what stood there.
func (c *Connector) fromNowOn(ctx context.Context, op string) (connectors.Page, error) {
	newest, err := c.newest(ctx, op)
	if err != nil {
		return connectors.Page{}, err
	}
	at := cursor{Since: beginning}
	switch {
	case len(newest.records) > 0:
		at.Since = min(newest.records[0].get("sys_updated_on"), c.vendorTime(newest))
	case newest.more || newest.total > 0: // rows that the account may not see
		at.Since = c.vendorTime(newest)
	}
	for {
		p, err := c.changes(ctx, op, at)
		if err != nil || !p.More {
			return connectors.Page{Next: p.Next}, err
		}
		at = cursor{}
		if err := json.Unmarshal([]byte(p.Next), &at); err != nil {
			return connectors.Page{}, fmt.Errorf("reading back the cursor: %w", err)
		}
	}
}

// maxHidden is how many pages of rows that the account may not see are passed over for the newest that it may.
const maxHidden = 50

// newest returns the row that changed last of those that the account may see: the vendor's own stamp is worth more than
// its Date, which can come from another clock.
func (c *Connector) newest(ctx context.Context, op string) (rows, error) {
	q := query{"ORDERBYDESCsys_updated_on", "ORDERBYDESCsys_id"}
	if c.set.filter != "" {
		q = append(query{c.set.filter}, q...)
	}
	l := listing{table: c.set.table, query: q, fields: changeColumns, limit: 1}
	for page := 0; ; page++ {
		found, err := c.list(ctx, op, l)
		switch {
		case err != nil:
			return found, err
		case len(found.records) > 0:
			_, err = c.change(op, found.records[0], "")
			return found, err
		case !found.more || page == maxHidden:
			return found, nil
		}
		l.offset, l.limit = l.offset+l.limit, c.set.pageSize
	}
}

func (c *Connector) vendorTime(r rows) string {
	if r.date.IsZero() {
		return c.now().UTC().Format(stampLayout)
	}
	return r.date.UTC().Format(stampLayout)
}

// changes reads one page of the sweep that at stands in.
func (c *Connector) changes(ctx context.Context, op string, at cursor) (connectors.Page, error) {
	s := sweep{}
	if at.Sweep != nil {
		s = *at.Sweep
	}
	from := before(at.Since, c.overlap)
	l := listing{table: c.set.table, query: c.beyond(from, s), fields: changeColumns, limit: c.set.pageSize, offset: s.Skip}
	found, err := c.list(ctx, op, l)
	if err != nil {
		return connectors.Page{}, err
	}
	if at.Sweep == nil {
		if s.Began, err = c.began(ctx, op, found); err != nil {
			return connectors.Page{}, err
		}
	}
	seen := copySeen(at.Seen)
	var p connectors.Page
	for _, rec := range found.records {
		ref, err := c.change(op, rec, max(from, s.Stamp))
		if err != nil {
			return connectors.Page{}, err
		}
		s.Stamp, s.ID, s.Skip = rec.get("sys_updated_on"), rec.get("sys_id"), 0
		s.Newest = max(s.Newest, s.Stamp)
		if seen.add(rec) {
			p.Refs = append(p.Refs, ref)
		}
	}
	if len(found.records) == 0 {
		s.Skip += l.limit
	}
	next := cursor{Since: at.Since, Seen: seen, Sweep: &s}
	if p.More = found.more; !p.More {
		next = c.endSweep(next)
	}
	text, err := json.Marshal(next)
	if err != nil {
		return connectors.Page{}, fmt.Errorf("writing the cursor: %w", err)
	}
	p.Next = connectors.Cursor(text)
	return p, nil
}

// began returns the vendor's time at the sweep's first page, rather too early than too late: the answer's Date, and, when
// more pages follow, the newest stamp if that is earlier, because stamps and Date can come from different clocks.
func (c *Connector) began(ctx context.Context, op string, first rows) (string, error) {
	at := c.vendorTime(first)
	if !first.more {
		return at, nil
	}
	newest, err := c.newest(ctx, op)
	if err != nil || len(newest.records) == 0 {
		return at, err
	}
	return min(at, newest.records[0].get("sys_updated_on")), nil
}

// endSweep moves the cursor behind what the sweep has seen, but never beyond the vendor's time at its begin: a row that
// was committed behind the sweep's back carries a stamp from then or later, less the overlap. And a row that a wrong clock
// stamped in the future does not carry the cursor past what is still to come.
func (c *Connector) endSweep(at cursor) cursor {
	at.Since = max(at.Since, min(at.Sweep.Newest, at.Sweep.Began))
	at.Sweep = nil
	from := before(at.Since, c.overlap)
	for stamp := range at.Seen {
		if stamp < from {
			delete(at.Seen, stamp)
		}
	}
	return at
}

// beyond is the query for the rows behind the sweep's place: by key and not by offset, because rows move to the end
// while they are read.
func (c *Connector) beyond(from string, s sweep) query {
	narrowed := func(conditions ...string) query {
		if c.set.filter == "" {
			return conditions
		}
		return append(query{c.set.filter}, conditions...)
	}
	order := query{"ORDERBYsys_updated_on", "ORDERBYsys_id"}
	if s.Stamp == "" {
		return append(narrowed("sys_updated_on>="+from), order...)
	}
	later, same := narrowed("sys_updated_on>"+s.Stamp), narrowed("sys_updated_on="+s.Stamp, "sys_id>"+s.ID)
	same[0] = "NQ" + same[0]
	return append(append(later, same...), order...)
}

// change reads a row and refuses one that was not asked for.
func (c *Connector) change(op string, rec record, from string) (connectors.Ref, error) {
	stamp := rec.get("sys_updated_on")
	if _, err := rec.at("sys_updated_on"); err != nil || stamp < from || !sysID.MatchString(rec.get("sys_id")) {
		return connectors.Ref{}, hidden(op, c.set.table, "sys_updated_on")
	}
	return connectors.Ref{
		ID: connectors.ExternalID(rec.get("sys_id")), Number: rec.get("number"), Version: version(rec), CorrelationID: rec.get("correlation_id"),
	}, nil
}

type seenRows map[string]map[string]string

func copySeen(old map[string]map[string]string) seenRows {
	seen := make(seenRows, len(old))
	for stamp, ids := range old {
		seen[stamp] = make(map[string]string, len(ids))
		for id, count := range ids {
			seen[stamp][id] = count
		}
	}
	return seen
}

// add notes the row and reports whether it is news.
func (s seenRows) add(rec record) bool {
	stamp, id, count := rec.get("sys_updated_on"), strings.ToLower(rec.get("sys_id")), rec.get("sys_mod_count")
	known, ok := s[stamp][id]
	if ok && known == count {
		return false
	}
	if s[stamp] == nil {
		s[stamp] = map[string]string{}
	}
	s[stamp][id] = count
	return true
}

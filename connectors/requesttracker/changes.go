package requesttracker

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"liaison/connectors"
	"liaison/connectors/client"
)

// cursor is the readable form of a connectors.Cursor. Polling goes in sweeps: each begins at the horizon's floor and reads
// to the end, page by page, by "id >" and not by page numbers.
type cursor struct {
	horizon
	Sweep  *sweep `json:"sweep,omitempty"`  // where a sweep that took more than a page goes on
	Probed int64  `json:"probed,omitempty"` // when it was last asked what lies behind an empty page, Unix seconds
}

type sweep struct {
	Began int64 `json:"began"`          // Unix seconds
	Pos   int64 `json:"pos"`            // the last id read
	Page  int   `json:"page,omitempty"` // pages of hidden rows passed behind Pos
}

func (c cursor) String() connectors.Cursor {
	c.Version = formatVersion
	return connectors.Cursor(mustJSON(c))
}

func readCursor(text connectors.Cursor) (cursor, error) {
	var c cursor
	if json.Unmarshal([]byte(text), &c) != nil || !c.valid() {
		return c, errForeign
	}
	if s := c.Sweep; s != nil && (s.Pos < c.Floor || s.Page < 0) {
		return c, errForeign
	}
	return c, nil
}

// maxHidden is how many pages of rows in a row that the account may not see are passed over, and maxProbe how many pages of
// the newest rows are asked for one that it may see.
const (
	maxHidden = 200
	maxProbe  = 5
)

// feed is the query for the watched tickets' changes. Records of mails sent change no ticket and are what accounts most
// often may not see.
func (c *Connector) feed(more string) string {
	q := []string{"ObjectType = 'RT::Ticket'", "Type != 'EmailRecord'", "Type != 'CommentEmailRecord'"}
	if len(c.set.watch) > 0 {
		var queues []string
		for _, name := range c.set.watch {
			queues = append(queues, "TicketQueue = '"+name+"'")
		}
		q = append(q, "("+strings.Join(queues, " OR ")+")")
	}
	if more != "" {
		q = append(q, more)
	}
	return strings.Join(q, " AND ")
}

func beyond(id int64) string { return "id > " + strconv.FormatInt(id, 10) }

// Changes returns tickets with transactions beyond the cursor. A reference's version is the newest transaction of that
// ticket in the page, which is the ticket's own version unless more has happened since.
func (c *Connector) Changes(ctx context.Context, after connectors.Cursor) (connectors.Page, error) {
	const op = "requesttracker.Changes"
	if after == "" {
		return c.fromNowOn(ctx, op)
	}
	at, err := readCursor(after)
	if err != nil {
		return connectors.Page{}, refuse(op, "the cursor %w", err)
	}
	return c.sweep(ctx, op, at)
}

// fromNowOn sets the cursor behind the newest transaction. What is younger than the overlap is noted one by one, so that
// a change that is committed late among them is told from those.
func (c *Connector) fromNowOn(ctx context.Context, op string) (connectors.Page, error) {
	ids, settled, err := c.recent(ctx, op, c.feed(""), "Created")
	if err != nil {
		return connectors.Page{}, err
	}
	at := cursor{horizon: horizonNow(ids, settled, c.now())}
	return connectors.Page{Next: at.String()}, nil
}

// maxRecent bounds the pages that are read backwards for the overlap.
const maxRecent = 50

// recent reads the newest rows of a query back to those that are older than the overlap by RT's own clock. It returns
// the ids that are younger, and the newest of those that are not: 0 when there is none.
func (c *Connector) recent(ctx context.Context, op, query, fields string) (young []int64, settled int64, err error) {
	for page := 1; page <= maxRecent; page++ {
		found, a, err := c.transactions(ctx, op, listing{query: query, fields: fields, page: page, perPage: maxPage, newest: true})
		if err != nil {
			return nil, 0, err
		}
		since := c.vendorTime(a).Add(-c.overlap)
		for _, t := range found {
			if at, err := connectors.ParseTime(time.RFC3339, t.Created); err == nil && at.Before(since) {
				return young, t.id, nil
			}
			young = append(young, t.id)
		}
		if len(found) == 0 || len(found) < maxPage && page > 1 {
			return young, 0, nil
		}
	}
	return young, young[len(young)-1] - 1, nil
}

// vendorTime is RT's clock, or ours where the answer does not tell.
func (c *Connector) vendorTime(a client.Answer) time.Time {
	if t, err := http.ParseTime(a.Header.Get("Date")); err == nil {
		return t
	}
	return c.now()
}

// sweep reads one page of the sweep that at stands in.
func (c *Connector) sweep(ctx context.Context, op string, at cursor) (connectors.Page, error) {
	s := sweep{Began: c.now().Unix(), Pos: at.Floor}
	if at.Sweep != nil {
		s = *at.Sweep
	}
	found, _, err := c.transactions(ctx, op, listing{
		query: c.feed(beyond(s.Pos)), fields: "ObjectId,Type,Creator", page: s.Page + 1, perPage: c.set.pageSize,
	})
	if err != nil {
		return connectors.Page{}, err
	}
	refs := at.fresh(found, c.openedByUs)
	// A short page is not the last one: RT takes out what the account may not see after cutting it. Only an empty one can
	// be, and the floor must not rise past what was not read.
	more := len(found) > 0
	if more {
		s.Pos, s.Page = found[len(found)-1].id, 0
	} else if more, err = c.behindHidden(ctx, op, &at, s); err != nil {
		return connectors.Page{}, err
	} else if more {
		s.Page++
	}
	if at.Sweep = &s; !more {
		at.Sweep = nil
		at.settle(time.Unix(s.Began, 0), c.now(), c.overlap, s.Pos)
	}
	return connectors.Page{Refs: refs, Next: at.String(), More: more}, nil
}

// fresh notes the rows as seen and returns the tickets of those that were not, in the order of their first change.
func (c *cursor) fresh(found []transaction, opened func(transaction) bool) []connectors.Ref {
	var refs []connectors.Ref
	place := map[text]int{}
	for _, t := range found {
		if !isID(connectors.ExternalID(t.ObjectID)) || !c.add(t.id) {
			continue
		}
		i, known := place[t.ObjectID]
		if !known {
			i = len(refs)
			place[t.ObjectID] = i
			refs = append(refs, connectors.Ref{ID: connectors.ExternalID(t.ObjectID), Number: string(t.ObjectID)})
		}
		refs[i].Version = strconv.FormatInt(t.id, 10)
		refs[i].Opened = refs[i].Opened || opened(t)
	}
	return refs
}

// openedByUs tells a transaction that opened a ticket under our own account. While nobody has told whose the account is, every
// new ticket may be ours.
func (c *Connector) openedByUs(t transaction) bool {
	c.mu.Lock()
	login := c.login
	c.mu.Unlock()
	return t.Type == "Create" && (login == "" || isLogin(login, string(t.Creator.ID)))
}

// behindHidden tells whether rows follow behind an empty page. RT takes the rows that the account may not see out of a
// page after cutting it, so an empty page can have full ones behind it. After a no it is not asked again for an overlap,
// unless rows were seen beyond this place: the answer is nearly always no, and the floor has risen by then.
func (c *Connector) behindHidden(ctx context.Context, op string, at *cursor, s sweep) (bool, error) {
	if s.Page > 0 {
		return s.Page < maxHidden, nil
	}
	now := c.now().Unix()
	if s.Pos >= at.newest() && at.Probed <= now && now-at.Probed < int64(c.overlap.Seconds()) {
		return false, nil
	}
	for page := 1; page <= maxProbe; page++ {
		newest, _, err := c.transactions(ctx, op, listing{query: c.feed(beyond(s.Pos)), page: page, perPage: maxPage, newest: true})
		if err != nil || len(newest) > 0 {
			return err == nil, err
		}
	}
	at.Probed = now
	return false, nil
}

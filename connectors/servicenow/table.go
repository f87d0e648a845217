package servicenow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"liaison/connectors"
	"liaison/connectors/client"
)

// record is a row as the vendor sent it. A column that the account may not read is missing, not empty.
type record map[string]value

// value is a column's text. The vendor sends a string, or an object where the column is a reference.
type value string

// longestColumn is far more than any column of the platform holds, in bytes of JSON.
const longestColumn = 4 << 20

// UnmarshalJSON reads every shape that a column takes.
func (v *value) UnmarshalJSON(data []byte) error {
	if len(data) > longestColumn {
		return fmt.Errorf("a column holds more than %d bytes", longestColumn)
	}
	var text string
	if json.Unmarshal(data, &text) == nil { // also null
		*v = value(text)
		return nil
	}
	var reference struct {
		Value *value `json:"value"`
	}
	if data[0] == '{' {
		if err := json.Unmarshal(data, &reference); err != nil || reference.Value == nil {
			return errors.New("a column's object has no value")
		}
		*v = *reference.Value
		return nil
	}
	if data[0] == '[' {
		return errors.New("a column is a list")
	}
	*v = value(data) // a number or truth value, which a scripted column may send
	return nil
}

func (r record) get(column string) string { return string(r[column]) }

// at returns a column as a time of the vendor's clock.
func (r record) at(column string) (time.Time, error) {
	t, err := connectors.ParseTime(stampLayout, r.get(column))
	if err != nil || !isStamp(r.get(column)) {
		return time.Time{}, fmt.Errorf("%s is not a UTC stamp of the form %s", column, stampLayout)
	}
	return t, nil
}

// listing asks for rows of a table.
type listing struct {
	table  string // of the Table API, unless path is set
	path   string
	query  query
	fields []string
	limit  int
	offset int
}

// rows is a page of a listing.
type rows struct {
	records []record
	more    bool      // rows lie beyond this page, whether or not this one was full
	total   int       // rows matched, -1 where the vendor does not count
	date    time.Time // the vendor's clock, zero where it does not tell
}

type envelope struct {
	Result result          `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// result reads a result into its place without copying it first: a page can be large.
type result struct {
	into any
	seen bool
	err  error
}

// UnmarshalJSON keeps its error back: beside a result that was broken off stands the vendor's word on it.
func (r *result) UnmarshalJSON(data []byte) error {
	if r.seen = string(data) != "null"; r.seen {
		r.err = json.Unmarshal(data, r.into)
	}
	return nil
}

func (c *Connector) list(ctx context.Context, op string, l listing) (rows, error) {
	q := url.Values{"sysparm_limit": {strconv.Itoa(l.limit)}}
	if len(l.query) > 0 {
		q.Set("sysparm_query", l.query.String())
	}
	if l.offset > 0 {
		q.Set("sysparm_offset", strconv.Itoa(l.offset))
	}
	path := l.path
	if path == "" {
		path = "/api/now/table/" + url.PathEscape(l.table)
		plainValues(q, l.fields)
	}
	r := client.Request{Op: op, Path: path, Query: q}
	var found []record
	a, err := c.call(ctx, r, nil, &found)
	if err != nil {
		return rows{}, err
	}
	return page(a, found, l), nil
}

// page tells whether more rows lie behind this page. The vendor applies the limit before it hides rows, so a short or
// empty page is not the last one: its count, taken before that, decides; without a count its Link header; without both, rows
// that came may have others behind them.
func page(a client.Answer, found []record, l listing) rows {
	p := rows{records: found, total: -1}
	p.date, _ = http.ParseTime(a.Header.Get("Date"))
	if n, err := strconv.Atoi(a.Header.Get("X-Total-Count")); err == nil && n >= 0 {
		p.total, p.more = n, l.offset+l.limit < n
		return p
	}
	if link := a.Header.Get("Link"); link != "" {
		p.more = strings.Contains(link, `rel="next"`)
		return p
	}
	p.more = len(found) > 0
	return p
}

// plainValues asks for stored values in UTC and codes, never for labels in the account's language and zone.
func plainValues(q url.Values, fields []string) {
	q.Set("sysparm_display_value", "false")
	q.Set("sysparm_exclude_reference_link", "true")
	if len(fields) > 0 {
		q.Set("sysparm_fields", strings.Join(fields, ","))
	}
}

// row makes one exchange with a single row of the tickets' table.
func (c *Connector) row(ctx context.Context, op, method string, id connectors.ExternalID, body any, fields []string) (record, client.Answer, error) {
	q := url.Values{}
	plainValues(q, fields)
	return c.exchange(ctx, client.Request{Op: op, Method: method, Query: q}, id, body)
}

// displayed reads columns of a ticket as its pages show them: only good for telling whether there is anything to read.
func (c *Connector) displayed(ctx context.Context, op string, id connectors.ExternalID, fields ...string) (record, client.Answer, error) {
	q := url.Values{"sysparm_display_value": {"true"}, "sysparm_fields": {strings.Join(fields, ",")}}
	return c.exchange(ctx, client.Request{Op: op, Query: q}, id, nil)
}

// exchange makes r with the ticket's path and looks whether the answer is that ticket's.
func (c *Connector) exchange(ctx context.Context, r client.Request, id connectors.ExternalID, body any) (record, client.Answer, error) {
	r.Path = "/api/now/table/" + url.PathEscape(c.set.table)
	if id != "" {
		r.Path += "/" + url.PathEscape(string(id))
	}
	var rec record
	a, err := c.call(ctx, r, body, &rec)
	if err != nil {
		return nil, a, err
	}
	got := rec.get("sys_id")
	if got == "" || id != "" && !strings.EqualFold(got, string(id)) {
		return nil, a, c.client.Unreadable(r, a, fmt.Errorf("the answer speaks of ticket %q", got))
	}
	return rec, a, nil
}

// call makes one exchange and unwraps its result. A body with an error beside a started result is a failure whatever
// its status: the vendor streams, and notices too late that it ran out of time.
func (c *Connector) call(ctx context.Context, r client.Request, in, into any) (client.Answer, error) {
	e := envelope{Result: result{into: into}}
	a, err := c.client.JSON(ctx, r, in, &e)
	if err != nil {
		return a, err
	}
	if len(e.Error) > 0 && string(e.Error) != "null" {
		return a, c.client.Unreadable(r, a, fmt.Errorf("the vendor broke off: %s", complaint(a.Body)))
	}
	if !e.Result.seen {
		return a, c.client.Unreadable(r, a, errors.New("the answer has no result"))
	}
	if e.Result.err != nil {
		return a, c.client.Unreadable(r, a, errors.New("the answer's result has not the documented form"))
	}
	return a, nil
}

package requesttracker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"liaison/connectors"
	"liaison/connectors/client"
)

// text is a value that RT sends as a string here and as a number there. Null is empty.
type text string

// UnmarshalJSON reads both.
func (t *text) UnmarshalJSON(data []byte) error {
	if data[0] == '{' || data[0] == '[' {
		return errors.New("a value is a structure")
	}
	var s string
	if json.Unmarshal(data, &s) == nil { // also null
		*t = text(s)
		return nil
	}
	*t = text(bytes.TrimSpace(data))
	return nil
}

// sentences are what RT answers to a write, in the account's language: for each part what became of it.
type sentences []string

// UnmarshalJSON reads the list, which may hold other things beside sentences. Null is none.
func (s *sentences) UnmarshalJSON(data []byte) error {
	var said []any
	if err := json.Unmarshal(data, &said); err != nil {
		return err
	}
	if said == nil {
		return errors.New("the answer to a write is no list of sentences")
	}
	*s = sentences{}
	for _, v := range said {
		if sentence, ok := v.(string); ok {
			*s = append(*s, sentence)
		}
	}
	return nil
}

// reference is how one record speaks of another. A user's id is the login name.
type reference struct {
	ID       text   `json:"id"`
	Name     string `json:"Name"`     // when fields[…]=Name asked for it
	RealName string `json:"RealName"` // likewise
}

// UnmarshalJSON reads an object, and the bare id that some lists hold.
func (r *reference) UnmarshalJSON(data []byte) error {
	if data[0] != '{' {
		*r = reference{}
		return json.Unmarshal(data, &r.ID)
	}
	type plain reference
	return json.Unmarshal(data, (*plain)(r))
}

// customFields is the list of a record's custom fields. It is nil when the account may not see them, and in no order.
type customFields []struct {
	Name   string  `json:"name"`
	Values []value `json:"values"`
}

// value is one value of a custom field. A file is an object; its name stands for it.
type value text

// UnmarshalJSON reads both.
func (v *value) UnmarshalJSON(data []byte) error {
	if data[0] == '{' {
		var file struct {
			Filename string `json:"filename"`
		}
		err := json.Unmarshal(data, &file)
		*v = value(file.Filename)
		return err
	}
	return (*text)(v).UnmarshalJSON(data)
}

// get returns a field's values, one a line, and whether the account sees the field. RT finds names in any case.
func (f customFields) get(name string) (string, bool) {
	i := slices.IndexFunc(f, func(field struct {
		Name   string  `json:"name"`
		Values []value `json:"values"`
	},
	) bool {
		return strings.EqualFold(field.Name, name)
	})
	if i < 0 {
		return "", false
	}
	var values []string
	for _, v := range f[i].Values {
		if v != "" { // a cleared field can hold a null
			values = append(values, string(v))
		}
	}
	return strings.Join(values, "\n"), true
}

func (f customFields) has(name string) bool {
	_, ok := f.get(name)
	return ok
}

// queueRecord is what is read of a queue.
type queueRecord struct {
	ID                text         `json:"id"`
	Name              string       `json:"Name"`
	Disabled          text         `json:"Disabled"`
	TicketFields      customFields `json:"TicketCustomFields"`
	TransactionFields customFields `json:"TicketTransactionCustomFields"`
}

// transaction is a row of RT's history.
type transaction struct {
	ID           text         `json:"id"`
	Type         string       `json:"Type"`
	Record       string       `json:"type"` // always "transaction"; without a place of its own it would overwrite Type
	Created      string       `json:"Created"`
	Creator      reference    `json:"Creator"`
	ObjectID     text         `json:"ObjectId"`
	CustomFields customFields `json:"CustomFields"`

	id int64
}

// listing asks for rows of a list.
type listing struct {
	path      string
	query     string
	fields    string
	subfields map[string]string // of a field: fields[Creator]=RealName
	page      int
	perPage   int
	newest    bool // newest first; always by id, because any other order repeats and skips rows
}

func (l listing) values() url.Values {
	v := url.Values{"orderby": {"id"}, "per_page": {strconv.Itoa(l.perPage)}}
	if l.query != "" {
		v.Set("query", l.query)
	}
	if l.fields != "" {
		v.Set("fields", l.fields)
	}
	for field, sub := range l.subfields {
		v.Set("fields["+field+"]", sub)
	}
	if l.page > 1 {
		v.Set("page", strconv.Itoa(l.page))
	}
	if l.newest {
		v.Set("order", "DESC")
	}
	return v
}

// rows reads one page of a list. The counts beside the rows are null or "0.0" at RT's whim, so nothing rests on them.
func rows[T any](ctx context.Context, c *Connector, op string, l listing) ([]T, client.Answer, error) {
	var page struct {
		Items *[]T `json:"items"`
	}
	r := client.Request{Op: op, Path: l.path, Query: l.values()}
	a, err := c.call(ctx, r, nil, &page)
	if err != nil {
		return nil, a, err
	}
	if page.Items == nil {
		return nil, a, c.client.Unreadable(r, a, errors.New("the answer has no items"))
	}
	return *page.Items, a, nil
}

// transactions reads one page of RT's history.
func (c *Connector) transactions(ctx context.Context, op string, l listing) ([]transaction, client.Answer, error) {
	l.path = "/transactions"
	found, a, err := rows[transaction](ctx, c, op, l)
	if err != nil {
		return nil, a, err
	}
	for i := range found {
		if found[i].id, err = strconv.ParseInt(string(found[i].ID), 10, 64); err != nil || found[i].id < 1 {
			return nil, a, c.client.Unreadable(client.Request{Op: op}, a, fmt.Errorf("transaction id %q is no number", found[i].ID))
		}
	}
	// The order is asked for; a row out of it would be lost behind the place that is kept.
	slices.SortStableFunc(found, func(x, y transaction) int {
		if l.newest {
			x, y = y, x
		}
		return compare(x.id, y.id)
	})
	return found, a, nil
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// call makes one exchange below RT's REST 2.0 path.
func (c *Connector) call(ctx context.Context, r client.Request, in, out any) (client.Answer, error) {
	r.Path = "/REST/2.0" + r.Path
	a, err := c.client.JSON(ctx, r, in, out)
	return a, signIn(err)
}

// signIn sorts a redirect. RT's REST 2.0 sends one only in place of 401, to what it takes for a browser, and a gateway
// before RT sends one to its sign-in page: in both cases nothing was done.
func signIn(err error) error {
	e, ok := errors.AsType[*connectors.Error](err)
	if ok && (e.Status == http.StatusFound || e.Status == http.StatusSeeOther || e.Status == http.StatusMovedPermanently) {
		e.Kind = connectors.Auth
	}
	return err
}

// explain keeps RT's own words.
func explain(a client.Answer, e *connectors.Error) {
	var b struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(a.Body, &b) == nil && b.Message != "" {
		e.Vendor = b.Message
	}
}

package servicenowtest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// serveTable answers the Table API.
func (s *Server) serveTable(c *call) (*reply, error) {
	if len(c.path) == 0 || len(c.path) > 2 || c.path[0] == "" {
		return nil, noResource(c.r)
	}
	name := c.path[0]
	if s.db.defs[name] == nil {
		return nil, badTable(name)
	}
	if len(c.path) == 1 {
		switch c.r.Method {
		case http.MethodGet, http.MethodHead:
			return s.list(c, name)
		case http.MethodPost:
			return s.create(c, name)
		}
		return nil, badMethod(c.r)
	}
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
		return s.read(c, name, c.path[1])
	case http.MethodPut, http.MethodPatch:
		return s.change(c, name, c.path[1])
	case http.MethodDelete:
		return s.erase(c, name, c.path[1])
	}
	return nil, badMethod(c.r)
}

// page is the part of a list that a client asked for.
type page struct {
	limit, offset int
	total         int
}

func (c *call) page(limit int) (page, error) {
	p := page{limit: limit}
	for name, v := range map[string]*int{"sysparm_limit": &p.limit, "sysparm_offset": &p.offset} {
		text := c.params.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return p, &apiError{status: http.StatusBadRequest, message: "Invalid " + name, detail: name + " must be a number that is not negative: " + text}
		}
		*v = n
	}
	return p, nil
}

// of cuts the page out of the rows found.
func (p *page) of(rows []*row) []*row {
	p.total = len(rows)
	from := min(p.offset, len(rows))
	return rows[from:min(from+p.limit, len(rows))]
}

// list answers a query: filter, order, count, cut, and only then the row rules, so that pages can come short.
func (s *Server) list(c *call, name string) (*reply, error) {
	if err := s.expandTiny(c); err != nil {
		return nil, err
	}
	p, err := c.page(10000)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	rows, err := s.query(c, name)
	if err != nil {
		return nil, err
	}
	shown := p.of(rows)
	out := make([]any, 0, len(shown))
	view := c.view(name)
	for _, r := range shown {
		if s.visible(r, c.who) {
			out = append(out, s.render(r, view))
		}
	}
	if c.version == "v1" && len(out) == 0 {
		return nil, noRecord()
	}
	rep := result(http.StatusOK, out)
	s.pageHeaders(c, rep.header, p)
	return rep, nil
}

// query runs a request's filter over a table.
func (s *Server) query(c *call, name string) ([]*row, error) {
	f := s.bind(name, c.query(), c.who)
	if f.bad && s.cfg.BadQuery == BadQueryRefuse {
		return nil, &apiError{
			status: http.StatusForbidden, message: "Insufficient rights to query records",
			detail: "Field(s) present in the query do not have permission to be read",
		}
	}
	rows := f.find()
	if s.cfg.SearchLag > 0 {
		edge := s.cfg.Now().Add(-s.cfg.SearchLag)
		rows = keep(rows, func(r *row) bool { return !r.born.After(edge) })
	}
	return rows, nil
}

func keep(rows []*row, ok func(*row) bool) []*row {
	out := rows[:0:0]
	for _, r := range rows {
		if ok(r) {
			out = append(out, r)
		}
	}
	return out
}

// query is the request's filter: sysparm_query, or else its field=value pairs, where display values count too.
func (c *call) query() encodedQuery {
	if c.params.Has("sysparm_query") {
		return parseQuery(c.params.Get("sysparm_query"))
	}
	var g queryGroup
	for name, values := range c.params {
		if !strings.HasPrefix(name, "sysparm_") && columnName.FindString(name) == name {
			g = append(g, queryClause{{column: name, op: "=", value: values[0], display: true}})
		}
	}
	if len(g) == 0 {
		return encodedQuery{}
	}
	return encodedQuery{groups: []queryGroup{g}}
}

// visible applies the rules that hide whole rows from users other than administrators.
func (s *Server) visible(r *row, who actor) bool {
	if who.admin {
		return true
	}
	if r.class == "sys_journal_field" && s.cfg.JournalDenied {
		return false
	}
	return r.class != "incident" || s.cfg.HiddenRows == "" || !s.matches(s.cfg.HiddenRows, r, actor{admin: true, zone: time.UTC})
}

// pageHeaders gives the count, and links to the pages around.
func (s *Server) pageHeaders(c *call, h http.Header, p page) {
	if !s.cfg.NoTotalCount && !isTrue(c.params.Get("sysparm_no_count")) {
		h.Set("X-Total-Count", strconv.Itoa(p.total))
	}
	if isTrue(c.params.Get("sysparm_suppress_pagination_header")) || p.limit == 0 {
		return
	}
	last := 0
	if p.total > 0 {
		last = (p.total - 1) / p.limit * p.limit
	}
	links := []string{c.pageLink("first", 0, p.limit)}
	if p.offset > 0 {
		links = append(links, c.pageLink("prev", max(0, p.offset-p.limit), p.limit))
	}
	if p.offset+p.limit < p.total {
		links = append(links, c.pageLink("next", p.offset+p.limit, p.limit))
	}
	h.Set("Link", strings.Join(append(links, c.pageLink("last", last, p.limit)), ","))
}

func (c *call) pageLink(rel string, offset, limit int) string {
	q := url.Values{}
	for k, v := range c.params {
		q[k] = v
	}
	q.Set("sysparm_offset", strconv.Itoa(offset))
	q.Set("sysparm_limit", strconv.Itoa(limit))
	return "<" + c.base + c.r.URL.EscapedPath() + "?" + q.Encode() + `>;rel="` + rel + `"`
}

func (s *Server) read(c *call, name, id string) (*reply, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.db.get(name, id)
	if r == nil || !s.visible(r, c.who) {
		return nil, noRecord()
	}
	return result(http.StatusOK, s.render(r, c.view(r.class))), nil
}

func (s *Server) create(c *call, name string) (*reply, error) {
	body, err := readRecord(c.r)
	if err != nil {
		return nil, err
	}
	var rep *reply
	err = s.write(c, func(t *tx) error {
		in := s.readChange(s.db.defs[name], body, c.who, isTrue(c.params.Get("sysparm_input_display_value")), true)
		r, err := t.insert(name, in)
		if err != nil {
			return err
		}
		rep, err = s.stored(c, t, r, http.StatusCreated)
		rep.header.Set("Location", c.base+strings.TrimSuffix(c.r.URL.EscapedPath(), "/")+"/"+r.vals["sys_id"])
		return err
	})
	return rep, err
}

// stored commits early enough to show the record as it was stored, after all rules.
func (s *Server) stored(c *call, t *tx, r *row, status int) (*reply, error) {
	if err := t.commit(); err != nil {
		return result(status, nil), err
	}
	t.ops = nil
	return result(status, s.render(s.db.get(r.class, r.id()), c.view(r.class))), nil
}

func (s *Server) change(c *call, name, id string) (*reply, error) {
	body, err := readRecord(c.r)
	if err != nil {
		return nil, err
	}
	var rep *reply
	err = s.write(c, func(t *tx) error {
		old := t.get(name, id)
		if old == nil || !s.visible(old, c.who) {
			return noRecord()
		}
		if old.class == "sys_journal_field" {
			return aclRefusal("Update")
		}
		in := s.readChange(s.db.defs[old.class], body, c.who, isTrue(c.params.Get("sysparm_input_display_value")), false)
		r, err := t.update(old, in)
		if err != nil {
			return err
		}
		rep, err = s.stored(c, t, r, http.StatusOK)
		return err
	})
	return rep, err
}

func (s *Server) erase(c *call, name, id string) (*reply, error) {
	err := s.write(c, func(t *tx) error {
		r := t.get(name, id)
		if r == nil || !s.visible(r, c.who) {
			return noRecord()
		}
		if r.class == "sys_journal_field" || r.class == "sys_audit_delete" {
			return aclRefusal("Delete")
		}
		t.delete(r)
		return nil
	})
	return &reply{status: http.StatusNoContent}, err
}

func aclRefusal(what string) error {
	return &apiError{status: http.StatusForbidden, message: "Operation Failed", detail: "ACL Exception " + what + " Failed due to security constraints"}
}

// readRecord reads a request's record: an object, or the first of an array, or its XML form.
func readRecord(r *http.Request) (map[string]any, error) {
	data, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return map[string]any{}, nil // clients send nothing for a record without fields
	}
	if strings.Contains(r.Header.Get("Content-Type"), "xml") {
		return readXML(data)
	}
	v, err := readJSON(data)
	if err != nil {
		return nil, err
	}
	if list, ok := v.([]any); ok && len(list) > 0 {
		v = list[0]
	}
	record, ok := v.(map[string]any)
	if !ok {
		return nil, unreadable("The payload is not a JSON object")
	}
	return record, nil
}

func readBody(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, unreadable(err.Error())
	}
	if len(data) > maxBody {
		return nil, &apiError{status: http.StatusRequestEntityTooLarge, message: "Request body too large", detail: fmt.Sprintf("The limit is %d bytes", maxBody)}
	}
	return data, nil
}

// readJSON reads one value with numbers as written.
func readJSON(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, unreadable(err.Error())
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, unreadable("Unexpected text after the JSON value")
	}
	return v, nil
}

func unreadable(detail string) error {
	return &apiError{status: http.StatusBadRequest, message: "Exception while reading request", detail: detail}
}

// readXML takes the leaf elements of a document as columns, whatever they are wrapped in.
func readXML(data []byte) (map[string]any, error) {
	out := map[string]any{}
	dec := xml.NewDecoder(bytes.NewReader(data))
	leaf, text := "", ""
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, unreadable(err.Error())
		}
		switch token := token.(type) {
		case xml.StartElement:
			leaf, text = token.Name.Local, ""
		case xml.CharData:
			text += string(token)
		case xml.EndElement:
			if leaf == token.Name.Local {
				out[leaf] = text
			}
			leaf = ""
		}
	}
}

// serveTiny stores a long URL: POST {"url": ...} answers an address that ends in sysparm_tiny=<id>.
func (s *Server) serveTiny(c *call) (*reply, error) {
	if c.r.Method != http.MethodPost {
		return nil, badMethod(c.r)
	}
	body, err := readRecord(c.r)
	if err != nil {
		return nil, err
	}
	long, _ := body["url"].(string)
	if _, err := url.Parse(long); err != nil || long == "" {
		return nil, unreadable("url is missing or is no address")
	}
	id := newSysID()
	s.mu.Lock()
	s.tiny[id] = long
	s.mu.Unlock()
	page, _, _ := strings.Cut(long, "?")
	if !strings.HasSuffix(page, ".do") {
		page = page[strings.LastIndex(page, "/")+1:] + "_list.do"
	}
	return result(http.StatusOK, page+"?sysparm_tiny="+id), nil
}

// expandTiny puts a stored URL's parameters under the request's own.
func (s *Server) expandTiny(c *call) error {
	id := c.params.Get("sysparm_tiny")
	if id == "" {
		return nil
	}
	s.mu.RLock()
	long, ok := s.tiny[id]
	s.mu.RUnlock()
	if !ok {
		return noRecord()
	}
	_, query, _ := strings.Cut(long, "?")
	params, err := url.ParseQuery(query)
	if err != nil {
		return unreadable(err.Error())
	}
	for k, v := range c.params {
		if k != "sysparm_tiny" {
			params[k] = v
		}
	}
	c.params = params
	return nil
}

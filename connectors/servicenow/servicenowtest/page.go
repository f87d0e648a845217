package servicenowtest

import (
	_ "embed"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// pageData is what the page shows: the list, or one ticket.
type pageData struct {
	Tickets []Ticket
	Ticket  *Ticket
	Journal []pageEntry
	Rows    [][2]string
	Missing string
}

type pageEntry struct {
	Entry
	Public bool
}

// servePage shows the tickets to a person: the list at /, one at the address that the instance itself would use.
func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		writeHTML(w, http.StatusMethodNotAllowed, "Method not supported")
		return
	}
	data, status := s.pageData(r)
	h := w.Header()
	h.Set("Content-Type", "text/html;charset=UTF-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = pageTemplate.Execute(w, data) // a client that has left is no error of ours
}

func (s *Server) pageData(r *http.Request) (pageData, int) {
	id := r.URL.Query().Get("sys_id")
	if uri := r.URL.Query().Get("uri"); uri != "" {
		_, query, _ := strings.Cut(uri, "?")
		values, _ := url.ParseQuery(query) // a broken address finds no ticket below
		id = values.Get("sys_id")
	}
	if r.URL.Path == "/" || id == "" {
		tickets := s.Tickets()
		slices.Reverse(tickets)
		return pageData{Tickets: tickets}, http.StatusOK
	}
	t, err := s.Ticket(id)
	if err != nil {
		return pageData{Missing: id}, http.StatusNotFound
	}
	return s.ticketPage(t), http.StatusOK
}

func (s *Server) ticketPage(t Ticket) pageData {
	data := pageData{Ticket: &t}
	for _, e := range t.Comments {
		data.Journal = append(data.Journal, pageEntry{e, true})
	}
	for _, e := range t.WorkNotes {
		data.Journal = append(data.Journal, pageEntry{e, false})
	}
	slices.SortStableFunc(data.Journal, func(a, b pageEntry) int { return strings.Compare(b.CreatedOn, a.CreatedOn) })
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.db.get("incident", t.SysID)
	who := s.person(s.cfg.Agent)
	for _, name := range []string{
		"state", "hold_reason", "priority", "impact", "urgency", "category", "caller_id", "assignment_group", "assigned_to",
		"correlation_id", "correlation_display", "opened_at", "resolved_at", "close_code", "close_notes", "sys_updated_on", "sys_updated_by",
	} {
		if r == nil || r.vals[name] == "" {
			continue
		}
		data.Rows = append(data.Rows, [2]string{columnLabel(name), s.displayValue(r, s.db.defs["incident"].columns[name], r.vals[name], who)})
	}
	return data
}

package servicenowtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Ticket is an incident with its journal, as the control door shows it.
type Ticket struct {
	SysID            string            `json:"sys_id"`
	Number           string            `json:"number"`
	State            string            `json:"state"`
	StateLabel       string            `json:"state_label"`
	HoldReason       string            `json:"hold_reason"`
	ShortDescription string            `json:"short_description"`
	Description      string            `json:"description"`
	Priority         string            `json:"priority"`
	CorrelationID    string            `json:"correlation_id"`
	SysModCount      string            `json:"sys_mod_count"`
	SysUpdatedOn     string            `json:"sys_updated_on"`
	SysUpdatedBy     string            `json:"sys_updated_by"`
	URL              string            `json:"url"`
	Comments         []Entry           `json:"comments"`
	WorkNotes        []Entry           `json:"work_notes"`
	Attachments      []string          `json:"attachments"` // file names
	Fields           map[string]string `json:"fields"`      // every column, as stored
}

// Entry is one journal entry.
type Entry struct {
	SysID     string `json:"sys_id"`
	Value     string `json:"value"`
	CreatedOn string `json:"sys_created_on"`
	CreatedBy string `json:"sys_created_by"`
}

// Move is what an agent does to a ticket through the control door; every part may be left out.
type Move struct {
	State      string            `json:"state,omitempty"`       // code or label: "2", "In Progress"
	HoldReason string            `json:"hold_reason,omitempty"` // code or label
	Comment    string            `json:"comment,omitempty"`     // seen by the caller
	Note       string            `json:"note,omitempty"`        // work note
	Priority   string            `json:"priority,omitempty"`    // code or label; sets impact and urgency to match
	Title      string            `json:"title,omitempty"`       // short_description
	Fields     map[string]string `json:"fields,omitempty"`      // any other columns
	User       string            `json:"user,omitempty"`        // login to act as; default Config.Agent
}

// ErrNoTicket is returned for an id that is neither a sys_id nor a number of an incident.
var ErrNoTicket = errors.New("no such ticket")

// errBadMove marks a move that names something unknown.
var errBadMove = errors.New("bad request")

// Tickets are all incidents in the order of their insertion.
func (s *Server) Tickets() []Ticket { return s.tickets(s.pageBase()) }

func (s *Server) pageBase() string { return strings.TrimSuffix(firstOf(s.cfg.BaseURL, s.URL), "/") }

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (s *Server) tickets(base string) []Ticket {
	s.mu.RLock()
	defer s.mu.RUnlock()
	files := map[string][]string{}
	for _, a := range s.db.all("sys_attachment") {
		files[a.vals["table_sys_id"]] = append(files[a.vals["table_sys_id"]], a.vals["file_name"])
	}
	out := []Ticket{}
	for _, r := range s.db.all("incident") {
		out = append(out, s.ticket(r, base, files[r.id()]))
	}
	return out
}

// Ticket finds one incident by sys_id or number. Its error is ErrNoTicket.
func (s *Server) Ticket(id string) (Ticket, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.lookUp(id)
	if r == nil {
		return Ticket{}, fmt.Errorf("%q: %w", id, ErrNoTicket)
	}
	return s.ticket(r, s.pageBase(), s.attached(r.id())), nil
}

func (s *Server) attached(id string) []string {
	var names []string
	for _, a := range s.db.all("sys_attachment") {
		if a.vals["table_sys_id"] == id {
			names = append(names, a.vals["file_name"])
		}
	}
	return names
}

func (s *Server) lookUp(id string) *row {
	if r := s.db.get("incident", id); r != nil {
		return r
	}
	return s.db.find("incident", "number", id)
}

func (s *Server) ticket(r *row, base string, files []string) Ticket {
	v := r.vals
	t := Ticket{
		SysID: r.id(), Number: v["number"], State: v["state"], StateLabel: s.choiceLabel("state", v["state"]), HoldReason: v["hold_reason"],
		ShortDescription: v["short_description"], Description: v["description"], Priority: v["priority"], CorrelationID: v["correlation_id"],
		SysModCount: v["sys_mod_count"], SysUpdatedOn: v["sys_updated_on"], SysUpdatedBy: v["sys_updated_by"],
		URL:      base + "/nav_to.do?uri=" + url.QueryEscape("incident.do?sys_id="+r.id()),
		Comments: []Entry{}, WorkNotes: []Entry{}, Attachments: append([]string{}, files...), Fields: maps.Clone(v),
	}
	for _, e := range s.db.entries(r.id(), "comments", "work_notes") {
		entry := Entry{e.id(), e.vals["value"], e.vals["sys_created_on"], e.vals["sys_created_by"]}
		if e.vals["element"] == "comments" {
			t.Comments = append(t.Comments, entry)
		} else {
			t.WorkNotes = append(t.WorkNotes, entry)
		}
	}
	return t
}

// Act moves a ticket as the vendor's agent. Its error is ErrNoTicket, names what the move lacks, or is a business
// rule's refusal.
func (s *Server) Act(id string, m Move) (Ticket, error) { return s.act(id, m, s.pageBase()) }

// Open makes a ticket as the vendor's agent, as one born at the vendor.
func (s *Server) Open(m Move) (Ticket, error) { return s.act("", m, s.pageBase()) }

func (s *Server) act(id string, m Move, base string) (Ticket, error) {
	var out Ticket
	c := &call{}
	s.mu.RLock()
	c.who = s.person(firstOf(m.User, s.cfg.Agent))
	s.mu.RUnlock()
	if c.who.id == "" {
		return out, fmt.Errorf("%w: user %q is unknown: give the login of a row of sys_user, e.g. %s", errBadMove, c.who.login, DefaultAgent)
	}
	err := s.write(c, func(t *tx) error {
		in, err := s.readMove(m)
		if err != nil {
			return err
		}
		var r *row
		if id == "" {
			fillIn(in, t.blank("incident"))
			r, err = t.insert("incident", in)
		} else if old := s.lookUp(id); old == nil {
			return fmt.Errorf("%q: %w", id, ErrNoTicket)
		} else {
			fillIn(in, old)
			r, err = t.update(old, in)
		}
		if err != nil {
			return err
		}
		if err := t.commit(); err != nil {
			return err
		}
		t.ops = nil
		out = s.ticket(s.db.get("incident", r.id()), base, s.attached(r.id()))
		return nil
	})
	return out, err
}

// readMove turns an agent's words into a change.
func (s *Server) readMove(m Move) (change, error) {
	in := change{fields: map[string]string{}}
	def := s.db.defs["incident"]
	for name, v := range m.Fields {
		col := def.column(name)
		if col == nil || col.system() || col.computed || col.kind == kindJournal {
			return in, fmt.Errorf("%w: fields: %q is no column of incident that can be set", errBadMove, name)
		}
		if col.choice && v != "" {
			code, err := s.word(name, v)
			if err != nil {
				return in, err
			}
			v = code
		}
		stored, ok := s.coerce(col, v, actor{zone: s.cfg.Zone}, false)
		if !ok {
			return in, fmt.Errorf("%w: fields: %s cannot be %q", errBadMove, name, v)
		}
		in.fields[name] = stored
	}
	for element, v := range map[string]string{"state": m.State, "hold_reason": m.HoldReason} {
		if v != "" {
			code, err := s.word(element, v)
			if err != nil {
				return in, err
			}
			in.fields[element] = code
		}
	}
	if m.Title != "" {
		in.fields["short_description"] = cut(m.Title, def.column("short_description").max)
	}
	if err := s.movePriority(m.Priority, in); err != nil {
		return in, err
	}
	for _, j := range []journalText{{"comments", m.Comment}, {"work_notes", m.Note}} {
		if j.text != "" {
			in.journals = append(in.journals, j)
		}
	}
	return in, nil
}

// word finds the code behind a code or label. Customer columns without choices take any text.
func (s *Server) word(element, text string) (string, error) {
	var known []string
	for _, r := range s.db.all("sys_choice") {
		v := r.vals
		if v["element"] != element || v["inactive"] == "true" {
			continue
		}
		_, bare, _ := strings.Cut(v["label"], " - ")
		if text == v["value"] || strings.EqualFold(text, v["label"]) || bare != "" && strings.EqualFold(text, bare) {
			return v["value"], nil
		}
		if v["language"] == "en" {
			known = append(known, v["value"]+" "+v["label"])
		}
	}
	if len(known) == 0 || element == "close_code" {
		return text, nil
	}
	return "", fmt.Errorf("%w: %s %q is unknown: use one of %s, by code or by label", errBadMove, element, text, strings.Join(known, ", "))
}

// movePriority sets the impact and urgency that make a priority, since priority itself is looked up.
func (s *Server) movePriority(text string, in change) error {
	if text == "" {
		return nil
	}
	code, err := s.word("priority", text)
	if err != nil {
		return err
	}
	pair, ok := map[string][2]string{"1": {"1", "1"}, "2": {"1", "2"}, "3": {"2", "2"}, "4": {"2", "3"}, "5": {"3", "3"}}[code]
	if !ok {
		return fmt.Errorf("%w: priority %q: no impact and urgency make it", errBadMove, text)
	}
	in.fields["impact"], in.fields["urgency"] = pair[0], pair[1]
	return nil
}

// fillIn adds what the vendor's form would ask the agent for.
func fillIn(in change, old *row) {
	missing := func(col string) bool { return in.fields[col] == "" && old.vals[col] == "" }
	if isOneOf(in.fields["state"], stateResolved+stateClosed) {
		if missing("close_code") {
			in.fields["close_code"] = "Solution provided"
		}
		if missing("close_notes") {
			in.fields["close_notes"] = firstOf(firstOf(in.text("comments"), in.text("work_notes")), "Resolved by the service desk.")
		}
	}
	if in.fields["state"] == stateOnHold && missing("hold_reason") {
		in.fields["hold_reason"] = holdCaller
	}
}

// serveControl answers the control door. It asks for no sign-in, so it serves this machine alone, and no web page of
// another origin.
func (s *Server) serveControl(w http.ResponseWriter, r *http.Request) {
	if !fromHere(r) {
		controlError(w, http.StatusForbidden, errors.New("the control door serves this machine only"))
		return
	}
	parts := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.Path, "/_sim/"), "/"), "/")
	out, err := s.control(r, parts)
	switch {
	case errors.Is(err, ErrNoTicket), errors.Is(err, errNoDoor):
		controlError(w, http.StatusNotFound, err)
	case errors.Is(err, errBadVerb):
		controlError(w, http.StatusMethodNotAllowed, err)
	case isRefusal(err):
		controlError(w, http.StatusConflict, err)
	case err != nil:
		controlError(w, http.StatusBadRequest, err)
	default:
		controlJSON(w, http.StatusOK, out)
	}
}

var (
	errNoDoor  = errors.New("no such address: try /_sim/tickets, /_sim/faults, /_sim/switches, /_sim/webhook or /_sim/calls")
	errBadVerb = errors.New("method not supported here")
)

func isRefusal(err error) bool {
	var refused *apiError
	return errors.As(err, &refused)
}

func fromHere(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); err == nil && (ip == nil || !ip.IsLoopback()) {
		return false
	}
	origin := r.Header.Get("Origin")
	return origin == "" || origin == "http://"+r.Host || origin == "https://"+r.Host
}

func controlJSON(w http.ResponseWriter, status int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // plain structs cannot fail
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a client that has left is no error of ours
}

func controlError(w http.ResponseWriter, status int, err error) {
	controlJSON(w, status, map[string]string{"error": err.Error()})
}

func (s *Server) control(r *http.Request, parts []string) (any, error) {
	verb := parts[0] + " " + r.Method
	switch {
	case parts[0] == "tickets":
		return s.controlTickets(r, parts[1:])
	case len(parts) > 1:
		return nil, errNoDoor
	case verb == "faults GET":
		return s.Faults(), nil
	case verb == "faults POST":
		return s.controlFaults(r)
	case verb == "faults DELETE":
		return s.Faults(), s.SetFaults(Faults{})
	case verb == "switches GET":
		return s.Switches(), nil
	case verb == "switches POST":
		var next Switches
		if err := readControl(r, &next); err != nil {
			return nil, err
		}
		err := s.Reconfigure(func(sw *Switches) { *sw = next })
		return s.Switches(), err
	case verb == "webhook POST":
		var hook Webhook
		if err := readControl(r, &hook); err != nil {
			return nil, err
		}
		return map[string]string{"url": hook.URL}, s.SetWebhook(hook)
	case verb == "calls GET":
		return s.Calls(), nil
	case verb == "calls DELETE":
		s.ForgetCalls()
		return []Call{}, nil
	case slices.Contains([]string{"faults", "switches", "webhook", "calls"}, parts[0]):
		return nil, errBadVerb
	}
	return nil, errNoDoor
}

func (s *Server) controlTickets(r *http.Request, parts []string) (any, error) {
	base := s.base(r)
	if len(parts) > 1 {
		return nil, errNoDoor
	}
	if r.Method == http.MethodGet {
		if len(parts) == 0 {
			return s.tickets(base), nil
		}
		t, err := s.Ticket(parts[0])
		t.URL = base + strings.TrimPrefix(t.URL, s.pageBase())
		return t, err
	}
	if r.Method != http.MethodPost {
		return nil, errBadVerb
	}
	var m Move
	if err := readControl(r, &m); err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		if m.Title == "" {
			return nil, fmt.Errorf(`%w: title is missing: give the new ticket's short description, e.g. {"title": "No network"}`, errBadMove)
		}
		return s.act("", m, base)
	}
	return s.act(parts[0], m, base)
}

// controlFaults takes {"rules": [...]}, a list of rules, or one rule that is added to those in force.
func (s *Server) controlFaults(r *http.Request) (any, error) {
	var raw json.RawMessage
	if err := readControl(r, &raw); err != nil {
		return nil, err
	}
	var next Faults
	var kind struct {
		Kind *string `json:"kind"`
	}
	switch {
	case raw[0] == '[':
		if err := strictDecode(raw, &next.Rules); err != nil {
			return nil, err
		}
	case json.Unmarshal(raw, &kind) == nil && kind.Kind != nil:
		var one Fault
		if err := strictDecode(raw, &one); err != nil {
			return nil, err
		}
		err := s.AddFault(one)
		return s.Faults(), err
	default:
		if err := strictDecode(raw, &next); err != nil {
			return nil, err
		}
	}
	err := s.SetFaults(next)
	return s.Faults(), err
}

// readControl reads one JSON value into v and refuses unknown names.
func readControl(r *http.Request, v any) error {
	data, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return fmt.Errorf("%w: reading the body: %w", errBadMove, err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return fmt.Errorf(`%w: the body is empty: send JSON, e.g. {"state": "In Progress"}`, errBadMove)
	}
	return strictDecode(bytes.TrimSpace(data), v)
}

// strictDecode reads one JSON value and refuses unknown names and text after it.
func strictDecode(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", errBadMove, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: text after the JSON value", errBadMove)
	}
	return nil
}

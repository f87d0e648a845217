package servicenow

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"liaison/connectors"
)

// ticketColumns are read with every ticket.
var ticketColumns = []string{"sys_id", "number", "correlation_id", "sys_mod_count", "sys_updated_on", "sys_created_on"}

// sysID is what an id of a row looks like: 32 characters, usually lower-case hex.
var sysID = regexp.MustCompile(`^[0-9A-Za-z_-]{1,32}$`)

func isJournal(column string) bool {
	return column == "comments" || column == "work_notes" || column == "comments_and_work_notes"
}

// checkID keeps an id from becoming another path or another query.
func checkID(op string, id connectors.ExternalID) error {
	if !sysID.MatchString(string(id)) {
		return refuse(op, "ticket id %q is no sys_id", id)
	}
	return nil
}

// Create opens a ticket with the draft's fields over those of the settings.
func (c *Connector) Create(ctx context.Context, d connectors.Draft) (connectors.Ticket, error) {
	const op = "servicenow.Create"
	if d.CorrelationID == "" {
		return connectors.Ticket{}, refuse(op, "the draft has no correlation id")
	}
	body := maps.Clone(c.set.onCreate)
	maps.Copy(body, d.Fields)
	if err := checkWritable(op, body); err != nil {
		return connectors.Ticket{}, err
	}
	wanted := slices.Collect(maps.Keys(body))
	body["correlation_id"], body["correlation_display"] = d.CorrelationID, c.set.correlationDisplay
	rec, _, err := c.row(ctx, op, http.MethodPost, "", body, columns(wanted, "sys_created_by"))
	if err != nil {
		return connectors.Ticket{}, err
	}
	c.learnLogin(rec.get("sys_created_by"))
	return c.ticket(rec, wanted), nil
}

// checkWritable refuses names that the vendor would drop without a word, and journals, to which every write appends.
func checkWritable(op string, f connectors.Fields) error {
	for _, name := range slices.Sorted(maps.Keys(f)) {
		switch {
		case isJournal(name):
			return refuse(op, "%s is a journal: a message is said, not written as a field", name)
		case !isColumn(name), strings.HasPrefix(name, "sys_"), name == "correlation_id", name == "correlation_display":
			return refuse(op, "%q is no column that can be written", name)
		}
	}
	return nil
}

// columns joins what is read with every ticket and what is wanted beside it.
func columns(wanted []string, more ...string) []string {
	all := slices.Concat(ticketColumns, wanted, more)
	slices.Sort(all)
	return slices.Compact(all)
}

// ticket makes a Ticket of a row. Of the wanted columns those are missing that the vendor did not show.
func (c *Connector) ticket(rec record, wanted []string) connectors.Ticket {
	t := connectors.Ticket{
		ID: connectors.ExternalID(rec.get("sys_id")), Number: rec.get("number"), Version: version(rec),
		CorrelationID: rec.get("correlation_id"), Fields: connectors.Fields{},
	}
	t.URL = c.ticketURL(t.ID)
	t.UpdatedAt, _ = rec.at("sys_updated_on")
	for _, name := range wanted {
		if v, shown := rec[name]; shown {
			t.Fields[name] = string(v)
		}
	}
	if _, shown := rec["correlation_id"]; shown {
		c.mu.Lock()
		c.sawLink = true
		c.mu.Unlock()
	}
	return t
}

// version changes with every real update: the vendor counts them. The stamp stands beside it for accounts that may
// not read the count.
func version(rec record) string {
	count, stamp := rec.get("sys_mod_count"), rec.get("sys_updated_on")
	if count == "" && stamp == "" {
		return ""
	}
	return count + "@" + stamp
}

// ticketURL is where a person opens the ticket. The address inside the address is escaped twice.
func (c *Connector) ticketURL(id connectors.ExternalID) string {
	form := c.set.table + ".do?sys_id=" + url.QueryEscape(string(id))
	return c.base + "/nav_to.do?uri=" + url.QueryEscape(form)
}

// maxTwins bounds how many tickets with one correlation id are told: two is already one too many.
const maxTwins = 100

// FindByCorrelation returns the tickets whose correlation_id is the given one, oldest first. Nothing found is only
// believed when the account is known to see that column: an instance drops conditions on hidden columns, or answers
// them with no rows.
func (c *Connector) FindByCorrelation(ctx context.Context, correlationID string) ([]connectors.Ticket, error) {
	const op = "servicenow.FindByCorrelation"
	condition, err := where("correlation_id", "=", correlationID)
	if err != nil || correlationID == "" {
		return nil, refuse(op, "correlation id %q cannot be searched for", correlationID)
	}
	found, err := c.list(ctx, op, listing{
		table: c.set.table, query: query{condition, "ORDERBYsys_created_on", "ORDERBYsys_id"}, fields: ticketColumns, limit: maxTwins,
	})
	if err != nil {
		return nil, err
	}
	var tickets []connectors.Ticket
	for _, rec := range found.records {
		switch got, shown := rec["correlation_id"]; {
		case !shown, !strings.EqualFold(string(got), correlationID):
			return nil, hidden(op, c.set.table, "correlation_id")
		case string(got) == correlationID:
			tickets = append(tickets, c.ticket(rec, nil))
		}
	}
	if len(found.records) == 0 {
		return nil, c.checkCorrelationSeen(ctx, op)
	}
	return tickets, nil
}

func (c *Connector) checkCorrelationSeen(ctx context.Context, op string) error {
	c.mu.Lock()
	seen := c.sawLink
	c.mu.Unlock()
	if seen {
		return nil
	}
	newest, err := c.list(ctx, op, listing{table: c.set.table, fields: ticketColumns, limit: 1})
	if err != nil || len(newest.records) == 0 {
		return err
	}
	if _, shown := newest.records[0]["correlation_id"]; !shown {
		return hidden(op, c.set.table, "correlation_id")
	}
	c.mu.Lock()
	c.sawLink = true
	c.mu.Unlock()
	return nil
}

// Read returns the ticket. The vendor says 404 for absent and hidden alike; a row in sys_audit_delete, where auditing is
// on and the account may read it, tells that it was deleted.
func (c *Connector) Read(ctx context.Context, id connectors.ExternalID, fields []string) (connectors.Ticket, error) {
	const op = "servicenow.Read"
	if err := checkID(op, id); err != nil {
		return connectors.Ticket{}, err
	}
	for _, name := range fields {
		if !isPath(name) {
			return connectors.Ticket{}, refuse(op, "%q is no column", name)
		}
	}
	rec, _, err := c.row(ctx, op, http.MethodGet, id, nil, columns(fields))
	if err == nil {
		return c.ticket(rec, fields), nil
	}
	if connectors.KindOf(err) != connectors.NotFound {
		return connectors.Ticket{}, err
	}
	deleted, auditErr := c.wasDeleted(ctx, op, id)
	if auditErr != nil {
		return connectors.Ticket{}, auditErr
	}
	if !deleted {
		return connectors.Ticket{}, err
	}
	return connectors.Ticket{ID: id, Gone: connectors.Deleted, Fields: connectors.Fields{}}, nil
}

func (c *Connector) wasDeleted(ctx context.Context, op string, id connectors.ExternalID) (bool, error) {
	q := query{"tablename=" + c.set.table, "documentkey=" + string(id)}
	audit, err := c.list(ctx, op, listing{table: "sys_audit_delete", query: q, fields: []string{"tablename", "documentkey"}, limit: 10})
	switch k := connectors.KindOf(err); {
	case err == nil:
	case k == connectors.Transient, k == connectors.RateLimited:
		return false, err // an honest "not known now" is better than a hasty "not found"
	default:
		return false, nil
	}
	return slices.ContainsFunc(audit.records, func(r record) bool {
		return strings.EqualFold(r.get("documentkey"), string(id)) && r.get("tablename") == c.set.table
	}), nil
}

// Update writes the fields in one PATCH. The answer is the row after all of the vendor's rules: what they overruled
// shows there and nowhere else.
func (c *Connector) Update(ctx context.Context, id connectors.ExternalID, f connectors.Fields) (connectors.Ticket, error) {
	const op = "servicenow.Update"
	if err := checkID(op, id); err != nil {
		return connectors.Ticket{}, err
	}
	if err := checkWritable(op, f); err != nil {
		return connectors.Ticket{}, err
	}
	wanted := slices.Collect(maps.Keys(f))
	if len(f) == 0 {
		return c.Read(ctx, id, nil)
	}
	rec, _, err := c.row(ctx, op, http.MethodPatch, id, f, columns(wanted))
	if err != nil {
		return connectors.Ticket{}, err
	}
	return c.ticket(rec, wanted), nil
}

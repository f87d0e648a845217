package servicenow

import (
	"context"
	"strings"

	"liaison/connectors"
)

var _ connectors.BatchReader = (*Connector)(nil)

// mostAtOnce keeps the query, 33 characters a ticket, well below the 8 KiB that gateways let a request line have.
const mostAtOnce = 100

// MostAtOnce is how many tickets one ReadMany may name.
func (c *Connector) MostAtOnce() int { return mostAtOnce }

// ReadMany reads tickets by one query for their ids. An instance that drops the condition answers with other rows, which are
// left out; the tickets then count as missing.
func (c *Connector) ReadMany(ctx context.Context, ids []connectors.ExternalID, fields []string) ([]connectors.Ticket, error) {
	const op = "servicenow.ReadMany"
	switch {
	case len(ids) == 0:
		return nil, nil
	case len(ids) > mostAtOnce:
		return nil, refuse(op, "%d tickets at once are more than %d", len(ids), mostAtOnce)
	}
	asked, names := map[string]bool{}, make([]string, 0, len(ids))
	for _, id := range ids {
		if err := checkID(op, id); err != nil {
			return nil, err
		}
		asked[strings.ToLower(string(id))] = true
		names = append(names, string(id))
	}
	for _, name := range fields {
		if !isPath(name) {
			return nil, refuse(op, "%q is no column", name)
		}
	}
	found, err := c.list(ctx, op, listing{table: c.set.table, query: query{"sys_idIN" + strings.Join(names, ",")}, fields: columns(fields), limit: mostAtOnce})
	if err != nil {
		return nil, err
	}
	out := make([]connectors.Ticket, 0, len(found.records))
	for _, rec := range found.records {
		if t := c.ticket(rec, fields); asked[strings.ToLower(string(t.ID))] {
			delete(asked, strings.ToLower(string(t.ID)))
			out = append(out, t)
		}
	}
	return out, nil
}

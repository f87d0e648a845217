package servicenow

import (
	"context"
	"strconv"
	"strings"

	"liaison/connectors"
)

// Attachments returns what the vendor says about the ticket's files.
func (c *Connector) Attachments(ctx context.Context, id connectors.ExternalID) ([]connectors.Attachment, error) {
	const op = "servicenow.Attachments"
	if err := checkID(op, id); err != nil {
		return nil, err
	}
	login, err := c.ownLogin(ctx, op)
	if err != nil {
		return nil, err
	}
	q := query{"table_name=" + c.set.table, "table_sys_id=" + string(id), "ORDERBYsys_created_on", "ORDERBYsys_id"}
	files, known := []connectors.Attachment{}, map[string]bool{}
	for offset := 0; ; offset += c.set.pageSize {
		found, err := c.list(ctx, op, listing{path: "/api/now/attachment", query: q, limit: c.set.pageSize, offset: offset})
		if err != nil {
			return nil, err
		}
		for _, rec := range found.records {
			file := readAttachment(rec)
			if !strings.EqualFold(rec.get("table_sys_id"), string(id)) {
				return nil, hidden(op, "sys_attachment", "table_sys_id")
			}
			if !known[file.ID] { // an offset may repeat a row
				known[file.ID] = true
				file.Own = isLogin(login, file.Author)
				files = append(files, file)
			}
		}
		if !found.more {
			return files, nil
		}
	}
}

func readAttachment(rec record) connectors.Attachment {
	a := connectors.Attachment{
		ID: rec.get("sys_id"), Name: rec.get("file_name"), ContentType: rec.get("content_type"), Size: -1,
		SHA256: strings.ToLower(rec.get("hash")), Author: rec.get("sys_created_by"),
	}
	if n, err := strconv.ParseInt(rec.get("size_bytes"), 10, 64); err == nil && n >= 0 {
		a.Size = n
	}
	a.At, _ = rec.at("sys_created_on")
	return a
}

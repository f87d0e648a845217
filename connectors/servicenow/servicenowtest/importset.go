package servicenowtest

import (
	"errors"
	"net/http"
	"slices"
)

// importResult is one line of an Import Set answer.
type importResult map[string]any

// serveImport answers the Import Set API: a staging row is transformed into an incident at once.
func (s *Server) serveImport(c *call) (*reply, error) {
	if len(c.path) == 0 {
		return nil, noResource(c.r)
	}
	at := slices.IndexFunc(s.cfg.ImportSets, func(i ImportSet) bool { return i.Name == c.path[0] })
	if at < 0 {
		return nil, badTable(c.path[0])
	}
	set := s.cfg.ImportSets[at]
	switch {
	case len(c.path) == 1 && c.r.Method == http.MethodPost:
		return s.importOne(c, set)
	case len(c.path) == 2 && c.path[1] == "insertMultiple" && c.r.Method == http.MethodPost:
		return s.importMany(c, set)
	case len(c.path) == 2 && (c.r.Method == http.MethodGet || c.r.Method == http.MethodHead):
		s.mu.RLock()
		defer s.mu.RUnlock()
		results, ok := s.set[c.path[1]]
		if !ok {
			return nil, noRecord()
		}
		return &reply{status: http.StatusOK, body: importBody(set, c.path[1], results)}, nil
	}
	return nil, badMethod(c.r)
}

func importBody(set ImportSet, id string, results []importResult) map[string]any {
	lines := make([]any, len(results))
	for i, r := range results {
		lines[i] = map[string]any(r)
	}
	return map[string]any{"import_set": "ISET" + id[:7], "staging_table": set.Name, "result": lines}
}

func (s *Server) importOne(c *call, set ImportSet) (*reply, error) {
	body, err := readRecord(c.r)
	if err != nil {
		return nil, err
	}
	line, err := s.transform(c, set, body)
	if err != nil {
		return nil, err
	}
	id := s.keepImport([]importResult{line})
	return &reply{status: http.StatusCreated, body: importBody(set, id, []importResult{line})}, nil
}

// importMany takes {"records": [...]} and answers with the id of the import set, as the asynchronous form does.
func (s *Server) importMany(c *call, set ImportSet) (*reply, error) {
	body, err := readRecord(c.r)
	if err != nil {
		return nil, err
	}
	records, ok := body["records"].([]any)
	if !ok {
		return nil, unreadable("records is missing or is no list")
	}
	var lines []importResult
	for _, rec := range records {
		fields, ok := rec.(map[string]any)
		if !ok {
			return nil, unreadable("records holds something that is no object")
		}
		line, err := s.transform(c, set, fields)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	id := s.keepImport(lines)
	return &reply{status: http.StatusCreated, body: map[string]any{"import_set_id": id, "multi_import_set_id": newSysID()}}, nil
}

func (s *Server) keepImport(lines []importResult) string {
	id := newSysID()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set[id] = lines
	return id
}

// transform makes or updates one incident. A refusal by a rule is status error inside a success, as on the platform.
func (s *Server) transform(c *call, set ImportSet, body map[string]any) (importResult, error) {
	line := importResult{"transform_map": "Incident import", "table": "incident"}
	err := s.write(c, func(t *tx) error {
		def := s.db.defs["incident"]
		in := s.readChange(def, body, c.who, false, true)
		key := in.fields[set.Coalesce]
		var old *row
		if set.Coalesce != "" && key != "" {
			old = s.db.find("incident", set.Coalesce, key)
		}
		var r *row
		var err error
		status := "inserted"
		if old == nil {
			r, err = t.insert("incident", in)
		} else {
			delete(in.fields, "sys_id")
			delete(in.fields, "number")
			r, err = t.update(old, in)
			status = "updated"
			if err == nil && r == old {
				status = "ignored"
			}
		}
		if err != nil {
			return err
		}
		line["status"], line["sys_id"] = status, r.id()
		line["display_name"], line["display_value"] = "number", r.vals["number"]
		line["record_link"] = c.base + "/api/now/table/incident/" + r.id()
		return nil
	})
	var refused *apiError
	if errors.As(err, &refused) && refused.status == http.StatusForbidden {
		line["status"], line["error_message"] = "error", refused.Error()
		return line, nil
	}
	return line, err
}

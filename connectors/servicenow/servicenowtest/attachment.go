package servicenowtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// attributesColumn keeps an attachment's key-value extras as JSON; it is no column of the table and never shown.
const attributesColumn = "attributes"

// serveAttachment answers the Attachment API.
func (s *Server) serveAttachment(c *call) (*reply, error) {
	get := c.r.Method == http.MethodGet || c.r.Method == http.MethodHead
	switch {
	case len(c.path) == 0 && get:
		return s.listAttachments(c)
	case len(c.path) == 1 && c.path[0] == "file" && c.r.Method == http.MethodPost:
		return s.uploadFile(c)
	case len(c.path) == 1 && c.path[0] == "upload" && c.r.Method == http.MethodPost:
		return s.uploadForm(c)
	case len(c.path) == 1:
		return s.oneAttachment(c, get)
	case len(c.path) == 2 && c.path[1] == "file" && get:
		return s.download(c)
	case len(c.path) >= 2 && len(c.path) <= 3 && c.path[1] == "attributes":
		return s.attributes(c)
	case len(c.path) == 0 || len(c.path) == 2 && c.path[1] == "file":
		return nil, badMethod(c.r)
	}
	return nil, noResource(c.r)
}

func (s *Server) listAttachments(c *call) (*reply, error) {
	p, err := c.page(1000)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	rows, err := s.query(c, "sys_attachment")
	if err != nil {
		return nil, err
	}
	shown := p.of(rows)
	out := make([]any, 0, len(shown))
	for _, r := range shown {
		out = append(out, s.metadata(c, r))
	}
	rep := result(http.StatusOK, out)
	s.pageHeaders(c, rep.header, p)
	return rep, nil
}

// metadata shows an attachment as the Attachment API does: strings only, with its address.
func (s *Server) metadata(c *call, r *row) record {
	out := s.render(r, view{mode: "false", noLinks: true, base: c.base, who: c.who})
	out.set("download_link", c.base+"/api/now/attachment/"+r.id()+"/file")
	out.set("state", s.scanState(r))
	return out
}

// scanState is pending until the virus scan is over.
func (s *Server) scanState(r *row) string {
	if s.cfg.ScanDelay > 0 && s.cfg.Now().Before(r.born.Add(s.cfg.ScanDelay)) {
		return "pending"
	}
	return r.vals["state"]
}

func (s *Server) oneAttachment(c *call, get bool) (*reply, error) {
	switch {
	case get:
		s.mu.RLock()
		defer s.mu.RUnlock()
		r := s.db.get("sys_attachment", c.path[0])
		if r == nil {
			return nil, noRecord()
		}
		return result(http.StatusOK, s.metadata(c, r)), nil
	case c.r.Method == http.MethodPatch || c.r.Method == http.MethodPut:
		return s.rename(c)
	case c.r.Method == http.MethodDelete:
		return s.erase(c, "sys_attachment", c.path[0])
	}
	return nil, badMethod(c.r)
}

func (s *Server) rename(c *call) (*reply, error) {
	body, err := readRecord(c.r)
	if err != nil {
		return nil, err
	}
	var rep *reply
	err = s.write(c, func(t *tx) error {
		old := t.get("sys_attachment", c.path[0])
		if old == nil {
			return noRecord()
		}
		in := change{fields: map[string]string{}}
		if name, ok := body["file_name"].(string); ok && name != "" {
			in.fields["file_name"] = cut(name, 255)
		}
		r, err := t.update(old, in)
		if err != nil {
			return err
		}
		rep = result(http.StatusOK, s.metadata(c, r))
		return nil
	})
	return rep, err
}

// upload is a file on its way in.
type upload struct {
	table, id, name, contentType, created, context string
}

func (s *Server) uploadFile(c *call) (*reply, error) {
	u := upload{
		table: c.params.Get("table_name"), id: c.params.Get("table_sys_id"), name: c.params.Get("file_name"),
		contentType: c.r.Header.Get("Content-Type"), created: c.params.Get("creation_time"), context: c.params.Get("encryption_context"),
	}
	if u.contentType == "" {
		return nil, &apiError{status: http.StatusUnsupportedMediaType, message: "Content-Type header is missing", detail: "Send the file's media type"}
	}
	return s.attach(c, u, c.r.Body)
}

// uploadForm reads multipart form data whose last part is the file.
func (s *Server) uploadForm(c *call) (*reply, error) {
	parts, err := c.r.MultipartReader()
	if err != nil {
		return nil, unreadable(err.Error())
	}
	var u upload
	fields := map[string]*string{"table_name": &u.table, "table_sys_id": &u.id, "creation_time": &u.created, "encryption_context": &u.context}
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return nil, unreadable("The form has no file part")
		}
		if err != nil {
			return nil, unreadable(err.Error())
		}
		if part.FileName() == "" {
			if err := readField(part, fields[part.FormName()]); err != nil {
				return nil, err
			}
			continue
		}
		u.name, u.contentType = part.FileName(), part.Header.Get("Content-Type")
		setDefault(&u.contentType, "application/octet-stream")
		return s.attach(c, u, part)
	}
}

func readField(part *multipart.Part, into *string) error {
	text, err := io.ReadAll(io.LimitReader(part, 4096))
	if err != nil {
		return unreadable(err.Error())
	}
	if into != nil {
		*into = strings.TrimSpace(string(text))
	}
	return nil
}

// attach stores the bytes, then the record. A crash between them leaves bytes that nothing names, which does no harm.
func (s *Server) attach(c *call, u upload, body io.Reader) (*reply, error) {
	if err := s.checkUpload(u); err != nil {
		return nil, err
	}
	id := newSysID()
	info, err := s.files.save(id, body, s.cfg.MaxAttachment)
	if errors.Is(err, errTooLarge) {
		return nil, &apiError{
			status: http.StatusRequestEntityTooLarge, message: "Attachment too large",
			detail: fmt.Sprintf("The largest attachment allowed is %d bytes", s.cfg.MaxAttachment),
		}
	}
	if err != nil {
		return nil, unreadable(err.Error())
	}
	var rep *reply
	err = s.write(c, func(t *tx) error {
		if t.get(u.table, u.id) == nil {
			return noRecord()
		}
		r := t.attachment(id, u, info)
		t.put(r)
		rep = result(http.StatusCreated, s.metadata(c, r))
		rep.header.Set("Location", c.base+"/"+path.Join("api/now", c.version, "attachment", id, "file"))
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, s.files.remove(id))
	}
	return rep, nil
}

func (s *Server) checkUpload(u upload) error {
	if u.table == "" || u.id == "" || u.name == "" {
		return &apiError{status: http.StatusBadRequest, message: "Missing parameter", detail: "table_name, table_sys_id and file_name are mandatory"}
	}
	if s.db.defs[u.table] == nil {
		return badTable(u.table)
	}
	ext := strings.TrimPrefix(strings.ToLower(path.Ext(u.name)), ".")
	if allowed := s.cfg.AttachmentExtensions; len(allowed) > 0 && !slices.Contains(allowed, ext) {
		return &apiError{status: http.StatusForbidden, message: "Operation Failed", detail: "File type " + ext + " is not allowed"}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db.get(u.table, u.id) == nil {
		return noRecord()
	}
	return nil
}

func (t *tx) attachment(id string, u upload, info fileInfo) *row {
	r := t.blank("sys_attachment")
	size := strconv.FormatInt(info.size, 10)
	maps.Copy(r.vals, map[string]string{
		"sys_id": id, "file_name": cut(u.name, 255), "content_type": u.contentType,
		"table_name": u.table, "table_sys_id": strings.ToLower(u.id), "size_bytes": size, "size_compressed": size,
		"compressed": "true", "hash": info.hash, "state": "available", "chunk_size_bytes": "700000",
		"created_by_name": t.who.name, "updated_by_name": t.who.name, "encryption_context": u.context,
	})
	t.stampNew(r)
	if at, err := parseStamp(u.created, time.UTC); err == nil {
		r.vals["sys_created_on"] = at.Format(stampLayout)
	}
	return r
}

// download streams the bytes, with the metadata in a header.
func (s *Server) download(c *call) (*reply, error) {
	s.mu.RLock()
	r := s.db.get("sys_attachment", c.path[0])
	if r == nil {
		s.mu.RUnlock()
		return nil, noRecord()
	}
	meta, state := s.metadata(c, r), s.scanState(r)
	s.mu.RUnlock()
	if state != "available" {
		return nil, &apiError{status: http.StatusForbidden, message: "Attachment is not available", detail: "The virus scan of the attachment is pending"}
	}
	body, err := s.files.open(r.id())
	if err != nil {
		return nil, noRecord()
	}
	return &reply{stream: func(w http.ResponseWriter) {
		defer body.Close()
		text, _ := json.Marshal(meta) // a map of strings cannot fail
		h := w.Header()
		h.Set("X-Attachment-Metadata", asciiJSON(text))
		h.Set("Content-Type", r.vals["content_type"])
		h.Set("Content-Length", r.vals["size_bytes"])
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": r.vals["file_name"]}))
		w.WriteHeader(http.StatusOK)
		if c.r.Method != http.MethodHead {
			_, _ = io.Copy(w, body) // a client that has left is no error of ours
		}
	}}, nil
}

// asciiJSON writes characters beyond ASCII as escapes, so that JSON fits a header.
func asciiJSON(text []byte) string {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// attributes reads and writes an attachment's key-value extras.
func (s *Server) attributes(c *call) (*reply, error) {
	key := ""
	if len(c.path) == 3 {
		key, _ = url.PathUnescape(c.path[2])
	}
	var body map[string]any
	if c.r.Method == http.MethodPost || c.r.Method == http.MethodPut {
		var err error
		if body, err = readRecord(c.r); err != nil {
			return nil, err
		}
	}
	var rep *reply
	err := s.write(c, func(t *tx) error {
		r := t.get("sys_attachment", c.path[0])
		if r == nil {
			return noRecord()
		}
		values := map[string]any{}
		if stored := r.vals[attributesColumn]; stored != "" {
			_ = json.Unmarshal([]byte(stored), &values) // written by this function alone
		}
		var err error
		rep, err = editAttributes(c.r, values, key, body)
		if err == nil && c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
			text, _ := json.Marshal(values)
			t.put(r.with(map[string]string{attributesColumn: string(text)}))
		}
		return err
	})
	return rep, err
}

func editAttributes(r *http.Request, values map[string]any, key string, body map[string]any) (*reply, error) {
	_, known := values[key]
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if key == "" {
			return result(http.StatusOK, values), nil
		}
		if !known {
			return nil, noRecord()
		}
		return result(http.StatusOK, map[string]any{key: values[key]}), nil
	case http.MethodPost, http.MethodPut:
		for k, v := range body {
			if key == "" || k == key {
				values[k] = scalar(v, false)
			} else if k == "value" {
				values[key] = scalar(v, false)
			}
		}
		status := http.StatusOK
		if r.Method == http.MethodPost {
			status = http.StatusCreated
		}
		return result(status, values), nil
	case http.MethodDelete:
		if key == "" {
			clear(values)
		} else if !known {
			return nil, noRecord()
		}
		delete(values, key)
		return &reply{status: http.StatusNoContent}, nil
	}
	return nil, badMethod(r)
}

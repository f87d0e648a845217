package servicenowtest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxBatchItem is the largest body of one batch item in bytes.
const maxBatchItem = 5 << 20

type batchRequest struct {
	ID    json.RawMessage `json:"batch_request_id"`
	Items []batchItem     `json:"rest_requests"`
}

type batchItem struct {
	ID             json.RawMessage `json:"id"`
	Method         string          `json:"method"`
	URL            string          `json:"url"`
	Headers        []batchHeader   `json:"headers"`
	Body           string          `json:"body"`
	ExcludeHeaders bool            `json:"exclude_response_headers"`
}

type batchHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// serveBatch answers the Batch API, which exists only with a version. Items run one after the other, each for itself.
func (s *Server) serveBatch(c *call) (*reply, error) {
	if c.version == "" || len(c.path) != 0 {
		return nil, noResource(c.r)
	}
	if c.r.Method != http.MethodPost {
		return nil, badMethod(c.r)
	}
	data, err := readBody(c.r)
	if err != nil {
		return nil, err
	}
	var in batchRequest
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, unreadable(err.Error())
	}
	served, left := []any{}, []any{}
	for _, item := range in.Items {
		if c.r.Context().Err() != nil {
			left = append(left, rawText(item.ID))
			continue
		}
		served = append(served, s.serveItem(c, item))
	}
	return &reply{status: http.StatusOK, body: map[string]any{
		"batch_request_id":  rawText(in.ID),
		"serviced_requests": served, "unserviced_requests": left,
	}}, nil
}

// rawText is an id as a string, whether it was sent as one or as a number.
func rawText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

// serveItem runs one item as a request of its own, with the batch's sign-in unless it brings another.
func (s *Server) serveItem(c *call, item batchItem) map[string]any {
	start := time.Now()
	w := newRecorder()
	out := map[string]any{"id": rawText(item.ID), "error_message": "", "redirect_url": ""}
	body, err := base64.StdEncoding.DecodeString(item.Body)
	u, errURL := url.Parse("/" + strings.TrimPrefix(item.URL, "/"))
	switch {
	case err != nil:
		s.writeError(w, c.r, unreadable("body of the item is not base64"))
	case len(body) > maxBatchItem:
		s.writeError(w, c.r, &apiError{status: http.StatusRequestEntityTooLarge, message: "Request body too large"})
	case errURL != nil || strings.Contains(item.URL, "://") || strings.Contains(item.URL, "/batch"):
		s.writeError(w, c.r, unreadable("url of the item must be relative and no batch"))
	default:
		r := (&http.Request{
			Method: strings.ToUpper(item.Method), URL: u, RequestURI: u.String(), Host: c.r.Host, Header: http.Header{},
			Body: readCloser{bytes.NewReader(body)}, ContentLength: int64(len(body)), RemoteAddr: c.r.RemoteAddr, TLS: c.r.TLS,
		}).WithContext(c.r.Context())
		for _, name := range []string{"Authorization", "X-Sn-Apikey", "Cookie"} {
			r.Header[name] = c.r.Header[name]
		}
		for _, h := range item.Headers {
			r.Header.Set(h.Name, h.Value)
		}
		s.serveVendor(w, r)
	}
	out["status_code"], out["status_text"] = w.code, http.StatusText(w.code)
	out["execution_time"] = time.Since(start).Milliseconds()
	out["body"] = base64.StdEncoding.EncodeToString(w.body.Bytes())
	if !item.ExcludeHeaders {
		headers := []any{}
		for name, values := range w.header {
			headers = append(headers, map[string]any{"name": name, "value": strings.Join(values, ",")})
		}
		out["headers"] = append(headers, map[string]any{"name": "Content-Length", "value": strconv.Itoa(w.body.Len())})
	}
	return out
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// recorder keeps an answer in memory.
type recorder struct {
	code   int
	header http.Header
	body   bytes.Buffer
}

func newRecorder() *recorder { return &recorder{code: http.StatusOK, header: http.Header{}} }

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(code int)        { w.code = code }
func (w *recorder) Write(p []byte) (int, error) { return w.body.Write(p) }

// copyTo sends the answer kept.
func (w *recorder) copyTo(to http.ResponseWriter) {
	for k, v := range w.header {
		to.Header()[k] = v
	}
	to.WriteHeader(w.code)
	_, _ = to.Write(w.body.Bytes()) // a client that has left is no error of ours
}

package servicenowtest

import (
	"errors"
	"html"
	"net/http"
)

// apiError is a refusal in the form of the Table API (section 10).
type apiError struct {
	status  int
	message string
	detail  any // string or nil
	header  http.Header
}

func (e *apiError) Error() string {
	if d, ok := e.detail.(string); ok && d != "" {
		return e.message + ": " + d
	}
	return e.message
}

func noResource(r *http.Request) error {
	return &apiError{status: http.StatusBadRequest, message: "Requested URI does not represent any resource", detail: r.URL.Path}
}

func shuttingDown() error {
	return &apiError{status: http.StatusServiceUnavailable, message: "Service Unavailable", detail: "The instance is shutting down"}
}

func noRecord() error {
	return &apiError{
		status: http.StatusNotFound, message: "No Record found",
		detail: "Record doesn't exist or ACL restricts the record retrieval",
	}
}

func badTable(name string) error {
	return &apiError{status: http.StatusBadRequest, message: "Invalid table " + name}
}

func badMethod(r *http.Request) error {
	return &apiError{status: http.StatusMethodNotAllowed, message: "Method not supported", detail: r.Method + " is not supported by this resource"}
}

// writeError writes a refusal; an error that is no refusal is a 500.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{status: http.StatusInternalServerError, message: "Transaction failed", detail: err.Error()}
	}
	for k, v := range e.header {
		w.Header()[k] = v
	}
	body := map[string]any{"error": map[string]any{"message": e.message, "detail": e.detail}, "status": "failure"}
	writeBody(w, r, e.status, body)
}

// writeHTML writes a page as the front end does, in place of an API answer.
func writeHTML(w http.ResponseWriter, status int, title string) {
	w.Header().Set("Content-Type", "text/html;charset=UTF-8")
	w.WriteHeader(status)
	title = html.EscapeString(title)
	_, _ = w.Write([]byte("<!DOCTYPE html>\n<html><head><title>" + title + "</title></head><body><h1>" + title + "</h1></body></html>\n"))
}

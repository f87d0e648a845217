package failpoint

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Transport puts points round the calls that next makes.
func (p *Points) Transport(next http.RoundTripper) http.RoundTripper {
	return transport{points: p, next: next}
}

type transport struct {
	points *Points
	next   http.RoundTripper
}

// RoundTrip passes the point before the call and, with the answer's head at hand, the one after it.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	name := callName(r)
	t.points.pass(name + " before")
	answer, err := t.next.RoundTrip(r)
	if err != nil {
		name += "=error"
	}
	t.points.pass(name + " after")
	return answer, err
}

var (
	ticketID  = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}|[0-9]+`)
	queryWord = regexp.MustCompile(`^[A-Za-z_]+`)
)

// callName tells calls of different kinds apart and calls about different tickets not: ids are left out, and of a query
// only the words remain with which its values begin.
func callName(r *http.Request) string {
	name := r.Method + " " + ticketID.ReplaceAllString(r.URL.Path, "ID")
	var words []string
	for key, values := range r.URL.Query() {
		for _, v := range values {
			if w := queryWord.FindString(v); strings.Contains(v, "=") && w != "" {
				words = append(words, key+"="+w)
			}
		}
	}
	slices.Sort(words)
	if len(words) > 0 {
		name += "?" + strings.Join(words, "&")
	}
	return name
}

// Door puts points round what next answers to POSTs: when one has arrived, before the answer's first byte leaves, and when
// its last one has left.
func (p *Points) Door(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		name := ticketID.ReplaceAllString(r.URL.Path, "ID")
		p.pass("arrival of POST " + name)
		a := &answer{ResponseWriter: w, first: func() { p.pass("answer to POST " + name + " before") }}
		next.ServeHTTP(a, r)
		a.begin()
		_ = http.NewResponseController(w).Flush() // the caller may have left, which is no concern of ours
		p.pass("answer to POST " + name + " after")
	})
}

// answer calls first before anything of the answer leaves.
type answer struct {
	http.ResponseWriter
	first func()
	begun bool
}

func (a *answer) begin() {
	if !a.begun {
		a.begun = true
		a.first()
	}
}

func (a *answer) WriteHeader(status int) {
	a.begin()
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	a.begin()
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

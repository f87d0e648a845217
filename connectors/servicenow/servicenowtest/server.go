package servicenowtest

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxBody is the largest JSON or XML body in bytes; the vendor's default for REST is 10 MB.
const maxBody = 10 << 20

// Server is one played instance: an http.Handler. Close it when done.
type Server struct {
	// URL is the address of a server made by Start, without a trailing slash; empty after New.
	URL string

	cfg    Config // Switches inside change under mu
	mu     sync.RWMutex
	db     *store
	closed bool
	swept  time.Time // last run of the auto close job
	tiny   map[string]string
	files  fileStore
	set    map[string][]importResult // import results by staging row

	tokens   tokens
	faults   faults
	calls    callLog
	limits   limiter
	sender   sender
	inFlight atomic.Int64
	life     context.Context // ends with Close
	stop     context.CancelFunc
	later    sync.WaitGroup // work of late rules
}

// New makes an instance. Its errors name the setting at fault.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configuring the simulator: %w", err)
	}
	if cfg.Seed == 0 {
		cfg.Seed = rand.Uint64()
	}
	s := &Server{cfg: cfg, db: newStore(tableDefs(cfg.Columns)), tiny: map[string]string{}, set: map[string][]importResult{}}
	s.life, s.stop = context.WithCancel(context.Background())
	s.faults.init(s.life, cfg.Seed)
	s.sender.init(s.life, cfg.Webhook, &s.faults)
	if err := s.checkRules(cfg.Switches); err != nil {
		return nil, fmt.Errorf("configuring the simulator: %w", err)
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.db.log.close())
	}
	return s, nil
}

func (s *Server) open() error {
	s.files = newMemoryFiles()
	if s.cfg.Dir != "" {
		log, err := openLog(s.cfg.Dir, s.db)
		if err != nil {
			return err
		}
		s.db.log = log
		s.files = diskFiles(s.cfg.Dir)
	}
	return s.seed()
}

// Seed is the seed in use, to be printed by a run that may have to be repeated.
func (s *Server) Seed() uint64 { return s.cfg.Seed }

// Close ends outgoing calls and late rules under way and closes the log. It may be called twice. Requests that come
// later fail with 503.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true // from here on nothing adds to what is waited for below
	s.mu.Unlock()
	s.stop()
	s.later.Wait()
	s.sender.wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.db.log.close()
}

// Reconfigure changes the switches. On error nothing changes.
func (s *Server) Reconfigure(change func(*Switches)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.cfg.Switches
	change(&next)
	if err := errors.Join(next.check(), s.checkRules(next)); err != nil {
		return fmt.Errorf("changing the switches: %w", err)
	}
	s.cfg.Switches = next
	s.db.labels.Store(nil)
	return nil
}

// Switches are the switches in force.
func (s *Server) Switches() Switches {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cfg.Switches
}

// SetWebhook changes the target of outgoing calls; an empty URL ends them.
func (s *Server) SetWebhook(w Webhook) error {
	if err := w.check(); err != nil {
		return err
	}
	s.sender.target(w)
	return nil
}

// checkRules refuses rules whose condition or field names no column.
func (s *Server) checkRules(sw Switches) error {
	var errs []error
	known := func(where, query string) {
		for _, g := range parseQuery(query).groups {
			for _, c := range slices.Concat(g...) {
				if _, ok := s.bindCondition("incident", c, actor{admin: true, zone: time.UTC}); !ok {
					errs = append(errs, fmt.Errorf("%s: condition %q is not understood: use an encoded query on incident, e.g. state=6", where, c.column+c.op+c.value))
				}
			}
		}
	}
	for i, r := range slices.Concat(sw.AbortRules, sw.ResetRules) {
		known(fmt.Sprintf("rule %d (%s)", i, r.Name), r.When)
		if r.Field != "" && s.db.defs["incident"].column(r.Field) == nil {
			errs = append(errs, fmt.Errorf("rule %d (%s): field %q is no column of incident", i, r.Name, r.Field))
		}
	}
	for i, r := range sw.ResetRules {
		if r.Field == "" {
			errs = append(errs, fmt.Errorf("reset_rules[%d]: field is empty: name the column to put back", i))
		}
	}
	known("hidden_rows", sw.HiddenRows)
	return errors.Join(errs...)
}

// ServeHTTP answers the instance's APIs, its pages and the control door.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case len(r.RequestURI) > s.cfg.MaxURL: // the front end refuses; items of a batch do not pass it
		writeHTML(w, http.StatusRequestURITooLong, "Request-URI Too Long")
	case strings.HasPrefix(path, "/_sim/"):
		s.serveControl(w, r)
	case path == "/" || path == "/nav_to.do" || path == "/incident.do":
		s.servePage(w, r)
	default:
		s.serveVendor(w, r)
	}
}

// serveVendor answers what a client of the real system may call, with faults in front and the record of calls behind.
func (s *Server) serveVendor(w http.ResponseWriter, r *http.Request) {
	if o := r.Header.Get("X-HTTP-Method-Override"); o != "" {
		r.Method = strings.ToUpper(o)
	}
	if err := unzip(r); err != nil {
		s.writeError(w, r, &apiError{status: http.StatusBadRequest, message: "Exception while reading request", detail: err.Error()})
		return
	}
	s.calls.around(s.cfg.Now, w, r, func(w http.ResponseWriter, note *Call) {
		s.faults.around(s.cfg.Now, w, r, note, func(w http.ResponseWriter, after commitFault) { s.answer(w, r, after) })
	})
}

// unzip replaces a gzip body by its plain form.
func unzip(r *http.Request) error {
	if !strings.EqualFold(r.Header.Get("Content-Encoding"), "gzip") {
		return nil
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		return fmt.Errorf("body is not gzip: %w", err)
	}
	r.Body = io.NopCloser(z)
	r.ContentLength = -1
	return nil
}

// call is one API request on its way to a handler.
type call struct {
	r       *http.Request
	who     actor
	base    string // scheme and host for links
	version string // "", "v1" or "v2"
	path    []string
	params  url.Values
	after   commitFault
}

// reply is what a handler answers. A nil body is no body.
type reply struct {
	status int
	header http.Header
	body   any
	stream func(http.ResponseWriter) // writes header, status and bytes itself
}

func result(status int, v any) *reply {
	return &reply{status: status, header: http.Header{}, body: map[string]any{"result": v}}
}

// answer routes a request and writes its reply.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, after commitFault) {
	if n := s.inFlight.Add(1); s.overloaded(n) {
		s.inFlight.Add(-1)
		s.writeError(w, r, &apiError{status: http.StatusTooManyRequests, message: "Too many requests", detail: "No transaction slot is free"})
		return
	}
	defer s.inFlight.Add(-1)
	if r.URL.Path == "/oauth_token.do" {
		s.serveToken(w, r)
		return
	}
	if !strings.HasPrefix(r.URL.Path, "/api/") {
		writeHTML(w, http.StatusNotFound, "Page not found")
		return
	}
	s.setCookies(w, r)
	rep, err := s.serveAPI(w, r, after)
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	s.writeReply(w, r, rep)
}

func (s *Server) overloaded(n int64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.cfg.Slots > 0 && n > int64(s.cfg.Slots)
}

// setCookies gives a client without a session the cookies of a new one.
func (s *Server) setCookies(w http.ResponseWriter, r *http.Request) {
	if _, err := r.Cookie("JSESSIONID"); err == nil {
		return
	}
	for name, v := range map[string]string{
		"JSESSIONID": strings.ToUpper(newSysID()), "glide_user_route": "glide." + newSysID(), "glide_user": "",
		"glide_user_session": "", "BIGipServerpool_sim": "1677721610.40000.0000",
	} {
		http.SetCookie(w, &http.Cookie{Name: name, Value: v, Path: "/", HttpOnly: true})
	}
}

// serveAPI signs the caller in, applies the rate limits and calls the resource's handler.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, after commitFault) (*reply, error) {
	c := &call{r: r, base: s.base(r), params: r.URL.Query(), after: after}
	rest := strings.Trim(strings.TrimPrefix(r.URL.Path, "/api/"), "/")
	parts := strings.Split(rest, "/")
	if parts[0] != "now" || len(parts) < 2 {
		return nil, noResource(r)
	}
	parts = parts[1:]
	if parts[0] == "v1" || parts[0] == "v2" {
		c.version, parts = parts[0], parts[1:]
	}
	who, err := s.authenticate(r)
	if err != nil {
		return nil, err
	}
	c.who = who
	if err := s.checkHeaders(r); err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		return nil, noResource(r)
	}
	c.path = parts[1:]
	api, ok := s.apis()[parts[0]]
	if !ok {
		return nil, noResource(r)
	}
	if err := s.limit(w, c, api.name); err != nil {
		return nil, err
	}
	if err := s.nightly(); err != nil {
		return nil, err
	}
	return api.serve(c)
}

type api struct {
	name  string // as rate limit rules call it
	serve func(*call) (*reply, error)
}

func (s *Server) apis() map[string]api {
	return map[string]api{
		"table":      {"Table API", s.serveTable},
		"attachment": {"Attachment API", s.serveAttachment},
		"stats":      {"Aggregate API", s.serveStats},
		"import":     {"Import Set API", s.serveImport},
		"batch":      {"Batch API", s.serveBatch},
		"tinyurl":    {"Tiny URL API", s.serveTiny},
	}
}

// nightly runs the auto close job when a minute has passed since its last run.
func (s *Server) nightly() error {
	now := s.cfg.Now()
	if due, err := s.nightlyDue(now); !due || err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swept = now
	return s.closeStale()
}

func (s *Server) nightlyDue(now time.Time) (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return false, shuttingDown()
	}
	return s.cfg.AutoClose > 0 && (now.Sub(s.swept) >= time.Minute || now.Before(s.swept)), nil
}

// base is the scheme and host under which the client reached the instance.
func (s *Server) base(r *http.Request) string {
	if s.cfg.BaseURL != "" {
		return strings.TrimSuffix(s.cfg.BaseURL, "/")
	}
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// write runs one transaction under the lock and stores its outcome.
func (s *Server) write(c *call, do func(*tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return shuttingDown()
	}
	t := s.begin(c.who)
	if c.after.stampBack > 0 {
		t.now = t.now.Add(-c.after.stampBack)
		t.stamp = t.now.Format(stampLayout)
	}
	if err := do(t); err != nil {
		return err
	}
	if err := t.commit(); err != nil {
		return err
	}
	s.scheduleLateRule(c.after, t)
	return nil
}

// scheduleLateRule changes the written incidents again after a delay, as an asynchronous business rule does.
func (s *Server) scheduleLateRule(f commitFault, t *tx) {
	if len(f.fields) == 0 {
		return
	}
	ids := map[string]bool{}
	for _, e := range t.events {
		ids[e.row.id()] = true
	}
	s.later.Go(func() {
		select {
		case <-time.After(f.delay):
		case <-s.life.Done():
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed {
			return
		}
		t := s.begin(s.person("system"))
		t.who.admin = true
		for id := range ids {
			if r := t.get("incident", id); r != nil {
				_, _ = t.update(r, change{fields: maps.Clone(f.fields)}) // a refusal is the rule's own business
			}
		}
		_ = t.commit() // nobody waits for the outcome
	})
}

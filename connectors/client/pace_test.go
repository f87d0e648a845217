package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"liaison/connectors"
	"liaison/connectors/account"
)

// seed is of this run: printed, and taken from LIAISON_SEED when a failure is looked at again.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if text := os.Getenv("LIAISON_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("LIAISON_SEED: %v", err)
		}
	}
	t.Logf("LIAISON_SEED=%d", n)
	return n
}

// wire is a vendor within a bubble of testing/synctest: it answers without a socket, so that hours pass at once.
type wire struct {
	mu     sync.Mutex
	calls  []time.Time // when each arrived
	answer func(req *http.Request) (status int, header http.Header, takes time.Duration)
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
	w.mu.Lock()
	w.calls = append(w.calls, time.Now())
	status, header, takes := w.answer(req)
	w.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	if status == 0 {
		return nil, errors.New("dial tcp: connection refused")
	}
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{
		StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader([]byte("{}"))), ProtoMajor: 1, ProtoMinor: 1, Request: req,
	}, nil
}

func (w *wire) arrived() []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Time{}, w.calls...)
}

// pass lets the time of a bubble pass, which it does at once.
func pass(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func onWire(t *testing.T, w *wire, options ...func(*Config)) *Client {
	t.Helper()
	return dial(t, "https://vendor.example", append([]func(*Config){func(c *Config) {
		c.Transport, c.Timeout, c.RetryWait = w, 0, 0
		c.Auth.Basic = &connectors.Basic{User: "liaison", Password: connectors.NewSecret("s3cret")}
	}}, options...)...)
}

// RELIABILITY R9: a vendor that is down for an hour while 50,000 changes wait costs one call in 30 s, polls and writes
// together; when it is back, the changes drain at 90 % of the rate at least, and never above it.
func TestR9OutageCost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// All wait through the outage; a part of them is enough to see how they drain.
		const waiting, drained, perSecond, failures = 50_000, 3_000, 40, 10
		began := time.Now()
		heals := began.Add(time.Hour)
		w := &wire{answer: func(*http.Request) (int, http.Header, time.Duration) {
			if time.Now().Before(heals) {
				return http.StatusBadGateway, nil, 50 * time.Millisecond
			}
			return http.StatusOK, nil, 60 * time.Millisecond
		}}
		accounts := account.NewRegistry()
		shared := func(key string) *Client {
			return onWire(t, w, func(c *Config) { c.System, c.Accounts, c.Rate, c.Concurrency = key, accounts, perSecond, 8 })
		}
		lanes, polls := shared("tickets"), shared("changes")
		ctx, cancel := context.WithCancel(t.Context())
		var others sync.WaitGroup
		others.Go(func() { // a poller asks nobody first
			for ctx.Err() == nil {
				_, _ = polls.Do(ctx, read)
				pass(ctx, 7*time.Second)
			}
		})
		left := waiting
		var mu sync.Mutex
		var running sync.WaitGroup
		for {
			mu.Lock()
			n := left
			mu.Unlock()
			if n <= waiting-drained {
				break
			}
			p := lanes.Pace()
			switch {
			case p.Wait > 0:
				pass(ctx, p.Wait)
				continue
			case p.Calls == 0:
				pass(ctx, 10*time.Millisecond) // as one of the calls' ends would wake it
				continue
			}
			for range min(p.Calls, n) {
				mu.Lock()
				left--
				mu.Unlock()
				running.Go(func() {
					if _, err := lanes.Do(ctx, write); err != nil {
						mu.Lock()
						left++
						mu.Unlock()
					}
				})
			}
			synctest.Wait()
		}
		running.Wait()
		cancel()
		others.Wait()

		var down, up []time.Time
		for _, at := range w.arrived() {
			if at.Before(heals) {
				down = append(down, at)
			} else {
				up = append(up, at)
			}
		}
		// Up to 8 calls are under way when the breaker opens.
		if probes := down[failures+8:]; len(probes) < 110 || len(probes) > 120 {
			t.Errorf("%d calls in an hour's outage, want about one in 30 s", len(probes))
		}
		for i := failures + 8 + 1; i < len(down); i++ {
			if gap := down[i].Sub(down[i-1]); gap < DefaultCooldown {
				t.Errorf("two probes within %s, want at least %s", gap, DefaultCooldown)
			}
		}
		if late := up[0].Sub(heals); late > DefaultCooldown+time.Second {
			t.Errorf("noticed %s after the vendor was back", late)
		}
		for i := perSecond; i < len(up); i++ {
			if took := up[i].Sub(up[i-perSecond]); took < time.Second-time.Microsecond {
				t.Fatalf("%d calls within %s, above the rate", perSecond+1, took)
			}
		}
		took := up[len(up)-1].Sub(up[0])
		if reached := float64(len(up)) / took.Seconds(); reached < 0.9*perSecond {
			t.Errorf("drained %d calls in %s: %.1f a second, want at least %.1f", len(up), took, reached, 0.9*perSecond)
		} else {
			t.Logf("%d calls in the outage; then %d in %s, %.2f of the rate", len(down), len(up), took, reached/perSecond)
		}
	})
}

// After an outage calls begin one at a time.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var up bool
		w := &wire{}
		w.answer = func(*http.Request) (int, http.Header, time.Duration) {
			if !up {
				return 0, nil, time.Millisecond
			}
			return http.StatusOK, nil, time.Second
		}
		c := onWire(t, w, func(c *Config) { c.Concurrency, c.Breaker.Failures = 8, 3 })
		for range 3 {
			_, _ = c.Do(t.Context(), write)
		}
		if p := c.Pace(); p.Breaker != connectors.BreakerOpen || p.Calls != 0 || !strings.Contains(p.Reason, "connection refused") {
			t.Errorf("after three failures: %+v", p)
		}
		w.mu.Lock()
		up = true
		w.mu.Unlock()
		pass(t.Context(), c.Pace().Wait)
		if p := c.Pace(); p.Breaker != connectors.BreakerHalfOpen || p.Calls != 1 || p.Wait != 0 {
			t.Errorf("after the cooldown: %+v, want one trial", p)
		}
		before := len(w.arrived())
		ctx, cancel := context.WithCancel(t.Context())
		var busy sync.WaitGroup
		for range 20 {
			busy.Go(func() {
				for ctx.Err() == nil {
					if _, err := c.Do(ctx, write); err != nil {
						pass(ctx, 100*time.Millisecond)
					}
				}
			})
		}
		synctest.Wait()
		if p := c.Pace(); len(w.arrived())-before != 1 || p.Calls != 0 || p.Breaker != connectors.BreakerHalfOpen {
			t.Errorf("while one call tries: %d calls, %+v", len(w.arrived())-before, p)
		}
		for second, most := range []int{1, 2, 4, 8, 8} {
			arrived := 0
			from := time.Now()
			pass(ctx, time.Second-time.Millisecond)
			synctest.Wait()
			for _, at := range w.arrived()[before:] {
				if !at.Before(from.Add(-time.Millisecond)) {
					arrived++
				}
			}
			if arrived > most {
				t.Errorf("%d calls in second %d after the vendor came back, want at most %d", arrived, second, most)
			}
			pass(ctx, time.Millisecond)
		}
		if p := c.Pace(); p.Breaker != connectors.BreakerClosed {
			t.Errorf("in the end: %+v", p)
		}
		cancel()
		busy.Wait()
	})
}

// A vendor that answers nobody is noticed although its callers leave before the time-out, and callers who leave at once
// make nobody sick.
func TestBreakerOpensOnHangingVendor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{answer: func(*http.Request) (int, http.Header, time.Duration) { return http.StatusOK, nil, time.Hour }}
		c := onWire(t, w, func(c *Config) { c.Breaker.Failures = 3 })
		call := func(patience time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, _ = c.Do(ctx, write)
		}
		for range 5 {
			call(time.Second)
		}
		if p := c.Pace(); p.Breaker != connectors.BreakerClosed {
			t.Errorf("after callers in a hurry: %+v", p)
		}
		for range 3 {
			call(20 * time.Second)
		}
		if p := c.Pace(); p.Breaker != connectors.BreakerOpen {
			t.Errorf("after 3 calls of 20 s: %+v", p)
		}
		// Nor does a caller who leaves during the trial open the door to the next.
		pass(t.Context(), c.Pace().Wait)
		before := len(w.arrived())
		for range 5 {
			call(time.Second)
		}
		if n := len(w.arrived()) - before; n != 1 {
			t.Errorf("%d trials within a cooldown", n)
		}
	})
}

// A refused sign-in is an account's affair: the account is not locked out by thousands of tries, and every call says why.
func TestBreakerOpensOnRefusedSignIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		status := http.StatusUnauthorized
		w := &wire{answer: func(*http.Request) (int, http.Header, time.Duration) { return status, nil, time.Millisecond }}
		c := onWire(t, w)
		for range 100 {
			_, err := c.Do(t.Context(), write)
			if e := asError(t, err); e.Kind != connectors.Auth {
				t.Fatalf("%v, want kind auth", e)
			}
		}
		if n := len(w.arrived()); n != DefaultFailures {
			t.Errorf("%d calls, want %d", n, DefaultFailures)
		}
		if p := c.Pace(); !strings.Contains(p.Reason, "refused the sign-in") {
			t.Errorf("the pace does not tell why: %+v", p)
		}
		status = http.StatusForbidden // a right that is missing on one ticket
		pass(t.Context(), c.Pace().Wait)
		for range 50 {
			_, _ = c.Do(t.Context(), write)
		}
		if p := c.Pace(); p.Breaker != connectors.BreakerClosed {
			t.Errorf("after 403s: %+v", p)
		}
	})
}

// RELIABILITY R10: after 429 or 503 with whatever Retry-After, no call is made before the named time, and one is at most
// 15 minutes after the answer.
func TestR10RetryAfter(t *testing.T) {
	t.Parallel()
	n := seed(t)
	rng := rand.New(rand.NewPCG(n, 10))
	forms := map[string]int{}
	for i := range 1000 {
		c := newPause(rng)
		forms[c.form]++
		synctest.Test(t, func(t *testing.T) {
			w := &wire{}
			var asked, named time.Time // zero: no time that can be understood was named
			w.answer = func(*http.Request) (int, http.Header, time.Duration) {
				if !asked.IsZero() {
					return http.StatusOK, nil, 10 * time.Millisecond
				}
				var h http.Header
				h, named = c.header(time.Now())
				asked = time.Now()
				return c.status, h, c.latency
			}
			client := onWire(t, w, func(cfg *Config) { cfg.Concurrency = 3 })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, _ = client.Do(ctx, write)
			var busy sync.WaitGroup
			for caller := range 3 { // impatient ones, whom nobody has told
				busy.Go(func() {
					for ctx.Err() == nil {
						_, err := client.Do(ctx, []Request{read, write, read}[caller])
						if err == nil {
							cancel()
							return
						}
						wait := c.pause
						if left := connectors.RetryAfterOf(err); caller > 0 && left > 0 { // at the time itself, and just before
							wait = max(left-time.Duration(caller-1)*time.Millisecond, time.Millisecond)
						}
						pass(ctx, wait)
					}
				})
			}
			busy.Wait()
			calls := w.arrived()
			if len(calls) < 2 {
				t.Fatalf("case %d (%s): no further call", i, c)
			}
			next := calls[1]
			bound := asked.Add(c.latency + MaxRetryAfter)
			if named.Before(bound) && next.Before(named) || named.After(bound) && next.Before(bound) {
				t.Errorf("case %d (%s): called %s before the named time", i, c, named.Sub(next))
			}
			if late := next.Sub(bound); late > c.pause {
				t.Errorf("case %d (%s): called %s after the longest pause", i, c, late)
			}
		})
	}
	t.Logf("forms: %v", forms)
}

// pauseCase is a way to ask for patience.
type pauseCase struct {
	form    string
	status  int
	seconds int
	skew    time.Duration // of the vendor's clock
	dated   bool          // the answer has a Date
	latency time.Duration
	pause   time.Duration // between the tries of impatient callers
}

func (c pauseCase) String() string {
	return fmt.Sprintf("%s, HTTP %d, %d s, clock off by %s, Date %t, answer after %s", c.form, c.status, c.seconds, c.skew, c.dated, c.latency)
}

func newPause(rng *rand.Rand) pauseCase {
	pick := func(all ...string) string { return all[rng.IntN(len(all))] }
	c := pauseCase{
		form: pick("delta", "delta", "IMF date", "IMF date", "RFC 850 date", "asctime date", "past date", "garbage", "missing", "negative",
			"huge", "repeated", "repeated mixed", "joined", "blanks", "zero", "far date"),
		status:  []int{429, 429, 503}[rng.IntN(3)],
		seconds: 1 + rng.IntN(1200),
		latency: time.Duration(rng.IntN(3000)) * time.Millisecond,
		pause:   time.Duration(5+rng.IntN(60)) * time.Second,
		dated:   rng.IntN(4) > 0,
	}
	if c.dated { // without it nobody can know how wrong the clock is
		c.skew = time.Duration(rng.IntN(4*3600)-2*3600) * time.Second
	}
	return c
}

// header returns the answer's header and the time that it names, by the true clock.
func (c pauseCase) header(now time.Time) (h http.Header, named time.Time) {
	h = http.Header{}
	vendor := now.UTC().Add(c.skew)
	if c.dated {
		h.Set("Date", vendor.Format(http.TimeFormat))
	}
	wait := time.Duration(c.seconds) * time.Second
	until := vendor.Add(wait).Truncate(time.Second) // a date has whole seconds
	set := func(layout string) { h.Set("Retry-After", until.Format(layout)); named = until.Add(-c.skew) }
	switch c.form {
	case "delta":
		h.Set("Retry-After", strconv.Itoa(c.seconds))
		named = now.Add(wait)
	case "blanks":
		h.Set("Retry-After", "  "+strconv.Itoa(c.seconds)+"\t")
		named = now.Add(wait)
	case "IMF date":
		set(http.TimeFormat)
	case "RFC 850 date":
		set("Monday, 02-Jan-06 15:04:05 GMT")
	case "asctime date":
		set(time.ANSIC)
	case "past date":
		h.Set("Retry-After", vendor.Add(-wait).Format(http.TimeFormat))
	case "far date":
		until = vendor.AddDate(5, 0, 0)
		set(http.TimeFormat)
	case "garbage":
		h.Set("Retry-After", "in a while")
	case "negative":
		h.Set("Retry-After", strconv.Itoa(-c.seconds))
	case "zero":
		h.Set("Retry-After", "0")
	case "huge":
		h.Set("Retry-After", "999999999")
		named = now.Add(999999999 * time.Second)
	case "repeated":
		h["Retry-After"] = []string{strconv.Itoa(c.seconds), "1"}
		named = now.Add(wait)
	case "repeated mixed":
		h["Retry-After"] = []string{"1", until.Format(http.TimeFormat)}
		named = until.Add(-c.skew)
	case "joined":
		h.Set("Retry-After", "1, "+strconv.Itoa(c.seconds))
		named = now.Add(wait)
	case "missing":
	}
	return h, named
}

// A vendor that asks for fewer calls without naming a time is not asked at full speed either.
func TestPauseWithoutATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{answer: func(*http.Request) (int, http.Header, time.Duration) { return http.StatusTooManyRequests, nil, 0 }}
		c := onWire(t, w)
		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			_, err := c.Do(t.Context(), write)
			if e := asError(t, err); e.Kind != connectors.RateLimited {
				t.Fatal(err)
			}
			pass(t.Context(), time.Second)
		}
		// 1, 2, 4 ... 32 s, then each minute.
		if n := len(w.arrived()); n < 12 || n > 17 {
			t.Errorf("%d calls in ten minutes", n)
		}
	})
}

// Calls that wait for their turn by the rate when the vendor asks for a pause are not made in it.
func TestPauseReachesThoseWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{answer: func(*http.Request) (int, http.Header, time.Duration) {
			return http.StatusTooManyRequests, http.Header{"Retry-After": {"60"}}, time.Second
		}}
		c := onWire(t, w, func(c *Config) { c.Rate, c.Concurrency = 0.5, 4 })
		var busy sync.WaitGroup
		for range 4 {
			busy.Go(func() {
				if _, err := c.Do(t.Context(), write); connectors.KindOf(err) != connectors.RateLimited {
					t.Errorf("%v, want rate limited", err)
				}
			})
		}
		busy.Wait()
		if n := len(w.arrived()); n != 1 {
			t.Errorf("%d calls were made, want the first alone", n)
		}
	})
}

// Two systems that sign in alike share what the vendor counts together; one that signs in otherwise shares nothing.
func TestSharedAccount(t *testing.T) {
	t.Parallel()
	named := func(user string) func(*Config) {
		return func(c *Config) {
			c.Auth.Basic = &connectors.Basic{User: user, Password: connectors.NewSecret("s3cret")}
		}
	}
	token := func(value string) func(*Config) {
		return func(c *Config) { c.Auth = connectors.Credentials{Token: connectors.NewSecret(value)} }
	}
	oauth := func(grant connectors.Grant, id, user string) func(*Config) {
		return func(c *Config) {
			c.Auth = connectors.Credentials{OAuth2: &connectors.OAuth2{TokenURL: "https://vendor.example/t", Grant: grant, ClientID: id, User: user}}
		}
	}
	at := func(url string) func(*Config) { return func(c *Config) { c.BaseURL = url } }
	for name, c := range map[string]struct {
		one, other []func(*Config)
		shared     bool
	}{
		"same user":                  {[]func(*Config){named("a")}, []func(*Config){named("a")}, true},
		"same user in another case":  {[]func(*Config){named("a")}, []func(*Config){named("A")}, true},
		"same user, other path":      {[]func(*Config){named("a")}, []func(*Config){named("a"), at("https://VENDOR.example:443/rt")}, true},
		"other user":                 {[]func(*Config){named("a")}, []func(*Config){named("b")}, false},
		"other host":                 {[]func(*Config){named("a")}, []func(*Config){named("a"), at("https://other.example")}, false},
		"other port":                 {[]func(*Config){named("a")}, []func(*Config){named("a"), at("https://vendor.example:8443")}, false},
		"same token":                 {[]func(*Config){token("t1")}, []func(*Config){token("t1")}, true},
		"other token":                {[]func(*Config){token("t1")}, []func(*Config){token("t2")}, false},
		"same client":                {[]func(*Config){oauth("client_credentials", "c", "")}, []func(*Config){oauth("client_credentials", "c", "")}, true},
		"other client":               {[]func(*Config){oauth("client_credentials", "c", "")}, []func(*Config){oauth("client_credentials", "d", "")}, false},
		"user by password or OAuth":  {[]func(*Config){named("a")}, []func(*Config){oauth("password", "c", "a")}, true},
		"a client named like a user": {[]func(*Config){named("a")}, []func(*Config){oauth("client_credentials", "a", "")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &wire{answer: func(*http.Request) (int, http.Header, time.Duration) {
					return http.StatusTooManyRequests, http.Header{"Retry-After": {"60"}}, 0
				}}
				accounts := account.NewRegistry()
				with := func(c *Config) { c.Accounts = accounts }
				one, other := onWire(t, w, append(c.one, with)...), onWire(t, w, append(c.other, with)...)
				// Not the client's way to sign in is looked at here, but the account itself.
				call, err := one.account.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				call.End(account.Ending{Outcome: account.Limited, Named: time.Minute})
				if held := other.Pace().Wait > 0; held != c.shared {
					t.Errorf("the other system is held back: %t, want %t", held, c.shared)
				}
			})
		})
	}
}

// However many systems name limits, the lower of each holds, and what is not named lowers nothing.
func TestLowerLimitHolds(t *testing.T) {
	t.Parallel()
	accounts := account.NewRegistry()
	join := func(key string, concurrency int, rate float64, timeout time.Duration) *Client {
		return dial(t, "https://vendor.example", func(c *Config) {
			c.System, c.Accounts, c.Concurrency, c.Rate, c.Timeout = key, accounts, concurrency, rate, timeout
		})
	}
	first := join("one", 0, 0, 0)
	want := func(step string, l account.Limits) {
		t.Helper()
		if got := first.account.Limits(); got != l {
			t.Errorf("%s: %+v, want %+v", step, got, l)
		}
	}
	want("nothing named", account.Limits{Concurrency: DefaultConcurrency, Timeout: DefaultTimeout})
	join("two", 16, 50, time.Minute)
	want("one names limits", account.Limits{Concurrency: 16, Rate: 50, Timeout: time.Minute})
	join("three", 2, 80, 20*time.Second)
	want("two name limits", account.Limits{Concurrency: 2, Rate: 50, Timeout: 20 * time.Second})
	if _, err := New(Config{BaseURL: "https://vendor.example", Accounts: accounts, Concurrency: 1, Timeout: -1}); err == nil {
		t.Error("a negative time-out was taken")
	}
	want("a system that was refused", account.Limits{Concurrency: 2, Rate: 50, Timeout: 20 * time.Second})
	lines := accounts.Describe()
	if len(lines) != 1 || lines[0] != "one, two, three call https://vendor.example:443 as one account: together at most 2 calls at a time, 20s each, 50 a second" {
		t.Errorf("described as %q", lines)
	}
}

// A token endpoint's pause is a pause, and the calls that waited for a token leave at the rate.
func TestSignInKeepsThePace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var refuse, expired bool
		tokens := 0
		w := &wire{}
		var posts []time.Time
		w.answer = func(req *http.Request) (int, http.Header, time.Duration) {
			if req.URL.Path == "/token" {
				if tokens++; refuse {
					return http.StatusTooManyRequests, http.Header{"Retry-After": {"90"}}, 0
				}
				return http.StatusOK, http.Header{"Content-Type": {"application/json"}}, 5 * time.Second
			}
			posts = append(posts, time.Now())
			if expired {
				expired = false
				return http.StatusUnauthorized, nil, 10 * time.Millisecond
			}
			return http.StatusOK, nil, 10 * time.Millisecond
		}
		c := onWire(t, w, func(c *Config) {
			c.Rate, c.Transport = 2, tokenWire{w}
			c.Auth = connectors.Credentials{OAuth2: &connectors.OAuth2{TokenURL: "https://vendor.example/token", Grant: connectors.GrantClientCredentials, ClientID: "c", ClientSecret: connectors.NewSecret("x")}}
		})
		var busy sync.WaitGroup
		for range 4 {
			busy.Go(func() { _, _ = c.Do(t.Context(), write) })
		}
		busy.Wait()
		expired = true
		_, _ = c.Do(t.Context(), write)
		for i := 1; i < len(posts); i++ {
			if gap := posts[i].Sub(posts[i-1]); gap < 500*time.Millisecond-time.Microsecond {
				t.Errorf("calls %d and %d leave within %s, above the rate of 2 a second", i-1, i, gap)
			}
		}
		if len(posts) != 6 || tokens != 2 {
			t.Errorf("%d calls and %d tokens, want 6 and 2", len(posts), tokens)
		}
		pass(t.Context(), time.Hour) // the token has expired
		refuse, tokens = true, 0
		for range 5 {
			_, err := c.Do(t.Context(), write)
			if e := asError(t, err); e.Kind != connectors.RateLimited || e.RetryAfter < 80*time.Second {
				t.Fatalf("%v, want rate limited for 90 s", e)
			}
		}
		if tokens != 1 {
			t.Errorf("%d tokens were asked for during the pause, want the one that was refused", tokens)
		}
	})
}

// tokenWire gives the token endpoint's answers their body.
type tokenWire struct{ *wire }

func (w tokenWire) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.wire.RoundTrip(req)
	if err == nil && req.URL.Path == "/token" && resp.StatusCode == http.StatusOK {
		resp.Body = io.NopCloser(strings.NewReader(`{"access_token":"t` + strconv.FormatInt(time.Now().UnixNano(), 36) + `","token_type":"Bearer","expires_in":1800}`))
	}
	return resp, err
}

func TestCollector(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &wire{}
		statuses := []int{200, 404, 500, 0, 429, 401}
		w.answer = func(*http.Request) (int, http.Header, time.Duration) {
			s := statuses[0]
			statuses = statuses[1:]
			return s, http.Header{"Retry-After": {"2"}}, 0
		}
		accounts := account.NewRegistry()
		c := onWire(t, w, func(c *Config) { c.System, c.Accounts, c.Retries = "btls", accounts, -1 })
		_ = onWire(t, w, func(c *Config) { c.System, c.Accounts = "csc", accounts })
		for range 6 {
			pass(t.Context(), c.Pace().Wait)
			_, _ = c.Do(t.Context(), write)
		}
		statuses = []int{429}
		_, _ = c.Do(t.Context(), write)
		_, _ = c.Do(t.Context(), write)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(NewCollector(accounts))
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				key := strings.TrimPrefix(f.GetName(), "liaison_account_")
				for _, l := range m.GetLabel() {
					key += " " + l.GetValue()
				}
				if v := m.GetGauge().GetValue() + m.GetCounter().GetValue(); v != 0 {
					got[key] = v
				}
			}
		}
		want := map[string]float64{
			"breaker_state btls+csc CLOSED": 1, "pauses_total btls+csc": 2, "wait_seconds btls+csc": 2,
			"calls_total btls+csc answered": 2, "calls_total btls+csc sick": 2, "calls_total btls+csc rate_limited": 2,
			"calls_total btls+csc sign_in": 1, "calls_total btls+csc held_back": 1,
		}
		if !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

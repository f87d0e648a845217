package inbound_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/connectors/servicenow/servicenowtest"
	"liaison/sync/inbound"
	"liaison/sync/pair"
)

// A body that cannot be understood is a vendor's news all the same: it waits with its reason for somebody to mend it.
func TestWhatIsNotUnderstoodIsKept(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	door := hooks(t, p).URL + "/hooks/" + pair.SystemKey
	for name, c := range map[string]struct{ body, kind, says string }{
		"cut JSON":      {`{"sys_id":`, "application/json", "ends in the middle"},
		"empty":         {``, "application/json", "empty"},
		"a form":        {`sys_id=0123456789abcdef0123456789abcdef`, "application/x-www-form-urlencoded", "JSON"},
		"XML":           {`<ticket id="7"/>`, "text/xml; charset=utf-8", "JSON"},
		"NUL and noise": {"\x00\xff\xfe", "application/octet-stream", ""},
		"no ticket":     {`{"hello":"world"}`, "application/json", "names neither"},
	} {
		status, text := post(t, door, secret, strings.NewReader(c.body), "Content-Type", c.kind)
		if status != 202 || !strings.Contains(text, "not understood") {
			t.Errorf("%s: %d %s, want 202 that tells it was not understood", name, status, text)
		}
		var state, reason, kind string
		var body []byte
		if err := p.DB.System.QueryRow(t.Context(), `SELECT state, reason, content_type, body FROM inbox ORDER BY received_at DESC, id DESC LIMIT 1`).Scan(&state, &reason, &kind, &body); err != nil {
			t.Fatal(err)
		}
		if state != "PARKED" || !strings.Contains(reason, c.says) || kind != c.kind || !bytes.Equal(body, []byte(c.body)) {
			t.Errorf("%s: the row is %s %q %q %q", name, state, reason, kind, body)
		}
	}
}

// A caller that hangs up in the middle of its body is told 400 and will call again: nothing is half stored.
func TestAnAbortedBodyStoresNothing(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	at, err := url.Parse(hooks(t, p).URL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", at.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /hooks/%s HTTP/1.1\r\nHost: x\r\nX-Secret: %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"sys_id\":", pair.SystemKey, secret)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	head, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(head), "HTTP/1.1 400 ") {
		t.Errorf("%q %v, want 400", head, err)
	}
	if n := rows(p); n != 0 {
		t.Errorf("%d rows were stored", n)
	}
}

// RELIABILITY.md I4: the same delivery a hundred times at once is applied once, by its sender's id and by its content.
func TestI4TheSameCallAHundredTimesAtOnce(t *testing.T) {
	t.Parallel()
	for name, headers := range map[string][]string{"by id": {"Webhook-Id", "msg_2Kd81"}, "by content": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := pair.New(t, nil)
			_, ticket := p.Escalated("Replay")
			door := hooks(t, p).URL + "/hooks/" + pair.SystemKey
			p.Act(ticket.SysID, servicenowtest.Move{Comment: "once"})
			body := fmt.Sprintf(`{"sys_id":%q}`, ticket.SysID)
			var calls sync.WaitGroup
			for range 100 {
				calls.Go(func() {
					if status, text := post(t, door, secret, strings.NewReader(body), headers...); status != 202 {
						t.Errorf("%d %s", status, text)
					}
				})
			}
			calls.Wait()
			read(t, p)
			if got := pair.Scan[string](p, `SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM inbox GROUP BY state) s`); got != "DONE 1, DUPLICATE 99" {
				t.Errorf("rows: %s", got)
			}
			if n := pair.Scan[int](p, `SELECT count(*) FROM inbox d JOIN inbox f ON f.id = d.duplicate_of AND f.state = 'DONE' WHERE d.state = 'DUPLICATE'`); n != 99 {
				t.Errorf("%d repeats name the call that they repeat, want 99", n)
			}
			if n := pair.Scan[int](p, `SELECT count(*) FROM comment WHERE link_id IS NOT NULL`); n != 1 {
				t.Errorf("the comment came %d times", n)
			}
		})
	}
}

// Repeats by id are known for at least seven days; the same content is news again as soon as the first was acted upon.
func TestRepeatsByIDAndByContentAreToldApart(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	_, ticket := p.Escalated("Repeats")
	door := hooks(t, p).URL + "/hooks/" + pair.SystemKey
	body := fmt.Sprintf(`{"sys_id":%q}`, ticket.SysID)
	last := func() string {
		return pair.Scan[string](p, `SELECT state || ': ' || reason FROM inbox ORDER BY received_at DESC, id DESC LIMIT 1`)
	}
	call := func(id, body, want string) {
		t.Helper()
		p.Advance(time.Second)
		var headers []string
		if id != "" {
			headers = []string{"webhook-id", id}
		}
		post(t, door, secret, strings.NewReader(body), headers...)
		if got := last(); !strings.HasPrefix(got, want) {
			t.Errorf("%s %s: the row is %s, want %s", id, body, got, want)
		}
	}
	call("a", body, "WAITING: ")
	call("a", body, "DUPLICATE: the same call, \"a\" by its sender's id")
	call("b", body, "DUPLICATE: the same content waits")
	call("", body, "DUPLICATE: the same content waits")
	read(t, p)
	call("c", body, "WAITING: ") // the same content later: the ticket may have changed again
	read(t, p)
	p.Advance(7*24*time.Hour - time.Minute)
	call("a", body, "DUPLICATE: the same call")
	call("", body, "WAITING: ")
	// A sender whose header names its subscription and not the call must not lose its news by it.
	_, other := p.Escalated("Another")
	call("a", fmt.Sprintf(`{"sys_id":%q}`, other.SysID), "WAITING: a call with the id \"a\" came before, with another body")
}

// A body that names many tickets is kept once, and is no repeat while one of its tickets has been read already.
func TestABodyOfManyTickets(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	_, one := p.Escalated("One")
	_, two := p.Escalated("Two")
	door := hooks(t, p).URL + "/hooks/" + pair.SystemKey
	body := fmt.Sprintf(`[{"sys_id":%q},{"sys_id":%q}]`, one.SysID, two.SysID)
	post(t, door, secret, strings.NewReader(body), "webhook-id", "many")
	if got := pair.Scan[string](p, `SELECT count(*) || ' rows, ' || count(*) FILTER (WHERE body <> '') || ' bodies, ' || count(DISTINCT external_id) || ' tickets' FROM inbox`); got != "2 rows, 1 bodies, 2 tickets" {
		t.Errorf("the inbox holds %s", got)
	}
	post(t, door, secret, strings.NewReader(body))
	if n := pair.Scan[int](p, `SELECT count(*) FROM inbox WHERE state = 'DUPLICATE'`); n != 1 {
		t.Errorf("%d repeats, want 1", n)
	}
	if _, err := p.DB.System.Exec(t.Context(), `UPDATE inbox SET state = 'DONE' WHERE external_id = $1 AND state = 'WAITING'`, one.SysID); err != nil {
		t.Fatal(err)
	}
	post(t, door, secret, strings.NewReader(body))
	if n := pair.Scan[int](p, `SELECT count(*) FROM inbox WHERE state = 'WAITING' AND external_id = $1`, one.SysID); n != 1 {
		t.Error("news of a ticket was taken for a repeat although its read lies behind")
	}
}

// RELIABILITY.md I4: 301 s off is refused, 240 s is let in, either way, and the time cannot be changed without the secret.
func TestI4SignedTimestamps(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	door := hooks(t, p, signed, func(d *inbound.Door) { d.TimestampHeader = "webhook-timestamp" }).URL + "/hooks/" + pair.SystemKey
	body := `{"sys_id":"0123456789abcdef0123456789abcdef"}`
	sign := func(stamp string) string {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(stamp + "." + body))
		return "sha256=" + hex.EncodeToString(mac.Sum(nil))
	}
	for off, want := range map[time.Duration]int{0: 202, -240 * time.Second: 202, 240 * time.Second: 202, -301 * time.Second: 401, 301 * time.Second: 401, -24 * time.Hour: 401} {
		stamp := strconv.FormatInt(p.Now().Add(off).Unix(), 10)
		if status, text := post(t, door, sign(stamp), strings.NewReader(body), "webhook-timestamp", stamp); status != want {
			t.Errorf("%s off: %d %s, want %d", off, status, text, want)
		}
	}
	old, now := strconv.FormatInt(p.Now().Add(-time.Hour).Unix(), 10), strconv.FormatInt(p.Now().Unix(), 10)
	for name, c := range map[string]struct{ key, stamp string }{
		"an old signature under a new time": {sign(old), now}, "no time": {sign(""), ""}, "words": {sign("yesterday"), "yesterday"},
	} {
		if status, _ := post(t, door, c.key, strings.NewReader(body), "webhook-timestamp", c.stamp); status != 401 {
			t.Errorf("%s: %d, want 401", name, status)
		}
	}
	stamp := p.Now().Format(time.RFC3339)
	if status, text := post(t, door, sign(stamp), strings.NewReader(body), "webhook-timestamp", stamp); status != 202 {
		t.Errorf("RFC 3339: %d %s", status, text)
	}
}

// RELIABILITY.md I4: while a secret is being changed, both are accepted and nothing else is.
func TestI4TwoSecretsDuringRotation(t *testing.T) {
	t.Parallel()
	for _, sign := range []bool{false, true} {
		p := pair.New(t, nil)
		door := hooks(t, p, func(d *inbound.Door) {
			d.Signed, d.Secret, d.Previous = sign, connectors.NewSecret("next"), connectors.NewSecret("former")
		}).URL + "/hooks/" + pair.SystemKey
		for key, want := range map[string]int{"next": 202, "former": 202, "other": 401, "": 401} {
			body := `{"sys_id":"0123456789abcdef0123456789abcdef","key":"` + key + `"}`
			given := key
			if sign {
				mac := hmac.New(sha256.New, []byte(key))
				mac.Write([]byte(body))
				given = hex.EncodeToString(mac.Sum(nil))
			}
			if status, text := post(t, door, given, strings.NewReader(body)); status != want {
				t.Errorf("signed %t, secret %q: %d %s, want %d", sign, key, status, text, want)
			}
		}
	}
}

// RELIABILITY.md I5: a flood of calls, 50 at once, is taken in whole and answered by few reads.
func TestI5AFloodIsCoalesced(t *testing.T) {
	t.Parallel()
	calls := 400
	if n, err := strconv.Atoi(os.Getenv("LIAISON_FLOOD")); err == nil {
		calls = n // 2,000 in full
	}
	p := pair.New(t, nil)
	var tickets []string
	for n := range 10 {
		_, ticket := p.Escalated(fmt.Sprint("Flood ", n))
		tickets = append(tickets, ticket.SysID)
		p.Act(ticket.SysID, servicenowtest.Move{State: "2", Comment: "seen"})
	}
	door := hooks(t, p).URL + "/hooks/" + pair.SystemKey
	var group sync.WaitGroup
	work := make(chan int)
	for range 50 {
		group.Go(func() {
			for n := range work {
				body := fmt.Sprintf(`{"sys_id":%q,"sys_mod_count":"%d"}`, tickets[n%len(tickets)], n)
				if status, text := post(t, door, secret, strings.NewReader(body)); status != 202 {
					t.Errorf("call %d: %d %s", n, status, text)
				}
			}
		})
	}
	for n := range calls {
		work <- n
	}
	close(work)
	group.Wait()
	p.Sim.ForgetCalls()
	read(t, p)
	reads := len(p.Sim.Calls())
	if n := pair.Scan[int](p, `SELECT count(*) FROM inbox WHERE state = 'DONE'`); n != calls {
		t.Errorf("%d of %d calls are settled", n, calls)
	}
	if got := pair.Scan[string](p, `SELECT count(*) FILTER (WHERE kind = 'COMMENTED') || ' ' || count(*) FILTER (WHERE kind = 'CHANGED') FROM ledger_entry WHERE actor_kind = 'SYSTEM'`); got != "10 10" {
		t.Errorf("comments and changes: %s, want each once", got)
	}
	if reads > calls/4 {
		t.Errorf("%d calls from the vendor cost %d calls to it", calls, reads)
	}
}

// A ticket that is just being read may have been read before the call's change: the same content is news then.
func TestACallDuringTheReadIsNoRepeat(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	_, ticket := p.Escalated("Reading")
	door := hooks(t, p).URL + "/hooks/" + pair.SystemKey
	body := fmt.Sprintf(`{"sys_id":%q}`, ticket.SysID)
	post(t, door, secret, strings.NewReader(body))
	if _, err := p.DB.System.Exec(t.Context(), `UPDATE inbox SET lease_until = now() + interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	post(t, door, secret, strings.NewReader(body))
	if n := pair.Scan[int](p, `SELECT count(*) FROM inbox WHERE state = 'WAITING'`); n != 2 {
		t.Errorf("%d calls wait, want both", n)
	}
	post(t, door, secret, strings.NewReader(body)) // the second one waits for a read that lies ahead
	if n := pair.Scan[int](p, `SELECT count(*) FROM inbox WHERE state = 'DUPLICATE'`); n != 1 {
		t.Errorf("%d repeats, want 1", n)
	}
}

// What the log of a hub says is what its operators are woken by: an outage is told once with its cause, not with each call that
// it refuses, and its end with how many those were.
func TestAnOutageIsToldOnce(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	var told strings.Builder
	door := inbound.Door{System: p.System, Header: "X-Secret", Secret: connectors.NewSecret(secret)}
	mux := http.NewServeMux()
	mux.Handle("/hooks/{system}", inbound.NewHooks(p.DB, deaf{}, []inbound.Door{door}, limit, p.Now, slog.New(slog.NewTextHandler(&told, nil))))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	call := func(n, want int) {
		t.Helper()
		if status, text := post(t, s.URL+"/hooks/"+pair.SystemKey, secret, strings.NewReader(fmt.Sprintf(`{"sys_id":"0123456789abcdef0123456789abcdef","n":%d}`, n))); status != want {
			t.Fatalf("%d %s, want %d", status, text, want)
		}
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := p.DB.System.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	call(0, http.StatusAccepted)
	exec(`CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$`)
	for round := range 2 {
		told.Reset()
		exec(`CREATE TRIGGER full_disk BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION full_disk()`)
		for n := range 5 {
			call(n+1, http.StatusServiceUnavailable)
		}
		if got := told.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "53100") {
			t.Errorf("round %d: five refused calls are told as\n%s", round, got)
		}
		told.Reset()
		exec(`DROP TRIGGER full_disk ON inbox`)
		for n := range 3 {
			call(10*round+n+10, http.StatusAccepted)
		}
		if got := told.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=INFO") || !strings.Contains(got, "failures=5") {
			t.Errorf("round %d: its end is told as\n%s", round, got)
		}
	}
	// What is wrong with one call alone is told with each.
	told.Reset()
	exec(`ALTER TABLE inbox ADD CONSTRAINT inbox_refuses CHECK (source <> 'WEBHOOK') NOT VALID`)
	call(100, http.StatusServiceUnavailable)
	call(101, http.StatusServiceUnavailable)
	if got := told.String(); strings.Count(got, "level=ERROR") != 2 || strings.Count(got, "\n") != 2 {
		t.Errorf("calls that the database refuses for their own sake are told as\n%s", got)
	}
}

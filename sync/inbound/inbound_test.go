package inbound_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/connectors/servicenow/servicenowtest"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/sync/inbound"
	"liaison/sync/pair"
)

const (
	secret = "hook-secret"
	limit  = 1 << 20
)

// hooks serves the pair's webhook door.
func hooks(t *testing.T, p *pair.Pair, change ...func(*inbound.Door)) *httptest.Server {
	t.Helper()
	door := inbound.Door{System: p.System, Header: "X-Secret", Secret: connectors.NewSecret(secret)}
	for _, c := range change {
		c(&door)
	}
	mux := http.NewServeMux()
	mux.Handle("/hooks/{system}", inbound.NewHooks(p.DB, deaf{}, []inbound.Door{door}, limit, p.Now, slog.New(slog.NewTextHandler(io.Discard, nil))))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

type deaf struct{}

func (deaf) Ring(string) {}

func signed(d *inbound.Door) { d.Signed = true }

// post makes one call. Headers come in pairs of name and value.
func post(t *testing.T, url, key string, body io.Reader, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Secret", key)
	for n := 0; n < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func rows(p *pair.Pair) int { return pair.Scan[int](p, `SELECT count(*) FROM inbox`) }

func read(t *testing.T, p *pair.Pair) {
	t.Helper()
	for {
		n, err := p.Reader.Step(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

func TestBadCallsStoreNothing(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	door := hooks(t, p).URL + "/hooks/"
	for name, c := range map[string]struct {
		system, key, body string
		want              int
		says              string
	}{
		"wrong secret":   {pair.SystemKey, "guess", `{"sys_id":"x"}`, 401, "secret"},
		"no secret":      {pair.SystemKey, "", `{"sys_id":"x"}`, 401, "secret"},
		"unknown system": {"nobody", secret, `{"sys_id":"x"}`, 401, "secret"},
		"too large":      {pair.SystemKey, secret, `"` + strings.Repeat("x", limit) + `"`, 413, "1048576 bytes"},
	} {
		if status, text := post(t, door+c.system, c.key, strings.NewReader(c.body)); status != c.want || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %s, want %d and %q", name, status, text, c.want, c.says)
		}
	}
	if n := rows(p); n != 0 {
		t.Errorf("%d rows were stored", n)
	}
}

// A chunked body tells no length beforehand.
func TestAnOversizeChunkedBodyIsRefused(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	endless := io.LimitReader(zeros{}, 8<<20)
	if status, _ := post(t, hooks(t, p).URL+"/hooks/"+pair.SystemKey, secret, struct{ io.Reader }{endless}); status != 413 {
		t.Errorf("status %d, want 413", status)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for n := range b {
		b[n] = '0'
	}
	return len(b), nil
}

func TestABodyThatNamesNoTicketIsParkedWithItsReason(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	if status, text := post(t, hooks(t, p).URL+"/hooks/"+pair.SystemKey, secret, strings.NewReader(`{"hello":"world"}`)); status != 202 {
		t.Errorf("status %d %s, want 202: the body was stored", status, text)
	}
	if got := pair.Scan[string](p, `SELECT state || ' ' || convert_from(body, 'UTF8') FROM inbox WHERE reason <> ''`); got != `PARKED {"hello":"world"}` {
		t.Errorf("the inbox holds %s", got)
	}
}

func TestASignatureIsOverTheBody(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	door := hooks(t, p, signed).URL + "/hooks/" + pair.SystemKey
	body := `{"sys_id":"0123456789abcdef0123456789abcdef"}`
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	good := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	for key, want := range map[string]int{good: 202, strings.TrimPrefix(good, "sha256="): 202, secret: 401, "sha256=": 401, strings.ToUpper(good): 401} {
		if status, _ := post(t, door, key, strings.NewReader(body)); status != want {
			t.Errorf("signature %.12s…: status %d, want %d", key, status, want)
		}
	}
	if status, _ := post(t, door, good, strings.NewReader(body+" ")); status != 401 {
		t.Errorf("a changed body under the old signature: status %d, want 401", status)
	}
}

func TestAWebhookBringsTheVendorsChange(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	id, ticket := p.Escalated("Webhook")
	door := hooks(t, p).URL + "/hooks/" + pair.SystemKey
	p.Act(ticket.SysID, servicenowtest.Move{State: "2", Comment: "We are on it", Note: "toner"})
	hint := fmt.Sprintf(`{"sys_id":%q,"number":%q,"state":"7"}`, ticket.SysID, ticket.Number) // what it says of the state is not believed
	var calls sync.WaitGroup
	for range 20 { // RELIABILITY.md I4, the same call many times at once: applied once
		calls.Go(func() { post(t, door, secret, strings.NewReader(hint)) })
	}
	calls.Wait()
	read(t, p)
	if got := pair.Scan[string](p, `SELECT state FROM incident`); got != "IN_PROGRESS" {
		t.Errorf("the incident is %s", got)
	}
	if got := pair.Scan[string](p, `SELECT string_agg(visibility || ' ' || body, ', ' ORDER BY visibility DESC) FROM comment`); got != "PUBLIC We are on it, INTERNAL toner" {
		t.Errorf("comments: %s", got)
	}
	if got := pair.Scan[string](p, `SELECT count(*) FILTER (WHERE state = 'DONE') || ' and ' || count(*) FILTER (WHERE state = 'DUPLICATE') FROM inbox`); got != "1 and 19" {
		t.Errorf("%s of 20 calls were acted upon and kept as repeats", got)
	}
	if got := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry WHERE actor_kind = 'SYSTEM' AND kind IN ('CHANGED', 'COMMENTED')`); got != 3 {
		t.Errorf("%d entries, want the state and two comments once each", got)
	}
	_ = id
}

func TestAPollFindsWhatNoWebhookTold(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll() // from now on
	_, ticket := p.Escalated("Poll")
	p.Act(ticket.SysID, servicenowtest.Move{State: "3", HoldReason: "4", Title: "Their title"})
	p.Poll()
	if got := pair.Scan[string](p, `SELECT state || ' ' || hold_reason || ' ' || title FROM incident`); got != "ON_HOLD AWAITING_VENDOR Their title" {
		t.Errorf("the incident is %s", got)
	}
	before := rows(p)
	p.Poll()
	p.Poll()
	if after := rows(p); after != before {
		t.Errorf("quiet polls made %d inbox rows", after-before)
	}
}

func TestAPriorityComesBack(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	_, ticket := p.Escalated("Priority")
	p.Poll()
	if got := pair.Scan[string](p, `SELECT priority FROM incident`); got != "NONE" {
		t.Errorf("the vendor's computed priority was taken for an assessment: %s", got)
	}
	p.Act(ticket.SysID, servicenowtest.Move{Priority: "1"})
	p.Poll()
	if got := pair.Scan[string](p, `SELECT priority FROM incident`); got != "P1" {
		t.Errorf("the incident's priority is %s", got)
	}
}

// S36, RELIABILITY.md R12: an unknown value parks its field, everything else of the same update flows.
func TestAnUnknownValueParksItsFieldAlone(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	_, ticket := p.Escalated("Unknown")
	patch(t, p, ticket.SysID, `{"state":"3","hold_reason":"42","short_description":"Flows","comments":"this too"}`)
	p.Poll()
	if got := pair.Scan[string](p, `SELECT title || ' ' || state FROM incident`); got != "Flows NEW" {
		t.Errorf("the incident is %s", got)
	}
	if got := pair.Scan[string](p, `SELECT parked->>'state' FROM external_link`); !strings.Contains(got, `"42"`) {
		t.Errorf("the reason is %q, want it to name the value", got)
	}
	p.Act(ticket.SysID, servicenowtest.Move{State: "2"})
	p.Poll()
	if got := pair.Scan[string](p, `SELECT state || ' ' || (SELECT parked::text FROM external_link) FROM incident`); got != "IN_PROGRESS {}" {
		t.Errorf("after a known value: %s", got)
	}
}

// patch writes to the vendor's ticket as one of its administrators, past the choices of the form.
func patch(t *testing.T, p *pair.Pair, sysID, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, p.Sim.URL+"/api/now/table/incident/"+sysID, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("admin", "admin")
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("the vendor answered %s", answer.Status)
	}
}

// A value that several hub words share and that has not changed there leaves ours alone.
func TestASharedValueLeavesOursAlone(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	id, ticket := p.Escalated("Shared")
	if _, err := p.Desk.Assign(t.Context(), p.Agent, target(id), "Network", ""); err != nil {
		t.Fatal(err)
	}
	p.Deliver()
	p.Act(ticket.SysID, servicenowtest.Move{Comment: "only a comment"})
	p.Poll()
	if got := pair.Scan[string](p, `SELECT state FROM incident`); got != "ASSIGNED" {
		t.Errorf("ASSIGNED and NEW are one state there; the incident became %s", got)
	}
}

func TestHintsAboutForeignTicketsAreIgnored(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	foreign, err := p.Sim.Open(servicenowtest.Move{Title: "somebody else's"})
	if err != nil {
		t.Fatal(err)
	}
	post(t, hooks(t, p).URL+"/hooks/"+pair.SystemKey, secret, strings.NewReader(fmt.Sprintf(`{"sys_id":%q}`, foreign.SysID)))
	read(t, p)
	if got := pair.Scan[string](p, `SELECT state FROM inbox`); got != "IGNORED" {
		t.Errorf("the hint is %s", got)
	}
}

// The vendor calls before the hub has settled the create that made the ticket.
func TestAHintThatOvertakesItsCreateWaits(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Escalate("Overtaken")
	xs, err := p.Ledger.NextExchanges(t.Context(), p.System.ID, 1, time.Minute)
	if err != nil || len(xs) != 1 {
		t.Fatal(len(xs), err)
	}
	p.Worker.Call(t.Context(), xs[0]) // the ticket exists, the hub does not know it yet
	ticket := p.Sim.Tickets()[0]
	p.Act(ticket.SysID, servicenowtest.Move{State: "2"})
	post(t, hooks(t, p).URL+"/hooks/"+pair.SystemKey, secret, strings.NewReader(fmt.Sprintf(`{"sys_id":%q}`, ticket.SysID)))
	if _, err := p.Reader.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := pair.Scan[string](p, `SELECT state FROM inbox`); got != "WAITING" {
		t.Fatalf("the hint is %s although its ticket is ours", got)
	}
	if _, err := p.DB.System.Exec(t.Context(), `UPDATE lane SET lease_until = '-infinity'`); err != nil {
		t.Fatal(err)
	}
	p.Advance(5 * time.Second)
	p.Deliver()
	read(t, p)
	if got := pair.Scan[string](p, `SELECT state FROM incident`); got != "IN_PROGRESS" {
		t.Errorf("the incident is %s", got)
	}
}

func TestTheVendorsOutageLosesNothing(t *testing.T) {
	t.Parallel()
	p := pair.New(t, nil)
	p.Poll()
	id, ticket := p.Escalated("Outage")
	if err := p.Sim.SetFaults(servicenowtest.Faults{Rules: []servicenowtest.Fault{{Kind: servicenowtest.FaultServerError, Rate: 1}}}); err != nil {
		t.Fatal(err)
	}
	p.Act(ticket.SysID, servicenowtest.Move{State: "2", Comment: "during the outage"})
	p.Say(id, incident.Public, "ours during the outage")
	p.Advance(p.System.PollInterval)
	if _, err := p.Poller.Step(t.Context()); err == nil {
		t.Error("a poll of a vendor that is down reports success")
	}
	p.Deliver()
	if err := p.Sim.SetFaults(servicenowtest.Faults{}); err != nil {
		t.Fatal(err)
	}
	for range 40 { // breaker, backoff and poll pauses pass
		p.Advance(time.Minute)
		p.Deliver()
		_, _ = p.Poller.Step(t.Context()) // an open breaker refuses at first
		read(t, p)
	}
	if got := pair.Scan[string](p, `SELECT state || ' ' || (SELECT count(*) FROM comment) FROM incident`); got != "IN_PROGRESS 2" {
		t.Errorf("the hub has %s", got)
	}
	if n := len(p.Ticket(ticket.SysID).Comments); n != 2 {
		t.Errorf("the vendor has %d comments, want 2", n)
	}
}

func target(id incident.ID) desk.Target { return desk.Target{Incident: id} }

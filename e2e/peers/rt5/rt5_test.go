//go:build e2e

package rt5_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"liaison/e2e/peers/rt5"
)

// get calls the REST API as user and decodes the answer.
func get(t *testing.T, s *rt5.Server, user rt5.User, path string) (status int, answer map[string]any) {
	t.Helper()
	return call(t, s, user, http.MethodGet, path, "")
}

func call(t *testing.T, s *rt5.Server, user rt5.User, method, path, body string) (status int, answer map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/REST/2.0"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if user.Token != "" {
		req.Header.Set("Authorization", "token "+user.Token)
	} else {
		req.SetBasicAuth(user.Name, user.Password)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.HasPrefix(text, []byte("{")) {
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return res.StatusCode, answer
}

func createTicket(t *testing.T, s *rt5.Server) {
	t.Helper()
	status, answer := call(t, s, s.Hub, http.MethodPost, "/ticket",
		`{"Queue":"Incidents","Subject":"The library is offline","Content":"since nine","ContentType":"text/plain"}`)
	if status != http.StatusCreated || answer["id"] == nil {
		t.Fatalf("creating a ticket: %d %v", status, answer)
	}
}

func TestServer(t *testing.T) {
	t.Parallel()
	s := rt5.Start(t, rt5.Options{Workers: 2})

	for _, u := range []rt5.User{s.Hub, s.Alice, s.Bob, s.Tomo, s.Outsider, s.Root, {Name: s.Hub.Name, Password: s.Hub.Password}} {
		status, answer := get(t, s, u, "/rt")
		if version, _ := answer["Version"].(string); status != http.StatusOK || !strings.HasPrefix(version, "5.") {
			t.Errorf("%s signing in: %d %v, want 200 and a version 5", u.Name, status, answer)
		}
	}
	if status, _ := get(t, s, rt5.User{Name: "hub", Password: "wrong"}, "/rt"); status != http.StatusUnauthorized {
		t.Errorf("a wrong password: %d, want 401", status)
	}

	createTicket(t, s)
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, _ := get(t, s, s.Hub, "/ticket/1"); status != http.StatusOK {
		t.Errorf("the ticket after Restart: %d, want 200", status)
	}

	address := s.URL
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("stopping twice: %v", err)
	}
	if res, err := http.Get(s.URL); err == nil {
		res.Body.Close()
		t.Error("a stopped server answers")
	}
	if err := s.Fresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, _ := get(t, s, s.Hub, "/ticket/1"); status != http.StatusNotFound {
		t.Errorf("the ticket after Fresh: %d, want 404", status)
	}
	if s.URL != address {
		t.Errorf("the address became %s, was %s", s.URL, address)
	}
}

func TestSetWebhook(t *testing.T) {
	t.Parallel()
	s := rt5.Start(t, rt5.Options{})
	type call struct {
		body      []byte
		signature string
	}
	calls := make(chan call, 16)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- call{body, r.Header.Get("X-RT-Signature")}
	}))
	t.Cleanup(hook.Close)

	if err := s.SetWebhook(t.Context(), hook.URL+"/hooks/rt"); err != nil {
		t.Fatal(err)
	}
	createTicket(t, s)
	select {
	case c := <-calls:
		mac := hmac.New(sha256.New, []byte(s.WebhookSecret))
		mac.Write(c.body)
		if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); c.signature != want || !json.Valid(c.body) {
			t.Errorf("the webhook sent %q signed %q, want JSON signed %q", c.body, c.signature, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no call within 20 s of a ticket's creation")
	}

	// A change's calls are made before its answer is sent: the channel tells whether there was one.
	if err := s.SetWebhook(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	for len(calls) > 0 {
		<-calls
	}
	createTicket(t, s)
	if n := len(calls); n != 0 {
		t.Errorf("%d calls after the webhook was taken away", n)
	}
}

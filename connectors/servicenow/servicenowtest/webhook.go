package servicenowtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"
)

// event is one change that an outside system may hear of.
type event struct {
	operation string // insert, update, delete
	row       *row
	journals  []journalText
	plain     bool // more than the journal changed
}

// webhookFields are the columns that a call carries unless configured.
var webhookFields = func() map[string]string {
	out := map[string]string{}
	for _, c := range []string{
		"sys_id", "number", "state", "hold_reason", "short_description", "priority", "correlation_id",
		"correlation_display", "sys_mod_count", "sys_updated_on", "sys_updated_by",
	} {
		out[c] = c
	}
	return out
}()

// sender makes the outgoing calls. Each runs by itself, so their order is not kept; none is tried twice.
type sender struct {
	life   context.Context
	faults *faults
	client *http.Client
	slots  chan struct{} // bounds calls under way, as the platform's workers do
	group  sync.WaitGroup

	mu     sync.Mutex
	hook   Webhook
	passed chan struct{} // closed when the next call has been made; calls held back wait for it
}

func (o *sender) init(life context.Context, hook Webhook, f *faults) {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	o.life, o.faults, o.slots, o.passed = life, f, make(chan struct{}, 16), make(chan struct{})
	o.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	o.target(hook)
}

func (o *sender) target(hook Webhook) {
	setDefault(&hook.Header, "X-Webhook-Secret")
	setDefault(&hook.Timeout, 5*time.Second)
	if hook.Fields == nil {
		hook.Fields = webhookFields
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hook = hook
}

func (o *sender) wait() {
	o.group.Wait()
	o.client.CloseIdleConnections()
}

// announce sends events on their way; the server's lock is held.
func (s *Server) announce(events []event) {
	for _, e := range events {
		if s.cfg.SplitWebhooks && len(e.journals) > 0 && e.plain {
			journal, fields := e, e
			fields.journals = nil
			s.sender.send(fields)
			s.sender.send(journal)
			continue
		}
		s.sender.send(e)
	}
}

func (o *sender) send(e event) {
	o.mu.Lock()
	hook := o.hook
	o.mu.Unlock()
	if hook.URL == "" || o.life.Err() != nil {
		return
	}
	body, _ := json.Marshal(hook.body(e)) // a map of strings cannot fail
	fault, _ := o.faults.pick(webhookFaults, "", "")
	switch fault.Kind {
	case FaultWebhookDrop:
		return
	case FaultWebhookDuplicate:
		o.group.Go(func() { o.post(hook, body) })
	case FaultWebhookDelay:
		setDefault(&fault.Delay, 30*time.Second)
		delay := o.faults.jitter(fault.Delay)
		o.group.Go(func() { o.hold(nil, delay); o.post(hook, body) })
		return
	case FaultWebhookReorder:
		setDefault(&fault.Delay, time.Second)
		o.mu.Lock()
		next := o.passed
		o.mu.Unlock()
		o.group.Go(func() { o.hold(next, fault.Delay); o.post(hook, body) })
		return
	default: // nothing goes wrong
	}
	o.group.Go(func() { o.post(hook, body); o.pass() })
}

// hold waits for a signal, at most for a time.
func (o *sender) hold(signal <-chan struct{}, d time.Duration) {
	select {
	case <-signal:
	case <-time.After(d):
	case <-o.life.Done():
	}
}

// pass lets go the calls that were held back behind this one.
func (o *sender) pass() {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.passed)
	o.passed = make(chan struct{})
}

func (w Webhook) body(e event) map[string]string {
	out := map[string]string{}
	for key, col := range w.Fields {
		out[key] = e.row.vals[col]
	}
	for _, j := range e.journals {
		for key, col := range w.Fields {
			if col == j.element {
				out[key] = j.text
			}
		}
	}
	maps.Copy(out, map[string]string{"table": e.row.class, "operation": e.operation})
	return out
}

// post makes one call. Its outcome is nobody's concern: at most once.
func (o *sender) post(hook Webhook, body []byte) {
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	case <-o.life.Done():
		return
	}
	ctx, cancel := context.WithTimeout(o.life, hook.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, hook.URL, bytes.NewReader(body))
	if err != nil {
		return
	}
	r.Header.Set("Content-Type", "application/json")
	if hook.Secret != "" {
		r.Header.Set(hook.Header, hook.Secret)
	}
	res, err := o.client.Do(r)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection can be used again
	_ = res.Body.Close()
}

// Package conformance is the one suite that every connector passes, against its vendor's simulator or its real server.
//
// The suite puts a proxy of its own between connector and vendor. Through it the vendor works as it does, and the
// suite can cut an answer that the vendor has given already, hold it back, or answer in its place. Every case says what
// the contract in package connectors promises; a connector whose vendor cannot keep a promise waives the case with a
// reason, and a waiver that is no longer needed fails.
//
// Cases run one after the other, each with a harness of its own. A case that dies leaves at most tickets at the vendor.
package conformance

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"liaison/connectors"
)

// Spec is a connector as the suite sees it.
type Spec struct {
	// New prepares a vendor for one case. A real server may be shared by all cases: they open tickets of their own and
	// look at no others.
	New func(t testing.TB) Harness
	// Waived are cases that this vendor makes impossible, with the reason.
	Waived map[string]string
	// Only are the cases to run. Default: all.
	Only []string
	// Exhaustive runs the cases that go through every byte of an answer at each byte, and not at every hundredth or so.
	Exhaustive bool
	// Patience bounds every wait for a vendor whose search lags. Default: 30s.
	Patience time.Duration
}

// Harness is a vendor, a way to make connectors for it, and hands at the vendor's side.
type Harness struct {
	// URL is the vendor's address. Connectors get the address of the suite's proxy before it.
	URL string
	// Connect makes a connector that calls the vendor at o.URL. It must not retry longer than a few seconds. A sign-in
	// that is a call of its own, as with OAuth, goes to the vendor past the proxy: the faults are meant for the calls.
	Connect func(t testing.TB, o Options) connectors.Connector
	// Secrets must show in no error: the password, the token, the value of the Authorization header.
	Secrets []string

	// Fields are what a draft with that title needs for the vendor to accept it.
	Fields func(title string) connectors.Fields
	// Updates are two writes that the vendor takes and keeps as they are, with different values for the same fields.
	Updates [2]connectors.Fields
	// UnknownID is an id of the right form that no ticket has.
	UnknownID connectors.ExternalID

	Vendor Vendor
}

// Options say how a connector is to be made.
type Options struct {
	URL string // the proxy's address, in place of the vendor's; the path of Harness.URL is appended already
	// PageSize is how many rows a page of changes shall hold, where the connector can be told; 0: its default.
	PageSize int
}

// Vendor acts as the vendor's own agent, past the proxy and not under the connector's account.
type Vendor struct {
	Count func(t testing.TB, correlationID string) int // tickets that carry the correlation id
	Say   func(t testing.TB, id connectors.ExternalID, v connectors.Visibility, body string)
	// Touch changes a field of the ticket, each time to a value that it did not have.
	Touch func(t testing.TB, id connectors.ExternalID)
	// TouchAll changes the tickets so that the vendor stamps all alike. Default: Touch, one after the other.
	TouchAll func(t testing.TB, ids []connectors.ExternalID)
	// Messages are the ticket's messages, oldest first, without those that the vendor makes of the ticket's description.
	Messages func(t testing.TB, id connectors.ExternalID) []Message
	// Close ends the ticket for good, and Closed tells whether it is: for connectors that close duplicates.
	Close  func(t testing.TB, id connectors.ExternalID)
	Closed func(t testing.TB, id connectors.ExternalID) bool
	// Copy has a person open a ticket with the correlation id: for connectors that close duplicates.
	Copy func(t testing.TB, correlationID string) connectors.ExternalID
}

// Message is a message as the vendor holds it.
type Message struct {
	Visibility connectors.Visibility
	Body       string
}

// Case is one promise of the contract.
type Case struct {
	Name string
	run  func(*bench)
}

// Cases lists the suite.
func Cases() []Case {
	return slices.Concat(ticketCases(), journalCases(), changeCases(), failureCases(), rubbishCases(), duplicateCases(), paceCases())
}

// Run runs the suite.
func Run(t *testing.T, spec Spec) {
	t.Helper()
	cases := Cases()
	for _, name := range slices.Concat(slices.Sorted(maps.Keys(spec.Waived)), spec.Only) {
		if !slices.ContainsFunc(cases, func(c Case) bool { return c.Name == name }) {
			t.Errorf("case %q is none of the suite's; correct or remove it", name)
		}
	}
	for _, c := range cases {
		if len(spec.Only) > 0 && !slices.Contains(spec.Only, c.Name) {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			if reason, waived := spec.Waived[c.Name]; waived {
				runWaived(t, spec, c, reason)
				return
			}
			c.run(newBench(t, spec))
		})
	}
}

func runWaived(t testing.TB, spec Spec, c Case, reason string) {
	t.Helper()
	if strings.TrimSpace(reason) == "" {
		t.Fatalf("case %s is waived without a reason", c.Name)
	}
	p := &probe{TB: t}
	p.watch(func() { c.run(newBench(p, spec)) })
	if !p.failed {
		t.Fatalf("case %s is waived (%s) but passes; remove the waiver", c.Name, reason)
	}
	t.Skipf("waived: %s (%s)", reason, strings.Join(p.said, "; "))
}

// probe runs a case that is expected to fail and keeps its failure to itself.
type probe struct {
	testing.TB
	failed bool
	said   []string
}

// watch runs f on a goroutine of its own, so that FailNow can end it.
func (p *probe) watch(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

func (p *probe) Errorf(format string, args ...any) {
	p.failed, p.said = true, append(p.said, fmt.Sprintf(format, args...))
}

func (p *probe) Error(args ...any) { p.Errorf("%s", fmt.Sprint(args...)) }
func (p *probe) Fail()             { p.failed = true }
func (p *probe) Failed() bool      { return p.failed }
func (p *probe) Log(...any)        {}
func (p *probe) Logf(string, ...any) {
}

func (p *probe) FailNow() {
	p.failed = true
	runtime.Goexit()
}

func (p *probe) Fatalf(format string, args ...any) {
	p.Errorf(format, args...)
	p.FailNow()
}

func (p *probe) Fatal(args ...any) {
	p.Error(args...)
	p.FailNow()
}

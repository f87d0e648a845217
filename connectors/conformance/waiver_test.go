package conformance

import (
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"liaison/connectors"
)

// skipProbe also keeps a skip to itself.
type skipProbe struct {
	probe
	skipped string
}

func (p *skipProbe) Skipf(format string, _ ...any) {
	p.skipped = format
	runtime.Goexit()
}

// A waiver needs a reason, excuses a case that fails, and is itself a failure once the case passes.
func TestWaivers(t *testing.T) {
	t.Parallel()
	vendor := httptest.NewServer(nil)
	t.Cleanup(vendor.Close)
	spec := Spec{New: func(testing.TB) Harness {
		// The cases below call no connector.
		return Harness{URL: vendor.URL, Connect: func(testing.TB, Options) connectors.Connector { return nil }}
	}}
	passes, fails := Case{"Passes", func(*bench) {}}, Case{"Fails", func(b *bench) { b.Fatalf("as expected") }}
	for name, c := range map[string]struct {
		run          Case
		reason, want string
		skipped      bool
	}{
		"fails with a reason":    {fails, "the vendor has no such thing", "", true},
		"fails without a reason": {fails, " ", "without a reason", false},
		"passes with a reason":   {passes, "the vendor has no such thing", "remove the waiver", false},
	} {
		p := &skipProbe{probe: probe{TB: t}}
		p.watch(func() { runWaived(p, spec, c.run, c.reason) })
		if said := strings.Join(p.said, "; "); !strings.Contains(said, c.want) || p.failed != (c.want != "") || (p.skipped != "") != c.skipped {
			t.Errorf("%s: failed %t, skipped %q, said %q", name, p.failed, p.skipped, said)
		}
	}
}

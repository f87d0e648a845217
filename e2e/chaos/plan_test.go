//go:build chaos

package chaos_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

var (
	seedFlag     = flag.Uint64("chaos.seed", 0, "seed of everything random; 0 draws one")
	changesFlag  = flag.Int("chaos.changes", 600, "TestChaos: changes on each side; the full run has 10000")
	ticketsFlag  = flag.Int("chaos.tickets", 60, "TestChaos: incidents; the full run has 1000")
	rtFlag       = flag.Int("chaos.rt", 5, "TestChaos: how many of them are escalated to Request Tracker; 0 leaves it out")
	vendorsFlag  = flag.Int("chaos.servicenows", 2, "TestChaos: how many ServiceNow instances share the rest; the full run has 4")
	killsFlag    = flag.Int("chaos.kills", 5, "TestChaos: how often a hub is killed; the full run has 20")
	pgKillsFlag  = flag.Int("chaos.pgkills", 1, "TestChaos: how often PostgreSQL is killed")
	rateFlag     = flag.Float64("chaos.rate", 8, "TestChaos: changes a second on each side")
	stopFlag     = flag.Duration("chaos.stop", 25*time.Second, "TestChaos: how long one hub is stopped (SIGSTOP), once; a lease lasts 20s; 0: not at all")
	partFlag     = flag.Duration("chaos.partition", 20*time.Second, "TestR5Partition: how long the vendor is out of reach; the full run has 10m")
	partChanges  = flag.Int("chaos.partchanges", 160, "TestR5Partition: changes of both sides together; the full run has 2000")
	droppedFlag  = flag.Int("chaos.dropped", 100, "TestR15DroppedWebhooks: webhooks that never come; the full run has 1000")
	faultsFlag   = flag.Bool("chaos.faults", true, "TestChaos: the fault mix and trouble on the wires; false to look for what fails without")
	compareFlag  = flag.Int("chaos.compared", 200, "TestR15Reconcile: tickets to compare; the full run has 100000")
	lagFlag      = flag.Bool("chaos.lagcomments", false, "TestChaos: agents also write messages where the journal lags behind the tickets")
	convergeFlag = flag.Duration("chaos.converge", time.Minute, "how long after the last fault both sides may differ")
	keepFlag     = flag.Bool("chaos.keep", false, "keep the run's folder with the hubs' logs")
)

// plan is one run.
type plan struct {
	name        string
	seed        uint64
	changes     int // on each side
	incidents   int
	rt          int // of them at Request Tracker
	serviceNows int
	contested   float64 // share of incidents whose fields both sides change
	both        float64 // share of incidents with tickets at two vendors
	rate        float64 // changes a second on each side
	poll        time.Duration

	mix       bool          // the fault mix M on every vendor call and webhook
	weather   bool          // trouble on the wires
	skew      bool          // vendors' clocks are off by hours
	kills     int           // of hubs
	pgKills   int           // of PostgreSQL
	stop      time.Duration // one hub is stopped that long
	partition time.Duration // the first vendor is out of reach that long, from before the first change to after the last
	deaf      bool          // no webhook arrives
}

// random returns a source of its own for a purpose, so that one part's draws do not move another's.
func (p plan) random(purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(p.seed, purpose)) }

func seeded(t *testing.T, p plan) plan {
	t.Helper()
	if p.seed = *seedFlag; p.seed == 0 {
		p.seed = uint64(time.Now().UnixNano())
	}
	fmt.Fprintf(os.Stdout, "%s: seed %d (repeat with -run '^%s$' -chaos.seed %d)\n", p.name, p.seed, p.name, p.seed)
	return p
}

// TestMain removes the binary that the tests built.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // a folder of the temporary folder: the system clears it away at the latest
	}
	os.Exit(code)
}

var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// binary builds the program once, unless LIAISON_E2E_BINARY names one to be tested.
func binary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.path = os.Getenv("LIAISON_E2E_BINARY"); built.path != "" {
			return
		}
		if built.dir, built.err = os.MkdirTemp("", "liaison-chaos-bin-"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "liaison")
		out, err := exec.Command("go", "build", "-buildvcs=false", "-o", built.path, "liaison/cmd/liaison").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("building the program: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

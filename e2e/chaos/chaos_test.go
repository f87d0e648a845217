//go:build chaos

package chaos_test

import (
	"testing"
	"time"
)

// R1, R2, R3, R4 and L1 in one run, with R7's stopped hub: every fault at once. Not parallel: it needs the machine.
func TestChaos(t *testing.T) {
	run(t, seeded(t, plan{
		name: "TestChaos", changes: *changesFlag, incidents: *ticketsFlag, rt: *rtFlag, serviceNows: *vendorsFlag,
		contested: 0.2, both: 0.1, rate: *rateFlag, poll: 5 * time.Second,
		mix: *faultsFlag, weather: *faultsFlag, skew: true, kills: *killsFlag, pgKills: *pgKillsFlag, stop: *stopFlag,
	}))
}

// R5: a vendor out of reach while both sides make changes, a tenth of the incidents being changed in the same fields by
// both. In the end all is equal, and each conflict stands in the ledger with both values.
func TestR5Partition(t *testing.T) {
	t.Parallel()
	n := *partChanges / 2
	run(t, seeded(t, plan{
		name: "TestR5Partition", changes: n, incidents: max(20, n/10), serviceNows: 2, contested: 0.5,
		rate: float64(n) / partFlag.Seconds(), poll: 5 * time.Second, partition: *partFlag,
	}))
}

// R15, first half: webhooks dropped on purpose are found by the poll within its interval and a minute.
func TestR15DroppedWebhooks(t *testing.T) {
	t.Parallel()
	run(t, seeded(t, plan{
		name: "TestR15DroppedWebhooks", changes: *droppedFlag, incidents: max(15, *droppedFlag/10), serviceNows: 2,
		rate: 15, poll: 10 * time.Second, deaf: true, skew: true,
	}))
}

// R15, second half: comparing all tickets with their vendors writes nothing when nothing differs. Each run above ends with
// the same comparison; this one is for its size.
func TestR15Reconcile(t *testing.T) {
	t.Parallel()
	run(t, seeded(t, plan{name: "TestR15Reconcile", incidents: *compareFlag, serviceNows: 2, rate: 1000, poll: 10 * time.Second}))
}

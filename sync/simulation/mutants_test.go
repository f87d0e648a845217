package simulation

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// change replaces one place of a source file.
type change struct{ file, from, to string }

// mutants are planted bugs, each in a place that the promises hang on. A place that is gone fails the test: its mutant
// has to follow the code.
var mutants = []struct {
	name    string
	changes []change
	seeds   string // within how many it must be caught
	tilt    string // what there must be more of for that
}{
	{"a settlement is not fenced", []change{{"sync/ledger/settle.go", "\tif errors.Is(err, pgx.ErrNoRows) {\n\t\treturn ErrFenced\n\t}\n\treturn err\n}\n\n// tells", "\tif errors.Is(err, pgx.ErrNoRows) {\n\t\treturn nil\n\t}\n\treturn err\n}\n\n// tells"}}, "600", ""},
	{"settlements together are not fenced", []change{{"sync/ledger/settle.go", "\t\t\tif open[s.exchange.Lease.Link.UUID] {\n\t\t\t\tw.add", "\t\t\tif open != nil {\n\t\t\t\tw.add"}}, "600", ""},
	{"messages that the hub has are taken again", []change{{"sync/pull/pull.go", "case now.Known[e.ID]:", "case now.Known[e.ID] && e.ID == \"\":"}}, "100", ""},
	{"the journal's mark is not recorded before sending", []change{{"sync/outbound/exchange.go", "if err := w.ledger.NoteMark(ctx, x, mark); err != nil {", "if err := error(nil); err != nil {"}}, "600", ""},
	{"the settle window is ignored", []change{{"sync/outbound/exchange.go", "- x.SentAgo; left > 0 {", "- x.SentAgo; left > 1<<62 {"}}, "600", ""},
	{"a lost answer is taken for a failure", []change{{"sync/outbound/exchange.go", "s.State, s.Lost, s.RetryAt = ledger.StateUnknown, true,", "s.State, s.Lost, s.RetryAt = ledger.StatePending, true,"}}, "200", ""},
	{"the call is made before the claim is durable", []change{{"sync/ledger/lane.go", "if len(broken.Links) > 0 {", "if len(broken.Links) > 1<<20 {"}}, "1000", ""},
	{"of what a dead worker began only the first may have been sent", []change{{"sync/ledger/ledgertest/lane.go", "\t\t\tm.deliveries.Put(t.Tx, d.ID, d)\n\t\t}\n\t}\n\treturn nil\n}\n\nfunc (t *tx) BeginRuns", "\t\t\tm.deliveries.Put(t.Tx, d.ID, d)\n\t\t\tbreak\n\t\t}\n\t}\n\treturn nil\n}\n\nfunc (t *tx) BeginRuns"}}, "1000", ""},
	{"a run's settlement forgets all but its last", []change{{"sync/ledger/settle.go", "\t\tw.deliver(x, before.delivery, before.settlement)\n", ""}}, "1000", ""},
	{"the base does not move after a write", []change{{"sync/ledger/settle.go", "\tl.agree(s.Agreed)\n", ""}}, "200", ""},
	{"the link that a change came from hears of it", []change{{"sync/ledger/take.go", "c.actor, c.from, c.before,", "c.actor, c.about, c.before,"}}, "200", ""},
	{"overruled values are not withdrawn", []change{{"sync/ledger/take.go", "w.withdraw(ctx, overruled)", "w.withdraw(ctx, nil)"}}, "1000", ""},
	{"a hint is not stored with the cursor", []change{{"sync/inbound/poll.go", "if len(tickets) > 0 {", "if len(tickets) > 1<<20 {"}}, "200", ""},
	{"leases are short and nobody renews them", []change{
		{"sync/system/lease.go", "const Lease = 20 * time.Second", "const Lease = 2 * time.Second"},
		{"sync/system/lease.go", "if !k.timed && len(k.kept) > 0 {", "if !k.timed && len(k.kept) > 1<<20 {"},
	}, "600", ""},
	{"a process that stood still trusts its old lease", []change{
		{"sync/system/lease.go", "\tif !time.Now().Before(ends) {\n\t\tcancel(", "\tif ends.IsZero() {\n\t\tcancel("},
		{"sync/system/lease.go", "return ok && !time.Now().Before(kept.ends)", "return ok && kept.ends.IsZero()"},
	}, "600", "freezes"},
	{"idempotency keys are not kept", []change{{"sync/ledger/change.go", "\tif key.Value == \"\" {\n\t\treturn nil\n\t}\n\treturn q.InsertKey(", "\tif key.Value != \"\" {\n\t\treturn nil\n\t}\n\treturn q.InsertKey("}}, "600", ""},
	{"a lane goes by id", []change{{"sync/ledger/ledgertest/lane.go", "return cmp.Compare(a.Version, b.Version)", "return -cmp.Compare(string(a.ID[:]), string(b.ID[:]))"}}, "200", ""},
	{"a lane that goes on does not say what it sends", []change{{"sync/ledger/ledgertest/lane.go", "out = append(out, db.SettleLanesRow(t.run(&lane, next[0].Version, next[min(len(next), int(p.Most))-1].Version)))", "out = append(out, db.SettleLanesRow(t.run(&lane, next[0].Version, next[min(len(next), int(p.Most))-1].Version)))\n\t\t\tlane.SendingVersion = nil"}}, "1000", ""},
	{"a field that moved at the vendor is overwritten", []change{{"sync/outbound/update.go", " || w.moved(x.Link, ticket, u.written) {", " {"}}, "600", ""},
}

// TestMutants is the test of the tests: each planted bug is caught by the simulation within a bounded number of seeds. It
// builds the simulation anew for each, so it takes minutes.
func TestMutants(t *testing.T) {
	if os.Getenv("LIAISON_MUTANTS") == "" {
		t.Skip("set LIAISON_MUTANTS=1 to plant bugs and see them caught (some minutes)")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			binary := plant(t, root, m.changes)
			out, err := exec.CommandContext(t.Context(), binary, "-test.run", "^TestSimulation$", "-runs", m.seeds, "-stop", "1", "-tilt", m.tilt).CombinedOutput()
			switch {
			case err == nil:
				t.Errorf("not caught within %s seeds", m.seeds)
			case !bytes.Contains(out, []byte("alone: go test")):
				t.Errorf("failed, but not by a broken promise:\n%s", out)
			default:
				_, told, _ := strings.Cut(string(out), "seed ")
				seed, promise, _ := strings.Cut(told, "\n")
				promise, _, _ = strings.Cut(strings.TrimSpace(promise), "\n")
				t.Logf("caught by seed %s %s", seed, promise)
			}
		})
	}
}

// plant builds the simulation with the changes laid over the sources.
func plant(t *testing.T, root string, changes []change) string {
	t.Helper()
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	sources := map[string]string{}
	for _, c := range changes {
		path := filepath.Join(root, c.file)
		if sources[path] == "" {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			sources[path] = string(b)
		}
		if n := strings.Count(sources[path], c.from); n != 1 {
			t.Fatalf("%s holds the mutant's place %d times, not once; let the mutant follow the code:\n%s", c.file, n, c.from)
		}
		sources[path] = strings.Replace(sources[path], c.from, c.to, 1)
	}
	for path, source := range sources {
		overlay.Replace[path] = filepath.Join(dir, strings.ReplaceAll(strings.TrimPrefix(path, root+"/"), "/", "_"))
		if err := os.WriteFile(overlay.Replace[path], []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "simulation.test")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", file, "-o", binary, "./sync/simulation")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building with the bug planted: %v\n%s", err, out)
	}
	return binary
}

package main

import (
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"liaison/connectors/account"
	"liaison/connectors/client"
	"liaison/internal/feed"
	"liaison/internal/postgres"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/inbound"
	"liaison/sync/outbound"
	"liaison/sync/pulse"
	"liaison/sync/reconcile"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// takenDown is a Registerer that takes down what would be told.
type takenDown map[string]string // help by name

var descText = regexp.MustCompile(`fqName: "([^"]+)", help: "((?:[^"\\]|\\.)*)"`)

func (d takenDown) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 100)
	c.Describe(descs)
	close(descs)
	for desc := range descs {
		if m := descText.FindStringSubmatch(desc.String()); m != nil {
			d[m[1]] = m[2]
		}
	}
	return nil
}

func (d takenDown) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		_ = d.Register(c) // it never fails
	}
}

func (takenDown) Unregister(prometheus.Collector) bool { return false }

// The README's table of metrics is what the hub's parts say of themselves.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	all := takenDown{}
	outbound.NewMetrics(all)
	inbound.NewMetrics(all)
	reconcile.NewMetrics(all)
	db := pgtest.New(t)
	events, err := feed.New(t.Context(), db, postgres.NewBell(db, slog.Default()), feed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	all.MustRegister(events, client.NewCollector(account.NewRegistry()), pulse.NewCollector(nil, time.Now, slog.Default()))
	var b strings.Builder
	b.WriteString("| metric | meaning |\n| --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		help := strings.TrimSpace(all[name])
		if !strings.HasPrefix(name, "liaison_") || !strings.HasSuffix(help, ".") {
			t.Errorf("%s is described as %q; name it liaison_… and say in a sentence what it means", name, help)
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, strings.ReplaceAll(help, "|", `\|`))
	}
	const golden = "testdata/metrics.md"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != b.String() {
		t.Errorf("%s differs from what the hub tells, rewrite it with -update if meant (%v):\n%s", golden, err, b.String())
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil || !strings.Contains(string(readme), b.String()) {
		t.Errorf("README.md does not hold the table of metrics as it is: replace it by cmd/liaison/%s (%v)", golden, err)
	}
}

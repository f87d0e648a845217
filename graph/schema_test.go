package graph_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2"
	"github.com/vektah/gqlparser/v2/ast"

	"liaison/connectors"
	"liaison/graph/model"
	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/merge"
	"liaison/sync/pulse"
)

func schema(t *testing.T) *ast.Schema {
	t.Helper()
	files, err := filepath.Glob("../schema/*.graphql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no schema: %v", err)
	}
	var sources []*ast.Source
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, &ast.Source{Name: f, Input: string(b)})
	}
	s, err := gqlparser.LoadSchema(sources...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEverythingIsDescribed(t *testing.T) {
	t.Parallel()
	check := func(name, description string) {
		if d := strings.TrimSpace(description); len(d) < 4 || !strings.HasSuffix(d, ".") {
			t.Errorf("%s is described as %q; say in a sentence what it means", name, d)
		}
	}
	for name, d := range schema(t).Types {
		if d.BuiltIn {
			continue
		}
		check(name, d.Description)
		for _, f := range d.Fields {
			if strings.HasPrefix(f.Name, "__") {
				continue
			}
			check(name+"."+f.Name, f.Description)
			for _, a := range f.Arguments {
				check(name+"."+f.Name+"("+a.Name+":)", a.Description)
			}
		}
		for _, v := range d.EnumValues {
			check(name+"."+v.Name, v.Description)
		}
	}
}

// The schema's enums and the domain's words are the same lists.
func TestEnumsAreTheDomainsWords(t *testing.T) {
	t.Parallel()
	s := schema(t)
	roles := auth.Roles()
	upper := make([]string, len(roles))
	for n, r := range roles {
		upper[n] = strings.ToUpper(string(r))
	}
	for name, want := range map[string][]string{
		"IncidentState": words(incident.States()), "HoldReason": words(incident.HoldReasons()), "Priority": words(incident.Priorities()),
		"Impact": words(incident.Impacts()), "Urgency": words(incident.Urgencies()), "Source": words(incident.Sources()), "Visibility": words(incident.Visibilities()),
		"SyncStatus": words(ledger.SyncStatuses()), "DeliveryState": words(ledger.States()), "DeliveryKind": words(ledger.DeliveryKinds()),
		"SystemStatus": words(pulse.Statuses()), "SystemAlarmKind": words(pulse.AlarmKinds()), "SyncActivityKind": words(model.SyncActivityKinds()),
		"InboxState": words(ledger.InboxStates()), "InboxSource": words(ledger.InboxSources()), "ConflictSide": {string(merge.Hub), string(merge.Vendor)},
		"BreakerState": {string(connectors.BreakerClosed), string(connectors.BreakerOpen), string(connectors.BreakerHalfOpen)},
		"EntryKind":    words(ledger.Kinds()), "Role": upper, "ActorKind": {string(ledger.Person), string(ledger.System), string(ledger.Hub)},
	} {
		var got []string
		for _, v := range s.Types[name].EnumValues {
			got = append(got, v.Name)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s is %v, the domain has %v", name, got, want)
		}
	}
}

func words[S ~string](in []S) []string {
	out := make([]string, len(in))
	for n, w := range in {
		out[n] = string(w)
	}
	return out
}

// Clients code against these names.
func TestNamesOfTheContract(t *testing.T) {
	t.Parallel()
	s := schema(t)
	has := func(d *ast.Definition, fields string) {
		for _, f := range strings.Fields(fields) {
			if d.Fields.ForName(f) == nil {
				t.Errorf("%s has no %s", d.Name, f)
			}
		}
	}
	has(s.Query, "viewer node incident incidents organisation organisations systems ledger deliveries inbox")
	has(s.Mutation, `reportIncident updateIncident assessIncident assignIncident beginWork holdIncident resumeIncident resolveIncident reopenIncident
		closeIncident cancelIncident addComment escalateIncident retryDelivery skipDelivery editDelivery retryDeliveries skipDeliveries pauseSystem resumeSystem
		replayInbox reconcileLink resolveConflict freeField`)
	has(s.Subscription, "incidentChanged syncActivity")
	has(s.Types["ReportIncidentInput"], "title description organisation category impact urgency contact service confidential reference source idempotencyKey")
	has(s.Types["EscalateIncidentInput"], "incidentId system summary answers idempotencyKey")
	has(s.Types["ExternalLink"], "id system externalId externalNumber url remoteState syncStatus lastSyncedAt conflicts deliveries")
	has(s.Types["SystemHealth"], "status lastSentAt lastReadAt lastNewsAt oldestUnsent waiting retrying dead parked unknown conflicts drift breaker alarms")
	has(s.Types["IncidentChange"], "cursor kind incidentId entry incident")
	has(s.Types["Viewer"], "name organisation roles")
	for _, f := range s.Mutation.Fields {
		if len(f.Arguments) != 1 || f.Arguments[0].Name != "input" || !f.Arguments[0].Type.NonNull {
			t.Errorf("%s does not take one input", f.Name)
		}
		if !strings.HasSuffix(f.Type.Name(), "Payload") {
			t.Errorf("%s does not return a payload", f.Name)
		}
	}
}

package archtest

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// A floor is a row of packages in the floor plan. A package may import what lies on lower floors and on the
// ground, never what lies above.
type floor struct {
	name     string
	packages []string // each with everything below its folder
	siblings bool     // these never import one another
	reason   string
}

// floors is the plan, from the top down. A new package that serves a floor is entered here.
var floors = []floor{
	{
		name: "the binary", packages: []string{"cmd"},
		reason: "only the binary knows all parts and puts them together",
	},
	{
		name: "the ways in", packages: []string{"graph", "internal/console"},
		reason: "they translate between people and use cases and decide nothing",
	},
	{
		name: "use cases and sync", packages: []string{"internal/desk", "sync/inbound", "sync/outbound", "sync/reconcile"}, siblings: true,
		reason: "they meet in the ledger alone: a call past it would be a change that nobody can read back",
	},
	{
		name: "what the sync's parts share", packages: []string{"sync/explain", "sync/pulse", "sync/pull", "sync/system"},
		reason: "inbound, outbound and reconcile stand on it side by side",
	},
	{
		name: "the door and its readers", packages: []string{"sync/ledger", "internal/feed", "internal/auth", "internal/directory"},
		reason: "the one door must not hang on those who go through it",
	},
	{
		name: "the words", packages: []string{"sync/mapping", "sync/merge"},
		reason: "they are pure: what they decide can be tried without a database or a vendor",
	},
	{
		name: "the connectors' contract", packages: []string{"connectors"},
		reason: "every vendor hangs on it, so it hangs on next to nothing",
	},
	{
		name: "the domain", packages: []string{"internal/incident"},
		reason: "the incident model is the one thing that everybody shares",
	},
}

// ground is what all floors but the pure ones stand on.
var ground = []string{"internal/postgres", "internal/config", "internal/telemetry", "internal/failpoint"}

// pure packages stand on no ground and do no I/O.
var pure = []string{"internal/incident", "sync/mapping", "sync/merge"}

// outbuildings belong to no floor, and no floor imports them.
var outbuildings = []string{"internal/archtest", "internal/setup", "sync/pair", "sync/simulation", "e2e"}

// A ban keeps one kind of import out of some packages.
type ban struct {
	in     []string // folders, with everything below
	except []string // folders below those
	of     []string // import paths, with everything below; "./" begins one of our own
	tests  bool     // in test files too
	reason string
}

var (
	databases = []string{"database/sql", "github.com/jackc/pgx", "github.com/pressly/goose", "./internal/postgres"}
	graphQL   = []string{"github.com/99designs/gqlgen", "github.com/vektah/gqlparser", "./graph"}
	network   = []string{"net", "os/exec", "syscall"}
)

var bans = []ban{
	{in: pure, of: slices.Concat(databases, network), reason: "it is pure: no I/O"},
	{in: []string{"internal/incident", "sync/merge"}, of: []string{"os", "io", "log"}, reason: "it is pure: no I/O, no files"},
	{in: []string{"connectors"}, of: databases, reason: "a connector knows nothing of the hub's database"},
	{
		in: []string{"connectors", "sync", "internal"}, except: []string{"internal/console"}, of: graphQL,
		reason: "GraphQL is one way in and ends in graph",
	},
	{in: []string{"graph"}, of: []string{"./sync/ledger/internal", "./sync/inbound/internal", "./sync/reconcile/internal", "./sync/pulse/internal"}, reason: "tables are written by the package that owns them"},
	{
		in: []string{"e2e"}, of: []string{"./cmd", "./graph", "./sync", "./internal/desk", "./internal/feed", "./internal/console"}, tests: true,
		reason: "it tests the built binary from outside",
	},
}

// within reports whether a path is one of the folders or lies below one.
func within(name string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return name == f || strings.HasPrefix(name, f+"/") })
}

// floorOf returns the index of a package's floor, or -1, and its entry there.
func floorOf(name string) (index int, entry string) {
	for i, f := range floors {
		for _, entry := range f.packages {
			if within(name, entry) {
				return i, entry
			}
		}
	}
	return -1, ""
}

// registry is the one place that lists the vendors.
const registry = "connectors/registry"

// vendorOf returns the folder of a vendor's connector that a package belongs to, such as "connectors/colt", or
// "" when it belongs to none: the contract's own packages do not.
func vendorOf(name string) string {
	if !within(name, "connectors") || within(name, "connectors/account", "connectors/client", "connectors/conformance", registry) || name == "connectors" {
		return ""
	}
	return strings.Join(strings.Split(name, "/")[:2], "/")
}

// isSimulator tells connectors/colt/colttest.
func isSimulator(name string) bool {
	return vendorOf(name) != "" && name != vendorOf(name) && path.Base(name) == path.Base(vendorOf(name))+"test"
}

// importRule is the whole plan.
func importRule(t *tree) []string {
	var problems []string
	for _, p := range t.packages {
		if why := placeless(p.path); why != "" {
			problems = append(problems, why)
		}
		for _, f := range p.files {
			for _, imported := range f.imports(t.modules["."]) {
				if why := forbidden(p.path, imported, f.isTest()); why != "" {
					problems = append(problems, fmt.Sprintf("%s imports %s: %s", f.path, strings.TrimPrefix(imported, "./"), why))
				}
			}
		}
	}
	return problems
}

// placeless says what is wrong with a package that the plan does not know.
func placeless(name string) string {
	if name == "sync" {
		return "sync holds a Go package: its name would hide the standard library's; put it into a folder below"
	}
	if index, _ := floorOf(name); index < 0 && name != "." && !within(name, ground...) && !within(name, outbuildings...) {
		return name + " has no place in the floor plan: enter it in floors, ground or outbuildings in internal/archtest"
	}
	return ""
}

// forbidden says why a package may not import another, or returns "".
func forbidden(name, imported string, test bool) string {
	for _, b := range bans {
		if within(name, b.in...) && !within(name, b.except...) && within(imported, b.of...) && (b.tests || !test) {
			return b.reason
		}
	}
	own, ours := strings.CutPrefix(imported, "./")
	switch {
	case ours && vendorOf(name) != "" && vendorOf(own) != "" && vendorOf(name) != vendorOf(own):
		return "connectors never look at one another: a vendor must be removable by removing its folder"
	case test:
		return "" // a test may look further than what it tests
	case !ours && name == "internal/incident" && strings.Contains(strings.Split(imported, "/")[0], ".") && imported != "github.com/google/uuid":
		return "the domain takes nothing from outside but the standard library and google/uuid"
	case !ours:
		return ""
	case isSimulator(name) && (own == vendorOf(name) || within(own, "connectors/client")):
		return "a simulator is built from the vendor's documentation, not from what our connector sends"
	case vendorOf(name) != "" && within(own, "internal/incident"):
		return "a connector speaks the vendor's words; the mapping translates"
	case within(own, registry) && !within(name, "cmd", "e2e"):
		return "the binary alone asks the registry; the rest is given its connectors"
	case isSimulator(own) && within(name, "cmd"):
		return ""
	case vendorOf(own) != "" && vendorOf(name) == "" && !within(name, registry, "sync/pair", "e2e"):
		return "vendors are known to connectors/registry alone"
	}
	return upward(name, own)
}

// upward says why an import points up or sideways in the plan, or returns "".
func upward(name, imported string) string {
	from, fromEntry := floorOf(name)
	to, toEntry := floorOf(imported)
	switch {
	case within(imported, outbuildings...) && !within(name, outbuildings...):
		return "nothing in the house stands on its tests and tools"
	case within(imported, ground...) && within(name, pure...):
		return "it is pure: it stands on no ground"
	case within(name, ground...) && to >= 0:
		return "the ground carries the house and knows nothing of it"
	case from < 0 || to < 0 || from < to:
		return ""
	case from > to:
		return fmt.Sprintf("%s lies above %s: %s", floors[to].name, floors[from].name, floors[from].reason)
	case floors[from].siblings && fromEntry != toEntry:
		return "siblings: " + floors[from].reason
	}
	return ""
}

func TestImports(t *testing.T) {
	t.Parallel()
	hold(t, importRule)
}

func TestImportRuleCatches(t *testing.T) {
	t.Parallel()
	// one is a tree with one file that imports one thing.
	one := func(name, imported string) map[string]string {
		return map[string]string{name: source(path.Base(path.Dir(name)), imported)}
	}
	const (
		uuid   = "github.com/google/uuid"
		pgx    = "github.com/jackc/pgx/v5"
		gqlgen = "github.com/99designs/gqlgen/graphql"
	)
	catches(t, importRule, []breach{
		{"downwards", one("cmd/liaison/main.go", "liaison/graph"), nil},
		{"past floors", one("graph/query.go", "liaison/internal/incident"), nil},
		{"onto the ground", one("sync/ledger/append.go", "liaison/internal/postgres"), nil},
		{"a package's own part", one("sync/outbound/lane.go", "liaison/sync/outbound/breaker"), nil},
		{"the ledger from graph's tests", one("graph/query_test.go", "liaison/sync/ledger/internal/db"), nil},
		{"a connector its contract", one("connectors/colt/colt.go", "liaison/connectors/client"), nil},
		{"a connector its simulator in tests", one("connectors/colt/colt_test.go", "liaison/connectors/colt/colttest"), nil},
		{"the registry all vendors", one("connectors/registry/registry.go", "liaison/connectors/colt"), nil},
		{"the binary the registry", one("cmd/liaison/main.go", "liaison/connectors/registry"), nil},
		{"the binary the simulators", one("cmd/liaison/simulate.go", "liaison/connectors/colt/colttest"), nil},
		{"outbound what it shares", one("sync/outbound/a.go", "liaison/sync/pull"), nil},
		{"uuid in the domain", one("internal/incident/id.go", uuid), nil},
		{"a nested module", map[string]string{"bench/go.mod": "module liaison/bench\n", "bench/a.go": source("main", "liaison/internal/archtest")}, nil},

		{"upwards", one("sync/ledger/append.go", "liaison/internal/desk"), []string{"sync/ledger/append.go imports internal/desk: use cases and sync lies above"}},
		{"the binary", one("graph/a.go", "liaison/cmd/liaison"), []string{"the binary lies above"}},
		{"sideways", one("sync/inbound/hook.go", "liaison/sync/outbound"), []string{"siblings: they meet in the ledger alone"}},
		{"desk to sync", one("internal/desk/a.go", "liaison/sync/reconcile"), []string{"siblings"}},
		{"between connectors", one("connectors/colt/colt.go", "liaison/connectors/cherwell"), []string{"connectors never look at one another"}},
		{"between connectors, in tests", one("connectors/colt/colt_test.go", "liaison/connectors/cherwell/cherwelltest"), []string{"connectors never look at one another"}},
		{"a connector the database", one("connectors/colt/colt.go", pgx), []string{"nothing of the hub's database"}},
		{"a connector our pool", one("connectors/colt/colt.go", "liaison/internal/postgres"), []string{"nothing of the hub's database"}},
		{"a connector the sync", one("connectors/colt/colt.go", "liaison/sync/mapping"), []string{"the words lies above"}},
		{"a connector the domain", one("connectors/colt/colt.go", "liaison/internal/incident"), []string{"the mapping translates"}},
		{"a simulator its connector", one("connectors/colt/colttest/sim.go", "liaison/connectors/colt"), []string{"built from the vendor's documentation"}},
		{"a vendor in the contract", one("connectors/client/a.go", "liaison/connectors/colt"), []string{"known to connectors/registry alone"}},
		{"a vendor in the sync", one("sync/outbound/a.go", "liaison/connectors/colt"), []string{"known to connectors/registry alone"}},
		{"a vendor in the binary", one("cmd/liaison/main.go", "liaison/connectors/colt"), []string{"known to connectors/registry alone"}},
		{"the registry in the sync", one("sync/system/a.go", "liaison/connectors/registry"), []string{"the binary alone asks the registry"}},
		{"what is shared, upwards", one("sync/pull/a.go", "liaison/sync/inbound"), []string{"use cases and sync lies above"}},
		{"GraphQL in the ledger", one("sync/ledger/a.go", gqlgen), []string{"GraphQL is one way in"}},
		{"GraphQL in a use case", one("internal/desk/a.go", gqlgen), []string{"GraphQL is one way in"}},
		{"another's tables", one("graph/a.go", "liaison/sync/ledger/internal/db"), []string{"by the package that owns them"}},
		{"the domain a library", one("internal/incident/a.go", "golang.org/x/text/cases"), []string{"google/uuid"}},
		{"the domain the network", one("internal/incident/a.go", "net/http"), []string{"no I/O"}},
		{"the domain files", one("internal/incident/a.go", "os"), []string{"no files"}},
		{"the domain the ground", one("internal/incident/a.go", "liaison/internal/telemetry"), []string{"no ground"}},
		{"the merge the database", one("sync/merge/a.go", pgx), []string{"no I/O"}},
		{"the mapping the settings", one("sync/mapping/a.go", "liaison/internal/config"), []string{"no ground"}},
		{"the ground the house", one("internal/config/a.go", "liaison/internal/incident"), []string{"the ground carries the house"}},
		{"e2e the inside", one("e2e/a_test.go", "liaison/sync/ledger"), []string{"from outside"}},
		{"the house its tools", one("internal/desk/a.go", "liaison/e2e/peers/rt5"), []string{"tests and tools"}},
		{"a package in sync", map[string]string{"sync/a.go": source("sync")}, []string{"hide the standard library's"}},
		{"a package without a place", map[string]string{"internal/misc/a.go": source("misc")}, []string{"internal/misc has no place"}},
	})
}

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A need is something outside the Go modules without which a make target cannot do its work.
type need struct {
	name     string             // as a person calls it
	missing  func(system) error // nil when it is there; the error says where was looked
	packages []string           // what brings it on Debian and Ubuntu
	remedy   string             // what to do where these packages cannot be installed
}

// lack is a need that is not met, with the reason.
type lack struct {
	need
	reason error
}

var (
	postgres = need{
		name:     "PostgreSQL 14 or newer",
		missing:  missingPostgres,
		packages: []string{"postgresql"},
		remedy: "PostgreSQL: install the server programs of any version from 14 (Debian, Ubuntu: apt-get install postgresql;\n" +
			"  Fedora: dnf install postgresql-server; macOS: brew install postgresql)",
	}
	compiler = need{
		name:     "a C compiler",
		missing:  missingCompiler,
		packages: []string{"gcc", "libc6-dev"},
		remedy:   "C compiler: the race detector needs one with its C library's headers (Debian, Ubuntu: apt-get install gcc libc6-dev)",
	}
)

// Request Tracker is not among them: the tests install it themselves (e2e/peers/rt5).
var (
	curl = need{
		name: "curl", missing: missingProgram("curl"), packages: []string{"curl"},
		remedy: "curl: the tests copy the commands that Liaison prints (apt-get install curl)",
	}
	node = need{
		name: "Node.js with npm", missing: missingProgram("node", "npm"), packages: []string{"nodejs", "npm"},
		remedy: "Node.js: the reference client of GraphQL subscriptions runs on it, any version from 18, with npm (apt-get install nodejs npm)",
	}
	clock = need{
		name: "faketime", missing: missingProgram("faketime"), packages: []string{"faketime"},
		remedy: "faketime: one test runs a Postgres whose clock is two hours off (apt-get install faketime)",
	}
	browser = need{
		name: "Chromium", missing: missingProgram("chromium"), packages: []string{"chromium"},
		remedy: "Chromium: the tests look at the hub's page with it (Debian: apt-get install chromium)",
	}
)

// targets lists what each make target needs.
var targets = map[string][]need{
	"run":  {{name: postgres.name, missing: missingDatabase, packages: postgres.packages, remedy: postgres.remedy}},
	"test": {postgres},
	"race": {postgres, compiler},
	"e2e":  {postgres, curl, node, browser, clock},
}

func missingOf(needs []need, sys system) []lack {
	var missing []lack
	for _, n := range needs {
		if err := n.missing(sys); err != nil {
			missing = append(missing, lack{n, err})
		}
	}
	return missing
}

// missingDatabase is missingPostgres, unless the user has named a server: then the hub starts none.
func missingDatabase(sys system) error {
	if sys.env("LIAISON_DATABASE_URL") != "" {
		return nil
	}
	return missingPostgres(sys)
}

// missingPostgres looks with the hub's own eyes, so that both find the same.
func missingPostgres(sys system) error { return sys.findPostgres(context.Background()) }

// missingCompiler compiles one line that needs the C library's headers: a compiler without them is common.
func missingCompiler(sys system) error {
	cc := sys.env("CC")
	if cc == "" {
		cc = "gcc"
	}
	words := strings.Fields(cc) // CC may hold options, such as "ccache gcc"
	program, err := sys.lookPath(words[0])
	if err != nil {
		return fmt.Errorf("%s is not in PATH", words[0])
	}
	cmd := exec.Command(program, append(words[1:], "-x", "c", "-fsyntax-only", "-")...)
	cmd.Env = sys.environ
	cmd.Stdin = strings.NewReader("#include <stdlib.h>\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s cannot compile a program that uses the C library: %w: %s", cc, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// missingProgram looks for programs that must all be there.
func missingProgram(programs ...string) func(system) error {
	return func(sys system) error {
		for _, p := range programs {
			if _, err := sys.lookPath(p); err != nil {
				return fmt.Errorf("%s is not in PATH", p)
			}
		}
		return nil
	}
}

// lookPath finds a program in the PATH of this system, which in tests is not the process's own.
func (s system) lookPath(program string) (string, error) {
	if strings.ContainsRune(program, filepath.Separator) {
		return exec.LookPath(program)
	}
	for _, dir := range filepath.SplitList(s.env("PATH")) {
		if path := filepath.Join(dir, program); executable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", program, exec.ErrNotFound)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

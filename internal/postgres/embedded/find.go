package embedded

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// oldest is the oldest major version that will do.
const oldest = 14

// Programs are one PostgreSQL installation's server programs.
type Programs struct {
	Dir     string // the folder with initdb, postgres and pg_ctl
	Version string // "15.4"
	Major   int
}

func (p Programs) path(program string) string { return filepath.Join(p.Dir, program) }

// usualFolders is where distributions keep the server's programs, off the PATH more often than not.
var usualFolders = []string{
	"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
	"/usr/pgsql-*/bin",          // PostgreSQL's own packages for Red Hat and its kin
	"/usr/libexec/postgresql*",  // Alpine
	"/usr/lib/postgresql*/bin",  // SUSE
	"/opt/homebrew/opt/postgresql*/bin",
	"/opt/homebrew/bin",
	"/usr/local/opt/postgresql*/bin",
	"/usr/local/pgsql*/bin",
	"/usr/local/bin",
	"/Library/PostgreSQL/*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// Find lists the installations with a server that the machine has, newest first: what the environment's
// PG_CONFIG and pg_config name, what the PATH holds, and the distributions' usual folders. Versions before
// 14 are left out. It is an error when none is left.
func Find(ctx context.Context) ([]Programs, error) {
	return search{getenv: os.Getenv, folders: usualFolders}.run(ctx)
}

type search struct {
	getenv  func(string) string
	folders []string // patterns
}

func (s search) run(ctx context.Context) ([]Programs, error) {
	path := filepath.SplitList(s.getenv("PATH"))
	var places []string
	// pg_config comes with the client library too, and then names a folder that may hold no server.
	configs := []string{s.getenv("PG_CONFIG")}
	for _, dir := range path {
		configs = append(configs, filepath.Join(dir, "pg_config"))
	}
	for _, config := range configs {
		if config != "" && executable(config) {
			if out, err := output(ctx, config, "--bindir"); err == nil {
				places = append(places, strings.TrimSpace(out))
			}
		}
	}
	for _, dir := range path {
		places = append(places, dir)
		// Many systems put only a link to one program on the PATH; its folder has the rest.
		if resolved, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil {
			places = append(places, filepath.Dir(resolved))
		}
	}
	for _, pattern := range s.folders {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("looking for PostgreSQL in %s: %w", pattern, err)
		}
		places = append(places, matches...)
	}

	var found []Programs
	var rejected []string
	seen := map[string]bool{}
	for _, place := range places {
		resolved, err := filepath.EvalSymlinks(place)
		if err != nil || seen[resolved] || !filepath.IsAbs(resolved) {
			continue
		}
		seen[resolved] = true
		programs, problem := inspect(ctx, resolved)
		switch {
		case problem != "":
			rejected = append(rejected, resolved+" "+problem)
		case programs.Dir != "":
			found = append(found, programs)
		}
	}
	if len(found) == 0 {
		also := ""
		if len(rejected) > 0 {
			also = "; " + strings.Join(rejected, "; ")
		}
		return nil, fmt.Errorf("no PostgreSQL server programs (initdb, postgres, pg_ctl; version %d or newer) found by PG_CONFIG, pg_config, PATH or in the usual folders%s: install them, on Debian and Ubuntu with apt-get install postgresql, or set LIAISON_DATABASE_URL to use a server of your own", oldest, also)
	}
	slices.SortStableFunc(found, func(a, b Programs) int { return compareVersions(b.Version, a.Version) })
	return found, nil
}

// inspect reads the version of the server in dir. It answers nothing for a folder without one, and the
// problem with one that will not do.
func inspect(ctx context.Context, dir string) (Programs, string) {
	programs := Programs{Dir: dir}
	for _, name := range []string{"postgres", "initdb", "pg_ctl"} {
		if !executable(programs.path(name)) {
			return Programs{}, ""
		}
	}
	out, err := output(ctx, programs.path("postgres"), "--version")
	if err != nil {
		return Programs{}, fmt.Sprintf("does not run (%v)", err)
	}
	version := versionPattern.FindStringSubmatch(out)
	if version == nil {
		return Programs{}, fmt.Sprintf("tells no version (%q)", strings.TrimSpace(out))
	}
	programs.Version = version[1]
	programs.Major, _ = strconv.Atoi(version[2])
	if programs.Major < oldest {
		return Programs{}, fmt.Sprintf("is version %s, too old", programs.Version)
	}
	return programs, ""
}

// "postgres (PostgreSQL) 15.4 (Debian 15.4-1.pgdg120+1)", "postgres (PostgreSQL) 18beta1"
var versionPattern = regexp.MustCompile(`\(PostgreSQL\) ((\d+)[.\w]*)`)

func compareVersions(a, b string) int {
	numbers := func(v string) (n [2]int) {
		for i, part := range strings.SplitN(v, ".", 2) {
			n[i], _ = strconv.Atoi(part)
			if digits := strings.TrimLeft(part, "0123456789"); digits != "" { // 18beta1 is 18.-1: older than 18.0
				n[i], _ = strconv.Atoi(strings.TrimSuffix(part, digits))
				n[1] = -1
			}
		}
		return n
	}
	x, y := numbers(a), numbers(b)
	return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]))
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	return string(out), err
}

// choose takes the installation that fits: the newest for a new cluster, the same major version for one
// that exists, since PostgreSQL reads no other version's files.
func choose(found []Programs, clusterMajor int, data string) (Programs, error) {
	if clusterMajor == 0 {
		return found[0], nil
	}
	var versions []string
	for _, programs := range found {
		if programs.Major == clusterMajor {
			return programs, nil
		}
		versions = append(versions, fmt.Sprintf("%s in %s", programs.Version, programs.Dir))
	}
	return Programs{}, fmt.Errorf("data directory: %s was made by PostgreSQL %d, and only %s was found: install version %d (apt-get install postgresql-%d), or carry the data over with pg_upgrade",
		data, clusterMajor, strings.Join(versions, ", "), clusterMajor, clusterMajor)
}

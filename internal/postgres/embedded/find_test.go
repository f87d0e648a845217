package embedded

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// install makes a folder of programs that tell a version.
func install(t *testing.T, dir, version string, programs ...string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		script(t, filepath.Join(dir, program), "echo '"+program+" (PostgreSQL) "+version+"'")
	}
	return dir
}

func script(t *testing.T, path, body string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	// A process forked while the file is open for writing would keep it open until its own exec, and running the file
	// meanwhile would end in "text file busy".
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
}

var all = []string{"postgres", "initdb", "pg_ctl"}

func TestFind(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(t *testing.T, root string, env map[string]string)
		want    string // version@folder, newest first
		refuses string
	}{
		"usual folders, newest first": {
			func(t *testing.T, root string, _ map[string]string) {
				install(t, root+"/usual/9/bin", "9.6.24", all...)
				install(t, root+"/usual/15/bin", "15.4 (Debian 15.4-1.pgdg120+1)", all...)
				install(t, root+"/usual/17/bin", "17.2", all...)
				install(t, root+"/usual/18/bin", "18beta1", all...)
			},
			"18beta1@usual/18/bin 17.2@usual/17/bin 15.4@usual/15/bin", "",
		},
		"minor versions are numbers": {
			func(t *testing.T, root string, _ map[string]string) {
				install(t, root+"/usual/a/bin", "15.9", all...)
				install(t, root+"/usual/b/bin", "15.10", all...)
			},
			"15.10@usual/b/bin 15.9@usual/a/bin", "",
		},
		"pg_config of the client library names a folder without a server": {
			func(t *testing.T, root string, _ map[string]string) {
				install(t, root+"/client", "15.4", "psql")
				script(t, root+"/path/pg_config", "echo "+root+"/client")
				install(t, root+"/usual/14/bin", "14.1", all...)
			},
			"14.1@usual/14/bin", "",
		},
		"PG_CONFIG": {
			func(t *testing.T, root string, env map[string]string) {
				install(t, root+"/own", "16.0", all...)
				script(t, root+"/elsewhere/pg_config", "echo "+root+"/own")
				env["PG_CONFIG"] = root + "/elsewhere/pg_config"
			},
			"16.0@own", "",
		},
		"a link on the PATH leads to the rest": {
			func(t *testing.T, root string, _ map[string]string) {
				install(t, root+"/real", "16.1", all...)
				if err := os.MkdirAll(root+"/path", 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(root+"/real/postgres", root+"/path/postgres"); err != nil {
					t.Fatal(err)
				}
			},
			"16.1@real", "",
		},
		"found twice is listed once": {
			func(t *testing.T, root string, env map[string]string) {
				install(t, root+"/usual/15/bin", "15.4", all...)
				env["PATH"] = root + "/usual/15/bin"
			},
			"15.4@usual/15/bin", "",
		},
		"incomplete": {
			func(t *testing.T, root string, _ map[string]string) {
				install(t, root+"/usual/15/bin", "15.4", "postgres", "pg_ctl")
			},
			"", "apt-get install postgresql",
		},
		"too old": {
			func(t *testing.T, root string, _ map[string]string) { install(t, root+"/usual/13/bin", "13.9", all...) },
			"", "is version 13.9, too old",
		},
		"broken": {
			func(t *testing.T, root string, _ map[string]string) {
				install(t, root+"/usual/15/bin", "15.4", all...)
				script(t, root+"/usual/15/bin/postgres", "exit 1")
			},
			"", "does not run",
		},
		"nothing": {func(*testing.T, string, map[string]string) {}, "", "LIAISON_DATABASE_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			env := map[string]string{"PATH": root + "/path"}
			test.prepare(t, root, env)
			found, err := search{getenv: func(name string) string { return env[name] }, folders: []string{root + "/usual/*/bin"}}.run(t.Context())
			var got []string
			for _, programs := range found {
				got = append(got, programs.Version+"@"+strings.TrimPrefix(programs.Dir, root+"/"))
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("found %q, want %q", got, test.want)
			}
			if (err != nil) != (test.refuses != "") || (err != nil && !strings.Contains(err.Error(), test.refuses)) {
				t.Errorf("error %v, want %q", err, test.refuses)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	found := []Programs{{Dir: "/17", Version: "17.2", Major: 17}, {Dir: "/15b", Version: "15.10", Major: 15}, {Dir: "/15a", Version: "15.9", Major: 15}}
	for _, test := range []struct {
		cluster int
		want    string
	}{{0, "/17"}, {15, "/15b"}, {17, "/17"}} {
		if got, err := choose(found, test.cluster, "/data"); err != nil || got.Dir != test.want {
			t.Errorf("for a cluster of version %d: %v, %v", test.cluster, got, err)
		}
	}
	_, err := choose(found, 16, "/data")
	for _, word := range []string{"/data", "PostgreSQL 16", "17.2", "15.10", "postgresql-16"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("error %v lacks %q", err, word)
		}
	}
}

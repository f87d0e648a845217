package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// machine is a file system of its own with an empty PATH, as on a new Debian.
type machine struct {
	system
	bin string
	log string // what the programs put into bin were called with
	out *bytes.Buffer
}

func newMachine(t *testing.T, uid int) *machine {
	t.Helper()
	root := t.TempDir()
	m := &machine{bin: filepath.Join(root, "bin"), log: filepath.Join(root, "log"), out: new(bytes.Buffer)}
	m.system = system{root: root, environ: []string{"PATH=" + m.bin}, uid: uid, out: m.out, stdin: strings.NewReader("")}
	m.findPostgres = m.find
	m.write(t, "usr/sbin/README", "the folder for policy-rc.d\n", 0o644)
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	// A process forked while the file is open for writing would keep it open until its own exec, and running the file
	// meanwhile would end in "text file busy".
	syscall.ForkLock.RLock()
	err := os.WriteFile(m.path(name), []byte(text), mode)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(m.path(name))
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// program puts a shell script into the machine's PATH. $root is the machine's root folder.
func (m *machine) program(t *testing.T, name, script string) {
	t.Helper()
	m.write(t, "bin/"+name, "#!/bin/sh\nroot='"+m.root+"'\n"+script+"\n", 0o755)
}

// server puts a PostgreSQL of a version into the distribution's folder.
func (m *machine) server(t *testing.T, version string) {
	t.Helper()
	m.write(t, "usr/lib/postgresql/version", version+"\n", 0o644)
}

// find stands for the hub's own search, which internal/postgres/embedded tests.
func (m *machine) find(context.Context) error {
	version, err := os.ReadFile(m.path("usr/lib/postgresql/version"))
	if err == nil && string(version) < "14" {
		err = fmt.Errorf("only version %s", version)
	}
	return err
}

// aptGet plays apt-get: it writes its arguments into the log with what holds at that moment, and "installs"
// postgresql-common's settings and the server of the given version.
func (m *machine) aptGet(t *testing.T, version string) {
	t.Helper()
	m.program(t, "apt-get", `
held=no; [ -x "$root/usr/sbin/policy-rc.d" ] && { "$root/usr/sbin/policy-rc.d"; [ $? = 101 ] && held=yes; }
cluster=yes; while read -r line; do [ "$line" = "create_main_cluster = false" ] && cluster=no; done 2>/dev/null <"$root/etc/postgresql-common/createcluster.conf"
echo "apt-get $* [frontend=$DEBIAN_FRONTEND services-held=$held main-cluster=$cluster]" >>"$root/log"
case "$*" in
*postgresql-common) /bin/mkdir -p "$root/etc/postgresql-common"; echo "#create_main_cluster = true" >"$root/etc/postgresql-common/createcluster.conf" ;;
*install*postgresql) /bin/mkdir -p "$root/usr/lib/postgresql"; echo '`+version+`' >"$root/usr/lib/postgresql/version" ;;
esac`)
}

const aptOptions = "install -y -q --no-install-recommends -o DPkg::Lock::Timeout=600 -o Dpkg::Use-Pty=0 "

func TestInstallsPostgresOnABareMachine(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"run", "test", "e2e"} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, 0)
			m.aptGet(t, "15")
			m.peers(t)
			if err := run([]string{target}, m.system); err != nil {
				t.Fatalf("%v\n%s", err, m.out)
			}
			want := "apt-get update -q [frontend=noninteractive services-held=yes main-cluster=yes]\n" +
				"apt-get " + aptOptions + "postgresql-common [frontend=noninteractive services-held=yes main-cluster=yes]\n" +
				"apt-get " + aptOptions + "postgresql [frontend=noninteractive services-held=yes main-cluster=no]\n"
			if got := m.read(t, "log"); got != want {
				t.Errorf("apt-get was called:\n%s\nwant:\n%s", got, want)
			}
			if got := m.read(t, "usr/sbin/policy-rc.d"); got != "" {
				t.Errorf("policy-rc.d stayed: %q", got)
			}
			if got := m.read(t, "etc/postgresql-common/createcluster.conf"); got != "#create_main_cluster = true\n" {
				t.Errorf("createcluster.conf is not as it was: %q", got)
			}
			if !strings.Contains(m.out.String(), "installing with apt-get: postgresql\n") {
				t.Errorf("it does not say what it installs: %s", m.out)
			}
			if err := run([]string{target}, m.system); err != nil || m.read(t, "log") != want {
				t.Errorf("a second run did something again: %v, log:\n%s", err, m.read(t, "log"))
			}
		})
	}
}

// peers puts the programs that the end-to-end tests call into the machine's PATH.
func (m *machine) peers(t *testing.T) {
	t.Helper()
	for _, name := range []string{"curl", "node", "npm", "chromium", "faketime"} {
		m.program(t, name, "exit 0")
	}
}

func TestInstallsWhatTheEndToEndTestsCall(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 0)
	m.server(t, "15")
	m.program(t, "node", "exit 0") // without npm it is of no use
	m.program(t, "apt-get", `
echo "apt-get $*" >>"$root/log"
case "$*" in install*) for p in curl node npm chromium faketime; do echo '#!/bin/sh' >"$root/bin/$p"; /bin/chmod 755 "$root/bin/$p"; done ;; esac`)
	if err := run([]string{"e2e"}, m.system); err != nil {
		t.Fatalf("%v\n%s", err, m.out)
	}
	want := "apt-get update -q\napt-get " + aptOptions + "curl nodejs npm chromium faketime\n"
	if got := m.read(t, "log"); got != want {
		t.Errorf("apt-get was called:\n%s\nwant:\n%s", got, want)
	}
	for _, name := range []string{"curl", "Node.js with npm", "Chromium", "faketime"} {
		if !strings.Contains(m.out.String(), "make e2e needs "+name+", which is missing\n") {
			t.Errorf("it does not say that it needs %s: %s", name, m.out)
		}
	}
	if err := run([]string{"e2e"}, m.system); err != nil || m.read(t, "log") != want {
		t.Errorf("a second run did something again: %v, log:\n%s", err, m.read(t, "log"))
	}
}

func TestSilentWhenNothingIsMissing(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, target string
		have         func(t *testing.T, m *machine)
	}{
		{"a server found", "test", func(t *testing.T, m *machine) { m.server(t, "15") }},
		{"a server of one's own", "run", func(_ *testing.T, m *machine) {
			m.environ = append(m.environ, "LIAISON_DATABASE_URL=postgres://db.example.test/liaison")
		}},
		{"all that the end-to-end tests call", "e2e", func(t *testing.T, m *machine) { m.server(t, "15"); m.peers(t) }},
		{"a compiler", "race", func(t *testing.T, m *machine) {
			m.server(t, "15")
			m.program(t, "gcc", "exit 0")
		}},
		{"the compiler that CC names", "race", func(t *testing.T, m *machine) {
			m.server(t, "15")
			m.program(t, "cache", `[ "$1" = clang ]`)
			m.environ = append(m.environ, "CC=cache clang")
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, 0)
			c.have(t, m)
			if err := run([]string{c.target}, m.system); err != nil {
				t.Error(err)
			}
			if m.out.Len() > 0 {
				t.Errorf("it says %q", m.out)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		uid    int
		target string
		have   func(t *testing.T, m *machine)
		want   []string
	}{
		{"no apt-get", 0, "test", func(*testing.T, *machine) {}, []string{"no apt-get", "dnf install postgresql-server"}},
		{
			"no root and no sudo", 1000, "test",
			func(t *testing.T, m *machine) { m.aptGet(t, "15") },
			[]string{"no sudo", "as root, run: apt-get update && apt-get install -y --no-install-recommends postgresql"},
		},
		{
			"sudo refuses", 1000, "test",
			func(t *testing.T, m *machine) { m.aptGet(t, "15"); m.program(t, "sudo", "exit 1") },
			[]string{"through sudo", "as root, run: apt-get update"},
		},
		{
			"the distribution's server is too old", 0, "test",
			func(t *testing.T, m *machine) { m.aptGet(t, "11") },
			[]string{"still PostgreSQL 14 or newer is missing", "only version 11"},
		},
		{
			"apt-get fails", 0, "test",
			func(t *testing.T, m *machine) { m.program(t, "apt-get", "exit 100") },
			[]string{"apt-get install: exit status 100", "apt-get install postgresql"},
		},
		{
			"no compiler", 0, "race",
			func(t *testing.T, m *machine) { m.server(t, "15") },
			[]string{"apt-get install gcc libc6-dev"},
		},
		{
			"a compiler without headers", 0, "race",
			func(t *testing.T, m *machine) {
				m.server(t, "15")
				m.program(t, "gcc", "echo no stdlib.h >&2; exit 1")
			},
			[]string{"apt-get install gcc libc6-dev"},
		},
		{"an unknown target", 0, "tset", func(*testing.T, *machine) {}, []string{"usage: setup e2e|race|run|test"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, c.uid)
			c.have(t, m)
			err := run([]string{c.target}, m.system)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q:\n%v", want, err)
				}
			}
			if got := m.read(t, "usr/sbin/policy-rc.d"); got != "" {
				t.Errorf("policy-rc.d stayed: %q", got)
			}
		})
	}
}

func TestSudoInstallsWhatIsMissing(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 1000)
	m.aptGet(t, "15")
	m.program(t, "sudo", `shift; echo "sudo $*" >>"$root/log"; /bin/mkdir -p "$root/usr/lib/postgresql"; echo 15 >"$root/usr/lib/postgresql/version"`)
	if err := run([]string{"test"}, m.system); err != nil {
		t.Fatal(err)
	}
	if got, want := m.read(t, "log"), "sudo install postgresql\n"; got != want {
		t.Errorf("called %q, want %q", got, want)
	}
}

func TestInstallKeepsOthersFiles(t *testing.T) {
	t.Parallel()
	const theirs = "#!/bin/sh\n# this container starts no services\nexit 101\n"
	cases := []struct{ name, before, after string }{
		{"somebody's policy stays", theirs, theirs},
		{"our own, left by a killed install, goes", policy, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, 0)
			m.aptGet(t, "15")
			m.write(t, "usr/sbin/policy-rc.d", c.before, 0o755)
			m.write(t, "etc/postgresql-common/createcluster.conf", "ssl = on\n"+noCluster, 0o644)
			// The settings are there already, as after a killed install: this apt-get leaves them alone.
			m.program(t, "apt-get", "exit 0")
			if err := run([]string{installVerb, "postgresql"}, m.system); err != nil {
				t.Fatal(err)
			}
			if got := m.read(t, "usr/sbin/policy-rc.d"); got != c.after {
				t.Errorf("policy-rc.d is %q, want %q", got, c.after)
			}
			if got := m.read(t, "etc/postgresql-common/createcluster.conf"); got != "ssl = on\n" {
				t.Errorf("createcluster.conf is %q, want %q", got, "ssl = on\n")
			}
		})
	}
}

func TestASignalEndsTheInstallTidily(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 0)
	m.aptGet(t, "15")
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	m.signals = signals
	if err := run([]string{"test"}, m.system); err == nil {
		t.Fatal("no error")
	}
	if got := m.read(t, "usr/sbin/policy-rc.d") + m.read(t, "usr/lib/postgresql/version"); got != "" {
		t.Errorf("something stayed or was installed: %q", got)
	}
}

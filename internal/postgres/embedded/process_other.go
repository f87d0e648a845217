//go:build unix && !linux

package embedded

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// processAttributes puts a program in a process group of its own, as the account. There is no signal at
// the parent's death here: the next start stops a server that was left behind.
func processAttributes(a *account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: a.credential()}
}

// servers lists the cluster's postmaster, when it runs.
func servers(data string) []int {
	if pid := postmasterOf(data); pid != 0 {
		return []int{pid}
	}
	return nil
}

// serves tells whether the process is a PostgreSQL server started on the cluster, by its command line.
func serves(pid int, data string) bool {
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return false
	}
	program, _, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	return filepath.Base(program) == "postgres" && strings.Contains(string(out), data)
}

package embedded

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// processAttributes puts a program in a process group of its own, as the account, and has the kernel shut
// it down (SIGINT is PostgreSQL's fast shutdown) when the thread that starts it ends; see spawn.
func processAttributes(a *account) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT, Credential: a.credential()}
}

// servers lists the processes that are a PostgreSQL server, or a part of one, on the cluster.
func servers(data string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	cluster, err := os.Stat(data)
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && worksIn(pid, cluster) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// serves tells whether the process is a PostgreSQL server on the cluster. A process id alone proves
// nothing: it may have been given to somebody else since.
func serves(pid int, data string) bool {
	cluster, err := os.Stat(data)
	return err == nil && worksIn(pid, cluster)
}

// worksIn relies on every server process having the cluster as its working folder and postgres as its
// program, also when a package upgrade has replaced the file.
func worksIn(pid int, cluster os.FileInfo) bool {
	proc := "/proc/" + strconv.Itoa(pid)
	program, err := os.Readlink(proc + "/exe")
	if err != nil || filepath.Base(strings.TrimSuffix(program, " (deleted)")) != "postgres" {
		return false
	}
	cwd, err := os.Stat(proc + "/cwd")
	return err == nil && os.SameFile(cwd, cluster)
}

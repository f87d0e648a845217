package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit in which Linux tells processor time to programs, whatever it counts in itself (proc(5)).
const tick = 10 * time.Millisecond

// cpu is the processor time spent so far: unlike a rate it hardly depends on what else the machine does.
type cpu struct{ here, postgres time.Duration }

func (c cpu) since(before cpu) cpu {
	return cpu{c.here - before.here, c.postgres - before.postgres}
}

// cpu reads what this process and the server with all its backends, living and gone, have spent; zero where the system
// does not tell.
func (w *world) cpu() cpu {
	var c cpu
	c.here, _ = spent(os.Getpid(), false)
	postmaster := w.server.PID()
	c.postgres, _ = spent(postmaster, true)
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	if err != nil {
		return cpu{}
	}
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			continue
		}
		if own, ok := spent(pid, false); ok { // one that has just ended is in the postmaster's figure from now on
			c.postgres += own
		}
	}
	return c
}

// spent is a process's own time, and that of its ended children if asked for.
func spent(pid int, children bool) (time.Duration, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The name stands in brackets and may hold anything; the state is the first field after it.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 15 {
		return 0, false
	}
	last := 12 // utime, stime
	if children {
		last = 14 // cutime, cstime
	}
	var ticks int64
	for n := 11; n <= last; n++ {
		t, err := strconv.ParseInt(fields[n], 10, 64)
		if err != nil {
			return 0, false
		}
		ticks += t
	}
	return time.Duration(ticks) * tick, true
}

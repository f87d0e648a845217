package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// process is a running program, ours or (a postmaster that someone else started) not.
type process struct {
	pid    int
	exited chan struct{}
	err    error // from Wait; set before exited is closed
}

// spawn starts a command. Its standard output and error go to log when there is one.
//
// On Linux the kernel signals the child when the thread that started it ends, not the process. So the
// thread is kept for this alone, until the child is gone: then the signal comes exactly when the hub dies.
func spawn(cmd command, log *os.File) (*process, error) {
	if log != nil {
		cmd.Stdout, cmd.Stderr = log, log
	}
	p := &process{exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// watch follows a postmaster that is nobody's child here, until it ends or stop closes.
func watch(pid int, data string, stop <-chan struct{}) *process {
	p := &process{pid: pid, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for serves(pid, data) {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return p
}

func (p *process) over() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// state says how it ended, for people.
func (p *process) state() string {
	if !p.over() {
		return "running"
	}
	return exitState(p.err, 0)
}

// end tells a postmaster to shut down fast, then at once, then kills it. With no patience it begins with
// the second. It returns when the process is gone.
func (p *process) end(ctx context.Context, patience time.Duration) {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, patience}, {syscall.SIGQUIT, 10 * time.Second}, {syscall.SIGKILL, time.Minute}} {
		if step.wait == 0 {
			continue
		}
		if p.over() {
			return
		}
		_ = syscall.Kill(p.pid, step.signal)
		timer := time.NewTimer(step.wait)
		select {
		case <-p.exited:
			timer.Stop()
			return
		case <-timer.C:
		case <-ctx.Done():
			// Asked to hurry: go on with the next, harder step, and give that one its time.
			timer.Stop()
			ctx = context.WithoutCancel(ctx)
		}
	}
}

// endOrphans ends every server process that works on the cluster and is not known to this Server: what a
// killed hub left, or what someone started by hand. A postmaster that died alone leaves its children for
// a moment; they end by themselves, and until then no other may start.
func endOrphans(ctx context.Context, data string, patience time.Duration, logger *slog.Logger) error {
	pids := servers(data)
	if len(pids) == 0 {
		return nil
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGINT, patience}, {syscall.SIGQUIT, 10 * time.Second}, {syscall.SIGKILL, 10 * time.Second}} {
		targets := pids
		if postmaster := postmasterFile(data); step.signal != syscall.SIGKILL && slices.Contains(pids, postmaster) {
			targets = []int{postmaster} // it tells its children
		}
		logger.Info("ending a PostgreSQL server that was left running", "pids", targets, "signal", step.signal.String())
		for _, pid := range targets {
			if err := syscall.Kill(pid, step.signal); errors.Is(err, syscall.EPERM) {
				return fmt.Errorf("process %d may not be stopped by this user: stop it yourself", pid)
			}
		}
		deadline := time.Now().Add(step.wait)
		for time.Now().Before(deadline) {
			if pids = servers(data); len(pids) == 0 {
				return nil
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("processes %v are still running: %w", pids, context.Cause(ctx))
			}
		}
	}
	return fmt.Errorf("processes %v do not end: stop them yourself", pids)
}

// postmasterOf is the running postmaster of the cluster, 0 when there is none.
func postmasterOf(data string) int {
	if pid := postmasterFile(data); pid > 0 && serves(pid, data) {
		return pid
	}
	return 0
}

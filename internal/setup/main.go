package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"liaison/internal/postgres/embedded"
)

func main() {
	// A terminal's Ctrl-C reaches apt-get too. It ends in its own good time, and the files that kept services
	// from starting are taken away behind it: the signal must not end this program first.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	find := func(ctx context.Context) error {
		_, err := embedded.Find(ctx)
		return err
	}
	if err := run(os.Args[1:], system{
		root: "/", environ: os.Environ(), uid: os.Getuid(), findPostgres: find,
		signals: signals, stdin: os.Stdin, out: os.Stderr,
	}); err != nil {
		fmt.Fprintln(os.Stderr, "setup:", err)
		os.Exit(1)
	}
}

// system is the machine as this program sees it; tests bring one of their own.
type system struct {
	root         string                      // where the file system begins: "/", except in tests
	environ      []string                    // as os.Environ
	uid          int                         // who runs this; 0 is root
	findPostgres func(context.Context) error // nil when there is a server that the hub can start
	signals      <-chan os.Signal            // asks to stop after the step at hand
	stdin        io.Reader                   // for sudo's question
	out          io.Writer                   // what is installed and why, and the output of the programs called
}

// installVerb is the first argument of the run that sudo starts: only to install the packages named.
const installVerb = "install"

// run checks the needs of the target args[0] and installs what is missing.
func run(args []string, sys system) error {
	if len(args) > 1 && args[0] == installVerb {
		return install(args[1:], sys)
	}
	if len(args) != 1 || targets[args[0]] == nil {
		return fmt.Errorf("usage: setup %s", strings.Join(targetNames(), "|"))
	}
	missing := missingOf(targets[args[0]], sys)
	if len(missing) == 0 {
		return nil
	}
	var packages []string
	for _, m := range missing {
		fmt.Fprintf(sys.out, "setup: make %s needs %s, which is missing\n", args[0], m.name)
		packages = append(packages, m.packages...)
	}
	if err := obtain(packages, sys); err != nil {
		for _, m := range missing {
			err = fmt.Errorf("%w\n  %w\n  %s", err, m.reason, m.remedy)
		}
		return err
	}
	if left := missingOf(targets[args[0]], sys); len(left) > 0 {
		return fmt.Errorf("installed %s, and still %s is missing: %w\n  %s",
			strings.Join(packages, " "), left[0].name, left[0].reason, left[0].remedy)
	}
	return nil
}

// targetNames lists the targets in a fixed order, for messages.
func targetNames() []string {
	names := make([]string, 0, len(targets))
	for name := range targets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// env returns the value of a variable, or "" when it is not set. The last of several settings counts.
func (s system) env(name string) string {
	for _, line := range slices.Backward(s.environ) {
		if key, value, ok := strings.Cut(line, "="); ok && key == name {
			return value
		}
	}
	return ""
}

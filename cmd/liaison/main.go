// Command liaison is the hub between people and the ticket systems of other organisations.
//
// It serves GraphQL, keeps incidents in step with vendors' tickets, and brings the tools to look after both: see
// liaison --help. Settings come from a YAML file and LIAISON_* variables.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"liaison/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal finds the system's own answer to it, which is to end the program at once
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// cli is the command line.
type cli struct {
	Config string `help:"Settings file. Default: liaison.yaml in the working folder, if there is one." placeholder:"FILE"`

	Serve    serveCmd    `cmd:"" help:"Run the hub."`
	Demo     demoCmd     `cmd:"" help:"Run the hub with simulated vendors, demo organisations and demo tokens, on loopback."`
	Simulate simulateCmd `cmd:"" help:"Run one vendor's simulator alone."`
	Migrate  migrateCmd  `cmd:"" help:"Bring the database's tables up to date."`
	Sync     syncCmd     `cmd:"" help:"Look after the exchange with vendors: how it does, why things stand where they stand, and mending."`
	Ledger   ledgerCmd   `cmd:"" help:"Check the hub's own history."`
	Mapping  mappingCmd  `cmd:"" help:"Check and explain the translation between vendors' words and the hub's."`
}

// env is what a command is given beside its flags.
type env struct {
	ctx     context.Context
	config  string
	environ []string
	stdout  io.Writer
	stderr  io.Writer
}

// exit ends a command with a code of its own, after it has said everything itself.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// run is the whole program: arguments, environment and writers in, exit code out. 0 is success, 1 a failure, 2 a
// wrong command line or settings.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	var c cli
	exited := -1
	parser, err := kong.New(&c, kong.Name("liaison"), kong.Description("The hub between people and the ticket systems of other organisations."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }), kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		fmt.Fprintln(stderr, "liaison:", err)
		return 1
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		fmt.Fprintf(stderr, "liaison: %v; see liaison --help\n", err)
		return 2
	}
	err = parsed.Run(&env{ctx: ctx, config: c.Config, environ: environ, stdout: stdout, stderr: stderr})
	return report(stderr, err)
}

// report says what ended a command, once.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exit](err); ok {
		return int(code)
	}
	if bad, ok := errors.AsType[*config.Error](err); ok {
		for _, issue := range bad.Issues {
			fmt.Fprintln(stderr, issue)
		}
		return 2
	}
	fmt.Fprintln(stderr, "liaison:", err)
	return 1
}

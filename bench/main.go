// Command bench measures Liaison beside bare alternatives that do the same work with the least that will do (one SQL
// statement behind net/http, a plain pgx transaction, a gorilla/websocket broadcast, plain HTTP posts), and its lanes
// beside River, and says of every bound that is promised whether this run kept it. Nothing fails when one is not kept.
//
// All sides of a row run by turns in this one process, on the same private, durable PostgreSQL, in several short
// rounds whose medians are reported with the spread of their ratios: what else the machine does then hits all. The
// load's own cost is in all sides alike. The server and its data live in a temporary folder that is removed at the
// end; a run that is killed leaves that folder behind and nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are what the command line says.
type settings struct {
	only   []string
	round  time.Duration // of one side
	rounds int
	seed   int64
	json   string
	dir    string
	server map[string]string // PostgreSQL settings over the hub's own
	cpu    string            // where a CPU profile goes
	sizes  sizes
}

// sizes are how much there is of everything.
type sizes struct {
	Schools     int `json:"schools"`
	Incidents   int `json:"incidents"`
	Readers     int `json:"readers"` // clients that ask for lists at the same time
	Writers     int `json:"writers"`
	Written     int `json:"written"` // incidents that the writers share
	Subscribers int `json:"subscribers"`
	Burst       int `json:"burst"` // changes at once
	Lanes       int `json:"lanes"`
	PerLane     int `json:"perLane"`
	Calls       int `json:"calls"`     // to the vendor at the same time
	Few         int `json:"few"`       // deliveries that wait in a small backlog
	Many        int `json:"many"`      // and in a large one
	Stretch     int `json:"stretch"`   // deliveries of a backlog that are timed
	Tickets     int `json:"tickets"`   // incidents that the rows on latency share, in turn
	PerSecond   int `json:"perSecond"` // changes offered a second to a busy hub
}

var (
	full = sizes{
		Schools: 10, Incidents: 100_000, Readers: 8, Writers: 8, Written: 4000, Subscribers: 1000, Burst: 20, Lanes: 2000, PerLane: 5, Calls: 16,
		Few: 5000, Many: 500_000, Stretch: 5000, Tickets: 4000, PerSecond: 1000,
	}
	quick = sizes{
		Schools: 3, Incidents: 3000, Readers: 8, Writers: 8, Written: 400, Subscribers: 100, Burst: 10, Lanes: 400, PerLane: 5, Calls: 16,
		Few: 500, Many: 5000, Stretch: 500, Tickets: 200, PerSecond: 100,
	}
)

type entry struct {
	key  string
	open func(context.Context, *world) (*row, error)
}

// rows are what can be measured, in the order in which it is.
var rows = []entry{
	{"a", openList},
	{"b", openAppend},
	{"c", openFanout},
	{"d", openDeliver},
	{"e", openBacklog},
	{"f", openIdleCall},
	{"g", openIdleHook},
	{"h", openBusy},
}

func parse(args []string, stderr io.Writer) (settings, error) {
	s := settings{sizes: full, server: map[string]string{}}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "a,b,c,d,e,f,g,h", "rows to measure: a list query, b ledger appends, c fan-out, d lane deliveries, e a long backlog, f change to vendor call, g webhook to subscriber, h both under load")
	seconds := flags.Float64("seconds", 4, "length of each timed round of each side; rows d and e send a fixed number instead")
	flags.IntVar(&s.rounds, "rounds", 5, "timed rounds of each side, after one that does not count")
	flags.Int64Var(&s.seed, "seed", 0, "seed of the data; 0 draws one")
	flags.StringVar(&s.json, "json", "", "also write the figures to this `file`")
	flags.StringVar(&s.dir, "dir", os.TempDir(), "`folder` for the database; a disk in memory would flatter every writer")
	flags.StringVar(&s.cpu, "cpuprofile", "", "write a CPU profile of this process to this `file`; use it with -only and few rounds")
	flags.Func("set", "a PostgreSQL setting over the hub's own, as `name=value`; may be given again", func(v string) error {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return errors.New("write it as name=value, for example jit=off")
		}
		s.server[name] = value
		return nil
	})
	small := flags.Bool("quick", false, "small data and short rounds, to try it out: not for figures")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("%q is no flag; see -help", flags.Arg(0))
	}
	if *small {
		s.sizes = quick
		set := map[string]bool{}
		flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
		if !set["seconds"] {
			*seconds = 1
		}
		if !set["rounds"] {
			s.rounds = 3
		}
	}
	s.round, s.only = time.Duration(*seconds*float64(time.Second)), strings.Split(*only, ",")
	if s.seed == 0 {
		s.seed = rand.Int64N(1_000_000) + 1
	}
	switch {
	case *seconds <= 0 || *seconds > 600:
		return s, fmt.Errorf("-seconds %v is out of range; use more than 0, up to 600", *seconds)
	case s.rounds < 1:
		return s, fmt.Errorf("-rounds %d is too few; use at least 1", s.rounds)
	}
	for _, key := range s.only {
		if !slices.ContainsFunc(rows, func(r entry) bool { return r.key == key }) {
			return s, fmt.Errorf("-only: there is no row %q; use a to h, or several with commas", key)
		}
	}
	return s, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	w, err := newWorld(ctx, s, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	out := report{Started: time.Now().UTC().Truncate(time.Second), Seed: s.seed, Sizes: s.sizes, RoundSeconds: s.round.Seconds(), Rounds: s.rounds}
	if out.Machine, err = w.facts(ctx); err != nil {
		return err
	}
	stop, err := profile(s.cpu)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, r := range rows {
		if !slices.Contains(s.only, r.key) {
			continue
		}
		log.InfoContext(ctx, "measuring", "row", r.key)
		measured, err := w.measure(ctx, r.open)
		if err != nil {
			// What is measured already is worth reading all the same.
			return errors.Join(fmt.Errorf("row %s: %w", r.key, err), out.finish(stdout, s.json))
		}
		measured.Key = r.key
		out.Rows = append(out.Rows, measured)
	}
	return out.finish(stdout, s.json)
}

// profile writes a CPU profile until it is stopped; an empty path writes none.
func profile(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() error { pprof.StopCPUProfile(); return file.Close() }, nil
}

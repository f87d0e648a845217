package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// report is all that a run found out.
type report struct {
	Started      time.Time  `json:"started"`
	Took         string     `json:"took"`
	Machine      machine    `json:"machine"`
	Seed         int64      `json:"seed"`
	Sizes        sizes      `json:"sizes"`
	RoundSeconds float64    `json:"roundSeconds"`
	Rounds       int        `json:"rounds"`
	Rows         []measured `json:"rows"`
}

// finish prints what was found out and writes it to a file, if one is named.
func (r *report) finish(to io.Writer, path string) error {
	r.Took, r.Machine.LoadAfter = time.Since(r.Started).Round(time.Second).String(), loadAverage()
	if err := r.print(to); err != nil {
		return fmt.Errorf("printing the figures: %w", err)
	}
	if path == "" {
		return nil
	}
	return r.write(path)
}

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the figures: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func (r *report) print(to io.Writer) error {
	m := r.Machine
	fmt.Fprintf(to, "\nLiaison beside bare peers, %s, seed %d, %d rounds of %gs a side, %s in all\n",
		r.Started.Format(time.RFC3339), r.Seed, r.Rounds, r.RoundSeconds, r.Took)
	fmt.Fprintf(to, "%s, %d cores used of %d, %s memory, %s, %s\n", m.CPU, m.Procs, m.Cores, m.Memory, m.System, m.Go)
	fmt.Fprintf(to, "PostgreSQL %s: %s\n", m.Postgres, strings.Join(m.Settings, ", "))
	fmt.Fprintf(to, "fsync of 8 KiB on the database's disk: %.2f ms (median); load before %s, after %s: what else runs shows in the spread of the ratios\n\n",
		m.FsyncMS, m.LoadBefore, m.LoadAfter)

	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\twhat\tunit\tLiaison\tpeer\t\tratio\t(low to high)\tp50/p99 ms Liaison\tp50/p99 ms peer\tCPU us Liaison\tCPU us peer")
	for _, row := range r.Rows {
		for n, l := range row.Liaison {
			key := ""
			if n == 0 {
				key = row.Key
			}
			for k, c := range l.Beside {
				what, peer := l.Name, row.Peers[c.Peer]
				if k > 0 {
					key, what = "", ""
				}
				fmt.Fprintf(table, "%s\t%s\t%s\t%.0f\t%.0f\t%s\t%s\t%s\t%s\t%s\t%s\n", key, what, row.Unit, l.Rate, peer.Rate, row.Short[c.Peer],
					ratios(c), latencies(l), latencies(peer), processor(l), processor(peer))
			}
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(to, "\nCPU: processor time of one request, append, message, delivery or change in microseconds, in this process with the load's own + in"+
		"\nPostgreSQL; other load hardly changes it. Ratio: of the rates within one round.")
	for _, row := range r.Rows {
		fmt.Fprintf(to, "\n%s  %s\n", row.Key, row.Title)
		for n, peer := range row.Peers {
			fmt.Fprintf(to, "   %s: %s\n", row.Short[n], peer.Name)
		}
		if row.Latency != "" {
			fmt.Fprintf(to, "   p50/p99: %s\n", row.Latency)
		}
		for _, b := range row.Bounds {
			fmt.Fprintf(to, "   %s\n", b)
		}
		for _, fact := range row.Facts {
			fmt.Fprintf(to, "   %s\n", fact)
		}
	}
	fmt.Fprintln(to)
	return nil
}

// ratios are the median and the extremes, in two columns.
func ratios(c comparison) string {
	if c.Ratio == 0 {
		return "-\t-"
	}
	return fmt.Sprintf("%.2f\t(%.2f to %.2f)", c.Ratio, c.Low, c.High)
}

func latencies(s side) string {
	if s.P50 == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f/%.2f", s.P50, s.P99)
}

// processor is the time here and in PostgreSQL.
func processor(s side) string {
	if s.CPUHere == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f+%.0f", s.CPUHere, s.CPUPostgres)
}

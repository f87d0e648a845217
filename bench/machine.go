package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"
)

// machine is where and on what a run was made.
type machine struct {
	CPU        string   `json:"cpu"`
	Cores      int      `json:"cores"`
	Procs      int      `json:"gomaxprocs"`
	Memory     string   `json:"memory"`
	System     string   `json:"system"`
	Go         string   `json:"go"`
	Postgres   string   `json:"postgres"`
	Settings   []string `json:"settings"`
	FsyncMS    float64  `json:"fsyncMs"`
	LoadBefore string   `json:"loadBefore"`
	LoadAfter  string   `json:"loadAfter"`
}

func (w *world) facts(ctx context.Context) (machine, error) {
	m := machine{
		CPU: orUnknown(procValue("/proc/cpuinfo", "model name")), Cores: runtime.NumCPU(), Procs: runtime.GOMAXPROCS(0),
		Memory: orUnknown(procValue("/proc/meminfo", "MemTotal")), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), LoadBefore: w.load,
	}
	var err error
	if m.FsyncMS, err = w.fsync(); err != nil {
		return m, fmt.Errorf("measuring fsync: %w", err)
	}
	if err := w.bare.QueryRow(ctx, "SHOW server_version").Scan(&m.Postgres); err != nil {
		return m, err
	}
	found, err := w.bare.Query(ctx, `SELECT name || ' ' || current_setting(name) FROM pg_settings WHERE name IN
		('fsync', 'synchronous_commit', 'full_page_writes', 'wal_sync_method', 'shared_buffers', 'max_wal_size', 'autovacuum', 'jit') ORDER BY name`)
	if err != nil {
		return m, err
	}
	m.Settings, err = pgx.CollectRows(found, pgx.RowTo[string])
	return m, err
}

// procValue reads a line of one of Linux's files; "" where there is none.
func procValue(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// loadAverage is how many processes wanted a core in the last one, five and fifteen minutes.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	words := strings.Fields(string(text))
	if err != nil || len(words) < 3 {
		return "unknown"
	}
	return strings.Join(words[:3], " ")
}

package main

import (
	"context"
	"fmt"
	"time"

	"liaison/cmd/liaison/hub"
	"liaison/connectors/registry"
	"liaison/internal/config"
	"liaison/internal/postgres"
	"liaison/internal/postgres/embedded"
	"liaison/internal/telemetry"
)

type serveCmd struct{}

func (serveCmd) Run(e *env) error {
	c, err := e.settings()
	if err != nil {
		return err
	}
	return e.serve(c, func(h *hub.Hub) error {
		fmt.Fprintf(e.stdout, "Liaison is ready on http://%s\n", h.Addr())
		return nil
	})
}

func (e *env) settings() (*config.Config, error) {
	return config.Load(config.Options{Path: e.config, Explicit: e.config != "", Environ: e.environ, Connectors: registry.Names()})
}

func (e *env) telemetry(c *config.Config) (*telemetry.Telemetry, error) {
	level, err := telemetry.ParseLevel(c.Log.Level)
	if err != nil {
		return nil, err
	}
	t, err := telemetry.Start(e.ctx, telemetry.Config{
		LogLevel: level, LogJSON: c.Log.Format == config.LogJSON, LogOutput: e.stderr, OTLPEndpoint: c.Telemetry.OTLPEndpoint, Version: version(),
	})
	if err == nil {
		t.SetGlobal()
	}
	return t, err
}

// serve runs a hub until the context ends or the hub fails, and stops it in order.
func (e *env) serve(c *config.Config, ready func(*hub.Hub) error) error {
	t, err := e.telemetry(c)
	if err != nil {
		return err
	}
	defer func() {
		flush, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), 5*time.Second)
		defer cancel()
		if err := t.Shutdown(flush); err != nil {
			t.Logger.Warn("the last traces were not sent", "error", err)
		}
	}()
	w, err := watch(e.environ)
	if err != nil {
		return err
	}
	h, err := hub.Start(e.ctx, c, t, w)
	if err != nil && e.ctx.Err() != nil {
		t.Logger.Info("stopped before the hub was ready", "error", err)
		return nil
	} else if err != nil {
		return err
	}
	failure := ready(h)
	if failure == nil {
		select {
		case <-e.ctx.Done():
			t.Logger.Info("stopping: calls under way are being settled", "within", c.DrainTimeout)
		case failure = <-h.Failed():
		}
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), c.DrainTimeout)
	defer cancel()
	if err := h.Stop(stop); err != nil {
		t.Logger.Warn("stopping", "error", err)
	}
	return failure
}

type migrateCmd struct{}

func (migrateCmd) Run(e *env) error {
	c, err := e.settings()
	if err != nil {
		return err
	}
	url, err := c.Database.URL.Value()
	if err != nil {
		return fmt.Errorf("database.url: %w", err)
	}
	if url == "" {
		server, err := embedded.Start(e.ctx, embedded.Options{Dir: c.DataDir})
		if err != nil {
			return fmt.Errorf("starting the embedded Postgres: %w", err)
		}
		defer func() { _ = server.Stop(context.WithoutCancel(e.ctx)) }() // it logs by itself
		url = server.URL()
	}
	done, err := postgres.Migrate(e.ctx, url, postgres.Migrations)
	if err != nil {
		return err
	}
	for _, m := range done {
		fmt.Fprintf(e.stdout, "applied %s in %s\n", m.Name, m.Took.Round(time.Millisecond))
	}
	if len(done) == 0 {
		fmt.Fprintln(e.stdout, "the tables are up to date")
	}
	return nil
}

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"liaison/cmd/liaison/hub"
	"liaison/connectors/registry"
	"liaison/internal/config"
	"liaison/internal/postgres/embedded"
)

//go:embed demo.yaml
var demoSettings []byte

type demoCmd struct {
	Addr    string `default:"127.0.0.1:8080" help:"Where the hub listens; loopback only."`
	SimPort int    `name:"sim-port" default:"8101" help:"The first simulator's port; further ones follow it."`
	DataDir string `name:"data-dir" help:"Folder that keeps everything. Default: LIAISON_DATA_DIR, else demo in the default data folder." placeholder:"DIR"`
}

func (d demoCmd) Run(e *env) error {
	if err := loopback("--addr", d.Addr); err != nil {
		return err
	}
	if d.SimPort < 1 || d.SimPort > 65000 {
		return fmt.Errorf("--sim-port: %d is no port; use one from 1 to 65000, for example 8101", d.SimPort)
	}
	c, err := d.settings(e)
	if err != nil {
		return err
	}
	var vendors []*running
	defer func() {
		for _, v := range slices.Backward(vendors) {
			if err := v.stop(); err != nil {
				fmt.Fprintf(e.stderr, "liaison: stopping %s's simulator: %v\n", v.title, err)
			}
		}
	}()
	for _, s := range c.Systems {
		secret, err := s.Webhook.Secret.Value()
		if err != nil {
			return err
		}
		hook := &hookTarget{url: "http://" + d.Addr + "/hooks/" + s.Key, header: s.Webhook.Header, secret: secret}
		v, err := startSimulator(e.ctx, s.Connector, strings.TrimPrefix(s.URL, "http://"), filepath.Join(c.DataDir, "simulators", s.Key), hook, nil)
		if err != nil {
			return err
		}
		vendors = append(vendors, v)
	}
	return e.serve(c, func(h *hub.Hub) error {
		d.welcome(e, c, h)
		return nil
	})
}

// settings are the demo's own, with the environment's over them.
func (d demoCmd) settings(e *env) (*config.Config, error) {
	c, err := config.Parse("demo.yaml", demoSettings, config.Options{Environ: d.environ(e.environ), Connectors: registry.Names(), AllowLiteralSecrets: true})
	if err != nil {
		return nil, err
	}
	c.Addr = d.Addr
	for n := range c.Systems {
		c.Systems[n].URL = "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(d.SimPort+n))
	}
	if c.DataDir, err = d.dataDir(e.environ); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.DataDir, 0o755); err != nil { // 755: Postgres's own user has to pass through it
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	return c, nil
}

// environ leaves out what the demo decides itself.
func (demoCmd) environ(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(v string) bool {
		return strings.HasPrefix(v, "LIAISON_ADDR=") || strings.HasPrefix(v, "LIAISON_DATA_DIR=") || strings.HasPrefix(v, "LIAISON_ALLOW_REMOTE=")
	})
}

func (d demoCmd) dataDir(environ []string) (string, error) {
	if d.DataDir != "" {
		return filepath.Abs(d.DataDir)
	}
	for _, v := range environ {
		if dir, ok := strings.CutPrefix(v, "LIAISON_DATA_DIR="); ok && dir != "" {
			return filepath.Abs(dir)
		}
	}
	dir, err := embedded.DefaultDir()
	if err != nil {
		return "", errors.Join(err, errors.New("name a folder with --data-dir"))
	}
	return filepath.Join(dir, "demo"), nil // beside, not among, what a real hub on this machine keeps
}

func (d demoCmd) welcome(e *env, c *config.Config, h *hub.Hub) {
	s := c.Systems[0]
	fmt.Fprintf(e.stdout, `
Liaison is ready: http://%[1]s

  GraphQL     http://%[1]s/graphql
  %-11[2]s %[3]s  (played here; its tickets: %[3]s/_sim/tickets)
  data        %[4]s

  demo-requester  a member of staff of Barnfield Primary School
  demo-agent      an agent of the BTLS Service Centre
  demo-admin      an administrator

Report an incident:

  curl -s http://%[1]s/graphql -H 'Authorization: Bearer demo-requester' -H 'Content-Type: application/json' \
    -d '{"query":"mutation { reportIncident(input: {description: \"The printer in room 4 says PC LOAD LETTER\"}) { incident { id number state } notifiedAddress } }"}'

Then escalate it with its id:

  curl -s http://%[1]s/graphql -H 'Authorization: Bearer demo-agent' -H 'Content-Type: application/json' \
    -d '{"query":"mutation { escalateIncident(input: {incidentId: \"ID\", system: \"%[5]s\"}) { link { syncStatus } } }"}'

Ctrl-C stops everything; the data stays.
`, h.Addr(), "ServiceNow", s.URL, c.DataDir, s.Key)
}

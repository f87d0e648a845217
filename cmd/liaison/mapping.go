package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"liaison/cmd/liaison/hub"
	"liaison/connectors"
	"liaison/connectors/registry"
	"liaison/internal/config"
	"liaison/internal/incident"
	"liaison/sync/mapping"
)

type mappingCmd struct {
	Check   mappingCheckCmd   `cmd:"" help:"Check mapping files whole: the connectors' own, those of the settings, or the ones named."`
	Explain mappingExplainCmd `cmd:"" help:"Show what a mapping makes of a vendor's words, or of the hub's, and which line decides."`
}

type mappingCheckCmd struct {
	Connector string   `help:"The connector whose default lies under the files named. Default: the files stand alone." placeholder:"NAME"`
	Files     []string `arg:"" optional:"" type:"path" help:"Mapping files. Default: every mapping in use."`
}

func (m mappingCheckCmd) Run(e *env) error {
	checks, err := m.targets(e)
	if err != nil {
		return err
	}
	bad := 0
	for _, c := range checks {
		words, err := c.load()
		if err != nil {
			fmt.Fprintln(e.stderr, err)
			bad++
			continue
		}
		fmt.Fprintf(e.stdout, "%s: good (version %s)\n", c.name, words.Version())
	}
	if bad > 0 {
		return exit(1)
	}
	return nil
}

type target struct {
	name string
	load func() (*mapping.Mapping, error)
}

func (m mappingCheckCmd) targets(e *env) ([]target, error) {
	var out []target
	if len(m.Files) > 0 {
		for _, file := range m.Files {
			load := func() (*mapping.Mapping, error) { return loadFile(file) }
			if m.Connector != "" {
				entry, known := registry.Find(m.Connector)
				if !known {
					return nil, fmt.Errorf("--connector: %q is not known; use one of %s", m.Connector, strings.Join(registry.Names(), ", "))
				}
				load = func() (*mapping.Mapping, error) { return hub.Mapping(entry, file) }
			}
			out = append(out, target{name: file, load: load})
		}
		return out, nil
	}
	for _, entry := range registry.All() {
		out = append(out, target{name: entry.Name, load: func() (*mapping.Mapping, error) { return hub.Mapping(entry, "") }})
	}
	c, err := config.Load(config.Options{Path: e.config, Explicit: e.config != "", Environ: e.environ, Connectors: registry.Names(), DeferSecrets: true})
	if err != nil {
		return nil, err
	}
	for _, s := range c.Systems {
		if s.Mapping != "" {
			entry, _ := registry.Find(s.Connector)
			out = append(out, target{name: s.Key + ": " + s.Mapping, load: func() (*mapping.Mapping, error) { return hub.Mapping(entry, s.Mapping) }})
		}
	}
	return out, nil
}

func loadFile(file string) (*mapping.Mapping, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return mapping.Load(file, data)
}

type mappingExplainCmd struct {
	System string `required:"" help:"A system's key in the settings (the demo's are known as well), or a connector's name." placeholder:"KEY"`
	Vendor string `help:"The vendor's words, as JSON." placeholder:"JSON" xor:"words" required:""`
	Hub    string `help:"The hub's words, as JSON." placeholder:"JSON" xor:"words" required:""`
}

func (m mappingExplainCmd) Run(e *env) error {
	words, err := m.mapping(e)
	if err != nil {
		return err
	}
	if m.Vendor != "" {
		remote, err := object[connectors.Fields]("--vendor", m.Vendor, `{"state":"3","hold_reason":"4"}`)
		if err != nil {
			return err
		}
		fmt.Fprint(e.stdout, words.Explain(remote))
		return nil
	}
	given, err := object[map[incident.Field]string]("--hub", m.Hub, `{"state":"ON_HOLD/AWAITING_VENDOR"}`)
	if err != nil {
		return err
	}
	for f := range given {
		if !f.Valid() {
			return fmt.Errorf("--hub: %q is no field; use one of %v", f, incident.Fields())
		}
	}
	fmt.Fprint(e.stdout, words.ExplainHub(given))
	return nil
}

func (m mappingExplainCmd) mapping(e *env) (*mapping.Mapping, error) {
	c, err := config.Load(config.Options{Path: e.config, Explicit: e.config != "", Environ: e.environ, Connectors: registry.Names(), DeferSecrets: true})
	if err != nil {
		return nil, err
	}
	demo, err := config.Parse("demo.yaml", demoSettings, config.Options{Environ: []string{}, Connectors: registry.Names(), AllowLiteralSecrets: true})
	if err != nil {
		return nil, err
	}
	var known []string
	for _, s := range append(c.Systems, demo.Systems...) {
		if s.Key == m.System {
			entry, _ := registry.Find(s.Connector)
			return hub.Mapping(entry, s.Mapping)
		}
		known = append(known, s.Key)
	}
	if entry, ok := registry.Find(m.System); ok {
		return hub.Mapping(entry, "")
	}
	return nil, fmt.Errorf("--system: %q is not known; use one of %s", m.System, strings.Join(append(known, registry.Names()...), ", "))
}

// object reads a flag's JSON object of texts.
func object[M ~map[K]string, K ~string](flag, text, example string) (M, error) {
	var out M
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return nil, fmt.Errorf("%s: %w; write an object of texts, for example '%s'", flag, err, example)
	}
	return out, nil
}

package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/v2"
)

// DefaultPath is the settings file that Load reads when none is named, if it is there.
const DefaultPath = "liaison.yaml"

const (
	envPrefix    = "LIAISON_"
	otlpEnv      = "OTEL_EXPORTER_OTLP_ENDPOINT"
	maxFileBytes = 4 << 20
)

// Options says where settings come from and what is accepted.
type Options struct {
	// Path is the settings file; empty means DefaultPath.
	Path string
	// Explicit says that a person named Path, so that it is an error when there is no such file.
	Explicit bool
	// Environ is the environment as NAME=value; nil means the process's own. Empty variables count as unset.
	Environ []string
	// Connectors are the names a system's connector may have; nil accepts any.
	Connectors []string
	// AllowLiteralSecrets accepts secrets that stand in the file themselves. The demo alone sets it.
	AllowLiteralSecrets bool
	// DeferSecrets leaves secrets unresolved, for checking a file where its secrets are not: Secret.Value tells later.
	DeferSecrets bool
}

// Load reads the settings file, if any, lays the environment's LIAISON_* variables over it and checks the whole. Its
// error is an *Error, except when a file is there and cannot be read.
func Load(o Options) (*Config, error) {
	if o.Path == "" {
		o.Path = DefaultPath
	}
	data, err := readFile(o.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !o.Explicit:
		return Parse("", nil, o)
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{Issues: []Issue{{
			Source: o.Path, Problem: "there is no such settings file", Remedy: "check the path given with --config",
		}}}
	case err != nil:
		return nil, fmt.Errorf("reading settings: %w", err)
	}
	return Parse(o.Path, data, o)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes: it is no settings file", path, maxFileBytes)
	}
	return data, nil
}

// Parse is Load with the file's content in hand: name stands in errors, and relative paths in the file are relative to
// its folder. An empty name means that there is no file. Path and Explicit of o are not used.
func Parse(name string, data []byte, o Options) (*Config, error) {
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	doc := &document{name: name, places: map[string]place{}}
	r := newReport(doc)
	doc.read(data, r)

	vars := environment(o.Environ)
	d := &decoder{report: r, literals: o.AllowLiteralSecrets, baseDir: filepath.Dir(name), lookup: vars.lookup}

	// The file alone first, so that a variable cannot hide a mistake in it; then the file with the variables over it.
	d.decode(doc.tree, "", reflect.ValueOf(Default()).Elem())
	merged, err := overlay(doc, o.Environ)
	if err != nil {
		return nil, err
	}
	cfg := Default()
	d.decode(merged, "", reflect.ValueOf(cfg).Elem())

	c := &checker{decoder: d, cfg: cfg, options: o, vars: vars}
	c.check()
	if err := r.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// overlay merges the variables over the file's tree and records where each now stands.
func overlay(doc *document, environ []string) (map[string]any, error) {
	k := koanf.New(".")
	if err := k.Load(confmap.Provider(doc.tree, ""), nil); err != nil {
		return nil, fmt.Errorf("merging settings: %w", err)
	}
	paths := map[string]string{}
	for _, s := range Describe() {
		if s.Env != "" {
			paths[s.Env] = s.Path
		}
	}
	load := func(paths map[string]string, prefix string) error {
		return k.Load(env.Provider(".", env.Opt{
			Prefix:      prefix,
			EnvironFunc: func() []string { return environ },
			TransformFunc: func(name, value string) (string, any) {
				path, ok := paths[name]
				if !ok || value == "" {
					return "", nil
				}
				doc.places[path] = place{source: name}
				return path, value
			},
		}), nil)
	}
	// The standard's variable first, so that Liaison's own wins when both are set.
	if err := load(map[string]string{otlpEnv: "telemetry.otlp_endpoint"}, otlpEnv); err != nil {
		return nil, fmt.Errorf("merging variables: %w", err)
	}
	if err := load(paths, envPrefix); err != nil {
		return nil, fmt.Errorf("merging variables: %w", err)
	}
	return k.Raw(), nil
}

// variables is an environment by name.
type variables map[string]string

func environment(environ []string) variables {
	vars := variables{}
	for _, e := range environ {
		name, value, ok := strings.Cut(e, "=")
		if _, twice := vars[name]; ok && !twice { // the first counts, as in getenv(3)
			vars[name] = value
		}
	}
	return vars
}

func (v variables) lookup(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}

// misspelt returns the LIAISON_* variables that are no setting's but nearly so, each with the one it was probably meant
// to be. Others are left alone: a person may keep secrets under names of their own.
func (v variables) misspelt(referred map[string]bool) map[string]string {
	var known []string
	for _, s := range Describe() {
		if s.Env != "" {
			known = append(known, s.Env)
		}
	}
	found := map[string]string{}
	for name := range v {
		if !strings.HasPrefix(name, envPrefix) || len(name) > 64 || referred[name] || slices.Contains(known, name) {
			continue
		}
		for _, k := range known {
			if levenshtein.ComputeDistance(name, k) <= 2 {
				found[name] = k
				break
			}
		}
	}
	return found
}

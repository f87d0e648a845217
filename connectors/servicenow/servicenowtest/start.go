package servicenowtest

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"
)

// Option changes the configuration of a server made by Start.
type Option func(*Config)

// WithConfig starts from a whole configuration.
func WithConfig(cfg Config) Option { return func(c *Config) { *c = cfg } }

// WithDir keeps the tables in a directory.
func WithDir(dir string) Option { return func(c *Config) { c.Dir = dir } }

// WithNow sets the instance's clock.
func WithNow(now func() time.Time) Option { return func(c *Config) { c.Now = now } }

// WithWebhook sets the target of outgoing calls.
func WithWebhook(w Webhook) Option { return func(c *Config) { c.Webhook = w } }

// WithSwitches sets the switches.
func WithSwitches(s Switches) Option { return func(c *Config) { c.Switches = s } }

// WithSeedIncidents starts with n incidents.
func WithSeedIncidents(n int) Option { return func(c *Config) { c.SeedIncidents = n } }

// Start plays an instance on a free loopback port until the test ends. Its URL is the server's address.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	var cfg Config
	for _, o := range options {
		o(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listening for the simulator: %v", err)
	}
	s.URL = "http://" + listener.Addr().String()
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return s.life }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(listener) // ends with ErrServerClosed at cleanup
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
		if err := s.Close(); err != nil {
			t.Errorf("closing the simulator: %v", err)
		}
	})
	return s
}

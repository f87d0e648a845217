package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"liaison/connectors/servicenow/servicenowtest"
)

// simulator is a vendor that can be played here.
type simulator struct {
	title string
	// make returns the vendor's handler and what closes it. dir keeps its tickets; empty: in memory. hook is where it
	// calls when a ticket changes; nil: nowhere.
	make func(dir string, hook *hookTarget) (http.Handler, func() error, error)
}

// hookTarget is where a simulated vendor calls.
type hookTarget struct{ url, header, secret string }

func simulators() map[string]simulator {
	return map[string]simulator{
		"servicenow": {title: "ServiceNow", make: func(dir string, hook *hookTarget) (http.Handler, func() error, error) {
			c := servicenowtest.Config{Dir: dir}
			if hook != nil {
				c.Webhook = servicenowtest.Webhook{URL: hook.url, Header: hook.header, Secret: hook.secret}
			}
			s, err := servicenowtest.New(c)
			if err != nil {
				return nil, nil, err
			}
			return s, s.Close, nil
		}},
	}
}

type simulateCmd struct {
	Vendor string `arg:"" enum:"servicenow" help:"The vendor to play: ${enum}."`
	Addr   string `default:"127.0.0.1:8101" help:"Where to listen; loopback only."`
	Dir    string `help:"Folder that keeps its tickets. Default: they are forgotten at the end." placeholder:"DIR"`
	TLS    bool   `name:"tls" help:"Speak HTTPS, for clients that speak nothing else; where the certificate to trust lies is printed."`
}

func (s simulateCmd) Run(e *env) error {
	if err := loopback("--addr", s.Addr); err != nil {
		return err
	}
	var secure *tls.Config
	scheme := "http"
	if s.TLS {
		var file string
		var err error
		if secure, file, err = loopbackCertificate(s.Dir); err != nil {
			return fmt.Errorf("--tls: %w", err)
		}
		scheme = "https"
		fmt.Fprintf(e.stdout, "The certificate to trust: %s\n", file)
	}
	v, err := startSimulator(e.ctx, s.Vendor, s.Addr, s.Dir, nil, secure)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "%s is played on %s://%s, user sim, password sim. Its desk's door: %[2]s://%[3]s/_sim/tickets\n", v.title, scheme, s.Addr)
	<-e.ctx.Done()
	return v.stop()
}

// running is a simulator that answers.
type running struct {
	title string
	stop  func() error
}

func startSimulator(ctx context.Context, vendor, addr, dir string, hook *hookTarget, secure *tls.Config) (*running, error) {
	s, known := simulators()[vendor]
	if !known {
		return nil, fmt.Errorf("no simulator plays %q", vendor)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s's simulator: %w", s.title, err)
	}
	if dir != "" {
		dir = filepath.Clean(dir)
	}
	handler, closeIt, err := s.make(dir, hook)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s's simulator: %w", s.title, err), listener.Close())
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return &running{title: s.title, stop: func() error {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if server.Shutdown(stop) != nil {
			_ = server.Close() // whoever still waits for an answer is cut off
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return errors.Join(err, closeIt())
		}
		return closeIt()
	}}, nil
}

// loopback refuses an address that others could reach: what is behind it has no real protection.
func loopback(flag, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %w; write it as 127.0.0.1:8080", flag, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s: %q is not a loopback address, and everybody knows this server's passwords; use 127.0.0.1", flag, host)
	}
	return nil
}

package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

var errEgress = errors.New("address refused")

// transportTo returns the transport for one configured address. It reads no proxy from the environment: the guard
// sees the address that is dialled, and behind a proxy that would no longer be the vendor's.
func transportTo(cfg Config, at *url.URL) http.RoundTripper {
	if cfg.Transport != nil {
		return cfg.Transport
	}
	guard := &egressGuard{loopback: isLoopbackHost(at.Hostname()), extra: cfg.Egress}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second, Control: guard.control}
	connections := cfg.Concurrency
	if connections == 0 {
		connections = DefaultConcurrency
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		ForceAttemptHTTP2:      true,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs},
		TLSHandshakeTimeout:    10 * time.Second,
		MaxIdleConnsPerHost:    connections,
		MaxConnsPerHost:        2 * connections,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
	}
}

// egressGuard looks at the address that is really dialled, after the name was resolved, so that a name which changes
// its address between a check and the call gains nothing.
type egressGuard struct {
	loopback bool // the configured host is loopback itself
	extra    func(netip.AddrPort) error
}

func (g *egressGuard) control(network, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s %s", errEgress, network, address)
	}
	at = netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
	if err := g.check(at.Addr()); err != nil {
		return err
	}
	if g.extra != nil {
		if err := g.extra(at); err != nil {
			return fmt.Errorf("%w: %w", errEgress, err)
		}
	}
	return nil
}

// translators are prefixes in which an IPv4 address is hidden in the last four bytes (RFC 6052, section 2.1).
var translators = netip.MustParsePrefix("64:ff9b::/96")

// awsMetadata is the one metadata address that is not link-local.
var awsMetadata = netip.MustParseAddr("fd00:ec2::254")

func (g *egressGuard) check(ip netip.Addr) error {
	if translators.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case ip.IsLinkLocalUnicast(), ip == awsMetadata: // 169.254.169.254 hands out a machine's credentials
		return fmt.Errorf("%w: %s is link-local or a metadata service", errEgress, ip)
	case ip.IsMulticast(), ip.IsUnspecified(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%w: %s is no host's address", errEgress, ip)
	case ip.IsLoopback() && !g.loopback:
		return fmt.Errorf("%w: %s is this machine, but the configured host is not", errEgress, ip)
	}
	return nil
}

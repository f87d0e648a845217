package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"liaison/connectors"
)

// RELIABILITY I6: addresses that are never dialled, whatever name led there.
func TestEgressGuard(t *testing.T) {
	t.Parallel()
	for address, allowed := range map[string]bool{
		"93.184.216.34:443": true, "[2606:2800:220:1::1]:443": true,
		"10.1.2.3:443": true, "192.168.1.1:443": true, "[fd12::1]:443": true, // vendors' systems stand in private networks, too
		"127.0.0.1:80": false, "127.8.8.8:80": false, "[::1]:80": false, "[::ffff:127.0.0.1]:80": false,
		"169.254.169.254:80": false, "[::ffff:169.254.169.254]:80": false, "169.254.1.1:80": false, "[fe80::1%eth0]:80": false,
		"[fd00:ec2::254]:80": false, "[64:ff9b::a9fe:a9fe]:80": false, "[64:ff9b::7f00:1]:80": false,
		"0.0.0.0:80": false, "[::]:80": false, "224.0.0.1:80": false, "[ff02::1]:80": false, "255.255.255.255:80": false,
		"unix.sock": false, "": false,
	} {
		if err := (&egressGuard{}).control("tcp", address, nil); (err == nil) != allowed {
			t.Errorf("%s: %v, want allowed: %t", address, err, allowed)
		}
	}
	local := &egressGuard{loopback: true}
	if err := local.control("tcp", "127.0.0.1:8101", nil); err != nil {
		t.Errorf("a configured loopback host: %v", err)
	}
	if err := local.control("tcp", "169.254.169.254:80", nil); err == nil {
		t.Error("the metadata service is reachable from a loopback configuration")
	}
}

// The same through a whole client: refused before a byte is sent, as something that a person has to mend.
func TestEgressRefusal(t *testing.T) {
	t.Parallel()
	v := serve(t, func(http.ResponseWriter, *http.Request) {})
	_, port, _ := net.SplitHostPort(v.Listener.Addr().String())
	for _, url := range []string{"https://0.0.0.0:" + port, "https://169.254.169.254", "https://[fe80::1]:" + port, "https://[::]:" + port} {
		_, err := dial(t, url).Do(t.Context(), write)
		if e := asError(t, err); e.Kind != connectors.Auth || !errors.Is(err, errEgress) {
			t.Errorf("%s: %v, want a refusal of the address", url, e)
		}
	}
	extra := func(c *Config) { c.Egress = func(netip.AddrPort) error { return errors.New("not in the allow list") } }
	_, err := dial(t, v.URL, extra).Do(t.Context(), read)
	if err == nil || !strings.Contains(err.Error(), "allow list") || v.calls.Load() != 0 {
		t.Errorf("%v after %d calls, want the extra rule's refusal", err, v.calls.Load())
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	secret := connectors.NewSecret("hunter2-hunter2")
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"no url":              {Config{}, "url:"},
		"no scheme":           {Config{BaseURL: "example.org"}, "url:"},
		"ftp":                 {Config{BaseURL: "ftp://example.org"}, "url:"},
		"userinfo":            {Config{BaseURL: "https://u:hunter2-hunter2@example.org"}, "put them under auth"},
		"broken with secret":  {Config{BaseURL: "https://u:hunter2-hunter2@exa mple.org"}, "url:"},
		"query":               {Config{BaseURL: "https://example.org/?token=hunter2-hunter2"}, "query"},
		"plain http":          {Config{BaseURL: "http://example.org"}, "plain http"},
		"unix":                {Config{BaseURL: "unix:///var/run/x.sock"}, "url:"},
		"two ways to sign in": {Config{BaseURL: "https://example.org", Auth: connectors.Credentials{Token: secret, Basic: &connectors.Basic{User: "u"}}}, "more than one"},
		"token with a break":  {Config{BaseURL: "https://example.org", Auth: connectors.Credentials{Token: connectors.NewSecret("hunter2-hunter2\n")}}, "auth.token"},
		"colon in the user":   {Config{BaseURL: "https://example.org", Auth: connectors.Credentials{Basic: &connectors.Basic{User: "a:b"}}}, "auth.basic.user"},
		"unknown grant":       {Config{BaseURL: "https://example.org", Auth: connectors.Credentials{OAuth2: &connectors.OAuth2{TokenURL: "https://example.org", Grant: "magic"}}}, "auth.oauth2.grant"},
		"no token url":        {Config{BaseURL: "https://example.org", Auth: connectors.Credentials{OAuth2: &connectors.OAuth2{Grant: connectors.GrantPassword, User: "u"}}}, "auth.oauth2.token_url"},
		"negative rate":       {Config{BaseURL: "https://example.org", Rate: -1}, "rate"},
	} {
		_, err := New(c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want a word on %q and no secret", name, err, c.want)
		}
	}
}

// certificate makes a self-signed one for 127.0.0.1 or another name.
func certificate(t *testing.T, name string, until time.Time) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, parsed
}

// RELIABILITY I7: all refused, before anything is sent, and for a person to mend rather than tried again at once.
func TestTLS(t *testing.T) {
	t.Parallel()
	tomorrow := time.Now().Add(24 * time.Hour)
	for name, c := range map[string]struct {
		host    string
		until   time.Time
		trusted bool
		max     uint16
		works   bool
	}{
		"good":        {"127.0.0.1", tomorrow, true, 0, true},
		"self-signed": {"127.0.0.1", tomorrow, false, 0, false},
		"expired":     {"127.0.0.1", time.Now().Add(-time.Hour), true, 0, false},
		"other host":  {"other.example.org", tomorrow, true, 0, false},
		"TLS 1.1":     {"127.0.0.1", tomorrow, true, tls.VersionTLS11, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cert, parsed := certificate(t, c.host, c.until)
			calls, hellos := 0, 0
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls++ }))
			srv.Config.ErrorLog = log.New(io.Discard, "", 0)
			srv.TLS = &tls.Config{
				Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: c.max,
				GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { hellos++; return nil, nil },
			}
			srv.StartTLS()
			pool := x509.NewCertPool()
			if c.trusted {
				pool.AddCert(parsed)
			}
			_, err := dial(t, srv.URL, func(cfg *Config) { cfg.RootCAs = pool }).Do(t.Context(), write)
			srv.Close() // waits for the connections: the counts are final
			if c.works {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if e := asError(t, err); e.Kind != connectors.Auth || calls != 0 || hellos != 1 {
				t.Errorf("%v after %d calls and %d handshakes, want auth after 0 and 1", e, calls, hellos)
			}
		})
	}
}

func TestTruncatedHandshake(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 100))
			conn.Close()
		}
	}()
	_, err = dial(t, "https://"+l.Addr().String()).Do(t.Context(), write)
	if e := asError(t, err); e.Kind != connectors.Transient {
		t.Errorf("%v, want transient: nothing was sent", e)
	}
}

// RELIABILITY I8 and I13.
func TestErrorsAreClean(t *testing.T) {
	t.Parallel()
	const password = "corr3ct horse/battery+staple"
	account := connectors.Credentials{Basic: &connectors.Basic{User: "svc", Password: connectors.NewSecret(password)}}
	r := newRedactor(account)
	r.add("ey-access-token")
	for name, text := range map[string]string{
		"password":     "login with " + password + " failed",
		"query escape": "https://x/?p=corr3ct+horse%2Fbattery%2Bstaple",
		"path escape":  "https://x/corr3ct%20horse%2Fbattery+staple",
		"basic header": "Authorization: Basic " + basicValue(account.Basic),
		"access token": "Bearer ey-access-token expired",
	} {
		e := r.clean(&connectors.Error{Op: "x", Vendor: text, Fields: []string{text}, Err: errors.New(text)})
		shown := fmt.Sprintf("%v %+v %q", e, e, e.Fields)
		for _, secret := range []string{password, "battery", basicValue(account.Basic), "ey-access"} {
			if strings.Contains(shown, secret) {
				t.Errorf("%s: %s", name, shown)
			}
		}
	}
	e := r.clean(&connectors.Error{Op: "x", Vendor: "a\r\nb\x1b[31mc\u2028d\x00e\u202ef\xff" + strings.Repeat("é", 2000), Err: io.EOF})
	if strings.ContainsAny(e.Error(), "\r\n\x1b\x00\u2028\u202e") || len([]rune(e.Vendor)) > maxVendorWords+1 {
		t.Errorf("%q", e.Error())
	}
	if !errors.Is(e, io.EOF) {
		t.Error("the cause can no longer be told")
	}
	short := newRedactor(connectors.Credentials{Token: connectors.NewSecret("sim")})
	if got := short.text("a simple sim"); got != "a simple [redacted]" {
		t.Errorf("short secret: %q", got)
	}
}

// A secret does not show in what holds it, however it is printed.
func TestSecretIsNotPrinted(t *testing.T) {
	t.Parallel()
	cfg := connectors.Config{Auth: connectors.Credentials{
		Token: connectors.NewSecret("hunter2"), Basic: &connectors.Basic{User: "u", Password: connectors.NewSecret("hunter2")},
		OAuth2: &connectors.OAuth2{ClientSecret: connectors.NewSecret("hunter2"), Password: connectors.NewSecret("hunter2")},
	}}
	holder := struct{ hidden connectors.Config }{cfg}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if s := fmt.Sprintf(format+format+format+format, cfg, holder, *cfg.Auth.Basic, *cfg.Auth.OAuth2); strings.Contains(s, "hunter2") || strings.Contains(s, "68756e746572") {
			t.Errorf("%s shows it", format)
		}
	}
}

package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestSecretIsNeverShown(t *testing.T) {
	t.Parallel()
	const value = "s3cret-value"
	secret := Literal(value)
	inside := Config{Tokens: []Token{{Token: secret}}, Database: Database{URL: secret}}
	hidden := struct{ secret Secret }{secret} // fmt cannot call methods of what an unexported field holds
	var shown strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%t", "%T", "%p", "%10.2v"} {
		fmt.Fprintf(&shown, verb+"\n", secret)
		fmt.Fprintf(&shown, verb+"\n", &secret)
		fmt.Fprintf(&shown, verb+"\n", inside)
		fmt.Fprintf(&shown, verb+"\n", &inside)
		fmt.Fprintf(&shown, verb+"\n", hidden)
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		text, err := marshal(inside)
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(text)
	}
	var logged bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
		slog.New(h).Info("m", "secret", secret, "config", inside, "pointer", &inside, "hidden", hidden)
	}
	shown.Write(logged.Bytes())
	shown.WriteString(secret.Reference())
	if strings.Contains(shown.String(), value) || strings.Contains(shown.String(), fmt.Sprintf("%x", value)) {
		t.Errorf("the secret is shown:\n%s", shown.String())
	}
	for _, got := range []string{secret.String(), secret.GoString(), fmt.Sprint(secret), fmt.Sprintf("%#v", secret), fmt.Sprintf("%d", secret), secret.LogValue().String()} {
		if got != "[redacted]" {
			t.Errorf("got %q, want [redacted]", got)
		}
	}
	if got, err := secret.Value(); err != nil || got != value {
		t.Errorf("Value: %q, %v", got, err)
	}
}

func TestSecretFromFile(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, content, value, err string }{
		{"plain", "abc", "abc", ""},
		{"closing line break", "abc\n", "abc", ""},
		{"closing CRLF", "abc\r\n", "abc", ""},
		{"one line break only", "abc\n\n", "abc\n", ""},
		{"blanks are kept", " abc ", " abc ", ""},
		{"empty", "", "", "is empty"},
		{"line break alone", "\n", "", "is empty"},
		{"binary", "a\x00b", "", "is not text"},
		{"not UTF-8", "a\xffb", "", "is not text"},
		{"too large", strings.Repeat("x", 64<<10+1), "", "is larger than 65536 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			value, err := FromFile(path).Value()
			if value != tt.value {
				t.Errorf("got %q, want %q", value, tt.value)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), path)) {
				t.Errorf("got error %v, want %q and the path", err, tt.err)
			}
		})
	}
}

func TestSecretFileIsReadAtEachUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	secret := FromFile(path)
	for _, want := range []string{"first", "rotated"} {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := secret.Value(); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Value(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("without the file: %v", err)
	}
}

// A pipe that nobody writes to would otherwise hold the start of the hub for ever.
func TestSecretRefusesPipesAndFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe} {
		if _, err := FromFile(path).Value(); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestSecretFromEnv(t *testing.T) {
	t.Setenv("LIAISON_TEST_SECRET", "abc")
	t.Setenv("LIAISON_TEST_EMPTY", "")
	if got, err := FromEnv("LIAISON_TEST_SECRET").Value(); err != nil || got != "abc" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := FromEnv("LIAISON_TEST_EMPTY").Value(); err == nil || err.Error() != "environment variable LIAISON_TEST_EMPTY is empty" {
		t.Errorf("empty: %v", err)
	}
	if _, err := FromEnv("LIAISON_TEST_UNSET").Value(); err == nil || err.Error() != "environment variable LIAISON_TEST_UNSET is not set" {
		t.Errorf("unset: %v", err)
	}
}

func TestZeroSecret(t *testing.T) {
	t.Parallel()
	var zero Secret
	if got, err := zero.Value(); !zero.IsZero() || got != "" || err != nil || zero.Reference() != "" || !Literal("").IsZero() {
		t.Errorf("the zero secret is not unset: %q, %v", got, err)
	}
	if !zero.Equal(Secret{}) || zero.Equal(Literal("x")) || Literal("x").Equal(zero) || Literal("x").Equal(Literal("y")) || !FromEnv("A").Equal(FromEnv("A")) || FromEnv("A").Equal(FromFile("A")) {
		t.Error("Equal does not compare what is referred to")
	}
}

func TestLiteralSecretsInTheDemoOnly(t *testing.T) {
	t.Parallel()
	text := []byte("tokens: [{token: demo-admin, name: Admin, roles: [admin]}]\n")
	if _, err := Parse("demo.yaml", text, Options{Environ: environ}); err == nil {
		t.Error("a literal secret was accepted outside the demo")
	}
	cfg, err := Parse("demo.yaml", text, Options{Environ: environ, AllowLiteralSecrets: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cfg.Tokens[0].Token.Value(); err != nil || got != "demo-admin" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestDeferredSecrets(t *testing.T) {
	t.Parallel()
	text := []byte("tokens: [{token: {env: NOWHERE}, name: Admin, roles: [admin]}]\n")
	cfg, err := Parse("liaison.yaml", text, Options{Environ: environ, DeferSecrets: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cfg.Tokens[0].Token.Value(); err == nil {
		t.Error("an unset variable gave a value")
	}
}

package config

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"unicode/utf8"
)

// redacted stands for a secret wherever one would be shown.
const redacted = "[redacted]"

// maxSecretBytes bounds a secret's file: a key or password is small, and a wrong path must not fill the memory.
const maxSecretBytes = 64 << 10

// Secret is a reference to a password, token or key: to an environment variable, to a file, or (in the demo and in
// LIAISON_DATABASE_URL) the value itself. Only Value gives the value; every way of printing or marshalling a Secret
// gives "[redacted]", except YAML, which gives the reference. The zero Secret is unset.
type Secret struct {
	ref *reference
}

type reference struct {
	env    string
	file   string
	lookup func(string) (string, bool)
	// A function, because of a Secret in somebody's unexported field fmt prints what the fields and pointers hold,
	// without asking its methods; of a function it has only the address.
	literal func() string
}

func (r *reference) literalValue() string {
	if r.literal == nil {
		return ""
	}
	return r.literal()
}

// FromEnv returns a secret held by the process's environment variable of that name.
func FromEnv(name string) Secret { return Secret{&reference{env: name, lookup: os.LookupEnv}} }

// FromFile returns a secret held by a file. Value reads it at each call, so that a rotated secret needs no restart.
func FromFile(path string) Secret { return Secret{&reference{file: path}} }

// Literal returns a secret that is its own value. An empty value gives the zero Secret.
func Literal(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{&reference{literal: func() string { return value }}}
}

// IsZero reports whether no secret is referred to.
func (s Secret) IsZero() bool { return s.ref == nil }

// Value returns the secret: the variable's value, or the file's content without one closing line break. The zero Secret
// gives "" and no error. An unset or empty variable, and an unreadable, empty, oversize (over 64 KiB) or non-text file, are errors
// that name the reference and never the value.
func (s Secret) Value() (string, error) {
	switch r := s.ref; {
	case r == nil:
		return "", nil
	case r.env != "":
		value, ok := r.lookup(r.env)
		if !ok {
			return "", fmt.Errorf("environment variable %s is not set", r.env)
		}
		if value == "" {
			return "", fmt.Errorf("environment variable %s is empty", r.env)
		}
		return value, nil
	case r.file != "":
		return readSecret(r.file)
	default:
		return r.literalValue(), nil
	}
}

func readSecret(path string) (string, error) {
	// A named pipe without a writer would hold the start for ever, and a folder or device is no secret.
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%q is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil {
		return "", fmt.Errorf("reading secret: %w", err)
	}
	value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case len(data) > maxSecretBytes:
		return "", fmt.Errorf("file %q is larger than %d bytes", path, maxSecretBytes)
	case value == "":
		return "", fmt.Errorf("file %q is empty", path)
	case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
		return "", fmt.Errorf("file %q is not text", path)
	}
	return value, nil
}

// Reference tells where the secret is kept, fit for messages: "environment variable NAME", "file PATH", "[redacted]"
// for a literal, or "" when unset.
func (s Secret) Reference() string {
	switch r := s.ref; {
	case r == nil:
		return ""
	case r.env != "":
		return "environment variable " + r.env
	case r.file != "":
		return fmt.Sprintf("file %q", r.file)
	default:
		return redacted
	}
}

// Equal reports whether both refer to the same place (or are the same literal).
func (s Secret) Equal(other Secret) bool {
	if s.ref == nil || other.ref == nil {
		return s.ref == other.ref
	}
	return s.ref.env == other.ref.env && s.ref.file == other.ref.file &&
		subtle.ConstantTimeCompare([]byte(s.ref.literalValue()), []byte(other.ref.literalValue())) == 1
}

// String gives "[redacted]".
func (s Secret) String() string { return redacted }

// GoString gives "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb, those that would otherwise bypass String included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText gives "[redacted]"; encoding/json uses it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue gives "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalYAML gives the reference as the settings file writes it, so that a shown configuration can be loaded again. A
// literal gives "[redacted]", which cannot.
func (s Secret) MarshalYAML() (any, error) {
	switch r := s.ref; {
	case r == nil:
		return nil, nil
	case r.env != "":
		return map[string]string{"env": r.env}, nil
	case r.file != "":
		return map[string]string{"file": r.file}, nil
	default:
		return redacted, nil
	}
}

// UnmarshalYAML refuses: a Secret read past Load would lose its checks and its position.
func (s *Secret) UnmarshalYAML(func(any) error) error {
	return errors.New("secrets are read by config.Load only")
}

package client

import (
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	"liaison/connectors"
)

// maxVendorWords bounds what is kept of a vendor's error text, in characters.
const maxVendorWords = 500

const redacted = "[redacted]"

// redactor takes an account's secrets out of texts, in the forms in which they travel.
type redactor struct {
	mu      sync.RWMutex
	lasting []string // of the configuration
	tokens  []string // the newest access and refresh tokens; older ones have expired
	pattern *regexp.Regexp
}

// maxTokens bounds the tokens remembered.
const maxTokens = 8

func newRedactor(a connectors.Credentials) *redactor {
	r := new(redactor)
	if a.Basic != nil {
		r.lasting = append(r.lasting, a.Basic.Password.Reveal(), basicValue(a.Basic))
	}
	if a.OAuth2 != nil {
		r.lasting = append(r.lasting, a.OAuth2.ClientSecret.Reveal(), a.OAuth2.Password.Reveal())
	}
	r.lasting = append(r.lasting, a.Token.Reveal())
	r.compile()
	return r
}

func basicValue(b *connectors.Basic) string {
	return base64.StdEncoding.EncodeToString([]byte(b.User + ":" + b.Password.Reveal()))
}

// add makes a token secret from now on.
func (r *redactor) add(token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if token == "" || slices.Contains(r.tokens, token) {
		return
	}
	r.tokens = append(r.tokens, token)
	if len(r.tokens) > maxTokens {
		r.tokens = slices.Clone(r.tokens[1:])
	}
	r.compile()
}

func (r *redactor) compile() {
	var forms []string
	for _, secret := range slices.Concat(r.lasting, r.tokens) {
		if secret != "" {
			forms = append(forms, secretPattern(secret), secretPattern(url.QueryEscape(secret)), secretPattern(url.PathEscape(secret)),
				secretPattern(base64.StdEncoding.EncodeToString([]byte(secret))))
		}
	}
	if len(forms) > 0 {
		r.pattern = regexp.MustCompile(strings.Join(forms, "|"))
	}
}

var wordEdge = regexp.MustCompile(`^\w.*\w$|^\w$`)

// secretPattern matches a secret anywhere, and a short one as a whole word only: the demo's password "sim" must not
// black out "simple".
func secretPattern(secret string) string {
	p := regexp.QuoteMeta(secret)
	if len(secret) < 8 && wordEdge.MatchString(secret) {
		return `\b` + p + `\b`
	}
	return p
}

func (r *redactor) text(s string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.pattern == nil {
		return s
	}
	return r.pattern.ReplaceAllString(s, redacted)
}

// clean returns e fit to be shown: no secret, no control character, the vendor's words shortened.
func (r *redactor) clean(e *connectors.Error) *connectors.Error {
	e.Vendor = shorten(oneLine(r.text(e.Vendor)))
	for i, f := range e.Fields {
		e.Fields[i] = shorten(oneLine(r.text(f)))
	}
	if e.Err != nil {
		e.Err = &cleanError{text: oneLine(r.text(e.Err.Error())), cause: e.Err}
	}
	return e
}

// cleanError says what its cause says without secrets. The cause answers errors.Is and is not given out.
type cleanError struct {
	text  string
	cause error
}

func (e *cleanError) Error() string { return e.text }

// Is tells the cause apart without unwrapping it.
func (e *cleanError) Is(target error) bool { return errors.Is(e.cause, target) }

// oneLine keeps a foreign text from breaking a log line or steering a terminal.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

func shorten(s string) string {
	if runes := []rune(s); len(runes) > maxVendorWords {
		return string(runes[:maxVendorWords]) + "…"
	}
	return s
}

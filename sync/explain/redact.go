package explain

import "regexp"

// blank stands for what was taken out.
const blank = "[redacted]"

// secrets are the forms in which people and vendors let secrets slip into texts. Each keeps its first group.
var secrets = []*regexp.Regexp{
	regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}`),
	regexp.MustCompile(`(?i)("(?:[a-z0-9_.-]*(?:password|passwd|pwd|secret|token|api[_-]?key|authorization|cookie|private[_-]?key)[a-z0-9_.-]*)"\s*:\s*)"(?:[^"\\]|\\.)*"`),
	regexp.MustCompile(`(?i)(\b(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?token|client[_-]?secret)\s*[=:]\s*)[^\s"',;&<>]+`),
	regexp.MustCompile(`([a-z][a-z0-9+.-]*://)[^/\s:@"]+:[^/\s@"]+@`),
	regexp.MustCompile(`()eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`), // a JSON Web Token
	regexp.MustCompile(`(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`),
}

// Redacted takes out of a text what looks like a secret: passwords, tokens, keys, and users with passwords in addresses.
func Redacted(text string) string {
	for n, s := range secrets {
		with := "${1}" + blank
		switch n {
		case 1: // keeps the JSON whole
			with = `${1}"` + blank + `"`
		case 3: // keeps the address whole
			with += "@"
		}
		text = s.ReplaceAllString(text, with)
	}
	return text
}

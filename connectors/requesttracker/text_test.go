package requesttracker

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestHTMLText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ html, want string }{
		{"plain words", "plain words"},
		{"<p>Dear <b>all</b>,</p>\n<p>it is\n   fixed.</p>", "Dear all,\n\nit is fixed."},
		{"one<br>two<br/>three", "one\ntwo\nthree"},
		{"<div>one</div><div>two</div>", "one\ntwo"},
		{"<ul><li>first</li><li>second &amp; last</li></ul>after", "- first\n- second & last\n\nafter"},
		{"<pre>a  b\n  c</pre>", "a  b\n  c"},
		{`see <a href="https://example.test/a?b=c&amp;d">the page</a>.`, "see the page (https://example.test/a?b=c&d)."},
		{`<a href="https://example.test/">https://example.test/</a>`, "https://example.test/"},
		{`<a href="javascript:alert(1)">click</a>`, "click"},
		{"<head><title>T</title><style>p{}</style></head><script>alert(1)</script>seen<style>x</style>", "seen"},
		{"<blockquote>old<br>words</blockquote>new", "> old\n> words\nnew"},
		{"a&nbsp;b &lt;tag&gt; &#8364;", "a b <tag> €"},
		{"<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a\tb\nc"},
		{"", ""},
		{"<p> </p>\n<br>", ""},
		{strings.Repeat("<div>", 2000) + "deep" + strings.Repeat("</div>", 2000), "deep"},
		{"unclosed <b>bold <i>both", "unclosed bold both"},
	} {
		if got := htmlText(tt.html); got != tt.want {
			t.Errorf("%.80q becomes %q, want %q", tt.html, got, tt.want)
		}
	}
}

func TestPlainText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"one\r\ntwo\r": "one\ntwo", "\n\n  indented\n\n": "  indented", " \n": "", "": "", "a\n\nb": "a\n\nb",
	} {
		if got := plainText(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestDecodeContent(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("日本 €, ", 40)
	encoded := base64.StdEncoding.EncodeToString([]byte(long))
	var lines []string
	for ; len(encoded) > 76; encoded = encoded[76:] {
		lines = append(lines, encoded[:76])
	}
	for in, want := range map[string]string{
		strings.Join(append(lines, encoded), "\n") + "\n": long, "": "", "aGVsbG8=\r\n": "hello",
		base64.StdEncoding.EncodeToString([]byte("na\xefve")): "naïve",
	} {
		if got, err := decodeContent(in); err != nil || got != want {
			t.Errorf("%.40q becomes %q (%v), want %q", in, got, err, want)
		}
	}
	if got, err := decodeContent("no base64!"); err == nil {
		t.Errorf("rubbish becomes %q", got)
	}
}

func TestTokenUser(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]string{
		"1-27-d6586d27bd333515f1f926e6937da2e3": "27", "": "", "27": "", "1-x-ab": "", "1-27-": "", "1-0-ab": "", "1-27-ab/../1": "",
	} {
		if got := tokenUser(token); got != want {
			t.Errorf("%q names user %q, want %q", token, got, want)
		}
	}
}

func TestOutgoing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, value string
		want        any
		wrong       bool
	}{
		{"Subject", "x", "x", false},
		{"Owner", "", "Nobody", false},
		{"Priority", "", "0", false},
		{"Due", "2026-12-02T12:00:00+02:00", "2026-12-02T10:00:00Z", false},
		{"Due", "", "1970-01-01T00:00:00Z", false},
		{"Due", "tomorrow", nil, true},
		{"CustomFields.Severity", "S2", "S2", false},
		{"CustomFields.Severity", "", nil, false},
		{"CustomFields.a'b", "x", nil, true},
		{"Created", "x", nil, true},
		{"MergeInto", "1", nil, true},
		{"Content", "x", nil, true},
		{"subject", "x", nil, true},
	} {
		got, err := outgoing(tt.name, tt.value)
		if got != tt.want || (err != nil) != tt.wrong {
			t.Errorf("%s %q: %v (%v), want %v", tt.name, tt.value, got, err, tt.want)
		}
	}
}

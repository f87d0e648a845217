package servicenow

import (
	"strings"
	"testing"
)

// Section 9: a journal's value is plain, or HTML wrapped in [code].
func TestPlainText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain <b>text</b> & more":                                   "plain <b>text</b> & more",
		"two\r\nlines\rand more \n":                                  "two\nlines\nand more",
		"[code]<p>Hello <b>you</b></p><p>Bye</p>[/code]":             "Hello you\nBye",
		"[code]a<br>b<br/>c[/code]":                                  "a\nb\nc",
		"before [code]<i>in</i>[/code] after":                        "before in after",
		"[code]one[/code] & [CODE]<b>two</b>[/CODE]":                 "one & two",
		"[code]&lt;script&gt; &amp; &eacute;[/code]":                 "<script> & é",
		"[code]<script>alert(1)</script><style>x{}</style>ok[/code]": "ok",
		"[code]<ul><li>a</li><li>b</li></ul>[/code]":                 "- a\n- b",
		`[code]<a href="https://x.org/1">here</a>[/code]`:            "here (https://x.org/1)",
		`[code]<a href="https://x.org">https://x.org</a>[/code]`:     "https://x.org",
		`[code]<a href="javascript:alert(1)">here</a>[/code]`:        "here",
		"[code]<table><tr><td>a</td><td>b</td></tr></table>[/code]":  "a\tb",
		"[code]never closed <b>":                                     "[code]never closed <b>",
		"[code][/code]":                                              "",
		"[code]<p>a</p><p></p><p></p><p></p><p>b</p>[/code]":         "a\n\nb",
		"[code]<b <i>odd</i[/code]":                                  "odd",
	} {
		if got := plainText(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

// A sender's [code] must not become HTML at the vendor, and what is sent must be found again.
func TestOutgoing(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"[code]<script>alert(1)</script>[/code]", "a [CODE] b", "x\r\ny  ", "[/code][code]"} {
		out := outgoing(body)
		if codeMark.MatchString(out) || strings.Contains(out, "\r") {
			t.Errorf("%q goes out as %q", body, out)
		}
		if !sameText(plainText(out), out) {
			t.Errorf("%q is not found again as %q", out, plainText(out))
		}
	}
	long := strings.Repeat("long ", 1000)
	for _, c := range []struct {
		stored, sent string
		want         bool
	}{
		{"a", "a", true},
		{" a\n", "a", true},
		{"a", "b", false},
		{"", "a", false},
		{"a", "ab", false},
		{long[:4000], long, true},
		{long[:999], long, false},
		{long + "x", long, false},
	} {
		if got := sameText(c.stored, c.sent); got != c.want {
			t.Errorf("%d characters for %d: %t, want %t", len(c.stored), len(c.sent), got, c.want)
		}
	}
}

func FuzzPlainText(f *testing.F) {
	f.Add("[code]<p>Hello</p>[/code]")
	f.Add("[code]<a href=x><script><!-- [/code] [code]")
	f.Add("plain")
	f.Fuzz(func(t *testing.T, value string) {
		got := plainText(value)
		if strings.Contains(got, "\r") {
			t.Errorf("%q gives %q", value, got)
		}
		if out := outgoing(value); codeMark.MatchString(out) {
			t.Errorf("%q goes out as %q", value, out)
		}
	})
}

package servicenow

import (
	"regexp"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// A journal's text is plain, except between [code] and [/code], where it is HTML that the vendor's pages show as such.
var (
	codeBlock = regexp.MustCompile(`(?is)\[code\](.*?)\[/code\]`)
	codeMark  = regexp.MustCompile(`(?i)\[(/?code)\]`)
	blankRun  = regexp.MustCompile(`\n{3,}`)
)

// plainText returns a journal entry's value as plain text.
func plainText(value string) string {
	value = newlines(value)
	if !codeMark.MatchString(value) {
		return strings.TrimRight(value, " \t\n")
	}
	text := codeBlock.ReplaceAllStringFunc(value, func(block string) string {
		return htmlText(codeBlock.FindStringSubmatch(block)[1])
	})
	return strings.TrimSpace(blankRun.ReplaceAllString(text, "\n\n"))
}

func newlines(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// htmlText keeps what a reader sees of HTML: words, line breaks, list dots, and where a link leads.
func htmlText(source string) string {
	var out strings.Builder
	z := html.NewTokenizer(strings.NewReader(source))
	hidden, link := 0, ""
	for {
		kind := z.Next()
		if kind == html.ErrorToken {
			return out.String()
		}
		t := z.Token()
		switch {
		case t.DataAtom == atom.Script || t.DataAtom == atom.Style:
			if kind == html.StartTagToken {
				hidden++
			} else if kind == html.EndTagToken && hidden > 0 {
				hidden--
			}
		case hidden > 0:
		case kind == html.TextToken:
			out.WriteString(t.Data)
		case t.DataAtom == atom.A && kind == html.StartTagToken:
			link = href(t)
		case t.DataAtom == atom.A && kind == html.EndTagToken:
			if link != "" && !strings.HasSuffix(out.String(), link) {
				out.WriteString(" (" + link + ")")
			}
			link = ""
		case t.DataAtom == atom.Li && kind == html.StartTagToken:
			out.WriteString("\n- ")
		case t.DataAtom == atom.Td && kind == html.EndTagToken:
			out.WriteString("\t")
		case breaks(t.DataAtom, kind):
			out.WriteString("\n")
		}
	}
}

func href(t html.Token) string {
	for _, a := range t.Attr {
		if a.Key == "href" && (strings.HasPrefix(a.Val, "https://") || strings.HasPrefix(a.Val, "http://") || strings.HasPrefix(a.Val, "mailto:")) {
			return a.Val
		}
	}
	return ""
}

func breaks(a atom.Atom, kind html.TokenType) bool {
	switch a {
	case atom.Br, atom.Hr:
		return true
	case atom.P, atom.Div, atom.Ul, atom.Ol, atom.Tr, atom.Table, atom.Pre, atom.Blockquote, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		return kind == html.EndTagToken
	default:
		return false
	}
}

// outgoing is the form in which a message is written. A [code] of the sender's would turn his text into HTML on the
// vendor's pages, so it is opened up; it stays readable.
func outgoing(body string) string {
	return codeMark.ReplaceAllString(strings.TrimSpace(newlines(body)), "[ $1 ]")
}

// shortestCut is the least that a text field which cuts silently keeps.
const shortestCut = 1000

// sameText tells whether stored is what the vendor keeps of sent: blanks at the ends may go, and a long text may be cut.
func sameText(stored, sent string) bool {
	stored, sent = strings.TrimSpace(stored), strings.TrimSpace(sent)
	return stored == sent || len(stored) >= shortestCut && strings.HasPrefix(sent, stored)
}

package requesttracker

import (
	"regexp"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

func newlines(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

// plainText returns a text part as it is said: no carriage returns, no blank lines around it.
func plainText(s string) string {
	return strings.TrimRight(strings.TrimLeft(newlines(s), "\n"), " \t\n")
}

var (
	blankRun = regexp.MustCompile(`[ \t\n\f]+`)
	lineEnd  = regexp.MustCompile(`[ \t]+\n`)
	emptyRun = regexp.MustCompile(`\n{3,}`)
)

// htmlText keeps what a reader sees of HTML: words, line breaks, list dots, quotations, and where a link leads.
func htmlText(source string) string {
	doc, err := html.Parse(strings.NewReader(newlines(source)))
	if err != nil { // nested deeper than any mail
		return bareText(source)
	}
	var w htmlWriter
	w.node(doc)
	return strings.Trim(tidy(w.out.String()), " \t\n")
}

// bareText drops the tags and keeps what stands between them.
func bareText(source string) string {
	var out strings.Builder
	for z := html.NewTokenizer(strings.NewReader(source)); ; {
		kind := z.Next()
		if kind == html.ErrorToken {
			return strings.Trim(tidy(out.String()), " \t\n")
		}
		if kind == html.TextToken {
			out.WriteString(html.UnescapeString(string(z.Raw())))
		}
	}
}

func tidy(s string) string {
	return emptyRun.ReplaceAllString(lineEnd.ReplaceAllString(s, "\n"), "\n\n")
}

type htmlWriter struct {
	out strings.Builder
	pre int // depth inside <pre>
}

func (w *htmlWriter) node(n *html.Node) {
	switch n.Type {
	case html.TextNode:
		w.text(n.Data)
	case html.ElementNode:
		w.element(n)
	case html.DocumentNode:
		w.children(n)
	case html.ErrorNode, html.CommentNode, html.DoctypeNode, html.RawNode: // nothing that a reader sees
	}
}

func (w *htmlWriter) children(n *html.Node) {
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		w.node(c)
	}
}

func (w *htmlWriter) element(n *html.Node) {
	switch n.DataAtom {
	case atom.Script, atom.Style, atom.Head, atom.Template, atom.Noscript:
	case atom.Br:
		w.out.WriteString("\n")
	case atom.Hr:
		w.block("\n---\n", nil)
	case atom.Pre:
		w.pre++
		w.block("", n)
		w.pre--
	case atom.Li:
		w.line()
		w.out.WriteString("- ")
		w.children(n)
		w.line()
	case atom.Td, atom.Th:
		w.children(n)
		w.out.WriteString("\t")
	case atom.A:
		w.link(n)
	case atom.Blockquote:
		w.quote(n)
	case atom.P, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Ul, atom.Ol, atom.Table:
		w.block("\n", n)
	case atom.Div, atom.Tr, atom.Section, atom.Article, atom.Header, atom.Footer, atom.Dt, atom.Dd:
		w.block("", n)
	case atom.Img:
		w.text(attribute(n, "alt"))
	default:
		w.children(n)
	}
}

// block stands on lines of its own, with margin before and behind it.
func (w *htmlWriter) block(margin string, n *html.Node) {
	w.line()
	w.out.WriteString(margin)
	if n != nil {
		w.children(n)
		w.line()
		w.out.WriteString(margin)
	}
}

func (w *htmlWriter) quote(n *html.Node) {
	var inner htmlWriter
	inner.children(n)
	w.line()
	for line := range strings.SplitSeq(strings.Trim(tidy(inner.out.String()), "\n"), "\n") {
		w.out.WriteString(strings.TrimRight("> "+line, " ") + "\n")
	}
}

func (w *htmlWriter) link(n *html.Node) {
	start := w.out.Len()
	w.children(n)
	shown := w.out.String()[start:]
	href := attribute(n, "href")
	if web := strings.HasPrefix(href, "https://") || strings.HasPrefix(href, "http://"); web && !strings.Contains(shown, href) {
		w.out.WriteString(" (" + href + ")")
	}
}

// line begins a new line unless one has just begun.
func (w *htmlWriter) line() {
	if s := w.out.String(); s != "" && !strings.HasSuffix(s, "\n") {
		w.out.WriteString("\n")
	}
}

// text writes words. Outside <pre> all white space is one blank, and none at a line's beginning.
func (w *htmlWriter) text(s string) {
	s = strings.ReplaceAll(s, "\u00a0", " ")
	if w.pre > 0 {
		w.out.WriteString(s)
		return
	}
	s = blankRun.ReplaceAllString(s, " ")
	if before := w.out.String(); before == "" || strings.HasSuffix(before, "\n") || strings.HasSuffix(before, " ") {
		s = strings.TrimPrefix(s, " ")
	}
	w.out.WriteString(s)
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

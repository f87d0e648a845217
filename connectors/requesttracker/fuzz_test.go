package requesttracker

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"liaison/connectors"
)

// FuzzMark: a journal's mark is refused, or stays one however the journal goes on.
func FuzzMark(f *testing.F) {
	for _, seed := range []string{`{"v":1,"floor":7,"seen":[[9,11]],"tops":[{"at":100,"id":11}]}`, `{"v":1,"floor":0}`, ``, `{}`, `[]`, `{"v":2}`, `{"v":1,"floor":-1}`, `{"v":1,"floor":1,"seen":[[1,2]]}`} {
		f.Add(seed, int64(12))
	}
	f.Fuzz(func(t *testing.T, text string, id int64) {
		m, err := readMark("fuzz", connectors.Mark(text))
		if err != nil {
			if connectors.KindOf(err) != connectors.Rejected {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		m.add(id)
		m.settle(time.Unix(1_000_000, 0), time.Unix(1_000_001, 0), defaultOverlap, math.MaxInt64)
		if !m.knows(id) {
			t.Errorf("%q forgets %d", text, id)
		}
		if _, err := readMark("fuzz", connectors.Mark(m.String())); err != nil {
			t.Errorf("%q became %s, which is not read back", text, m)
		}
	})
}

// FuzzJournal: rows of RT's history are refused, or are entries; nothing is public that RT does not call a reply.
func FuzzJournal(f *testing.F) {
	row := `{"type":"transaction","id":"94","Type":"Correspond","Creator":{"id":"alice","RealName":"Alice"},"Created":"2026-11-21T19:05:13Z","CustomFields":[{"name":"Message Key","values":["k-1"]}]}`
	for _, seed := range []string{
		`[` + row + `]`, `[]`, `[{}]`, `[null]`, strings.ReplaceAll(`[`+row+`]`, "Correspond", "Comment"), strings.ReplaceAll(`[`+row+`]`, `"94"`, `94`),
		strings.ReplaceAll(`[`+row+`]`, `{"id":"alice","RealName":"Alice"}`, `"alice"`), strings.ReplaceAll(`[`+row+`]`, `["k-1"]`, `[null,{"filename":"x"}]`),
		strings.ReplaceAll(`[`+row+`]`, "19:05:13Z", "19:05:60Z"), strings.ReplaceAll(`[`+row+`]`, `"94"`, `{"a":1}`),
	} {
		f.Add([]byte(seed))
	}
	c := &Connector{set: settings{keyField: "Message Key"}}
	f.Fuzz(func(t *testing.T, body []byte) {
		var rows []transaction
		if json.Unmarshal(body, &rows) != nil {
			return
		}
		for _, row := range rows {
			e := c.entry(row, "hub")
			if e.Visibility == connectors.Public && row.Type != correspond || e.Own && !strings.EqualFold(string(row.Creator.ID), "hub") || e.ID == "" {
				t.Errorf("%s was read as %+v", body, e)
			}
		}
	})
}

// FuzzTicket: a ticket's record is refused, or its fields are text.
func FuzzTicket(f *testing.F) {
	for _, seed := range []string{
		`{"id":7,"Status":"new","Owner":{"id":"Nobody"},"Requestor":[{"id":"a"}],"Due":"1970-01-01T00:00:00Z","CustomFields":[{"name":"Severity","values":["S1"]}]}`,
		`{}`, `null`, `{"Owner":null}`, `{"Owner":[]}`, `{"Owner":{}}`, `{"Queue":{"Name":"x"}}`, `{"CustomFields":{}}`, `{"CustomFields":[{"values":[[]]}]}`, `{"Owner":1e400}`, `{"id":[]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var rec ticketRecord
		if json.Unmarshal(body, &rec) != nil {
			return
		}
		for name := range rec.all {
			if v, shown := rec.value(name); !shown && v != "" {
				t.Errorf("%s: %s is hidden and %q", body, name, v)
			}
		}
		_ = rec.fields([]string{"Queue", "Owner", "CustomFields.Severity", "Due"})
	})
}

// FuzzHTMLText: whatever a mail's HTML is, it becomes text, and not much more of it than there was.
func FuzzHTMLText(f *testing.F) {
	for _, seed := range []string{
		"<p>hello <b>there</b></p>", "<script>alert(1)</script>x", "<a href=\"https://e.example\">y</a>", "<blockquote>a<blockquote>b</blockquote></blockquote>",
		"<pre>a\n b</pre>", "<table><tr><td>1<td>2</table>", "<ul><li>a<li>b</ul>", "<!doctype html><html><head><title>t</title></head>", "<", "&amp;&#0;&#x110000;", "<img alt=x>",
		strings.Repeat("<blockquote>", 40) + "x\ny", strings.Repeat("<div>", 600) + "deep", "a\r\nb\rc", "\u00a0 \u2028",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, source string) {
		text := htmlText(source)
		if strings.Contains(text, "\r\n") || utf8.ValidString(source) && !utf8.ValidString(text) {
			t.Errorf("%q became %q", source, text)
		}
		if strings.Contains(text, "\n\n\n\n") && !strings.Contains(source, "<pre") {
			t.Errorf("%q leaves a hole: %q", source, text)
		}
		if len(text) > 4096+1100*len(source) { // a quotation mark for each level of each line
			t.Errorf("%d bytes became %d", len(source), len(text))
		}
	})
}

// FuzzContent: an attachment's base64 is refused, or readable.
func FuzzContent(f *testing.F) {
	for _, seed := range []string{"aGVs\nbG8=\n", "aGVsbG8=", "", "=", "/w==", "a", "YQ==YQ==", "\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, encoded string) {
		if text, err := decodeContent(encoded); err == nil && !utf8.ValidString(text) {
			t.Errorf("%q became %q", encoded, text)
		}
	})
}

package servicenow

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"liaison/connectors"
)

const fuzzID = "46e18c0fa9fe19810066a0083f76bd56"

// FuzzCursor: whatever stood in the hub's tables, it is refused, or it asks for rows and for nothing else.
func FuzzCursor(f *testing.F) {
	for _, seed := range []string{
		`{"since":"2026-11-21 09:00:00"}`,
		`{"since":"2026-11-21 09:00:00","seen":{"2026-11-21 08:59:00":{"` + fuzzID + `":"3"}},"sweep":{"newest":"2026-11-21 09:00:01","began":"2026-11-21 09:00:02","stamp":"2026-11-21 09:00:01","id":"` + fuzzID + `","skip":2}}`,
		`{"since":"2026-11-21 09:00:00","sweep":{"stamp":"2026-11-21 09:00:00","id":"x^NQactive=true"}}`,
		`{"since":"2026-11-21 09:00:00^NQactive=true"}`, `{"since":"2026-02-30 09:00:00"}`, `{"since":"2016-12-31 23:59:60"}`, `{"since":"2026-11-21 09:00:00.5"}`,
		`{"since":"2026-11-21 09:00:00","seen":{"javascript:gs.log(1)":{}}}`, `{"since":"2026-11-21 09:00:00","sweep":{"skip":-1}}`, `{}`, `[]`, `null`, ``,
	} {
		f.Add(seed)
	}
	c := &Connector{overlap: defaultOverlap}
	f.Fuzz(func(t *testing.T, text string) {
		at, ok := readCursor(connectors.Cursor(text))
		if !ok {
			return
		}
		s := sweep{}
		if at.Sweep != nil {
			s = *at.Sweep
		}
		for _, condition := range c.beyond(before(at.Since, c.overlap), s) {
			if strings.ContainsAny(condition, "^\n\r\x00") || strings.Contains(strings.ToLower(condition), "javascript:") {
				t.Errorf("%q asks for %q", text, condition)
			}
		}
		if at.Sweep == nil {
			at.Sweep = &s
		}
		next := c.endSweep(at)
		again, err := json.Marshal(next)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := readCursor(connectors.Cursor(again)); !ok {
			t.Errorf("%q ends its sweep as %s, which is not read back", text, again)
		}
		if next.Since < at.Since {
			t.Errorf("%q goes back from %s to %s", text, at.Since, next.Since)
		}
	})
}

// FuzzMark: a journal's mark is refused, or comes back as it was.
func FuzzMark(f *testing.F) {
	for _, seed := range []string{`{"t":"2026-11-21 09:00:00","ids":["a","b"]}`, `{"t":""}`, ``, `{"t":"yesterday"}`, `{"t":"2026-11-21 09:00:00^NQ"}`, `[]`, `{"ids":[1]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := readMark("fuzz", connectors.Mark(text))
		if err != nil {
			if connectors.KindOf(err) != connectors.Rejected {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		again, err := readMark("fuzz", m.String())
		if err != nil || again.Stamp != m.Stamp {
			t.Errorf("%q is read back as %+v (%v)", text, again, err)
		}
		if strings.Contains(m.from(time.Minute), "^") {
			t.Errorf("%q asks from %q", text, m.from(time.Minute))
		}
	})
}

// FuzzJournal: rows of a journal are refused, or have all that an entry needs.
func FuzzJournal(f *testing.F) {
	row := `{"sys_id":"1","element":"comments","element_id":"` + fuzzID + `","value":"hello","sys_created_on":"2026-11-21 09:00:00","sys_created_by":"joe"}`
	for _, seed := range []string{
		`[` + row + `]`, `[]`, `[{}]`, `[null]`, strings.ReplaceAll(`[`+row+`]`, "comments", "work_notes"),
		strings.ReplaceAll(`[`+row+`]`, `"hello"`, `{"value":"[code]<b>x</b>[/code]","display_value":"y"}`),
		strings.ReplaceAll(`[`+row+`]`, `"hello"`, `["a"]`), strings.ReplaceAll(`[`+row+`]`, `"joe"`, `7`), strings.ReplaceAll(`[`+row+`]`, "2026-11-21", "2026-02-30"),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var rows []record
		if json.Unmarshal(body, &rows) != nil {
			return
		}
		for _, rec := range rows {
			e, err := readEntry(rec, fuzzID, "2026-11-21 08:00:00")
			if err != nil {
				continue
			}
			if e.ID == "" || e.At.IsZero() || e.At.Format(stampLayout) != e.stamp && !strings.HasSuffix(e.stamp, ":60") || e.stamp < "2026-11-21 08:00:00" {
				t.Errorf("%s was read as %+v", body, e)
			}
			if e.Visibility == connectors.Public && rec.get("element") != comments {
				t.Errorf("%s is shown to customers", body)
			}
			if strings.Contains(e.Body, "\r") || utf8.Valid(body) && !utf8.ValidString(e.Body) {
				t.Errorf("%s says %q", body, e.Body)
			}
		}
	})
}

package mapping

import (
	"strings"
	"unicode/utf8"

	"liaison/internal/incident"
)

// direction says which way a text field travels.
type direction string

const (
	bothWays direction = "both"
	outOnly  direction = "out" // written, never read
	inOnly   direction = "in"  // read, never written by itself
)

// text is a hub field that is the same text on both sides.
type text struct {
	at        place
	field     incident.Field
	vendor    string // the vendor's field
	direction direction
	ruling    Ruling
	limit     limit
}

// limit is how much a vendor field takes. The zero limit takes everything.
type limit struct {
	max        int // 0: no limit
	bytes      bool
	singleLine bool
}

func (l limit) String() string {
	if l.bytes {
		return "bytes"
	}
	return "runes"
}

func (l limit) size(s string) int {
	if l.bytes {
		return len(s)
	}
	return utf8.RuneCountInString(s)
}

// fit brings s into the form that the vendor would store: cut here, between characters, rather than there, wherever it falls.
func (l limit) fit(s string) string {
	if l.singleLine {
		s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
	}
	if l.max == 0 || l.size(s) <= l.max {
		return s
	}
	if l.bytes {
		end := l.max
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		return s[:end]
	}
	runes := 0
	for at := range s {
		if runes == l.max {
			return s[:at]
		}
		runes++
	}
	return s
}

// fold is the form in which two texts are the same to people: line ends as "\n", no blanks at the end of a line or of the text.
// Vendors store such blanks as they please, and a difference in them is nobody's change.
func fold(s string) string {
	lines := strings.Split(unixLines(s), "\n")
	for n, line := range lines {
		lines[n] = strings.TrimRight(line, " \t\u00a0")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

func unixLines(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

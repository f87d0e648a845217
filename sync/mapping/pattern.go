package mapping

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// pattern is what a row asks of one vendor field: any of its words, a range of integers, or anything.
type pattern struct {
	words []string // the first is the one that is written
	span  *span
	any   bool
}

// span is a range of integers, both ends included. A missing end is the type's own.
type span struct {
	from, to         int64
	openFrom, openTo bool
}

// parsePattern reads one word of a file: "80..100" is a range, "80.." has no upper end, "*" is anything, the rest is itself.
func parsePattern(word string) (pattern, error) {
	if word == "*" {
		return pattern{any: true}, nil
	}
	if s, ok, err := parseSpan(word); err != nil {
		return pattern{}, err
	} else if ok {
		return pattern{span: &s}, nil
	}
	return pattern{words: []string{word}}, nil
}

// parseSpan reads "a..b", "a.." or "..b"; anything whose ends are no integers is an ordinary word.
func parseSpan(word string) (s span, ok bool, err error) {
	from, to, found := strings.Cut(word, "..")
	if !found || from == "" && to == "" {
		return span{}, false, nil
	}
	s = span{openFrom: from == "", openTo: to == ""}
	if s.from, err = strconv.ParseInt(from, 10, 64); err != nil && !s.openFrom {
		return span{}, false, nil
	}
	if s.to, err = strconv.ParseInt(to, 10, 64); err != nil && !s.openTo {
		return span{}, false, nil
	}
	if !s.openFrom && !s.openTo && s.from > s.to {
		return span{}, false, fmt.Errorf("the range %q ends before it begins", word)
	}
	return s, true, nil
}

func (s span) holds(word string) bool {
	n, err := strconv.ParseInt(word, 10, 64)
	return err == nil && (s.openFrom || n >= s.from) && (s.openTo || n <= s.to)
}

func (s span) String() string {
	out := ".."
	if !s.openFrom {
		out = strconv.FormatInt(s.from, 10) + out
	}
	if !s.openTo {
		out += strconv.FormatInt(s.to, 10)
	}
	return out
}

func (p pattern) matches(word string) bool {
	return p.any || p.span != nil && p.span.holds(word) || slices.Contains(p.words, word)
}

// writes returns the word that is written for the pattern, false when it names none.
func (p pattern) writes() (string, bool) {
	if len(p.words) == 0 {
		return "", false
	}
	return p.words[0], true
}

func (p pattern) String() string {
	switch {
	case p.any:
		return `"*"`
	case p.span != nil && len(p.words) == 0:
		return strconv.Quote(p.span.String())
	}
	return quoted(p.words)
}

// quoted lists words in quotes, the last one behind "or".
func quoted(words []string) string {
	out := make([]string, len(words))
	for n, w := range words {
		out[n] = strconv.Quote(w)
	}
	if len(out) < 2 {
		return strings.Join(out, "")
	}
	return strings.Join(out[:len(out)-1], ", ") + " or " + out[len(out)-1]
}

// domain is the documented values of one vendor field.
type domain struct {
	at    place
	words []string
	open  bool // other words occur as well: they are not checked, and an unknown one parks
}

// largestRange bounds what a range in vendor_values may spell out.
const largestRange = 1000

// add takes one word of vendor_values.
func (d *domain) add(word string) error {
	p, err := parsePattern(word)
	switch {
	case err != nil:
		return err
	case p.any:
		d.open = true
		return nil
	case p.span == nil:
		if slices.Contains(d.words, word) {
			return fmt.Errorf("%q is listed twice", word)
		}
		d.words = append(d.words, word)
		return nil
	case p.span.openFrom || p.span.openTo:
		return fmt.Errorf("the range %q has only one end", word)
	}
	// Unsigned, because the distance between the two ends can be more than an int64 holds.
	if uint64(p.span.to)-uint64(p.span.from) >= largestRange {
		return fmt.Errorf("the range %q has more than %d values", word, largestRange)
	}
	for n := p.span.from; ; n++ {
		if err := d.add(strconv.FormatInt(n, 10)); err != nil {
			return err
		}
		if n == p.span.to {
			return nil
		}
	}
}

func (d domain) has(word string) bool { return d.open || slices.Contains(d.words, word) }

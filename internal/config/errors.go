package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/agnivade/levenshtein"
)

// Issue is one thing wrong with the settings.
type Issue struct {
	Source  string // the file as it was named, or the environment variable
	Line    int    // from 1; 0: no place in a file
	Column  int    // from 1, in characters; 0: unknown
	Path    string // the setting, such as systems[0].poll.interval; empty: the file as a whole
	Problem string // what is wrong, without the values of secrets
	Remedy  string // what to write instead; may be empty
}

// String gives the issue on one line: "liaison.yaml:12:3: systems[0].pol: unknown setting; did you mean "poll"?".
func (i Issue) String() string {
	var b strings.Builder
	b.WriteString(i.Source)
	if i.Line > 0 {
		b.WriteString(":" + strconv.Itoa(i.Line))
		if i.Column > 0 {
			b.WriteString(":" + strconv.Itoa(i.Column))
		}
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if i.Path != "" {
		b.WriteString(i.Path + ": ")
	}
	b.WriteString(i.Problem)
	if i.Remedy != "" {
		b.WriteString("; " + i.Remedy)
	}
	return b.String()
}

// Error is every issue found: those of the file in its order, then those of variables by name.
type Error struct {
	Issues []Issue
}

// Error gives one issue a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Issues))
	for i, issue := range e.Issues {
		lines[i] = issue.String()
	}
	return strings.Join(lines, "\n")
}

// report collects issues and remembers which settings are known to be wrong, so that one mistake is told once.
type report struct {
	issues []Issue
	failed map[string]bool // paths
	doc    *document
}

func newReport(doc *document) *report {
	return &report{failed: map[string]bool{}, doc: doc}
}

// at adds an issue about the setting at path, placed at its value, or at what encloses it when it is not there.
func (r *report) at(path, problem, remedy string) {
	if r.failed[path] {
		return
	}
	r.failed[path] = true
	p := r.doc.placeOf(path)
	r.issues = append(r.issues, Issue{
		Source: p.source, Line: p.line, Column: p.column, Path: path, Problem: problem, Remedy: remedy,
	})
}

// failedUnder reports whether anything at or below path is known to be wrong.
func (r *report) failedUnder(path string) bool {
	for failed := range r.failed {
		if rest, ok := strings.CutPrefix(failed, path); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

// failedAbove reports whether something that encloses path is known to be wrong.
func (r *report) failedAbove(path string) bool {
	for path != "" {
		path = parentPath(path)
		if r.failed[path] {
			return true
		}
	}
	return false
}

func (r *report) err() error {
	if len(r.issues) == 0 {
		return nil
	}
	slices.SortStableFunc(r.issues, func(a, b Issue) int {
		return cmp.Or(
			-cmp.Compare(min(a.Line, 1), min(b.Line, 1)), // those with a line first
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Source, b.Source))
	})
	return &Error{Issues: r.issues}
}

// nearest returns the word that name was most likely meant to be, or "" when none is close.
func nearest(name string, words []string) string {
	if utf8.RuneCountInString(name) > 64 { // no word is that long, and the distance costs the product of the lengths
		return ""
	}
	best, bestDistance := "", max(2, utf8.RuneCountInString(name)/3)+1
	for _, word := range words {
		a, b := strings.ToLower(name), strings.ToLower(word)
		d := levenshtein.ComputeDistance(a, b)
		if min(len(a), len(b)) >= 3 && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)) {
			d = min(d, 1) // warning for warn, org for organisations
		}
		// A distance as long as the word itself would turn anything into anything.
		if d < bestDistance && d < utf8.RuneCountInString(word) {
			best, bestDistance = word, d
		}
	}
	return best
}

// suggest gives the remedy for a word that is not one of words.
func suggest(name string, words []string) string {
	if near := nearest(name, words); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	const shown = 20
	if len(words) > shown {
		return fmt.Sprintf("known are %s and %d more", strings.Join(words[:shown], ", "), len(words)-shown)
	}
	return "known are " + strings.Join(words, ", ")
}

// quote shows a value from the file: escaped, so that it cannot break the line or the terminal, and cut.
func quote(value string) string {
	const shown = 60
	if utf8.RuneCountInString(value) > shown {
		return strconv.Quote(string([]rune(value)[:shown])) + "…"
	}
	return strconv.Quote(value)
}

// firstControl returns the first character of s that is not fit for one line of text.
func firstControl(s string) (rune, bool) {
	for _, c := range s {
		if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' || c == utf8.RuneError {
			return c, true
		}
	}
	return 0, false
}

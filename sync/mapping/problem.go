package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// Problem is one fault of a mapping file.
type Problem struct {
	File    string
	Line    int // from 1; 0 when the fault is of the file as a whole
	Problem string
	Remedy  string
}

func (p Problem) Error() string {
	at := p.File
	if p.Line > 0 {
		at = fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return at + ": " + p.Problem + "; " + p.Remedy
}

// Problems is every fault of a mapping, in the order of the lines. It is the error of Load and Overlay, one fault a line.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for n, one := range p {
		lines[n] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the first Problem.
func (p Problems) Unwrap() []error {
	out := make([]error, len(p))
	for n, one := range p {
		out[n] = one
	}
	return out
}

func (p Problems) sorted() Problems {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return p
}

// place is where something stands in a mapping file.
type place struct {
	file string
	line int
}

func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

func (p place) problem(remedy, format string, args ...any) Problem {
	return Problem{File: p.file, Line: p.line, Problem: fmt.Sprintf(format, args...), Remedy: remedy}
}

// didYouMean is the remedy for a word that is none of known: the nearest one, or the whole list when none is near.
func didYouMean(word string, known []string) string {
	if best := nearest(word, known); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "use one of " + strings.Join(known, ", ")
}

// nearest returns the word of known that differs from word by the fewest letters, or "" when all differ by more than a third.
func nearest(word string, known []string) string {
	best, distance := "", max(2, len(word)/3)+1
	for _, k := range known {
		if d := levenshtein.ComputeDistance(strings.ToLower(word), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	return best
}

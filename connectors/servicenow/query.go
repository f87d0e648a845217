package servicenow

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// query is an encoded query: conditions joined by ^.
type query []string

func (q query) String() string { return strings.Join(q, "^") }

// where returns the condition column, operator, value. The vendor has no dependable escape for a ^ in a value, and
// runs a value that begins with "javascript:", so both are refused rather than sent.
func where(column, operator, value string) (string, error) {
	if err := checkQueryValue(value); err != nil {
		return "", fmt.Errorf("%s: %w", column, err)
	}
	return column + operator + value, nil
}

func checkQueryValue(value string) error {
	switch {
	case strings.Contains(value, "^"):
		return errors.New("a value with ^ would change the vendor's query")
	case strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }):
		return errors.New("a value with a line break or control character would change the vendor's query")
	case strings.HasPrefix(strings.ToLower(strings.TrimSpace(value)), "javascript:"):
		return errors.New("a value that begins with javascript: would be run by the vendor")
	}
	return nil
}

// checkFilter looks whether an operator's encoded query can be joined with conditions of our own.
func checkFilter(filter string) error {
	if filter == "" {
		return nil
	}
	if strings.ContainsFunc(filter, unicode.IsControl) {
		return errors.New("holds a line break; write one encoded query")
	}
	for i, part := range strings.Split(filter, "^") {
		switch {
		case part == "" || part == "EQ":
			return errors.New("has an empty condition; join conditions by one ^")
		case strings.HasPrefix(part, "NQ"), strings.HasPrefix(part, "ORDERBY"), i == 0 && strings.HasPrefix(part, "OR"):
			return fmt.Errorf("%q cannot be narrowed further; write conditions joined by ^ and ^OR only", part)
		}
	}
	return nil
}

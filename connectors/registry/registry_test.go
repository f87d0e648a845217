package registry

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"liaison/connectors"
)

// Whatever is listed can be named in a settings file, made, and mapped.
func TestEveryEntryIsWhole(t *testing.T) {
	t.Parallel()
	names := Names()
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("the names %v are not in order or not unique", names)
	}
	word := regexp.MustCompile(`^[a-z][a-z0-9]*$`)
	for _, e := range All() {
		if !word.MatchString(e.Name) || e.Title == "" || len(e.Mapping) == 0 {
			t.Errorf("%q: title %q, mapping of %d bytes", e.Name, e.Title, len(e.Mapping))
		}
		for _, s := range e.Settings {
			if s.Name == "" || s.Doc == "" {
				t.Errorf("%s: setting %q has no name or no words", e.Name, s.Name)
			}
		}
		if found, ok := Find(e.Name); !ok || found.Title != e.Title {
			t.Errorf("Find(%q) gives %q", e.Name, found.Title)
		}
		// A constructor that refuses must not hand out an interface around nothing, and says which setting is at fault.
		c, err := e.New(connectors.Config{Key: "x", Settings: map[string]string{"no_such_setting": "1"}})
		if err == nil || c != nil || !strings.Contains(err.Error(), "no_such_setting") {
			t.Errorf("%s: a connector %v, error %v", e.Name, c, err)
		}
	}
	if _, ok := Find("nosuchvendor"); ok {
		t.Error("found what is not there")
	}
}

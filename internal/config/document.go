package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// document is a settings file as a tree of map[string]any, []any, string (a scalar's text) and nil, with the place of
// each value. Positions and kinds live beside the tree because koanf merges plain maps only.
type document struct {
	name   string
	tree   map[string]any
	places map[string]place // by path
}

// place is where a value stands.
type place struct {
	source       string // file or variable
	line, column int    // 0 in variables
	kind         kind
}

// kind is what a scalar is in YAML; variables have no kind and take that of their setting.
type kind string

const (
	kindAny    kind = ""
	kindText   kind = "text"
	kindNumber kind = "a number"
	kindBool   kind = "true or false"
	kindDate   kind = "a date"
)

// placeOf returns the place of path, or of the nearest enclosing value that stands somewhere.
func (d *document) placeOf(path string) place {
	for {
		if p, ok := d.places[path]; ok {
			return p
		}
		if path == "" {
			return place{source: d.name}
		}
		path = parentPath(path)
	}
}

func parentPath(path string) string {
	cut := strings.LastIndexAny(path, ".[")
	if strings.HasSuffix(path, `"]`) { // a quoted key may itself contain dots and brackets
		cut = strings.LastIndex(path, `["`)
	}
	return path[:max(cut, 0)]
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func join(path, key string) string {
	switch {
	case !plainKey.MatchString(key):
		return path + "[" + strconv.Quote(key) + "]"
	case path == "":
		return key
	default:
		return path + "." + key
	}
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// read turns the file's bytes into d's tree, reporting what is not plain YAML: syntax errors, several documents, repeated
// keys, aliases and tags.
func (d *document) read(data []byte, r *report) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var root yaml.Node
	if err := dec.Decode(&root); err != nil {
		if !errors.Is(err, io.EOF) { // an empty file is all defaults
			r.issues = append(r.issues, syntaxIssue(d.name, data, err))
		}
		return
	}
	var more yaml.Node
	switch err := dec.Decode(&more); {
	case err == nil:
		r.issues = append(r.issues, Issue{
			Source: d.name, Line: more.Line, Column: more.Column,
			Problem: "a second YAML document begins here", Remedy: `keep one document and remove the "---" before the others`,
		})
	case !errors.Is(err, io.EOF):
		r.issues = append(r.issues, syntaxIssue(d.name, data, err))
	}
	if len(root.Content) == 0 {
		return
	}
	switch top := d.value(root.Content[0], "", 0, r).(type) {
	case map[string]any:
		d.tree = top
	case nil:
	default:
		r.at("", "the file is not a list of settings", `write one setting a line, such as "addr: 127.0.0.1:8080"`)
	}
}

// value converts one node. A node that cannot be used is reported and becomes nil.
func (d *document) value(n *yaml.Node, path string, depth int, r *report) any {
	at := place{source: d.name, line: n.Line, column: n.Column}
	d.places[path] = at
	if depth > maxDepth {
		r.at(path, "is nested too deeply", "check the brackets and the indentation there")
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		return d.mapping(n, path, depth, r)
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = d.value(item, index(path, i), depth+1, r)
		}
		return list
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!null":
			return nil
		case "!!str", "!!merge": // a plain << means merging as a key only
			at.kind = kindText
		case "!!int", "!!float":
			at.kind = kindNumber
		case "!!bool":
			at.kind = kindBool
		case "!!timestamp":
			at.kind = kindDate
		default:
			r.at(path, "has a YAML tag ("+quote(n.Tag)+")", "write the value without it")
			return nil
		}
		d.places[path] = at
		return n.Value
	default:
		// An alias makes a value stand in two places at once, and a few lines of them expand without end.
		r.at(path, "is a YAML alias (*name), which settings do not take", "write the value out")
		return nil
	}
}

func (d *document) mapping(n *yaml.Node, path string, depth int, r *report) any {
	m := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		at := Issue{Source: d.name, Line: key.Line, Column: key.Column, Path: path}
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			at.Problem, at.Remedy = "has a key that is not a plain word", "write name: value"
			r.issues = append(r.issues, at)
			continue
		}
		if len(key.Value) > maxKeyBytes {
			at.Problem, at.Remedy = "has a key of more than 200 bytes", "check the quotes and colons there"
			r.issues = append(r.issues, at)
			continue
		}
		keyPath := join(path, key.Value)
		if _, ok := m[key.Value]; ok {
			at.Path, at.Remedy = keyPath, "keep one of them"
			at.Problem = fmt.Sprintf("is set twice, first in line %d", d.places[keyPath+keySuffix].line)
			r.issues = append(r.issues, at)
			continue
		}
		d.places[keyPath+keySuffix] = place{source: d.name, line: key.Line, column: key.Column}
		m[key.Value] = d.value(val, keyPath, depth+1, r)
	}
	return m
}

// maxKeyBytes keeps a mislaid quote from filling messages with half the file.
const maxKeyBytes = 200

// maxDepth is well beyond the deepest setting, systems[].auth.oauth2.client_secret.file. Paths grow with the depth, so that
// without it the cost of a file would grow with the square of its size.
const maxDepth = 16

// keySuffix marks the place of a key beside that of its value; no path ends so.
const keySuffix = "\x00key"

// unknown adds an issue about a key, placed at the key itself.
func (r *report) unknown(path, problem, remedy string) {
	if r.failed[path] {
		return
	}
	r.failed[path] = true
	p, ok := r.doc.places[path+keySuffix]
	if !ok {
		p = r.doc.placeOf(path)
	}
	r.issues = append(r.issues, Issue{
		Source: p.source, Line: p.line, Column: p.column, Path: path, Problem: problem, Remedy: remedy,
	})
}

var (
	yamlLine      = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s:(.*))$`)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
)

// syntaxIssue turns the parser's error into an issue. Its text is of the grammar, never of the content, but for the name
// of an unknown anchor, which may be a password that begins with an asterisk.
func syntaxIssue(name string, data []byte, err error) Issue {
	issue := Issue{Source: name, Problem: err.Error(), Remedy: "check the indentation, colons and quotes there and below"}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		issue.Line, _ = strconv.Atoi(m[1])
		issue.Problem = m[2]
	}
	if m := unknownAnchor.FindStringSubmatch(issue.Problem); m != nil {
		before, _, _ := strings.Cut(string(data), "*"+m[1])
		issue.Line = strings.Count(before, "\n") + 1
		issue.Column = utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
		issue.Problem, issue.Remedy = "a value begins with an asterisk, which YAML reads as an alias", "put the value in quotes"
	}
	text := strconv.Quote(issue.Problem) // the content may be quoted in it: keep it on one line
	issue.Problem = "not valid YAML: " + text[1:len(text)-1]
	return issue
}

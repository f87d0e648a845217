package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// tree is the repository as its files stand.
type tree struct {
	files    []file            // all text files, by path
	packages []*pkg            // the main module's packages, by path
	modules  map[string]string // folder of each go.mod to its module path
}

// file is one text file. The fields from syntax on are set for Go files.
type file struct {
	path      string // slashes, relative to the root
	text      []byte
	fset      *token.FileSet
	syntax    *ast.File
	generated bool
}

// pkg is the Go files of one folder.
type pkg struct {
	path  string // of the folder, relative to the root; "." for the root
	name  string
	files []file
}

// skipped folders hold nothing that anybody wrote here.
var skipped = []string{".git", ".idea", ".vscode", "bin", "node_modules"}

var generatedLine = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// readTree reads everything below fsys.
func readTree(fsys fs.FS) (*tree, error) {
	t := &tree{modules: map[string]string{}}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(skipped, entry.Name()):
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil || bytes.IndexByte(text, 0) >= 0 {
			return err
		}
		f := file{path: name, text: text}
		if path.Base(name) == "go.mod" {
			_, module, _ := strings.Cut(string(text), "module ")
			module, _, _ = strings.Cut(module, "\n")
			t.modules[path.Dir(name)] = strings.TrimSpace(module)
		}
		if path.Ext(name) == ".go" && !strings.Contains("/"+name, "/testdata/") {
			f.fset = token.NewFileSet()
			if f.syntax, err = parser.ParseFile(f.fset, name, text, parser.ParseComments|parser.SkipObjectResolution); err != nil {
				return err
			}
			f.generated = generatedLine.Match(text)
		}
		t.files = append(t.files, f)
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.packages = t.group()
	return t, nil
}

// group sorts the main module's Go files into packages.
func (t *tree) group() []*pkg {
	var packages []*pkg
	for _, f := range t.files {
		dir := path.Dir(f.path)
		if f.syntax == nil || t.nested(dir) {
			continue
		}
		i := slices.IndexFunc(packages, func(p *pkg) bool { return p.path == dir })
		if i < 0 {
			packages = append(packages, &pkg{path: dir})
			i = len(packages) - 1
		}
		packages[i].files = append(packages[i].files, f)
		packages[i].name = strings.TrimSuffix(f.syntax.Name.Name, "_test")
	}
	return packages
}

// nested reports whether a folder belongs to a module of its own.
func (t *tree) nested(dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if t.modules[dir] != "" {
			return true
		}
	}
	return false
}

func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// imports lists what a file imports, packages of the main module as "./path".
func (f file) imports(module string) []string {
	var list []string
	for _, spec := range f.syntax.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has refused such a file
		}
		if name == module {
			name = "./."
		} else if rest, ok := strings.CutPrefix(name, module+"/"); ok {
			name = "./" + rest
		}
		list = append(list, name)
	}
	return list
}

// A rule returns a line for each thing that breaks it: where, what, and what to do.
type rule func(*tree) []string

// hold fails the test for each line that the rule has about this repository.
func hold(t *testing.T, r rule) {
	t.Helper()
	repository, err := readTree(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(repository.packages) < 2 || repository.modules["."] == "" {
		t.Fatalf("read %d packages and module %q: this is not the repository", len(repository.packages), repository.modules["."])
	}
	for _, problem := range r(repository) {
		t.Error(problem)
	}
}

// breach is a small tree and what a rule has to say about it: one text for each line that is expected.
type breach struct {
	name  string
	files map[string]string
	want  []string
}

// catches checks that a rule finds what it is there to find, and nothing else.
func catches(t *testing.T, r rule, cases []breach) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fsys := fstest.MapFS{"go.mod": {Data: []byte("module liaison\n\ngo 1.26\n")}}
			for name, text := range c.files {
				fsys[name] = &fstest.MapFile{Data: []byte(text)}
			}
			broken, err := readTree(fsys)
			if err != nil {
				t.Fatal(err)
			}
			got := r(broken)
			ok := len(got) == len(c.want)
			for i := range min(len(got), len(c.want)) {
				ok = ok && strings.Contains(got[i], c.want[i])
			}
			if !ok {
				t.Errorf("the rule says\n  %s\nwant lines with\n  %s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
			}
		})
	}
}

// source is a Go file that imports what is named.
func source(name string, imports ...string) string {
	text := "package " + name + "\n"
	for _, i := range imports {
		text += fmt.Sprintf("import _ %q\n", i)
	}
	return text
}

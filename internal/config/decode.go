package config

import (
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[Secret]()
	systemType   = reflect.TypeFor[System]()
)

// decoder writes a tree of plain values into a Config. It exists because the decoders of koanf and yaml know neither the
// column nor the path of what they refuse, and stop telling at what they cannot convert.
type decoder struct {
	*report
	literals bool                        // secrets may stand in the file themselves
	baseDir  string                      // what relative paths of the file are relative to
	lookup   func(string) (string, bool) // environment
}

// decode writes tree into v, whose setting is path. Null keeps the default.
func (d *decoder) decode(tree any, path string, v reflect.Value) {
	if tree == nil {
		return
	}
	switch {
	case v.Type() == secretType:
		d.secret(tree, path, v)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(tree, path, v.Elem())
	case v.Kind() == reflect.Struct:
		d.structure(tree, path, v)
	case v.Kind() == reflect.Slice:
		d.list(tree, path, v)
	case v.Kind() == reflect.Map:
		d.words(tree, path, v)
	default:
		text, ok := tree.(string)
		if !ok {
			d.at(path, "wants "+typeName(v.Type())+", not "+shape(tree), example(path))
			return
		}
		d.scalar(text, path, v)
	}
}

func (d *decoder) structure(tree any, path string, v reflect.Value) {
	m, ok := tree.(map[string]any)
	if !ok {
		d.at(path, "wants settings of its own, not "+shape(tree), "write one a line below it: "+strings.Join(keysOf(v.Type()), ", "))
		return
	}
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		fields[v.Type().Field(i).Tag.Get("yaml")] = v.Field(i)
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		field, ok := fields[key]
		if !ok {
			d.unknown(join(path, key), "unknown setting", suggestKey(key, v.Type()))
			continue
		}
		d.decode(m[key], join(path, key), field)
	}
}

func (d *decoder) list(tree any, path string, v reflect.Value) {
	items, ok := tree.([]any)
	if !ok {
		remedy := "begin each of its items with a dash"
		if text, ok := tree.(string); ok && v.Type().Elem().Kind() == reflect.String {
			remedy = "write [" + text + "]"
			if _, bad := firstControl(text); bad || len(text) > 40 {
				remedy = "write [a, b]"
			}
		}
		d.at(path, "wants a list, not "+shape(tree), remedy)
		return
	}
	if len(items) == 0 {
		return // nil, so that an empty list and none at all are the same Config
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		element := out.Index(i)
		if element.Type() == systemType {
			element.Set(reflect.ValueOf(DefaultSystem()))
		}
		if item == nil {
			d.at(index(path, i), "is empty", "remove the dash or write the item")
			continue
		}
		d.decode(item, index(path, i), element)
	}
	v.Set(out)
}

// words reads a map of free names to text, in which every scalar counts as the text it was written as.
func (d *decoder) words(tree any, path string, v reflect.Value) {
	m, ok := tree.(map[string]any)
	if !ok {
		d.at(path, "wants names with values, not "+shape(tree), example(path))
		return
	}
	if len(m) == 0 {
		return
	}
	out := make(map[string]string, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		text, ok := m[key].(string)
		if !ok {
			d.at(join(path, key), "wants text, not "+shape(m[key]), "write one value")
			continue
		}
		out[key] = text
	}
	v.Set(reflect.ValueOf(out))
}

// scalar reads one value from its text. What stands in a file must also be of the right YAML kind: an unquoted 007 or
// "no" that silently became something else is the oldest of YAML's traps.
func (d *decoder) scalar(text, path string, v reflect.Value) {
	was := d.doc.places[path].kind
	wrong := func(problem string) { d.at(path, problem, example(path)) }
	wrongType := func() {
		wrong(fmt.Sprintf("wants %s, not %s", typeName(v.Type()), quote(text)))
	}
	switch {
	case v.Type() == durationType:
		dur, err := time.ParseDuration(text)
		if err != nil && was == kindNumber {
			wrong("has no unit: " + quote(text))
			return
		}
		if err != nil {
			wrongType()
			return
		}
		if d.inRange(path, float64(dur), func(f float64) string { return time.Duration(f).String() }) {
			v.SetInt(int64(dur))
		}
	case v.Kind() == reflect.String:
		if was != kindText && was != kindAny {
			d.at(path, fmt.Sprintf("wants text, not %s (%s)", was, quote(text)), "put it in quotes")
			return
		}
		if c, bad := firstControl(text); bad {
			wrong(fmt.Sprintf("contains the control character %U", c))
			return
		}
		if allowed := manual[pattern(path)].Allowed; len(allowed) > 0 && !slices.Contains(allowed, text) {
			d.at(path, "unknown word "+quote(text), suggest(text, allowed))
			return
		}
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			wrongType()
			return
		}
		v.SetBool(text == "true")
	case v.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil || was == kindText {
			wrongType()
			return
		}
		if d.inRange(path, float64(n), func(f float64) string { return strconv.Itoa(int(f)) }) {
			v.SetInt(int64(n))
		}
	case v.Kind() == reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || was == kindText || math.IsNaN(f) || math.IsInf(f, 0) {
			wrongType()
			return
		}
		if d.inRange(path, f, func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }) {
			v.SetFloat(f)
		}
	default:
		panic("config: no decoder for " + v.Type().String()) // a field of a new type; the tests meet it first
	}
}

func (d *decoder) inRange(path string, f float64, show func(float64) string) bool {
	m := manual[pattern(path)]
	if (m.min <= f && f <= m.max) || (f == 0 && m.zero != "") {
		return true
	}
	allowed := fmt.Sprintf("from %s to %s", show(m.min), show(m.max))
	if m.zero != "" && m.min > 0 {
		allowed += ", or 0 for " + m.zero
	}
	d.at(path, show(f)+" is out of range", "it may be "+allowed)
	return false
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// secretForms is the remedy wherever a secret is written wrongly.
const secretForms = "write {env: NAME} for an environment variable or {file: PATH} for a file"

func (d *decoder) secret(tree any, path string, v reflect.Value) {
	if text, ok := tree.(string); ok {
		if d.literals || d.doc.places[path].line == 0 { // in a variable it is where secrets belong
			v.Set(reflect.ValueOf(Literal(text)))
			return
		}
		d.at(path, "holds a secret itself; settings only refer to secrets", secretForms)
		return
	}
	m, ok := tree.(map[string]any)
	if !ok {
		d.at(path, "wants a reference to a secret, not "+shape(tree), secretForms)
		return
	}
	ref := &reference{lookup: d.lookup}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		at := join(path, key)
		text, isText := m[key].(string)
		switch {
		case key != "env" && key != "file":
			d.unknown(at, "unknown form of secret", secretForms)
		case !isText || text == "":
			d.at(at, "is empty", secretForms)
		case key == "env" && !envName.MatchString(text):
			// What does not look like a name may be the secret, so it is not repeated.
			d.at(at, "is not the name of an environment variable", "a name has letters, digits and underscores, such as {env: SERVICENOW_PASSWORD}")
		case key == "env":
			ref.env = text
		case strings.ContainsRune(text, 0):
			d.at(at, "is not a path", "write {file: /run/secrets/servicenow-password}")
		default:
			ref.file = d.path(text, at)
		}
	}
	switch {
	case d.failedUnder(path):
	case ref.env == "" && ref.file == "":
		d.at(path, "refers to nothing", secretForms)
	case ref.env != "" && ref.file != "":
		d.at(path, "refers to a variable and a file", "keep one of them")
	default:
		v.Set(reflect.ValueOf(Secret{ref}))
	}
}

// path makes a path of the file absolute: relative to the file's folder, and in a variable to the working directory.
func (d *decoder) path(text, path string) string {
	if text == "" || filepath.IsAbs(text) {
		return text
	}
	base := d.baseDir
	if d.doc.placeOf(path).line == 0 {
		base = "."
	}
	abs, err := filepath.Abs(filepath.Join(base, text))
	if err != nil { // the working directory is gone
		d.at(path, "cannot be made absolute: "+err.Error(), "write an absolute path")
		return text
	}
	return abs
}

// keysOf lists the settings of a struct in their order.
func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		keys = append(keys, t.Field(i).Tag.Get("yaml"))
	}
	return keys
}

func suggestKey(key string, t reflect.Type) string {
	if _, ok := manual[key]; ok && strings.Contains(key, ".") {
		section, rest, _ := strings.Cut(key, ".")
		return fmt.Sprintf("write %q below %q, indented", rest+":", section+":")
	}
	return suggest(key, keysOf(t))
}

func shape(tree any) string {
	switch tree.(type) {
	case map[string]any:
		return "named values"
	case []any:
		return "a list"
	case string:
		// Where this is used the text is in the wrong place, and might be a secret: it is not repeated.
		return "a single value"
	default:
		return "nothing"
	}
}

func example(path string) string {
	if e := manual[pattern(path)].Example; e != "" {
		return "for example " + e
	}
	return ""
}

func typeName(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a duration"
	case t == secretType:
		return "a secret"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int:
		return "a whole number"
	case t.Kind() == reflect.Float64:
		return "a number"
	case t.Kind() == reflect.Slice:
		return "a list of text"
	case t.Kind() == reflect.Map:
		return "names with text"
	default:
		return "text"
	}
}

var indices = regexp.MustCompile(`\[\d+\]`)

// pattern turns the path of a value into that of its setting: systems[0].organisations[1] is systems[].organisations.
func pattern(path string) string {
	return strings.TrimSuffix(indices.ReplaceAllString(path, "[]"), "[]")
}

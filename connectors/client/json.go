package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strconv"
	"strings"
	"unicode/utf8"

	"liaison/connectors"
)

// What no vendor's answer comes near, and what would cost far more memory than its bytes.
const (
	maxDepth  = 64      // the deepest nesting that is read
	maxKeys   = 10_000  // of one object
	maxValues = 100_000 // of one answer: the largest page has 10,000 rows of a few columns
)

// JSON makes the exchange with in as its JSON body and reads the answer's JSON into out. Either may be nil. An
// answer with 2xx that is not the JSON of out's shape is an error: of kind Unknown after a write, else Transient.
func (c *Client) JSON(ctx context.Context, r Request, in, out any) (a Answer, err error) {
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return Answer{}, c.redact.clean(&connectors.Error{Op: r.Op, Kind: connectors.Rejected, Err: fmt.Errorf("encoding the body: %w", err)})
		}
		r.Body = body
	}
	x := &exchange{write: r.Write()}
	defer func() { x.end(&a) }() // after decoding: that takes as much memory again
	a, err = c.do(ctx, x, r)
	if err != nil || out == nil {
		return a, err
	}
	if err := DecodeJSON(a, out); err != nil {
		return a, c.Unreadable(r, a, err)
	}
	return a, nil
}

// DecodeJSON reads an answer's body into out. It believes only what says of itself that it is JSON and is: one whole
// value in UTF-8, without byte order mark, without a key twice, nested at most 64 deep, with numbers that exist.
func DecodeJSON(a Answer, out any) error {
	if err := checkContentType(a.Header.Get("Content-Type")); err != nil {
		return err
	}
	if err := CheckJSON(a.Body); err != nil {
		return err
	}
	if err := json.Unmarshal(a.Body, out); err != nil {
		if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok { // its own text quotes the value
			return fmt.Errorf("the answer's %q is a %s, not what the vendor documents", t.Field, firstWord(t.Value))
		}
		return fmt.Errorf("the answer's JSON: %w", err)
	}
	return nil
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}

func checkContentType(header string) error {
	media, params, err := mime.ParseMediaType(header)
	if err != nil || media != "application/json" && media != "text/json" && !strings.HasSuffix(media, "+json") {
		return fmt.Errorf("the answer is %q, not JSON", header)
	}
	if cs := params["charset"]; cs != "" && !strings.EqualFold(cs, "utf-8") {
		return fmt.Errorf("the answer's charset is %q, not UTF-8", cs)
	}
	return nil
}

// CheckJSON reports what keeps body from being one JSON value that means the same to every reader.
func CheckJSON(body []byte) error {
	if !utf8.Valid(body) {
		return errors.New("the JSON is not UTF-8")
	}
	if bytes.HasPrefix(body, []byte("\uFEFF")) {
		return errors.New("the JSON begins with a byte order mark")
	}
	if err := checkDepth(body); err != nil { // first: what follows recurses
		return err
	}
	if !json.Valid(body) {
		return brokenJSON(body)
	}
	w := &jsonWalker{body: body}
	return w.value()
}

func checkDepth(body []byte) error {
	depth, inString, escaped := 0, false, false
	for _, b := range body {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped, inString = b == '\\', b != '"'
		case b == '"':
			inString = true
		case b == '{', b == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("the JSON is nested more than %d deep", maxDepth)
			}
		case b == '}', b == ']':
			depth--
		}
	}
	return nil
}

// brokenJSON says where a body stops being JSON.
func brokenJSON(body []byte) error {
	if len(bytes.TrimLeft(body, " \t\r\n")) == 0 {
		return errors.New("the JSON ends in the middle, at byte 0")
	}
	var nothing struct{}
	err := json.Unmarshal(body, &nothing)
	at, ok := errors.AsType[*json.SyntaxError](err)
	switch {
	case !ok:
		return errors.New("the JSON is broken")
	case at.Offset >= int64(len(body)) && strings.HasPrefix(at.Error(), "unexpected end"):
		return fmt.Errorf("the JSON ends in the middle, at byte %d", at.Offset)
	case strings.HasSuffix(at.Error(), "after top-level value"):
		return errors.New("the JSON is followed by something else")
	}
	return fmt.Errorf("the JSON is broken near byte %d", at.Offset)
}

// jsonWalker walks through JSON that is valid and looks for what the standard library lets pass. It copies nothing but
// keys: an answer can be large.
type jsonWalker struct {
	body   []byte
	at     int
	values int
}

// next returns the first byte that is neither a blank nor one of the marks between values, without passing it.
func (w *jsonWalker) next() byte {
	for {
		switch b := w.body[w.at]; b {
		case ' ', '\t', '\r', '\n', ',', ':':
			w.at++
		default:
			return b
		}
	}
}

// value passes one value.
func (w *jsonWalker) value() error {
	if w.values++; w.values > maxValues {
		return fmt.Errorf("the JSON has more than %d values", maxValues)
	}
	switch b := w.next(); {
	case b == '{':
		return w.object()
	case b == '[':
		w.at++
		for w.next() != ']' {
			if err := w.value(); err != nil {
				return err
			}
		}
		w.at++
	case b == '"':
		w.text()
	case b == '-', '0' <= b && b <= '9':
		if _, err := strconv.ParseFloat(string(w.word()), 64); err != nil {
			return fmt.Errorf("the JSON holds a number out of range near byte %d", w.at)
		}
	default:
		w.word() // true, false, null
	}
	return nil
}

func (w *jsonWalker) object() error {
	w.at++
	keys := map[string]bool{}
	for w.next() != '}' {
		key := w.key()
		switch {
		case keys[key]:
			return fmt.Errorf("the JSON names a key twice near byte %d", w.at)
		case len(keys) == maxKeys:
			return fmt.Errorf("the JSON has an object of more than %d keys", maxKeys)
		}
		keys[key] = true
		if err := w.value(); err != nil {
			return err
		}
	}
	w.at++
	return nil
}

// key passes a key and returns it as every reader understands it.
func (w *jsonWalker) key() string {
	raw := w.text()
	if !bytes.ContainsRune(raw, '\\') {
		return string(raw[1 : len(raw)-1])
	}
	var key string
	_ = json.Unmarshal(raw, &key) // it is valid
	return key
}

// text passes a string and returns it with its quotes.
func (w *jsonWalker) text() []byte {
	from := w.at
	for w.at++; w.body[w.at] != '"'; w.at++ {
		if w.body[w.at] == '\\' {
			w.at++
		}
	}
	w.at++
	return w.body[from:w.at]
}

// word passes a number or one of the three words.
func (w *jsonWalker) word() []byte {
	from := w.at
	for w.at < len(w.body) && !bytes.ContainsRune([]byte(" \t\r\n,:]}"), rune(w.body[w.at])) {
		w.at++
	}
	return w.body[from:w.at]
}

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"strconv"
	"strings"
	"unicode/utf8"

	"liaison/connectors"
)

// maxDepth is the deepest nesting that is read. No vendor's answer comes near it.
const maxDepth = 64

// JSON makes the exchange with in as its JSON body and reads the answer's JSON into out. Either may be nil. An
// answer with 2xx that is not the JSON of out's shape is an error: of kind Unknown after a write, else Transient.
func (c *Client) JSON(ctx context.Context, r Request, in, out any) (Answer, error) {
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return Answer{}, c.redact.clean(&connectors.Error{Op: r.Op, Kind: connectors.Rejected, Err: fmt.Errorf("encoding the body: %w", err)})
		}
		r.Body = body
	}
	a, err := c.Do(ctx, r)
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
	if err := checkDepth(body); err != nil { // first: the decoder below recurses
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := checkValue(d); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("the JSON is followed by something else")
	}
	return nil
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

// checkValue reads one value of the stream to its end.
func checkValue(d *json.Decoder) error {
	token, err := d.Token()
	if err != nil {
		return brokenJSON(d, err)
	}
	switch t := token.(type) {
	case json.Number:
		if _, err := strconv.ParseFloat(t.String(), 64); err != nil {
			return fmt.Errorf("the JSON holds a number out of range near byte %d", d.InputOffset())
		}
	case json.Delim:
		if t == '{' {
			return checkObject(d)
		}
		return checkArray(d)
	}
	return nil
}

func checkObject(d *json.Decoder) error {
	keys := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return brokenJSON(d, err)
		}
		key, _ := token.(string)
		if keys[key] {
			return fmt.Errorf("the JSON names a key twice near byte %d", d.InputOffset())
		}
		keys[key] = true
		if err := checkValue(d); err != nil {
			return err
		}
	}
	return closeDelim(d)
}

func checkArray(d *json.Decoder) error {
	for d.More() {
		if err := checkValue(d); err != nil {
			return err
		}
	}
	return closeDelim(d)
}

func closeDelim(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return brokenJSON(d, err)
	}
	return nil
}

func brokenJSON(d *json.Decoder, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the JSON ends in the middle, at byte %d", d.InputOffset())
	}
	return fmt.Errorf("the JSON is broken near byte %d", d.InputOffset())
}

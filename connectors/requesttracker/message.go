package requesttracker

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"liaison/connectors/client"
)

// part is one node of a message's tree: a text, a file, or a node that only holds others. In the order of their ids a
// tree's nodes stand as in the mail. (Asking a list for their parents is a 500.)
type part struct {
	ID            text   `json:"id"`
	ContentType   string `json:"ContentType"`
	Filename      string `json:"Filename"`
	ContentLength text   `json:"ContentLength"`
}

// maxText is the longest text that is fetched, in bytes. The hub refuses far shorter ones.
const maxText = 4 << 20

// messageText returns what a message says: its first plain text, else its first HTML as text, else the files' names.
func (c *Connector) messageText(ctx context.Context, op string, transaction int64) (string, error) {
	parts, err := c.parts(ctx, op, transaction)
	if err != nil {
		return "", err
	}
	for _, form := range []struct {
		contentType string
		read        func(string) string
	}{{"text/plain", plainText}, {"text/html", htmlText}} {
		for _, p := range parts {
			if p.Filename != "" || !strings.EqualFold(p.ContentType, form.contentType) {
				continue
			}
			said, err := c.content(ctx, op, p)
			if err != nil {
				return "", err
			}
			if said = form.read(said); said != "" {
				return said, nil
			}
		}
	}
	return fileNames(parts), nil
}

// fileNames stands for a message that says nothing but brings files.
func fileNames(parts []part) string {
	var names []string
	for _, p := range parts {
		if p.Filename != "" {
			names = append(names, p.Filename)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "Attached: " + strings.Join(names, ", ")
}

func (c *Connector) parts(ctx context.Context, op string, transaction int64) ([]part, error) {
	var all []part
	for page := 1; ; page++ {
		found, _, err := rows[part](ctx, c, op, listing{
			path: "/transaction/" + strconv.FormatInt(transaction, 10) + "/attachments", fields: "ContentType,Filename,ContentLength",
			page: page, perPage: maxPage,
		})
		if err != nil {
			return nil, err
		}
		if all = append(all, found...); len(found) < maxPage {
			return all, nil
		}
	}
}

// content fetches one text. Only a single attachment's own page gives its bytes as they are.
func (c *Connector) content(ctx context.Context, op string, p part) (string, error) {
	if n, err := strconv.ParseInt(string(p.ContentLength), 10, 64); err == nil && n > maxText {
		return fmt.Sprintf("(The text is %d bytes long and stands in Request Tracker.)", n), nil
	}
	id, err := strconv.ParseInt(string(p.ID), 10, 64)
	if err != nil {
		return "", refuse(op, "attachment id %q is no number", p.ID)
	}
	var file struct {
		Content string `json:"Content"`
	}
	r := client.Request{Op: op, Path: "/attachment/" + strconv.FormatInt(id, 10)}
	a, err := c.call(ctx, r, nil, &file)
	if err != nil {
		return "", err
	}
	said, err := decodeContent(file.Content)
	if err != nil {
		return "", c.client.Unreadable(r, a, err)
	}
	return said, nil
}

// decodeContent reads the base64 of an attachment, which has a line break every 76 characters. Bytes that are not UTF-8
// are what RT could not convert; as Latin-1 they stay readable.
func decodeContent(encoded string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, encoded))
	if err != nil {
		return "", fmt.Errorf("an attachment's base64: %w", err)
	}
	if utf8.Valid(raw) {
		return string(raw), nil
	}
	var b strings.Builder
	for _, c := range raw {
		b.WriteRune(rune(c))
	}
	return b.String(), nil
}

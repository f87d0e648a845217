package requesttracker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"liaison/connectors"
	"liaison/connectors/client"
)

// The types of a ticket's transactions that are messages. The first message stands in Create and is no part of the journal.
const (
	correspond = "Correspond" // public: RT mails it to the requestors
	comment    = "Comment"    // internal
)

func messagesOf(id connectors.ExternalID) string {
	return "ObjectType = 'RT::Ticket' AND ObjectId = " + string(id) + " AND (Type = '" + correspond + "' OR Type = '" + comment + "')"
}

func readMark(op string, m connectors.Mark) (horizon, error) {
	h := horizon{Version: formatVersion}
	if m == "" {
		return h, nil
	}
	if json.Unmarshal([]byte(m), &h) != nil || !h.valid() {
		return h, refuse(op, "the journal mark %w", errForeign)
	}
	return h, nil
}

// Mark returns the journal's present end.
func (c *Connector) Mark(ctx context.Context, id connectors.ExternalID) (connectors.Mark, error) {
	const op = "requesttracker.Mark"
	if err := checkID(op, id); err != nil {
		return "", err
	}
	ids, settled, err := c.recent(ctx, op, messagesOf(id), "Created")
	if err != nil {
		return "", err
	}
	if len(ids) == 0 && settled == 0 {
		if _, _, err := c.record(ctx, op, id); err != nil { // no message, or no ticket
			return "", err
		}
	}
	return connectors.Mark(horizonNow(ids, settled, c.now()).String()), nil
}

// Journal returns the messages beyond the mark. A message with a key is one of the hub's, whoever wrote it.
func (c *Connector) Journal(ctx context.Context, id connectors.ExternalID, after connectors.Mark) ([]connectors.JournalEntry, connectors.Mark, error) {
	const op = "requesttracker.Journal"
	if err := checkID(op, id); err != nil {
		return nil, "", err
	}
	at, err := readMark(op, after)
	if err != nil {
		return nil, "", err
	}
	began := c.now()
	fresh, reached, err := c.messages(ctx, op, id, &at)
	if err != nil {
		return nil, "", err
	}
	if reached == 0 && after == "" {
		if _, _, err := c.record(ctx, op, id); err != nil { // no message, or no ticket
			return nil, "", err
		}
	}
	entries, err := c.entries(ctx, op, fresh)
	if err != nil {
		return nil, "", err
	}
	at.settle(began, c.now(), c.overlap, reached)
	return entries, connectors.Mark(at.String()), nil
}

// messages reads the ticket's messages from the floor of at to the end and notes them there. It returns those that were
// not known, and the last id read, which is the floor when there was none.
func (c *Connector) messages(ctx context.Context, op string, id connectors.ExternalID, at *horizon) (fresh []transaction, reached int64, err error) {
	for pos := at.Floor; ; {
		found, _, err := c.transactions(ctx, op, listing{
			query: messagesOf(id) + " AND " + beyond(pos), fields: "Type,Created,Creator,CustomFields",
			subfields: map[string]string{"Creator": "RealName"}, perPage: maxPage,
		})
		if err != nil {
			return nil, 0, err
		}
		added := false
		for _, t := range found {
			if (t.Type == correspond || t.Type == comment) && at.add(t.id) {
				fresh, added = append(fresh, t), true
			}
		}
		if len(found) == 0 {
			return fresh, pos, nil
		}
		pos = found[len(found)-1].id
		// A short page can have more behind it when the account may not see all comments, so only an idle look that has come
		// as far as any before it trusts it.
		if len(found) < maxPage && !added && pos >= at.newest() {
			return fresh, pos, nil
		}
	}
}

// entries fetches the messages' texts, some at a time, and returns them oldest first.
func (c *Connector) entries(ctx context.Context, op string, said []transaction) ([]connectors.JournalEntry, error) {
	entries := make([]connectors.JournalEntry, len(said))
	if len(said) == 0 {
		return entries, nil
	}
	login, err := c.ownLogin(ctx, op)
	if err != nil {
		return nil, err
	}
	g, fetching := errgroup.WithContext(ctx)
	g.SetLimit(client.DefaultConcurrency)
	for i, t := range said {
		entries[i] = c.entry(t, login)
		g.Go(func() error {
			var err error
			entries[i].Body, err = c.messageText(fetching, op, t.id)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(entries, func(a, b connectors.JournalEntry) int { return a.At.Compare(b.At) })
	return entries, nil
}

func (c *Connector) entry(t transaction, login string) connectors.JournalEntry {
	e := connectors.JournalEntry{
		ID: strconv.FormatInt(t.id, 10), Visibility: connectors.Internal, // what is not surely public is not shown to customers
		Author: cmp.Or(t.Creator.RealName, string(t.Creator.ID)), Own: isLogin(login, string(t.Creator.ID)),
	}
	if t.Type == correspond {
		e.Visibility = connectors.Public
	}
	if c.set.keyField != "" {
		e.Key, _ = t.CustomFields.get(c.set.keyField)
	}
	e.At, _ = connectors.ParseTime(time.RFC3339, t.Created)
	return e
}

// Say writes a reply or a comment. RT's answer names the entry, so the mark is not needed.
//
// A reply to a ticket that is not being worked on makes RT take it up: resolved becomes the lifecycle's first active
// status, and so does new. A message that is only mirrored must not do that, so the reply carries the status that the
// ticket has, which RT sets after its own rule has run. Where the lifecycle has no way back (often from the first active
// status to new), RT's rule stands and comes back as RT's own change of status. The administrators can take it away: it is
// the scrip "On Correspond Open Inactive Tickets".
func (c *Connector) Say(ctx context.Context, id connectors.ExternalID, m connectors.Message, _ connectors.Mark) (connectors.JournalEntry, error) {
	const op = "requesttracker.Say"
	if err := checkID(op, id); err != nil {
		return connectors.JournalEntry{}, err
	}
	text := strings.TrimRight(newlines(m.Body), " \t\n")
	if strings.TrimSpace(text) == "" {
		return connectors.JournalEntry{}, refuse(op, "the message is empty")
	}
	kind, b := "comment", map[string]any{"Content": text, "ContentType": "text/plain"}
	switch m.Visibility {
	case connectors.Internal:
	case connectors.Public:
		kind = "correspond"
	default:
		return connectors.JournalEntry{}, refuse(op, "visibility %q is unknown", m.Visibility)
	}
	if c.set.keyField != "" && m.Key != "" {
		b["TxnCustomFields"] = map[string]string{c.set.keyField: m.Key}
	}
	rec, a, err := c.record(ctx, op, id)
	if err != nil {
		return connectors.JournalEntry{}, err
	}
	if err := stillThere(op, c.ticket(id, rec, a, nil)); err != nil {
		return connectors.JournalEntry{}, err
	}
	if kind == "correspond" && !slices.Contains(c.set.active, rec.Status) {
		b["Status"] = rec.Status
	}
	r := client.Request{Op: op, Method: http.MethodPost, Path: "/ticket/" + string(id) + "/" + kind}
	var said sentences
	if a, err = c.call(ctx, r, b, &said); err != nil {
		return connectors.JournalEntry{}, unsaid(err)
	}
	entry, err := strconv.ParseInt(path.Base(a.Header.Get("Location")), 10, 64)
	if err != nil {
		return connectors.JournalEntry{}, c.client.Unreadable(r, a, errors.New("the answer names no transaction"))
	}
	c.mu.Lock()
	author := c.login
	c.mu.Unlock()
	return connectors.JournalEntry{
		ID: strconv.FormatInt(entry, 10), Key: c.storedKey(m.Key), Visibility: m.Visibility, Body: text, Author: author, Own: true, At: c.vendorTime(a).UTC(),
	}, nil
}

func (c *Connector) storedKey(key string) string {
	if c.set.keyField == "" {
		return ""
	}
	return key
}

// unsaid sorts a refused message. The ticket was seen just before, so RT's "Permission Denied" with 400 is about a right
// that the account lacks.
func unsaid(err error) error {
	if e, ok := errors.AsType[*connectors.Error](err); ok && e.Status == http.StatusBadRequest && strings.EqualFold(e.Vendor, "Permission Denied") {
		e.Kind = connectors.Auth
		e.Err = errors.New("grant the account ReplyToTicket and CommentOnTicket")
	}
	return err
}

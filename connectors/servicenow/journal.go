package servicenow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"liaison/connectors"
)

// The journals of a ticket.
const (
	comments  = "comments"   // customer-visible
	workNotes = "work_notes" // internal
)

var entryColumns = []string{"sys_id", "element", "element_id", "value", "sys_created_on", "sys_created_by"}

// mark is the readable form of a connectors.Mark: the newest stamp, and the entries that stood within the overlap before
// it. The ids tell entries of one second apart, and an entry that was committed late from one that was known.
type mark struct {
	Stamp string   `json:"t,omitempty"`
	IDs   []string `json:"ids,omitempty"`
}

func readMark(op string, m connectors.Mark) (mark, error) {
	var read mark
	if m == "" {
		return read, nil
	}
	if err := json.Unmarshal([]byte(m), &read); err != nil {
		return read, refuse(op, "the journal mark is none of this connector's")
	}
	if read.Stamp != "" && !isStamp(read.Stamp) {
		return read, refuse(op, "the journal mark is none of this connector's")
	}
	return read, nil
}

// from is the stamp at which a look beyond the mark begins.
func (m mark) from(overlap time.Duration) string { return before(m.Stamp, overlap) }

// before returns the stamp that lies d earlier; the empty stamp lies before all.
func before(stamp string, d time.Duration) string {
	t, err := connectors.ParseTime(stampLayout, stamp)
	if err != nil {
		return ""
	}
	return t.Add(-d).Format(stampLayout)
}

// markOf returns the mark behind the entries, but never beyond the vendor's clock: an entry that a wrong clock stamped in
// the future must not hide those that come after it.
func (c *Connector) markOf(entries []entry, old mark, now time.Time) mark {
	newest := ""
	for _, e := range entries {
		newest = max(newest, e.stamp)
	}
	if !now.IsZero() {
		newest = min(newest, now.UTC().Format(stampLayout))
	}
	m := mark{Stamp: max(old.Stamp, newest)}
	from := m.from(c.overlap)
	for _, e := range entries {
		if e.stamp >= from {
			m.IDs = append(m.IDs, e.ID)
		}
	}
	slices.Sort(m.IDs)
	m.IDs = slices.Compact(m.IDs)
	return m
}

func (m mark) String() connectors.Mark {
	if m.Stamp == "" {
		return ""
	}
	text, _ := json.Marshal(m) // strings always marshal
	return connectors.Mark(text)
}

// entry is a journal entry with the vendor's own stamp, which compares as text.
type entry struct {
	connectors.JournalEntry
	stamp string
}

// Mark returns the journal's present end.
func (c *Connector) Mark(ctx context.Context, id connectors.ExternalID) (connectors.Mark, error) {
	const op = "servicenow.Mark"
	if err := checkID(op, id); err != nil {
		return "", err
	}
	var entries []entry
	for offset := 0; ; offset += c.set.pageSize {
		part, found, err := c.entries(ctx, op, id, "", true, offset)
		if err != nil {
			return "", err
		}
		entries = append(entries, part...)
		m := c.markOf(entries, mark{}, found.date)
		if !found.more || len(part) > 0 && part[len(part)-1].stamp < m.from(c.overlap) {
			return m.String(), c.checkJournalSeen(ctx, op, id, len(entries) > 0, found)
		}
	}
}

// Journal returns what was said beyond the mark.
func (c *Connector) Journal(ctx context.Context, id connectors.ExternalID, after connectors.Mark) ([]connectors.JournalEntry, connectors.Mark, error) {
	entries, m, err := c.journal(ctx, "servicenow.Journal", id, after)
	if err != nil {
		return nil, "", err
	}
	said := make([]connectors.JournalEntry, 0, len(entries))
	for _, e := range entries {
		said = append(said, e.JournalEntry)
	}
	return said, m.String(), nil
}

func (c *Connector) journal(ctx context.Context, op string, id connectors.ExternalID, after connectors.Mark) ([]entry, mark, error) {
	if err := checkID(op, id); err != nil {
		return nil, mark{}, err
	}
	old, err := readMark(op, after)
	if err != nil {
		return nil, mark{}, err
	}
	var (
		all  []entry
		last rows
	)
	// Entries are only ever added, and an addition before the offset shifts rows towards it: a page by offset may
	// repeat an entry and never skips one.
	for offset := 0; ; offset += c.set.pageSize {
		part, found, err := c.entries(ctx, op, id, old.from(c.overlap), false, offset)
		if err != nil {
			return nil, mark{}, err
		}
		all, last = append(all, part...), found
		if !found.more {
			break
		}
	}
	if err := c.checkJournalSeen(ctx, op, id, len(all) > 0, last); err != nil {
		return nil, mark{}, err
	}
	if err := c.findOwn(ctx, op, all); err != nil {
		return nil, mark{}, err
	}
	return beyond(all, old), c.markOf(all, old, last.date), nil
}

// beyond returns the entries that the mark does not know, oldest first, each once.
func beyond(all []entry, old mark) []entry {
	known := map[string]bool{}
	for _, id := range old.IDs {
		known[id] = true
	}
	var fresh []entry
	for _, e := range all {
		if !known[e.ID] {
			known[e.ID] = true
			fresh = append(fresh, e)
		}
	}
	slices.SortStableFunc(fresh, func(a, b entry) int {
		return strings.Compare(a.stamp+a.ID, b.stamp+b.ID)
	})
	return fresh
}

// entries returns a page of the ticket's journal.
func (c *Connector) entries(ctx context.Context, op string, id connectors.ExternalID, from string, newestFirst bool, offset int) ([]entry, rows, error) {
	q := query{"element_id=" + string(id), "elementIN" + comments + "," + workNotes}
	if from != "" {
		q = append(q, "sys_created_on>="+from)
	}
	order := "ORDERBY"
	if newestFirst {
		order = "ORDERBYDESC"
	}
	q = append(q, order+"sys_created_on", order+"sys_id")
	found, err := c.list(ctx, op, listing{table: "sys_journal_field", query: q, fields: entryColumns, limit: c.set.pageSize, offset: offset})
	if err != nil {
		return nil, rows{}, err
	}
	entries := make([]entry, 0, len(found.records))
	for _, rec := range found.records {
		e, err := readEntry(rec, id, from)
		if err != nil {
			return nil, rows{}, &connectors.Error{Op: op, Kind: connectors.Auth, Err: err}
		}
		entries = append(entries, e)
	}
	return entries, found, nil
}

// readEntry refuses a row that was not asked for: then the vendor has dropped a condition on a column that it hides, and
// nothing that is missing can be called missing.
func readEntry(rec record, id connectors.ExternalID, from string) (entry, error) {
	stamp := rec.get("sys_created_on")
	at, err := rec.at("sys_created_on")
	if err != nil || rec.get("sys_id") == "" || !strings.EqualFold(rec.get("element_id"), string(id)) || stamp < from {
		return entry{}, errors.New("the account does not see all columns of sys_journal_field; grant its role read access to that table")
	}
	visibility := connectors.Internal // an unknown journal is not shown to customers
	if rec.get("element") == comments {
		visibility = connectors.Public
	}
	return entry{stamp: stamp, JournalEntry: connectors.JournalEntry{
		ID: rec.get("sys_id"), Visibility: visibility, Body: plainText(rec.get("value")), Author: rec.get("sys_created_by"), At: at,
	}}, nil
}

func (c *Connector) findOwn(ctx context.Context, op string, entries []entry) error {
	if len(entries) == 0 {
		return nil
	}
	login, err := c.ownLogin(ctx, op)
	if err != nil {
		return err
	}
	for i := range entries {
		entries[i].Own = isLogin(login, entries[i].Author)
	}
	return nil
}

// checkJournalSeen tells a journal without entries from one that the account may not read, and both from a ticket that is
// not there: the vendor answers all three with no rows. found is the last page asked for.
func (c *Connector) checkJournalSeen(ctx context.Context, op string, id connectors.ExternalID, seen bool, found rows) error {
	if seen {
		return nil
	}
	if found.total > 0 { // counted before the account's rights took every row away
		return journalDenied(op)
	}
	// The record's own display value of the journals follows other access rules, and 404 tells that there is no ticket.
	rec, a, err := c.displayed(ctx, op, id, "sys_id", "sys_updated_on", comments, workNotes)
	if err != nil || rec.get(comments)+rec.get(workNotes) == "" {
		return err
	}
	// There are messages, but none is shown. If entries of other tickets are, then these lag behind the record.
	others, err := c.list(ctx, op, listing{table: "sys_journal_field", fields: entryColumns, limit: 1})
	if err != nil || len(others.records) > 0 {
		return err
	}
	if others.total <= 0 && !c.settled(rec, a.Header) {
		return nil
	}
	return journalDenied(op)
}

func journalDenied(op string) error {
	return &connectors.Error{
		Op: op, Kind: connectors.Auth, Fields: []string{comments, workNotes},
		Err: errors.New("the ticket has messages, but the account may not read sys_journal_field; grant its role read access to that table"),
	}
}

// looks are the pauses between the looks for an entry that was just written: the journal can lag behind the record.
var looks = []time.Duration{0, 200 * time.Millisecond, time.Second}

// Say appends the message to its journal. The vendor's answer does not name the entry, so it is looked for beyond the
// mark: our own account's, in that journal, with that text.
func (c *Connector) Say(ctx context.Context, id connectors.ExternalID, m connectors.Message, after connectors.Mark) (connectors.JournalEntry, error) {
	const op = "servicenow.Say"
	if err := checkID(op, id); err != nil {
		return connectors.JournalEntry{}, err
	}
	if _, err := readMark(op, after); err != nil {
		return connectors.JournalEntry{}, err
	}
	journal := comments
	switch m.Visibility {
	case connectors.Public:
	case connectors.Internal:
		journal = workNotes
	default:
		return connectors.JournalEntry{}, refuse(op, "visibility %q is unknown", m.Visibility)
	}
	text := outgoing(m.Body)
	if text == "" {
		return connectors.JournalEntry{}, refuse(op, "an empty message would not be kept")
	}
	rec, a, err := c.row(ctx, op, http.MethodPatch, id, connectors.Fields{journal: text}, columns(nil, "sys_updated_by"))
	if err != nil {
		return connectors.JournalEntry{}, err
	}
	e, err := c.findSaid(ctx, op, id, m.Visibility, text, after, rec.get("sys_updated_by"))
	if err == nil || !errors.Is(err, errNotThere) {
		return e, err
	}
	if c.settled(rec, a.Header) { // our own write would have moved the stamp
		return e, &connectors.Error{
			Op: op, Kind: connectors.Rejected, Status: a.Status, Fields: []string{journal},
			Err: fmt.Errorf("the vendor answered as if done and kept nothing; grant the account write access to %s", journal),
		}
	}
	return e, connectors.AsUnknown(op, fmt.Errorf("the vendor took the message, but it does not show in the journal yet: %w", err))
}

var errNotThere = errors.New("no such entry beyond the mark")

// findSaid looks for the message of this call. Every failure is Unknown: the message is with the vendor.
func (c *Connector) findSaid(ctx context.Context, op string, id connectors.ExternalID, v connectors.Visibility, text string, after connectors.Mark, author string) (connectors.JournalEntry, error) {
	for _, pause := range looks {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return connectors.JournalEntry{}, connectors.AsUnknown(op, ctx.Err())
		}
		entries, _, err := c.journal(ctx, op, id, after)
		if err != nil {
			return connectors.JournalEntry{}, connectors.AsUnknown(op, err)
		}
		for _, e := range slices.Backward(entries) { // the newest, should an earlier try have come through late
			if e.Visibility == v && sameText(e.Body, text) && (e.Own || isLogin(author, e.Author)) {
				e.Own = true
				return e.JournalEntry, nil
			}
		}
	}
	return connectors.JournalEntry{}, errNotThere
}

// settled tells whether the record's last change lies so far before the answer that nothing of it can still be under way.
// Each journal entry moves the record's stamp. The stamp may be a display value, whose form nobody knows: then it is not.
func (c *Connector) settled(rec record, h http.Header) bool {
	stamp, err := rec.at("sys_updated_on")
	if err != nil {
		return false
	}
	date, err := http.ParseTime(h.Get("Date"))
	return err == nil && date.Sub(stamp) > settleWindow
}

package servicenowtest

import (
	"fmt"
	"strings"
	"time"
)

// writeJournals appends entries to a record's journal. There is no edit and no idempotency: the same text twice makes
// two entries.
func (t *tx) writeJournals(r *row, texts []journalText) {
	name := t.s.cfg.JournalName
	if name == "" {
		name = r.class
	}
	for _, j := range texts {
		e := t.blank("sys_journal_field")
		for k, v := range map[string]string{
			"sys_id": newSysID(), "name": name, "element": j.element, "element_id": r.id(),
			"value": cut(j.text, 65535),
		} {
			e.vals[k] = v
		}
		t.stampNew(e)
		t.put(e)
	}
}

// journalElements are the elements that a journal column shows.
func journalElements(col string) []string {
	if col == "comments_and_work_notes" {
		return []string{"comments", "work_notes"}
	}
	return []string{col}
}

// journalDisplay is the text that a journal column shows: newest first, each entry under a line with stamp, author and
// label in the reader's zone, format and language.
func (s *Server) journalDisplay(r *row, col string, who actor) string {
	entries := s.db.entries(r.id(), journalElements(col)...)
	var b strings.Builder
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i].vals
		author := e["sys_created_by"]
		if u := s.db.find("sys_user", "user_name", author); u != nil {
			author = u.vals["name"]
		}
		fmt.Fprintf(&b, "%s - %s (%s)\n%s\n\n", s.displayDate(e["sys_created_on"], who), author, s.journalLabel(e["element"]), e["value"])
	}
	return b.String()
}

func (s *Server) journalLabel(element string) string {
	if s.cfg.Language == "de" {
		return map[string]string{"comments": "Zusätzliche Kommentare", "work_notes": "Arbeitsnotizen"}[element]
	}
	return columnLabel(element)
}

// displayDate is a stored stamp in a user's zone and format.
func (s *Server) displayDate(stamp string, who actor) string {
	at, err := time.ParseInLocation(stampLayout, stamp, time.UTC)
	if err != nil {
		return stamp
	}
	return at.In(who.zone).Format(who.layout)
}

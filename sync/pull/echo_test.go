package pull_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"liaison/connectors"
	"liaison/connectors/servicenow/servicenowtest"
	"liaison/sync/pair"
)

// R4: two hubs' fields set to differing normal forms end after at most one correcting write each, and nothing goes to and fro
// over ten minutes. The vendor's form may come with the write's answer, or from a rule that runs after it, under our own account.
func TestR4EchoOfAnotherNormalForm(t *testing.T) {
	t.Parallel()
	stamped := func(s string) string { // a time cut to seconds, in another zone
		before, at, _ := strings.Cut(s, "at ")
		when, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			return s
		}
		return before + "at " + when.Truncate(time.Second).In(time.FixedZone("", 3600)).Format(time.RFC3339)
	}
	for name, tt := range map[string]struct {
		field  string // under fields: of an own file
		value  string
		normal func(string) string
	}{
		"a trailing blank": {"title: {vendor: short_description, max: 160}", "The printer jams  ", func(s string) string { return strings.TrimRight(s, " ") }},
		"HTML against text": {"title: {vendor: short_description, max: 160}", "jams & <b>burns</b>", func(s string) string {
			return strings.NewReplacer("<b>", "", "</b>", "", "&amp;", "&", "&", "&amp;").Replace(s)
		}},
		"cut at 255 characters":  {"title: {vendor: u_long, max: 4000}", strings.Repeat("long words ", 14), func(s string) string { return string([]rune(s)[:min(len([]rune(s)), 50)]) }},
		"a time cut to seconds":  {"title: {vendor: short_description, max: 160}", "down since " + "at 2026-11-22T10:00:00.123456Z", stamped},
		"a user's name mapped":   {"title: {vendor: short_description, max: 160}", "abel.tuter", func(s string) string { return strings.ReplaceAll(s, "abel.tuter", "Abel Tuter") }},
		"upper case, as it were": {"title: {vendor: short_description, max: 160}", "The printer jams", strings.ToUpper},
	} {
		for _, when := range []string{"within the write", "right after the write"} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				column := "short_description"
				own := "fields:\n  " + strings.ReplaceAll(tt.field, "u_long", column) + "\n"
				p, c := world(t, own)
				id, ticket := p.Escalated("before")
				quiet(p)
				if when == "within the write" {
					c.before = func(f connectors.Fields) {
						if v, there := f[column]; there {
							f[column] = tt.normal(v)
						}
					}
				} else {
					c.after = func(id connectors.ExternalID, f connectors.Fields) {
						if v, there := f[column]; there {
							p.Act(string(id), act{User: servicenowtest.DefaultUser, Fields: map[string]string{column: tt.normal(v)}})
						}
					}
				}
				before := writes(p)
				p.Retitle(id, tt.value)
				for range 100 { // ten minutes
					p.Deliver()
					p.Poll()
				}
				p.Deliver()
				if n := writes(p) - before; n > 2 {
					t.Errorf("%d writes, want ours and at most one that corrects it", n)
				}
				if n := pair.Scan[int](p, `SELECT count(*) FROM ledger_entry WHERE kind = 'CHANGED' AND actor_kind = 'SYSTEM'`); n > 1 {
					t.Errorf("the vendor's form was taken %d times", n)
				}
				if got := entries(p); got != "" {
					t.Errorf("the ledger tells of %s", got)
				}
				// Either both have the same, or each has its own form of it and knows so.
				base := pair.Scan[string](p, `SELECT (base->'title'->>'hub') || '|' || (base->'title'->'vendor'->>'short_description') FROM external_link`)
				if is := title(p) + "|" + p.Ticket(ticket.SysID).ShortDescription; base != is {
					t.Errorf("agreed on %q, the sides have %q", base, is)
				}
			})
		}
	}
}

// Line ends are a form and no change, on either side.
func TestR4EchoOfOtherLineEnds(t *testing.T) {
	t.Parallel()
	p, _ := world(t, "fields:\n  description: {vendor: description, max: 4000}\n")
	_, ticket := p.Escalated("The printer\njams\n")
	p.Act(ticket.SysID, act{User: servicenowtest.DefaultUser, Fields: map[string]string{"description": "The printer\r\njams"}})
	before := writes(p)
	for range 100 {
		p.Deliver()
		p.Poll()
	}
	if n := writes(p) - before; n != 0 {
		t.Errorf("%d writes", n)
	}
	if got := pair.Scan[string](p, `SELECT description FROM incident`); got != "The printer\njams\n" || entries(p) != "" {
		t.Errorf("the hub has %q, the ledger tells of %s", got, entries(p))
	}
}

// An edit made right after ours, under our own account and in the same second, by automation of the vendor's, is no echo.
func TestR4AnEditUnderOurOwnAccountIsTakenIn(t *testing.T) {
	t.Parallel()
	p, c := world(t, "")
	id, ticket := p.Escalated("before")
	quiet(p)
	c.after = func(id connectors.ExternalID, f connectors.Fields) {
		if f["short_description"] == "ours" {
			p.Act(string(id), act{User: servicenowtest.DefaultUser, Title: "ours, sorted by the rule", State: "2", Priority: "1"})
		}
	}
	p.Retitle(id, "ours")
	p.Deliver()
	if got := p.Ticket(ticket.SysID); got.SysUpdatedBy != servicenowtest.DefaultUser {
		t.Fatalf("the rule wrote as %s", got.SysUpdatedBy)
	}
	quiet(p)
	if got := pair.Scan[string](p, `SELECT title || '|' || state || '|' || priority FROM incident`); got != "ours, sorted by the rule|IN_PROGRESS|P1" {
		t.Errorf("the hub has %s", got)
	}
	if got := entries(p); got != "" {
		t.Errorf("the ledger tells of %s", got)
	}
}

// Each write of ours is seen once as an echo: it is counted, spent, and the same words again are an edit like any other.
func TestR4AnEchoIsCountedOnce(t *testing.T) {
	t.Parallel()
	p, _ := world(t, "")
	id, ticket := p.Escalated("first")
	pull := func() int { return pullOnce(t, p).Echoes }
	created := pull() // what was written when the ticket was opened
	if created == 0 || pull() != 0 {
		t.Errorf("%d echoes of the create, or the same ones again", created)
	}
	for n := range 5 {
		p.Retitle(id, fmt.Sprint("title ", n))
		p.Deliver()
		if got := pull(); got != 1 {
			t.Errorf("%d echoes of one write", got)
		}
		if got := pull(); got != 0 {
			t.Errorf("the same echo is counted again: %d", got)
		}
	}
	p.Act(ticket.SysID, act{Title: "theirs"})
	if taken := pullOnce(t, p); taken.Echoes != 0 || taken.Entries != 1 {
		t.Errorf("an edit of theirs: %+v", taken)
	}
	p.Act(ticket.SysID, act{Title: "title 4"}) // our last words, by another hand
	if taken := pullOnce(t, p); taken.Echoes != 0 || taken.Entries != 1 || title(p) != "title 4" {
		t.Errorf("the same words by another hand: %+v, %q", taken, title(p))
	}
	before := writes(p)
	quiet(p)
	if n := writes(p) - before; n != 0 {
		t.Errorf("%d writes back", n)
	}
}

// R4: changes caused by our own writes lead to no write back.
func TestR4NoEchoWrites(t *testing.T) {
	t.Parallel()
	p, _ := world(t, "")
	id, ticket := p.Escalated("first")
	quiet(p)
	before, changes := writes(p), 0
	for n := range 40 {
		if n%2 == 0 {
			p.Retitle(id, fmt.Sprint("from the hub ", n))
			changes++
		} else {
			p.Act(ticket.SysID, act{Title: fmt.Sprint("from the vendor ", n), Comment: fmt.Sprint("comment ", n)})
		}
		p.Deliver()
		p.Poll()
		p.Advance(time.Minute)
	}
	quiet(p)
	if n := writes(p) - before; n != changes {
		t.Errorf("%d writes for %d changes of the hub's", n, changes)
	}
	if got := len(p.Ticket(ticket.SysID).Comments); got != 20 {
		t.Errorf("%d comments at the vendor", got)
	}
}

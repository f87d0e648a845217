package merge_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/sync/mapping"
	"liaison/sync/merge"
)

// vendorWords are the documented values of both vendors, and some that nobody documents.
var vendorWords = map[string][]string{
	"state":       {"1", "2", "3", "6", "7", "8", "9", ""},
	"hold_reason": {"", "1", "2", "3", "4", "5", "77"},
	"priority":    {"1", "2", "3", "4", "5", "0"},
	"category":    {"", "inquiry", "software", "hardware", "network", "database", "phones"},
	"Status":      {"new", "open", "acknowledged", "in progress", "stalled", "on hold", "resolved", "closed", "rejected", "cancelled", "deleted", "lost"},
	"Priority":    {"0", "1", "10", "30", "39", "50", "70", "79", "80", "90", "100", "250", "-1", "high"},
}

var texts = []string{"", "a", "b", "b ", "c\r\nd", "c\nd", strings.Repeat("e", 161), strings.Repeat("é", 110)}

func anyTicket(t *rapid.T, m *mapping.Mapping, name string) connectors.Fields {
	out := connectors.Fields{}
	for _, f := range m.VendorFields() {
		words := vendorWords[f]
		if words == nil {
			words = texts
		}
		if rapid.IntRange(0, 9).Draw(t, name+" has "+f) > 0 { // now and then a field was not read
			out[f] = rapid.SampledFrom(words).Draw(t, name+" "+f)
		}
	}
	return out
}

func anyHub(t *rapid.T, name string) incident.Values {
	draw := func(f incident.Field, words []string) string {
		return rapid.SampledFrom(words).Draw(t, name+" "+string(f))
	}
	return incident.Values{
		incident.FieldTitle: draw(incident.FieldTitle, texts), incident.FieldDescription: "x",
		incident.FieldResolution: draw(incident.FieldResolution, texts), incident.FieldState: draw(incident.FieldState, incident.StateValues()),
		incident.FieldPriority: draw(incident.FieldPriority, []string{"NONE", "P1", "P2", "P3", "P4", "P5"}),
		incident.FieldCategory: draw(incident.FieldCategory, append(incident.DefaultCategories(), "", "Phones")),
	}
}

// anyInput draws a link in any condition: bases that agree with something, that name half of the words, or that are missing.
func anyInput(t *rapid.T, m *mapping.Mapping) merge.Input {
	old, oldTicket := anyHub(t, "base"), anyTicket(t, m, "base")
	in := merge.Input{Base: map[incident.Field]merge.Base{}, Hub: anyHub(t, "hub"), ParkedNow: map[incident.Field]string{}}
	remote := anyTicket(t, m, "remote")
	oldReading := m.Read(oldTicket)
	pending, rulings, refuses, writable := map[incident.Field]bool{}, map[incident.Field]mapping.Ruling{}, map[incident.Field]bool{}, map[incident.Field]bool{}
	setAt := map[incident.Field]time.Time{}
	in.Standing, in.Undecided = map[incident.Field]merge.Standing{}, map[incident.Field]merge.Conflict{}
	in.Mapping, in.Now, in.RemoteAt = "v2", someTime, anyTime(t, "the ticket changed")
	for _, f := range incident.Fields() {
		words, read := oldReading.Words[f]
		switch kind := rapid.SampledFrom([]string{"none", "agreed", "differs", "hub unchanged", "both unchanged"}).Draw(t, string(f)); {
		case !read || kind == "none":
		case kind == "agreed":
			if r, ok := oldReading.Values[f]; ok {
				in.Base[f] = merge.Base{Hub: r.Value, Vendor: words}
			}
		case kind == "differs":
			in.Base[f] = merge.Base{Hub: old[f], Vendor: words}
		case kind == "hub unchanged":
			in.Base[f] = merge.Base{Hub: in.Hub[f], Vendor: words}
		default:
			in.Base[f] = merge.Base{Hub: in.Hub[f], Vendor: words}
			maps.Copy(remote, words)
		}
		pending[f] = rapid.Bool().Draw(t, "pending "+string(f))
		rulings[f] = anyRuling(t, f)
		setAt[f] = anyTime(t, "the hub set "+string(f))
		writable[f] = rapid.Bool().Draw(t, "writable "+string(f))
		refuses[f] = rapid.IntRange(0, 5).Draw(t, "refuses "+string(f)) == 0
		if rapid.IntRange(0, 3).Draw(t, "parked "+string(f)) == 0 {
			in.ParkedNow[f] = "some reason"
			in.Standing[f] = merge.Standing{
				Mapping: rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "parked by"),
				Held:    rapid.SampledFrom([]merge.Hold{merge.Unheld, merge.Unheld, merge.Stopped, merge.Review, merge.Withheld}).Draw(t, "held"),
			}
			if in.Standing[f].Held == merge.Review {
				in.Undecided[f] = merge.Conflict{Field: f, Hub: in.Hub[f], Remote: "as it was"}
			}
		}
	}
	in.Remote = m.Read(remote)
	in.Ruling = func(f incident.Field) mapping.Ruling { return rulings[f] }
	in.Pending = func(f incident.Field) bool { return pending[f] }
	in.SetAt = func(f incident.Field) time.Time { return setAt[f] }
	in.Writable = func(f incident.Field) bool { return writable[f] }
	in.Accepts = func(f incident.Field, _ string) error {
		if refuses[f] {
			return errors.New("not from here")
		}
		return nil
	}
	return in
}

var someTime = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// anyTime draws times that lie close together and far apart, and now and then one that nobody knows.
func anyTime(t *rapid.T, name string) time.Time {
	apart := rapid.SampledFrom([]time.Duration{-time.Hour, -2 * time.Minute, -time.Minute, 0, time.Second, 2 * time.Minute, 3 * time.Minute, time.Hour, 1}).Draw(t, name)
	if apart == 1 {
		return time.Time{}
	}
	return someTime.Add(apart)
}

func anyRuling(t *rapid.T, f incident.Field) mapping.Ruling {
	r := mapping.Ruling{
		Policy: rapid.SampledFrom([]mapping.Policy{mapping.PolicyHub, mapping.PolicyVendor, mapping.PolicyLatest, mapping.PolicyReview}).Draw(t, "policy "+string(f)),
		Owner:  rapid.SampledFrom([]merge.Owner{merge.Hub, merge.Vendor}).Draw(t, "owner "+string(f)), Skew: 2 * time.Minute,
	}
	switch {
	case r.Policy == mapping.PolicyHub || r.Policy == mapping.PolicyVendor:
		r.Owner = merge.Owner(r.Policy)
	case r.Policy == mapping.PolicyLatest && f == incident.FieldState:
		r.Policy = mapping.PolicyLifecycle
	}
	return r
}

func eachVendor(t *testing.T, property func(t *rapid.T, m *mapping.Mapping)) {
	t.Parallel()
	for _, connector := range []string{"servicenow", "requesttracker"} {
		m := vendorMapping(t, connector)
		t.Run(connector, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) { property(t, m) })
		})
	}
}

// Whatever the hub takes came out of the mapping of what the vendor holds, and is what the base then says.
func TestNeverInventsAValue(t *testing.T) {
	eachVendor(t, func(t *rapid.T, m *mapping.Mapping) {
		in := anyInput(t, m)
		out := merge.Merge(in)
		for f, v := range out.Take {
			if r, understood := in.Remote.Values[f]; !understood || r.Value != v {
				t.Fatalf("%s: %q is taken, the vendor holds %v", f, v, in.Remote.Words[f])
			}
			if out.Agreed[f].Hub != v {
				t.Fatalf("%s: %q is taken, the base says %q", f, v, out.Agreed[f].Hub)
			}
		}
		for f, b := range out.Agreed {
			if !maps.Equal(b.Vendor, in.Remote.Words[f]) {
				t.Fatalf("%s: the base says %v, the vendor holds %v", f, b.Vendor, in.Remote.Words[f])
			}
			known := []string{in.Hub[f], in.Base[f].Hub, in.Remote.Values[f].Value}
			if !slices.Contains(known, b.Hub) {
				t.Fatalf("%s: the base says %q, which nobody said", f, b.Hub)
			}
		}
	})
}

// The same news with the new base decides nothing.
func TestIdempotent(t *testing.T) {
	eachVendor(t, func(t *rapid.T, m *mapping.Mapping) {
		in := anyInput(t, m)
		out := merge.Merge(in)
		again := merge.Merge(after(in, out))
		want := merge.Outcome{Parked: out.Parked, Standing: out.Standing}
		if diff := cmp.Diff(want, again, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("first %+v\nthen (-nothing +got):\n%s", out, diff)
		}
	})
}

// after is the link once the outcome was stored.
func after(in merge.Input, out merge.Outcome) merge.Input {
	next := in
	next.Hub, next.Base = in.Hub.Clone(), maps.Clone(in.Base)
	maps.Copy(next.Hub, out.Take)
	maps.Copy(next.Base, out.Agreed)
	next.ParkedNow, next.Standing, next.Undecided = out.Parked, out.Standing, maps.Clone(in.Undecided)
	for _, c := range out.Conflicts {
		if c.Winner == "" {
			next.Undecided[c.Field] = c
		}
	}
	next.Pending = func(f incident.Field) bool { return slices.Contains(out.Push, f) || in.Pending(f) }
	return next
}

// Neither side's change vanishes: it stands, or it is in a conflict, or its field is parked.
func TestTheLoserIsAlwaysReported(t *testing.T) {
	eachVendor(t, func(t *rapid.T, m *mapping.Mapping) {
		in := anyInput(t, m)
		out := merge.Merge(in)
		conflicts := map[incident.Field]merge.Conflict{}
		for _, c := range out.Conflicts {
			if _, twice := conflicts[c.Field]; twice {
				t.Fatalf("%s conflicts twice", c.Field)
			}
			conflicts[c.Field] = c
			if c.Hub != in.Hub[c.Field] || c.Remote != in.Remote.Values[c.Field].Value || c.Base != in.Base[c.Field].Hub || c.Rule == "" || c.Hub == c.Remote {
				t.Fatalf("conflict %+v does not tell what happened", c)
			}
			if _, taken := out.Take[c.Field]; taken != (c.Winner == merge.Vendor) {
				t.Fatalf("%s: winner %s, taken %v", c.Field, c.Winner, taken)
			}
			if policy := in.Ruling(c.Field).Policy; c.Winner == merge.Vendor && policy == mapping.PolicyHub {
				t.Fatalf("%s: the vendor wins what the hub owns", c.Field)
			} else if (c.Winner == "") != (c.Policy == mapping.PolicyReview) {
				t.Fatalf("%s: winner %q under policy %s", c.Field, c.Winner, c.Policy)
			}
			withheld := out.Standing[c.Field].Held == merge.Withheld
			if pushed := slices.Contains(out.Push, c.Field); pushed != (c.Winner == merge.Hub && !in.Pending(c.Field) && !withheld) {
				t.Fatalf("%s: winner %q, pending %v, pushed %v", c.Field, c.Winner, in.Pending(c.Field), pushed)
			}
		}
		for f, r := range in.Remote.Values {
			b, hasBase := in.Base[f]
			_, conflict := conflicts[f]
			v, taken := out.Take[f]
			if taken && in.Hub[f] != b.Hub && in.Hub[f] != v && !conflict {
				t.Fatalf("%s: the hub's change to %q is overwritten with %q in silence", f, in.Hub[f], v)
			}
			changed := hasBase && !maps.Equal(b.Vendor, r.Words) && !r.Means(b.Hub) && !r.Means(in.Hub[f])
			if _, parked := out.Parked[f]; changed && !taken && !conflict && !parked {
				t.Fatalf("%s: the vendor's change to %v is dropped in silence", f, r.Words)
			}
		}
	})
}

// Every field is weighed by itself: one at a time, in any order, comes to the same.
func TestFieldsAreIndependent(t *testing.T) {
	eachVendor(t, func(t *rapid.T, m *mapping.Mapping) {
		in := anyInput(t, m)
		whole := merge.Merge(in)
		sum := merge.Outcome{Take: incident.Values{}, Agreed: map[incident.Field]merge.Base{}, Parked: map[incident.Field]string{}, Standing: map[incident.Field]merge.Standing{}}
		for _, f := range rapid.Permutation(incident.Fields()).Draw(t, "order") {
			one := in
			one.Hub = incident.Values{}
			one.ParkedNow, one.Standing = map[incident.Field]string{}, map[incident.Field]merge.Standing{}
			if s, ok := in.Standing[f]; ok {
				one.Standing[f] = s
			}
			if v, ok := in.Hub[f]; ok {
				one.Hub[f] = v
			}
			if reason, ok := in.ParkedNow[f]; ok {
				one.ParkedNow[f] = reason
			}
			out := merge.Merge(one)
			maps.Copy(sum.Take, out.Take)
			maps.Copy(sum.Agreed, out.Agreed)
			maps.Copy(sum.Parked, out.Parked)
			sum.Conflicts = append(sum.Conflicts, out.Conflicts...)
			sum.Freed = append(sum.Freed, out.Freed...)
			sum.Push = append(sum.Push, out.Push...)
			sum.Settled = append(sum.Settled, out.Settled...)
			sum.Stopped = append(sum.Stopped, out.Stopped...)
			sum.Echoes += out.Echoes
			maps.Copy(sum.Standing, out.Standing)
		}
		byName := cmpopts.SortSlices(func(a, b incident.Field) bool { return a < b })
		byField := cmpopts.SortSlices(func(a, b merge.Conflict) bool { return a.Field < b.Field })
		if diff := cmp.Diff(whole, sum, cmpopts.EquateEmpty(), byName, byField); diff != "" {
			t.Fatalf("(-whole +one by one):\n%s", diff)
		}
	})
}

// vendor is a ticket system that behaves as the documents say: it cuts, trims, computes and clears.
type vendor struct {
	fields connectors.Fields
	rules  func(before, after connectors.Fields)
}

func (v *vendor) update(words connectors.Fields) {
	before := maps.Clone(v.fields)
	maps.Copy(v.fields, words)
	v.rules(before, v.fields)
}

func serviceNow() *vendor {
	v := &vendor{fields: connectors.Fields{"state": "1", "hold_reason": "", "priority": "5", "impact": "3", "urgency": "3", "category": "inquiry", "short_description": "", "close_notes": ""}}
	v.rules = func(before, after connectors.Fields) {
		if before["state"] == "3" && after["state"] != "3" {
			after["hold_reason"] = ""
		}
		after["priority"] = fmt.Sprint(int(after["impact"][0]-'0') + int(after["urgency"][0]-'0') - 1) // the table of section 8
		after["short_description"] = normal(after["short_description"], 160)
	}
	return v
}

func requestTracker() *vendor {
	v := &vendor{fields: connectors.Fields{"Status": "new", "Priority": "0", "Subject": ""}}
	v.rules = func(_, after connectors.Fields) {
		after["Subject"] = normal(strings.NewReplacer("\r", "", "\n", " ").Replace(after["Subject"]), 200)
	}
	return v
}

// normal is the form in which a vendor keeps a text: no markup, no blanks at the ends, cut.
func normal(s string, most int) string {
	s = strings.TrimRight(strings.NewReplacer("<b>", "", "</b>", "", "\r\n", "\n").Replace(s), " \n")
	for len([]rune(s)) > most {
		s = string([]rune(s)[:most])
	}
	return s
}

// link is one incident and one ticket with everything between them, on a lane without faults.
type link struct {
	m       *mapping.Mapping
	v       *vendor
	hub     incident.Values
	base    map[incident.Field]merge.Base
	parked  map[incident.Field]string
	ruling  func(incident.Field) mapping.Ruling
	stands  map[incident.Field]merge.Standing
	waiting []incident.Values // deliveries, in order
	open    map[incident.Field]merge.Conflict
	writes  int
	lost    []string // conflicts' losers, for the final account
}

// edit is a person changing fields in the hub.
func (l *link) edit(values incident.Values) {
	maps.Copy(l.hub, values)
	l.waiting = append(l.waiting, values.Clone())
}

// deliver sends the first delivery and settles it.
func (l *link) deliver() {
	values := l.waiting[0]
	l.waiting = l.waiting[1:]
	for f := range l.open {
		delete(values, f) // a person has yet to decide
	}
	w := l.m.Write(values, l.hub)
	if words := w.Fields(); len(words) > 0 {
		l.writes++
		l.v.update(words)
	}
	s := merge.Settle(l.m, l.base, w, l.v.fields)
	l.settle(s.Agreed, w.Parked, s.Overruled)
}

func (l *link) settle(agreed map[incident.Field]merge.Base, parked ...map[incident.Field]string) {
	maps.Copy(l.base, agreed)
	for f := range agreed {
		delete(l.parked, f)
	}
	for _, p := range parked {
		maps.Copy(l.parked, p)
	}
}

// poll reads the ticket and merges it.
func (l *link) poll() merge.Outcome {
	out := merge.Merge(merge.Input{Base: l.base, Hub: l.hub, Remote: l.m.Read(l.v.fields), Ruling: l.ruling, ParkedNow: l.parked, Pending: l.pending, Standing: l.stands, Undecided: l.open, SetAt: l.never})
	maps.Copy(l.hub, out.Take)
	for f := range out.Take {
		for _, values := range l.waiting {
			delete(values, f)
		}
	}
	maps.Copy(l.base, out.Agreed)
	l.parked = out.Parked
	l.stands = out.Standing
	for _, c := range out.Conflicts {
		if c.Winner == "" {
			l.open[c.Field] = c
			continue
		}
		l.lost = append(l.lost, string(c.Field)+"="+c.Loser())
	}
	for _, f := range out.Settled {
		delete(l.open, f)
	}
	if len(out.Push) > 0 {
		values := incident.Values{}
		for _, f := range out.Push {
			values[f] = l.hub[f]
		}
		l.waiting = append(l.waiting, values)
	}
	return out
}

func (l *link) never(incident.Field) time.Time { return time.Time{} }

// decide is a person picking a side in every conflict that waits, as the ledger carries it out.
func (l *link) decide(t *rapid.T) {
	for _, f := range slices.Sorted(maps.Keys(l.open)) {
		delete(l.parked, f)
		merge.Keep(l.stands, f, l.stands[f].Free())
		if rapid.Bool().Draw(t, "the hub's "+string(f)) {
			l.waiting = append(l.waiting, incident.Values{f: l.hub[f]})
		} else {
			l.hub[f] = l.open[f].Remote
			l.base[f] = merge.Base{Hub: l.hub[f], Vendor: l.base[f].Vendor}
		}
		delete(l.open, f)
	}
}

func (l *link) pending(f incident.Field) bool {
	return slices.ContainsFunc(l.waiting, func(v incident.Values) bool { _, waits := v[f]; return waits })
}

func newLink(t *rapid.T, m *mapping.Mapping) *link {
	l := &link{
		m: m, v: serviceNow(), hub: incident.Values{}, base: map[incident.Field]merge.Base{}, parked: map[incident.Field]string{},
		ruling: m.Ruling, stands: map[incident.Field]merge.Standing{}, open: map[incident.Field]merge.Conflict{},
	}
	if m.Vendor() != "ServiceNow" {
		l.v = requestTracker()
	}
	l.edit(anyHub(t, "created"))
	l.deliver()
	return l
}

// What we wrote comes back and is nothing, whatever the vendor made of it that is not a change.
func TestEchoFree(t *testing.T) {
	eachVendor(t, func(t *rapid.T, m *mapping.Mapping) {
		l := newLink(t, m)
		for range rapid.IntRange(0, 4).Draw(t, "edits") {
			l.edit(anyHub(t, "edit"))
			l.deliver()
		}
		before := l.hub.Clone()
		for range 3 {
			out := l.poll()
			if len(out.Take)+len(out.Conflicts)+len(out.Push)+len(out.Freed) > 0 {
				t.Fatalf("our own write comes back: %+v\nticket %v\nbase %v", out, l.v.fields, l.base)
			}
		}
		if diff := cmp.Diff(before, l.hub); diff != "" {
			t.Fatalf("the incident changed (-before +after):\n%s", diff)
		}
	})
}

// Both sides change as they like, polls and deliveries come in any order; then both fall silent. They agree within a few rounds,
// field by field, or the field is parked; no vendor's change is missing; and nobody goes on writing.
func TestConverges(t *testing.T) {
	eachVendor(t, func(t *rapid.T, m *mapping.Mapping) {
		l := newLink(t, m)
		if rapid.Bool().Draw(t, "policies of its own") {
			rulings := map[incident.Field]mapping.Ruling{}
			for _, f := range incident.Fields() {
				rulings[f] = anyRuling(t, f)
			}
			l.ruling = func(f incident.Field) mapping.Ruling { return rulings[f] }
		}
		markup := rapid.SampledFrom([]string{"plain", "<b>bold</b> and more than twenty letters", "x", "y "})
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"hub", "vendor", "deliver", "poll"}).Draw(t, "step") {
			case "hub":
				v := anyHub(t, "edit")
				v[incident.FieldTitle] = markup.Draw(t, "title")
				for _, f := range incident.Fields() {
					if _, there := v[f]; there && rapid.Bool().Draw(t, "leaves "+string(f)) {
						delete(v, f)
					}
				}
				l.edit(v)
			case "vendor":
				words := anyTicket(t, m, "agent")
				for _, f := range slices.Sorted(maps.Keys(words)) {
					if rapid.Bool().Draw(t, "agent leaves "+f) || f == "priority" {
						delete(words, f)
					}
				}
				l.v.update(words)
			case "deliver":
				if len(l.waiting) > 0 {
					l.deliver()
				}
			case "poll":
				l.poll()
			}
		}
		for round := range 8 { // silence: what still travels arrives
			for len(l.waiting) > 0 {
				l.deliver()
			}
			l.poll()
			if round == 3 {
				l.decide(t)
			}
		}
		for len(l.waiting) > 0 {
			l.deliver()
		}
		writes := l.writes
		for range 4 {
			if out := l.poll(); len(out.Take)+len(out.Conflicts)+len(out.Push) > 0 {
				t.Fatalf("never silent: %+v\nticket %v", out, l.v.fields)
			}
			for len(l.waiting) > 0 {
				l.deliver()
			}
		}
		if l.writes != writes {
			t.Fatalf("%d writes go on", l.writes-writes)
		}
		reading := m.Read(l.v.fields)
		for f, r := range reading.Values {
			if _, parked := l.parked[f]; parked || r.Means(l.hub[f]) {
				continue
			}
			if _, travels := m.Write(incident.Values{f: l.hub[f]}, l.hub).Words[f]; !travels || f == incident.FieldResolution {
				continue // we have no word for it, or it goes out only when the hub resolves
			}
			if b := l.base[f]; isText(f) && b.Hub == l.hub[f] && maps.Equal(b.Vendor, r.Words) {
				continue // the vendor's form of our text
			}
			t.Fatalf("%s: the hub has %q, the vendor %v, base %+v", f, l.hub[f], r.Words, l.base[f])
		}
	})
}

func isText(f incident.Field) bool {
	return f == incident.FieldTitle || f == incident.FieldResolution
}

// Two pieces of news about different fields come to the same in whichever order they are read, and read at once.
func TestArrivalsCommute(t *testing.T) {
	eachVendor(t, func(t *rapid.T, m *mapping.Mapping) {
		in := anyInput(t, m)
		then := anyTicket(t, m, "later")
		fields := slices.Sorted(maps.Keys(in.Remote.Words))
		if len(fields) < 2 {
			return
		}
		one := rapid.SampledFrom(fields).Draw(t, "one")
		other := rapid.SampledFrom(fields).Draw(t, "other")
		start := connectors.Fields{}
		for _, words := range in.Remote.Words {
			maps.Copy(start, words)
		}
		with := func(changed ...incident.Field) mapping.Reading {
			now := maps.Clone(start)
			for _, f := range changed {
				if words, read := m.WordsOf(f, then); read {
					maps.Copy(now, words)
				}
			}
			return m.Read(now)
		}
		in.Bounce = mapping.Bounce{} // what is counted depends on how often somebody looks
		come := func(readings ...mapping.Reading) (end merge.Input, lost []string) {
			end = in
			end.Remote = with()
			end = after(end, merge.Merge(end))
			for _, r := range readings {
				end.Remote = r
				out := merge.Merge(end)
				for _, c := range out.Conflicts {
					lost = append(lost, fmt.Sprint(c.Field, c.Winner, c.Loser()))
				}
				end = after(end, out)
			}
			slices.Sort(lost)
			return end, lost
		}
		first, lostFirst := come(with(one), with(one, other))
		second, lostSecond := come(with(other), with(one, other))
		both, lostBoth := come(with(one, other))
		for name, end := range map[string]merge.Input{"the other order": second, "both at once": both} {
			if diff := cmp.Diff(first.Hub, end.Hub); diff != "" {
				t.Fatalf("%s: the hub (-first +other):\n%s", name, diff)
			}
			if diff := cmp.Diff(first.Base, end.Base); diff != "" {
				t.Fatalf("%s: the base (-first +other):\n%s", name, diff)
			}
			if diff := cmp.Diff(first.ParkedNow, end.ParkedNow, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%s: parked (-first +other):\n%s", name, diff)
			}
		}
		if !slices.Equal(lostFirst, lostSecond) || !slices.Equal(lostFirst, lostBoth) {
			t.Fatalf("conflicts: %v, %v, %v", lostFirst, lostSecond, lostBoth)
		}
	})
}

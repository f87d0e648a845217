package servicenowtest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// States of an incident in the base system.
const (
	stateNew        = "1"
	stateInProgress = "2"
	stateOnHold     = "3"
	stateResolved   = "6"
	stateClosed     = "7"
	stateCanceled   = "8"

	holdCaller       = "1"
	legacyHoldCaller = "4" // a state of upgraded instances: Awaiting User Info
)

// save is one write to an incident on its way through the business rules.
type save struct {
	old, new *row // old is nil on insert
	in       change
}

func (w *save) was(col string) string {
	if w.old == nil {
		return ""
	}
	return w.old.vals[col]
}

func (w *save) is(col string) string    { return w.new.vals[col] }
func (w *save) set(col, v string)       { w.new.vals[col] = v }
func (w *save) changed(col string) bool { return w.was(col) != w.is(col) }
func (w *save) sent(col string) bool    { _, ok := w.in.fields[col]; return ok }
func (w *save) enters(states string) bool {
	return w.changed("state") && isOneOf(w.is("state"), states)
}

// isOneOf tells whether a state is one of the one-digit states.
func isOneOf(state, states string) bool { return len(state) == 1 && strings.Contains(states, state) }

// saveIncident runs the rules of section 8 and stores the outcome. Its errors are *apiError.
func (t *tx) saveIncident(old, r *row, in change) (*row, error) {
	w := &save{old: old, new: r, in: in}
	if keep, err := t.guardClosed(w); keep || err != nil {
		return old, err
	}
	t.twinState(w)
	t.guardReopen(w)
	t.callerReply(w)
	t.leaveHold(w)
	t.lookUpPriority(w)
	t.finish(w)
	t.reopen(w)
	t.reassign(w)
	if err := t.dataPolicies(w); err != nil {
		return nil, err
	}
	if err := t.customerRules(w); err != nil {
		return nil, err
	}
	w.set("incident_state", w.is("state"))
	if old != nil && len(in.journals) == 0 && sameValues(old, r) {
		return old, nil
	}
	t.storeIncident(w)
	return r, nil
}

func (t *tx) storeIncident(w *save) {
	operation := "insert"
	if w.old != nil {
		operation = "update"
		t.stampUpdate(w.new)
	}
	t.put(w.new)
	t.writeJournals(w.new, w.in.journals)
	t.events = append(t.events, event{operation: operation, row: w.new, journals: w.in.journals, plain: w.old == nil || t.fieldsMoved(w)})
	t.busy[w.new.id()] = true
	t.countChildren(w)
	t.leadChildren(w)
}

// fieldsMoved tells whether more than the journal changed.
func (t *tx) fieldsMoved(w *save) bool {
	for k, v := range w.new.vals {
		if w.old.vals[k] != v && !strings.HasPrefix(k, "sys_") {
			return true
		}
	}
	return false
}

// guardClosed keeps closed and cancelled records from everyone but administrators.
func (t *tx) guardClosed(w *save) (keep bool, err error) {
	if w.old == nil || !isOneOf(w.was("state"), stateClosed+stateCanceled) || t.who.admin {
		return false, nil
	}
	switch t.s.cfg.Closed {
	case ClosedAllow:
		return false, nil
	case ClosedDrop:
		return true, nil
	default:
		return false, abortedBy("Closed incidents are read only")
	}
}

// guardReopen keeps a closed incident closed, for administrators too: a reply makes a new incident instead.
func (t *tx) guardReopen(w *save) {
	if w.old != nil && isOneOf(w.was("state"), stateClosed+stateCanceled) {
		w.set("state", w.was("state"))
	}
}

func abortedBy(rule string) error {
	return &apiError{status: 403, message: "Operation Failed", detail: fmt.Sprintf(
		"Operation against file 'incident' was aborted by Business Rule '%s^%s'. Business Rule Stack:%s", rule, fixedID("sys_script", rule), rule)}
}

// twinState lets a write to the older incident_state move state.
func (t *tx) twinState(w *save) {
	if w.sent("incident_state") && (!w.sent("state") || !w.changed("state")) && w.changed("incident_state") {
		w.set("state", w.is("incident_state"))
	}
}

// awaitsCaller tells whether a record waits for its caller.
func (t *tx) awaitsCaller(r *row) bool {
	if r == nil {
		return false
	}
	if t.s.cfg.LegacyStates {
		return r.vals["state"] == legacyHoldCaller
	}
	return r.vals["state"] == stateOnHold && r.vals["hold_reason"] == holdCaller
}

// callerReply sends an incident back to work when its caller comments while it awaits the caller.
func (t *tx) callerReply(w *save) {
	if t.awaitsCaller(w.old) && w.in.text("comments") != "" && t.who.id == w.is("caller_id") && !w.changed("state") {
		w.set("state", stateInProgress)
	}
}

func (t *tx) leaveHold(w *save) {
	if w.is("state") != stateOnHold && w.was("state") == stateOnHold {
		w.set("hold_reason", "")
	}
}

// lookUpPriority computes priority from impact and urgency; what a client wrote has no effect.
func (t *tx) lookUpPriority(w *save) {
	impact, _ := strconv.Atoi(w.is("impact"))
	urgency, _ := strconv.Atoi(w.is("urgency"))
	if impact >= 1 && impact <= 3 && urgency >= 1 && urgency <= 3 {
		w.set("priority", strconv.Itoa(impact+urgency-1))
	} else if w.old != nil {
		w.set("priority", w.was("priority"))
	}
}

// finish fills what resolving and closing leave behind.
func (t *tx) finish(w *save) {
	if w.enters(stateResolved) {
		w.set("resolved_at", t.stamp)
		w.set("resolved_by", t.who.id)
	}
	if w.enters(stateClosed + stateCanceled) {
		w.set("closed_at", t.stamp)
		w.set("closed_by", t.who.id)
	}
	w.set("active", strconv.FormatBool(!isOneOf(w.is("state"), stateClosed+stateCanceled)))
}

func (t *tx) reopen(w *save) {
	if w.was("state") != stateResolved || isOneOf(w.is("state"), stateResolved+stateClosed+stateCanceled) {
		return
	}
	w.set("reopen_count", plusOne(w.is("reopen_count")))
	w.set("reopened_by", t.who.id)
	w.set("reopened_time", t.stamp)
}

func plusOne(n string) string {
	v, _ := strconv.Atoi(n)
	return strconv.Itoa(v + 1)
}

func (t *tx) reassign(w *save) {
	if w.was("assignment_group") != "" && w.changed("assignment_group") {
		w.set("reassignment_count", plusOne(w.is("reassignment_count")))
	}
	user, group := w.is("assigned_to"), w.is("assignment_group")
	if !t.s.cfg.ClearNonMembers || user == "" || group == "" {
		return
	}
	for _, m := range t.s.db.all("sys_user_grmember") {
		if m.vals["user"] == user && m.vals["group"] == group {
			return
		}
	}
	w.set("assigned_to", "")
}

// dataPolicies refuse a save that lacks mandatory fields, naming their labels.
func (t *tx) dataPolicies(w *save) error {
	var missing []string
	need := func(when bool, cols ...string) {
		for _, c := range cols {
			if when && w.is(c) == "" {
				missing = append(missing, columnLabel(c))
			}
		}
	}
	need(!t.s.cfg.NoDataPolicy && isOneOf(w.is("state"), stateResolved+stateClosed), "close_code", "close_notes")
	need(t.s.cfg.RequireCaller, "caller_id")
	need(t.s.cfg.RequireHoldReason && !t.s.cfg.LegacyStates && w.is("state") == stateOnHold, "hold_reason")
	if t.s.cfg.RequireHoldComment && t.awaitsCaller(w.new) && !t.awaitsCaller(w.old) && w.in.text("comments") == "" {
		missing = append(missing, columnLabel("comments"))
	}
	if len(missing) == 0 {
		return nil
	}
	return &apiError{
		status: 403, message: "Operation Failed",
		detail: "Data Policy Exception: The following fields are mandatory: " + strings.Join(missing, ", "),
	}
}

// customerRules are the abort and reset rules of the switches.
func (t *tx) customerRules(w *save) error {
	for _, r := range t.s.cfg.AbortRules {
		if t.s.matches(r.When, w.new, t.who) {
			return abortedBy(r.Name)
		}
	}
	for _, r := range t.s.cfg.ResetRules {
		if w.old != nil && t.s.matches(r.When, w.new, t.who) {
			w.set(r.Field, w.was(r.Field))
		}
	}
	return nil
}

// countChildren keeps child_incidents of old and new parent, without touching their stamps.
func (t *tx) countChildren(w *save) {
	if !w.changed("parent_incident") {
		return
	}
	for id, by := range map[string]int{w.was("parent_incident"): -1, w.is("parent_incident"): 1} {
		if p := t.get("incident", id); p != nil {
			n, _ := strconv.Atoi(p.vals["child_incidents"])
			t.put(p.with(map[string]string{"child_incidents": strconv.Itoa(max(0, n+by))}))
		}
	}
}

// leadChildren carries a parent's resolution or hold over to its open children; closing it does not.
func (t *tx) leadChildren(w *save) {
	resolves := w.enters(stateResolved)
	holds := w.enters(stateOnHold) && w.is("hold_reason") != holdCaller && !t.s.cfg.LegacyStates
	if !resolves && !holds {
		return
	}
	for _, child := range t.s.db.all("incident") {
		child = t.get("incident", child.id())
		if child == nil || child.vals["parent_incident"] != w.new.id() || t.busy[child.id()] || !isOneOf(child.vals["state"], "12345") {
			continue
		}
		in := change{fields: map[string]string{"state": w.is("state")}}
		if resolves {
			maps.Copy(in.fields, map[string]string{"close_code": w.is("close_code"), "close_notes": w.is("close_notes")})
			in.journals = slices.Clone(w.in.journals)
		} else {
			in.fields["hold_reason"] = w.is("hold_reason")
		}
		// A child whose own rules refuse stays as it is; the parent's save stands.
		_, _ = t.saveIncident(child, child.with(in.fields), in)
	}
}

// closeStale moves incidents resolved long enough ago to closed, as the platform's nightly job does.
func (s *Server) closeStale() error {
	after := s.cfg.AutoClose
	if after <= 0 {
		return nil
	}
	t := s.begin(s.person("system"))
	t.who.admin = true
	limit := t.now.Add(-after).Format(stampLayout)
	for _, r := range s.db.all("incident") {
		if r.vals["state"] != stateResolved || r.vals["resolved_at"] > limit {
			continue
		}
		in := change{fields: map[string]string{"state": stateClosed}}
		_, _ = t.update(r, in) // one that a rule refuses waits for the next run
	}
	return t.commit()
}

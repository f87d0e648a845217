package incident

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Field names a part of an incident that can differ between the hub and a vendor.
type Field string

// The fields that travel. FieldState carries the hold reason with it, because vendors write both at once.
const (
	FieldTitle       Field = "title"
	FieldDescription Field = "description"
	FieldState       Field = "state" // "IN_PROGRESS", "ON_HOLD/AWAITING_VENDOR"
	FieldDeferredTo  Field = "deferredTo"
	FieldResolution  Field = "resolution"
	FieldPriority    Field = "priority"
	FieldImpact      Field = "impact"
	FieldUrgency     Field = "urgency"
	FieldCategory    Field = "category"
	FieldService     Field = "service"
	FieldTeam        Field = "team"
	FieldAssignee    Field = "assignee"
	FieldContact     Field = "contact" // "name\nphone\nemail"
)

// Fields lists every field that travels, in the order in which changes are told.
func Fields() []Field {
	return []Field{
		FieldTitle, FieldDescription, FieldState, FieldDeferredTo, FieldResolution, FieldPriority, FieldImpact,
		FieldUrgency, FieldCategory, FieldService, FieldTeam, FieldAssignee, FieldContact,
	}
}

// Valid reports whether f is one of the fields.
func (f Field) Valid() bool { return slices.Contains(Fields(), f) }

// Values holds field values in the hub's words. An absent key means "not spoken of"; an empty value means
// "none". Times are RFC 3339 in UTC.
type Values map[Field]string

// Clone returns a copy that shares nothing.
func (v Values) Clone() Values {
	out := make(Values, len(v))
	for f, s := range v {
		out[f] = s
	}
	return out
}

// StateValue writes a state and its hold reason as one value, such as "ON_HOLD/AWAITING_VENDOR".
func StateValue(s State, r HoldReason) string {
	if s == OnHold && r != "" {
		return string(s) + "/" + string(r)
	}
	return string(s)
}

// ParseStateValue reads what StateValue wrote. "ON_HOLD" alone is a hold whose reason nobody gave.
func ParseStateValue(v string) (State, HoldReason, error) {
	s, r, held := strings.Cut(v, "/")
	state, reason := State(s), HoldReason(r)
	if !state.Valid() {
		return "", "", badInput("state", fmt.Sprintf("%q is no state", s), "use one of "+list(States()))
	}
	if held && (state != OnHold || !reason.Valid()) {
		return "", "", badInput("state", fmt.Sprintf("%q is no state with a hold reason", v), "use ON_HOLD/ and one of "+list(HoldReasons()))
	}
	return state, reason, nil
}

// StateValues lists every value that FieldState can take, ON_HOLD once for each reason and once without.
func StateValues() []string {
	var out []string
	for _, s := range States() {
		out = append(out, string(s))
		if s == OnHold {
			for _, r := range HoldReasons() {
				out = append(out, StateValue(s, r))
			}
		}
	}
	return out
}

// Values returns the incident's travelling fields.
func (i Incident) Values() Values {
	v := Values{
		FieldTitle: i.Title, FieldDescription: i.Description, FieldState: StateValue(i.State, i.HoldReason),
		FieldDeferredTo: "", FieldResolution: i.Resolution, FieldPriority: string(i.Priority), FieldImpact: string(i.Impact),
		FieldUrgency: string(i.Urgency), FieldCategory: i.Category, FieldService: i.Service, FieldTeam: i.Team,
		FieldAssignee: i.Assignee, FieldContact: strings.Join([]string{i.Contact.Name, i.Contact.Phone, i.Contact.Email}, "\n"),
	}
	if !i.DeferredTo.IsZero() {
		v[FieldDeferredTo] = i.DeferredTo.UTC().Format(time.RFC3339Nano)
	}
	return v
}

// Changed lists the fields in which after differs from before, in the order of Fields.
func Changed(before, after Values) []Field {
	var out []Field
	for _, f := range Fields() {
		if before[f] != after[f] {
			out = append(out, f)
		}
	}
	return out
}

// Take applies values that a vendor reports as facts. The state follows Follow; everything else is set as
// it is. Fields that the lifecycle refuses are returned with their reasons and left as they were.
func (i Incident) Take(v Values, now time.Time) (Incident, map[Field]error) {
	refused := map[Field]error{}
	for _, f := range Fields() {
		value, spoken := v[f]
		if !spoken {
			continue
		}
		if err := i.take(f, value, v, now); err != nil {
			refused[f] = err
		}
	}
	return i, refused
}

func (i *Incident) take(f Field, value string, all Values, now time.Time) error {
	switch f {
	case FieldState:
		return i.takeState(value, all[FieldDeferredTo], now)
	case FieldDeferredTo: // taken with the state
	case FieldTitle:
		i.Title = value
	case FieldDescription:
		i.Description = value
	case FieldResolution:
		i.Resolution = value
	case FieldPriority:
		if !Priority(value).Valid() {
			return badInput(string(f), fmt.Sprintf("%q is no priority", value), "use one of "+list(Priorities()))
		}
		i.Priority = Priority(value)
	case FieldImpact:
		if value != "" && !Impact(value).Valid() {
			return badInput(string(f), fmt.Sprintf("%q is no impact", value), "use one of "+list(Impacts()))
		}
		i.Impact = Impact(value)
	case FieldUrgency:
		if value != "" && !Urgency(value).Valid() {
			return badInput(string(f), fmt.Sprintf("%q is no urgency", value), "use one of "+list(Urgencies()))
		}
		i.Urgency = Urgency(value)
	case FieldCategory:
		i.Category = value
	case FieldService:
		i.Service = value
	case FieldTeam:
		i.Team = value
	case FieldAssignee:
		i.Assignee = value
	case FieldContact:
		return badInput(string(f), "the contact belongs to the organisation", "change it in the hub")
	}
	return nil
}

func (i *Incident) takeState(value, deferredTo string, now time.Time) error {
	state, reason, err := ParseStateValue(value)
	if err != nil {
		return err
	}
	var until time.Time
	if deferredTo != "" {
		if until, err = time.Parse(time.RFC3339Nano, deferredTo); err != nil {
			return badInput(string(FieldDeferredTo), fmt.Sprintf("%q is no time", deferredTo), "use RFC 3339, for example 2030-01-31T09:00:00Z")
		}
	}
	moved, err := i.Follow(Move{To: state, HoldReason: reason, DeferredTo: until}, now)
	if err != nil {
		return err
	}
	*i = moved
	return nil
}

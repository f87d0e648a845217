package model

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
	"liaison/sync/merge"
	"liaison/sync/pulse"
)

// BadValue says what is wrong with a value that a client sent, and what to send instead.
type BadValue struct{ Problem string }

// Error is nil when nothing failed.
func (e *BadValue) Error() string { return e.Problem }

// word writes one of the domain's words as a GraphQL enum value. The empty word is null.
func word[S ~string](s S) graphql.Marshaler {
	if s == "" {
		return graphql.Null
	}
	return graphql.WriterFunc(func(w io.Writer) { io.WriteString(w, strconv.Quote(string(s))) }) //nolint:errcheck // the executor's buffer never fails
}

func parse[S ~string](v any, words []S) (S, error) {
	s, ok := v.(string)
	if !ok || !slices.Contains(words, S(s)) {
		return "", &BadValue{fmt.Sprintf("%.60q is not known; use one of %s", fmt.Sprint(v), list(words))}
	}
	return S(s), nil
}

func list[S ~string](words []S) string {
	out := make([]string, len(words))
	for n, w := range words {
		out[n] = string(w)
	}
	return strings.Join(out, ", ")
}

// MarshalIncidentState writes an IncidentState.
func MarshalIncidentState(v incident.State) graphql.Marshaler { return word(v) }

// UnmarshalIncidentState reads an IncidentState.
func UnmarshalIncidentState(v any) (incident.State, error) { return parse(v, incident.States()) }

// MarshalHoldReason writes a HoldReason.
func MarshalHoldReason(v incident.HoldReason) graphql.Marshaler { return word(v) }

// UnmarshalHoldReason reads a HoldReason.
func UnmarshalHoldReason(v any) (incident.HoldReason, error) { return parse(v, incident.HoldReasons()) }

// MarshalPriority writes a Priority.
func MarshalPriority(v incident.Priority) graphql.Marshaler { return word(v) }

// UnmarshalPriority reads a Priority.
func UnmarshalPriority(v any) (incident.Priority, error) { return parse(v, incident.Priorities()) }

// MarshalImpact writes an Impact.
func MarshalImpact(v incident.Impact) graphql.Marshaler { return word(v) }

// UnmarshalImpact reads an Impact.
func UnmarshalImpact(v any) (incident.Impact, error) { return parse(v, incident.Impacts()) }

// MarshalUrgency writes an Urgency.
func MarshalUrgency(v incident.Urgency) graphql.Marshaler { return word(v) }

// UnmarshalUrgency reads an Urgency.
func UnmarshalUrgency(v any) (incident.Urgency, error) { return parse(v, incident.Urgencies()) }

// MarshalSource writes a Source.
func MarshalSource(v incident.Source) graphql.Marshaler { return word(v) }

// UnmarshalSource reads a Source.
func UnmarshalSource(v any) (incident.Source, error) { return parse(v, incident.Sources()) }

// MarshalVisibility writes a Visibility.
func MarshalVisibility(v incident.Visibility) graphql.Marshaler { return word(v) }

// UnmarshalVisibility reads a Visibility.
func UnmarshalVisibility(v any) (incident.Visibility, error) {
	return parse(v, incident.Visibilities())
}

// MarshalSyncStatus writes a SyncStatus.
func MarshalSyncStatus(v ledger.SyncStatus) graphql.Marshaler { return word(v) }

// UnmarshalSyncStatus reads a SyncStatus.
func UnmarshalSyncStatus(v any) (ledger.SyncStatus, error) { return parse(v, ledger.SyncStatuses()) }

// MarshalDeliveryState writes a DeliveryState.
func MarshalDeliveryState(v ledger.State) graphql.Marshaler { return word(v) }

// UnmarshalDeliveryState reads a DeliveryState.
func UnmarshalDeliveryState(v any) (ledger.State, error) { return parse(v, ledger.States()) }

// MarshalDeliveryKind writes a DeliveryKind.
func MarshalDeliveryKind(v ledger.DeliveryKind) graphql.Marshaler { return word(v) }

// UnmarshalDeliveryKind reads a DeliveryKind.
func UnmarshalDeliveryKind(v any) (ledger.DeliveryKind, error) {
	return parse(v, ledger.DeliveryKinds())
}

// MarshalEntryKind writes an EntryKind.
func MarshalEntryKind(v ledger.Kind) graphql.Marshaler { return word(v) }

// UnmarshalEntryKind reads an EntryKind.
func UnmarshalEntryKind(v any) (ledger.Kind, error) { return parse(v, ledger.Kinds()) }

// MarshalActorKind writes an ActorKind.
func MarshalActorKind(v ledger.ActorKind) graphql.Marshaler { return word(v) }

// UnmarshalActorKind reads an ActorKind.
func UnmarshalActorKind(v any) (ledger.ActorKind, error) {
	return parse(v, []ledger.ActorKind{ledger.Person, ledger.System, ledger.Hub})
}

// MarshalSystemStatus writes a SystemStatus.
func MarshalSystemStatus(v pulse.Status) graphql.Marshaler { return word(v) }

// UnmarshalSystemStatus reads a SystemStatus.
func UnmarshalSystemStatus(v any) (pulse.Status, error) { return parse(v, pulse.Statuses()) }

// MarshalSystemAlarmKind writes a SystemAlarmKind.
func MarshalSystemAlarmKind(v pulse.AlarmKind) graphql.Marshaler { return word(v) }

// UnmarshalSystemAlarmKind reads a SystemAlarmKind.
func UnmarshalSystemAlarmKind(v any) (pulse.AlarmKind, error) { return parse(v, pulse.AlarmKinds()) }

// MarshalSyncActivityKind writes a SyncActivityKind.
func MarshalSyncActivityKind(v pulse.Kind) graphql.Marshaler { return word(v) }

// UnmarshalSyncActivityKind reads a SyncActivityKind.
func UnmarshalSyncActivityKind(v any) (pulse.Kind, error) { return parse(v, SyncActivityKinds()) }

// MarshalConflictSide writes a ConflictSide.
func MarshalConflictSide(v merge.Owner) graphql.Marshaler { return word(v) }

// UnmarshalConflictSide reads a ConflictSide.
func UnmarshalConflictSide(v any) (merge.Owner, error) {
	return parse(v, []merge.Owner{merge.Hub, merge.Vendor})
}

// MarshalInboxState writes an InboxState.
func MarshalInboxState(v ledger.InboxState) graphql.Marshaler { return word(v) }

// UnmarshalInboxState reads an InboxState.
func UnmarshalInboxState(v any) (ledger.InboxState, error) { return parse(v, ledger.InboxStates()) }

// MarshalInboxSource writes an InboxSource.
func MarshalInboxSource(v ledger.InboxSource) graphql.Marshaler { return word(v) }

// UnmarshalInboxSource reads an InboxSource.
func UnmarshalInboxSource(v any) (ledger.InboxSource, error) {
	return parse(v, ledger.InboxSources())
}

// MarshalRole writes a Role.
func MarshalRole(v auth.Role) graphql.Marshaler { return word(strings.ToUpper(string(v))) }

// UnmarshalRole reads a Role.
func UnmarshalRole(v any) (auth.Role, error) {
	s, _ := v.(string)
	return parse(any(strings.ToLower(s)), auth.Roles())
}

// MarshalDateTime writes a time in UTC. The zero time is null.
func MarshalDateTime(t time.Time) graphql.Marshaler {
	if t.IsZero() {
		return graphql.Null
	}
	return graphql.WriterFunc(func(w io.Writer) {
		b := make([]byte, 0, len(time.RFC3339Nano)+2)
		b = append(b, '"')
		b = t.UTC().AppendFormat(b, time.RFC3339Nano)
		w.Write(append(b, '"')) //nolint:errcheck // the executor's buffer never fails
	})
}

// UnmarshalDateTime reads a time with its offset, between the years 1 and 9999.
func UnmarshalDateTime(v any) (time.Time, error) {
	s, ok := v.(string)
	if ok {
		if t, err := time.Parse(time.RFC3339Nano, s); err == nil && t.UTC().Year() >= 1 && t.UTC().Year() <= 9999 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, &BadValue{fmt.Sprintf("%.60q is no time; use RFC 3339 with an offset, for example 2030-01-31T09:00:00Z", fmt.Sprint(v))}
}

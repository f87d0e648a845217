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
)

// BadValue says what is wrong with a value that a client sent, and what to send instead.
type BadValue struct{ Problem string }

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

// The functions below bind the schema's enums to the domain's words, one pair for each.

func MarshalIncidentState(v incident.State) graphql.Marshaler { return word(v) }
func UnmarshalIncidentState(v any) (incident.State, error)    { return parse(v, incident.States()) }

func MarshalHoldReason(v incident.HoldReason) graphql.Marshaler { return word(v) }
func UnmarshalHoldReason(v any) (incident.HoldReason, error)    { return parse(v, incident.HoldReasons()) }

func MarshalPriority(v incident.Priority) graphql.Marshaler { return word(v) }
func UnmarshalPriority(v any) (incident.Priority, error)    { return parse(v, incident.Priorities()) }

func MarshalImpact(v incident.Impact) graphql.Marshaler { return word(v) }
func UnmarshalImpact(v any) (incident.Impact, error)    { return parse(v, incident.Impacts()) }

func MarshalUrgency(v incident.Urgency) graphql.Marshaler { return word(v) }
func UnmarshalUrgency(v any) (incident.Urgency, error)    { return parse(v, incident.Urgencies()) }

func MarshalSource(v incident.Source) graphql.Marshaler { return word(v) }
func UnmarshalSource(v any) (incident.Source, error)    { return parse(v, incident.Sources()) }

func MarshalVisibility(v incident.Visibility) graphql.Marshaler { return word(v) }
func UnmarshalVisibility(v any) (incident.Visibility, error) {
	return parse(v, incident.Visibilities())
}

func MarshalSyncStatus(v ledger.SyncStatus) graphql.Marshaler { return word(v) }
func UnmarshalSyncStatus(v any) (ledger.SyncStatus, error)    { return parse(v, ledger.SyncStatuses()) }

func MarshalDeliveryState(v ledger.State) graphql.Marshaler { return word(v) }
func UnmarshalDeliveryState(v any) (ledger.State, error)    { return parse(v, ledger.States()) }

func MarshalDeliveryKind(v ledger.DeliveryKind) graphql.Marshaler { return word(v) }
func UnmarshalDeliveryKind(v any) (ledger.DeliveryKind, error) {
	return parse(v, ledger.DeliveryKinds())
}

func MarshalEntryKind(v ledger.Kind) graphql.Marshaler { return word(v) }
func UnmarshalEntryKind(v any) (ledger.Kind, error)    { return parse(v, ledger.Kinds()) }

func MarshalActorKind(v ledger.ActorKind) graphql.Marshaler { return word(v) }
func UnmarshalActorKind(v any) (ledger.ActorKind, error) {
	return parse(v, []ledger.ActorKind{ledger.Person, ledger.System, ledger.Hub})
}

func MarshalRole(v auth.Role) graphql.Marshaler { return word(strings.ToUpper(string(v))) }
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

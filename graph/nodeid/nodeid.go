// Package nodeid writes and reads the opaque ids by which GraphQL clients name things.
//
// An id is the thing's kind and key in unpadded base64url. It is stable for ever, grants nothing, and says nothing
// about whether the thing exists. Each thing has exactly one id: other spellings are refused. The functions are
// pure, safe for concurrent use, and a crash leaves nothing behind.
package nodeid

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// Kind is the GraphQL type of what an id names.
type Kind string

// The kinds.
const (
	Incident     Kind = "Incident"
	Comment      Kind = "Comment"
	ExternalLink Kind = "ExternalLink"
	Delivery     Kind = "Delivery"
	LedgerEntry  Kind = "LedgerEntry"
	Organisation Kind = "Organisation"
	Desk         Kind = "Desk"
	System       Kind = "System"
	InboxItem    Kind = "InboxItem"
	Conflict     Kind = "Conflict"
)

var kinds = map[Kind]bool{
	Incident: true, Comment: true, ExternalLink: true, Delivery: true, LedgerEntry: true, Organisation: true, Desk: true, System: true, InboxItem: true, Conflict: true,
}

// ErrMalformed is returned for text that no hub ever gave out as an id.
var ErrMalformed = errors.New("this is no id; use one exactly as an earlier answer gave it")

var encoding = base64.RawURLEncoding.Strict()

// Of returns the id of a thing whose key is a UUID.
func Of(k Kind, key uuid.UUID) string { return encode(k, key.String()) }

// OfNumber returns the id of a thing whose key is a number.
func OfNumber[N ~int64](k Kind, key N) string { return encode(k, strconv.FormatInt(int64(key), 10)) }

// OfEntry returns the id of a line of the ledger.
func OfEntry(k ledger.EntryKey) string {
	return encode(LedgerEntry, k.Incident.String()+"."+strconv.FormatInt(k.Version, 10))
}

func encode(k Kind, key string) string { return encoding.EncodeToString([]byte(string(k) + ":" + key)) }

// KindOf returns the kind of what an id names. Its only error is ErrMalformed.
func KindOf(id string) (Kind, error) {
	k, _, err := decode(id)
	return k, err
}

// UUID reads the id of a thing of the kind whose key is a UUID.
func UUID(k Kind, id string) (uuid.UUID, error) {
	key, err := expect(k, id)
	if err != nil {
		return uuid.Nil, err
	}
	return parseUUID(key)
}

// Number reads the id of a thing of the kind whose key is a number.
func Number[N ~int64](k Kind, id string) (N, error) {
	key, err := expect(k, id)
	if err != nil {
		return 0, err
	}
	n, err := parseNumber(key)
	return N(n), err
}

// Entry reads the id of a line of the ledger.
func Entry(id string) (ledger.VersionKey, error) {
	key, err := expect(LedgerEntry, id)
	if err != nil {
		return ledger.VersionKey{}, err
	}
	left, right, _ := strings.Cut(key, ".")
	u, err := parseUUID(left)
	if err != nil {
		return ledger.VersionKey{}, err
	}
	version, err := parseNumber(right)
	return ledger.VersionKey{Incident: incident.ID{UUID: u}, Version: version}, err
}

func expect(want Kind, id string) (string, error) {
	got, key, err := decode(id)
	if err != nil {
		return "", err
	}
	if got != want {
		return "", fmt.Errorf("this is the id of a thing of type %s; give one of type %s", got, want)
	}
	return key, nil
}

func decode(id string) (Kind, string, error) {
	if len(id) > 120 || strings.ContainsAny(id, "\r\n") { // the decoder would skip line breaks
		return "", "", ErrMalformed
	}
	text, err := encoding.DecodeString(id)
	if err != nil {
		return "", "", ErrMalformed
	}
	k, key, ok := strings.Cut(string(text), ":")
	if !ok || !kinds[Kind(k)] {
		return "", "", ErrMalformed
	}
	return Kind(k), key, nil
}

func parseUUID(s string) (uuid.UUID, error) {
	u, err := uuid.Parse(s)
	if err != nil || u.String() != s {
		return uuid.Nil, ErrMalformed
	}
	return u, nil
}

func parseNumber(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != s {
		return 0, ErrMalformed
	}
	return n, nil
}

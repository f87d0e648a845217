package inbound

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"liaison/connectors"
	"liaison/sync/pulse"
	"liaison/sync/system"
)

// tolerance is how far a signed timestamp may lie from the hub's clock, either way: what standard-webhooks recommends.
const tolerance = 5 * time.Minute

// DefaultIDHeader carries the vendor's own id of a call, as standard-webhooks names it.
const DefaultIDHeader = "webhook-id"

const wrongSecret = "the webhook's secret is missing or wrong"

// Door is how one system's webhooks are let in.
type Door struct {
	System *system.System
	Header string // the request header that carries the secret or the signature
	Secret connectors.Secret
	// Previous is accepted as well, for the time in which the vendor changes from one secret to the next. Zero: none is.
	Previous connectors.Secret
	Signed   bool // the header carries the HMAC-SHA256 of the body in hex instead of the secret itself
	// TimestampHeader carries when the call was made: Unix seconds or RFC 3339. With it the signature is that of the header's
	// value, a full stop and the body. Empty: calls say no time.
	TimestampHeader string
	IDHeader        string       // carries the vendor's own id of the call; default DefaultIDHeader
	Pulse           *pulse.Pulse // is told of calls; nil: nobody is
}

// refusal says why a call is not let in; it is empty when it is.
func (d Door) refusal(header http.Header, body []byte, now time.Time) string {
	admitted := d.proves(header, body, d.Secret)
	if !d.Previous.IsZero() {
		admitted = d.proves(header, body, d.Previous) || admitted
	}
	if !admitted {
		return wrongSecret
	}
	if d.TimestampHeader == "" || !d.Signed {
		return ""
	}
	at, err := readTimestamp(header.Get(d.TimestampHeader))
	if err != nil {
		return fmt.Sprintf("the header %s carries no time: send Unix seconds", d.TimestampHeader)
	}
	if off := now.Sub(at).Abs(); off > tolerance {
		return fmt.Sprintf("the call's time lies %s from the hub's clock, more than the %s that are let in: it is an old call, or a clock is wrong", off.Round(time.Second), tolerance)
	}
	return ""
}

func (d Door) proves(header http.Header, body []byte, secret connectors.Secret) bool {
	given, want := header.Get(d.Header), secret.Reveal()
	if d.Signed {
		mac := hmac.New(sha256.New, []byte(want))
		if d.TimestampHeader != "" {
			mac.Write([]byte(header.Get(d.TimestampHeader) + "."))
		}
		mac.Write(body)
		given, want = strings.TrimPrefix(given, "sha256="), hex.EncodeToString(mac.Sum(nil))
	}
	g, x := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(g[:], x[:]) == 1
}

func readTimestamp(text string) (time.Time, error) {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(seconds, 0), nil
	}
	return time.Parse(time.RFC3339, text)
}

// longestID bounds what is kept of a call's id; a longer one is kept as its digest.
const longestID = 200

// callID is the vendor's own id of the call, empty when it sent none.
func (d Door) callID(header http.Header) string {
	name := d.IDHeader
	if name == "" {
		name = DefaultIDHeader
	}
	id := storable(strings.TrimSpace(header.Get(name)))
	if len(id) > longestID {
		sum := sha256.Sum256([]byte(id))
		id = "sha256:" + hex.EncodeToString(sum[:])
	}
	return id
}

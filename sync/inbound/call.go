package inbound

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/internal/telemetry"
	"liaison/sync/inbound/internal/db"
)

// contentLock is the class of the advisory locks on calls' contents. The other half of the key is a part of the digest.
const contentLock = 0x1b0c

// call is a body on its way into the inbox.
type call struct {
	system      int64
	source      string
	id          string // the vendor's own id of the call, may be empty
	body        []byte
	digest      [sha256.Size]byte
	contentType string
	refs        []connectors.Ref
	reason      string // why the body was not understood; empty when it was
	repeats     uuid.NullUUID
	at          time.Time
	trace       string // traceparent of the request that brought it
}

func callOf(ctx context.Context, s incident.SystemID, source string, body []byte, contentType string, at time.Time) call {
	contentType = storable(contentType)
	return call{
		system: int64(s), source: source, body: body, digest: sha256.Sum256(body), contentType: contentType[:min(len(contentType), longestID)],
		at: at, trace: telemetry.Inject(ctx),
	}
}

// read asks the connector what the body speaks of.
func (c *call) read(from connectors.Connector, hook connectors.Hook) {
	c.refs, c.reason = readHook(from, hook)
}

// kept is what became of a call.
type kept struct {
	state  string
	reason string
	rows   []uuid.UUID
}

// keep stores the call within a transaction. One that repeats another is kept as its duplicate and not acted upon:
//
//   - by the vendor's id: the same call with the same body came before, at any time that inbox_seen still remembers. The same id
//     with another body is not taken for a repeat: a header that names a subscription instead of a call must not hide news.
//   - by content: the same body waits already, and the read that it waits for lies ahead. The same content later is news.
func (c *call) keep(ctx context.Context, q db.Querier) (kept, error) {
	found, err := q.FindRepeats(ctx, db.FindRepeatsParams{SystemID: c.system, CallID: c.id, Digest: c.digest[:]})
	if err != nil {
		return kept{}, fmt.Errorf("looking for earlier calls: %w", err)
	}
	out := c.judge(found)
	err = c.insert(ctx, q, &out, found)
	return out, err
}

// lock is the half of the key of the advisory lock on the call's content.
func (c *call) lock() int32 {
	return int32(binary.BigEndian.Uint32(c.digest[:])) //nolint:gosec // any 32 bits do
}

func (c *call) judge(found db.FindRepeatsRow) kept {
	switch {
	case found.SameCall != uuid.Nil:
		return kept{state: duplicate, reason: fmt.Sprintf("the same call, %q by its sender's id, came before", c.id)}
	case c.reason != "":
		return kept{state: parked, reason: c.reason}
	case found.SameContent != uuid.Nil && found.Tickets >= int64(len(c.refs)):
		return kept{state: duplicate, reason: "the same content waits already to be acted upon"}
	case found.SameID:
		return kept{state: waiting, reason: fmt.Sprintf("a call with the id %q came before, with another body; both are acted upon", c.id)}
	}
	return kept{state: waiting}
}

// insert writes a row for each ticket that the body names. The body stands in the first one only, and repeats and what was
// not understood take one row.
func (c *call) insert(ctx context.Context, q db.Querier, out *kept, found db.FindRepeatsRow) error {
	row := db.InsertInboxParams{
		SystemID: c.system, Source: c.source, CallID: c.id, Digest: c.digest[:], Body: c.body, ContentType: c.contentType,
		State: out.state, Reason: storable(out.reason), DuplicateOf: c.repeats, At: c.at, Trace: c.trace,
	}
	refs := c.refs
	switch out.state {
	case duplicate:
		row.DuplicateOf = uuid.NullUUID{UUID: found.SameCall, Valid: true}
		if found.SameCall == uuid.Nil {
			row.DuplicateOf.UUID = found.SameContent
		}
		refs, row.SettledAt = refs[:min(len(refs), 1)], &c.at
	case parked:
		refs, row.SettledAt = nil, &c.at
	}
	if len(refs) == 0 {
		refs = []connectors.Ref{{}}
	}
	for _, ref := range refs {
		row.ID = uuid.Must(uuid.NewV7())
		row.ExternalID, row.Number, row.Version = storable(string(ref.ID)), storable(ref.Number), storable(ref.Version)
		if err := q.InsertInbox(ctx, row); err != nil {
			return fmt.Errorf("writing a row: %w", err)
		}
		out.rows = append(out.rows, row.ID)
		row.Body = []byte{}
	}
	if c.id == "" || out.state == duplicate {
		return nil
	}
	if err := q.RememberCall(ctx, db.RememberCallParams{SystemID: c.system, CallID: c.id, Digest: c.digest[:], InboxID: out.rows[0], At: c.at}); err != nil {
		return fmt.Errorf("remembering the call's id: %w", err)
	}
	return nil
}

// storable is text that Postgres takes: a vendor's words may hold what it does not.
func storable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

package feed

import (
	"crypto/aes"
	"encoding/binary"
	"errors"

	"github.com/google/uuid"
)

// ErrExpired tells that a cursor is of no use any more: the database was restored or copied since, so that its
// positions mean something else, or it names a position that does not exist, or is another database's. The remedy is to
// query anew and to go on from the cursor of that answer. (CURSOR_EXPIRED)
var ErrExpired = errors.New("the cursor has expired: query again and subscribe from the new cursor")

// feedCursor is the kind under which places in the feed are sealed.
const feedCursor = "feed"

// place is a position of the run of positions that epoch names.
type place struct {
	epoch    uuid.UUID
	position int64
}

func (s *Sealer) sealPlace(p place) string {
	// Always the same length: it must not tell how old the hub is.
	return s.Seal(feedCursor, binary.BigEndian.AppendUint64(p.epoch[:], uint64(p.position)))
}

// sealedElsewhere reports whether a cursor that does not open has the shape of one that does: then it is another
// database's, whose key nobody here has, or forged, and whoever holds it should query anew.
func sealedElsewhere(cursor string) bool {
	sealed, err := sealing.DecodeString(cursor)
	return err == nil && len(sealed) == nonceSize+len(place{}.epoch)+8+aes.BlockSize && sealing.EncodeToString(sealed) == cursor
}

func (s *Sealer) openPlace(cursor string) (place, error) {
	payload, err := s.Open(feedCursor, cursor)
	if err != nil {
		return place{}, err
	}
	var p place
	if len(payload) != len(p.epoch)+8 {
		return place{}, ErrBadCursor
	}
	copy(p.epoch[:], payload)
	p.position = int64(binary.BigEndian.Uint64(payload[len(p.epoch):]))
	if p.position < 0 {
		return place{}, ErrBadCursor
	}
	return p, nil
}

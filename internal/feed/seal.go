package feed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// ErrBadCursor tells that a cursor was not made by this hub for this purpose: garbled, forged or of another
// kind. The remedy is a cursor as the hub gave it, or none.
var ErrBadCursor = errors.New("the cursor is not one of this hub's: pass it back exactly as it was received, or leave it out")

const (
	keySize   = 32 // AES-256
	nonceSize = 24 // of which 12 go into the message's own key and 12 into GCM
	// maxSealed bounds what Open looks at: 3 KB of payload, far above any cursor.
	maxSealed = 4096
)

// sealing refuses stray bits at the end, so that each sealed string has exactly one spelling.
var sealing = base64.RawURLEncoding.Strict()

// Sealer makes opaque strings of small payloads, such as cursors: they tell nothing but their length and
// cannot be forged, changed, or passed off as another kind. It is safe for concurrent use.
//
// The cipher is XAES-256-GCM (C2SP): AES-256-GCM whose 192-bit random nonces stay safe for any number of
// messages under one key, where GCM's own 96 bits end at four thousand million, which a busy hub reaches in
// months.
type Sealer struct {
	block  cipher.Block
	subkey [aes.BlockSize]byte // CMAC's K1
}

// NewSealer returns a Sealer for a secret key of 32 bytes.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("sealing key: %d bytes, want %d", len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	s := &Sealer{block: block}
	block.Encrypt(s.subkey[:], s.subkey[:])
	var carry byte
	for i := aes.BlockSize - 1; i >= 0; i-- {
		next := s.subkey[i] >> 7
		s.subkey[i] = s.subkey[i]<<1 | carry
		carry = next
	}
	s.subkey[aes.BlockSize-1] ^= carry * 0x87
	return s, nil
}

// Seal returns payload sealed as the given kind, in the URL-safe base64 alphabet without padding. Sealing the
// same payload twice gives two different strings.
func (s *Sealer) Seal(kind string, payload []byte) string {
	sealed := make([]byte, nonceSize, nonceSize+len(payload)+aes.BlockSize)
	_, _ = rand.Read(sealed) // crypto/rand never fails: it ends the program instead
	sealed = s.aead(sealed).Seal(sealed, sealed[nonceSize/2:nonceSize], payload, []byte(kind))
	return sealing.EncodeToString(sealed)
}

// Open returns what was sealed as the given kind. Its only error is [ErrBadCursor].
func (s *Sealer) Open(kind, text string) ([]byte, error) {
	// The decoder would skip line breaks.
	if len(text) > maxSealed || strings.ContainsAny(text, "\r\n") {
		return nil, ErrBadCursor
	}
	sealed, err := sealing.DecodeString(text)
	if err != nil || len(sealed) < nonceSize {
		return nil, ErrBadCursor
	}
	payload, err := s.aead(sealed[:nonceSize]).Open(nil, sealed[nonceSize/2:nonceSize], sealed[nonceSize:], []byte(kind))
	if err != nil {
		return nil, ErrBadCursor
	}
	return payload, nil
}

// aead returns the cipher of one message: its key is derived from the first half of the nonce by the counter
// mode KDF of NIST SP 800-108 over CMAC, its GCM nonce is the second half.
func (s *Sealer) aead(nonce []byte) cipher.AEAD {
	var key [keySize]byte
	for half := range 2 {
		input := key[half*aes.BlockSize:][:aes.BlockSize]
		input[1], input[2] = byte(half+1), 'X'
		copy(input[4:], nonce[:nonceSize/2])
		for i := range input {
			input[i] ^= s.subkey[i]
		}
		s.block.Encrypt(input, input)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has the right size
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the right block size
	}
	return aead
}

package feed

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func testSealer(t testing.TB, fill byte) *Sealer {
	t.Helper()
	s, err := NewSealer(bytes.Repeat([]byte{fill}, keySize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The published vectors of C2SP XAES-256-GCM.
func TestSealerIsXAES256GCM(t *testing.T) {
	t.Parallel()
	for _, vector := range []struct {
		key            byte
		additional, is string
	}{
		{0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		nonce := []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
		sealed := testSealer(t, vector.key).aead(nonce).Seal(nil, nonce[12:], []byte("XAES-256-GCM"), []byte(vector.additional))
		if got := hex.EncodeToString(sealed); got != vector.is {
			t.Errorf("key %02x: got %s, want %s", vector.key, got, vector.is)
		}
	}
}

func TestSealerOpensWhatItSealed(t *testing.T) {
	t.Parallel()
	s := testSealer(t, 7)
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.String().Draw(t, "kind")
		payload := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload")
		sealed := s.Seal(kind, payload)
		got, err := s.Open(kind, sealed)
		if err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("Open: %x, %v; want %x", got, err, payload)
		}
		if sealed == s.Seal(kind, payload) {
			t.Fatal("sealed twice to the same string: the nonce is not random")
		}
		if _, err := s.Open(kind+"x", sealed); !errors.Is(err, ErrBadCursor) {
			t.Fatalf("passed off as another kind: %v", err)
		}
	})
}

func TestSealerRefusesEveryChange(t *testing.T) {
	t.Parallel()
	s := testSealer(t, 7)
	genuine := s.sealPlace(place{uuid.New(), 42})
	if strings.ContainsAny(genuine, "+/=") {
		t.Errorf("%q is not safe in a URL", genuine)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for n := range genuine {
		for _, other := range alphabet {
			forged := genuine[:n] + string(other) + genuine[n+1:]
			if forged == genuine {
				continue
			}
			if _, err := s.openPlace(forged); !errors.Is(err, ErrBadCursor) {
				t.Fatalf("character %d changed to %c: %v", n, other, err)
			}
		}
	}
	for name, forged := range map[string]string{
		"empty": "", "blank": " ", "one": "A", "words": "not a cursor", "padded": genuine + "=", "longer": genuine + "A",
		"shorter": genuine[:len(genuine)-1], "half": genuine[:len(genuine)/2], "line break": genuine[:9] + "\n" + genuine[9:],
		"carriage return": genuine + "\r", "huge": strings.Repeat("A", 1<<20), "NUL": genuine + "\x00", "not UTF-8": "\xff\xfe",
		"twice": genuine + genuine, "another key": testSealer(t, 8).sealPlace(place{uuid.New(), 42}),
		"another kind": s.Seal("incidents", make([]byte, 24)), "short payload": s.Seal(feedCursor, make([]byte, 23)),
		"long payload": s.Seal(feedCursor, make([]byte, 25)), "negative": s.sealPlace(place{uuid.New(), -1}),
	} {
		if _, err := s.openPlace(forged); !errors.Is(err, ErrBadCursor) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewSealer(make([]byte, 16)); err == nil {
		t.Error("a key of 16 bytes was taken")
	}
}

func TestCursorLengthTellsNothing(t *testing.T) {
	t.Parallel()
	s := testSealer(t, 7)
	young, old := s.sealPlace(place{uuid.Nil, 0}), s.sealPlace(place{uuid.Max, 1<<63 - 1})
	if len(young) != len(old) {
		t.Errorf("%d and %d characters", len(young), len(old))
	}
}

func FuzzCursor(f *testing.F) {
	s := testSealer(f, 7)
	f.Add(s.sealPlace(place{uuid.New(), 42}))
	f.Add(s.Seal("other", []byte("payload")))
	f.Add("")
	f.Add("====")
	f.Add(strings.Repeat("A", 86))
	f.Fuzz(func(t *testing.T, cursor string) {
		p, err := s.openPlace(cursor)
		if err != nil {
			if !errors.Is(err, ErrBadCursor) {
				t.Fatalf("unexpected kind of error: %v", err)
			}
			return
		}
		// Whatever opens is genuine, and there is no second spelling of it.
		raw, err := sealing.DecodeString(cursor)
		if err != nil || sealing.EncodeToString(raw) != cursor || p.position < 0 {
			t.Fatalf("%q opened as %v", cursor, p)
		}
	})
}

package simulation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// trace is what happened, line by line. Lines name rows by their order and never by their random ids.
type trace struct {
	clock *clock
	mu    sync.Mutex
	lines []line
}

type line struct {
	at   time.Duration
	who  string
	text string
}

func (t *trace) add(who, format string, args ...any) {
	l := line{at: t.clock.since(), who: who, text: fmt.Sprintf(format, args...)}
	t.mu.Lock()
	defer t.mu.Unlock()
	at := len(t.lines)
	for at > 0 && t.lines[at-1].at == l.at && t.lines[at-1].key() > l.key() {
		at-- // of what happens in the same instant nothing comes first
	}
	t.lines = slices.Insert(t.lines, at, l)
}

func (l line) key() string { return l.who + l.text }

// String returns the lines whose text holds one of the words, all without words.
func (t *trace) about(words ...string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, l := range t.lines {
		s := l.who + ": " + l.text
		if len(words) == 0 || slices.ContainsFunc(words, func(w string) bool { return mentions(s, w) }) {
			fmt.Fprintf(&b, "%13.6fs %s\n", l.at.Seconds(), s)
		}
	}
	return b.String()
}

// mentions reports whether s speaks of word: "link 1" is not spoken of by "link 12".
func mentions(s, word string) bool {
	for at := 0; ; {
		n := strings.Index(s[at:], word)
		if n < 0 {
			return false
		}
		end := at + n + len(word)
		if end == len(s) || s[end] < '0' || s[end] > '9' {
			return true
		}
		at = end
	}
}

// hash tells two histories apart.
func (t *trace) hash() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := sha256.New()
	for _, l := range t.lines {
		fmt.Fprintf(sum, "%d %s %s\n", l.at, l.who, l.text)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

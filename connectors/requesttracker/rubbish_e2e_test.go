//go:build e2e

package requesttracker_test

import (
	"testing"

	"liaison/connectors/conformance"
)

// RELIABILITY R13 on a real server: rubbish is no answer, at whichever byte of 4 KB a right one is cut.
func TestR13RubbishReplies(t *testing.T) {
	t.Parallel()
	s := startRT(t)
	conformance.Run(t, conformance.Spec{
		Only: []string{"RubbishReplies", "TruncatedAtEveryByte"}, Exhaustive: true,
		New: func(testing.TB) conformance.Harness { return s.harness() },
	})
}

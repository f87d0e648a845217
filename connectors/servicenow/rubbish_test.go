package servicenow_test

import (
	"testing"
	"time"

	"liaison/connectors"
	"liaison/connectors/conformance"
	"liaison/connectors/servicenow"
	"liaison/connectors/servicenow/servicenowtest"
)

// RELIABILITY R13: rubbish is no answer, at whichever byte of 4 KB a right one is cut.
func TestR13RubbishReplies(t *testing.T) {
	t.Parallel()
	conformance.Run(t, conformance.Spec{
		Only: []string{"RubbishReplies", "TruncatedAtEveryByte"}, Exhaustive: true,
		New: func(t testing.TB) conformance.Harness {
			return harness(simulator(t, servicenowtest.Config{}), func(string) connectors.Credentials { return basic() })
		},
	})
}

// RELIABILITY R13, memory. Not parallel: it measures the process.
func TestR13Flood(t *testing.T) { //nolint:paralleltest // see above
	conformance.Flood(t, func(t testing.TB, url string) connectors.Connector {
		t.Helper()
		c, err := servicenow.New(connectors.Config{Key: "flood", URL: url, Auth: basic(), Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}, func(title string) connectors.Fields { return connectors.Fields{"short_description": title} }, "46e18c0fa9fe19810066a0083f76bd56")
}

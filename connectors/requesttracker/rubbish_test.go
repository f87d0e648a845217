package requesttracker_test

import (
	"testing"
	"time"

	"liaison/connectors"
	"liaison/connectors/conformance"
	"liaison/connectors/requesttracker"
)

// RELIABILITY R13, memory. Not parallel: it measures the process. What is no answer is tried on a real server.
func TestR13Flood(t *testing.T) { //nolint:paralleltest // see above
	conformance.Flood(t, func(t testing.TB, url string) connectors.Connector {
		t.Helper()
		c, err := requesttracker.New(connectors.Config{
			Key: "flood", URL: url, Auth: connectors.Credentials{Token: connectors.NewSecret("1-27-00ff")}, Timeout: 20 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}, func(title string) connectors.Fields { return connectors.Fields{"Subject": title} }, "7")
}

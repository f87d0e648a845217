package nodeid_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"liaison/graph/nodeid"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

func TestThereAndBack(t *testing.T) {
	t.Parallel()
	key := uuid.MustParse("01900000-0000-7000-8000-00000000abcd")
	for _, k := range []nodeid.Kind{nodeid.Incident, nodeid.Comment, nodeid.ExternalLink, nodeid.Delivery} {
		id := nodeid.Of(k, key)
		if got, err := nodeid.UUID(k, id); got != key || err != nil {
			t.Errorf("%s: %v %v", id, got, err)
		}
		if got, err := nodeid.KindOf(id); got != k || err != nil {
			t.Errorf("%s: %v %v", id, got, err)
		}
	}
	id := nodeid.OfNumber(nodeid.Organisation, incident.OrganisationID(7))
	if got, err := nodeid.Number[incident.OrganisationID](nodeid.Organisation, id); got != 7 || err != nil {
		t.Errorf("%s: %v %v", id, got, err)
	}
	entry := ledger.EntryKey{Organisation: 3, Incident: incident.ID{UUID: key}, Version: 12}
	if got, err := nodeid.Entry(nodeid.OfEntry(entry)); got != (ledger.VersionKey{Incident: entry.Incident, Version: 12}) || err != nil {
		t.Errorf("%v %v", got, err)
	}
}

// Ids are stored by clients: what was given out once must be understood for ever.
func TestIDsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	if got := nodeid.Of(nodeid.Incident, uuid.MustParse("01900000-0000-7000-8000-00000000abcd")); got != "SW5jaWRlbnQ6MDE5MDAwMDAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDBhYmNk" {
		t.Error(got)
	}
}

func TestWhatIsNoID(t *testing.T) {
	t.Parallel()
	plain := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	good := "01900000-0000-7000-8000-00000000abcd"
	for _, bad := range []string{
		"", "x", "INC0000001", good, plain(""), plain("Incident"), plain("Incident:"), plain("Cat:" + good), plain("Incident:" + strings.ToUpper(good)),
		plain("Incident:{" + good + "}"), plain("Incident:urn:uuid:" + good), plain("Incident:"+good) + "=", plain("Incident:"+good) + "\n", strings.Repeat("A", 1000),
		base64.StdEncoding.EncodeToString([]byte("Incident:" + good + "?>")),
	} {
		if _, err := nodeid.UUID(nodeid.Incident, bad); !errors.Is(err, nodeid.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"0", "-1", "+1", "01", "1.0", "9223372036854775808", ""} {
		if _, err := nodeid.Number[incident.SystemID](nodeid.System, plain("System:"+bad)); !errors.Is(err, nodeid.ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := nodeid.Entry(plain("LedgerEntry:" + good + "." + bad)); !errors.Is(err, nodeid.ErrMalformed) {
			t.Errorf("entry %q: %v", bad, err)
		}
	}
	if _, err := nodeid.UUID(nodeid.Comment, plain("Incident:"+good)); err == nil || errors.Is(err, nodeid.ErrMalformed) || !strings.Contains(err.Error(), "Incident") {
		t.Errorf("an id of another kind: %v", err)
	}
}

func FuzzIDs(f *testing.F) {
	f.Add("SW5jaWRlbnQ6MDE5MDAwMDAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDBhYmNk")
	f.Add("T3JnYW5pc2F0aW9uOjE")
	f.Add("TGVkZ2VyRW50cnk6MDE5MDAwMDAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDBhYmNkLjE")
	f.Fuzz(func(t *testing.T, id string) {
		k, err := nodeid.KindOf(id)
		if err != nil {
			return
		}
		// Whatever is understood is the one spelling of what it names.
		if u, err := nodeid.UUID(k, id); err == nil && nodeid.Of(k, u) != id {
			t.Errorf("%q is another spelling of %q", id, nodeid.Of(k, u))
		}
		if n, err := nodeid.Number[int64](k, id); err == nil && nodeid.OfNumber(k, n) != id {
			t.Errorf("%q is another spelling of %q", id, nodeid.OfNumber(k, n))
		}
		if e, err := nodeid.Entry(id); err == nil && nodeid.OfEntry(ledger.EntryKey{Incident: e.Incident, Version: e.Version}) != id {
			t.Errorf("%q is another spelling of an entry's id", id)
		}
	})
}

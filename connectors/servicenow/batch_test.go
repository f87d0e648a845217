package servicenow_test

import (
	"fmt"
	"net/http"
	"testing"

	"liaison/connectors"
	"liaison/connectors/servicenow/servicenowtest"
)

// Many tickets are read by one call, each as Read reads it; one that is gone is missing.
func TestReadMany(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{})
	c := connect(t, srv)
	var ids []connectors.ExternalID
	for range 30 {
		ids = append(ids, open(t, c).ID)
	}
	open(t, c) // not asked for
	admin(t, srv, http.MethodDelete, "/api/now/table/incident/"+string(ids[3]), "application/json", "")
	srv.ForgetCalls()
	got, err := c.ReadMany(t.Context(), ids, []string{"short_description", "state"})
	if err != nil || len(got) != 29 || len(srv.Calls()) != 1 {
		t.Fatalf("%d tickets by %d calls (%v), want 29 by 1", len(got), len(srv.Calls()), err)
	}
	for _, ticket := range got {
		one, err := c.Read(t.Context(), ticket.ID, []string{"short_description", "state"})
		if err != nil || fmt.Sprint(one) != fmt.Sprint(ticket) {
			t.Errorf("%+v, want as by Read: %+v (%v)", ticket, one, err)
		}
	}
	if _, err := c.ReadMany(t.Context(), make([]connectors.ExternalID, c.MostAtOnce()+1), nil); connectors.KindOf(err) != connectors.Rejected {
		t.Errorf("too many at once: %v", err)
	}
	if _, err := c.ReadMany(t.Context(), []connectors.ExternalID{"a^ORsys_idISNOTEMPTY"}, nil); connectors.KindOf(err) != connectors.Rejected {
		t.Errorf("a query for an id: %v", err)
	}
	if none, err := c.ReadMany(t.Context(), nil, nil); err != nil || len(none) != 0 {
		t.Errorf("nothing asked: %v %v", none, err)
	}
}

// An instance that drops conditions it does not understand answers with any rows.
func TestReadManyBelievesNoOtherRows(t *testing.T) {
	t.Parallel()
	srv := simulator(t, servicenowtest.Config{SeedIncidents: 5, Switches: servicenowtest.Switches{BadQuery: servicenowtest.BadQueryIgnore, HiddenColumns: []string{"incident.sys_id"}}})
	got, err := connect(t, srv).ReadMany(t.Context(), []connectors.ExternalID{"0123456789abcdef0123456789abcdef"}, nil)
	if len(got) != 0 {
		t.Errorf("%+v (%v), want none", got, err)
	}
}

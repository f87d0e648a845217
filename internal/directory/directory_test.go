package directory_test

import (
	"slices"
	"testing"

	"liaison/internal/config"
	"liaison/internal/directory"
	"liaison/internal/incident"
	"liaison/internal/postgres/pgtest"
)

func TestPutFollowsTheSettings(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	c := &config.Config{
		Desks:         []config.Desk{{Key: "btls", Name: "BTLS"}, {Key: "dllp", Name: "DLLP"}},
		Organisations: []config.Organisation{{Key: "north", Name: "North", Desk: "btls"}, {Key: "south", Name: "South", Desk: "btls"}, {Key: "linde", Name: "Linde", Desk: "dllp"}},
		Systems:       []config.System{{Key: "snow", Name: "S", Connector: "servicenow", Desk: "btls", URL: "https://a.example"}},
	}
	put := func() *directory.Directory {
		t.Helper()
		d, err := directory.Put(t.Context(), db, c)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	list := func(sql string) (out []string) {
		t.Helper()
		if err := db.System.QueryRow(t.Context(), `SELECT coalesce(array_agg(x ORDER BY x), '{}') FROM (`+sql+`) AS q (x)`).Scan(&out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	usable := `SELECT o.key || ' ' || s.key FROM system_organisation so JOIN organisation o ON o.id = organisation_id JOIN external_system s ON s.id = system_id WHERE so.active AND s.active`
	first := put()
	if got := list(usable); !slices.Equal(got, []string{"north snow", "south snow"}) {
		t.Errorf("all of the desk may use its system; the tables say %v", got)
	}
	if got := first.Served()[first.Desks["btls"]]; len(got) != 2 {
		t.Errorf("the desk serves %v", got)
	}
	if got := first.Served()[0]; len(got) != 3 {
		t.Errorf("an administrator of no desk sees %v", got)
	}

	c.Desks[0].Name, c.Systems[0].Organisations = "BTLS Service Centre", []string{"south"}
	second := put()
	if second.Organisations["north"] != first.Organisations["north"] || second.Systems["snow"] != first.Systems["snow"] {
		t.Error("ids changed although the keys did not")
	}
	if got := list(usable); !slices.Equal(got, []string{"south snow"}) {
		t.Errorf("after the permission was withdrawn: %v", got)
	}
	if got := list(`SELECT name FROM desk`); !slices.Equal(got, []string{"BTLS Service Centre", "DLLP"}) {
		t.Errorf("desks: %v", got)
	}

	c.Systems = nil
	put()
	if got := list(usable); len(got) != 0 {
		t.Errorf("a system that left the settings is used by %v", got)
	}
	if got := list(`SELECT key FROM external_system`); !slices.Equal(got, []string{"snow"}) {
		t.Errorf("its row is gone: %v; links hang on it", got)
	}
}

func TestGrantsSayWhoIsWho(t *testing.T) {
	t.Parallel()
	d := &directory.Directory{Organisations: map[string]incident.OrganisationID{"north": 7}, Desks: map[string]incident.DeskID{"btls": 3}}
	staff := d.Grant(config.Token{Name: "Sam", Email: "sam@north.example", Organisation: "north", Roles: []config.Role{config.RoleRequester}}, "t")
	if staff.Organisation != 7 || staff.Desk != 0 || staff.Subject != "sam@north.example" {
		t.Errorf("%+v", staff)
	}
	nameless := d.Grant(config.Token{Name: "Ada", Desk: "btls", Roles: []config.Role{config.RoleAgent}}, "t")
	if nameless.Desk != 3 || nameless.Subject != "Ada" {
		t.Errorf("%+v", nameless)
	}
}

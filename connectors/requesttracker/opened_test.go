package requesttracker

import "testing"

// A reference tells that its ticket was opened under our own account, so that one that nobody follows is looked at: RT's list
// of transactions does not show the correlation id.
func TestChangesTellWhatWeOpened(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		login string
		found []transaction
		want  bool
	}{
		"ours":             {"liaison", []transaction{{id: 1, ObjectID: "7", Type: "Create", Creator: reference{ID: "Liaison"}}}, true},
		"ours, then more":  {"liaison", []transaction{{id: 1, ObjectID: "7", Type: "Create", Creator: reference{ID: "liaison"}}, {id: 2, ObjectID: "7", Type: "Set"}}, true},
		"another's":        {"liaison", []transaction{{id: 1, ObjectID: "7", Type: "Create", Creator: reference{ID: "alice"}}}, false},
		"a change of ours": {"liaison", []transaction{{id: 1, ObjectID: "7", Type: "Set", Creator: reference{ID: "liaison"}}}, false},
		"nobody told who":  {"", []transaction{{id: 1, ObjectID: "7", Type: "Create", Creator: reference{ID: "alice"}}}, true},
	} {
		conn := &Connector{login: c.login}
		at := cursor{horizon: horizon{Version: formatVersion}}
		refs := at.fresh(c.found, conn.openedByUs)
		if len(refs) != 1 || refs[0].ID != "7" || refs[0].Opened != c.want {
			t.Errorf("%s: %+v, want opened %t", name, refs, c.want)
		}
	}
}

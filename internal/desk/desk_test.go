package desk_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"liaison/internal/auth"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/internal/postgres/pgtest"
	"liaison/sync/ledger"
)

type deaf struct{}

func (deaf) Ring(string) {}

type house struct {
	*desk.Desk
	t                   *testing.T
	staff, other, agent auth.Viewer
	count               func() int
}

func open(t *testing.T) house {
	t.Helper()
	t.Parallel()
	db := pgtest.New(t)
	for _, sql := range []string{
		`INSERT INTO desk (key, name) VALUES ('btls', 'BTLS')`,
		`INSERT INTO organisation (key, name, desk_id) VALUES ('north', 'North', 1), ('south', 'South', 1)`,
	} {
		if _, err := db.System.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	now := func() time.Time { return time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC) }
	return house{
		Desk: desk.New(ledger.New(db, deaf{}, now), desk.DefaultLimits(), now), t: t,
		staff: auth.Viewer{Subject: "sam", Name: "Sam Smith", Email: "office@north.example", Phone: "01632 960011", Roles: []auth.Role{auth.Requester}, Organisation: 1, Organisations: []incident.OrganisationID{1}},
		other: auth.Viewer{Subject: "oli", Name: "Oli", Roles: []auth.Role{auth.Requester}, Organisation: 2, Organisations: []incident.OrganisationID{2}},
		agent: auth.Viewer{Subject: "ada", Name: "Ada", Roles: []auth.Role{auth.Agent}, Desk: 1, Organisations: []incident.OrganisationID{1, 2}},
		count: func() int {
			var n int
			if err := db.System.QueryRow(t.Context(), `SELECT count(*) FROM ledger_entry`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		},
	}
}

func (h house) report() desk.Target {
	h.t.Helper()
	done, err := h.Report(h.t.Context(), h.staff, desk.ReportInput{Description: "It does not print"})
	if err != nil {
		h.t.Fatal(err)
	}
	return desk.Target{Incident: done.Incident.ID}
}

// S5, S15, S21: who reports comes from the sign-in; the priority is not assessed; the address is told.
func TestReportTakesTheReporterFromTheSignIn(t *testing.T) {
	h := open(t)
	long := strings.Repeat("word ", 40)
	done, err := h.Report(t.Context(), h.staff, desk.ReportInput{Description: long + "\nsecond line"})
	if err != nil {
		t.Fatal(err)
	}
	i := done.Incident
	if i.Organisation != 1 || i.ReportedBy != "Sam Smith" || i.Priority != incident.PriorityNone || i.State != incident.New || done.NotifiedAddress != "office@north.example" {
		t.Errorf("%+v, notified %q", i, done.NotifiedAddress)
	}
	if i.Contact != (incident.Contact{Name: "Sam Smith", Phone: "01632 960011", Email: "office@north.example"}) {
		t.Errorf("contact %+v", i.Contact)
	}
	if n := len([]rune(i.Title)); n > 80 || !strings.HasSuffix(i.Title, "word…") {
		t.Errorf("the title made from the description is %q", i.Title)
	}
}

// Bad input names the field, the problem and the remedy, and stores nothing.
func TestRefusalsStoreNothing(t *testing.T) {
	h := open(t)
	ok := h.report()
	before := h.count()
	p9 := incident.Priority("P1")
	empty, category := " ", "Catering"
	for name, c := range map[string]struct {
		do    func() error
		field string
	}{
		"S18: no description": {func() error {
			_, err := h.Report(t.Context(), h.staff, desk.ReportInput{Description: " \n"})
			return err
		}, "description"},
		"confidential": {func() error {
			_, err := h.Report(t.Context(), h.staff, desk.ReportInput{Description: "x", Confidential: true})
			return err
		}, "confidential"},
		"S8: unknown category": {func() error {
			_, err := h.Report(t.Context(), h.staff, desk.ReportInput{Description: "x", Category: category})
			return err
		}, "category"},
		"title with a line end": {func() error {
			_, err := h.Report(t.Context(), h.staff, desk.ReportInput{Description: "x", Title: "a\nb"})
			return err
		}, "title"},
		"title too long": {func() error {
			_, err := h.Report(t.Context(), h.staff, desk.ReportInput{Description: "x", Title: strings.Repeat("ä", 161)})
			return err
		}, "title"},
		"no organisation": {func() error { _, err := h.Report(t.Context(), h.agent, desk.ReportInput{Description: "x"}); return err }, "organisation"},
		"unknown organisation": {func() error {
			_, err := h.Report(t.Context(), h.agent, desk.ReportInput{Description: "x", Organisation: 99})
			return err
		}, "organisation"},
		"no mail address": {func() error {
			_, err := h.Report(t.Context(), h.staff, desk.ReportInput{Description: "x", Contact: incident.Contact{Email: "at home"}})
			return err
		}, "contact.email"},
		"NUL in a comment": {func() error {
			_, _, err := h.Comment(t.Context(), h.staff, desk.CommentInput{Target: ok, Body: "a\x00b"})
			return err
		}, "body"},
		"an empty comment": {func() error {
			_, _, err := h.Comment(t.Context(), h.staff, desk.CommentInput{Target: ok, Body: " "})
			return err
		}, "body"},
		"an oversize comment": {func() error {
			_, _, err := h.Comment(t.Context(), h.staff, desk.CommentInput{Target: ok, Body: strings.Repeat("x", 32001)})
			return err
		}, "body"},
		"an empty title": {func() error {
			_, err := h.Update(t.Context(), h.staff, desk.UpdateInput{Target: ok, Title: &empty})
			return err
		}, "title"},
		"assigned to nobody": {func() error { _, err := h.Assign(t.Context(), h.agent, ok, "", ""); return err }, "team"},
		"resolved without words": {func() error {
			_, err := h.Move(t.Context(), h.agent, ok, incident.Move{To: incident.Resolved})
			return err
		}, "resolution"},
		"resumed from no hold": {func() error { _, err := h.Resume(t.Context(), h.agent, ok); return err }, "state"},
		"reopened too early":   {func() error { _, err := h.Reopen(t.Context(), h.agent, ok); return err }, "state"},
	} {
		refusal, refused := desk.IsRefusal(c.do())
		if !refused || refusal.Field != c.field || refusal.Problem == "" || refusal.Remedy == "" {
			t.Errorf("%s: %+v, want a refusal of %s with problem and remedy", name, refusal, c.field)
		}
	}
	// S16, S43: only the desk assesses and changes states; strangers find nothing.
	var denied *desk.Denied
	if _, err := h.Assess(t.Context(), h.staff, desk.AssessInput{Target: ok, Priority: &p9}); !errors.As(err, &denied) {
		t.Errorf("a requester's assessment ended in %v", err)
	}
	if _, err := h.Move(t.Context(), h.staff, ok, incident.Move{To: incident.InProgress}); !errors.As(err, &denied) {
		t.Errorf("a requester's step ended in %v", err)
	}
	if _, _, err := h.Comment(t.Context(), h.staff, desk.CommentInput{Target: ok, Body: "x", Visibility: incident.Internal}); !errors.As(err, &denied) {
		t.Errorf("a requester's work note ended in %v", err)
	}
	if _, err := h.Report(t.Context(), h.staff, desk.ReportInput{Description: "x", Organisation: 2}); !errors.As(err, &denied) {
		t.Errorf("a report for another organisation ended in %v", err)
	}
	if _, _, err := h.Comment(t.Context(), h.other, desk.CommentInput{Target: ok, Body: "x"}); !errors.Is(err, desk.ErrNotFound) {
		t.Errorf("a stranger's comment ended in %v", err)
	}
	if after := h.count(); after != before {
		t.Errorf("%d entries were written by what was refused", after-before)
	}
}

// S33: a closed incident is read only, for everybody.
func TestAClosedIncidentIsReadOnly(t *testing.T) {
	h := open(t)
	target := h.report()
	for _, m := range []incident.Move{{To: incident.Resolved, Resolution: "Fixed"}, {To: incident.Closed}} {
		if _, err := h.Move(t.Context(), h.agent, target, m); err != nil {
			t.Fatal(err)
		}
	}
	title, priority := "new", incident.P1
	_, comment := func() (incident.Incident, error) {
		i, _, err := h.Comment(t.Context(), h.agent, desk.CommentInput{Target: target, Body: "x"})
		return i, err
	}()
	_, update := h.Update(t.Context(), h.agent, desk.UpdateInput{Target: target, Title: &title})
	_, assess := h.Assess(t.Context(), h.agent, desk.AssessInput{Target: target, Priority: &priority})
	_, cancel := h.Cancel(t.Context(), h.agent, target)
	_, assign := h.Assign(t.Context(), h.agent, target, "Network", "")
	for name, err := range map[string]error{"comment": comment, "update": update, "assess": assess, "cancel": cancel, "assign": assign} {
		if refusal, refused := desk.IsRefusal(err); !refused || refusal.Kind != incident.InvalidTransition || refusal.Remedy == "" {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

func TestItsPeopleCancelOnlyWhatNobodyWorksOn(t *testing.T) {
	h := open(t)
	early, late := h.report(), h.report()
	if i, err := h.Cancel(t.Context(), h.staff, early); err != nil || i.State != incident.Cancelled {
		t.Errorf("%s, %v", i.State, err)
	}
	if _, err := h.Move(t.Context(), h.agent, late, incident.Move{To: incident.InProgress}); err != nil {
		t.Fatal(err)
	}
	var denied *desk.Denied
	if _, err := h.Cancel(t.Context(), h.staff, late); !errors.As(err, &denied) {
		t.Errorf("cancelling work that has begun ended in %v", err)
	}
}

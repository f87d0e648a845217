package desk

import (
	"context"
	"fmt"
	"strings"

	"liaison/internal/auth"
	"liaison/internal/incident"
)

// ReportInput is what somebody says about new trouble.
type ReportInput struct {
	Title        string // default: the beginning of the description
	Description  string
	Organisation incident.OrganisationID // an agent may name one; a requester's own otherwise
	Category     string
	Impact       incident.Impact
	Urgency      incident.Urgency
	Contact      incident.Contact // default: the reporter
	Service      string
	Confidential bool
	Reference    string
	Source       incident.Source // default USER
	Key          Key
}

// Reported is a fresh incident and where word of it goes.
type Reported struct {
	Incident        incident.Incident
	NotifiedAddress string
}

// Report opens an incident. Who reports it, and for which organisation, comes from the sign-in; only an agent
// may report for another.
func (d *Desk) Report(ctx context.Context, v auth.Viewer, in ReportInput) (Reported, error) {
	organisation, err := reportFor(v, in.Organisation)
	if err != nil {
		return Reported{}, err
	}
	if err := d.checkReport(in); err != nil {
		return Reported{}, err
	}
	now := d.now()
	i := incident.Incident{
		ID: incident.NewID(), Organisation: organisation, Title: in.Title, Description: in.Description, State: incident.New,
		Priority: incident.PriorityNone, Impact: in.Impact, Urgency: in.Urgency, Category: in.Category, Service: in.Service,
		Reference: in.Reference, Source: in.Source, Contact: in.Contact, ReportedBy: v.Name, OpenedAt: now, UpdatedAt: now,
	}
	if strings.TrimSpace(i.Title) == "" {
		i.Title = titleFrom(i.Description)
	}
	if i.Source == "" {
		i.Source = incident.SourceUser
	}
	if i.Contact == (incident.Contact{}) {
		i.Contact = incident.Contact{Name: v.Name, Phone: v.Phone, Email: v.Email}
	}
	done, err := d.ledger.Open(ctx, v, person(v), i, in.Key)
	if err != nil {
		return Reported{}, fmt.Errorf("reporting: %w", err)
	}
	return Reported{Incident: done.Incident, NotifiedAddress: done.Incident.Contact.Email}, nil
}

func reportFor(v auth.Viewer, named incident.OrganisationID) (incident.OrganisationID, error) {
	switch {
	case named == 0 && v.Organisation == 0:
		return 0, refuse("organisation", "is missing", "name the organisation that the incident is for")
	case named == 0 || named == v.Organisation:
		return v.Organisation, nil
	case !v.Staff():
		return 0, &Denied{Problem: "you may report incidents only for your own organisation", Remedy: "leave organisation out"}
	case !v.Sees(named):
		return 0, refuse("organisation", "is not known", "use the id of an organisation from the organisations query")
	}
	return named, nil
}

func (d *Desk) checkReport(in ReportInput) error {
	if in.Confidential {
		return refuse("confidential", "confidential incidents cannot be kept yet, so this one was not stored",
			"telephone the desk, or report it without confidential details and confidential: false")
	}
	if strings.TrimSpace(in.Description) == "" {
		return refuse("description", "is empty", "say what happened, which error message appeared and when it last worked")
	}
	return firstError(
		d.title(in.Title),
		text("description", in.Description, d.limits.DescriptionBytes),
		d.checkCategory(in.Category),
		line("service", in.Service, shortBytes),
		line("reference", in.Reference, shortBytes),
		line("contact.name", in.Contact.Name, shortBytes),
		line("contact.phone", in.Contact.Phone, shortBytes),
		line("contact.email", in.Contact.Email, shortBytes),
		checkEmail(in.Contact.Email),
	)
}

func (d *Desk) checkCategory(c string) error {
	return oneOf("category", c, incident.DefaultCategories())
}

func checkEmail(s string) error {
	if s == "" {
		return nil
	}
	if local, domain, ok := strings.Cut(s, "@"); ok && local != "" && domain != "" && !strings.ContainsAny(s, " \t<>,;") {
		return nil
	}
	return refuse("contact.email", fmt.Sprintf("%q is no mail address", s), "write it as name@example.org")
}

// titleFrom takes the first line of a description, at most 80 characters of it, cut at a word.
func titleFrom(description string) string {
	first, _, _ := strings.Cut(strings.TrimSpace(description), "\n")
	runes := []rune(strings.TrimSpace(first))
	if len(runes) <= 80 {
		return string(runes)
	}
	cut := string(runes[:79])
	if i := strings.LastIndexByte(cut, ' '); i > 40 {
		cut = cut[:i]
	}
	return cut + "…"
}

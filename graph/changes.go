package graph

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"liaison/graph/load"
	"liaison/graph/model"
	"liaison/internal/auth"
	"liaison/internal/desk"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// maxKey bounds idempotency keys, in characters.
const maxKey = 200

// target is what mutations of an incident have in common.
type target struct {
	operation       string
	incident        string
	expectedVersion *int32
	key             *string
}

// change carries a mutation of one incident out.
func (r *Resolver) change(ctx context.Context, t target, input any, do func(auth.Viewer, desk.Target) (incident.Incident, error)) (*model.IncidentPayload, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	at, err := t.resolve(input)
	if err != nil {
		return nil, err
	}
	i, err := do(s.Viewer(), at)
	if err != nil {
		return nil, err
	}
	return &model.IncidentPayload{Incident: shown(s, i)}, nil
}

func shown(s *load.Set, i incident.Incident) *model.Incident {
	return model.Incidents(s, []incident.Incident{i})[0]
}

func (t target) resolve(input any) (desk.Target, error) {
	id, err := incidentID("incidentId", t.incident)
	if err != nil {
		return desk.Target{}, err
	}
	out := desk.Target{Incident: id}
	if t.expectedVersion != nil {
		if *t.expectedVersion < 1 {
			return out, refuse("expectedVersion", fmt.Sprintf("%d is no version", *t.expectedVersion), "give the version that was read, or leave it out")
		}
		out.ExpectedVersion = int64(*t.expectedVersion)
	}
	out.Key, err = idempotencyKey(t.operation, t.key, input)
	return out, err
}

// idempotencyKey makes a key of the client's own and a digest of the operation with everything else in the input.
// Inputs are structs whose fields are always written in one order, absent ones not at all.
func idempotencyKey(operation string, key *string, input any) (desk.Key, error) {
	if key == nil {
		return desk.Key{}, nil
	}
	if n := utf8.RuneCountInString(*key); n < 1 || n > maxKey || !utf8.ValidString(*key) || strings.ContainsRune(*key, 0) {
		return desk.Key{}, refuse("idempotencyKey", "is not usable", fmt.Sprintf("use 1 to %d characters of text, for example a UUID", maxKey))
	}
	b, err := json.Marshal(input)
	if err != nil {
		return desk.Key{}, fmt.Errorf("writing the input of %s: %w", operation, err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return desk.Key{}, fmt.Errorf("reading the input of %s: %w", operation, err)
	}
	delete(fields, "idempotencyKey")
	if b, err = json.Marshal(fields); err != nil { // a map's keys are written in order
		return desk.Key{}, fmt.Errorf("writing the input of %s: %w", operation, err)
	}
	return desk.Key{Value: *key, Digest: sha256.Sum256(append([]byte(operation+"\n"), b...))}, nil
}

func (r *Resolver) report(ctx context.Context, in model.ReportIncidentInput) (*model.ReportIncidentPayload, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	report := desk.ReportInput{
		Title: value(in.Title), Description: in.Description, Category: value(in.Category), Impact: value(in.Impact), Urgency: value(in.Urgency),
		Contact: contact(in.Contact), Service: value(in.Service), Confidential: value(in.Confidential), Reference: value(in.Reference), Source: value(in.Source),
	}
	if in.Organisation != nil {
		if report.Organisation, err = r.reportFor(ctx, s, *in.Organisation); err != nil {
			return nil, err
		}
	}
	if report.Key, err = idempotencyKey("reportIncident", in.IdempotencyKey, in); err != nil {
		return nil, err
	}
	done, err := r.desk.Report(ctx, s.Viewer(), report)
	if err != nil {
		return nil, err
	}
	payload := &model.ReportIncidentPayload{Incident: shown(s, done.Incident)}
	if done.NotifiedAddress != "" {
		payload.NotifiedAddress = &done.NotifiedAddress
	}
	return payload, nil
}

// reportFor finds the organisation that a report names. To a requester every other organisation is FORBIDDEN,
// whether or not there is one, so that reports cannot be used to find out.
func (r *Resolver) reportFor(ctx context.Context, s *load.Set, named string) (incident.OrganisationID, error) {
	id, err := organisationInput(ctx, s, named)
	if _, unknown := desk.IsRefusal(err); unknown && !s.Viewer().Staff() {
		return 0, &desk.Denied{Problem: "you may report incidents only for your own organisation", Remedy: "leave organisation out"}
	}
	return id, err
}

func (r *Resolver) addComment(ctx context.Context, in model.AddCommentInput) (*model.AddCommentPayload, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	at, err := target{"addComment", in.IncidentID, in.ExpectedVersion, in.IdempotencyKey}.resolve(in)
	if err != nil {
		return nil, err
	}
	i, c, err := r.desk.Comment(ctx, s.Viewer(), desk.CommentInput{Target: at, Body: in.Body, Visibility: value(in.Visibility)})
	if err != nil {
		return nil, err
	}
	said := ledger.Comment{Comment: c, Of: ledger.IncidentKey{Organisation: i.Organisation, Incident: i.ID}}
	return &model.AddCommentPayload{Comment: &model.Comment{Comment: said, Peers: s.Comments(said)}, Incident: shown(s, i)}, nil
}

func (r *Resolver) escalate(ctx context.Context, in model.EscalateIncidentInput) (*model.EscalateIncidentPayload, error) {
	s, err := r.set(ctx)
	if err != nil {
		return nil, err
	}
	at, err := target{"escalateIncident", in.IncidentID, in.ExpectedVersion, in.IdempotencyKey}.resolve(in)
	if err != nil {
		return nil, err
	}
	i, l, err := r.desk.Escalate(ctx, s.Viewer(), desk.EscalateInput{Target: at, System: in.System, Summary: summary(value(in.Summary), in.Answers)})
	if err != nil {
		return nil, err
	}
	return &model.EscalateIncidentPayload{Link: &model.ExternalLink{Link: l, Peers: s.Links(l)}, Incident: shown(s, i)}, nil
}

// summary appends the answers to what the vendor is told.
func summary(text string, answers []*model.AnswerInput) string {
	parts := make([]string, 0, len(answers)+1)
	if text != "" {
		parts = append(parts, text)
	}
	for _, a := range answers {
		parts = append(parts, a.Question+"\n"+a.Answer)
	}
	return strings.Join(parts, "\n\n")
}

func contact(in *model.ContactInput) incident.Contact {
	if in == nil {
		return incident.Contact{}
	}
	return incident.Contact{Name: value(in.Name), Phone: value(in.Phone), Email: value(in.Email)}
}

// value is what an optional input holds, the zero value when it was left out.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

package ledgertest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/connectors"
	"liaison/internal/incident"
	"liaison/internal/postgres"
	"liaison/sync/ledger"
	"liaison/sync/ledger/internal/db"
)

// Contents is everything that a store holds, for those who check what the sync made of it.
type Contents struct {
	Incidents  []Incident // by number
	Entries    []Entry    // by incident and version
	Comments   []Comment  // in the order of their entries
	Links      []Link     // in the order in which they were made
	Deliveries []Delivery // by link and version
	Copies     []Copy
}

// Incident is an incident's row.
type Incident struct {
	ID           incident.ID
	Organisation incident.OrganisationID
	Number       string
	Version      int64
	Values       incident.Values
}

// Entry is a line of the ledger.
type Entry struct {
	Incident   incident.ID
	Version    int64
	Kind       ledger.Kind
	Visibility incident.Visibility
	Actor      ledger.Actor
	Link       incident.LinkID
	Comment    incident.CommentID
	Changes    ledger.Changes
	Detail     map[string]any
	At         time.Time
}

// Comment is a comment's row.
type Comment struct {
	incident.Comment
	Incident incident.ID
	Link     incident.LinkID // where it came from; zero when it was made in the hub
}

// Link is a link's row with its lane's.
type Link struct {
	ID            incident.LinkID
	Incident      incident.ID
	System        incident.SystemID
	CorrelationID string
	ExternalID    connectors.ExternalID
	Number        string
	RemoteVersion string
	RemoteState   string
	Base          ledger.Base
	Parked        map[incident.Field]string
	JournalMark   string
	Gone          connectors.Gone

	Due            time.Time // zero: nothing waits
	Held           bool
	Taken          bool // a lease was taken and not given back, whether or not it has ended
	Token          int64
	DoneVersion    int64
	Trouble        string
	SendingVersion int64 // up to which deliveries may have been sent; 0: none is under way
	SendingSince   time.Time
}

// Delivery is a delivery's row.
type Delivery struct {
	ID       incident.DeliveryID
	Link     incident.LinkID
	Version  int64
	Kind     ledger.DeliveryKind
	Values   incident.Values
	Comment  incident.CommentID
	State    ledger.State
	Attempts int
	Mark     string
	SentAt   time.Time // UNKNOWN: when it was sent at the latest
	Error    string
	Settled  bool
}

// Copy says which of a vendor's journal entries holds a comment.
type Copy struct {
	Link       incident.LinkID
	ExternalID string
	Comment    incident.CommentID
}

// Contents returns what the memory holds.
func (m *Memory) Contents() Contents {
	var c Contents
	m.store.Look(func() { m.read(&c) })
	c.sort()
	return c
}

func (m *Memory) read(c *Contents) {
	for _, r := range m.incidents.All {
		c.Incidents = append(c.Incidents, incidentOf(r))
	}
	for _, r := range m.entries.All {
		c.Entries = append(c.Entries, entryOfRow(r))
	}
	for _, r := range m.comments.All {
		c.Comments = append(c.Comments, commentOf(r))
	}
	for id, r := range m.links.All {
		lane, _ := m.lanes.Get(id)
		c.Links = append(c.Links, linkOf(r, lane, !lane.LeaseUntil.IsZero()))
	}
	for _, r := range m.deliveries.All {
		c.Deliveries = append(c.Deliveries, deliveryOf(r))
	}
	for _, r := range m.copies.All {
		c.Copies = append(c.Copies, copyOf(r))
	}
}

// Read returns what a database holds.
func Read(ctx context.Context, d *postgres.DB) (Contents, error) {
	var c Contents
	var err error
	read := func(what string, collect func() error) {
		if err == nil {
			if err = collect(); err != nil {
				err = fmt.Errorf("reading every %s: %w", what, err)
			}
		}
	}
	read("incident", func() error {
		rows, err := collect[db.Incident](ctx, d, `SELECT * FROM incident`)
		for _, r := range rows {
			c.Incidents = append(c.Incidents, incidentOf(r))
		}
		return err
	})
	read("entry", func() error {
		rows, err := collect[db.LedgerEntry](ctx, d, `SELECT * FROM ledger_entry`)
		for _, r := range rows {
			c.Entries = append(c.Entries, entryOfRow(r))
		}
		return err
	})
	read("comment", func() error {
		rows, err := collect[db.Comment](ctx, d, `SELECT c.* FROM comment c JOIN ledger_entry e ON e.organisation_id = c.organisation_id AND e.comment_id = c.id ORDER BY e.id`)
		for _, r := range rows {
			c.Comments = append(c.Comments, commentOf(r))
		}
		return err
	})
	lanes := map[uuid.UUID]db.Lane{}
	read("lane", func() error {
		// The driver knows no infinite time.Time.
		rows, err := collect[db.Lane](ctx, d, `SELECT organisation_id, link_id, system_id, due_at, held, coalesce(nullif(lease_until, '-infinity'), '0001-01-01 00:00:00+00') AS lease_until,
			lease_token, done_version, trouble, sending_version, sending_since, sending_mark FROM lane`)
		for _, r := range rows {
			lanes[r.LinkID] = r
		}
		return err
	})
	read("link", func() error {
		rows, err := collect[db.ExternalLink](ctx, d, `SELECT * FROM external_link ORDER BY created_at, id`)
		for _, r := range rows {
			lane := lanes[r.ID]
			c.Links = append(c.Links, linkOf(r, lane, lane.LeaseUntil.Year() > 1))
		}
		return err
	})
	read("delivery", func() error {
		rows, err := collect[db.Delivery](ctx, d, `SELECT * FROM delivery`)
		for _, r := range rows {
			c.Deliveries = append(c.Deliveries, deliveryOf(r))
		}
		return err
	})
	read("copy", func() error {
		rows, err := collect[db.CommentCopy](ctx, d, `SELECT * FROM comment_copy`)
		for _, r := range rows {
			c.Copies = append(c.Copies, copyOf(r))
		}
		return err
	})
	c.sort()
	return c, err
}

func collect[T any](ctx context.Context, d *postgres.DB, sql string) ([]T, error) {
	rows, err := d.System.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByNameLax[T])
}

// sort puts everything into an order that both stores share.
func (c *Contents) sort() {
	numbers, order := map[incident.ID]string{}, map[incident.LinkID]int{}
	slices.SortFunc(c.Incidents, func(a, b Incident) int { return strings.Compare(a.Number, b.Number) })
	for _, i := range c.Incidents {
		numbers[i.ID] = i.Number
	}
	slices.SortFunc(c.Entries, func(a, b Entry) int {
		if a.Incident != b.Incident {
			return strings.Compare(numbers[a.Incident], numbers[b.Incident])
		}
		return int(a.Version - b.Version)
	})
	for n, l := range c.Links {
		order[l.ID] = n
	}
	slices.SortFunc(c.Deliveries, func(a, b Delivery) int {
		if a.Link != b.Link {
			return order[a.Link] - order[b.Link]
		}
		return int(a.Version - b.Version)
	})
	slices.SortFunc(c.Copies, func(a, b Copy) int {
		if a.Link != b.Link {
			return order[a.Link] - order[b.Link]
		}
		return strings.Compare(a.ExternalID, b.ExternalID)
	})
}

func incidentOf(r db.Incident) Incident {
	i := incident.Incident{
		Title: r.Title, Description: r.Description, State: incident.State(r.State), HoldReason: incident.HoldReason(r.HoldReason), Priority: incident.Priority(r.Priority),
		Impact: incident.Impact(r.Impact), Urgency: incident.Urgency(r.Urgency), Category: r.Category, Service: r.Service, Team: r.Team, Assignee: r.Assignee,
		Resolution: r.Resolution, Contact: incident.Contact{Name: r.ContactName, Phone: r.ContactPhone, Email: r.ContactEmail},
	}
	if r.DeferredTo != nil {
		i.DeferredTo = *r.DeferredTo
	}
	return Incident{ID: incident.ID{UUID: r.ID}, Organisation: incident.OrganisationID(r.OrganisationID), Number: r.Number, Version: r.Version, Values: i.Values()}
}

func entryOfRow(r db.LedgerEntry) Entry {
	e := Entry{
		Incident: incident.ID{UUID: r.IncidentID}, Version: r.Version, Kind: ledger.Kind(r.Kind), Visibility: incident.Visibility(r.Visibility),
		Actor: ledger.Actor{Kind: ledger.ActorKind(r.ActorKind), Name: r.Actor}, Link: incident.LinkID{UUID: r.LinkID.UUID},
		Comment: incident.CommentID{UUID: r.CommentID.UUID}, At: r.At.UTC(),
	}
	parse(r.Changes, &e.Changes)
	parse(r.Detail, &e.Detail)
	return e
}

func commentOf(r db.Comment) Comment {
	return Comment{
		Comment:  incident.Comment{ID: incident.CommentID{UUID: r.ID}, Visibility: incident.Visibility(r.Visibility), Body: r.Body, Author: r.Author, At: r.At.UTC()},
		Incident: incident.ID{UUID: r.IncidentID}, Link: incident.LinkID{UUID: r.LinkID.UUID},
	}
}

func linkOf(r db.ExternalLink, lane db.Lane, taken bool) Link {
	l := Link{
		ID: incident.LinkID{UUID: r.ID}, Incident: incident.ID{UUID: r.IncidentID}, System: incident.SystemID(r.SystemID), CorrelationID: r.CorrelationID.String(),
		Number: r.Number, RemoteVersion: r.RemoteVersion, RemoteState: r.RemoteState, JournalMark: r.JournalMark, Gone: connectors.Gone(r.Gone),
		Held: lane.Held, Taken: taken, Token: lane.LeaseToken, DoneVersion: lane.DoneVersion, Trouble: lane.Trouble,
	}
	if r.ExternalID != nil {
		l.ExternalID = connectors.ExternalID(*r.ExternalID)
	}
	if lane.DueAt != nil {
		l.Due = lane.DueAt.UTC()
	}
	if lane.SendingVersion != nil {
		l.SendingVersion = *lane.SendingVersion
	}
	if lane.SendingSince != nil {
		l.SendingSince = lane.SendingSince.UTC()
	}
	parse(r.Base, &l.Base)
	parse(r.Parked, &l.Parked)
	return l
}

func deliveryOf(r db.Delivery) Delivery {
	d := Delivery{
		ID: incident.DeliveryID{UUID: r.ID}, Link: incident.LinkID{UUID: r.LinkID}, Version: r.Version, Kind: ledger.DeliveryKind(r.Kind),
		Comment: incident.CommentID{UUID: r.CommentID.UUID}, State: ledger.State(r.State), Attempts: int(r.Attempts), Mark: r.JournalMark, Error: r.Error,
		Settled: r.SettledAt != nil,
	}
	if r.SentAt != nil {
		d.SentAt = r.SentAt.UTC()
	}
	parse(r.Payload, &d.Values)
	return d
}

func copyOf(r db.CommentCopy) Copy {
	return Copy{Link: incident.LinkID{UUID: r.LinkID}, ExternalID: r.ExternalID, Comment: incident.CommentID{UUID: r.CommentID}}
}

// parse reads JSON that the ledger wrote; what it cannot read stays empty, which a comparison shows.
func parse(b []byte, into any) { _ = json.Unmarshal(b, into) }

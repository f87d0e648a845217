package ledgertest

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/sync/ledger"
	"liaison/sync/ledger/internal/db"
)

// lease takes a lane: the zero time is -infinity.
func (t *tx) lease(id uuid.UUID, seconds float64) db.Lane {
	m := t.memory
	lane, _ := m.lanes.Get(id)
	m.tokens++ // a sequence is not rolled back
	lane.LeaseUntil, lane.LeaseToken = m.clock().Add(time.Duration(seconds*float64(time.Second))), m.tokens
	m.lanes.Put(t.Tx, id, lane)
	return lane
}

func (t *tx) free(lane db.Lane) bool { return lane.LeaseUntil.Before(t.memory.clock()) }

func (t *tx) LeaseLanes(ctx context.Context, p db.LeaseLanesParams) ([]db.LeaseLanesRow, error) {
	if err := t.begin(ctx, "LeaseLanes", p.SystemID); err != nil {
		return nil, err
	}
	m := t.memory
	if m.paused[p.SystemID] {
		return nil, nil
	}
	var due []db.Lane
	for _, lane := range m.lanes.All {
		if lane.SystemID == p.SystemID && lane.DueAt != nil && !lane.DueAt.After(p.At) && t.free(lane) && t.sees(lane.OrganisationID) {
			due = append(due, lane)
		}
	}
	slices.SortStableFunc(due, func(a, b db.Lane) int { return a.DueAt.Compare(*b.DueAt) })
	var out []db.LeaseLanesRow
	for _, lane := range due[:min(len(due), int(p.MaxLanes))] {
		lane = t.lease(lane.LinkID, p.LeaseSeconds)
		out = append(out, db.LeaseLanesRow{OrganisationID: lane.OrganisationID, LinkID: lane.LinkID, LeaseToken: lane.LeaseToken, Broken: lane.SendingVersion != nil})
	}
	return out, nil
}

func (t *tx) LeaseLink(ctx context.Context, p db.LeaseLinkParams) (int64, error) {
	if err := t.begin(ctx, "LeaseLink", p.LinkID); err != nil {
		return 0, err
	}
	lane, ok := t.memory.lanes.Get(p.LinkID)
	if !ok || lane.OrganisationID != p.OrganisationID || !t.free(lane) {
		return 0, pgx.ErrNoRows
	}
	return t.lease(p.LinkID, p.LeaseSeconds).LeaseToken, nil
}

// leased returns the lane if it bears the token.
func (t *tx) leased(organisation int64, link uuid.UUID, token int64) (db.Lane, bool) {
	lane, ok := t.memory.lanes.Get(link)
	return lane, ok && lane.OrganisationID == organisation && lane.LeaseToken == token
}

func (t *tx) renew(organisation int64, link uuid.UUID, token int64, seconds float64) bool {
	lane, ok := t.leased(organisation, link, token)
	if !ok || lane.LeaseUntil.IsZero() {
		return false
	}
	lane.LeaseUntil = t.memory.clock().Add(time.Duration(seconds * float64(time.Second)))
	t.memory.lanes.Put(t.Tx, link, lane)
	return true
}

func (t *tx) RenewLane(ctx context.Context, p db.RenewLaneParams) (int64, error) {
	if err := t.begin(ctx, "RenewLane", p.LinkID); err != nil {
		return 0, err
	}
	if !t.renew(p.OrganisationID, p.LinkID, p.LeaseToken, p.LeaseSeconds) {
		return 0, nil
	}
	return 1, nil
}

func (t *tx) RenewLanes(ctx context.Context, p db.RenewLanesParams) ([]int64, error) {
	if err := t.begin(ctx, "RenewLanes", ""); err != nil {
		return nil, err
	}
	var out []int64
	for n, link := range p.Links {
		if t.renew(p.Organisations[n], link, p.Tokens[n], p.LeaseSeconds) {
			out = append(out, p.Tokens[n])
		}
	}
	return out, nil
}

// ahead lists a lane's deliveries beyond a version, in order.
func (t *tx) ahead(link uuid.UUID, version int64) []db.Delivery {
	var out []db.Delivery
	for _, d := range t.memory.deliveries.All {
		if d.LinkID == link && d.Version > version {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b db.Delivery) int { return cmp.Compare(a.Version, b.Version) })
	return out
}

func (t *tx) WriteOff(ctx context.Context, p db.WriteOffParams) error {
	if err := t.begin(ctx, "WriteOff", first(p.Links)); err != nil {
		return err
	}
	m := t.memory
	for _, id := range p.Links {
		lane, _ := m.lanes.Get(id)
		for _, d := range t.ahead(id, lane.DoneVersion) {
			first := d.State == string(ledger.StateUnknown) && d.JournalMark == "" && lane.SendingMark != nil // a comment that was only asked after before
			if d.State != string(ledger.StatePending) && !first || lane.SendingVersion == nil || d.Version > *lane.SendingVersion {
				continue
			}
			at := stamp(m.clock())
			d.State, d.SentAt = string(ledger.StateUnknown), &at
			if lane.SendingMark != nil {
				d.JournalMark = *lane.SendingMark
			}
			m.deliveries.Put(t.Tx, d.ID, d)
		}
	}
	return nil
}

func (t *tx) BeginRuns(ctx context.Context, p db.BeginRunsParams) ([]db.BeginRunsRow, error) {
	if err := t.begin(ctx, "BeginRuns", first(p.Links)); err != nil {
		return nil, err
	}
	m := t.memory
	var out []db.BeginRunsRow
	for n, id := range p.Links {
		lane, ok := m.lanes.Get(id)
		if !ok || lane.OrganisationID != p.Organisations[n] {
			continue
		}
		open := t.ahead(id, lane.DoneVersion)
		if len(open) == 0 || open[0].State == string(ledger.StateDead) {
			continue
		}
		upto := open[0].Version
		if open[0].State == string(ledger.StatePending) && open[0].Kind != string(ledger.CreateTicket) {
			upto = open[min(len(open), int(p.Most))-1].Version
		}
		out = append(out, t.run(&lane, open[0].Version, upto))
		m.lanes.Put(t.Tx, id, lane)
	}
	return out, nil
}

// run writes down on a lane what is about to be sent.
func (t *tx) run(lane *db.Lane, version, upto int64) db.BeginRunsRow {
	at := stamp(t.memory.clock())
	lane.SendingVersion, lane.SendingSince, lane.SendingMark = &upto, &at, nil
	link, _ := t.memory.links.Get(lane.LinkID)
	i, _ := t.memory.incidents.Get(link.IncidentID)
	return db.BeginRunsRow{
		OrganisationID: lane.OrganisationID, LinkID: lane.LinkID, LeaseToken: lane.LeaseToken, SendingSince: lane.SendingSince, Version: version, Upto: upto,
		ExternalLink: link, Incident: i,
	}
}

func (t *tx) RunDeliveries(ctx context.Context, p db.RunDeliveriesParams) ([]db.RunDeliveriesRow, error) {
	if err := t.begin(ctx, "RunDeliveries", first(p.Links)); err != nil {
		return nil, err
	}
	m := t.memory
	var out []db.RunDeliveriesRow
	for n, id := range p.Links {
		begun := t.ahead(id, p.Versions[n]-1)
		for k, d := range begun {
			if d.Version > p.Uptos[n] {
				break
			}
			row := db.RunDeliveriesRow{
				OrganisationID: d.OrganisationID, ID: d.ID, LinkID: d.LinkID, IncidentID: d.IncidentID, Version: d.Version, Kind: d.Kind, Payload: bytes.Clone(d.Payload),
				CommentID: d.CommentID, State: d.State, Attempts: d.Attempts, JournalMark: d.JournalMark, SentAt: d.SentAt, Trace: d.Trace, CreatedAt: d.CreatedAt,
			}
			if k == 0 {
				row.Overtaken = overtaken(d, begun[1:min(len(begun), 1+int(p.Most))])
			}
			if d.SentAt != nil {
				row.SentAgo = m.clock().Sub(*d.SentAt).Seconds()
			}
			if c, ok := m.comments.Get(d.CommentID.UUID); ok && d.CommentID.Valid {
				row.CommentBody, row.CommentAuthor, row.CommentVisibility = c.Body, c.Author, c.Visibility
			}
			out = append(out, row)
		}
	}
	return out, nil
}

// overtaken names the fields of an update that was tried before which later ones have as well that may have been sent.
func overtaken(d db.Delivery, beyond []db.Delivery) []string {
	fields := map[string]bool{}
	if d.Kind != string(ledger.UpdateTicket) || d.State != string(ledger.StateUnknown) && d.Attempts == 0 {
		return nil
	}
	for _, later := range beyond {
		if later.State == string(ledger.StateUnknown) && later.Kind == string(ledger.UpdateTicket) {
			var values map[string]any
			parse(later.Payload, &values)
			for f := range values {
				fields[f] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(fields))
}

func (t *tx) NoteMarks(ctx context.Context, p db.NoteMarksParams) ([]int64, error) {
	if err := t.begin(ctx, "NoteMarks", first(p.Links)); err != nil {
		return nil, err
	}
	var out []int64
	for n, id := range p.Links {
		lane, held := t.leased(p.Organisations[n], id, p.Tokens[n])
		if !held {
			continue
		}
		mark := "=" + p.Marks[n]
		lane.SendingMark = &mark
		t.memory.lanes.Put(t.Tx, id, lane)
		out = append(out, p.Tokens[n])
	}
	return out, nil
}

func (t *tx) LockLane(ctx context.Context, p db.LockLaneParams) (bool, error) {
	if err := t.begin(ctx, "LockLane", p.LinkID); err != nil {
		return false, err
	}
	lane, held := t.leased(p.OrganisationID, p.LinkID, p.LeaseToken)
	if !held || !t.sees(lane.OrganisationID) {
		return false, pgx.ErrNoRows
	}
	t.proven(p.LinkID)
	return lane.Held, nil
}

func (t *tx) LockLanes(ctx context.Context, p db.LockLanesParams) ([]uuid.UUID, error) {
	if err := t.begin(ctx, "LockLanes", first(p.Links)); err != nil {
		return nil, err
	}
	var out []uuid.UUID
	for n, id := range p.Links {
		if _, held := t.leased(p.Organisations[n], id, p.Tokens[n]); held {
			t.proven(id)
			out = append(out, id)
		}
	}
	return out, nil
}

func over(state string) bool {
	return state == string(ledger.StateDelivered) || state == string(ledger.StateSkipped)
}

func (t *tx) SettleDeliveries(ctx context.Context, p db.SettleDeliveriesParams) error {
	if err := t.begin(ctx, "SettleDeliveries", first(p.Ids)); err != nil {
		return err
	}
	m := t.memory
	for n, id := range p.Ids {
		d, ok := m.deliveries.Get(id)
		if !ok || d.OrganisationID != p.Organisations[n] {
			continue
		}
		d.State, d.ErrorKind, d.Error, d.Mapping = p.States[n], p.ErrorKinds[n], p.Errors[n], p.Mappings[n]
		d.Attempts++
		if d.State != string(ledger.StateUnknown) {
			d.SentAt = nil
		} else {
			if d.SentAt == nil || p.Losts[n] {
				at := stamp(m.clock())
				d.SentAt = &at
			}
			if lane, _ := m.lanes.Get(d.LinkID); lane.SendingMark != nil {
				d.JournalMark = *lane.SendingMark
			}
		}
		d.SettledAt = nil
		if over(d.State) {
			at := stamp(p.At)
			d.SettledAt = &at
		}
		m.deliveries.Put(t.Tx, id, d)
	}
	return nil
}

func (t *tx) SettleLanes(ctx context.Context, p db.SettleLanesParams) ([]db.SettleLanesRow, error) {
	if err := t.begin(ctx, "SettleLanes", first(p.Links)); err != nil {
		return nil, err
	}
	m := t.memory
	var out []db.SettleLanesRow
	for n, id := range p.Links {
		lane, ok := m.lanes.Get(id)
		if !ok || lane.OrganisationID != p.Organisations[n] {
			continue
		}
		t.needsFence("SettleLanes", id)
		state, due := p.States[n], stamp(p.DueAts[n])
		lane.LeaseUntil, lane.Held, lane.Trouble, lane.DueAt = time.Time{}, state == string(ledger.StateDead), "", &due
		lane.SendingVersion, lane.SendingSince, lane.SendingMark = nil, nil, nil
		lane.DoneVersion = max(lane.DoneVersion, p.Dones[n])
		var next []db.Delivery
		switch {
		case lane.Held:
			lane.Trouble, lane.DueAt = state, nil
		case state == string(ledger.StateUnknown):
			lane.Trouble = state
		case over(state):
			lane.DoneVersion = max(lane.DoneVersion, p.Versions[n])
			if next = t.ahead(id, p.Versions[n]); len(next) == 0 {
				lane.DueAt = nil
			}
		}
		if len(next) > 0 && p.Keeps[n] && next[0].State == string(ledger.StatePending) && !m.paused[p.Systems[n]] {
			lane.LeaseUntil = m.clock().Add(time.Duration(p.LeaseSeconds * float64(time.Second)))
			out = append(out, db.SettleLanesRow(t.run(&lane, next[0].Version, next[min(len(next), int(p.Most))-1].Version)))
		}
		m.lanes.Put(t.Tx, id, lane)
	}
	return out, nil
}

func (t *tx) ReleaseLane(ctx context.Context, p db.ReleaseLaneParams) error {
	if err := t.begin(ctx, "ReleaseLane", p.LinkID); err != nil {
		return err
	}
	lane, held := t.leased(p.OrganisationID, p.LinkID, p.LeaseToken)
	if !held {
		return nil
	}
	lane.LeaseUntil = time.Time{}
	switch {
	case lane.Held || len(t.ahead(p.LinkID, lane.DoneVersion)) == 0:
		lane.DueAt = nil
	case lane.DueAt == nil:
		due := stamp(p.DueAt)
		lane.DueAt = &due
	}
	t.memory.lanes.Put(t.Tx, p.LinkID, lane)
	return nil
}

func (t *tx) FindLink(ctx context.Context, p db.FindLinkParams) (db.ExternalLink, error) {
	if err := t.begin(ctx, "FindLink", p.ID); err != nil {
		return db.ExternalLink{}, err
	}
	l, ok := t.memory.links.Get(p.ID)
	if !ok || l.OrganisationID != p.OrganisationID || !t.sees(l.OrganisationID) {
		return db.ExternalLink{}, pgx.ErrNoRows
	}
	return l, nil
}

func (t *tx) UpdateLinks(ctx context.Context, p db.UpdateLinksParams) error {
	if err := t.begin(ctx, "UpdateLinks", first(p.Ids)); err != nil {
		return err
	}
	m := t.memory
	for n, id := range p.Ids {
		l, ok := m.links.Get(id)
		if !ok || l.OrganisationID != p.Organisations[n] {
			continue
		}
		t.needsFence("UpdateLinks", id)
		l.ExternalID = nil
		if external := p.ExternalIds[n]; external != "" {
			for other, o := range m.links.All {
				if other != id && o.OrganisationID == l.OrganisationID && o.SystemID == l.SystemID && o.ExternalID != nil && *o.ExternalID == external {
					return t.Abort(unique("external_link_ticket_once"))
				}
			}
			l.ExternalID = &external
		}
		l.Number, l.Url, l.RemoteVersion, l.RemoteState = p.Numbers[n], p.Urls[n], p.RemoteVersions[n], p.RemoteStates[n]
		l.Base, l.Parked, l.Flips = bytes.Clone(p.Bases[n]), bytes.Clone(p.Parkeds[n]), bytes.Clone(p.Flipses[n])
		l.JournalMark, l.Gone, l.LastSyncedAt = p.JournalMarks[n], p.Gones[n], stampPtr(&p.LastSyncedAts[n])
		m.links.Put(t.Tx, id, l)
	}
	return nil
}

func (t *tx) CopyComments(ctx context.Context, p db.CopyCommentsParams) error {
	if err := t.begin(ctx, "CopyComments", first(p.Comments)); err != nil {
		return err
	}
	m := t.memory
next:
	for n, comment := range p.Comments {
		k := copyKey{p.Links[n], p.ExternalIds[n]}
		if k.external == "" {
			return t.Abort(check("comment_copy_external_id_check"))
		}
		if _, there := m.copies.Get(k); there {
			continue
		}
		for _, c := range m.copies.All {
			if c.CommentID == comment && c.LinkID == k.link {
				continue next
			}
		}
		m.copies.Put(t.Tx, k, db.CommentCopy{OrganisationID: p.Organisations[n], LinkID: k.link, ExternalID: k.external, CommentID: comment})
	}
	return nil
}

func (t *tx) KnownCopies(ctx context.Context, p db.KnownCopiesParams) ([]string, error) {
	if err := t.begin(ctx, "KnownCopies", p.LinkID); err != nil {
		return nil, err
	}
	var out []string
	for k := range t.memory.copies.All {
		if k.link == p.LinkID && slices.Contains(p.ExternalIds, k.external) {
			out = append(out, k.external)
		}
	}
	return out, nil
}

func (t *tx) OpenDeliveries(ctx context.Context, p db.OpenDeliveriesParams) ([]db.OpenDeliveriesRow, error) {
	if err := t.begin(ctx, "OpenDeliveries", p.LinkID); err != nil {
		return nil, err
	}
	lane, ok := t.memory.lanes.Get(p.LinkID)
	if !ok || lane.OrganisationID != p.OrganisationID {
		return nil, nil
	}
	var out []db.OpenDeliveriesRow
	for _, d := range t.ahead(p.LinkID, lane.DoneVersion) {
		row := db.OpenDeliveriesRow{Delivery: d, SendingVersion: lane.SendingVersion, SendingMark: lane.SendingMark}
		if c, ok := t.memory.comments.Get(d.CommentID.UUID); ok && d.CommentID.Valid {
			row.CommentBody, row.CommentAuthor, row.CommentVisibility = c.Body, c.Author, c.Visibility
		}
		out = append(out, row)
	}
	return out, nil
}

func (t *tx) FindLinksByTicket(ctx context.Context, p db.FindLinksByTicketParams) ([]db.ExternalLink, error) {
	if err := t.begin(ctx, "FindLinksByTicket", p.ExternalID+p.Number); err != nil {
		return nil, err
	}
	var out []db.ExternalLink
	for _, l := range t.memory.links.All {
		if l.SystemID != p.SystemID {
			continue
		}
		if p.ExternalID != "" && l.ExternalID != nil && *l.ExternalID == p.ExternalID || p.ExternalID == "" && p.Number != "" && l.Number == p.Number {
			out = append(out, l)
		}
	}
	return out, nil
}

func (t *tx) FindLinkByCorrelation(ctx context.Context, p db.FindLinkByCorrelationParams) (db.ExternalLink, error) {
	if err := t.begin(ctx, "FindLinkByCorrelation", p.CorrelationID); err != nil {
		return db.ExternalLink{}, err
	}
	for _, l := range t.memory.links.All {
		if l.SystemID == p.SystemID && l.CorrelationID == p.CorrelationID {
			return l, nil
		}
	}
	return db.ExternalLink{}, pgx.ErrNoRows
}

func (t *tx) LinksByTickets(ctx context.Context, p db.LinksByTicketsParams) ([]db.ExternalLink, error) {
	if err := t.begin(ctx, "LinksByTickets", p.SystemID); err != nil {
		return nil, err
	}
	var out []db.ExternalLink
	for _, l := range t.memory.links.All {
		if l.SystemID == p.SystemID && l.ExternalID != nil && slices.Contains(p.ExternalIds, *l.ExternalID) {
			out = append(out, l)
		}
	}
	return out, nil
}

func first[T any](all []T) any {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

package incident

import "time"

// Contact is whom the desk calls back.
type Contact struct {
	Name  string
	Phone string
	Email string
}

// Incident is one trouble as the hub holds it. The zero time means "not set".
type Incident struct {
	ID           ID
	Organisation OrganisationID
	Number       string // INC and seven digits, given by the store
	Version      int64  // 1 for a fresh incident, one more with each ledger entry

	Title       string
	Description string // the reporter's own words; they stay as they were at opening
	State       State
	HoldReason  HoldReason // set exactly when State is OnHold
	DeferredTo  time.Time  // set exactly when HoldReason is CustomerDeferral
	Priority    Priority
	Impact      Impact
	Urgency     Urgency
	Category    string
	Service     string
	Team        string
	Assignee    string
	Resolution  string // what was done; needed to resolve
	Reference   string // the reporter's own reference
	Source      Source
	Contact     Contact
	ReportedBy  string // display name of who logged it, from the sign-in

	OpenedAt   time.Time
	UpdatedAt  time.Time
	ResolvedAt time.Time
	ClosedAt   time.Time
}

// Comment is a message on an incident.
type Comment struct {
	ID         CommentID
	Visibility Visibility
	Body       string
	Author     string // display name as the author's own system gives it
	At         time.Time
}

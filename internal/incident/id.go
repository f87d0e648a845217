package incident

import "github.com/google/uuid"

// OrganisationID names a tenant: a school, a faculty, a customer.
type OrganisationID int64

// DeskID names a support provider that serves organisations.
type DeskID int64

// SystemID names a configured external system.
type SystemID int64

// EntryID names a line of the ledger. It is handed out before commit, so it orders nothing across
// incidents; the feed's position does.
type EntryID int64

// ID names an incident.
type ID struct{ uuid.UUID }

// CommentID names a comment.
type CommentID struct{ uuid.UUID }

// LinkID names the tie between an incident and one external ticket.
type LinkID struct{ uuid.UUID }

// DeliveryID names an entry's way to one link.
type DeliveryID struct{ uuid.UUID }

// ConflictID names a field that both sides of a link changed, differently.
type ConflictID struct{ uuid.UUID }

// NewID returns a fresh, time-ordered incident id.
func NewID() ID { return ID{newUUID()} }

// NewCommentID returns a fresh, time-ordered comment id.
func NewCommentID() CommentID { return CommentID{newUUID()} }

// NewLinkID returns a fresh, time-ordered link id.
func NewLinkID() LinkID { return LinkID{newUUID()} }

// NewDeliveryID returns a fresh, time-ordered delivery id.
func NewDeliveryID() DeliveryID { return DeliveryID{newUUID()} }

// NewConflictID returns a fresh, time-ordered conflict id.
func NewConflictID() ConflictID { return ConflictID{newUUID()} }

// newUUID makes version 7 ids: rows that are written together then lie together in their indexes.
func newUUID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

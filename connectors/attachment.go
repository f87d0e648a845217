package connectors

import (
	"context"
	"time"
)

// Attachment is what a vendor says about a file at a ticket, without the file's bytes.
type Attachment struct {
	ID          string // the vendor's stable id
	Name        string // as its sender named it: never a path of ours
	ContentType string // as the vendor claims
	Size        int64  // in bytes; -1 where the vendor names none
	SHA256      string // lower-case hex of the bytes' hash, empty where the vendor names none
	Author      string // as the vendor shows the author
	Own         bool   // uploaded under the connector's own account
	At          time.Time
}

// AttachmentLister is fulfilled by connectors that can list a ticket's files.
type AttachmentLister interface {
	// Attachments returns the ticket's files, oldest first. A vendor that does not tell a ticket without files from
	// one that is not there answers with none.
	Attachments(ctx context.Context, id ExternalID) ([]Attachment, error)
}

package auth

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"liaison/internal/incident"
)

// Role is what a person may do.
type Role string

// The roles.
const (
	Requester Role = "requester" // reports and follows the incidents of the own organisation
	Agent     Role = "agent"     // works for a desk on the incidents of every organisation that it serves
	Admin     Role = "admin"     // an agent who also mends the sync: retries, replays, pauses
)

// Roles lists every role.
func Roles() []Role { return []Role{Requester, Agent, Admin} }

// Viewer is the signed-in person behind a request.
type Viewer struct {
	Subject string // stable name of the sign-in, for idempotency keys and the audit
	Name    string
	Email   string
	Phone   string
	Roles   []Role

	Organisation  incident.OrganisationID   // the own organisation, 0 for the desk's people
	Desk          incident.DeskID           // the desk that serves or is served
	Organisations []incident.OrganisationID // every organisation whose incidents the viewer may see
}

// Has reports whether the viewer holds one of the roles.
func (v Viewer) Has(roles ...Role) bool {
	return slices.ContainsFunc(v.Roles, func(r Role) bool { return slices.Contains(roles, r) })
}

// Staff reports whether the viewer works for a desk: staff read work notes, requesters do not.
func (v Viewer) Staff() bool { return v.Has(Agent, Admin) }

// Sees reports whether the organisation's incidents are the viewer's to see.
func (v Viewer) Sees(o incident.OrganisationID) bool { return slices.Contains(v.Organisations, o) }

// Settings returns the transaction-local settings by which row-level security knows the viewer.
func (v Viewer) Settings() map[string]string {
	ids := make([]string, len(v.Organisations))
	for n, o := range v.Organisations {
		ids[n] = strconv.FormatInt(int64(o), 10)
	}
	return map[string]string{
		"liaison.organisations": "{" + strings.Join(ids, ",") + "}",
		"liaison.staff":         strconv.FormatBool(v.Staff()),
	}
}

type viewerKey struct{}

// WithViewer returns a context that carries who asks.
func WithViewer(ctx context.Context, v Viewer) context.Context {
	return context.WithValue(ctx, viewerKey{}, v)
}

// ViewerFrom returns who asks; false when nobody has signed in.
func ViewerFrom(ctx context.Context) (Viewer, bool) {
	v, ok := ctx.Value(viewerKey{}).(Viewer)
	return v, ok
}

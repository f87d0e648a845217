package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"liaison/internal/incident"
)

// Digest is the SHA-256 of a token, all that is kept of one.
type Digest [sha256.Size]byte

// DigestOf returns a token's digest.
func DigestOf(token string) Digest { return sha256.Sum256([]byte(token)) }

// ParseDigest reads a digest as 64 hexadecimal digits, the way `sha256sum` prints it.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) {
		return d, fmt.Errorf("%d characters that are not the 64 hexadecimal digits of a SHA-256 digest; make one with: printf %%s TOKEN | sha256sum", len(s))
	}
	copy(d[:], b)
	return d, nil
}

// Grant gives a token to a person or program.
type Grant struct {
	Digest  Digest // of the token: DigestOf or ParseDigest
	Subject string // stable name of the sign-in, for idempotency keys and the audit; required and unique
	Name    string // display name; default Subject
	Email   string
	Phone   string
	Roles   []Role // at least one

	// Organisation is the person's own, 0 for the desk's people. Requesters have one.
	Organisation incident.OrganisationID
	// Desk is the desk that the person works for, or whose customer the organisation is.
	Desk incident.DeskID
}

// Directory knows who holds which token. It does not change after it was made.
type Directory struct{ viewers map[Digest]Viewer }

// NewDirectory checks the grants and builds a directory. served names the organisations of each desk: its people
// see all of them, a requester sees only the own one. An admin of no desk sees those under desk 0.
func NewDirectory(grants []Grant, served map[incident.DeskID][]incident.OrganisationID) (*Directory, error) {
	d := &Directory{viewers: make(map[Digest]Viewer, len(grants))}
	subjects := make(map[string]bool, len(grants))
	for n, g := range grants {
		v, err := g.viewer(served)
		if err != nil {
			return nil, fmt.Errorf("token %d (%q): %w", n+1, g.Subject, err)
		}
		if _, taken := d.viewers[g.Digest]; taken {
			return nil, fmt.Errorf("token %d (%q): another subject has the same token; give each its own", n+1, g.Subject)
		}
		if subjects[g.Subject] {
			return nil, fmt.Errorf("token %d (%q): the subject is there twice; subjects must be unique", n+1, g.Subject)
		}
		subjects[g.Subject] = true
		d.viewers[g.Digest] = v
	}
	return d, nil
}

func (g Grant) viewer(served map[incident.DeskID][]incident.OrganisationID) (Viewer, error) {
	v := Viewer{Subject: g.Subject, Name: g.Name, Email: g.Email, Phone: g.Phone, Roles: slices.Clone(g.Roles), Organisation: g.Organisation, Desk: g.Desk}
	if v.Name == "" {
		v.Name = v.Subject
	}
	switch {
	case g.Subject == "":
		return v, fmt.Errorf("the subject is empty; name whose token it is")
	case g.Digest == (Digest{}) || g.Digest == DigestOf(""):
		return v, fmt.Errorf("the token is empty; make one with: openssl rand -hex 32")
	case len(g.Roles) == 0:
		return v, fmt.Errorf("no role is given; use one of %v", Roles())
	}
	for _, r := range g.Roles {
		if !slices.Contains(Roles(), r) {
			return v, fmt.Errorf("role %q is not known; use one of %v", r, Roles())
		}
	}
	switch {
	case v.Staff() && g.Desk == 0 && !v.Has(Admin):
		return v, fmt.Errorf("an agent needs a desk to work for; name it")
	case v.Staff():
		v.Organisations = slices.Clone(served[g.Desk])
		if g.Organisation != 0 && !v.Sees(g.Organisation) {
			return v, fmt.Errorf("the organisation is not served by the desk; leave it out or name another desk")
		}
	case g.Organisation == 0:
		return v, fmt.Errorf("a requester needs an organisation; name it")
	default:
		v.Organisations = []incident.OrganisationID{g.Organisation}
	}
	slices.Sort(v.Organisations)
	return v, nil
}

// Lookup returns who holds a token. It compares digests, never tokens, so that the time it takes tells nothing
// about how much of a guess was right.
func (d *Directory) Lookup(_ context.Context, token string) (Viewer, bool) {
	v, ok := d.viewers[DigestOf(token)]
	return v, ok
}

package graph

import (
	"context"
	"fmt"
	"strings"

	"github.com/99designs/gqlgen/graphql/handler/lru"
	"golang.org/x/sync/singleflight"

	"liaison/internal/auth"
	"liaison/internal/incident"
	"liaison/sync/ledger"
)

// fanout reads an incident that has just changed once for all subscribers with the same rights, however many
// hear of the change. What it remembers is at least as new as the change that it is asked about.
type fanout struct {
	reader *ledger.Reader
	flight singleflight.Group
	recent *lru.LRU[incident.Incident]
}

// remembered is how many changed incidents are kept for subscribers who are a little behind.
const remembered = 1024

func newFanout(reader *ledger.Reader) *fanout {
	return &fanout{reader: reader, recent: lru.New[incident.Incident](remembered)}
}

// incident reads the incident as it is now or was when another subscriber asked about the same change;
// ErrNotFound when the viewer may not see it.
func (f *fanout) incident(ctx context.Context, v auth.Viewer, change ledger.EntryKey) (incident.Incident, error) {
	// An incident's row is the same for all who may see it, so the rights that matter are its organisation's.
	if !v.Sees(change.Organisation) {
		return incident.Incident{}, ledger.ErrNotFound
	}
	settings := v.Settings()
	key := strings.Join([]string{change.Incident.String(), fmt.Sprint(change.Version), settings["liaison.organisations"], settings["liaison.staff"]}, "|")
	if i, ok := f.recent.Get(ctx, key); ok {
		return i, nil
	}
	// The first who asks reads for all, so its own leaving must not fail the others.
	read := func() (any, error) {
		var found []incident.Incident
		if err := f.reader.Read(context.WithoutCancel(ctx), v, ledger.IncidentsByID([]incident.ID{change.Incident}, &found)); err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, ledger.ErrNotFound
		}
		f.recent.Add(ctx, key, found[0])
		return found[0], nil
	}
	answer, err, _ := f.flight.Do(key, read)
	if err != nil {
		return incident.Incident{}, err
	}
	return answer.(incident.Incident), nil
}

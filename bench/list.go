package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"time"

	"liaison/internal/incident"
	"liaison/internal/postgres"
)

// portalQuery is what a portal's front page asks. Cursors are left out: they are sealed with a key of the hub's, and
// nobody else could answer them.
const portalQuery = `query Portal($first: Int!) {
  incidents(filter: {open: true}, orderBy: {field: OPENED_AT, direction: DESC}, first: $first) {
    nodes {
      id number title description state priority openedAt updatedAt
      comments(last: 3) { nodes { id visibility body author at } }
      links { id externalNumber url remoteState syncStatus system { key name } }
    }
    pageInfo { hasNextPage }
  }
}`

// openList compares the portal's list query with one statement behind net/http, on the same rows and down to the same
// JSON: the row refuses to open when the answers differ. The hub runs only while it is measured, since its background
// work would burden the peer.
func openList(ctx context.Context, w *world) (_ *row, err error) {
	readers := w.settings.sizes.Readers
	bare := httptest.NewServer(http.HandlerFunc(w.bareList))
	transport := &http.Transport{MaxIdleConnsPerHost: readers, DisableCompression: true}
	stop := func() error {
		transport.CloseIdleConnections()
		bare.Close()
		return nil
	}
	defer func() {
		if err != nil {
			_ = stop() // it has no error
		}
	}()
	body, err := json.Marshal(map[string]any{"query": portalQuery, "variables": map[string]any{"first": 20}})
	if err != nil {
		return nil, err
	}
	ask := listAsker{client: &http.Client{Transport: transport}, bare: bare.URL, query: body}
	h, err := w.serving(ctx, w.db)
	if err != nil {
		return nil, err
	}
	sizes, err := ask.compare(ctx, h, w.schools)
	h.stop()
	if err != nil {
		return nil, err
	}
	asked, err := w.counted(ctx, "per list", func(db *postgres.DB) (func() error, func(), error) {
		h, err := w.serving(ctx, db)
		if err != nil {
			return nil, nil, err
		}
		return func() error { _, err := ask.fromHub(ctx, h, w.schools[0]); return err }, h.stop, nil
	})
	if err != nil {
		return nil, err
	}
	// Whose list it is changes from request to request. Nothing writes meanwhile, so every answer's length is known.
	each := func(size map[incident.OrganisationID]int, get func(context.Context, incident.OrganisationID) ([]byte, error)) func(context.Context, int, int) error {
		return func(ctx context.Context, worker, turn int) error {
			school := w.schools[(turn*readers+worker)%len(w.schools)]
			answer, err := get(ctx, school)
			if err == nil && len(answer) != size[school] {
				err = fmt.Errorf("the answer has %d bytes instead of %d: %.300s", len(answer), size[school], answer)
			}
			return err
		}
	}
	return &row{
		title: fmt.Sprintf("the first 20 open incidents of an organisation, newest first, each with its last 3 comments and its links; %d incidents of %d organisations, %d clients",
			w.settings.sizes.Incidents, len(w.schools), readers),
		unit:    "requests/s",
		latency: "of a request, seen by its client",
		peers: []contender{{name: "net/http and one SQL statement that makes the whole JSON; no sign-in, no row-level security of a viewer", run: func(ctx context.Context, d time.Duration) (sample, error) {
			return w.repeat(ctx, readers, d, each(sizes.bare, ask.fromBare))
		}}},
		liaison: []contender{{name: "the list query over GraphQL", run: func(ctx context.Context, d time.Duration) (sample, error) {
			h, err := w.serving(ctx, w.db)
			if err != nil {
				return sample{}, err
			}
			defer h.stop()
			return w.repeat(ctx, readers, d, each(sizes.hub, func(ctx context.Context, school incident.OrganisationID) ([]byte, error) {
				return ask.fromHub(ctx, h, school)
			}))
		}}},
		facts: told(asked, fmt.Sprintf("an answer has %d bytes (bare: %d), the mean of %d organisations; compared field by field before the start",
			mean(sizes.hub), mean(sizes.bare), len(w.schools))),
		close: stop,
	}, nil
}

// bareList is the peer.
func (w *world) bareList(rw http.ResponseWriter, r *http.Request) {
	school, err := strconv.ParseInt(r.URL.Query().Get("organisation"), 10, 64)
	if err != nil {
		http.Error(rw, "organisation is no number", http.StatusBadRequest)
		return
	}
	var list []byte
	if err := w.bare.QueryRow(r.Context(), listSQL, school).Scan(&list); err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_, _ = rw.Write(list) // the client sees when it does not arrive
}

var listSQL = statement("list")

// listAsker asks both servers.
type listAsker struct {
	client *http.Client
	bare   string // the peer's address
	query  []byte
}

func (l listAsker) fromHub(ctx context.Context, h *hub, school incident.OrganisationID) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+"/graphql", bytes.NewReader(l.query))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token(school))
	return l.do(req)
}

func (l listAsker) fromBare(ctx context.Context, school incident.OrganisationID) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.bare+"/?organisation="+strconv.FormatInt(int64(school), 10), http.NoBody)
	if err != nil {
		return nil, err
	}
	return l.do(req)
}

func (l listAsker) do(req *http.Request) ([]byte, error) {
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", resp.Status, answer)
	}
	return answer, err
}

// lengths are how long each school's list is from each server.
type lengths struct {
	hub, bare map[incident.OrganisationID]int
}

// compare makes sure that both servers say the same.
func (l listAsker) compare(ctx context.Context, h *hub, schools []incident.OrganisationID) (lengths, error) {
	out := lengths{hub: map[incident.OrganisationID]int{}, bare: map[incident.OrganisationID]int{}}
	for _, school := range schools {
		fromHub, err := l.fromHub(ctx, h, school)
		if err != nil {
			return out, fmt.Errorf("asking Liaison: %w", err)
		}
		fromBare, err := l.fromBare(ctx, school)
		if err != nil {
			return out, fmt.Errorf("asking the bare server: %w", err)
		}
		var one, other any
		if err := errors.Join(json.Unmarshal(fromHub, &one), json.Unmarshal(fromBare, &other)); err != nil {
			return out, err
		}
		if !reflect.DeepEqual(one, other) {
			at := 0
			for at < min(len(fromHub), len(fromBare)) && fromHub[at] == fromBare[at] {
				at++
			}
			return out, fmt.Errorf("the answers differ; Liaison: %.300s; bare: %.300s", fromHub[at:], fromBare[at:])
		}
		if n := bytes.Count(fromHub, []byte(`"number"`)); n != 20 {
			return out, fmt.Errorf("the list has %d incidents instead of 20", n)
		}
		out.hub[school], out.bare[school] = len(fromHub), len(fromBare)
	}
	return out, nil
}

func mean(sizes map[incident.OrganisationID]int) int {
	total := 0
	for _, n := range sizes {
		total += n
	}
	return total / len(sizes)
}

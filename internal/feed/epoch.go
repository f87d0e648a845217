package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"liaison/internal/feed/internal/db"
	"liaison/internal/postgres"
)

// fingerprint tells the database that an epoch belongs to from its copies, as far as the login role may see:
//
//   - database, feed: ids within the cluster; others after a restored dump or CREATE DATABASE ... TEMPLATE
//   - system: the cluster's identifier, another one in every initdb; missing when pg_control_system() is denied
//   - timeline: the log's, another one after point-in-time recovery and after a promoted standby; missing when
//     the WAL functions are denied
//
// A disk snapshot put back under the same server changes none of them. Hubs that lived through it notice that
// the feed ends before what they have read; see tail.look.
type fingerprint map[string]string

func identify(ctx context.Context, q *db.Queries) (fingerprint, error) {
	ids, err := q.IdentifyDatabase(ctx)
	if err != nil {
		return nil, fmt.Errorf("identifying the database: %w", err)
	}
	marks := fingerprint{"database": strconv.FormatInt(ids.DatabaseID, 10), "feed": strconv.FormatInt(ids.FeedID, 10)}
	if ids.MayReadControl {
		if marks["system"], err = q.ReadSystemIdentifier(ctx); err != nil {
			return nil, fmt.Errorf("identifying the cluster: %w", err)
		}
	}
	if ids.MayReadTimeline {
		if marks["timeline"], err = q.ReadTimeline(ctx); err != nil {
			return nil, fmt.Errorf("identifying the timeline: %w", err)
		}
	}
	return marks, nil
}

func (f fingerprint) String() string {
	parts := make([]string, 0, len(f))
	for _, name := range slices.Sorted(maps.Keys(f)) {
		parts = append(parts, name+"="+f[name])
	}
	return strings.Join(parts, " ")
}

func parseFingerprint(text string) fingerprint {
	marks := fingerprint{}
	for _, part := range strings.Fields(text) {
		name, value, _ := strings.Cut(part, "=")
		marks[name] = value
	}
	return marks
}

// matches tells whether both may be of one database. Marks that one of them lacks say nothing, so that a hub
// whose role may see less than another's does not take its database for a copy.
func (f fingerprint) matches(other fingerprint) bool {
	if len(f) == 0 || len(other) == 0 {
		return false // never settled: a template's clones would share its epoch
	}
	for name, value := range f {
		if known, ok := other[name]; ok && known != value {
			return false
		}
	}
	return true
}

// settleEpoch compares the locked watermark with the database that it is in, and begins a new epoch when it
// came from another one. It returns the watermark as it is then.
func settleEpoch(ctx context.Context, q *db.Queries, w db.LockWatermarkRow, logger *slog.Logger) (db.LockWatermarkRow, error) {
	here, err := identify(ctx, q)
	if err != nil {
		return w, err
	}
	known := parseFingerprint(w.Fingerprint)
	if known.matches(here) {
		maps.Copy(here, known)
		if here.String() == w.Fingerprint {
			return w, nil
		}
	} else {
		if len(known) > 0 {
			logger.Info("the database is a copy or was restored: feed cursors given out before expire", "was", w.Fingerprint, "is", here.String())
		}
		gaps, err := decodeGaps(w.Gaps)
		if err != nil {
			return w, err
		}
		for n := range gaps {
			gaps[n].Writers = nil // they wrote elsewhere
		}
		if w.Gaps, err = json.Marshal(gaps); err != nil {
			return w, fmt.Errorf("encoding the gaps: %w", err)
		}
		w.Epoch = uuid.New()
	}
	w.Fingerprint = here.String()
	if err := q.SetEpoch(ctx, db.SetEpochParams{Epoch: w.Epoch, Fingerprint: w.Fingerprint, Gaps: w.Gaps}); err != nil {
		return w, fmt.Errorf("beginning an epoch: %w", err)
	}
	return w, nil
}

// verifyEpoch settles the epoch when a hub starts, whoever holds the sequencer's lease.
func verifyEpoch(ctx context.Context, database *postgres.DB, logger *slog.Logger) error {
	return database.SystemTx(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		w, err := q.LockWatermark(ctx)
		if err != nil {
			return fmt.Errorf("locking the feed's watermark: %w", err)
		}
		_, err = settleEpoch(ctx, q, w, logger)
		return err
	}, postgres.Isolation(pgx.ReadCommitted))
}

func decodeGaps(encoded []byte) ([]gap, error) {
	var gaps []gap
	if err := json.Unmarshal(encoded, &gaps); err != nil {
		return nil, fmt.Errorf("decoding the watermark's gaps: %w", err)
	}
	return gaps, nil
}

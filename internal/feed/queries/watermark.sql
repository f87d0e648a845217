-- name: ReadWatermark :one
-- Where the feed stands, without locking anything.
SELECT epoch, position FROM watermark WHERE name = 'feed';

-- name: PeekWatermark :one
-- What the sequencer's slow poll asks before it takes the row's lock: whose turn it is, for how much longer,
-- and whether there is anything to stamp or to settle. The newest id comes from the index's end; asked whether any
-- id lies beyond the last one stamped, the planner reads the whole ledger to find that none does.
SELECT w.holder,
       (extract(epoch FROM greatest(w.lease_until, '2000-01-01') - clock_timestamp()) * 1000)::bigint AS lease_ms,
       (w.gaps <> '[]' OR coalesce((SELECT max(e.id) FROM ledger_entry e), 0) > w.scanned)::boolean AS work
FROM watermark w WHERE w.name = 'feed';

-- name: LockWatermark :one
-- Everything the sequencer knows, behind the one lock that keeps two of them from stamping at once.
--
-- First it bounds its transaction, which is short by construction: a hub that is frozen inside it must not hold
-- the row for longer than the database allows, and a stamp that readers have seen must survive a crash, whatever
-- the server's default is. The row is locked after the join, hence after the bounds are set. What follows in the
-- transaction must find entries by index, also by a plan that was made when the ledger was a page long.
--
-- The incarnation changes whenever another server answers, or another database under the same name.
WITH bounds AS MATERIALIZED (
  SELECT set_config('idle_in_transaction_session_timeout', '5s', true) AS idle,
         set_config('lock_timeout', '2s', true) AS lock,
         set_config('statement_timeout', '30s', true) AS statement,
         set_config('enable_seqscan', 'off', true) AS plan,
         set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) AS durable
)
SELECT w.epoch, w.fingerprint, w.position, w.scanned, w.gaps, w.holder,
       (extract(epoch FROM greatest(w.lease_until, '2000-01-01') - clock_timestamp()) * 1000)::bigint AS lease_ms,
       (SELECT concat_ws(' ', pg_postmaster_start_time(), d.oid, 'feed'::regclass::oid) FROM pg_catalog.pg_database d WHERE d.datname = current_database())::text AS incarnation
FROM watermark w CROSS JOIN bounds WHERE w.name = 'feed' FOR UPDATE OF w;

-- name: ListWriters :many
-- The transactions that may still commit a ledger entry: an INSERT takes this lock before it draws its id and
-- keeps it until it has ended, and a commit is visible before its locks go.
SELECT DISTINCT l.virtualtransaction::text AS writer
FROM pg_catalog.pg_locks l
WHERE l.locktype = 'relation' AND l.relation = 'ledger_entry'::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database());

-- name: ListUnstamped :many
-- Committed entries beyond @scanned or inside a gap, lowest id first. It is one statement, hence one snapshot:
-- read apart, an incident's next version could be seen without the one before it.
SELECT u.id::bigint AS id, u.organisation_id, u.incident_id, u.version
FROM (
  (SELECT late.id, late.organisation_id, late.incident_id, late.version
   FROM (SELECT unnest(@gap_from::bigint[]) AS first_id, unnest(@gap_to::bigint[]) AS last_id) g
   CROSS JOIN LATERAL (SELECT e.id, e.organisation_id, e.incident_id, e.version FROM ledger_entry e
                       WHERE e.id BETWEEN g.first_id AND g.last_id ORDER BY e.id LIMIT @max_rows::bigint) late
   ORDER BY late.id LIMIT @max_rows::bigint)
  UNION ALL
  (SELECT n.id, n.organisation_id, n.incident_id, n.version FROM ledger_entry n
   WHERE n.id > @scanned::bigint ORDER BY n.id LIMIT @max_rows::bigint)
) u
ORDER BY u.id LIMIT @max_rows::bigint;

-- name: Stamp :exec
-- Inserts one feed row for each element of the arrays and moves the watermark, in one statement.
WITH stamped AS (
  INSERT INTO feed (position, organisation_id, incident_id, version)
  SELECT unnest(@positions::bigint[]), unnest(@organisations::bigint[]), unnest(@incidents::uuid[]), unnest(@versions::bigint[])
)
UPDATE watermark SET position = @position, scanned = @scanned, gaps = @gaps, holder = @holder,
                     lease_until = clock_timestamp() + sqlc.arg(lease_ms)::bigint * interval '1 millisecond'
WHERE name = 'feed';

-- name: ReleaseLease :exec
-- Lets the next hub take over at once.
UPDATE watermark SET lease_until = '-infinity' WHERE name = 'feed' AND holder = @holder;

-- name: ReadTrimmed :one
-- Positions up to this one are gone.
SELECT trimmed FROM watermark WHERE name = 'feed';

-- name: Trim :one
-- Drops positions from the feed's beginning whose entries are older than @before, at most @max_rows of them, and says so
-- in the same statement. A position whose entry is younger keeps everything behind it.
WITH oldest AS MATERIALIZED (
  SELECT f.position, coalesce(e.at < @before::timestamptz, true) AS old FROM feed f
  LEFT JOIN ledger_entry e ON e.organisation_id = f.organisation_id AND e.incident_id = f.incident_id AND e.version = f.version
  ORDER BY f.position LIMIT @max_rows::bigint
), gone AS (
  DELETE FROM feed USING oldest WHERE feed.position = oldest.position
    AND feed.position < coalesce((SELECT min(o.position) FROM oldest o WHERE NOT o.old), 9223372036854775807)
  RETURNING feed.position
), said AS (
  UPDATE watermark SET trimmed = greatest(watermark.trimmed, (SELECT max(gone.position) FROM gone))
  WHERE watermark.name = 'feed' AND EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone;

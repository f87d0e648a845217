-- name: SystemPulses :many
-- Every system that the viewer may see, with its pulse.
SELECT external_system.id, external_system.key, external_system.name, external_system.active, external_system.paused, external_system.paused_at,
  external_system.paused_by, external_system.pause_reason, coalesce(extract(epoch FROM external_system.silence_after), 0)::float8 AS silence_seconds,
  ((SELECT external_link.external_id FROM external_link WHERE external_link.system_id = external_system.id AND external_link.external_id > '' AND external_link.gone = ''
    ORDER BY external_link.external_id LIMIT 1) IS NOT NULL)::boolean AS followed, -- ordered, so that it comes from the index
  pulse.sent_at, pulse.read_at, pulse.poll_at, pulse.news_at, pulse.hook_at, pulse.failed_at, pulse.send_failed_at, pulse.read_failed_at, pulse.poll_failed_at,
  coalesce(pulse.error_kind, '') AS error_kind, coalesce(pulse.error, '') AS error, coalesce(pulse.breaker, '') AS breaker, pulse.breaker_until,
  coalesce(pulse.echoes, 0)::bigint AS echoes, coalesce(pulse.restored, 0)::bigint AS restored, coalesce(pulse.retries, 0)::bigint AS retries, pulse.since, pulse.updated_at
FROM external_system LEFT JOIN pulse ON pulse.system_id = external_system.id
ORDER BY external_system.key;

-- name: OpenLanes :many
-- What waits to be sent, system by system. No more than @most lanes of a system are looked at, the longest due first: a
-- number that reaches it means "at least so many".
SELECT external_system.id AS system_id, count(*) AS lanes, coalesce(sum(open.waiting), 0)::bigint AS waiting,
  count(*) FILTER (WHERE open.tried) AS retrying, min(open.oldest)::timestamptz AS oldest
FROM external_system
CROSS JOIN LATERAL (
  (SELECT lane.organisation_id, lane.link_id, lane.done_version, lane.trouble FROM lane
   WHERE lane.system_id = external_system.id AND lane.due_at IS NOT NULL ORDER BY lane.due_at LIMIT @most)
  UNION ALL
  (SELECT lane.organisation_id, lane.link_id, lane.done_version, lane.trouble FROM lane
   WHERE lane.system_id = external_system.id AND lane.due_at IS NULL AND lane.trouble <> '' LIMIT @most)
) AS l
CROSS JOIN LATERAL (
  SELECT count(*) AS waiting, min(d.created_at) AS oldest, bool_or(d.error_kind <> '' AND l.trouble = '') AS tried
  FROM (SELECT delivery.created_at, delivery.error_kind FROM delivery
        WHERE delivery.organisation_id = l.organisation_id AND delivery.link_id = l.link_id AND delivery.version > l.done_version
        ORDER BY delivery.version LIMIT 1000) AS d
) AS open
WHERE open.waiting > 0
GROUP BY external_system.id;

-- name: TroubledLanes :many
-- Lanes whose head stands still: dead letters and unknown outcomes.
SELECT lane.system_id, count(*) FILTER (WHERE lane.trouble = 'DEAD') AS dead, count(*) FILTER (WHERE lane.trouble = 'UNKNOWN') AS unknown
FROM lane WHERE lane.trouble <> '' GROUP BY lane.system_id;

-- name: ParkedFields :many
SELECT external_link.system_id, sum((SELECT count(*) FROM jsonb_object_keys(external_link.parked)))::bigint AS parked
FROM external_link WHERE external_link.parked <> '{}' GROUP BY external_link.system_id;

-- name: InboxWaiting :many
-- What came in and waits to be acted upon, no more than @most looked at, and what was parked.
SELECT external_system.id AS system_id, w.waiting, coalesce(w.oldest, 'epoch')::timestamptz AS oldest, p.parked
FROM external_system
CROSS JOIN LATERAL (
  SELECT count(*) AS waiting, min(i.received_at) AS oldest FROM (
    SELECT inbox.received_at FROM inbox WHERE inbox.system_id = external_system.id AND inbox.state = 'WAITING' ORDER BY inbox.due_at LIMIT @most) AS i
) AS w
CROSS JOIN LATERAL (SELECT count(*) AS parked FROM inbox WHERE inbox.system_id = external_system.id AND inbox.state = 'PARKED') AS p
WHERE w.waiting > 0 OR p.parked > 0;

-- name: ConflictsWaiting :many
-- Conflicts that wait for a person.
SELECT external_link.system_id, count(*) AS conflicts FROM conflict
JOIN external_link ON external_link.organisation_id = conflict.organisation_id AND external_link.id = conflict.link_id
WHERE conflict.resolved_at IS NULL AND conflict.winner = '' GROUP BY external_link.system_id;

-- name: LastReconciliations :many
-- The newest finished comparison of each system with its vendor.
SELECT r.* FROM external_system CROSS JOIN LATERAL (
  SELECT reconciliation.* FROM reconciliation WHERE reconciliation.system_id = external_system.id AND reconciliation.state = 'DONE'
  ORDER BY reconciliation.started_at DESC LIMIT 1) AS r;

-- name: CausesOf :many
-- For each entry the first one on the same incident in the same trace, if that is another one: what set it off.
SELECT k.version::bigint AS of_version, sqlc.embed(ledger_entry) FROM (
  SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@incidents::uuid[]) AS incident_id, unnest(@versions::bigint[]) AS version, unnest(@traces::text[]) AS trace_id) AS k
JOIN ledger_entry ON ledger_entry.organisation_id = k.organisation_id AND ledger_entry.incident_id = k.incident_id AND ledger_entry.version = (
  SELECT min(e.version) FROM ledger_entry AS e
  WHERE e.organisation_id = k.organisation_id AND e.incident_id = k.incident_id AND e.version < k.version AND e.trace_id = k.trace_id AND k.trace_id <> '');

-- name: CallsOf :many
-- For each entry that a vendor's news made, what brought the news: the latest row of the inbox about its link in the same
-- trace that came before it.
SELECT k.incident_id::uuid AS of_incident, k.version::bigint AS of_version, i.id, i.received_at FROM (
  SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@incidents::uuid[]) AS incident_id, unnest(@versions::bigint[]) AS version,
         unnest(@links::uuid[]) AS link_id, unnest(@traces::text[]) AS trace_id, unnest(@ats::timestamptz[]) AS at) AS k
CROSS JOIN LATERAL (
  SELECT inbox.id, inbox.received_at FROM inbox
  WHERE inbox.organisation_id = k.organisation_id AND inbox.link_id = k.link_id AND inbox.received_at <= k.at + interval '1 minute'
    AND split_part(inbox.trace, '-', 2) = k.trace_id AND k.trace_id <> ''
  ORDER BY inbox.received_at DESC LIMIT 1) AS i;

-- name: InboxNewest :many
-- A page of what came in.
SELECT inbox.id, inbox.system_id, inbox.source, inbox.call_id, inbox.organisation_id, inbox.link_id, inbox.external_id, inbox.number, inbox.body, inbox.content_type, inbox.state,
  inbox.duplicate_of, inbox.reason, inbox.entries, inbox.attempts, inbox.due_at, inbox.received_at, inbox.settled_at, inbox.trace
FROM inbox
WHERE (inbox.received_at, inbox.id) < (@below_at::timestamptz, @below_id::uuid) AND (inbox.received_at, inbox.id) > (@above_at::timestamptz, @above_id::uuid)
  AND inbox.system_id = ANY (@systems::bigint[])
  AND (cardinality(@states::text[]) = 0 OR inbox.state = ANY (@states::text[]))
  AND (cardinality(@sources::text[]) = 0 OR inbox.source = ANY (@sources::text[]))
  AND (sqlc.narg(link)::uuid IS NULL OR inbox.link_id = sqlc.narg(link)::uuid)
  AND (@ticket::text = '' OR inbox.external_id = @ticket::text OR inbox.number = @ticket::text)
ORDER BY inbox.received_at DESC, inbox.id DESC LIMIT @max_rows;

-- name: InboxOldest :many
-- The same from the other end.
SELECT inbox.id, inbox.system_id, inbox.source, inbox.call_id, inbox.organisation_id, inbox.link_id, inbox.external_id, inbox.number, inbox.body, inbox.content_type, inbox.state,
  inbox.duplicate_of, inbox.reason, inbox.entries, inbox.attempts, inbox.due_at, inbox.received_at, inbox.settled_at, inbox.trace
FROM inbox
WHERE (inbox.received_at, inbox.id) < (@below_at::timestamptz, @below_id::uuid) AND (inbox.received_at, inbox.id) > (@above_at::timestamptz, @above_id::uuid)
  AND inbox.system_id = ANY (@systems::bigint[])
  AND (cardinality(@states::text[]) = 0 OR inbox.state = ANY (@states::text[]))
  AND (cardinality(@sources::text[]) = 0 OR inbox.source = ANY (@sources::text[]))
  AND (sqlc.narg(link)::uuid IS NULL OR inbox.link_id = sqlc.narg(link)::uuid)
  AND (@ticket::text = '' OR inbox.external_id = @ticket::text OR inbox.number = @ticket::text)
ORDER BY inbox.received_at ASC, inbox.id ASC LIMIT @max_rows;

-- name: InboxByID :many
SELECT inbox.id, inbox.system_id, inbox.source, inbox.call_id, inbox.organisation_id, inbox.link_id, inbox.external_id, inbox.number, inbox.body, inbox.content_type, inbox.state,
  inbox.duplicate_of, inbox.reason, inbox.entries, inbox.attempts, inbox.due_at, inbox.received_at, inbox.settled_at, inbox.trace
FROM inbox WHERE id = ANY (@ids::uuid[]);

-- name: DeadLetters :many
-- The dead letters that a filter finds, the oldest first: what is mended in bulk. A dead letter is always its lane's head.
SELECT d.id FROM lane
CROSS JOIN LATERAL (
  SELECT delivery.* FROM delivery WHERE delivery.organisation_id = lane.organisation_id AND delivery.link_id = lane.link_id AND delivery.version > lane.done_version
  ORDER BY delivery.version LIMIT 1) AS d
JOIN external_system ON external_system.id = lane.system_id
WHERE lane.trouble = 'DEAD' AND d.state = 'DEAD' AND lane.organisation_id = ANY (@organisations::bigint[])
  AND (sqlc.narg(system)::text IS NULL OR external_system.key = sqlc.narg(system)::text)
  AND (sqlc.narg(incident)::uuid IS NULL OR d.incident_id = sqlc.narg(incident)::uuid)
  AND (cardinality(@error_kinds::text[]) = 0 OR d.error_kind = ANY (@error_kinds::text[]))
ORDER BY d.created_at, d.version, d.id LIMIT @max_rows;

-- name: FindBulk :one
SELECT * FROM bulk_decision WHERE organisation_id = ANY (@organisations::bigint[]) AND subject = @subject AND key = @key ORDER BY organisation_id LIMIT 1;

-- name: InsertBulk :exec
-- Two calls with one key at once: the second waits here for the first and then fails on the primary key.
INSERT INTO bulk_decision (organisation_id, subject, key, input_digest, deliveries, more, at)
VALUES (@organisation_id, @subject, @key, @input_digest, @deliveries, @more, @at);

-- name: EditDelivery :exec
-- Changes what a dead letter says. It stays the dead head of its lane until it is retried or skipped.
UPDATE delivery SET payload = @payload WHERE organisation_id = @organisation_id AND id = @id AND state = 'DEAD';

-- name: LinksByName :many
-- The links that a person may mean: by the vendor's number of the ticket or by its id there.
SELECT sqlc.embed(external_link), lane.trouble AS head, 0::bigint AS waiting FROM external_link
JOIN lane ON lane.organisation_id = external_link.organisation_id AND lane.link_id = external_link.id
WHERE external_link.organisation_id = ANY (@organisations::bigint[]) AND external_link.system_id = ANY (@systems::bigint[])
  AND (external_link.number = @name::text OR external_link.external_id = @name::text)
ORDER BY external_link.created_at LIMIT 20;

-- name: LanesOf :many
-- How the lanes of some links stand, to be explained.
SELECT lane.organisation_id, lane.link_id, lane.due_at, lane.held, lane.trouble, lane.done_version, lane.sending_version, lane.sending_since,
  (lane.lease_until > clock_timestamp())::boolean AS taken
FROM lane WHERE lane.organisation_id = ANY (@organisations::bigint[]) AND lane.link_id = ANY (@links::uuid[]);

-- name: HeadsOf :many
-- The next delivery of each of some links.
SELECT d.* FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id) AS k
JOIN lane ON lane.organisation_id = k.organisation_id AND lane.link_id = k.link_id
CROSS JOIN LATERAL (
  SELECT delivery.* FROM delivery_now AS delivery
  WHERE delivery.organisation_id = lane.organisation_id AND delivery.link_id = lane.link_id AND delivery.version > lane.done_version
  ORDER BY delivery.version LIMIT 1) AS d;

-- name: LeaseLanes :many
-- Takes the longest due free lanes of a system that is not paused. The lease is by the database's clock; its token
-- fences every later write under it. broken: its last holder died while deliveries were under way.
WITH due AS (
  SELECT l.organisation_id, l.link_id FROM lane l
  WHERE l.system_id = @system_id AND l.due_at <= @at::timestamptz AND l.lease_until < clock_timestamp()
    AND NOT EXISTS (SELECT FROM external_system s WHERE s.id = @system_id AND s.paused)
  ORDER BY l.due_at LIMIT @max_lanes FOR UPDATE SKIP LOCKED
)
UPDATE lane SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8), lease_token = nextval('lease_token')
FROM due WHERE lane.organisation_id = due.organisation_id AND lane.link_id = due.link_id
RETURNING lane.organisation_id, lane.link_id, lane.lease_token, (lane.sending_version IS NOT NULL)::boolean AS broken;

-- name: LeaseLink :one
-- Takes one lane if nobody else is exchanging on it, whether or not anything is due.
UPDATE lane SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8), lease_token = nextval('lease_token')
WHERE organisation_id = @organisation_id AND link_id = @link_id AND lease_until < clock_timestamp()
RETURNING lease_token;

-- name: RenewLane :execrows
-- Makes a lease last longer. A lane that was given back stays free: the token alone does not tell it from a taken one.
UPDATE lane SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8)
WHERE organisation_id = @organisation_id AND link_id = @link_id AND lease_token = @lease_token AND lease_until > '-infinity';

-- name: RenewLanes :many
-- The same for many lanes whose calls are under way, in one statement. Those that are missing in the answer are
-- lost, or were just given back.
UPDATE lane SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8)
FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id, unnest(@tokens::bigint[]) AS token) AS leased
WHERE lane.organisation_id = leased.organisation_id AND lane.link_id = leased.link_id AND lane.lease_token = leased.token AND lane.lease_until > '-infinity'
RETURNING lane.lease_token;

-- name: WriteOff :exec
-- What was under way when a lane's holder died may have been sent until now, for a worker can stand still between its claim
-- and its call. By the database's clock, because one hub looks and another has sent. What was unknown before was only asked
-- after, unless a mark was recorded for it: then it was sent, for the first time.
UPDATE delivery SET state = 'UNKNOWN', sent_at = clock_timestamp(), journal_mark = coalesce(lane.sending_mark, delivery.journal_mark)
FROM lane JOIN (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id) AS leased
  ON lane.organisation_id = leased.organisation_id AND lane.link_id = leased.link_id
WHERE delivery.organisation_id = lane.organisation_id AND delivery.link_id = lane.link_id
  AND (delivery.state = 'PENDING' OR delivery.state = 'UNKNOWN' AND delivery.journal_mark = '' AND lane.sending_mark IS NOT NULL)
  AND delivery.version > lane.done_version AND delivery.version <= lane.sending_version;

-- name: BeginRuns :many
-- The next deliveries of each leased lane, written down as being sent before anybody sends them: several that wait, one whose
-- outcome is unknown, or the one that opens the ticket.
WITH leased AS (
  SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id
), run AS (
  SELECT lane.organisation_id, lane.link_id, head.version,
    CASE WHEN head.state = 'PENDING' AND head.kind <> 'CREATE' THEN (
      SELECT max(ahead.version) FROM (
        SELECT d.version FROM delivery d WHERE d.organisation_id = lane.organisation_id AND d.link_id = lane.link_id AND d.version > lane.done_version
        ORDER BY d.version LIMIT @most) AS ahead)
    ELSE head.version END AS upto
  FROM leased JOIN lane ON lane.organisation_id = leased.organisation_id AND lane.link_id = leased.link_id
  CROSS JOIN LATERAL (
    SELECT d.version, d.state, d.kind FROM delivery d
    WHERE d.organisation_id = lane.organisation_id AND d.link_id = lane.link_id AND d.version > lane.done_version
    ORDER BY d.version LIMIT 1) AS head
  WHERE head.state <> 'DEAD'
), begun AS (
  UPDATE lane SET sending_version = run.upto, sending_since = clock_timestamp(), sending_mark = NULL
  FROM run WHERE lane.organisation_id = run.organisation_id AND lane.link_id = run.link_id
  RETURNING lane.organisation_id, lane.link_id, lane.lease_token, lane.sending_since, run.version, run.upto
)
SELECT begun.organisation_id, begun.link_id, begun.lease_token, begun.sending_since, begun.version, begun.upto::bigint AS upto, sqlc.embed(external_link), sqlc.embed(incident)
FROM begun JOIN external_link ON external_link.organisation_id = begun.organisation_id AND external_link.id = begun.link_id
JOIN incident ON incident.organisation_id = begun.organisation_id AND incident.id = external_link.incident_id;

-- name: RunDeliveries :many
-- What was begun, in order. For an update that was tried before, overtaken names the fields that later updates have as well which
-- may have been sent: to send its older value again would undo what may have arrived since.
SELECT d.organisation_id, d.id, d.link_id, d.incident_id, d.version, d.kind, d.payload, d.comment_id, d.state, d.attempts, d.journal_mark, d.sent_at, d.trace, d.created_at,
       coalesce(extract(epoch FROM clock_timestamp() - d.sent_at), 0)::float8 AS sent_ago,
       (CASE WHEN d.version = run.version AND d.kind = 'UPDATE' AND (d.state = 'UNKNOWN' OR d.attempts > 0) THEN ARRAY(
         SELECT DISTINCT jsonb_object_keys(later.payload) FROM (
           SELECT l.payload, l.state, l.kind FROM delivery l WHERE l.organisation_id = d.organisation_id AND l.link_id = d.link_id AND l.version > d.version
           ORDER BY l.version LIMIT @most) AS later
         WHERE later.state = 'UNKNOWN' AND later.kind = 'UPDATE')
       END)::text[] AS overtaken,
       coalesce(comment.body, '') AS comment_body, coalesce(comment.author, '') AS comment_author, coalesce(comment.visibility, '') AS comment_visibility
FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id, unnest(@versions::bigint[]) AS version, unnest(@uptos::bigint[]) AS upto) AS run
JOIN delivery d ON d.organisation_id = run.organisation_id AND d.link_id = run.link_id AND d.version BETWEEN run.version AND run.upto
LEFT JOIN comment ON comment.organisation_id = d.organisation_id AND comment.id = d.comment_id
ORDER BY d.link_id, d.version;

-- name: NoteMarks :many
-- Written before comments are sent, and for all that were begun along with them: a mark before the first is a mark before the
-- others. Fenced: a lane that was taken over is missing from the answer. The "=" tells a mark that lies before the first
-- entry from no mark.
UPDATE lane SET sending_mark = '=' || noted.mark
FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id, unnest(@marks::text[]) AS mark, unnest(@tokens::bigint[]) AS token) AS noted
WHERE lane.organisation_id = noted.organisation_id AND lane.link_id = noted.link_id AND lane.lease_token = noted.token
RETURNING lane.lease_token;

-- name: LockLane :one
-- The fence: nobody whose lease was taken over gets past it.
SELECT held FROM lane WHERE organisation_id = @organisation_id AND link_id = @link_id AND lease_token = @lease_token FOR UPDATE;

-- name: LockLanes :many
-- The fence of many. Lanes that somebody is writing to right now are missing, like those that were taken over: whoever
-- asks settles them one by one, so that a lock held long holds up nobody else.
SELECT lane.link_id FROM lane
JOIN (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id, unnest(@tokens::bigint[]) AS token) AS leased
  ON lane.organisation_id = leased.organisation_id AND lane.link_id = leased.link_id AND lane.lease_token = leased.token
FOR UPDATE OF lane SKIP LOCKED;

-- name: SettleDeliveries :exec
-- It comes before SettleLanes, which forgets the lane's mark. What is unknown was sent until now if its answer was lost only now.
UPDATE delivery SET state = s.state, attempts = delivery.attempts + 1, error_kind = s.error_kind, error = s.error, mapping = s.mapping,
  sent_at = CASE WHEN s.state = 'UNKNOWN' THEN CASE WHEN s.lost OR delivery.sent_at IS NULL THEN clock_timestamp() ELSE delivery.sent_at END END,
  journal_mark = CASE WHEN s.state = 'UNKNOWN' THEN coalesce(
      (SELECT lane.sending_mark FROM lane WHERE lane.organisation_id = delivery.organisation_id AND lane.link_id = delivery.link_id), delivery.journal_mark)
    ELSE delivery.journal_mark END,
  settled_at = CASE WHEN s.state IN ('DELIVERED', 'SKIPPED') THEN @at::timestamptz END
FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@ids::uuid[]) AS id, unnest(@states::text[]) AS state,
             unnest(@error_kinds::text[]) AS error_kind, unnest(@errors::text[]) AS error, unnest(@mappings::text[]) AS mapping,
             unnest(@losts::boolean[]) AS lost) AS s
WHERE delivery.organisation_id = s.organisation_id AND delivery.id = s.id;

-- name: SettleLanes :many
-- Gives lanes back after deliveries were settled, done up to one version and the next one, version, in a state. It runs under the
-- lanes' locks with a fresh snapshot, so a delivery that was committed before the lock was granted is seen here, and a later one
-- wakes the lane itself. What was begun and not sent waits again. A lane that is kept and has further deliveries goes on under
-- the same lease: they are written down as being sent and come back, as from BeginRuns.
WITH s AS (
  SELECT settled.*, settled.state IN ('DELIVERED', 'SKIPPED') AS over, next.version AS next_version, next.upto,
         next.version IS NOT NULL AND settled.keep AND next.state = 'PENDING'
         AND NOT EXISTS (SELECT FROM external_system WHERE external_system.id = settled.system_id AND external_system.paused) AS goes_on
  FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id, unnest(@states::text[]) AS state,
               unnest(@dones::bigint[]) AS done, unnest(@versions::bigint[]) AS version, unnest(@due_ats::timestamptz[]) AS due_at,
               unnest(@keeps::boolean[]) AS keep, unnest(@systems::bigint[]) AS system_id) AS settled
  LEFT JOIN LATERAL (
    SELECT min(ahead.version) AS version, max(ahead.version) AS upto, (array_agg(ahead.state ORDER BY ahead.version))[1] AS state FROM (
      SELECT d.version, d.state FROM delivery d
      WHERE d.organisation_id = settled.organisation_id AND d.link_id = settled.link_id AND d.version > settled.version
      ORDER BY d.version LIMIT CASE WHEN settled.keep THEN @most::integer ELSE 1 END) AS ahead
    ) AS next ON settled.state IN ('DELIVERED', 'SKIPPED')
), given AS (
  UPDATE lane SET
    lease_until = CASE WHEN s.goes_on THEN clock_timestamp() + make_interval(secs => @lease_seconds::float8) ELSE '-infinity' END,
    held = s.state = 'DEAD', trouble = CASE WHEN s.state IN ('DEAD', 'UNKNOWN') THEN s.state ELSE '' END,
    done_version = greatest(lane.done_version, s.done, CASE WHEN s.over THEN s.version END),
    sending_version = CASE WHEN s.goes_on THEN s.upto END, sending_since = CASE WHEN s.goes_on THEN clock_timestamp() END, sending_mark = NULL,
    due_at = CASE WHEN s.state = 'DEAD' OR s.over AND s.next_version IS NULL THEN NULL ELSE s.due_at END
  FROM s WHERE lane.organisation_id = s.organisation_id AND lane.link_id = s.link_id
  RETURNING lane.organisation_id, lane.link_id, lane.lease_token, lane.sending_since, s.next_version, s.upto, s.goes_on
)
SELECT given.organisation_id, given.link_id, given.lease_token, given.sending_since, given.next_version::bigint AS version, given.upto::bigint AS upto, sqlc.embed(external_link), sqlc.embed(incident)
FROM given JOIN external_link ON external_link.organisation_id = given.organisation_id AND external_link.id = given.link_id
JOIN incident ON incident.organisation_id = given.organisation_id AND incident.id = external_link.incident_id
WHERE given.goes_on;

-- name: FindLink :one
SELECT * FROM external_link WHERE organisation_id = @organisation_id AND id = @id;

-- name: UpdateLinks :exec
UPDATE external_link SET external_id = nullif(s.external_id, ''), number = s.number, url = s.url, remote_version = s.remote_version, remote_state = s.remote_state,
  base = s.base, parked = s.parked, flips = s.flips, journal_mark = s.journal_mark, gone = s.gone, last_synced_at = s.last_synced_at
FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@ids::uuid[]) AS id, unnest(@external_ids::text[]) AS external_id, unnest(@numbers::text[]) AS number,
             unnest(@urls::text[]) AS url, unnest(@remote_versions::text[]) AS remote_version, unnest(@remote_states::text[]) AS remote_state, unnest(@bases::jsonb[]) AS base,
             unnest(@parkeds::jsonb[]) AS parked, unnest(@flipses::jsonb[]) AS flips, unnest(@journal_marks::text[]) AS journal_mark, unnest(@gones::text[]) AS gone,
             unnest(@last_synced_ats::timestamptz[]) AS last_synced_at) AS s
WHERE external_link.organisation_id = s.organisation_id AND external_link.id = s.id;

-- name: CopyComments :exec
INSERT INTO comment_copy (organisation_id, link_id, external_id, comment_id)
SELECT unnest(@organisations::bigint[]), unnest(@links::uuid[]), unnest(@external_ids::text[]), unnest(@comments::uuid[])
ON CONFLICT DO NOTHING;

-- name: KnownCopies :many
-- Which of a vendor's journal entries the hub has.
SELECT external_id FROM comment_copy WHERE organisation_id = @organisation_id AND link_id = @link_id AND external_id = ANY (@external_ids::text[]);

-- name: OpenDeliveries :many
-- What the vendor has yet to hear.
SELECT sqlc.embed(delivery), lane.sending_version, lane.sending_mark, coalesce(comment.body, '') AS comment_body, coalesce(comment.author, '') AS comment_author,
       coalesce(comment.visibility, '') AS comment_visibility
FROM lane JOIN delivery ON delivery.organisation_id = lane.organisation_id AND delivery.link_id = lane.link_id AND delivery.version > lane.done_version
LEFT JOIN comment ON comment.organisation_id = delivery.organisation_id AND comment.id = delivery.comment_id
WHERE lane.organisation_id = @organisation_id AND lane.link_id = @link_id
ORDER BY delivery.version;

-- name: ReleaseLane :exec
-- Gives a lane back without having settled anything. Like SettleLanes, it looks for deliveries under the lane's lock.
UPDATE lane SET lease_until = '-infinity',
  due_at = CASE WHEN lane.held THEN NULL
                WHEN EXISTS (SELECT FROM delivery d WHERE d.organisation_id = @organisation_id AND d.link_id = @link_id AND d.version > lane.done_version)
                THEN coalesce(lane.due_at, @due_at::timestamptz) ELSE NULL END
WHERE organisation_id = @organisation_id AND link_id = @link_id AND lease_token = @lease_token;

-- name: FindLinksByTicket :many
-- The links that a hint may mean, by the vendor's id or, where only that is known, by its number.
SELECT * FROM external_link WHERE system_id = @system_id
  AND ((@external_id::text <> '' AND external_id = @external_id::text) OR (@external_id::text = '' AND number = @number::text AND @number::text <> ''));

-- name: FindLinkByCorrelation :one
SELECT * FROM external_link WHERE system_id = @system_id AND correlation_id = @correlation_id;

-- name: LinksByTickets :many
-- What a poll's hints are compared with: only tickets that are linked and have moved are worth a read. One that was gone
-- and is listed again may have been restored.
SELECT * FROM external_link WHERE system_id = @system_id AND external_id = ANY (@external_ids::text[]);

-- name: WithdrawFields :exec
UPDATE delivery SET payload = payload - @fields::text[]
FROM lane WHERE lane.organisation_id = @organisation_id AND lane.link_id = @link_id
  AND delivery.organisation_id = @organisation_id AND delivery.link_id = @link_id AND delivery.version > lane.done_version AND delivery.kind = 'UPDATE';

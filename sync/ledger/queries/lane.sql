-- name: LeaseLanes :many
-- Takes the longest due free lanes of a system. The lease is by the database's clock; its token fences every
-- later write under it.
WITH due AS (
  SELECT l.organisation_id, l.link_id FROM lane l
  WHERE l.system_id = @system_id AND l.due_at <= @at::timestamptz AND l.lease_until < clock_timestamp()
  ORDER BY l.due_at LIMIT @max_lanes FOR UPDATE SKIP LOCKED
)
UPDATE lane SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8), lease_token = nextval('lease_token')
FROM due WHERE lane.organisation_id = due.organisation_id AND lane.link_id = due.link_id
RETURNING lane.organisation_id, lane.link_id, lane.lease_token;

-- name: LeaseLink :one
-- Takes one lane if nobody else is exchanging on it, whether or not anything is due.
UPDATE lane SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8), lease_token = nextval('lease_token')
WHERE organisation_id = @organisation_id AND link_id = @link_id AND lease_until < clock_timestamp()
RETURNING lease_token;

-- name: RenewLane :execrows
-- Makes a lease last longer. A lane that was given back stays free: the token alone does not tell it from a taken one.
UPDATE lane SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8)
WHERE organisation_id = @organisation_id AND link_id = @link_id AND lease_token = @lease_token AND lease_until > '-infinity';

-- name: BeginHeads :many
-- The head of each leased lane, marked as being sent before anybody sends it. A head that was already being
-- sent when its worker died, or whose answer was lost, comes back as it is: its outcome is unknown.
WITH head AS (
  SELECT d.organisation_id, d.id, d.state AS found, leased.token::bigint AS token
  FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id, unnest(@tokens::bigint[]) AS token) AS leased
  CROSS JOIN LATERAL (
    SELECT delivery.organisation_id, delivery.id, delivery.state FROM delivery
    WHERE delivery.organisation_id = leased.organisation_id AND delivery.link_id = leased.link_id AND delivery.state NOT IN ('DELIVERED', 'SKIPPED')
    ORDER BY delivery.version, delivery.id LIMIT 1) d
), begun AS (
  UPDATE delivery SET attempts = delivery.attempts + 1,
    state = CASE WHEN delivery.state = 'PENDING' THEN 'SENDING' ELSE delivery.state END,
    sent_at = CASE WHEN delivery.state = 'PENDING' THEN @at::timestamptz ELSE delivery.sent_at END
  FROM head WHERE delivery.organisation_id = head.organisation_id AND delivery.id = head.id AND delivery.state <> 'DEAD'
  RETURNING delivery.organisation_id, delivery.id, delivery.link_id, delivery.incident_id, delivery.version, delivery.kind, delivery.payload, delivery.comment_id,
    delivery.attempts, delivery.journal_mark, delivery.sent_at, delivery.trace, delivery.created_at, head.found, head.token
)
SELECT begun.organisation_id, begun.id, begun.link_id, begun.incident_id, begun.version, begun.kind, begun.payload, begun.comment_id,
       begun.attempts, begun.journal_mark, begun.sent_at, begun.trace, begun.created_at, begun.found, begun.token,
       sqlc.embed(external_link), sqlc.embed(incident),
       coalesce(comment.body, '') AS comment_body, coalesce(comment.author, '') AS comment_author, coalesce(comment.visibility, '') AS comment_visibility
FROM begun
JOIN external_link ON external_link.organisation_id = begun.organisation_id AND external_link.id = begun.link_id
JOIN incident ON incident.organisation_id = begun.organisation_id AND incident.id = begun.incident_id
LEFT JOIN comment ON comment.organisation_id = begun.organisation_id AND comment.id = begun.comment_id;

-- name: NoteMark :execrows
-- Written before a comment is sent. Fenced. The "=" tells a mark that lies before the first entry from no mark.
UPDATE delivery SET journal_mark = '=' || @journal_mark::text
WHERE delivery.organisation_id = @organisation_id AND delivery.id = @id
  AND EXISTS (SELECT FROM lane WHERE lane.organisation_id = @organisation_id AND lane.link_id = delivery.link_id AND lane.lease_token = @lease_token);

-- name: LockLane :one
-- The fence: nobody whose lease was taken over gets past it.
SELECT held FROM lane WHERE organisation_id = @organisation_id AND link_id = @link_id AND lease_token = @lease_token FOR UPDATE;

-- name: SettleDelivery :exec
UPDATE delivery SET state = @state, error_kind = @error_kind, error = @error, settled_at = sqlc.narg(settled_at)
WHERE organisation_id = @organisation_id AND id = @id;

-- name: FindLink :one
SELECT * FROM external_link WHERE organisation_id = @organisation_id AND id = @id;

-- name: UpdateLink :exec
UPDATE external_link SET external_id = @external_id, number = @number, url = @url, remote_version = @remote_version, remote_state = @remote_state,
  base = @base, parked = @parked, journal_mark = @journal_mark, gone = @gone, last_synced_at = @last_synced_at
WHERE organisation_id = @organisation_id AND id = @id;

-- name: CopyComment :exec
INSERT INTO comment_copy (organisation_id, link_id, external_id, comment_id) VALUES (@organisation_id, @link_id, @external_id, @comment_id)
ON CONFLICT DO NOTHING;

-- name: KnownCopies :many
-- Which of a vendor's journal entries the hub has.
SELECT external_id FROM comment_copy WHERE organisation_id = @organisation_id AND link_id = @link_id AND external_id = ANY (@external_ids::text[]);

-- name: OpenDeliveries :many
-- What the vendor has yet to hear.
SELECT sqlc.embed(delivery), coalesce(comment.body, '') AS comment_body, coalesce(comment.author, '') AS comment_author,
       coalesce(comment.visibility, '') AS comment_visibility
FROM delivery LEFT JOIN comment ON comment.organisation_id = delivery.organisation_id AND comment.id = delivery.comment_id
WHERE delivery.organisation_id = @organisation_id AND delivery.link_id = @link_id AND delivery.state NOT IN ('DELIVERED', 'SKIPPED')
ORDER BY delivery.version, delivery.id;

-- name: ReleaseLane :exec
-- Gives the lane back. It runs under the lane's lock with a fresh snapshot, so a delivery that was committed
-- before the lock was granted is seen here, and a later one wakes the lane itself.
UPDATE lane SET lease_until = '-infinity', held = @held::boolean,
  due_at = CASE WHEN @held::boolean THEN NULL
                WHEN EXISTS (SELECT FROM delivery d WHERE d.organisation_id = @organisation_id AND d.link_id = @link_id
                             AND d.state NOT IN ('DELIVERED', 'SKIPPED')) THEN @due_at::timestamptz
                ELSE NULL END
WHERE organisation_id = @organisation_id AND link_id = @link_id AND lease_token = @lease_token;

-- name: FindLinksByTicket :many
-- The links that a hint may mean, by the vendor's id or, where only that is known, by its number.
SELECT * FROM external_link WHERE system_id = @system_id
  AND ((@external_id::text <> '' AND external_id = @external_id::text) OR (@external_id::text = '' AND number = @number::text AND @number::text <> ''));

-- name: FindLinkByCorrelation :one
SELECT * FROM external_link WHERE system_id = @system_id AND correlation_id = @correlation_id;

-- name: LinksByTickets :many
-- What a poll's hints are compared with: only tickets that are linked and have moved are worth a read.
SELECT * FROM external_link WHERE system_id = @system_id AND external_id = ANY (@external_ids::text[]) AND gone = '';

-- name: WithdrawFields :exec
UPDATE delivery SET payload = payload - @fields::text[]
WHERE organisation_id = @organisation_id AND link_id = @link_id AND kind = 'UPDATE' AND state NOT IN ('DELIVERED', 'SKIPPED');

-- name: LockContent :exec
-- Calls with the same content wait for one another, so that the second finds the first.
SELECT pg_advisory_xact_lock(@class::integer, @content::integer);

-- name: FindRepeats :one
-- What a call repeats: an earlier one under the same id with the same content, or one with the same content whose ticket
-- has yet to be read: tickets says how many of those that the body names have. A row under a lease is being acted upon: its
-- read may have been made before this call's change.
SELECT coalesce((SELECT s.inbox_id FROM inbox_seen s WHERE s.system_id = @system_id AND s.call_id = @call_id AND s.digest = @digest AND @call_id::text <> ''), '00000000-0000-0000-0000-000000000000')::uuid AS same_call,
       coalesce((SELECT i.id FROM inbox i WHERE i.system_id = @system_id AND i.digest = @digest AND i.state = 'WAITING' AND i.lease_until < clock_timestamp()
                 ORDER BY i.received_at, i.id LIMIT 1), '00000000-0000-0000-0000-000000000000')::uuid AS same_content,
       (SELECT count(DISTINCT (i.external_id, i.number)) FROM inbox i WHERE i.system_id = @system_id AND i.digest = @digest AND i.state = 'WAITING' AND i.lease_until < clock_timestamp()) AS tickets,
       EXISTS (SELECT FROM inbox_seen s WHERE s.system_id = @system_id AND s.call_id = @call_id AND s.digest <> @digest AND @call_id::text <> '') AS same_id;

-- name: InsertInbox :exec
INSERT INTO inbox (id, system_id, source, call_id, digest, external_id, number, version, body, content_type, state, duplicate_of, reason, due_at, received_at, settled_at, trace)
VALUES (@id, @system_id, @source, @call_id, @digest, @external_id, @number, @version, @body, @content_type, @state, sqlc.narg(duplicate_of), @reason, @at, @at, sqlc.narg(settled_at), @trace);

-- name: RememberCall :exec
-- The first call under an id is what later ones are compared with.
INSERT INTO inbox_seen (system_id, call_id, digest, inbox_id, received_at) VALUES (@system_id, @call_id, @digest, @inbox_id, @at) ON CONFLICT DO NOTHING;

-- name: InsertHints :exec
-- What a poll or a comparison noticed. A ticket that already waits to be read is not written again.
INSERT INTO inbox (id, system_id, source, external_id, number, version, due_at, received_at)
SELECT gen_random_uuid(), @system_id, @source, hint.external_id, '', '', @at, @at
FROM (SELECT unnest(@external_ids::text[]) AS external_id) AS hint
WHERE NOT EXISTS (SELECT FROM inbox i WHERE i.system_id = @system_id AND i.external_id = hint.external_id AND i.state = 'WAITING' AND i.lease_until < clock_timestamp());

-- name: LeaseInbox :many
-- Takes the longest due hints of a system that is not paused, and with them whatever else waits about the same tickets: one
-- read answers all of it.
WITH due AS (
  SELECT i.id, i.received_at, i.external_id FROM inbox i
  WHERE i.system_id = @system_id AND i.state = 'WAITING' AND i.due_at <= @at AND i.lease_until < clock_timestamp()
    AND NOT EXISTS (SELECT FROM external_system s WHERE s.id = @system_id AND s.paused)
  ORDER BY i.due_at LIMIT @most FOR UPDATE SKIP LOCKED
), beside AS (
  SELECT i.id, i.received_at, i.external_id FROM inbox i
  WHERE i.system_id = @system_id AND i.state = 'WAITING' AND i.lease_until < clock_timestamp()
    AND i.external_id IN (SELECT due.external_id FROM due WHERE due.external_id <> '')
  LIMIT 1000 FOR UPDATE SKIP LOCKED
), taken AS (
  SELECT id, received_at FROM due UNION SELECT id, received_at FROM beside
)
UPDATE inbox SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8), lease_token = nextval('lease_token')
FROM taken WHERE inbox.id = taken.id AND inbox.received_at = taken.received_at
RETURNING inbox.id, inbox.source, inbox.external_id, inbox.number, inbox.version, inbox.attempts, inbox.lease_token, inbox.received_at, inbox.trace;

-- name: RenewInbox :exec
-- Makes leases last longer. Rows that were settled, put off or taken over meanwhile are left alone.
UPDATE inbox SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8)
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@received::timestamptz[]) AS received_at, unnest(@tokens::bigint[]) AS token) AS held
WHERE inbox.id = held.id AND inbox.received_at = held.received_at AND inbox.lease_token = held.token AND inbox.lease_until > '-infinity';

-- name: SettleInbox :execrows
-- Each row is fenced by its own lease token.
UPDATE inbox SET state = @state, reason = @reason, organisation_id = sqlc.narg(organisation_id), link_id = sqlc.narg(link_id),
  entries = @entries, attempts = attempts + 1, settled_at = sqlc.narg(settled_at), lease_until = '-infinity'
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@received::timestamptz[]) AS received_at, unnest(@tokens::bigint[]) AS token) AS held
WHERE inbox.id = held.id AND inbox.received_at = held.received_at AND inbox.lease_token = held.token;

-- name: PostponeInbox :execrows
UPDATE inbox SET due_at = @due_at, attempts = @attempts, reason = @reason, lease_until = '-infinity'
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@received::timestamptz[]) AS received_at, unnest(@tokens::bigint[]) AS token) AS held
WHERE inbox.id = held.id AND inbox.received_at = held.received_at AND inbox.lease_token = held.token;

-- name: EnsurePoll :exec
INSERT INTO poll (system_id) VALUES (@system_id) ON CONFLICT DO NOTHING;

-- name: LeasePoll :one
UPDATE poll SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8), lease_token = nextval('lease_token')
WHERE system_id = @system_id AND due_at <= @at AND lease_until < clock_timestamp()
  AND NOT EXISTS (SELECT FROM external_system s WHERE s.id = @system_id AND s.paused)
RETURNING cursor, lease_token, failures;

-- name: RenewPoll :execrows
UPDATE poll SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8)
WHERE system_id = @system_id AND lease_token = @lease_token AND lease_until > '-infinity';

-- name: SettlePoll :execrows
-- The cursor moves in the transaction that stores what was found up to it. While more pages follow the lease is kept: given
-- back, another hub would take it between two pages, and both would poll all the time.
UPDATE poll SET cursor = @cursor, due_at = @due_at, failures = @failures, last_error = @last_error,
  last_ok_at = coalesce(sqlc.narg(last_ok_at), last_ok_at), lease_until = CASE WHEN @more::boolean THEN lease_until ELSE '-infinity' END
WHERE system_id = @system_id AND lease_token = @lease_token;

-- name: LeavePoll :exec
-- Gives a poll back that was cut off, where it stands.
UPDATE poll SET cursor = @cursor, lease_until = '-infinity' WHERE system_id = @system_id AND lease_token = @lease_token;

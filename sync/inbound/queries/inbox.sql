-- name: InsertInbox :exec
INSERT INTO inbox (id, system_id, source, external_id, number, version, body, state, reason, due_at, received_at, settled_at, trace)
VALUES (@id, @system_id, @source, @external_id, @number, @version, @body, @state, @reason, @at, @at, sqlc.narg(settled_at), @trace);

-- name: InsertHints :exec
-- What a poll noticed. A ticket that already waits to be read is not written again.
INSERT INTO inbox (id, system_id, source, external_id, number, version, due_at, received_at)
SELECT gen_random_uuid(), @system_id, 'POLL', hint.external_id, '', '', @at, @at
FROM (SELECT unnest(@external_ids::text[]) AS external_id) AS hint
WHERE NOT EXISTS (SELECT FROM inbox i WHERE i.system_id = @system_id AND i.external_id = hint.external_id AND i.state = 'WAITING' AND i.lease_until < clock_timestamp());

-- name: LeaseInbox :many
WITH due AS (
  SELECT id FROM inbox
  WHERE inbox.system_id = @system_id AND inbox.state = 'WAITING' AND inbox.due_at <= @at AND inbox.lease_until < clock_timestamp()
  ORDER BY inbox.due_at LIMIT @most FOR UPDATE SKIP LOCKED
)
UPDATE inbox SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8), lease_token = nextval('lease_token')
FROM due WHERE inbox.id = due.id
RETURNING inbox.id, inbox.external_id, inbox.number, inbox.version, inbox.attempts, inbox.lease_token, inbox.received_at, inbox.trace;

-- name: RenewInbox :exec
-- Makes leases last longer. Rows that were settled, put off or taken over meanwhile are left alone.
UPDATE inbox SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8)
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@tokens::bigint[]) AS token) AS held
WHERE inbox.id = held.id AND inbox.lease_token = held.token AND inbox.lease_until > '-infinity';

-- name: SettleInbox :execrows
-- Fenced by the row's lease token.
UPDATE inbox SET state = @state, reason = @reason, organisation_id = sqlc.narg(organisation_id), link_id = sqlc.narg(link_id),
  settled_at = sqlc.narg(settled_at), lease_until = '-infinity'
WHERE id = @id AND lease_token = @lease_token;

-- name: PostponeInbox :execrows
UPDATE inbox SET due_at = @due_at, attempts = @attempts, reason = @reason, lease_until = '-infinity'
WHERE id = @id AND lease_token = @lease_token;

-- name: EnsurePoll :exec
INSERT INTO poll (system_id) VALUES (@system_id) ON CONFLICT DO NOTHING;

-- name: LeasePoll :one
UPDATE poll SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8), lease_token = nextval('lease_token')
WHERE system_id = @system_id AND due_at <= @at AND lease_until < clock_timestamp()
RETURNING cursor, lease_token, failures;

-- name: RenewPoll :execrows
UPDATE poll SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8)
WHERE system_id = @system_id AND lease_token = @lease_token AND lease_until > '-infinity';

-- name: SettlePoll :execrows
-- The cursor moves in the transaction that stores what was found up to it.
UPDATE poll SET cursor = @cursor, due_at = @due_at, failures = @failures, last_error = @last_error,
  last_ok_at = coalesce(sqlc.narg(last_ok_at), last_ok_at), lease_until = '-infinity'
WHERE system_id = @system_id AND lease_token = @lease_token;

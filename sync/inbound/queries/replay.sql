-- name: SelectParked :many
-- The parked rows that somebody wants replayed, oldest first. The viewer's row-level security says which there are.
SELECT i.id, i.received_at FROM inbox i JOIN external_system s ON s.id = i.system_id
WHERE i.state = 'PARKED' AND (@system::text = '' OR s.key = @system::text) AND i.received_at >= @since AND i.received_at < @until
ORDER BY i.received_at, i.id LIMIT @most;

-- name: SelectRows :many
-- The rows that somebody names, in whatever state.
SELECT i.id, i.received_at FROM inbox i WHERE i.id = ANY (@ids::uuid[]) ORDER BY i.received_at, i.id;

-- name: LockRow :one
SELECT i.id, s.key AS system, i.system_id, i.source, i.call_id, i.digest, i.organisation_id, i.link_id, i.external_id, i.number, i.version, i.body, i.content_type,
       i.state, i.reason, i.received_at
FROM inbox i JOIN external_system s ON s.id = i.system_id
WHERE i.id = @id AND i.received_at = @received_at FOR UPDATE OF i;

-- name: WaitingReplay :many
-- The replays of a row that are yet to be acted upon.
SELECT id FROM inbox WHERE duplicate_of = @id::uuid AND state = 'WAITING' AND source = 'REPLAY' ORDER BY received_at, id;

-- name: WakeRow :exec
UPDATE inbox SET due_at = least(due_at, @at::timestamptz), attempts = 0 WHERE id = @id AND received_at = @received_at AND state = 'WAITING';

-- name: CloseRow :exec
-- A parked row that goes again as others is over.
UPDATE inbox SET state = @state, reason = @reason, settled_at = @at::timestamptz WHERE id = @id AND received_at = @received_at;
